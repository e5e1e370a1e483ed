/* SPDX-License-Identifier: MIT */
/* filter: dialects of conditions, lengths and ranges, samples, other members for what passes. */
#include <jansson.h>
#include "helper_filter.h"

struct condition_case {
	const char *where, *event;
	bool passes;
};

static void check(const struct condition_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct instance t;

		CREATE(&t, "where", cases[i].where);
		if (passes(&t, cases[i].event) != cases[i].passes)
			fail_msg("%s on %s: not %d", cases[i].where, cases[i].event, cases[i].passes);
		finish(&t);
	}
}
#define CHECK(cases) check(cases, sizeof cases / sizeof *(cases))

static void test_ranges_and_lengths(void **state)
{
	static const struct condition_case cases[] = {
		{COND("between", "[2,5]"), "{\"f\":2}", true},
		{COND("between", "[2,5]"), "{\"f\":5.0}", true},
		{COND("between", "[2,5]"), "{\"f\":5.1}", false},
		{COND("between", "[2,5]"), "{\"f\":1.9}", false},
		{COND("between", "[2,5]"), "{\"f\":\"3\"}", false},
		{COND("between", "[2,5]"), "{}", false},
		{COND("between", "[\"b\",\"d\"]"), "{\"f\":\"c\"}", true},
		{COND("between", "[\"b\",\"d\"]"), "{\"f\":\"da\"}", false},
		{"{\"not\":" COND("between", "[2,5]") "}", "{\"f\":7}", true},
		{"{\"or\":[" COND("between", "[2,5]") "," COND("between", "[8,9]") "]}", "{\"f\":8}", true},
		{"{\"or\":[" COND("between", "[2,5]") "," COND("between", "[8,9]") "]}", "{\"f\":6}", false},
		{COND("length_eq", "3"), "{\"f\":\"abc\"}", true},
		{COND("length_eq", "3"), "{\"f\":\"\\u00e4\\u00f6x\"}", true},
		{COND("length_eq", "3"), "{\"f\":\"\xc3\xa4\xc3\xb6x\"}", true},
		{COND("length_eq", "3"), "{\"f\":[1,[2,3],\"a,b\"]}", true},
		{COND("length_eq", "0"), "{\"f\":[ ]}", true},
		{COND("length_eq", "0"), "{\"f\":\"\"}", true},
		{COND("length_eq", "3"), "{\"f\":123}", false},
		{COND("length_ne", "3"), "{\"f\":\"ab\"}", true},
		{COND("length_ne", "3"), "{\"f\":123}", false},
		{COND("length_ne", "3"), "{}", false},
		{COND("length_gt", "2"), "{\"f\":\"abc\"}", true},
		{COND("length_gt", "3"), "{\"f\":\"abc\"}", false},
		{COND("length_gte", "3"), "{\"f\":\"abc\"}", true},
		{COND("length_lt", "3"), "{\"f\":[1,2]}", true},
		{COND("length_lte", "1"), "{\"f\":[1,2]}", false},
		{COND("array_contains", "\"a\""), "{\"f\":[\"b\",\"a\"]}", true},
		{COND("array_contains", "\"a\""), "{\"f\":\"a\"}", false},
		{FOLD("array_contains", "\"a\""), "{\"f\":[\"A\"]}", true},
		{COND("array_contains", "1"), "{\"f\":[[1]]}", false},
	};

	(void)state;
	CHECK(cases);
}

