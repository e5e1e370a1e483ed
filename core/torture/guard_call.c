/* SPDX-License-Identifier: MIT */
/* guard_call - the plugin's callbacks, as the host calls them, and the events it is offered. */
#include <stdio.h>
#include <string.h>
#include "core/torture/guard.h"
#include "core/torture/ledger.h"
#include "core/torture/lot.h"

#define WALL_NS     UINT64_C(1700000000000000000)
#define PATIENCE_MS 10000 /* real time that a promise (drained, input_ready) may take */

/* ---- the plugin's callbacks ---- */

static int32_t known(int32_t rc, int32_t most)
{
	if (rc <= most)
		return rc;
	ledger_add(RULE_RETURN_UNKNOWN, NULL, "it returned %d", rc);
	return 0;
}

int32_t guard_create(struct guard *g, const void *conf)
{
	guard_enter(g, "create");
	int32_t rc = known(g->desc->create(&g->host, conf, &g->self), 0);
	guard_leave(g);
	if (rc == 0)
		g->phase = GUARD_CREATED;
	return rc;
}

int32_t guard_start(struct guard *g)
{
	g->phase = GUARD_STARTED; /* a source may emit in start() */
	guard_enter(g, "start");
	int32_t rc = known(g->desc->start(g->self), 0);
	guard_leave(g);
	return rc;
}

void guard_pause(struct guard *g, bool paused)
{
	guard_enter(g, paused ? "pause" : "resume");
	if (paused)
		g->desc->pause(g->self);
	else
		g->desc->resume(g->self);
	guard_leave(g);
}

int32_t guard_inject(struct guard *g, const char *text, size_t len)
{
	const struct ss_message m = {.struct_size = sizeof m,
				     .data = (const uint8_t *)text,
				     .len = len,
				     .address = "192.0.2.1:4711"};

	g->phase = GUARD_STARTED; /* start() is not called */
	guard_enter(g, "inject");
	int32_t rc = known(g->desc->inject(g->self, &m), 0);
	guard_leave(g);
	return rc;
}

/* Is there anything that could still happen by itself? */
static bool is_waiting(const struct guard *g)
{
	for (uint32_t i = 0; i < GUARD_WATCHES; i++)
		if (g->watches[i].id)
			return true;
	return process_threads() > 1;
}

/* Turn the loop until the promise is kept; false: it is not. */
static bool wait_for(struct guard *g, const bool *kept)
{
	const uint64_t since = ledger_now(), virtual_since = g->now_ns;

	while (!*kept) {
		const uint64_t ms = (ledger_now() - since) / 1000000;
		if (ms > PATIENCE_MS || (ms > 300 && !is_waiting(g)) ||
		    (ms > 2000 && g->now_ns - virtual_since > UINT64_C(3600000000000) &&
		     process_threads() == 1))
			return false;
		guard_turn(g, 2, true);
	}
	return true;
}

void guard_drain(struct guard *g)
{
	g->phase = GUARD_DRAINING;
	g->is_drained = false;
	guard_enter(g, "drain");
	int32_t rc = g->desc->drain(g->self);
	if (rc == SS_KEPT || rc > SS_BUSY)
		ledger_add(RULE_RETURN_UNKNOWN, NULL, "it returned %d", rc);
	guard_leave(g);
	if (rc == SS_BUSY && !wait_for(g, &g->is_drained))
		ledger_add(RULE_DRAIN_HANG, "drain",
			   "it returned SS_BUSY with %llu batches kept, and drained() was not called",
			   (unsigned long long)g->held);
	g->phase = GUARD_DRAINED;
	g->was_drained = true;
}

void guard_stop(struct guard *g)
{
	guard_run_posts(g, true);
	g->phase = GUARD_STOPPED;
	guard_enter(g, "stop");
	g->desc->stop(g->self);
	guard_leave(g);
	memset(g->watches, 0, sizeof g->watches);
	guard_run_posts(g, true);
}

void guard_destroy(struct guard *g)
{
	guard_enter(g, "destroy");
	g->desc->destroy(g->self);
	guard_leave(g);
	g->phase = GUARD_STOPPED;
}

/* ---- what is offered ---- */

static size_t write_row(char *at, size_t room, uint32_t i, uint64_t seed)
{
	const unsigned long long n = (unsigned long long)seed * 1000 + i;
	int len = 0;

	if (i % 16 == 9)
		len = 0;
	else if (i % 16 == 13)
		len = snprintf(at, room, "\xff{%llu", n);
	else
		len = snprintf(at, room,
			       "{\"id\":%u,\"seq\":%llu,\"value\":%llu.5,\"name\":\"sensor-%u\",\"ok\":true}",
			       i % 8, n, n % 100, i % 8);
	return (size_t)len < room ? (size_t)len : room - 1;
}

