/* SPDX-License-Identifier: MIT */
/*
 * functions_numbers - functions of fixed size: count, sum, mean, rate, stddev, histogram, min, max.  Sums of
 * 64-bit integers are exact; with a fraction among them they are doubles whose rounding errors are carried
 * along (Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", 1974).
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/fields.h>
#include "functions.h"
#include "json.h"

/* ---- count ---- */

static int count_add(const struct function *f, void *state, const struct sample *s)
{
	uint64_t *n = state;

	(void)f, (void)s;
	++*n;
	return 0;
}

static int count_merge(const struct function *f, void *state, const void *other)
{
	uint64_t *n = state;

	(void)f;
	*n += *(const uint64_t *)other;
	return 0;
}

static void count_print(const struct function *f, const void *state, const struct span *span,
			struct ss_strbuf *out)
{
	(void)f, (void)span;
	ss_strbuf_int(out, (int64_t) * (const uint64_t *)state);
}

static const struct function_type count = {.name = "count",
					   .size = sizeof(uint64_t),
					   .add = count_add,
					   .merge = count_merge,
					   .print = count_print};

/* ---- sums ---- */

struct sum {
	union {
		struct {
			uint64_t low;
			int64_t high;
		} whole; /* 128 bits: no number of 64-bit integers overflows it */
		struct {
			double sum, lost;
		} real;
	};
	uint64_t kind; /* 0: no value yet */
};
enum { SUM_WHOLE = 1, SUM_REAL = 2 };

static __int128 whole_of(const struct sum *s)
{
	return (__int128)((unsigned __int128)s->whole.high << 64 | s->whole.low);
}

static void set_whole(struct sum *s, __int128 i)
{
	s->whole.low = (uint64_t)i;
	s->whole.high = (int64_t)(i >> 64);
}

static void add_real(struct sum *s, double d)
{
	double sum = s->real.sum + d;

	if (isfinite(sum))
		s->real.lost += fabs(s->real.sum) >= fabs(d) ? s->real.sum - sum + d : d - sum + s->real.sum;
	s->real.sum = sum;
}

static void make_real(struct sum *s)
{
	if (s->kind == SUM_REAL)
		return;
	__int128 i = s->kind ? whole_of(s) : 0;
	double d = (double)i;
	s->kind = SUM_REAL;
	s->real.sum = d;
	s->real.lost = (double)(i - (__int128)d); /* exact: what rounding took off is less than 2^75 */
}

static void sum_add_number(struct sum *s, const struct ss_number *n)
{
	if (n->integer && s->kind != SUM_REAL) {
		uint64_t low = s->whole.low + (uint64_t)n->i;
		s->whole.high += (n->i < 0 ? -1 : 0) + (low < (uint64_t)n->i);
		s->whole.low = low;
		s->kind = SUM_WHOLE;
		return;
	}
	make_real(s);
	add_real(s, n->d);
	if (n->integer) /* beyond 2^53 the double is not all of it */
		s->real.lost += (double)((__int128)n->i - (__int128)n->d);
}

static void sum_add_sum(struct sum *s, const struct sum *other)
{
	if (!other->kind)
		return;
	if (s->kind != SUM_REAL && other->kind == SUM_WHOLE) {
		set_whole(s, (s->kind ? whole_of(s) : 0) + whole_of(other));
		s->kind = SUM_WHOLE;
		return;
	}
	struct sum o = *other;
	make_real(s);
	make_real(&o);
	add_real(s, o.real.sum);
	s->real.lost += o.real.lost;
}

#define WHOLE_MAX ((__int128)1 << 126)

static bool sum_is_good(const struct function *f, const void *state)
{
	const struct sum *s = state;

	(void)f;
	return s->kind <= SUM_REAL &&
	       (s->kind == SUM_REAL || (whole_of(s) < WHOLE_MAX && whole_of(s) > -WHOLE_MAX));
}

static double sum_value(const struct sum *s)
{
	struct sum copy = *s;

	make_real(&copy);
	return isfinite(copy.real.sum) ? copy.real.sum + copy.real.lost : copy.real.sum;
}

