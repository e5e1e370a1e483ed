/* SPDX-License-Identifier: MIT */
/*
 * fields_scan - one validating pass over a JSON text (RFC 8259, strings in UTF-8 as RFC 3629 has it) that
 * notes the values of the wanted paths.  Nothing is allocated.  Runs in any thread.
 *
 * The text is gone through in stretches.  For each, marks are set for the bytes that end strings and numbers,
 * without a look at what is before; then the grammar is followed from mark to mark, so that one token does
 * not wait for the bytes of the one before.  here() begins a new stretch where WINDOW bytes are not left; the
 * last stretch is a copy of the end of the document with zeros behind.  A zero is not allowed anywhere in a
 * JSON text, so the end needs no checks of its own.
 *
 * What scans a token takes a pointer and returns one to the byte behind the token, NULL after an error.  The
 * common case moves on by no more than a member of an object may while it stays within the window, any other
 * ends with here().  A pointer does not outlive the next call; offsets do.
 */
#include <errno.h>
#include <stdbool.h>
#include <semstreams/ext/fields.h>
#include "core/fields/fields.h"
#include "core/fields/fields_block.h"
#include "core/fields/fields_scan.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define BLOCK       64          /* bytes per word of marks */
#define WINDOW      (2 * BLOCK) /* bytes with marks from a pointer on that here() has passed */
#define AHEAD       (BLOCK - 7) /* marks that can be seen at once */
#define COPIED      256         /* that many bytes or fewer are copied */
#define STRETCH     (32 * BLOCK)
#define SHORT       16 /* names up to here are looked up where they stand */

struct scan {
	uintptr_t bound;  /* pointers up to here have a whole window */
	uintptr_t origin; /* where byte 0 would be if the stretch went back to it; often not in any object */
	const uint8_t *base; /* of the stretch: the first bit of the marks */
	const uint8_t *json;
	size_t len;
	const struct ss_reader *reader;
	struct ss_field *out;
	size_t where;
	int error;
	uint64_t special[STRETCH / BLOCK + 1], end[STRETCH / BLOCK + 1]; /* as in find_marks() */
	uint8_t tail[COPIED + BLOCK];
};

/* ---- the window ------------------------------------------------------------------------------------- */

static inline size_t offset(const struct scan *s, const uint8_t *p)
{
	return (uintptr_t)p - s->origin;
}

static __attribute__((noinline, cold)) const uint8_t *fail(struct scan *s, const uint8_t *p, int error)
{
	s->where = offset(s, p);
	s->error = error;
	return NULL;
}

/* A new stretch from that offset on. */
static __attribute__((noinline)) const uint8_t *stretch(struct scan *s, size_t from)
{
	const size_t left = s->len - from;
	size_t blocks = STRETCH / BLOCK;

	if (left > COPIED) {
		blocks = left / BLOCK < blocks ? left / BLOCK : blocks;
		s->base = s->json + from;
		s->bound = (uintptr_t)(s->base + blocks * BLOCK - WINDOW);
	} else {
		if (left)
			memcpy(s->tail, s->json + from, left);
		memset(s->tail + left, 0, BLOCK);
		blocks = left / BLOCK + 1;
		s->base = s->tail;
		s->bound = UINTPTR_MAX;
		s->special[blocks] = s->end[blocks] = UINT64_MAX; /* read together with the last block's */
	}
	s->origin = (uintptr_t)s->base - from;
	for (size_t i = 0; i < blocks; i++) {
		uint64_t special, end;
		find_marks64(s->base + i * BLOCK, &special, &end);
		fields_store64(&s->special[i], special);
		fields_store64(&s->end[i], end);
	}
	return s->base;
}

static inline const uint8_t *here(struct scan *s, const uint8_t *p)
{
	return likely((uintptr_t)p <= s->bound) ? p : stretch(s, offset(s, p));
}

/* How many bytes from p on have no mark; up to AHEAD, which may also mean more. */
static inline unsigned unmarked(const struct scan *s, const uint64_t *marks, const uint8_t *p)
{
	const size_t bit = (size_t)(p - s->base);
	const uint64_t ahead = fields_load64((const uint8_t *)marks + bit / 8) >> bit % 8;
	return likely(ahead) ? (unsigned)__builtin_ctzll(ahead) : AHEAD;
}

