/* SPDX-License-Identifier: MIT */
/* issue - a certificate and its key made together and written as one: what commands and trees of certificates
 * have in common. */
#pragma once
#include "certificate.h"
#include "fileset.h"

/* Who signs. */
struct issuer {
	struct certificates chain; /* the CA first */
	struct key key;
	const char *path; /* of the CA's certificate; the caller's */
};

int issuer_load(const char *ca, const char *ca_key, const struct passphrase *, struct issuer *,
		struct fault *);
void issuer_done(struct issuer *);
/* What it has signed goes into the index beside its certificate; where that cannot be written stderr says so.
 */
void issuer_record(const struct issuer *, gnutls_x509_crt_t issued);

struct issue {
	const struct profile *profile;
	const char *subject, *key_type, *crt, *key; /* key: a file, or a token's URI */
	const char *csr, *bundle;                   /* NULL: none is written */
	const struct names *names;
	const struct passphrase *passphrase;
	int64_t life_s; /* 0: the profile's */
	int path_len;   /* -1: the profile's */
	bool replace, reuse_key;
	bool chain; /* the CAs between stand behind the certificate, as servers send them */
};

/*
 * Make a key, unless it is in a token or to be used again, and a certificate for it; issuer NULL: it signs
 * itself. Write key, request, bundle and certificate in one set.  What takes long and what is cut short is
 * told on stderr. 0 with *out for gnutls_x509_crt_deinit(), -EINVAL with the fault, -ENOMEM.
 */
int issue_pair(const struct issue *, const struct issuer *, gnutls_x509_crt_t *out, struct fault *);
/*
 * Make a key, unless it is in a token, and a request for it, and write both in one set.  0, -EINVAL with the
 * fault, -ENOMEM.
 */
int issue_request(const struct issue *, struct fault *);
/* On stdout: what has been issued, as a line for people or in JSON.  -ENOMEM. */
int issue_print(gnutls_x509_crt_t, const char *crt, const char *key, bool json);
