/* SPDX-License-Identifier: MIT */
/* quantiles - see sketches.h. */
#include "sketches.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "json.h"

/* Counts of buckets first .. first + n - 1; bucket i holds (gamma^(i-1), gamma^i]. */
struct side {
	uint64_t *counts, total;
	int32_t first;
	uint32_t n;
};

struct quantiles {
	struct side positive, negative; /* negative: of the absolute values */
	uint64_t zeros;                 /* and values too small to distinguish from zero */
	double least, greatest;
	double gamma, log_gamma;
	uint32_t most; /* buckets of each side */
};

#define ORDERS    17.1 /* of magnitude that buckets cover */
#define COUNT_MAX (UINT64_C(1) << 53)

static void *create(const struct function *f)
{
	double accuracy = f->accuracy;
	struct quantiles *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->gamma = (1 + accuracy) / (1 - accuracy);
	s->log_gamma = log(s->gamma);
	s->most = (uint32_t)(ORDERS * M_LN10 / s->log_gamma) + 1;
	s->least = INFINITY;
	s->greatest = -INFINITY;
	return s;
}

static void destroy(void *sketch)
{
	struct quantiles *s = sketch;

	if (!s)
		return;
	free(s->positive.counts);
	free(s->negative.counts);
	free(s);
}

/* Widen low .. high to the buckets that are not empty. */
static void widen(const struct side *side, int32_t *low, int32_t *high)
{
	uint32_t first = 0, end = side->n;

	while (first < end && !side->counts[first])
		first++;
	while (end > first && !side->counts[end - 1])
		end--;
	if (first == end)
		return;
	*low = side->first + (int32_t)first < *low ? side->first + (int32_t)first : *low;
	*high = side->first + (int32_t)end - 1 > *high ? side->first + (int32_t)end - 1 : *high;
}

/* Resize to buckets low .. high, or as many of the upper ones as are allowed, with everything below in the
 * lowest. */
static int resize(struct side *side, uint32_t most, int32_t low, int32_t high)
{
	int64_t n = (int64_t)high - low + 1;

	n = n < most ? n : most;
	int32_t first = (int32_t)(high - n + 1);
	if (side->n == (uint32_t)n && side->first == first)
		return 0;
	uint64_t *counts = calloc((size_t)n, sizeof *counts);
	if (!counts)
		return -ENOMEM;
	for (uint32_t i = 0; i < side->n; i++) {
		int32_t at = side->first + (int32_t)i;
		if (side->counts[i])
			counts[at < first ? 0 : at - first] += side->counts[i];
	}
	free(side->counts);
	side->counts = counts;
	side->first = first;
	side->n = (uint32_t)n;
	return 0;
}

/* Make buckets low .. high, as many as are allowed. */
static int cover(struct side *side, uint32_t most, int32_t low, int32_t high)
{
	if (!side->n)
		return resize(side, most, low, high);
	int32_t end = side->first + (int32_t)side->n - 1;
	if (low >= side->first && high <= end)
		return 0;
	if (side->n == most && high <= end && side->counts[side->n - 1])
		return 0;                        /* what lies below goes into the lowest */
	int32_t room = 8 + (int32_t)side->n / 4; /* spare buckets, so that this is rare */
	int32_t from = low < side->first ? low - room : side->first, to = high > end ? high + room : end;
	if (to - from < (int32_t)most)
		return resize(side, most, from, to);
	widen(side, &low, &high);
	return resize(side, most, low, high);
}

static int add_bucket(struct side *side, uint32_t most, int32_t index, uint64_t n)
{
	int rc = cover(side, most, index, index);

	if (rc < 0)
		return rc;
	side->counts[index < side->first ? 0 : index - side->first] += n;
	side->total += n;
	return 0;
}

static int add(void *sketch, const struct sample *sample)
{
	struct quantiles *s = sketch;
	double value = sample->number->d, size = fabs(value);
	int rc = 0;

	if (isnan(value))
		return 0;
	if (isinf(size))
		size = 1.7976931348623157e308;
	if (size < 1e-300)
		s->zeros++;
	else
		rc = add_bucket(value > 0 ? &s->positive : &s->negative, s->most,
				(int32_t)ceil(log(size) / s->log_gamma), 1);
	if (rc < 0)
		return rc;
	s->least = value < s->least ? value : s->least;
	s->greatest = value > s->greatest ? value : s->greatest;
	return 0;
}

static int merge_side(struct side *side, uint32_t most, const struct side *other)
{
	int32_t low = INT32_MAX, high = INT32_MIN;

	if (!other->total)
		return 0;
	widen(other, &low, &high);
	int rc = cover(side, most, low, high);
	for (uint32_t i = 0; i < other->n && rc == 0; i++)
		if (other->counts[i])
			rc = add_bucket(side, most, other->first + (int32_t)i, other->counts[i]);
	return rc;
}

