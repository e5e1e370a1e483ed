/* SPDX-License-Identifier: MIT */
/* filter: configuration errors, events that cannot be judged, batches, deadband and rate limit. */
#include "helper_filter.h"

/* ---- configuration errors ---------------------------------------------------------------------- */

struct error_case {
	const char *option, *text, *error; /* the error line begins like this; "*" stands for anything */
};

static void test_config_errors(void **state)
{
	static const struct error_case cases[] = {
		{"where", "5", "/where: a condition is an object such as*found a number"},
		{"where", "[]", "/where: must be a list of at least one condition"},
		{"where", "[" EXISTS ",null]", "/where/1: a condition is an object*found null"},
		{"where", "{\"or\":[" EXISTS ",{\"field\":\"f\",\"op\":\"egals\",\"value\":1}]}",
		 "/where/or/1/op: unknown operator \"egals\"*known are eq, ne, gt, gte, lt, lte, contains, "
		 "array_contains, starts_with, ends_with, regex, in, not_in, between, length_eq, length_ne, "
		 "length_gt, length_gte, length_lt, length_lte, exists"},
		{"where", COND("start_with", "\"x\""),
		 "/where/op: unknown operator \"start_with\" (did you mean \"starts_with\"?"},
		{"where", "{\"field\":\"f\",\"value\":1}", "/where: \"op\" is missing"},
		{"where", "{\"field\":\"f\",\"op\":7,\"value\":1}", "/where/op: must be a string"},
		{"where", "{\"op\":\"eq\",\"value\":1}", "/where: \"field\" is missing"},
		{"where", "{\"field\":1,\"op\":\"eq\",\"value\":1}",
		 "/where/field: must be a string, found a number"},
		{"where", "{\"field\":\"f\",\"op\":\"eq\"}", "/where: \"value\" is missing"},
		{"where", "{\"field\":\"f\",\"op\":\"eq\",\"valeu\":1}",
		 "/where/valeu: unknown key; did you mean \"value\"?"},
		{"where", "{\"a/b~\":1,\"field\":\"f\",\"op\":\"exists\"}", "/where/a~1b~0: unknown key"},
		{"where", "{\"field\":\"a..b\",\"op\":\"exists\"}", "/where/field: \"a..b\" is not a path"},
		{"where", "[" EXISTS ",{\"field\":\"/a~2\",\"op\":\"exists\"}]",
		 "/where/1/field: \"/a~2\" is not a path"},
		{"where", COND("eq", "[1]"),
		 "/where/value: \"eq\" takes a string, a number, a boolean or null, found an array"},
		{"where", COND("gt", "true"),
		 "/where/value: \"gt\" takes a number or a string, found a boolean"},
		{"where", COND("lte", "\"-2.5\""),
		 "/where/value: \"-2.5\" would be compared as text; to compare numbers write -2.5 without "
		 "quotes"},
		{"where", COND("between", "[\"1\",\"9\"]"), "/where/value: \"9\" would be compared as text"},
		{"where", COND("starts_with", "5"),
		 "/where/value: \"starts_with\" takes a string, found a number"},
		{"where", COND("in", "5"), "/where/value: \"in\" takes a list of values, found a number"},
		{"where", COND("in", "[]"), "/where/value: must list 1 to 10000 values"},
		{"where", COND("not_in", "[1,{}]"), "/where/value/1: must be a string*found an object"},
		{"where", COND("exists", "1"),
		 "/where/value: \"exists\" takes true or false, found a number"},
		{"where", COND("regex", "\"a(b\""),
		 "/where/value: the regular expression does not compile, byte 4: "},
		{"where", COND("regex", "\"a\\\\Cb\""),
		 "/where/value: the regular expression does not compile"},
		{"where", FOLD("gt", "\"a\""), "/where/ignore_case: is only possible with"},
		{"where", FOLD("eq", "5"), "/where/ignore_case: is only possible with"},
		{"where", "{\"field\":\"f\",\"op\":\"eq\",\"value\":\"x\",\"ignore_case\":1}",
		 "/where/ignore_case: must be true or false"},
		{"where", "{\"and\":[" EXISTS "],\"or\":[" EXISTS "]}", "/where/and: must be the only key"},
		{"where", "{\"and\":{}}", "/where/and: must be a list of at least one condition"},
		{"where", "{\"not\":[" EXISTS "]}", "/where/not: a condition is an object"},
		{"where", "{\"field\":99999999999999999999,\"op\":\"exists\"}",
		 "/where/field: must be a string, found a number"},
		{"where", COND("lt", "\"1e400\""), "/where/value: \"1e400\" would be compared as text"},
		{"where", COND("lt", "\"18446744073709551615\""),
		 "/where/value: \"18446744073709551615\" would be compared as text"},
		{"deadband", "5", "/deadband: must be an object, found a number"},
		{"deadband", "{\"threshold\":1}", "/deadband: \"field\" is missing"},
		{"deadband", "{\"field\":\"v\"}", "/deadband: \"threshold\" is missing"},
		{"deadband", "{\"field\":\"v\",\"threshold\":0}",
		 "/deadband/threshold: must be a number greater than 0"},
		{"deadband", "{\"field\":\"v\",\"threshold\":\"5\"}",
		 "/deadband/threshold: must be a number greater than 0"},
		{"deadband", "{\"field\":\"v\",\"threshold\":\"1.2.3%\"}",
		 "/deadband/threshold: must be a number greater than 0"},
		{"deadband", "{\"field\":\"v\",\"threshold\":1,\"max_interval\":5}",
		 "/deadband/max_interval: expected a duration"},
		{"deadband", "{\"field\":\"v\",\"threshold\":1,\"max_interval\":\"5 s\"}",
		 "/deadband/max_interval: \"5 s\" is not a duration"},
		{"deadband", "{\"field\":\"v\",\"threshold\":1,\"max_interval\":\"999999999d\"}",
		 "/deadband/max_interval: the duration \"999999999d\" is too long"},
		{"deadband", "{\"field\":\"v\",\"threshold\":1,\"keys\":\"k\"}",
		 "/deadband/keys: unknown key; did you mean \"key\"?"},
		{"deadband", "{\"field\":\"v\",\"threshold\":1,\"key\":\".\"}",
		 "/deadband/key: \".\" is not a path"},
		{"rate_limit", "{}", "/rate_limit: \"events\" is missing"},
		{"rate_limit", "{\"events\":0}", "/rate_limit/events: \"events\" must be an integer from 1"},
		{"rate_limit", "{\"events\":1,\"per\":\"0s\"}",
		 "/rate_limit/per: the duration must be longer than \"0s\""},
		{"rate_limit", "{\"events\":1,\"burst\":1000000000,\"per\":\"1h\"}",
		 "/rate_limit/burst: too large for so long a"},
		{"rate_limit", "{\"events\":18446744073709551615}",
		 "/rate_limit/events: \"events\" must be an integer from 1"},
		{"rate_limit", "{\"events\":1,\"key\":5}", "/rate_limit/key: must be a string"},
		{"rate_limit", "{\"events\":1,\"key\":[]}",
		 "/rate_limit/key: must be the path of a field, or"},
		{"rate_limit",
		 "{\"events\":1,\"key\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]}",
		 "/rate_limit/key: must be the path of a field, or an array of 1 to 8 paths"},
		{"rate_limit", "{\"events\":1,\"key\":[\"a\",5]}",
		 "/rate_limit/key/1: must be a string, the path of a field, found a number"},
		{"sample", "{\"one_in\":2,\"key\":[\"a\",\".\"]}", "/sample/key/1: \".\" is not a path"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct instance t;

		assert_int_equal(try_create(&t, (const char *const[]){cases[i].option, cases[i].text, NULL}),
				 -EINVAL);
		if (!has_line(t.host.errors, cases[i].error))
			fail_msg("%s: got\n%swanted\n%s", cases[i].text, t.host.errors, cases[i].error);
		finish(&t);
	}
}

static void test_all_errors_at_once(void **state)
{
	struct instance t;

	(void)state;
	assert_int_equal(
		try_create(&t,
			   (const char *const[]){"where",
						 "[" COND("eqq", "1") ",{\"not\":" COND("gt", "null") "}]",
						 "deadband", "{}", "rate_limit", "{\"evnts\":1}", NULL}),
		-EINVAL);
	assert_true(has_line(t.host.errors, "/where/0/op: unknown operator"));
	assert_true(has_line(t.host.errors, "/where/1/not/value: \"gt\" takes"));
	assert_true(has_line(t.host.errors, "/deadband: \"field\" is missing"));
	assert_true(has_line(t.host.errors, "/deadband: \"threshold\" is missing"));
	assert_true(has_line(t.host.errors, "/rate_limit/evnts: unknown key; did you mean \"events\"?"));
	finish(&t);
}

static void test_config_limits(void **state)
{
	static char text[64 << 10];
	struct instance t;
	size_t len;

	(void)state;
	len = 0;
	for (int i = 0; i < 33; i++)
		len += (size_t)sprintf(text + len, "{\"not\":");
	len += (size_t)sprintf(text + len, EXISTS);
	memset(text + len, '}', 33);
	text[len + 33] = '\0';
	assert_int_equal(try_create(&t, (const char *const[]){"where", text, NULL}), -EINVAL);
	assert_non_null(strstr(t.host.errors, "nested more than 32 levels deep"));
	finish(&t);
	for (int n = 256; n <= 257; n++) {
		len = (size_t)sprintf(text, "[");
		for (int i = 0; i < n; i++)
			len += (size_t)sprintf(text + len, "%s{\"field\":\"f%d\",\"op\":\"exists\"}",
					       i ? "," : "", i);
		sprintf(text + len, "]");
		int32_t r = try_create(&t, (const char *const[]){"where", text, NULL});
		assert_int_equal(r, n > 256 ? -EINVAL : 0);
		if (n > 256)
			assert_true(has_line(t.host.errors, "/where/0: more than 256 conditions"));
		finish(&t);
	}
}

/* ---- events that cannot be judged -------------------------------------------------------------- */

static void test_not_json(void **state)
{
	static char deep[201];
	const char *const events[] = {"{\"f\":5}", "hello",           "", "{\"f\":5", "{\"f\":5}x",
				      deep,        "{\"f\":\"\xff\"}"};
	char passed[8];
	struct instance t;

	(void)state;
	memset(deep, '[', 100);
	memset(deep + 100, ']', 100);
	CREATE(&t, "where", COND("eq", "5"));
	run(&t, events, NULL, 7, passed);
	assert_string_equal(passed, "1000000");
	assert_int_equal(t.host.dropped[NOT_JSON], 5);
	assert_int_equal(t.host.dropped[TOO_DEEP], 1);
	assert_int_equal(t.host.metrics[NOT_JSON], 5);
	assert_int_equal(t.host.metrics[TOO_DEEP], 1);
	assert_true(has_line(t.host.log,
			     "WARN Events that are not valid JSON are dropped; see the option on_error "
			     "offset=0 reason=\"an unexpected character\" start=\"hello\""));
	assert_true(has_line(t.host.log,
			     "WARN Events nested more than 64 levels deep are dropped; see the "
			     "option on_error offset=64 reason=\"nested more than 64 levels deep\" "
			     "start=\"[[[["));
	finish(&t);

	CREATE(&t, "where", COND("eq", "5"), "on_error", "pass");
	run(&t, events, NULL, 7, passed);
	assert_string_equal(passed, "1111111");
	assert_int_equal(t.host.dropped[NOT_JSON], 0);
	assert_int_equal(t.host.metrics[NOT_JSON], 5);
	assert_true(has_line(t.host.log,
			     "WARN Events that are not valid JSON are passed on; see the option on_error"));
	finish(&t);

	CREATE(&t, "on_error", "drop"); /* nothing is asked: nothing is looked at */
	run(&t, events, NULL, 7, passed);
	assert_string_equal(passed, "1111111");
	finish(&t);
}

static void test_regex_gives_up(void **state)
{
	char *text = malloc(20000);
	const char *event = text;
	char passed[2];
	struct instance t;

	(void)state;
	/* (a+)+ on a's without the end: exponential */
	sprintf(text, "{\"f\":\"%s!\"}", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	CREATE(&t, "where", "{\"not\":" COND("regex", "\"^(a+)+$\"") "}");
	run(&t, &event, NULL, 1, passed);
	assert_string_equal(passed, "0"); /* not inverted: it is unknown */
	assert_int_equal(t.host.dropped[REGEX_LIMIT], 1);
	assert_int_equal(t.host.metrics[REGEX_LIMIT], 1);
	assert_true(passes(&t, "{\"f\":\"b\"}"));
	finish(&t);

	/* a long string is not looked at, unless for a literal */
	memset(text, 'x', 10000);
	memcpy(text, "{\"f\":\"", 6);
	strcpy(text + 10000, "END\"}");
	CREATE(&t, "where", COND("regex", "\"END$\""));
	run(&t, &event, NULL, 1, passed);
	assert_string_equal(passed, "0");
	assert_int_equal(t.host.dropped[REGEX_LIMIT], 1);
	finish(&t);
	CREATE(&t, "where", FOLD("ends_with", "\"end\""));
	assert_true(passes(&t, text));
	finish(&t);

	CREATE(&t, "where", COND("regex", "\"END$\""), "on_error", "pass");
	run(&t, &event, NULL, 1, passed);
	assert_string_equal(passed, "1");
	assert_int_equal(t.host.dropped[REGEX_LIMIT], 0);
	finish(&t);
	free(text);
}

/* An event {"f":"..."} of that many bytes in the string, all c. */
static char *long_event(size_t len, char c)
{
	char *text = malloc(len + 16);

	assert_non_null(text);
	memcpy(text, "{\"f\":\"", 6);
	memset(text + 6, c, len);
	strcpy(text + 6 + len, "\"}");
	return text;
}

/* Patterns whose cost is the cube of the length or worse end after a while; the next event is none the worse.
 */
static void test_hostile_patterns(void **state)
{
	static const struct {
		const char *where, *good;
		bool gives_up;
	} cases[] = {
		{COND("regex", "\"(.+)\\\\1[!?]\""), "{\"f\":\"abab!\"}", true},
		{COND("regex", "\"(?:a+){3}[!?]\""), "{\"f\":\"aaa!\"}", true},
		{COND("regex", "\"(a?){30}a{30}[!?]\""),
		 "{\"f\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\"}", true},
		{COND("regex", "\"(?:a|a)*[?!]\""), "{\"f\":\"?\"}", true},
		{COND("regex", "\"a.*a.*a.*[!?]\""), "{\"f\":\"abaca!\"}", true},
		{COND("regex", "\"a{1,20}[!?]\""), "{\"f\":\"a!\"}", false},
		{COND("regex", "\"b\""), "{\"f\":\"ab\"}", false},
	};
	char *event = long_event(8192, 'a');

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct instance t;
		char passed[2];

		CREATE(&t, "where", cases[i].where);
		run(&t, (const char *const[]){event}, NULL, 1, passed);
		assert_string_equal(passed, "0");
		if (t.host.dropped[REGEX_LIMIT] != cases[i].gives_up)
			fail_msg("%s: gave up %d", cases[i].where, !cases[i].gives_up);
		assert_true(passes(&t, cases[i].good));
		finish(&t);
	}
	free(event);
}

/* A long string is searched in pieces: a match is found wherever it begins, also behind and within
 * characters. */
static void test_regex_pieces(void **state)
{
	struct instance t;

	(void)state;
	CREATE(&t, "where", COND("regex", "\"(?<=[a\xc3\xa9])bc+$\""));
	for (size_t len = 250; len < 420; len++) {
		char *event = long_event(len, 'a');

		memcpy(event + 6 + len - 4, "bccc", 4);
		assert_true(passes(&t, event));
		event[6 + len - 5] = 'b';
		event[6 + len - 4] = 'x';
		assert_false(passes(&t, event));
		for (size_t i = len % 2; i + 4 < len; i += 2)
			memcpy(event + 6 + i, "\xc3\xa9", 2);
		memcpy(event + 6 + len - 4, "bccc", 4);
		assert_true(passes(&t, event));
		free(event);
	}
	finish(&t);
}

static void test_long_list_without_case(void **state)
{
	static char where[64 << 10];
	size_t len =
		(size_t)sprintf(where, "{\"field\":\"f\",\"op\":\"in\",\"ignore_case\":true,\"value\":[");
	struct instance t;

	(void)state;
	for (int i = 0; i < 4000; i++)
		len += (size_t)sprintf(where + len, "%s\"k%d\"", i ? "," : "", i);
	sprintf(where + len, "]}");
	CREATE(&t, "where", where);
	assert_true(passes(&t, "{\"f\":\"K3999\"}"));
	assert_false(passes(&t, "{\"f\":\"K4000\"}"));
	finish(&t);
}

/* ---- batches ----------------------------------------------------------------------------------- */

static void test_rest(void **state)
{
	const char *const events[] = {"{\"f\":1}", "{\"f\":2}", "x", "{\"f\":3}", "{\"f\":4}"};
	char passed[6];
	struct instance t;

	(void)state;
	CREATE(&t, "where", COND("gt", "2"));
	run(&t, events, NULL, 5, passed);
	char *match = ss_test_host_text(&t.host, MATCH), *rest = ss_test_host_text(&t.host, REST);
	assert_string_equal(match, "{\"f\":3}\n{\"f\":4}\n");
	assert_string_equal(rest, "{\"f\":1}\n{\"f\":2}\n");
	assert_int_equal(t.host.dropped[NOT_JSON], 1);
	free(match);
	free(rest);
	finish(&t);
}

static void test_whole_batches(void **state)
{
	const char *const events[] = {"{\"f\":1}", "{\"f\":2}"};
	struct instance t;

	(void)state;
	CREATE(&t, "where", COND("gt", "0"));
	struct ss_batch *batch = ss_test_host_batch(&t.host, events, 2);
	assert_int_equal(plugin()->process(t.host.self, 0, batch), SS_DONE);
	assert_int_equal(t.host.n_emitted, 1);
	assert_ptr_equal(t.host.emitted[0].batch, batch); /* all pass: no copy of the index */
	t.host.host.batch_unref(batch);
	finish(&t);

	CREATE(&t, "where", COND("gt", "2"));
	batch = ss_test_host_batch(&t.host, events, 2);
	assert_int_equal(plugin()->process(t.host.self, 0, batch), SS_DONE);
	assert_int_equal(t.host.n_emitted, 1);
	assert_int_equal(t.host.emitted[0].port, REST);
	assert_ptr_equal(t.host.emitted[0].batch, batch);
	t.host.host.batch_unref(batch);
	finish(&t);
}

static void test_huge_batch(void **state)
{
	const uint32_t n = 200000;
	const char **events = calloc(n, sizeof *events);
	char *passed = malloc(n + 1);
	char numbers[1000][16];
	struct instance t;

	(void)state;
	for (uint32_t i = 0; i < 1000; i++)
		sprintf(numbers[i], "{\"f\":%u}", i);
	for (uint32_t i = 0; i < n; i++)
		events[i] = numbers[i % 1000];
	CREATE(&t, "where", COND("gte", "300"));
	run(&t, events, NULL, 1, passed); /* first a small one: the row array has to grow */
	ss_test_host_clear(&t.host);
	run(&t, events, NULL, n, passed);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(passed[i], i % 1000 >= 300 ? '1' : '0');
	assert_int_equal(t.host.emitted[0].batch->count + t.host.emitted[1].batch->count, n);
	finish(&t);
	free(events);
	free(passed);
}

static void test_out_of_memory(void **state)
{
	const char *const events[] = {"{\"f\":1}", "{\"f\":2}"};
	struct instance t;

	(void)state;
	for (uint32_t good = 0; good < 2; good++) {
		CREATE(&t, "where", COND("gt", "1"));
		struct ss_batch *batch = ss_test_host_batch(&t.host, events, 2);
		t.host.fail_batch_new = good;
		assert_int_equal(plugin()->process(t.host.self, 0, batch), good ? SS_DONE : -ENOMEM);
		assert_int_equal(t.host.n_emitted, good);
		assert_int_equal(t.host.dropped[NO_MEMORY], good);
		t.host.host.batch_unref(batch);
		finish(&t);
	}
}

/* ---- deadband and rate limit ------------------------------------------------------------------- */

struct timed {
	const char *event;
	uint64_t at_ns;
	bool passes;
};

static void check_timed(struct instance *t, const struct timed *steps, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char passed[2];

		run(t, &steps[i].event, &steps[i].at_ns, 1, passed);
		if ((passed[0] == '1') != steps[i].passes)
			fail_msg("step %zu, %s: not %d", i, steps[i].event, steps[i].passes);
	}
}
#define STEPS(t, ...)                                                                                        \
	do {                                                                                                 \
		const struct timed steps_[] = {__VA_ARGS__};                                                 \
		check_timed(t, steps_, sizeof steps_ / sizeof *steps_);                                      \
	} while (0)

