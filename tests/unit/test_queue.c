/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "core/flow/batch.h"
#include "core/flow/queue.h"

static struct ss_batch *numbered(struct pool *pool, uint64_t first, uint32_t n)
{
	struct ss_batch *b = batch_new(pool, NULL, n, 8);

	for (uint32_t i = 0; i < n; i++)
		b->events[i] = (struct ss_event){.data = b->data, .len = 8, .seq = first + i};
	b->count = n;
	batch_unref(batch_seal(pool, b));
	return b;
}

static bool offer(struct queue *q, struct pool *pool, uint64_t first, uint32_t n)
{
	struct ss_batch *b = numbered(pool, first, n);
	bool news = queue_offer(q, b);

	batch_unref(b);
	return news;
}

static uint64_t take(struct queue *q, bool *room)
{
	struct ss_batch *b = queue_take(q, room);
	uint64_t first = b ? b->events[0].seq : 0;

	batch_unref(b);
	return first;
}

static struct queue *make(uint64_t events, uint64_t bytes, enum overflow overflow)
{
	struct queue *q = queue_new(&(struct queue_limits){events, bytes, overflow});

	assert_non_null(q);
	return q;
}

static void first_in_first_out(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct queue *q = make(100, 1 << 20, OVERFLOW_BLOCK);
	bool room = false;

	assert_true(queue_empty(q));
	for (uint64_t i = 1; i <= 50; i++)
		assert_true(offer(q, pool, i, 1));
	assert_int_equal(queue_events(q), 50);
	for (uint64_t i = 1; i <= 50; i++)
		assert_int_equal(take(q, &room), i);
	assert_null(queue_take(q, &room));
	assert_false(room);
	assert_int_equal(queue_bytes(q), 0);
	queue_free(q);
	pool_free(pool);
}

static void block_keeps_what_does_not_fit(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct queue *q = make(10, 1 << 20, OVERFLOW_BLOCK);
	bool room = false;
	uint64_t next = 1;

	for (uint64_t i = 1; i <= 40; i++)
		offer(q, pool, i, 1);
	assert_true(queue_stuck(q));
	assert_int_equal(queue_events(q), 10);
	assert_int_equal(q->dropped_events, 0);
	while (next <= 40) {
		room = false;
		while (!room && !queue_empty(q))
			assert_int_equal(take(q, &room), next++);
		assert_int_equal(room, next <= 40);
		queue_flush(q);
	}
	assert_false(queue_stuck(q));
	assert_int_equal(q->offered_events, 40);
	queue_free(q);
	pool_free(pool);
}

/* The producer is told of room at half empty, not before. */
static void room_is_told_at_half(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct queue *q = make(16, 1 << 20, OVERFLOW_BLOCK);
	int taken = 0;
	bool room = false;

	for (uint64_t i = 1; i <= 17; i++)
		offer(q, pool, i, 1);
	while (!room) {
		take(q, &room);
		taken++;
	}
	assert_int_equal(taken, 8);
	queue_free(q);
	assert_int_equal(pool_outstanding(pool), 0);
	pool_free(pool);
}

static void drop_newest_counts(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct queue *q = make(10, 1 << 20, OVERFLOW_DROP_NEWEST);
	bool room = false;

	for (uint64_t i = 0; i < 6; i++)
		assert_int_equal(offer(q, pool, i * 4 + 1, 4), i < 2);
	assert_int_equal(q->offered_events, 24);
	assert_int_equal(q->dropped_events, 16);
	assert_int_equal(take(q, &room), 1);
	assert_int_equal(take(q, &room), 5);
	assert_true(queue_empty(q));
	queue_free(q);
	pool_free(pool);
}

static void drop_oldest_counts(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct queue *q = make(10, 1 << 20, OVERFLOW_DROP_OLDEST);
	bool room = false;

	for (uint64_t i = 0; i < 6; i++)
		assert_true(offer(q, pool, i * 4 + 1, 4));
	assert_int_equal(q->dropped_events, 16);
	assert_int_equal(take(q, &room), 17);
	assert_int_equal(take(q, &room), 21);
	assert_true(queue_empty(q));
	queue_free(q);
	pool_free(pool);
}

static void bytes_are_a_limit_too(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct ss_batch *b = numbered(pool, 1, 1);
	struct queue *q = make(1000, b->footprint * 3 + 1, OVERFLOW_DROP_NEWEST);

	for (int i = 0; i < 5; i++)
		queue_offer(q, b);
	assert_int_equal(queue_events(q), 3);
	assert_int_equal(queue_bytes(q), 3 * b->footprint);
	assert_int_equal(q->dropped_events, 2);
	batch_unref(b);
	queue_free(q);
	pool_free(pool);
}

