/* SPDX-License-Identifier: MIT */
/*
 * fields_scan - one validating pass over a JSON text (RFC 8259, strings in UTF-8 as RFC 3629 has it) that
 * notes the values of the wanted paths.  Nothing is allocated.  Runs in any thread.
 *
 * Positions are offsets in the document, FAIL after an error.  All bytes are read through here(), which
 * vouches for WINDOW readable bytes: in place as long as the document has so many left, then in a copy of its
 * end with zeros behind.  A zero is not allowed anywhere in a JSON text, so the end needs no checks of its
 * own.
 */
#include <errno.h>
#include <stdbool.h>
#include "core/fields.h"
#include "core/fields_block.h"
#include "core/fields_scan.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define WINDOW      64  /* bytes here() vouches for */
#define COPIED      256 /* documents up to this size are copied as a whole */
#define FAIL        SIZE_MAX

struct scan {
	uintptr_t origin; /* where byte 0 would be if the window went back to it; often not in any object */
	size_t limit;     /* positions up to here can be read from origin */
	const uint8_t *json;
	size_t len;
	const struct ss_reader *reader;
	struct ss_field *out;
	size_t where;
	int error;
	uint8_t tail[COPIED + WINDOW];
};

/* A value or name that is no container: end is the position behind it. */
struct token {
	size_t end;
	uint16_t type, flags;
};

/* ---- the window ------------------------------------------------------------------------------------- */

static __attribute__((noinline, cold)) size_t fail(struct scan *s, size_t where, int error)
{
	s->where = where;
	s->error = error;
	return FAIL;
}

/* From now on read from a copy of what is left, at most COPIED bytes. */
static __attribute__((noinline)) void to_tail(struct scan *s, size_t pos)
{
	const size_t left = s->len - pos;
	if (left)
		memcpy(s->tail, s->json + pos, left);
	memset(s->tail + left, 0, WINDOW);
	s->origin = (uintptr_t)s->tail - pos;
	s->limit = SIZE_MAX;
}

/* WINDOW bytes from pos on.  What lies before pos is not to be asked for any more. */
static inline const uint8_t *here(struct scan *s, size_t pos)
{
	if (unlikely(pos > s->limit))
		to_tail(s, pos);
	return (const uint8_t *)(s->origin + pos);
}

/* ---- tokens ----------------------------------------------------------------------------------------- */

static inline bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static __attribute__((noinline)) size_t blanks_rest(struct scan *s, size_t pos)
{
	for (;;) {
		const uint8_t *p = here(s, pos);
		for (unsigned i = 0; i < WINDOW; i++)
			if (!is_blank(p[i]))
				return pos + i;
		pos += WINDOW;
	}
}

/* The position of the next byte that is not blank. */
static inline size_t blanks(struct scan *s, size_t pos)
{
	const uint8_t *p = here(s, pos);
	if (likely(p[0] > ' '))
		return pos;
	if (p[0] == ' ' && likely(p[1] > ' '))
		return pos + 1;
	return blanks_rest(s, pos);
}

static inline bool is_hex(uint8_t c)
{
	return (uint8_t)(c - '0') < 10 || (uint8_t)((c | 0x20) - 'a') < 6;
}

/* pos is at a backslash. */
static size_t escape(struct scan *s, size_t pos)
{
	const uint8_t *p = here(s, pos);
	switch (p[1]) {
	case '"':
	case '\\':
	case '/':
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't':
		return pos + 2;
	case 'u':
		for (unsigned i = 2; i < 6; i++)
			if (!is_hex(p[i]))
				return fail(s, pos + i, -EINVAL);
		return pos + 6;
	default:
		return fail(s, pos + 1, -EINVAL);
	}
}

/* Characters that are not ASCII, from pos on. */
static size_t utf8(struct scan *s, size_t pos)
{
	for (;;) {
		const uint8_t *p = here(s, pos);
		const uint8_t c = p[0];
		uint8_t low = 0x80,
			high = 0xbf; /* of the second byte: no overlong forms, surrogates, > U+10FFFF */
		unsigned len;

		if (c < 0x80) {
			return pos;
		} else if (c < 0xc2) {
			return fail(s, pos, -EINVAL);
		} else if (c < 0xe0) {
			len = 2;
		} else if (c < 0xf0) {
			len = 3;
			low = c == 0xe0 ? 0xa0 : low;
			high = c == 0xed ? 0x9f : high;
		} else if (c < 0xf5) {
			len = 4;
			low = c == 0xf0 ? 0x90 : low;
			high = c == 0xf4 ? 0x8f : high;
		} else {
			return fail(s, pos, -EINVAL);
		}
		if (unlikely(p[1] < low || p[1] > high))
			return fail(s, pos + 1, -EINVAL);
		for (unsigned i = 2; i < len; i++)
			if (unlikely((p[i] & 0xc0) != 0x80))
				return fail(s, pos + i, -EINVAL);
		pos += len;
	}
}

