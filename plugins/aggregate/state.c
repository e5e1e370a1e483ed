/* SPDX-License-Identifier: MIT */
/*
 * state - checkpoints of an instance: their content, when they are made, and what follows when one is
 * durable. A checkpoint holds, as of one moment between two events: the host's positions of the input, the
 * groups, and the results that are not known to be durable downstream.  So after a crash each event counts
 * once and each result leaves under its old number.  On the instance's loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/positions.h>
#include "aggregate.h"
#include "json.h"

/* How much is saved before other work has its turn. */
#define STEP_GROUPS 512
#define STEP_BYTES  262144

/* A link's window is some 65,000 events or 16 MiB that are not durable: it is not to fill up. */
#define PRESS_EVENTS 32768
#define PRESS_BYTES  (6u << 20)
/* A source with a smaller window pauses sooner: a checkpoint is due when so many events came and then none
 * for longer than it took them to come. */
#define PAUSE_EVENTS 32
#define PAUSE_NS     UINT64_C(10000000)

#define GAP_NS   UINT64_C(5000000) /* at least, between two checkpoints */
#define RETRY_NS UINT64_C(1000000000)
#define LAST_NS  UINT64_C(1000000000) /* where a checkpoint takes longer, the end does not wait for one */
#define STALL_NS UINT64_C(5000000000) /* a write that takes longer is reported */

static const char cannot_write[] = "the checkpoint cannot be written";

static uint64_t now(const struct aggregate *a)
{
	return a->loop->now(a->loop_self);
}

/* ---- tokens ---- */

static bool grow_tokens(struct aggregate *a)
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

int state_hold(struct aggregate *a, const struct ss_batch *b)
{
	bool known = a->n_tokens > a->n_covered && a->tokens[a->n_tokens - 1] == b->token;

	if (b->token && !known) {
		if (!grow_tokens(a))
			return -ENOMEM;
		a->host->token_ref(b->token);
		a->tokens[a->n_tokens++] = b->token;
	}
	a->last_new_ns = now(a);
	if (!a->new_events)
		a->first_new_ns = a->last_new_ns;
	a->new_events += b->count;
	for (uint32_t i = 0; i < b->count; i++)
		a->new_bytes += b->events[i].len;
	a->changed = true;
	return 0;
}

/* The first n are finished. */
static void release_tokens(struct aggregate *a, uint32_t n, int32_t status)
{
	for (uint32_t i = 0; i < n; i++)
		a->host->token_unref(a->tokens[i], status);
	a->n_tokens -= n;
	if (a->n_tokens)
		memmove(a->tokens, a->tokens + n, a->n_tokens * sizeof(*a->tokens));
	a->n_covered = 0;
}

/* ---- making one ---- */

static void save_positions(struct aggregate *a, struct ss_strbuf *out)
{
	int64_t size = a->positions ? a->positions->snapshot(a->positions_self, NULL, 0) : 0;

	if (size < 0) {
		out->failed = true;
		return;
	}
	ss_strbuf_u64(out, (uint64_t)size);
	char *room = ss_strbuf_room(out, (size_t)size);
	if (room && size && a->positions->snapshot(a->positions_self, room, (size_t)size) == size)
		out->len += (size_t)size;
	else if (size)
		out->failed = true;
}

static void begin(struct aggregate *a)
{
	struct ss_strbuf *all = &a->snapshot[0], *groups = &a->snapshot[1];

	for (int i = 0; i < CHECKPOINT_PARTS; i++)
		ss_strbuf_clear(&a->snapshot[i]);
	ss_strbuf_u64(all, a->plan.fingerprint);
	engine_save(a->engine, all);
	save_positions(a, all);
	outbox_save_begin(a->outbox, all);
	ss_strbuf_u64(groups, 0); /* their number, as soon as it is known */
	groups_save_begin(a->engine->groups, groups);
	a->snapshot_last = outbox_last(a->outbox);
	a->snapshot_gone = outbox_gone(a->outbox);
	a->n_covered = a->n_tokens;
	a->covered_since_ns = a->new_events ? a->first_new_ns : 0;
	a->new_events = a->new_bytes = 0;
	a->changed = false;
	a->begun_ns = now(a);
	a->phase = PHASE_GATHERING;
}

/* The next checkpoint covers what this one should have. */
static void give_up(struct aggregate *a, const char *step, int rc)
{
	a->host->metric_add(a->host, METRIC_CHECKPOINT_ERRORS, 1);
	ss_log(a->host, SS_LOG_ERROR,
	       "The checkpoint cannot be written, trying again each second: until then sources get no "
	       "acknowledgement and no result leaves step=\"%s\" path=%s error=%s",
	       step, a->plan.checkpoint_path, strerror(-rc));
	a->host->set_health(a->host, cannot_write);
	a->failing = true;
	a->n_covered = 0;
	if (a->covered_since_ns) {
		a->first_new_ns = a->covered_since_ns;
		a->new_events += !a->new_events;
	}
	a->covered_since_ns = 0;
	a->changed = true;
	a->phase = PHASE_IDLE;
	a->ended_ns = now(a);
}

