/* SPDX-License-Identifier: MIT */
/*
 * log_line - a text is taken apart into message and pairs (find_key), each piece is escaped into the line
 * (put_...). Pure.
 */
#include <stdio.h>
#include <string.h>
#include <semstreams/plugin.h>
#include "core/admin/log.h"
#include "core/admin/log_line.h"
#include <semstreams/base/utf8.h>

#define LINE_TAIL 16 /* kept free for what ends a line: "cut", quote, brace, line feed */

/* ---- a line ---------------------------------------------------------------------------------- */

/* All of s or nothing, so that no escape is ever torn; after the first refusal nothing goes in any more. */
static void put(struct line *l, const char *s, size_t n)
{
	if (l->full || n > LINE_SIZE - LINE_TAIL - l->reserve - l->n) {
		l->full = true;
		return;
	}
	memcpy(l->buf + l->n, s, n);
	l->n += n;
}

static void put_str(struct line *l, const char *s)
{
	put(l, s, strlen(s));
}

static void open_quote(struct line *l)
{
	put(l, "\"", 1);
	l->quoted = !l->full;
}

/* Always succeeds: one byte of the tail is its. */
static void close_quote(struct line *l)
{
	if (l->quoted)
		l->buf[l->n++] = '"';
	l->full |= l->n > LINE_SIZE - LINE_TAIL - l->reserve;
	l->quoted = false;
}

/* Characters that move the cursor, break lines or reorder text where a log is shown. */
static bool is_unsafe(uint32_t c)
{
	return (c >= 0x80 && c < 0xa0) || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069);
}

/* The escape of one control byte, quote or backslash; NULL if c needs none in this format. */
static const char *short_escape(unsigned char c, bool quotes)
{
	switch (c) {
	case '\n':
		return "\\n";
	case '\r':
		return "\\r";
	case '\t':
		return "\\t";
	case '"':
		return quotes ? "\\\"" : NULL;
	case '\\':
		return quotes ? "\\\\" : NULL;
	}
	return NULL;
}

/*
 * The first character of s made harmless, into out (at least 8 bytes): returns its length there, *used the
 * bytes taken. quotes: escape quotes and backslashes too.
 */
static size_t escape(const char *s, size_t n, bool json, bool quotes, char *out, size_t *used)
{
	uint32_t c = 0;
	*used = utf8_next(s, n, &c);
	const char *known = *used == 1 ? short_escape((unsigned char)c, quotes) : NULL;
	if (*used == 0) {
		*used = 1;
		return (size_t)(json ? sprintf(out, "\\ufffd") : sprintf(out, "\\x%02x", (unsigned char)*s));
	}
	if (known)
		return (size_t)sprintf(out, "%s", known);
	if (c < 0x20 || c == 0x7f)
		return (size_t)sprintf(out, json ? "\\u%04x" : "\\x%02x", c);
	if (is_unsafe(c))
		return (size_t)sprintf(out, "\\u%04x", c);
	memcpy(out, s, *used);
	return *used;
}

static void put_escaped(struct line *l, const char *s, size_t n)
{
	char out[8];
	size_t used;
	for (; n > 0 && !l->full; s += used, n -= used) {
		size_t len = escape(s, n, l->json, l->json, out, &used);
		put(l, out, len);
	}
}

/* ---- taking a text apart --------------------------------------------------------------------- */

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_key_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
}

/* Length of the key at p (without its '='), 0 if there is none. */
static size_t key_length(const char *p, const char *end)
{
	const char *k = p;
	if (p == end || !is_key_char(*p) || *p == '.' || (*p >= '0' && *p <= '9'))
		return 0;
	while (k < end && is_key_char(*k))
		k++;
	return k < end && *k == '=' ? (size_t)(k - p) : 0;
}

/* The quote that ends the string opened at p, NULL if it stays open. */
static const char *closing_quote(const char *p, const char *end)
{
	for (p++; p < end; p++) {
		if (*p == '\\')
			p++;
		else if (*p == '"')
			return p;
	}
	return NULL;
}

