/* SPDX-License-Identifier: MIT */
/*
 * functions_edge - the least and the greatest number, the first and the last value.  Values come out as they
 * were written.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/fields.h>
#include "function.h"

/* ---- min, max ---- */

#define NUMBER_TEXT 22 /* bytes kept of a number as it was written: all of most */

struct extreme {
	union {
		int64_t i;
		double d;
	};
	uint8_t kind;           /* 0: nothing yet */
	uint8_t len;            /* of text; 0: too long, printed anew */
	char text[NUMBER_TEXT]; /* fills the struct to 32 bytes */
};
enum { EXTREME_INTEGER = 1, EXTREME_REAL = 2 };

static uint32_t extreme_size(const struct function *f)
{
	(void)f;
	return sizeof(struct extreme);
}

static struct ss_number value_of(const struct extreme *e)
{
	struct ss_number n = {.integer = e->kind == EXTREME_INTEGER};

	if (n.integer)
		n.i = e->i;
	n.d = n.integer ? (double)e->i : e->d;
	return n;
}

/* Is n beyond what e holds?  sign: 1 for max, -1 for min. */
static bool is_beyond(const struct extreme *e, const struct ss_number *n, int sign)
{
	if (!e->kind)
		return true;
	struct ss_number have = value_of(e);
	return ss_number_compare(n, &have) * sign > 0;
}

static void keep_number(struct extreme *e, const struct sample *s)
{
	const struct ss_number *n = s->number;

	e->kind = n->integer ? EXTREME_INTEGER : EXTREME_REAL;
	if (n->integer)
		e->i = n->i;
	else
		e->d = n->d;
	e->len = s->field->len <= NUMBER_TEXT ? (uint8_t)s->field->len : 0;
	memcpy(e->text, s->field->text, e->len);
}

static int min_add(const struct function *f, void *state, const struct sample *s)
{
	(void)f;
	if (is_beyond(state, s->number, -1))
		keep_number(state, s);
	return 0;
}

static int max_add(const struct function *f, void *state, const struct sample *s)
{
	(void)f;
	if (is_beyond(state, s->number, 1))
		keep_number(state, s);
	return 0;
}

static void merge_extreme(struct extreme *e, const struct extreme *other, int sign)
{
	struct ss_number n = value_of(other);

	if (other->kind && is_beyond(e, &n, sign))
		*e = *other;
}

static bool extreme_is_good(const struct function *f, const void *state)
{
	const struct extreme *e = state;

	(void)f;
	return e->kind <= EXTREME_REAL && e->len <= NUMBER_TEXT;
}

static int min_merge(const struct function *f, void *state, const void *other)
{
	(void)f;
	merge_extreme(state, other, -1);
	return 0;
}

static int max_merge(const struct function *f, void *state, const void *other)
{
	(void)f;
	merge_extreme(state, other, 1);
	return 0;
}

static void extreme_print(const struct function *f, const void *state, const struct span *span,
			  struct text *out)
{
	const struct extreme *e = state;

	(void)f, (void)span;
	if (e->kind && e->len)
		text_bytes(out, e->text, e->len);
	else if (e->kind == EXTREME_INTEGER)
		text_int(out, e->i);
	else
		text_double(out, e->kind ? e->d : NAN);
}

static const struct function_type min = {.name = "min",
					 .needs_field = true,
					 .needs_number = true,
					 .size = extreme_size,
					 .add = min_add,
					 .merge = min_merge,
					 .print = extreme_print,
					 .is_good = extreme_is_good};
static const struct function_type max = {.name = "max",
					 .needs_field = true,
					 .needs_number = true,
					 .size = extreme_size,
					 .add = max_add,
					 .merge = max_merge,
					 .print = extreme_print,
					 .is_good = extreme_is_good};

/* ---- first, last ---- */

#define NEAR_TEXT 24   /* bytes of a value kept in the state itself */
#define EDGE_MAX  4096 /* longer ones are passed over */

struct edge {
	int64_t time_ns;
	uint64_t order;
	uint64_t len; /* of the value as it is written in JSON; 0: nothing yet */
	union {
		char near[NEAR_TEXT];
		char *far; /* longer than NEAR_TEXT */
	};
};

static const char *edge_text(const struct edge *e)
{
	return e->len <= NEAR_TEXT ? e->near : e->far;
}

static void edge_done(const struct function *f, void *state)
{
	struct edge *e = state;

	(void)f;
	if (e->len > NEAR_TEXT)
		free(e->far);
	*e = (struct edge){0};
}

