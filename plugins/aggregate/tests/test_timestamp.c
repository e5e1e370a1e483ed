/* SPDX-License-Identifier: MIT */
/* moment: what is read as a point in time and what is not, to the nanosecond, and how one is printed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include <semstreams/ext/fields.h>
#include "plugins/aggregate/timestamp.h"

#define NONE INT64_MIN
#define S    INT64_C(1000000000)

static int64_t read_as(enum timestamp_format format, uint16_t type, const char *text)
{
	/* a block of its own, so that a sanitizer sees a byte read too many */
	size_t len = strlen(text);
	char *copy = malloc(len + !len);
	int64_t ns = 42;

	assert_non_null(copy);
	memcpy(copy, text, len);
	const struct ss_field f = {.text = copy, .len = (uint32_t)len, .type = type};
	bool good = timestamp_read(&f, format, &ns);
	free(copy);
	return good ? ns : NONE;
}

static void test_rfc3339(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
	} cases[] = {
		{"1970-01-01T00:00:00Z", 0},
		{"1970-01-01t00:00:00z", 0},
		{"1970-01-01 00:00:00Z", 0},
		{"1970-01-01T00:00:00.000000001Z", 1},
		{"1969-12-31T23:59:59.999999999Z", -1},
		{"2025-11-16T10:00:00Z", 1763287200 * S},
		{"2025-11-16T12:00:00+02:00", 1763287200 * S},
		{"2025-11-16T04:30:00.5-05:30", 1763287200 * S + 500000000},
		{"2025-11-16T10:00:00-00:00", 1763287200 * S},
		{"2025-11-16T10:00:00.123456789999999999999999Z", 1763287200 * S + 123456789},
		{"2024-02-29T00:00:00Z", 1709164800 * S},
		{"2000-02-29T23:59:59Z", 951868799 * S},
		{"2016-12-31T23:59:60Z", 1483228800 * S},
		{"2255-03-14T16:00:00Z", TIMESTAMP_MAX},
		{"1684-10-19T08:00:00Z", -TIMESTAMP_MAX},
		{"2255-03-14T16:00:00.000000001Z", NONE},
		{"1684-10-19T07:59:59.999999999Z", NONE},
		{"2255-03-14T17:00:00Z", NONE},
		{"9999-12-31T23:59:59Z", NONE},
		{"0000-01-01T00:00:00Z", NONE},
		{"2023-02-29T00:00:00Z", NONE},
		{"1900-02-29T00:00:00Z", NONE},
		{"2025-00-16T10:00:00Z", NONE},
		{"2025-13-16T10:00:00Z", NONE},
		{"2025-11-00T10:00:00Z", NONE},
		{"2025-11-31T10:00:00Z", NONE},
		{"2025-11-16T24:00:00Z", NONE},
		{"2025-11-16T10:60:00Z", NONE},
		{"2025-11-16T10:00:61Z", NONE},
		{"2025-11-16T10:00:00+24:00", NONE},
		{"2025-11-16T10:00:00+02:60", NONE},
		{"2025-11-16T10:00:00+0200", NONE},
		{"2025-11-16T10:00:00", NONE},
		{"2025-11-16T10:00:00.Z", NONE},
		{"2025-11-16T10:00:00,5Z", NONE},
		{"2025-11-16T10:00:00ZZ", NONE},
		{"2025-11-16T10:00:00Z ", NONE},
		{" 2025-11-16T10:00:00Z", NONE},
		{"2025-11-16T10:00Z", NONE},
		{"2025-11-16", NONE},
		{"25-11-16T10:00:00Z", NONE},
		{"+025-11-16T10:00:00Z", NONE},
		{"", NONE},
		{"1763287200", NONE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (read_as(TIMESTAMP_RFC3339, SS_JSON_STRING, cases[i].text) != cases[i].ns)
			fail_msg("%s is read as %lld", cases[i].text,
				 (long long)read_as(TIMESTAMP_RFC3339, SS_JSON_STRING, cases[i].text));
	/* every beginning of a good one is bad */
	char part[] = "2025-11-16T10:00:00.5+02:00";
	for (size_t len = strlen(part); len--;) {
		part[len] = '\0';
		assert_int_equal(read_as(TIMESTAMP_RFC3339, SS_JSON_STRING, part), NONE);
	}
}

static void test_numbers(void **state)
{
	static const struct {
		enum timestamp_format format;
		const char *text;
		int64_t ns;
	} cases[] = {
		{TIMESTAMP_S, "0", 0},
		{TIMESTAMP_S, "-0", 0},
		{TIMESTAMP_S, "1763287200", 1763287200 * S},
		{TIMESTAMP_S, "1763287200.5", 1763287200 * S + S / 2},
		{TIMESTAMP_S, "1763287200.123456789", 1763287200 * S + 123456789},
		{TIMESTAMP_S, "1763287200.1234567899", 1763287200 * S + 123456789},
		{TIMESTAMP_S, "-1.5", -S - S / 2},
		{TIMESTAMP_S, "1.7632872e9", 1763287200 * S},
		{TIMESTAMP_S, "1.7632872E+09", 1763287200 * S},
		{TIMESTAMP_S, "17632872005e-1", 1763287200 * S + S / 2},
		{TIMESTAMP_S, "0.000000001e0", 1},
		{TIMESTAMP_S, "1e-9", 1},
		{TIMESTAMP_S, "9e-10", 0},
		{TIMESTAMP_S, "1e-999999999", 0},
		{TIMESTAMP_S, "0e999999999", 0},
		{TIMESTAMP_S, "0.0", 0},
		{TIMESTAMP_S, "9000000000", TIMESTAMP_MAX},
		{TIMESTAMP_S, "-9000000000", -TIMESTAMP_MAX},
		{TIMESTAMP_S, "9000000000.000000001", NONE},
		{TIMESTAMP_S, "9000000001", NONE},
		{TIMESTAMP_S, "1e10", NONE},
		{TIMESTAMP_S, "1e999999999", NONE},
		{TIMESTAMP_S, "99999999999999999999999999", NONE},
		{TIMESTAMP_MS, "1763287200123", 1763287200 * S + 123000000},
		{TIMESTAMP_MS, "1763287200123.4567", 1763287200 * S + 123456700},
		{TIMESTAMP_US, "1763287200123456", 1763287200 * S + 123456000},
		{TIMESTAMP_US, "1.763287200123456e15", 1763287200 * S + 123456000},
		{TIMESTAMP_NS, "1763287200123456789", 1763287200 * S + 123456789},
		{TIMESTAMP_NS, "1.763287200123456789e18", 1763287200 * S + 123456789},
		{TIMESTAMP_NS, "9000000000000000000", TIMESTAMP_MAX},
		{TIMESTAMP_NS, "9000000000000000001", NONE},
		{TIMESTAMP_NS, "9223372036854775808", NONE},
		{TIMESTAMP_NS, "0.9", 0},
	};
	static const char *const none[] = {"",   "-",    ".",   "1.",   ".5",    "1e",    "1e+", "+1",  " 1",
					   "1 ", "0x10", "1_0", "null", "1.5.5", "1e5e5", "inf", "--1", "1-"};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		for (uint16_t type = SS_JSON_NUMBER; type <= SS_JSON_STRING; type++)
			if (read_as(cases[i].format, type, cases[i].text) != cases[i].ns)
				fail_msg("%s is read as %lld", cases[i].text,
					 (long long)read_as(cases[i].format, type, cases[i].text));
	}
	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		if (read_as(TIMESTAMP_S, SS_JSON_STRING, none[i]) != NONE)
			fail_msg("\"%s\" is read", none[i]);
}