static void print_whole(struct ss_strbuf *out, __int128 i)
{
	char digits[48], *p = digits + sizeof digits;
	unsigned __int128 u = i < 0 ? -(unsigned __int128)i : (unsigned __int128)i;

	do
		*--p = (char)('0' + (int)(u % 10));
	while (u /= 10);
	if (i < 0)
		*--p = '-';
	ss_strbuf_add(out, p, (size_t)(digits + sizeof digits - p));
}

static int sum_add(const struct function *f, void *state, const struct sample *s)
{
	(void)f;
	sum_add_number(state, s->number);
	return 0;
}

static int sum_merge(const struct function *f, void *state, const void *other)
{
	(void)f;
	sum_add_sum(state, other);
	return 0;
}

static void sum_print(const struct function *f, const void *state, const struct span *span,
		      struct ss_strbuf *out)
{
	const struct sum *s = state;

	(void)f, (void)span;
	if (s->kind == SUM_REAL)
		print_double(out, sum_value(s));
	else
		print_whole(out, s->kind ? whole_of(s) : 0);
}

static const struct function_type sum = {.name = "sum",
					 .needs_field = true,
					 .needs_number = true,
					 .size = sizeof(struct sum),
					 .add = sum_add,
					 .merge = sum_merge,
					 .print = sum_print,
					 .is_good = sum_is_good};

/* ---- mean ---- */

struct mean {
	struct sum sum;
	uint64_t n;
};

static int mean_add(const struct function *f, void *state, const struct sample *s)
{
	struct mean *m = state;

	(void)f;
	sum_add_number(&m->sum, s->number);
	m->n++;
	return 0;
}

static int mean_merge(const struct function *f, void *state, const void *other)
{
	struct mean *m = state;
	const struct mean *o = other;

	(void)f;
	sum_add_sum(&m->sum, &o->sum);
	m->n += o->n;
	return 0;
}

static bool mean_is_good(const struct function *f, const void *state)
{
	const struct mean *m = state;

	return sum_is_good(f, &m->sum);
}

/* Where long doubles are no longer than doubles, the last bit may be off by one. */
static double mean_value(const struct mean *m)
{
	if (m->sum.kind != SUM_WHOLE && !isfinite(m->sum.real.sum))
		return m->sum.real.sum;
	if (m->sum.kind != SUM_WHOLE)
		return (double)(((long double)m->sum.real.sum + (long double)m->sum.real.lost) /
				(long double)m->n);
	__int128 i = whole_of(&m->sum), quotient = i / (__int128)m->n, rest = i % (__int128)m->n;
	return (double)((long double)quotient + (long double)rest / (long double)m->n);
}

static void mean_print(const struct function *f, const void *state, const struct span *span,
		       struct ss_strbuf *out)
{
	const struct mean *m = state;

	(void)f, (void)span;
	print_double(out, m->n ? mean_value(m) : NAN);
}

static const struct function_type mean = {.name = "mean",
					  .needs_field = true,
					  .needs_number = true,
					  .size = sizeof(struct mean),
					  .add = mean_add,
					  .merge = mean_merge,
					  .print = mean_print,
					  .is_good = mean_is_good};

/* ---- rate: events, or the sum of a field, per second of the window ---- */

static int rate_add(const struct function *f, void *state, const struct sample *s)
{
	static const struct ss_number one = {.integer = true, .i = 1, .d = 1};

	(void)f;
	sum_add_number(state, f->field < 0 ? &one : s->number);
	return 0;
}

static void rate_print(const struct function *f, const void *state, const struct span *span,
		       struct ss_strbuf *out)
{
	double seconds = (double)(span->end_ns - span->start_ns) / 1e9;

	(void)f;
	print_double(out, seconds > 0 ? sum_value(state) / seconds : NAN);
}

static const struct function_type rate = {.name = "rate",
					  .needs_number = true,
					  .size = sizeof(struct sum),
					  .add = rate_add,
					  .merge = sum_merge,
					  .print = rate_print,
					  .is_good = sum_is_good};

/*
 * ---- stddev: Welford 1962, merged as Chan, Golub and LeVeque 1979; of the distances from the first value,
 * so that values far from zero that lie close together lose nothing
 */

