/* SPDX-License-Identifier: MIT */
/* functions and plan: what each function says of a stream, whole, merged of parts and out of a checkpoint;
 * and what a wrong configuration is told. */
#include "helper_aggregate.h"

#define HOUR "{\"type\":\"tumbling\",\"size\":\"1h\"}"

/* The result of functions over documents, without the window; valid until the next. */
static const char *result_of(const char *functions, const char *const *documents)
{
	static char result[4096];
	struct bench b;

	SETUP(&b, .window = HOUR, .functions = functions);
	for (int i = 0; documents[i]; i++)
		assert_true(feed(&b, i, documents[i]));
	engine_flush(b.engine);
	snprintf(result, sizeof result, "%s", strstr(text_of(&b.results), "T11:00:00Z\",") + 12);
	*strstr(result, ",\"partial\"") = '\0';
	teardown(&b);
	return result;
}

#define IS(want, functions, ...)                                                                             \
	assert_string_equal(result_of(functions, (const char *const[]){__VA_ARGS__, NULL}), want)

/* ---- one by one ---- */

static void test_count(void **state)
{
	(void)state;
	IS("\"n\":4,\"v\":2", "{\"n\":\"count\",\"v\":\"count(v)\"}", "{\"v\":1}", "{\"v\":null}", "{}",
	   "{\"v\":\"x\"}");
}

static void test_sum(void **state)
{
	(void)state;
	IS("\"s\":0", "{\"s\":\"sum(v)\"}", "{}");
	IS("\"s\":3", "{\"s\":\"sum(v)\"}", "{\"v\":1}", "{\"v\":2}", "{\"v\":\"7\"}", "{\"v\":null}");
	/* beyond 64 bits */
	IS("\"s\":27670116110564327421", "{\"s\":\"sum(v)\"}", "{\"v\":9223372036854775807}",
	   "{\"v\":9223372036854775807}", "{\"v\":9223372036854775807}");
	IS("\"s\":-18446744073709551616", "{\"s\":\"sum(v)\"}", "{\"v\":-9223372036854775808}",
	   "{\"v\":-9223372036854775808}");
	IS("\"s\":-1", "{\"s\":\"sum(v)\"}", "{\"v\":9223372036854775807}", "{\"v\":-9223372036854775808}");
	IS("\"s\":1", "{\"s\":\"sum(v)\"}", "{\"v\":0.1}", "{\"v\":0.1}", "{\"v\":0.1}", "{\"v\":0.1}",
	   "{\"v\":0.1}", "{\"v\":0.1}", "{\"v\":0.1}", "{\"v\":0.1}", "{\"v\":0.1}", "{\"v\":0.1}");
	IS("\"s\":2", "{\"s\":\"sum(v)\"}", "{\"v\":1e100}", "{\"v\":1}", "{\"v\":1.0}", "{\"v\":-1e100}");
	/* integers before and after a fraction */
	IS("\"s\":0.5", "{\"s\":\"sum(v)\"}", "{\"v\":9007199254740993}", "{\"v\":0.5}",
	   "{\"v\":-9007199254740993}");
	IS("\"s\":null", "{\"s\":\"sum(v)\"}", "{\"v\":1e308}", "{\"v\":1e308}");
	IS("\"s\":null", "{\"s\":\"sum(v)\"}", "{\"v\":1e999}", "{\"v\":1}");
	IS("\"s\":3.6893488147419103e+19", "{\"s\":\"sum(v)\"}", "{\"v\":18446744073709551615}",
	   "{\"v\":18446744073709551615}");
}

/* What rounding took off is merged as well. */
static void test_merged_sums(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = "{\"type\":\"session\",\"gap\":\"5s\"}",
	      .functions = "{\"s\":\"sum(v)\",\"m\":\"mean(v)\"}", .time = "{\"lateness\":\"1m\"}");
	feed(&b, 0, "{\"v\":1e100}");
	feed(&b, 0, "{\"v\":1.5}");
	feed(&b, 8, "{\"v\":-1e100}");
	feed(&b, 8, "{\"v\":1}");
	assert_int_equal(b.engine->groups->n, 2);
	feed(&b, 4, "{}");
	engine_flush(b.engine);
	assert_non_null(strstr(text_of(&b.results), "\"s\":2.5,\"m\":0.625,"));
	teardown(&b);
}

