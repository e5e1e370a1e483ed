/* SPDX-License-Identifier: MIT */
/* functions_sketch - functions whose memory is bounded by an error: percentiles, distinct, top.  A state is a
 * pointer. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/fields.h>
#include "distinct.h"
#include "function.h"
#include "quantiles.h"
#include "heavy_hitters.h"

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
	struct text label = {0};
	text_string(&label, "\"p");
	text_double(&label, value);
	text_bytes(&label, "\":", 3);
	if (label.failed || label.len > sizeof f->labels[0])
		spec->err = -ENOMEM;
	else
		memcpy(f->labels[f->n], label.bytes, label.len);
	text_done(&label);
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
			      struct text *out)
{
	const struct quantiles *const *q = state;

	(void)span;
	if (f->single) {
		text_double(out, *q ? quantiles_at(*q, f->values[0]) : NAN);
		return;
	}
	text_string(out, "{");
	for (uint32_t i = 0; i < f->n; i++) {
		if (i)
			text_string(out, ",");
		text_string(out, f->labels[i]);
		text_double(out, *q ? quantiles_at(*q, f->values[i]) : NAN);
	}
	text_string(out, "}");
}

static size_t percentiles_heap(const struct function *f, const void *state)
{
	const struct quantiles *const *q = state;

	(void)f;
	return *q ? quantiles_memory(*q) : 0;
}

static void percentiles_save(const struct function *f, const void *state, struct text *out)
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
			   struct text *out)
{
	const struct distinct *const *d = state;

	(void)f, (void)span;
	text_int(out, *d ? (int64_t)distinct_count(*d) : 0);
}

static size_t distinct_heap(const struct function *f, const void *state)
{
	const struct distinct *const *d = state;

	(void)f;
	return *d ? distinct_memory(*d) : 0;
}

static void distinct_store(const struct function *f, const void *state, struct text *out)
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
	struct top **t = state;

	if (!*t && !(*t = top_new(f->n)))
		return -ENOMEM;
	return top_add(*t, s->hash[0], s->field->text, s->field->len, s->field->type == SS_JSON_STRING);
}

static int top_join(const struct function *f, void *state, const void *other)
{
	struct top **t = state, *const *o = other;

	if (!*o)
		return 0;
	if (!*t && !(*t = top_new(f->n)))
		return -ENOMEM;
	return top_merge(*t, *o);
}

static void top_result(const struct function *f, const void *state, const struct span *span, struct text *out)
{
	const struct top *const *t = state;

	(void)f, (void)span;
	if (*t)
		top_print(*t, out);
	else
		text_string(out, "[]");
}

static size_t top_heap(const struct function *f, const void *state)
{
	const struct top *const *t = state;

	(void)f;
	return *t ? top_memory(*t) : 0;
}

static void top_store(const struct function *f, const void *state, struct text *out)
{
	const struct top *const *t = state;

	(void)f;
	if (*t)
		top_save(*t, out);
}

static int top_restore(const struct function *f, void *state, const uint8_t *bytes, size_t len)
{
	return len ? top_load(bytes, len, f->n, state) : 0;
}

static void top_done(const struct function *f, void *state)
{
	struct top **t = state;

	(void)f;
	top_free(*t);
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

const struct function_type *const functions_sketch[] = {&percentiles, &distinct, &top, NULL};
