/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "core/flow/batch.h"

static struct ss_batch *filled(struct pool *pool, uint32_t events, uint32_t len)
{
	struct ss_batch *b = batch_new(pool, NULL, events, (size_t)events * len);

	assert_non_null(b);
	assert_true(b->capacity >= events);
	assert_true(b->size >= (size_t)events * len);
	for (uint32_t i = 0; i < events; i++) {
		memset(b->data + (size_t)i * len, 'a' + (int)(i % 26), len);
		b->events[i] = (struct ss_event){.data = b->data + (size_t)i * len, .len = len, .seq = i + 1};
	}
	b->count = events;
	return b;
}

static void blocks_are_used_again(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct ss_batch *b = batch_new(pool, NULL, 4, 4096);
	void *where = b;

	batch_unref(b);
	assert_int_equal(pool_outstanding(pool), 0);
	b = batch_new(pool, NULL, 4, 4096);
	assert_ptr_equal(b, where);
	assert_int_equal(pool_outstanding(pool), 1);
	batch_unref(b);
	pool_free(pool);
}

static void sizes_from_nothing_to_beyond_the_shelves(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	const size_t sizes[] = {0, 1, 400, 512, 65536, 1 << 20, (1 << 21) - 1, 1 << 21, 5 << 20};

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct ss_batch *b = batch_new(pool, NULL, 3, sizes[i]);
		assert_non_null(b);
		assert_true(b->capacity >= 3);
		if (sizes[i])
			memset(b->data, 0x5a, b->size);
		else
			assert_null(b->data);
		b->events[b->capacity - 1].seq = 1;
		batch_unref(b);
	}
	assert_null(batch_new(pool, NULL, 1, SIZE_MAX));
	assert_int_equal(pool_outstanding(pool), 0);
	pool_free(pool);
}

static void a_child_keeps_its_parent(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct ss_batch *parent = filled(pool, 8, 100);
	struct ss_batch *child = batch_new(pool, parent, 1, 0);

	child->events[0] = parent->events[3];
	child->count = 1;
	batch_unref(parent);
	assert_int_equal(pool_outstanding(pool), 2);
	assert_int_equal(child->events[0].data[99], 'd');
	batch_unref(child);
	assert_int_equal(pool_outstanding(pool), 0);
	pool_free(pool);
}

static void sealing_works_out_the_footprint(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct ss_batch *b = filled(pool, 8, 100);
	struct ss_batch *sealed = batch_seal(pool, b);

	assert_ptr_equal(sealed, b);
	assert_int_equal(b->footprint, 8 * 100 + 8 * EVENT_OVERHEAD + BATCH_OVERHEAD);
	batch_unref(sealed);
	batch_unref(b);
	assert_int_equal(pool_outstanding(pool), 0);
	pool_free(pool);
}

/* What a queue accounts for is never less than an eighth of the memory it holds. */
static void a_sparse_selection_is_compacted(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct ss_batch *big = filled(pool, 64, 1000);
	batch_unref(batch_seal(pool, big));

	for (uint32_t keep = 1; keep <= 64; keep *= 2) {
		struct ss_batch *part = batch_new(pool, big, keep, 0);
		for (uint32_t i = 0; i < keep; i++)
			part->events[i] = big->events[64 / keep * i];
		part->count = keep;
		struct ss_batch *sealed = batch_seal(pool, part);
		assert_int_equal(sealed->count, keep);
		for (uint32_t i = 0; i < keep; i++) {
			const struct ss_event *e = &big->events[64 / keep * i];
			assert_int_equal(sealed->events[i].seq, e->seq);
			assert_int_equal(sealed->events[i].len, e->len);
			assert_memory_equal(sealed->events[i].data, e->data, e->len);
		}
		bool copied = sealed != part;
		assert_int_equal(copied, keep < 8);
		if (!copied)
			assert_true((uint64_t)sealed->footprint * 8 >= big->footprint);
		batch_unref(part);
		batch_unref(sealed);
	}
	batch_unref(big);
	assert_int_equal(pool_outstanding(pool), 0);
	pool_free(pool);
}

struct verdict {
	int calls;
	int32_t status;
	uint64_t cookie;
};

static void on_done(void *arg, struct ss_token *t)
{
	struct verdict *v = arg;

	v->calls++;
	v->status = t->status;
	v->cookie = t->cookie;
	free(t);
}

