/* SPDX-License-Identifier: MIT */
#include <semstreams/base/ring.h>

#include <stdlib.h>
#include <string.h>

enum { FIRST_ROOM = 64 };

static int grow(struct ss_ring *r)
{
	const uint64_t allocated = r->allocated ? 2 * r->allocated : FIRST_ROOM;

	if (allocated > SIZE_MAX / r->value_size)
		return -1;
	char *values = malloc((size_t)allocated * r->value_size);
	if (!values)
		return -1;
	for (uint64_t i = r->head; i < r->tail; i++)
		memcpy(values + (size_t)(i & (allocated - 1)) * r->value_size, ss_ring_at(r, i),
		       r->value_size);
	free(r->values);
	r->values = values;
	r->allocated = allocated;
	return 0;
}

void *ss_ring_push(struct ss_ring *r)
{
	if (ss_ring_count(r) == r->allocated && grow(r) < 0)
		return NULL;
	return memset(ss_ring_at(r, r->tail++), 0, r->value_size);
}

void ss_ring_done(struct ss_ring *r)
{
	free(r->values);
	*r = (struct ss_ring){.value_size = r->value_size};
}
