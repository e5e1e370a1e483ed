/* SPDX-License-Identifier: MIT */
/*
 * aggregate_checkpoint - how long the stream stands still while checkpoints are taken: an instance with
 * 100,000 groups gets batches of 256 events of 100 B, as fast as it takes them, and one checkpoint after the
 * other goes to a file in the working directory.  The longest time from giving it a batch to giving it the
 * next is printed, in CPU of its thread (what it does) and by the clock (what it does and what the machine
 * does besides), beside the same without checkpoints.
 *
 *   aggregate_checkpoint [GROUPS [SECONDS]]
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "plugins/aggregate/state.h"
#include <semstreams/test-host.h>

#define FILE_NAME "aggregate_checkpoint.state"

enum { BATCH = 256, EVENT = 100 };

static uint64_t random_state = 88172645463325252u;

static uint32_t pick(uint32_t n)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)((random_state * UINT64_C(2685821657736338717) >> 32) * n >> 32);
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Without a token: that the host is told of ends of batches is not to be measured. */
static void give(struct ss_test_host *h, uint32_t groups, uint32_t first, bool any)
{
	static char text[BATCH][EVENT + 1];
	struct ss_event events[BATCH];
	struct ss_batch b = {.struct_size = sizeof b, .count = BATCH, .capacity = BATCH, .events = events};

	for (uint32_t i = 0; i < BATCH; i++) {
		int n = snprintf(text[i], sizeof text[i], "{\"sensor\":\"d-%07u\",\"value\":%u.%u,\"pad\":\"",
				 any ? pick(groups) : (first + i) % groups, pick(200), pick(10));
		memset(text[i] + n, 'x', (size_t)(EVENT - n));
		memcpy(text[i] + EVENT - 2, "\"}", 2);
		events[i] = (struct ss_event){
			.data = (uint8_t *)text[i], .len = EVENT, .time_ns = UINT64_C(1763892000000000000)};
	}
	h->now_ns = clock_ns(CLOCK_MONOTONIC);
	h->desc->process(h->self, 0, &b);
}

static void measure(const char *name, const char *functions, bool checkpoints, uint32_t groups,
		    double seconds)
{
	const struct conf conf = {
		.window = "{\"type\":\"tumbling\",\"size\":\"1h\"}",
		.group_by = "\"sensor\"",
		.functions = functions,
		.checkpoint = checkpoints ? "{\"path\":\"" FILE_NAME "\",\"interval\":\"10ms\"}" : NULL,
		.max_groups = 100000000};
	size_t most = (size_t)(seconds * 100000), n = 0;
	uint64_t *cpu = malloc(most * sizeof *cpu), *wall = malloc(most * sizeof *wall);
	struct ss_test_host h;

	unlink(FILE_NAME);
	ss_test_host_init(&h, semstreams_entry_v1.components[0]);
	h.now_ns = clock_ns(CLOCK_MONOTONIC);
	if (ss_test_host_create(&h, &conf) < 0 || h.desc->start(h.self) < 0) {
		fprintf(stderr, "%s%s", h.errors, h.log);
		exit(1);
	}
	for (uint32_t i = 0; i < groups; i += BATCH)
		give(&h, groups, i, false);
	while (checkpoints && !h.metrics[METRIC_CHECKPOINTS])
		ss_test_host_run(&h, 1);
	int64_t before = h.metrics[METRIC_CHECKPOINTS];
	uint64_t end = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(seconds * 1e9);
	while (n < most && clock_ns(CLOCK_MONOTONIC) < end) {
		uint64_t c = clock_ns(CLOCK_THREAD_CPUTIME_ID), w = clock_ns(CLOCK_MONOTONIC);
		give(&h, groups, 0, true);
		ss_test_host_run(&h, 0);
		cpu[n] = clock_ns(CLOCK_THREAD_CPUTIME_ID) - c;
		wall[n++] = clock_ns(CLOCK_MONOTONIC) - w;
	}
	qsort(cpu, n, sizeof *cpu, by_value);
	qsort(wall, n, sizeof *wall, by_value);
	printf("| %-24s | %7.1f | %11lld | %8.1f | %8.3f | %8.3f | %8.3f | %8.3f |\n", name,
	       (double)n * BATCH / seconds / 1000, (long long)(h.metrics[METRIC_CHECKPOINTS] - before),
	       (double)h.metrics[METRIC_CHECKPOINT_BYTES] / 1e6, (double)cpu[n / 2] / 1e6,
	       (double)cpu[n - 1] / 1e6, (double)wall[n / 2] / 1e6, (double)wall[n - 1] / 1e6);
	fflush(stdout);
	free(cpu);
	free(wall);
	ss_test_host_done(&h);
	unlink(FILE_NAME);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name, *functions;
	} all[] = {{"five functions",
		    "{\"n\":\"count\",\"sum\":\"sum(value)\",\"min\":\"min(value)\",\"max\":\"max(value)\","
		    "\"mean\":\"mean(value)\"}"},
		   {"percentiles, distinct",
		    "{\"n\":\"count\",\"p\":{\"fn\":\"percentiles\",\"field\":\"value\",\"p\":[50,99]},"
		    "\"d\":\"distinct(value)\"}"}};
	uint32_t groups = argc > 1 ? (uint32_t)atoi(argv[1]) : 100000;
	double seconds = argc > 2 ? atof(argv[2]) : 5;

	printf("%u groups; from one batch to the next, ms\n\n"
	       "|                          | 1,000/s | checkpoints | MB       | cpu med. | cpu max  | med.   "
	       "  | max      |\n"
	       "|--------------------------|---------|-------------|----------|----------|----------|--------"
	       "--|----------|\n",
	       groups);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		char name[64];
		measure(all[i].name, all[i].functions, true, groups, seconds);
		snprintf(name, sizeof name, "  without checkpoints");
		measure(name, all[i].functions, false, groups, seconds);
	}
	return 0;
}