static void test_deadband(void **state)
{
	struct instance t;

	(void)state;
	CREATE(&t, "deadband", "{\"field\":\"v\",\"key\":\"id\",\"threshold\":0.3,\"max_interval\":\"10s\"}");
	STEPS(&t, {"{\"id\":1,\"v\":0.4}", 0, true}, {"{\"id\":1,\"v\":0.5}", 0, false},
	      {"{\"id\":1,\"v\":0.2}", 0, false},
	      {"{\"id\":1,\"v\":0.7}", 0, true}, /* 0.3, but for rounding */
	      {"{\"id\":1,\"v\":0.5}", 0, false},
	      {"{\"id\":1,\"v\":0.4}", 0, true}, /* against the last passed */
	      {"{\"id\":2,\"v\":0.4}", 0, true}, {"{\"id\":\"1\",\"v\":0.4}", 0, true}, /* other keys */
	      {"{\"v\":0.4}", 0, true}, {"{\"v\":0.4}", 0, false}, {"{\"id\":null,\"v\":0.4}", 0, true},
	      {"{\"id\":1.0,\"v\":0.4}", 0, false}, {"{\"id\":10e-1,\"v\":0.4}", 0, false}, /* the same key */
	      {"{\"id\":\"\\u0031\",\"v\":0.4}", 0, false}, {"{\"id\":1,\"v\":0.4}", 10 * SECOND - 1, false},
	      {"{\"id\":1,\"v\":0.4}", 10 * SECOND, true}, {"{\"id\":1,\"v\":0.4}", 19 * SECOND, false},
	      {"{\"id\":1,\"v\":\"high\"}", 19 * SECOND, true}, /* no number: not ours to judge */
	      {"{\"id\":1}", 19 * SECOND, true}, {"{\"id\":1,\"v\":0.4}", 19 * SECOND, false},
	      {"{\"id\":1,\"v\":0.4}", 1 * SECOND, false}, /* a little out of order */
	      {"{\"id\":2,\"v\":0.4}", 30 * SECOND, true},
	      {"{\"id\":2,\"v\":0.4}", 1 * SECOND, true}, /* clock set back */
	      {"{\"id\":2,\"v\":0.4}", 2 * SECOND, false});
	assert_int_equal(t.host.metrics[M_DEADBAND], 12);
	assert_int_equal(t.host.metrics[M_DEADBAND_KEYS], 5);
	finish(&t);

	CREATE(&t, "deadband", "{\"field\":\"v\",\"threshold\":\"5%\"}");
	STEPS(&t, {"{\"v\":100}", 0, true}, {"{\"v\":104}", 0, false}, {"{\"v\":105}", 0, true},
	      {"{\"v\":110}", 0, false}, {"{\"v\":-100}", 0, true}, {"{\"v\":-95}", 0, true},
	      {"{\"v\":0}", 0, true}, {"{\"v\":0}", 0, false}, {"{\"v\":0.001}", 0, true},
	      {"{\"v\":0.00104}", 1000 * SECOND, false});
	finish(&t);

	CREATE(&t, "deadband", "{\"field\":\"v\",\"threshold\":1500}"); /* integers are exact */
	STEPS(&t, {"{\"v\":9223372036854770000}", 0, true}, {"{\"v\":9223372036854771499}", 0, false},
	      {"{\"v\":9223372036854771500}", 0, true}, {"{\"v\":-9223372036854775808}", 0, true},
	      {"{\"v\":9223372036854775807}", 0, true});
	finish(&t);
}