static void finish_gathering(struct aggregate *a)
{
	if (a->snapshot[0].failed || a->snapshot[1].failed) {
		give_up(a, "gather", -ENOMEM);
		return;
	}
	put_u64(a->snapshot[1].bytes, a->engine->groups->saved_groups);
	a->phase = PHASE_WRITING;
	checkpoint_write(a->checkpoint, a->snapshot);
}

static void finish_writing(struct aggregate *a, bool wait)
{
	const char *step;
	int rc;

	if (!checkpoint_take(a->checkpoint, wait, &rc, &step))
		return;
	if (rc < 0) {
		give_up(a, step, rc);
		return;
	}
	if (a->failing) {
		ss_log(a->host, SS_LOG_INFO, "The checkpoint can be written again path=%s",
		       a->plan.checkpoint_path);
		a->host->set_health(a->host, NULL);
		a->failing = false;
	}
	a->ended_ns = now(a);
	a->took_ns = a->ended_ns - a->begun_ns;
	a->host->metric_add(a->host, METRIC_CHECKPOINTS, 1);
	a->host->metric_set(a->host, METRIC_CHECKPOINT_BYTES,
			    (int64_t)(a->snapshot[0].len + a->snapshot[1].len));
	a->phase = PHASE_IDLE;
	a->covered_since_ns = 0;
	a->durable_last = a->snapshot_last;
	release_tokens(a, a->n_covered, SS_DELIVERED);
}

void state_check_stall(struct aggregate *a)
{
	uint64_t running = a->checkpoint ? checkpoint_running_ns(a->checkpoint) : 0;
	uint64_t oldest = a->covered_since_ns ? a->covered_since_ns : a->new_events ? a->first_new_ns : 0;
	char text[96];

	if (!a->checkpoint)
		return;
	a->host->metric_set(a->host, METRIC_OLDEST_UNSAVED,
			    oldest ? (int64_t)((now(a) - oldest) / 1000000000) : 0);
	if (running < STALL_NS) {
		if (a->stalled) {
			ss_log(a->host, SS_LOG_INFO, "The disk answers again path=%s",
			       a->plan.checkpoint_path);
			a->host->set_degraded(a->host, NULL);
		}
		a->stalled = false;
		return;
	}
	if (!a->stalled) {
		a->host->metric_add(a->host, METRIC_CHECKPOINT_STALLS, 1);
		ss_log(a->host, SS_LOG_WARN,
		       "Writing the checkpoint takes longer than %llu s: until the disk answers, sources get "
		       "no acknowledgement and no result leaves path=%s",
		       (unsigned long long)(STALL_NS / 1000000000), a->plan.checkpoint_path);
	}
	a->stalled = true;
	snprintf(text, sizeof text, "writing the checkpoint has taken %llu s so far",
		 (unsigned long long)(running / 1000000000));
	a->host->set_degraded(a->host, text);
}

/* ---- when ---- */

static void on_checkpoint_timer(void *arg)
{
	struct aggregate *a = arg;

	a->checkpoint_timer = 0;
	aggregate_step(a);
}

