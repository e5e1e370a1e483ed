/* SPDX-License-Identifier: MIT */
/* two_slot: whatever one bit, a torn write or a lost block does, the newest record is found or the loss is
 * told. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include <semstreams/base/two_slot.h>

#define MAGIC "SSTEST\0\1"
enum { SLOT = 256 };

static int new_file(void)
{
	int fd = memfd_create("slots", 0);
	assert_true(fd >= 0);
	return fd;
}

static void write_record(int fd, const char *text, bool both)
{
	struct ss_two_slot t;
	struct ss_two_slot_found found;

	assert_int_equal(ss_two_slot_open(&t, fd, MAGIC, SLOT, &found), 0);
	ss_two_slot_found_done(&found);
	if (both)
		assert_int_equal(ss_two_slot_write_both(&t, text, strlen(text)), 0);
	else
		assert_int_equal(ss_two_slot_write(&t, text, strlen(text)), 0);
	ss_two_slot_close(&t);
}

/* The content that counts, "" if there is none; *doubt. */
static void read_record(int fd, char out[SLOT], bool *doubt)
{
	struct ss_two_slot t;
	struct ss_two_slot_found found;

	assert_int_equal(ss_two_slot_open(&t, fd, MAGIC, SLOT, &found), 0);
	snprintf(out, SLOT, "%s", found.n ? (const char *)found.slots[0].bytes : "");
	*doubt = found.doubt;
	ss_two_slot_found_done(&found);
	ss_two_slot_close(&t);
}

static void flip(int fd, long bit)
{
	uint8_t byte;
	assert_int_equal(pread(fd, &byte, 1, bit / 8), 1);
	byte ^= (uint8_t)(1 << bit % 8);
	assert_int_equal(pwrite(fd, &byte, 1, bit / 8), 1);
}

static void test_in_turn(void **state)
{
	(void)state;
	int fd = new_file();
	char text[SLOT], expected[SLOT];
	bool doubt;

	read_record(fd, text, &doubt);
	assert_string_equal(text, "");
	assert_false(doubt);
	for (int i = 0; i < 20; i++) {
		snprintf(expected, sizeof expected, "record %d %.*s", i, i % 7, "abcdefg");
		write_record(fd, expected, false);
		read_record(fd, text, &doubt);
		assert_string_equal(text, expected);
		assert_false(doubt);
	}
	struct ss_two_slot t;
	struct ss_two_slot_found found;
	char big[SLOT] = "";
	assert_int_equal(ss_two_slot_open(&t, fd, MAGIC, SLOT, &found), 0);
	assert_int_equal(found.n, 2);
	assert_int_equal(found.slots[0].generation, 20);
	assert_int_equal(found.slots[1].generation, 19);
	assert_string_equal(found.slots[1].bytes, "record 18 abcd");
	ss_two_slot_found_done(&found);
	assert_int_equal(ss_two_slot_write(&t, big, SLOT - SS_SLOT_HEAD), 0);
	assert_int_equal(ss_two_slot_write(&t, big, SLOT - SS_SLOT_HEAD + 1), -EMSGSIZE);
	ss_two_slot_close(&t);
	close(fd);
}

static void test_every_bit(void **state)
{
	(void)state;
	for (int rounds = 1; rounds <= 3; rounds++) {
		int fd = new_file();
		char newest[SLOT], older[SLOT] = "", text[SLOT];
		bool doubt;
		for (int i = 0; i < rounds; i++) {
			snprintf(older, sizeof older, "%s", i ? newest : "");
			snprintf(newest, sizeof newest, "record %d", i);
			write_record(fd, newest, false);
		}
		long told = 0;
		for (long bit = 0; bit < 8 * lseek(fd, 0, SEEK_END); bit++) {
			flip(fd, bit);
			read_record(fd, text, &doubt);
			if (strcmp(text, newest) != 0) {
				assert_string_equal(text, older);
				assert_true(doubt);
				told++;
			} else {
				assert_false(doubt);
			}
			flip(fd, bit);
		}
		assert_int_equal(told, 8 * strlen(newest)); /* its content stands once, all else twice */
		close(fd);
	}
}