static void test_rate_limit(void **state)
{
	struct instance t;

	(void)state;
	CREATE(&t, "rate_limit", "{\"key\":\"id\",\"events\":2,\"per\":\"1s\"}");
	STEPS(&t, {"{\"id\":\"a\"}", 0, true}, {"{\"id\":\"a\"}", 0, true}, {"{\"id\":\"a\"}", 0, false},
	      {"{\"id\":\"b\"}", 0, true}, {"{\"id\":\"a\"}", SECOND / 2 - 1, false},
	      {"{\"id\":\"a\"}", SECOND / 2, true}, {"{\"id\":\"a\"}", SECOND / 2, false},
	      {"{\"id\":\"a\"}", 100 * SECOND, true},
	      {"{\"id\":\"a\"}", 100 * SECOND, true}, /* no more than the burst */
	      {"{\"id\":\"a\"}", 100 * SECOND, false},
	      {"{\"id\":\"a\"}", 95 * SECOND, false}, /* disorder earns nothing */
	      {"{\"id\":\"a\"}", 100 * SECOND + SECOND / 2, true},
	      {"{\"id\":\"a\"}", 1 * SECOND, true}, /* clock set back */
	      {"{\"id\":\"a\"}", 1 * SECOND, true}, {"{\"id\":\"a\"}", 1 * SECOND, false});
	assert_int_equal(t.host.metrics[M_RATE_LIMIT], 6);
	assert_int_equal(t.host.metrics[M_RATE_KEYS], 2);
	finish(&t);

	CREATE(&t, "rate_limit", "{\"events\":1,\"per\":\"1m\",\"burst\":3}"); /* no key: JSON or not */
	STEPS(&t, {"x", 0, true}, {"y", 0, true}, {"[]", 0, true}, {"z", 0, false}, {"z", 60 * SECOND, true},
	      {"z", 60 * SECOND, false}, {"z", 179 * SECOND, true}, {"z", 180 * SECOND, true},
	      {"z", 180 * SECOND, false});
	finish(&t);
}

