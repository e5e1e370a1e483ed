/* SPDX-License-Identifier: MIT */
/* CRC-32C: the vectors of RFC 3720, and the instruction against the table. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <semstreams/base/crc32c.h>

static void test_crc_vectors(void **state)
{
	(void)state;
	uint8_t bytes[4][32];
	for (unsigned i = 0; i < 32; i++) {
		bytes[0][i] = 0;
		bytes[1][i] = 0xff;
		bytes[2][i] = (uint8_t)i;
		bytes[3][i] = (uint8_t)(31 - i);
	}
	static const uint32_t expected[] = {0x8a9136aa, 0x62a8ab43, 0x46dd794e,
					    0x113fdb5c}; /* RFC 3720, B.4 */
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(ss_crc32c(0, bytes[i], 32), expected[i]);
		assert_int_equal(ss_crc32c_table(0, bytes[i], 32), expected[i]);
	}
	assert_int_equal(ss_crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(ss_crc32c_table(0, "123456789", 9), 0xe3069283);
	assert_int_equal(ss_crc32c(0, "", 0), 0);
}

static void test_crc_ways_agree(void **state)
{
	(void)state;
	uint8_t bytes[300];
	uint32_t x = 1;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
	for (size_t from = 0; from < 9; from++) {
		for (size_t len = 0; from + len <= sizeof bytes; len++) {
			uint32_t whole = ss_crc32c(0, bytes + from, len);
			size_t half = len / 2;
			assert_int_equal(whole, ss_crc32c_table(0, bytes + from, len));
			assert_int_equal(whole, ss_crc32c(ss_crc32c(0, bytes + from, half),
							  bytes + from + half, len - half));
		}
	}
}

static void fill(uint8_t *bytes, size_t len, uint32_t x)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
}

static void test_mend_one_bit(void **state)
{
	(void)state;
	static const size_t lengths[] = {1, 2, 40, 300, 5000};
	static uint8_t bytes[5000], damaged[5000];

	for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
		size_t len = lengths[l];
		fill(bytes, len, (uint32_t)len);
		uint32_t before = ss_crc32c(0, "epoch", 5), sum = ss_crc32c(before, bytes, len);
		for (size_t bit = 0; bit<8 * len; bit += len> 1000 ? 7 : 1) {
			memcpy(damaged, bytes, len);
			damaged[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_true(ss_crc32c_mend(before, damaged, len, sum));
			assert_memory_equal(damaged, bytes, len);
		}
		for (int bit = 0; bit < 32; bit++) { /* of the checksum */
			assert_true(ss_crc32c_mend(before, damaged, len, sum ^ UINT32_C(1) << bit));
			assert_memory_equal(damaged, bytes, len);
		}
	}
	assert_true(ss_crc32c_mend(0, damaged, 0, 0));
}

static void test_mend_one_byte(void **state)
{
	(void)state;
	uint8_t bytes[600], damaged[600];
	unsigned mended = 0, all = 0;

	fill(bytes, sizeof bytes, 1);
	uint32_t sum = ss_crc32c(0, bytes, sizeof bytes);
	for (size_t at = 0; at < sizeof bytes; at += 3) {
		for (unsigned mask = 1; mask < 256; mask++, all++) {
			memcpy(damaged, bytes, sizeof bytes);
			damaged[at] ^= (uint8_t)mask;
			bool good = ss_crc32c_mend(0, damaged, sizeof bytes, sum);
			damaged[at] ^= good ? 0 : (uint8_t)mask;
			assert_memory_equal(damaged, bytes,
					    sizeof bytes); /* right, or refused and left as it was */
			mended += good;
		}
	}
	assert_true(mended >= all - all / 1000);
}

static void test_mend_refuses(void **state)
{
	(void)state;
	uint8_t bytes[200], damaged[200];
	unsigned wrong = 0;

	fill(bytes, sizeof bytes, 7);
	uint32_t sum = ss_crc32c(0, bytes, sizeof bytes), x = 1;
	for (size_t a = 0; a < 8 * sizeof bytes; a += 11) {
		for (size_t b = a + 8; b < 8 * sizeof bytes;
		     b += 3) { /* two wrong bits, never taken for one */
			memcpy(damaged, bytes, sizeof bytes);
			damaged[a / 8] ^= (uint8_t)(1 << a % 8);
			damaged[b / 8] ^= (uint8_t)(1 << b % 8);
			wrong += ss_crc32c_mend(0, damaged, sizeof bytes, sum);
		}
	}
	for (int i = 0; i < 100000; i++) { /* rubbish */
		fill(damaged, sizeof damaged, x = x * 1664525 + 1013904223);
		wrong += ss_crc32c_mend(0, damaged, sizeof damaged, sum);
	}
	assert_true(wrong <= 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc_vectors),  cmocka_unit_test(test_crc_ways_agree),
		cmocka_unit_test(test_mend_one_bit), cmocka_unit_test(test_mend_one_byte),
		cmocka_unit_test(test_mend_refuses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
