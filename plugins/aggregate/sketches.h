/* SPDX-License-Identifier: MIT */
/*
 * sketches - summaries of any number of values in bounded memory, at the price of a bounded error.  Two of a
 * kind can be merged.  Those that take hashes need hashes of one secret within one sketch.  Pure memory.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <semstreams/base/strbuf.h>
#include "functions.h"

struct sketch {
	void *(*create)(const struct function *); /* NULL if out of memory */
	void (*free)(void *);
	int (*add)(void *, const struct sample *); /* -ENOMEM, -E2BIG */
	/* The other one is of a function with the same parameters.  -ENOMEM */
	int (*merge)(void *, const void *other);
	void (*print)(const struct function *, const void *, struct ss_strbuf *); /* NULL: an empty one */
	size_t (*memory)(const void *);
	void (*save)(const void *, struct ss_strbuf *);
	int (*load)(void *, struct ss_unpack *); /* into an empty one.  -EINVAL, -ENOMEM */
};

/*
 * distinct - how many different values: exact up to DISTINCT_EXACT, above that HyperLogLog (Flajolet, Fusy,
 * Gandouet, Meunier 2007) with 2^14 registers and the estimator of Ertl ("New cardinality estimation
 * algorithms for HyperLogLog sketches", 2017): standard error 0.81 %.
 */
#define DISTINCT_EXACT 1024

extern const struct sketch distinct_sketch;
struct distinct;
uint64_t distinct_count(const struct distinct *);

/*
 * quantiles - a DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with
 * relative-error guarantees", VLDB 2019): counts in buckets whose bounds grow by a constant factor.  A
 * quantile is off by at most the requested accuracy, relative to the true value; least and greatest are
 * exact.  Bounded: values more than 17 orders of magnitude closer to zero than the greatest share a bucket.
 */
extern const struct sketch quantiles_sketch;
struct quantiles;
uint64_t quantiles_count(const struct quantiles *);
/* The value of rank floor(percent / 100 * (n - 1)), from 0.  NaN if there is none. */
double quantiles_at(const struct quantiles *, double percent);

/*
 * heavy_hitters - the most frequent values, the greatest count first, of equal counts in order of their text:
 * Space-Saving (Metwally, Agrawal, El Abbadi: "Efficient computation of frequent and top-k elements in data
 * streams", 2005) with ten counters per requested value, at least 100. With c counters and n values added, a
 * count is too high by at most n / c and never too low; every value that came more than n / c times is
 * present.  Exact as long as there are no more different values than counters.
 */
#define HEAVY_HITTERS_VALUE_MAX 1024 /* bytes of a value as JSON; longer ones are refused: -E2BIG */

extern const struct sketch heavy_hitters_sketch;