/* Each pair of values has an allowance of its own: ("1", 2) and (1, 2) are two, as are (1, 2) and (2, 1). */
static void test_rate_limit_by_several_keys(void **state)
{
	struct instance t;

	(void)state;
	CREATE(&t, "rate_limit", "{\"key\":[\"/a\",\"/b\"],\"events\":1,\"per\":\"1h\"}");
	STEPS(&t, {"{\"a\":1,\"b\":2}", 0, true}, {"{\"a\":1,\"b\":2}", 0, false},
	      {"{\"a\":2,\"b\":1}", 0, true}, {"{\"a\":1,\"b\":3}", 0, true},
	      {"{\"a\":\"1\",\"b\":2}", 0, true}, {"{\"a\":1.0,\"b\":2}", 0, false}, {"{\"a\":1}", 0, true},
	      {"{\"b\":1}", 0, true}, {"{\"a\":1,\"c\":1}", 0, false}, {"{\"b\":3,\"a\":1}", 0, false});
	assert_int_equal(t.host.metrics[M_RATE_KEYS], 6);
	finish(&t);
}

/* However arrivals are spread, no more pass than the bucket and the time allow. */
static void test_rate_over_time(void **state)
{
	const char *event = "{\"id\":7}";
	uint64_t at = 0, n = 0;
	struct instance t;
	char passed[2];

	(void)state;
	srand(3);
	CREATE(&t, "rate_limit", "{\"key\":\"id\",\"events\":7,\"per\":\"3s\",\"burst\":5}");
	for (int i = 0; i < 3000; i++) {
		at += (uint64_t)rand() % (SECOND / 5);
		run(&t, &event, &at, 1, passed);
		n += passed[0] == '1';
		assert_true(n <= 5 + 7 * at / (3 * SECOND));
	}
	assert_true(n + 2 >= 7 * at / (3 * SECOND)); /* demand was higher all the time */
	finish(&t);
}

