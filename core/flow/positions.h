/* SPDX-License-Identifier: MIT */
/*
 * positions - resumable streams on their way through the graph: the service "semstreams.positions/1".  What a
 * checkpointer has already is cut from its input (streams.h); sources ask for the lowest position that all
 * checkpointers restored.  One object per pipeline, locked: components call from their loops.
 */
#pragma once
#include <stddef.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/positions.h>

struct component;
struct positions;

/* For n components, wired, each with its index below n; order has them with every one behind those that feed
 * it, and must outlive it; NULL: out of memory. */
struct positions *positions_new(struct component *const *order, size_t n);
void positions_free(struct positions *); /* NULL is allowed */

/* Before positions_rewire: room for n components; 0 or -ENOMEM. */
int positions_reserve(struct positions *, size_t n);
/* At a standstill: the graph is another one.  What checkpointers had when they started says nothing of now,
 * and what they have now need not be durable: sources that start begin with the oldest they are sent. */
void positions_rewire(struct positions *, struct component *const *order, size_t n);
/* [ctl] Another takes the place of one that has ended: where events of a stream failed in the old one, they
 * have to come again before those that follow them. */
void positions_hand_over(const struct component *old, struct component *to);
/* In its thread, when it has started: what was handed over counts. */
void positions_inherit(struct component *);

/*
 * Of a checkpointer, in its thread: cut from *batch what it has already.  *batch is replaced by a child with
 * the rest, which takes over the reference; its count may be 0.  -errno: the batch is to fail.
 */
int positions_cut(struct component *, uint32_t port, struct ss_batch **batch);
/* The batch at hand is accepted. */
void positions_accepted(struct component *);
/* A batch failed, at hand or kept. */
void positions_failed(struct component *, const struct ss_batch *);

/* Its self is the component that asks. */
extern const struct ss_positions positions_service;
