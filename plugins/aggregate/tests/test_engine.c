/* SPDX-License-Identifier: MIT */
/* engine: windows of each kind, disorder, lateness, several inputs, idle ones, early results, room, restarts.
 */
#include "helper_aggregate.h"

#define TUMBLING "{\"type\":\"tumbling\",\"size\":\"10s\"}"
#define SLIDING  "{\"type\":\"sliding\",\"size\":\"10s\",\"every\":\"5s\"}"
#define SESSION  "{\"type\":\"session\",\"gap\":\"5s\"}"
#define COUNT    "{\"n\":\"count\"}"
#define SUM      "{\"sum\":\"sum(v)\"}"
#define KEY      "\"k\""

#define W(from, to, rest)                                                                                    \
	"{\"window_start\":\"2025-11-23T10:" from "Z\",\"window_end\":\"2025-11-23T10:" to "Z\"," rest "}\n"

/* ---- tumbling ---- */

static void test_tumbling(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT, .group_by = KEY);
	assert_true(feed(&b, 0, "{\"k\":\"a\"}"));
	assert_true(feed(&b, 9.999999999, "{\"k\":\"b\"}"));
	assert_true(feed(&b, 5, "{\"k\":\"a\"}"));
	assert_string_equal(reported(&b), "");
	assert_true(feed(&b, 10, "{\"k\":\"c\"}"));
	assert_string_equal(reported(&b), W("00:00", "00:10", "\"k\":\"a\",\"n\":2")
						  W("00:00", "00:10", "\"k\":\"b\",\"n\":1"));
	assert_false(feed(&b, 9, "{\"k\":\"a\"}"));
	assert_int_equal(b.engine->count.dropped[ENGINE_LATE], 1);
	/* windows nobody was in are not reported */
	assert_true(feed(&b, 3599, "{\"k\":\"c\"}"));
	assert_string_equal(reported(&b), W("00:10", "00:20", "\"k\":\"c\",\"n\":1"));
	engine_flush(b.engine);
	assert_string_equal(reported(&b), "{\"window_start\":\"2025-11-23T10:59:50Z\",\"window_end\":"
					  "\"2025-11-23T11:00:00Z\",\"k\":\"c\",\"n\":1,\"partial\":true}\n");
	assert_int_equal(b.engine->groups->n, 0);
	assert_int_equal(b.engine->groups->n_windows, 0);
	teardown(&b);
}

static void test_aligned_with_offset(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = "{\"type\":\"tumbling\",\"size\":\"10s\",\"offset\":\"3s\"}", .functions = COUNT);
	feed(&b, 2, "{}");
	feed(&b, 3, "{}");
	feed(&b, 13, "{}");
	assert_string_equal(reported(&b), "{\"window_start\":\"2025-11-23T09:59:53Z\",\"window_end\":\"2025-"
					  "11-23T10:00:03Z\",\"n\":1}\n" W("00:03", "00:13", "\"n\":1"));
	teardown(&b);
}

/* An offset longer than the window, moments before 1970, and the ends of time. */
static void test_far_away(void **state)
{
	static const char *const windows[] = {
		"{\"type\":\"tumbling\",\"size\":\"366d\",\"offset\":\"366d\"}",
		"{\"type\":\"sliding\",\"size\":\"366d\",\"every\":\"183d\",\"offset\":\"366d\"}",
		"{\"type\":\"session\",\"gap\":\"366d\"}", "{\"type\":\"tumbling\",\"size\":\"1ns\"}"};
	static const char *const moments[] = {"{\"t\":-9000000000}",
					      "{\"t\":-9000000000.000000001}",
					      "{\"t\":-1}",
					      "{\"t\":0}",
					      "{\"t\":9000000000}",
					      "{\"t\":9000000001}",
					      "{\"t\":9e99}",
					      "{\"t\":-9e99}",
					      "{\"t\":9223372036.854775807}"};
	struct bench b;

	(void)state;
	for (size_t w = 0; w < sizeof windows / sizeof *windows; w++) {
		SETUP(&b, .window = windows[w], .functions = COUNT,
		      .time = "{\"field\":\"t\",\"format\":\"s\",\"max_ahead\":\"0s\",\"lateness\":"
			      "\"366d\"}");
		bool taken[9];
		for (int i = 0; i < 9; i++) {
			taken[i] = feed(&b, 0, moments[i]);
			engine_tick(b.engine, b.now + 10);
		}
		restart(&b);
		assert_true(taken[0] && taken[2] && taken[3] && taken[4]);
		assert_false(taken[1] || taken[5] || taken[6] || taken[7] || taken[8]);
		assert_int_equal(b.engine->count.dropped[ENGINE_NO_TIME], 0);
		engine_tick(b.engine, 5 * b.now);
		engine_tick(b.engine, UINT64_MAX / 2);
		engine_flush(b.engine);
		assert_int_equal(b.engine->groups->n, 0);
		teardown(&b);
	}
}

