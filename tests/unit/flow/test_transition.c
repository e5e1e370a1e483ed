/* SPDX-License-Identifier: MIT */
/* What events go through while the graph changes under them: pipelines of a test's own, exchanged for others.
 */
#include <sched.h>
#include <string.h>
#include <time.h>
#include <semstreams/ext/positions.h>
#include "../helper_pipeline.h"
#include "core/admin/health.h"
#include "core/flow/reload/transition.h"

enum { WAIT_S = 60 };

static void pass(void *arg, uint64_t ns)
{
	const struct timespec a_while = {.tv_nsec = (long)ns};

	(void)arg;
	nanosleep(&a_while, NULL);
}

static bool no_hurry(void *arg)
{
	(void)arg;
	return false;
}

static void nobody_knows(void *arg, const struct component *c)
{
	(void)arg;
	(void)c;
}

/* The pipeline of one plan becomes that of another. */
static void become(struct plan *from, struct plan *to, uint64_t drain_ns)
{
	const struct transition_hooks hooks = {
		.wait = pass, .hurry = no_hurry, .gone = nobody_knows, .drain_ns = drain_ns};
	struct transition_result result;

	to->pipeline = from->pipeline;
	assert_int_equal(transition_run(to->pipeline, &to->config, &hooks, &to->diag, &result), 0);
	diag_done(&from->diag);
	pthread_mutex_destroy(&from->lock);
	pthread_cond_destroy(&from->changed);
}

static void await(const _Atomic uint64_t *value, uint64_t least)
{
	const time_t until = time(NULL) + WAIT_S;

	while (atomic_load(value) < least && time(NULL) < until)
		sched_yield();
	assert_true(atomic_load(value) >= least);
}

/* Until the component has seen n events come in. */
static void await_in_time(const struct plan *p, size_t i, uint64_t n)
{
	const time_t until = time(NULL) + WAIT_S;

	while (totals(p, i).in < n && time(NULL) < until)
		sched_yield();
	assert_true(totals(p, i).in >= n);
}

/* A sink "out" that reads from it. */
static void connect(struct plan *p, const struct ss_component *type, const char *worker, size_t in,
		    enum overflow overflow)
{
	const size_t out = add(p, "out", type, NULL, worker);

	link_to(p, out, in, 0, 100, overflow);
}

static void end(struct plan *p)
{
	drain(p);
	assert_int_equal(pipeline_stop(p->pipeline, 5000000000u), 0);
	finish(p);
}

/* ---- a sink that refuses while the gate is closed, and tells what it was asked ---- */

static _Atomic uint64_t drains, stops, taken[2], refusals, wrong_ports;
static _Atomic uint32_t n_ports;

struct door {
	const struct ss_host *host;
	struct ss_iface loop;
	bool keeps;
};

static int32_t door_create(const struct ss_host *host, const void *conf, void **self)
{
	struct door *d = calloc(1, sizeof *d);

	(void)conf;
	d->host = host;
	assert_int_equal(host->query(host, SS_LOOP, sizeof(struct ss_loop), &d->loop), 0);
	*self = d;
	return 0;
}

static void door_look(void *self)
{
	struct door *d = self;

	d->host->input_ready(d->host);
}

static int32_t door_process(void *self, uint32_t port, struct ss_batch *b)
{
	struct door *d = self;

	if (!gate) {
		uint32_t timer;
		const struct ss_loop *loop = d->loop.vtbl;
		assert_int_equal(loop->timer(d->loop.self, 200000, 0, door_look, d, &timer), 0);
		refusals++;
		return SS_BUSY;
	}
	if (port < n_ports)
		taken[port] += b->count;
	else
		wrong_ports++;
	return SS_DONE;
}

static int32_t door_drain(void *self)
{
	(void)self;
	drains++;
	return 0;
}

