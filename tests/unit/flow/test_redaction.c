/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "core/redaction.h"

static struct redaction *of(const char *fields)
{
	json_t *json = json_loads(fields, JSON_DECODE_ANY, NULL);
	struct redaction *r = NULL;
	char why[512] = "";

	assert_non_null(json);
	assert_int_equal(redaction_new(json, why, &r), 0);
	json_decref(json);
	return r;
}

/* NULL: it is withheld. */
static void check(const char *fields, const char *text, const char *expected)
{
	struct redaction *r = of(fields);
	struct ss_strbuf out = {0};

	const bool shown = redaction_apply(r, text, strlen(text), &out);
	if (expected)
		assert_string_equal(ss_strbuf_cstr(&out), expected);
	else
		assert_int_equal(out.len, 0);
	assert_int_equal(shown, expected != NULL);
	ss_strbuf_done(&out);
	redaction_free(r);
}

static void names(void **state)
{
	(void)state;
	check("[\"p\"]", "{\"p\":1,\"q\":{\"p\":[1,{\"p\":2}]},\"r\":[{\"p\":null}], \"pp\":\"p\"}",
	      "{\"p\":\"<hidden>\",\"q\":{\"p\":\"<hidden>\"},\"r\":[{\"p\":\"<hidden>\"}],\"pp\":\"p\"}");
	check("[\"p\"]", " { } ", "{}");
	check("[\"p\"]", "[ [] , 1e400 ]", NULL);
	check("[\"p\"]", "[ [] , \"a\\\"p\\\\\" , 18446744073709551616, -1.50E+3 ]",
	      "[[],\"a\\\"p\\\\\",18446744073709551616,-1.50E+3]");
	check("[\"p\"]", "\"p\"", "\"p\"");
	check("[\"p\"]", "{\"\\u0070\":\"\\\"}\"}", "{\"\\u0070\":\"<hidden>\"}");
	check("[\"p\"]", "{\"p\":1,\"p\":2}", "{\"p\":\"<hidden>\",\"p\":\"<hidden>\"}");
}

static void paths(void **state)
{
	(void)state;
	check("[\"a.b\"]", "{\"b\":1,\"a\":{\"b\":2,\"c\":{\"b\":3}},\"x\":{\"a\":{\"b\":4}},\"a.b\":5}",
	      "{\"b\":1,\"a\":{\"b\":\"<hidden>\",\"c\":{\"b\":3}},\"x\":{\"a\":{\"b\":\"<hidden>\"}},\"a."
	      "b\":"
	      "\"<hidden>\"}");
	check("[\"a.b\"]", "{\"a\":[[{\"b\":1}],{\"c\":{\"b\":2}}]}",
	      "{\"a\":[[{\"b\":\"<hidden>\"}],{\"c\":{\"b\":2}}]}");
	check("[\"/a~1b/c~0\"]", "{\"a/b\":{\"c~\":1}}", "{\"a/b\":{\"c~\":\"<hidden>\"}}");
	check("[\"a.1\"]", "{\"a\":[1,[2],3]}", "{\"a\":[1,\"<hidden>\",3]}");
}

static void no_json(void **state)
{
	static const char *const texts[] = {"",      "p=1",  "{\"p\":1",   "{\"p\":1}x",
					    "{p:1}", "[1,]", "\"\\ud800\""};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		check("[\"p\"]", texts[i], NULL);
	struct redaction *r = of("[\"p\"]");
	struct ss_strbuf out = {0};
	assert_false(redaction_apply(r, "[1\0]", 4, &out));
	assert_int_equal(out.len, 0);
	redaction_free(r);
	/* attributes only: the text is not looked at */
	check("[\"@peer\"]", "p=1", "p=1");
}

static void attributes(void **state)
{
	(void)state;
	struct redaction *r = of("[\"@peer\", \"x\"]");

	assert_true(redaction_hides(r, "@peer"));
	assert_false(redaction_hides(r, "@origin"));
	assert_false(redaction_hides(NULL, "@peer"));
	redaction_free(r);
}

static void refused(void **state)
{
	static const char *const wrong[] = {
		"{}", "\"p\"", "[1]", "[\"\"]", "[\"a.\"]", "[\".a\"]", "[\"@nothing\"]", "[\"a\", \"@x\"]"};
	struct redaction *r = NULL;
	char why[512];

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		json_t *json = json_loads(wrong[i], JSON_DECODE_ANY, NULL);
		*why = '\0';
		assert_int_equal(redaction_new(json, why, &r), -22);
		assert_string_not_equal(why, "");
		json_decref(json);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),      cmocka_unit_test(paths),   cmocka_unit_test(no_json),
		cmocka_unit_test(attributes), cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
