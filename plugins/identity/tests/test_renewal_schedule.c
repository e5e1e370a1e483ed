/* SPDX-License-Identifier: MIT */
/* test_renewal_schedule - decisions about renewal: tables, lives of certificates under a fake clock, hostile
 * numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "plugins/identity/renewal_schedule.h"

#define T0   1800000000 /* when the certificate was obtained */
#define MIN  60
#define HOUR 3600
#define DAY  86400

static const char *const names[] = {"not due", "no cert", "expired", "names",
				    "revoked", "time",    "ari",     "emergency"};

/* A day's certificate as the seeds have it. */
static struct renew_facts day(void)
{
	return (struct renew_facts){.has_cert = true,
				    .names_match = true,
				    .not_before = T0,
				    .not_after = T0 + DAY,
				    .renew_before = 8 * HOUR,
				    .check_interval = HOUR};
}

static void check(int line, struct renew_facts f, int64_t now, bool expect_now, enum renew_why why,
		  int64_t due, int64_t check_at)
{
	struct renew_decision d = renew_decide(&f, now);
	if (d.now != expect_now || d.why != why || d.due_at != due || d.check_at != check_at)
		fail_msg("line %d: now %d why %s due %+lld check %+lld", line, d.now, names[d.why],
			 (long long)(d.due_at - T0), (long long)(d.check_at - now));
}
#define CHECK(f, at, ...) check(__LINE__, f, at, __VA_ARGS__)

static void decides_by_time(void **state)
{
	(void)state;
	struct renew_facts f = day();
	const int64_t due = T0 + 16 * HOUR;
	CHECK(f, T0, false, RENEW_NOT_DUE, due, T0 + HOUR);
	CHECK(f, due - 90 * MIN, false, RENEW_NOT_DUE, due, due - 30 * MIN);
	CHECK(f, due - 30 * MIN, false, RENEW_NOT_DUE, due, due);
	CHECK(f, due - 1, false, RENEW_NOT_DUE, due, due);
	CHECK(f, due, true, RENEW_TIME, due, due + HOUR);
	CHECK(f, due + HOUR, true, RENEW_TIME, due, due + 2 * HOUR);
	CHECK(f, T0 + 20 * HOUR - 1, true, RENEW_TIME, due, T0 + 21 * HOUR - 1);
	CHECK(f, T0 + 20 * HOUR, true, RENEW_EMERGENCY, due, T0 + 21 * HOUR);
	CHECK(f, T0 + DAY - 1, true, RENEW_EMERGENCY, due, T0 + DAY - 1 + HOUR);
	CHECK(f, T0 + DAY, true, RENEW_EXPIRED, T0 + DAY, T0 + DAY + HOUR);
	/* jitter: later than renew_before says, at most by a tenth of it */
	f.jitter = 10 * MIN;
	CHECK(f, due, false, RENEW_NOT_DUE, due + 10 * MIN, due + 10 * MIN);
	CHECK(f, due + 10 * MIN, true, RENEW_TIME, due + 10 * MIN, due + 10 * MIN + HOUR);
	f.jitter = 100 * HOUR;
	CHECK(f, due, false, RENEW_NOT_DUE, due + 48 * MIN, due + 48 * MIN);
	f.jitter = -5;
	CHECK(f, due, true, RENEW_TIME, due, due + HOUR);
	/* a clock before the certificate's begin */
	CHECK(f, T0 - DAY, false, RENEW_NOT_DUE, due, T0 - DAY + HOUR);
}

