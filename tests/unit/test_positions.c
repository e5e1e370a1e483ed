/* SPDX-License-Identifier: MIT */
/* Where sources go on: graphs of bare components, and two services as a plugin gets them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <ev.h>
#include <semstreams/ext/loop-libev.h>
#include <semstreams/ext/positions.h>
#include "core/flow/pipeline.h"
#include "core/flow/positions.h"
#include "core/flow/streams.h"

/* ---- graphs: "ab" means that b reads from a; the order of the words is that of b's inputs ---- */

enum { MAX = 64, EDGES = 256 };

struct graph {
	struct component all[MAX];
	struct component *order[MAX];
	struct edge edges[EDGES];
	struct edge *inputs[MAX][EDGES];
	char ids[MAX][2];
	size_t n, n_edges;
	struct positions *positions;
};

/* Components a.. are in order of the alphabet: each behind those that feed it. */
static struct graph *graph_new(size_t n, const char *const *edges)
{
	struct graph *g = calloc(1, sizeof *g);

	for (size_t i = 0; i < n; i++) {
		g->ids[i][0] = (char)('a' + i);
		g->all[i].id = g->ids[i];
		g->all[i].inputs = g->inputs[i];
		g->order[i] = &g->all[i];
		g->all[i].index = i;
	}
	for (; *edges; edges++) {
		struct edge *e = &g->edges[g->n_edges++];
		struct component *to = &g->all[(unsigned char)(*edges)[1] - 'a'];
		*e = (struct edge){.from = &g->all[(unsigned char)(*edges)[0] - 'a'], .to = to};
		to->inputs[to->n_inputs++] = e;
	}
	g->n = n;
	g->positions = positions_new(g->order, n);
	assert_non_null(g->positions);
	for (size_t i = 0; i < n; i++)
		g->all[i].positions = g->positions;
	return g;
}

static void graph_free(struct graph *g)
{
	for (size_t i = 0; i < g->n; i++) {
		streams_free(g->all[i].streams);
		streams_free(g->all[i].restored);
	}
	positions_free(g->positions);
	free(g);
}

static struct component *at(struct graph *g, char id)
{
	return &g->all[(unsigned char)id - 'a'];
}

static void checkpointer(struct graph *g, char id)
{
	positions_service.checkpointer(at(g, id), SS_COVER_ACCEPTED);
}

/* A snapshot of one more stream than the checkpointer has already. */
static int restored_stream(struct graph *g, char id, uint32_t port, const char *source, uint8_t stream,
			   uint8_t epoch, uint64_t seq)
{
	const struct ss_position p = {.stream = {stream}, .epoch = {epoch}, .seq = seq};
	uint8_t bytes[4096];
	struct streams *s = streams_new(false);

	int64_t had = at(g, id)->streams ? streams_save(at(g, id)->streams, bytes, sizeof bytes) : 0;
	if (had)
		assert_int_equal(streams_load(s, bytes, (size_t)had, false), 0);
	struct stream *st = streams_get(s, port, source, p.stream);
	assert_non_null(st);
	stream_accept(st, &p);
	st->taken = p;
	int64_t size = streams_save(s, bytes, sizeof bytes);
	streams_free(s);
	return positions_service.restore(at(g, id), bytes, (size_t)size);
}

/* Of the only stream of a source. */
static int restored(struct graph *g, char id, uint32_t port, const char *source, uint8_t epoch, uint64_t seq)
{
	return restored_stream(g, id, port, source, 0, epoch, seq);
}

/* The sequence to go on from; -1: there is none. */
static int64_t resumed_stream(struct graph *g, char id, uint8_t stream)
{
	struct ss_position p = {.seq = 4711};
	int rc = positions_service.resume(at(g, id), (const uint8_t[16]){stream}, &p);

	if (rc == 0)
		return (int64_t)p.seq;
	assert_int_equal(rc, -ENOENT);
	assert_int_equal(p.seq, 4711);
	return -1;
}

static int64_t resumed(struct graph *g, char id)
{
	return resumed_stream(g, id, 0);
}

#define GRAPH(n, ...) graph_new(n, (const char *const[]){__VA_ARGS__, NULL})

