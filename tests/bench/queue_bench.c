/* SPDX-License-Identifier: MIT */
/*
 * queue_bench - what a hop over a ring costs: one thread makes batches, offers and wakes, the other takes and
 * releases. Prints nanoseconds per event for several batch sizes, with both ends in one thread and in two.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "core/flow/batch.h"
#include "core/flow/queue.h"

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct queue *q;
static struct pool *pool;
static _Atomic bool room;

static void offer(uint32_t size)
{
	struct ss_batch *b = batch_new(pool, NULL, size, 0);

	for (uint32_t i = 0; i < size; i++)
		b->events[i] = (struct ss_event){.data = (const uint8_t *)"event", .len = 5};
	b->count = size;
	b->footprint = size * 100;
	queue_offer(q, b);
	batch_unref(b);
}

static uint64_t take_one(void)
{
	bool tell = false;
	struct ss_batch *b = queue_take(q, &tell);
	uint64_t n = b ? b->count : 0;

	batch_unref(b);
	if (tell)
		atomic_store(&room, true);
	return n;
}

static void *take_all(void *arg)
{
	uint64_t left = *(uint64_t *)arg;

	while (left) {
		uint64_t n = take_one();
		left -= n;
		if (!n)
			sched_yield();
	}
	return NULL;
}

static double one_thread(uint64_t events, uint32_t size)
{
	double start = now();

	for (uint64_t i = 0; i < events; i += size) {
		offer(size);
		take_one();
	}
	return (now() - start) / (double)events * 1e9;
}

static double two_threads(uint64_t events, uint32_t size)
{
	pthread_t thread;
	double start = now();

	pthread_create(&thread, NULL, take_all, &events);
	for (uint64_t i = 0; i < events; i += size) {
		offer(size);
		while (queue_stuck(q)) {
			while (!atomic_exchange(&room, false))
				sched_yield();
			queue_flush(q);
		}
	}
	pthread_join(thread, NULL);
	return (now() - start) / (double)events * 1e9;
}

int main(void)
{
	const uint32_t sizes[] = {1, 8, 64, 256};

	printf("| batch | one thread ns/event | two threads ns/event |\n| ----- | ------------------- | "
	       "-------------------- |\n");
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		uint64_t events = (uint64_t)sizes[i] * 400000;
		double best[2] = {1e9, 1e9};
		for (int round = 0; round < 5; round++) {
			q = queue_new(&(struct queue_limits){65536, 64 << 20, OVERFLOW_BLOCK});
			pool = pool_new();
			double t = one_thread(events, sizes[i]);
			best[0] = t < best[0] ? t : best[0];
			t = two_threads(events, sizes[i]);
			best[1] = t < best[1] ? t : best[1];
			queue_free(q);
			pool_free(pool);
		}
		printf("| %5u | %19.1f | %20.1f |\n", sizes[i], best[0], best[1]);
	}
	return 0;
}
