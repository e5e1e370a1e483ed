/* SPDX-License-Identifier: MIT */
/* Attributes of many events as bytes: what goes in comes out, and what is damaged is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <semstreams/base/attribute_block.h>

static struct ss_attributes of(const char *origin, const char *address)
{
	struct ss_attributes a = {.struct_size = sizeof a,
				  .flags = SS_ATTR_PEER_VERIFIED | SS_ATTR_ORIGIN_VERIFIED};

	a.values[SS_ATTR_PEER] = (struct ss_attribute){.text = "peer", .len = 4};
	if (origin)
		a.values[SS_ATTR_ORIGIN] =
			(struct ss_attribute){.text = origin, .len = (uint32_t)strlen(origin)};
	if (address)
		a.values[SS_ATTR_ADDRESS] =
			(struct ss_attribute){.text = address, .len = (uint32_t)strlen(address)};
	return a;
}

static bool is(const struct ss_attributes *a, uint32_t which, const char *text)
{
	return a->values[which].text && a->values[which].len == strlen(text) &&
	       memcmp(a->values[which].text, text, strlen(text)) == 0;
}

static void a_set_comes_back_without_its_peer(void **state)
{
	(void)state;
	uint8_t bytes[SS_ATTRIBUTE_SET_MAX];
	const struct ss_attributes full = of("edge", "[::1]:4"), none = of(NULL, NULL);
	struct ss_attributes out;
	const size_t len = ss_attribute_set_write(&full, bytes);

	assert_int_equal(len, 2 + 2 + 4 + 2 + 7);
	assert_int_equal(ss_attribute_set_size(&full), len);
	assert_int_equal(ss_attribute_set_read(bytes, len, &out), 0);
	assert_true(is(&out, SS_ATTR_ORIGIN, "edge") && is(&out, SS_ATTR_ADDRESS, "[::1]:4"));
	assert_null(out.values[SS_ATTR_PEER].text);
	assert_int_equal(out.flags, SS_ATTR_ORIGIN_VERIFIED);
	assert_int_equal(ss_attribute_set_write(&none, bytes), 0);
	assert_int_equal(ss_attribute_set_size(&none), 0);
}

/* Random sequences of sets, among them none; each event has its own again. */
static void events_have_their_sets(void **state)
{
	(void)state;
	struct ss_attribute_writer w = {0};
	unsigned seed = 7;

	for (int round = 0; round < 300; round++) {
		enum { EVENTS = 200 };
		int which[EVENTS];
		size_t expected = 0, kinds = 1 + (size_t)rand_r(&seed) % (round % 3 ? 6 : 500);
		ss_attribute_writer_clear(&w);
		for (int i = 0; i < EVENTS; i++) {
			uint8_t set[SS_ATTRIBUTE_SET_MAX];
			char name[16];
			which[i] =
				i && rand_r(&seed) % 3 ? which[i - 1] : (int)((size_t)rand_r(&seed) % kinds);
			snprintf(name, sizeof name, "edge-%d", which[i]);
			const struct ss_attributes a = of(which[i] ? name : NULL, NULL);
			const size_t len = ss_attribute_set_write(&a, set);
			expected += ss_attribute_writer_cost(&w, set, len);
			if (i && which[i] == which[i - 1] && round % 2)
				ss_attribute_writer_again(&w);
			else
				assert_int_equal(ss_attribute_writer_add(&w, set, len), 0);
			assert_true(ss_attribute_writer_size(&w) <= expected);
		}
		const size_t size = ss_attribute_writer_size(&w);
		if (!size)
			continue;
		/* a copy as long as the block, so that sanitizers see each border */
		uint8_t *bytes = malloc(size);
		struct ss_attribute_block b;
		ss_attribute_writer_put(&w, bytes);
		assert_int_equal(ss_attribute_block_read(bytes, size, EVENTS, &b), 0);
		assert_int_equal(ss_attribute_block_read(bytes, size, EVENTS - 1, &b), -22);
		assert_int_equal(ss_attribute_block_read(bytes, size - 1, EVENTS, &b), -22);
		if (kinds <= 6)
			assert_true(b.n_sets <= 5);
		int at = 0;
		for (uint32_t r = 0; r < b.n_runs; r++) {
			uint32_t set;
			for (uint32_t n = ss_attribute_block_run(&b, r, &set); n; n--, at++) {
				struct ss_attributes out;
				char name[16];
				size_t len;
				assert_int_equal(set != 0, which[at] != 0);
				if (!set)
					continue;
				const uint8_t *s = ss_attribute_block_set(&b, set, &len);
				assert_int_equal(ss_attribute_set_read(s, len, &out), 0);
				snprintf(name, sizeof name, "edge-%d", which[at]);
				assert_true(is(&out, SS_ATTR_ORIGIN, name));
			}
		}
		assert_int_equal(at, EVENTS);
		free(bytes);
	}
	ss_attribute_writer_done(&w);
}