static void test_lateness(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT, .time = "{\"lateness\":\"3s\",\"late\":\"emit\"}");
	feed(&b, 1, "{}");
	feed(&b, 12.9, "{}");
	assert_string_equal(reported(&b), "");
	assert_true(feed(&b, 2, "{}"));
	feed(&b, 13, "{}");
	assert_string_equal(reported(&b), W("00:00", "00:10", "\"n\":2"));
	assert_false(feed(&b, 9, "{\"too\":\"late\"}"));
	assert_string_equal(text_of(&b.late), "{\"too\":\"late\"}\n");
	assert_int_equal(b.engine->count.dropped[ENGINE_LATE], 1);
	teardown(&b);
}

/* ---- sliding ---- */

static void test_sliding(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = SLIDING, .functions = SUM, .group_by = KEY);
	feed(&b, 1, "{\"k\":1,\"v\":1}");
	feed(&b, 6, "{\"k\":1,\"v\":10}");
	assert_string_equal(
		reported(&b),
		"{\"window_start\":\"2025-11-23T09:59:55Z\",\"window_end\":\"2025-11-23T10:00:05Z\",\"k\":1,"
		"\"sum\":1}\n");
	/* late for one window, in time for the next */
	assert_true(feed(&b, 4, "{\"k\":2,\"v\":100}"));
	feed(&b, 12, "{\"k\":1,\"v\":1000}");
	assert_string_equal(reported(&b), W("00:00", "00:10", "\"k\":1,\"sum\":11")
						  W("00:00", "00:10", "\"k\":2,\"sum\":100"));
	assert_false(feed(&b, 4.9, "{\"k\":2,\"v\":100}"));
	/* over several at once: each is reported */
	feed(&b, 31, "{\"k\":1,\"v\":1}");
	assert_string_equal(reported(&b), W("00:05", "00:15", "\"k\":1,\"sum\":1010")
						  W("00:10", "00:20", "\"k\":1,\"sum\":1000"));
	engine_flush(b.engine);
	assert_string_equal(reported(&b), W("00:25", "00:35", "\"k\":1,\"sum\":1,\"partial\":true")
						  W("00:30", "00:40", "\"k\":1,\"sum\":1,\"partial\":true"));
	assert_int_equal(b.engine->groups->n, 0);
	assert_int_equal(b.engine->merged->n, 0);
	teardown(&b);
}

/* What comes after a window's end while it is waited for is not in it. */
static void test_sliding_waits(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = SLIDING, .functions = SUM, .time = "{\"lateness\":\"20s\"}");
	feed(&b, 4, "{\"v\":1}");
	feed(&b, 9, "{\"v\":10}");
	feed(&b, 10, "{\"v\":100}");
	feed(&b, 15, "{\"v\":1000}");
	feed(&b, 30, "{\"v\":10000}");
	assert_string_equal(reported(&b), "{\"window_start\":\"2025-11-23T09:59:55Z\",\"window_end\":\"2025-"
					  "11-23T10:00:05Z\",\"sum\":1}\n" W("00:00", "00:10", "\"sum\":11"));
	feed(&b, 40, "{\"v\":0}");
	assert_string_equal(reported(&b),
			    W("00:05", "00:15", "\"sum\":110") W("00:10", "00:20", "\"sum\":1100"));
	teardown(&b);
}

/* Sketches in panes and in the windows put together of them: all memory is accounted for. */
static void test_sliding_sketches(void **state)
{
	struct bench b;
	char event[64];

	(void)state;
	SETUP(&b, .window = SLIDING, .group_by = KEY,
	      .functions = "{\"d\":\"distinct(v)\",\"p\":\"p50(v)\",\"t\":\"top(v)\",\"l\":\"last(v)\"}");
	for (int i = 0; i < 5000; i++) {
		snprintf(event, sizeof event, "{\"k\":%d,\"v\":%d}", i % 7, i * i);
		feed(&b, i * 0.01, event);
		engine_close_step(b.engine, 1);
	}
	assert_int_equal(heap_of(b.engine), b.engine->groups->heap);
	engine_flush(b.engine);
	assert_int_equal(b.engine->groups->heap, 0);
	assert_int_equal(b.engine->merged->heap, 0);
	assert_int_equal(b.engine->count.no_memory, 0);
	teardown(&b);
}