/* A batch above the limits would otherwise never pass. */
static void an_empty_queue_takes_anything(void **state)
{
	(void)state;
	const enum overflow policies[] = {OVERFLOW_BLOCK, OVERFLOW_DROP_NEWEST, OVERFLOW_DROP_OLDEST};

	for (size_t i = 0; i < 3; i++) {
		struct pool *pool = pool_new();
		struct queue *q = make(1, 1, policies[i]);
		bool room = false;
		for (uint64_t k = 1; k <= 100; k++) {
			assert_true(offer(q, pool, k, 500));
			assert_int_equal(take(q, &room), k);
		}
		queue_free(q);
		pool_free(pool);
	}
}

static void closing_comes_behind_the_content(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct queue *q = make(10, 1 << 20, OVERFLOW_BLOCK);
	bool room = false;

	offer(q, pool, 1, 1);
	queue_close(q);
	assert_false(queue_finished(q));
	take(q, &room);
	assert_true(queue_finished(q));
	queue_free(q);
	pool_free(pool);
}

struct verdict {
	int delivered, dropped, failed;
};

static void on_done(void *arg, struct ss_token *t)
{
	struct verdict *v = arg;

	*(t->status == SS_DELIVERED ? &v->delivered
	  : t->status == SS_DROPPED ? &v->dropped
				    : &v->failed) += 1;
	free(t);
}

static void tokens_learn_what_the_queue_did(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct queue *q = make(2, 1 << 20, OVERFLOW_DROP_OLDEST);
	struct verdict v = {0};
	bool room = false;

	for (uint64_t i = 1; i <= 4; i++) {
		struct ss_batch *b = numbered(pool, i, 1);
		b->token = token_new(i, NULL, "src", on_done, &v);
		queue_offer(q, b);
		batch_unref(b);
	}
	assert_int_equal(v.dropped, 2);
	take(q, &room);
	assert_int_equal(v.delivered, 1);
	assert_int_equal(queue_discard(q), 1);
	assert_int_equal(v.failed, 1);
	queue_free(q);
	pool_free(pool);
}

/* ---- two threads ---- */

struct race {
	struct queue *q;
	struct pool *pool;
	uint64_t total;
	_Atomic bool room, done;
	uint64_t taken, last;
	bool in_order;
};

static void *consume(void *arg)
{
	struct race *r = arg;
	bool room = false;

	r->in_order = true;
	while (!queue_finished(r->q)) {
		struct ss_batch *b = queue_take(r->q, &room);
		if (room) {
			room = false;
			atomic_store(&r->room, true);
		}
		if (!b) {
			sched_yield();
			continue;
		}
		r->in_order &= b->events[0].seq > r->last;
		r->last = b->events[b->count - 1].seq;
		r->taken += b->count;
		batch_unref(b);
	}
	return NULL;
}

static void run_race(enum overflow overflow, uint64_t total, struct race *r)
{
	pthread_t thread;
	uint64_t seq = 1;
	uint32_t n = 1;

	*r = (struct race){.q = make(64, 1 << 20, overflow), .pool = pool_new(), .total = total};
	pthread_create(&thread, NULL, consume, r);
	while (seq <= total) {
		offer(r->q, r->pool, seq, n);
		seq += n;
		n = n % 7 + 1;
		while (queue_stuck(r->q)) {
			/* only a word of room moves us on: were one lost, this would hang */
			while (!atomic_exchange(&r->room, false))
				sched_yield();
			queue_flush(r->q);
		}
	}
	r->total = seq - 1;
	queue_close(r->q);
	pthread_join(thread, NULL);
	assert_true(r->in_order);
	assert_int_equal(r->q->offered_events, r->total);
	assert_int_equal(r->taken + r->q->dropped_events, r->total);
	assert_int_equal(queue_events(r->q), 0);
	assert_int_equal(queue_bytes(r->q), 0);
	queue_free(r->q);
	assert_int_equal(pool_outstanding(r->pool), 0);
	pool_free(r->pool);
}

static void two_threads_block(void **state)
{
	(void)state;
	struct race r;

	run_race(OVERFLOW_BLOCK, 300000, &r);
	assert_int_equal(r.taken, r.total);
}

static void two_threads_drop_newest(void **state)
{
	(void)state;
	struct race r;

	run_race(OVERFLOW_DROP_NEWEST, 300000, &r);
}

static void two_threads_drop_oldest(void **state)
{
	(void)state;
	struct race r;

	run_race(OVERFLOW_DROP_OLDEST, 300000, &r);
	assert_int_equal(r.last, r.total); /* the newest always gets through */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_in_first_out),
		cmocka_unit_test(block_keeps_what_does_not_fit),
		cmocka_unit_test(room_is_told_at_half),
		cmocka_unit_test(drop_newest_counts),
		cmocka_unit_test(drop_oldest_counts),
		cmocka_unit_test(bytes_are_a_limit_too),
		cmocka_unit_test(an_empty_queue_takes_anything),
		cmocka_unit_test(closing_comes_behind_the_content),
		cmocka_unit_test(tokens_learn_what_the_queue_did),
		cmocka_unit_test(two_threads_block),
		cmocka_unit_test(two_threads_drop_newest),
		cmocka_unit_test(two_threads_drop_oldest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
