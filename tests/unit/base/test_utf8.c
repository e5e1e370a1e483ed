/* SPDX-License-Identifier: MIT */
/* UTF-8: every code, every sequence of up to four bytes that matters, whole and in pieces. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <semstreams/base/utf8.h>

/* Straight from the table of RFC 3629, section 4. */
static size_t by_grammar(const uint8_t *b, size_t n)
{
	static const uint8_t forms[][5] = {
		{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
	};
	if (n == 0)
		return 0;
	if (b[0] < 0x80)
		return 1;
	for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
		const uint8_t *f = forms[i];
		if (b[0] < f[0] || b[0] > f[1])
			continue;
		if (n < f[4] || b[1] < f[2] || b[1] > f[3])
			return 0;
		for (size_t k = 2; k < f[4]; k++)
			if (b[k] < 0x80 || b[k] > 0xbf)
				return 0;
		return f[4];
	}
	return 0;
}

static const uint8_t edges[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf,
				0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff};
#define N sizeof edges

static void test_sequences(void **state)
{
	(void)state;
	for (size_t a = 0; a < N * N * N * N; a++) {
		const uint8_t b[4] = {edges[a % N], edges[a / N % N], edges[a / N / N % N],
				      edges[a / N / N / N]};
		for (size_t n = 0; n <= 4; n++) {
			uint32_t code = 0;
			assert_int_equal(ss_utf8_next(b, n, &code), by_grammar(b, n));
		}
	}
}

static void test_codes(void **state)
{
	(void)state;
	for (uint32_t c = 0; c <= 0x110000; c++) {
		char out[4];
		uint32_t back = 0;
		size_t n = ss_utf8_put(c, out);
		assert_int_equal(ss_utf8_next(out, n, &back), n);
		bool none = c > 0x10ffff || (c >= 0xd800 && c < 0xe000);
		assert_int_equal(back, none ? 0xfffd : c);
	}
}

static bool valid_by_grammar(const uint8_t *b, size_t n)
{
	while (n) {
		size_t len = by_grammar(b, n);
		if (len == 0)
			return false;
		b += len;
		n -= len;
	}
	return true;
}

/* Could anything behind it make it valid? */
static bool can_go_on(const uint8_t *b, size_t n)
{
	uint8_t more[40];

	memcpy(more, b, n);
	for (size_t tail = 0; tail <= 3; tail++) {
		memset(more + n, 0x80, tail);
		if (valid_by_grammar(more, n + tail))
			return true;
		memset(more + n, 0xbf, tail);
		if (valid_by_grammar(more, n + tail))
			return true;
	}
	return false;
}

static void test_texts(void **state)
{
	(void)state;
	uint64_t x = 1;
	for (int round = 0; round < 200000; round++) {
		uint8_t text[24];
		size_t len;
		x = x * 6364136223846793005u + 1442695040888963407u;
		len = (x >> 59) % (sizeof text + 1);
		for (size_t i = 0; i < len; i++) {
			x = x * 6364136223846793005u + 1442695040888963407u;
			text[i] = (x >> 60) < 11 ? 'a' : edges[(x >> 40) % N];
		}
		assert_int_equal(ss_utf8_valid(text, len), valid_by_grammar(text, len));
		struct ss_utf8_check check = {0};
		size_t at = 0;
		bool good = true;
		while (at < len) {
			x = x * 6364136223846793005u + 1442695040888963407u;
			size_t piece = (x >> 40) % 6;
			piece = piece < len - at ? piece : len - at;
			good = ss_utf8_feed(&check, text + at, piece);
			at += piece;
			assert_int_equal(good, can_go_on(text, at));
		}
		assert_int_equal(ss_utf8_complete(&check), valid_by_grammar(text, len));
	}
}

static void test_plain(void **state)
{
	static const uint32_t plain[] = {' ', 'a', 0xa0, 0xe4, 0x20ac, 0x1f512};
	static const uint32_t others[] = {0,      '\n',   0x1b,   0x7f,   0x85,  0xad,
					  0x200b, 0x202e, 0x2066, 0xfeff, 0xe000};

	(void)state;
	for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
		assert_true(ss_utf8_is_plain(plain[i]));
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		assert_false(ss_utf8_is_plain(others[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_sequences),
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_texts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