static uint32_t edge_size(const struct function *f)
{
	(void)f;
	return sizeof(struct edge);
}

/* The value's JSON text: prefix and suffix are the quotes of a string. */
static int keep_text(struct edge *e, int64_t time_ns, uint64_t order, const char *text, size_t len,
		     bool quoted)
{
	size_t whole = len + (quoted ? 2 : 0);
	char *far = NULL, *to = e->near;

	if (whole > EDGE_MAX)
		return -E2BIG;
	if (whole > NEAR_TEXT) {
		far = malloc(whole);
		if (!far)
			return -ENOMEM;
		to = far;
	}
	if (e->len > NEAR_TEXT)
		free(e->far);
	if (quoted)
		to[0] = to[whole - 1] = '"';
	memcpy(to + quoted, text, len);
	if (far)
		e->far = far;
	e->len = whole;
	e->time_ns = time_ns;
	e->order = order;
	return 0;
}

/* Does one moment come before another? */
static bool is_before(int64_t time, uint64_t order, const struct edge *e)
{
	return time < e->time_ns || (time == e->time_ns && order < e->order);
}

static int first_add(const struct function *f, void *state, const struct sample *s)
{
	struct edge *e = state;

	(void)f;
	if (e->len && !is_before(s->time_ns, s->order, e))
		return 0;
	return keep_text(e, s->time_ns, s->order, s->field->text, s->field->len,
			 s->field->type == SS_JSON_STRING);
}

static int last_add(const struct function *f, void *state, const struct sample *s)
{
	struct edge *e = state;

	(void)f;
	if (e->len && is_before(s->time_ns, s->order, e))
		return 0;
	return keep_text(e, s->time_ns, s->order, s->field->text, s->field->len,
			 s->field->type == SS_JSON_STRING);
}

static int first_merge(const struct function *f, void *state, const void *other)
{
	struct edge *e = state;
	const struct edge *o = other;

	(void)f;
	if (!o->len || (e->len && !is_before(o->time_ns, o->order, e)))
		return 0;
	return keep_text(e, o->time_ns, o->order, edge_text(o), o->len, false);
}

static int last_merge(const struct function *f, void *state, const void *other)
{
	struct edge *e = state;
	const struct edge *o = other;

	(void)f;
	if (!o->len || (e->len && is_before(o->time_ns, o->order, e)))
		return 0;
	return keep_text(e, o->time_ns, o->order, edge_text(o), o->len, false);
}

static void edge_print(const struct function *f, const void *state, const struct span *span, struct text *out)
{
	const struct edge *e = state;

	(void)f, (void)span;
	if (e->len)
		text_bytes(out, edge_text(e), e->len);
	else
		text_string(out, "null");
}

static size_t edge_heap(const struct function *f, const void *state)
{
	const struct edge *e = state;

	(void)f;
	return e->len > NEAR_TEXT ? e->len : 0;
}

static void edge_save(const struct function *f, const void *state, struct text *out)
{
	const struct edge *e = state;

	(void)f;
	text_u64(out, (uint64_t)e->time_ns);
	text_u64(out, e->order);
	text_bytes(out, edge_text(e), e->len);
}

static int edge_load(const struct function *f, void *state, const uint8_t *bytes, size_t len)
{
	struct reading r = {.at = bytes, .end = bytes + len};
	int64_t time_ns = (int64_t)reading_u64(&r);
	uint64_t order = reading_u64(&r);

	(void)f;
	if (r.failed)
		return -EINVAL;
	if (r.at == r.end)
		return 0;
	int rc = keep_text(state, time_ns, order, (const char *)r.at, (size_t)(r.end - r.at), false);
	return rc == -E2BIG ? -EINVAL : rc;
}

static const struct function_type first = {.name = "first",
					   .needs_field = true,
					   .size = edge_size,
					   .add = first_add,
					   .merge = first_merge,
					   .print = edge_print,
					   .heap = edge_heap,
					   .save = edge_save,
					   .load = edge_load,
					   .done = edge_done};
static const struct function_type last = {.name = "last",
					  .needs_field = true,
					  .size = edge_size,
					  .add = last_add,
					  .merge = last_merge,
					  .print = edge_print,
					  .heap = edge_heap,
					  .save = edge_save,
					  .load = edge_load,
					  .done = edge_done};

const struct function_type *const functions_edge[] = {&min, &max, &first, &last, NULL};