static void test_mean(void **state)
{
	(void)state;
	IS("\"m\":null", "{\"m\":\"mean(v)\"}", "{}");
	IS("\"m\":2", "{\"m\":\"avg(v)\"}", "{\"v\":1}", "{\"v\":2}", "{\"v\":3}");
	IS("\"m\":0.3333333333333333", "{\"m\":\"mean(v)\"}", "{\"v\":1}", "{\"v\":0}", "{\"v\":0}");
	IS("\"m\":-0.5", "{\"m\":\"mean(v)\"}", "{\"v\":9223372036854775807}",
	   "{\"v\":-9223372036854775808}");
	IS("\"m\":9223372036854774784", "{\"m\":\"mean(v)\"}", "{\"v\":9223372036854775000}",
	   "{\"v\":9223372036854775000}");
	IS("\"m\":0.1", "{\"m\":\"mean(v)\"}", "{\"v\":0.1}", "{\"v\":0.1}", "{\"v\":0.1}");
	IS("\"m\":null", "{\"m\":\"mean(v)\"}", "{\"v\":1e999}");
}

static void test_extremes(void **state)
{
	const char *both = "{\"lo\":\"min(v)\",\"hi\":\"max(v)\"}";

	(void)state;
	IS("\"lo\":null,\"hi\":null", both, "{}", "{\"v\":\"1\"}", "{\"v\":true}");
	/* as they were written */
	IS("\"lo\":-1.50,\"hi\":2E1", both, "{\"v\":2E1}", "{\"v\":-1.50}", "{\"v\":0}");
	IS("\"lo\":1.0,\"hi\":1.0", both, "{\"v\":1.0}", "{\"v\":1}", "{\"v\":1e0}"); /* the first */
	IS("\"lo\":9223372036854775806,\"hi\":9223372036854775807", both, "{\"v\":9223372036854775806}",
	   "{\"v\":9223372036854775807}");
	IS("\"lo\":-1e999,\"hi\":1e999", both, "{\"v\":1e999}", "{\"v\":-1e999}", "{\"v\":0}");
	/* too long to be kept as it was written */
	IS("\"lo\":0.1,\"hi\":0.1", both, "{\"v\":0.1000000000000000000000000}");
	IS("\"lo\":-9223372036854775808,\"hi\":9223372036854775807", both, "{\"v\":-9223372036854775808}",
	   "{\"v\":9223372036854775807}");
}

static void test_stddev(void **state)
{
	const char *both =
		"{\"s\":\"stddev(v)\",\"p\":{\"fn\":\"stddev\",\"field\":\"v\",\"population\":true}}";

	(void)state;
	IS("\"s\":null,\"p\":null", both, "{}");
	IS("\"s\":null,\"p\":0", both, "{\"v\":5}");
	IS("\"s\":2,\"p\":1.632993161855452", both, "{\"v\":2}", "{\"v\":4}", "{\"v\":6}");
	/* far from zero */
	IS("\"s\":1,\"p\":0.816496580927726", both, "{\"v\":9223372036854775805}",
	   "{\"v\":9223372036854775806}", "{\"v\":9223372036854775807}");
	IS("\"s\":0.25,\"p\":0.2041241452319315", both, "{\"v\":1000000000000.25}", "{\"v\":1000000000000.5}",
	   "{\"v\":1000000000000.75}");
	IS("\"s\":null,\"p\":null", both, "{\"v\":1e999}", "{\"v\":1}");
}

