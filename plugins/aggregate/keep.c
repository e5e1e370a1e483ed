/* SPDX-License-Identifier: MIT */
/*
 * keep - check-points of an instance: what is in them, when they are taken, and what follows when one is
 * durable.  One holds, as of one moment between two events: how far every input's stream has come, the
 * groups, and the results that nobody behind is known to have.  So after a crash each event counts once and
 * each result leaves under its old number.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "aggregate.h"

#define STEP_SLABS   2
#define PRESS_EVENTS 16384 /* a link lets its sender be some 65,000 events ahead */
#define GAP_MIN_NS   UINT64_C(5000000)
#define RETRY_NS     UINT64_C(1000000000)

/* ---- tokens ---- */

int keep_token(struct aggregate *a, struct ss_token *token, uint32_t events)
{
	a->changed = true;
	a->held_events += events;
	if (a->held_events >= PRESS_EVENTS)
		a->pressed = true;
	if (!token || (a->n_tokens && a->tokens[a->n_tokens - 1] == token))
		return 0;
	if (a->n_tokens == a->tokens_room) {
		uint32_t room = a->tokens_room ? 2 * a->tokens_room : 64;
		struct ss_token **tokens = realloc(a->tokens, room * sizeof *tokens);
		if (!tokens)
			return -ENOMEM;
		a->tokens = tokens;
		a->tokens_room = room;
	}
	a->host->token_ref(token);
	a->tokens[a->n_tokens++] = token;
	return 0;
}

static void release(struct aggregate *a, struct ss_token **tokens, uint32_t n, int32_t status)
{
	for (uint32_t i = 0; i < n; i++)
		a->host->token_unref(tokens[i], status);
}

/* ---- streams ---- */

int keep_stream(struct aggregate *a, uint32_t port, const struct ss_batch *b, struct stream **out,
		struct ss_position *position)
{
	const char *source;

	*out = NULL;
	if (!a->checkpoint || a->host->position(b, position, &source) < 0 || strlen(source) >= SOURCE_MAX)
		return 0;
	for (uint32_t i = 0; i < a->n_streams; i++) {
		if (a->streams[i].port == port && strcmp(a->streams[i].source, source) == 0) {
			*out = &a->streams[i];
			return 0;
		}
	}
	struct stream *streams = realloc(a->streams, (a->n_streams + 1) * sizeof *streams);
	if (!streams)
		return -ENOMEM;
	a->streams = streams;
	*out = &streams[a->n_streams++];
	**out = (struct stream){.port = port};
	memcpy((*out)->source, source, strlen(source) + 1);
	memcpy((*out)->taken.epoch, position->epoch, sizeof position->epoch);
	return 0;
}

static void save_streams(const struct aggregate *a, struct text *out)
{
	text_u64(out, a->n_streams);
	for (uint32_t i = 0; i < a->n_streams; i++) {
		const struct stream *s = &a->streams[i];
		text_u64(out, s->port);
		text_bytes(out, s->source, sizeof s->source);
		text_bytes(out, s->taken.epoch, sizeof s->taken.epoch);
		text_u64(out, s->taken.seq);
	}
}

static int load_streams(struct aggregate *a, struct reading *r)
{
	uint64_t n = reading_u64(r);

	if (r->failed || n > 65536)
		return -EINVAL;
	a->streams = calloc(n + 1, sizeof *a->streams);
	if (!a->streams)
		return -ENOMEM;
	for (; a->n_streams < n; a->n_streams++) {
		struct stream *s = &a->streams[a->n_streams];
		s->port = (uint32_t)reading_u64(r);
		const uint8_t *source = reading_bytes(r, sizeof s->source);
		const uint8_t *epoch = reading_bytes(r, sizeof s->taken.epoch);
		s->taken.seq = reading_u64(r);
		if (r->failed)
			return -EINVAL;
		memcpy(s->source, source, sizeof s->source - 1);
		memcpy(s->taken.epoch, epoch, sizeof s->taken.epoch);
	}
	return 0;
}

/* ---- taking one ---- */

static uint64_t now(const struct aggregate *a)
{
	return a->loop->now(a->loop_self);
}