/* A string from somewhere inside it on. */
static __attribute__((noinline)) struct token string_rest(struct scan *s, size_t pos)
{
	uint16_t flags = 0;
	while (pos != FAIL) {
		const uint8_t *p = here(s, pos);
		const unsigned n = first(special(p));
		pos += n;
		if (n == BLOCK)
			continue;
		if (p[n] == '"')
			return (struct token){pos + 1, SS_JSON_STRING, flags};
		if (p[n] == '\\') {
			flags = SS_FIELD_ESCAPED;
			pos = escape(s, pos);
		} else if (p[n] >= 0x80) {
			pos = utf8(s, pos);
		} else {
			pos = fail(s, pos, -EINVAL);
		}
	}
	return (struct token){FAIL, 0, 0};
}

/* pos is behind the quote that begins the string. */
static inline struct token string(struct scan *s, size_t pos)
{
	const uint8_t *p = here(s, pos);
	const unsigned n = first(special(p));
	if (likely(n < BLOCK && p[n] == '"'))
		return (struct token){pos + n + 1, SS_JSON_STRING, 0};
	return string_rest(s, pos + n);
}

/* Digits, at least one. */
static size_t digits(struct scan *s, size_t pos)
{
	const size_t from = pos;
	unsigned n;
	do {
		n = first(nondigit(here(s, pos)));
		pos += n;
	} while (n == BLOCK);
	return pos > from ? pos : fail(s, pos, -EINVAL);
}

static __attribute__((noinline)) struct token number_rest(struct scan *s, size_t pos)
{
	const struct token bad = {FAIL, 0, 0};
	uint16_t flags = SS_FIELD_INTEGER;

	if (*here(s, pos) == '-')
		pos++;
	if (*here(s, pos) == '0')
		pos++;
	else if ((pos = digits(s, pos)) == FAIL)
		return bad;
	if (*here(s, pos) == '.') {
		flags = 0;
		if ((pos = digits(s, pos + 1)) == FAIL)
			return bad;
	}
	if ((*here(s, pos) | 0x20) == 'e') {
		flags = 0;
		const uint8_t sign = here(s, pos)[1];
		if ((pos = digits(s, pos + 1 + (sign == '+' || sign == '-'))) == FAIL)
			return bad;
	}
	return (struct token){pos, SS_JSON_NUMBER, flags};
}

/* pos is at a digit or a minus.  Numbers that fit one block and have no exponent are done here. */
static inline struct token number(struct scan *s, size_t pos)
{
	const uint8_t *p = here(s, pos);
	const unsigned minus = *p == '-';
	uint16_t flags = SS_FIELD_INTEGER;

	p += minus;
	block_mask mask = nondigit(p);
	unsigned n = first(mask);
	if (unlikely(n == 0 || (p[0] == '0' && n != 1)))
		return number_rest(s, pos);
	if (p[n] == '.') {
		const unsigned point = n;
		flags = 0;
		mask &= mask - 1;
		n = first(mask);
		if (unlikely(n == point + 1))
			return number_rest(s, pos);
	}
	if (unlikely(n >= BLOCK || (p[n] | 0x20) == 'e'))
		return number_rest(s, pos);
	return (struct token){pos + minus + n, SS_JSON_NUMBER, flags};
}

static inline struct token literal(struct scan *s, size_t pos)
{
	const uint8_t *p = here(s, pos);
	const char *word = *p == 't' ? "true" : *p == 'f' ? "false" : "null";

	if (likely(memcmp(p, "true", 4) == 0))
		return (struct token){pos + 4, SS_JSON_TRUE, 0};
	if (likely(memcmp(p, "null", 4) == 0))
		return (struct token){pos + 4, SS_JSON_NULL, 0};
	if (likely(memcmp(p, "fals", 4) == 0 && p[4] == 'e'))
		return (struct token){pos + 5, SS_JSON_FALSE, 0};
	while (*p == (uint8_t)*word) {
		p++;
		word++;
		pos++;
	}
	return (struct token){fail(s, pos, -EINVAL), 0, 0};
}

/* A value that is no container and begins with c. */
static inline struct token scalar(struct scan *s, size_t pos, uint8_t c)
{
	if (c == '"')
		return string(s, pos + 1);
	if (c == '-' || (uint8_t)(c - '0') < 10)
		return number(s, pos);
	return literal(s, pos);
}

