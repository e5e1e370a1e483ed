/* SPDX-License-Identifier: MIT */
#include "core/torture/trials.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/ext/tls-provider.h>
#include "core/torture/allocation.h"
#include "core/torture/child.h"
#include "core/torture/guard.h"

enum {
	CYCLES = 1000,
	WARM_UP = 100,    /* of them, before anything is measured */
	GROWTH_BYTES = 8, /* a cycle; less is noise */
	STORM = 200,
	LONG_ROW = 256 << 10,
	ALLOCATIONS = 5000, /* made to fail one after the other, at most */
	FAILURES = 8,       /* crashes after them, at most */
};

/* What a child is given. */
struct trial {
	struct trials *of;
	const struct ss_component *desc;
	struct conf *conf, *other; /* other: of a second instance */
	uint64_t from;             /* the allocation to begin with */
};

static struct guard one, two;

__attribute__((format(printf, 2, 3))) static void note(struct trials *t, const char *fmt, ...)
{
	va_list ap;

	if (t->n_notes == TRIALS_NOTES)
		return;
	va_start(ap, fmt);
	vsnprintf(t->notes[t->n_notes++], sizeof t->notes[0], fmt, ap);
	va_end(ap);
}

static int conf_for(struct trials *t, struct conf **out)
{
	char folder[4096];

	snprintf(folder, sizeof folder, "%s/%u", t->folder, t->n_folders++);
	return conf_new(t->desc, t->settings, folder, out);
}

/* ---- pieces of a life ---- */

static bool takes_batches(const struct ss_component *d)
{
	return d->kind == SS_KIND_PROCESSOR || d->kind == SS_KIND_SINK;
}

static bool is_provider(const struct ss_component *d)
{
	return d->kind == SS_KIND_PROVIDER;
}

static bool begin(struct guard *g, const struct ss_component *desc, const struct conf *conf, bool tells)
{
	guard_init(g, desc);
	int32_t rc = guard_create(g, conf_of(conf));
	if (rc < 0 && tells)
		ledger_add(RULE_CREATE_FAILED, "create", "it returned %d (%s)%s%s", rc, strerror(-rc),
			   *g->error ? ": " : "", g->error);
	return rc >= 0;
}

static bool start(struct guard *g, bool tells)
{
	int32_t rc = guard_start(g);

	if (rc < 0 && tells) {
		const uint64_t cycle = atomic_load(&ledger()->cycle);
		ledger_add(cycle ? RULE_RESTART_FAILED : RULE_START_FAILED, "start",
			   "it returned %d (%s)%s%s%s", rc, strerror(-rc),
			   cycle ? " after another instance had stopped" : "", *g->error ? ": " : "",
			   g->error);
	}
	return rc >= 0;
}

static void end(struct guard *g, bool drains)
{
	if (drains)
		guard_drain(g);
	guard_stop(g);
	guard_destroy(g);
	guard_done(g);
}

static void give_up(struct guard *g)
{
	guard_stop(g);
	guard_destroy(g);
	guard_done(g);
}

/* Batches of all sizes, then more than the loop can keep up with. */
static void feed_all(struct guard *g)
{
	uint64_t seed = 1;

	guard_process(g, 1, 0, seed++);
	guard_run(g, 2);
	guard_process(g, 0, 0, seed++);
	guard_process(g, 64, 0, seed++);
	guard_process(g, 1000, LONG_ROW, seed++);
	guard_run(g, 5);
	for (int i = 0; i < STORM; i++)
		guard_process(g, 16, 0, seed++);
	guard_run(g, 5);
}

static void feed_some(struct guard *g, uint64_t seed)
{
	guard_process(g, 8, 0, seed);
	guard_process(g, 3, 0, seed + 1);
	guard_turn(g, 0, false);
	guard_turn(g, 0, false);
}

/* ---- trials, each in a child ---- */

static void live_as_provider(struct guard *g)
{
	struct ss_iface iface = {0};

	guard_enter(g, "extension");
	int32_t rc = g->desc->extension(g->self, SS_TLS_PROVIDER, sizeof(void *), &iface);
	guard_leave(g);
	const struct ss_tls_provider *p = rc == 0 ? iface.vtbl : NULL;
	if (!p || !p->identity) {
		ledger_add(RULE_DESCRIPTOR_CALLBACK, "extension",
			   "a provider has to have " SS_TLS_PROVIDER ", with identity()");
		return;
	}
	guard_enter(g, "identity");
	p->identity(iface.self);
	guard_leave(g);
}

