/* SPDX-License-Identifier: MIT */
/* kept - see kept.h. */
#include "core/flow/kept.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <semstreams/plugin.h>

enum { SIZE_MIN = 16 };

static size_t home(const struct kept *k, const struct ss_batch *b)
{
	uint64_t bits = (uint64_t)(uintptr_t)b >> 4;

	return (size_t)(bits * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (k->size - 1);
}

static void put(struct kept *k, struct kept_slot slot)
{
	size_t i = home(k, slot.batch);

	while (k->slots[i].batch)
		i = (i + 1) & (k->size - 1);
	k->slots[i] = slot;
}

void kept_done(struct kept *k)
{
	free(k->slots);
	*k = (struct kept){0};
}

int kept_reserve(struct kept *k)
{
	if (2 * (k->n + 1) <= k->size)
		return 0;

	struct kept grown = {.size = k->size ? 2 * k->size : SIZE_MIN, .n = k->n};
	grown.slots = calloc(grown.size, sizeof(*grown.slots));
	if (!grown.slots)
		return -ENOMEM;
	for (size_t i = 0; i < k->size; i++)
		if (k->slots[i].batch)
			put(&grown, k->slots[i]);
	free(k->slots);
	*k = grown;
	return 0;
}

void kept_add(struct kept *k, const struct ss_batch *b, uint64_t now_ns)
{
	put(k, (struct kept_slot){b, now_ns});
	k->n++;
}

/* Empty slot i; what was put further on because of it moves up. */
static void empty(struct kept *k, size_t i)
{
	size_t mask = k->size - 1;

	k->n--;
	for (size_t j = (i + 1) & mask; k->slots[j].batch; j = (j + 1) & mask) {
		if (((j - home(k, k->slots[j].batch)) & mask) < ((j - i) & mask))
			continue;
		k->slots[i] = k->slots[j];
		i = j;
	}
	k->slots[i] = (struct kept_slot){0};
}

bool kept_remove(struct kept *k, const struct ss_batch *b)
{
	if (!k->n)
		return false;
	size_t i = home(k, b);
	while (k->slots[i].batch && k->slots[i].batch != b)
		i = (i + 1) & (k->size - 1);
	if (!k->slots[i].batch)
		return false;
	empty(k, i);
	return true;
}

struct ss_batch *kept_take(struct kept *k)
{
	for (size_t i = 0; k->n && i < k->size; i++) {
		const struct ss_batch *b = k->slots[i].batch;
		if (b) {
			empty(k, i);
			return (struct ss_batch *)(uintptr_t)b;
		}
	}
	return NULL;
}

uint64_t kept_oldest_ns(const struct kept *k)
{
	uint64_t oldest = 0;

	for (size_t i = 0; k->n && i < k->size; i++) {
		const struct ss_batch *b = k->slots[i].batch;
		uint64_t t = b && b->count ? b->events[0].time_ns : 0;
		oldest = t && (!oldest || t < oldest) ? t : oldest;
	}
	return oldest;
}

struct kept_since kept_before(const struct kept *k, uint64_t ns)
{
	struct kept_since found = {0};

	for (size_t i = 0; k->n && i < k->size; i++) {
		const struct kept_slot *slot = &k->slots[i];
		if (!slot->batch || slot->since_ns > ns)
			continue;
		found.batches++;
		found.events += slot->batch->count;
		if (!found.since_ns || slot->since_ns < found.since_ns)
			found.since_ns = slot->since_ns;
	}
	return found;
}
