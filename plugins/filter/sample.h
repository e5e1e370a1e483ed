/* SPDX-License-Identifier: MIT */
/*
 * sample - a part of the events: each n-th, or, by a key, all events of one in n keys.  Compiled in the
 * control thread; on the instance's loop.
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/base/paths.h>
#include <semstreams/base/json_option.h>
#include <semstreams/base/value.h>
#include <semstreams/ext/fields.h>

struct sample {
	uint64_t one_in, seen;
	int key; /* index of its path, -1: none */
	struct ss_iface fields;
	struct ss_scratch scratch;
};

/* {"one_in": n, "key": path}.  Errors go to spec: -EINVAL, -ENOMEM. */
int sample_compile(json_t *, struct ss_json_option *, struct ss_paths *, const struct ss_iface *fields,
		   struct sample **out);
void sample_free(struct sample *);
/* 1: the event is part of it, 0: not; -ENOMEM. */
int sample_take(struct sample *, const struct ss_field *fields);
