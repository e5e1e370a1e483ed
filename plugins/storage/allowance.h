/* SPDX-License-Identifier: MIT */
/*
 * allowance - whether events get a file of their own, or go to the one named %other: how many files there may
 * be, how many of them one peer may have begun, and which cannot be opened.  Runs in the instance's loop.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <semstreams/ext/attributes.h>
#include "path.h"

struct storage;
struct file;
struct owner; /* a verified peer, or all that are not verified */

LIST_HEAD(owner_bucket, owner);

/* A file that could not be opened a moment ago. */
struct refused {
	char *pattern; /* NULL: none */
	uint64_t until_ns;
};

struct allowance {
	uint64_t made, counted_ns;    /* files of one date; when they were counted, 0: never */
	bool full;                    /* that was reported */
	struct owner_bucket *owners;  /* NULL: there are no attributes */
	struct refused *refused;      /* by hash; of two with one place the newer */
	uint64_t refused_ns, told_ns; /* of the newest; when one was last in the log; 0: never */
};

/* 0 or -ENOMEM; allowance_done() may be called in any case. */
int allowance_init(struct allowance *);
void allowance_done(struct allowance *);

/* May there be a file of this pattern for events with these attributes, NULL: none?  Then *owner is whom it
 * is counted for, until allowance_done(). */
bool allowance_grants(struct storage *, const struct ss_attributes *, const char *pattern, uint32_t hash,
		      struct owner **owner);
/* A file is open. */
void allowance_opened(struct storage *, const struct file *);
/* A file has another name now: its own is free. */
void allowance_renamed(struct storage *, const struct file *);
/* A file cannot be opened.  True: the trouble is that file's alone, so its events are to go elsewhere for a
 * while; false: nothing was done. */
bool allowance_refuses(struct storage *, const struct file *, int rc, const char why[WHY_MAX]);
/* From time to time: is all well again? */
void allowance_check(struct storage *);
