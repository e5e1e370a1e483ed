/* SPDX-License-Identifier: MIT */
/* units: what is taken, what is refused, and back again. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <semstreams/base/units.h>

struct unit_case {
	const char *text;
	int result;
	int64_t value;
};

static void check(int (*parse)(const char *, int64_t *), const struct unit_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int64_t value = -42;
		int r = parse(cases[i].text, &value);
		if (r != cases[i].result || value != (r ? -42 : cases[i].value))
			fail_msg("\"%s\": %d, %lld", cases[i].text, r, (long long)value);
	}
}
#define CHECK(parse, cases) check(parse, cases, sizeof cases / sizeof cases[0])

static void test_duration(void **state)
{
	(void)state;
	static const struct unit_case cases[] = {
		{"0", 0, 0},
		{"0s", 0, 0},
		{"1ns", 0, 1},
		{"500ms", 0, 500000000},
		{"2.5s", 0, 2500000000},
		{"1h30m", 0, 5400000000000},
		{"7d", 0, 604800000000000},
		{"1d2h3m4s5ms6us7ns", 0, 93784005006007},
		{"0.000000001s", 0, 1},
		{"0.000000000125d", 0, 10800},
		{"106751d", 0, 9223286400000000000},
		{"9223372036854775807ns", 0, INT64_MAX},
		{"9223372036854775808ns", -ERANGE, 0},
		{"106752d", -ERANGE, 0},
		{"106751d23h47m17s", -ERANGE, 0},
		{"99999999999999999999999999h", -ERANGE, 0},
		{"0.1ns", -EINVAL, 0},
		{"0.0000000001s", -EINVAL, 0},
		{"1.0000000000000000s", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"5", -EINVAL, 0},
		{"s", -EINVAL, 0},
		{"-5s", -EINVAL, 0},
		{"+5s", -EINVAL, 0},
		{" 5s", -EINVAL, 0},
		{"5s ", -EINVAL, 0},
		{"5 s", -EINVAL, 0},
		{"5S", -EINVAL, 0},
		{"5.s", -EINVAL, 0},
		{".5s", -EINVAL, 0},
		{"1e3s", -EINVAL, 0},
		{"5sec", -EINVAL, 0},
		{"5s3", -EINVAL, 0},
		{"30m1h", -EINVAL, 0},
		{"1s1s", -EINVAL, 0},
		{"1\xc2\xb5s", -EINVAL, 0},
	};
	CHECK(ss_parse_duration, cases);
}

static void test_size(void **state)
{
	(void)state;
	static const struct unit_case cases[] = {
		{"0", 0, 0},
		{"512", 0, 512},
		{"512B", 0, 512},
		{"10kB", 0, 10000},
		{"64MiB", 0, 67108864},
		{"1.5GiB", 0, 1610612736},
		{"1TB", 0, 1000000000000},
		{"1TiB", 0, 1099511627776},
		{"9223372036854775807", 0, INT64_MAX},
		{"9223372036854775808", -ERANGE, 0},
		{"8388608TiB", -ERANGE, 0},
		{"8388607TiB", 0, 9223370937343148032},
		{"0.5", -EINVAL, 0},
		{"1.0001kB", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"MiB", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"1 MiB", -EINVAL, 0},
		{"1mib", -EINVAL, 0},
		{"1M", -EINVAL, 0},
		{"1MiBs", -EINVAL, 0},
		{"1MiB1", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
	};
	CHECK(ss_parse_size, cases);
}

static void test_integer(void **state)
{
	(void)state;
	static const struct unit_case cases[] = {
		{"0", 0, 0},
		{"-0", 0, 0},
		{"14550", 0, 14550},
		{"-7", 0, -7},
		{"9223372036854775807", 0, INT64_MAX},
		{"-9223372036854775808", 0, INT64_MIN},
		{"9223372036854775808", -ERANGE, 0},
		{"-9223372036854775809", -ERANGE, 0},
		{"123456789012345678901234567890", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"-", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{"01", -EINVAL, 0},
		{"1.0", -EINVAL, 0},
		{"1e3", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},
		{"--1", -EINVAL, 0},
	};
	CHECK(ss_parse_integer, cases);
}

static void test_format(void **state)
{
	(void)state;
	static const struct {
		int64_t value;
		const char *duration, *size;
	} cases[] = {
		{0, "0s", "0"},
		{1, "1ns", "1"},
		{1000, "1us", "1kB"},
		{1024, "1024ns", "1KiB"},
		{65536, "65536ns", "64KiB"},
		{512000, "512us", "512kB"},
		{67108864, "67108864ns", "64MiB"},
		{2500000000, "2500ms", "2500MB"},
		{5400000000000, "90m", "5400GB"},
		{604800000000000, "7d", "604800GB"},
		{INT64_MAX, "9223372036854775807ns", "9223372036854775807B"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char buf[32];
		int64_t back;
		assert_string_equal(ss_format_duration(cases[i].value, buf, sizeof buf), cases[i].duration);
		assert_int_equal(ss_parse_duration(buf, &back), 0);
		assert_true(back == cases[i].value);
		assert_string_equal(ss_format_size(cases[i].value, buf, sizeof buf), cases[i].size);
		assert_int_equal(ss_parse_size(buf, &back), 0);
		assert_true(back == cases[i].value);
	}
	char small[3];
	assert_string_equal(ss_format_duration(5400000000000, small, sizeof small), "90");
}

static void test_for_people(void **state)
{
	(void)state;
	static const struct {
		int64_t ns;
		const char *span;
	} spans[] = {
		{0, "0s"},
		{-1, "0s"},
		{999999, "0s"},
		{1000000, "1ms"},
		{1999999999, "1s"},
		{30000000000, "30s"},
		{90000000000, "1m30s"},
		{27900000000000, "7h45m"},
		{10800000000000, "3h"},
		{10859000000000, "3h"},
		{7772400000000000, "89d23h"},
		{INT64_MAX, "106751d23h"},
	};
	static const struct {
		uint64_t bytes;
		const char *about;
	} sizes[] = {
		{0, "0B"},         {999, "999B"},           {1000, "0.97KiB"},
		{1024, "1KiB"},    {32768, "32KiB"},        {33000, "32.2KiB"},
		{1 << 20, "1MiB"}, {1572864000, "1.46GiB"}, {UINT64_MAX, "15.9EiB"},
	};
	char buf[24];
	for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++)
		assert_string_equal(ss_format_span(spans[i].ns, buf, sizeof buf), spans[i].span);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		assert_string_equal(ss_format_about(sizes[i].bytes, buf, sizeof buf), sizes[i].about);
	assert_string_equal(ss_format_time(1763287200, buf, sizeof buf), "2025-11-16T10:00:00Z");
	assert_string_equal(ss_format_time(INT64_MAX, buf, sizeof buf), "");
}

static void test_round_trip(void **state)
{
	(void)state;
	uint64_t x = 1;
	for (int i = 0; i < 10000; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		int64_t value = (int64_t)(x >> (1 + i % 62)), back;
		char buf[32];
		assert_int_equal(ss_parse_duration(ss_format_duration(value, buf, sizeof buf), &back), 0);
		assert_true(back == value);
		assert_int_equal(ss_parse_size(ss_format_size(value, buf, sizeof buf), &back), 0);
		assert_true(back == value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_duration),   cmocka_unit_test(test_size),
		cmocka_unit_test(test_integer),    cmocka_unit_test(test_format),
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_for_people),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