static void test_edges(void **state)
{
	const char *both = "{\"a\":\"first(v)\",\"z\":\"last(v)\"}";
	char event[5000];
	struct bench b;

	(void)state;
	IS("\"a\":null,\"z\":null", both, "{}", "{\"v\":null}");
	IS("\"a\":true,\"z\":[1, 2]", both, "{\"v\":null}", "{\"v\":true}", "{\"v\":1}", "{\"v\":[1, 2]}",
	   "{}");
	IS("\"a\":\"\",\"z\":\"a \\u00e4\\n much longer text than is kept near\"", both, "{\"v\":\"\"}",
	   "{\"v\":\"a \\u00e4\\n much longer text than is kept near\"}");
	/* by time, not by arrival; of equal times the first, the last to arrive */
	SETUP(&b, .window = HOUR, .functions = both);
	feed(&b, 5, "{\"v\":\"b\"}");
	feed(&b, 9, "{\"v\":\"d\"}");
	feed(&b, 5, "{\"v\":\"c\"}");
	feed(&b, 9, "{\"v\":\"e\"}");
	feed(&b, 7, "{\"v\":\"x\"}");
	feed(&b, 2, "{\"v\":\"a long one that does not fit in\"}");
	feed(&b, 2, "{\"v\":\"a\"}");
	/* a value that is too long is passed over */
	snprintf(event, sizeof event, "{\"v\":\"%04094d\"}", 0);
	feed(&b, 10, event);
	snprintf(event, sizeof event, "{\"v\":\"%04095d\"}", 0);
	feed(&b, 11, event);
	assert_int_equal(b.engine->count.no_memory, 1);
	engine_flush(b.engine);
	assert_non_null(
		strstr(text_of(&b.results), "\"a\":\"a long one that does not fit in\",\"z\":\"0000"));
	teardown(&b);
}

static void test_rate(void **state)
{
	(void)state;
	IS("\"r\":0.0008333333333333334,\"v\":0.0005555555555555556", "{\"r\":\"rate\",\"v\":\"rate(v)\"}",
	   "{\"v\":0.5}", "{\"v\":1.5}", "{\"v\":\"x\"}");
}

static void test_percentiles(void **state)
{
	(void)state;
	IS("\"p\":{\"p0\":1,\"p50\":1.9997051226201592,\"p99.9\":1.9997051226201592,\"p100\":3}",
	   "{\"p\":{\"fn\":\"percentiles\",\"field\":\"v\",\"p\":[0,50,99.9,100],\"accuracy\":0.001}}",
	   "{\"v\":1}", "{\"v\":3}", "{\"v\":\"x\"}", "{\"v\":2.00}");
	IS("\"m\":7,\"q\":7,\"p\":{\"p50\":null}",
	   "{\"m\":\"median(v)\",\"q\":\"p99.99(v)\",\"p\":{\"fn\":\"percentiles\",\"field\":\"w\",\"p\":[50]"
	   "}}",
	   "{\"v\":7}");
}

static void test_distinct_and_top(void **state)
{
	(void)state;
	IS("\"d\":5,\"t\":[{\"value\":1,\"count\":3},{\"value\":\"1\",\"count\":2}]",
	   "{\"d\":\"distinct(v)\",\"t\":{\"fn\":\"top\",\"field\":\"v\",\"k\":2}}", "{\"v\":1}",
	   "{\"v\":1.0}", "{\"v\":10e-1}", "{\"v\":\"1\"}", "{\"v\":\"\\u0031\"}", "{\"v\":true}",
	   "{\"v\":[1]}", "{\"v\":2}", "{\"v\":null}", "{}");
	IS("\"d\":0,\"t\":[]", "{\"d\":\"distinct(v)\",\"t\":\"top(v)\"}", "{}");
}

static void test_histogram(void **state)
{
	(void)state;
	IS("\"h\":[{\"le\":-1,\"count\":1},{\"le\":0.5,\"count\":3},{\"le\":null,\"count\":2}]",
	   "{\"h\":{\"fn\":\"histogram\",\"field\":\"v\",\"bounds\":[-1,0.5]}}", "{\"v\":-1}",
	   "{\"v\":-0.9999}", "{\"v\":0}", "{\"v\":0.5}", "{\"v\":0.50000001}", "{\"v\":1e999}",
	   "{\"v\":\"x\"}");
	/* bounds are compared digit by digit, and written as they stand */
	IS("\"h\":[{\"le\":1.10,\"count\":1},{\"le\":18446744073709551614,\"count\":1},"
	   "{\"le\":18446744073709551615,\"count\":1},{\"le\":1e400,\"count\":1},{\"le\":null,\"count\":1}]",
	   "{\"h\":{\"fn\":\"histogram\",\"field\":\"v\",\"bounds\":[1.10,18446744073709551614,"
	   "18446744073709551615,1e400]}}",
	   "{\"v\":1.1}", "{\"v\":18446744073709551614}", "{\"v\":18446744073709551615}", "{\"v\":1e400}",
	   "{\"v\":1e401}");
}

