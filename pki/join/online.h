/* SPDX-License-Identifier: MIT */
/* online - a CA or a provider that is asked over HTTPS, and whom we trust there. */
#pragma once
#include <jansson.h>
#include "pki/certificate.h"
#include "pki/options.h"
#include "jose.h"

struct step_ca;

struct online {
	struct step_ca *client;
	char url[512];             /* without a / at its end */
	struct certificates roots; /* those that are trusted */
	const char *files[2];
	struct jose_key key; /* the provisioner's, once a token was made: opening it takes long on purpose */
};

/*
 * fingerprint: of the root, from a token, where the options name none; NULL or "": none.  0 with *out for
 * online_done(), -EINVAL with the fault, -ENOMEM.
 */
int online_open(const struct options *, const char *url, const char *fingerprint, struct online *out,
		struct fault *);
void online_done(struct online *);

/* Does it answer, and is it well?  0, -EINVAL with why not, -ENOMEM. */
int online_health(struct online *, struct fault *);

/* A certificate for a request, by a one-time token; what comes back leads to *root, one of the trusted, and
 * is for the key (NULL: any).  life_s 0: the CA's default. */
int online_sign(struct online *, const char *csr, const char *token, int64_t life_s, const struct key *,
		struct certificates *chain, gnutls_x509_crt_t *root, struct fault *);
/* Another one like chain, for the same key, which is not in a token; the chain shows who we are.  As
 * online_sign(). */
int online_renew(struct online *, const struct certificates *chain, const struct key *,
		 struct certificates *out, gnutls_x509_crt_t *root, struct fault *);
/* Ask a provider: 0 with its answer (for json_decref()), -EAGAIN: not approved yet; -EINVAL, -ENOMEM. */
int online_join(struct online *, const char *tenant, const char *csr, json_t **reply, struct fault *);
/* A token with which the provisioner that the options name lets subject do what path says ("/1.0/sign"). */
struct online_claims {
	const char *path, *subject;
	const struct names *names;     /* NULL: none but the subject */
	const struct profile *profile; /* NULL: no certificate is asked for */
	int64_t life_s;
};
int online_token(struct online *, const struct options *, const struct online_claims *,
		 struct ss_strbuf *token, struct fault *);
/* Revoke a certificate that this CA has signed, with its own chain and key (PEM); key NULL: by a token of the
 * provisioner that the options name. */
int online_revoke(struct online *, const struct options *, gnutls_x509_crt_t, const char *chain,
		  const char *key, struct fault *);
