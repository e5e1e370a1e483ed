/* SPDX-License-Identifier: MIT */
/* fields: the values of numbers and strings, against the C library and by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <errno.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <semstreams/ext/fields.h>
#include "core/fields/fields.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const struct ss_fields *const fields = &fields_service;

static struct ss_field number(const char *text)
{
	return (struct ss_field){.text = text, .len = (uint32_t)strlen(text), .type = SS_JSON_NUMBER};
}

static void test_numbers(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int rc;
		double value;
	} cases[] = {
		{"0", 0, 0},
		{"-0", 0, -0.0},
		{"-0.0e5", 0, -0.0},
		{"72.5", 0, 72.5},
		{"1e22", 0, 1e22},
		{"1e23", 0, 1e23},
		{"0e999999999999999999999", 0, 0},
		{"9007199254740993", 0, 9007199254740992.0},
		{"9007199254740993.0000000000000001", 0, 9007199254740994.0},
		{"9007199254740995", 0, 9007199254740996.0},
		{"18446744073709551615", 0, 18446744073709551616.0},
		{"0.30000000000000004", 0, 0.30000000000000004},
		{"1.7976931348623157e308", 0, 1.7976931348623157e308},
		{"1.7976931348623158e308", 0, 1.7976931348623157e308},
		{"1.7976931348623159e308", -ERANGE, 0},
		{"1e309", -ERANGE, 0},
		{"-1e999999999999999999999", -ERANGE, 0},
		{"4.9e-324", 0, 4.9e-324},
		{"2.4703282292062327e-324", 0, 0},
		{"2.4703282292062328e-324", 0, 4.9e-324},
		{"-1e-400", 0, -0.0},
		{"1e-999999999999999999999", 0, 0},
		{"2.2250738585072011e-308", 0, 2.2250738585072011e-308},
		{"", -EINVAL, 0},
		{"-", -EINVAL, 0},
		{"01", -EINVAL, 0},
		{"1.", -EINVAL, 0},
		{".5", -EINVAL, 0},
		{"1e", -EINVAL, 0},
		{"1e+", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{"1x", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},
		{"nan", -EINVAL, 0},
		{"inf", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"1,5", -EINVAL, 0},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct ss_field f = number(cases[i].text);
		double value = 4711;
		int rc = fields->number(NULL, &f, &value);
		double want = cases[i].rc ? 4711 : cases[i].value;
		if (rc != cases[i].rc || memcmp(&value, &want, sizeof value) != 0)
			fail_msg("%s: %d %.17g", cases[i].text, rc, value);
	}
	for (int type = SS_JSON_MISSING; type <= SS_JSON_OBJECT; type++) {
		struct ss_field f = {"1", 1, (uint16_t)type, 0};
		double value;
		int64_t integer;
		assert_int_equal(fields->number(NULL, &f, &value), type == SS_JSON_NUMBER ? 0 : -EINVAL);
		assert_int_equal(fields->integer(NULL, &f, &integer), type == SS_JSON_NUMBER ? 0 : -EINVAL);
		assert_int_equal(fields->unescape(NULL, &f, (char[4]){0}, 4),
				 type == SS_JSON_STRING ? 1 : -EINVAL);
	}
}

/* Thousands of digits, where only the last one decides. */
static void test_long_numbers(void **state)
{
	(void)state;
	enum { ZEROS = 20000 };
	char *text = malloc(ZEROS + 64);
	double value;
	assert_non_null(text);
	for (int last = 0; last < 2; last++) {
		int n = sprintf(
			text,
			"1.00000000000000011102230246251565404236316680908203125"); /* 1 + half an ulp */
		memset(text + n, '0', ZEROS);
		sprintf(text + n + ZEROS, "%d", last);
		struct ss_field f = number(text);
		assert_int_equal(fields->number(NULL, &f, &value), 0);
		assert_true(value == (last ? 1.0000000000000002 : 1.0));
	}
	memset(text, '7', ZEROS);
	sprintf(text + ZEROS, "e-%d", ZEROS);
	struct ss_field f = number(text);
	assert_int_equal(fields->number(NULL, &f, &value), 0);
	assert_true(value == 0.77777777777777777778);
	strcpy(text, "0.");
	memset(text + 2, '0', ZEROS);
	sprintf(text + 2 + ZEROS, "5e%d", ZEROS);
	f = number(text);
	assert_int_equal(fields->number(NULL, &f, &value), 0);
	assert_true(value == 0.5);
	text[2 + ZEROS + 1] = '\0';
	f = number(text);
	assert_int_equal(fields->number(NULL, &f, &value), 0);
	assert_true(value == 0);
	free(text);
}

