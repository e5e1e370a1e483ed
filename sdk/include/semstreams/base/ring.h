/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/ring.h - a queue of values that grows: at the end values are added, at the beginning they
 * leave, and each keeps its number, from 0 on, for as long as it is there.  Memory grows by doubling and
 * stays until the end. Any thread, one at a time.  Tags and rules are those of semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_RING_H
#define SEMSTREAMS_BASE_RING_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* To begin with zero but for value_size. */
struct ss_ring {
	size_t value_size;  /* sizeof of a value */
	uint64_t head;      /* number of the oldest value, if there is one */
	uint64_t tail;      /* number that the next one gets */
	uint64_t allocated; /* room, a power of two or 0 */
	char *values;       /* owned: ss_ring_done() frees them */
};

/* [any] A zeroed value at the end, numbered tail as it was before; NULL when out of memory.  Its address, and
 * that of every other value, holds until the next ss_ring_push(). */
void *ss_ring_push(struct ss_ring *);
/* [any] How many values there are. */
static inline uint64_t ss_ring_count(const struct ss_ring *r)
{
	return r->tail - r->head;
}
/* [any] The value of a number from head to tail - 1; valid until the next ss_ring_push(), and as long as it
 * is there. */
static inline void *ss_ring_at(const struct ss_ring *r, uint64_t number)
{
	return r->values + (size_t)(number & (r->allocated - 1)) * r->value_size;
}
/* [any] The oldest value, valid as from ss_ring_at(); NULL if there is none. */
static inline void *ss_ring_first(const struct ss_ring *r)
{
	return r->head == r->tail ? NULL : ss_ring_at(r, r->head);
}
/* [any] The oldest value leaves; there must be one. */
static inline void ss_ring_shift(struct ss_ring *r)
{
	r->head++;
}
/* [any] The newest value leaves, and its number is given again; there must be one. */
static inline void ss_ring_pop(struct ss_ring *r)
{
	r->tail--;
}
/* [any] Free the memory; what the values own is the caller's.  The struct is as at the beginning. */
void ss_ring_done(struct ss_ring *);

#ifdef __cplusplus
}
#endif
#endif
