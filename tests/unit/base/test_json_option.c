/* SPDX-License-Identifier: MIT */
/* json_option: where an error lies, and in which words it is reported. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <semstreams/base/json_option.h>
#include <semstreams/base/units.h>

static char reported[2048];

static void config_error(const struct ss_host *host, const char *pointer, const char *text)
{
	size_t len = strlen(reported);

	(void)host;
	snprintf(reported + len, sizeof reported - len, "%s: %s\n", pointer, text);
}
static const struct ss_host host = {.struct_size = sizeof host, .config_error = config_error};

static json_t *begin(struct ss_json_option *s, const char *text)
{
	reported[0] = '\0';
	*s = (struct ss_json_option){.host = &host};
	json_t *json = ss_json_parse(s, "spool", text);
	ss_json_enter(s, "spool");
	return json;
}

static void test_places(void **state)
{
	(void)state;
	struct ss_json_option s;
	json_t *json = begin(&s, "{\"a/b\":[1,{\"~\":2}],\"widnow\":1}");
	static const char *const known[] = {"a/b", "window", NULL};

	assert_non_null(json);
	ss_json_keys(&s, json, known);
	size_t list = ss_json_enter(&s, "a/b"), item = ss_json_enter_index(&s, 1);
	ss_json_error(&s, "~", "wrong %d", 7);
	ss_json_leave(&s, item);
	ss_json_error(&s, NULL, "too many");
	ss_json_leave(&s, list);
	assert_string_equal(s.at, "/spool");
	assert_int_equal(s.err, -EINVAL);
	assert_string_equal(reported, "/spool/widnow: unknown key; did you mean \"window\"?\n"
				      "/spool/a~1b/1/~0: wrong 7\n"
				      "/spool/a~1b: too many\n");
	json_decref(json);
	ss_json_done(&s);
	assert_null(begin(&s, "{\"a\":1,\"a\":2}"));
	assert_non_null(strstr(reported, "/spool: not valid JSON: "));
	assert_int_equal(s.err, -EINVAL);
}

static void test_members(void **state)
{
	(void)state;
	static const char *const choices[] = {"block", "drop_oldest", "drop_newest", NULL};
	struct ss_json_option s;
	uint64_t ns = 7, bytes = 7;
	unsigned choice = 7;
	const char *text = NULL;
	json_t *json = begin(&s, "{\"age\":\"1m30s\",\"zero\":\"0s\",\"size\":\"2MiB\",\"plain\":4096,"
				 "\"overflow\":\"drop_oldest\",\"path\":\"/x\"}");

	assert_true(ss_json_duration(&s, json, "age", &ns) && ns == 90000000000);
	assert_true(ss_json_duration_or_zero(&s, json, "zero", &ns) && ns == 0);
	assert_true(ss_json_size(&s, json, "size", 1, &bytes) && bytes == 2 << 20);
	assert_true(ss_json_size(&s, json, "plain", 4096, &bytes) && bytes == 4096);
	assert_true(ss_json_choice(&s, json, "overflow", choices, &choice) && choice == 1);
	assert_true(ss_json_text(&s, json, "path", &text));
	assert_string_equal(text, "/x");
	assert_false(ss_json_duration(&s, json, "none", &ns));
	assert_false(ss_json_size(&s, json, "none", 0, &bytes));
	assert_false(ss_json_choice(&s, json, "none", choices, &choice));
	assert_false(ss_json_text(&s, json, "none", &text));
	assert_int_equal(s.err, 0);
	assert_string_equal(reported, "");
	json_decref(json);
	ss_json_done(&s);
}

static void test_wrong_members(void **state)
{
	(void)state;
	static const char *const choices[] = {"block", "drop_oldest", "drop_newest", NULL};
	struct ss_json_option s;
	uint64_t out = 7;
	unsigned choice = 7;
	const char *text = NULL;
	json_t *json = begin(&s, "{\"a\":5,\"b\":\"0s\",\"c\":\"soon\",\"d\":\"999999999d\",\"e\":\"1KiB\","
				 "\"f\":-1,\"g\":\"9999999TiB\",\"h\":[],\"i\":\"drop\",\"j\":\"drop_oldst\","
				 "\"k\":null,\"l\":\"\",\"m\":\"much\"}");

	for (const char *key = "a"; key; key = *key == 'a'   ? "b"
					       : *key == 'b' ? "c"
					       : *key == 'c' ? "d"
							     : NULL)
		assert_false(ss_json_duration(&s, json, key, &out));
	assert_false(ss_json_size(&s, json, "e", 1 << 20, &out));
	assert_false(ss_json_size(&s, json, "f", 0, &out));
	assert_false(ss_json_size(&s, json, "g", 0, &out));
	assert_false(ss_json_size(&s, json, "h", 0, &out));
	assert_false(ss_json_size(&s, json, "m", 0, &out));
	assert_false(ss_json_choice(&s, json, "i", choices, &choice));
	assert_false(ss_json_choice(&s, json, "j", choices, &choice));
	assert_false(ss_json_choice(&s, json, "k", choices, &choice));
	assert_false(ss_json_text(&s, json, "l", &text));
	assert_false(ss_json_text(&s, json, "h", &text));
	assert_true(out == 7 && choice == 7 && !text);
#define EXPECTED "expected \"block\", \"drop_oldest\" or \"drop_newest\", found "
	assert_string_equal(reported, "/spool/a: expected a duration such as \"10s\", found a number\n"
				      "/spool/b: the duration must be longer than \"0s\"\n"
				      "/spool/c: \"soon\" is not a duration; write it " SS_DURATION_FORM "\n"
				      "/spool/d: the duration \"999999999d\" is too long\n"
				      "/spool/e: expected a size of at least \"1MiB\"\n"
				      "/spool/f: expected a size of at least \"0\"\n"
				      "/spool/g: the size \"9999999TiB\" is too large\n"
				      "/spool/h: expected a size such as \"64MiB\", found an array\n"
				      "/spool/m: \"much\" is not a size; write it " SS_SIZE_FORM "\n"
				      "/spool/i: " EXPECTED "\"drop\"\n"
				      "/spool/j: " EXPECTED "\"drop_oldst\"; did you mean \"drop_oldest\"?\n"
				      "/spool/k: " EXPECTED "null\n"
				      "/spool/l: expected a text that is not empty, found \"\"\n"
				      "/spool/h: expected a text that is not empty, found an array\n");
	json_decref(json);
	ss_json_done(&s);
}

/* What Jansson cannot hold is read all the same, and dumped as it stands. */
static void test_numbers(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"0",
		"-9223372036854775808",
		"-9223372036854775809",
		"18446744073709551615",
		"[1.10,0.1,-0,-0.0,1E3,100000000000000000000000000000000000000]",
		"{\"b\":{\"1\":1e400,\"-2\":[-1e400,1.0000e0]},\"a\":\"1e400 \\\" 9\"}",
		"[9e307,1.7e308,9e308]",
	};
	struct ss_json_option s;

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		json_t *json = begin(&s, texts[i]);
		assert_non_null(json);
		char *text = ss_json_dump(&s, json);
		assert_string_equal(text, texts[i]);
		free(text);
		json_decref(json);
		ss_json_done(&s);
	}
	json_t *json = begin(&s, "{\"n\":[18446744073709551615,-1e400]}");
	assert_false(ss_json_size(&s, json, "n", 0, &(uint64_t){0}));
	assert_true(json_number_value(json_array_get(json_object_get(json, "n"), 0)) == 0x1p64);
	assert_true(json_number_value(json_array_get(json_object_get(json, "n"), 1)) < -1e307);
	json_decref(json);
	ss_json_done(&s);
	assert_null(begin(&s, "{\"n\":1e400"));
	assert_null(begin(&s, "\"1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_wrong_members),
		cmocka_unit_test(test_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
