/* SPDX-License-Identifier: MIT */
/*
 * fuzz_aggregate_state - what an aggregate restores from its checkpoint, behind the file's checksum: the
 * engine's numbers and groups with all their states.  What is taken can be worked with, reported, and saved.
 * The first byte says which kind of window.
 */
#include <stdlib.h>
#include <string.h>
#include "core/fields/fields.h"
#include "plugins/aggregate/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void config_error(const struct ss_host *host, const char *pointer, const char *text)
{
	(void)host, (void)pointer, (void)text;
	abort();
}

static void swallow(void *arg, bool late, const char *json, size_t len)
{
	uint64_t *sum = arg;

	(void)late;
	for (size_t i = 0; i < len; i++) /* every byte is there */
		*sum += (uint8_t)json[i];
}

static void feed(struct engine *e, uint64_t time_ns)
{
	static const char text[] = "{\"k\":\"a\",\"v\":7,\"w\":0.5}";
	const struct ss_event event = {
		.data = (const uint8_t *)text, .len = sizeof text - 1, .time_ns = time_ns};

	engine_event(e, 0, NULL, &event, 1);
}

static void restore(struct engine *e, const uint8_t *data, size_t size)
{
	struct ss_unpack r = {.at = data, .end = data + size};
	struct saved_group group;
	struct ss_strbuf saved = {0};
	int rc = engine_load(e, &r);

	while (rc >= 0 && (rc = groups_read(&r, &group)) == 1)
		rc = engine_load_group(e, &group);
	if (rc < 0 || groups_loaded(e->groups) < 0)
		return; /* half of it is there: freed as it is */
	engine_loaded(e);
	engine_tick(e, 1);
	feed(e, UINT64_C(1763892000000000000));
	engine_early(e);
	while (!engine_close_step(e, 7))
		;
	engine_save(e, &saved);
	groups_save_begin(e->groups, &saved);
	while (!groups_save_step(e->groups, 1))
		;
	ss_strbuf_done(&saved);
	feed(e, UINT64_C(1763892003000000000));
	engine_tick(e, UINT64_C(100000000000));
	engine_flush(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const windows[] = {"{\"type\":\"tumbling\",\"size\":\"10s\"}",
					      "{\"type\":\"sliding\",\"size\":\"10s\",\"every\":\"5s\"}",
					      "{\"type\":\"session\",\"gap\":\"5s\"}"};
	const struct ss_host host = {.struct_size = sizeof host, .config_error = config_error};
	const struct ss_iface fields = {.vtbl = &fields_service};
	struct plan plan;
	struct engine *e;
	uint64_t sum = 0;

	if (size == 0)
		return 0;
	const struct conf conf = {
		.window = windows[data[0] % 3],
		.group_by = "\"k\"",
		.functions =
			"{\"n\":\"count\",\"sum\":\"sum(v)\",\"mean\":\"mean(w)\",\"lo\":\"min(v)\","
			"\"hi\":\"max(w)\",\"sd\":\"stddev(v)\",\"first\":\"first(v)\",\"last\":\"last(w)\","
			"\"rate\":\"rate(v)\",\"p\":{\"fn\":\"percentiles\",\"field\":\"v\",\"p\":[50,99],"
			"\"accuracy\":0.1},\"d\":\"distinct(v)\",\"top\":{\"fn\":\"top\",\"field\":\"k\","
			"\"k\":2},\"h\":{\"fn\":\"histogram\",\"field\":\"v\",\"bounds\":[1]}}",
		.max_groups = 1000,
		.max_memory = 1 << 20,
		.output = data[0] & 8 ? OUTPUT_WINDOW : OUTPUT_GROUP};
	if (plan_compile(&host, &conf, &fields, &plan) < 0 || engine_new(&plan, &fields, &e) < 0)
		abort();
	e->result = swallow;
	e->arg = &sum;
	restore(e, data + 1, size - 1);
	engine_free(e);
	plan_done(&plan);
	return 0;
}
