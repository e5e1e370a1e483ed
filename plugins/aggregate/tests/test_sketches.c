/* SPDX-License-Identifier: MIT */
/* percentiles, distinct, top: within the errors they promise, whole or merged of parts, saved and loaded, and
 * with hostile bytes; and numbers as they are printed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "plugins/aggregate/json.h"
#include "plugins/aggregate/sketches.h"

/* ---- sketches with their parameters and values given one by one ---- */

static struct quantiles *quantiles_new(double accuracy)
{
	const struct function f = {.accuracy = accuracy};

	return quantiles_sketch.create(&f);
}

static int quantiles_add(struct quantiles *q, double value)
{
	const struct ss_number number = {.d = value};
	const struct sample s = {.number = &number};

	return quantiles_sketch.add(q, &s);
}

static struct distinct *distinct_new(void)
{
	return distinct_sketch.create(NULL);
}

static int distinct_add(struct distinct *d, uint64_t hash)
{
	const struct sample s = {.hash = {hash}};

	return distinct_sketch.add(d, &s);
}

static void *heavy_hitters_new(uint32_t k)
{
	const struct function f = {.n = k};

	return heavy_hitters_sketch.create(&f);
}

static int heavy_hitters_add(void *t, uint64_t hash, const char *value, size_t len, int quoted)
{
	const struct ss_field field = {
		.type = quoted ? SS_JSON_STRING : SS_JSON_NUMBER, .text = value, .len = (uint32_t)len};
	const struct sample s = {.field = &field, .hash = {hash}};

	return heavy_hitters_sketch.add(t, &s);
}

/* Load all of the bytes into a new sketch, as the functions do. */
static int load_sketch(const struct sketch *kind, void *sketch, const char *bytes, size_t len)
{
	struct ss_unpack r = {.at = (const uint8_t *)bytes, .end = (const uint8_t *)bytes + len};
	int rc = kind->load(sketch, &r);

	return rc == 0 && (r.failed || r.at != r.end) ? -EINVAL : rc;
}

static void assert_cut_is_refused(const struct sketch *kind, void *sketch, const char *bytes, size_t len)
{
	assert_int_equal(load_sketch(kind, sketch, bytes, len), -EINVAL);
	kind->free(sketch);
}

static uint64_t seed = 1;