/* ---- containers nobody asked for -------------------------------------------------------------------- */

/* From a bracket at pos to behind the one that closes it; depth containers are open around it. */
static __attribute__((noinline)) size_t skip(struct scan *s, size_t pos, unsigned depth)
{
	const unsigned outside = depth;
	uint64_t objects =
		0; /* the lowest bit says whether the innermost container is an object, and so on */

open:
	if (unlikely(depth == FIELDS_MAX_DEPTH))
		return fail(s, pos, -ELOOP);
	depth++;
	objects = objects << 1 | (*here(s, pos) == '{');
	pos = blanks(s, pos + 1);
	if (*here(s, pos) == (objects & 1 ? '}' : ']'))
		goto close;
	for (;;) {
		if (objects & 1) {
			if (unlikely(*here(s, pos) != '"'))
				return fail(s, pos, -EINVAL);
			pos = string(s, pos + 1).end;
			if (unlikely(pos == FAIL))
				return FAIL;
			pos = blanks(s, pos);
			if (unlikely(*here(s, pos) != ':'))
				return fail(s, pos, -EINVAL);
			pos = blanks(s, pos + 1);
		}
		const uint8_t c = *here(s, pos);
		if (c == '{' || c == '[')
			goto open;
		pos = scalar(s, pos, c).end;
		if (unlikely(pos == FAIL))
			return FAIL;
		for (;;) {
			pos = blanks(s, pos);
			const uint8_t next = *here(s, pos);
			if (next == ',')
				break;
			if (unlikely(next != (objects & 1 ? '}' : ']')))
				return fail(s, pos, -EINVAL);
		close:
			pos++;
			objects >>= 1;
			if (--depth == outside)
				return pos;
		}
		pos = blanks(s, pos + 1);
	}
}

/* ---- wanted values ---------------------------------------------------------------------------------- */

/* Whether a name with escapes is this one. */
static bool same_decoded(const uint8_t *text, const uint8_t *end, const struct field_node *node)
{
	const uint8_t *name = node->name, *name_end = node->name + node->name_len;
	while (text < end) {
		uint8_t bytes[4];
		const unsigned n = fields_decode(&text, end, bytes);
		if ((size_t)(name_end - name) < n || memcmp(name, bytes, n) != 0)
			return false;
		name += n;
	}
	return name == name_end;
}

static __attribute__((noinline)) const struct field_node *
find_decoded(const struct scan *s, const struct field_node *node, size_t from, size_t to)
{
	const struct field_node *nodes = s->reader->nodes;
	for (uint32_t c = (uint32_t)(node - nodes) + 1; c < node->nodes_end; c = nodes[c].nodes_end)
		if (same_decoded(s->json + from, s->json + to, &nodes[c]))
			return &nodes[c];
	return NULL;
}

/* The child of node with the name at [from, to), NULL if nobody asked for it. */
static inline const struct field_node *find(const struct scan *s, const struct field_node *node, size_t from,
					    size_t to, uint16_t flags)
{
	const size_t len = to - from;
	const uint8_t *name = s->json + from;
	uint64_t head, tail = 0;

	if (unlikely(flags & SS_FIELD_ESCAPED))
		return find_decoded(s, node, from, to);
	if (!(node->lengths >> (len < 63 ? len : 63) & 1))
		return NULL;
	if (len >= 8) {
		head = fields_load64(name);
		if (len > 8)
			tail = fields_load64(name + len - 8);
	} else if (likely(s->len - from >= 8)) {
		head = fields_load64(name) & ((UINT64_C(1) << 8 * len) - 1);
	} else {
		uint8_t bytes[8] = {0};
		memcpy(bytes, name, len);
		head = fields_load64(bytes);
	}
	const uint32_t mask = (uint32_t)(~UINT64_C(0) >> node->shift);
	for (uint32_t slot = (uint32_t)(fields_hash(head, tail, (uint32_t)len) >> node->shift);;
	     slot = (slot + 1) & mask) {
		const struct field_node *child = node->slots[slot];
		if (!child)
			return NULL;
		if (child->head == head && child->tail == tail && child->name_len == len &&
		    (len <= 16 || memcmp(child->name, name, len) == 0))
			return child;
	}
}

static void note(struct scan *s, const struct field_node *node, struct token t, size_t from)
{
	const size_t quote = t.type == SS_JSON_STRING;
	for (uint32_t i = node->first; i < node->own_end; i++)
		s->out[s->reader->order[i]] = (struct ss_field){
			.text = (const char *)s->json + from + quote,
			.len = (uint32_t)(t.end - from - 2 * quote),
			.type = t.type,
			.flags = t.flags,
		};
}

