/* SPDX-License-Identifier: MIT */
/*
 * tls_generation - one state of a TLS role: certificate, key and trust, immutable and counted.  Made by one
 * thread at a time, read and released by all.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/tls.h>
#include "core/tls/cert.h"

struct tls_crls;
struct tls_trust;

#define TLS_MAX_SOURCE 32 /* bytes of where a certificate is from, with the end */

/* A certificate chain, leaf first, and its key, which is a text or signs. */
struct tls_pair {
	const char *source, *chain_pem;
	const char *key_pem; /* NULL: there is a signer */
	const struct ss_tls_signer *signer;
};

struct tls_generation {
	struct ss_tls_material material; /* first: consumers give it back */
	_Atomic unsigned references;
	char *chain, *key, *ca;             /* what material points to */
	const struct ss_tls_signer *signer; /* in place of key, a reference; NULL: none */
	struct tls_crls *crls;   /* whom the CAs have revoked, a reference; NULL: nothing is known of it */
	struct tls_trust *trust; /* the CAs of material, ready for use; NULL: none were put in */
	char **names;            /* of peers that are allowed; n_names 0: all that the CAs vouch for */
	size_t n_names;
	char *subject; /* of the leaf, as messages show it; NULL without one */
	char source[TLS_MAX_SOURCE];
};

/* One reference, nothing in it; NULL if out of memory. */
struct tls_generation *tls_generation_new(const char *source);
/* Put a chain, leaf first, and its key in; NULL: there is a signer.  0, -ENOMEM. */
int tls_generation_take(struct tls_generation *, const struct cert_list *chain, gnutls_x509_privkey_t key);
/* Put copies of the names of allowed peers in, in the place of those there are.  0, -ENOMEM. */
int tls_generation_allow(struct tls_generation *, const char *const *names, size_t n);
/* Put revocation lists in, in the place of those there are: a reference is taken.  For one that is sealed and
 * nobody else's yet; NULL: none.  0, -ENOMEM. */
int tls_generation_revoke(struct tls_generation *, struct tls_crls *);
/* Point material to what there is: when all has been put in, its flags too.  0, -ENOMEM. */
int tls_generation_seal(struct tls_generation *);

/* A certificate and its key, checked against each other (but for a signer, which only a handshake tells) and
 * the time: a generation without trust.  0, -EINVAL with why, -ENOMEM. */
int tls_generation_read(const struct tls_pair *, int64_t now, struct tls_generation **out, char *why,
			size_t why_size);
/* A new one with the trust, names and policies of the first and the certificate of the second, NULL: of
 * nobody. NULL: out of memory. */
struct tls_generation *tls_generation_join(const struct tls_generation *trust,
					   const struct tls_generation *certificate);
/* Have they the same certificate and key, or both none? */
bool tls_generation_same_pair(const struct tls_generation *, const struct tls_generation *);
/* The same CAs and revocation lists? */
bool tls_generation_same_trust(const struct tls_generation *, const struct tls_generation *);
/* Do they allow the same names? */
bool tls_generation_same_names(const struct tls_generation *, const struct tls_generation *);

/* The time from which on its certificate is too near its end: the last tenth of its life. */
int64_t tls_generation_overdue(const struct tls_generation *);
/*
 * The worst there is to say of a role that uses it, in text: true if the role cannot work, false if it works;
 * then text may be "".  mode is the provider's, NULL for files; lost is why the provider has no certificate,
 * NULL if it has.
 */
bool tls_generation_judge(const struct tls_generation *, const char *mode, const char *lost, int64_t now,
			  char *text, size_t size);

struct tls_generation *tls_generation_ref(struct tls_generation *);
/* The last one frees it, wiping the key; NULL is allowed. */
void tls_generation_unref(struct tls_generation *);