static void live(void *arg)
{
	const struct trial *t = arg;
	struct guard *g = &one;

	if (!begin(g, t->desc, t->conf, true))
		return;
	g->examines = true;
	process_examine(); /* of create() */
	if (is_provider(t->desc)) {
		live_as_provider(g);
		guard_destroy(g);
		guard_done(g);
		return;
	}
	if (!start(g, true)) {
		give_up(g);
		return;
	}
	guard_run(g, 5);
	if (takes_batches(t->desc)) {
		feed_all(g);
	} else {
		guard_run(g, 30);
		for (int i = 0; i < 50; i++) {
			guard_pause(g, true);
			guard_turn(g, 0, false);
			guard_pause(g, false);
			guard_turn(g, 0, false);
		}
		guard_run(g, 10);
		guard_pause(g, true);
		guard_pause(g, false);
	}
	end(g, true);
}

/* Never started; ended without a drain. */
static void live_briefly(void *arg)
{
	const struct trial *t = arg;
	struct guard *g = &one;

	if (!begin(g, t->desc, t->conf, true))
		return;
	g->examines = true;
	guard_destroy(g);
	guard_done(g);
	if (is_provider(t->desc) || !begin(g, t->desc, t->conf, true))
		return;
	if (start(g, true) && takes_batches(t->desc))
		feed_some(g, 1);
	give_up(g);
}

static void be_injected(void *arg)
{
	static const char json[] = "{\"id\":7,\"seq\":1,\"value\":2.5}";
	const struct trial *t = arg;
	struct guard *g = &one;
	char *huge = malloc(65507);

	if (!huge || !begin(g, t->desc, t->conf, true))
		return;
	memset(huge, 'x', 65507);
	g->examines = true;
	for (int i = 0; i < STORM; i++) {
		guard_inject(g, json, sizeof json - 1);
		if (i % 32 == 0)
			guard_pause(g, true);
		guard_turn(g, 0, false);
		if (i % 32 == 0)
			guard_pause(g, false);
	}
	guard_inject(g, huge, 65507);
	guard_inject(g, json, 0);
	guard_turn(g, 0, false);
	end(g, true);
	free(huge);
}

/* Nothing more can be learnt from a plugin that does not get through one life. */
static bool is_dead(uint32_t since)
{
	static const enum rule deadly[] = {
		RULE_CRASH,         RULE_HANG,         RULE_EXIT,
		RULE_CREATE_FAILED, RULE_START_FAILED, RULE_BATCH_WRITTEN,
		RULE_BATCH_KEPT,    RULE_DRAIN_HANG,   RULE_BUSY_WITHOUT_INPUT_READY};

	for (uint32_t i = since; i < ledger()->n; i++)
		for (size_t k = 0; k < sizeof deadly / sizeof deadly[0]; k++)
			if (ledger()->breaches[i].rule == deadly[k])
				return true;
	return false;
}

/* One life of many; false: there is no use in another one. */
static bool cycle(const struct trial *t, uint64_t n)
{
	const uint32_t before = ledger()->n;
	struct guard *g = &one;

	if (!begin(g, t->desc, t->conf, true))
		return false;
	if (is_provider(t->desc)) {
		guard_destroy(g);
		guard_done(g);
		return true;
	}
	const bool started = start(g, true);
	if (started && takes_batches(t->desc) && n % 10 == 0)
		feed_some(g, n);
	else if (started)
		guard_turn(g, 0, false);
	end(g, started && n % 10 == 0);
	return started && !is_dead(before);
}

/* Threads that have ended are gone a little later. */
static unsigned count_threads(unsigned at_most)
{
	unsigned n = process_threads();

	for (int i = 0; n > at_most && i < 300; i++) {
		usleep(1000);
		n = process_threads();
	}
	return n;
}

struct usage {
	unsigned descriptors, threads;
	int64_t bytes;
};

static struct usage usage_now(unsigned threads)
{
	return (struct usage){.threads = count_threads(threads),
			      .descriptors = process_descriptors(),
			      .bytes = allocation_can_fail() ? allocation_bytes() : 0};
}

/* How much more is in use after many lives than after the first ones; false: they ended. */
static bool grows(const struct trial *t, bool (*live_once)(const struct trial *, uint64_t),
		  struct usage *more)
{
	struct usage before = {0}, after;

	for (uint64_t n = 0; n < CYCLES; n++) {
		if (n == WARM_UP)
			before = usage_now(1);
		if (!live_once(t, n))
			return false;
		atomic_store(&ledger()->cycle, n + 1);
	}
	after = usage_now(before.threads);
	*more = (struct usage){.descriptors = after.descriptors > before.descriptors
						      ? after.descriptors - before.descriptors
						      : 0,
			       .threads = after.threads > before.threads ? after.threads - before.threads : 0,
			       .bytes = after.bytes - before.bytes};
	return true;
}

