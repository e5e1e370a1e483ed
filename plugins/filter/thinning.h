/* SPDX-License-Identifier: MIT */
/*
 * thinning - fewer of the events that meet the conditions: deadband (only what changed) and rate limit (only
 * so many), each with a bounded table of keys from which the least recently used is forgotten, and samples
 * (one in n).  Time is the time the events were received, so a stream is thinned the same however late it
 * comes.  Compiled by the control thread, used on the instance's loop.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include <semstreams/plugin.h>
#include <semstreams/base/paths.h>
#include <semstreams/base/value.h>
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

/* Compile an option; errors go to option.  The field and key go to paths.  -EINVAL, -ENOMEM. */
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

struct sample {
	uint64_t one_in, seen;
	int key; /* index of its path, -1: none */
	struct ss_iface fields;
	struct ss_scratch scratch;
};

/* {"one_in": n, "key": path}: each n-th event, or all events of one in n keys.  Errors go to option: -EINVAL,
 * -ENOMEM. */
int sample_compile(json_t *, struct ss_json_option *, struct ss_paths *, const struct ss_iface *fields,
		   struct sample **out);
void sample_free(struct sample *);
/* 1: the event is part of it, 0: not; -ENOMEM. */
int sample_take(struct sample *, const struct ss_field *fields);
