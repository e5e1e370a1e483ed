/* SPDX-License-Identifier: MIT */
/* hidden: what is shown in place of a value, whole, cut, quoted, as part of a URL; what stays visible. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/config/diag.h"
#include "core/admin/hidden.h"

static void shown(const char *text, const char *expected)
{
	char buf[512];

	assert_string_equal(hidden_text(text, buf, sizeof buf), expected);
}

static void test_values(void **state)
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

static void test_room(void **state)
{
	char buf[12];
	(void)state;

	assert_int_equal(hidden_add("secret-words", "<secret>"), 0);
	assert_string_equal(hidden_text("ab secret-words cd", buf, sizeof buf), "ab <secret>");
	assert_string_equal(hidden_text("abcdef secret-words", buf, sizeof buf), "abcdef <sec");
	hidden_clear();
}

static void test_diagnostics(void **state)
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
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_what_stays),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_diagnostics),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
