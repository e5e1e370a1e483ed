/* SPDX-License-Identifier: MIT */
/*
 * cert - what the host does with X.509: certificates and keys from PEM and back, their times and names.  Thin
 * over GnuTLS; pure, any thread.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <gnutls/x509.h>
#include <semstreams/ext/tls-names.h>

#define CERT_MAX_DER   (64u << 10) /* bytes of one certificate */
#define CERT_MAX_CHAIN 16
#define CERT_SHOWN     80 /* bytes for a name in a message */

struct cert_list {
	gnutls_x509_crt_t *certs;
	unsigned n;
};

/* For GnuTLS functions that only read. */
static inline gnutls_datum_t cert_datum(const void *data, size_t len)
{
	union {
		const void *in;
		unsigned char *out;
	} p = {.in = data};

	return (gnutls_datum_t){.data = p.out, .size = (unsigned)len};
}

/* The next PEM block at or behind *at, which moves behind it. */
struct cert_block {
	const char *label, *start, *end; /* start is at BEGIN, end behind the END line; NULL: it is missing */
	size_t label_len;
};
bool cert_next_block(const char **at, const char *limit, struct cert_block *);
bool cert_block_is(const struct cert_block *, const char *label);
/* Does it look like DER, which is taken for PEM now and then? */
bool cert_is_der(const char *text, size_t len);

/* All certificates of a PEM text, in order; other blocks and text between are passed over.  0, -EINVAL with
 * the reason in why, -ENOMEM. */
int cert_list_load(const char *pem, size_t len, unsigned max, struct cert_list *out, char *why,
		   size_t why_size);
void cert_list_free(struct cert_list *);
/* 0, -EINVAL. */
int cert_from_der(const void *der, size_t len, gnutls_x509_crt_t *out);
bool cert_key_matches(gnutls_x509_crt_t, gnutls_x509_privkey_t);

/* Certificates from number first on as one PEM text, malloced; NULL if out of memory. */
char *cert_list_pem(const struct cert_list *, unsigned first);
/* PKCS #8 PEM, malloced; NULL if out of memory.  To be wiped before it is freed. */
char *cert_key_pem(gnutls_x509_privkey_t);

/* Seconds since 1970. */
int64_t cert_not_before(gnutls_x509_crt_t);
int64_t cert_not_after(gnutls_x509_crt_t);

/* tls_each_cn() of the subject. */
void cert_each_cn(gnutls_x509_crt_t, tls_name_fn *each, void *arg);

/* For messages, in a buffer of CERT_SHOWN bytes: foreign bytes between single quotes, cut, control bytes and
 * quotes as \xNN. */
const char *cert_show_bytes(char buf[CERT_SHOWN], const void *bytes, size_t len);
/* A name as tls_each_cn() gives it; one that cannot be decoded by its type. */
const char *cert_show_name(char buf[CERT_SHOWN], const uint8_t *name, size_t len);
/* The first CN of subject or issuer, else the whole of it. */
const char *cert_show_subject(char buf[CERT_SHOWN], gnutls_x509_crt_t);
const char *cert_show_issuer(char buf[CERT_SHOWN], gnutls_x509_crt_t);
/* "2025-11-16T10:00:00Z" */
const char *cert_show_time(char buf[CERT_SHOWN], int64_t seconds);
