/* SPDX-License-Identifier: MIT */
/* guard_positions - semstreams.positions/1 of the guard: with the host's own books of streams, but without
 * duplicates, as the events that are offered never come twice. */
#include <errno.h>
#include "core/flow/stream_log.h"
#include "core/torture/guard.h"
#include "core/torture/lot.h"

#define SOURCE "source"

static struct stream *stream_of(struct guard *g, const struct ss_position *at)
{
	struct stream *st = streams_get(g->streams, 0, SOURCE, at->stream);

	if (!st)
		guard_fatal("out of memory");
	return st;
}

void guard_positions_offer(struct guard *g, const struct ss_batch *b)
{
	if (g->streams)
		stream_offer(stream_of(g, &b->token->position), &b->token->position, b);
}

void guard_positions_settle(struct guard *g, const struct ss_batch *b, bool accepted)
{
	const struct ss_position *at = &b->token->position;

	if (!g->streams)
		return;
	if (accepted) {
		const struct ss_position end = stream_end(at, b);
		stream_accept(stream_of(g, at), &end);
	} else {
		stream_fail(stream_of(g, at), at, b);
	}
}

void guard_positions_done(struct guard *g)
{
	streams_free(g->streams);
	stream_log_free(g->stream_log);
}

static void checkpointer(void *self, uint32_t cover)
{
	struct guard *g = self;

	if (!guard_is_inst(g, "checkpointer"))
		return;
	streams_free(g->streams);
	g->streams = streams_new(cover == SS_COVER_GIVEN);
	if (!g->streams)
		guard_fatal("out of memory");
}

/* The events to come are newer than what is restored. */
static int32_t restore(void *self, const void *snapshot, size_t size)
{
	struct guard *g = self;

	if (!guard_is_inst(g, "restore") || !g->streams)
		return -EINVAL;
	const int rc = stream_log_load(g->stream_log, g->streams, snapshot, size, false);
	for (const struct stream *st = NULL; rc == 0 && (st = streams_next(g->streams, st));)
		g->seq = st->taken.seq > g->seq ? st->taken.seq : g->seq;
	return rc;
}

static int32_t cover(void *self, uint32_t port, const struct ss_batch *b)
{
	struct guard *g = self;

	(void)port;
	if (!guard_is_inst(g, "cover") || !g->streams)
		return -EINVAL;
	if (b->token && b->token->has_position)
		stream_cover(stream_of(g, &b->token->position), &b->token->position, b);
	return 0;
}

static int32_t go_back(void *self, const void *snapshot, size_t size)
{
	struct guard *g = self;

	if (!guard_is_inst(g, "rewind") || !g->streams)
		return -EINVAL;
	if (snapshot)
		return stream_log_load(g->stream_log, g->streams, snapshot, size, true);
	streams_uncover(g->streams);
	stream_log_restart(g->stream_log);
	return 0;
}

static int64_t snapshot_now(void *self, void *buf, size_t size)
{
	struct guard *g = self;

	return guard_is_inst(g, "snapshot") && g->streams
		       ? stream_log_save(g->stream_log, g->streams, buf, size)
		       : -EINVAL;
}

static int32_t resume(void *self, const uint8_t stream[16], struct ss_position *out)
{
	(void)stream, (void)out;
	return guard_is_inst(self, "resume") ? -ENOENT : -EINVAL;
}

static int32_t keep(void *self, const char *path)
{
	struct guard *g = self;

	if (!guard_is_inst(g, "keep") || g->stream_log)
		return -EINVAL;
	g->stream_log = stream_log_new(path);
	return g->stream_log ? 0 : -ENOMEM;
}

static int32_t make_durable(void *self, const void *snapshot, size_t size, int32_t durable)
{
	struct guard *g = self;

	return stream_log_sync(g->stream_log, snapshot, size, durable);
}

static void committed(void *self, const void *snapshot, size_t size)
{
	struct guard *g = self;

	stream_log_committed(g->stream_log, snapshot, size);
}

const struct ss_positions guard_positions = {
	.struct_size = sizeof(struct ss_positions),
	.checkpointer = checkpointer,
	.restore = restore,
	.cover = cover,
	.rewind = go_back,
	.snapshot = snapshot_now,
	.resume = resume,
	.keep = keep,
	.sync = make_durable,
	.committed = committed,
};
