/* SPDX-License-Identifier: MIT */
/*
 * queue - one edge of the graph: a bounded single-producer single-consumer ring of batch references.
 *
 * Memory order.  tail is written by the producer with release after the slot; head by the consumer (and,
 * under drop_oldest, by the producer that evicts) with compare-and-swap; a slot is overwritten only once head
 * has passed it. Both indexes only grow.  Each side keeps a copy of the other's counters and looks again only
 * when that says full or empty.  Counters of events and bytes are single-writer.
 */
#pragma once
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <semstreams/plugin.h>
#include "core/config/config.h" /* struct queue_limits */

#define CACHE_LINE 64

struct queue {
	/* changed by queue_limit only */
	struct queue_limits limits;
	uint64_t mask;
	_Atomic(struct ss_batch *) *slots;

	/* the producer's */
	alignas(CACHE_LINE) _Atomic uint64_t tail;
	_Atomic uint64_t in_events, in_bytes;           /* put into the ring */
	_Atomic uint64_t evicted_events, evicted_bytes; /* taken out again by the producer */
	_Atomic uint64_t offered_events;                /* given to queue_offer */
	_Atomic uint64_t dropped_events;                /* of those, lost to the policy */
	uint64_t seen_head, seen_out_events, seen_out_bytes;
	struct ss_batch **waiting; /* what a full blocking ring did not take, oldest first */
	size_t first_waiting, n_waiting, allocated_waiting;

	/* the consumer's */
	alignas(CACHE_LINE) _Atomic uint64_t head;
	_Atomic uint64_t out_events, out_bytes;
	uint64_t seen_tail;

	/* signals */
	alignas(CACHE_LINE) _Atomic bool stuck; /* the producer waits for room */
	_Atomic bool closed;                    /* the producer will put nothing more */
};

struct queue *queue_new(const struct queue_limits *);
/* Releases everything inside; NULL is allowed.  Nobody uses it any more. */
void queue_free(struct queue *);

/*
 * [producer] Hand over a batch, sealed; takes a reference of its own.  True if the consumer has something new
 * to take.  When the ring is full, the policy decides: drop_newest counts and drops it, drop_oldest makes
 * room, block keeps it in waiting (-> queue_stuck).
 */
bool queue_offer(struct queue *, struct ss_batch *);
/* [producer] Something waits for room. */
static inline bool queue_stuck(const struct queue *q)
{
	return q->n_waiting > 0;
}
/* [producer] Move what waits into the ring as far as it goes; true if the consumer has something new. */
bool queue_flush(struct queue *);
/* [producer] No more.  What still waits for room is the consumer's then. */
void queue_close(struct queue *);

/* While neither side runs: other limits, kept by what comes from now on.  Without memory for a longer ring it
 * holds fewer batches than events. */
void queue_limit(struct queue *, const struct queue_limits *);

/* [consumer] Next batch, the caller owns the reference; NULL: empty.  *room is set true if the producer waits
 * and there is enough room again to wake it. */
struct ss_batch *queue_take(struct queue *, bool *room);
/* [consumer] */
bool queue_empty(const struct queue *);
/* [consumer] Closed and empty: nothing will ever come. */
bool queue_finished(const struct queue *);

/* [consumer] When the first event inside was received, wall clock; 0: there is none, or the producer may take
 * it away meanwhile. */
uint64_t queue_oldest_ns(const struct queue *);

/* [ctl] Throw away all content when both ends have stopped; the number of events, not counted as dropped. */
uint64_t queue_discard(struct queue *);

/* [any] Events and bytes inside at about this moment. */
uint64_t queue_events(const struct queue *);
uint64_t queue_bytes(const struct queue *);
