/* SPDX-License-Identifier: MIT */
/*
 * record - what became of an attempt, kept in the store; shared by the loop in the host and the commands
 * beside it.  The store must be locked.
 */
#pragma once
#include <stdint.h>
#include "plugins/acme_tls/client/acme.h"
#include "acme_tls.h"
#include "store.h"

/* The state as it is on disk; what is broken counts as nothing. */
void record_load(struct store *, struct store_state *out);
/* The facts for renew_decide(). */
struct renew_facts record_facts(const struct setup *, const struct held *, const struct store_state *);

/* A new certificate: the pair, then the state.  0; -ERANGE with why: it has expired; -errno with why: the
 * pair is not on disk, the order is still remembered. */
int record_success(struct store *, const struct setup *, const struct chain_info *, const char *key_pem,
		   int64_t now, char *why, size_t why_size);
/*
 * A failure: counted, and the next try put off.  left: seconds until the certificate in use expires, <= 0
 * without one. Returns the seconds to wait, *failures is how many there were in a row.
 */
int64_t record_failure(struct store *, const struct setup *, const struct acme_result *, int64_t left,
		       int64_t now, uint32_t *failures);
/* A failure of a command: remembered, but the host's own rhythm stays; Retry-After is heeded by all. */
void record_command_failure(struct store *, const struct acme_result *, int64_t now);
/* The certificate in the store was revoked by us. */
void record_revoked(struct store *);
/* Is it time to ask the CA for its window? */
bool record_ari_due(const struct store_state *, const struct held *, int64_t now);
/* The CA's window for renewal; fail is ACME_OK or why there is none. */
void record_ari(struct store *, const struct held *, const struct acme_result *, int64_t now);
/* [0, 2^32) */
uint32_t record_random(void);
