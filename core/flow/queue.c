/* SPDX-License-Identifier: MIT */
#include "core/flow/queue.h"

#include <errno.h>
#include <stdlib.h>
#include "core/flow/batch.h"

/* Single-writer counters: a plain add, published relaxed. */
static inline void add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static inline uint64_t get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* At least so many. */
static uint64_t slots_for(const struct queue_limits *limits, uint64_t least)
{
	enum { SLOTS_MAX = 1 << 16 };
	uint64_t slots = 2;

	while ((slots < limits->events && slots < SLOTS_MAX) || slots < least)
		slots *= 2;
	return slots;
}

struct queue *queue_new(const struct queue_limits *limits)
{
	struct queue *q = aligned_alloc(CACHE_LINE, sizeof *q);
	const uint64_t slots = slots_for(limits, 0);

	if (!q)
		return NULL;
	*q = (struct queue){.limits = *limits};
	q->mask = slots - 1;
	q->slots = calloc(slots, sizeof *q->slots);
	if (!q->slots) {
		free(q);
		return NULL;
	}
	return q;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	queue_discard(q);
	free(q->waiting);
	free(q->slots);
	free(q);
}

static bool fits(const struct queue *q, const struct ss_batch *b)
{
	uint64_t tail = get(&q->tail);

	if (tail == q->seen_head)
		return true; /* an empty ring takes anything, or a batch above the limits would never pass */
	return tail - q->seen_head <= q->mask &&
	       get(&q->in_events) - get(&q->evicted_events) - q->seen_out_events + b->count <=
		       q->limits.events &&
	       get(&q->in_bytes) - get(&q->evicted_bytes) - q->seen_out_bytes + b->footprint <=
		       q->limits.bytes;
}

static bool has_room(struct queue *q, const struct ss_batch *b)
{
	if (fits(q, b))
		return true;
	/* head first: the counters then cover at least what head says has gone */
	q->seen_head = atomic_load_explicit(&q->head, memory_order_acquire);
	q->seen_out_events = get(&q->out_events);
	q->seen_out_bytes = get(&q->out_bytes);
	return fits(q, b);
}

static void put(struct queue *q, struct ss_batch *b)
{
	uint64_t tail = get(&q->tail);

	add(&q->in_events, b->count);
	add(&q->in_bytes, b->footprint);
	atomic_store_explicit(&q->slots[tail & q->mask], b, memory_order_relaxed);
	atomic_store_explicit(&q->tail, tail + 1, memory_order_release);
}

static void drop(struct queue *q, struct ss_batch *b)
{
	add(&q->dropped_events, b->count);
	token_mark(b->token, SS_DROPPED);
	batch_unref(b);
}

static uint64_t discard(struct ss_batch *b)
{
	uint64_t n = b->count;

	token_mark(b->token, SS_FAILED);
	batch_unref(b);
	return n;
}

/* Take the oldest batch away from the consumer; false if it was quicker. */
static bool evict(struct queue *q)
{
	uint64_t head = atomic_load_explicit(&q->head, memory_order_acquire);

	if (head == get(&q->tail))
		return false;
	struct ss_batch *b = atomic_load_explicit(&q->slots[head & q->mask], memory_order_relaxed);
	if (!atomic_compare_exchange_strong_explicit(&q->head, &head, head + 1, memory_order_acq_rel,
						     memory_order_relaxed))
		return false;
	add(&q->evicted_events, b->count);
	add(&q->evicted_bytes, b->footprint);
	drop(q, b);
	return true;
}

static bool wait_for_room(struct queue *q, struct ss_batch *b)
{
	if (q->first_waiting + q->n_waiting == q->allocated_waiting) {
		if (q->first_waiting > q->allocated_waiting / 2) {
			for (size_t i = 0; i < q->n_waiting; i++)
				q->waiting[i] = q->waiting[q->first_waiting + i];
			q->first_waiting = 0;
		} else {
			size_t n = q->allocated_waiting ? q->allocated_waiting * 2 : 16;
			struct ss_batch **p = realloc(q->waiting, n * sizeof *p);
			if (!p)
				return false;
			q->waiting = p;
			q->allocated_waiting = n;
		}
	}
	q->waiting[q->first_waiting + q->n_waiting++] = b;
	return true;
}

bool queue_offer(struct queue *q, struct ss_batch *b)
{
	batch_ref(b);
	add(&q->offered_events, b->count);

	if (q->n_waiting == 0) {
		if (q->limits.overflow == OVERFLOW_DROP_OLDEST) {
			while (!has_room(q, b))
				evict(q);
		}
		if (has_room(q, b)) {
			put(q, b);
			return true;
		}
	}
	if (q->limits.overflow == OVERFLOW_BLOCK && wait_for_room(q, b))
		return queue_flush(q);
	drop(q, b);
	return false;
}

bool queue_flush(struct queue *q)
{
	bool moved = false;

	for (int look = 0; look < 2 && q->n_waiting; look++) {
		while (q->n_waiting && has_room(q, q->waiting[q->first_waiting])) {
			put(q, q->waiting[q->first_waiting++]);
			q->n_waiting--;
			moved = true;
		}
		/* say that we wait, then look once more: room made in between would not be told */
		if (q->n_waiting)
			atomic_store_explicit(&q->stuck, true, memory_order_seq_cst);
		atomic_thread_fence(memory_order_seq_cst);
	}
	if (!q->n_waiting)
		q->first_waiting = 0;
	return moved;
}

