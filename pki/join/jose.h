/* SPDX-License-Identifier: MIT */
/*
 * jose - what one-time tokens of step-ca are made of (RFC 7515 to 7519): a provisioner's key, which its
 * password opens, and tokens, signed with it or read.  What is read is a stranger's.  Pure.
 */
#pragma once
#include <stdint.h>
#include <gnutls/abstract.h>
#include <jansson.h>
#include <semstreams/base/strbuf.h>
#include "pki/fault.h"

enum {
	JOSE_MAX = 64 << 10,      /* bytes of a key or token */
	JOSE_ROUNDS_MAX = 2000000 /* of PBKDF2, what a reply may cost us: a second or two */
};

/* A key on P-256, and what its owner calls it. */
struct jose_key {
	gnutls_privkey_t private;
	char kid[128];
};

/*
 * Open an encrypted JWK (compact JWE, PBES2 and AES-GCM) with its password; more than rounds_max rounds are
 * refused before any work.  0 with *out for jose_key_done(), -EINVAL with the fault, -ENOMEM.
 */
int jose_key_open(const char *jwe, size_t len, struct ss_strbuf *password, unsigned rounds_max,
		  struct jose_key *out, struct fault *);
void jose_key_done(struct jose_key *);

/* Append the token (compact JWS, ES256) with these claims.  0, -EINVAL, -ENOMEM. */
int jose_token_sign(const struct jose_key *, const json_t *claims, struct ss_strbuf *out, struct fault *);

/* What a token says of itself; nobody has checked its signature but the CA, when it is used. */
struct jose_token {
	char subject[256];
	char audience[512];          /* a URL of the CA */
	char root[65];               /* SHA-256 of the CA's root in hex; "": it names none */
	int64_t not_before, expires; /* seconds since 1970; 0: it does not say */
};
int jose_token_read(const char *text, size_t len, struct jose_token *out, struct fault *);