/* The first key=, outside quotes, at or behind p; text is where the words began. */
static const char *find_key(const char *text, const char *p, const char *end)
{
	bool may_quote =
		true; /* an open quote once found stays open: look no further, or a row of them costs n*n */
	for (; p < end; p++) {
		if (*p == '"' && may_quote && (p == text || !is_word(p[-1]))) {
			const char *q = closing_quote(p, end);
			if (q)
				p = q;
			else
				may_quote = false;
		} else if ((p == text || p[-1] == ' ') && key_length(p, end)) {
			return p;
		}
	}
	return end;
}

static size_t trimmed(const char *s, const char *end)
{
	while (end > s && end[-1] == ' ')
		end--;
	return (size_t)(end - s);
}

size_t line_split(const char *text, const char *end, const char **pairs)
{
	*pairs = find_key(text, text, end);
	return trimmed(text, *pairs);
}

/* ---- values ---------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* Take the escapes of log_value out of the inside of a quoted value; returns the length in out, at most n. */
static size_t unescape(const char *s, size_t n, char *out)
{
	size_t len = 0;
	for (size_t i = 0; i < n; i++) {
		if (s[i] != '\\' || i + 1 == n) {
			out[len++] = s[i];
			continue;
		}
		char c = s[++i];
		int high = i + 1 < n ? hex_digit(s[i + 1]) : -1, low = i + 2 < n ? hex_digit(s[i + 2]) : -1;
		if (c == 'x' && high >= 0 && low >= 0) {
			out[len++] = (char)(high << 4 | low);
			i += 2;
			continue;
		}
		c = c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
		if (c == s[i] && c != '"' && c != '\\')
			out[len++] = '\\';
		out[len++] = c;
	}
	return len;
}

/* A decimal as JSON has it, short enough that every reader keeps all digits of its integers in 64 bits. */
static bool is_number(const char *s, size_t n)
{
	size_t i = n > 0 && s[0] == '-', digits = i, point = 0;
	if (n - i == 0 || n - i > 18 || (s[i] == '0' && n - i > 1 && s[i + 1] != '.'))
		return false;
	for (; i < n; i++) {
		if (s[i] == '.' && !point && i > digits && i + 1 < n)
			point = i;
		else if (s[i] < '0' || s[i] > '9')
			return false;
	}
	return true;
}

static bool is_own_key(const char *key, size_t n)
{
	static const char *const own[] = {"time", "level", "message", "component"};
	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
		if (strlen(own[i]) == n && memcmp(own[i], key, n) == 0)
			return true;
	return false;
}

/* The string behind a name that was put at start; both or, where there is no room, neither. */
static void put_json_string(struct line *l, size_t start, const char *s, size_t n)
{
	open_quote(l);
	if (l->quoted)
		put_escaped(l, s, n);
	else
		l->n = start;
	close_quote(l);
}

static void put_json_pair(struct line *l, const char *key, size_t key_len, const char *v, size_t n,
			  bool quoted)
{
	char plain[LINE_SIZE];
	size_t start = l->n;
	put_str(l, is_own_key(key, key_len) ? ",\"_" : ",\"");
	put(l, key, key_len);
	put_str(l, "\":");
	if (!quoted && is_number(v, n)) {
		put(l, v, n);
		if (l->full)
			l->n = start;
		return;
	}
	if (quoted) {
		n = unescape(v + 1, n - 2, plain);
		v = plain;
	}
	put_json_string(l, start, v, n);
}

static void put_text_pair(struct line *l, const char *key, size_t key_len, const char *v, size_t n,
			  bool quoted)
{
	put(l, " ", 1);
	put(l, key, key_len + 1);
	if (quoted)
		open_quote(l);
	put_escaped(l, v + quoted, n - 2 * quoted);
	close_quote(l);
}

