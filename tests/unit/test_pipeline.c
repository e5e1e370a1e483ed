/* SPDX-License-Identifier: MIT */
/* The engine with component types of the test's own: every event is accounted for, whatever the types do. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include <semstreams/ext/loop.h>
#include "core/flow/batch.h"
#include "core/admin/health.h"
#include "core/flow/pipeline.h"
#include "core/report.h"
#include "semstreams/sugar.h"

/* ---- counting allocations ---- */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS 1
extern void *__libc_malloc(size_t size);
static _Atomic uint64_t allocations;

void *malloc(size_t size)
{
	atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
	return __libc_malloc(size);
}
#else
#define COUNTS_ALLOCATIONS 0
#endif

/* ---- a source: emits total events in batches of the given size as fast as it may ---- */

struct feed_conf {
	int64_t total, batch, track, lose_each, burst; /* burst: batches each time, 0 = one */
};

struct feed {
	const struct ss_host *host;
	const struct feed_conf *conf;
	struct ss_iface loop;
	int64_t sent;
	bool paused;
	uint32_t timer; /* one batch each time */
	_Atomic uint64_t acked, delivered, dropped, failed, pauses;
	uint64_t in_flight;
};

static void feed_batch(void *self)
{
	struct feed *f = self;
	const struct ss_loop *loop = f->loop.vtbl;

	if (f->sent >= f->conf->total) {
		loop->cancel(f->loop.self, f->timer);
		return;
	}
	int64_t left = f->conf->total - f->sent;
	uint32_t n = (uint32_t)(left < f->conf->batch ? left : f->conf->batch);
	struct ss_batch *b = f->host->batch_new(f->host, NULL, n, (size_t)n * 8);
	for (uint32_t i = 0; i < n; i++) {
		memcpy(b->data + (size_t)i * 8, "payload", 8);
		b->events[i] = (struct ss_event){
			.data = b->data + (size_t)i * 8, .len = 8, .seq = (uint64_t)(f->sent + i + 1)};
	}
	b->count = n;
	f->sent += n;
	if (f->conf->track) {
		const struct ss_position at = {.seq = (uint64_t)f->sent};
		f->in_flight++;
		assert_int_equal(f->host->track(f->host, b, n, &at), 0);
	}
	if (f->conf->lose_each && f->sent / n % f->conf->lose_each == 0)
		f->host->drop(f->host, 0, n);
	else
		f->host->emit(f->host, 0, b);
	f->host->batch_unref(b);
}

static void feed_more(void *self)
{
	const struct feed *f = self;

	for (int64_t i = 0; i == 0 || i < f->conf->burst; i++)
		feed_batch(self);
}

static void feed_go(struct feed *f)
{
	const struct ss_loop *loop = f->loop.vtbl;

	assert_int_equal(loop->timer(f->loop.self, 0, 1, feed_more, f, &f->timer), 0);
}

static int32_t feed_create(const struct ss_host *host, const void *conf, void **self)
{
	struct feed *f = calloc(1, sizeof *f);

	f->host = host;
	f->conf = conf;
	assert_int_equal(host->query(host, SS_LOOP, sizeof(struct ss_loop), &f->loop), 0);
	assert_int_equal(host->query(host, SS_LOOP, 100000, &f->loop), -ENOTSUP);
	assert_int_equal(host->query(host, "no.such/1", 0, &f->loop), -ENOENT);
	*self = f;
	return 0;
}

static int32_t feed_start(void *self)
{
	feed_go(self);
	return 0;
}

static void feed_pause(void *self)
{
	struct feed *f = self;

	assert_false(f->paused);
	f->paused = true;
	f->pauses++;
	((const struct ss_loop *)f->loop.vtbl)->cancel(f->loop.self, f->timer);
}

static void feed_resume(void *self)
{
	struct feed *f = self;

	assert_true(f->paused);
	f->paused = false;
	feed_go(f);
}

static int32_t feed_drain(void *self)
{
	struct feed *f = self;

	((const struct ss_loop *)f->loop.vtbl)->cancel(f->loop.self, f->timer);
	return 0;
}

static void feed_acked(void *self, uint64_t cookie, int32_t status)
{
	struct feed *f = self;

	f->in_flight--;
	f->acked += cookie;
	*(status == SS_DELIVERED ? &f->delivered : status == SS_DROPPED ? &f->dropped : &f->failed) += cookie;
}

static void nothing(void *self)
{
	(void)self;
}