static void test_deadband_with_rate_limit(void **state)
{
	struct instance t;

	(void)state;
	CREATE(&t, "where", "{\"field\":\"v\",\"op\":\"lt\",\"value\":100}", "deadband",
	       "{\"field\":\"v\",\"threshold\":10}", "rate_limit", "{\"events\":1,\"per\":\"1s\"}");
	STEPS(&t, {"{\"v\":0}", 0, true},
	      {"{\"v\":20}", 0, false}, /* moved, but too soon: 0 stays the last passed */
	      {"{\"v\":9}", 2 * SECOND, false}, {"{\"v\":10}", 2 * SECOND, true},
	      {"{\"v\":200}", 9 * SECOND, false});
	assert_int_equal(t.host.metrics[M_DEADBAND], 1);
	assert_int_equal(t.host.metrics[M_RATE_LIMIT], 1);
	finish(&t);
}

static void test_max_keys(void **state)
{
	struct instance t;

	(void)state;
	CREATE(&t, "deadband", "{\"field\":\"v\",\"key\":\"id\",\"threshold\":1}", "max_keys", "3");
	STEPS(&t, {"{\"id\":1,\"v\":0}", 0, true}, {"{\"id\":2,\"v\":0}", 0, true},
	      {"{\"id\":3,\"v\":0}", 0, true}, {"{\"id\":1,\"v\":0}", 0, false},
	      {"{\"id\":4,\"v\":0}", 0, true}, /* 2 is out */
	      {"{\"id\":1,\"v\":0}", 0, false}, {"{\"id\":3,\"v\":0}", 0, false},
	      {"{\"id\":4,\"v\":0}", 0, false}, {"{\"id\":2,\"v\":0}", 0, true}, /* 1 is out */
	      {"{\"id\":3,\"v\":0}", 0, false}, {"{\"id\":1,\"v\":0}", 0, true});
	assert_int_equal(t.host.metrics[M_DEADBAND_KEYS], 3);
	assert_int_equal(t.host.metrics[M_DEADBAND_EVICTED], 3);
	finish(&t);
}

