/* SPDX-License-Identifier: MIT */
/*
 * renewal_state - what became of an attempt to get a certificate, and when the next may be made: shared by
 * the loop in the host and the commands beside it.  Each record_... reads state.json, changes its part and
 * writes the file back, as the client and other processes change it too; the store must be locked.  A state
 * that cannot be written costs no certificate, so that is no error here.
 */
#pragma once
#include <stdint.h>
#include "operation.h"
#include "options.h"
#include "renewal_schedule.h"
#include "store.h"

/* The facts for renew_decide(). */
struct renew_facts record_facts(const struct setup *, const struct stored_cert *, const struct store_state *);

/* A new certificate: the pair, then the state.  0; -ERANGE with why: it has expired; -errno with why: the
 * pair is not on disk, the order is still remembered. */
int record_success(struct store *, const struct setup *, const struct operation_result *, int64_t now,
		   char *why, size_t why_size);
/*
 * A failure: counted, and the next attempt postponed.  left: seconds until the certificate in use expires, <=
 * 0 without one.  Returns the seconds to wait, *failures is how many there were in a row.
 */
int64_t record_failure(struct store *, const struct setup *, const struct operation_result *, int64_t left,
		       int64_t now, uint32_t *failures);
/* A failure of a command: remembered, and counted if it was to obtain a certificate; the time of the host's
 * next attempt stays; Retry-After holds for all. */
void record_command_failure(struct store *, const struct operation_result *, bool counts, int64_t now);
/* The stored certificate was revoked by us. */
void record_revoked(struct store *);
/* Is it time to ask the CA for its renewal window? */
bool record_ari_due(const struct store_state *, const struct stored_cert *, int64_t now);
/* The answer; fail is ACME_OK or why there is no window. */
void record_ari(struct store *, const struct stored_cert *, const struct operation_result *, int64_t now);