static int32_t nothing_0(void *self)
{
	(void)self;
	return 0;
}

static void nothing_acked(void *self, uint64_t cookie, int32_t status)
{
	(void)self;
	(void)cookie;
	(void)status;
}

static const char *const feed_reasons[] = {"lost_on_purpose", NULL};
static const struct ss_component feed = {
	.struct_size = sizeof feed,
	.kind = SS_KIND_SOURCE,
	.type = "feed",
	.conf_size = sizeof(struct feed_conf),
	.reasons = feed_reasons,
	.create = feed_create,
	.destroy = free,
	.start = feed_start,
	.stop = nothing,
	.pause = feed_pause,
	.resume = feed_resume,
	.drain = feed_drain,
	.acked = feed_acked,
};

/* ---- a processor: odd sequences to port 0, even ones to port 1, multiples of lose are dropped ---- */

struct sieve_conf {
	int64_t lose, rest, make; /* make: emit one event of its own per batch */
};

struct sieve {
	const struct ss_host *host;
	const struct sieve_conf *conf;
};

static int32_t sieve_create(const struct ss_host *host, const void *conf, void **self)
{
	struct sieve *s = calloc(1, sizeof *s);

	*s = (struct sieve){.host = host, .conf = conf};
	*self = s;
	return 0;
}

static int32_t sieve_process(void *self, uint32_t port, struct ss_batch *in)
{
	struct sieve *s = self;
	uint32_t odd[1024], even[1024], n_odd = 0, n_even = 0;

	(void)port;
	for (uint32_t i = 0; i < in->count; i++) {
		uint64_t seq = in->events[i].seq;
		if (s->conf->lose && seq % (uint64_t)s->conf->lose == 0)
			s->host->drop(s->host, 0, 1);
		else if (seq % 2)
			odd[n_odd++] = i;
		else
			even[n_even++] = i;
	}
	ss_emit_rows(s->host, 0, in, odd, n_odd);
	if (s->conf->rest)
		ss_emit_rows(s->host, 1, in, even, n_even);
	if (s->conf->make) {
		struct ss_batch *b = s->host->batch_new(s->host, NULL, 1, 8);
		b->events[0] = (struct ss_event){.data = b->data, .len = 8};
		b->count = 1;
		s->host->emit(s->host, 0, b);
		s->host->batch_unref(b);
	}
	return SS_DONE;
}

static const char *const sieve_outputs[] = {"odd", "even", NULL};
static const char *const sieve_reasons[] = {"unlucky", NULL};
static const struct ss_component sieve = {
	.struct_size = sizeof sieve,
	.kind = SS_KIND_PROCESSOR,
	.type = "sieve",
	.conf_size = sizeof(struct sieve_conf),
	.outputs = sieve_outputs,
	.reasons = sieve_reasons,
	.create = sieve_create,
	.destroy = free,
	.start = nothing_0,
	.stop = nothing,
	.process = sieve_process,
	.pause = nothing,
	.resume = nothing,
	.drain = nothing_0,
	.acked = nothing_acked,
};

/* ---- a sink that finishes at once, keeps batches for a while, refuses some, or fails ---- */

enum { SINK_DONE, SINK_KEEPS, SINK_REFUSES, SINK_FAILS, SINK_HANGS };
struct sink_conf {
	int64_t manner;
};

enum { SINK_MAX_KEPT = 8 };
struct sink {
	const struct ss_host *host;
	const struct sink_conf *conf;
	struct ss_iface loop;
	struct ss_batch *kept[SINK_MAX_KEPT];
	uint32_t n_kept;
	uint32_t timer;
	bool refusing;
	_Atomic uint64_t events, last, idles;
	_Atomic bool in_order, draining;
	_Atomic bool *open; /* SINK_HANGS: until somebody opens */
};

static _Atomic bool gate;

static int32_t sink_create(const struct ss_host *host, const void *conf, void **self)
{
	struct sink *s = calloc(1, sizeof *s);

	s->host = host;
	s->conf = conf;
	s->in_order = true;
	host->query(host, SS_LOOP, sizeof(struct ss_loop), &s->loop);
	*self = s;
	return 0;
}

static void sink_release(struct sink *s)
{
	for (uint32_t i = 0; i < s->n_kept; i++)
		s->host->done(s->host, s->kept[i], SS_DELIVERED);
	s->n_kept = 0;
}