static void a_token_reports_once_when_the_last_holder_is_gone(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct verdict v = {0};
	struct ss_batch *b = filled(pool, 2, 10);
	b->token = token_new(42, NULL, "src", on_done, &v);
	struct ss_batch *half = batch_new(pool, b, 1, 0);
	half->events[0] = b->events[0];
	half->count = 1;
	struct ss_token *held = b->token;

	token_ref(held);
	batch_unref(b);
	batch_unref(half);
	assert_int_equal(v.calls, 0);
	token_unref(held, SS_DELIVERED);
	assert_int_equal(v.calls, 1);
	assert_int_equal(v.status, SS_DELIVERED);
	assert_int_equal(v.cookie, 42);
	pool_free(pool);
}

static void the_worst_status_wins(void **state)
{
	(void)state;
	const int32_t cases[][3] = {{SS_DELIVERED, SS_DROPPED, SS_DROPPED},
				    {SS_FAILED, SS_DROPPED, SS_FAILED},
				    {SS_DROPPED, SS_FAILED, SS_FAILED},
				    {SS_DELIVERED, SS_DELIVERED, SS_DELIVERED}};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct verdict v = {0};
		struct ss_token *t = token_new(1, NULL, "src", on_done, &v);
		token_ref(t);
		token_unref(t, cases[i][0]);
		token_unref(t, cases[i][1]);
		assert_int_equal(v.calls, 1);
		assert_int_equal(v.status, cases[i][2]);
	}
}

static void a_compact_copy_keeps_the_token(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct verdict v = {0};
	struct ss_batch *big = filled(pool, 64, 1000);
	batch_unref(batch_seal(pool, big));
	big->token = token_new(7, NULL, "src", on_done, &v);
	struct ss_batch *part = batch_new(pool, big, 1, 0);
	part->events[0] = big->events[5];
	part->count = 1;
	struct ss_batch *sealed = batch_seal(pool, part);

	assert_ptr_not_equal(sealed, part);
	batch_unref(part);
	batch_unref(big);
	assert_int_equal(v.calls, 0);
	batch_unref(sealed);
	assert_int_equal(v.calls, 1);
	pool_free(pool);
}

/* One thread takes, three give back. */
enum { GIVERS = 3, BATCHES = 20000 };
static _Atomic(struct ss_batch *) handover[GIVERS];

static void *give_back(void *arg)
{
	_Atomic(struct ss_batch *) *box = arg;

	for (int i = 0; i < BATCHES; i++) {
		struct ss_batch *b;
		while (!(b = atomic_exchange_explicit(box, NULL, memory_order_acquire)))
			sched_yield();
		assert_int_equal(b->events[0].seq, b->count);
		batch_unref(b);
	}
	return NULL;
}

static void batches_come_back_from_other_threads(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	pthread_t threads[GIVERS];

	for (int i = 0; i < GIVERS; i++)
		pthread_create(&threads[i], NULL, give_back, &handover[i]);
	for (int i = 0; i < BATCHES; i++) {
		struct ss_batch *b = batch_new(pool, NULL, 4, 100);
		b->count = (uint32_t)i;
		b->events[0].seq = (uint64_t)i;
		atomic_fetch_add(&((struct batch *)b)->refs, GIVERS - 1);
		for (int k = 0; k < GIVERS; k++) {
			struct ss_batch *empty = NULL;
			while (!atomic_compare_exchange_weak_explicit(
				&handover[k], &empty, b, memory_order_release, memory_order_relaxed)) {
				empty = NULL;
				sched_yield();
			}
		}
	}
	for (int i = 0; i < GIVERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(pool_outstanding(pool), 0);
	pool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_are_used_again),
		cmocka_unit_test(sizes_from_nothing_to_beyond_the_shelves),
		cmocka_unit_test(a_child_keeps_its_parent),
		cmocka_unit_test(sealing_works_out_the_footprint),
		cmocka_unit_test(a_sparse_selection_is_compacted),
		cmocka_unit_test(a_token_reports_once_when_the_last_holder_is_gone),
		cmocka_unit_test(the_worst_status_wins),
		cmocka_unit_test(a_compact_copy_keeps_the_token),
		cmocka_unit_test(batches_come_back_from_other_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