static void one_checkpointer(void **state)
{
	(void)state;
	struct graph *g = GRAPH(3, "ac", "bc");

	assert_int_equal(resumed(g, 'a'), -1);
	assert_int_equal(restored(g, 'c', 0, "a", 1, 5), -EINVAL); /* it has not said that it is one */
	checkpointer(g, 'c');
	assert_int_equal(resumed(g, 'a'), -1);
	assert_int_equal(restored(g, 'c', 2, "a", 1, 5), 0); /* an input that is no more */
	assert_int_equal(resumed(g, 'a'), -1);
	assert_int_equal(restored(g, 'c', 0, "a", 1, 5), 0);
	assert_int_equal(resumed(g, 'a'), 5);
	assert_int_equal(resumed(g, 'b'), -1);
	assert_int_equal(restored(g, 'c', 1, "b", 9, 100), 0);
	assert_int_equal(resumed(g, 'a'), 5);
	assert_int_equal(resumed(g, 'b'), 100);
	/* the last word counts */
	assert_int_equal(restored(g, 'c', 0, "a", 1, 7), 0);
	assert_int_equal(resumed(g, 'a'), 7);
	/* what a checkpointer says of a stream that does not come that way means nothing */
	assert_int_equal(restored(g, 'c', 1, "a", 2, 1), 0);
	assert_int_equal(restored(g, 'c', 0, "gone", 3, 1), 0);
	assert_int_equal(resumed(g, 'a'), 7);
	char longest[CONFIG_MAX_ID + 1];
	memset(longest, 'x', sizeof longest);
	longest[CONFIG_MAX_ID] = '\0';
	assert_int_equal(restored(g, 'c', 0, longest, 3, 1), 0);
	graph_free(g);
}

/* a feeds processors b and c, each of them a checkpointer; e is none. */
static void fan_out(void **state)
{
	(void)state;
	struct graph *g = GRAPH(6, "ab", "ac", "bd", "be", "cf");

	checkpointer(g, 'd');
	checkpointer(g, 'f');
	assert_int_equal(restored(g, 'd', 0, "a", 1, 50), 0);
	assert_int_equal(resumed(g, 'a'), -1); /* f has nothing */
	assert_int_equal(restored(g, 'f', 0, "a", 1, 40), 0);
	assert_int_equal(resumed(g, 'a'), 40);
	assert_int_equal(restored(g, 'f', 0, "a", 1, 60), 0);
	assert_int_equal(resumed(g, 'a'), 50);
	assert_int_equal(restored(g, 'f', 0, "a", 2, 60), 0);
	assert_int_equal(resumed(g, 'a'), -1); /* they disagree about the epoch */
	graph_free(g);
}

/* Each stream of a source for itself: a source may have thousands. */
static void streams_of_a_source(void **state)
{
	(void)state;
	struct graph *g = GRAPH(3, "ab", "ac");

	checkpointer(g, 'b');
	checkpointer(g, 'c');
	assert_int_equal(restored_stream(g, 'b', 0, "a", 1, 1, 50), 0);
	assert_int_equal(restored_stream(g, 'b', 0, "a", 2, 2, 60), 0);
	assert_int_equal(restored_stream(g, 'c', 0, "a", 1, 1, 55), 0);
	assert_int_equal(resumed_stream(g, 'a', 1), 50);
	assert_int_equal(resumed_stream(g, 'a', 2), -1); /* c has nothing of it */
	assert_int_equal(resumed(g, 'a'), -1);
	assert_int_equal(restored_stream(g, 'c', 0, "a", 2, 2, 40), 0);
	assert_int_equal(resumed_stream(g, 'a', 2), 40);
	assert_int_equal(restored_stream(g, 'c', 0, "a", 2, 3, 40), 0);
	assert_int_equal(resumed_stream(g, 'a', 2), -1); /* another epoch */
	assert_int_equal(resumed_stream(g, 'a', 1), 50);
	graph_free(g);
}

/* One stream on two ways to two inputs of one checkpointer. */
static void two_ways_to_two_inputs(void **state)
{
	(void)state;
	struct graph *g = GRAPH(4, "ab", "ac", "bd", "cd", "ad");

	checkpointer(g, 'd');
	assert_false(at(g, 'a')->merges);
	assert_int_equal(restored(g, 'd', 0, "a", 1, 30), 0);
	assert_int_equal(restored(g, 'd', 1, "a", 1, 20), 0);
	assert_int_equal(resumed(g, 'a'), -1);
	assert_int_equal(restored(g, 'd', 2, "a", 1, 90), 0);
	assert_int_equal(resumed(g, 'a'), 20);
	graph_free(g);
}

