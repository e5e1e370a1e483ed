/* SPDX-License-Identifier: MIT */
/* A multiset of batches, against counting by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <semstreams/plugin.h>
#include "core/flow/kept.h"

enum { BATCHES = 300 };

/* Only the address counts. */
static const struct ss_batch *batch(unsigned i)
{
	static char memory[BATCHES * 64];

	return (const struct ss_batch *)(const void *)(memory + (size_t)i * 64);
}

static void counts_what_is_kept(void **state)
{
	(void)state;
	struct kept k = {0};
	unsigned times[BATCHES] = {0}, all = 0, seed = 7;

	for (int step = 0; step < 100000; step++) {
		unsigned i = (unsigned)rand_r(&seed) % BATCHES;
		if (rand_r(&seed) % 2) {
			assert_int_equal(kept_reserve(&k), 0);
			kept_add(&k, batch(i), (uint64_t)step);
			times[i]++;
			all++;
		} else {
			bool there = kept_remove(&k, batch(i));
			assert_int_equal(there, times[i] > 0);
			times[i] -= there;
			all -= there;
		}
		assert_int_equal(k.n, all);
	}
	while (kept_take(&k))
		all--;
	assert_int_equal(all, 0);
	assert_false(kept_remove(&k, batch(0)));
	kept_done(&k);
}

/* Of those that were put in at step 5 or before, whatever the table did meanwhile. */
static void knows_since_when(void **state)
{
	(void)state;
	struct ss_batch batches[64] = {{0}};
	struct kept k = {0};

	for (uint32_t i = 0; i < 64; i++) {
		batches[i].count = i;
		assert_int_equal(kept_reserve(&k), 0);
		kept_add(&k, &batches[i], i + 1);
	}
	assert_true(kept_remove(&k, &batches[0]));
	assert_true(kept_remove(&k, &batches[3]));
	const struct kept_since some = kept_before(&k, 5), none = kept_before(&k, 1),
				all = kept_before(&k, 64);
	assert_int_equal(some.batches, 3);
	assert_int_equal(some.events, 1 + 2 + 4);
	assert_int_equal(some.since_ns, 2);
	assert_int_equal(none.batches, 0);
	assert_int_equal(none.since_ns, 0);
	assert_int_equal(all.batches, 62);
	kept_done(&k);
}

static void empty(void **state)
{
	(void)state;
	struct kept k = {0};

	assert_false(kept_remove(&k, batch(1)));
	assert_null(kept_take(&k));
	kept_done(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_what_is_kept),
		cmocka_unit_test(knows_since_when),
		cmocka_unit_test(empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
