/* SPDX-License-Identifier: MIT */
#include "core/flow/services/attributes.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/attribute_block.h>

/* ---- sets ---- */

struct attribute_set {
	struct ss_attributes pub; /* first */
	_Atomic uint32_t refs;
	uint32_t bytes; /* of all of it */
	char texts[];
};

static struct attribute_set *set_of(const struct ss_attributes *pub)
{
	return (struct attribute_set *)(uintptr_t)pub;
}

int32_t attributes_make(const struct ss_attributes *values, const struct ss_attributes **out)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < SS_ATTR_COUNT; i++) {
		const struct ss_attribute a = ss_attribute_get(values, i);
		if (a.len > (i == SS_ATTR_PATH ? SS_ATTR_PATH_MAX : SS_ATTR_NAME_MAX))
			return -EMSGSIZE;
		if (!ss_attribute_text_valid(a.text, a.len))
			return -EINVAL;
		bytes += a.len;
	}
	struct attribute_set *set = malloc(sizeof *set + bytes);
	if (!set)
		return -ENOMEM;
	set->pub = (struct ss_attributes){.struct_size = sizeof set->pub, .flags = values->flags};
	set->bytes = (uint32_t)(sizeof *set + bytes);
	atomic_init(&set->refs, 1);
	char *at = set->texts;
	for (uint32_t i = 0; i < SS_ATTR_COUNT; i++) {
		const struct ss_attribute a = ss_attribute_get(values, i);
		if (!a.len)
			continue;
		memcpy(at, a.text, a.len);
		set->pub.values[i] = (struct ss_attribute){.text = at, .len = a.len};
		at += a.len;
	}
	*out = &set->pub;
	return 0;
}

void attributes_ref(const struct ss_attributes *set)
{
	atomic_fetch_add_explicit(&set_of(set)->refs, 1, memory_order_relaxed);
}

void attributes_unref(const struct ss_attributes *set)
{
	if (set && atomic_fetch_sub_explicit(&set_of(set)->refs, 1, memory_order_acq_rel) == 1)
		free(set_of(set));
}

/* ---- tables ---- */

/* Blocks that became too small stay: children of the batch may point there. */
struct attribute_block {
	struct attribute_block *older;
	const struct ss_attributes *sets[];
};

enum { NEWEST = 8, SETS_MAX = UINT16_MAX };

static const struct ss_attributes **slots(struct attribute_table *t)
{
	return t->block ? t->block->sets : &t->first;
}

/* Room for one more in memory of the batch's own. */
static int32_t reserve(struct ss_batch *b, struct attribute_table *t)
{
	const uint32_t n = b->n_attributes;
	const bool own = t->capacity > 0;

	if (n < t->capacity)
		return 0;
	if (n == 0) {
		t->capacity = 1;
		b->attributes = &t->first;
		return 0;
	}
	const uint32_t capacity = 2 * n + NEWEST;
	struct attribute_block *block = malloc(sizeof *block + capacity * sizeof block->sets[0]);
	if (!block)
		return -ENOMEM;
	block->older = t->block;
	memcpy(block->sets, b->attributes, n * sizeof block->sets[0]);
	for (uint32_t i = 0; !own && i < n; i++)
		attributes_ref(block->sets[i]);
	t->block = block;
	t->capacity = capacity;
	b->attributes = block->sets;
	return 0;
}

int32_t attributes_attach(struct ss_batch *b, struct attribute_table *t, const struct ss_attributes *set)
{
	const uint32_t n = b->n_attributes;

	for (uint32_t i = n; i > 0 && n - i < NEWEST; i--)
		if (b->attributes[i - 1] == set)
			return (int32_t)i;
	if (n == SETS_MAX)
		return -ENOSPC;
	const int32_t rc = reserve(b, t);
	if (rc < 0)
		return rc;
	attributes_ref(set);
	slots(t)[n] = set;
	t->bytes += set_of(set)->bytes + (uint32_t)sizeof set;
	b->n_attributes = n + 1;
	return (int32_t)(n + 1);
}

int32_t attributes_copy(struct ss_batch *copy, struct attribute_table *t, const struct ss_batch *from)
{
	uint16_t last = 0, here = 0;

	for (uint32_t i = 0; i < copy->count; i++) {
		struct ss_event *e = &copy->events[i];
		const uint16_t there = e->attributes;
		const struct ss_attributes *set = ss_attributes_of(from, e);
		if (!set) {
			e->attributes = 0;
			continue;
		}
		if (there != last) {
			const int32_t at = attributes_attach(copy, t, set);
			if (at < 0)
				return at;
			last = there;
			here = (uint16_t)at;
		}
		e->attributes = here;
	}
	return 0;
}

void attributes_done(const struct ss_batch *b, struct attribute_table *t)
{
	if (!t->capacity)
		return;
	for (uint32_t i = 0; i < b->n_attributes; i++)
		attributes_unref(b->attributes[i]);
	while (t->block) {
		struct attribute_block *older = t->block->older;
		free(t->block);
		t->block = older;
	}
	t->capacity = 0;
}