static void sink_on_timer(void *self)
{
	struct sink *s = self;

	s->timer = 0;
	sink_release(s);
	if (s->refusing) {
		s->refusing = false;
		s->host->input_ready(s->host);
	}
	if (s->draining)
		s->host->drained(s->host);
}

static void sink_arm(struct sink *s)
{
	const struct ss_loop *loop = s->loop.vtbl;

	if (!s->timer)
		assert_int_equal(loop->timer(s->loop.self, 200000, 0, sink_on_timer, s, &s->timer), 0);
}

static int32_t sink_process(void *self, uint32_t port, struct ss_batch *b)
{
	struct sink *s = self;

	(void)port;
	assert_false(s->refusing);
	assert_false(s->draining);
	if (s->conf->manner == SINK_HANGS && !gate) {
		s->refusing = true;
		sink_arm(s);
		return SS_BUSY;
	}
	if (s->conf->manner == SINK_REFUSES && s->n_kept == SINK_MAX_KEPT / 2) {
		s->refusing = true;
		sink_arm(s);
		return SS_BUSY;
	}
	for (uint32_t i = 0; i < b->count; i++) {
		if (b->events[i].seq) {
			s->in_order &= b->events[i].seq > s->last;
			s->last = b->events[i].seq;
		}
	}
	s->events += b->count;
	if (s->conf->manner == SINK_FAILS && s->events % 3 == 0)
		return -EIO;
	if (s->conf->manner == SINK_KEEPS || s->conf->manner == SINK_REFUSES) {
		s->kept[s->n_kept++] = b;
		sink_arm(s);
		if (s->n_kept == SINK_MAX_KEPT)
			sink_release(s);
		return SS_KEPT;
	}
	return SS_DONE;
}

static int32_t keep_for_ever(void *self, uint32_t port, struct ss_batch *b)
{
	(void)self;
	(void)port;
	(void)b;
	return SS_KEPT;
}

static int32_t sink_drain(void *self)
{
	struct sink *s = self;

	if (!s->n_kept)
		return 0;
	s->draining = true;
	sink_arm(s);
	return SS_BUSY;
}

static void sink_idle(void *self)
{
	struct sink *s = self;

	s->idles++;
}

static const struct ss_component sink = {
	.struct_size = sizeof sink,
	.kind = SS_KIND_SINK,
	.type = "sink",
	.conf_size = sizeof(struct sink_conf),
	.create = sink_create,
	.destroy = free,
	.start = nothing_0,
	.stop = nothing,
	.process = sink_process,
	.pause = nothing,
	.resume = nothing,
	.drain = sink_drain,
	.acked = nothing_acked,
	.idle = sink_idle,
};

/* ---- building and running pipelines ---- */

enum { MAX = 6 };

struct plan {
	struct config config;
	struct config_component components[MAX];
	struct config_input inputs[MAX][2];
	struct jdoc doc;
	struct jnode node;
	struct diag diag;
	struct pipeline *pipeline;
	pthread_mutex_t lock;
	pthread_cond_t changed;
};

static void plan_init(struct plan *p)
{
	*p = (struct plan){.doc = {.file = (char *)"test"}};
	p->config.doc = &p->doc;
	p->config.components = p->components;
	diag_init(&p->diag);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
}

static size_t add(struct plan *p, const char *id, const struct ss_component *desc, const void *conf,
		  const char *worker)
{
	size_t i = p->config.n_components++;

	p->components[i] = (struct config_component){.id = (char *)id,
						     .type = (char *)desc->type,
						     .desc = desc,
						     .conf = (void *)(uintptr_t)conf,
						     .node = &p->node,
						     .worker = (char *)worker,
						     .inputs = p->inputs[i]};
	return i;
}

static void link_to(struct plan *p, size_t to, size_t from, uint32_t port, uint64_t events,
		    enum overflow overflow)
{
	p->inputs[to][p->components[to].n_inputs++] =
		(struct config_input){.from = from,
				      .port = port,
				      .limits = {.events = events, .bytes = 1 << 20, .overflow = overflow}};
}

