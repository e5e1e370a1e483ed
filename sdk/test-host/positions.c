/* SPDX-License-Identifier: MIT */
/* positions - what the test host does for checkpointers: duplicates removed, snapshots. */
#include "test_host_impl.h"

#include <errno.h>
#include <string.h>
#include "core/flow/stream_log.h"

/* The batch that process() was called with is accepted. */
static void accept(struct ss_test_host *h)
{
	if (h->impl->offered)
		stream_accept(h->impl->offered, &h->impl->offered_upto);
	h->impl->offered = NULL;
}

static void positions_checkpointer(void *self, uint32_t cover)
{
	struct ss_test_host *h = self;
	require_inst(h);
	require(cover <= SS_COVER_NOTHING, "an unknown kind of cover");
	h->checkpointer = cover != SS_COVER_NOTHING;
	h->impl->covers_given = cover == SS_COVER_GIVEN;
	streams_free(h->impl->streams);
	h->impl->streams = streams_new(h->impl->covers_given);
	require(h->impl->streams, "out of memory");
}

static int32_t positions_restore(void *self, const void *snapshot, size_t size)
{
	struct ss_test_host *h = self;
	const struct stream *st = NULL;
	require_inst(h);
	require(h->checkpointer, "restore() before checkpointer()");
	int rc = stream_log_load(h->impl->stream_log, h->impl->streams, snapshot, size, false);
	h->n_kept = 0;
	while (rc == 0 && (st = streams_next(h->impl->streams, st))) {
		if (h->n_kept == sizeof h->kept / sizeof *h->kept)
			break;
		h->kept[h->n_kept].port = st->port;
		snprintf(h->kept[h->n_kept].source, sizeof h->kept->source, "%s", st->source);
		h->kept[h->n_kept++].position = st->taken;
	}
	return rc;
}

static int32_t positions_cover(void *self, uint32_t port, const struct ss_batch *batch)
{
	struct ss_test_host *h = self;
	require_inst(h);
	require(h->checkpointer && h->impl->covers_given, "cover() without SS_COVER_GIVEN");
	if (!batch->token || !batch->token->has_position)
		return 0;
	struct stream *st =
		streams_get(h->impl->streams, port, batch->token->source, batch->token->position.stream);
	require(st, "cover() of a batch that was never offered");
	stream_cover(st, &batch->token->position, batch);
	return 0;
}

static int32_t positions_rewind(void *self, const void *snapshot, size_t size)
{
	struct ss_test_host *h = self;
	require_inst(h);
	require(h->checkpointer && h->impl->covers_given, "rewind() without SS_COVER_GIVEN");
	if (snapshot)
		return stream_log_load(h->impl->stream_log, h->impl->streams, snapshot, size, true);
	streams_uncover(h->impl->streams);
	stream_log_restart(h->impl->stream_log);
	return 0;
}

static int64_t positions_snapshot(void *self, void *buf, size_t size)
{
	struct ss_test_host *h = self;
	require_inst(h);
	require(h->checkpointer, "snapshot() before checkpointer()");
	if (!h->impl->covers_given)
		accept(h);
	return stream_log_save(h->impl->stream_log, h->impl->streams, buf, size);
}

static int32_t positions_resume(void *self, const uint8_t stream[16], struct ss_position *out)
{
	struct ss_test_host *h = self;
	require_inst(h);
	if (!h->can_resume || memcmp(stream, h->resume.stream, sizeof h->resume.stream) != 0)
		return -ENOENT;
	*out = h->resume;
	return 0;
}

static int32_t positions_keep(void *self, const char *path)
{
	struct ss_test_host *h = self;
	require_inst(h);
	require(!h->impl->stream_log && h->n_kept == 0, "keep() twice, or after restore()");
	if (!h->checkpointer)
		return 0;
	h->impl->stream_log = stream_log_new(path);
	require(h->impl->stream_log, "out of memory");
	return 0;
}

static int32_t positions_sync(void *self, const void *snapshot, size_t size, int32_t durable)
{
	struct ss_test_host *h = self;
	return stream_log_sync(h->impl->stream_log, snapshot, size, durable);
}

static void positions_committed(void *self, const void *snapshot, size_t size)
{
	struct ss_test_host *h = self;
	stream_log_committed(h->impl->stream_log, snapshot, size);
}

const struct ss_positions test_positions = {
	.struct_size = sizeof(struct ss_positions),
	.checkpointer = positions_checkpointer,
	.restore = positions_restore,
	.cover = positions_cover,
	.rewind = positions_rewind,
	.snapshot = positions_snapshot,
	.resume = positions_resume,
	.keep = positions_keep,
	.sync = positions_sync,
	.committed = positions_committed,
};

/* The part that the instance does not have yet, as the host would offer it: a child, or the batch itself. */
static struct ss_batch *without_duplicates(struct ss_test_host *h, struct stream *st, struct ss_batch *batch,
					   uint32_t fresh)
{
	if (fresh == batch->count)
		return batch;
	struct ss_batch *part = h->host.batch_new(&h->host, batch, fresh, 0);
	for (uint32_t i = 0; i < batch->count; i++)
		if (!stream_has(st, &batch->events[i]))
			part->events[part->count++] = batch->events[i];
	((struct batch *)part)->is_part = true;
	return part;
}

/* Not needed any more: what is not the test's own batch. */
static void let_go(const struct ss_test_host *h, const struct ss_batch *batch, struct ss_batch *part)
{
	if (part != batch)
		h->host.batch_unref(part);
}

int32_t ss_test_host_process(struct ss_test_host *h, uint32_t port, struct ss_batch *batch)
{
	struct stream *st = NULL;
	struct ss_batch *part = batch;

	if (h->impl->streams && batch->token && batch->token->has_position) {
		const struct ss_position *at = &batch->token->position;
		st = streams_get(h->impl->streams, port, batch->token->source, batch->token->position.stream);
		require(st, "out of memory");
		int64_t fresh = stream_offer(st, at, batch);
		if (fresh < 0)
			return (int32_t)fresh;
		h->duplicates += batch->count - (uint64_t)fresh;
		if (fresh == 0 && batch->count)
			return SS_DONE;
		part = without_duplicates(h, st, batch, (uint32_t)fresh);
		h->impl->offered = st;
		h->impl->offered_upto = stream_end(at, part);
	}
	int32_t rc = h->desc->process(h->self, port, part);
	if (rc >= 0 && rc != SS_BUSY)
		accept(h);
	h->impl->offered = NULL;
	if (rc < 0 && st)
		stream_fail(st, &batch->token->position, part);
	if (rc != SS_KEPT)
		let_go(h, batch, part);
	return rc;
}