static void begin(struct aggregate *a)
{
	struct text *out = &a->snapshot;

	out->len = 0;
	out->failed = false;
	text_u64(out, a->plan.fingerprint);
	engine_save(a->engine, out);
	save_streams(a, out);
	outbox_save(a->outbox, out);
	a->groups_at = out->len;
	text_u64(out, 0);
	a->snapshot_last = outbox_last(a->outbox);
	groups_save_begin(a->engine->groups, out);
	struct ss_token **tokens = a->covered;
	a->covered = a->tokens;
	a->n_covered = a->n_tokens;
	a->tokens = tokens;
	a->tokens_room = 0; /* the list may be shorter than the other */
	a->n_tokens = 0;
	a->held_events = 0;
	a->changed = a->pressed = false;
	a->begun_ns = now(a);
	a->keeping = KEEP_SAVING;
}

/* It did not work: what it covered waits for the next one. */
static void give_up(struct aggregate *a, const char *what, int rc)
{
	a->host->metric_add(a->host, METRIC_CHECKPOINT_ERRORS, 1);
	ss_log(a->host, SS_LOG_ERROR, "Check-point failed, trying again what=%s path=%s error=%s", what,
	       a->plan.checkpoint_path, strerror(-rc));
	a->host->unready(a->host, "the check-point cannot be written");
	a->trouble = true;
	uint32_t n = a->n_covered;
	struct ss_token **all = realloc(a->covered, (n + a->n_tokens + 1) * sizeof *all);
	if (!all) { /* sources keep waiting, and send again after a restart */
		a->n_covered = 0;
	} else {
		if (a->n_tokens)
			memcpy(all + n, a->tokens, a->n_tokens * sizeof *all);
		a->covered = a->tokens;
		a->tokens = all;
		a->n_tokens += n;
		a->tokens_room = a->n_tokens;
		a->n_covered = 0;
	}
	a->changed = true;
	a->keeping = KEEP_IDLE;
	a->ended_ns = now(a);
}

static void finish_saving(struct aggregate *a)
{
	struct text number = {.bytes = a->snapshot.bytes + a->groups_at, .size = 8};

	if (a->snapshot.failed) {
		give_up(a, "gather", -ENOMEM);
		return;
	}
	text_u64(&number, a->engine->groups->saved_groups);
	a->keeping = KEEP_WRITING;
	checkpoint_write(a->checkpoint, &a->snapshot);
}

static void finish_writing(struct aggregate *a)
{
	const char *why;
	int rc;

	if (!checkpoint_taken(a->checkpoint, &rc, &why))
		return;
	if (rc < 0) {
		give_up(a, why, rc);
		return;
	}
	if (a->trouble) {
		ss_log(a->host, SS_LOG_INFO, "Check-point written again path=%s", a->plan.checkpoint_path);
		a->host->unready(a->host, NULL);
		a->trouble = false;
	}
	a->ended_ns = now(a);
	a->took_ns = a->ended_ns - a->begun_ns;
	a->host->metric_add(a->host, METRIC_CHECKPOINTS, 1);
	a->host->metric_set(a->host, METRIC_CHECKPOINT_BYTES, (int64_t)a->snapshot.len);
	a->keeping = KEEP_IDLE;
	release(a, a->covered, a->n_covered, SS_DELIVERED);
	a->n_covered = 0;
	if (outbox_emit(a->outbox, a->snapshot_last) < 0)
		a->pressed = a->changed = true;
}

static void on_keep_timer(void *arg)
{
	struct aggregate *a = arg;

	a->keep_timer = 0;
	aggregate_step(a);
}

/* Is it time for one?  If later, a timer is set. */
static bool is_due(struct aggregate *a)
{
	bool soon = a->pressed || a->draining || outbox_last(a->outbox) > a->snapshot_last;
	uint64_t gap = a->took_ns / 2 > GAP_MIN_NS ? a->took_ns / 2 : GAP_MIN_NS;

	if (!a->changed && outbox_last(a->outbox) == a->snapshot_last && !a->n_tokens)
		return false;
	if (a->trouble)
		gap = RETRY_NS;
	else if (!soon)
		gap = (uint64_t)a->plan.checkpoint_ns;
	uint64_t at = a->ended_ns + gap, t = now(a);
	if (t >= at || !a->ended_ns)
		return true;
	if (a->keep_timer)
		a->loop->cancel(a->loop_self, a->keep_timer);
	a->keep_timer = 0;
	(void)a->loop->timer(a->loop_self, at - t, 0, on_keep_timer, a, &a->keep_timer);
	return false;
}

