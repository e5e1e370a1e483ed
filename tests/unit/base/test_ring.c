/* SPDX-License-Identifier: MIT */
/* ring: values keep their order, content and number while it grows at any place. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <cmocka.h>

#include <semstreams/base/ring.h>

struct value {
	uint64_t number;
	char other;
};

static void test_any_course(void **state)
{
	(void)state;
	struct ss_ring r = {.value_size = sizeof(struct value)};
	uint64_t x = 1;

	assert_null(ss_ring_first(&r));
	for (int i = 0; i < 200000; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		bool growing = i / 20000 % 2 == 0;
		unsigned dice = (unsigned)(x >> 61);
		if (dice < (growing ? 5u : 3u)) {
			uint64_t number = r.tail;
			struct value *v = ss_ring_push(&r);
			assert_non_null(v);
			assert_int_equal(v->number, 0);
			v->number = number;
		} else if (dice == 7 && ss_ring_count(&r)) {
			ss_ring_pop(&r);
		} else if (ss_ring_count(&r)) {
			struct value *first = ss_ring_first(&r);
			assert_int_equal(first->number, r.head);
			ss_ring_shift(&r);
		}
		if (i % 1000 == 0)
			for (uint64_t k = r.head; k < r.tail; k++)
				assert_int_equal(((struct value *)ss_ring_at(&r, k))->number, k);
	}
	assert_true(r.allocated > 64);
	ss_ring_done(&r);
	assert_int_equal(ss_ring_count(&r), 0);
	assert_non_null(ss_ring_push(&r));
	ss_ring_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_course)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