static void decides_at_once(void **state)
{
	(void)state;
	struct renew_facts f = day();
	f.has_cert = false;
	CHECK(f, T0, true, RENEW_NO_CERT, T0, T0 + HOUR);
	f = day();
	f.names_match = false;
	CHECK(f, T0 + 5, true, RENEW_NAMES, T0 + 5, T0 + 5 + HOUR);
	f = day();
	f.revoked = true;
	CHECK(f, T0 + 5, true, RENEW_REVOKED, T0 + 5, T0 + 5 + HOUR);
	/* but never before the moment that a failure or the CA has set */
	for (int i = 0; i < 4; i++) {
		f = day();
		f.next_try = T0 + 2 * DAY;
		f.has_cert = i != 0;
		f.names_match = i != 1;
		f.revoked = i == 2;
		int64_t now = i == 3 ? T0 + DAY + HOUR : T0 + DAY - HOUR;
		static const enum renew_why whys[] = {RENEW_NO_CERT, RENEW_NAMES, RENEW_REVOKED,
						      RENEW_EXPIRED};
		struct renew_decision d = renew_decide(&f, now);
		assert_false(d.now);
		assert_int_equal(d.why, whys[i]);
		assert_int_equal(d.check_at, now + HOUR);
		assert_true(renew_decide(&f, T0 + 2 * DAY).now);
		assert_false(renew_decide(&f, T0 + 2 * DAY - 1).now);
	}
}

static void waits(void **state)
{
	(void)state;
	struct renew_facts f = day();
	const int64_t due = T0 + 16 * HOUR;
	f.next_try = due + 10 * MIN;
	CHECK(f, due, false, RENEW_TIME, due, due + 10 * MIN);
	CHECK(f, due + 10 * MIN - 1, false, RENEW_TIME, due, due + 10 * MIN);
	CHECK(f, due + 10 * MIN, true, RENEW_TIME, due, due + 10 * MIN + HOUR);
	f.next_try = due + 5 * HOUR; /* not even for an emergency */
	CHECK(f, due + 4 * HOUR + 30 * MIN, false, RENEW_EMERGENCY, due, due + 5 * HOUR);
	/* set by a clock that was wrong */
	f.next_try = T0 + 1000 * (int64_t)DAY;
	CHECK(f, due, true, RENEW_TIME, due, due + HOUR);
	f.next_try = due + RENEW_MAX_WAIT;
	CHECK(f, due, false, RENEW_TIME, due, due + HOUR);
	f.next_try = INT64_MIN;
	CHECK(f, due, true, RENEW_TIME, due, due + HOUR);
}

static void heeds_the_ca(void **state)
{
	(void)state;
	struct renew_facts f = day();
	f.ari_at = T0 + 10 * HOUR;
	CHECK(f, f.ari_at - 1, false, RENEW_NOT_DUE, f.ari_at, f.ari_at);
	CHECK(f, f.ari_at, true, RENEW_ARI, f.ari_at, f.ari_at + HOUR);
	f.ari_at = T0 - DAY; /* "at once" */
	CHECK(f, T0 + 1, true, RENEW_ARI, f.ari_at, T0 + 1 + HOUR);
	f.ari_at = T0 + 23 * HOUR; /* later than the operator wants */
	CHECK(f, T0 + 16 * HOUR, true, RENEW_TIME, T0 + 16 * HOUR, T0 + 17 * HOUR);
	f.ari_at = -1;
	CHECK(f, T0 + 1, false, RENEW_NOT_DUE, T0 + 16 * HOUR, T0 + 1 + HOUR);

	assert_int_equal(renew_ari_moment(T0, T0 + 1000, T0 + DAY, 0), T0);
	assert_int_equal(renew_ari_moment(T0, T0 + 1000, T0 + DAY, UINT32_MAX), T0 + 999);
	assert_int_equal(renew_ari_moment(T0, T0 + 1000, T0 + DAY, 1u << 31), T0 + 500);
	assert_int_equal(renew_ari_moment(T0, T0 + 9 * DAY, T0 + DAY, UINT32_MAX), T0 + DAY);
	assert_int_equal(renew_ari_moment(T0, T0, T0 + DAY, 7), 0);
	assert_int_equal(renew_ari_moment(T0 + 1, T0, T0 + DAY, 7), 0);
	assert_int_equal(renew_ari_moment(0, T0, T0 + DAY, 7), 0);
	assert_int_equal(renew_ari_moment(INT64_MIN, INT64_MAX, T0 + DAY, 7), 0);
	assert_int_equal(renew_ari_moment(1, INT64_MAX, T0 + DAY, 7), 0);
}

