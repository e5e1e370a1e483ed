/* SPDX-License-Identifier: MIT */
#include <semstreams/base/strbuf.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/utf8.h>

enum { FIRST_SIZE = 256 };

static void release(struct ss_strbuf *b)
{
	if (b->secret && b->bytes)
		explicit_bzero(b->bytes, b->size);
	free(b->bytes);
	*b = (struct ss_strbuf){.secret = b->secret};
}

/* As realloc() does, which leaves behind what was there. */
static char *grow_secret(const struct ss_strbuf *b, size_t size)
{
	char *bytes = malloc(size);

	if (bytes && b->bytes) {
		memcpy(bytes, b->bytes, b->len);
		explicit_bzero(b->bytes, b->size);
		free(b->bytes);
	}
	return bytes;
}

char *ss_strbuf_room(struct ss_strbuf *b, size_t len)
{
	if (b->failed)
		return NULL;
	if (len >= b->size - b->len) { /* one byte stays for a NUL */
		size_t size = b->size ? b->size : FIRST_SIZE;
		while (size - b->len <= len && size <= SIZE_MAX / 2)
			size *= 2;
		char *bytes = size - b->len <= len ? NULL
			      : b->secret          ? grow_secret(b, size)
						   : realloc(b->bytes, size);
		if (!bytes) {
			b->failed = true;
			return NULL;
		}
		b->bytes = bytes;
		b->size = size;
	}
	return b->bytes + b->len;
}

void ss_strbuf_add(struct ss_strbuf *b, const void *bytes, size_t len)
{
	char *room = ss_strbuf_room(b, len);

	if (!room || !len)
		return;
	memcpy(room, bytes, len);
	b->len += len;
}

void ss_strbuf_text(struct ss_strbuf *b, const char *text)
{
	ss_strbuf_add(b, text, strlen(text));
}

void ss_strbuf_char(struct ss_strbuf *b, char c)
{
	ss_strbuf_add(b, &c, 1);
}

void ss_strbuf_printf(struct ss_strbuf *b, const char *fmt, ...)
{
	va_list ap;
	char *room = ss_strbuf_room(b, 0);

	if (!room)
		return;
	va_start(ap, fmt);
	int n = vsnprintf(room, b->size - b->len, fmt, ap);
	va_end(ap);
	if (n < 0) {
		b->failed = true;
		return;
	}
	if ((size_t)n >= b->size - b->len) {
		room = ss_strbuf_room(b, (size_t)n);
		if (!room)
			return;
		va_start(ap, fmt);
		vsnprintf(room, (size_t)n + 1, fmt, ap);
		va_end(ap);
	}
	b->len += (size_t)n;
}

void ss_strbuf_int(struct ss_strbuf *b, int64_t i)
{
	char digits[24], *end = digits + sizeof digits, *p = end;
	uint64_t u = i < 0 ? -(uint64_t)i : (uint64_t)i;

	do
		*--p = (char)('0' + u % 10);
	while (u /= 10);
	if (i < 0)
		*--p = '-';
	ss_strbuf_add(b, p, (size_t)(end - p));
}

void ss_strbuf_json(struct ss_strbuf *b, const char *bytes, size_t len)
{
	char *to =
		len <= (SIZE_MAX - 2) / 6 ? ss_strbuf_room(b, 6 * len + 2) : NULL; /* \u001f is the longest */
	uint32_t code = 0;

	if (!to) {
		b->failed = true;
		return;
	}
	char *start = to;
	*to++ = '"';
	for (size_t i = 0; i < len;) {
		size_t n = ss_utf8_next(bytes + i, len - i, &code);
		if (n == 0) {
			memcpy(to, "\xef\xbf\xbd", 3);
			to += 3;
			i++;
			continue;
		}
		if (code < 0x20 || code == 0x7f) {
			to += sprintf(to, "\\u%04x", (unsigned)code);
		} else {
			if (code == '"' || code == '\\')
				*to++ = '\\';
			memcpy(to, bytes + i, n);
			to += n;
		}
		i += n;
	}
	*to++ = '"';
	b->len += (size_t)(to - start);
}

/* Of the low n bytes, the lowest first. */
static void add_number(struct ss_strbuf *b, uint64_t u, size_t n)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)(u >> 8 * i);
	ss_strbuf_add(b, bytes, n);
}

void ss_strbuf_u32(struct ss_strbuf *b, uint32_t u)
{
	add_number(b, u, 4);
}

void ss_strbuf_u64(struct ss_strbuf *b, uint64_t u)
{
	add_number(b, u, 8);
}

const char *ss_strbuf_cstr(struct ss_strbuf *b)
{
	if (b->failed || !b->bytes)
		return "";
	b->bytes[b->len] = '\0';
	return b->bytes;
}

char *ss_strbuf_take(struct ss_strbuf *b)
{
	char *room = ss_strbuf_room(b, 0);
	char *text = room ? b->bytes : NULL;

	if (room) {
		*room = '\0';
		*b = (struct ss_strbuf){.secret = b->secret};
	} else {
		release(b);
	}
	return text;
}

void ss_strbuf_done(struct ss_strbuf *b)
{
	release(b);
}

/* ---- reading ---- */

const uint8_t *ss_unpack_bytes(struct ss_unpack *u, size_t len)
{
	if (u->failed || (size_t)(u->end - u->at) < len) {
		u->failed = true;
		return NULL;
	}
	const uint8_t *at = u->at;
	u->at += len;
	return at;
}

static uint64_t get_number(struct ss_unpack *u, size_t n)
{
	const uint8_t *at = ss_unpack_bytes(u, n);
	uint64_t number = 0;

	for (size_t i = 0; at && i < n; i++)
		number |= (uint64_t)at[i] << 8 * i;
	return number;
}

uint32_t ss_unpack_u32(struct ss_unpack *u)
{
	return (uint32_t)get_number(u, 4);
}

uint64_t ss_unpack_u64(struct ss_unpack *u)
{
	return get_number(u, 8);
}

/* ---- base64url ---- */

static const char base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void ss_strbuf_base64url(struct ss_strbuf *out, const void *bytes, size_t len)
{
	const unsigned char *b = bytes;

	for (size_t i = 0; i < len; i += 3) {
		unsigned v = (unsigned)b[i] << 16 | (i + 1 < len ? (unsigned)b[i + 1] << 8 : 0) |
			     (i + 2 < len ? b[i + 2] : 0U);
		for (size_t k = 0; k < 4 && i + k <= len; k++)
			ss_strbuf_char(out, base64url[v >> (18 - 6 * k) & 63]);
	}
}

int ss_base64url_read(const char *text, size_t len, struct ss_strbuf *out)
{
	unsigned v = 0, bits = 0;

	ss_strbuf_clear(out);
	if (len % 4 == 1)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		const char *at = text[i] ? strchr(base64url, text[i]) : NULL;
		if (!at)
			return -EINVAL;
		v = (v << 6 | (unsigned)(at - base64url)) & 0xffff;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			ss_strbuf_char(out, (char)(v >> bits & 0xff));
		}
	}
	if (v & ((1U << bits) - 1))
		return -EINVAL;
	return out->failed ? -ENOMEM : 0;
}
