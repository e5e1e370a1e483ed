/* SPDX-License-Identifier: MIT */
/*
 * tap - copies of events that pass a point of the running graph.  Who passes copies what there is room for
 * and counts the rest, and never waits; nobody who passes keeps anything alive for the tap.
 *
 * A point is entered by one thread at a time, its component's.  The control thread puts taps there, and takes
 * them away again, when it has seen nobody inside.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/plugin.h>

struct tap;

struct tap_point {
	_Atomic(struct tap *) first;
	_Atomic bool busy; /* somebody is inside, and may use any tap that was there */
};

#define TAP_INPUT UINT32_MAX /* instead of the number of an output */

/* [inst] Copy for those who look: use tap_pass(). */
void tap_copy(struct tap_point *, uint32_t port, const struct ss_batch *);

/* [inst] A batch comes in, or goes out at an output. */
static inline void tap_pass(struct tap_point *p, uint32_t port, const struct ss_batch *b)
{
	if (atomic_load_explicit(&p->first, memory_order_relaxed))
		tap_copy(p, port, b);
}

/* The following are the control thread's. */
static inline bool tap_any(const struct tap_point *p)
{
	return atomic_load_explicit(&p->first, memory_order_relaxed) != NULL;
}

/* With room for so much between two calls of tap_take(); NULL: out of memory. */
struct tap *tap_new(uint64_t events, uint64_t bytes);
void tap_free(struct tap *); /* NULL is allowed */
/* Look there from now on, and nowhere else; NULL: nowhere. */
void tap_attach(struct tap *, struct tap_point *, uint32_t port);
/* Where it looks. */
const struct tap_point *tap_place(const struct tap *);
/* All taps of a point, that nobody enters any more, go to another that nobody enters yet; NULL: nowhere. */
void tap_move_all(struct tap_point *from, struct tap_point *to);

/* The next copies, the caller owns the reference; NULL: there is none. */
struct ss_batch *tap_take(struct tap *);
/* Events that there was no room for so far. */
uint64_t tap_missed(const struct tap *);