static const struct ss_component door = {
	.struct_size = sizeof door,
	.kind = SS_KIND_SINK,
	.type = "door",
	.create = door_create,
	.destroy = free,
	.start = nothing_0,
	.stop = nothing,
	.process = door_process,
	.pause = nothing,
	.resume = nothing,
	.drain = door_drain,
	.acked = nothing_acked,
};

static int set_up(void **state)
{
	(void)state;
	gate = true;
	drains = taken[0] = taken[1] = refusals = wrong_ports = 0;
	n_ports = 1;
	return 0;
}

/* ---- tests ---- */

/* Another type takes the id of what it reads from: the sink is not drained, there is more to come. */
static void who_stays_is_not_drained(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 100, .batch = 10};
	const struct ss_component other = feed;
	struct plan a, b;

	plan_init(&a);
	connect(&a, &door, NULL, add(&a, "in", &feed, &fc, NULL), OVERFLOW_BLOCK);
	start(&a);
	await(&taken[0], 100);
	plan_init(&b);
	connect(&b, &door, NULL, add(&b, "in", &other, &fc, NULL), OVERFLOW_BLOCK);
	become(&a, &b, 10000000000u);
	await(&taken[0], 200);
	assert_int_equal(drains, 0);
	end(&b);
	assert_int_equal(drains, 1);
}

/* What waits for room in a queue that shall drop from now on does not wait for ever. */
static void a_full_queue_drops_from_now_on(void **state)
{
	static const enum overflow policies[] = {OVERFLOW_DROP_NEWEST, OVERFLOW_DROP_OLDEST};
	(void)state;

	for (size_t i = 0; i < 2; i++) {
		const struct feed_conf fc = {.total = 20000, .batch = 10, .burst = 30};
		struct plan a, b;
		set_up(NULL);
		gate = false;
		plan_init(&a);
		connect(&a, &door, "w", add(&a, "in", &feed, &fc, NULL), OVERFLOW_BLOCK);
		start(&a);
		await(&((struct feed *)self(&a, 0))->pauses, 1);
		await(&refusals, 1);
		plan_init(&b);
		connect(&b, &door, "w", add(&b, "in", &feed, &fc, NULL), policies[i]);
		become(&a, &b, 10000000000u);
		gate = true;
		await_in_time(&b, 0, 20000);
		end(&b);
	}
}

/* The second of two inputs becomes the only one: what was refused comes by the number that it has now. */
static void what_was_refused_comes_by_its_new_number(void **state)
{
	(void)state;
	const struct feed_conf none = {.total = 0, .batch = 1}, fc = {.total = 10, .batch = 10, .track = 1};
	struct plan a, b;

	gate = false;
	plan_init(&a);
	size_t out = add(&a, "out", &door, NULL, NULL);
	link_to(&a, out, add(&a, "none", &feed, &none, NULL), 0, 100, OVERFLOW_BLOCK);
	size_t in = add(&a, "in", &feed, &fc, NULL);
	link_to(&a, out, in, 0, 100, OVERFLOW_BLOCK);
	start(&a);
	const struct feed *f = self(&a, in);
	await(&refusals, 1);
	plan_init(&b);
	connect(&b, &door, NULL, add(&b, "in", &feed, &fc, NULL), OVERFLOW_BLOCK);
	become(&a, &b, 10000000000u);
	gate = true;
	await(&f->acked, 10);
	assert_int_equal(f->delivered, 10);
	assert_int_equal(taken[0], 10);
	assert_int_equal(wrong_ports, 0);
	end(&b);
}

