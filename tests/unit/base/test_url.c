/* SPDX-License-Identifier: MIT */
/* What of a URL may be shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <semstreams/base/url.h>

static void shown_without_secrets(void **state)
{
	(void)state;
	static const struct {
		const char *text, *shown;
	} rows[] = {
		{"ws://h/live?token=SECRET", "ws://h/live?..."},
		{"ws://h?SECRET", "ws://h?..."},
		{"wss://user:SECRET@h:9/x", "wss://h:9/x"},
		{"wss://user:SEC@RET@h/x", "wss://h/x"},
		{"https://h/x#SECRET", "https://h/x?..."},
		{"//user:SECRET@h/x", "//h/x"},
		{"/live?SECRET", "/live?..."},
		{"/a@b/c", "/a@b/c"},
		{"/a//u@b", "/a//u@b"},
		{"a b\n\x1b[1m\xff", "a?b??[1m?"},
		{"", ""},
	};
	char shown[64];
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		ss_url_redact(rows[i].text, shown, sizeof shown);
		assert_string_equal(shown, rows[i].shown);
	}
	ss_url_redact("/01234567890123456789", shown, 12);
	assert_string_equal(shown, "/0123456...");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(shown_without_secrets)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
