/* SPDX-License-Identifier: MIT */
/*
 * top - the most frequent values: Space-Saving (Metwally, Agrawal, El Abbadi: "Efficient computation of
 * frequent and top-k elements in data streams", 2005) with ten counters per value wanted, at least 100.  With
 * c counters and n values added, a count is too high by at most n / c and never too low; every value that
 * came more than n / c times is there.  Exact as long as there are no more different values than counters.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "text.h"

#define TOP_VALUE_MAX                                                                                        \
	1024 /* bytes of a value as JSON; longer ones are cut off from being counted: -E2BIG                 \
	      */

struct top;

struct top *top_new(uint32_t k); /* NULL if out of memory */
void top_free(struct top *);
/* value is JSON text without the quotes of a string. -E2BIG, -ENOMEM. */
int top_add(struct top *, uint64_t hash, const char *value, size_t len, int quoted);
int top_merge(struct top *, const struct top *other); /* -ENOMEM */
/* [{"value":...,"count":n},...], the k most frequent first; of equal counts in order of their text. */
void top_print(const struct top *, struct text *);
size_t top_memory(const struct top *);
void top_save(const struct top *, struct text *);
int top_load(const uint8_t *bytes, size_t len, uint32_t k, struct top **out); /* -EINVAL, -ENOMEM */
