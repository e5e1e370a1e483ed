/* SPDX-License-Identifier: MIT */
/*
 * keyed - thinning out per key: deadband (only what moved) and rate limit (only so many), each with a bounded
 * table of keys from which the one unused longest is forgotten.  Time is the events' receipt time, so a
 * stream is thinned the same however late it comes.  On the instance's loop; compiled in the control thread.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include <semstreams/plugin.h>
#include "condition.h"
#include <semstreams/base/json_option.h>
#include <semstreams/ext/fields.h>

/* How far events of one key may be out of order before it is taken for a clock that was set back. */
#define KEYED_DISORDER_NS 10000000000u

struct keyed_slot {
	uint64_t hash[2]; /* stands for the key */
	uint64_t time_ns; /* deadband: of the last that passed; rate limit: of the last refill */
	union {
		struct ss_number value; /* deadband: the last that passed */
		uint64_t level;         /* rate limit: what is left, an event costs rate->per */
	};
	uint32_t chain, newer, older; /* indices of slots, 0 = none */
	bool fresh;                   /* nothing is known of this key yet */
};

struct keyed {
	struct keyed_slot *slots; /* from 1 */
	uint32_t *heads, mask;    /* chains by hash */
	uint32_t n, max;
	uint32_t newest, oldest;
	uint64_t evicted; /* since the start */
	uint64_t secret[2];
	struct ss_iface fields;
	struct ss_scratch scratch;
};

/* Index of the path at member name, added to paths; -1 if there is none, or it was reported, or -ENOMEM,
 * which goes to spec. */
int compile_path(json_t *, const char *name, bool needed, struct ss_json_option *, struct ss_paths *);

struct keyed *keyed_new(uint32_t max, const struct ss_iface *fields);
void keyed_free(struct keyed *);
/* The slot of a key, which counts as used now; a field of type SS_JSON_MISSING is a key too.  NULL: out of
 * memory. */
struct keyed_slot *keyed_get(struct keyed *, const struct ss_field *key);

struct deadband {
	struct keyed *keys;
	int field, key; /* indices of paths; key -1: one for all */
	double threshold;
	bool percent;
	uint64_t max_interval_ns; /* 0 = none */
};

struct rate_limit {
	struct keyed *keys;
	int key;
	uint64_t events, per_ns;
	uint64_t capacity; /* burst, in nanoseconds times events */
	uint64_t full_ns;  /* an empty bucket is full after this */
};

/* Compile an option; errors go to spec.  The field and key go to paths.  -EINVAL, -ENOMEM. */
int deadband_compile(json_t *, struct ss_json_option *, struct ss_paths *, uint32_t max_keys,
		     const struct ss_iface *fields, struct deadband **out);
void deadband_free(struct deadband *);
/*
 * May this event pass?  1 or 0, or -ENOMEM.  *slot is for deadband_passed, once it is sure that it does; NULL
 * if the field is no number, which always passes.
 */
int deadband_check(struct deadband *, const struct ss_field *fields, uint64_t time_ns,
		   struct keyed_slot **slot);
void deadband_passed(struct deadband *, const struct ss_field *fields, uint64_t time_ns, struct keyed_slot *);

int rate_limit_compile(json_t *, struct ss_json_option *, struct ss_paths *, uint32_t max_keys,
		       const struct ss_iface *fields, struct rate_limit **out);
void rate_limit_free(struct rate_limit *);
/* Take one event out of its key's bucket; 1, 0: it is empty, or -ENOMEM. */
int rate_limit_take(struct rate_limit *, const struct ss_field *fields, uint64_t time_ns);
