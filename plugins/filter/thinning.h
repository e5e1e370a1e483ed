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

enum thinning_way { THINNING_SAMPLE, THINNING_DEADBAND, THINNING_RATE_LIMIT, THINNING_WAYS };

/* The ways that are configured; zeroed to begin with. */
struct thinning {
	struct sample *sample;
	struct deadband *deadband;
	struct rate_limit *rate_limit;
};

/* Compile the option of one way; errors go to option, paths of fields to paths. */
void thinning_compile(struct thinning *, enum thinning_way, json_t *, struct ss_json_option *option,
		      struct ss_paths *, uint32_t max_keys, const struct ss_iface *fields);
void thinning_done(struct thinning *);
/* May an event pass?  1; 0, counted in suppressed[] of the first way that says no; -ENOMEM. */
int thinning_pass(struct thinning *, const struct ss_field *fields, uint64_t time_ns,
		  uint32_t suppressed[THINNING_WAYS]);
/* The keys a way remembers, and how many it forgot since the start; false if it is not configured or has
 * none. */
bool thinning_keys(const struct thinning *, enum thinning_way, uint32_t *n, uint64_t *evicted);
