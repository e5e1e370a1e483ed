/* SPDX-License-Identifier: MIT */
/* key - private keys, by GnuTLS.  Pure, any thread. */
#include "key.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>

enum {
	PEM_MAX = 64 * 1024,
	RSA_MIN = 2048,
	RSA_MAX = 16384, /* bits; more take too long to sign with */
};

static struct acme_key *alloc_key(void)
{
	struct acme_key *key = calloc(1, sizeof *key);

	if (key && gnutls_privkey_init(&key->private) == 0 && gnutls_pubkey_init(&key->public) == 0)
		return key;
	key_free(key);
	return NULL;
}

void key_free(struct acme_key *key)
{
	if (!key)
		return;
	if (key->public)
		gnutls_pubkey_deinit(key->public);
	if (key->private)
		gnutls_privkey_deinit(key->private);
	free(key);
}

static int take_public(struct acme_key *key)
{
	return gnutls_pubkey_import_privkey(key->public, key->private, 0, 0);
}

static int error_of(int rc, int otherwise)
{
	return rc == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : otherwise;
}

int key_new(struct acme_key **out)
{
	struct acme_key *key = alloc_key();

	if (!key)
		return -ENOMEM;
	int rc = gnutls_privkey_generate(key->private, GNUTLS_PK_ECDSA,
					 GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	if (rc == 0)
		rc = take_public(key);
	if (rc) {
		key_free(key);
		return error_of(rc, -EIO);
	}
	*out = key;
	return 0;
}

static int check_kind(const struct acme_key *key, char *why, size_t why_size)
{
	gnutls_ecc_curve_t curve;
	unsigned bits = 0;
	int kind = gnutls_privkey_get_pk_algorithm(key->private, &bits);

	if (kind == GNUTLS_PK_RSA) {
		if (bits >= RSA_MIN && bits <= RSA_MAX)
			return 0;
		snprintf(why, why_size, "is an RSA key of %u bits, %u to %u are possible", bits, RSA_MIN,
			 RSA_MAX);
		return -EINVAL;
	}
	if (kind == GNUTLS_PK_ECDSA &&
	    gnutls_pubkey_export_ecc_raw2(key->public, &curve, NULL, NULL, 0) == 0) {
		if (curve == GNUTLS_ECC_CURVE_SECP256R1 || curve == GNUTLS_ECC_CURVE_SECP384R1)
			return 0;
		snprintf(why, why_size, "is an EC key on curve %s, P-256 and P-384 are possible",
			 gnutls_ecc_curve_get_name(curve));
		return -EINVAL;
	}
	const char *name = gnutls_pk_get_name((gnutls_pk_algorithm_t)kind);
	snprintf(why, why_size, "is a key of kind %s, EC (P-256, P-384) and RSA are possible",
		 name ? name : "unknown");
	return -EINVAL;
}

static int refuse_text(const char *pem, size_t len, int rc, char *why, size_t why_size)
{
	static const char encrypted[] = "ENCRYPTED", key_line[] = "PRIVATE KEY-----",
			  cert[] = "BEGIN CERTIFICATE";

	if (rc == GNUTLS_E_MEMORY_ERROR)
		return -ENOMEM;
	if (memmem(pem, len, encrypted, sizeof encrypted - 1))
		snprintf(why, why_size,
			 "the private key is encrypted; decrypt it with openssl pkey -in ... -out ...");
	else if (!memmem(pem, len, key_line, sizeof key_line - 1))
		snprintf(why, why_size, "holds %s private key in PEM form",
			 memmem(pem, len, cert, sizeof cert - 1) ? "a certificate but no" : "no");
	else
		snprintf(why, why_size, "the private key cannot be read: %s", gnutls_strerror(rc));
	return -EINVAL;
}

int key_load(const char *pem, size_t len, struct acme_key **out, char *why, size_t why_size)
{
	union {
		const char *in;
		unsigned char *data; /* GnuTLS reads only */
	} text = {.in = pem};
	gnutls_datum_t d = {.data = text.data, .size = (unsigned)len};
	struct acme_key *key;

	if (len > PEM_MAX) {
		snprintf(why, why_size, "is too large for a private key");
		return -EINVAL;
	}
	key = alloc_key();
	if (!key)
		return -ENOMEM;
	int rc = gnutls_privkey_import_x509_raw(key->private, &d, GNUTLS_X509_FMT_PEM, NULL,
						GNUTLS_PKCS_PLAIN);
	if (rc) {
		rc = refuse_text(pem, len, rc, why, why_size);
		goto out;
	}
	rc = take_public(key);
	if (rc) {
		snprintf(why, why_size, "the private key cannot be used: %s", gnutls_strerror(rc));
		rc = error_of(rc, -EINVAL);
		goto out;
	}
	rc = check_kind(key, why, why_size);
	if (rc)
		goto out;
	rc = gnutls_privkey_verify_params(key->private);
	if (rc) {
		snprintf(why, why_size, "the private key is damaged: %s", gnutls_strerror(rc));
		rc = error_of(rc, -EINVAL);
		goto out;
	}
	*out = key;
	return 0;
out:
	key_free(key);
	return rc;
}

char *key_pem(const struct acme_key *key)
{
	gnutls_x509_privkey_t copy;
	gnutls_datum_t d = {0};
	char *pem = NULL;

	if (gnutls_privkey_export_x509(key->private, &copy))
		return NULL;
	if (gnutls_x509_privkey_export2_pkcs8(copy, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &d) == 0)
		pem = strndup((const char *)d.data, d.size);
	gnutls_x509_privkey_deinit(copy);
	if (d.data)
		explicit_bzero(d.data, d.size);
	gnutls_free(d.data);
	return pem;
}

bool key_equal(const struct acme_key *a, const struct acme_key *b)
{
	unsigned char id_a[32], id_b[32];
	size_t n_a = sizeof id_a, n_b = sizeof id_b;

	return gnutls_pubkey_get_key_id(a->public, GNUTLS_KEYID_USE_SHA256, id_a, &n_a) == 0 &&
	       gnutls_pubkey_get_key_id(b->public, GNUTLS_KEYID_USE_SHA256, id_b, &n_b) == 0 && n_a == n_b &&
	       memcmp(id_a, id_b, n_a) == 0;
}

void key_text_free(char *pem)
{
	if (pem)
		explicit_bzero(pem, strlen(pem));
	free(pem);
}
