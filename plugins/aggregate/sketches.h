/* SPDX-License-Identifier: MIT */
/*
 * sketches - summaries of any number of values in bounded memory, at the price of a bounded error.  Two of a
 * kind can be merged.  Those that take hashes need hashes of one secret within one sketch.  Pure memory.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <semstreams/base/strbuf.h>

/*
 * distinct - how many different values: exact up to DISTINCT_EXACT, above that HyperLogLog (Flajolet, Fusy,
 * Gandouet, Meunier 2007) with 2^14 registers and the estimator of Ertl ("New cardinality estimation
 * algorithms for HyperLogLog sketches", 2017): standard error 0.81 %.
 */
#define DISTINCT_EXACT 1024

struct distinct;

struct distinct *distinct_new(void); /* NULL if out of memory */
void distinct_free(struct distinct *);
int distinct_add(struct distinct *, uint64_t hash);                  /* -ENOMEM */
int distinct_merge(struct distinct *, const struct distinct *other); /* -ENOMEM */
uint64_t distinct_count(const struct distinct *);
size_t distinct_memory(const struct distinct *);
void distinct_save(const struct distinct *, struct ss_strbuf *);
int distinct_load(const uint8_t *bytes, size_t len, struct distinct **out); /* -EINVAL, -ENOMEM */

/*
 * quantiles - a DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with
 * relative-error guarantees", VLDB 2019): counts in buckets whose bounds grow by a constant factor.  A
 * quantile is off by at most the requested accuracy, relative to the true value; least and greatest are
 * exact.  Bounded: values more than 17 orders of magnitude closer to zero than the greatest share a bucket.
 */
struct quantiles;

/* accuracy: 0.001 to 0.2.  NULL if out of memory. */
struct quantiles *quantiles_new(double accuracy);
void quantiles_free(struct quantiles *);
int quantiles_add(struct quantiles *, double value);                    /* -ENOMEM; NaN is ignored */
int quantiles_merge(struct quantiles *, const struct quantiles *other); /* of the same accuracy; -ENOMEM */
uint64_t quantiles_count(const struct quantiles *);
/* The value of rank floor(percent / 100 * (n - 1)), from 0.  NaN if there is none. */
double quantiles_at(const struct quantiles *, double percent);
size_t quantiles_memory(const struct quantiles *);
void quantiles_save(const struct quantiles *, struct ss_strbuf *);
/* -EINVAL, -ENOMEM */
int quantiles_load(const uint8_t *bytes, size_t len, double accuracy, struct quantiles **out);

/*
 * heavy_hitters - the most frequent values: Space-Saving (Metwally, Agrawal, El Abbadi: "Efficient
 * computation of frequent and top-k elements in data streams", 2005) with ten counters per requested value,
 * at least 100. With c counters and n values added, a count is too high by at most n / c and never too low;
 * every value that came more than n / c times is present.  Exact as long as there are no more different
 * values than counters.
 */
#define HEAVY_HITTERS_VALUE_MAX 1024 /* bytes of a value as JSON; longer ones are refused: -E2BIG */

struct heavy_hitters;

struct heavy_hitters *heavy_hitters_new(uint32_t k); /* NULL if out of memory */
void heavy_hitters_free(struct heavy_hitters *);
/* value is JSON text without the quotes of a string. -E2BIG, -ENOMEM. */
int heavy_hitters_add(struct heavy_hitters *, uint64_t hash, const char *value, size_t len, int quoted);
int heavy_hitters_merge(struct heavy_hitters *, const struct heavy_hitters *other); /* -ENOMEM */
/* [{"value":...,"count":n},...], the k most frequent first; of equal counts in order of their text. */
void heavy_hitters_print(const struct heavy_hitters *, struct ss_strbuf *);
size_t heavy_hitters_memory(const struct heavy_hitters *);
void heavy_hitters_save(const struct heavy_hitters *, struct ss_strbuf *);
int heavy_hitters_load(const uint8_t *bytes, size_t len, uint32_t k,
		       struct heavy_hitters **out); /* -EINVAL, -ENOMEM */