static void on_closed(void *arg)
{
	struct plan *p = arg;

	pthread_mutex_lock(&p->lock);
	pthread_cond_signal(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static void start(struct plan *p)
{
	assert_int_equal(pipeline_create(&p->config, &p->diag, &p->pipeline), 0);
	assert_int_equal(pipeline_start(p->pipeline), 0);
}

static struct totals totals(const struct plan *p, size_t i)
{
	struct totals t;

	report_totals(&p->pipeline->components[i], &t);
	assert_int_equal(t.in + t.created, t.out + t.filtered + t.dropped_all + t.held);
	return t;
}

/* Look at the books until the component has seen n events come in; they must balance at each look. */
static void await_in(const struct plan *p, size_t i, uint64_t n)
{
	while (totals(p, i).in < n) {
		for (size_t k = 0; k < p->config.n_components; k++)
			totals(p, k);
		sched_yield();
	}
}

static void drain(struct plan *p)
{
	pipeline_drain(p->pipeline, on_closed, p);
	pthread_mutex_lock(&p->lock);
	while (!pipeline_drained(p->pipeline))
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

static void finish(struct plan *p)
{
	for (size_t i = 0; i < p->config.n_components; i++)
		totals(p, i);
	pipeline_free(p->pipeline);
	diag_done(&p->diag);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->changed);
}

static void *self(const struct plan *p, size_t i)
{
	return p->pipeline->components[i].self;
}

/* A straight chain; workers are the names of those of out, in and mid. */
static void straight_run(const char *const workers[3], int64_t manner)
{
	const struct feed_conf fc = {.total = 100000, .batch = 50, .track = 1};
	const struct sieve_conf vc = {.lose = 10};
	const struct sink_conf sc = {.manner = manner};
	struct plan p;

	plan_init(&p);
	/* not in the order of the flow, on purpose */
	size_t out = add(&p, "out", &sink, &sc, workers[0]);
	size_t in = add(&p, "in", &feed, &fc, workers[1]);
	size_t mid = add(&p, "mid", &sieve, &vc, workers[2]);
	link_to(&p, mid, in, 0, 1000, OVERFLOW_BLOCK);
	link_to(&p, out, mid, 0, 1000, OVERFLOW_BLOCK);
	start(&p);
	await_in(&p, in, 100000);
	drain(&p);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);

	struct totals f = totals(&p, in), m = totals(&p, mid), o = totals(&p, out);
	assert_int_equal(f.out, 100000);
	assert_int_equal(m.in, 100000);
	assert_int_equal(m.out, 50000);
	assert_int_equal(m.dropped[DROP_OWN], 10000);
	assert_int_equal(m.filtered, 40000);
	assert_int_equal(o.in, 50000);
	assert_int_equal(o.held + f.held + m.held, 0);
	if (manner == SINK_FAILS)
		assert_true(o.dropped[DROP_ERROR] > 0);
	else
		assert_int_equal(o.out, 50000);
	struct sink *s = self(&p, out);
	assert_int_equal(s->events, 50000);
	assert_true(s->in_order);
	assert_true(s->idles > 0);
	struct feed *feeder = self(&p, in);
	assert_int_equal(feeder->acked, 100000);
	assert_int_equal(feeder->in_flight, 0);
	assert_int_equal(feeder->failed > 0, manner == SINK_FAILS);
	finish(&p);
}

static void a_thread_each(void **state)
{
	(void)state;
	const char *const each[] = {"a", "b", "c"};

	straight_run(each, SINK_DONE);
	straight_run(each, SINK_KEEPS);
	straight_run(each, SINK_REFUSES);
	straight_run(each, SINK_FAILS);
}

static void one_thread_for_all(void **state)
{
	(void)state;
	const char *const one[] = {"one", "one", "one"};
	const char *const none[] = {NULL, NULL, NULL};

	for (int64_t manner = SINK_DONE; manner <= SINK_FAILS; manner++) {
		straight_run(one, manner);
		straight_run(none, manner);
	}
}

/* ---- which loop runs what ---- */

/* Start and stop a plan; the components that share a loop, in the order of the data: "in mid|out". */
static char *loops_of(struct plan *p)
{
	static char text[256];
	size_t at = 0;

	start(p);
	text[0] = '\0';
	for (size_t i = 0; i < p->pipeline->n_workers; i++) {
		const struct worker *w = &p->pipeline->workers[i];
		for (size_t k = 0; k < w->n; k++)
			at += (size_t)snprintf(text + at, sizeof text - at, "%s%s",
					       k   ? " "
					       : i ? "|"
						   : "",
					       w->members[k]->id);
	}
	drain(p);
	assert_int_equal(pipeline_stop(p->pipeline, 5000000000u), 0);
	finish(p);
	return text;
}

static const struct feed_conf few = {.total = 10, .batch = 1};
static const struct sieve_conf both = {.rest = 1};
static const struct sink_conf done = {.manner = SINK_DONE};

/* in -> mid -> out, the last one of a type that is given, over an edge that is given. */
static char *loops_of_chain(const struct ss_component *last, const char *worker, enum overflow overflow)
{
	struct plan p;

	plan_init(&p);
	size_t in = add(&p, "in", &feed, &few, NULL);
	size_t mid = add(&p, "mid", &sieve, &both, NULL);
	size_t out = add(&p, "out", last, &done, worker);
	link_to(&p, mid, in, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, out, mid, 0, 100, overflow);
	return loops_of(&p);
}

static void a_chain_runs_on_one_loop(void **state)
{
	(void)state;
	assert_string_equal(loops_of_chain(&sink, NULL, OVERFLOW_BLOCK), "in mid out");
	/* what may drop does so to be independent */
	assert_string_equal(loops_of_chain(&sink, NULL, OVERFLOW_DROP_OLDEST), "in mid|out");
	assert_string_equal(loops_of_chain(&sink, NULL, OVERFLOW_DROP_NEWEST), "in mid|out");
	assert_string_equal(loops_of_chain(&sink, "w", OVERFLOW_BLOCK), "in mid|out");
	struct ss_component slow = sink;
	slow.flags = SS_OWN_LOOP;
	assert_string_equal(loops_of_chain(&slow, NULL, OVERFLOW_BLOCK), "in mid|out");
}

static void what_follows_an_own_loop_shares_the_next(void **state)
{
	(void)state;
	struct ss_component slow = feed;
	struct plan p;

	slow.flags = SS_OWN_LOOP;
	plan_init(&p);
	size_t in = add(&p, "in", &slow, &few, NULL);
	size_t mid = add(&p, "mid", &sieve, &both, NULL);
	size_t out = add(&p, "out", &sink, &done, NULL);
	link_to(&p, mid, in, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, out, mid, 0, 100, OVERFLOW_BLOCK);
	assert_string_equal(loops_of(&p), "in|mid out");
}

static void branches_run_on_loops_of_their_own(void **state)
{
	(void)state;
	struct plan p;

	plan_init(&p);
	size_t in = add(&p, "in", &feed, &few, NULL);
	size_t mid = add(&p, "mid", &sieve, &both, NULL);
	size_t odd = add(&p, "odd", &sink, &done, NULL);
	size_t even = add(&p, "even", &sieve, &both, NULL);
	size_t end = add(&p, "end", &sink, &done, NULL);
	link_to(&p, mid, in, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, odd, mid, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, even, mid, 1, 100, OVERFLOW_BLOCK);
	link_to(&p, end, even, 0, 100, OVERFLOW_BLOCK);
	assert_string_equal(loops_of(&p), "in mid|odd|even end");
}

static void a_join_begins_a_loop(void **state)
{
	(void)state;
	struct plan p;

	plan_init(&p);
	size_t a = add(&p, "a", &feed, &few, NULL);
	size_t b = add(&p, "b", &feed, &few, NULL);
	size_t mid = add(&p, "mid", &sieve, &both, NULL);
	size_t out = add(&p, "out", &sink, &done, NULL);
	link_to(&p, mid, a, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, mid, b, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, out, mid, 0, 100, OVERFLOW_BLOCK);
	assert_string_equal(loops_of(&p), "a|b|mid out");
}

static void named_workers_share_whatever_the_graph(void **state)
{
	(void)state;
	struct plan p;

	plan_init(&p);
	size_t in = add(&p, "in", &feed, &few, "w");
	size_t mid = add(&p, "mid", &sieve, &both, NULL);
	size_t odd = add(&p, "odd", &sink, &done, NULL);
	size_t even = add(&p, "even", &sink, &done, "w");
	link_to(&p, mid, in, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, odd, mid, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, even, mid, 1, 100, OVERFLOW_BLOCK);
	assert_string_equal(loops_of(&p), "in even|mid|odd");
}

/* What waits for room in a queue on the same loop goes on when there is room: nobody else would wake the
 * loop. */
static void a_full_queue_on_one_loop_goes_on(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 100000, .batch = 10, .burst = 1000};
	struct ss_component plain = sink;
	struct plan p;

	plain.idle = NULL;
	plan_init(&p);
	size_t in = add(&p, "in", &feed, &fc, NULL);
	size_t out = add(&p, "out", &plain, &done, NULL);
	link_to(&p, out, in, 0, 100, OVERFLOW_BLOCK);
	start(&p);
	await_in(&p, in, 100000);
	drain(&p);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	assert_int_equal(totals(&p, out).out, 100000);
	finish(&p);
}