static uint64_t pick(void)
{
	seed += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
	uint64_t z = seed;
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static double unit(void)
{
	return (double)(pick() >> 11) * 0x1p-53;
}

/* ---- percentiles ---- */

static double uniform(void)
{
	return unit() * 1000;
}
static double lognormal(void)
{
	return exp(3 * sqrt(-2 * log(1 - unit())) * cos(2 * M_PI * unit()));
}
static double signs(void)
{
	return lognormal() * (pick() & 1 ? 1 : -1);
}
static double few(void)
{
	return (double)(pick() % 3) - 1;
}
static double wide(void)
{
	return pow(10, unit() * 16 - 8);
}
static double same(void)
{
	return 42.1;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void check_quantiles(const struct quantiles *q, double *values, size_t n, double accuracy)
{
	static const double percents[] = {0, 0.1, 1, 10, 25, 29, 50, 75, 90, 95, 99, 99.9, 100};

	qsort(values, n, sizeof *values, by_value);
	assert_int_equal(quantiles_count(q), n);
	for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
		double got = quantiles_at(q, percents[i]),
		       want = values[(size_t)(percents[i] * (double)(n - 1) / 100)];
		if (!(fabs(got - want) <= fabs(want) * accuracy * (1 + 1e-9)))
			fail_msg("p%g is %.17g, not %.17g, accuracy %g", percents[i], got, want, accuracy);
	}
	assert_true(quantiles_at(q, 0) == values[0]);
	assert_true(quantiles_at(q, 100) == values[n - 1]);
}

static struct quantiles *saved_and_loaded(struct quantiles *q, double accuracy)
{
	struct ss_strbuf t = {0};
	struct quantiles *again = quantiles_new(accuracy);

	quantiles_sketch.save(q, &t);
	assert_int_equal(load_sketch(&quantiles_sketch, again, t.bytes, t.len), 0);
	for (size_t len = 0; len < t.len; len += 1 + len / 20)
		assert_cut_is_refused(&quantiles_sketch, quantiles_new(accuracy), t.bytes, len);
	quantiles_sketch.free(q);
	ss_strbuf_done(&t);
	return again;
}

static void test_quantiles(void **state)
{
	static double (*const kinds[])(void) = {uniform, lognormal, signs, few, wide, same};
	static const double accuracies[] = {0.001, 0.01, 0.2};
	enum { N = 20001 };
	double *values = malloc(N * sizeof *values);

	(void)state;
	for (size_t a = 0; a < 3; a++)
		for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
			struct quantiles *q = quantiles_new(accuracies[a]), *parts[3];
			for (int p = 0; p < 3; p++)
				parts[p] = quantiles_new(accuracies[a]);
			for (int i = 0; i < N; i++) {
				values[i] = kinds[k]();
				assert_int_equal(quantiles_add(q, values[i]), 0);
				assert_int_equal(quantiles_add(parts[i * 7 / 5 % 3], values[i]), 0);
			}
			check_quantiles(q, values, N, accuracies[a]);
			q = saved_and_loaded(q, accuracies[a]);
			check_quantiles(q, values, N, accuracies[a]);
			assert_int_equal(quantiles_sketch.merge(parts[0], parts[1]), 0);
			assert_int_equal(quantiles_sketch.merge(parts[0], parts[2]), 0);
			check_quantiles(parts[0], values, N, accuracies[a]);
			for (int p = 0; p < 3; p++)
				quantiles_sketch.free(parts[p]);
			quantiles_sketch.free(q);
		}
	free(values);
}

/* Any magnitude at all, up and down: memory is bounded and the upper ones stay right. */
static void test_quantiles_bounded(void **state)
{
	static const double accuracies[] = {0.001, 0.01};

	(void)state;
	for (int a = 0; a < 2; a++) {
		struct quantiles *q = quantiles_new(accuracies[a]);
		for (int e = -320; e <= 308; e++)
			for (int sign = -1; sign <= 1; sign += 2)
				assert_int_equal(quantiles_add(q, sign * pow(10, e)), 0);
		assert_int_equal(quantiles_add(q, INFINITY), 0);
		assert_int_equal(quantiles_add(q, -INFINITY), 0);
		assert_int_equal(quantiles_add(q, 1.7976931348623157e308), 0);
		assert_int_equal(quantiles_add(q, 0), 0);
		assert_true(quantiles_sketch.memory(q) < 2 * 8 * 20 / accuracies[a] + 200);
		assert_true(isinf(quantiles_at(q, 100)));
		assert_true(isinf(quantiles_at(q, 0)));
		/* the values of the upper 17 orders of magnitude */
		double n = (double)quantiles_count(q);
		for (int back = 3; back < 17; back++) {
			double got = quantiles_at(q, 100 * (n - back + 0.25) / (n - 1)),
			       want = pow(10, 311 - back);
			if (!(fabs(got - want) <= want * accuracies[a] * 1.000001))
				fail_msg("%d from the top is %g, not %g", back, got, want);
		}
		q = saved_and_loaded(q, accuracies[a]);
		quantiles_sketch.free(q);
	}
}

