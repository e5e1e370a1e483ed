/* SPDX-License-Identifier: MIT */
/* decimal: numbers of any length by their text. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <semstreams/base/decimal.h>

static int compare(const char *a, const char *b)
{
	struct ss_decimal x, y;

	ss_decimal_read(a, strlen(a), &x);
	ss_decimal_read(b, strlen(b), &y);
	return ss_decimal_compare(&x, &y);
}

/* Each row is one number, each is more than the row before. */
static const char *const rows[][4] = {
	{"-1e999999999999999999999"},
	{"-1e400", "-10.0e399"},
	{"-18446744073709551615", "-18446744073709551615.0"},
	{"-2", "-2.00", "-20e-1"},
	{"-1.5", "-0.15e1"},
	{"-1e-400"},
	{"0", "-0", "0.000e7", "-0e-1"},
	{"1e-999999999999999999999"},
	{"1e-400", "0.1e-399"},
	{"0.1", "0.10", "1E-1", "0.01e+1"},
	{"0.1000000000000000055511151231257827021181583404541015625"},
	{"0.10000000000000001"},
	{"1", "1.0", "10e-1", "0.001e3"},
	{"9007199254740992"},
	{"9007199254740992.5"},
	{"9007199254740993", "9007199254740993.000"},
	{"9223372036854775807"},
	{"9223372036854775808"},
	{"18446744073709551614"},
	{"18446744073709551615", "1.8446744073709551615e19"},
	{"1e400", "10e399"},
	{"1.0000000000000000000000000000000000000000000000000000001e400"},
	{"1e401"},
};
#define N_ROWS (sizeof rows / sizeof *rows)

static void test_order(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ROWS; i++)
		for (size_t j = 0; j < N_ROWS; j++)
			for (size_t k = 0; k < 4 && rows[i][k]; k++)
				for (size_t l = 0; l < 4 && rows[j][l]; l++)
					assert_int_equal(compare(rows[i][k], rows[j][l]), (i > j) - (i < j));
}

static void test_digits(void **state)
{
	(void)state;
	static const struct {
		const char *text, *digits;
		int64_t exponent;
	} cases[] = {
		{"120.50", "1205", 2}, {"-0.00120", "12", -3},  {"7e5", "7", 5},
		{"0.0", "", 0},        {"123456", "123456", 5}, {"1234567", "", 6},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct ss_decimal d;
		char digits[6];

		ss_decimal_read(cases[i].text, strlen(cases[i].text), &d);
		size_t n = ss_decimal_digits(&d, digits, sizeof digits);
		assert_int_equal(n, strlen(cases[i].digits));
		assert_memory_equal(digits, cases[i].digits, n);
		assert_int_equal(d.exponent, cases[i].exponent);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_digits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