static void test_integers(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int rc;
		int64_t value;
	} cases[] = {
		{"0", 0, 0},
		{"-0", 0, 0},
		{"7", 0, 7},
		{"-42", 0, -42},
		{"9223372036854775807", 0, INT64_MAX},
		{"-9223372036854775808", 0, INT64_MIN},
		{"9223372036854775808", -ERANGE, 0},
		{"-9223372036854775809", -ERANGE, 0},
		{"18446744073709551616", -ERANGE, 0},
		{"100000000000000000000000000000", -ERANGE, 0},
		{"1.0", -EINVAL, 0},
		{"1e2", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"-", -EINVAL, 0},
		{"01", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{"1x", -EINVAL, 0},
		{"99999999999999999999x", -EINVAL, 0},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct ss_field f = number(cases[i].text);
		int64_t value = 4711;
		int rc = fields->integer(NULL, &f, &value);
		if (rc != cases[i].rc || value != (rc ? 4711 : cases[i].value))
			fail_msg("%s: %d %lld", cases[i].text, rc, (long long)value);
	}
	/* the flag says the same as integer() */
	static const char json[] = "[1,-1,0,1.0,1e0,1E1,12345678901234567890,123456789012345678.5,-0,-0.5]";
	static const char *const paths[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
	struct ss_reader *reader;
	struct ss_field out[COUNT(paths)];
	assert_int_equal(fields->compile(NULL, paths, COUNT(paths), &reader, NULL), 0);
	assert_int_equal(fields->read(NULL, reader, json, sizeof json - 1, out, NULL), 0);
	for (size_t i = 0; i < COUNT(paths); i++) {
		int64_t value;
		assert_true(out[i].type == SS_JSON_NUMBER);
		assert_int_equal(out[i].flags == SS_FIELD_INTEGER,
				 fields->integer(NULL, &out[i], &value) != -EINVAL);
	}
	fields->free(NULL, reader);
}

static void test_unescape(void **state)
{
	(void)state;
	static const struct {
		const char *text, *value;
		int len;
		bool escaped;
	} cases[] = {
		{"", "", 0, false},
		{"abc", "abc", 3, false},
		{"\xc3\xa9\xf0\x9f\x98\x80", "\xc3\xa9\xf0\x9f\x98\x80", 6, false},
		{"\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t", 8, true},
		{"\\u0041\\u00e9\\u20AC", "A\xc3\xa9\xe2\x82\xac", 6, true},
		{"a\\u0000b", "a\0b", 3, true},
		{"\\ud83d\\ude00", "\xf0\x9f\x98\x80", 4, true},
		{"\\uDBFF\\uDFFF", "\xf4\x8f\xbf\xbf", 4, true},
		{"\\ud800", "\xef\xbf\xbd", 3, true},
		{"\\udc00\\ud800", "\xef\xbf\xbd\xef\xbf\xbd", 6, true},
		{"\\ud800x", "\xef\xbf\xbdx", 4, true},
		{"\\ud800\\n", "\xef\xbf\xbd\n", 4, true},
		{"\\udc00\\udc00", "\xef\xbf\xbd\xef\xbf\xbd", 6, true},
		{"\\ud800\\ue000", "\xef\xbf\xbd\xee\x80\x80", 6, true},
		{"\\ud800\\u0041",
		 "\xef\xbf\xbd"
		 "A",
		 4, true},
		{"\\ud800\\ud83d\\ude00", "\xef\xbf\xbd\xf0\x9f\x98\x80", 7, true},
		{"\\uffff\\u007f\\u0080\\u07ff\\u0800", "\xef\xbf\xbf\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80", 11,
		 true},
	};
	struct ss_reader *reader;
	assert_int_equal(fields->compile(NULL, (const char *[]){""}, 1, &reader, NULL), 0);
	for (size_t i = 0; i < COUNT(cases); i++) {
		char json[128], buf[32];
		struct ss_field f;
		int n = snprintf(json, sizeof json, "\"%s\"", cases[i].text);
		assert_int_equal(fields->read(NULL, reader, json, (size_t)n, &f, NULL), 0);
		assert_int_equal(f.flags, cases[i].escaped ? SS_FIELD_ESCAPED : 0);
		for (size_t size = 0; size < sizeof buf; size++) {
			memset(buf, '#', sizeof buf);
			assert_int_equal(fields->unescape(NULL, &f, size ? buf : NULL, size), cases[i].len);
			const size_t written = (size_t)cases[i].len <= size ? (size_t)cases[i].len : 0;
			assert_memory_equal(buf, cases[i].value, written);
			for (size_t k = written; k < sizeof buf; k++)
				assert_int_equal(buf[k], '#');
		}
	}
	/* fields that no document has */
	static const char *const broken[] = {"\\", "\\x", "\\u", "\\u123", "\\u123g", "\\ud800\\"};
	for (size_t i = 0; i < COUNT(broken); i++) {
		struct ss_field f = {broken[i], (uint32_t)strlen(broken[i]), SS_JSON_STRING,
				     SS_FIELD_ESCAPED};
		assert_int_equal(fields->unescape(NULL, &f, (char[32]){0}, 32), -EINVAL);
		assert_int_equal(fields->unescape(NULL, &f, NULL, 0), -EINVAL);
	}
	fields->free(NULL, reader);
}

/* ---- at random -------------------------------------------------------------------------------------- */

static uint64_t random_state = 88172645463325252u;

static uint64_t rnd(void) /* xorshift64* */
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * UINT64_C(2685821657736338717);
}