/* Its second input goes, whose last batch it refused and does not take in time. */
static void what_was_refused_fails_with_its_input(void **state)
{
	(void)state;
	const struct feed_conf none = {.total = 0, .batch = 1}, fc = {.total = 10, .batch = 10, .track = 1};
	struct plan a, b;

	gate = false;
	plan_init(&a);
	size_t out = add(&a, "out", &door, NULL, NULL);
	size_t first = add(&a, "none", &feed, &none, NULL), in = add(&a, "in", &feed, &fc, NULL);
	link_to(&a, out, first, 0, 100, OVERFLOW_BLOCK);
	link_to(&a, out, in, 0, 100, OVERFLOW_BLOCK);
	start(&a);
	const struct feed *f = self(&a, in);
	await(&refusals, 1);
	plan_init(&b);
	out = add(&b, "out", &door, NULL, NULL);
	first = add(&b, "none", &feed, &none, NULL);
	add(&b, "in", &feed, &fc, NULL);
	link_to(&b, out, first, 0, 100, OVERFLOW_BLOCK);
	become(&a, &b, 1);
	gate = true;
	await(&f->acked, 10);
	assert_int_equal(f->failed, 10);
	assert_int_equal(wrong_ports, 0);
	end(&b);
}

/* A sink is taken away with a batch that it refused: its source is not told that it was delivered. */
static void what_was_refused_is_not_delivered(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 10, .batch = 10, .track = 1};
	struct plan a, b;

	gate = false;
	plan_init(&a);
	size_t in = add(&a, "in", &feed, &fc, NULL);
	connect(&a, &door, NULL, in, OVERFLOW_BLOCK);
	start(&a);
	const struct feed *f = self(&a, in);
	await(&refusals, 1);
	plan_init(&b);
	add(&b, "in", &feed, &fc, NULL);
	become(&a, &b, 1);
	await(&f->acked, 10);
	assert_int_equal(f->failed, 10);
	end(&b);
}

/* Its start cuts the edge by which it is fed. */
static int32_t cut_edge(void *self)
{
	const struct door *d = self;
	struct edge *const *inputs = ((const struct component *)d->host)->inputs;

	inputs[0]->from->ports[inputs[0]->port].n = 0;
	return 0;
}

/* The host finds out by itself, and that it is over. */
static void an_edge_that_is_not_attached_is_told(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 10, .batch = 10};
	struct ss_component cutter = door;
	struct plan a, b, c;
	char why[256];

	cutter.type = "cutter";
	cutter.start = cut_edge;
	plan_init(&a);
	connect(&a, &door, NULL, add(&a, "in", &feed, &fc, NULL), OVERFLOW_BLOCK);
	start(&a);
	await(&taken[0], 10);
	plan_init(&b);
	connect(&b, &cutter, NULL, add(&b, "in", &feed, &fc, NULL), OVERFLOW_BLOCK);
	become(&a, &b, 10000000000u);
	assert_true(health_reason(b.pipeline->health, "wiring", why, sizeof why));
	assert_non_null(strstr(why, "in -> out"));
	plan_init(&c);
	connect(&c, &door, NULL, add(&c, "in", &feed, &fc, NULL), OVERFLOW_BLOCK);
	become(&b, &c, 10000000000u);
	assert_false(health_reason(c.pipeline->health, "wiring", why, sizeof why));
	end(&c);
}

static void count_stop(void *self)
{
	(void)self;
	stops++;
}

/* A reload that could not be carried out has stopped it already when the program ends. */
static void who_has_stopped_is_not_stopped_again(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 10, .batch = 10};
	struct ss_component counted = door;
	struct plan a;

	stops = 0;
	counted.stop = count_stop;
	plan_init(&a);
	connect(&a, &counted, NULL, add(&a, "in", &feed, &fc, NULL), OVERFLOW_BLOCK);
	start(&a);
	await(&taken[0], 10);
	assert_int_equal(pipeline_stop_one(a.pipeline->components[1], 5000000000u), 0);
	assert_int_equal(stops, 1);
	assert_int_equal(pipeline_stop(a.pipeline, 5000000000u), 0);
	assert_int_equal(stops, 1);
	finish(&a);
}

/* ---- checkpointers ---- */

static _Atomic bool keeps;
static _Atomic uint64_t resumed;

static int32_t keeper_start(void *self)
{
	const struct door *d = self;
	struct ss_iface positions;

	assert_int_equal(d->host->query(d->host, SS_POSITIONS, sizeof(struct ss_positions), &positions), 0);
	((const struct ss_positions *)positions.vtbl)->checkpointer(positions.self, SS_COVER_ACCEPTED);
	return 0;
}

