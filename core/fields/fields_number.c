/* SPDX-License-Identifier: MIT */
/* fields_number - values of numbers and strings found by the scanner.  Pure functions, any thread, any
 * locale. */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/utf8.h>
#include <semstreams/ext/fields.h>
#include "core/fields/fields_scan.h"

/* ---- numbers ---------------------------------------------------------------------------------------- */

/* A number taken apart: mantissa * 10^exponent, unless there were more digits than the mantissa holds. */
struct decimal {
	uint64_t mantissa;
	int64_t exponent;
	bool negative, cut;
};
#define MANTISSA_DIGITS 19            /* always fit 64 bits */
#define EXPONENT_MAX    1000000000000 /* far beyond what the digits of a text can balance */
#define ROUNDING_DIGITS 800           /* no halfway point between doubles has more than 767 */

static inline bool is_digit(char c)
{
	return (unsigned char)(c - '0') < 10;
}

/* An exponent from behind its 'e'; false if it is malformed. */
static bool parse_exponent(const char *p, const char *end, int64_t *exponent)
{
	const bool negative = p < end && *p == '-';
	int64_t value = 0;

	if (p < end && (*p == '-' || *p == '+'))
		p++;
	if (p == end)
		return false;
	for (; p < end; p++) {
		if (!is_digit(*p))
			return false;
		if (value < EXPONENT_MAX)
			value = value * 10 + (*p - '0');
	}
	*exponent = negative ? -value : value;
	return true;
}

/* Digits into the mantissa, from p to the first byte that is none. */
static const char *parse_digits(const char *p, const char *end, struct decimal *d, unsigned *n_digits)
{
	for (; p < end && is_digit(*p); p++) {
		if (*n_digits == MANTISSA_DIGITS) {
			d->cut = true;
			continue;
		}
		d->mantissa = d->mantissa * 10 + (uint64_t)(*p - '0');
		*n_digits += d->mantissa != 0;
	}
	return p;
}

/* By the grammar of JSON; false if the text is no number. */
static bool parse_decimal(const char *p, const char *end, struct decimal *d)
{
	unsigned n_digits = 0; /* without leading zeros */
	*d = (struct decimal){.negative = p < end && *p == '-'};
	p += d->negative;

	const char *whole = p;
	p = parse_digits(p, end, d, &n_digits);
	if (p == whole || (*whole == '0' && p - whole > 1))
		return false;
	const char *fraction = p;
	if (p < end && *p == '.') {
		fraction = p + 1;
		p = parse_digits(fraction, end, d, &n_digits);
		if (p == fraction)
			return false;
	}
	const int64_t places = p - fraction;
	if (p < end) {
		if ((*p | 0x20) != 'e' || !parse_exponent(p + 1, end, &d->exponent))
			return false;
	}
	d->exponent -= places;
	return true;
}

/*
 * Any number, by strtod, which is correctly rounded in glibc and musl.  It sees no decimal point, so the
 * locale does not matter, and of the digits only as many as can decide plus one that stands for all the rest.
 */
static double round_text(const char *p, const char *end, int64_t exponent)
{
	char text[ROUNDING_DIGITS + 32];
	size_t n = 0;
	bool rest = false;

	for (; p < end && (*p | 0x20) != 'e'; p++) {
		if (!is_digit(*p) || (*p == '0' && n == 0))
			continue;
		if (n < ROUNDING_DIGITS) {
			text[n++] = *p;
		} else {
			exponent++;
			rest = rest || *p != '0';
		}
	}
	if (n == 0)
		return 0;
	if (rest) {
		text[n++] = '1';
		exponent--;
	}
	if (exponent > 100000)
		return HUGE_VAL;
	if (exponent < -100000)
		return 0;
	snprintf(text + n, sizeof text - n, "e%d", (int)exponent);
	return strtod(text, NULL);
}

#ifdef __SIZEOF_INT128__
__extension__ typedef unsigned __int128 uint128;

static const uint64_t power10[] = {
	1,
	10,
	100,
	1000,
	10000,
	100000,
	1000000,
	10000000,
	100000000,
	1000000000,
	10000000000,
	100000000000,
	1000000000000,
	10000000000000,
	100000000000000,
	1000000000000000,
	10000000000000000,
	100000000000000000,
	1000000000000000000,
	UINT64_C(10000000000000000000),
};
#define POWER10_MAX 19