/* One stream on two ways to one input: what arrives there has no order, nothing can be said about it. */
static void two_ways_to_one_input(void **state)
{
	(void)state;
	struct graph *g = GRAPH(7, "ac", "ad", "ce", "de", "be", "ef", "bg");

	checkpointer(g, 'f');
	checkpointer(g, 'g');
	assert_true(at(g, 'a')->merges);
	assert_false(at(g, 'b')->merges);
	assert_false(at(g, 'c')->merges);
	assert_int_equal(restored(g, 'f', 0, "a", 1, 30), 0);
	assert_int_equal(restored(g, 'f', 0, "b", 1, 10), 0);
	assert_int_equal(restored(g, 'g', 0, "b", 1, 11), 0);
	assert_int_equal(resumed(g, 'a'), -1);
	assert_int_equal(resumed(g, 'b'), 10);
	graph_free(g);

	/* two outputs of one component into the next are two ways as well */
	g = GRAPH(4, "ab", "bc", "bc", "cd");
	checkpointer(g, 'd');
	assert_true(at(g, 'a')->merges);
	assert_true(at(g, 'b')->merges);
	assert_false(at(g, 'c')->merges);
	graph_free(g);
}

/* A checkpointer in the middle: what is behind it keeps as well. */
static void checkpointers_in_a_row(void **state)
{
	(void)state;
	struct graph *g = GRAPH(4, "ab", "bc", "cd");

	checkpointer(g, 'd');
	checkpointer(g, 'b');
	/* a's stream ends at b, whatever d had of it once */
	assert_int_equal(restored(g, 'd', 0, "a", 1, 10), 0);
	assert_int_equal(restored(g, 'b', 0, "a", 1, 12), 0);
	assert_int_equal(resumed(g, 'a'), 12);
	/* b's own stream, and c, in front of which only d is */
	assert_int_equal(resumed(g, 'b'), -1);
	assert_int_equal(restored(g, 'd', 0, "b", 7, 3), 0);
	assert_int_equal(resumed(g, 'b'), 3);
	assert_int_equal(resumed(g, 'd'), -1);
	graph_free(g);
}

/* What a checkpointer in the middle sends is of its own making: that it comes on two ways is nothing to those
 * before. */
static void ways_end_at_a_checkpointer(void **state)
{
	(void)state;
	struct graph *g = GRAPH(7, "ab", "bc", "cd", "cd", "de", "af", "ef");

	checkpointer(g, 'e');
	checkpointer(g, 'f');
	assert_true(at(g, 'a')->merges);
	assert_true(at(g, 'b')->merges);
	checkpointer(g, 'c');
	assert_false(at(g, 'a')->merges);
	assert_false(at(g, 'b')->merges);
	assert_true(at(g, 'c')->merges);
	assert_int_equal(restored(g, 'c', 0, "a", 1, 12), 0);
	assert_int_equal(restored(g, 'f', 0, "a", 1, 10), 0);
	assert_int_equal(resumed(g, 'a'), 10);
	graph_free(g);

	/* but two ways to the checkpointer itself are */
	g = GRAPH(5, "ab", "ac", "bd", "cd", "de");
	checkpointer(g, 'e');
	checkpointer(g, 'd');
	assert_false(at(g, 'a')->merges);
	graph_free(g);
	g = GRAPH(6, "ab", "ac", "bd", "cd", "de", "ef");
	checkpointer(g, 'f');
	checkpointer(g, 'e');
	assert_true(at(g, 'a')->merges);
	graph_free(g);
}

/* A component that holds its data in memory only has duplicates removed, but no say in where sources begin;
 * and where a stream comes by two ways it takes all of both. */
