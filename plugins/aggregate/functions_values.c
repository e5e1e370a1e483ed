/* SPDX-License-Identifier: MIT */
/*
 * functions_values - functions with memory besides their state: first and last, whose values are printed as
 * they were written, and the sketches percentiles, distinct and top, whose memory is bounded at the price of
 * an error and whose state is a pointer.
 */
#include <errno.h>
#include <math.h>
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

static uint32_t edge_size(const struct function *f)
{
	(void)f;
	return sizeof(struct edge);
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

/* Is an event earlier than that of e? */
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
	return set_text(e, s->time_ns, s->order, s->field->text, s->field->len,
			s->field->type == SS_JSON_STRING);
}

static int last_add(const struct function *f, void *state, const struct sample *s)
{
	struct edge *e = state;

	(void)f;
	if (e->len && is_before(s->time_ns, s->order, e))
		return 0;
	return set_text(e, s->time_ns, s->order, s->field->text, s->field->len,
			s->field->type == SS_JSON_STRING);
}

static int first_merge(const struct function *f, void *state, const void *other)
{
	struct edge *e = state;
	const struct edge *o = other;

	(void)f;
	if (!o->len || (e->len && !is_before(o->time_ns, o->order, e)))
		return 0;
	return set_text(e, o->time_ns, o->order, edge_text(o), o->len, false);
}

