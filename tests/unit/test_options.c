/* SPDX-License-Identifier: MIT */
/* options: each type's good and bad values, defaults, secrets, references, and tables that make no sense. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/config/expand.h"
#include "core/config/options.h"

struct conf {
	const char *text, *password, *json;
	int64_t port, any, fast, size, wait, mode, old, needed;
};

static const char *const modes[] = {"block", "drop", "spill", NULL};
static const struct ss_option rows[] = {
	{.key = "text", .type = SS_OPT_STRING, .offset = offsetof(struct conf, text)},
	{.key = "password",
	 .type = SS_OPT_STRING,
	 .offset = offsetof(struct conf, password),
	 .flags = SS_OPT_SECRET,
	 .default_text = "changeme"},
	{.key = "json", .type = SS_OPT_JSON, .offset = offsetof(struct conf, json), .default_text = "[1]"},
	{.key = "port",
	 .type = SS_OPT_INT,
	 .offset = offsetof(struct conf, port),
	 .default_text = "14550",
	 .min = 1,
	 .max = 65535},
	{.key = "any", .type = SS_OPT_INT, .offset = offsetof(struct conf, any)},
	{.key = "fast", .type = SS_OPT_BOOL, .offset = offsetof(struct conf, fast), .default_text = "true"},
	{.key = "size",
	 .type = SS_OPT_BYTES,
	 .offset = offsetof(struct conf, size),
	 .default_text = "64MiB",
	 .min = 1024,
	 .max = INT64_MAX},
	{.key = "wait",
	 .type = SS_OPT_DURATION,
	 .offset = offsetof(struct conf, wait),
	 .default_text = "0",
	 .min = 1000000,
	 .max = 3600000000000},
	{.key = "mode",
	 .type = SS_OPT_ENUM,
	 .offset = offsetof(struct conf, mode),
	 .default_text = "spill",
	 .choices = modes},
	{.key = "old",
	 .type = SS_OPT_INT,
	 .offset = offsetof(struct conf, old),
	 .flags = SS_OPT_DEPRECATED,
	 .help = "use \"any\""},
	{.key = "needed",
	 .type = SS_OPT_INT,
	 .offset = offsetof(struct conf, needed),
	 .flags = SS_OPT_REQUIRED,
	 .help = "How many."},
};
static const struct option_table table = OPTION_TABLE(rows, struct conf);

struct fixture {
	struct diag diag;
	struct jdoc *doc;
	struct options options;
	const struct conf *conf;
	int result;
};

static void fill(struct fixture *f, const struct option_table *t, const char *text)
{
	*f = (struct fixture){0};
	diag_init(&f->diag);
	assert_int_equal(jdoc_parse("dir/f.json", text, strlen(text), &f->diag, &f->doc), 0);
	f->result = options_fill(t, f->doc, f->doc->root, f->doc->root, &f->diag, &f->options);
	f->conf = f->options.conf;
}

static void done(struct fixture *f)
{
	options_done(&f->options);
	jdoc_free(f->doc);
	diag_done(&f->diag);
}

static void test_defaults(void **state)
{
	(void)state;
	struct fixture f;
	fill(&f, &table, "{\"needed\": 1}");
	assert_int_equal(f.result, 0);
	assert_null(f.conf->text);
	assert_string_equal(f.conf->password, "changeme");
	assert_string_equal(f.conf->json, "[1]");
	assert_int_equal(f.conf->port, 14550);
	assert_int_equal(f.conf->any, 0);
	assert_int_equal(f.conf->fast, 1);
	assert_int_equal(f.conf->size, 64 << 20);
	assert_int_equal(f.conf->wait, 0);
	assert_int_equal(f.conf->mode, 2);
	done(&f);
}

static void test_values(void **state)
{
	(void)state;
	struct fixture f;
	fill(&f, &table,
	     "{\"needed\": -0, \"text\": \"\\u00fc\", \"password\": \"\", \"json\": {\"a\" : [1.50, \"x\"]},"
	     " \"port\": 65535, \"any\": -9223372036854775808, \"fast\": false, \"size\": \"1.5GiB\","
	     " \"wait\": \"1h\", \"mode\": \"drop\", \"old\": 3}");
	assert_int_equal(f.result, 0);
	assert_int_equal(f.diag.warnings, 1);
	assert_string_equal(f.diag.items[0].text, "\"old\" is deprecated: use \"any\"");
	assert_string_equal(f.conf->text, "\xc3\xbc");
	assert_string_equal(f.conf->password, "");
	assert_string_equal(f.conf->json, "{\"a\" : [1.50, \"x\"]}");
	assert_int_equal(f.conf->port, 65535);
	assert_true(f.conf->any == INT64_MIN);
	assert_int_equal(f.conf->fast, 0);
	assert_int_equal(f.conf->size, 1610612736);
	assert_int_equal(f.conf->wait, 3600000000000);
	assert_int_equal(f.conf->mode, 1);
	assert_int_equal(f.conf->old, 3);
	done(&f);
	fill(&f, &table, "{\"needed\": 1, \"size\": 2048, \"json\": null}");
	assert_int_equal(f.result, 0);
	assert_int_equal(f.conf->size, 2048);
	assert_string_equal(f.conf->json, "null");
	done(&f);
}

static void test_wrong(void **state)
{
	(void)state;
	static const struct {
		const char *member, *text;
	} cases[] = {
		{"\"text\": 5", "expected a string, got 5; put it in double quotes"},
		{"\"text\": {\"file\": 5}", "expected a string, got an object"},
		{"\"text\": null", "expected a string, got null; leave the key out for its default"},
		{"\"port\": 0", "expected an integer from 1 to 65535, got 0"},
		{"\"port\": 65536", "expected an integer from 1 to 65535, got 65536"},
		{"\"port\": \"80\"",
		 "expected an integer from 1 to 65535, got \"80\"; write numbers without quotes"},
		{"\"port\": \"x\"", "expected an integer from 1 to 65535, got \"x\""},
		{"\"port\": 1e3", "expected an integer from 1 to 65535, got 1e3; an integer has no exponent"},
		{"\"port\": 1.0",
		 "expected an integer from 1 to 65535, got 1.0; an integer has no decimal point"},
		{"\"port\": true", "expected an integer from 1 to 65535, got true"},
		{"\"port\": [1]", "expected an integer from 1 to 65535, got an array"},
		{"\"any\": 9223372036854775808", "expected an integer, got 9223372036854775808"},
		{"\"any\": 99999999999999999999999999999999999999999999999999999999999999999999999",
		 "expected an integer, got 99999999999999999999999999999999999999999999999999999999999..."},
		{"\"fast\": 1", "expected true or false, got 1"},
		{"\"fast\": \"true\"",
		 "expected true or false, got \"true\"; write true and false without quotes"},
		{"\"size\": -1",
		 "expected a size of at least 1KiB like \"64MiB\" or 512 (units B kB MB GB TB KiB MiB "
		 "GiB TiB), got -1"},
		{"\"size\": 1.5", "got 1.5; an integer has no decimal point"},
		{"\"size\": \"64 MiB\"", "got \"64 MiB\""},
		{"\"size\": \"1023\"", "got \"1023\""},
		{"\"size\": \"9999999TiB\"", "got \"9999999TiB\""},
		{"\"wait\": 5",
		 "expected a duration from 1ms to 1h like \"500ms\", \"1h30m\" or \"7d\" (units ns us "
		 "ms s m h d), got 5; a duration is a string with a unit"},
		{"\"wait\": \"2h\"", "got \"2h\""},
		{"\"wait\": \"5 s\"", "got \"5 s\""},
		{"\"mode\": \"dorp\"",
		 "expected \"block\", \"drop\" or \"spill\", got \"dorp\"; did you mean \"drop\"?"},
		{"\"mode\": \"x\"", "expected \"block\", \"drop\" or \"spill\", got \"x\""},
		{"\"mode\": 1", "expected \"block\", \"drop\" or \"spill\", got 1"},
		{"\"password\": 12345", "expected a string, got a number"},
		{"\"txet\": 1", "unknown key \"txet\"; did you mean \"text\"?"},
		{"\"zzzzzz\": 1", "unknown key \"zzzzzz\"; known: text, password, json, port, any, fast, "
				  "size, wait, mode, old, needed"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char text[512];
		struct fixture f;
		snprintf(text, sizeof text, "{\"needed\": 1,\n %s}", cases[i].member);
		fill(&f, &table, text);
		assert_int_equal(f.result, -EINVAL);
		assert_int_equal(f.diag.n, 1);
		if (!strstr(f.diag.items[0].text, cases[i].text))
			fail_msg("%s: %s", cases[i].member, f.diag.items[0].text);
		assert_int_equal(f.diag.items[0].place.line, 2);
		assert_int_equal(
			f.diag.items[0].place.column,
			strstr(cases[i].text, "unknown key") ? 2 : 2 + strcspn(cases[i].member, ":") + 2);
		done(&f);
	}
}

static void test_all_at_once(void **state)
{
	(void)state;
	struct fixture f;
	fill(&f, &table, "{\"port\": 0, \"fast\": 0, \"mode\": \"\", \"x\": 1}");
	assert_int_equal(f.result, -EINVAL);
	assert_int_equal(f.diag.errors, 5);
	assert_string_equal(f.diag.items[3].text, "\"needed\" is missing: How many.");
	assert_string_equal(f.diag.items[0].pointer, "/port");
	done(&f);

	fill(&f, &table, "[]");
	assert_int_equal(f.result, -EINVAL);
	assert_string_equal(f.diag.items[0].text, "expected an object, got an array");
	done(&f);
}

static void test_references(void **state)
{
	(void)state;
	struct fixture f;
	setenv("SS_TEST_A", "va\"l\n\xc3\xbc", 1);
	setenv("SS_TEST_MODE", "drop", 1);
	setenv("SS_TEST_LATIN", "gr\xfc\xdf", 1);
	unsetenv("SS_TEST_NONE");

	fill(&f, &table,
	     "{\"needed\": 1, \"text\": \"<${env:SS_TEST_A}|$${env:SS_TEST_A}|$$|$|${env:SS_TEST_MODE}>\","
	     " \"mode\": \"${env:SS_TEST_MODE}\", \"wait\": \"${env:SS_TEST_MODE}\","
	     " \"json\": {\"${env:X}\": [\"\\u0041${env:SS_TEST_A}\", \"\\u0041\", {\"file\": \"x\"}, "
	     "\"$${\"] }}");
	assert_int_equal(f.result, -EINVAL);
	assert_int_equal(f.diag.n, 1);
	assert_non_null(strstr(f.diag.items[0].text, "got \"${env:SS_TEST_MODE}\""));
	assert_string_equal(f.conf->text, "<va\"l\n\xc3\xbc|${env:SS_TEST_A}|$$|$|drop>");
	assert_int_equal(f.conf->mode, 1);
	assert_string_equal(f.conf->json,
			    "{\"${env:X}\": [\"Ava\\\"l\\u000a\xc3\xbc\", \"\\u0041\", {\"file\": "
			    "\"x\"}, \"${\"] }");
	done(&f);

	static const struct {
		const char *value, *text;
	} cases[] = {
		{"${env:SS_TEST_NONE}", "environment variable SS_TEST_NONE is not set"},
		{"${env:SS_TEST_LATIN}", "environment variable SS_TEST_LATIN is not valid UTF-8"},
		{"${SS_TEST_A}", "a reference is written ${env:NAME}"},
		{"${env:}", "a reference is written ${env:NAME}"},
		{"${env:SS_TEST_A", "a reference is written ${env:NAME}"},
		{"${env:0A}", "a reference is written ${env:NAME}"},
		{"${env:A B}", "a reference is written ${env:NAME}"},
		{"x${", "a reference is written ${env:NAME}"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char text[512];
		snprintf(text, sizeof text, "{\"needed\": 1, \"password\": \"%s\", \"json\": [\"%s\"]}",
			 cases[i].value, cases[i].value);
		fill(&f, &table, text);
		assert_int_equal(f.result, -EINVAL);
		assert_int_equal(f.diag.n, 2);
		assert_non_null(strstr(f.diag.items[0].text, cases[i].text));
		assert_string_equal(f.diag.items[0].pointer, "/password");
		assert_string_equal(f.diag.items[1].pointer, "/json/0");
		done(&f);
	}
}

static void put(const char *path, const char *bytes, size_t len)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	fclose(f);
}

static void test_files(void **state)
{
	(void)state;
	char dir[] = "/tmp/test_options.XXXXXX", cwd[4096];
	static char big[EXPAND_MAX_FILE + 1];
	struct fixture f;

	assert_non_null(getcwd(cwd, sizeof cwd));
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(mkdir("dir", 0700), 0);
	put("dir/one", "s3cret\n", 7);
	put("dir/two", "two\n\n", 5);
	put("dir/nul", "a\0b", 3);
	put("dir/latin", "\xfc", 1);
	put("dir/empty", "", 0);
	memset(big, 'x', sizeof big);
	put("dir/big", big, sizeof big);

	setenv("SS_TEST_DIR", dir, 1);
	fill(&f, &table,
	     "{\"needed\": 1, \"password\": {\"file\": \"one\"},"
	     " \"text\": {\"file\": \"${env:SS_TEST_DIR}/dir/two\"}}");
	assert_int_equal(f.result, 0);
	assert_string_equal(f.conf->password, "s3cret");
	assert_string_equal(f.conf->text, "two\n");
	done(&f);
	fill(&f, &table, "{\"needed\": 1, \"text\": {\"file\": \"empty\"}, \"mode\": {\"file\": \"one\"}}");
	assert_int_equal(f.result, -EINVAL);
	assert_string_equal(f.conf->text, "");
	assert_null(strstr(f.diag.items[0].text, "s3cret"));
	done(&f);

	static const struct {
		const char *file, *text;
	} cases[] = {
		{"missing", "cannot take \"dir/missing\": No such file or directory"},
		{".", "cannot take \"dir/.\": Is a directory"},
		{"/dev/null", "cannot take \"/dev/null\": not a regular file"},
		{"nul", "cannot take \"dir/nul\": it holds a NUL byte"},
		{"latin", "cannot take \"dir/latin\": it is not UTF-8"},
		{"big", "cannot take \"dir/big\": the file is too large (at most 64 KiB)"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char text[512];
		snprintf(text, sizeof text, "{\"needed\": 1, \"password\": {\"file\": \"%s\"}}",
			 cases[i].file);
		fill(&f, &table, text);
		assert_int_equal(f.result, -EINVAL);
		assert_int_equal(f.diag.n, 1);
		assert_string_equal(f.diag.items[0].text, cases[i].text);
		assert_string_equal(f.diag.items[0].pointer, "/password/file");
		done(&f);
	}
	static const char *const files[] = {"dir/one",   "dir/two",   "dir/nul",
					    "dir/latin", "dir/empty", "dir/big"};
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
		unlink(files[i]);
	rmdir("dir");
	assert_int_equal(chdir(cwd), 0);
	rmdir(dir);
}

/* Tables of plugins are strangers' work: nothing may be written beside conf. */
static void test_faulty_tables(void **state)
{
	(void)state;
	static const struct ss_option bad[] = {
		{.key = "beyond", .type = SS_OPT_INT, .offset = 8, .default_text = "1"},
		{.key = "far", .type = SS_OPT_INT, .offset = UINT32_MAX - 7, .default_text = "1"},
		{.key = "askew", .type = SS_OPT_INT, .offset = 4, .default_text = "1"},
		{.key = NULL, .type = SS_OPT_INT},
		{.key = "kind", .type = 99},
		{.key = "choices", .type = SS_OPT_ENUM},
		{.key = "number", .type = SS_OPT_INT, .default_text = "1e3"},
		{.key = "json", .type = SS_OPT_JSON, .default_text = "{"},
		{.key = "enum", .type = SS_OPT_ENUM, .choices = modes, .default_text = "dorp"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct fixture f;
		struct option_table t = {.rows = &bad[i], .row_size = sizeof bad[i], .n = 1, .conf_size = 8};
		fill(&f, &t, "{}");
		assert_int_equal(f.result, -EINVAL);
		assert_int_equal(f.diag.n, 1);
		assert_memory_equal(f.diag.items[0].text, "a bug of the plugin", 19);
		done(&f);
	}
	struct fixture f;
	struct option_table none = {.conf_size = 0};
	fill(&f, &none, "{\"a\": 1}");
	assert_int_equal(f.result, -EINVAL);
	assert_string_equal(f.diag.items[0].text, "unknown key \"a\"");
	done(&f);
}

/* Rows of an older, shorter and of a newer, longer struct. */
static void test_row_sizes(void **state)
{
	(void)state;
	struct fixture f;
	struct {
		struct ss_option option;
		char more[16];
	} longer[] = {{rows[3], "new"}, {rows[5], "new"}};
	struct option_table t = {.rows = &longer[0].option,
				 .row_size = sizeof longer[0],
				 .n = 2,
				 .conf_size = sizeof(struct conf)};
	fill(&f, &t, "{\"fast\": false}");
	assert_int_equal(f.result, 0);
	assert_int_equal(f.conf->port, 14550);
	assert_int_equal(f.conf->fast, 0);
	done(&f);

	struct ss_option shorter = rows[3];
	struct option_table s = {.rows = &shorter,
				 .row_size = offsetof(struct ss_option, min),
				 .n = 1,
				 .conf_size = sizeof(struct conf)};
	fill(&f, &s, "{\"port\": 0}"); /* no limits known */
	assert_int_equal(f.result, 0);
	done(&f);
}

/* Numbers and booleans may come from the environment; the value is never shown. */
static void test_variables(void **state)
{
	(void)state;
	struct fixture f;
	static const struct {
		const char *key, *value;
		bool good;
	} cases[] = {
		{"port", "8080", true},
		{"port", "65536", false},
		{"port", "080", false},
		{"port", "", false},
		{"port", "80 ", false},
		{"port", "http", false},
		{"port", "1e3", false},
		{"any", "-5", true},
		{"fast", "false", true},
		{"fast", "False", false},
		{"fast", "0", false},
		{"size", "2MiB", true},
		{"size", "4096", true},
		{"size", "much", false},
		{"wait", "1m30s", true},
		{"mode", "drop", true},
		{"mode", "dorp", false},
		{"wait", "soon", false},
		{"any", "9223372036854775808", false},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char text[256];
		setenv("SS_TEST_A", cases[i].value, 1);
		snprintf(text, sizeof text, "{\"needed\": 1, \"%s\": \"${env:SS_TEST_A}\"}", cases[i].key);
		fill(&f, &table, text);
		assert_int_equal(f.result, cases[i].good ? 0 : -EINVAL);
		if (!cases[i].good) {
			assert_int_equal(f.diag.n, 1);
			assert_non_null(strstr(f.diag.items[0].text,
					       ", got \"${env:SS_TEST_A}\"; the variable has another value"));
			assert_true(!cases[i].value[0] || !strstr(f.diag.items[0].text, cases[i].value) ||
				    strlen(cases[i].value) < 4);
		}
		done(&f);
	}
	setenv("SS_TEST_A", "80", 1);
	setenv("SS_TEST_MODE", "false", 1);
	fill(&f, &table,
	     "{\"needed\": \"${env:SS_TEST_A}1\", \"port\": \"${env:SS_TEST_A}${env:SS_TEST_A}\","
	     " \"fast\": \"${env:SS_TEST_MODE}\"}");
	assert_int_equal(f.result, 0);
	assert_int_equal(f.conf->needed, 801);
	assert_int_equal(f.conf->port, 8080);
	assert_int_equal(f.conf->fast, 0);
	done(&f);
	fill(&f, &table, "{\"needed\": \"80\"}");
	assert_int_equal(f.result, -EINVAL);
	assert_non_null(strstr(f.diag.items[0].text, "write numbers without quotes"));
	done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),      cmocka_unit_test(test_values),
		cmocka_unit_test(test_wrong),         cmocka_unit_test(test_all_at_once),
		cmocka_unit_test(test_references),    cmocka_unit_test(test_files),
		cmocka_unit_test(test_faulty_tables), cmocka_unit_test(test_row_sizes),
		cmocka_unit_test(test_variables),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
