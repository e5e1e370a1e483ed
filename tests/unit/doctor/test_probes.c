/* SPDX-License-Identifier: MIT */
/* probes: all run at once, those that hang are named, and what they use outlives them. */
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "core/doctor/probes.h"

#define PATIENCE UINT64_C(60000000000)
#define SHORT    UINT64_C(50000000)

static sem_t met, go_on, freed;

static void set_up(void)
{
	sem_init(&met, 0, 0);
	sem_init(&go_on, 0, 0);
	sem_init(&freed, 0, 0);
}

static void tear_down(struct findings *found)
{
	findings_done(found); /* the semaphores stay: a thread may just come out of one */
}

static void note_freed(void *what)
{
	free(what);
	sem_post(&freed);
}

static void say(struct probe *p)
{
	findings_add(&p->found, FINDING_OK, p->check, p->subject, NULL, "%s", (const char *)p->what);
}

/* One waits for the other. */
static void wait_met(struct probe *p)
{
	sem_wait(&met);
	say(p);
}

static void post_met(struct probe *p)
{
	sem_post(&met);
	say(p);
}

static void hang(struct probe *p)
{
	p->doing = "waiting";
	sem_wait(&go_on);
	say(p); /* what it has is still there */
}

static void test_at_once(void **state)
{
	(void)state;
	struct findings found = {0};

	set_up();
	struct probes *b = probes_new(PATIENCE);
	assert_non_null(b);
	assert_int_equal(probes_add(b, "a", "x", wait_met, strdup("first"), note_freed), 0);
	assert_int_equal(probes_add(b, "a", "y", post_met, strdup("second"), note_freed), 0);
	assert_int_equal(probes_add(b, "a", "x", wait_met, strdup("again"), note_freed), 0);
	sem_wait(&freed); /* the one that is there already */
	probes_run(b, &found);
	assert_int_equal(found.n, 2);
	assert_string_equal(found.rows[0].text, "first");
	assert_string_equal(found.rows[1].text, "second");
	assert_int_equal(found.problems, 0);
	sem_wait(&freed);
	sem_wait(&freed);
	tear_down(&found);
}

static void test_hanging(void **state)
{
	(void)state;
	struct findings found = {0};

	set_up();
	struct probes *b = probes_new(SHORT);
	assert_non_null(b);
	assert_int_equal(probes_add(b, "disk", "x", hang, strdup("late"), note_freed), 0);
	probes_run(b, &found);
	assert_int_equal(found.n, 1);
	assert_int_equal(found.problems, 1);
	assert_string_equal(found.rows[0].text, "waiting takes longer than 50 ms");
	assert_non_null(found.rows[0].remedy);
	sem_post(&go_on);
	sem_wait(&freed); /* by the thread, which was the last */
	tear_down(&found);
}

static void test_none(void **state)
{
	(void)state;
	struct findings found = {0};

	probes_run(NULL, &found);
	probes_run(probes_new(SHORT), &found);
	assert_int_equal(found.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_at_once),
		cmocka_unit_test(test_hanging),
		cmocka_unit_test(test_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
