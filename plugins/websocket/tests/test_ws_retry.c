/* SPDX-License-Identifier: MIT */
/* Tests of Retry-After: numbers, dates of all three forms, clocks that differ, and nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdint.h>
#include "plugins/websocket/transport/ws_retry.h"

#define NOW 784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */

static void test_seconds(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t seconds;
	} cases[] = {
		{"0", 0},
		{"7", 7},
		{"86399", 86399},
		{"86401", 86400},
		{"100000000000000000000000000", 86400},
		{"", 0},
		{"-1", 0},
		{"+7", 0},
		{"7 s", 0},
		{"7.5", 0},
		{"soon", 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_int_equal(ws_retry_seconds(cases[i].text, NULL, NOW), cases[i].seconds);
}

static void test_dates(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t seconds;
	} cases[] = {
		{"Sun, 06 Nov 1994 08:50:07 GMT", 30},
		{"Sunday, 06-Nov-94 08:50:07 GMT", 30},
		{"Sun Nov  6 08:50:07 1994", 30},
		{"Sun, 06 Nov 1994 09:49:37 GMT", 3600},
		{"Tue, 06 Dec 1994 08:49:37 GMT", 86400},
		{"Monday, 06-Nov-34 08:50:07 GMT", 86400},
		{"Sun, 06 Nov 1994 08:49:37 GMT", 0},
		{"Sun, 06 Nov 1994 08:49:36 GMT", 0},
		{"Sun, 06 Nov 1994 08:50:07", 0},
		{"Sun, 06 Nov 1994 08:50:07 GMT+1", 0},
		{"Sun, 06 Nov 1994 08:50:07 CET", 0},
		{"Sun, 06 Nov 1994 24:50:07 GMT", 0},
		{"Sun, 06 Nov 1994 08:60:07 GMT", 0},
		{"Sun, 36 Nov 1994 08:50:07 GMT", 0},
		{"Sun, -6 Nov 1994 08:50:07 GMT", 0},
		{"Sun, 06 Nav 1994 08:50:07 GMT", 0},
		{"1994-11-06T08:50:07Z", 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_int_equal(ws_retry_seconds(cases[i].text, NULL, NOW), cases[i].seconds);
}

/* The server's clock counts: a sender whose own is a year off waits no longer for that, and no shorter. */
static void test_other_clock(void **state)
{
	(void)state;
	const char *then = "Sun, 06 Nov 1994 08:50:07 GMT", *date = "Sun, 06 Nov 1994 08:49:57 GMT";
	assert_int_equal(ws_retry_seconds(then, date, NOW + 365 * 86400), 10);
	assert_int_equal(ws_retry_seconds(then, date, 0), 10);
	assert_int_equal(ws_retry_seconds(then, "yesterday", NOW), 30);
	assert_int_equal(ws_retry_seconds("7", date, 0), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seconds),
		cmocka_unit_test(test_dates),
		cmocka_unit_test(test_other_clock),
	};
	return cmocka_run_group_tests_name("ws_retry", tests, NULL, NULL);
}
