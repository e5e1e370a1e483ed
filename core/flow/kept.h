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

struct kept_slot {
	const struct ss_batch *batch; /* NULL: the slot is empty */
	uint64_t since_ns;
};

struct kept {
	struct kept_slot *slots; /* open addressing, half empty at least */
	size_t size, n;
};

/* Of some of the batches: how many, their events, and since when the first has been kept; 0: there is none.
 */
struct kept_since {
	uint64_t batches, events, since_ns;
};

void kept_done(struct kept *);
/* Make room for one more; 0 or -ENOMEM. */
int kept_reserve(struct kept *);
/* After kept_reserve; at that time, of any clock. */
void kept_add(struct kept *, const struct ss_batch *, uint64_t now_ns);
/* False: it is not kept. */
bool kept_remove(struct kept *, const struct ss_batch *);
/* Take out any; NULL: there is none. */
struct ss_batch *kept_take(struct kept *);
/* When the oldest first event of a batch was received, wall clock; 0: there is none. */
uint64_t kept_oldest_ns(const struct kept *);
/* Of those that have been kept since that time or longer. */
struct kept_since kept_before(const struct kept *, uint64_t ns);