void line_pairs(struct line *l, const char *p, const char *end)
{
	const char *text = p;
	while (p < end && !l->full) {
		size_t key_len = key_length(p, end);
		const char *v = p + key_len + 1, *next = find_key(text, v, end);
		size_t n = trimmed(v, next);
		bool quoted = n >= 2 && *v == '"' && closing_quote(v, next) == v + n - 1;
		if (l->json)
			put_json_pair(l, p, key_len, v, n, quoted);
		else
			put_text_pair(l, p, key_len, v, n, quoted);
		p = next;
	}
}

/* ---- a whole line ---------------------------------------------------------------------------- */

static const char *level_word(int level)
{
	return level <= SS_LOG_ERROR  ? "ERROR"
	       : level <= SS_LOG_WARN ? "WARN"
	       : level <= SS_LOG_INFO ? "INFO"
				      : "DEBUG";
}

static int journal_priority(int level)
{
	return level <= SS_LOG_ERROR ? 3 : level <= SS_LOG_WARN ? 4 : level <= SS_LOG_INFO ? 6 : 7;
}

void line_begin(struct line *l, struct line_style style, time_t now, int level, const char *component,
		const char *message, size_t n)
{
	char head[96], when[32] = "";
	struct tm tm;
	l->n = 0;
	l->full = l->quoted = false;
	l->json = style.json;
	l->component = NULL;
	/* it comes last, and there must be room for it: "\x1b" is the longest form of a byte */
	l->reserve = component && !l->json ? sizeof " component=" + 4 * strlen(component) : 0;
	if (gmtime_r(&now, &tm))
		strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (style.priority)
		put(l, head, (size_t)snprintf(head, sizeof head, "<%d>", journal_priority(level)));
	snprintf(head, sizeof head, l->json ? "{\"time\":\"%s\",\"level\":\"%s\",\"message\":" : "%s %s",
		 when, level_word(level));
	put_str(l, head);
	if (l->json)
		open_quote(l);
	else if (n > 0)
		put(l, " ", 1);
	put_escaped(l, message, n);
	close_quote(l);
	if (component && l->json) {
		size_t start = l->n;
		put_str(l, ",\"component\":");
		put_json_string(l, start, component, strlen(component));
	} else if (component) {
		l->component = component;
	}
}

void line_number(struct line *l, const char *key, uint64_t value)
{
	char buf[96];
	put(l, buf,
	    (size_t)snprintf(buf, sizeof buf, l->json ? ",\"%s\":%llu" : " %s=%llu", key,
			     (unsigned long long)value));
}

void line_end(struct line *l, bool cut)
{
	static const char *const tails[2][2] = {{"\n", " cut=true\n"}, {"}\n", ",\"cut\":true}\n"}};
	const char *tail = tails[l->json][cut || l->full];
	if (l->component) {
		cut |= l->full;
		l->full = false;
		l->reserve = 0;
		put_text_pair(l, "component=", 9, l->component, strlen(l->component), false);
		tail = tails[l->json][cut || l->full];
	}
	size_t n = strlen(tail);
	memcpy(l->buf + l->n, tail, n);
	l->n += n;
}

const char *log_value(char *buf, size_t size, const char *s)
{
	char out[8];
	size_t n = strlen(s), used, len, at = 0,
	       safe = 0; /* safe: where "..." and a quote still fit behind */
	bool quote = n == 0;
	for (size_t i = 0; i < n && !quote; i += used) {
		len = escape(s + i, n - i, false, true, out, &used);
		quote = s[i] == ' ' || s[i] == '=' || len != used;
	}
	if (size == 0)
		return buf;
	if (quote && size >= 3)
		buf[at++] = '"';
	for (safe = at; n > 0; s += used, n -= used) {
		len = escape(s, n, false, true, out, &used);
		if (at + len + quote + 1 > size)
			break;
		memcpy(buf + at, out, len);
		at += len;
		if (at + 3 + quote + 1 <= size)
			safe = at;
	}
	if (n > 0 && safe + 3 + quote + 1 <= size) {
		memcpy(buf + safe, "...", 3);
		at = safe + 3;
	}
	if (quote && size >= 3)
		buf[at++] = '"';
	buf[at] = '\0';
	return buf;
}
