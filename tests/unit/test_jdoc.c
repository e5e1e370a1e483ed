/* SPDX-License-Identifier: MIT */
/* jdoc: the tree with its places, each kind of mistake with its place and reason, pointers, files. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "core/config/jdoc.h"

static void test_tree(void **state)
{
	(void)state;
	static const char text[] = "{\n"
				   "\t\"a\" : [1, -2.5e3, true, false, null],\r\n"
				   "  \"s\": \"x\\u00e9\\ud83d\\ude00\\n\\\"\\/\", \"\": {}\n"
				   "}\n";
	struct diag diag;
	struct jdoc *doc;
	diag_init(&diag);
	assert_int_equal(jdoc_parse("f", text, strlen(text), &diag, &doc), 0);
	assert_int_equal(diag.n, 0);

	struct jnode *root = doc->root, *a = jnode_get(root, "a"), *s = jnode_get(root, "s");
	assert_int_equal(root->type, J_OBJECT);
	assert_int_equal(root->n, 3);
	assert_null(root->name);
	assert_int_equal(a->type, J_ARRAY);
	assert_int_equal(a->n, 5);
	assert_int_equal(a->name_place.line, 2);
	assert_int_equal(a->name_place.column, 2);
	assert_int_equal(a->place.column, 8);
	assert_int_equal(a->text_len, strlen("[1, -2.5e3, true, false, null]"));
	assert_memory_equal(a->text, "[1, -2.5e3, true, false, null]", a->text_len);
	static const enum jtype types[] = {J_NUMBER, J_NUMBER, J_TRUE, J_FALSE, J_NULL};
	struct jnode *child = a->child;
	for (int i = 0; i < 5; i++, child = child->next)
		assert_int_equal(child->type, types[i]);
	assert_string_equal(s->string, "x\xc3\xa9\xf0\x9f\x98\x80\n\"/");
	assert_int_equal(s->place.line, 3);
	assert_int_equal(s->place.column, 8);
	assert_non_null(jnode_get(root, ""));
	assert_null(jnode_get(root, "b"));
	assert_null(jnode_get(a, "a"));
	assert_null(jnode_get(NULL, "a"));
	jdoc_free(doc);
	jdoc_free(NULL);
	diag_done(&diag);
}

struct jcase {
	const char *text;
	unsigned line, column;
	const char *pointer; /* NULL: none */
	const char *reason;
	bool tree; /* is there a document nevertheless? */
};

static void check_case(const struct jcase *c, size_t len)
{
	struct diag diag;
	struct jdoc *doc;
	diag_init(&diag);
	char *exact = malloc(len ? len : 1); /* so that a sanitizer sees the first byte read beyond */
	memcpy(exact, c->text, len);
	int r = jdoc_parse("f", exact, len, &diag, &doc);
	free(exact);
	if (r != -EINVAL || diag.errors == 0)
		fail_msg("%s: %d, %zu errors", c->text, r, diag.errors);
	const struct diag_item *item = &diag.items[0];
	if (item->place.line != c->line || item->place.column != c->column ||
	    !strstr(item->text, c->reason) ||
	    strcmp(item->pointer ? item->pointer : "-", c->pointer ? c->pointer : "-") != 0 ||
	    !doc == c->tree) {
		diag_print(&diag, stderr);
		fail_msg("%s: expected %u:%u %s %s", c->text, c->line, c->column, c->pointer, c->reason);
	}
	jdoc_free(doc);
	diag_done(&diag);
}