static int merge(void *sketch, const void *from)
{
	struct quantiles *s = sketch;
	const struct quantiles *other = from;
	int rc = merge_side(&s->positive, s->most, &other->positive);

	if (rc == 0)
		rc = merge_side(&s->negative, s->most, &other->negative);
	if (rc < 0)
		return rc;
	s->zeros += other->zeros;
	s->least = other->least < s->least ? other->least : s->least;
	s->greatest = other->greatest > s->greatest ? other->greatest : s->greatest;
	return 0;
}

uint64_t quantiles_count(const struct quantiles *s)
{
	return s->positive.total + s->negative.total + s->zeros;
}

/* The value a bucket is reported as: no value in the bucket is further away than the accuracy. */
static double middle(const struct quantiles *s, int32_t index)
{
	return exp(index * s->log_gamma) * (2 / (s->gamma + 1));
}

static double find(const struct quantiles *s, uint64_t rank)
{
	if (rank < s->negative.total) {
		for (uint32_t i = s->negative.n; i-- > 0; rank -= s->negative.counts[i])
			if (rank < s->negative.counts[i])
				return -middle(s, s->negative.first + (int32_t)i);
	}
	rank -= s->negative.total;
	if (rank < s->zeros)
		return 0;
	rank -= s->zeros;
	for (uint32_t i = 0; i < s->positive.n; rank -= s->positive.counts[i++])
		if (rank < s->positive.counts[i])
			return middle(s, s->positive.first + (int32_t)i);
	return s->greatest;
}

double quantiles_at(const struct quantiles *s, double percent)
{
	uint64_t n = quantiles_count(s);

	if (!n)
		return NAN;
	uint64_t rank = (uint64_t)(percent * (double)(n - 1) / 100);
	if (rank == 0)
		return s->least;
	if (rank >= n - 1)
		return s->greatest;
	double value = find(s, rank);
	value = value < s->least ? s->least : value;
	return value > s->greatest ? s->greatest : value;
}

static void print(const struct function *f, const void *sketch, struct ss_strbuf *out)
{
	if (!f->single)
		ss_strbuf_text(out, "{");
	for (uint32_t i = 0; i < f->n; i++) {
		if (i)
			ss_strbuf_text(out, ",");
		if (!f->single)
			ss_strbuf_text(out, f->labels[i]);
		print_double(out, sketch ? quantiles_at(sketch, f->values[i]) : NAN);
	}
	if (!f->single)
		ss_strbuf_text(out, "}");
}

static size_t memory(const void *sketch)
{
	const struct quantiles *s = sketch;

	return sizeof *s + (s->positive.n + s->negative.n) * sizeof(uint64_t);
}

/* ---- as bytes ---- */

static uint64_t bits_of(double d)
{
	uint64_t u;

	memcpy(&u, &d, sizeof u);
	return u;
}

static double of_bits(uint64_t u)
{
	double d;

	memcpy(&d, &u, sizeof d);
	return d;
}

static void save_side(const struct side *side, struct ss_strbuf *out)
{
	uint64_t used = 0;

	for (uint32_t i = 0; i < side->n; i++)
		used += side->counts[i] != 0;
	ss_strbuf_u64(out, used);
	for (uint32_t i = 0; i < side->n; i++) {
		if (!side->counts[i])
			continue;
		ss_strbuf_u64(out, (uint64_t)(int64_t)(side->first + (int32_t)i));
		ss_strbuf_u64(out, side->counts[i]);
	}
}

static void save(const void *sketch, struct ss_strbuf *out)
{
	const struct quantiles *s = sketch;

	ss_strbuf_u64(out, bits_of(s->least));
	ss_strbuf_u64(out, bits_of(s->greatest));
	ss_strbuf_u64(out, s->zeros);
	save_side(&s->positive, out);
	save_side(&s->negative, out);
}

static int load_side(struct quantiles *s, struct side *side, struct ss_unpack *r)
{
	const int64_t furthest = (int64_t)(710 / s->log_gamma) + 1; /* the greatest double's */
	uint64_t used = ss_unpack_u64(r);
	int rc = used > s->most ? -EINVAL : 0;

	for (uint64_t i = 0; i < used && rc == 0; i++) {
		int64_t index = (int64_t)ss_unpack_u64(r);
		uint64_t n = ss_unpack_u64(r);
		if (r->failed || index < -furthest || index > furthest || n > COUNT_MAX)
			return -EINVAL;
		rc = add_bucket(side, s->most, (int32_t)index, n);
	}
	return rc;
}

static int load(void *sketch, struct ss_unpack *r)
{
	struct quantiles *s = sketch;

	s->least = of_bits(ss_unpack_u64(r));
	s->greatest = of_bits(ss_unpack_u64(r));
	s->zeros = ss_unpack_u64(r);
	int rc = load_side(s, &s->positive, r);
	if (rc == 0)
		rc = load_side(s, &s->negative, r);
	if (rc == 0 && (s->zeros > COUNT_MAX || quantiles_count(s) > COUNT_MAX || !(s->least <= s->greatest)))
		rc = -EINVAL;
	return rc;
}

const struct sketch quantiles_sketch = {.create = create,
					.free = destroy,
					.add = add,
					.merge = merge,
					.print = print,
					.memory = memory,
					.save = save,
					.load = load};