/* size is no multiple of every: panes are as long as their common divisor. */
static void test_sliding_uneven(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = "{\"type\":\"sliding\",\"size\":\"5s\",\"every\":\"3s\"}", .functions = COUNT);
	assert_int_equal(b.plan.pane_ns, SECOND);
	for (int s = 0; s < 12; s++)
		feed(&b, s, "{}");
	/* starts are multiples of 3 s since 1970: 10:00:00 is one */
	assert_string_equal(reported(&b),
			    "{\"window_start\":\"2025-11-23T09:59:57Z\",\"window_end\":\"2025-11-23T10:00:"
			    "02Z\",\"n\":2}\n" W("00:00", "00:05", "\"n\":5") W("00:03", "00:08", "\"n\":5")
				    W("00:06", "00:11", "\"n\":5"));
	teardown(&b);
}

/* ---- session ---- */

static void test_session(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = SESSION, .functions = SUM, .group_by = KEY,
	      .time = "{\"lateness\":\"20s\",\"late\":\"drop\"}");
	feed(&b, 0, "{\"k\":1,\"v\":1}");
	feed(&b, 4, "{\"k\":1,\"v\":2}");
	feed(&b, 9, "{\"k\":1,\"v\":4}"); /* exactly the gap: another one */
	feed(&b, 9.2, "{\"k\":2,\"v\":8}");
	assert_int_equal(b.engine->groups->n, 3);
	feed(&b, 8, "{\"k\":1,\"v\":16}"); /* fills it */
	assert_int_equal(b.engine->groups->n, 2);
	feed(&b, 22, "{\"k\":1,\"v\":32}");
	feed(&b, 18, "{\"k\":1,\"v\":64}"); /* comes before */
	feed(&b, 34.3, "{\"k\":2,\"v\":1}");
	assert_string_equal(reported(&b), W("00:00", "00:14", "\"k\":1,\"sum\":23")
						  W("00:09.200", "00:14.200", "\"k\":2,\"sum\":8"));
	assert_false(feed(&b, 9, "{\"k\":1,\"v\":1}"));
	assert_true(feed(&b, 9.5, "{\"k\":1,\"v\":1}"));
	assert_int_equal(b.engine->count.dropped[ENGINE_LATE], 1);
	engine_flush(b.engine);
	assert_string_equal(reported(&b), W("00:09.500", "00:14.500", "\"k\":1,\"sum\":1,\"partial\":true")
						  W("00:18", "00:27", "\"k\":1,\"sum\":96,\"partial\":true")
							  W("00:34.300", "00:39.300",
							    "\"k\":2,\"sum\":1,\"partial\":true"));
	assert_int_equal(b.engine->panes.n, 0);
	assert_int_equal(b.engine->groups->n_windows, 0);
	teardown(&b);
}

/* Sessions that touch without overlapping stay two, on either side; what ends with the watermark is late. */
static void test_session_borders(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = SESSION, .functions = COUNT, .time = "{\"lateness\":\"100s\"}");
	feed(&b, 50, "{}");
	feed(&b, 55, "{}");
	feed(&b, 45, "{}");
	assert_int_equal(b.engine->groups->n, 3);
	feed(&b, 49.999999999, "{}"); /* joins the first two */
	assert_int_equal(b.engine->groups->n, 2);
	feed(&b, 54.999999999, "{}");
	assert_int_equal(b.engine->groups->n, 1);
	feed(&b, 145, "{}"); /* 45 s is the watermark */
	assert_false(feed(&b, 40, "{}"));
	assert_true(feed(&b, 40.000000001, "{}"));
	engine_flush(b.engine);
	assert_string_equal(reported(&b), W("00:40.000000001", "01:00", "\"n\":6,\"partial\":true")
						  W("02:25", "02:30", "\"n\":1,\"partial\":true"));
	teardown(&b);
}

/* Sessions that are joined and prolonged leave nothing behind. */
static void test_sessions_do_not_pile_up(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = "{\"type\":\"session\",\"gap\":\"2s\"}", .functions = COUNT, .group_by = KEY,
	      .time = "{\"lateness\":\"100s\"}");
	for (int i = 0; i < 20000; i++) {
		feed(&b, 3 * i, "{\"k\":1}");
		feed(&b, 3 * i + 1.5, "{\"k\":2}");
		feed(&b, 3 * i - 1.5, "{\"k\":1}"); /* joins two */
		report_all(&b);
		assert_int_equal(b.engine->panes.n, b.engine->groups->n);
	}
	report_all(&b);
	assert_true(b.engine->groups->n < 50);
	assert_true(b.engine->panes.room < 256);
	teardown(&b);
}

/* ---- time ---- */

