/* SPDX-License-Identifier: MIT */
#include "core/flow/tap/tap.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include "core/flow/batch.h"
#include "core/flow/queue.h"

struct tap {
	_Atomic(struct tap *) next; /* at the same point */
	struct tap_point *at;       /* NULL: nowhere */
	uint32_t port;
	struct pool *pool;   /* of whoever is inside the point */
	struct queue *queue; /* from there to the control thread */
	_Atomic uint64_t missed;
};

/* ---- passing by ---- */

/* How many of the first rows there is room for, and their bytes. */
static uint32_t count_fitting(const struct tap *t, const struct ss_batch *b, size_t *bytes)
{
	const uint64_t events = queue_events(t->queue), used = queue_bytes(t->queue) + BATCH_OVERHEAD;
	const struct queue_limits *limits = &t->queue->limits;
	uint64_t room = limits->bytes > used ? limits->bytes - used : 0;
	uint32_t n = 0;

	*bytes = 0;
	while (n < b->count && events + n < limits->events && b->events[n].len + EVENT_OVERHEAD <= room) {
		room -= b->events[n].len + EVENT_OVERHEAD;
		*bytes += b->events[n].len;
		n++;
	}
	return n;
}

/* Without the token: who taps delays no acknowledgement. */
static struct ss_batch *copy_rows(const struct tap *t, const struct ss_batch *b, uint32_t n, size_t bytes)
{
	struct ss_batch *copy = batch_new(t->pool, NULL, n, bytes ? bytes : 1);

	if (!copy)
		return NULL;
	uint8_t *to = copy->data;
	for (uint32_t i = 0; i < n; i++) {
		copy->events[i] = b->events[i];
		copy->events[i].data = to;
		if (b->events[i].len)
			memcpy(to, b->events[i].data, b->events[i].len);
		to += b->events[i].len;
	}
	copy->count = n;
	copy->footprint = (uint32_t)(bytes + n * EVENT_OVERHEAD + BATCH_OVERHEAD);
	if (attributes_copy(copy, &((struct batch *)copy)->attributes, b) == 0)
		return copy;
	batch_unref(copy);
	return NULL;
}

static void take_copy(struct tap *t, const struct ss_batch *b)
{
	size_t bytes;
	uint32_t n = count_fitting(t, b, &bytes);
	struct ss_batch *copy = n ? copy_rows(t, b, n, bytes) : NULL;

	if (copy) {
		queue_offer(t->queue, copy);
		batch_unref(copy);
	} else {
		n = 0;
	}
	if (n < b->count)
		atomic_fetch_add_explicit(&t->missed, b->count - n, memory_order_relaxed);
}

/* busy is set before the taps are read, and they are taken away before busy is read: one of the two sees the
 * other. */
void tap_copy(struct tap_point *p, uint32_t port, const struct ss_batch *b)
{
	atomic_store_explicit(&p->busy, true, memory_order_seq_cst);
	struct tap *t = atomic_load_explicit(&p->first, memory_order_seq_cst);
	for (; t; t = atomic_load_explicit(&t->next, memory_order_acquire))
		if (t->port == port)
			take_copy(t, b);
	atomic_store_explicit(&p->busy, false, memory_order_release);
}

/* ---- the control thread's side ---- */

struct tap *tap_new(uint64_t events, uint64_t bytes)
{
	const struct queue_limits limits = {events, bytes, OVERFLOW_DROP_NEWEST};
	struct tap *t = calloc(1, sizeof *t);

	if (!t)
		return NULL;
	t->pool = pool_new();
	t->queue = queue_new(&limits);
	if (t->pool && t->queue)
		return t;
	tap_free(t);
	return NULL;
}

static void detach(struct tap *t)
{
	_Atomic(struct tap *) *at = &t->at->first;

	while (atomic_load(at) != t)
		at = &atomic_load(at)->next;
	atomic_store_explicit(at, atomic_load(&t->next), memory_order_seq_cst);
	/* as long as copying one batch takes */
	while (atomic_load_explicit(&t->at->busy, memory_order_seq_cst))
		sched_yield();
	t->at = NULL;
}

void tap_attach(struct tap *t, struct tap_point *p, uint32_t port)
{
	if (t->at)
		detach(t);
	if (!p)
		return;
	t->at = p;
	t->port = port;
	atomic_store(&t->next, atomic_load(&p->first));
	atomic_store_explicit(&p->first, t, memory_order_seq_cst);
}

void tap_free(struct tap *t)
{
	if (!t)
		return;
	tap_attach(t, NULL, 0);
	queue_free(t->queue);
	pool_free(t->pool);
	free(t);
}

const struct tap_point *tap_place(const struct tap *t)
{
	return t->at;
}

void tap_move_all(struct tap_point *from, struct tap_point *to)
{
	struct tap *t;

	while ((t = atomic_load(&from->first)))
		tap_attach(t, to, t->port);
}

struct ss_batch *tap_take(struct tap *t)
{
	bool room;

	return queue_take(t->queue, &room);
}

uint64_t tap_missed(const struct tap *t)
{
	return atomic_load_explicit(&t->missed, memory_order_relaxed) +
	       atomic_load_explicit(&t->queue->dropped_events, memory_order_relaxed);
}