static void test_large_numbers(void **state)
{
	(void)state;
	IS("\"min\":18446744073709551613,\"max\":18446744073709551615,\"d\":3,\"t\":[{\"value\":"
	   "18446744073709551614,\"count\":2}]",
	   "{\"min\":\"min(v)\",\"max\":\"max(v)\",\"d\":\"distinct(v)\","
	   "\"t\":{\"fn\":\"top\",\"field\":\"v\",\"k\":1}}",
	   "{\"v\":18446744073709551614}", "{\"v\":18446744073709551615}", "{\"v\":18446744073709551613}",
	   "{\"v\":18446744073709551614.0}");
}

static void test_wrong_types_are_counted(void **state)
{
	struct bench b;

	(void)state;
	SETUP(&b, .window = HOUR, .functions = "{\"s\":\"sum(v)\",\"m\":\"max(v)\",\"n\":\"count(v)\"}");
	feed(&b, 0, "{\"v\":\"x\"}");
	feed(&b, 0, "{\"v\":null}");
	feed(&b, 0, "{}");
	assert_int_equal(b.engine->count.wrong_type, 2);
	teardown(&b);
}

/* ---- parts ---- */

static const char all_functions[] =
	"{\"n\":\"count\",\"sum\":\"sum(i)\",\"mean\":\"mean(i)\",\"sd\":\"stddev(i)\",\"lo\":\"min(v)\","
	"\"hi\":\"max(v)\",\"first\":\"first(s)\",\"last\":\"last(s)\",\"rate\":\"rate(i)\",\"p\":"
	"{\"fn\":\"percentiles\",\"field\":\"v\",\"p\":[1,50,99.9]},\"d\":\"distinct(s)\",\"top\":{\"fn\":"
	"\"top\",\"field\":\"t\",\"k\":3},\"h\":{\"fn\":\"histogram\",\"field\":\"v\",\"bounds\":[0,500]}}";

static uint8_t *states_of(struct bench *b, const char *key)
{
	for (uint32_t i = 1; i <= groups_end(b->engine->groups); i++) {
		struct group *c = groups_peek(b->engine->groups, i);
		if (c && c->key_len == strlen(key) && memcmp(group_key(c), key, c->key_len) == 0)
			return group_states(c);
	}
	fail_msg("no group %s", key);
	return NULL;
}

/* Numbers that differ in the last digits are the same here. */
static void assert_same(const char *a, const char *b)
{
	while (*a || *b) {
		char *end_a, *end_b;
		if ((*a >= '0' && *a <= '9') || *a == '-') {
			double x = strtod(a, &end_a), y = strtod(b, &end_b);
			if (!(fabs(x - y) <= 1e-12 * fabs(x)))
				fail_msg("%.30s is not %.30s", b, a);
			a = end_a;
			b = end_b;
		} else {
			if (*a != *b)
				fail_msg("\"%.30s\" is not \"%.30s\"", b, a);
			a++;
			b++;
		}
	}
}

enum { PARTS = 7 };

/* Random events into the group "whole", and each into one of the groups "0" to "6". */
static void feed_parts(struct bench *b)
{
	uint64_t seed = 3;

	for (int i = 0; i < 4000; i++) {
		char event[300];
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		for (int whole = 0; whole < 2; whole++) {
			char key[16] = "whole";
			if (!whole)
				snprintf(key, sizeof key, "%d", (int)(seed >> 35) % PARTS);
			snprintf(event, sizeof event,
				 "{\"k\":\"%s\",\"i\":%d,\"v\":%.3f,\"s\":\"%0*d\",\"t\":%d}", key,
				 (int)(seed >> 40) - 8000000, (double)((int)(seed >> 45) - 200000) / 1000,
				 (int)(seed >> 20 & 63), (int)(seed >> 50), (int)(seed >> 60));
			assert_true(feed(b, (double)(seed >> 54), event));
			b->engine->order -= !whole; /* the same event twice */
		}
	}
}