/* number() and integer() must agree with strtod() and strtoll(). */
static void check_number(const char *text)
{
	struct ss_field f = number(text);
	double value = 4711, want = strtod(text, NULL);
	int rc = fields->number(NULL, &f, &value);
	if (isinf(want)) {
		if (rc != -ERANGE)
			fail_msg("%s: %d %.17g", text, rc, value);
	} else if (rc || memcmp(&value, &want, sizeof value) != 0) {
		fail_msg("%s: %d %.17g, expected %.17g", text, rc, value, want);
	}
	int64_t integer = 4711;
	rc = fields->integer(NULL, &f, &integer);
	errno = 0;
	const long long want_integer = strtoll(text, NULL, 10);
	const int want_rc = strpbrk(text, ".eE") ? -EINVAL : errno ? -ERANGE : 0;
	if (rc != want_rc || (rc == 0 && integer != want_integer))
		fail_msg("%s: %d %lld", text, rc, (long long)integer);
}

static void test_random_numbers(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 400000; i++) {
		char text[96];
		uint64_t bits = rnd();
		double d;
		memcpy(&d, &bits, sizeof d);
		switch (i % 8) {
		case 0: /* what sensors send */
			snprintf(text, sizeof text, "%.*f", (int)(rnd() % 8),
				 (double)(int64_t)rnd() / (double)(1ll << rnd() % 63));
			break;
		case 1: /* any double, to the digit or one less or more */
			if (!isfinite(d))
				continue;
			snprintf(text, sizeof text, "%.*e", 14 + (int)(rnd() % 5), d);
			break;
		case 2: /* of everyday size */
			snprintf(text, sizeof text, "%.*g", 15 + (int)(rnd() % 4),
				 (double)(int64_t)rnd() * 1e-13);
			break;
		case 3:
			snprintf(text, sizeof text, "%lld", (long long)rnd() >> rnd() % 64);
			break;
		case 4:
			snprintf(text, sizeof text, "%llue%d", (unsigned long long)rnd() >> rnd() % 64,
				 (int)(rnd() % 60) - 30);
			break;
		case 5:
			snprintf(text, sizeof text, "-%u.%019llue%d", (unsigned)(rnd() % 3),
				 (unsigned long long)(rnd() >> 1), (int)(rnd() % 700) - 350);
			break;
		case 6: /* around the largest integers */
			snprintf(text, sizeof text, "%s922337203685477580%u", rnd() % 2 ? "-" : "",
				 (unsigned)(rnd() % 12));
			break;
		default: /* halfway between two integers that doubles can hold */
			snprintf(text, sizeof text, "%llu%s",
				 (unsigned long long)((1ull << 53 | rnd() >> 11) << rnd() % 10) + rnd() % 3,
				 rnd() % 2 ? ".5" : "");
		}
		check_number(text);
	}
	/* 19 digits behind the point: the quotient has few bits to spare, so remainders decide */
	for (unsigned i = 0; i < 200000; i++) {
		char text[48];
		snprintf(text, sizeof text, "%llue-19", (unsigned long long)(rnd() >> 1 | 1ull << 60));
		check_number(text);
	}
}