static void wake_at(struct aggregate *a, uint64_t at, uint64_t t)
{
	if (a->checkpoint_timer && a->checkpoint_at_ns <= at)
		return; /* is_due() is asked again by then */
	if (a->checkpoint_timer)
		a->loop->cancel(a->loop_self, a->checkpoint_timer);
	a->checkpoint_timer = 0;
	a->checkpoint_at_ns = at;
	(void)a->loop->timer(a->loop_self, at - t, 0, on_checkpoint_timer, a, &a->checkpoint_timer);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* So many halves of the time that the last checkpoint took after its end. */
static uint64_t after(const struct aggregate *a, uint64_t halves)
{
	return a->ended_ns + most(a->took_ns * halves / 2, GAP_NS);
}

/* When the next checkpoint is due; UINT64_MAX: there is no need for one.  With large states they take long:
 * they are made in a fifth of the time, in two thirds of it where a source would have to wait. */
static uint64_t next_time(const struct aggregate *a)
{
	uint64_t interval = a->ended_ns + (uint64_t)a->plan.checkpoint_ns, at = UINT64_MAX;

	if (a->failing)
		return a->ended_ns + RETRY_NS;
	if (a->changed || outbox_gone(a->outbox) > a->snapshot_gone)
		at = most(interval, after(a, 8));
	if (outbox_last(a->outbox) > a->snapshot_last)
		at = least(at, after(a, 8));
	if (a->n_tokens && (a->new_events >= PRESS_EVENTS || a->new_bytes >= PRESS_BYTES))
		at = least(at, after(a, 1));
	else if (a->n_tokens && a->new_events >= PAUSE_EVENTS)
		at = least(at, most(2 * a->last_new_ns - a->first_new_ns + PAUSE_NS, after(a, 8)));
	if (a->draining && (a->changed || outbox_last(a->outbox) > a->snapshot_last))
		at = a->ended_ns;
	return at;
}

static bool is_due(struct aggregate *a)
{
	uint64_t at = next_time(a), t;

	if (at == UINT64_MAX ||
	    a->engine->sliding) /* a window that is half reported cannot be in a snapshot */
		return false;
	t = now(a);
	if (t >= at)
		return true;
	wake_at(a, at, t);
	return false;
}

bool state_step(struct aggregate *a)
{
	if (!a->checkpoint)
		return false;
	if (a->phase == PHASE_WRITING) {
		finish_writing(a, false);
		if (a->stalled)
			state_check_stall(a);
	}
	if (a->phase == PHASE_IDLE && is_due(a))
		begin(a);
	if (a->phase == PHASE_GATHERING && outbox_save_step(a->outbox, STEP_BYTES) &&
	    groups_save_step(a->engine->groups, STEP_GROUPS))
		finish_gathering(a);
	return a->phase == PHASE_GATHERING;
}

bool state_is_durable(const struct aggregate *a)
{
	if (!a->checkpoint)
		return true;
	return a->phase == PHASE_IDLE && !a->changed && !a->n_tokens && !a->failing &&
	       outbox_last(a->outbox) == a->snapshot_last &&
	       (!outbox_waiting(a->outbox) || outbox_failed(a->outbox));
}

void state_write_last(struct aggregate *a)
{
	if (!a->checkpoint || a->phase != PHASE_IDLE || outbox_gone(a->outbox) == a->snapshot_gone ||
	    a->took_ns > LAST_NS)
		return;
	begin(a);
	while (a->phase == PHASE_GATHERING)
		state_step(a);
	if (a->phase == PHASE_WRITING)
		finish_writing(a, true);
}

/* ---- at start ---- */

static int load_positions(struct aggregate *a, struct ss_unpack *r)
{
	uint64_t size = ss_unpack_u64(r);
	const uint8_t *bytes = ss_unpack_bytes(r, size);

	if (!bytes)
		return -EINVAL;
	return size && a->positions ? a->positions->restore(a->positions_self, bytes, size) : 0;
}

static int load(struct aggregate *a, struct ss_unpack *r)
{
	struct saved_group group;

	if (ss_unpack_u64(r) != a->plan.fingerprint)
		return r->failed ? -EINVAL : -ESTALE;
	int rc = engine_load(a->engine, r);
	if (rc == 0)
		rc = load_positions(a, r);
	if (rc == 0)
		rc = outbox_load(a->outbox, r);
	for (uint64_t n = ss_unpack_u64(r); n && rc == 0 && !r->failed; n--) {
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
	if (rc == -EPROTONOSUPPORT)
		return "another version of semstreams wrote it; use that version, or remove the file to "
		       "begin anew";
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
		struct ss_unpack r = {.at = bytes, .end = bytes + len};
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

/* Components downstream tell duplicates by the numbers of results: with a file older than what they know,
 * numbers would be given a second time. */
static int check_downstream(struct aggregate *a)
{
	struct ss_position have;

	if (!a->positions || a->positions->resume(a->positions_self, &have) < 0 ||
	    memcmp(have.epoch, outbox_epoch(a->outbox), sizeof have.epoch) != 0 ||
	    have.seq <= outbox_last(a->outbox))
		return 0;
	ss_log(a->host, SS_LOG_ERROR,
	       "The checkpoint is older than the results that components downstream have (restored from a "
	       "backup?): results may arrive twice path=%s",
	       a->plan.checkpoint_path);
	a->durable_last = 0; /* not before the new epoch is durable */
	a->changed = true;
	return outbox_renew(a->outbox);
}

/* The host removes duplicates, with or without a file. */
static void be_checkpointer(struct aggregate *a, uint32_t cover)
{
	struct ss_iface positions;

	if (a->host->query(a->host, SS_POSITIONS, sizeof(struct ss_positions), &positions) < 0)
		return;
	a->positions = positions.vtbl;
	a->positions_self = positions.self;
	a->positions->checkpointer(a->positions_self, cover);
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

int state_start(struct aggregate *a)
{
	be_checkpointer(a, a->plan.checkpoint_path ? SS_COVER_ACCEPTED : SS_COVER_NOTHING);
	if (!a->plan.checkpoint_path)
		return 0;
	int rc = checkpoint_new(a->plan.checkpoint_path, written, a, &a->checkpoint);
	if (rc == 0)
		rc = restore(a);
	if (rc == 0)
		rc = check_downstream(a);
	if (rc < 0) {
		ss_log(a->host, SS_LOG_ERROR, "The checkpoint cannot be used path=%s reason=\"%s\"",
		       a->plan.checkpoint_path, explain(rc));
		return rc;
	}
	engine_loaded(a->engine);
	a->ended_ns = now(a);
	return 0;
}

void state_done(struct aggregate *a)
{
	checkpoint_free(a->checkpoint);
	a->checkpoint = NULL;
	release_tokens(a, a->n_tokens, SS_FAILED);
	free(a->tokens);
	for (int i = 0; i < CHECKPOINT_PARTS; i++)
		ss_strbuf_done(&a->snapshot[i]);
	a->tokens = NULL;
	a->tokens_room = 0;
}
