/* SPDX-License-Identifier: MIT */
/* diag: order, escaping, limits, nearest words. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_visible),
		cmocka_unit_test(test_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
