/* SPDX-License-Identifier: MIT */
/*
 * tls_crl - certificate revocation lists: read from files, their signatures checked, ready for look-ups.
 * Filled by one thread, then immutable and counted; any thread.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <gnutls/x509.h>
#include "core/tls/cert.h"

#define TLS_MAX_CRL_FILE (64u << 20) /* bytes: a million entries */
#define TLS_CRL_NEVER    INT64_MAX

/* One certificate that is revoked; ordered by serial. */
struct tls_crl_entry {
	uint32_t at;     /* where its serial is, in serials */
	uint8_t len;     /* bytes of it, without zeros in front */
	uint8_t reason;  /* CRLReason of RFC 5280; 0: unspecified, or none given */
	int64_t since_s; /* seconds since 1970 */
};

/* The list of one CA. */
struct tls_crl {
	gnutls_x509_crt_t issuer;         /* the CA whose key has signed it */
	int64_t this_update, next_update; /* seconds since 1970; TLS_CRL_NEVER: none is promised */
	struct tls_crl_entry *entries;
	size_t n;
	uint8_t *serials;
	size_t serials_len;
	uint8_t digest[32]; /* SHA-256 of the whole */
};
void tls_crl_done(struct tls_crl *);

struct tls_crls;
struct tls_trial;

/* None.  hard: who is under a list that is out of date is refused; else it is used all the same.  NULL: out
 * of memory. */
struct tls_crls *tls_crls_new(bool hard);
struct tls_crls *tls_crls_ref(struct tls_crls *); /* NULL is allowed */
void tls_crls_unref(struct tls_crls *);           /* NULL is allowed */

/*
 * Add all lists of a file, PEM or DER.  Each must be signed by one of the CAs or by one whose certificate
 * stands beside it in the file, which is trusted for nothing else.  Of a CA the newest list counts.  0,
 * -EINVAL with the reason in why: none was added; -ENOMEM.
 */
int tls_crls_add(struct tls_crls *, const struct tls_trial *, const char *text, size_t len,
		 const struct cert_list *cas, char *why, size_t why_size);
/* Add those of another set whose CAs have none, or an older one, in this one.  0, -ENOMEM. */
int tls_crls_keep(struct tls_crls *, const struct tls_crls *from);

bool tls_crls_hard(const struct tls_crls *);
bool tls_crls_same(const struct tls_crls *, const struct tls_crls *); /* NULL: none */
size_t tls_crls_count(const struct tls_crls *);                       /* of lists; NULL: 0 */
const struct tls_crl *tls_crls_at(const struct tls_crls *, size_t i);
/* The list of this CA; NULL: there is none. */
const struct tls_crl *tls_crls_of(const struct tls_crls *, gnutls_x509_crt_t ca);
/* The first at which a list is out of date; TLS_CRL_NEVER. */
const struct tls_crl *tls_crls_first_end(const struct tls_crls *);

/* The entry of a certificate's serial; NULL: it is not in the list.  Whether the list is about the
 * certificate, so signed by the same CA, is for the caller to see. */
const struct tls_crl_entry *tls_crl_find(const struct tls_crl *, gnutls_x509_crt_t);
/* "keyCompromise" */
const char *tls_crl_reason(unsigned reason);
