/* SPDX-License-Identifier: MIT */
/* helper_pair - a self-signed certificate and its key, as PEM: any name, any dates, each with a key of its
 * own. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <gnutls/x509.h>

struct pair {
	char *chain_pem, *key_pem;
};

static inline void pair_ok(int rc, const char *what)
{
	if (rc == 0)
		return;
	fprintf(stderr, "%s: %s\n", what, gnutls_strerror(rc));
	abort();
}
#define PAIR_OK(call) pair_ok(call, #call)

static inline char *pair_text(gnutls_datum_t d)
{
	char *text = strndup((const char *)d.data, d.size);
	gnutls_free(d.data);
	return text;
}

/* To be freed by drop_pair(). */
static inline void make_pair(const char *name, int64_t not_before, int64_t not_after, struct pair *out)
{
	static unsigned number;
	number++;
	unsigned char serial[4] = {1, 2, (unsigned char)(number >> 8), (unsigned char)number};
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t crt;
	gnutls_datum_t d;
	PAIR_OK(gnutls_x509_privkey_init(&key));
	PAIR_OK(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
					     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
	PAIR_OK(gnutls_x509_crt_init(&crt));
	PAIR_OK(gnutls_x509_crt_set_version(crt, 3));
	PAIR_OK(gnutls_x509_crt_set_serial(crt, serial, sizeof serial));
	PAIR_OK(gnutls_x509_crt_set_activation_time(crt, (time_t)not_before));
	PAIR_OK(gnutls_x509_crt_set_expiration_time(crt, (time_t)not_after));
	PAIR_OK(gnutls_x509_crt_set_key(crt, key));
	PAIR_OK(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name,
					      (unsigned)strlen(name)));
	PAIR_OK(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name, (unsigned)strlen(name),
						     GNUTLS_FSAN_SET));
	PAIR_OK(gnutls_x509_crt_set_authority_key_id(crt, "authority", 9));
	PAIR_OK(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0));
	PAIR_OK(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &d));
	out->chain_pem = pair_text(d);
	PAIR_OK(gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &d));
	out->key_pem = pair_text(d);
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(key);
}

static inline void drop_pair(struct pair *pair)
{
	free(pair->chain_pem);
	free(pair->key_pem);
	*pair = (struct pair){0};
}