static void in_memory_only(void **state)
{
	(void)state;
	struct graph *g = GRAPH(6, "ab", "ac", "bd", "cd", "de", "af");

	positions_service.checkpointer(at(g, 'f'), SS_COVER_NOTHING);
	assert_non_null(at(g, 'f')->streams);
	assert_int_equal(resumed(g, 'a'), -1);
	positions_service.checkpointer(at(g, 'd'), SS_COVER_NOTHING);
	assert_non_null(at(g, 'd')->streams);
	positions_service.checkpointer(at(g, 'e'), SS_COVER_NOTHING);
	assert_null(at(g, 'e')->streams);
	checkpointer(g, 'b');
	assert_int_equal(restored(g, 'b', 0, "a", 1, 7), 0);
	assert_int_equal(resumed(g, 'a'), 7);
	assert_false(at(g, 'a')->merges);
	graph_free(g);
}

/* Ways multiply; looking at them must not. */
static void many_ways(void **state)
{
	(void)state;
	enum { LAYERS = 25 };
	char words[4 * LAYERS][3];
	const char *edges[4 * LAYERS + 2];
	size_t n = 0;

	for (int i = 0; i + 3 < 2 * LAYERS; i += 2) {
		for (int k = 0; k < 4; k++) {
			words[n][0] = (char)('a' + i + k % 2);
			words[n][1] = (char)('a' + i + 2 + k / 2);
			words[n][2] = '\0';
			edges[n] = words[n];
			n++;
		}
	}
	edges[n] = NULL;
	struct graph *g = graph_new(2 * LAYERS, edges);
	checkpointer(g, (char)('a' + 2 * LAYERS - 1));
	assert_true(at(g, 'a')->merges);
	assert_int_equal(resumed(g, 'a'), -1);
	graph_free(g);
}

static void outside_a_pipeline(void **state)
{
	(void)state;
	struct component alone = {.id = "alone"};
	struct ss_position p = {.seq = 1};

	positions_service.checkpointer(&alone, SS_COVER_ACCEPTED);
	assert_int_equal(positions_service.restore(&alone, "x", 1), -EINVAL);
	assert_int_equal(positions_service.snapshot(&alone, NULL, 0), -EINVAL);
	assert_int_equal(positions_service.resume(&alone, p.stream, &p), -ENOENT);
	positions_free(NULL);
}

/* ---- as a plugin gets them ---- */

static _Atomic int64_t started_at, fired, idles, tracked;

struct probe {
	const struct ss_host *host;
	struct ss_iface positions, libev;
	ev_timer timer;
};

static int32_t probe_create(const struct ss_host *host, const void *conf, void **self)
{
	struct probe *p = calloc(1, sizeof *p);

	(void)conf;
	p->host = host;
	assert_int_equal(host->query(host, SS_POSITIONS, sizeof(struct ss_positions), &p->positions), 0);
	assert_int_equal(host->query(host, SS_LOOP_LIBEV, sizeof(struct ss_loop_libev), &p->libev), 0);
	*self = p;
	return 0;
}

static int32_t keep_start(void *self)
{
	struct probe *p = self;
	const struct ss_positions *positions = p->positions.vtbl;
	/* port 0, "in", epoch 1, sequence 42 */
	static const uint8_t at_42[] = {'S', 'S', 'P', '1', 1, 0, 0,  0, 0, 0, 0, 0, 2, 0,
					0,   0,   'i', 'n', 1, 0, 0,  0, 0, 0, 0, 0, 0, 0,
					0,   0,   0,   0,   0, 0, 42, 0, 0, 0, 0, 0, 0, 0};

	positions->checkpointer(p->positions.self, SS_COVER_ACCEPTED);
	assert_int_equal(positions->restore(p->positions.self, at_42, sizeof at_42), 0);
	return 0;
}

static int32_t keep_process(void *self, uint32_t port, struct ss_batch *b)
{
	struct probe *p = self;
	struct ss_position position;
	const char *source;

	(void)port;
	tracked = p->host->position(b, &position, &source) == 0 ? (int64_t)position.seq : -1;
	return SS_DONE;
}

static void on_timer(struct ev_loop *ev, ev_timer *t, int events)
{
	(void)ev;
	(void)events;
	struct probe *p = t->data;
	const struct ss_position position = {.epoch = {1}, .seq = 43};
	struct ss_batch *b = p->host->batch_new(p->host, NULL, 1, 1);

	b->events[0] = (struct ss_event){.data = b->data, .len = 1, .seq = 43};
	b->count = 1;
	assert_int_equal(p->host->track(p->host, b, 1, &position), 0);
	p->host->emit(p->host, 0, b);
	p->host->batch_unref(b);
	((const struct ss_loop_libev *)p->libev.vtbl)->touched(p->libev.self);
	fired++;
}