/* One row of all bytes that are left: a JSON string. */
static void write_long_row(char *at, size_t len)
{
	memset(at, 'x', len);
	at[0] = at[len - 1] = '"';
}

static struct lot *make_input(struct guard *g, uint32_t rows, uint32_t longest, uint64_t seed)
{
	enum { ROW = 120 };
	const size_t bytes = (size_t)rows * ROW + longest;
	struct ss_token *t = token_new(g);
	pthread_mutex_lock(&g->lock);
	struct lot *l = lot_new(g, NULL, rows, bytes);
	pthread_mutex_unlock(&g->lock);
	char *at = (char *)l->pub->data;

	for (uint32_t i = 0; i < rows; i++) {
		size_t len = i == 0 && longest > 2 ? longest : write_row(at, ROW, i, seed);
		if (i == 0 && longest > 2)
			write_long_row(at, len);
		l->pub->events[i] = (struct ss_event){.data = (uint8_t *)at,
						      .len = (uint32_t)len,
						      .time_ns = WALL_NS + g->seq * 1000000,
						      .seq = ++g->seq};
		at += len;
	}
	l->pub->count = rows;
	l->is_input = true;
	t->has_position = true;
	t->position.seq = g->seq;
	l->pub->token = t;
	l->emitted = true;
	lot_protect(l);
	return l;
}

static void let_go(struct guard *g, struct lot *l)
{
	l->finished = true;
	pthread_mutex_lock(&g->lock);
	lot_release(l);
	pthread_mutex_unlock(&g->lock);
}

/* What process() said of a batch that it took, or failed with. */
static void settle(struct guard *g, struct lot *l, int32_t rc)
{
	const uint32_t rows = l->pub->count;

	g->accepted += rows;
	g->offered = NULL;
	guard_positions_settle(g, l->pub, rc >= 0);
	if (rc == SS_KEPT && !l->finished) {
		l->kept = true;
		g->held++;
		return;
	}
	if (rc != SS_KEPT && l->finished)
		ledger_add(RULE_DONE_UNASKED, "process",
			   "done() was called for a batch, and then process() returned %s",
			   rc == SS_DONE ? "SS_DONE" : "an error");
	if (rc < 0)
		g->digest = guard_mix(g->digest, &rc, sizeof rc);
	let_go(g, l);
}

static void tell_lost(struct guard *g, const struct lot *l)
{
	if (l->finished)
		ledger_add(RULE_BUSY_LOST, "process",
			   "done() was called for a batch of %u events that was refused", l->pub->count);
	else if (g->used)
		ledger_add(RULE_BUSY_LOST, "process",
			   "%llu of %u events of a batch that was refused were emitted or counted",
			   (unsigned long long)g->used, l->pub->count);
	g->used = 0;
}

/* false: it refused for good. */
static bool offer(struct guard *g, struct lot *l, int32_t *rc)
{
	enum { OFFERS = 10000 };

	for (int n = 0; n < OFFERS; n++) {
		g->offered = l;
		g->used = 0;
		g->is_ready = false;
		guard_positions_offer(g, l->pub);
		guard_enter(g, "process");
		*rc = known(g->desc->process(g->self, 0, l->pub), SS_BUSY);
		guard_leave(g);
		if (*rc != SS_BUSY)
			return true;
		tell_lost(g, l);
		if (l->finished)
			return true;
		if (!wait_for(g, &g->is_ready)) {
			ledger_add(RULE_BUSY_WITHOUT_INPUT_READY, "process",
				   "a batch of %u events was refused, and input_ready() was not called",
				   l->pub->count);
			return false;
		}
		tell_lost(g, l);
		guard_turn(g, 0, false);
	}
	ledger_add(RULE_BUSY_WITHOUT_INPUT_READY, "process",
		   "a batch of %u events was refused %d times, each time after input_ready()", l->pub->count,
		   OFFERS);
	return false;
}

int32_t guard_process(struct guard *g, uint32_t rows, uint32_t longest, uint64_t seed)
{
	int32_t rc = SS_BUSY;

	if (g->stuck)
		return SS_BUSY;
	struct lot *l = make_input(g, rows, longest, seed);
	if (!offer(g, l, &rc)) {
		g->stuck = true;
		g->offered = NULL;
		let_go(g, l);
	} else if (rc == SS_BUSY) {
		g->offered = NULL;
		let_go(g, l);
	} else {
		settle(g, l, rc);
	}
	return rc;
}
