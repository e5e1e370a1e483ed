/* SPDX-License-Identifier: MIT */
/*
 * functions_values - functions with memory besides their state: first and last, whose values are printed as
 * they were written, and the sketches percentiles, distinct and top, whose memory is bounded at the price of
 * an error and whose state is a pointer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/fields.h>
#include "functions.h"
#include "json.h"
#include "sketches.h"

/* ---- first, last ---- */

#define NEAR_TEXT 24   /* bytes of a value in the state itself */
#define EDGE_MAX  4096 /* longer ones are skipped */

struct edge {
	int64_t time_ns;
	uint64_t order;
	uint64_t len; /* of the value as it is written in JSON; 0: no value yet */
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

/* Set the value's JSON text; quoted: quotes are added. */
static int set_text(struct edge *e, int64_t time_ns, uint64_t order, const char *text, size_t len,
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

/* Is an event to take the place of that of e? */
static bool is_beyond(const struct function *f, const struct edge *e, int64_t time, uint64_t order)
{
	bool before = time < e->time_ns || (time == e->time_ns && order < e->order);

	return !e->len || before != f->type->greatest;
}

static int edge_add(const struct function *f, void *state, const struct sample *s)
{
	if (!is_beyond(f, state, s->time_ns, s->order))
		return 0;
	return set_text(state, s->time_ns, s->order, s->field->text, s->field->len,
			s->field->type == SS_JSON_STRING);
}

static int edge_merge(const struct function *f, void *state, const void *other)
{
	const struct edge *o = other;

	if (!o->len || !is_beyond(f, state, o->time_ns, o->order))
		return 0;
	return set_text(state, o->time_ns, o->order, edge_text(o), o->len, false);
}

static void edge_print(const struct function *f, const void *state, const struct span *span,
		       struct ss_strbuf *out)
{
	const struct edge *e = state;

	(void)f, (void)span;
	if (e->len)
		ss_strbuf_add(out, edge_text(e), e->len);
	else
		ss_strbuf_text(out, "null");
}

static size_t edge_heap(const struct function *f, const void *state)
{
	const struct edge *e = state;

	(void)f;
	return e->len > NEAR_TEXT ? e->len : 0;
}

static void edge_save(const struct function *f, const void *state, struct ss_strbuf *out)
{
	const struct edge *e = state;

	(void)f;
	ss_strbuf_u64(out, (uint64_t)e->time_ns);
	ss_strbuf_u64(out, e->order);
	ss_strbuf_add(out, edge_text(e), e->len);
}

static int edge_load(const struct function *f, void *state, const uint8_t *bytes, size_t len)
{
	struct ss_unpack r = {.at = bytes, .end = bytes + len};
	int64_t time_ns = (int64_t)ss_unpack_u64(&r);
	uint64_t order = ss_unpack_u64(&r);

	(void)f;
	if (r.failed)
		return -EINVAL;
	if (r.at == r.end)
		return 0;
	int rc = set_text(state, time_ns, order, (const char *)r.at, (size_t)(r.end - r.at), false);
	return rc == -E2BIG ? -EINVAL : rc;
}

#define EDGE                                                                                                 \
	.needs_field = true, .size = sizeof(struct edge), .add = edge_add, .merge = edge_merge,              \
	.print = edge_print, .heap = edge_heap, .save = edge_save, .load = edge_load, .done = edge_done
static const struct function_type first = {.name = "first", EDGE};
static const struct function_type last = {.name = "last", .greatest = true, EDGE};

/* ---- functions whose state is a sketch ---- */

static int sketch_create(const struct function *f, void **sketch)
{
	if (!*sketch)
		*sketch = f->type->sketch->create(f);
	return *sketch ? 0 : -ENOMEM;
}

static int sketch_add(const struct function *f, void *state, const struct sample *s)
{
	void **sketch = state;

	return sketch_create(f, sketch) < 0 ? -ENOMEM : f->type->sketch->add(*sketch, s);
}

static int sketch_merge(const struct function *f, void *state, const void *other)
{
	void **sketch = state, *const *o = other;

	if (!*o)
		return 0;
	return sketch_create(f, sketch) < 0 ? -ENOMEM : f->type->sketch->merge(*sketch, *o);
}

static void sketch_print(const struct function *f, const void *state, const struct span *span,
			 struct ss_strbuf *out)
{
	(void)span;
	f->type->sketch->print(f, *(void *const *)state, out);
}

static size_t sketch_heap(const struct function *f, const void *state)
{
	void *const *sketch = state;

	return *sketch ? f->type->sketch->memory(*sketch) : 0;
}

static void sketch_save(const struct function *f, const void *state, struct ss_strbuf *out)
{
	void *const *sketch = state;

	if (*sketch)
		f->type->sketch->save(*sketch, out);
}

static void sketch_done(const struct function *f, void *state)
{
	void **sketch = state;

	f->type->sketch->free(*sketch);
	*sketch = NULL;
}

static int sketch_load(const struct function *f, void *state, const uint8_t *bytes, size_t len)
{
	struct ss_unpack r = {.at = bytes, .end = bytes + len};
	void **sketch = state;
	int rc = len ? sketch_create(f, sketch) : 0;

	if (len && rc == 0)
		rc = f->type->sketch->load(*sketch, &r);
	if (rc == 0 && (r.failed || r.at != r.end))
		rc = -EINVAL;
	if (rc < 0)
		sketch_done(f, state);
	return rc;
}

#define SKETCH(kind)                                                                                         \
	.needs_field = true, .size = sizeof(void *), .sketch = &(kind), .add = sketch_add,                   \
	.merge = sketch_merge, .print = sketch_print, .heap = sketch_heap, .save = sketch_save,              \
	.load = sketch_load, .done = sketch_done

/* ---- percentiles ---- */

static void add_quantile(struct function *f, json_t *p, struct ss_json_option *spec)
{
	double value = json_number_value(p);

	if (!json_is_number(p) || !(value >= 0 && value <= 100)) {
		ss_json_error(spec, "p", "must be a number from 0 to 100, or a list of them");
		return;
	}
	struct ss_strbuf label = {0};
	ss_strbuf_text(&label, "\"p");
	print_double(&label, value);
	ss_strbuf_add(&label, "\":", 3);
	if (label.failed || label.len > sizeof f->labels[0])
		spec->err = -ENOMEM;
	else
		memcpy(f->labels[f->n], label.bytes, label.len);
	ss_strbuf_done(&label);
	f->values[f->n++] = value;
}

static void percentiles_compile(struct function *f, json_t *options, struct ss_json_option *spec)
{
	static const char *const known[] = {"fn", "field", "p", "accuracy", NULL};
	json_t *p = json_object_get(options, "p"), *accuracy = json_object_get(options, "accuracy");
	size_t n = json_is_array(p) ? json_array_size(p) : 1;

	ss_json_keys(spec, options, known);
	f->accuracy = accuracy ? json_number_value(accuracy) : 0.01;
	if (!(f->accuracy >= 0.001 && f->accuracy <= 0.2))
		ss_json_error(spec, "accuracy", "must be a relative error from 0.001 to 0.2, such as 0.01");
	if (!p || n == 0 || n > QUANTILES_MAX) {
		ss_json_error(spec, p ? "p" : NULL,
			      "\"p\" must be a number from 0 to 100, or a list of up to %d of them",
			      QUANTILES_MAX);
		return;
	}
	f->single = !json_is_array(p);
	f->values = calloc(n, sizeof *f->values);
	f->labels = calloc(n, sizeof *f->labels);
	if (!f->values || !f->labels) {
		spec->err = -ENOMEM;
		return;
	}
	for (size_t i = 0; i < n; i++)
		add_quantile(f, f->single ? p : json_array_get(p, i), spec);
}

static const struct function_type percentiles = {.name = "percentiles",
						 .needs_number = true,
						 .compile = percentiles_compile,
						 SKETCH(quantiles_sketch)};

/* ---- distinct ---- */

static const struct function_type distinct = {
	.name = "distinct", .needs_hash = true, SKETCH(distinct_sketch)};

/* ---- top ---- */

static void top_compile(struct function *f, json_t *options, struct ss_json_option *spec)
{
	static const char *const known[] = {"fn", "field", "k", NULL};
	json_t *k = json_object_get(options, "k");

	ss_json_keys(spec, options, known);
	f->n = 10;
	if (k && (!json_is_integer(k) || json_integer_value(k) < 1 || json_integer_value(k) > TOP_MAX))
		ss_json_error(spec, "k", "must be an integer from 1 to %d", TOP_MAX);
	else if (k)
		f->n = (uint32_t)json_integer_value(k);
}

static const struct function_type top = {
	.name = "top", .needs_hash = true, .compile = top_compile, SKETCH(heavy_hitters_sketch)};

const struct function_type *const functions_values[] = {&first, &last, &percentiles, &distinct, &top, NULL};