/* 2^exponent for small exponents */
static double power2(int exponent)
{
	const uint64_t bits = (uint64_t)(1023 + exponent) << 52;
	double value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

/* mantissa * 10^exponent for exponents up to POWER10_MAX either way: in exact integers, rounded once, ties to
 * even. */
static double round_exact(uint64_t mantissa, int exponent)
{
	uint128 v;
	bool rest = false; /* v is a little less than the value */
	int scale = 0;     /* the value is v * 2^scale */

	if (mantissa == 0)
		return 0;
	if (exponent >= 0) {
		v = (uint128)mantissa * power10[exponent];
	} else {
		const int shift = 64 + __builtin_clzll(mantissa);
		const uint128 dividend = (uint128)mantissa << shift;
		v = dividend / power10[-exponent];
		rest = v * power10[-exponent] != dividend;
		scale = -shift;
	}
	const uint64_t high = (uint64_t)(v >> 64);
	const int bits = high ? 128 - __builtin_clzll(high) : 64 - __builtin_clzll((uint64_t)v);
	if (bits > DBL_MANT_DIG) {
		const int shift = bits - DBL_MANT_DIG;
		const uint128 below = v & (((uint128)1 << shift) - 1), half = (uint128)1 << (shift - 1);
		v >>= shift;
		if (below > half || (below == half && (rest || (v & 1))))
			v++;
		scale += shift;
	}
	return (double)(uint64_t)v * power2(scale);
}
#endif

/* Without its sign. */
static double value_of(const struct decimal *d, const struct ss_field *field)
{
#if FLT_EVAL_METHOD == 0
	static const double exact10[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
					 1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
					 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
	/* both operands are exact, so the one operation rounds correctly */
	if (!d->cut && d->mantissa <= UINT64_C(1) << DBL_MANT_DIG && d->exponent >= -22 && d->exponent <= 22)
		return d->exponent < 0 ? (double)d->mantissa / exact10[-d->exponent]
				       : (double)d->mantissa * exact10[d->exponent];
#endif
#ifdef __SIZEOF_INT128__
	if (!d->cut && d->exponent >= -POWER10_MAX && d->exponent <= POWER10_MAX)
		return round_exact(d->mantissa, (int)d->exponent);
#endif
	return round_text(field->text, field->text + field->len, d->exponent);
}

int32_t fields_number(void *self, const struct ss_field *field, double *out)
{
	struct decimal d;
	(void)self;

	if (field->type != SS_JSON_NUMBER || !parse_decimal(field->text, field->text + field->len, &d))
		return -EINVAL;
	double value = value_of(&d, field);
	if (isinf(value))
		return -ERANGE;
	*out = d.negative ? -value : value;
	return 0;
}

int32_t fields_integer(void *self, const struct ss_field *field, int64_t *out)
{
	int64_t value = 0;
	bool over = false;
	(void)self;

	if (field->type != SS_JSON_NUMBER)
		return -EINVAL;
	const char *p = field->text, *end = p + field->len;
	const bool negative = p < end && *p == '-';
	p += negative;
	if (p == end || (*p == '0' && end - p > 1))
		return -EINVAL;
	for (; p < end; p++) {
		if (!is_digit(*p))
			return -EINVAL;
		const int digit = *p - '0';
		over = over || __builtin_mul_overflow(value, (int64_t)10, &value) ||
		       __builtin_add_overflow(value, (int64_t)(negative ? -digit : digit), &value);
	}
	if (over)
		return -ERANGE;
	*out = value;
	return 0;
}

/* ---- strings ---------------------------------------------------------------------------------------- */

/* Four hex digits, -1 if they are none. */
static int32_t hex4(const uint8_t *p, const uint8_t *end)
{
	int32_t value = 0;
	if (end - p < 4)
		return -1;
	for (unsigned i = 0; i < 4; i++) {
		const uint8_t c = p[i], letter = (uint8_t)((c | 0x20) - 'a');
		if ((uint8_t)(c - '0') < 10)
			value = value * 16 + (c - '0');
		else if (letter < 6)
			value = value * 16 + letter + 10;
		else
			return -1;
	}
	return value;
}

/* *at is behind "\u". */
static unsigned decode_unicode(const uint8_t **at, const uint8_t *end, uint8_t out[4])
{
	const int32_t unit = hex4(*at, end);
	if (unit < 0)
		return 0;
	*at += 4;
	uint32_t c = (uint32_t)unit;
	if (c >= 0xd800 && c < 0xdc00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u') {
		const int32_t low = hex4(*at + 2, end);
		if (low >= 0xdc00 && low < 0xe000) {
			*at += 6;
			c = 0x10000 + ((c - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
		}
	}
	return (unsigned)ss_utf8_put(c, (char *)out); /* a surrogate alone becomes U+FFFD */
}

unsigned fields_decode(const uint8_t **at, const uint8_t *end, uint8_t out[4])
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	const uint8_t *p = *at;

	if (*p != '\\') {
		out[0] = *p;
		*at = p + 1;
		return 1;
	}
	if (end - p < 2)
		return 0;
	*at = p + 2;
	if (p[1] == 'u')
		return decode_unicode(at, end, out);
	const char *name = memchr(names, p[1], sizeof names - 1);
	if (!name)
		return 0;
	out[0] = (uint8_t)values[name - names];
	return 1;
}

/* Decode into buf, or only count if buf is NULL. */
static int64_t decode(const struct ss_field *field, char *buf)
{
	const uint8_t *p = (const uint8_t *)field->text, *end = p + field->len;
	int64_t len = 0;
	while (p < end) {
		uint8_t bytes[4];
		const unsigned n = fields_decode(&p, end, bytes);
		if (n == 0)
			return -EINVAL;
		if (buf)
			memcpy(buf + len, bytes, n);
		len += n;
	}
	return len;
}

int64_t fields_unescape(void *self, const struct ss_field *field, char *buf, size_t size)
{
	(void)self;
	if (field->type != SS_JSON_STRING)
		return -EINVAL;
	if (!(field->flags & SS_FIELD_ESCAPED)) {
		if (field->len && field->len <= size)
			memcpy(buf, field->text, field->len);
		return field->len;
	}
	if (field->len > size) { /* decoding never makes it longer, but may make it short enough */
		const int64_t len = decode(field, NULL);
		if (len < 0 || (uint64_t)len > size)
			return len;
	}
	return decode(field, buf);
}