struct spread {
	union {
		int64_t i;
		double d;
	} base; /* the first value */
	uint64_t integer;
	double mean, squares; /* of the distances; of the distances from their mean */
	uint64_t n;
};

static struct ss_number base_of(const struct spread *v)
{
	if (v->integer)
		return (struct ss_number){.integer = true, .i = v->base.i, .d = (double)v->base.i};
	return (struct ss_number){.d = v->base.d};
}

static double distance(const struct spread *v, const struct ss_number *to)
{
	struct ss_number from = base_of(v);

	return from.integer && to->integer ? (double)((__int128)to->i - (__int128)from.i) : to->d - from.d;
}

static void stddev_compile(struct function *f, json_t *options, struct ss_json_option *spec)
{
	static const char *const known[] = {"fn", "field", "population", NULL};
	json_t *population = json_object_get(options, "population");

	ss_json_keys(spec, options, known);
	if (population && !json_is_boolean(population))
		ss_json_error(spec, "population", "must be true or false, found %s",
			      ss_json_type(population));
	f->population = json_is_true(population);
}

static int stddev_add(const struct function *f, void *state, const struct sample *s)
{
	struct spread *v = state;

	(void)f;
	if (!v->n) {
		v->integer = s->number->integer;
		if (v->integer)
			v->base.i = s->number->i;
		else
			v->base.d = s->number->d;
	}
	double d = distance(v, s->number), off = d - v->mean;
	v->mean += off / (double)++v->n;
	v->squares += off * (d - v->mean);
	return 0;
}

static int stddev_merge(const struct function *f, void *state, const void *other)
{
	struct spread *v = state;
	const struct spread *o = other;

	(void)f;
	if (!o->n)
		return 0;
	if (!v->n) {
		*v = *o;
		return 0;
	}
	struct ss_number base = base_of(o);
	double n = (double)v->n + (double)o->n, off = distance(v, &base) + o->mean - v->mean;
	v->squares += o->squares + off * off * ((double)v->n * (double)o->n / n);
	v->mean += off * ((double)o->n / n);
	v->n += o->n;
	return 0;
}

static void stddev_print(const struct function *f, const void *state, const struct span *span,
			 struct ss_strbuf *out)
{
	const struct spread *v = state;
	double n = (double)v->n - (f->population ? 0 : 1);

	(void)span;
	print_double(out, n > 0 ? sqrt(v->squares / n) : NAN);
}

static const struct function_type stddev = {.name = "stddev",
					    .needs_field = true,
					    .needs_number = true,
					    .compile = stddev_compile,
					    .size = sizeof(struct spread),
					    .add = stddev_add,
					    .merge = stddev_merge,
					    .print = stddev_print};

/* ---- histogram: how many are at most each bound, above the one before, and how many above all ---- */

static void histogram_compile(struct function *f, json_t *options, struct ss_json_option *spec)
{
	static const char *const known[] = {"fn", "field", "bounds", NULL};
	json_t *bounds = json_object_get(options, "bounds");
	size_t n = json_array_size(bounds);

	ss_json_keys(spec, options, known);
	if (n == 0 || n > BOUNDS_MAX) {
		ss_json_error(spec, bounds ? "bounds" : NULL,
			      "\"bounds\" must be a list of 1 to %d ascending numbers", BOUNDS_MAX);
		return;
	}
	f->bounds = calloc(n, sizeof *f->bounds);
	if (!f->bounds) {
		spec->err = -ENOMEM;
		return;
	}
	for (f->n = 0; f->n < n; f->n++) {
		json_t *bound = json_array_get(bounds, f->n);
		ss_json_number(spec, bound, &f->bounds[f->n]);
		if (!json_is_number(bound) ||
		    (f->n && ss_number_compare(&f->bounds[f->n], &f->bounds[f->n - 1]) <= 0)) {
			ss_json_error(spec, "bounds", "must be ascending numbers");
			return;
		}
	}
	f->size = (f->n + 1) * (uint32_t)sizeof(uint64_t);
}

static int histogram_add(const struct function *f, void *state, const struct sample *s)
{
	uint64_t *counts = state;
	uint32_t low = 0, high = f->n;

	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (ss_number_compare(s->number, &f->bounds[middle]) <= 0)
			high = middle;
		else
			low = middle + 1;
	}
	counts[low]++;
	return 0;
}

