/* SPDX-License-Identifier: MIT */
/* ss_nearest: what is close enough, and what is not. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <semstreams/base/nearest.h>

static void test_nearest(void **state)
{
	(void)state;
	static const char *const keys[] = {"id",     "type",  "config",         "inputs",
					   "worker", "queue", "max_connections"};
	static const struct {
		const char *word, *nearest;
	} cases[] = {
		{"tpye", "type"},
		{"Type", "type"},
		{"typ", "type"},
		{"conifg", "config"},
		{"configuration", NULL},
		{"input", "inputs"},
		{"ID", "id"},
		{"ic", "id"},
		{"x", NULL},
		{"zz", NULL},
		{"", NULL},
		{"max-conections", "max_connections"},
		{"quee", "queue"},
		{"wroker", "worker"},
		{"outputs", NULL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const char *nearest = ss_nearest(cases[i].word, keys, sizeof keys / sizeof keys[0]);
		if (!cases[i].nearest)
			assert_null(nearest);
		else
			assert_string_equal(nearest ? nearest : cases[i].word, cases[i].nearest);
	}
	char big[4096];
	memset(big, 'i', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	assert_null(ss_nearest(big, keys, 7));
	const char *only_big = big;
	assert_null(ss_nearest("id", &only_big, 1));
	assert_null(ss_nearest("id", NULL, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nearest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
