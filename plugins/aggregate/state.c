/* SPDX-License-Identifier: MIT */
/*
 * keep - checkpoints of an instance: what is in them, when they are taken, and what follows when one is
 * durable.  One holds, as of one moment between two events: how far every input's stream has come, the
 * groups, and the results that nobody behind is known to have.  So after a crash each event counts once and
 * each result leaves under its old number.  On the instance's loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/positions.h>
#include "aggregate.h"

/* What is saved before other work has its turn. */
#define STEP_GROUPS 512
#define STEP_BYTES  262144

/* A source may be some 65,000 events or 16 MiB ahead of what is durable: it is not to wait. */
#define PRESS_EVENTS 32768
#define PRESS_BYTES  (6u << 20)
/* One that is allowed less has to: after so many events nothing comes, for longer than it took them to come.
 */
#define STALL_EVENTS 32
#define STALL_NS     UINT64_C(10000000)

#define GAP_NS   UINT64_C(5000000) /* at least, between two checkpoints */
#define RETRY_NS UINT64_C(1000000000)
#define LAST_NS  UINT64_C(1000000000) /* for a longer one the end does not wait */

static uint64_t now(const struct aggregate *a)
{
	return a->loop->now(a->loop_self);
}

/* ---- tokens ---- */

static bool room_for_token(struct aggregate *a)
{
	if (a->n_tokens < a->tokens_room)
		return true;
	uint32_t room = a->tokens_room ? 2 * a->tokens_room : 64;
	struct ss_token **tokens = realloc(a->tokens, room * sizeof *tokens);
	if (!tokens)
		return false;
	a->tokens = tokens;
	a->tokens_room = room;
	return true;
}

int keep_token(struct aggregate *a, const struct ss_batch *b)
{
	bool known = a->n_tokens > a->n_covered && a->tokens[a->n_tokens - 1] == b->token;

	if (b->token && !known) {
		if (!room_for_token(a))
			return -ENOMEM;
		a->host->token_ref(b->token);
		a->tokens[a->n_tokens++] = b->token;
	}
	a->last_held_ns = now(a);
	if (!a->held_events)
		a->first_held_ns = a->last_held_ns;
	a->held_events += b->count;
	for (uint32_t i = 0; i < b->count; i++)
		a->held_bytes += b->events[i].len;
	a->changed = true;
	return 0;
}

/* The first n are dealt with. */
static void release_tokens(struct aggregate *a, uint32_t n, int32_t status)
{
	for (uint32_t i = 0; i < n; i++)
		a->host->token_unref(a->tokens[i], status);
	a->n_tokens -= n;
	if (a->n_tokens)
		memmove(a->tokens, a->tokens + n, a->n_tokens * sizeof(*a->tokens));
	a->n_covered = 0;
}

/* ---- streams ---- */

int keep_stream(struct aggregate *a, uint32_t port, const struct ss_batch *b, struct stream **out,
		struct ss_position *position)
{
	const char *source;

	*out = NULL;
	if (a->host->position(b, position, &source) < 0 || strlen(source) >= SOURCE_MAX)
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

static void begin(struct aggregate *a)
{
	struct text *all = &a->snapshot[0], *groups = &a->snapshot[1];

	for (int i = 0; i < CHECKPOINT_PARTS; i++) {
		a->snapshot[i].len = 0;
		a->snapshot[i].failed = false;
	}
	text_u64(all, a->plan.fingerprint);
	engine_save(a->engine, all);
	save_streams(a, all);
	outbox_save_begin(a->outbox, all);
	text_u64(groups, 0); /* their number, when it is known */
	groups_save_begin(a->engine->groups, groups);
	a->snapshot_last = outbox_last(a->outbox);
	a->snapshot_gone = outbox_gone(a->outbox);
	a->n_covered = a->n_tokens;
	a->held_events = a->held_bytes = 0;
	a->changed = false;
	a->begun_ns = now(a);
	a->keeping = KEEP_SAVING;
}

/* It did not work: what it covered waits for the next one. */
static void give_up(struct aggregate *a, const char *what, int rc)
{
	a->host->metric_add(a->host, METRIC_CHECKPOINT_ERRORS, 1);
	ss_log(a->host, SS_LOG_ERROR,
	       "The checkpoint cannot be written, trying again: sources and results wait "
	       "what=\"%s\" path=%s error=%s",
	       what, a->plan.checkpoint_path, strerror(-rc));
	a->host->set_health(a->host, "the checkpoint cannot be written");
	a->trouble = true;
	a->n_covered = 0;
	a->changed = true;
	a->keeping = KEEP_IDLE;
	a->ended_ns = now(a);
}

static void finish_saving(struct aggregate *a)
{
	struct text number = {.bytes = a->snapshot[1].bytes, .size = 8};

	if (a->snapshot[0].failed || a->snapshot[1].failed) {
		give_up(a, "gather", -ENOMEM);
		return;
	}
	text_u64(&number, a->engine->groups->saved_groups);
	a->keeping = KEEP_WRITING;
	checkpoint_write(a->checkpoint, a->snapshot);
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
		ss_log(a->host, SS_LOG_INFO, "The checkpoint can be written again path=%s",
		       a->plan.checkpoint_path);
		a->host->set_health(a->host, NULL);
		a->trouble = false;
	}
	a->ended_ns = now(a);
	a->took_ns = a->ended_ns - a->begun_ns;
	a->host->metric_add(a->host, METRIC_CHECKPOINTS, 1);
	a->host->metric_set(a->host, METRIC_CHECKPOINT_BYTES,
			    (int64_t)(a->snapshot[0].len + a->snapshot[1].len));
	a->keeping = KEEP_IDLE;
	a->durable_last = a->snapshot_last;
	release_tokens(a, a->n_covered, SS_DELIVERED);
}