static void test_inputs(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT, .time = "{\"idle\":\"2s\"}");
	feed_from(&b, 0, 1, "{}");
	feed_from(&b, 1, 2, "{}");
	feed_from(&b, 0, 25, "{}");
	assert_string_equal(reported(&b), ""); /* waits for the slower one */
	assert_true(feed_from(&b, 1, 9, "{}"));
	feed_from(&b, 1, 11, "{}");
	assert_string_equal(reported(&b), W("00:00", "00:10", "\"n\":3"));
	/* the slower one falls silent */
	b.now += 1900000000;
	feed_from(&b, 0, 30, "{}");
	assert_string_equal(reported(&b), "");
	b.now += 200000000;
	engine_tick(b.engine, b.now);
	assert_string_equal(reported(&b), W("00:10", "00:20", "\"n\":1") W("00:20", "00:30", "\"n\":1"));
	/* all are silent: the clock goes on from the newest, as much behind as silence may last */
	b.now += 10000000000;
	engine_tick(b.engine, b.now);
	assert_string_equal(reported(&b), "");
	b.now += 2000000000;
	engine_tick(b.engine, b.now);
	assert_string_equal(reported(&b), W("00:30", "00:40", "\"n\":1"));
	teardown(&b);
}

/* An input that can send again does not lose its place by silence, not even over a restart. */
static void test_resumable_is_not_idle(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT);
	engine_input(b.engine, 0)->resumable = true;
	feed(&b, 1, "{}");
	b.now += UINT64_C(3600000000000);
	engine_tick(b.engine, b.now);
	assert_string_equal(reported(&b), "");
	restart(&b);
	for (int i = 0; i < 100; i++) {
		b.now += UINT64_C(100000000);
		engine_tick(b.engine, b.now);
	}
	assert_string_equal(reported(&b), "");
	teardown(&b);
}

/* After a restart silence begins with it: a clock of days is no silence of days. */
static void test_silence_begins_with_the_restart(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT);
	b.plan.received = true;
	feed(&b, 1, "{}");
	restart(&b);
	b.now = UINT64_C(1000000) * SECOND;
	engine_tick(b.engine, b.now);
	assert_true(feed(&b, 2, "{}"));
	engine_tick(b.engine, b.now + 5 * SECOND);
	assert_string_equal(reported(&b), "");
	engine_tick(b.engine, b.now + 8 * SECOND);
	assert_string_equal(reported(&b), W("00:00", "00:10", "\"n\":2"));
	/* nothing comes any more */
	feed(&b, 11, "{}");
	restart(&b);
	b.now = UINT64_C(2000000) * SECOND;
	engine_tick(b.engine, b.now);
	engine_tick(b.engine, b.now + 8 * SECOND);
	assert_string_equal(reported(&b), "");
	engine_tick(b.engine, b.now + 9 * SECOND);
	assert_string_equal(reported(&b), W("00:10", "00:20", "\"n\":1"));
	teardown(&b);
}

static void test_many_inputs(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT, .time = "{\"idle\":\"0s\"}");
	for (uint32_t i = 0; i < 1000; i++)
		assert_true(feed_from(&b, i, 1, "{}"));
	for (uint32_t i = 0; i < 62; i++)
		feed_from(&b, i, 11, "{}");
	feed_from(&b, 900, 11, "{}"); /* stands for those from 63 on */
	engine_tick(b.engine, b.now + UINT64_C(86400) * SECOND);
	assert_string_equal(reported(&b), "");
	feed_from(&b, 62, 11, "{}");
	assert_string_equal(reported(&b), W("00:00", "00:10", "\"n\":1000"));
	teardown(&b);
}

/* By when they were received events are never late: they waited, or the clock was set back. */
static void test_received(void **state)
{
	static const char *const kinds[] = {TUMBLING, SLIDING, SESSION};
	struct bench b;

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		SETUP(&b, .window = kinds[kind], .functions = COUNT);
		b.plan.received = true;
		feed(&b, 21, "{}");
		feed(&b, 38, "{}");
		report_all(&b);
		b.results.len = 0;
		assert_true(feed(&b, 2, "{}"));
		assert_true(feed(&b, 37, "{}"));
		assert_int_equal(b.engine->groups->n, 1);
		engine_flush(b.engine);
		assert_non_null(strstr(reported(&b), "\"n\":3"));
		teardown(&b);
	}
	SETUP(&b, .window = TUMBLING, .functions = COUNT);
	b.plan.received = true;
	feed(&b, 1, "{}");
	engine_tick(b.engine, b.now + 999999999);
	engine_tick(b.engine, b.now + 8999999999);
	assert_string_equal(reported(&b), "");
	engine_tick(b.engine, b.now + 9000000000);
	assert_string_equal(reported(&b), W("00:00", "00:10", "\"n\":1"));
	assert_true(feed(&b, 9, "{}")); /* was received before, and waited */
	engine_flush(b.engine);
	assert_string_equal(reported(&b), W("00:10", "00:20", "\"n\":1,\"partial\":true"));
	teardown(&b);
}

