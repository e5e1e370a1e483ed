/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "core/flow/batch.h"
#include "core/flow/tap/tap.h"

static struct ss_batch *numbered(struct pool *pool, uint64_t first, uint32_t n)
{
	struct ss_batch *b = batch_new(pool, NULL, n, 8);

	memcpy(b->data, "01234567", 8);
	for (uint32_t i = 0; i < n; i++)
		b->events[i] = (struct ss_event){.data = b->data, .len = 8, .seq = first + i};
	b->count = n;
	return b;
}

static void pass(struct tap_point *p, uint32_t port, struct pool *pool, uint64_t first, uint32_t n)
{
	struct ss_batch *b = numbered(pool, first, n);

	tap_pass(p, port, b);
	batch_unref(b);
}

/* How many events it has; they come in order, whole, and none twice. */
static uint64_t drain(struct tap *t, uint64_t *last)
{
	struct ss_batch *b;
	uint64_t n = 0;

	while ((b = tap_take(t))) {
		for (uint32_t i = 0; i < b->count; i++) {
			assert_true(b->events[i].seq > *last);
			*last = b->events[i].seq;
			assert_int_equal(b->events[i].len, 8);
			assert_memory_equal(b->events[i].data, "01234567", 8);
		}
		n += b->count;
		batch_unref(b);
	}
	return n;
}

static void only_its_port(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct tap_point point = {.first = NULL};
	struct tap *in = tap_new(100, 1 << 20), *out = tap_new(100, 1 << 20);
	uint64_t last = 0;

	pass(&point, 0, pool, 1, 5);
	assert_false(tap_any(&point));
	tap_attach(in, &point, TAP_INPUT);
	tap_attach(out, &point, 1);
	assert_true(tap_any(&point));
	pass(&point, TAP_INPUT, pool, 10, 3);
	pass(&point, 0, pool, 20, 3);
	pass(&point, 1, pool, 30, 4);
	assert_int_equal(drain(in, &last), 3);
	assert_int_equal(last, 12);
	assert_int_equal(drain(out, &last), 4);
	assert_int_equal(last, 33);
	/* nothing of the stream is kept alive */
	assert_int_equal(pool_outstanding(pool), 0);
	tap_free(in);
	tap_free(out);
	assert_false(tap_any(&point));
	pool_free(pool);
}

/* What there is no room for is counted: of events, of bytes, and of one that never fits. */
static void bounded(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct tap_point point = {.first = NULL};
	struct tap *t = tap_new(10, 1 << 20), *small = tap_new(1000, 600), *tiny = tap_new(1000, 100);
	uint64_t last = 0, last_small = 0;

	tap_attach(t, &point, 0);
	tap_attach(small, &point, 0);
	tap_attach(tiny, &point, 0);
	pass(&point, 0, pool, 1, 7);
	pass(&point, 0, pool, 8, 7);
	pass(&point, 0, pool, 15, 7);
	assert_int_equal(drain(t, &last), 10);
	assert_int_equal(last, 10);
	assert_int_equal(tap_missed(t), 11);
	pass(&point, 0, pool, 22, 3);
	assert_int_equal(drain(t, &last), 3);
	assert_int_equal(tap_missed(t), 11);
	const uint64_t seen = drain(small, &last_small);
	assert_in_range(seen, 1, (600 - BATCH_OVERHEAD) / (8 + EVENT_OVERHEAD));
	assert_int_equal(seen + tap_missed(small), 24);
	assert_null(tap_take(tiny));
	assert_int_equal(tap_missed(tiny), 24);
	tap_free(t);
	tap_free(small);
	tap_free(tiny);
	pool_free(pool);
}

static void moves(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct tap_point old = {.first = NULL}, new = {.first = NULL};
	struct tap *a = tap_new(100, 1 << 20), *b = tap_new(100, 1 << 20);
	uint64_t last_a = 0, last_b = 0;

	tap_attach(a, &old, 0);
	tap_attach(b, &old, TAP_INPUT);
	pass(&old, 0, pool, 1, 1);
	tap_move_all(&old, &new);
	assert_ptr_equal(tap_place(a), &new);
	pass(&old, 0, pool, 2, 1);
	pass(&new, 0, pool, 3, 1);
	pass(&new, TAP_INPUT, pool, 4, 1);
	assert_int_equal(drain(a, &last_a), 2);
	assert_int_equal(last_a, 3);
	assert_int_equal(drain(b, &last_b), 1);
	tap_move_all(&new, NULL);
	assert_null(tap_place(a));
	assert_null(tap_place(b));
	assert_false(tap_any(&new));
	tap_free(a);
	tap_free(b);
	pool_free(pool);
}

struct stream {
	struct tap_point point;
	struct pool *pool;
	_Atomic uint64_t passed;
	_Atomic bool end;
};

static void *flow(void *arg)
{
	struct stream *s = arg;

	for (uint64_t first = 1; !atomic_load(&s->end); first += 5) {
		pass(&s->point, (uint32_t)(first % 2), s->pool, first, 5);
		atomic_store(&s->passed, first + 4);
	}
	return NULL;
}

/* Taps come and go while a stream flows. */
static void while_it_flows(void **state)
{
	enum { TAPS = 3, ROUNDS = 300 };
	(void)state;
	struct stream s = {.pool = pool_new()};
	struct tap *taps[TAPS] = {0};
	uint64_t last[TAPS] = {0}, seen = 0;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, flow, &s), 0);
	for (int i = 0; i < ROUNDS || seen == 0; i++) {
		const int k = i % TAPS;
		if (taps[k]) {
			seen += drain(taps[k], &last[k]);
			tap_free(taps[k]);
		}
		taps[k] = tap_new(64, 1 << 16);
		last[k] = 0;
		tap_attach(taps[k], &s.point, (uint32_t)i % 2);
		for (int other = 0; other < TAPS; other++)
			if (taps[other])
				seen += drain(taps[other], &last[other]);
	}
	atomic_store(&s.end, true);
	pthread_join(thread, NULL);
	for (int k = 0; k < TAPS; k++)
		tap_free(taps[k]);
	assert_false(tap_any(&s.point));
	assert_int_equal(pool_outstanding(s.pool), 0);
	pool_free(s.pool);
}

/* One tap sees or counts all that passes from one look to the next. */
static void nothing_is_lost_unsaid(void **state)
{
	enum { EVENTS = 100000 };
	(void)state;
	struct stream s = {.pool = pool_new()};
	struct tap *even = tap_new(1000, 1 << 20), *odd = tap_new(1000, 1 << 20);
	uint64_t seen = 0, last_even = 0, last_odd = 0;
	pthread_t thread;

	tap_attach(even, &s.point, 0);
	tap_attach(odd, &s.point, 1);
	assert_int_equal(pthread_create(&thread, NULL, flow, &s), 0);
	while (atomic_load(&s.passed) < EVENTS)
		seen += drain(even, &last_even) + drain(odd, &last_odd);
	atomic_store(&s.end, true);
	pthread_join(thread, NULL);
	seen += drain(even, &last_even) + drain(odd, &last_odd);
	assert_int_equal(seen + tap_missed(even) + tap_missed(odd), s.passed);
	tap_free(even);
	tap_free(odd);
	pool_free(s.pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_its_port),
		cmocka_unit_test(bounded),
		cmocka_unit_test(moves),
		cmocka_unit_test(while_it_flows),
		cmocka_unit_test(nothing_is_lost_unsaid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
