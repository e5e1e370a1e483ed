/* SPDX-License-Identifier: MIT */
/* CRC-32C: the vectors of RFC 3720, and the instruction against the table. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc_vectors),
		cmocka_unit_test(test_crc_ways_agree),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