/* By their own time a silence as long as those before makes nothing late. */
static void test_slow_source(void **state)
{
	struct bench b;
	uint64_t began;

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT);
	began = b.now;
	for (int i = 0; i < 50; i++) { /* every 4 s, give or take one */
		b.now = began + (uint64_t)(4 * i + (i % 3 ? 0 : 1)) * SECOND;
		engine_tick(b.engine, b.now);
		assert_true(feed(&b, 4 * i, "{}"));
	}
	assert_int_equal(b.engine->count.dropped[ENGINE_LATE], 0);
	report_all(&b);
	assert_int_equal(b.engine->groups->n, 1);
	engine_tick(b.engine, b.now + 8 * SECOND); /* 5 s and what is left of the window */
	assert_int_equal(b.engine->closing, 0);
	engine_tick(b.engine, b.now + 9 * SECOND);
	assert_int_not_equal(b.engine->closing, 0);
	teardown(&b);
}

/* One clock that is wrong by years must not make all others late. */
static void test_ahead(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT, .time = "{\"field\":\"t\",\"max_ahead\":\"1m\"}");
	assert_true(feed(&b, 1, "{\"t\":\"2025-11-23T10:00:01Z\"}"));
	assert_false(feed(&b, 1, "{\"t\":\"2251-11-23T10:00:01Z\"}"));
	assert_false(feed(&b, 1, "{\"t\":\"2025-11-23T10:01:01.000000001Z\"}"));
	assert_int_equal(b.engine->count.dropped[ENGINE_AHEAD], 2);
	assert_true(feed(&b, 1, "{\"t\":\"2025-11-23T10:00:02Z\"}"));
	assert_true(feed(&b, 1, "{\"t\":\"2025-11-23T10:01:01Z\"}"));
	assert_string_equal(reported(&b), W("00:00", "00:10", "\"n\":2"));
	teardown(&b);

	SETUP(&b, .window = TUMBLING, .functions = COUNT, .time = "{\"field\":\"t\"}"); /* one hour */
	assert_true(feed(&b, 0, "{\"t\":\"2025-11-23T11:00:00Z\"}"));
	assert_false(feed(&b, 0, "{\"t\":\"2025-11-23T11:00:00.1Z\"}"));
	/* this host's own clock is not set yet */
	assert_true(feed(&b, -1500000000, "{\"t\":\"2025-11-23T12:00:00Z\"}"));
	teardown(&b);
}