bool keep_step(struct aggregate *a)
{
	if (!a->checkpoint)
		return false;
	if (a->keeping == KEEP_WRITING)
		finish_writing(a);
	if (a->keeping == KEEP_IDLE && is_due(a))
		begin(a);
	if (a->keeping == KEEP_SAVING && groups_save_step(a->engine->groups, STEP_SLABS))
		finish_saving(a);
	return a->keeping == KEEP_SAVING;
}

bool keep_is_clean(const struct aggregate *a)
{
	return !a->checkpoint || (a->keeping == KEEP_IDLE && !a->changed && !a->n_tokens && !a->trouble &&
				  outbox_last(a->outbox) == a->snapshot_last && !outbox_waiting(a->outbox));
}

/* ---- at start ---- */

static int load(struct aggregate *a, struct reading *r)
{
	struct saved_group group;

	if (reading_u64(r) != a->plan.fingerprint)
		return r->failed ? -EINVAL : -ESTALE;
	int rc = engine_load(a->engine, r);
	if (rc == 0)
		rc = load_streams(a, r);
	if (rc == 0)
		rc = outbox_load(a->outbox, r);
	uint64_t n = reading_u64(r);
	for (; n && rc == 0 && !r->failed; n--) {
		rc = groups_read(r, &group);
		rc = rc == 1 ? engine_load_group(a->engine, &group) : -EINVAL;
	}
	if (rc == 0 && (r->failed || r->at != r->end))
		rc = -EINVAL;
	return rc;
}

static const char *explain(int rc)
{
	if (rc == -ESTALE)
		return "it belongs to another window, time, group_by or functions; restore those, or remove "
		       "the file "
		       "to begin anew";
	if (rc == -EINVAL)
		return "it is damaged; restore it, or remove it to begin anew";
	return strerror(-rc);
}

static int restore(struct aggregate *a)
{
	uint8_t *bytes = NULL;
	size_t len = 0;
	int rc = checkpoint_read(a->plan.checkpoint_path, &bytes, &len);

	if (rc == -ENOENT)
		return 0;
	if (rc == 0) {
		struct reading r = {.at = bytes, .end = bytes + len};
		rc = load(a, &r);
	}
	free(bytes);
	if (rc < 0) {
		ss_log(a->host, SS_LOG_ERROR, "Check-point cannot be used path=%s reason=\"%s\"",
		       a->plan.checkpoint_path, explain(rc));
		return rc;
	}
	a->snapshot_last = outbox_last(a->outbox);
	engine_loaded(a->engine);
	ss_log(a->host, SS_LOG_INFO, "Check-point restored path=%s groups=%u results_unacknowledged=%llu",
	       a->plan.checkpoint_path, a->engine->groups->n, (unsigned long long)outbox_waiting(a->outbox));
	return 0;
}

static void on_written(void *arg)
{
	struct aggregate *a = arg;

	aggregate_step(a);
}

/* In the writer's thread. */
static void written(void *arg)
{
	struct aggregate *a = arg;

	(void)a->loop->post(a->loop_self, on_written, a);
}

int keep_start(struct aggregate *a)
{
	struct ss_iface positions;

	if (!a->plan.checkpoint_path)
		return 0;
	int rc = restore(a);
	if (rc == 0)
		rc = checkpoint_new(a->plan.checkpoint_path, written, a, &a->checkpoint);
	if (rc < 0)
		return rc;
	if (a->host->query(a->host, SS_POSITIONS, sizeof(struct ss_positions), &positions) == 0) {
		a->positions = positions.vtbl;
		a->positions_self = positions.self;
		a->positions->keeper(a->positions_self);
		for (uint32_t i = 0; i < a->n_streams; i++)
			(void)a->positions->kept(a->positions_self, a->streams[i].port, a->streams[i].source,
						 &a->streams[i].taken);
	}
	return outbox_emit(a->outbox, a->snapshot_last);
}

void keep_done(struct aggregate *a)
{
	checkpoint_free(a->checkpoint);
	a->checkpoint = NULL;
	release(a, a->covered, a->n_covered, SS_FAILED);
	release(a, a->tokens, a->n_tokens, SS_FAILED);
	a->n_covered = a->n_tokens = 0;
	free(a->covered);
	free(a->tokens);
	free(a->streams);
	text_done(&a->snapshot);
	a->covered = a->tokens = NULL;
	a->streams = NULL;
}
