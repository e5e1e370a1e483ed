/* SPDX-License-Identifier: MIT */
/* sieve - a filter beside the graph, with the conditions of the plugin of that name: one implementation of
 * them.  Control thread. */
#pragma once
#include <semstreams/plugin.h>

struct loader;
struct sieve;

/* where: JSON, as the filter's option.  0; -EINVAL, -ENOMEM, see why. */
int sieve_new(struct loader *, const char *where, char why[512], struct sieve **out);
void sieve_free(struct sieve *); /* NULL is allowed */

/* Put a batch in; the caller keeps its reference. */
void sieve_put(struct sieve *, struct ss_batch *);
/* What meets the conditions, the caller owns the reference; NULL: there is no more. */
struct ss_batch *sieve_take(struct sieve *);