/* Whatever byte is changed: what is accepted can be read to its end. */
static void damaged_blocks_do_no_harm(void **state)
{
	(void)state;
	struct ss_attribute_writer w = {0};
	uint8_t set[SS_ATTRIBUTE_SET_MAX];
	const struct ss_attributes one = of("edge-1", "a"), two = of("edge-2", NULL);
	unsigned refused = 0;

	for (int i = 0; i < 5; i++)
		ss_attribute_writer_add(&w, set, ss_attribute_set_write(i % 2 ? &one : &two, set));
	const size_t size = ss_attribute_writer_size(&w);
	uint8_t *bytes = malloc(size), *copy = malloc(size);
	ss_attribute_writer_put(&w, bytes);
	for (size_t i = 0; i < size * 255; i++) {
		struct ss_attribute_block b;
		struct ss_attributes out;
		size_t len;
		memcpy(copy, bytes, size);
		copy[i / 255] ^= (uint8_t)(1 + i % 255);
		if (ss_attribute_block_read(copy, size, 5, &b) < 0) {
			refused++;
			continue;
		}
		for (uint32_t n = 1; n <= b.n_sets; n++) {
			const uint8_t *s = ss_attribute_block_set(&b, n, &len);
			assert_true(s >= copy && s + len <= copy + size);
			assert_int_equal(ss_attribute_set_read(s, len, &out), 0);
		}
	}
	assert_true(refused > size * 150);
	free(bytes);
	free(copy);
	ss_attribute_writer_done(&w);
}

static void sets_that_are_none(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
		{"", 0},
		{"\0", 1},
		{"\0\0", 2},
		{"\4\2\0\1a", 5},
		{"\0\x80\0\1a", 5},
		{"\0\2\0\1", 4},
		{"\0\2\0\0", 4},
		{"\0\2\0\1ab", 6},
		{"\0\2\0\2a", 5},
		{"\0\2\0", 3},
		{"\0\6\0\1a", 5},
		{"\0\2\0\1\n", 5},
		{"\0\2\0\1\x80", 5},
	};
	static uint8_t longest[4 + SS_ATTR_NAME_MAX + 1] = {0, 2, 1, 0};
	struct ss_attributes out;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(ss_attribute_set_read((const uint8_t *)bad[i].bytes, bad[i].len, &out), -22);
	memset(longest + 4, 'a', sizeof longest - 4);
	assert_int_equal(ss_attribute_set_read(longest, 4 + 256, &out), -22);
	longest[2] = 0;
	longest[3] = 255;
	assert_int_equal(ss_attribute_set_read(longest, 4 + 255, &out), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_set_comes_back_without_its_peer),
		cmocka_unit_test(events_have_their_sets),
		cmocka_unit_test(damaged_blocks_do_no_harm),
		cmocka_unit_test(sets_that_are_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