static void test_quantiles_of_little(void **state)
{
	struct quantiles *q = quantiles_new(0.01), *none = quantiles_new(0.01);

	(void)state;
	assert_true(isnan(quantiles_at(q, 50)));
	assert_int_equal(quantiles_sketch.merge(q, none), 0);
	assert_true(isnan(quantiles_at(q, 50)));
	quantiles_add(q, 7);
	assert_true(quantiles_at(q, 0) == 7 && quantiles_at(q, 50) == 7 && quantiles_at(q, 100) == 7);
	quantiles_add(q, NAN);
	assert_int_equal(quantiles_count(q), 1);
	quantiles_add(q, 9);
	assert_true(quantiles_at(q, 99.999) == 7 && quantiles_at(q, 100) == 9);
	assert_int_equal(quantiles_sketch.merge(none, q), 0);
	assert_true(quantiles_at(none, 0) == 7 && quantiles_at(none, 100) == 9);
	quantiles_sketch.free(q);
	quantiles_sketch.free(none);
}

/* ---- distinct ---- */

static void test_distinct(void **state)
{
	static const uint32_t sizes[] = {0, 1, 12, 13, 1023, 1024, 1025, 2000, 20000, 300000};

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct distinct *d = distinct_new(), *a = distinct_new(), *b = distinct_new(),
				*again = distinct_new();
		struct ss_strbuf t = {0};
		uint64_t from = pick();
		for (int twice = 0; twice < 2; twice++)
			for (uint32_t n = 0; n < sizes[i]; n++) {
				seed = from + n;
				uint64_t hash = n == 5 ? 0 : pick();
				assert_int_equal(distinct_add(d, hash), 0);
				assert_int_equal(distinct_add(n % 3 || twice ? a : b, hash), 0);
			}
		assert_int_equal(distinct_sketch.merge(a, b), 0);
		assert_int_equal(distinct_count(a), distinct_count(d));
		distinct_sketch.save(d, &t);
		assert_int_equal(load_sketch(&distinct_sketch, again, t.bytes, t.len), 0);
		assert_int_equal(distinct_count(again), distinct_count(d));
		for (size_t len = 0; len < t.len; len += 1 + len / 50)
			assert_cut_is_refused(&distinct_sketch, distinct_new(), t.bytes, len);
		double off = fabs((double)distinct_count(d) - sizes[i]);
		assert_true(off <= (sizes[i] <= DISTINCT_EXACT ? 0 : 5 * 0.0081 * sizes[i]));
		assert_true(distinct_sketch.memory(d) <= 17000);
		distinct_sketch.free(d);
		distinct_sketch.free(a);
		distinct_sketch.free(b);
		distinct_sketch.free(again);
		ss_strbuf_done(&t);
	}
}

/* The standard error over many sketches is what it is said to be. */
static void test_distinct_error(void **state)
{
	static const uint32_t sizes[] = {1500, 16384, 40000, 100000};
	enum { TIMES = 60 };

	(void)state;
	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		double squares = 0, sum = 0;
		for (int i = 0; i < TIMES; i++) {
			struct distinct *d = distinct_new();
			for (uint32_t n = 0; n < sizes[s]; n++)
				distinct_add(d, pick());
			double off = (double)distinct_count(d) / sizes[s] - 1;
			squares += off * off;
			sum += off;
			distinct_sketch.free(d);
		}
		assert_true(sqrt(squares / TIMES) < 0.0081 * 1.4);
		assert_true(fabs(sum / TIMES) < 4 * 0.0081 / sqrt(TIMES));
	}
}

/* ---- top ---- */

static void add(void *t, uint32_t value)
{
	char text[16];

	int len = snprintf(text, sizeof text, "%u", value);
	assert_int_equal(heavy_hitters_add(t, (value + 1) * UINT64_C(0x9e3779b97f4a7c15), text, (size_t)len,
					   value % 2),
			 0);
}

static char *printed(const void *t)
{
	struct ss_strbuf out = {0};

	heavy_hitters_sketch.print(&(const struct function){0}, t, &out);
	ss_strbuf_add(&out, "", 1);
	assert_false(out.failed);
	return out.bytes;
}

