/* SPDX-License-Identifier: MIT */
/*
 * kept - the batches that a plugin keeps (SS_KEPT), so that the host knows what is finished twice or never. A
 * batch may be kept more than once: it may come by several inputs.  Of one thread; nothing is allocated per
 * batch.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ss_batch;

struct kept {
	const struct ss_batch **slots; /* open addressing, half empty at least */
	size_t size, n;
};

void kept_done(struct kept *);
/* Make room for one more; 0 or -ENOMEM. */
int kept_reserve(struct kept *);
/* After kept_reserve. */
void kept_add(struct kept *, const struct ss_batch *);
/* False: it is not kept. */
bool kept_remove(struct kept *, const struct ss_batch *);
/* Take out any; NULL: there is none. */
struct ss_batch *kept_take(struct kept *);
/* When the oldest first event of a batch was received, wall clock; 0: there is none. */
uint64_t kept_oldest_ns(const struct kept *);
