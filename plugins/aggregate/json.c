/* SPDX-License-Identifier: MIT */
/* json - see json.h. */
#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Digits of u, ending before end; where they begin. */
static char *digits_of(char *end, uint64_t u)
{
	do
		*--end = (char)('0' + u % 10);
	while (u /= 10);
	return end;
}

/*
 * The digits behind the point of a number r / 2^bits < 1, as few as tell it from its neighbours, which are
 * at least below / 2^bits and above / 2^bits away, twice as far: Steele and White's free-format algorithm
 * ("How to print floating-point numbers accurately", 1990) for a fixed point.  How many.
 */
static int fraction_digits(unsigned __int128 r, int bits, unsigned __int128 below, unsigned __int128 above,
			   bool even, char *digits)
{
	const unsigned __int128 one = (unsigned __int128)1 << bits;

	for (int n = 0;;) {
		r *= 10;
		below *= 10;
		above *= 10;
		int digit = (int)(r >> bits);
		r &= one - 1;
		bool low = even ? r <= below : r < below, high = even ? r + above >= one : r + above > one;
		if (low || high)
			digit += high && (!low || 2 * r >= one);
		digits[n++] = (char)('0' + digit);
		if (low || high)
			return n;
	}
}

#define FRACTION_BITS 120 /* leave room for a factor of 10, and for twice that, in 128 */
#define ZEROS_MAX     5   /* behind the point; with more an exponent is easier to read */

static bool print_fraction(struct ss_strbuf *t, double d)
{
	char digits[160], whole[24];
	int exponent, zeros = 0;
	uint64_t m = (uint64_t)ldexp(frexp(fabs(d), &exponent), 53);
	int point = 53 - exponent; /* d is m / 2^point */

	if (point < 1 || point > FRACTION_BITS)
		return false;
	uint64_t above = point < 64 ? m >> point : 0,
		 rest = point < 64 ? m & ((UINT64_C(1) << point) - 1) : m;
	int n = fraction_digits((unsigned __int128)rest << 2, point + 2, m == UINT64_C(1) << 52 ? 1 : 2, 2,
				!(m & 1), digits);
	if (d < 0)
		ss_strbuf_add(t, "-", 1);
	while (!above && digits[zeros] == '0')
		zeros++;
	if (zeros <= ZEROS_MAX) {
		char *p = digits_of(whole + sizeof whole, above);
		ss_strbuf_add(t, p, (size_t)(whole + sizeof whole - p));
		ss_strbuf_add(t, ".", 1);
		ss_strbuf_add(t, digits, (size_t)n);
		return true;
	}
	ss_strbuf_add(t, digits + zeros, 1);
	if (n - zeros > 1)
		ss_strbuf_add(t, ".", 1);
	ss_strbuf_add(t, digits + zeros + 1, (size_t)(n - zeros - 1));
	ss_strbuf_add(t, "e-", 2);
	ss_strbuf_int(t, zeros + 1);
	return true;
}

void print_double(struct ss_strbuf *t, double d)
{
	char digits[40];
	int n = 0;

	if (!isfinite(d)) {
		ss_strbuf_text(t, "null");
		return;
	}
	if (fabs(d) < 0x1p63 && d == trunc(d)) {
		ss_strbuf_int(t, (int64_t)d);
		return;
	}
	if (print_fraction(t, d))
		return;
	for (int precision = 15; precision <= 17; precision++) { /* very big or very small */
		n = snprintf(digits, sizeof digits, "%.*g", precision, d);
		if (strtod(digits, NULL) == d)
			break;
	}
	for (int i = 0; i < n; i++) /* whatever the locale has for a point */
		if (!strchr("0123456789e+-", digits[i]))
			digits[i] = '.';
	ss_strbuf_add(t, digits, (size_t)n);
}

char *print_label(const char *name)
{
	struct ss_strbuf t = {0};

	ss_strbuf_json(&t, name, strlen(name));
	ss_strbuf_add(&t, ":", 2);
	if (t.failed)
		ss_strbuf_done(&t);
	return t.bytes;
}