static void test_dialects(void **state)
{
	static const struct condition_case cases[] = {
		{"{\"path\":\"$.v\",\"operator\":\">\",\"value\":50}", "{\"v\":51}", true},
		{"{\"path\":\"$.a.b\",\"operator\":\"<=\",\"value\":50}", "{\"a\":{\"b\":50}}", true},
		{"{\"path\":\"v\",\"op\":\"eq\",\"value\":50}", "{\"v\":51}", false},
		{"{\"v\":{\"gt\":20,\"lte\":80}}", "{\"v\":80}", true},
		{"{\"v\":{\"gt\":20,\"lte\":80}}", "{\"v\":20}", false},
		{"{\"v\":{\"gt\":20},\"s\":{\"equals\":\"ok\"}}", "{\"v\":21,\"s\":\"ok\"}", true},
		{"{\"v\":{\"gt\":20},\"s\":{\"equals\":\"ok\"}}", "{\"v\":21,\"s\":\"no\"}", false},
		{"{\"s.t\":{\"not_in\":[1,2]}}", "{\"s\":{\"t\":3}}", true},
		{"{\"or\":[{\"v\":{\"gt\":20}},{\"w\":{\"lt\":1}}]}", "{\"v\":1,\"w\":0}", true},
		{"{\"not\":{\"v\":{\"gt\":20}}}", "{\"v\":1}", true},
		{"{\"logic\":\"and\",\"conditions\":[{\"field\":\"v\",\"operator\":\"gt\",\"value\":1},"
		 "{\"field\":\"w\",\"operator\":\"eq\",\"value\":2}]}",
		 "{\"v\":2,\"w\":2}", true},
		{"{\"logic\":\"and\",\"conditions\":[{\"field\":\"v\",\"operator\":\"gt\",\"value\":1},"
		 "{\"field\":\"w\",\"operator\":\"eq\",\"value\":2}]}",
		 "{\"v\":2,\"w\":3}", false},
		{"{\"conditions\":[{\"field\":\"v\",\"operator\":\"gt\",\"value\":1},"
		 "{\"field\":\"w\",\"operator\":\"eq\",\"value\":2}]}",
		 "{\"v\":2,\"w\":3}", true},
		{"{\"v\":{\"between\":[1,3],\"ne\":2}}", "{\"v\":3}", true},
		{"{\"v\":{\"between\":[1,3],\"ne\":2}}", "{\"v\":2}", false},
		{"{\"v\":{\"between\":[1,3],\"ne\":2}}", "{\"v\":4}", false},
		{"{\"field\":{\"gt\":20}}", "{\"field\":21}", true},
		{"{\"conditions\":{\"gt\":20}}", "{\"conditions\":21}", true},
		{"{\"not\":{\"v\":{\"gt\":20},\"w\":{\"gt\":20}}}", "{\"v\":21,\"w\":1}", true},
		{"{\"not\":{\"v\":{\"gt\":20},\"w\":{\"gt\":20}}}", "{\"v\":21,\"w\":21}", false},
		{"{\"or\":[{\"logic\":\"and\",\"conditions\":[{\"v\":{\"gt\":1}},{\"w\":{\"gt\":1}}]},"
		 "{\"path\":\"$.a.0\",\"operator\":\"==\",\"value\":7}]}",
		 "{\"v\":2,\"w\":1,\"a\":[7]}", true},
		{"[{\"v\":{\"gt\":20}},{\"path\":\"$.w\",\"operator\":\"==\",\"value\":1}]",
		 "{\"v\":21,\"w\":1}", true},
	};

	(void)state;
	CHECK(cases);
}

