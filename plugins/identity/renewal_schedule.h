/* SPDX-License-Identifier: MIT */
/*
 * renewal_schedule - what became of an attempt to get a certificate, and when the next may be made: for the
 * host's loop and the commands beside it.  Times are seconds since 1970, 0: none; durations are seconds.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "obtain_result.h"
#include "setup.h"
#include "store.h"

/* ---- decisions: pure, the clock is an argument ---- */

#define RENEW_MAX_WAIT                                                                                       \
	(86400 + 8640) /* no wait is longer: a day, and what is added so that not all come at once */

struct renew_facts {
	bool has_cert, names_match, revoked;
	int64_t not_before; /* of the certificate, or when it was obtained, if that is later */
	int64_t not_after;
	int64_t renew_before;   /* as configured */
	int64_t check_interval; /* as configured */
	int64_t jitter;         /* this certificate is renewed so much later than renew_before says */
	int64_t ari_at;         /* the moment chosen from the CA's window */
	int64_t next_try;       /* not before: our own backoff */
	int64_t ca_try;         /* not before: the CA said so */
	int64_t last_success;   /* when a certificate was last obtained */
};
enum renew_why {
	RENEW_NOT_DUE,
	RENEW_NO_CERT,
	RENEW_EXPIRED,
	RENEW_NAMES,
	RENEW_REVOKED,
	RENEW_TIME,
	RENEW_ARI,
	RENEW_EMERGENCY
};
struct renew_decision {
	bool now;
	enum renew_why why; /* it is due; with !now it has to wait until check_at */
	bool too_soon;      /* it has to wait because a certificate was obtained only just now */
	int64_t due_at;     /* when renewal is or was due */
	int64_t check_at;   /* look again then: at most check_interval ahead, sooner when less is left */
};
/* A next_try or ca_try further ahead than RENEW_MAX_WAIT was set by another clock and counts as none. */
struct renew_decision renew_decide(const struct renew_facts *, int64_t now);

/* The renew_before in force: at most half the certificate's life, so that a new certificate is never due at
 * once; *bounded (may be NULL): the configured one was more. */
int64_t renew_effective(int64_t not_before, int64_t not_after, int64_t renew_before, bool *bounded);
/* Jitter for a certificate: 0 to a tenth of what lies between renewal and expiry; random in [0, 2^32). */
int64_t renew_jitter(int64_t not_before, int64_t not_after, int64_t renew_before, uint32_t random);
/* A moment in the CA's window [start, end], never behind the certificate's end; 0: the window makes no sense.
 */
int64_t renew_ari_moment(int64_t start, int64_t end, int64_t not_after, uint32_t random);

enum renew_cost {
	RENEW_CHEAP,    /* the CA was not reached */
	RENEW_COSTLY,   /* it did some work for us, and counts */
	RENEW_PERMANENT /* somebody has to change something first */
};
/*
 * After a failure: how long to wait, in seconds.  Grows with failures (in a row, 1 = the first), up to an
 * hour and an eighth of left, the time until the certificate expires; up to RENEW_SHORT_WAIT where there is
 * none (left <= 0); at least retry_after (0: none).
 */
#define RENEW_SHORT_WAIT 300
int64_t renew_backoff(uint32_t failures, enum renew_cost, int64_t left, int64_t retry_after, uint32_t random);

/*
 * ---- what is remembered: each reads state.json, changes its part and writes the file back, as the client
 * and other processes change it too; the store must be locked.  A state that cannot be written costs no
 * certificate, so that is no error here ----
 */

/* The facts for renew_decide(). */
struct renew_facts record_facts(const struct setup *, const struct stored_cert *, const struct store_state *);
/* A new certificate: the pair, then the state.  If it has expired, or is not on disk, result becomes that
 * failure, and the order is still remembered. */
void record_success(struct store *, const struct setup *, struct obtain_result *, int64_t now);
/*
 * A failure: counted, and the next attempt postponed.  left: seconds until the certificate in use expires, <=
 * 0 without one.  Returns the seconds to wait, *failures is how many there were in a row.  Of a command setup
 * is NULL: the time of the host's next attempt stays; failures NULL: not counted.  Retry-After holds for all.
 */
int64_t record_failure(struct store *, const struct setup *, const struct obtain_result *, int64_t left,
		       int64_t now, uint32_t *failures);
/* Is it time to ask the CA for its renewal window? */
bool record_ari_due(const struct store_state *, const struct stored_cert *, int64_t now);
/* The answer; fail is OBTAIN_OK or why there is no window. */
void record_ari(struct store *, const struct stored_cert *, const struct obtain_result *, int64_t now);
