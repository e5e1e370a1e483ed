/* SPDX-License-Identifier: MIT */
/* text - see text.h. */
#include "text.h"

#include <inttypes.h>
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

void text_int(struct text *t, int64_t i)
{
	char digits[24];

	text_bytes(t, digits, (size_t)snprintf(digits, sizeof digits, "%" PRId64, i));
}

void text_double(struct text *t, double d)
{
	char digits[32];
	int n = 0;

	if (!isfinite(d)) {
		text_string(t, "null");
		return;
	}
	for (int precision = 15; precision <= 17; precision++) {
		n = snprintf(digits, sizeof digits, "%.*g", precision, d);
		if (strtod(digits, NULL) == d)
			break;
	}
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