static char *printed(struct bench *b, const uint8_t *states)
{
	const struct span span = {START, START + SECOND};
	struct ss_strbuf out = {0};

	functions_print(&b->plan.functions, states, &span, &out);
	return (char *)(uintptr_t)text_of(&out);
}

/* Any number of parts, merged in any order, say what the whole says; out of a checkpoint, too. */
static void test_merge(void **state)
{
	static const int orders[][PARTS] = {
		{0, 1, 2, 3, 4, 5, 6}, {6, 2, 4, 0, 1, 3, 5}, {3, 4, 5, 6, 0, 1, 2}};
	struct bench b;

	(void)state;
	SETUP(&b, .window = HOUR, .functions = all_functions, .group_by = "\"k\"");
	struct functions *f = &b.plan.functions;
	feed_parts(&b);
	char *want = printed(&b, states_of(&b, "\"whole\""));
	for (size_t o = 0; o < sizeof orders / sizeof *orders; o++) {
		uint8_t *sum = calloc(1, f->size), *empty = calloc(1, f->size), *again = calloc(1, f->size);
		struct ss_strbuf saved = {0};
		assert_int_equal(functions_merge(f, sum, empty), 0);
		for (int p = 0; p < PARTS; p++) {
			char key[8];
			snprintf(key, sizeof key, "\"%d\"", orders[o][p]);
			assert_int_equal(functions_merge(f, sum, states_of(&b, key)), 0);
			assert_int_equal(functions_merge(f, sum, empty), 0);
			/* what goes on is what came out of bytes */
			saved.len = 0;
			functions_save(f, sum, &saved);
			functions_clear(f, again);
			assert_int_equal(functions_load(f, again, (uint8_t *)saved.bytes, saved.len), 0);
			uint8_t *other = sum;
			sum = again;
			again = other;
		}
		char *got = printed(&b, sum);
		assert_same(want, got);
		free(got);
		functions_clear(f, sum);
		functions_clear(f, again);
		free(sum);
		free(again);
		free(empty);
		ss_strbuf_done(&saved);
	}
	free(want);
	teardown(&b);
}

/* Bytes that are cut off or changed are refused, or give states that can be worked with. */
static void test_hostile_bytes(void **state)
{
	struct bench b;
	struct ss_strbuf saved = {0}, out = {0};
	const struct span span = {START, START + SECOND};

	(void)state;
	SETUP(&b, .window = HOUR, .functions = all_functions, .group_by = "\"k\"");
	struct functions *f = &b.plan.functions;
	feed_parts(&b);
	functions_save(f, states_of(&b, "\"0\""), &saved);
	uint8_t *states = calloc(1, f->size);
	for (size_t len = 0; len < saved.len; len += 1 + len / 30) {
		uint8_t *exact = malloc(len + !len);
		memcpy(exact, saved.bytes, len);
		assert_int_equal(functions_load(f, states, exact, len), -EINVAL);
		free(exact);
	}
	for (size_t at = 0; at < saved.len; at += 1 + at / 100)
		for (int value = 0; value < 256; value += 51) {
			char before = saved.bytes[at];
			saved.bytes[at] = (char)value;
			if (functions_load(f, states, (uint8_t *)saved.bytes, saved.len) == 0) {
				out.len = 0;
				functions_print(f, states, &span, &out);
				functions_clear(f, states);
			}
			saved.bytes[at] = before;
		}
	free(states);
	ss_strbuf_done(&saved);
	ss_strbuf_done(&out);
	teardown(&b);
}

/* ---- configurations ---- */