/* Keeps a batch, which is not durable then, and refuses the others. */
static int32_t keeper_process(void *self, uint32_t port, struct ss_batch *b)
{
	struct door *d = self;

	(void)port;
	if (!keeps) {
		taken[0] += b->count;
		return SS_DONE;
	}
	if (taken[0]) {
		refusals++;
		return SS_BUSY;
	}
	taken[0] += b->count;
	d->keeps = true;
	return SS_KEPT;
}

static int32_t keeper_drain(void *self)
{
	const struct door *d = self;

	return d->keeps ? SS_BUSY : 0;
}

static struct ss_component keeper(void)
{
	struct ss_component k = door;

	k.type = "keeper";
	k.start = keeper_start;
	k.process = keeper_process;
	k.drain = keeper_drain;
	return k;
}

/* What follows events that failed with the old one fails with its successor: else there would be a hole. */
static void no_hole_behind_what_failed(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 20, .batch = 10, .track = 1};
	const struct ss_component k = keeper();
	struct plan a, b;

	keeps = true;
	plan_init(&a);
	size_t in = add(&a, "in", &feed, &fc, NULL);
	connect(&a, &k, NULL, in, OVERFLOW_BLOCK);
	start(&a);
	const struct feed *f = self(&a, in);
	await(&refusals, 1);
	plan_init(&b);
	in = add(&b, "in", &feed, &fc, NULL);
	connect(&b, &k, "w", in, OVERFLOW_BLOCK);
	keeps = false;
	become(&a, &b, 1);
	await(&f->acked, 20);
	assert_int_equal(f->failed, 20);
	assert_int_equal(taken[0], 10);
	end(&b);
}

static int32_t feed_start_resumed(void *self)
{
	const struct feed *f = self;
	const uint8_t stream[16] = {0};
	struct ss_position at = {0};
	struct ss_iface positions;

	assert_int_equal(f->host->query(f->host, SS_POSITIONS, sizeof(struct ss_positions), &positions), 0);
	if (((const struct ss_positions *)positions.vtbl)->resume(positions.self, stream, &at) == 0)
		resumed = at.seq;
	return feed.start(self);
}

/* A source that starts anew does not go on behind events that are not durable: it would say that they are. */
static void what_is_not_durable_is_not_resumed_from(void **state)
{
	(void)state;
	const struct feed_conf fc = {.total = 10, .batch = 10, .track = 1};
	const struct ss_component k = keeper();
	struct ss_component resuming = feed;
	struct plan a, b;

	keeps = true;
	resumed = 0;
	resuming.start = feed_start_resumed;
	plan_init(&a);
	size_t in = add(&a, "in", &resuming, &fc, NULL);
	connect(&a, &k, "v", in, OVERFLOW_BLOCK);
	start(&a);
	await(&taken[0], 10);
	plan_init(&b);
	in = add(&b, "in", &resuming, &fc, "w");
	connect(&b, &k, "v", in, OVERFLOW_BLOCK);
	become(&a, &b, 10000000000u);
	assert_int_equal(resumed, 0);
	assert_int_equal(pipeline_stop(b.pipeline, 5000000000u), 0);
	finish(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(who_stays_is_not_drained, set_up),
		cmocka_unit_test_setup(a_full_queue_drops_from_now_on, set_up),
		cmocka_unit_test_setup(what_was_refused_comes_by_its_new_number, set_up),
		cmocka_unit_test_setup(what_was_refused_fails_with_its_input, set_up),
		cmocka_unit_test_setup(what_was_refused_is_not_delivered, set_up),
		cmocka_unit_test_setup(an_edge_that_is_not_attached_is_told, set_up),
		cmocka_unit_test_setup(who_has_stopped_is_not_stopped_again, set_up),
		cmocka_unit_test_setup(no_hole_behind_what_failed, set_up),
		cmocka_unit_test_setup(what_is_not_durable_is_not_resumed_from, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