static void test_clean_end(void **state)
{
	(void)state;
	int fd = new_file();
	char text[SLOT];
	bool doubt;

	write_record(fd, "first", false);
	write_record(fd, "last", true);
	for (long bit = 0; bit < 8 * lseek(fd, 0, SEEK_END); bit++) {
		flip(fd, bit);
		read_record(fd, text, &doubt);
		assert_string_equal(text, "last");
		assert_false(doubt);
		flip(fd, bit);
	}
	/* what comes behind a clean end is in doubt again */
	write_record(fd, "more", false);
	for (long bit = 8 * SS_SLOT_HEAD; bit < 8 * lseek(fd, 0, SEEK_END); bit++) {
		flip(fd, bit);
		read_record(fd, text, &doubt);
		assert_true(strcmp(text, "more") == 0 ? !doubt : strcmp(text, "last") == 0 && doubt);
		flip(fd, bit);
	}
	close(fd);
}

static void test_torn_and_lost(void **state)
{
	(void)state;
	uint8_t before[2 * SLOT], after[2 * SLOT], torn[2 * SLOT];
	int fd = new_file();
	char text[SLOT];
	bool doubt;

	write_record(fd, "first", false);
	write_record(fd, "second", false);
	memset(before, 0, sizeof before);
	memset(after, 0, sizeof after);
	assert_true(pread(fd, before, sizeof before, 0) > 0);
	write_record(fd, "third", false);
	assert_true(pread(fd, after, sizeof after, 0) > 0);
	for (size_t cut = 0; cut < SLOT; cut++) {
		memcpy(torn, before, sizeof torn);
		memcpy(torn, after, cut);
		assert_int_equal(pwrite(fd, torn, sizeof torn, 0), sizeof torn);
		read_record(fd, text, &doubt);
		assert_true(strcmp(text, "second") == 0 || (strcmp(text, "third") == 0 && !doubt));
	}
	/* a block that reads as zeros */
	memset(torn, 0, SLOT);
	assert_int_equal(pwrite(fd, torn, sizeof torn, 0), sizeof torn);
	read_record(fd, text, &doubt);
	assert_string_equal(text, "second");
	assert_true(doubt);
	/* nothing that can be read, and something else than a record of this kind */
	memset(torn, 'x', sizeof torn);
	assert_int_equal(pwrite(fd, torn, sizeof torn, 0), sizeof torn);
	read_record(fd, text, &doubt);
	assert_string_equal(text, "");
	assert_true(doubt);
	close(fd);
}

static void test_reserve_and_other(void **state)
{
	(void)state;
	struct ss_two_slot t;
	struct ss_two_slot_found found;
	int fd = new_file();

	assert_int_equal(ss_two_slot_open(&t, fd, MAGIC, SLOT, &found), 0);
	assert_int_equal(ss_two_slot_reserve(&t, 100), 0);
	assert_int_equal(ss_two_slot_reserve(&t, SLOT), -EMSGSIZE);
	assert_int_equal(lseek(fd, 0, SEEK_END), SLOT + SS_SLOT_HEAD + 100);
	ss_two_slot_close(&t);
	write_record(fd, "one", false);
	write_record(fd, "two", false);
	assert_int_equal(ss_two_slot_open(&t, fd, MAGIC, SLOT, &found), 0);
	ss_two_slot_found_done(&found);
	ss_two_slot_use_other(&t); /* "two" says something impossible */
	assert_int_equal(ss_two_slot_write(&t, "three", 5), 0);
	ss_two_slot_close(&t);
	assert_int_equal(ss_two_slot_open(&t, fd, MAGIC, SLOT, &found), 0);
	assert_string_equal(found.slots[0].bytes, "three");
	assert_string_equal(found.slots[1].bytes, "one");
	ss_two_slot_found_done(&found);
	ss_two_slot_close(&t);
	close(fd);
	/* a write that fails leaves what counts */
	fd = new_file();
	write_record(fd, "one", false);
	assert_int_equal(ss_two_slot_open(&t, fd, MAGIC, SLOT, &found), 0);
	ss_two_slot_found_done(&found);
	t.fd = -1;
	assert_int_equal(ss_two_slot_write(&t, "two", 3), -EBADF);
	t.fd = fd;
	assert_int_equal(ss_two_slot_write(&t, "three", 5), 0);
	ss_two_slot_close(&t);
	assert_int_equal(ss_two_slot_open(&t, fd, MAGIC, SLOT, &found), 0);
	assert_string_equal(found.slots[0].bytes, "three");
	assert_string_equal(found.slots[1].bytes, "one");
	ss_two_slot_found_done(&found);
	ss_two_slot_close(&t);
	assert_int_equal(ss_two_slot_open(&t, -1, MAGIC, SLOT, &found), -EBADF);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_turn),           cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_clean_end),         cmocka_unit_test(test_torn_and_lost),
		cmocka_unit_test(test_reserve_and_other),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