static void test_dropped(void **state)
{
	char long_key[6000], *end = long_key;
	struct bench b;

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT, .group_by = KEY,
	      .time = "{\"field\":\"t\",\"format\":\"ms\",\"max_ahead\":\"0s\"}");
	end += sprintf(end, "{\"t\":1763892000000,\"k\":\"");
	memset(end, 'x', 4096);
	strcpy(end + 4096, "\"}");
	assert_false(feed(&b, 0, "nonsense"));
	assert_false(feed(&b, 0, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["));
	assert_false(feed(&b, 0, "{\"k\":1}"));
	assert_false(feed(&b, 0, "{\"k\":1,\"t\":\"yesterday\"}"));
	assert_false(feed(&b, 0, "{\"k\":1,\"t\":null}"));
	assert_false(feed(&b, 0, "{\"k\":1,\"t\":[1]}"));
	assert_false(feed(&b, 0, long_key));
	end[4094] = '"';
	end[4095] = '}';
	end[4096] = ' ';
	end[4097] = ' ';
	assert_true(feed(&b, 0, long_key));
	const uint64_t *d = b.engine->count.dropped;
	assert_int_equal(d[ENGINE_NOT_JSON], 1);
	assert_int_equal(d[ENGINE_TOO_DEEP], 1);
	assert_int_equal(d[ENGINE_NO_TIME], 4);
	assert_int_equal(d[ENGINE_KEY], 1);
	assert_int_equal(b.engine->groups->n, 1);
	teardown(&b);
}

/* ---- keys ---- */

static void test_keys(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT, .group_by = "[\"a\",\"b.c\"]");
	feed(&b, 0, "{\"a\":1,\"b\":{\"c\":\"x\"}}");
	feed(&b, 0, "{\"a\":1.0,\"b\":{\"c\":\"\\u0078\"}}");
	feed(&b, 0, "{\"a\":10e-1,\"b\":{\"c\":\"x\"}}");
	feed(&b, 0, "{\"a\":\"1\",\"b\":{\"c\":\"x\"}}");
	feed(&b, 0, "{\"a\":0}");
	feed(&b, 0, "{\"a\":-0,\"b\":{\"c\":null}}");
	feed(&b, 0, "{\"a\":-0.0,\"b\":null}");
	feed(&b, 0, "{\"a\":\"q\\\",\\\"\\\\\",\"b\":{\"c\":[1,\"]\\\"\",{\"d\":2}]}}");
	feed(&b, 0, "{\"a\":{\"x\":\"}\"},\"b\":{\"c\":true}}");
	feed(&b, 0, "{\"a\":18446744073709551615,\"b\":{\"c\":18446744073709551614}}");
	feed(&b, 0, "{\"a\":18446744073709551614,\"b\":{\"c\":1e400}}");
	feed(&b, 0, "{\"a\":1e18,\"b\":{\"c\":1e-7}}");
	feed(&b, 0, "{\"a\":1000000000000000000,\"b\":{\"c\":0.0000001}}");
	feed(&b, 0, "{\"a\":\"\",\"b\":{\"c\":\"\\n\"}}");
	engine_flush(b.engine);
#define K(a, c, n) W("00:00", "00:10", "\"a\":" a ",\"b.c\":" c ",\"n\":" n ",\"partial\":true")
	assert_string_equal(reported(&b),
			    K("1", "\"x\"", "3") K("\"1\"", "\"x\"", "1") K("0", "null", "3")
				    K("\"q\\\",\\\"\\\\\"", "[1,\"]\\\"\",{\"d\":2}]", "1")
					    K("{\"x\":\"}\"}", "true", "1")
						    K("18446744073709551615", "18446744073709551614", "1")
							    K("18446744073709551614", "1e400", "1")
								    K("1000000000000000000", "1e-7", "2")
									    K("\"\"", "\"\\u000a\"", "1"));
	teardown(&b);
}

static void test_names_are_escaped(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = "{\"a\\\"b\":\"count\"}", .group_by = "\"/q\\\"\"");
	feed(&b, 0, "{\"q\\\"\":7}");
	engine_flush(b.engine);
	assert_string_equal(reported(&b), W("00:00", "00:10", "\"/q\\\"\":7,\"a\\\"b\":1,\"partial\":true"));
	teardown(&b);
}

/* ---- results ---- */

static void test_early(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT, .group_by = KEY, .early_ns = SECOND);
	engine_early(b.engine);
	assert_string_equal(reported(&b), "");
	feed(&b, 1, "{\"k\":1}");
	feed(&b, 11, "{\"k\":2}");
	feed(&b, 9, "{\"k\":3}");
	engine_early(b.engine);
	/* the window that is over comes as such only */
	assert_string_equal(reported(&b), W("00:00", "00:10", "\"k\":1,\"n\":1,\"final\":true")
						  W("00:10", "00:20", "\"k\":2,\"n\":1,\"final\":false"));
	engine_early(b.engine);
	assert_string_equal(reported(&b), W("00:10", "00:20", "\"k\":2,\"n\":1,\"final\":false"));
	engine_flush(b.engine);
	assert_string_equal(reported(&b),
			    W("00:10", "00:20", "\"k\":2,\"n\":1,\"final\":true,\"partial\":true"));
	teardown(&b);
}

/* A little at a time while events come and groups go. */
static void test_early_in_steps(void **state)
{
	struct bench b;
	char event[64];

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT, .group_by = KEY, .early_ns = SECOND);
	for (int i = 0; i < 2000; i++) {
		snprintf(event, sizeof event, "{\"k\":%d}", i);
		feed(&b, i % 2 ? 1 : 11, event);
	}
	b.results.len = 0;
	b.engine->count.results = 0;
	engine_early(b.engine);
	assert_false(engine_close_step(b.engine, 700));
	feed(&b, 30, "{\"k\":1}"); /* all the others are over */
	report_all(&b);
	text_of(&b.results);
	assert_non_null(strstr(b.results.bytes, "\"final\":false"));
	int final = 0;
	for (char *p = b.results.bytes; (p = strstr(p, "\"final\":true")); p++)
		final++;
	assert_int_equal(final, 1000); /* those of second 1 were over when the first of second 11 came */
	assert_int_equal(b.engine->groups->n, 1);
	teardown(&b);
}

