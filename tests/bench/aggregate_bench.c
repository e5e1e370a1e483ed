/* SPDX-License-Identifier: MIT */
/*
 * aggregate_bench - what an event costs that goes into a group of a tumbling window: count, sum, min, max and
 * mean of a field of 100 B JSON events, reading them included; for 1, 1,000 and 1,000,000 groups.  Then what
 * it costs to report a group.  Prints CPU ns, median and best of the rounds, and bytes per group.
 *
 * With an argument: that many groups only, one round; for callgrind.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/fields/fields.h"
#include "plugins/aggregate/engine.h"

enum { VARIANTS = 4096, ROUNDS = 15, EVENT = 100 };

static char events[VARIANTS][EVENT + 1];
static uint64_t random_state = 88172645463325252u;

static uint32_t pick(uint32_t n)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)((random_state * UINT64_C(2685821657736338717) >> 32) * n >> 32);
}

/* The digits of the group are written anew for each event. */
#define KEY_AT     13
#define KEY_DIGITS 7

static void make_events(void)
{
	for (int i = 0; i < VARIANTS; i++) {
		int n = snprintf(
			events[i], sizeof events[i],
			"{\"sensor\":\"d-%07u\",\"value\":%u.%u,\"seq\":%u,\"unit\":\"C\",\"pad\":\"", 0u,
			pick(200), pick(10), pick(1000000));
		memset(events[i] + n, 'x', (size_t)(EVENT - n));
		memcpy(events[i] + EVENT - 2, "\"}", 3);
	}
}

static void config_error(const struct ss_host *host, const char *pointer, const char *text)
{
	(void)host;
	fprintf(stderr, "%s: %s\n", pointer, text);
}

static void swallow(void *arg, bool late, const char *json, size_t len)
{
	size_t *bytes = arg;

	(void)late, (void)json;
	*bytes += len;
}

static double cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void add(struct engine *e, uint32_t group, uint32_t i, uint64_t time_ns)
{
	char *text = events[i % VARIANTS];
	struct ss_event event = {.data = (const uint8_t *)text, .len = EVENT, .time_ns = time_ns};

	for (int k = KEY_DIGITS - 1; k >= 0; k--, group /= 10)
		text[KEY_AT + k] = (char)('0' + group % 10);
	engine_event(e, 0, NULL, &event, 0);
}

static void measure(uint32_t groups, int rounds, uint32_t per_round)
{
	const struct ss_host host = {.struct_size = sizeof host, .config_error = config_error};
	const struct ss_iface fields = {.vtbl = &fields_service};
	const struct conf conf = {.window = "{\"type\":\"tumbling\",\"size\":\"1h\"}",
				  .group_by = "\"sensor\"",
				  .functions =
					  "{\"n\":\"count\",\"sum\":\"sum(value)\",\"min\":\"min(value)\","
					  "\"max\":\"max(value)\",\"mean\":\"mean(value)\"}",
				  .max_groups = 100000000};
	struct plan plan;
	struct engine *e;
	double took[64];
	size_t bytes = 0;

	if (plan_compile(&host, &conf, &fields, &plan) < 0 || engine_new(&plan, &fields, &e) < 0)
		exit(1);
	e->result = swallow;
	e->arg = &bytes;
	uint64_t t = UINT64_C(1763892000000000000);
	for (uint32_t i = 0; i < groups; i++)
		add(e, i, i, t);
	for (int r = 0; r < rounds; r++) {
		double before = cpu_ns();
		for (uint32_t i = 0; i < per_round; i++)
			add(e, pick(groups), i, t);
		took[r] = (cpu_ns() - before) / per_round;
	}
	qsort(took, (size_t)rounds, sizeof *took, by_value);
	double each = (double)engine_memory(e) / groups, before = cpu_ns();
	engine_flush(e);
	double report = (cpu_ns() - before) / groups;
	printf("| %9u | %6.0f | %6.0f | %8.2f | %8.0f | %8.0f |\n", groups, took[rounds / 2], took[0],
	       1e3 / took[rounds / 2], each, report);
	fflush(stdout);
	engine_free(e);
	plan_done(&plan);
}

int main(int argc, char **argv)
{
	make_events();
	printf("| groups    | ns     | best   | M/s      | B/group  | report ns |\n"
	       "|-----------|--------|--------|----------|----------|----------|\n");
	if (argc > 1) {
		measure((uint32_t)atoi(argv[1]), 1, 200000);
		return 0;
	}
	for (uint32_t groups = 1; groups <= 1000000; groups *= 1000)
		measure(groups, ROUNDS, 300000);
	return 0;
}