static int histogram_merge(const struct function *f, void *state, const void *other)
{
	uint64_t *counts = state;
	const uint64_t *others = other;

	for (uint32_t i = 0; i <= f->n; i++)
		counts[i] += others[i];
	return 0;
}

static void histogram_print(const struct function *f, const void *state, const struct span *span,
			    struct ss_strbuf *out)
{
	const uint64_t *counts = state;

	(void)span;
	ss_strbuf_text(out, "[");
	for (uint32_t i = 0; i <= f->n; i++) {
		ss_strbuf_text(out, i ? ",{\"le\":" : "{\"le\":");
		if (i < f->n && f->bounds[i].text)
			ss_strbuf_add(out, f->bounds[i].text, f->bounds[i].len);
		else
			print_double(out, i < f->n ? f->bounds[i].d : INFINITY);
		ss_strbuf_text(out, ",\"count\":");
		ss_strbuf_int(out, (int64_t)counts[i]);
		ss_strbuf_text(out, "}");
	}
	ss_strbuf_text(out, "]");
}

static const struct function_type histogram = {.name = "histogram",
					       .needs_field = true,
					       .needs_number = true,
					       .compile = histogram_compile,
					       .add = histogram_add,
					       .merge = histogram_merge,
					       .print = histogram_print};

/* ---- min, max ---- */

#define NUMBER_TEXT 22 /* bytes of a number as it was written: enough for most */

struct extreme {
	union {
		int64_t i;
		double d;
	};
	uint8_t kind;           /* 0: no value yet */
	uint8_t len;            /* of text; 0: too long, so it is formatted anew */
	char text[NUMBER_TEXT]; /* fills the struct to 32 bytes */
};
enum { EXTREME_INTEGER = 1, EXTREME_REAL = 2 };

static struct ss_number value_of(const struct extreme *e)
{
	struct ss_number n = {.integer = e->kind == EXTREME_INTEGER};

	if (n.integer)
		n.i = e->i;
	n.d = n.integer ? (double)e->i : e->d;
	n.text = e->len ? e->text : NULL;
	n.len = e->len;
	return n;
}

/* Is n to take the place of what e holds? */
static bool is_beyond(const struct function *f, const struct extreme *e, const struct ss_number *n)
{
	if (!e->kind)
		return true;
	struct ss_number have = value_of(e);
	int order = ss_number_compare(n, &have);
	return f->type->greatest ? order > 0 : order < 0;
}

static void set_number(struct extreme *e, const struct sample *s)
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

static int extreme_add(const struct function *f, void *state, const struct sample *s)
{
	if (is_beyond(f, state, s->number))
		set_number(state, s);
	return 0;
}

static int extreme_merge(const struct function *f, void *state, const void *other)
{
	struct extreme *e = state;
	const struct extreme *o = other;
	struct ss_number n = value_of(o);

	if (o->kind && is_beyond(f, e, &n))
		*e = *o;
	return 0;
}

static bool extreme_is_good(const struct function *f, const void *state)
{
	const struct extreme *e = state;

	(void)f;
	return e->kind <= EXTREME_REAL && e->len <= NUMBER_TEXT;
}

static void extreme_print(const struct function *f, const void *state, const struct span *span,
			  struct ss_strbuf *out)
{
	const struct extreme *e = state;

	(void)f, (void)span;
	if (e->kind && e->len)
		ss_strbuf_add(out, e->text, e->len);
	else if (e->kind == EXTREME_INTEGER)
		ss_strbuf_int(out, e->i);
	else
		print_double(out, e->kind ? e->d : NAN);
}

#define EXTREME                                                                                              \
	.needs_field = true, .needs_number = true, .size = sizeof(struct extreme), .add = extreme_add,       \
	.merge = extreme_merge, .print = extreme_print, .is_good = extreme_is_good
static const struct function_type min = {.name = "min", EXTREME};
static const struct function_type max = {.name = "max", .greatest = true, EXTREME};

const struct function_type *const functions_numbers[] = {&count,     &sum, &mean, &rate, &stddev,
							 &histogram, &min, &max,  NULL};