static bool create_only(const struct trial *t, uint64_t n)
{
	(void)n;
	if (!begin(&one, t->desc, t->conf, true))
		return false;
	guard_destroy(&one);
	guard_done(&one);
	return true;
}

static void live_often(void *arg)
{
	enum { LIVES = CYCLES - WARM_UP, NOISE = LIVES / 20 };
	const struct trial *t = arg;
	struct usage of_lives, of_creation = {0};

	if (!grows(t, cycle, &of_lives))
		return;
	const bool bytes = of_lives.bytes >= GROWTH_BYTES * LIVES, descriptors = of_lives.descriptors > NOISE,
		   threads = of_lives.threads > NOISE;
	/* whose fault is it: does it grow without start() and stop(), too? */
	if ((bytes || descriptors || threads) && !grows(t, create_only, &of_creation))
		return;
	if (bytes && !threads) /* threads that stay have memory of their own */
		ledger_add(RULE_CYCLE_MEMORY, of_creation.bytes >= GROWTH_BYTES * LIVES ? "destroy" : "stop",
			   "%lld bytes more are allocated after %d lives", (long long)of_lives.bytes, LIVES);
	if (descriptors)
		ledger_add(RULE_CYCLE_DESCRIPTORS, of_creation.descriptors > NOISE ? "destroy" : "stop",
			   "%u descriptors more are open after %d lives", of_lives.descriptors, LIVES);
	if (threads)
		ledger_add(RULE_CYCLE_THREADS, of_creation.threads > NOISE ? "destroy" : "stop",
			   "%u threads more run after %d lives", of_lives.threads, LIVES);
}

/* ---- two instances ---- */

static void feed_first(struct guard *g, uint64_t seed)
{
	for (int i = 0; i < 4 && takes_batches(g->desc); i++)
		guard_process(g, 8, 0, seed + (uint64_t)i);
	guard_turn(g, 0, false);
}

static void live_alone(void *arg)
{
	const struct trial *t = arg;

	if (!begin(&one, t->desc, t->conf, false) || !start(&one, false))
		return;
	feed_first(&one, 1);
	feed_first(&one, 100);
	feed_first(&one, 200);
	guard_drain(&one);
	atomic_store(&ledger()->result, one.digest);
	guard_stop(&one);
	guard_destroy(&one);
	guard_done(&one);
}

/* As live_alone(), with another instance that comes and goes. */
static void live_together(void *arg)
{
	const struct trial *t = arg;

	if (!begin(&one, t->desc, t->conf, false) || !start(&one, false))
		return;
	if (!begin(&two, t->desc, t->other, false) || !start(&two, false))
		return;
	feed_first(&one, 1);
	feed_first(&two, 1000);
	feed_first(&one, 100);
	end(&two, true);
	feed_first(&one, 200);
	guard_drain(&one);
	atomic_store(&ledger()->result, one.digest);
	guard_stop(&one);
	guard_destroy(&one);
	guard_done(&one);
}

static uint64_t result_of(void (*trial)(void *), struct trial *t, bool *finished)
{
	atomic_store(&ledger()->result, 0);
	*finished = child_run(trial, t, t->of->deadline_ns);
	return atomic_load(&ledger()->result);
}

static void try_two(struct trial *t)
{
	const uint32_t before = ledger()->n;
	bool finished = true, again = true, together = true;
	const uint64_t first = result_of(live_alone, t, &finished), second = result_of(live_alone, t, &again);

	if (!finished || !again || ledger()->n > before)
		return;
	const uint64_t beside = result_of(live_together, t, &together);
	if (!together || ledger()->n > before) {
		/* what went wrong only here is the other instance's doing */
		struct breach *b = &ledger()->breaches[before];
		char what[LEDGER_TEXT];
		snprintf(what, sizeof what, "beside a second instance: %.250s", b->what);
		memcpy(b->what, what, sizeof what);
		b->rule = RULE_GLOBAL_STATE;
		ledger()->n = before + 1;
	} else if (first != second) {
		note(t->of, "what comes out differs from run to run, so two instances were not compared");
	} else if (beside != first && beside) {
		ledger_add(RULE_GLOBAL_STATE, takes_batches(t->desc) ? "process" : "create",
			   "what the first instance does with the same events is another thing beside a "
			   "second one");
	}
}

/* ---- allocations that fail ---- */

static void live_short_of_memory(const struct trial *t, uint64_t nth)
{
	struct guard *g = &one;

	allocation_fail(nth);
	guard_init(g, t->desc);
	if (guard_create(g, conf_of(t->conf)) < 0) {
		guard_done(g);
		return;
	}
	if (is_provider(t->desc)) {
		guard_destroy(g);
		guard_done(g);
		return;
	}
	const bool started = guard_start(g) >= 0;
	if (started && takes_batches(t->desc))
		feed_some(g, 1);
	else if (started)
		guard_turn(g, 0, false);
	end(g, started);
}

