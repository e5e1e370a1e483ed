/* SPDX-License-Identifier: MIT */
/* senders: found by key and by number, limits, who is forgotten, and what is due when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "plugins/websocket_input/senders.h"

#define MS UINT64_C(1000000)

static struct senders senders;
static uint32_t runs[8192]; /* by number */
static uint64_t again_ns;   /* what is due is scheduled for then */

static void note(struct sender *s)
{
	runs[s->number]++;
	if (again_ns)
		senders_schedule(&senders, s, again_ns);
}

static int set_up(void **state)
{
	(void)state;
	memset(&senders, 0, sizeof senders);
	memset(runs, 0, sizeof runs);
	again_ns = 0;
	senders.max = 5000;
	senders.max_streams = 3;
	senders.max_unnamed = 4;
	return senders_init(&senders, 7 * MS);
}

static int tear_down(void **state)
{
	(void)state;
	senders_done(&senders);
	return 0;
}

static struct sender *add(const char *name, const char *stream)
{
	struct sender *s = senders_add(&senders, name, stream);

	assert_non_null(s);
	return s;
}

static void test_many(void **state)
{
	char name[32];
	(void)state;
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof name, "edge-%d", i);
		const struct sender *s = add(name, "data");
		assert_ptr_equal(senders_at(&senders, s->number), s);
	}
	assert_null(senders_add(&senders, "one more", "data"));
	assert_int_equal(errno, ENOSPC);
	for (int i = 0; i < 5000; i += 2) {
		snprintf(name, sizeof name, "edge-%d", i);
		senders_remove(&senders, senders_find(&senders, name, "data"));
	}
	assert_int_equal(senders.n, 2500);
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof name, "edge-%d", i);
		const struct sender *s = senders_find(&senders, name, "data");
		assert_int_equal(s != NULL, i % 2);
		assert_true(!s || strcmp(s->name->text, name) == 0);
	}
}

/* A key is both; "ab", "c" is not "a", "bc". */
static void test_keys(void **state)
{
	(void)state;
	struct sender *a = add("ab", "c"), *b = add("a", "bc"), *c = add("", "c"), *d = add("ab", "");

	assert_ptr_equal(senders_find(&senders, "ab", "c"), a);
	assert_ptr_equal(senders_find(&senders, "a", "bc"), b);
	assert_ptr_equal(senders_find(&senders, "", "c"), c);
	assert_ptr_equal(senders_find(&senders, "ab", ""), d);
	assert_null(senders_find(&senders, "", ""));
	assert_null(senders_find(&senders, "abc", ""));
}

static void test_streams_of_a_name(void **state)
{
	char stream[32], longest[SENDERS_NAME_MAX + 1];
	(void)state;
	for (int i = 0; i < 4; i++) {
		snprintf(stream, sizeof stream, "s%d", i);
		assert_int_equal(senders_add(&senders, "edge", stream) != NULL, i < 3);
		assert_non_null(senders_add(&senders, "", stream));
	}
	assert_null(senders_add(&senders, "edge", "s4"));
	assert_int_equal(errno, EMFILE);
	assert_null(senders_add(&senders, "", "s4"));
	assert_int_equal(errno, EMFILE);
	senders_remove(&senders, senders_find(&senders, "edge", "s1"));
	assert_non_null(senders_add(&senders, "edge", "s5"));
	memset(longest, 'n', sizeof longest);
	longest[SENDERS_NAME_MAX] = '\0';
	assert_null(senders_add(&senders, longest, ""));
	assert_int_equal(errno, EINVAL);
	assert_non_null(senders_add(&senders, longest + 1, ""));
}

static void test_who_is_forgotten(void **state)
{
	(void)state;
	struct sender *a = add("a", ""), *b = add("b", ""), *c = add("c", "");

	assert_null(senders_oldest(&senders));
	senders_leave(&senders, b, 1);
	senders_leave(&senders, a, 2);
	senders_leave(&senders, c, 3);
	assert_ptr_equal(senders_oldest(&senders), b);
	b->pending = 1;
	assert_ptr_equal(senders_oldest(&senders), a);
	senders_return(&senders, a);
	assert_ptr_equal(senders_oldest(&senders), c);
	c->pending = 1;
	assert_null(senders_oldest(&senders));
	b->pending = 0;
	senders_leave(&senders, a, 4);
	assert_ptr_equal(senders_oldest(&senders), b);
	struct sender *a2 = add("a", "2"), *a3 = add("a", "3");
	assert_null(senders_add(&senders, "a", "4"));
	assert_ptr_equal(senders_oldest_of(&senders, "a"), a);
	senders_leave(&senders, a3, 5);
	senders_leave(&senders, a2, 6);
	a->pending = 1;
	assert_ptr_equal(senders_oldest_of(&senders, "a"), a3);
	assert_null(senders_oldest_of(&senders, "nobody"));
	senders_remove(&senders, b);
	assert_ptr_equal(senders_oldest(&senders), a3);
}

static void test_due(void **state)
{
	(void)state;
	struct sender *a = add("a", ""), *b = add("b", ""), *c = add("c", "");

	senders_schedule(&senders, a, 120 * MS);
	senders_schedule(&senders, b, 60000 * MS); /* more than a turn of the wheel */
	senders_schedule(&senders, c, UINT64_MAX); /* never */
	senders_schedule(&senders, a, 500 * MS);   /* the earlier time stays */
	senders_run(&senders, 119 * MS, note);
	assert_int_equal(runs[a->number], 0);
	senders_run(&senders, 120 * MS, note);
	assert_int_equal(runs[a->number], 1);
	for (uint64_t at = 123; at < 60000; at += 7)
		senders_run(&senders, at * MS, note);
	assert_int_equal(runs[b->number], 0);
	senders_run(&senders, 60000 * MS + SENDERS_SLOT_NS, note);
	assert_int_equal(runs[b->number], 1);
	assert_int_equal(runs[a->number], 1);
	assert_int_equal(runs[c->number], 0);
}

/* A machine that slept meets each once; what is late already is done at the next run, not in this one. */
static void test_late(void **state)
{
	char name[32];
	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof name, "edge-%d", i);
		senders_schedule(&senders, add(name, ""), (uint64_t)i * 70 * MS);
	}
	again_ns = 10 * MS;
	senders_run(&senders, UINT64_C(100000000) * MS, note);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(runs[i], 1);
	again_ns = 0;
	senders_run(&senders, UINT64_C(100000000) * MS + SENDERS_SLOT_NS, note);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(runs[i], 2);
}

static struct sender *victim;

static void remove_victim(struct sender *s)
{
	note(s);
	if (victim && victim != s)
		senders_remove(&senders, victim);
	victim = NULL;
}

static void test_removed_while_due(void **state)
{
	(void)state;
	struct sender *a = add("a", ""), *b = add("b", "");

	senders_schedule(&senders, a, 100 * MS);
	senders_schedule(&senders, b, 100 * MS);
	victim = b;
	senders_run(&senders, 200 * MS, remove_victim);
	assert_int_equal(senders.n, 1);
	assert_int_equal(runs[a->number], 1);
	senders_schedule(&senders, a, 300 * MS);
	senders_run(&senders, 300 * MS, note);
	assert_int_equal(runs[a->number], 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_many), TEST(test_keys), TEST(test_streams_of_a_name), TEST(test_who_is_forgotten),
		TEST(test_due),  TEST(test_late), TEST(test_removed_while_due),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