static void test_config_errors(void **state)
{
	static const struct {
		const char *window, *functions, *group_by, *time, *checkpoint, *error;
		int64_t early_ns, when_full;
	} cases[] = {
#define WINDOW(text)    .window = text
#define FUNCTIONS(text) .functions = text
#define F(text)         .functions = "{\"x\":" text "}"
		{WINDOW("5"), .error = "/window: must be an object such as {\"type\": \"tumbling\""},
		{WINDOW("{}"),
		 .error = "/window: \"type\" is missing: \"tumbling\", \"sliding\" or \"session\""},
		{WINDOW("{\"type\":\"thumbling\"}"), .error = "/window/type: *did you mean \"tumbling\"?"},
		{WINDOW("{\"type\":7}"),
		 .error = "/window/type: expected \"tumbling\", \"sliding\" or \"session\", found a number"},
		{WINDOW("{\"type\":\"tumbling\"}"), .error = "/window: \"size\" is missing"},
		{WINDOW("{\"type\":\"tumbling\",\"size\":10}"),
		 .error = "/window/size: expected a duration such as \"10s\", found a number"},
		{WINDOW("{\"type\":\"tumbling\",\"size\":\"0s\"}"),
		 .error = "/window/size: the duration must be longer than \"0s\""},
		{WINDOW("{\"type\":\"tumbling\",\"size\":\"10 s\"}"),
		 .error = "/window/size: \"10 s\" is no"},
		{WINDOW("{\"type\":\"tumbling\",\"size\":\"367d\"}"),
		 .error = "/window/size: must be at most 366 days"},
		{WINDOW("{\"type\":\"tumbling\",\"szie\":\"1s\"}"),
		 .error = "/window/szie: unknown key; did you mean \"size\"?"},
		{WINDOW("{\"type\":\"tumbling\",\"size\":\"1s\",\"every\":\"1s\"}"),
		 .error = "/window/every: does not apply to tumbling windows"},
		{WINDOW("{\"type\":\"tumbling\",\"size\":\"1s\",\"gap\":\"1s\"}"),
		 .error = "/window/gap: does not apply to tumbling windows"},
		{WINDOW("{\"type\":\"session\",\"gap\":\"1s\",\"offset\":\"1s\"}"),
		 .error = "/window/offset: does not apply to session windows"},
		{WINDOW("{\"type\":\"session\",\"size\":\"1s\"}"), .error = "/window: \"gap\" is missing"},
		{WINDOW("{\"type\":\"sliding\",\"size\":\"1s\"}"), .error = "/window: \"every\" is missing"},
		{WINDOW("{\"type\":\"sliding\",\"size\":\"1s\",\"every\":\"2s\"}"),
		 .error = "/window/every: must not be more than \"size\""},
		{WINDOW("{\"type\":\"sliding\",\"size\":\"1s\",\"every\":\"333ms\"}"), .error = NULL},
		{WINDOW("{\"type\":\"sliding\",\"size\":\"1s\",\"every\":\"333us\"}"),
		 .error = "/window/every: splits each window into 1000000 panes, at most 1000 are allowed"},
		{WINDOW("{\"type\":\"tumbling\",\"type\":\"sliding\"}"), .error = "/window: not valid JSON"},
		{FUNCTIONS("[]"), .error = "/functions: must be an object of 1 to 256 functions"},
		{FUNCTIONS("{}"), .error = "/functions: must be an object of 1 to 256 functions"},
		{F("5"),
		 .error = "/functions/x: must be a string such as \"mean(value)\" or an object, found a "
			  "number"},
		{F("\"\""), .error = "/functions/x: \"\" is not a function"},
		{F("\"mean(\""), .error = "/functions/x: \"mean(\" is not a function"},
		{F("\"mean()\""), .error = "/functions/x: \"mean()\" is not a function"},
		{F("\"mean\""), .error = "/functions/x: mean needs a field: \"mean(field)\""},
		{F("\"maen(v)\""), .error = "/functions/x: unknown function \"maen\"; did you mean \"mean\"? "
					    "(known: count, sum, mean, "},
		{F("\"p101(v)\""), .error = "/functions/x/p: must be a number from 0 to 100"},
		{F("\"p9x(v)\""), .error = "/functions/x: unknown function \"p9x\""},
		{F("\"mean(a..b)\""), .error = "/functions/x/field: \"a..b\" is not a path"},
		{F("{\"field\":\"v\"}"), .error = "/functions/x: \"fn\" must name a function"},
		{F("{\"fn\":3}"), .error = "/functions/x/fn: \"fn\" must name a function"},
		{F("{\"fn\":\"cuont\"}"),
		 .error = "/functions/x/fn: unknown function \"cuont\"; did you mean"},
		{F("{\"fn\":\"sum\",\"field\":1}"), .error = "/functions/x/field: must be a string"},
		{F("{\"fn\":\"sum\",\"field\":\"v\",\"of\":1}"), .error = "/functions/x/of: unknown key"},
		{F("{\"fn\":\"percentiles\",\"field\":\"v\"}"),
		 .error = "/functions/x: \"p\" must be a number"},
		{F("{\"fn\":\"percentiles\",\"field\":\"v\",\"p\":[]}"),
		 .error = "/functions/x/p: \"p\" must be"},
		{F("{\"fn\":\"percentiles\",\"field\":\"v\",\"p\":[50,\"99\"]}"),
		 .error = "/functions/x/p: must be a number from 0 to 100"},
		{F("{\"fn\":\"percentiles\",\"field\":\"v\",\"p\":50,\"accuracy\":0.0001}"),
		 .error = "/functions/x/accuracy: must be a relative error from 0.001 to 0.2"},
		{F("{\"fn\":\"percentiles\",\"field\":\"v\",\"p\":50,\"acuracy\":0.1}"),
		 .error = "/functions/x/acuracy: unknown key; did you mean \"accuracy\"?"},
		{F("{\"fn\":\"stddev\",\"field\":\"v\",\"population\":1}"),
		 .error = "/functions/x/population: must be true or false, found a number"},
		{F("{\"fn\":\"histogram\",\"field\":\"v\"}"),
		 .error = "/functions/x: \"bounds\" must be a list"},
		{F("{\"fn\":\"histogram\",\"field\":\"v\",\"bounds\":[2,1]}"),
		 .error = "/functions/x/bounds: must be ascending numbers"},
		{F("{\"fn\":\"histogram\",\"field\":\"v\",\"bounds\":[\"1\"]}"),
		 .error = "/functions/x/bounds: must be ascending numbers"},
		{F("{\"fn\":\"top\",\"field\":\"v\",\"k\":0}"),
		 .error = "/functions/x/k: must be an integer from 1"},
		{F("{\"fn\":\"top\",\"field\":\"v\",\"k\":1001}"),
		 .error = "/functions/x/k: must be an integer"},
		{FUNCTIONS("{\"window_end\":\"count\"}"),
		 .error = "/functions: \"window_end\" is reserved: every result has a member of that name"},
		{.group_by = "5",
		 .error = "/group_by: must be a string, the path of a field, found a number"},
		{.group_by = "[\"a\",5]", .error = "/group_by/1: must be a string"},
		{.group_by = "[\"a\",\"a\"]", .error = "/group_by/1: \"a\" is listed twice"},
		{.group_by = "\"n\"", .error = "/functions: \"n\" is a group_by field, too"},
		{.group_by = "\"partial\"",
		 .error = "/group_by: \"partial\" is reserved: every result has a member of that name"},
		{.group_by = "\"a..b\"", .error = "/group_by: \"a..b\" is not a path"},
		{.group_by = "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]", .error = "/group_by/0: must be"},
		{.group_by = "[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\",\"j\",\"k\",\"l\",\"m\","
			     "\"o\",\"p\",\"q\",\"r\"]",
		 .error = "/group_by/16: at most 16 fields are allowed"},
		{.time = "5", .error = "/time: must be an object such as {\"field\": \"ts\""},
		{.time = "{\"feild\":\"t\"}", .error = "/time/feild: unknown key; did you mean \"field\"?"},
		{.time = "{\"field\":7}", .error = "/time/field: must be a string"},
		{.time = "{\"field\":\"t..u\"}", .error = "/time/field: \"t..u\" is not a path"},
		{.time = "{\"format\":\"ms\"}", .error = "/time/format: applies only with \"field\""},
		{.time = "{\"max_ahead\":\"1s\"}", .error = "/time/max_ahead: applies only with \"field\""},
		{.time = "{\"field\":\"t\",\"format\":\"hours\"}",
		 .error = "/time/format: expected \"rfc3339\""},
		{.time = "{\"lateness\":\"soon\"}", .error = "/time/lateness: \"soon\" is not a duration"},
		{.time = "{\"lateness\":\"0s\",\"idle\":\"0s\",\"field\":\"t\",\"max_ahead\":\"0s\"}",
		 .error = NULL},
		{.time = "{\"idle\":5}", .error = "/time/idle: expected a duration"},
		{.time = "{\"late\":\"keep\"}", .error = "/time/late: expected \"drop\" or \"emit\""},
		{.checkpoint = "\"x\"", .error = "/checkpoint: must be an object such as {\"path\""},
		{.checkpoint = "{}", .error = "/checkpoint: \"path\" is missing"},
		{.checkpoint = "{\"path\":\"x\",\"intervall\":\"1s\"}",
		 .error = "/checkpoint/intervall: unknown key; did you mean \"interval\"?"},
		{.checkpoint = "{\"path\":\"x\",\"interval\":\"2h\"}",
		 .error = "/checkpoint/interval: must be from \"10ms\" to \"1h\""},
		{WINDOW("{\"type\":\"sliding\",\"size\":\"2s\",\"every\":\"1s\"}"), .early_ns = SECOND,
		 .error = "/early: does not apply to sliding windows"},
		{WINDOW("{\"type\":\"session\",\"gap\":\"2s\"}"), .when_full = FULL_OVERFLOW,
		 .error = "/when_full: must be \"oldest\" with session windows"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct bench b;
		const struct conf conf = {.window = cases[i].window ? cases[i].window : HOUR,
					  .functions = cases[i].functions ? cases[i].functions
									  : "{\"n\":\"count\"}",
					  .group_by = cases[i].group_by,
					  .time = cases[i].time,
					  .checkpoint = cases[i].checkpoint,
					  .early_ns = cases[i].early_ns,
					  .when_full = cases[i].when_full};
		int rc = try_setup(&b, conf);
		const char *errors = text_of(&b.errors), *want = cases[i].error;
		if (rc != (want ? -EINVAL : 0))
			fail_msg("case %zu is accepted", i);
		const char *star = want ? strchr(want, '*') : NULL;
		if (want && (strncmp(errors, want, star ? (size_t)(star - want) : strlen(want)) != 0 ||
			     (star && !strstr(errors, star + 1))))
			fail_msg("not \"%s\" but: %s", want, errors);
		teardown(&b);
	}
}

/* Blanks make no difference to a checkpoint, anything else does. */
static void test_fingerprint(void **state)
{
	static const struct {
		struct conf conf;
		bool same;
	} cases[] = {
		{{.window = HOUR, .functions = "{\"a\":\"count\",\"b\":\"sum(v)\"}"}, true},
		{{.window = "{ \"type\": \"tumbling\", \"size\": \"1h\" }",
		  .functions = "{\"a\": \"count\",\"b\": \"sum(v)\"}"},
		 true},
		{{.window = HOUR, .functions = "{\"b\":\"sum(v)\",\"a\":\"count\"}"}, false},
		{{.window = HOUR, .functions = "{\"a\":\"count\",\"b\":\"sum(w)\"}"}, false},
		{{.window = HOUR, .functions = "{\"a\":\"count\",\"b\":\"sum(v)\"}", .group_by = "\"k\""},
		 false},
		{{.window = "{\"type\":\"tumbling\",\"size\":\"2h\"}",
		  .functions = "{\"a\":\"count\",\"b\":\"sum(v)\"}"},
		 false},
	};
	uint64_t first = 0;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct bench b;
		assert_int_equal(try_setup(&b, cases[i].conf), 0);
		first = i ? first : b.plan.fingerprint;
		assert_int_equal(b.plan.fingerprint == first, cases[i].same);
		teardown(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_count),
		cmocka_unit_test(test_sum),
		cmocka_unit_test(test_merged_sums),
		cmocka_unit_test(test_mean),
		cmocka_unit_test(test_extremes),
		cmocka_unit_test(test_stddev),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_percentiles),
		cmocka_unit_test(test_distinct_and_top),
		cmocka_unit_test(test_histogram),
		cmocka_unit_test(test_large_numbers),
		cmocka_unit_test(test_wrong_types_are_counted),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_hostile_bytes),
		cmocka_unit_test(test_config_errors),
		cmocka_unit_test(test_fingerprint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