static void does_not_loop(void **state)
{
	(void)state;
	bool bounded;
	assert_int_equal(renew_effective(T0, T0 + DAY, 8 * HOUR, &bounded), 8 * HOUR);
	assert_false(bounded);
	assert_int_equal(renew_effective(T0, T0 + DAY, 12 * HOUR, &bounded), 12 * HOUR);
	assert_false(bounded);
	assert_int_equal(renew_effective(T0, T0 + DAY, 12 * HOUR + 1, &bounded), 12 * HOUR);
	assert_true(bounded);
	assert_int_equal(renew_effective(T0, T0 + DAY, 900 * HOUR, &bounded), 12 * HOUR);
	assert_int_equal(renew_effective(T0, T0 + MIN, 8 * HOUR, &bounded), 30);
	assert_int_equal(renew_effective(T0, T0, 8 * HOUR, &bounded), 0);
	assert_int_equal(renew_effective(T0, T0 - DAY, 8 * HOUR, &bounded), 0);

	/* a certificate that looks old the moment it comes: the next one is not asked for at once */
	struct renew_facts f = day();
	f.last_success = T0 + 20 * HOUR;
	f.not_before = T0;
	struct renew_decision d = renew_decide(&f, T0 + 20 * HOUR + 1);
	assert_false(d.now);
	assert_true(d.too_soon);
	assert_true(renew_decide(&f, T0 + 21 * HOUR).now);
	/* other names are another matter, and so is one that is gone */
	f.names_match = false;
	assert_true(renew_decide(&f, T0 + 20 * HOUR + 1).now);
	f.has_cert = false;
	assert_true(renew_decide(&f, T0 + 20 * HOUR + 1).now);
	/* within the ordinary time it is an eighth of the life */
	f = day();
	f.last_success = T0 + 16 * HOUR;
	assert_false(renew_decide(&f, T0 + 19 * HOUR - 1).now);
	assert_true(renew_decide(&f, T0 + 19 * HOUR).now);
	/* a moment in the future was noted by another clock */
	f.last_success = T0 + 30 * HOUR;
	assert_true(renew_decide(&f, T0 + 19 * HOUR).now);
}

/*
 * Live through certificates of a life with a CA that answers from up on only (share of the life of each, in
 * percent): they are renewed in time, as often as they should be, and nobody is asked more than need be.
 */
static void live(int64_t life, int64_t renew_before, int64_t backdated, int down_percent, uint32_t random)
{
	const int rounds = 50;
	struct renew_facts f = {.has_cert = true,
				.names_match = true,
				.not_before = T0,
				.not_after = T0 + life,
				.renew_before = renew_before,
				.check_interval = HOUR,
				.last_success = T0};
	int64_t now = T0, obtained = T0;
	uint32_t failures = 0;
	int renewed = 0, tries = 0;
	for (long steps = 0; renewed < rounds; steps++) {
		struct renew_decision d = renew_decide(&f, now);
		if (steps > 200000 || now > f.not_after)
			fail_msg("life %lld renew_before %lld down %d: %s at %+lld after %d renewals",
				 (long long)life, (long long)renew_before, down_percent,
				 now > f.not_after ? "expired" : "stuck", (long long)(now - obtained),
				 renewed);
		assert_true(d.check_at > now && d.check_at <= now + HOUR);
		random = random * 1664525 + 1013904223;
		if (!d.now) {
			now = d.check_at;
			continue;
		}
		tries++;
		if (now < obtained + life * down_percent / 100) {
			int64_t wait = renew_backoff(++failures, RENEW_COSTLY, f.not_after - now, 0, random);
			assert_true(wait >= 1 && wait <= HOUR);
			f.next_try = now + wait;
			now++;
			continue;
		}
		now++;
		assert_true(now - obtained >= (life - backdated) / 2);
		renewed++;
		failures = 0;
		obtained = f.last_success = f.not_before = now;
		f.not_after = now + life - backdated;
		f.next_try = 0;
		f.jitter = renew_jitter(f.not_before, f.not_after, renew_before, random);
		assert_true(f.jitter >= 0 &&
			    f.jitter <= renew_effective(now, f.not_after, renew_before, NULL) / 10);
		life = f.not_after - now;
		backdated = 0;
	}
	if (tries > renewed * (40 + 2 * life * down_percent / 100 / HOUR))
		fail_msg("life %lld down %d: %d tries for %d", (long long)life, down_percent, tries, renewed);
}

