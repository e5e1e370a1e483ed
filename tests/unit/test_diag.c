/* SPDX-License-Identifier: MIT */
/* diag: order, what is made visible, limits; hidden: what is shown in place of a value, whole, cut, quoted.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/admin/hidden.h"
#include "core/config/diag.h"

static char *printed(const struct diag *d)
{
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	assert_non_null(f);
	diag_print(d, f);
	fclose(f);
	return text;
}

static void test_order(void **state)
{
	(void)state;
	struct diag d;
	diag_init(&d);
	diag_add(&d, DIAG_ERROR, "f.json", (struct place){10, 2}, "/b", "third %d", 3);
	diag_add(&d, DIAG_WARN, "f.json", (struct place){2, 9}, "/a", "second");
	diag_add(&d, DIAG_SKIP, "f.json", (struct place){2, 9}, "", "after it");
	diag_add(&d, DIAG_ERROR, "f.json", (struct place){0}, NULL, "first");
	diag_add(&d, DIAG_ERROR, NULL, (struct place){0}, NULL, "nowhere");
	assert_int_equal(d.errors, 3);
	assert_int_equal(d.warnings, 1);
	char *text = printed(&d);
	assert_string_equal(text, "error  nowhere\n"
				  "error f.json  first\n"
				  "warning f.json:2:9 /a  second\n"
				  "skipped f.json:2:9  after it\n"
				  "error f.json:10:2 /b  third 3\n");
	free(text);
	diag_done(&d);
	assert_int_equal(d.errors, 0);
}

static void test_visible(void **state)
{
	(void)state;
	struct diag d;
	diag_init(&d);
	diag_add(&d, DIAG_ERROR, "a\nb", (struct place){1, 1}, "/\x1b[2J", "%s",
		 "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80 \t\x7f \xff \xc0\x80 \xed\xa0\x80 "
		 "\xc2\x9b|\xe2\x82");
	assert_string_equal(d.items[0].file, "a\\x0ab");
	assert_string_equal(d.items[0].pointer, "/\\x1b[2J");
	assert_string_equal(d.items[0].text,
			    "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80 \\x09\\x7f \\xff "
			    "\\xc0\\x80 \\xed\\xa0\\x80 \\xc2\\x9b|\\xe2\\x82");
	diag_done(&d);
}

static void test_limits(void **state)
{
	(void)state;
	struct diag d;
	char *big = malloc(100000);
	memset(big, 'x', 99999);
	big[99999] = '\0';
	big[DIAG_MAX_TEXT - 1] = '\xc3'; /* a character across the limit is not torn */
	big[DIAG_MAX_TEXT] = '\xbc';

	diag_init(&d);
	diag_add(&d, DIAG_ERROR, "f", (struct place){1, 1}, big, "%s", big);
	assert_int_equal(strlen(d.items[0].text), DIAG_MAX_TEXT - 1 + 3);
	assert_string_equal(d.items[0].text + DIAG_MAX_TEXT - 3, "xx...");
	assert_string_equal(d.items[0].pointer, d.items[0].text);
	for (int i = 0; i < 2 * DIAG_MAX_ITEMS; i++)
		diag_add(&d, DIAG_ERROR, "f", (struct place){1, 1}, NULL, "%d", i);
	assert_int_equal(d.n, DIAG_MAX_ITEMS);
	assert_int_equal(d.errors, 2 * DIAG_MAX_ITEMS + 1);
	char *text = printed(&d);
	assert_non_null(strstr(text, "error  1001 more problems are not shown\n"));
	free(text);
	free(big);
	diag_done(&d);
}

/* ---- what is hidden ---- */

static void shown(const char *text, const char *expected)
{
	char buf[512];

	assert_string_equal(hidden_text(text, buf, sizeof buf), expected);
}

static void test_hidden_values(void **state)
{
	(void)state;
	assert_false(hidden_any());
	shown("nothing is hidden", "nothing is hidden");

	assert_int_equal(hidden_add(" hush\"4711\n", "<content of a>"), 0);
	assert_int_equal(hidden_add("hush\"4711", "<another>"), 0); /* it is known */
	assert_int_equal(hidden_add("lock-1", "<content of \"b\">"), 0);
	assert_int_equal(hidden_add("a-longer-value-of-a-file", "<secret>"), 0);
	assert_int_equal(hidden_add("ws://Host/stream?token=1", "<url>"), 0);
	assert_true(hidden_any());

	shown("hush\"4711", "<content of a>");
	shown("x hush\"4711hush\"4711", "x <content of a><content of a>");
	shown("\"hush\\\"4711\" is no name", "\"<content of a>\" is no name");
	/* a short one is hidden where it stands alone */
	shown("lock-1: block-1 lock-10 'lock-1'", "<content of ?b?>: block-1 lock-10 '<content of ?b?>'");
	/* cut at the end of a text, or by whoever wrote it */
	shown("no a-longer-value-of", "no <secret>");
	shown("no \"a-longer-value-of...\"", "no \"<secret>...\"");
	shown("a-longer-value-of another kind, a-longer", "a-longer-value-of another kind, a-longer");
	shown("dialing ws://host:80/stream?...", "dialing ws://host:80<url>?...");
	assert_int_equal(hidden_add("ws://127.0.0.1:9/live?token=1", "<url>"), 0);
	shown("dialing ws://127.0.0.1:9/live?... and", "dialing ws://127.0.0.1:9/live?... and");
	hidden_clear();
	assert_false(hidden_any());
	shown("hush\"4711", "hush\"4711");
}

static void test_what_stays(void **state)
{
	static const char *const values[] = {"",          "eth0",          "short",
					     "127.0.0.1", "[2001:db8::1]", "2001:db8::1"};
	(void)state;

	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
		assert_int_equal(hidden_add(values[i], "<hidden>"), 0);
		assert_false(hidden_any());
	}
}

static void test_hidden_room(void **state)
{
	char buf[12];
	(void)state;

	assert_int_equal(hidden_add("secret-words", "<secret>"), 0);
	assert_string_equal(hidden_text("ab secret-words cd", buf, sizeof buf), "ab <secret>");
	assert_string_equal(hidden_text("abcdef secret-words", buf, sizeof buf), "abcdef <sec");
	hidden_clear();
}

static void test_hidden_in_diagnostics(void **state)
{
	struct diag diag;
	(void)state;

	diag_init(&diag);
	assert_int_equal(hidden_add("secret-words", "<secret>"), 0);
	diag_add(&diag, DIAG_ERROR, "f.json", (struct place){1, 1}, "/x", "not an address: \"%s\"",
		 "secret-words");
	assert_string_equal(diag.items[0].text, "not an address: \"<secret>\"");
	diag_done(&diag);
	hidden_clear();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_visible),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_hidden_values),
		cmocka_unit_test(test_what_stays),
		cmocka_unit_test(test_hidden_room),
		cmocka_unit_test(test_hidden_in_diagnostics),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
