/* SPDX-License-Identifier: MIT */
/* test_aggregate.h - an engine on the real field reader, whose results are collected; include once per
 * program. */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <semstreams/test-host.h>
#include "plugins/aggregate/engine.h"

#define SECOND INT64_C(1000000000)
#define START  INT64_C(1763892000000000000) /* 2025-11-23T10:00:00Z */

struct bench {
	struct ss_host host; /* first */
	struct conf conf;
	struct plan plan;
	struct engine *engine;
	struct ss_strbuf results, late, errors;
	uint64_t now;
};

static inline const char *text_of(struct ss_strbuf *t)
{
	*ss_strbuf_room(t, 1) = '\0';
	return t->bytes;
}

static inline void take_error(const struct ss_host *host, const char *pointer, const char *text)
{
	struct bench *b = (struct bench *)(uintptr_t)host;

	ss_strbuf_text(&b->errors, pointer);
	ss_strbuf_text(&b->errors, ": ");
	ss_strbuf_text(&b->errors, text);
	ss_strbuf_text(&b->errors, "\n");
}

static inline void take_result(void *arg, bool late, const char *json, size_t len)
{
	struct bench *b = arg;
	struct ss_strbuf *t = late ? &b->late : &b->results;

	ss_strbuf_add(t, json, len);
	ss_strbuf_text(t, "\n");
}

static inline const struct ss_iface *real_fields(void)
{
	static struct ss_iface fields;
	fields.vtbl = ss_test_host_fields();
	return &fields;
}

static inline int try_setup(struct bench *b, struct conf conf)
{
	*b = (struct bench){.host = {.struct_size = sizeof b->host, .config_error = take_error},
			    .conf = conf,
			    .now = 1000 * (uint64_t)SECOND};
	b->conf.max_groups = conf.max_groups ? conf.max_groups : 100000;
	int rc = plan_compile(&b->host, &b->conf, real_fields(), &b->plan);
	if (rc < 0)
		return rc;
	b->plan.received = false; /* the times of events stand for such as they say themselves */
	assert_int_equal(engine_new(&b->plan, real_fields(), &b->engine), 0);
	b->engine->result = take_result;
	b->engine->arg = b;
	return 0;
}

static inline void teardown(struct bench *b)
{
	engine_free(b->engine);
	plan_done(&b->plan);
	ss_strbuf_done(&b->results);
	ss_strbuf_done(&b->late);
	ss_strbuf_done(&b->errors);
}

#define SETUP(b, ...)                                                                                        \
	do {                                                                                                 \
		if (try_setup(b, (struct conf){__VA_ARGS__}) < 0)                                            \
			fail_msg("config: %s", text_of(&(b)->errors));                                       \
	} while (0)

/* An event of input at a second after START. */
static inline bool feed_from(struct bench *b, uint32_t input, double second, const char *json)
{
	const struct ss_event event = {.data = (const uint8_t *)json,
				       .len = (uint32_t)strlen(json),
				       .time_ns = (uint64_t)(START + (int64_t)llround(second * 1e9))};

	return engine_event(b->engine, input, NULL, &event, b->now);
}

static inline bool feed(struct bench *b, double second, const char *json)
{
	return feed_from(b, 0, second, json);
}

static inline void report_all(struct bench *b)
{
	while (!engine_close_step(b->engine, 3))
		;
}

/* What was reported since the last time; valid until the next. */
static inline const char *reported(struct bench *b)
{
	report_all(b);
	const char *text = text_of(&b->results);
	b->results.len = 0;
	return text;
}

/* What groups take besides their cells, keys apart. */
static inline size_t heap_of(struct engine *e)
{
	size_t heap = 0;

	for (uint32_t i = 1; i <= groups_end(e->groups); i++)
		if (groups_peek(e->groups, i))
			heap += functions_heap(&e->plan->functions, group_states(groups_at(e->groups, i)));
	return heap;
}

/* The whole engine into bytes, and into a new one that goes on in its place. */
static inline void restart(struct bench *b)
{
	struct ss_strbuf saved = {0};
	struct saved_group group;
	struct engine *next;
	int rc;

	engine_save(b->engine, &saved);
	groups_save_begin(b->engine->groups, &saved);
	while (!groups_save_step(b->engine->groups, 1))
		;
	assert_false(saved.failed);
	assert_int_equal(engine_new(&b->plan, real_fields(), &next), 0);
	struct ss_unpack r = {.at = (uint8_t *)saved.bytes, .end = (uint8_t *)saved.bytes + saved.len};
	assert_int_equal(engine_load(next, &r), 0);
	while ((rc = groups_read(&r, &group)) == 1)
		assert_int_equal(engine_load_group(next, &group), 0);
	assert_int_equal(rc, 0);
	assert_int_equal(next->groups->n, b->engine->groups->n);
	assert_int_equal(heap_of(next), next->groups->heap);
	next->result = take_result;
	next->arg = b;
	assert_int_equal(groups_loaded(next->groups), 0);
	engine_loaded(next);
	engine_free(b->engine);
	b->engine = next;
	ss_strbuf_done(&saved);
}
