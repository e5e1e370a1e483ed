/* SPDX-License-Identifier: MIT */
/* certificate - X.509 certificates: issued by a profile, read from files, compared, judged.  By GnuTLS; any
 * thread. */
#pragma once
#include <jansson.h>
#include <stdint.h>
#include <semstreams/base/strbuf.h>
#include "key.h"
#include "names.h"
#include "profile.h"

enum { CERTIFICATES_MAX = 1000, CHAIN_MAX = 16 };

/* Certificates of one file, in order. */
struct certificates {
	gnutls_x509_crt_t *v;
	unsigned n;
};

/* What is to be issued. */
struct order {
	const struct profile *profile;
	const char *subject;
	const struct names *names;
	gnutls_pubkey_t public;
	int64_t life_s;
	int path_len; /* of a CA; -1: the profile's, or what the issuer leaves */
};

/*
 * Issue one; issuer NULL: it signs itself.  It never outlives its issuer: *cut (may be NULL) tells that it
 * would have, by more than a day.  0 with *out for gnutls_x509_crt_deinit(), -EINVAL with the fault, -ENOMEM.
 */
int certificate_issue(const struct order *, gnutls_x509_crt_t issuer, const struct key *issuer_key,
		      gnutls_x509_crt_t *out, bool *cut, struct fault *);

/* All certificates in a PEM file, one at least.  0 with *out for certificates_done(), -EINVAL, -ENOMEM. */
int certificates_load(const char *path, struct certificates *out, struct fault *);
/* The same from memory; path is for messages. */
int certificates_read(const char *path, const char *bytes, size_t len, struct certificates *out,
		      struct fault *);
void certificates_done(struct certificates *);
/* Append as PEM.  0, -ENOMEM. */
int certificate_pem(gnutls_x509_crt_t, struct ss_strbuf *out);

bool certificate_is_for(gnutls_x509_crt_t, const struct key *);
bool certificate_is_ca(gnutls_x509_crt_t);
/* Did the second sign the first?  Time does not matter. */
bool certificate_signed_by(gnutls_x509_crt_t, gnutls_x509_crt_t issuer);
bool certificate_signs_itself(gnutls_x509_crt_t);
/* The common name, or "" ; 256 bytes. */
const char *certificate_subject(gnutls_x509_crt_t, char *buf);
/* Its alternative names.  0, -EINVAL: there are others than DNS names and addresses; -ENOMEM. */
int certificate_names(gnutls_x509_crt_t, struct names *out, struct fault *);
/* Which of the leaves' profiles it fits. */
const struct profile *certificate_leaf_profile(gnutls_x509_crt_t);
/* SHA-256 in hex, 65 bytes; returns buf. */
const char *certificate_fingerprint(gnutls_x509_crt_t, char *buf);
/* Hex, 80 bytes; returns buf. */
const char *certificate_serial(gnutls_x509_crt_t, char *buf);
/* Everything about it, in the members that `step certificate inspect --format json` has.  NULL: out of
 * memory. */
json_t *certificate_json(gnutls_x509_crt_t);