/* Halfway between two doubles, exactly and a digit beside it, where long double can tell. */
static void test_halfway(void **state)
{
	(void)state;
#if LDBL_MANT_DIG > DBL_MANT_DIG
	static char text[1400];
	for (unsigned i = 0; i < 4000; i++) {
		uint64_t bits = rnd() & INT64_MAX;
		double d;
		if (i % 4 == 0)
			bits >>= 12; /* subnormal */
		if (i % 4 == 1)
			bits = (1023 + rnd() % 60) << 52 | bits >> 12;
		memcpy(&d, &bits, sizeof d);
		if (!isfinite(d) || d == DBL_MAX)
			continue;
		const long double half = ((long double)d + (long double)nextafter(d, INFINITY)) / 2;
		int n = snprintf(text, 1200, "%.*Le", 800, half); /* more digits than it has */
		check_number(text);
		char *e = strchr(text, 'e');
		e[-1] = '1';
		check_number(text);
		/* just below: borrow from the last digit that is not 0 */
		e[-1] = '0';
		char *p = e - 1;
		while (*p == '0')
			*p-- = '9';
		if (*p != '.')
			*p -= 1;
		check_number(text);
		assert_true(n < 1200);
	}
#else
	skip();
#endif
}

/* A locale with a decimal comma changes nothing. */
static void test_locale(void **state)
{
	(void)state;
	static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "ru_RU.UTF-8"};
	bool comma = false;
	for (size_t i = 0; i < COUNT(names) && !comma; i++)
		comma = setlocale(LC_NUMERIC, names[i]) && *localeconv()->decimal_point == ',';
	if (!comma)
		skip();
	static const char *const texts[] = {"1.5", "0.1234567890123456789012", "1.5e-300",
					    "12345678901234567890.5"};
	double values[COUNT(texts)];
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct ss_field f = number(texts[i]);
		assert_int_equal(fields->number(NULL, &f, &values[i]), 0);
	}
	setlocale(LC_NUMERIC, "C");
	for (size_t i = 0; i < COUNT(texts); i++)
		assert_true(values[i] == strtod(texts[i], NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),        cmocka_unit_test(test_long_numbers),
		cmocka_unit_test(test_integers),       cmocka_unit_test(test_unescape),
		cmocka_unit_test(test_random_numbers), cmocka_unit_test(test_halfway),
		cmocka_unit_test(test_locale),
	};
	return cmocka_run_group_tests_name("fields_values", tests, NULL, NULL);
}