static void test_errors(void **state)
{
	static const struct {
		const char *option, *value, *line;
	} cases[] = {
		{"where", COND("between", "[1]"), "/where/value: must be two numbers or two strings*"},
		{"where", COND("between", "[1,\"2\"]"), "/where/value: must be two numbers or two strings*"},
		{"where", COND("between", "[5,1]"), "/where/value: nothing would pass*"},
		{"where", COND("between", "[18446744073709551615,18446744073709551614]"),
		 "/where/value: nothing would pass*"},
		{"where", COND("between", "[\"b\",\"a\"]"), "/where/value: nothing would pass*"},
		{"where", COND("between", "3"), "/where/value: \"between\" takes a list of values*"},
		{"where", COND("length_eq", "\"3\""), "/where/value: \"length_eq\" takes a number*"},
		{"where", "{\"v\":{}}", "/where/v: must have 1 to 256 operators*"},
		{"where", "{\"v\":{\"gtt\":1}}", "/where/v/gtt: unknown operator \"gtt\"*\"gt"},
		{"where", "{\"or\":[{\"a\":{\"gt\":1}},{\"v\":{\"gt\":1,\"lt\":true}}]}",
		 "/where/or/1/v/lt: \"lt\" takes a number or a string, found a boolean"},
		{"where", "{\"v\":{\"gt\":1},\"w/x\":5}", "/where/w~1x: must have 1 to 256 operators*"},
		{"where", "{\"v\":{\"in\":[1,{}]}}", "/where/v/in/1: must be a string*"},
		{"where", "{\"v\":{\"regex\":\"(\"}}", "/where/v/regex: the regular expression*"},
		{"where", "{\"v\":{\"between\":[1]}}", "/where/v/between: must be two numbers*"},
		{"where", "{\"a..b\":{\"eq\":1}}", "/where/a..b: \"a..b\" is not a path*"},
		{"where", "[{\"path\":\"$.a..b\",\"operator\":\"eq\",\"value\":1}]",
		 "/where/0/path: \"a..b\" is not a path*"},
		{"where", "{\"path\":\"$.a[0]\",\"op\":\"exists\"}",
		 "/where/path: only names and indices may follow*"},
		{"where", "{\"path\":\"$.a\\u0000\",\"op\":\"exists\"}",
		 "/where/path: must not contain a NUL character"},
		{"where", "{\"path\":\"a\",\"field\":\"a\",\"op\":\"exists\"}",
		 "/where/path: means the same as*"},
		{"where", "{\"field\":\"a\",\"operator\":\"exists\",\"op\":\"exists\"}",
		 "/where/operator: means the same as*"},
		{"where", "{\"field\":\"a\",\"operator\":\"exits\"}",
		 "/where/operator: unknown operator \"exits\"*exists"},
		{"where", "{\"logic\":\"and\",\"conditions\":[" EXISTS ",{\"v\":{\"gte\":null}}]}",
		 "/where/conditions/1/v/gte: \"gte\" takes*"},
		{"where", "{\"ont\":" EXISTS "}", "/where/ont: unknown key; did you mean \"not\"?"},
		{"where", "{\"unless\":" EXISTS "}",
		 "/where/unless: unknown key; only \"not\" can contain a condition"},
		{"where", "{\"conditions\":5}",
		 "/where/conditions: must be a list of at least one condition"},
		{"where", "{\"logic\":\"xor\",\"conditions\":[" EXISTS "]}",
		 "/where/logic: must be \"and\" or \"or\""},
		{"where", "{\"logic\":\"or\",\"conditions\":[],\"x\":1}", "/where/x: unknown key"},
		{"sample", "5", "/sample: must be an object*"},
		{"sample", "{\"one_in\":0}", "/sample/one_in: \"one_in\" must be an integer of at least 1"},
		{"sample", "{}", "/sample: \"one_in\" must be an integer of at least 1"},
		{"sample", "{\"one_in\":2,\"keys\":\"a\"}", "/sample/keys: unknown key*"},
		{"sample", "{\"one_in\":2,\"key\":5}", "/sample/key: must be a string*"},
		{"sample", "{\"one_in\":2,\"key\":\"a\\u0000\"}",
		 "/sample/key: must not contain a NUL character"},
		{"sample", "{\"one_in\":2,\"key\":\"a..b\"}", "/sample/key: \"a..b\" is not a path*"},
		{"deadband", "{\"field\":\"a\\u0000\",\"threshold\":1}",
		 "/deadband/field: must not contain a NUL character"},
		{"fields", "{}", "/fields: must be an object with*"},
		{"fields", "{\"select\":\"a\"}", "/fields/select: must be a list*"},
		{"fields", "{\"remove\":[1]}", "/fields/remove: must list names, found*"},
		{"fields", "{\"select\":[\"a\\u0000b\"]}",
		 "/fields/select: must not contain a NUL character"},
		{"fields", "{\"rename\":{\"a\":\"c\",\"b\":\"c\"}}",
		 "/fields/rename: \"a\" and \"b\" are renamed to the same name"},
		{"fields", "{\"rename\":{\"a\":1}}", "/fields/rename: must rename \"a\" to a string*"},
		{"fields", "{\"sett\":{\"a\":1}}", "/fields/sett: unknown key*"},
		{"fields", "{\"rename\":{\"a\":\"b\"},\"set\":{\"b\":1}}",
		 "/fields/set: \"b\" is also the new name of \"a\""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct instance t;
		const char *const pairs[] = {cases[i].option, cases[i].value, NULL};

		assert_int_equal(try_create(&t, pairs), -EINVAL);
		if (!has_line(t.host.errors, cases[i].line))
			fail_msg("%s: got\n%swanted\n%s", cases[i].value, t.host.errors, cases[i].line);
		finish(&t);
	}
}

static void test_shapes(void **state)
{
	static const struct {
		const char *fields, *event, *result;
	} cases[] = {
		{"{\"select\":[\"a\",\"c\"]}", "{\"a\":1,\"b\":2,\"c\":[1,{\"b\":\"}\"}]}",
		 "{\"a\":1,\"c\":[1,{\"b\":\"}\"}]}"},
		{"{\"select\":[\"z\"]}", "{\"a\":1}", "{}"},
		{"{\"remove\":[\"b\"]}", " { \"a\" : 1 , \"b\" : {\"x\":\"\\\"}\"} , \"c\":null } ",
		 "{\"a\" : 1,\"c\":null}"},
		{"{\"remove\":[\"b\"]}", "{\"\\u0062\":1}", "{}"},
		{"{\"rename\":{\"a\":\"alpha\"}}", "{\"a\":1.50,\"b\":\"a\"}",
		 "{\"alpha\":1.50,\"b\":\"a\"}"},
		{"{\"rename\":{\"a\":\"q\\\"\"}}", "{\"a\":1,\"a\":2}", "{\"q\\\"\":1,\"q\\\"\":2}"},
		{"{\"set\":{\"site\":\"A\",\"n\":{\"x\":[1]}}}", "{\"a\":1}",
		 "{\"a\":1,\"site\":\"A\",\"n\":{\"x\":[1]}}"},
		{"{\"set\":{\"a\":2}}", "{\"a\":1}", "{\"a\":2}"},
		{"{\"set\":{\"a\":2}}", "{}", "{\"a\":2}"},
		{"{\"set\":{\"a\":[0.1,1e300],\"b\":0.30000000000000004}}", "{}",
		 "{\"a\":[0.1,1e300],\"b\":0.30000000000000004}"},
		{"{\"set\":{\"a\":1.10,\"b\":[18446744073709551615,{\"c\":1e400}],\"d\":-0}}", "{}",
		 "{\"a\":1.10,\"b\":[18446744073709551615,{\"c\":1e400}],\"d\":-0}"},
		{"{\"set\":{\"a\":\"x\\u0000y\"}}", "{}", "{\"a\":\"x\\u0000y\"}"},
		{"{\"rename\":{\"a\":\"x\\u0000y\"}}", "{\"a\":1}", "{\"x\\u0000y\":1}"},
		{"{\"rename\":{\"\":\"0123456789\"}}", "{\"\":0,\"\":0,\"\":0}",
		 "{\"0123456789\":0,\"0123456789\":0,\"0123456789\":0}"},
		{"{\"select\":[\"a\"],\"rename\":{\"a\":\"b\"},\"set\":{\"c\":3}}", "{\"a\":1,\"x\":2}",
		 "{\"b\":1,\"c\":3}"},
		{"{\"set\":{\"a\":2}}", "[1,2]", "[1,2]"},
		{"{\"set\":{\"a\":2}}", " 5 ", " 5 "},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct instance t;

		CREATE(&t, "fields", cases[i].fields);
		struct ss_batch *batch = ss_test_host_batch(&t.host, &cases[i].event, 1);
		assert_int_equal(plugin()->process(t.host.self, 0, batch), SS_DONE);
		assert_int_equal(t.host.n_emitted, 1);
		const struct ss_event *e = &t.host.emitted[0].batch->events[0];
		if (e->len != strlen(cases[i].result) || memcmp(e->data, cases[i].result, e->len) != 0)
			fail_msg("%s of %s: %.*s", cases[i].fields, cases[i].event, (int)e->len,
				 (const char *)e->data);
		t.host.host.batch_unref(batch);
		ss_test_host_clear(&t.host);
		finish(&t);
	}
}

/* Many events at once, some of which pass, against Jansson. */
static void test_shapes_of_a_batch(void **state)
{
	enum { N = 500 };
	char texts[N][96];
	const char *events[N];
	struct instance t;

	(void)state;
	for (int i = 0; i < N; i++) {
		snprintf(texts[i], sizeof texts[i], "{\"n\":%d,\"s\":\"%0*d\",\"r\":[%d]}", i, i % 40 + 1, i,
			 i);
		events[i] = texts[i];
	}
	CREATE(&t, "where", "{\"n\":{\"gte\":100}}", "fields",
	       "{\"remove\":[\"r\"],\"rename\":{\"n\":\"a long name for a short "
	       "one\"},\"set\":{\"x\":true}}");
	struct ss_batch *batch = ss_test_host_batch(&t.host, events, N);
	assert_int_equal(plugin()->process(t.host.self, 0, batch), SS_DONE);
	assert_int_equal(t.host.n_emitted, 2); /* and the rest */
	assert_int_equal(t.host.emitted[0].port, MATCH);
	const struct ss_batch *out = t.host.emitted[0].batch;
	assert_int_equal(out->count, N - 100);
	for (uint32_t i = 0; i < out->count; i++) {
		json_t *json = json_loadb((const char *)out->events[i].data, out->events[i].len, 0, NULL);
		assert_non_null(json);
		assert_int_equal(json_object_size(json), 3);
		assert_int_equal(json_integer_value(json_object_get(json, "a long name for a short one")),
				 i + 100);
		assert_true(json_is_true(json_object_get(json, "x")));
		assert_int_equal(out->events[i].seq, i + 101);
		json_decref(json);
	}
	t.host.host.batch_unref(batch);
	ss_test_host_clear(&t.host);
	finish(&t);
}

static void test_shape_needs_json(void **state)
{
	const char *const broken[] = {
		"{\"a\":tru}", "{\"b\":01,\"a\":2}", "{\"a\":1",   "{\"a",      "{\"a\\", "{\"a\"",
		"{\"a\":\"",   "{\"a\":[",           "{\"a\":1}x", "{\"a\" 1}", "{",      ""};
	const uint32_t n = sizeof broken / sizeof *broken;
	char passed[sizeof broken / sizeof *broken + 1];
	struct instance t;

	(void)state;
	CREATE(&t, "fields", "{\"set\":{\"a\":1}}");
	run(&t, broken, NULL, n, passed);
	assert_string_equal(passed, "000000000000");
	assert_int_equal(t.host.dropped[NOT_JSON], n);
	finish(&t);

	CREATE(&t, "fields", "{\"set\":{\"a\":1}}", "on_error", "pass");
	run(&t, broken, NULL, n, passed);
	assert_string_equal(passed, "111111111111");
	for (uint32_t i = 0; i < n; i++) {
		const struct ss_event *e = &t.host.emitted[0].batch->events[i];
		assert_int_equal(e->len, strlen(broken[i]));
		assert_memory_equal(e->data, broken[i], e->len);
	}
	finish(&t);
}

static void test_samples(void **state)
{
	struct instance t;
	uint32_t taken[100] = {0}, keys = 0;

	(void)state;
	CREATE(&t, "sample", "{\"one_in\":3}");
	for (int i = 0; i < 9; i++)
		assert_int_equal(passes(&t, "no json"), i % 3 == 0);
	finish(&t);

	CREATE(&t, "sample", "{\"one_in\":4,\"key\":\"k\"}");
	for (int i = 0; i < 400; i++) {
		char text[32];
		snprintf(text, sizeof text, i < 200 ? "{\"k\":\"key %d\"}" : "{\"k\":\"\\u006bey %d\"}",
			 i % 100);
		taken[i % 100] += passes(&t, text);
	}
	for (int i = 0; i < 100; i++) {
		assert_true(taken[i] == 0 || taken[i] == 4);
		keys += taken[i] == 4;
	}
	assert_in_range(keys, 10, 45);
	finish(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges_and_lengths),
		cmocka_unit_test(test_dialects),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_shapes_of_a_batch),
		cmocka_unit_test(test_shape_needs_json),
		cmocka_unit_test(test_samples),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