static void test_output_window(void **state)
{
	static const char *const kinds[] = {TUMBLING, SLIDING, SESSION};
	struct bench b;
	char event[64];

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT, .group_by = KEY, .output = OUTPUT_WINDOW);
	feed(&b, 1, "{\"k\":1}");
	feed(&b, 2, "{\"k\":2}");
	feed(&b, 11, "{\"k\":1}");
	assert_string_equal(reported(&b),
			    W("00:00", "00:10", "\"groups\":[{\"k\":1,\"n\":1},{\"k\":2,\"n\":1}]"));
	engine_flush(b.engine);
	assert_string_equal(reported(&b),
			    W("00:10", "00:20", "\"groups\":[{\"k\":1,\"n\":1}],\"partial\":true"));
	teardown(&b);
	for (int kind = 0; kind < 3; kind++) { /* many groups, several steps, a restart on the way */
		SETUP(&b, .window = kinds[kind], .functions = COUNT, .group_by = KEY,
		      .output = OUTPUT_WINDOW);
		for (int i = 0; i < 1000; i++) {
			snprintf(event, sizeof event, "{\"k\":%d}", i);
			feed(&b, 6, event);
		}
		feed(&b, 100, "{\"k\":1}");
		engine_close_step(b.engine, 10);
		restart(&b);
		report_all(&b);
		int n = 0;
		for (const char *p = text_of(&b.results); (p = strstr(p, "{\"k\":")); p++)
			n++;
		assert_int_equal(n, kind == 1 ? 2000 : 1000);
		assert_int_equal(b.engine->groups->n, 1);
		teardown(&b);
	}
}

/* ---- room ---- */

static void test_oldest_goes(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT, .group_by = KEY, .max_groups = 2,
	      .time = "{\"lateness\":\"1m\"}");
	feed(&b, 11, "{\"k\":1}");
	feed(&b, 1, "{\"k\":2}");
	feed(&b, 12, "{\"k\":3}");
	assert_string_equal(reported(&b), W("00:00", "00:10", "\"k\":2,\"n\":1,\"partial\":true"));
	feed(&b, 12, "{\"k\":4}");
	assert_string_equal(reported(&b), W("00:10", "00:20", "\"k\":1,\"n\":1,\"partial\":true"));
	assert_int_equal(b.engine->count.evicted, 2);
	assert_int_equal(b.engine->groups->n, 2);
	assert_int_equal(b.engine->groups->n_windows, 1);
	teardown(&b);
}

/* Those of windows that are over make room first, whole. */
static void test_finished_go_first(void **state)
{
	struct bench b;
	char event[64];

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = COUNT, .group_by = KEY, .max_groups = 100);
	for (int w = 0; w < 5; w++)
		for (int i = 0; i < 100; i++) {
			snprintf(event, sizeof event, "{\"k\":%d}", i);
			feed(&b, 10 * w, event); /* nobody reports in between */
		}
	assert_int_equal(b.engine->count.evicted, 0);
	teardown(&b);
}

static void test_overflow_group(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = TUMBLING, .functions = SUM, .group_by = KEY, .max_groups = 2,
	      .when_full = FULL_OVERFLOW);
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < 4; k++) {
			char event[64];
			snprintf(event, sizeof event, "{\"k\":%d,\"v\":%d}", k, 1 << k);
			feed(&b, k, event);
		}
	feed(&b, 10, "{\"k\":\"*\",\"v\":7}");
	assert_string_equal(reported(&b),
			    W("00:00", "00:10", "\"k\":0,\"sum\":2") W("00:00", "00:10", "\"k\":1,\"sum\":4")
				    W("00:00", "00:10", "\"k\":null,\"overflow\":true,\"sum\":24"));
	assert_int_equal(b.engine->count.overflowed, 4);
	teardown(&b);
}

/* Sketches grow in groups that are there already. */
static void test_memory(void **state)
{
	struct bench b;
	char event[128];

	(void)state;
	for (int full = FULL_OLDEST; full <= FULL_OVERFLOW; full++) {
		SETUP(&b, .window = TUMBLING, .group_by = KEY, .max_memory = 300000, .when_full = full,
		      .functions = "{\"d\":\"distinct(v)\",\"p\":\"p50(v)\",\"t\":\"top(v)\","
				   "\"l\":\"last(s)\",\"f\":\"first(s)\"}");
		for (int i = 0; i < 30000; i++) {
			snprintf(event, sizeof event, "{\"k\":%d,\"v\":%d,\"s\":\"%0*d\"}", i % 50, i, i % 90,
				 0);
			feed(&b, 0, event);
			assert_true(groups_used(b.engine->groups) <= 300000 + 20000);
		}
		assert_true(b.engine->count.evicted > 10);
		/* what it says it takes is what it takes */
		assert_int_equal(heap_of(b.engine), b.engine->groups->heap);
		engine_flush(b.engine);
		assert_int_equal(b.engine->groups->heap, 0);
		teardown(&b);
	}
}

