/* SPDX-License-Identifier: MIT */
/* The last lines of the log: numbered, whole, the oldest of them gone when there is no more room. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/strbuf.h>
#include "core/admin/log_tail.h"

static uint64_t added;

/* A line of n bytes in all that says its number. */
static void add(size_t n)
{
	char *line = malloc(n + 1);

	memset(line, 'x', n);
	int len = snprintf(line, n + 1, "{\"n\":%llu,\"pad\":\"", (unsigned long long)++added);
	line[len] = 'x';
	memcpy(line + n - 2, "\"}", 2);
	log_tail_add(line, n);
	free(line);
}

/* Are the lines behind `after`, `most` at most, whole and one after the other up to the last?  How many. */
static size_t check(uint64_t after, size_t most)
{
	struct ss_strbuf out = {0};
	size_t n = 0;

	assert_int_equal(log_tail_print(after, most, &out), added);
	char *text = strdup(ss_strbuf_cstr(&out)), *save = NULL;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		n++;
	free(text);
	text = strdup(ss_strbuf_cstr(&out));
	uint64_t expected = added - n + 1;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), expected++) {
		unsigned long long number, same;
		assert_int_equal(sscanf(line, "{\"number\":%llu,\"n\":%llu,", &number, &same), 2);
		assert_int_equal(number, expected);
		assert_int_equal(same, expected);
		const char *end = strchr(line, '}');
		assert_non_null(end);
		assert_true(strcmp(end, expected == added ? "}" : "},") == 0);
	}
	free(text);
	ss_strbuf_done(&out);
	assert_true(n <= most);
	return n;
}

static void test_few(void **state)
{
	(void)state;
	assert_int_equal(check(0, 10), 0);
	for (int i = 0; i < 5; i++)
		add(60);
	assert_int_equal(check(0, 10), 5);
	assert_int_equal(check(0, 2), 2);
	assert_int_equal(check(3, 10), 2);
	assert_int_equal(check(5, 10), 0);
	assert_int_equal(check(1000, 10), 0);
	assert_int_equal(check(UINT64_MAX, 10), 0);
}

/* By their number, and by their bytes, in all sizes. */
static void test_many(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++) {
		add(60);
		check(0, 1000);
	}
	assert_in_range(check(0, 1000), 199, 200);
	for (int i = 0; i < 3000; i++) {
		add(60 + (size_t)(i * 7919) % 4000);
		assert_in_range(check(0, 1000), 10, 200);
	}
	log_tail_add("", 0);
	char *big = calloc(1, 70000);
	log_tail_add(big, 70000); /* fits nowhere */
	free(big);
	assert_true(check(0, 1000) > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_few), cmocka_unit_test(test_many)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