static int32_t in_start(void *self)
{
	struct probe *p = self;
	struct ss_position from = {0};
	const struct ss_positions *positions = p->positions.vtbl;
	const struct ss_loop_libev *libev = p->libev.vtbl;

	started_at = positions->resume(p->positions.self, from.stream, &from) == 0 ? (int64_t)from.seq : -1;
	ev_timer_init(&p->timer, on_timer, 0.001, 0.);
	p->timer.data = p;
	ev_timer_start((struct ev_loop *)libev->ev_loop(p->libev.self), &p->timer);
	return 0;
}

static void in_idle(void *self)
{
	(void)self;
	if (fired)
		idles++;
}

static void nothing(void *self)
{
	(void)self;
}

static int32_t pass(void *self, uint32_t port, struct ss_batch *b)
{
	struct probe *p = self;

	(void)port;
	p->host->emit(p->host, 0, b);
	return SS_DONE;
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

#define PROBE(what, ...)                                                                                     \
	{                                                                                                    \
		.struct_size = sizeof(struct ss_component), .kind = what, .type = "probe",                   \
		.create = probe_create, .destroy = free, .stop = nothing, .pause = nothing,                  \
		.resume = nothing, .drain = nothing_0, .acked = nothing_acked, __VA_ARGS__                   \
	}
static const struct ss_component source = PROBE(SS_KIND_SOURCE, .start = in_start, .idle = in_idle);
static const struct ss_component relay = PROBE(SS_KIND_PROCESSOR, .start = nothing_0, .process = pass);
static const struct ss_component sink = PROBE(SS_KIND_SINK, .start = keep_start, .process = keep_process);

/* in feeds keep through relays, one input of it by each of them; merge: by both through a third */
static void run_pipeline(bool merge)
{
	const struct queue_limits limits = {.events = 10, .bytes = 10000};
	struct config_input by[] = {{.from = 0, .limits = limits}};
	struct config_input both[] = {{.from = 1, .limits = limits}, {.from = 2, .limits = limits}};
	struct config_input last[] = {{.from = 3, .limits = limits}};
	struct jdoc doc = {.file = (char *)"test"};
	struct jnode node = {0};
	struct config_component components[] = {
		{.id = (char *)"in", .desc = &source, .node = &node},
		{.id = (char *)"x", .desc = &relay, .inputs = by, .n_inputs = 1, .node = &node},
		{.id = (char *)"y", .desc = &relay, .inputs = by, .n_inputs = merge, .node = &node},
		{.id = (char *)"z", .desc = &relay, .inputs = both, .n_inputs = 2, .node = &node},
		{.id = (char *)"keep", .desc = &sink, .inputs = last, .n_inputs = 1, .node = &node},
	};
	struct config config = {.doc = &doc, .components = components, .n_components = 5};
	struct pipeline *p;
	struct diag diag;

	fired = idles = tracked = started_at = 0;
	diag_init(&diag);
	assert_int_equal(pipeline_create(&config, &diag, &p), 0);
	assert_int_equal(pipeline_start(p), 0);
	while (!tracked || !idles)
		sched_yield();
	assert_int_equal(pipeline_stop(p, 5000000000u), 0);
	pipeline_free(p);
	diag_done(&diag);
}

static void in_a_pipeline(void **state)
{
	(void)state;
	run_pipeline(false);
	assert_int_equal(started_at, 42);
	assert_int_equal(tracked, 43);
}

static void in_a_pipeline_that_merges(void **state)
{
	(void)state;
	run_pipeline(true);
	assert_int_equal(started_at, -1);
	assert_int_equal(tracked, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_checkpointer),
		cmocka_unit_test(fan_out),
		cmocka_unit_test(streams_of_a_source),
		cmocka_unit_test(two_ways_to_two_inputs),
		cmocka_unit_test(two_ways_to_one_input),
		cmocka_unit_test(checkpointers_in_a_row),
		cmocka_unit_test(ways_end_at_a_checkpointer),
		cmocka_unit_test(in_memory_only),
		cmocka_unit_test(many_ways),
		cmocka_unit_test(outside_a_pipeline),
		cmocka_unit_test(in_a_pipeline),
		cmocka_unit_test(in_a_pipeline_that_merges),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