/* After a rush memory goes back, and nobody is thrown out any more. */
static void test_memory_comes_back(void **state)
{
	struct bench b;
	char event[128];

	(void)state;
	SETUP(&b, .window = TUMBLING, .group_by = KEY, .functions = COUNT, .max_memory = 1000000);
	for (int i = 0; i < 20000; i++) {
		snprintf(event, sizeof event, "{\"k\":%d}", i);
		feed(&b, 0, event);
	}
	assert_true(b.engine->count.evicted > 1000);
	uint64_t before = b.engine->count.evicted;
	for (int i = 0; i < 1000; i++) {
		snprintf(event, sizeof event, "{\"k\":%d}", i % 100);
		feed(&b, 20 + i, event);
		report_all(&b);
	}
	assert_int_equal(b.engine->count.evicted, before);
	assert_true(engine_memory(b.engine) < 300000);
	teardown(&b);
}

/* ---- restarts ---- */

/* Restarted in the midst of a stream, again and again, it says what one says that was not. */
static void test_restarts(void **state)
{
	static const char *const kinds[] = {TUMBLING, SLIDING, SESSION};
	const char *functions =
		"{\"n\":\"count\",\"sum\":\"sum(v)\",\"mean\":\"mean(v)\",\"sd\":\"stddev(v)\",\"lo\":"
		"\"min(v)\",\"hi\":\"max(v)\",\"first\":\"first(s)\",\"last\":\"last(s)\",\"rate\":\"rate\","
		"\"p\":{\"fn\":\"percentiles\",\"field\":\"v\",\"p\":[50,99.9]},\"d\":\"distinct(v)\","
		"\"top\":"
		"{\"fn\":\"top\",\"field\":\"s\",\"k\":2},\"h\":{\"fn\":\"histogram\",\"field\":\"v\","
		"\"bounds\":[0,500]}}";
	char event[128];

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		struct bench a, b;
		const struct conf conf = {.window = kinds[kind],
					  .functions = functions,
					  .group_by = KEY,
					  .time = "{\"lateness\":\"2s\"}"};
		assert_int_equal(try_setup(&a, conf), 0);
		assert_int_equal(try_setup(&b, conf), 0);
		uint64_t seed = 7;
		for (int i = 0; i < 3000; i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			double at = i * 0.05 + i / 100 * 8 + (double)(seed >> 40 & 4095) / 1000 - 3;
			snprintf(event, sizeof event, "{\"k\":%d,\"v\":%d,\"s\":\"%0*d\"}",
				 (int)(seed >> 33 & 3), (int)(seed >> 50) - 8000, (int)(seed >> 20 & 63), 0);
			assert_int_equal(feed(&a, at, event), feed(&b, at, event));
			if (i % 97 == 0)
				restart(&b);
			if (i % 7 == 0)
				engine_close_step(a.engine, 2);
			engine_close_step(b.engine, 1);
		}
		report_all(&a);
		report_all(&b);
		assert_true(a.results.len > 10000);
		assert_string_equal(text_of(&a.results), text_of(&b.results));
		teardown(&a);
		teardown(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tumbling),
		cmocka_unit_test(test_aligned_with_offset),
		cmocka_unit_test(test_far_away),
		cmocka_unit_test(test_lateness),
		cmocka_unit_test(test_sliding),
		cmocka_unit_test(test_sliding_waits),
		cmocka_unit_test(test_sliding_sketches),
		cmocka_unit_test(test_sliding_uneven),
		cmocka_unit_test(test_session),
		cmocka_unit_test(test_session_borders),
		cmocka_unit_test(test_sessions_do_not_pile_up),
		cmocka_unit_test(test_inputs),
		cmocka_unit_test(test_resumable_is_not_idle),
		cmocka_unit_test(test_silence_begins_with_the_restart),
		cmocka_unit_test(test_many_inputs),
		cmocka_unit_test(test_received),
		cmocka_unit_test(test_slow_source),
		cmocka_unit_test(test_ahead),
		cmocka_unit_test(test_dropped),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_names_are_escaped),
		cmocka_unit_test(test_early),
		cmocka_unit_test(test_early_in_steps),
		cmocka_unit_test(test_output_window),
		cmocka_unit_test(test_oldest_goes),
		cmocka_unit_test(test_finished_go_first),
		cmocka_unit_test(test_overflow_group),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_memory_comes_back),
		cmocka_unit_test(test_restarts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