static int last_merge(const struct function *f, void *state, const void *other)
{
	struct edge *e = state;
	const struct edge *o = other;

	(void)f;
	if (!o->len || (e->len && is_before(o->time_ns, o->order, e)))
		return 0;
	return set_text(e, o->time_ns, o->order, edge_text(o), o->len, false);
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

static uint32_t pointer_size(const struct function *f)
{
	(void)f;
	return sizeof(uint64_t);
}

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

static int percentiles_add(const struct function *f, void *state, const struct sample *s)
{
	struct quantiles **q = state;

	if (!*q && !(*q = quantiles_new(f->accuracy)))
		return -ENOMEM;
	return quantiles_add(*q, s->number->d);
}

static int percentiles_merge(const struct function *f, void *state, const void *other)
{
	struct quantiles **q = state, *const *o = other;

	if (!*o)
		return 0;
	if (!*q && !(*q = quantiles_new(f->accuracy)))
		return -ENOMEM;
	return quantiles_merge(*q, *o);
}

static void percentiles_print(const struct function *f, const void *state, const struct span *span,
			      struct ss_strbuf *out)
{
	const struct quantiles *const *q = state;

	(void)span;
	if (f->single) {
		print_double(out, *q ? quantiles_at(*q, f->values[0]) : NAN);
		return;
	}
	ss_strbuf_text(out, "{");
	for (uint32_t i = 0; i < f->n; i++) {
		if (i)
			ss_strbuf_text(out, ",");
		ss_strbuf_text(out, f->labels[i]);
		print_double(out, *q ? quantiles_at(*q, f->values[i]) : NAN);
	}
	ss_strbuf_text(out, "}");
}

static size_t percentiles_heap(const struct function *f, const void *state)
{
	const struct quantiles *const *q = state;

	(void)f;
	return *q ? quantiles_memory(*q) : 0;
}

static void percentiles_save(const struct function *f, const void *state, struct ss_strbuf *out)
{
	const struct quantiles *const *q = state;

	(void)f;
	if (*q)
		quantiles_save(*q, out);
}

static int percentiles_load(const struct function *f, void *state, const uint8_t *bytes, size_t len)
{
	return len ? quantiles_load(bytes, len, f->accuracy, state) : 0;
}

static void percentiles_done(const struct function *f, void *state)
{
	struct quantiles **q = state;

	(void)f;
	quantiles_free(*q);
	*q = NULL;
}

static const struct function_type percentiles = {.name = "percentiles",
						 .needs_field = true,
						 .needs_number = true,
						 .compile = percentiles_compile,
						 .size = pointer_size,
						 .add = percentiles_add,
						 .merge = percentiles_merge,
						 .print = percentiles_print,
						 .heap = percentiles_heap,
						 .save = percentiles_save,
						 .load = percentiles_load,
						 .done = percentiles_done};

/* ---- distinct ---- */

static int distinct_sample(const struct function *f, void *state, const struct sample *s)
{
	struct distinct **d = state;

	(void)f;
	if (!*d && !(*d = distinct_new()))
		return -ENOMEM;
	return distinct_add(*d, s->hash[0]);
}

static int distinct_join(const struct function *f, void *state, const void *other)
{
	struct distinct **d = state, *const *o = other;

	(void)f;
	if (!*o)
		return 0;
	if (!*d && !(*d = distinct_new()))
		return -ENOMEM;
	return distinct_merge(*d, *o);
}

static void distinct_print(const struct function *f, const void *state, const struct span *span,
			   struct ss_strbuf *out)
{
	const struct distinct *const *d = state;

	(void)f, (void)span;
	ss_strbuf_int(out, *d ? (int64_t)distinct_count(*d) : 0);
}

static size_t distinct_heap(const struct function *f, const void *state)
{
	const struct distinct *const *d = state;

	(void)f;
	return *d ? distinct_memory(*d) : 0;
}

static void distinct_store(const struct function *f, const void *state, struct ss_strbuf *out)
{
	const struct distinct *const *d = state;

	(void)f;
	if (*d)
		distinct_save(*d, out);
}

static int distinct_restore(const struct function *f, void *state, const uint8_t *bytes, size_t len)
{
	(void)f;
	return len ? distinct_load(bytes, len, state) : 0;
}

static void distinct_done(const struct function *f, void *state)
{
	struct distinct **d = state;

	(void)f;
	distinct_free(*d);
	*d = NULL;
}

static const struct function_type distinct = {.name = "distinct",
					      .needs_field = true,
					      .needs_hash = true,
					      .size = pointer_size,
					      .add = distinct_sample,
					      .merge = distinct_join,
					      .print = distinct_print,
					      .heap = distinct_heap,
					      .save = distinct_store,
					      .load = distinct_restore,
					      .done = distinct_done};

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

static int top_sample(const struct function *f, void *state, const struct sample *s)
{
	struct heavy_hitters **t = state;

	if (!*t && !(*t = heavy_hitters_new(f->n)))
		return -ENOMEM;
	return heavy_hitters_add(*t, s->hash[0], s->field->text, s->field->len,
				 s->field->type == SS_JSON_STRING);
}

static int top_join(const struct function *f, void *state, const void *other)
{
	struct heavy_hitters **t = state, *const *o = other;

	if (!*o)
		return 0;
	if (!*t && !(*t = heavy_hitters_new(f->n)))
		return -ENOMEM;
	return heavy_hitters_merge(*t, *o);
}

static void top_result(const struct function *f, const void *state, const struct span *span,
		       struct ss_strbuf *out)
{
	const struct heavy_hitters *const *t = state;

	(void)f, (void)span;
	if (*t)
		heavy_hitters_print(*t, out);
	else
		ss_strbuf_text(out, "[]");
}

static size_t top_heap(const struct function *f, const void *state)
{
	const struct heavy_hitters *const *t = state;

	(void)f;
	return *t ? heavy_hitters_memory(*t) : 0;
}

static void top_store(const struct function *f, const void *state, struct ss_strbuf *out)
{
	const struct heavy_hitters *const *t = state;

	(void)f;
	if (*t)
		heavy_hitters_save(*t, out);
}

static int top_restore(const struct function *f, void *state, const uint8_t *bytes, size_t len)
{
	return len ? heavy_hitters_load(bytes, len, f->n, state) : 0;
}

static void top_done(const struct function *f, void *state)
{
	struct heavy_hitters **t = state;

	(void)f;
	heavy_hitters_free(*t);
	*t = NULL;
}

static const struct function_type top = {.name = "top",
					 .needs_field = true,
					 .needs_hash = true,
					 .compile = top_compile,
					 .size = pointer_size,
					 .add = top_sample,
					 .merge = top_join,
					 .print = top_result,
					 .heap = top_heap,
					 .save = top_store,
					 .load = top_restore,
					 .done = top_done};

const struct function_type *const functions_values[] = {&first, &last, &percentiles, &distinct, &top, NULL};