/* As long as there are no more values than counters it is exact. */
static void test_top_exact(void **state)
{
	void *t = heavy_hitters_new(3), *a = heavy_hitters_new(3), *b = heavy_hitters_new(3),
	     *again = heavy_hitters_new(3);
	struct ss_strbuf saved = {0};

	(void)state;
	for (uint32_t value = 0; value < 100; value++)
		for (uint32_t n = 0; n < (value * 37 % 100) / 2 + 1; n++) {
			add(t, value);
			add(n % 2 ? a : b, value);
		}
	char *text = printed(t);
	/* 27 * 37 = 999, 54 * 37 = 1998: 50 times each; then 81 * 37 = 2997 and 8 * 37 = 296: 49, and so on
	 */
	assert_string_equal(text, "[{\"value\":\"27\",\"count\":50},{\"value\":54,\"count\":50},"
				  "{\"value\":\"81\",\"count\":49}]");
	assert_int_equal(heavy_hitters_sketch.merge(a, b), 0);
	char *merged = printed(a);
	assert_string_equal(merged, text);
	heavy_hitters_sketch.save(t, &saved);
	assert_int_equal(load_sketch(&heavy_hitters_sketch, again, saved.bytes, saved.len), 0);
	char *loaded = printed(again);
	assert_string_equal(loaded, text);
	assert_true(heavy_hitters_sketch.memory(again) > 0 &&
		    heavy_hitters_sketch.memory(again) <= heavy_hitters_sketch.memory(t));
	for (size_t len = 0; len < saved.len; len++)
		assert_cut_is_refused(&heavy_hitters_sketch, heavy_hitters_new(3), saved.bytes, len);
	heavy_hitters_sketch.free(t);
	heavy_hitters_sketch.free(a);
	heavy_hitters_sketch.free(b);
	heavy_hitters_sketch.free(again);
	free(text);
	free(merged);
	free(loaded);
	ss_strbuf_done(&saved);
}

/* With more: never too low, too high by n / counters at most, and whatever is frequent is there. */
static void check_top(const void *t, const uint32_t *real, uint32_t values, uint64_t n, uint32_t k)
{
	char *text = printed(t), *at = text;
	uint64_t counters = k < 10 ? 100 : 10 * k, before = UINT64_MAX;
	bool *seen = calloc(values, 1);
	uint32_t shown = 0;

	assert_non_null(seen);
	while ((at = strstr(at, "{\"value\":"))) {
		at += 9;
		uint32_t value = (uint32_t)strtoul(at + (*at == '"'), &at, 10);
		uint64_t count = strtoull(strstr(at, "count\":") + 7, NULL, 10);
		assert_true(value < values && !seen[value] && count <= before);
		assert_true(count >= real[value] && count <= real[value] + n / counters);
		seen[value] = true;
		before = count;
		shown++;
	}
	assert_int_equal(shown, k);
	for (uint32_t v = 0; v < values; v++) /* whoever is left out may not be above the last shown */
		assert_true(seen[v] || real[v] <= before);
	free(text);
	free(seen);
}

static void test_top_bounds(void **state)
{
	enum { VALUES = 5000, N = 100000 };
	static const uint32_t ks[] = {1, 10, 100};
	uint32_t *real = calloc(VALUES, sizeof *real);

	(void)state;
	assert_non_null(real);
	for (int kind = 0; kind < 3; kind++) {
		uint32_t k = ks[kind];
		void *t = heavy_hitters_new(k), *parts[4];
		memset(real, 0, VALUES * sizeof *real);
		for (int p = 0; p < 4; p++)
			parts[p] = heavy_hitters_new(k);
		for (int i = 0; i < N; i++) {
			uint32_t value = (uint32_t)(pow(unit(), 4) * VALUES);
			real[value]++;
			add(t, value);
			add(parts[pick() % 4], value);
		}
		check_top(t, real, VALUES, N, k);
		for (int p = 1; p < 4; p++)
			assert_int_equal(heavy_hitters_sketch.merge(parts[0], parts[p]), 0);
		check_top(parts[0], real, VALUES, N, k);
		for (int p = 0; p < 4; p++)
			heavy_hitters_sketch.free(parts[p]);
		heavy_hitters_sketch.free(t);
	}
	free(real);
}

