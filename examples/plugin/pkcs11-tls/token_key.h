/* SPDX-License-Identifier: MIT */
/* token_key - a private key in a PKCS#11 token, which signs and never leaves it.  Counted by its signer; any
 * thread, one signature at a time, in a thread of the key's own: a token that hangs fails handshakes after
 * TOKEN_TIMEOUT, and at once as long as it goes on hanging. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <semstreams/ext/tls.h>

enum {
	TOKEN_PIN_MAX = 256, /* bytes, with the end */
	TOKEN_TIMEOUT = 1    /* seconds that a handshake waits for a signature */
};

struct token_key;

/*
 * Find a key by its URI (RFC 7512), logged in with pin.  0 with one reference; -EACCES: the PIN is wrong, so
 * that the same one must not be tried again, as tokens lock themselves up; -EINVAL; -ENOMEM; with why.
 */
int token_key_open(const char *module, const char *uri, const char *pin, struct token_key **out, char *why,
		   size_t why_size);
/* What the host is given; valid as long as a reference is held. */
const struct ss_tls_signer *token_key_signer(struct token_key *);
/* Has the token failed to sign, so that the key has to be opened anew? */
bool token_key_failed(const struct token_key *);
/* Give a reference back; NULL is allowed. */
void token_key_unref(struct token_key *);
