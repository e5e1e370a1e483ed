/* SPDX-License-Identifier: MIT */
/* state - see state.h. */
#include "state.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
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

static uint64_t now(const struct state *s)
{
	return s->loop->now(s->loop_self);
}

/* ---- tokens ---- */

static bool grow_tokens(struct state *s)
{
	if (s->n_tokens < s->tokens_room)
		return true;
	uint32_t room = s->tokens_room ? 2 * s->tokens_room : 64;
	struct ss_token **tokens = realloc(s->tokens, room * sizeof *tokens);
	if (!tokens)
		return false;
	s->tokens = tokens;
	s->tokens_room = room;
	return true;
}

int state_hold(struct state *s, const struct ss_batch *b)
{
	bool known = s->n_tokens > s->n_covered && s->tokens[s->n_tokens - 1] == b->token;

	if (b->token && !known) {
		if (!grow_tokens(s))
			return -ENOMEM;
		s->host->token_ref(b->token);
		s->tokens[s->n_tokens++] = b->token;
	}
	s->last_new_ns = now(s);
	if (!s->new_events)
		s->first_new_ns = s->last_new_ns;
	s->new_events += b->count;
	for (uint32_t i = 0; i < b->count; i++)
		s->new_bytes += b->events[i].len;
	s->changed = true;
	return 0;
}

/* The first n are finished. */
static void release_tokens(struct state *s, uint32_t n, int32_t status)
{
	for (uint32_t i = 0; i < n; i++)
		s->host->token_unref(s->tokens[i], status);
	s->n_tokens -= n;
	if (s->n_tokens)
		memmove(s->tokens, s->tokens + n, s->n_tokens * sizeof(*s->tokens));
	s->n_covered = 0;
}

/* ---- making one ---- */

static void save_positions(struct state *s, struct ss_strbuf *out)
{
	int64_t size = s->positions ? s->positions->snapshot(s->positions_self, NULL, 0) : 0;

	if (size < 0) {
		out->failed = true;
		return;
	}
	ss_strbuf_u64(out, (uint64_t)size);
	char *room = ss_strbuf_room(out, (size_t)size);
	s->positions_at = out->len;
	s->positions_len = (size_t)size;
	if (room && size && s->positions->snapshot(s->positions_self, room, (size_t)size) == size)
		out->len += (size_t)size;
	else if (size)
		out->failed = true;
}

/* Around a write, in its thread: the parts are the writer's. */
static int sync_positions(void *arg)
{
	struct state *s = arg;

	return s->positions->sync(s->positions_self, s->snapshot[0].bytes + s->positions_at, s->positions_len,
				  1);
}

static void positions_committed(void *arg)
{
	struct state *s = arg;

	s->positions->committed(s->positions_self, s->snapshot[0].bytes + s->positions_at, s->positions_len);
}

static void begin(struct state *s)
{
	struct ss_strbuf *all = &s->snapshot[0], *groups = &s->snapshot[1];

	for (int i = 0; i < CHECKPOINT_PARTS; i++)
		ss_strbuf_clear(&s->snapshot[i]);
	ss_strbuf_u64(all, s->plan->fingerprint);
	engine_save(s->engine, all);
	save_positions(s, all);
	outbox_save_begin(s->outbox, all);
	ss_strbuf_u64(groups, 0); /* their number, as soon as it is known */
	groups_save_begin(s->engine->groups, groups);
	s->snapshot_last = s->outbox->last;
	s->snapshot_gone = outbox_gone(s->outbox);
	s->n_covered = s->n_tokens;
	s->covered_since_ns = s->new_events ? s->first_new_ns : 0;
	s->new_events = s->new_bytes = 0;
	s->changed = false;
	s->begun_ns = now(s);
	s->phase = PHASE_GATHERING;
}