/* ---- slow components ---- */

/* What a call that waits for a disk does: nothing, for a while. */
static void wait_ms(long ms)
{
	const struct timespec t = {.tv_nsec = ms * 1000000};

	nanosleep(&t, NULL);
}

static int32_t slow_process(void *self, uint32_t port, struct ss_batch *b)
{
	wait_ms(30);
	return sink_process(self, port, b);
}

/* A timer and a slow process() on one loop: they take turns, and so does a stop. */
static void a_slow_process_starves_nobody(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = INT64_MAX, .batch = 1, .burst = 200};
	struct ss_component slow = sink;
	struct plan p;

	slow.process = slow_process;
	plan_init(&p);
	size_t in = add(&p, "in", &feed, &fc, "w");
	size_t out = add(&p, "out", &slow, &done, "w");
	link_to(&p, out, in, 0, 10000, OVERFLOW_BLOCK);
	start(&p);
	/* the timer came three times, the sink has seen a few of the first 200 batches */
	await_in(&p, in, 600);
	assert_true(totals(&p, out).out < 100);
	uint64_t before = clock_now();
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	assert_true(clock_now() - before < 2000000000u);
	finish(&p);
}

/* It is given a loop of its own; its order, its timer and its books stay. */
static void a_slow_component_gets_its_own_loop(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 2000, .batch = 50, .track = 1};
	const struct sieve_conf vc = {.rest = 0};
	const struct sink_conf keeps = {.manner = SINK_KEEPS};
	struct ss_component slow = sink;
	struct plan p;

	slow.process = slow_process;
	plan_init(&p);
	size_t in = add(&p, "in", &feed, &fc, NULL);
	size_t mid = add(&p, "mid", &sieve, &vc, NULL);
	size_t out = add(&p, "out", &slow, &keeps, NULL);
	link_to(&p, mid, in, 0, 1000, OVERFLOW_BLOCK);
	link_to(&p, out, mid, 0, 1000, OVERFLOW_BLOCK);
	start(&p);
	const struct component *all = p.pipeline->components;
	assert_ptr_equal(atomic_load(&all[in].loop), atomic_load(&all[out].loop));
	while (atomic_load(&all[in].loop) == atomic_load(&all[out].loop))
		sched_yield();
	assert_ptr_equal(atomic_load(&all[in].loop), atomic_load(&all[mid].loop));
	await_in(&p, in, 2000);
	drain(&p);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	assert_int_equal(totals(&p, out).out, 1000);
	const struct sink *s = self(&p, out);
	assert_true(s->in_order);
	const struct feed *f = self(&p, in);
	assert_int_equal(f->delivered, 2000);
	finish(&p);
}

