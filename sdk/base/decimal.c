/* SPDX-License-Identifier: MIT */
#include <semstreams/base/decimal.h>

#define EXPONENT_MAX INT64_C(1000000000000) /* far beyond what the digits of a text can balance */

/* From behind the 'e'. */
static int64_t read_exponent(const char *p, const char *end)
{
	const bool negative = p < end && *p == '-';
	int64_t exponent = 0;

	for (p += negative || (p < end && *p == '+'); p < end; p++)
		if (exponent < EXPONENT_MAX)
			exponent = exponent * 10 + (*p - '0');
	return negative ? -exponent : exponent;
}

void ss_decimal_read(const char *text, size_t len, struct ss_decimal *d)
{
	const char *p = text, *end = text + len, *point = NULL;

	*d = (struct ss_decimal){.negative = p < end && *p == '-'};
	for (p += d->negative; p < end && (*p | 0x20) != 'e'; p++) {
		if (*p == '.') {
			point = p;
		} else if (*p != '0') {
			d->first = d->first ? d->first : p;
			d->last = p;
		}
	}
	if (!d->first) {
		d->negative = false;
		return;
	}
	point = point ? point : p;
	d->exponent = d->first < point ? point - d->first - 1 : point - d->first;
	if (p < end)
		d->exponent += read_exponent(p + 1, end);
}

static int compare_digits(const struct ss_decimal *a, const struct ss_decimal *b)
{
	const char *p = a->first, *q = b->first;

	for (; p <= a->last && q <= b->last; p++, q++) {
		p += *p == '.';
		q += *q == '.';
		if (*p != *q)
			return *p < *q ? -1 : 1;
	}
	return (p <= a->last) - (q <= b->last);
}

int ss_decimal_compare(const struct ss_decimal *a, const struct ss_decimal *b)
{
	const int sign_a = a->first ? 1 - 2 * a->negative : 0, sign_b = b->first ? 1 - 2 * b->negative : 0;

	if (sign_a != sign_b || sign_a == 0)
		return (sign_a > sign_b) - (sign_a < sign_b);
	if (a->exponent != b->exponent)
		return a->exponent < b->exponent ? -sign_a : sign_a;
	return sign_a * compare_digits(a, b);
}

size_t ss_decimal_digits(const struct ss_decimal *d, char *digits, size_t size)
{
	size_t n = 0;

	if (!d->first)
		return 0;
	for (const char *p = d->first; p <= d->last; p++) {
		if (*p == '.')
			continue;
		if (n == size)
			return 0;
		digits[n++] = *p;
	}
	return n;
}