/* The table of keys against a list kept in order of use. */
static void test_many_keys(void **state)
{
	enum { KEYS = 50, MAX = 20 };
	int order[KEYS], n = 0;
	struct instance t;

	(void)state;
	srand(5);
	CREATE(&t, "rate_limit", "{\"key\":\"id\",\"events\":1,\"per\":\"1h\"}", "max_keys", "20");
	for (int i = 0; i < 5000; i++) {
		int key = rand() % KEYS, at = 0;
		char text[64], passed[2];
		const char *event = text;
		uint64_t time = 0;

		while (at < n && order[at] != key)
			at++;
		bool known = at < n;
		if (!known && n < MAX)
			n++;
		else if (!known)
			at = n - 1;
		memmove(order + 1, order, (size_t)at * sizeof *order);
		order[0] = key;
		sprintf(text, "{\"id\":\"a key of more than eight bytes %d\"}", key);
		run(&t, &event, &time, 1, passed);
		assert_int_equal(passed[0] == '1', !known);
		if (i % 1000 == 999)
			ss_test_host_clear(&t.host);
	}
	finish(&t);
}

/* ---- the option errors --------------------------------------------------------------------------- */

static void test_errors_count(void **state)
{
	struct instance t;
	(void)state;

	CREATE(&t, "where", EXISTS);
	assert_false(passes(&t, "no JSON"));
	assert_int_equal(t.host.dropped[NOT_JSON], 0); /* cleared with the rest */
	run(&t, (const char *const[]){"no JSON"}, NULL, 1, (char[2]){0});
	assert_int_equal(t.host.dropped[NOT_JSON], 1);
	assert_non_null(strstr(t.host.log, "not valid JSON are dropped"));
	assert_string_equal(t.host.degraded, "");
	finish(&t);
}

