/* SPDX-License-Identifier: MIT */
/*
 * distinct - how many different values: exact up to DISTINCT_EXACT, above that HyperLogLog (Flajolet, Fusy,
 * Gandouet, Meunier 2007) with 2^14 registers and the estimator of Ertl ("New cardinality estimation
 * algorithms for HyperLogLog sketches", 2017): standard error 0.81 %.  Takes 64-bit hashes; those of one
 * sketch must be of one secret.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "text.h"

#define DISTINCT_EXACT 1024

struct distinct;

struct distinct *distinct_new(void); /* NULL if out of memory */
void distinct_free(struct distinct *);
int distinct_add(struct distinct *, uint64_t hash);                  /* -ENOMEM */
int distinct_merge(struct distinct *, const struct distinct *other); /* -ENOMEM */
uint64_t distinct_count(const struct distinct *);
size_t distinct_memory(const struct distinct *);
void distinct_save(const struct distinct *, struct text *);
int distinct_load(const uint8_t *bytes, size_t len, struct distinct **out); /* -EINVAL, -ENOMEM */
