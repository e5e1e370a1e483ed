/* SPDX-License-Identifier: MIT */
/*
 * quantiles - a DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with
 * relative-error guarantees", VLDB 2019): counts in buckets whose bounds grow by a constant factor.  A
 * quantile is off by at most the accuracy asked for, relative to the true value; least and greatest are
 * exact.  Bounded: values more than 17 orders of magnitude closer to zero than the greatest share a bucket.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "text.h"

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
void quantiles_save(const struct quantiles *, struct text *);
/* -EINVAL, -ENOMEM */
int quantiles_load(const uint8_t *bytes, size_t len, double accuracy, struct quantiles **out);