static void test_mistakes(void **state)
{
	(void)state;
	static const struct jcase cases[] = {
		{"", 1, 1, NULL, "the file is empty", false},
		{" \n\t\n", 3, 1, NULL, "the file is empty", false},
		{"{", 1, 2, "", "the object that starts at 1:1 is not closed", false},
		{"{\"a\":[1,\n2", 2, 2, "/a", "the array that starts at 1:6 is not closed", false},
		{"{\"a\":", 1, 6, "", "the object that starts at 1:1 is not closed", false},
		{"{\"a\"", 1, 5, "", "the object that starts at 1:1 is not closed", false},
		{"[1,", 1, 4, "", "the array that starts at 1:1 is not closed", false},
		{"{\"a\":1,}", 1, 7, "", "trailing comma before }", true},
		{"[1,\n]", 1, 3, "", "trailing comma before ]", true},
		{"{\"a\":1 // one\n}", 1, 8, "", "comments are not allowed in JSON", true},
		{"{\"a\":1 /* \n */, \"b\": 2}", 1, 8, "", "comments are not allowed", true},
		{"# x\n{}", 1, 1, NULL, "comments are not allowed", true},
		{"{ /* x", 1, 3, "", "comments are not allowed", false},
		{"{/", 1, 2, "", "unexpected \"/\"; expected a name in double quotes", false},
		{"{'a':1}", 1, 2, "", "not single quotes", false},
		{"{\"a\":'x'}", 1, 6, "/a", "not single quotes", false},
		{"{a:1}", 1, 2, "", "expected a name in double quotes; is a double quote", false},
		{"{\"a:1}", 1, 2, "", "this string is not closed", false},
		{"{\"a\":\"x\n}", 1, 6, "/a", "this string is not closed", false},
		{"{\"a\":\"x\r\n}", 1, 6, "/a", "this string is not closed", false},
		{"{\"a\":\"x", 1, 6, "/a", "this string is not closed", false},
		{"{\"a\":\"x\\", 1, 8, "/a", "unknown escape", false},
		{"{\"a: \"x\"}", 1, 7, "/a: ", "expected a colon (:) after the name; is a double quote",
		 false},
		{"{\"a\" = 1}", 1, 6, "/a", "not =", false},
		{"{\"a\" 1}", 1, 6, "/a", "expected a colon", false},
		{"{\"a\":\"x\ty\"}", 1, 8, "/a", "control character 0x09 in a string: write \\u0009 or \\t",
		 true},
		{"{\"a\":\"x\rz\"}", 1, 8, "/a", "control character 0x0d", true},
		{"{\"a\":\"\\d\"}", 1, 7, "/a", "a backslash itself is written \\\\", true},
		{"{\"a\":\"\\u12g4\"}", 1, 7, "/a", "four hexadecimal digits", true},
		{"{\"a\":\"\\u1", 1, 7, "/a", "four hexadecimal digits", false},
		{"{\"a\":\"\\u0000\"}", 1, 7, "/a", "NUL", true},
		{"{\"a\":\"\\ud800x\"}", 1, 7, "/a", "unpaired surrogate", true},
		{"{\"a\":\"\\ud800\\u0041\"}", 1, 7, "/a", "unpaired surrogate", true},
		{"{\"a\":\"\\udc00\"}", 1, 7, "/a", "unpaired surrogate", true},
		{"\xef\xbb\xbf{}", 1, 1, NULL, "byte order mark", true},
		{"\xff\xfe{", 1, 1, NULL, "UTF-16", false},
		{"{\"a\":\"gr\xfc\"}", 1, 9, "/a", "not UTF-8: byte 0xfc at offset 8", false},
		{"{\n\xe9", 2, 1, "", "not UTF-8: byte 0xe9 at offset 2", false},
		{"{\"a\":\xc2\xa0 1}", 1, 6, "/a", "unexpected \"\xc2\xa0\"; expected a value", false},
		{"{\xe2\x80\x9c", 1, 2, "", "typographic", false},
		{"{\"a\":\xe2\x80\x9cx\"}", 1, 6, "/a", "typographic", false},
		{"{...}", 1, 2, "", "is a placeholder", false},
		{"{\"a\":...}", 1, 6, "", "is a placeholder", false},
		{"[1, ...]", 1, 5, "", "is a placeholder", false},
		{"[1 ...]", 1, 4, "", "is a placeholder", false},
		{"[\xe2\x80\xa6]", 1, 2, "/0", "is a placeholder", false},
		{"{\"a\":}", 1, 6, "/a", "unexpected \"}\"; expected a value", false},
		{"[,1]", 1, 2, "/0", "unexpected \",\"; expected a value", false},
		{"[1,,2]", 1, 4, "/1", "unexpected \",\"; expected a value", false},
		{"{,}", 1, 2, "", "unexpected \",\"; expected a name", false},
		{"[1,2}", 1, 5, "", "unexpected \"}\"; expected a comma or ]", false},
		{"{\"a\":1]", 1, 7, "", "unexpected \"]\"; expected a comma or }", false},
		{"{\"a\":1 \"b\":2}", 1, 7, "", "a comma is missing here", true},
		{"{\"a\":1\n\"b\":2}", 1, 7, "", "a comma is missing here", true},
		{"[1\n {}]", 1, 3, "", "a comma is missing here", true},
		{"[1 2]", 1, 4, "", "expected a comma or ]", false},
		{"{} {}", 1, 4, NULL, "text after the end of the document", false},
		{"{}}", 1, 3, NULL, "text after the end of the document", false},
		{"[01]", 1, 2, "/0", "must not start with 0", false},
		{"[-01]", 1, 2, "/0", "must not start with 0", false},
		{"[+1]", 1, 2, "/0", "plus sign", false},
		{"[.5]", 1, 2, "/0", "write 0 before the point", false},
		{"[5.]", 1, 2, "/0", "digits must follow the point", false},
		{"[-]", 1, 2, "/0", "no number", false},
		{"[0x1F]", 1, 2, "/0", "hexadecimal", false},
		{"[10s]", 1, 2, "/0", "values with a unit in double quotes", false},
		{"[1e]", 1, 2, "/0", "letters", false},
		{"[1.2.3.4]", 1, 2, "/0", "letters", false},
		{"[True]", 1, 2, "/0", "write true in lower case", false},
		{"[NULL]", 1, 2, "/0", "write null in lower case", false},
		{"[None]", 1, 2, "/0", "write null", false},
		{"[yes]", 1, 2, "/0", "write true", false},
		{"[Off]", 1, 2, "/0", "write false", false},
		{"[NaN]", 1, 2, "/0", "NaN is not a JSON number", false},
		{"[Infinity]", 1, 2, "/0", "Infinity is not a JSON number", false},
		{"[hunter2]", 1, 2, "/0", "a string needs double quotes", false},
		{"{\"a\":1,\"b\":2,\n \"a\":3}", 2, 2, "/a", "duplicate key \"a\", first at 1:2", true},
		{"{\"a\":1,\"\\u0061\":2}", 1, 8, "/a", "duplicate key \"a\"", true},
		{"{\"x\":[{\"a\":1,\"a\":2}]}", 1, 14, "/x/0/a", "duplicate key", true},
		{"nul", 1, 1, "", "a string needs double quotes", false},
		{"}", 1, 1, NULL, "unexpected \"}\"; expected a value", false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		check_case(&cases[i], strlen(cases[i].text));

	static const struct jcase nuls[] = {
		{"{\"a\":\"x\0y\"}", 1, 8, "/a", "a NUL byte in a string", true},
		{"{\"a\":\0  1 }", 1, 6, "/a", "a NUL byte; expected a value", false},
		{"{  \"a\": 1 \0", 1, 11, "", "a NUL byte", false},
		{"\0{\0\"\0a\0\"\0:", 1, 1, NULL, "UTF-16", false},
		{"{\0\"\0a\0\"\0:\0", 1, 1, NULL, "UTF-16", false},
		{"\0\0\0\0\0\0\0\0\0\0\0", 1, 1, NULL, "a NUL byte", false},
	};
	for (size_t i = 0; i < sizeof nuls / sizeof nuls[0]; i++)
		check_case(&nuls[i], 11);
}

static void test_several(void **state)
{
	(void)state;
	static const char text[] = "{ // one\n"
				   "\"a\": 1, \"a\": \"\t\",\n"
				   "\"b\": [1,], \"a\": 2\n"
				   "\"c\": 3,\n"
				   "}";
	static const struct place places[] = {{1, 3}, {2, 15}, {3, 8}, {3, 18}, {4, 7}, {2, 9}, {3, 12}};
	struct diag diag;
	struct jdoc *doc;
	diag_init(&diag);
	assert_int_equal(jdoc_parse("f", text, strlen(text), &diag, &doc), -EINVAL);
	assert_int_equal(diag.n, 7);
	for (size_t i = 0; i < diag.n; i++) {
		assert_int_equal(diag.items[i].place.line, places[i].line);
		assert_int_equal(diag.items[i].place.column, places[i].column);
	}
	assert_non_null(doc);
	assert_int_equal(doc->root->n, 5);
	jdoc_free(doc);
	diag_done(&diag);
}

static int parse_nested(unsigned depth, struct diag *diag)
{
	char text[2 * 100 + 1];
	struct jdoc *doc;
	memset(text, '[', depth);
	memset(text + depth, ']', depth);
	int r = jdoc_parse("f", text, 2 * (size_t)depth, diag, &doc);
	jdoc_free(doc);
	return r;
}

static void test_limits(void **state)
{
	(void)state;
	struct diag diag;
	diag_init(&diag);
	assert_int_equal(parse_nested(JDOC_MAX_DEPTH, &diag), 0);
	assert_int_equal(parse_nested(JDOC_MAX_DEPTH + 1, &diag), -EINVAL);
	assert_int_equal(diag.items[0].place.column, 65);
	assert_string_equal(diag.items[0].text, "nested deeper than 64");
	diag_done(&diag);

	/* Members, all with one name: quick, and told no more than DIAG_MAX_ITEMS times. */
	size_t len = 0;
	char *text = malloc(8 * (JDOC_MAX_VALUES + 10));
	text[len++] = '{';
	for (int i = 0; i < JDOC_MAX_VALUES - 1; i++) {
		memcpy(text + len, "\"a\":1,", 6);
		len += 6;
	}
	text[len - 1] = '}';
	struct jdoc *doc;
	assert_int_equal(jdoc_parse("f", text, len, &diag, &doc), -EINVAL);
	assert_non_null(doc);
	assert_int_equal(diag.errors, JDOC_MAX_VALUES - 2);
	jdoc_free(doc);
	diag_done(&diag);

	memset(text, '[', 1);
	for (len = 1; len < 2 * JDOC_MAX_VALUES;) {
		text[len++] = '1';
		text[len++] = ',';
	}
	text[len - 1] = ']';
	assert_int_equal(jdoc_parse("f", text, len, &diag, &doc), -EINVAL);
	assert_null(doc);
	assert_non_null(strstr(diag.items[0].text, "more than 500000 values"));
	free(text);
	diag_done(&diag);
}

static void test_pointers(void **state)
{
	(void)state;
	static const char text[] = "{\"a/b\":{\"m~n\":[10,[20,{\"\":1}]]},\"\":2}";
	static const struct {
		const char *pointer;
		bool whole;
		const char *reached;
	} cases[] = {
		{"", true, ""},
		{"/a~1b", true, "/a~1b"},
		{"/a~1b/m~0n", true, "/a~1b/m~0n"},
		{"/a~1b/m~0n/1/1/", true, "/a~1b/m~0n/1/1/"},
		{"/", true, "/"},
		{"/a~1b/m~0n/2", false, "/a~1b/m~0n"},
		{"/a~1b/m~0n/01", false, "/a~1b/m~0n"},
		{"/a~1b/m~0n/-", false, "/a~1b/m~0n"},
		{"/a~1b/m~0n/0/x/y", false, "/a~1b/m~0n/0"},
		{"/a~1b/m~0n/99999999999999999999999", false, "/a~1b/m~0n"},
		{"/missing", false, ""},
		{"no slash", false, ""},
	};
	struct diag diag;
	struct jdoc *doc;
	diag_init(&diag);
	assert_int_equal(jdoc_parse("f", text, strlen(text), &diag, &doc), 0);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		bool whole;
		struct jnode *node = jnode_at(doc->root, cases[i].pointer, &whole);
		char *pointer = jnode_pointer(node);
		assert_int_equal(whole, cases[i].whole);
		assert_string_equal(pointer, cases[i].reached);
		free(pointer);
	}
	jdoc_free(doc);
	diag_done(&diag);
}

static void check_load(const char *file, const char *reason)
{
	struct diag diag;
	struct jdoc *doc;
	diag_init(&diag);
	assert_int_equal(jdoc_load(file, &diag, &doc), -EINVAL);
	assert_null(doc);
	assert_int_equal(diag.n, 1);
	assert_int_equal(diag.items[0].place.line, 0);
	assert_string_equal(diag.items[0].text, reason);
	diag_done(&diag);
}

static void test_files(void **state)
{
	(void)state;
	char dir[] = "/tmp/test_jdoc.XXXXXX", file[64], fifo[64];
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof file, "%s/a.json", dir);
	snprintf(fifo, sizeof fifo, "%s/fifo", dir);

	check_load(dir, "cannot read: Is a directory");
	check_load(file, "cannot read: No such file or directory");
	assert_int_equal(mkfifo(fifo, 0600), 0);
	check_load(fifo, "cannot read: not a regular file");

	FILE *f = fopen(file, "w");
	assert_non_null(f);
	fputs("{\"a\": 1}\n", f);
	fclose(f);
	struct diag diag;
	struct jdoc *doc;
	diag_init(&diag);
	assert_int_equal(jdoc_load(file, &diag, &doc), 0);
	assert_string_equal(doc->file, file);
	assert_int_equal(doc->len, 9);
	jdoc_free(doc);
	diag_done(&diag);

	assert_int_equal(truncate(file, JDOC_MAX_FILE + 1), 0);
	check_load(file, "cannot read: the file is too large (at most 16 MiB)");

	unlink(file);
	unlink(fifo);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tree),     cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_several),  cmocka_unit_test(test_limits),
		cmocka_unit_test(test_pointers), cmocka_unit_test(test_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
