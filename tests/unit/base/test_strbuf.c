/* SPDX-License-Identifier: MIT */
/* strbuf: growing, JSON strings, records and back. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <semstreams/base/strbuf.h>

static void test_growing(void **state)
{
	(void)state;
	struct ss_strbuf b = {0};
	char text[2000];

	assert_string_equal(ss_strbuf_cstr(&b), "");
	for (int i = 0; i < 5000; i++) {
		ss_strbuf_printf(&b, "%d,", i);
		ss_strbuf_char(&b, '\n');
	}
	assert_false(b.failed);
	char *all = ss_strbuf_take(&b);
	assert_null(b.bytes);
	char *at = all;
	for (int i = 0; i < 5000; i++) {
		int n = snprintf(text, sizeof text, "%d,\n", i);
		assert_memory_equal(at, text, n);
		at += n;
	}
	assert_int_equal(*at, '\0');
	free(all);
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	for (size_t len = 0; len < sizeof text; len += 51) { /* across the first sizes, in one piece */
		struct ss_strbuf one = {0};
		ss_strbuf_printf(&one, "%.*s", (int)len, text);
		ss_strbuf_add(&one, text, len);
		assert_int_equal(one.len, 2 * len);
		assert_int_equal(strlen(ss_strbuf_cstr(&one)), 2 * len);
		ss_strbuf_clear(&one);
		ss_strbuf_text(&one, "again");
		assert_string_equal(ss_strbuf_cstr(&one), "again");
		ss_strbuf_done(&one);
	}
	assert_string_equal(all = ss_strbuf_take(&b), "");
	free(all);
}

static void test_out_of_memory(void **state)
{
	(void)state;
	struct ss_strbuf b = {0};

	ss_strbuf_text(&b, "a");
	assert_null(ss_strbuf_room(&b, SIZE_MAX));
	assert_true(b.failed);
	ss_strbuf_text(&b, "b");
	ss_strbuf_json(&b, "c", 1);
	ss_strbuf_printf(&b, "%d", 1);
	assert_int_equal(b.len, 1);
	assert_string_equal(ss_strbuf_cstr(&b), "");
	assert_null(ss_strbuf_take(&b));
	assert_false(b.failed);
	ss_strbuf_json(&b, "", SIZE_MAX / 2);
	assert_true(b.failed);
	ss_strbuf_done(&b);
}

static void test_json(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		size_t len;
		const char *json;
	} cases[] = {
		{"", 0, "\"\""},
		{"a\"b\\c/", 6, "\"a\\\"b\\\\c/\""},
		{"\0\x1f\x7f\n", 4, "\"\\u0000\\u001f\\u007f\\u000a\""},
		{"\xc3\xa4\xf0\x9f\x98\x80", 6, "\"\xc3\xa4\xf0\x9f\x98\x80\""},
		{"\xc3", 1, "\"\xef\xbf\xbd\""},
		{"x\xff\xed\xa0\x80y", 6, "\"x\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdy\""},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct ss_strbuf b = {0};
		ss_strbuf_json(&b, cases[i].bytes, cases[i].len);
		assert_string_equal(ss_strbuf_cstr(&b), cases[i].json);
		ss_strbuf_done(&b);
	}
}

static void test_numbers(void **state)
{
	(void)state;
	static const int64_t numbers[] = {0, 1, -1, 10, -10, 1234567890123, INT64_MAX, INT64_MIN};
	struct ss_strbuf b = {0};
	char text[32];

	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		ss_strbuf_clear(&b);
		ss_strbuf_int(&b, numbers[i]);
		snprintf(text, sizeof text, "%lld", (long long)numbers[i]);
		assert_string_equal(ss_strbuf_cstr(&b), text);
	}
	ss_strbuf_clear(&b);
	ss_strbuf_u32(&b, 0x01020304);
	ss_strbuf_u64(&b, UINT64_C(0x1112131415161718));
	ss_strbuf_text(&b, "end");
	assert_memory_equal(b.bytes,
			    "\x04\x03\x02\x01\x18\x17\x16\x15\x14\x13\x12\x11"
			    "end",
			    15);
	for (size_t len = 0; len <= b.len; len++) {
		struct ss_unpack u = {.at = (uint8_t *)b.bytes, .end = (uint8_t *)b.bytes + len};
		assert_int_equal(ss_unpack_u32(&u), len >= 4 ? 0x01020304 : 0);
		assert_true(ss_unpack_u64(&u) == (len >= 12 ? UINT64_C(0x1112131415161718) : 0));
		const uint8_t *end = ss_unpack_bytes(&u, 3);
		assert_int_equal(end != NULL, len >= 15);
		assert_int_equal(u.failed, len < 15);
		if (u.failed)
			assert_null(ss_unpack_bytes(&u, 0)); /* once failed, for good */
	}
	ss_strbuf_done(&b);
}

/* The vectors of RFC 4648, section 10, without padding, and the two letters of section 5. */
static void test_base64url(void **state)
{
	static const struct {
		const char *bytes, *text;
	} pairs[] = {
		{"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
		{"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff\xbf", "-_-_"}};
	static const char *const bad[] = {"Z", "Zg=", "Zg==", "Zh", "Zm9", "+/+/", "Zm9v ", "Zm9vY"};
	struct ss_strbuf b = {0}, back = {0};
	(void)state;

	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		const size_t len = strlen(pairs[i].bytes);
		ss_strbuf_clear(&b);
		ss_strbuf_base64url(&b, pairs[i].bytes, len);
		assert_int_equal(b.len, strlen(pairs[i].text));
		if (b.len)
			assert_memory_equal(b.bytes, pairs[i].text, b.len);
		assert_int_equal(ss_base64url_read(pairs[i].text, b.len, &back), 0);
		assert_int_equal(back.len, len);
		if (len)
			assert_memory_equal(back.bytes, pairs[i].bytes, len);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(ss_base64url_read(bad[i], strlen(bad[i]), &back), -EINVAL);
	assert_int_equal(ss_base64url_read("Zg\0A", 4, &back), -EINVAL);
	ss_strbuf_done(&b);
	ss_strbuf_done(&back);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_growing),   cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_json),      cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_base64url),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
