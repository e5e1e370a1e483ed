/* SPDX-License-Identifier: MIT */
/* Limits on bytes per second: what goes through over time, and who goes first. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/config/rates.h"

#define MS     UINT64_C(1000000)
#define SECOND (1000 * MS)

static struct rate_member *join(struct rates *r, const char *group, uint64_t rate, uint32_t priority)
{
	const struct rate_limit limit = {
		.owner = "first", .group = group, .rate = rate, .burst = 100, .priority = priority};
	struct rate_member *m = NULL;
	const char *other;

	assert_int_equal(rates_join(r, &limit, &m, &other), 0);
	return m;
}

/* Send messages of a size for so long, as soon as allowed; what went. */
static uint64_t send_for(struct rate_member *m, uint64_t *now, uint64_t ns, uint64_t size)
{
	uint64_t sent = 0, most;

	for (const uint64_t end = *now + ns; *now < end;) {
		uint64_t wait = rate_ask(m, *now, &most);
		*now += wait;
		if (wait)
			continue;
		rate_spend(m, *now, size);
		sent += size;
	}
	return sent;
}

static void rate_holds_over_time(void **state)
{
	struct rates *r = rates_new();
	uint64_t now = 5 * SECOND;

	(void)state;
	struct rate_member *m = join(r, NULL, 1000, 0);
	/* the burst, and one message beyond what is there */
	assert_in_range(send_for(m, &now, 10 * SECOND, 10), 10000, 10120);
	/* messages longer than the burst go, too, and are paid for */
	assert_in_range(send_for(m, &now, 100 * SECOND, 5000), 95000, 105000);
	rates_free(r);
}

static void a_pause_earns_the_burst_only(void **state)
{
	struct rates *r = rates_new();
	uint64_t now = 5 * SECOND, most, sent = 0;

	(void)state;
	struct rate_member *m = join(r, NULL, 1000, 0);
	assert_int_equal(rate_ask(m, now, &most), 0);
	assert_int_equal(most, 100);
	rate_spend(m, now, 1);
	rate_rest(m);
	now += 3600 * SECOND;
	for (; rate_ask(m, now, &most) == 0; sent += 10)
		rate_spend(m, now, 10);
	assert_int_equal(sent, 100);
	rates_free(r);
}

/* Asked a thousand times between two bytes, none is lost to rounding. */
static void asking_often_costs_nothing(void **state)
{
	struct rates *r = rates_new();
	uint64_t now = 5 * SECOND, most, sent = 0;

	(void)state;
	struct rate_member *m = join(r, NULL, 1000, 0);
	for (int i = 0; i < 1000000; i++, now += SECOND / 100000) { /* 10 s */
		if (rate_ask(m, now, &most) == 0) {
			rate_spend(m, now, 1);
			sent++;
		}
	}
	assert_in_range(sent, 10000, 10101);
	rates_free(r);
}

static void the_urgent_goes_first(void **state)
{
	struct rates *r = rates_new();
	uint64_t now = 5 * SECOND, most;

	(void)state;
	struct rate_member *history = join(r, "wan", 1000, 0), *alarms = join(r, "wan", 1000, 5);
	while (rate_ask(history, now, &most) == 0)
		rate_spend(history, now, 50);
	/* nothing left; an alarm comes and waits */
	uint64_t wait = rate_ask(alarms, now, &most);
	assert_true(wait > 0);
	/* there is room again: history, though it asked before, gives way */
	now += wait;
	assert_true(rate_ask(history, now, &most) > 0);
	assert_int_equal(rate_ask(alarms, now, &most), 0);
	rate_spend(alarms, now, 20);
	rate_rest(alarms);
	now += 100 * MS;
	assert_int_equal(rate_ask(history, now, &most), 0);
	rates_free(r);
}

