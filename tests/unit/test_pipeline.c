/* SPDX-License-Identifier: MIT */
/* The engine with component types of the test's own: every event is accounted for, whatever the types do. */
#include "helper_pipeline.h"

#include <time.h>
#include "core/admin/health.h"
#include "core/flow/batch.h"
#include "semstreams/sugar.h"

static const struct sink_conf done = {.manner = SINK_DONE};

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
	struct component *const *all = p.pipeline->components;
	assert_ptr_equal(atomic_load(&all[in]->loop), atomic_load(&all[out]->loop));
	while (atomic_load(&all[in]->loop) == atomic_load(&all[out]->loop))
		sched_yield();
	assert_ptr_equal(atomic_load(&all[in]->loop), atomic_load(&all[mid]->loop));
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
	struct component *const *all = p.pipeline->components;
	assert_int_equal(pool_outstanding(all[in]->pool), 4);
	component_destroy(all[out]);
	assert_int_equal(pool_outstanding(all[in]->pool), 0);
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