/* What an earlier member of the same name had below it does not count any more. */
static void forget(struct scan *s, const struct field_node *node)
{
	for (uint32_t i = node->own_end; i < node->end; i++)
		s->out[s->reader->order[i]] = (struct ss_field){0};
}

static size_t object(struct scan *s, size_t pos, const struct field_node *node, unsigned depth);
static size_t array(struct scan *s, size_t pos, const struct field_node *node, unsigned depth);

/* The value at pos, of a node or (NULL) of no interest; depth containers are open. */
static inline size_t value(struct scan *s, size_t pos, const struct field_node *node, unsigned depth)
{
	const uint8_t c = *here(s, pos);
	struct token t;

	if (node && node->lengths)
		forget(s, node);
	if (c == '{' || c == '[') {
		t.type = c == '{' ? SS_JSON_OBJECT : SS_JSON_ARRAY;
		t.flags = 0;
		if (!node || !node->lengths)
			t.end = skip(s, pos, depth);
		else if (unlikely(depth == FIELDS_MAX_DEPTH))
			t.end = fail(s, pos, -ELOOP);
		else if (c == '{')
			t.end = object(s, pos, node, depth + 1);
		else
			t.end = array(s, pos, node, depth + 1);
	} else {
		t = scalar(s, pos, c);
	}
	if (node && likely(t.end != FAIL))
		note(s, node, t, pos);
	return t.end;
}

/* An object with wanted members: from its brace at pos to behind its end.  depth includes it. */
static size_t object(struct scan *s, size_t pos, const struct field_node *node, unsigned depth)
{
	pos = blanks(s, pos + 1);
	if (*here(s, pos) == '}')
		return pos + 1;
	for (;;) {
		if (unlikely(*here(s, pos) != '"'))
			return fail(s, pos, -EINVAL);
		const struct token name = string(s, pos + 1);
		if (unlikely(name.end == FAIL))
			return FAIL;
		const struct field_node *child = find(s, node, pos + 1, name.end - 1, name.flags);
		pos = blanks(s, name.end);
		if (unlikely(*here(s, pos) != ':'))
			return fail(s, pos, -EINVAL);
		pos = value(s, blanks(s, pos + 1), child, depth);
		if (unlikely(pos == FAIL))
			return FAIL;
		pos = blanks(s, pos);
		const uint8_t c = *here(s, pos);
		if (c == '}')
			return pos + 1;
		if (unlikely(c != ','))
			return fail(s, pos, -EINVAL);
		pos = blanks(s, pos + 1);
	}
}

/* The same for an array. */
static size_t array(struct scan *s, size_t pos, const struct field_node *node, unsigned depth)
{
	uint32_t wanted = 0;

	pos = blanks(s, pos + 1);
	if (*here(s, pos) == ']')
		return pos + 1;
	for (uint64_t element = 0;; element++) {
		const struct field_node *child = NULL;
		if (wanted < node->n_elements && node->elements[wanted]->element == element)
			child = node->elements[wanted++];
		pos = value(s, pos, child, depth);
		if (unlikely(pos == FAIL))
			return FAIL;
		pos = blanks(s, pos);
		const uint8_t c = *here(s, pos);
		if (c == ']')
			return pos + 1;
		if (unlikely(c != ','))
			return fail(s, pos, -EINVAL);
		pos = blanks(s, pos + 1);
	}
}

int32_t fields_read(void *self, const struct ss_reader *reader, const void *json, size_t len,
		    struct ss_field *out, size_t *where)
{
	struct scan s;
	(void)self;
	s.json = json;
	s.len = len;
	s.reader = reader;
	s.out = out;
	s.origin = (uintptr_t)json;
	if (len > COPIED)
		s.limit = len - WINDOW;
	else
		to_tail(&s, 0);
	for (uint32_t i = 0; i < reader->n; i++)
		out[i] = (struct ss_field){0};

	size_t pos = FAIL;
	if (likely(len <= UINT32_MAX))
		pos = value(&s, blanks(&s, 0), &reader->nodes[0], 0);
	else
		fail(&s, UINT32_MAX, -EINVAL); /* a field's length has 32 bits */
	if (likely(pos != FAIL)) {
		pos = blanks(&s, pos);
		if (likely(pos == len))
			return 0;
		fail(&s, pos, -EINVAL);
	}
	if (where)
		*where = s.where;
	return s.error;
}