static void lives(void **state)
{
	(void)state;
	static const int64_t of[] = {6,   20,      MIN,     5 * MIN,  HOUR,    6 * HOUR,
				     DAY, 2 * DAY, 7 * DAY, 47 * DAY, 90 * DAY};
	static const int64_t before[] = {1 * MIN, HOUR, 8 * HOUR, 12 * HOUR, 16 * HOUR, 30 * DAY, 1000 * DAY};
	for (size_t i = 0; i < sizeof of / sizeof *of; i++)
		for (size_t k = 0; k < sizeof before / sizeof *before; k++)
			for (int down = 0; down <= 85; down += 17) {
				/* where renewal begins later than the CA is back, nothing is tested */
				int64_t effective = renew_effective(0, of[i], before[k], NULL);
				if ((effective < of[i] / 5 || of[i] < 20) && down > 0)
					continue;
				live(of[i], before[k], 0, down,
				     (uint32_t)(i * 7919 + k * 104729 + (size_t)down));
			}
}

static void backs_off(void **state)
{
	(void)state;
	static const struct {
		uint32_t failures;
		enum renew_cost cost;
		int64_t left, retry_after, longest; /* the wait is from half of it on */
	} rows[] = {
		{1, RENEW_CHEAP, 8 * HOUR, 0, 5},
		{2, RENEW_CHEAP, 8 * HOUR, 0, 20},
		{3, RENEW_CHEAP, 8 * HOUR, 0, 80},
		{4, RENEW_CHEAP, 8 * HOUR, 0, 320},
		{6, RENEW_CHEAP, 8 * HOUR, 0, HOUR},
		{UINT32_MAX, RENEW_CHEAP, 80 * HOUR, 0, HOUR},
		{UINT32_MAX, RENEW_CHEAP, 4 * HOUR, 0, HOUR / 2},
		{UINT32_MAX, RENEW_CHEAP, 0, 0, 300},
		{UINT32_MAX, RENEW_CHEAP, -DAY, 0, 300},
		{1, RENEW_COSTLY, 8 * HOUR, 0, 60},
		{2, RENEW_COSTLY, 8 * HOUR, 0, 240},
		{3, RENEW_COSTLY, 8 * HOUR, 0, 960},
		{4, RENEW_COSTLY, 8 * HOUR, 0, HOUR},
		{9, RENEW_COSTLY, 0, 0, 300},
		{1, RENEW_COSTLY, 30, 0, 3},
		{5, RENEW_COSTLY, 30, 0, 3},
		{5, RENEW_COSTLY, 3, 0, 2},
		{1, RENEW_PERMANENT, 30 * DAY, 0, HOUR},
		{1, RENEW_PERMANENT, 0, 0, 300},
		{1, RENEW_PERMANENT, HOUR, 0, 450},
		{0, RENEW_CHEAP, HOUR, 0, 5},
		{0, RENEW_COSTLY, INT64_MAX, INT64_MIN, 60},
		{9, RENEW_COSTLY, INT64_MIN, 0, 300},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (uint64_t random = 0; random <= UINT32_MAX; random += UINT32_MAX / 16) {
			int64_t wait = renew_backoff(rows[i].failures, rows[i].cost, rows[i].left,
						     rows[i].retry_after, (uint32_t)random);
			if (wait > rows[i].longest || wait < rows[i].longest / 2)
				fail_msg("row %zu: %lld", i, (long long)wait);
		}
	/* never earlier than the CA says */
	for (uint32_t failures = 0; failures < 12; failures++)
		for (int cost = RENEW_CHEAP; cost <= RENEW_PERMANENT; cost++)
			for (int64_t left = -10; left < 40 * HOUR; left = left < 1 ? 1 : left * 3)
				for (int64_t after = 1; after <= DAY; after = after * 3 + 1) {
					int64_t wait = renew_backoff(failures, (enum renew_cost)cost, left,
								     after, (uint32_t)(after * 2654435761u));
					assert_true(wait >= after && wait <= RENEW_MAX_WAIT);
				}
	assert_true(renew_backoff(1, RENEW_CHEAP, HOUR, INT64_MAX, 0) == DAY);
}

static void takes_any_number(void **state)
{
	(void)state;
	static const int64_t v[] = {INT64_MIN, -1, 0, 1, 60, T0, T0 + DAY, INT64_C(1) << 40, INT64_MAX};
	const size_t n = sizeof v / sizeof *v;
	for (size_t a = 0; a < n; a++)
		for (size_t b = 0; b < n; b++)
			for (size_t c = 0; c < n; c++)
				for (size_t d = 0; d < n; d++)
					for (size_t e = 0; e < n; e++) {
						struct renew_facts f = {.has_cert = true,
									.names_match = true,
									.not_before = v[a],
									.not_after = v[b],
									.renew_before = v[c],
									.check_interval = v[d],
									.jitter = v[e],
									.ari_at = v[(a + e) % n],
									.next_try = v[(b + c) % n],
									.last_success = v[(c + d) % n]};
						int64_t now = v[(a + b + c + d + e) % n];
						struct renew_decision r = renew_decide(&f, now);
						assert_true(r.check_at > 0);
						renew_jitter(v[a], v[b], v[c], (uint32_t)v[d]);
						renew_ari_moment(v[a], v[b], v[c], (uint32_t)v[d]);
						assert_true(renew_backoff((uint32_t)v[a], RENEW_COSTLY, v[b],
									  v[c], (uint32_t)v[d]) > 0);
					}
}

/* A part of whatever life a CA gives, from when the certificate was obtained, as CAs date it back. */
static void part_of_a_life(void **state)
{
	(void)state;
	const struct setup setup = {.renew_percent = 34, .check_interval = HOUR, .fingerprint = (char *)"ca"};
	const struct stored_cert cert = {.exists = true,
					 .names_match = true,
					 .chain = {.not_before = T0 - MIN, .not_after = T0 + 100 * MIN}};
	struct store_state remembered = {.last_success = T0};
	struct renew_facts f = record_facts(&setup, &cert, &remembered);
	assert_int_equal(f.not_before, T0);
	assert_int_equal(f.renew_before, 34 * MIN);
	CHECK(f, T0 + 66 * MIN - 1, false, RENEW_NOT_DUE, T0 + 66 * MIN, T0 + 66 * MIN);
	CHECK(f, T0 + 66 * MIN, true, RENEW_TIME, T0 + 66 * MIN, T0 + 126 * MIN);
	/* obtained by somebody else: as the certificate says */
	remembered.last_success = 0;
	f = record_facts(&setup, &cert, &remembered);
	assert_int_equal(f.renew_before, 101 * MIN * 34 / 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decides_by_time), cmocka_unit_test(decides_at_once),
		cmocka_unit_test(waits),           cmocka_unit_test(heeds_the_ca),
		cmocka_unit_test(does_not_loop),   cmocka_unit_test(lives),
		cmocka_unit_test(backs_off),       cmocka_unit_test(takes_any_number),
		cmocka_unit_test(part_of_a_life),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
