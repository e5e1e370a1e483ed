/* SPDX-License-Identifier: MIT */
/* text - see text.h. */
#include "text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *text_room(struct text *t, size_t len)
{
	if (t->failed)
		return NULL;
	if (len > t->size - t->len) {
		size_t size = t->size ? t->size : 256;
		while (size - t->len < len && size <= SIZE_MAX / 2)
			size *= 2;
		char *bytes = size - t->len < len ? NULL : realloc(t->bytes, size);
		if (!bytes) {
			t->failed = true;
			return NULL;
		}
		t->bytes = bytes;
		t->size = size;
	}
	return t->bytes + t->len;
}

void text_bytes(struct text *t, const void *bytes, size_t len)
{
	char *room = text_room(t, len);
	if (!room || !len)
		return;
	memcpy(room, bytes, len);
	t->len += len;
}

void text_string(struct text *t, const char *s)
{
	text_bytes(t, s, strlen(s));
}

/* Bytes of the UTF-8 sequence (RFC 3629) at p, 0 if there is none. */
static size_t sequence(const uint8_t *p, size_t len)
{
	static const struct {
		uint8_t first, last, low, high, n;
	} forms[] = {{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
		     {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
		     {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};

	if (p[0] < 0x80)
		return 1;
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		if (p[0] < forms[i].first || p[0] > forms[i].last)
			continue;
		if (len < forms[i].n || p[1] < forms[i].low || p[1] > forms[i].high)
			return 0;
		for (size_t k = 2; k < forms[i].n; k++)
			if ((p[k] & 0xc0) != 0x80)
				return 0;
		return forms[i].n;
	}
	return 0;
}

void text_json(struct text *t, const char *bytes, size_t len)
{
	const uint8_t *p = (const uint8_t *)bytes;
	char *to = text_room(t, 6 * len + 2); /* \u001f is the longest form of a byte */

	if (!to)
		return;
	char *start = to;
	*to++ = '"';
	for (size_t i = 0; i < len;) {
		size_t n = sequence(p + i, len - i);
		if (n == 0) {
			memcpy(to, "\xef\xbf\xbd", 3);
			to += 3;
			i++;
		} else if (n == 1 && (p[i] == '"' || p[i] == '\\')) {
			*to++ = '\\';
			*to++ = (char)p[i++];
		} else if (n == 1 && p[i] < 0x20) {
			to += sprintf(to, "\\u%04x", p[i++]);
		} else {
			memcpy(to, p + i, n);
			to += n;
			i += n;
		}
	}
	*to++ = '"';
	t->len += (size_t)(to - start);
}

/* Digits of u, ending before end; where they begin. */
static char *digits_of(char *end, uint64_t u)
{
	do
		*--end = (char)('0' + u % 10);
	while (u /= 10);
	return end;
}

void text_int(struct text *t, int64_t i)
{
	char digits[24], *end = digits + sizeof digits;
	char *p = digits_of(end, i < 0 ? -(uint64_t)i : (uint64_t)i);

	if (i < 0)
		*--p = '-';
	text_bytes(t, p, (size_t)(end - p));
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

static bool print_fraction(struct text *t, double d)
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
		text_bytes(t, "-", 1);
	while (!above && digits[zeros] == '0')
		zeros++;
	if (zeros <= ZEROS_MAX) {
		char *p = digits_of(whole + sizeof whole, above);
		text_bytes(t, p, (size_t)(whole + sizeof whole - p));
		text_bytes(t, ".", 1);
		text_bytes(t, digits, (size_t)n);
		return true;
	}
	text_bytes(t, digits + zeros, 1);
	if (n - zeros > 1)
		text_bytes(t, ".", 1);
	text_bytes(t, digits + zeros + 1, (size_t)(n - zeros - 1));
	text_bytes(t, "e-", 2);
	text_int(t, zeros + 1);
	return true;
}

void text_double(struct text *t, double d)
{
	char digits[40];
	int n = 0;

	if (!isfinite(d)) {
		text_string(t, "null");
		return;
	}
	if (fabs(d) < 0x1p63 && d == trunc(d)) {
		text_int(t, (int64_t)d);
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
	text_bytes(t, digits, (size_t)n);
}

void text_u64(struct text *t, uint64_t u)
{
	uint8_t bytes[8];

	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(u >> 8 * i);
	text_bytes(t, bytes, sizeof bytes);
}

void text_done(struct text *t)
{
	free(t->bytes);
	*t = (struct text){0};
}

char *text_label(const char *name)
{
	struct text t = {0};

	text_json(&t, name, strlen(name));
	text_bytes(&t, ":", 2);
	if (t.failed)
		text_done(&t);
	return t.bytes;
}

const uint8_t *reading_bytes(struct reading *r, size_t len)
{
	if (r->failed || (size_t)(r->end - r->at) < len) {
		r->failed = true;
		return NULL;
	}
	const uint8_t *p = r->at;
	r->at += len;
	return p;
}

uint64_t reading_u64(struct reading *r)
{
	const uint8_t *p = reading_bytes(r, 8);
	uint64_t u = 0;

	for (int i = 0; p && i < 8; i++)
		u |= (uint64_t)p[i] << 8 * i;
	return u;
}