static void test_top_limits(void **state)
{
	void *t = heavy_hitters_new(1);
	char *big = calloc(1, HEAVY_HITTERS_VALUE_MAX + 1);

	(void)state;
	memset(big, '7', HEAVY_HITTERS_VALUE_MAX + 1);
	assert_int_equal(heavy_hitters_add(t, 1, big, HEAVY_HITTERS_VALUE_MAX + 1, 0), -E2BIG);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(heavy_hitters_add(t, i + 1, big, HEAVY_HITTERS_VALUE_MAX, 1), 0);
	assert_true(heavy_hitters_sketch.memory(t) < 120000);
	heavy_hitters_sketch.free(t);
	free(big);
}

/* ---- numbers as text ---- */

static const char *double_text(double d)
{
	static char bytes[64];
	struct ss_strbuf t = {0};

	print_double(&t, d);
	assert_true(t.len < sizeof bytes);
	memcpy(bytes, t.bytes, t.len);
	bytes[t.len] = '\0';
	ss_strbuf_done(&t);
	return bytes;
}

static void test_doubles(void **state)
{
	static const struct {
		double d;
		const char *text;
	} cases[] = {
		{0, "0"},
		{-0.0, "0"},
		{1, "1"},
		{-1.5, "-1.5"},
		{0.1, "0.1"},
		{0.30000000000000004, "0.30000000000000004"},
		{123456789012345.67, "123456789012345.67"},
		{123456789.125, "123456789.125"},
		{1e18, "1000000000000000000"},
		{-9223372036854775808.0, "-9.22337203685478e+18"},
		{9007199254740993.0, "9007199254740992"},
		{2251799813685248.5, "2251799813685248.5"},
		{1e300, "1e+300"},
		{1.7976931348623157e308, "1.7976931348623157e+308"},
		{5e-324, "4.94065645841247e-324"},
		{0.000001, "0.000001"},
		{0.0000001, "1e-7"},
		{-0.00000012345, "-1.2345e-7"},
		{INFINITY, "null"},
		{NAN, "null"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (cases[i].d != -9223372036854775808.0) /* one of two is right */
			assert_string_equal(double_text(cases[i].d), cases[i].text);
	assert_true(strtod(double_text(-0x1p63), NULL) == -0x1p63);
	for (int i = 0; i < 300000; i++) {
		double d;
		uint64_t bits = pick();
		switch (i % 4) {
		case 0:
			memcpy(&d, &bits, sizeof d);
			break;
		case 1:
			d = (double)(int64_t)(bits >> 40) / 1000;
			break;
		case 2:
			d = unit() * pow(10, (double)(pick() % 40) - 25);
			break;
		default:
			d = ldexp(1, (int)(bits % 200) - 130);
		}
		if (!isfinite(d))
			continue;
		const char *text = double_text(d);
		if (strtod(text, NULL) != d)
			fail_msg("%.17g is printed as %s", d, text);
	}
}

static void test_integers(void **state)
{
	struct ss_strbuf t = {0};

	(void)state;
	ss_strbuf_int(&t, INT64_MIN);
	ss_strbuf_int(&t, INT64_MAX);
	ss_strbuf_int(&t, 0);
	ss_strbuf_int(&t, -7);
	ss_strbuf_add(&t, "", 1);
	assert_string_equal(t.bytes, "-922337203685477580892233720368547758070-7");
	ss_strbuf_done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quantiles),
		cmocka_unit_test(test_quantiles_bounded),
		cmocka_unit_test(test_quantiles_of_little),
		cmocka_unit_test(test_distinct),
		cmocka_unit_test(test_distinct_error),
		cmocka_unit_test(test_top_exact),
		cmocka_unit_test(test_top_bounds),
		cmocka_unit_test(test_top_limits),
		cmocka_unit_test(test_doubles),
		cmocka_unit_test(test_integers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
