/* SPDX-License-Identifier: MIT */
/* test_ws_frames - frames as a client takes them: whole, cut anywhere, wrong in every way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "plugins/websocket/transport/ws_frames.h"

struct result {
	int rc;
	struct ws_frame frame;
	size_t size;
	const char *why;
};

/* In memory of its own, so that a look behind the end is seen. */
static struct result next(struct ws_frames *f, const void *data, size_t len)
{
	struct result r = {0};
	uint8_t *copy = malloc(len + !len);
	assert_non_null(copy);
	memcpy(copy, data, len);
	r.rc = ws_frames_next(f, copy, len, &r.frame, &r.size, &r.why);
	r.frame.payload = r.rc == 1 ? (const uint8_t *)data + (r.frame.payload - copy) : NULL;
	free(copy);
	return r;
}

static struct ws_frames fresh(size_t max)
{
	return (struct ws_frames){.max_message = max};
}

static size_t header(uint8_t *to, int first, uint64_t len)
{
	to[0] = (uint8_t)first;
	size_t n = len < 126 ? 0 : len < 65536 ? 2 : 8;
	to[1] = (uint8_t)(n == 0 ? len : n == 2 ? 126 : 127);
	for (size_t i = 0; i < n; i++)
		to[2 + i] = (uint8_t)(len >> 8 * (n - 1 - i));
	return 2 + n;
}

static void test_lengths(void **state)
{
	(void)state;
	static const size_t lengths[] = {0, 1, 125, 126, 127, 65535, 65536, 100000};
	uint8_t *data = malloc(100020);
	for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
		size_t len = lengths[i], n = header(data, 0x82, len);
		for (size_t k = 0; k < len; k++)
			data[n + k] = (uint8_t)k;
		struct ws_frames f = fresh(100000);
		struct result r = next(&f, data, n + len + 7);
		assert_int_equal(r.rc, 1);
		assert_int_equal(r.size, n + len);
		assert_int_equal(r.frame.len, len);
		assert_ptr_equal(r.frame.payload, data + n);
		assert_int_equal(r.frame.opcode, WS_BINARY);
		assert_true(r.frame.final);
		/* cut anywhere: what it asks for is never too much, and grows */
		for (size_t have = 0; have < n + len; have = have < 12 ? have + 1 : have * 2 + 1) {
			f = fresh(100000);
			r = next(&f, data, have);
			assert_int_equal(r.rc, 0);
			assert_true(r.size > have && r.size <= n + len);
			assert_true(have < n || r.size == n + len);
			assert_int_equal(f.opcode, 0);
		}
	}
	free(data);
}

static void test_fragments(void **state)
{
	(void)state;
	struct ws_frames f = fresh(10);
	struct result r = next(&f,
			       "\x01\x03"
			       "abc",
			       5);
	assert_int_equal(r.rc, 1);
	assert_int_equal(r.frame.opcode, WS_TEXT);
	assert_false(r.frame.final);
	/* control frames may come in between */
	r = next(&f,
		 "\x89\x04"
		 "ping",
		 6);
	assert_int_equal(r.rc, 1);
	assert_int_equal(r.frame.opcode, WS_PING);
	r = next(&f, "\x00\x00", 2);
	assert_int_equal(r.rc, 1);
	assert_int_equal(r.frame.opcode, WS_TEXT);
	r = next(&f,
		 "\x80\x07"
		 "defghij",
		 9);
	assert_int_equal(r.rc, 1);
	assert_int_equal(r.frame.opcode, WS_TEXT);
	assert_true(r.frame.final);
	/* and then all is as it was */
	r = next(&f,
		 "\x82\x0a"
		 "0123456789",
		 12);
	assert_int_equal(r.rc, 1);
	assert_int_equal(r.frame.opcode, WS_BINARY);
	assert_int_equal(next(&f, "\x80\x00", 2).rc, -1002);
}

static void check_breach(struct ws_frames f, const char *data, size_t len, int code, const char *why)
{
	struct result r = next(&f, data, len);
	assert_int_equal(r.rc, -code);
	assert_string_equal(r.why, why);
}

