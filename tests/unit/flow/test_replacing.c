/* SPDX-License-Identifier: MIT */
/* A running pipeline takes over other configurations: whatever is replaced, added or taken out, every event
 * is accounted for, once and in order. */
#include "tests/unit/helper_pipeline.h"

#include <errno.h>
#include <time.h>
#include "core/flow/reload/transition.h"

static const struct feed_conf feeding = {.total = INT64_MAX, .batch = 20, .track = 1};
static const struct sieve_conf sieving = {.rest = 0};
static const struct sink_conf done = {.manner = SINK_DONE};

static void wait_a_bit(void *arg, uint64_t ns)
{
	const struct timespec t = {.tv_nsec = (long)ns};

	(void)arg;
	nanosleep(&t, NULL);
}

static bool hurry(void *arg)
{
	(void)arg;
	return false;
}

static void count_gone(void *arg, const struct component *c)
{
	struct totals t;

	report_totals(c, &t);
	assert_int_equal(t.in + t.created, t.out + t.filtered + t.dropped_all + t.held);
	++*(unsigned *)arg;
}

/* The plan goes on with the configuration of another one, which it must not outlive. */
static int become(struct plan *p, struct plan *other, struct transition_result *result, unsigned *gone)
{
	const struct transition_hooks hooks = {.wait = wait_a_bit,
					       .hurry = hurry,
					       .gone = count_gone,
					       .arg = gone,
					       .drain_ns = 60000000000u};

	return transition_run(p->pipeline, &other->config, &hooks, &other->diag, result);
}

/* The books of the running components, by the plan that runs. */
static struct totals books(const struct plan *p, const struct plan *of, const char *id)
{
	for (size_t i = 0; i < of->config.n_components; i++)
		if (strcmp(of->config.components[i].id, id) == 0)
			return totals(p, i);
	fail();
	abort();
}

static void straight(struct plan *p, const struct sink_conf *manner, const char *mid, const char *out)
{
	plan_init(p);
	size_t a = add(p, "in", &feed, &feeding, NULL);
	size_t b = add(p, "mid", &sieve, &sieving, mid);
	size_t c = add(p, "out", &sink, manner, out);
	link_to(p, b, a, 0, 1000, OVERFLOW_BLOCK);
	link_to(p, c, b, 0, 1000, OVERFLOW_BLOCK);
}

static void close_plan(struct plan *p)
{
	diag_done(&p->diag);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->changed);
}

/* A component whose "worker" is another one is replaced, and moves. */
static void replace_again_and_again(int64_t manner)
{
	const struct sink_conf sc = {.manner = manner};
	struct transition_result result;
	struct plan p, q;
	unsigned gone = 0;

	straight(&p, &sc, "m", "o");
	straight(&q, &sc, "n", "x");
	start(&p);
	for (int i = 0; i < 40; i++) {
		const uint64_t before = totals(&p, 2).in;
		assert_int_equal(become(&p, i % 2 ? &p : &q, &result, &gone), 0);
		assert_int_equal(result.kept, 1);
		assert_int_equal(result.replaced, 2);
		await_in(&p, 2, before + 100);
	}
	const size_t threads = p.pipeline->n_workers;
	assert_int_equal(threads, 3);
	drain(&p);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	struct totals in = totals(&p, 0), mid = totals(&p, 1), out = totals(&p, 2);
	assert_int_equal(mid.in, in.out);
	assert_int_equal(out.in, mid.out);
	assert_int_equal(out.out, out.in);
	assert_int_equal(in.held + mid.held + out.held, 0);
	const struct feed *f = self(&p, 0);
	assert_int_equal(f->in_flight, 0);
	assert_int_equal(f->failed + f->dropped, 0);
	assert_int_equal(gone, 0);
	finish(&p);
	close_plan(&q);
}

static void replaced_stages_lose_nothing(void **state)
{
	(void)state;
	for (int64_t manner = SINK_DONE; manner <= SINK_REFUSES; manner++)
		replace_again_and_again(manner);
}

static void what_is_the_same_stays(void **state)
{
	(void)state;
	struct transition_result result;
	struct plan p, q;
	unsigned gone = 0;

	straight(&p, &done, NULL, NULL);
	straight(&q, &done, NULL, NULL);
	q.components[1].inputs[0].limits.events = 5;
	start(&p);
	await_in(&p, 2, 100);
	const void *const before[] = {self(&p, 0), self(&p, 1), self(&p, 2)};
	assert_int_equal(become(&p, &q, &result, &gone), 0);
	assert_int_equal(result.kept, 3);
	for (size_t i = 0; i < 3; i++)
		assert_ptr_equal(self(&p, i), before[i]);
	assert_int_equal(p.pipeline->components[1]->inputs[0]->queue->limits.events, 5);
	assert_int_equal(p.pipeline->n_workers, 1);
	await_in(&p, 2, totals(&p, 2).in + 100);
	drain(&p);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	assert_int_equal(totals(&p, 2).out, totals(&p, 1).out);
	const struct sink *s = self(&p, 2);
	assert_true(s->in_order);
	finish(&p);
	close_plan(&q);
}

/* With a further sink beside, and without the stage in the middle. */
static void edges_come_and_go(void **state)
{
	(void)state;
	struct transition_result result;
	struct plan p, q;
	unsigned gone = 0;

	straight(&p, &done, NULL, NULL);
	plan_init(&q);
	size_t in = add(&q, "in", &feed, &feeding, NULL);
	size_t out = add(&q, "out", &sink, &done, NULL);
	size_t more = add(&q, "more", &sink, &done, NULL);
	link_to(&q, out, in, 0, 100, OVERFLOW_BLOCK);
	link_to(&q, more, in, 0, 100, OVERFLOW_DROP_OLDEST);
	start(&p);
	for (int i = 0; i < 20; i++) {
		struct plan *now = i % 2 ? &p : &q;
		assert_int_equal(become(&p, now, &result, &gone), 0);
		p.config.n_components = 3;
		const struct totals t = books(&p, now, "out");
		while (books(&p, now, "out").in < t.in + 100)
			;
	}
	assert_int_equal(gone, 20);
	drain(&p);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	const struct feed *f = self(&p, 0);
	assert_int_equal(f->in_flight, 0);
	assert_int_equal(f->failed, 0);
	finish(&p);
	close_plan(&q);
}

static int32_t fails(void *self)
{
	(void)self;
	return -EADDRINUSE;
}

/* One of the new ones cannot be started: the old ones are made anew, and nothing is missing. */
static void who_cannot_start_brings_the_old_ones_back(void **state)
{
	(void)state;
	struct ss_component bad = sink;
	struct transition_result result;
	struct plan p, q;
	unsigned gone = 0;

	bad.type = "bad";
	bad.start = fails;
	straight(&p, &done, "m", "o");
	straight(&q, &done, "n", "o");
	q.components[2].desc = &bad;
	start(&p);
	for (int i = 0; i < 10; i++) {
		await_in(&p, 2, totals(&p, 2).in + 100);
		assert_int_equal(become(&p, &q, &result, &gone), -EADDRINUSE);
		assert_int_equal(p.pipeline->n_workers, 3);
		assert_ptr_equal(p.pipeline->config, &p.config);
	}
	await_in(&p, 2, 1000);
	drain(&p);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	const struct feed *f = self(&p, 0);
	assert_int_equal(f->in_flight, 0);
	finish(&p);
	close_plan(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replaced_stages_lose_nothing),
		cmocka_unit_test(what_is_the_same_stays),
		cmocka_unit_test(edges_come_and_go),
		cmocka_unit_test(who_cannot_start_brings_the_old_ones_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