void queue_close(struct queue *q)
{
	atomic_store_explicit(&q->closed, true, memory_order_release);
}

/* Half empty again: a producer is not woken for each batch. */
static bool half_empty(const struct queue *q)
{
	uint64_t slots = get(&q->tail) - get(&q->head);

	return slots == 0 || (slots <= (q->mask + 1) / 2 && queue_events(q) <= q->limits.events / 2 &&
			      queue_bytes(q) <= q->limits.bytes / 2);
}

/* What waited for room when the producer closed the queue is the consumer's. */
static struct ss_batch *take_waiting(struct queue *q)
{
	if (!atomic_load_explicit(&q->closed, memory_order_acquire) || !q->n_waiting)
		return NULL;
	q->n_waiting--;
	return q->waiting[q->first_waiting++];
}

struct ss_batch *queue_take(struct queue *q, bool *room)
{
	uint64_t head = atomic_load_explicit(&q->head, memory_order_acquire);
	struct ss_batch *b;

	for (;;) {
		if (head >= q->seen_tail) {
			q->seen_tail = atomic_load_explicit(&q->tail, memory_order_acquire);
			if (head >= q->seen_tail)
				return take_waiting(q);
		}
		b = atomic_load_explicit(&q->slots[head & q->mask], memory_order_relaxed);
		if (q->limits.overflow != OVERFLOW_DROP_OLDEST) {
			/* b's counts first: whoever sees the new head sees them too */
			add(&q->out_events, b->count);
			add(&q->out_bytes, b->footprint);
			atomic_store_explicit(&q->head, head + 1, memory_order_release);
			break;
		}
		if (atomic_compare_exchange_strong_explicit(&q->head, &head, head + 1, memory_order_acq_rel,
							    memory_order_acquire)) {
			add(&q->out_events, b->count);
			add(&q->out_bytes, b->footprint);
			break;
		}
	}
	if (q->limits.overflow == OVERFLOW_BLOCK) {
		atomic_thread_fence(memory_order_seq_cst);
		if (atomic_load_explicit(&q->stuck, memory_order_relaxed) && half_empty(q)) {
			atomic_store_explicit(&q->stuck, false, memory_order_seq_cst);
			*room = true;
		}
	}
	return b;
}

bool queue_empty(const struct queue *q)
{
	return atomic_load_explicit(&q->head, memory_order_relaxed) >=
	       atomic_load_explicit(&q->tail, memory_order_acquire);
}

bool queue_finished(const struct queue *q)
{
	/* closed before empty: the last put came before the close */
	return atomic_load_explicit(&q->closed, memory_order_acquire) && queue_empty(q) && !q->n_waiting;
}

static int grow(struct queue *q, uint64_t slots)
{
	_Atomic(struct ss_batch *) *grown = calloc(slots, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	for (uint64_t i = get(&q->head); i < get(&q->tail); i++)
		atomic_init(&grown[i & (slots - 1)], atomic_load(&q->slots[i & q->mask]));
	free(q->slots);
	q->slots = grown;
	q->mask = slots - 1;
	return 0;
}

void queue_limit(struct queue *q, const struct queue_limits *limits)
{
	const bool blocks = limits->overflow == OVERFLOW_BLOCK;
	const uint64_t slots = slots_for(limits, blocks ? 0 : get(&q->tail) - get(&q->head) + q->n_waiting);

	const int rc = slots > q->mask + 1 ? grow(q, slots) : 0;
	q->limits = *limits;
	if (blocks)
		return;
	/* consumers of other policies do not say when there is room: whatever waits for it is let in now */
	for (; q->n_waiting; q->n_waiting--) {
		struct ss_batch *b = q->waiting[q->first_waiting++];
		if (rc == 0)
			put(q, b);
		else
			drop(q, b);
	}
	q->first_waiting = 0;
	atomic_store(&q->stuck, false);
}

uint64_t queue_discard(struct queue *q)
{
	uint64_t lost = 0;
	bool room = false;
	struct ss_batch *b;

	while ((b = queue_take(q, &room)))
		lost += discard(b);
	for (; q->n_waiting; q->n_waiting--)
		lost += discard(q->waiting[q->first_waiting++]);
	return lost;
}

uint64_t queue_oldest_ns(const struct queue *q)
{
	uint64_t head = atomic_load_explicit(&q->head, memory_order_acquire);

	if (q->limits.overflow == OVERFLOW_DROP_OLDEST ||
	    head == atomic_load_explicit(&q->tail, memory_order_acquire))
		return 0;
	const struct ss_batch *b = atomic_load_explicit(&q->slots[head & q->mask], memory_order_relaxed);
	return b->count ? b->events[0].time_ns : 0;
}

static uint64_t difference(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

uint64_t queue_events(const struct queue *q)
{
	uint64_t gone = get(&q->out_events) + get(&q->evicted_events);

	return difference(get(&q->in_events), gone);
}

uint64_t queue_bytes(const struct queue *q)
{
	uint64_t gone = get(&q->out_bytes) + get(&q->evicted_bytes);

	return difference(get(&q->in_bytes), gone);
}