/* ---- tokens ----------------------------------------------------------------------------------------- */

static __attribute__((noinline)) const uint8_t *blanks_rest(struct scan *s, const uint8_t *p)
{
	for (;;) {
		p = here(s, p);
		const uint32_t others = ~find_blanks(p) & 0xffff;
		if (likely(others))
			return here(s, p + __builtin_ctz(others));
		p += 16;
	}
}

/* The next byte that is not blank. */
static inline const uint8_t *blanks(struct scan *s, const uint8_t *p)
{
	if (likely(p[0] > ' '))
		return p;
	if (p[0] == ' ' && likely(p[1] > ' '))
		return p + 1;
	return blanks_rest(s, p);
}

static inline bool is_digit(uint8_t c)
{
	return (uint8_t)(c - '0') < 10;
}

static inline bool is_hex(uint8_t c)
{
	return is_digit(c) || (uint8_t)((c | 0x20) - 'a') < 6;
}

/* p is at a backslash. */
static const uint8_t *escape(struct scan *s, const uint8_t *p)
{
	static const uint8_t lengths[256] = {['"'] = 2, ['\\'] = 2, ['/'] = 2, ['b'] = 2, ['f'] = 2,
					     ['n'] = 2, ['r'] = 2,  ['t'] = 2, ['u'] = 6};
	const unsigned len = lengths[p[1]];
	if (len == 0)
		return fail(s, p + 1, -EINVAL);
	for (unsigned i = 2; i < len; i++)
		if (!is_hex(p[i]))
			return fail(s, p + i, -EINVAL);
	return p + len;
}

/* One character that is not ASCII. */
static inline const uint8_t *utf8(struct scan *s, const uint8_t *p)
{
	const uint8_t c = p[0];
	uint8_t low = 0x80, high = 0xbf; /* of the second byte: no overlong forms, surrogates, > U+10FFFF */
	unsigned len;

	if (c < 0xc2 || c > 0xf4)
		return fail(s, p, -EINVAL);
	if (c < 0xe0) {
		len = 2;
	} else if (c < 0xf0) {
		len = 3;
		low = c == 0xe0 ? 0xa0 : low;
		high = c == 0xed ? 0x9f : high;
	} else {
		len = 4;
		low = c == 0xf0 ? 0x90 : low;
		high = c == 0xf4 ? 0x8f : high;
	}
	if (unlikely(p[1] < low || p[1] > high))
		return fail(s, p + 1, -EINVAL);
	for (unsigned i = 2; i < len; i++)
		if (unlikely((p[i] & 0xc0) != 0x80))
			return fail(s, p + i, -EINVAL);
	return p + len;
}

/* A string from somewhere inside it on. */
static __attribute__((noinline)) const uint8_t *string_rest(struct scan *s, const uint8_t *p, uint16_t *flags)
{
	while (likely(p)) {
		p = here(s, p);
		if (*p >= 0x80) { /* seldom comes alone */
			p = utf8(s, p);
			continue;
		}
		const unsigned n = unmarked(s, s->special, p);
		p += n;
		if (n == AHEAD)
			continue;
		if (*p == '"') {
			return here(s, p + 1);
		} else if (*p == '\\') {
			*flags = SS_FIELD_ESCAPED;
			p = escape(s, p);
		} else if (*p >= 0x80) {
			p = utf8(s, p);
		} else {
			p = fail(s, p, -EINVAL);
		}
	}
	return NULL;
}

/* p is at the quote that begins the string. */
static inline const uint8_t *string(struct scan *s, const uint8_t *p, uint16_t *flags)
{
	const unsigned n = unmarked(s, s->special, p + 1);
	if (likely(p[1 + n] == '"'))
		return p + n + 2;
	return string_rest(s, p + 1 + n, flags);
}

/* Digits, at least one. */
static const uint8_t *digits(struct scan *s, const uint8_t *p)
{
	if (!is_digit(*p))
		return fail(s, p, -EINVAL);
	do
		p = here(s, p + 1);
	while (is_digit(*p));
	return p;
}

static __attribute__((noinline)) const uint8_t *number_rest(struct scan *s, const uint8_t *p)
{
	if (*p == '-')
		p++;
	p = *p == '0' ? p + 1 : digits(s, p);
	if (p && *p == '.')
		p = digits(s, p + 1);
	if (p && (*p | 0x20) == 'e')
		p = digits(s, p + 1 + (p[1] == '+' || p[1] == '-'));
	return p ? here(s, p) : NULL;
}