/* Where "worker" says so, it stays. */
static void a_named_worker_keeps_its_components(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 20, .batch = 1};
	struct ss_component slow = sink;
	struct plan p;

	slow.process = slow_process;
	plan_init(&p);
	size_t in = add(&p, "in", &feed, &fc, "w");
	size_t out = add(&p, "out", &slow, &done, "w");
	link_to(&p, out, in, 0, 1000, OVERFLOW_BLOCK);
	start(&p);
	await_in(&p, in, 20);
	drain(&p);
	assert_int_equal(p.pipeline->n_workers, 1);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	finish(&p);
}

/* A sink that takes nothing stops the source, not its sibling with an edge that drops. */
static void a_blocked_sink_holds_up_only_what_blocks(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 1000000, .batch = 10};
	const struct sink_conf stuck = {.manner = SINK_HANGS}, well = {.manner = SINK_DONE};
	struct plan p;

	gate = false;
	plan_init(&p);
	size_t in = add(&p, "in", &feed, &fc, NULL);
	size_t a = add(&p, "a", &sink, &stuck, NULL);
	size_t b = add(&p, "b", &sink, &well, NULL);
	link_to(&p, a, in, 0, 100, OVERFLOW_DROP_OLDEST);
	link_to(&p, b, in, 0, 100, OVERFLOW_BLOCK);
	start(&p);
	await_in(&p, b, 1000000);
	gate = true;
	drain(&p);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	assert_int_equal(totals(&p, b).out, 1000000);
	struct totals t = totals(&p, a);
	assert_int_equal(t.in, 1000000);
	assert_true(t.queue_full > 0);
	assert_int_equal(t.out + t.queue_full, 1000000);
	assert_int_equal(((struct sink *)self(&p, a))->last, 1000000);
	finish(&p);
}