/* The next checkpoint covers what this one should have. */
static void give_up(struct state *s, const char *step, int rc)
{
	s->host->metric_add(s->host, METRIC_CHECKPOINT_ERRORS, 1);
	ss_log(s->host, SS_LOG_ERROR,
	       "The checkpoint cannot be written, trying again each second: until then sources get no "
	       "acknowledgement and no result leaves step=\"%s\" path=%s error=%s",
	       step, s->plan->checkpoint_path, strerror(-rc));
	s->host->set_health(s->host, cannot_write);
	s->failing = true;
	s->n_covered = 0;
	if (s->covered_since_ns) {
		s->first_new_ns = s->covered_since_ns;
		s->new_events += !s->new_events;
	}
	s->covered_since_ns = 0;
	s->changed = true;
	s->phase = PHASE_IDLE;
	s->ended_ns = now(s);
}

static void finish_gathering(struct state *s)
{
	if (s->snapshot[0].failed || s->snapshot[1].failed) {
		give_up(s, "gather", -ENOMEM);
		return;
	}
	put_u64(s->snapshot[1].bytes, s->engine->groups->saved_groups);
	s->phase = PHASE_WRITING;
	checkpoint_write(s->checkpoint, s->snapshot);
}

static void finish_writing(struct state *s, bool wait)
{
	const char *step;
	int rc;

	if (!checkpoint_take(s->checkpoint, wait, &rc, &step))
		return;
	if (rc < 0) {
		give_up(s, step, rc);
		return;
	}
	if (s->failing) {
		ss_log(s->host, SS_LOG_INFO, "The checkpoint can be written again path=%s",
		       s->plan->checkpoint_path);
		s->host->set_health(s->host, NULL);
		s->failing = false;
	}
	s->ended_ns = now(s);
	s->took_ns = s->ended_ns - s->begun_ns;
	s->host->metric_add(s->host, METRIC_CHECKPOINTS, 1);
	s->host->metric_set(s->host, METRIC_CHECKPOINT_BYTES,
			    (int64_t)(s->snapshot[0].len + s->snapshot[1].len));
	s->phase = PHASE_IDLE;
	s->covered_since_ns = 0;
	s->durable_last = s->snapshot_last;
	release_tokens(s, s->n_covered, SS_DELIVERED);
}

void state_check_stall(struct state *s)
{
	uint64_t running = s->checkpoint ? checkpoint_running_ns(s->checkpoint) : 0;
	uint64_t oldest = s->covered_since_ns ? s->covered_since_ns : s->new_events ? s->first_new_ns : 0;
	char text[96];

	if (!s->checkpoint)
		return;
	s->host->metric_set(s->host, METRIC_OLDEST_UNSAVED,
			    oldest ? (int64_t)((now(s) - oldest) / 1000000000) : 0);
	if (running < STALL_NS) {
		if (s->stalled) {
			ss_log(s->host, SS_LOG_INFO, "The disk answers again path=%s",
			       s->plan->checkpoint_path);
			s->host->set_degraded(s->host, s->refusals ? ss_refusals_trouble(s->refusals) : NULL);
		}
		s->stalled = false;
		return;
	}
	if (!s->stalled) {
		s->host->metric_add(s->host, METRIC_CHECKPOINT_STALLS, 1);
		ss_log(s->host, SS_LOG_WARN,
		       "Writing the checkpoint takes longer than %llu s: until the disk answers, sources get "
		       "no acknowledgement and no result leaves path=%s",
		       (unsigned long long)(STALL_NS / 1000000000), s->plan->checkpoint_path);
	}
	s->stalled = true;
	snprintf(text, sizeof text, "writing the checkpoint has taken %llu s so far",
		 (unsigned long long)(running / 1000000000));
	s->host->set_degraded(s->host, text);
}

/* ---- when ---- */

static void on_checkpoint_timer(void *arg)
{
	struct state *s = arg;

	s->checkpoint_timer = 0;
	s->step(s->arg);
}