static void test_errors_drop(void **state)
{
	struct instance t;
	(void)state;

	CREATE(&t, "where", EXISTS, "errors", "drop");
	run(&t, (const char *const[]){"no JSON"}, NULL, 1, (char[2]){0});
	assert_int_equal(t.host.dropped[NOT_JSON], 1);
	assert_int_equal(t.host.metrics[NOT_JSON], 1);
	assert_null(strstr(t.host.log, "not valid JSON"));
	assert_string_equal(t.host.degraded, "");
	finish(&t);
}

/* As long as they come, and five minutes more; in between, by the newest reason. */
static void test_errors_degrade(void **state)
{
	struct instance t;
	(void)state;

	CREATE(&t, "where", EXISTS, "errors", "degrade");
	assert_true(passes(&t, "{\"f\":1}"));
	assert_string_equal(t.host.degraded, "");
	run(&t, (const char *const[]){"no JSON", "{\"f\":1}"}, NULL, 2, (char[3]){0});
	assert_int_equal(t.host.dropped[NOT_JSON], 1);
	assert_non_null(strstr(t.host.log, "not valid JSON are dropped"));
	assert_string_equal(t.host.degraded,
			    "events are refused (not_json) and dropped, as nothing reads \"test.error\"");
	ss_test_host_advance(&t.host, 299 * SECOND);
	run(&t, (const char *const[]){"no JSON"}, NULL, 1, (char[2]){0});
	ss_test_host_advance(&t.host, 299 * SECOND);
	assert_string_not_equal(t.host.degraded, "");
	ss_test_host_advance(&t.host, 2 * SECOND);
	assert_string_equal(t.host.degraded, "");
	run(&t, (const char *const[]){"no JSON"}, NULL, 1, (char[2]){0});
	assert_string_not_equal(t.host.degraded, "");
	finish(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config_errors),
		cmocka_unit_test(test_all_errors_at_once),
		cmocka_unit_test(test_config_limits),
		cmocka_unit_test(test_not_json),
		cmocka_unit_test(test_regex_gives_up),
		cmocka_unit_test(test_hostile_patterns),
		cmocka_unit_test(test_regex_pieces),
		cmocka_unit_test(test_long_list_without_case),
		cmocka_unit_test(test_rest),
		cmocka_unit_test(test_whole_batches),
		cmocka_unit_test(test_huge_batch),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_deadband),
		cmocka_unit_test(test_rate_limit),
		cmocka_unit_test(test_rate_limit_by_several_keys),
		cmocka_unit_test(test_rate_over_time),
		cmocka_unit_test(test_deadband_with_rate_limit),
		cmocka_unit_test(test_max_keys),
		cmocka_unit_test(test_many_keys),
		cmocka_unit_test(test_errors_count),
		cmocka_unit_test(test_errors_drop),
		cmocka_unit_test(test_errors_degrade),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