static void back_pressure_reaches_the_source(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 100000, .batch = 10};
	const struct sieve_conf vc = {.rest = 1};
	const struct sink_conf stuck = {.manner = SINK_HANGS};
	struct plan p;

	gate = false;
	plan_init(&p);
	size_t in = add(&p, "in", &feed, &fc, NULL);
	size_t mid = add(&p, "mid", &sieve, &vc, NULL);
	size_t odd = add(&p, "odd", &sink, &stuck, NULL);
	size_t even = add(&p, "even", &sink, &stuck, NULL);
	link_to(&p, mid, in, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, odd, mid, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, even, mid, 1, 100, OVERFLOW_BLOCK);
	start(&p);
	struct feed *f = self(&p, in);
	while (atomic_load(&f->pauses) == 0)
		sched_yield();
	/* what is inside is bounded by the queues and a batch or two in hand */
	struct totals t = totals(&p, mid);
	assert_true(t.in < 1000);
	gate = true;
	await_in(&p, in, 100000);
	drain(&p);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	assert_int_equal(totals(&p, odd).out, 50000);
	assert_int_equal(totals(&p, even).out, 50000);
	assert_int_equal(totals(&p, mid).queue_full, 0);
	finish(&p);
}

static void a_forced_end_counts_what_is_lost(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = INT64_MAX, .batch = 7, .track = 1};
	const struct sink_conf stuck = {.manner = SINK_HANGS};
	struct plan p;

	gate = false;
	plan_init(&p);
	size_t in = add(&p, "in", &feed, &fc, NULL);
	size_t out = add(&p, "out", &sink, &stuck, NULL);
	link_to(&p, out, in, 0, 1000, OVERFLOW_BLOCK);
	start(&p);
	struct feed *f = self(&p, in);
	while (atomic_load(&f->pauses) == 0)
		sched_yield();
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	struct totals t = totals(&p, out);
	assert_int_equal(t.in, totals(&p, in).out);
	assert_int_equal(t.out, 0);
	/* one batch may be in the sink's hand, refused */
	assert_int_equal(t.dropped[DROP_SHUTDOWN] + t.held, t.in);
	assert_true(t.held == 7 || t.held == 0);
	finish(&p);
}

/* A batch that the plugin keeps for ever does not outlive it. */
static void what_a_plugin_forgets_is_freed(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 40, .batch = 10, .track = 1};
	const struct sink_conf keeps = {.manner = SINK_KEEPS};
	struct ss_component forgetful = sink;
	struct plan p;

	forgetful.process = keep_for_ever;
	forgetful.drain = nothing_0;
	plan_init(&p);
	size_t in = add(&p, "in", &feed, &fc, NULL);
	size_t out = add(&p, "out", &forgetful, &keeps, NULL);
	link_to(&p, out, in, 0, 1000, OVERFLOW_BLOCK);
	start(&p);
	await_in(&p, out, 40);
	drain(&p);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	assert_int_equal(totals(&p, out).held, 40);
	struct component *all = p.pipeline->components;
	assert_int_equal(pool_outstanding(all[in].pool), 4);
	component_destroy(&all[out]);
	assert_int_equal(pool_outstanding(all[in].pool), 0);
	finish(&p);
}

static void losses_at_the_source_and_loose_ends_are_counted(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 10000, .batch = 10, .lose_each = 4};
	const struct sink_conf sc = {.manner = SINK_DONE};
	struct plan p;

	plan_init(&p);
	size_t alone = add(&p, "alone", &feed, &fc, NULL);
	size_t idle = add(&p, "idle", &sink, &sc, NULL);
	start(&p);
	await_in(&p, alone, 10000);
	drain(&p);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	struct totals t = totals(&p, alone);
	assert_int_equal(t.dropped[DROP_OWN], 2500);
	assert_int_equal(t.dropped[DROP_UNCONNECTED], 7500);
	assert_int_equal(t.out, 0);
	assert_int_equal(totals(&p, idle).in, 0);
	finish(&p);
}

