/* SPDX-License-Identifier: MIT */
/*
 * tls_trust - the CAs that one role trusts, as certificates: what their name constraints allow, and whether a
 * chain that was accepted before still leads to them.  Immutable once made; any thread.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <gnutls/x509.h>
#include <semstreams/ext/tls.h>

struct tls_crls;
struct tls_trust;

/* ca_pem may be NULL; with system the CAs of the system are trusted as well; of the revocation lists (may be
 * NULL) a reference is taken.  NULL: out of memory. */
struct tls_trust *tls_trust_new(const char *ca_pem, bool system, struct tls_crls *);
void tls_trust_free(struct tls_trust *); /* NULL is allowed */

/* Is this very certificate one of the CAs? */
bool tls_trust_has(const struct tls_trust *, gnutls_x509_crt_t);

/*
 * Do the name constraints of all CAs above the leaf allow this name as a DNS name?  chain is what the peer
 * showed, leaf first; what issued what is decided by signatures alone, as names of issuers can be written in
 * several ways.  trust may be NULL.  0; -EACCES with the reason in why.
 */
int tls_trust_allows(const struct tls_trust *, const struct ss_der *chain, uint32_t n, const char *name,
		     char *why, size_t why_size);

/*
 * Is the leaf, or a CA above it, in a revocation list of its issuer; or is such a list out of date, where
 * that is an error?  The chain has been verified; trust may be NULL.  0; -EACCES with *fail =
 * SS_TLS_FAIL_REVOKED or SS_TLS_FAIL_CRL_EXPIRED and the reason in why.
 */
int tls_trust_check_revoked(const struct tls_trust *, const struct ss_der *chain, uint32_t n, int64_t now,
			    int32_t *fail, char *why, size_t why_size);

/*
 * Does the chain verify now: signatures, CAs, times, purposes of CAs, constraints?  -1 (it does) or
 * SS_TLS_FAIL_..., as in the argument error of struct ss_tls.check_peer.
 */
int32_t tls_trust_verify(struct tls_trust *, const struct ss_der *chain, uint32_t n);

/* What no verification lets pass, in whatever CAs: a weak key or signature in the chain, or in the CA above
 * it. A sentence about it; false: there is none. */
bool tls_trust_find_weak(const struct tls_trust *, const struct ss_der *chain, uint32_t n, char *why,
			 size_t why_size);

/* The next time, in seconds since 1970, at which a certificate of the chain, a CA or a revocation list that
 * has to be valid has expired; INT64_MAX: never. */
int64_t tls_trust_next_expiry(const struct tls_trust *, const struct ss_der *chain, uint32_t n, int64_t now);