/* Blocks that are left over each time. */
static int64_t lost_blocks(const struct trial *t, uint64_t nth)
{
	int64_t least = INT64_MAX;

	for (int i = 0; i < 3 && least > 0; i++) {
		const int64_t before = allocation_blocks();
		live_short_of_memory(t, nth);
		count_threads(1);
		const int64_t lost = allocation_blocks() - before;
		least = lost < least ? lost : least;
	}
	return least;
}

static void run_short_of_memory(void *arg)
{
	const struct trial *t = arg;
	int64_t usual;

	lost_blocks(t, 0); /* what is made once per process */
	usual = lost_blocks(t, 0);
	for (uint64_t n = t->from; n <= ALLOCATIONS; n++) {
		atomic_store(&ledger()->cycle, n);
		atomic_store(&ledger()->failed_at, 0);
		const int64_t lost = lost_blocks(t, n);
		if (!allocation_failed()) {
			atomic_store(&ledger()->result, n - 1);
			break;
		}
		if (lost > usual && lost > 0)
			ledger_add(RULE_ALLOCATION_LEAK, atomic_load(&ledger()->failed_in),
				   "%lld blocks are lost after allocation %llu of a life, here, has failed",
				   (long long)(lost - usual), (unsigned long long)n);
	}
}

static void try_allocations(struct trial *t)
{
	t->from = 1;
	for (int i = 0; i < FAILURES && t->from <= ALLOCATIONS; i++) {
		const uint32_t before = ledger()->n;
		const bool finished = child_run(run_short_of_memory, t, t->of->deadline_ns);
		const uint64_t at = atomic_load(&ledger()->cycle);
		if (!finished && ledger()->n > before) {
			struct breach *b = &ledger()->breaches[ledger()->n - 1];
			char what[LEDGER_TEXT];
			const char *in = atomic_load(&ledger()->failed_in);
			snprintf(what, sizeof what,
				 "%.220s, after allocation %llu of a life, in %s(), had failed", b->what,
				 (unsigned long long)at, in ? in : "?");
			memcpy(b->what, what, sizeof what);
		}
		if (finished) {
			t->of->allocations = atomic_load(&ledger()->result);
			break;
		}
		t->from = at + 1;
	}
}

/* ---- all of them ---- */

static bool wants_any(const struct trials *t, const enum rule *rules)
{
	for (; *rules != RULES; rules++)
		if (t->wants(*rules))
			return true;
	return false;
}

static void try_all(struct trial *t)
{
	static const enum rule of_cycles[] = {RULE_CYCLE_MEMORY, RULE_CYCLE_DESCRIPTORS, RULE_CYCLE_THREADS,
					      RULE_RESTART_FAILED, RULES},
			       of_allocations[] = {RULE_ALLOCATION_CRASH, RULE_ALLOCATION_LEAK, RULES};
	const uint32_t before = ledger()->n;
	struct trials *all = t->of;
	const uint64_t deadline = all->deadline_ns;

	bool lives = child_run(live, t, deadline) && !is_dead(before) && child_run(live_briefly, t, deadline);
	if (lives && t->desc->inject)
		lives = child_run(be_injected, t, deadline);
	if (!lives || is_dead(before)) {
		note(all, "nothing else was tried, as the first life did not come to its end");
		return;
	}
	if (wants_any(all, of_cycles))
		child_run(live_often, t, deadline);
	if (ledger()->n > before) {
		note(all, "two instances and failing allocations were not tried: mend what was found first");
		return;
	}
	if (t->other && all->wants(RULE_GLOBAL_STATE))
		try_two(t);
	if (!wants_any(all, of_allocations))
		return;
	if (allocation_can_fail())
		try_allocations(t);
	else
		note(all, "failing allocations were not tried: this program is built with a sanitizer");
}

int trials_run(struct trials *t)
{
	struct trial trial = {.of = t, .desc = t->desc};
	int rc = conf_for(t, &trial.conf);

	if (rc == 0 && !is_provider(t->desc))
		rc = conf_for(t, &trial.other);
	if (rc == 0) {
		if (is_provider(t->desc))
			note(t, "a provider is created and destroyed only: start() was not tried, it would "
				"ask a CA");
		try_all(&trial);
	}
	conf_free(trial.other);
	conf_free(trial.conf);
	return rc;
}

int trials_watched(struct trials *t)
{
	struct trial trial = {.of = t, .desc = t->desc};
	int rc = conf_for(t, &trial.conf);

	if (rc == 0) {
		live(&trial);
		live_briefly(&trial);
	}
	conf_free(trial.conf);
	return rc;
}