static void events_made_by_a_processor_are_counted_as_such(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 10000, .batch = 10};
	const struct sieve_conf vc = {.make = 1};
	const struct sink_conf sc = {.manner = SINK_KEEPS};
	struct plan p;

	plan_init(&p);
	size_t in = add(&p, "in", &feed, &fc, NULL);
	size_t mid = add(&p, "mid", &sieve, &vc, NULL);
	size_t out = add(&p, "out", &sink, &sc, NULL);
	link_to(&p, mid, in, 0, 1000, OVERFLOW_BLOCK);
	link_to(&p, out, mid, 0, 1000, OVERFLOW_BLOCK);
	start(&p);
	await_in(&p, in, 10000);
	drain(&p);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	struct totals t = totals(&p, mid);
	assert_int_equal(t.in, 10000);
	assert_int_equal(t.out, 6000);
	assert_int_equal(t.out - t.created + t.filtered, 10000);
	assert_int_equal(totals(&p, out).out, 6000);
	finish(&p);
}

#if COUNTS_ALLOCATIONS
/* Cost is per batch: once the pools are warm, nothing is allocated per event, nor per batch. */
static void no_allocation_per_event(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 4000000, .batch = 100};
	const struct sieve_conf vc = {.rest = 0};
	const struct sink_conf sc = {.manner = SINK_DONE};
	struct plan p;

	plan_init(&p);
	size_t in = add(&p, "in", &feed, &fc, NULL);
	size_t mid = add(&p, "mid", &sieve, &vc, NULL);
	size_t out = add(&p, "out", &sink, &sc, NULL);
	link_to(&p, mid, in, 0, 1000, OVERFLOW_BLOCK);
	link_to(&p, out, mid, 0, 1000, OVERFLOW_BLOCK);
	start(&p);
	await_in(&p, in, 2000000);
	uint64_t before = atomic_load(&allocations);
	await_in(&p, in, 4000000);
	uint64_t made = atomic_load(&allocations) - before;
	/* the pools may still grow by as many batches as the queues hold */
	assert_true(made <= 100);
	drain(&p);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	finish(&p);
}
#endif

static int32_t refuses_to_start(void *s)
{
	(void)s;
	return -EADDRINUSE;
}

static void a_failed_start_stops_the_others(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 10, .batch = 1};
	const struct sink_conf sc = {.manner = SINK_DONE};
	struct ss_component broken = feed;
	struct plan p;

	broken.start = refuses_to_start;
	plan_init(&p);
	size_t in = add(&p, "in", &broken, &fc, NULL);
	size_t out = add(&p, "out", &sink, &sc, NULL);
	link_to(&p, out, in, 0, 10, OVERFLOW_BLOCK);
	assert_int_equal(pipeline_create(&p.config, &p.diag, &p.pipeline), 0);
	assert_int_equal(pipeline_start(p.pipeline), -EADDRINUSE);
	finish(&p);
}

static void repeated(void **state)
{
	for (int i = 0; i < 20; i++) {
		a_forced_end_counts_what_is_lost(state);
		losses_at_the_source_and_loose_ends_are_counted(state);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_each),
		cmocka_unit_test(one_thread_for_all),
		cmocka_unit_test(a_chain_runs_on_one_loop),
		cmocka_unit_test(what_follows_an_own_loop_shares_the_next),
		cmocka_unit_test(branches_run_on_loops_of_their_own),
		cmocka_unit_test(a_join_begins_a_loop),
		cmocka_unit_test(named_workers_share_whatever_the_graph),
		cmocka_unit_test(a_full_queue_on_one_loop_goes_on),
		cmocka_unit_test(a_slow_process_starves_nobody),
		cmocka_unit_test(a_slow_component_gets_its_own_loop),
		cmocka_unit_test(a_named_worker_keeps_its_components),
		cmocka_unit_test(a_blocked_sink_holds_up_only_what_blocks),
		cmocka_unit_test(back_pressure_reaches_the_source),
		cmocka_unit_test(a_forced_end_counts_what_is_lost),
		cmocka_unit_test(what_a_plugin_forgets_is_freed),
		cmocka_unit_test(losses_at_the_source_and_loose_ends_are_counted),
		cmocka_unit_test(events_made_by_a_processor_are_counted_as_such),
#if COUNTS_ALLOCATIONS
		cmocka_unit_test(no_allocation_per_event),
#endif
		cmocka_unit_test(a_failed_start_stops_the_others),
		cmocka_unit_test(repeated),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