/* ---- when ---- */

static void on_keep_timer(void *arg)
{
	struct aggregate *a = arg;

	a->keep_timer = 0;
	aggregate_step(a);
}

static void wake_at(struct aggregate *a, uint64_t at, uint64_t t)
{
	if (a->keep_timer && a->keep_at <= at)
		return; /* then it is looked at again */
	if (a->keep_timer)
		a->loop->cancel(a->loop_self, a->keep_timer);
	a->keep_timer = 0;
	a->keep_at = at;
	(void)a->loop->timer(a->loop_self, at - t, 0, on_keep_timer, a, &a->keep_timer);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* After the last one, for so many halves of what it took. */
static uint64_t after(const struct aggregate *a, uint64_t halves)
{
	return a->ended_ns + most(a->took_ns * halves / 2, GAP_NS);
}

/* When the next one is to be taken; UINT64_MAX: there is no need.  A large one takes long: they are made in a
 * fifth of the time, in two thirds of it where a source would have to wait. */
static uint64_t next_time(const struct aggregate *a)
{
	uint64_t interval = a->ended_ns + (uint64_t)a->plan.checkpoint_ns, at = UINT64_MAX;

	if (a->trouble)
		return a->ended_ns + RETRY_NS;
	if (a->changed || outbox_gone(a->outbox) > a->snapshot_gone)
		at = most(interval, after(a, 8));
	if (outbox_last(a->outbox) > a->snapshot_last)
		at = least(at, after(a, 8));
	if (a->n_tokens && (a->held_events >= PRESS_EVENTS || a->held_bytes >= PRESS_BYTES))
		at = least(at, after(a, 1));
	else if (a->n_tokens && a->held_events >= STALL_EVENTS)
		at = least(at, most(2 * a->last_held_ns - a->first_held_ns + STALL_NS, after(a, 8)));
	if (a->draining && (a->changed || outbox_last(a->outbox) > a->snapshot_last))
		at = a->ended_ns;
	return at;
}

static bool is_due(struct aggregate *a)
{
	uint64_t at = next_time(a), t;

	if (at == UINT64_MAX || a->engine->sliding) /* a window that is half reported is in no snapshot */
		return false;
	t = now(a);
	if (t >= at)
		return true;
	wake_at(a, at, t);
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
	if (a->keeping == KEEP_SAVING && outbox_save_step(a->outbox, STEP_BYTES) &&
	    groups_save_step(a->engine->groups, STEP_GROUPS))
		finish_saving(a);
	return a->keeping == KEEP_SAVING;
}

bool keep_is_clean(const struct aggregate *a)
{
	if (!a->checkpoint)
		return true;
	return a->keeping == KEEP_IDLE && !a->changed && !a->n_tokens && !a->trouble &&
	       outbox_last(a->outbox) == a->snapshot_last &&
	       (!outbox_waiting(a->outbox) || outbox_failed(a->outbox));
}

void keep_last(struct aggregate *a)
{
	if (!a->checkpoint || a->keeping != KEEP_IDLE || outbox_gone(a->outbox) == a->snapshot_gone ||
	    a->took_ns > LAST_NS)
		return;
	begin(a);
	while (a->keeping == KEEP_SAVING)
		keep_step(a);
	if (a->keeping == KEEP_WRITING)
		checkpoint_wait(a->checkpoint);
	finish_writing(a);
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
	for (uint64_t n = reading_u64(r); n && rc == 0 && !r->failed; n--) {
		rc = groups_read(r, &group);
		rc = rc == 1 ? engine_load_group(a->engine, &group) : -EINVAL;
	}
	if (rc == 0 && (r->failed || r->at != r->end))
		rc = -EINVAL;
	return rc == 0 ? groups_loaded(a->engine->groups) : rc;
}

static const char *explain(int rc)
{
	if (rc == -ESTALE)
		return "it belongs to another window, time, group_by or functions; restore those, or remove "
		       "the file to begin anew";
	if (rc == -EINVAL)
		return "it is damaged; restore it, or remove it to begin anew";
	if (rc == -EBUSY)
		return "another component or process has it; each needs a file of its own";
	if (rc == -ENOENT)
		return "its folder does not exist; create it";
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
	if (rc < 0)
		return rc == -ENOENT ? -EINVAL : rc;
	a->durable_last = a->snapshot_last = outbox_last(a->outbox);
	a->snapshot_gone = outbox_gone(a->outbox);
	ss_log(a->host, SS_LOG_INFO, "Checkpoint restored path=%s groups=%u results_unacknowledged=%llu",
	       a->plan.checkpoint_path, a->engine->groups->n, (unsigned long long)outbox_waiting(a->outbox));
	return 0;
}

/* Those behind tell duplicates by the numbers: an older file than the one they know of would go on with
 * numbers that are used up. */
static int look_behind(struct aggregate *a)
{
	struct ss_position have;

	if (a->positions->resume(a->positions_self, &have) < 0 ||
	    memcmp(have.epoch, outbox_epoch(a->outbox), sizeof have.epoch) != 0 ||
	    have.seq <= outbox_last(a->outbox))
		return 0;
	ss_log(a->host, SS_LOG_ERROR,
	       "The checkpoint was set back to an older one: results may come twice path=%s",
	       a->plan.checkpoint_path);
	a->durable_last = 0; /* not before the new name of the stream is durable */
	a->changed = true;
	return outbox_renew(a->outbox);
}

static int be_checkpointer(struct aggregate *a)
{
	struct ss_iface positions;

	if (a->host->query(a->host, SS_POSITIONS, sizeof(struct ss_positions), &positions) < 0)
		return 0;
	a->positions = positions.vtbl;
	a->positions_self = positions.self;
	a->positions->checkpointer(a->positions_self, SS_COVER_ACCEPTED);
	for (uint32_t i = 0; i < a->n_streams; i++)
		(void)a->positions->kept(a->positions_self, a->streams[i].port, a->streams[i].source,
					 &a->streams[i].taken);
	return look_behind(a);
}

static void on_written(void *arg)
{
	aggregate_step(arg);
}

/* In the writer's thread. */
static void written(void *arg)
{
	struct aggregate *a = arg;

	(void)a->loop->post(a->loop_self, on_written, a);
}

int keep_start(struct aggregate *a)
{
	if (!a->plan.checkpoint_path)
		return 0;
	int rc = checkpoint_new(a->plan.checkpoint_path, written, a, &a->checkpoint);
	if (rc == 0)
		rc = restore(a);
	if (rc == 0)
		rc = be_checkpointer(a);
	if (rc < 0) {
		ss_log(a->host, SS_LOG_ERROR, "The checkpoint cannot be used path=%s reason=\"%s\"",
		       a->plan.checkpoint_path, explain(rc));
		return rc;
	}
	engine_loaded(a->engine);
	a->ended_ns = now(a);
	return 0;
}

void keep_done(struct aggregate *a)
{
	checkpoint_free(a->checkpoint);
	a->checkpoint = NULL;
	release_tokens(a, a->n_tokens, SS_FAILED);
	free(a->tokens);
	free(a->streams);
	for (int i = 0; i < CHECKPOINT_PARTS; i++)
		text_done(&a->snapshot[i]);
	a->tokens = NULL;
	a->tokens_room = 0;
	a->streams = NULL;
	a->n_streams = 0;
}
