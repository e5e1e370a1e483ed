/* SPDX-License-Identifier: MIT */
/* semstreams/ext/positions.h - where resumable streams stand, so that they arrive exactly once.  Tags and
 * rules are those of semstreams/plugin.h. */
#ifndef SEMSTREAMS_EXT_POSITIONS_H
#define SEMSTREAMS_EXT_POSITIONS_H

#include <semstreams/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Positions make resumable streams arrive exactly once.  A checkpointer is a component that commits, together
 * with what it keeps durably, the newest position per source; after a restart it drops what it already has
 * (by ss_event.seq and the position's epoch), and sources begin behind the lowest position kept.  Components
 * that take input are started before those that feed them, so all checkpointers have spoken when a source
 * asks.
 *
 * What a checkpointer compares is ss_event.seq, per input and source, with the newest it took of that epoch:
 * an event that is not above it is dropped as a duplicate, whatever its bytes are.  0 is never a duplicate;
 * another epoch begins anew. So in one epoch a source
 *   - gives each event the seq it has for good, growing from event to event, and none to two events;
 *   - may send again what it sent, in order, from anywhere: checkpointers that have it drop it, others take
 * it;
 *   - after SS_FAILED sends again from the first event that failed, with the same seqs.  That mends a failure
 * at the end of what was sent.  A checkpointer that took later events has passed the failed ones: sent again
 * in this epoch they are duplicates to it, and stay lost there (counted by whoever failed them).  To bring
 * them all the same a source needs another epoch, in which everything it sends again is new to every
 * checkpointer. A checkpointer that can fail a batch in the midst of a stream and wants it again takes
 * nothing behind it either (SS_BUSY, or fails that as well), so that the position it commits has no hole
 * before it.
 */
#define SS_POSITIONS "semstreams.positions/1"
struct ss_positions {
	uint32_t struct_size, reserved;
	/* [inst] in start: this instance is a checkpointer. */
	void (*checkpointer)(void *self);
	/* [inst] in start, after checkpointer(): what it has, through this input port, of the stream of the
	 * component with id source. Positions are kept per input: a stream may come on several ways. */
	int32_t (*kept)(void *self, uint32_t port, const char *source, const struct ss_position *);
	/* [inst] of a source, in start or later: the lowest position that all checkpointers behind it have.
	 * -ENOENT: one of them has nothing, or they disagree about the epoch, or there is none: begin with
	 * the oldest there is. */
	int32_t (*resume)(void *self, struct ss_position *out);
};

#ifdef __cplusplus
}
#endif
#endif