static void who_does_not_come_back_keeps_nobody_waiting(void **state)
{
	struct rates *r = rates_new();
	uint64_t now = 5 * SECOND, most;

	(void)state;
	struct rate_member *low = join(r, "wan", 1000, 0), *high = join(r, "wan", 1000, 5);
	assert_int_equal(rate_ask(high, now, &most), 0); /* and its connection ends */
	assert_true(rate_ask(low, now, &most) > 0);
	now += 3 * SECOND;
	assert_int_equal(rate_ask(low, now, &most), 0);
	rates_free(r);
}

static void equals_take_turns(void **state)
{
	struct rates *r = rates_new();
	struct rate_member *m[3];
	uint64_t due[3] = {0}, sent[3] = {0}, most;

	(void)state;
	for (int i = 0; i < 3; i++)
		m[i] = join(r, "wan", 1000, 1);
	for (uint64_t now = 5 * SECOND; now < 65 * SECOND; now += MS) {
		for (int i = 0; i < 3; i++) {
			if (now < due[i])
				continue;
			uint64_t wait = rate_ask(m[i], now, &most);
			due[i] = now + wait;
			if (wait == 0) {
				rate_spend(m[i], now, 100);
				sent[i] += 100;
			}
		}
	}
	uint64_t all = sent[0] + sent[1] + sent[2];
	assert_in_range(all, 54000, 60300);
	for (int i = 0; i < 3; i++)
		assert_in_range(sent[i], all / 4, all / 2);
	rates_free(r);
}

static void groups_agree(void **state)
{
	struct rates *r = rates_new();
	struct rate_limit limit = {.owner = "second", .group = "wan", .rate = 2000, .burst = 100};
	struct rate_member *m;
	const char *other = NULL;

	(void)state;
	join(r, "wan", 1000, 0);
	assert_int_equal(rates_join(r, &limit, &m, &other), -EEXIST);
	assert_string_equal(other, "first");
	limit.rate = 1000;
	limit.burst = 200;
	assert_int_equal(rates_join(r, &limit, &m, &other), -EEXIST);
	limit.burst = 100;
	assert_int_equal(rates_join(r, &limit, &m, &other), 0);
	/* without a group each is alone */
	limit.group = NULL;
	limit.rate = 3;
	assert_int_equal(rates_join(r, &limit, &m, &other), 0);
	rates_free(r);
	rates_free(NULL);
}

static void what_is_owed_stays_owed(void **state)
{
	struct rates *before = rates_new(), *after = rates_new();
	uint64_t now = 5 * SECOND, most;

	(void)state;
	struct rate_member *old[] = {join(before, "wan", 1000, 0), join(before, "wan", 1000, 0)}, *m[2];
	assert_int_equal(rate_ask(old[0], now, &most), 0);
	rate_spend(old[0], now, 300);
	/* of a group once, whoever tells it */
	for (int i = 0; i < 2; i++) {
		m[i] = join(after, "wan", 500, 0);
		rate_succeed(m[i], old[i], now);
	}
	assert_in_range(rate_ask(m[1], now, &most), 400 * MS, 404 * MS);
	/* time passes, and what nobody has used is not owed */
	struct rate_member *alone = join(after, NULL, 1000, 0), *fresh = join(after, NULL, 1000, 0);
	rate_succeed(fresh, alone, now);
	assert_int_equal(rate_ask(fresh, now, &most), 0);
	rate_spend(fresh, now, 99);
	rate_succeed(alone, fresh, now + 50 * MS);
	assert_int_equal(rate_ask(alone, now + 50 * MS, &most), 0);
	rates_free(before);
	rates_free(after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rate_holds_over_time),
		cmocka_unit_test(a_pause_earns_the_burst_only),
		cmocka_unit_test(asking_often_costs_nothing),
		cmocka_unit_test(the_urgent_goes_first),
		cmocka_unit_test(who_does_not_come_back_keeps_nobody_waiting),
		cmocka_unit_test(equals_take_turns),
		cmocka_unit_test(groups_agree),
		cmocka_unit_test(what_is_owed_stays_owed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
