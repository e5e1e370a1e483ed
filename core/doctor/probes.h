/* SPDX-License-Identifier: MIT */
/*
 * probes - examinations that go on at the same time, each in a thread of its own, until they have ended or
 * time is up.  One that hangs (a look-up, a disk) keeps its thread and all that it uses; nobody waits for it.
 */
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include "core/doctor/findings.h"

/* What a probe examines, and its own while it runs: it refers to nothing that it does not own but constants.
 */
struct probe {
	const char *check; /* a constant */
	char *subject;
	/* [thread] Examine and add to found. */
	void (*run)(struct probe *);
	void *what; /* of run() */
	void (*free_what)(void *);
	uint64_t deadline_ns; /* of CLOCK_MONOTONIC: when it is to have ended by itself */
	struct findings found;
	_Atomic(const char *) doing; /* a constant, as "looking up the name", for when it does not end */
	bool ended;                  /* under the lock of probes */
};

struct probes;

/* They have timeout_ns from now on.  NULL: out of memory. */
struct probes *probes_new(uint64_t timeout_ns);
/* One more; subject is copied, what is taken over, also on failure.  One with the same check and subject is
 * examined once.  0, -ENOMEM. */
int probes_add(struct probes *, const char *check, const char *subject, void (*run)(struct probe *),
	       void *what, void (*free_what)(void *));
/* Run all and add what they find, in the order in which they were added; ends the probes, NULL is allowed. */
void probes_run(struct probes *, struct findings *);