static void test_other_types(void **state)
{
	(void)state;
	assert_int_equal(read_as(TIMESTAMP_RFC3339, SS_JSON_NUMBER, "1763287200"), NONE);
	for (uint16_t type = SS_JSON_MISSING; type <= SS_JSON_OBJECT; type++)
		if (type != SS_JSON_NUMBER && type != SS_JSON_STRING)
			assert_int_equal(read_as(TIMESTAMP_S, type, "5"), NONE);
}

static void test_print(void **state)
{
	static const struct {
		int64_t ns;
		const char *text;
	} cases[] = {
		{0, "1970-01-01T00:00:00Z"},
		{1, "1970-01-01T00:00:00.000000001Z"},
		{-1, "1969-12-31T23:59:59.999999999Z"},
		{1763287200 * S + 100000000, "2025-11-16T10:00:00.100Z"},
		{1763287200 * S + 123456000, "2025-11-16T10:00:00.123456Z"},
		{TIMESTAMP_MAX, "2255-03-14T16:00:00Z"},
		{INT64_MAX, "2262-04-11T23:47:16.854775807Z"},
		{INT64_MIN, "1677-09-21T00:12:43.145224192Z"},
	};
	char text[TIMESTAMP_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(timestamp_print(text, cases[i].ns), strlen(cases[i].text));
		assert_string_equal(text, cases[i].text);
	}
}

/* Against the C library's calendar, and back. */
static void test_any(void **state)
{
	uint64_t seed = 1;
	char text[TIMESTAMP_TEXT], want[TIMESTAMP_TEXT];

	(void)state;
	for (int i = 0; i < 200000; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		int64_t ns = (int64_t)(seed >> 1) % (2 * (TIMESTAMP_MAX / 2)) * (seed & 1 ? 1 : -1);
		time_t seconds = (time_t)(ns / S - (ns % S < 0));
		struct tm tm;
		assert_non_null(gmtime_r(&seconds, &tm));
		strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S", &tm);
		timestamp_print(text, ns);
		assert_memory_equal(text, want, strlen(want));
		assert_int_equal(read_as(TIMESTAMP_RFC3339, SS_JSON_STRING, text), ns);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc3339),     cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_other_types), cmocka_unit_test(test_print),
		cmocka_unit_test(test_any),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
