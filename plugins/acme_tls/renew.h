/* SPDX-License-Identifier: MIT */
/*
 * renew - when to get a certificate: pure decisions, the clock is an argument.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct renew_facts {
	bool has_cert, names_match, revoked;
	int64_t not_before, not_after;   /* seconds since 1970 */
	int64_t renew_before;            /* seconds, as configured */
	int64_t check_interval;          /* seconds, as configured (1 h) */
	int64_t jitter;                  /* seconds this certificate is renewed earlier */
	int64_t ari_at;                  /* 0: none */
	uint32_t failures;               /* in a row */
	int64_t next_try;                /* not before (backoff, Retry-After) */
};
enum renew_why { RENEW_NOT_DUE, RENEW_NO_CERT, RENEW_EXPIRED, RENEW_NAMES, RENEW_REVOKED, RENEW_TIME, RENEW_ARI, RENEW_EMERGENCY };
struct renew_decision {
	bool now;
	enum renew_why why;
	int64_t due_at;   /* when renewal is or was due */
	int64_t check_at; /* look again then: at most check_interval ahead, sooner when less is left */
};
struct renew_decision renew_decide(const struct renew_facts *, int64_t now);
/* The renew_before in force: at most half the certificate's life, so that a new certificate is never due at once;
 * *bounded: the configured one was more. */
int64_t renew_effective(int64_t not_before, int64_t not_after, int64_t renew_before, bool *bounded);
/* Seconds of jitter for a certificate: 0 to a tenth of what lies between renewal and expiry; random in [0, 2^32). */
int64_t renew_jitter(int64_t not_before, int64_t not_after, int64_t renew_before, uint32_t random);
/* After a failure: the seconds to wait, growing with failures, scaled to what is left so that many tries remain, at least
 * retry_after (0: none); random in [0, 2^32). */
int64_t renew_backoff(uint32_t failures, int64_t left, int64_t retry_after, uint32_t random);