static void test_breaches(void **state)
{
	(void)state;
	struct ws_frames f = fresh(1000), inside = {.max_message = 1000, .opcode = WS_TEXT, .so_far = 990};
	for (int bit = 0x10; bit <= 0x40; bit <<= 1)
		check_breach(f, (char[]){(char)(0x81 | bit), 0}, 2, 1002, "a frame has reserved bits set");
	check_breach(f, "\x81\x80\1\2\3\4", 6, 1002, "a server's frame is masked");
	for (int opcode = 0; opcode < 16; opcode++)
		if ((opcode > 2 && opcode < 8) || opcode > 10)
			check_breach(f, (char[]){(char)(0x80 | opcode), 0}, 2, 1002,
				     "a frame has an unknown opcode");
	for (int opcode = 8; opcode <= 10; opcode++) {
		check_breach(f, (char[]){(char)opcode, 0}, 2, 1002,
			     "a control frame is fragmented or too long");
		check_breach(f, (char[]){(char)(0x80 | opcode), 126}, 2, 1002,
			     "a control frame is fragmented or too long");
	}
	check_breach(f, "\x80\0", 2, 1002, "a continuation without a beginning");
	check_breach(f, "\x00\0", 2, 1002, "a continuation without a beginning");
	check_breach(inside, "\x81\0", 2, 1002, "a message begins before the last one ended");
	check_breach(inside, "\x02\0", 2, 1002, "a message begins before the last one ended");
	check_breach(f, "\x82\x7e\x00\x7d", 4, 1002, "the length of a frame is written wrongly");
	check_breach(f, "\x82\x7f\0\0\0\0\0\0\xff\xff", 10, 1002, "the length of a frame is written wrongly");
	check_breach(f, "\x82\x7f\x80\0\0\0\0\1\0\0", 10, 1002, "the length of a frame is written wrongly");
	/* told before the payload is there */
	check_breach(f, "\x82\x7e\x03\xe9", 4, 1009, "message too big");
	check_breach(f, "\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 10, 1009, "message too big");
	check_breach(inside, "\x80\x0b", 2, 1009, "message too big");
	assert_int_equal(next(&inside, "\x80\x0a", 2).rc, 0);
	/* a control frame is no part of a message */
	inside.so_far = 1000;
	assert_int_equal(next(&inside, "\x8a\x01x", 3).rc, 1);
}

static void test_close_codes(void **state)
{
	(void)state;
	static const int good[] = {1000, 1003, 1007, 1014, 3000, 4409, 4999};
	static const int bad[] = {0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535};
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		assert_true(ws_close_code_valid(good[i]));
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(ws_close_code_valid(bad[i]));
}

static void test_masks(void **state)
{
	(void)state;
	static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
	for (size_t len = 0; len <= 40; len++) {
		uint8_t data[64], plain[40];
		size_t n = header(data, 0x82, len);
		data[1] |= 0x80;
		memcpy(data + n, mask, 4);
		for (size_t i = 0; i < len; i++) {
			plain[i] = (uint8_t)(i * 7);
			data[n + 4 + i] = plain[i] ^ mask[i & 3];
		}
		struct ws_frames f = {.max_message = 40, .masked = true};
		for (size_t have = 0; have < n + 4 + len; have++)
			assert_int_equal(next(&f, data, have).rc, 0);
		struct result r = next(&f, data, n + 4 + len);
		assert_int_equal(r.rc, 1);
		assert_int_equal(r.size, n + 4 + len);
		assert_ptr_equal(r.frame.payload, data + n + 4);
		ws_frames_mask(data + n + 4, len, mask);
		assert_memory_equal(data + n + 4, plain, len);
		data[1] &= 0x7f;
		assert_int_equal(next(&f, data, n + len).rc, -1002);
		data[1] |= 0x80;
		f.masked = false;
		assert_int_equal(next(&f, data, n + 4 + len).rc, -1002);
	}
}

static void test_close_frames(void **state)
{
	(void)state;
	for (int code = 0; code < 65536; code++) {
		const uint8_t data[] = {(uint8_t)(code >> 8), (uint8_t)code, 'x'};
		bool valid = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
			     (code >= 3000 && code <= 4999);
		assert_int_equal(ws_close_code(data, 3), valid ? code : -1002);
		assert_int_equal(ws_close_code(data, 2), valid ? code : -1002);
	}
	assert_int_equal(ws_close_code((const uint8_t *)"", 0), WS_NO_STATUS);
	assert_int_equal(ws_close_code((const uint8_t *)"\x03", 1), -1002);
	assert_int_equal(ws_close_code((const uint8_t *)"\x03\xe8\xff", 3), -1007);
}

/* What is written is what the other end reads, masked or not, with a reason or without, or with no code. */
static void test_written_close_frames(void **state)
{
	(void)state;
	static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
	char longest[WS_CONTROL_MAX + 1];
	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	const struct {
		int code;
		const char *reason;
		size_t len;
	} cases[] = {{1000, "", 2},
		     {4409, "replaced", 10},
		     {WS_NO_STATUS, "", 0},
		     {1001, longest, WS_CONTROL_MAX}};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		for (int masked = 0; masked < 2; masked++) {
			uint8_t data[WS_CLOSE_MAX];
			struct ws_frames f = {.max_message = 10, .masked = masked};
			size_t n = ws_close_frame(data, masked ? mask : NULL, cases[i].code, cases[i].reason);
			struct result r = next(&f, data, n);
			assert_int_equal(r.rc, 1);
			assert_int_equal(r.size, n);
			assert_int_equal(r.frame.opcode, WS_CLOSE);
			assert_int_equal(r.frame.len, cases[i].len);
			uint8_t *payload = data + (r.frame.payload - data);
			if (masked)
				ws_frames_mask(payload, r.frame.len, mask);
			assert_int_equal(ws_close_code(payload, r.frame.len), cases[i].code);
			if (r.frame.len > 2)
				assert_memory_equal(payload + 2, cases[i].reason, r.frame.len - 2);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_breaches),
		cmocka_unit_test(test_close_codes),
		cmocka_unit_test(test_masks),
		cmocka_unit_test(test_close_frames),
		cmocka_unit_test(test_written_close_frames),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
