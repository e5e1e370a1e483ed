/* SPDX-License-Identifier: MIT */
/* aggregate: the clock is looked at while there is something to wait for, and results are the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <semstreams/test-host.h>
#include "plugins/aggregate/plan.h"
#include "plugins/aggregate/state.h"

#define SECOND UINT64_C(1000000000)
enum { TICKS_MS = 300 }; /* time for some ticks */

static const struct ss_component *desc(void)
{
	return semstreams_entry_v1.components[0];
}

static const struct conf conf = {
	.window = "{\"type\":\"tumbling\",\"size\":\"10s\"}",
	.functions = "{\"n\":\"count\"}",
	.time = "{\"field\":\"t\",\"format\":\"s\",\"lateness\":\"0s\",\"idle\":\"1s\"}",
	.max_groups = 100};

static int set_up(void **state)
{
	static struct ss_test_host h;

	ss_test_host_init(&h, desc());
	assert_int_equal(ss_test_host_create(&h, &conf), 0);
	assert_int_equal(desc()->start(h.self), 0);
	*state = &h;
	return 0;
}

static int tear_down(void **state)
{
	ss_test_host_done(*state);
	return 0;
}

/* An event of that second. */
static void give(struct ss_test_host *h, unsigned int second)
{
	char text[40];
	const char *const texts[] = {text};

	snprintf(text, sizeof text, "{\"t\":%u}", 1000000000 + second);
	struct ss_batch *b = ss_test_host_batch(h, texts, 1);
	assert_int_equal(ss_test_host_process(h, 0, b), SS_DONE);
	h->host.batch_unref(b);
}

static void come_to_rest(struct ss_test_host *h)
{
	ss_test_host_advance(h, SECOND);
	assert_int_equal(ss_test_host_run(h, TICKS_MS), 0);
}

static void ticks_come_while_a_window_is_open(void **state)
{
	struct ss_test_host *h = *state;

	come_to_rest(h);
	give(h, 0);
	assert_int_equal(ss_test_host_run(h, TICKS_MS), 1);
	assert_int_equal(ss_test_host_run(h, TICKS_MS), 1);
	ss_test_host_advance(h, 20 * SECOND);
	char *text = ss_test_host_text(h, 0);
	assert_non_null(strstr(text, "\"n\":1"));
	free(text);
	come_to_rest(h);
	give(h, 40);
	assert_int_equal(ss_test_host_run(h, TICKS_MS), 1);
}

/* What is late is so whether anybody looked at the clock meanwhile or not. */
static void time_passes_at_rest(void **state)
{
	struct ss_test_host *h = *state;

	give(h, 0);
	ss_test_host_advance(h, 20 * SECOND);
	come_to_rest(h);
	ss_test_host_advance(h, 100 * SECOND);
	assert_int_equal(h->metrics[METRIC_LATE], 0);
	give(h, 60);
	assert_int_equal(h->metrics[METRIC_LATE], 1);
	give(h, 130);
	assert_int_equal(h->metrics[METRIC_LATE], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(ticks_come_while_a_window_is_open, set_up, tear_down),
		cmocka_unit_test_setup_teardown(time_passes_at_rest, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
