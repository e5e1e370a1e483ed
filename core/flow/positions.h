/* SPDX-License-Identifier: MIT */
/*
 * positions - where resumable streams go on after a start: the service "semstreams.positions/1".
 * Checkpointers say in their start what they have, sources ask for the lowest.  One object per pipeline,
 * locked: components call from their loops.
 */
#pragma once
#include <stddef.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/positions.h>

struct component;
struct positions;

/* For n components at all, wired; order has them with every one behind those that feed it.  Both must outlive
 * it; NULL: out of memory. */
struct positions *positions_new(const struct component *all, struct component *const *order, size_t n);
void positions_free(struct positions *); /* NULL is allowed */

/* Its self is the component that asks. */
extern const struct ss_positions positions_service;