/*
 * A number at p whose digits begin at q.  Up to 32 bytes without an exponent are done here, with one branch:
 * anything but digits must be a point, there may be only one, not at the end, and a zero at the beginning
 * must be followed by it.
 */
static inline const uint8_t *number(struct scan *s, const uint8_t *p, const uint8_t *q)
{
	const unsigned n = unmarked(s, s->end, p), len = n - (unsigned)(q - p);
	uint32_t points, more_points;
	uint64_t digit = find_digits(q, &points), point = points;

	if (unlikely(len > 16)) {
		if (len > 32)
			return number_rest(s, p);
		digit |= (uint64_t)find_digits(q + 16, &more_points) << 16;
		point |= (uint64_t)more_points << 16;
	}
	const uint64_t behind = UINT64_C(1) << len, others = ~digit & (behind - 1);
	uint64_t bad = (others & ~point) | (others & (others - 1)) | (others & behind >> 1);
	bad |= *q == '0' ? ~(others | behind) & 2 : 0;
	return likely(!bad) ? p + n : number_rest(s, p);
}

static inline const uint8_t *literal(struct scan *s, const uint8_t *p)
{
	if (likely(memcmp(p, "true", 4) == 0 || memcmp(p, "null", 4) == 0))
		return p + 4;
	if (likely(memcmp(p, "false", 5) == 0))
		return p + 5;
	const char *word = *p == 't' ? "true" : *p == 'f' ? "false" : "null";
	while (*p == (uint8_t)*word) {
		p++;
		word++;
	}
	return fail(s, p, -EINVAL);
}

/* A value that is no container.  Sets flags if it is a string with escapes. */
static inline __attribute__((always_inline)) const uint8_t *scalar(struct scan *s, const uint8_t *p,
								   uint16_t *flags)
{
	const uint8_t c = *p;
	if (c == '"')
		return string(s, p, flags);
	if (likely(is_digit(c)))
		return number(s, p, p);
	if (c == '-')
		return is_digit(p[1]) ? number(s, p, p + 1) : fail(s, p + 1, -EINVAL);
	return literal(s, p);
}

static inline bool is_open(uint8_t c)
{
	return c == '{' || c == '[';
}

/* From the quote of a member's name at p to its value. */
static inline const uint8_t *skip_name(struct scan *s, const uint8_t *p)
{
	uint16_t flags = 0;
	if (unlikely(*p != '"'))
		return fail(s, p, -EINVAL);
	p = string(s, p, &flags);
	if (unlikely(!p))
		return NULL;
	p = blanks(s, here(s, p));
	if (unlikely(*p != ':'))
		return fail(s, p, -EINVAL);
	return blanks(s, p + 1);
}

/* ---- containers nobody asked for -------------------------------------------------------------------- */

/*
 * From a bracket at p to behind the one that closes it; depth containers are open around it.  A machine
 * without a stack of calls: the lowest bit of objects says whether the innermost container is an object, the
 * next the one around it, ...
 */
