/* SPDX-License-Identifier: MIT */
/* crl - certificate revocation lists (X.509 version 2): made of an index, read from files.  Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <openssl/x509.h>
#include <semstreams/base/strbuf.h>
#include "pki/key.h"
#include "pki/revocation/index.h"

struct crl_order {
	const struct index *index; /* whose revoked certificates are put in */
	gnutls_x509_crt_t ca;
	const struct key *key; /* the CA's */
	uint64_t number;
	int64_t now_s, life_s; /* seconds; the next list is due at the end of its life */
	size_t n;              /* set: entries that were put in */
};

/* PEM into out.  0, -EINVAL with the fault, -ENOMEM. */
int crl_make(struct crl_order *, struct ss_strbuf *out, struct fault *);

struct crls {
	X509_CRL **v;
	size_t n;
};

/* All lists of a file, PEM or DER, one at least.  0 with *out for crls_done(), -ENOENT: there is no such
 * file; -EINVAL with the fault, -ENOMEM. */
int crls_load(const char *path, struct crls *out, struct fault *);
void crls_done(struct crls *);

/* Has this CA, by name and key, signed it? */
bool crl_is_of(X509_CRL *, gnutls_x509_crt_t ca);
/* Is the certificate, if it is one of the same CA, in it? */
bool crl_has(X509_CRL *, gnutls_x509_crt_t);
/* When the next one is due, seconds since 1970; INT64_MAX: that is not said. */
int64_t crl_end(X509_CRL *);
/* Its number, 0: it has none; false: one that is too large to be followed by another. */
bool crl_number(X509_CRL *, uint64_t *out);
