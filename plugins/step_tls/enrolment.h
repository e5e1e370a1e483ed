/* SPDX-License-Identifier: MIT */
/*
 * enrolment - one attempt to obtain a certificate from step-ca: renewed with the one there is, over mutual
 * TLS, or else obtained with the one-time token.  It waits for the CA, so it runs in a thread of its own.
 */
#pragma once
#include <stdbool.h>
#include "options.h"
#include "plugins/identity/obtain_result.h"
#include "plugins/identity/store.h"

/* What was asked of the CA, for counting. */
enum enrolment_request { ENROLMENT_ROOT, ENROLMENT_SIGN, ENROLMENT_RENEW, ENROLMENT_N_REQUESTS };

struct enrolment {
	/* the outcome, when enrolment_run() has returned; its texts are the enrolment's */
	struct obtain_result result;
	bool by_token; /* a token was used for it */
	unsigned requests[ENROLMENT_N_REQUESTS];

	/* the rest is its own */
	const struct step_setup *setup;
	struct step_ca *ca;
	bool can_renew;
	int64_t expired;           /* when the old one did; 0: it has not, or there is none */
	char *old_chain, *old_key; /* copies; NULL: none */
	char *token;
};

/* old may be no certificate at all; ca_files: whom to trust where the settings do not say, NULL-ended,
 * borrowed. 0; -errno with why. */
int enrolment_new(const struct step_setup *, const struct stored_cert *old, bool revoked,
		  const char *const *ca_files, struct enrolment **out, char *why, size_t why_size);
/* enrolment: a struct enrolment.  At most twice the timeout for each request. */
void enrolment_run(void *enrolment);
/* [any] While it runs: it ends at once. */
void enrolment_cancel(struct enrolment *);
/* NULL is allowed; it must not be running. */
void enrolment_free(struct enrolment *);
