/* SPDX-License-Identifier: MIT */
/* Certificates for tests, made in memory: any names, uses and times, signed by each other. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <gnutls/x509.h>
#include <semstreams/plugin.h>

#define CERT_DAY 86400
enum { CERT_NOW = 1763287200 }; /* 2025-11-16T10:00:00Z */

/* A name with its length, for NULs. */
struct cert_name {
	const char *text;
	size_t len; /* 0: strlen */
};

struct cert_spec {
	struct cert_name cns[4], dns[6];
	const char *organization;
	unsigned char ip[16];
	unsigned ip_len; /* 0, 4 or 16 */
	const char *eku[2];
	const void *raw_san; /* DER, instead of dns and ip */
	unsigned raw_san_len;
	const char *permitted[3], *excluded[3]; /* name constraints, DNS */
	const char *permitted_mail;
	bool ca, no_usage;
	bool weak_key;    /* RSA of 1024 bits */
	bool sha1;        /* signed with it */
	unsigned usage;   /* 0: what fits */
	int64_t from, to; /* 0: a day around CERT_NOW */
};

struct cert {
	gnutls_x509_crt_t crt;
	gnutls_x509_privkey_t key;
};

static inline void cert_ok(int rc, const char *what)
{
	if (rc == 0)
		return;
	fprintf(stderr, "%s: %s\n", what, gnutls_strerror(rc));
	abort();
}
#define CERT_OK(call) cert_ok(call, #call)

static inline size_t cert_name_len(struct cert_name n)
{
	return n.len ? n.len : strlen(n.text);
}

static inline void cert_put_names(gnutls_x509_crt_t crt, const struct cert_spec *s)
{
	if (s->organization)
		CERT_OK(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_ORGANIZATION_NAME, 0,
						      s->organization, (unsigned)strlen(s->organization)));
	for (size_t i = 0; i < 4 && s->cns[i].text; i++)
		CERT_OK(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, s->cns[i].text,
						      (unsigned)cert_name_len(s->cns[i])));
	if (s->raw_san) /* GnuTLS would not write it */
		CERT_OK(gnutls_x509_crt_set_extension_by_oid(crt, GNUTLS_X509EXT_OID_SAN, s->raw_san,
							     s->raw_san_len, 0));
	for (size_t i = 0; i < 6 && s->dns[i].text; i++)
		CERT_OK(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, s->dns[i].text,
							     (unsigned)cert_name_len(s->dns[i]),
							     GNUTLS_FSAN_APPEND));
	if (s->ip_len)
		CERT_OK(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, s->ip, s->ip_len,
							     GNUTLS_FSAN_APPEND));
}

static inline void cert_put_constraints(gnutls_x509_crt_t crt, const struct cert_spec *s)
{
	gnutls_x509_name_constraints_t nc;

	if (!s->permitted[0] && !s->excluded[0] && !s->permitted_mail)
		return;
	CERT_OK(gnutls_x509_name_constraints_init(&nc));
	for (size_t i = 0; i < 3; i++) {
		gnutls_datum_t permitted = {(void *)(uintptr_t)s->permitted[i],
					    s->permitted[i] ? (unsigned)strlen(s->permitted[i]) : 0};
		gnutls_datum_t excluded = {(void *)(uintptr_t)s->excluded[i],
					   s->excluded[i] ? (unsigned)strlen(s->excluded[i]) : 0};
		if (permitted.data)
			CERT_OK(gnutls_x509_name_constraints_add_permitted(nc, GNUTLS_SAN_DNSNAME,
									   &permitted));
		if (excluded.data)
			CERT_OK(gnutls_x509_name_constraints_add_excluded(nc, GNUTLS_SAN_DNSNAME, &excluded));
	}
	if (s->permitted_mail) {
		gnutls_datum_t mail = {(void *)(uintptr_t)s->permitted_mail,
				       (unsigned)strlen(s->permitted_mail)};
		CERT_OK(gnutls_x509_name_constraints_add_permitted(nc, GNUTLS_SAN_RFC822NAME, &mail));
	}
	CERT_OK(gnutls_x509_crt_set_name_constraints(crt, nc, 1));
	gnutls_x509_name_constraints_deinit(nc);
}