static void wake_at(struct state *s, uint64_t at, uint64_t t)
{
	if (s->checkpoint_timer && s->checkpoint_at_ns <= at)
		return; /* is_due() is asked again by then */
	if (s->checkpoint_timer)
		s->loop->cancel(s->loop_self, s->checkpoint_timer);
	s->checkpoint_timer = 0;
	s->checkpoint_at_ns = at;
	(void)s->loop->timer(s->loop_self, at - t, 0, on_checkpoint_timer, s, &s->checkpoint_timer);
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
static uint64_t after(const struct state *s, uint64_t halves)
{
	return s->ended_ns + most(s->took_ns * halves / 2, GAP_NS);
}

/* When the next checkpoint is due; UINT64_MAX: there is no need for one.  With large states they take long:
 * they are made in a fifth of the time, in two thirds of it where a source would have to wait. */
static uint64_t next_time(const struct state *s)
{
	uint64_t interval = s->ended_ns + (uint64_t)s->plan->checkpoint_ns, at = UINT64_MAX;

	if (s->failing)
		return s->ended_ns + RETRY_NS;
	if (s->changed || outbox_gone(s->outbox) > s->snapshot_gone)
		at = most(interval, after(s, 8));
	if (s->outbox->last > s->snapshot_last)
		at = least(at, after(s, 8));
	if (s->n_tokens && (s->new_events >= PRESS_EVENTS || s->new_bytes >= PRESS_BYTES))
		at = least(at, after(s, 1));
	else if (s->n_tokens && s->new_events >= PAUSE_EVENTS)
		at = least(at, most(2 * s->last_new_ns - s->first_new_ns + PAUSE_NS, after(s, 8)));
	if (s->draining && (s->changed || s->outbox->last > s->snapshot_last))
		at = s->ended_ns;
	return at;
}

static bool is_due(struct state *s)
{
	uint64_t at = next_time(s), t;

	if (at == UINT64_MAX ||
	    s->engine->sliding) /* a window that is half reported cannot be in a snapshot */
		return false;
	t = now(s);
	if (t >= at)
		return true;
	wake_at(s, at, t);
	return false;
}

bool state_step(struct state *s)
{
	if (!s->checkpoint)
		return false;
	if (s->phase == PHASE_WRITING) {
		finish_writing(s, false);
		if (s->stalled)
			state_check_stall(s);
	}
	if (s->phase == PHASE_IDLE && is_due(s))
		begin(s);
	if (s->phase == PHASE_GATHERING && outbox_save_step(s->outbox, STEP_BYTES) &&
	    groups_save_step(s->engine->groups, STEP_GROUPS))
		finish_gathering(s);
	return s->phase == PHASE_GATHERING;
}

bool state_is_durable(const struct state *s)
{
	if (!s->checkpoint)
		return true;
	return s->phase == PHASE_IDLE && !s->changed && !s->n_tokens && !s->failing &&
	       s->outbox->last == s->snapshot_last && (!s->outbox->n_unsent || s->outbox->failed);
}

void state_write_last(struct state *s)
{
	if (!s->checkpoint || s->phase != PHASE_IDLE || outbox_gone(s->outbox) == s->snapshot_gone ||
	    s->took_ns > LAST_NS)
		return;
	begin(s);
	while (s->phase == PHASE_GATHERING)
		state_step(s);
	if (s->phase == PHASE_WRITING)
		finish_writing(s, true);
}

/* ---- at start ---- */

static int load_positions(struct state *s, struct ss_unpack *r)
{
	uint64_t size = ss_unpack_u64(r);
	const uint8_t *bytes = ss_unpack_bytes(r, size);

	if (!bytes)
		return -EINVAL;
	return size && s->positions ? s->positions->restore(s->positions_self, bytes, size) : 0;
}

static int load(struct state *s, struct ss_unpack *r)
{
	struct saved_group group;

	if (ss_unpack_u64(r) != s->plan->fingerprint)
		return r->failed ? -EINVAL : -ESTALE;
	int rc = engine_load(s->engine, r);
	if (rc == 0)
		rc = load_positions(s, r);
	if (rc == 0)
		rc = outbox_load(s->outbox, r);
	for (uint64_t n = ss_unpack_u64(r); n && rc == 0 && !r->failed; n--) {
		rc = groups_read(r, &group);
		rc = rc == 1 ? engine_load_group(s->engine, &group) : -EINVAL;
	}
	if (rc == 0 && (r->failed || r->at != r->end))
		rc = -EINVAL;
	return rc == 0 ? groups_loaded(s->engine->groups) : rc;
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
	if (rc == -EBADMSG)
		return "the positions beside it (.positions.N) are damaged or gone; restore them, or remove "
		       "the checkpoint to begin anew";
	if (rc == -EBUSY)
		return "another component or process has it; each needs a file of its own";
	if (rc == -ENOENT)
		return "its folder does not exist; create it";
	return strerror(-rc);
}

static int restore(struct state *s)
{
	uint8_t *bytes = NULL;
	size_t len = 0;
	int rc = checkpoint_read(s->plan->checkpoint_path, &bytes, &len);

	if (rc == -ENOENT)
		return 0;
	if (rc == 0) {
		struct ss_unpack r = {.at = bytes, .end = bytes + len};
		rc = load(s, &r);
	}
	free(bytes);
	if (rc < 0)
		return rc == -ENOENT ? -EINVAL : rc;
	s->durable_last = s->snapshot_last = s->outbox->last;
	s->snapshot_gone = outbox_gone(s->outbox);
	ss_log(s->host, SS_LOG_INFO, "Checkpoint restored path=%s groups=%u results_unacknowledged=%llu",
	       s->plan->checkpoint_path, s->engine->groups->n, (unsigned long long)s->outbox->n_unsent);
	return 0;
}

/* Components downstream tell duplicates by the numbers of results: with a file older than what they know,
 * numbers would be given a second time. */
static int check_downstream(struct state *s)
{
	struct ss_position have = {0};

	if (!s->positions || s->positions->resume(s->positions_self, have.stream, &have) < 0 ||
	    memcmp(have.epoch, s->outbox->epoch, sizeof have.epoch) != 0 || have.seq <= s->outbox->last)
		return 0;
	ss_log(s->host, SS_LOG_ERROR,
	       "The checkpoint is older than the results that components downstream have (restored from a "
	       "backup?): results may arrive twice path=%s",
	       s->plan->checkpoint_path);
	s->durable_last = 0; /* not before the new epoch is durable */
	s->changed = true;
	return outbox_renew(s->outbox);
}

/* The host removes duplicates, with or without a file. */
static void be_checkpointer(struct state *s, uint32_t cover)
{
	struct ss_iface positions;

	if (s->host->query(s->host, SS_POSITIONS, sizeof(struct ss_positions), &positions) < 0)
		return;
	s->positions = positions.vtbl;
	s->positions_self = positions.self;
	s->positions->checkpointer(s->positions_self, cover);
}

/* Beside the checkpoint. */
static int keep_positions(struct state *s)
{
	char path[PATH_MAX];

	if (!s->positions)
		return 0;
	if (snprintf(path, sizeof path, "%s.positions", s->plan->checkpoint_path) >= (int)sizeof path)
		return -ENAMETOOLONG;
	checkpoint_around(s->checkpoint, sync_positions, positions_committed, s);
	return s->positions->keep(s->positions_self, path);
}

/* In the writer's thread. */
static void written(void *arg)
{
	struct state *s = arg;

	(void)s->loop->post(s->loop_self, s->step, s->arg);
}

int state_start(struct state *s)
{
	be_checkpointer(s, s->plan->checkpoint_path ? SS_COVER_ACCEPTED : SS_COVER_NOTHING);
	if (!s->plan->checkpoint_path)
		return 0;
	int rc = checkpoint_new(s->plan->checkpoint_path, written, s, &s->checkpoint);
	if (rc == 0)
		rc = keep_positions(s);
	if (rc == 0)
		rc = restore(s);
	if (rc == 0)
		rc = check_downstream(s);
	if (rc < 0) {
		ss_log(s->host, SS_LOG_ERROR, "The checkpoint cannot be used path=%s reason=\"%s\"",
		       s->plan->checkpoint_path, explain(rc));
		return rc;
	}
	engine_loaded(s->engine);
	s->ended_ns = now(s);
	return 0;
}

void state_done(struct state *s)
{
	if (s->checkpoint_timer)
		s->loop->cancel(s->loop_self, s->checkpoint_timer);
	s->checkpoint_timer = 0;
	checkpoint_free(s->checkpoint);
	s->checkpoint = NULL;
	release_tokens(s, s->n_tokens, SS_FAILED);
	free(s->tokens);
	for (int i = 0; i < CHECKPOINT_PARTS; i++)
		ss_strbuf_done(&s->snapshot[i]);
	s->tokens = NULL;
	s->tokens_room = 0;
}
