/* SPDX-License-Identifier: MIT */
/* semstreams/ext/positions.h - how resumable streams arrive exactly once.  Tags and rules are those of
 * semstreams/plugin.h. */
#ifndef SEMSTREAMS_EXT_POSITIONS_H
#define SEMSTREAMS_EXT_POSITIONS_H

#include <semstreams/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A source that can resume gives each batch a position (ss_host.track) and each event a sequence
 * (ss_event.seq).  A checkpointer is a component that makes durable what it is given: a file, a log, a
 * window. Together with its data, in one atomic step, it saves a snapshot of the host's positions; after a
 * restart it gives the snapshot back.  The host then removes what the checkpointer has already before it
 * calls process(), and sources begin after the lowest position that all checkpointers have.  So every event
 * arrives once, through any crash, and neither side compares a sequence.
 *
 *   start:    checkpointer(), then restore() with the snapshot found beside the data, if there is one
 *   process:  take the events; duplicates are gone already, counted as dropped, reason "duplicate"
 *   commit:   snapshot(), written with the data; then release the batches or tokens that it covers
 *
 * A source may have thousands of streams.  So that a snapshot stays small and a commit writes only what
 * moved, the host keeps the positions of many streams in files of its own beside the checkpointer's data, if
 * that allows it:
 *
 *   start:    checkpointer(), keep(), restore()
 *   commit:   snapshot(); in the thread that commits sync() before the snapshot is written, and committed()
 *             after it is durable
 *
 * Components downstream start first, so all checkpointers have restored when a source asks.
 *
 * A source has one stream, or as many as it has senders: ss_position.stream names each, by a digest of what
 * the source knows for sure of the sender, as its verified name.  No stream has to do with another.
 *
 * The host compares sequences per component, input port, source, stream and epoch.  An event that is not
 * above the newest accepted one of its epoch is a duplicate, whatever its bytes are.  A sequence of 0 is
 * never a duplicate.  Another epoch begins anew.  A batch counts as accepted when process() returned SS_DONE
 * or SS_KEPT for it.
 *
 * A source, within one epoch of a stream,
 *   - gives each event its sequence for good: they grow from event to event, and none is given twice;
 *   - may resend what it sent, in order, from any event on;
 *   - after acked() with SS_FAILED resends from the first event that failed, with the same sequences.
 * When a batch fails, the host fails every later batch of that stream until the source goes back, so that
 * the positions saved have no hole.  A checkpointer that reports SS_FAILED for a batch it kept does the same
 * for the later batches of the stream that it keeps: else their events come twice.
 */
#define SS_POSITIONS "semstreams.positions/1"

/* Which batches a snapshot covers. */
enum {
	SS_COVER_ACCEPTED = 0, /* all that were accepted; within process() also the one at hand */
	SS_COVER_GIVEN = 1,    /* those given to cover() */
	/* None: there are no snapshots.  The host removes duplicates for as long as the instance runs, unless
	 * a stream reaches one of its inputs by several ways, and where sources begin does not depend on it.
	 * For components that hold their data in memory only. */
	SS_COVER_NOTHING = 2
};

/* What the host has under SS_POSITIONS. */
struct ss_positions {
	uint32_t struct_size, reserved;
	/* [inst] In start: this instance is a checkpointer; cover is one of SS_COVER_...  From now on the
	 * host removes duplicates from its input. */
	void (*checkpointer)(void *self, uint32_t cover);
	/* [inst] In start, after checkpointer() and keep(): the snapshot that was saved with the data;
	 * borrowed.  0; -EINVAL: it is not a snapshot; -EBADMSG: the host's file that it refers to is damaged
	 * or gone, and nothing is restored: a later snapshot begins anew; -ENOMEM; or another errno. */
	int32_t (*restore)(void *self, const void *snapshot, size_t size);
	/* [inst] With SS_COVER_GIVEN: the next snapshot covers this batch, which came in by that port and is
	 * still held.  In the order of acceptance.  0, -ENOMEM. */
	int32_t (*cover)(void *self, uint32_t port, const struct ss_batch *);
	/* [inst] With SS_COVER_GIVEN, when data that was covered was not made durable: the next snapshot
	 * covers what this one does, and what is given to cover() from now on.  NULL, 0: nothing.  No
	 * sync() may be under way.  0, or an error as of restore(): -EINVAL, -EBADMSG, -ENOMEM; then no
	 * snapshot is to be committed. */
	int32_t (*rewind)(void *self, const void *snapshot, size_t size);
	/* [inst] A snapshot: how many bytes it takes, written to buf if it fits into size.  The bytes mean
	 * something to the host only; they are the same on every machine.  After a call in process() the
	 * batch at hand is accepted: process() must return SS_DONE or SS_KEPT.  -ENOMEM. */
	int64_t (*snapshot)(void *self, void *buf, size_t size);
	/* [inst] Of a source, in start or later: the lowest position that all checkpointers downstream had in
	 * this stream when they started.  -ENOENT: one of them has none, they disagree about the epoch, or
	 * there is none: begin with the oldest event there is. */
	int32_t (*resume)(void *self, const uint8_t stream[16], struct ss_position *out);
	/* [inst] In start, between checkpointer() and restore(): the host may make files path.1, path.2 and
	 * so on, in the folder of the data, which nobody else writes to.  0, -ENOMEM. */
	int32_t (*keep)(void *self, const char *path);
	/* [any] One thread at a time, may block: make durable what the snapshot refers to; with durable 0 it
	 * need only outlive the process.  0 or -errno: then the snapshot must not be committed; the next call
	 * tries again. */
	int32_t (*sync)(void *self, const void *snapshot, size_t size, int32_t durable);
	/* [any] As sync(): the snapshot is committed, files that only older ones refer to may go. */
	void (*committed)(void *self, const void *snapshot, size_t size);
};

#ifdef __cplusplus
}
#endif
#endif