static __attribute__((noinline)) const uint8_t *skip(struct scan *s, const uint8_t *p, unsigned depth)
{
	const unsigned outside = depth;
	uint64_t objects = 0;
	uint16_t flags = 0;

open:
	if (unlikely(depth == FIELDS_MAX_DEPTH))
		return fail(s, p, -ELOOP);
	depth++;
	objects = objects << 1 | (*p == '{');
	p = blanks(s, p + 1);
	if (*p == (objects & 1 ? '}' : ']'))
		goto close;
	if (!(objects & 1))
		goto element;
member:
	p = skip_name(s, here(s, p));
	if (unlikely(!p))
		return NULL;
	if (is_open(*p))
		goto open;
	p = scalar(s, p, &flags);
	if (unlikely(!p))
		return NULL;
behind_member:
	p = blanks(s, p);
	if (*p == ',') {
		p = blanks(s, p + 1);
		goto member;
	}
	if (unlikely(*p != '}'))
		return fail(s, p, -EINVAL);
	goto close;
element:
	p = here(s, p);
	if (is_open(*p))
		goto open;
	p = scalar(s, p, &flags);
	if (unlikely(!p))
		return NULL;
behind_element:
	p = blanks(s, p);
	if (*p == ',') {
		p = blanks(s, p + 1);
		goto element;
	}
	if (unlikely(*p != ']'))
		return fail(s, p, -EINVAL);
close:
	p = here(s, p + 1);
	objects >>= 1;
	if (--depth == outside)
		return p;
	if (objects & 1)
		goto behind_member;
	goto behind_element;
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

static inline const struct field_node *find_hashed(const struct field_node *node, const uint8_t *name,
						   size_t len, uint64_t head, uint64_t tail)
{
	const uint32_t mask = (uint32_t)(~UINT64_C(0) >> node->shift);
	uint64_t slot = fields_hash(head, tail, (uint32_t)len) >> node->shift;
	for (const struct field_node *child; (child = node->slots[slot]); slot = (slot + 1) & mask)
		if (child->head == head && child->tail == tail && child->name_len == len &&
		    (len <= SHORT || memcmp(child->name, name, len) == 0))
			return child;
	return NULL;
}

/* The child with a name of at most SHORT bytes, where SHORT bytes can be read; NULL if nobody asked for it.
 */
static inline const struct field_node *find_short(const struct field_node *node, const uint8_t *name,
						  size_t len)
{
	if (!(node->lengths >> len & 1))
		return NULL;
	const uint64_t head = fields_load64(name);
	if (len < 8)
		return find_hashed(node, name, len, head & ((UINT64_C(1) << 8 * len) - 1), 0);
	return find_hashed(node, name, len, head, len > 8 ? fields_load64(name + len - 8) : 0);
}

/* The child with any other name, by its text between the quotes. */
static __attribute__((noinline)) const struct field_node *
find_long(const struct scan *s, const struct field_node *node, size_t from, size_t len, uint16_t flags)
{
	const struct field_node *const nodes = s->reader->nodes;
	const uint8_t *name = s->json + from;
	if (flags & SS_FIELD_ESCAPED) {
		uint32_t c = (uint32_t)(node - nodes) + 1;
		while (c < node->nodes_end && !same_decoded(name, name + len, &nodes[c]))
			c = nodes[c].nodes_end;
		return c < node->nodes_end ? &nodes[c] : NULL;
	}
	if (!(node->lengths >> (len < 63 ? len : 63) & 1))
		return NULL;
	if (len <= SHORT) {
		uint8_t copy[SHORT] = {0};
		memcpy(copy, name, len);
		return find_short(node, copy, len);
	}
	return find_hashed(node, name, len, fields_load64(name), fields_load64(name + len - 8));
}

/* Flags of a number. */
static uint16_t number_flags(const char *text, size_t len)
{
	for (size_t i = 1; i < len; i++)
		if (!is_digit((uint8_t)text[i]))
			return 0;
	return SS_FIELD_INTEGER;
}

static uint16_t type_of(uint8_t c)
{
	static const uint8_t types[256] = {
		['"'] = SS_JSON_STRING, ['{'] = SS_JSON_OBJECT, ['['] = SS_JSON_ARRAY,
		['t'] = SS_JSON_TRUE,   ['f'] = SS_JSON_FALSE,  ['n'] = SS_JSON_NULL};
	return types[c] ? types[c] : SS_JSON_NUMBER;
}

/* What an earlier member of the same name had below it does not count any more. */
static void forget(struct scan *s, const struct field_node *node)
{
	for (uint32_t i = node->own_end; i < node->end; i++)
		s->out[s->reader->order[i]] = (struct ss_field){0};
}

static const uint8_t *object(struct scan *s, const uint8_t *p, const struct field_node *node, unsigned depth);
static const uint8_t *array(struct scan *s, const uint8_t *p, const struct field_node *node, unsigned depth);

/* The value of a node; depth containers are open. */
static __attribute__((noinline)) const uint8_t *wanted(struct scan *s, const uint8_t *p,
						       const struct field_node *node, unsigned depth)
{
	const uint8_t c = *p;
	const size_t from = offset(s, p);
	struct ss_field field = {.type = type_of(c)};

	if (node->lengths)
		forget(s, node);
	if (!is_open(c))
		p = scalar(s, p, &field.flags);
	else if (!node->lengths)
		p = skip(s, p, depth);
	else if (unlikely(depth == FIELDS_MAX_DEPTH))
		p = fail(s, p, -ELOOP);
	else if (c == '{')
		p = object(s, p, node, depth + 1);
	else
		p = array(s, p, node, depth + 1);
	if (unlikely(!p))
		return NULL;

	const size_t quote = c == '"';
	field.text = (const char *)s->json + from + quote;
	field.len = (uint32_t)(offset(s, p) - from - 2 * quote);
	if (field.type == SS_JSON_NUMBER)
		field.flags = number_flags(field.text, field.len);
	for (uint32_t i = node->first; i < node->own_end; i++)
		s->out[s->reader->order[i]] = field;
	return p;
}

/* The value at p, of a node or (NULL) of no interest. */
static inline const uint8_t *value(struct scan *s, const uint8_t *p, const struct field_node *node,
				   unsigned depth)
{
	uint16_t flags = 0;
	if (node)
		return wanted(s, p, node, depth);
	if (is_open(*p))
		return skip(s, p, depth);
	return scalar(s, p, &flags);
}

/* An object with wanted members: from its brace at p to behind its end.  depth includes it. */
static const uint8_t *object(struct scan *s, const uint8_t *p, const struct field_node *node, unsigned depth)
{
	p = blanks(s, p + 1);
	if (*p == '}')
		return here(s, p + 1);
	for (;;) {
		const struct field_node *child;
		p = here(s, p);
		if (unlikely(*p != '"'))
			return fail(s, p, -EINVAL);
		const uint8_t *const name = p + 1;
		const unsigned n = unmarked(s, s->special, name);
		if (likely(n <= SHORT && name[n] == '"')) {
			child = find_short(node, name, n);
			p = name + n + 1;
		} else {
			const size_t from = offset(s, name);
			uint16_t flags = 0;
			p = string_rest(s, name + n, &flags);
			if (unlikely(!p))
				return NULL;
			child = find_long(s, node, from, offset(s, p) - 1 - from, flags);
		}
		p = blanks(s, p);
		if (unlikely(*p != ':'))
			return fail(s, p, -EINVAL);
		p = value(s, blanks(s, p + 1), child, depth);
		if (unlikely(!p))
			return NULL;
		p = blanks(s, p);
		if (*p != ',')
			break;
		p = blanks(s, p + 1);
	}
	return likely(*p == '}') ? here(s, p + 1) : fail(s, p, -EINVAL);
}

/* The same for an array. */
static const uint8_t *array(struct scan *s, const uint8_t *p, const struct field_node *node, unsigned depth)
{
	uint32_t next = 0;

	p = blanks(s, p + 1);
	if (*p == ']')
		return here(s, p + 1);
	for (uint64_t element = 0;; element++) {
		const struct field_node *child = NULL;
		if (next < node->n_elements && node->elements[next]->element == element)
			child = node->elements[next++];
		p = value(s, here(s, p), child, depth);
		if (unlikely(!p))
			return NULL;
		p = blanks(s, p);
		if (*p != ',')
			break;
		p = blanks(s, p + 1);
	}
	return likely(*p == ']') ? here(s, p + 1) : fail(s, p, -EINVAL);
}

int32_t fields_read(void *self, const struct ss_reader *reader, const void *json, size_t len,
		    struct ss_field *out, size_t *where)
{
	struct scan s;
	(void)self;
	if (unlikely(len > UINT32_MAX)) { /* more than a field's length can say */
		if (where)
			*where = UINT32_MAX;
		return -EINVAL;
	}
	for (uint32_t i = 0; i < reader->n; i++)
		out[i] = (struct ss_field){0};
	s.json = json;
	s.len = len;
	s.reader = reader;
	s.out = out;
	const uint8_t *p = wanted(&s, blanks(&s, stretch(&s, 0)), &reader->nodes[0], 0);
	if (likely(p)) {
		p = here(&s, p);
		if (likely(offset(&s, p) == len) || offset(&s, p = blanks(&s, p)) == len)
			return 0;
		fail(&s, p, -EINVAL);
	}
	if (where)
		*where = s.where;
	return s.error;
}

const struct ss_fields fields_service = {
	.struct_size = sizeof(struct ss_fields),
	.compile = fields_compile,
	.free = fields_free,
	.read = fields_read,
	.number = fields_number,
	.integer = fields_integer,
	.unescape = fields_unescape,
};
