/* SPDX-License-Identifier: MIT */
/*
 * renewal_schedule - when to get a certificate.  Everything here is arithmetic on hostile numbers: a CA
 * chooses the dates, a state file may come from anywhere, clocks jump.  Pure.
 */
#include "renewal_schedule.h"

#include <stddef.h>

#define HOUR 3600
#define FAR  (INT64_C(1) << 40) /* seconds; dates beyond are cut to it, so that no sum overflows */

static int64_t clamp(int64_t v, int64_t low, int64_t high)
{
	return v < low ? low : v > high ? high : v;
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* span times random / 2^32 */
static int64_t part_of(int64_t span, uint32_t random)
{
	return (int64_t)((unsigned __int128)span * random >> 32);
}

static int64_t life_of(int64_t not_before, int64_t not_after)
{
	return most(clamp(not_after, 0, FAR) - clamp(not_before, 0, FAR), 0);
}

int64_t renew_effective(int64_t not_before, int64_t not_after, int64_t renew_before, bool *bounded)
{
	int64_t half = life_of(not_before, not_after) / 2, want = clamp(renew_before, 0, FAR);
	if (bounded)
		*bounded = want > half;
	return least(want, half);
}

int64_t renew_jitter(int64_t not_before, int64_t not_after, int64_t renew_before, uint32_t random)
{
	return part_of(renew_effective(not_before, not_after, renew_before, NULL) / 10, random);
}

int64_t renew_ari_moment(int64_t start, int64_t end, int64_t not_after, uint32_t random)
{
	if (start <= 0 || end <= start || end > FAR || not_after > FAR)
		return 0;
	return least(start + part_of(end - start, random), not_after);
}

/* When to renew whatever a CA may suggest; half the time between renewal and expiry is the last moment for
 * it. */
static int64_t emergency_at(const struct renew_facts *f, int64_t effective)
{
	int64_t life = life_of(f->not_before, f->not_after);
	int64_t before = most(life / 20, 5 * clamp(f->check_interval, 1, FAR / 5));
	return clamp(f->not_after, 0, FAR) - least(before, effective / 2);
}

/* Why and since when; RENEW_NOT_DUE with the moment it will be. */
static enum renew_why due(const struct renew_facts *f, int64_t now, int64_t *at)
{
	*at = now;
	if (!f->has_cert)
		return RENEW_NO_CERT;
	if (now >= f->not_after)
		return RENEW_EXPIRED;
	if (!f->names_match)
		return RENEW_NAMES;
	if (f->revoked)
		return RENEW_REVOKED;
	int64_t effective = renew_effective(f->not_before, f->not_after, f->renew_before, NULL);
	int64_t emergency = emergency_at(f, effective);
	int64_t by_time = clamp(f->not_after, 0, FAR) - effective + clamp(f->jitter, 0, effective / 10);
	/* the CA can have it renewed earlier, not later than the operator said */
	bool by_ca = f->ari_at > 0 && f->ari_at < by_time;
	*at = by_ca ? f->ari_at : by_time;
	if (now < *at)
		return RENEW_NOT_DUE;
	return now >= emergency ? RENEW_EMERGENCY : by_ca ? RENEW_ARI : RENEW_TIME;
}

/* A CA whose certificates look old at once must not be asked for one after the other: wait a part of the
 * life. */
static int64_t guarded_until(const struct renew_facts *f, enum renew_why why, int64_t now)
{
	if (why != RENEW_TIME && why != RENEW_ARI && why != RENEW_EMERGENCY && why != RENEW_EXPIRED)
		return 0;
	if (f->last_success <= 0 || f->last_success > now)
		return 0;
	int64_t life = life_of(f->not_before, f->not_after);
	int64_t pause = clamp(life / 8, life > 0 && life < 15 ? 1 : 5, 24 * HOUR);
	if (why != RENEW_TIME)
		pause = least(pause, HOUR);
	return f->last_success + pause;
}

struct renew_decision renew_decide(const struct renew_facts *f, int64_t now)
{
	struct renew_decision d = {0};
	int64_t interval = clamp(f->check_interval, 1, RENEW_MAX_WAIT);
	now = clamp(now, 0, FAR);
	d.why = due(f, now, &d.due_at);
	d.check_at = now + interval;
	if (d.why == RENEW_NOT_DUE) {
		d.check_at = clamp(d.due_at, now + 1, d.check_at);
		return d;
	}
	int64_t wait = most(f->next_try > now + RENEW_MAX_WAIT ? 0 : f->next_try,
			    f->ca_try > now + RENEW_MAX_WAIT ? 0 : f->ca_try);
	int64_t guard = guarded_until(f, d.why, now);
	d.too_soon = guard > now && guard >= wait;
	wait = most(wait, guard);
	d.now = wait <= now;
	if (!d.now)
		d.check_at = least(d.check_at, wait);
	return d;
}

int64_t renew_backoff(uint32_t failures, enum renew_cost cost, int64_t left, int64_t retry_after,
		      uint32_t random)
{
	int64_t longest = HOUR, wait = cost == RENEW_CHEAP ? 5 : 60;
	if (left > 0)
		longest = clamp(left / 8, 2, HOUR);
	else
		longest =
			RENEW_SHORT_WAIT; /* nothing to serve: back soon after whatever is wrong was mended */
	for (uint32_t i = 1; i < failures && wait < longest; i++)
		wait *= 4;
	if (wait > longest || cost == RENEW_PERMANENT)
		wait = longest;
	/* half of it at random: hosts that failed together do not come again together */
	wait -= part_of(wait / 2, random);
	retry_after = clamp(retry_after, 0, 86400);
	if (wait < retry_after)
		wait = retry_after + part_of(least(retry_after / 10, 60), random);
	return most(wait, 1);
}