/* issuer NULL: signed by itself. */
static inline struct cert cert_make(const struct cert_spec *s, const struct cert *issuer)
{
	static unsigned serial = 1;
	struct cert c;
	unsigned char number[2] = {(unsigned char)(serial >> 8 | 1), (unsigned char)serial};

	serial++;
	CERT_OK(gnutls_x509_privkey_init(&c.key));
	CERT_OK(gnutls_x509_privkey_generate(
		c.key, s->weak_key ? GNUTLS_PK_RSA : GNUTLS_PK_ECDSA,
		s->weak_key ? 1024 : GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
	CERT_OK(gnutls_x509_crt_init(&c.crt));
	CERT_OK(gnutls_x509_crt_set_version(c.crt, 3));
	CERT_OK(gnutls_x509_crt_set_serial(c.crt, number, sizeof number));
	CERT_OK(gnutls_x509_crt_set_activation_time(c.crt, s->from ? s->from : CERT_NOW - CERT_DAY));
	CERT_OK(gnutls_x509_crt_set_expiration_time(c.crt, s->to ? s->to : CERT_NOW + CERT_DAY));
	CERT_OK(gnutls_x509_crt_set_key(c.crt, c.key));
	cert_put_names(c.crt, s);
	cert_put_constraints(c.crt, s);
	CERT_OK(gnutls_x509_crt_set_basic_constraints(c.crt, s->ca, -1));
	if (!s->no_usage)
		CERT_OK(gnutls_x509_crt_set_key_usage(c.crt, s->usage ? s->usage
							     : s->ca  ? GNUTLS_KEY_KEY_CERT_SIGN
								      : GNUTLS_KEY_DIGITAL_SIGNATURE));
	for (size_t i = 0; i < 2 && s->eku[i]; i++)
		CERT_OK(gnutls_x509_crt_set_key_purpose_oid(c.crt, s->eku[i], 0));
	CERT_OK(gnutls_x509_crt_sign2(c.crt, issuer ? issuer->crt : c.crt, issuer ? issuer->key : c.key,
				      s->sha1 ? GNUTLS_DIG_SHA1 : GNUTLS_DIG_SHA256, 0));
	return c;
}

static inline void cert_drop(struct cert *c)
{
	gnutls_x509_crt_deinit(c->crt);
	gnutls_x509_privkey_deinit(c->key);
}

/* To be freed with gnutls_free. */
static inline gnutls_datum_t cert_der(const struct cert *c)
{
	gnutls_datum_t d;

	CERT_OK(gnutls_x509_crt_export2(c->crt, GNUTLS_X509_FMT_DER, &d));
	return d;
}

static inline void cert_write(const char *path, const void *data, size_t len, mode_t mode)
{
	FILE *to = fopen(path, "w");

	if (!to || fchmod(fileno(to), mode) || fwrite(data, 1, len, to) != len || fclose(to))
		abort();
}

/* PEM, malloced. */
static inline char *cert_chain_pem(const struct cert *const *chain, size_t n)
{
	char *pem = NULL;
	size_t len;
	FILE *to = open_memstream(&pem, &len);

	for (size_t i = 0; to && i < n; i++) {
		gnutls_datum_t d;
		CERT_OK(gnutls_x509_crt_export2(chain[i]->crt, GNUTLS_X509_FMT_PEM, &d));
		fwrite(d.data, 1, d.size, to);
		gnutls_free(d.data);
	}
	if (!to || fclose(to))
		abort();
	return pem;
}

/* The chain's certificates as PEM. */
static inline void cert_write_chain(const char *path, const struct cert *const *chain, size_t n)
{
	FILE *to = fopen(path, "w");

	for (size_t i = 0; to && i < n; i++) {
		gnutls_datum_t d;
		CERT_OK(gnutls_x509_crt_export2(chain[i]->crt, GNUTLS_X509_FMT_PEM, &d));
		if (fwrite(d.data, 1, d.size, to) != d.size)
			abort();
		gnutls_free(d.data);
	}
	if (!to || fclose(to))
		abort();
}

static inline void cert_write_key(const char *path, const struct cert *c, mode_t mode)
{
	gnutls_datum_t d;

	CERT_OK(gnutls_x509_privkey_export2_pkcs8(c->key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &d));
	cert_write(path, d.data, d.size, mode);
	gnutls_free(d.data);
}
