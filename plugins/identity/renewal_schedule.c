/* SPDX-License-Identifier: MIT */
/*
 * renewal_schedule - see renewal_schedule.h.  Arithmetic on hostile numbers: a CA chooses the dates, a state
 * file may come from anywhere, clocks jump.
 */
#include "renewal_schedule.h"

#include <stdio.h>
#include <string.h>
#include <gnutls/crypto.h>
#include "time_text.h"

#define HOUR         3600
#define FAR          (INT64_C(1) << 40) /* seconds; dates beyond are cut to it, so that no sum overflows */
#define ARI_INTERVAL 21600              /* seconds between questions where the CA names no time */
#define ARI_RETRY    (7 * 86400)        /* seconds until a CA without ARI is asked again */
#define ARI_NONE     "-"                /* in place of a certificate's id: the CA has no ARI */

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

/* span times random / 2^32, for spans from 0 on, without more than 64 bits */
static int64_t part_of(int64_t span, uint32_t random)
{
	return (span >> 32) * random + (int64_t)((uint64_t)(span & UINT32_MAX) * random >> 32);
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
	/* with nothing to serve, back soon after whatever is wrong was mended */
	int64_t longest = left > 0 ? clamp(left / 8, 2, HOUR) : RENEW_SHORT_WAIT;
	int64_t wait = cost == RENEW_CHEAP ? 5 : 60;
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

/* ---- what is remembered ---- */

/* [0, 2^32) */
static uint32_t random_number(void)
{
	uint32_t random = 0;
	gnutls_rnd(GNUTLS_RND_NONCE, &random, sizeof random);
	return random;
}

static void save(struct store *store, struct store_state *state)
{
	store_state_save(store, state);
	store_state_done(state);
}

static bool same_text(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

/* The part of a life that is left at renewal, or the time that is configured. */
static int64_t renew_before_of(const struct setup *setup, int64_t not_before, int64_t not_after)
{
	if (setup->renew_before > 0)
		return setup->renew_before;
	return life_of(not_before, not_after) * clamp(setup->renew_percent, 1, 50) / 100;
}

struct renew_facts record_facts(const struct setup *setup, const struct stored_cert *cert,
				const struct store_state *state)
{
	const struct chain_info *chain = &cert->chain;
	struct renew_facts f = {.has_cert = cert->exists,
				.names_match = cert->names_match,
				.revoked = state->revoked,
				.renew_before = setup->renew_before,
				.check_interval = setup->check_interval,
				.jitter = state->jitter,
				.ca_try = state->ca_try,
				.last_success = state->last_success};
	/* what failed with other settings says nothing about these, nor does what another CA asked for */
	if (!state->config || same_text(state->config, setup->fingerprint))
		f.next_try = state->next_try;
	else if (strncmp(setup->fingerprint, state->config, strcspn(setup->fingerprint, " ") + 1) != 0)
		f.ca_try = 0;
	if (!cert->exists)
		return f;
	f.not_after = chain->not_after;
	/* CAs date certificates back */
	bool dated_back = state->last_success > chain->not_before && state->last_success < chain->not_after;
	f.not_before = dated_back ? state->last_success : chain->not_before;
	f.renew_before = renew_before_of(setup, f.not_before, f.not_after);
	if (setup->ari && same_text(state->ari_id, chain->ari_id))
		f.ari_at = state->ari_at;
	return f;
}

void record_success(struct store *store, const struct setup *setup, struct obtain_result *result, int64_t now)
{
	const struct chain_info *chain = &result->chain;
	struct store_state state;
	if (now >= chain->not_after) {
		result->fail = OBTAIN_BROKEN;
		snprintf(result->why, sizeof result->why,
			 "the new certificate expired %s by the clock of this machine; is the clock right?",
			 time_text(chain->not_after).s);
		return;
	}
	if (stored_cert_save(store, chain->pem, result->key_pem)) {
		result->fail = OBTAIN_STORAGE;
		snprintf(result->why, sizeof result->why, "%s", store_why(store));
		return;
	}
	store_state_load(store, &state);
	text_set(&state.order_url, NULL);
	key_text_free(state.order_key_pem);
	state.order_key_pem = NULL;
	text_set(&state.last_error, NULL);
	text_set(&state.config, setup->fingerprint);
	state.failures = 0;
	state.next_try = state.ca_try = 0;
	state.revoked = false;
	state.ari_at = state.ari_start = state.ari_end = 0;
	if (!same_text(state.ari_id, ARI_NONE)) {
		text_set(&state.ari_id, chain->ari_id);
		state.ari_check = now + least((chain->not_after - now) / 8, ARI_INTERVAL);
	}
	state.last_success = now;
	int64_t from = most(chain->not_before, now);
	state.jitter = renew_jitter(from, chain->not_after, renew_before_of(setup, from, chain->not_after),
				    random_number());
	save(store, &state);
}

int64_t record_failure(struct store *store, const struct setup *setup, const struct obtain_result *result,
		       int64_t left, int64_t now, uint32_t *failures)
{
	struct store_state state;
	enum renew_cost cost = result->permanent                    ? RENEW_PERMANENT
			       : result->fail == OBTAIN_UNREACHABLE ? RENEW_CHEAP
								    : RENEW_COSTLY;
	int64_t wait = 0;
	store_state_load(store, &state);
	if (failures) {
		*failures = state.failures > *failures ? state.failures : *failures;
		*failures += *failures < UINT32_MAX;
		state.failures = *failures;
	}
	if (setup) {
		wait = renew_backoff(state.failures, cost, left, result->retry_after, random_number());
		state.next_try = now + wait;
		text_set(&state.config, setup->fingerprint);
	}
	if (result->retry_after > 0)
		state.ca_try = now + result->retry_after;
	text_set(&state.last_error, result->why);
	save(store, &state);
	return wait;
}

bool record_ari_due(const struct store_state *state, const struct stored_cert *cert, int64_t now)
{
	bool known = same_text(state->ari_id, ARI_NONE) || same_text(state->ari_id, cert->chain.ari_id);
	return !known || now >= state->ari_check || state->ari_check > now + ARI_RETRY;
}

static int64_t ari_wait(const struct obtain_result *result, const struct chain_info *chain)
{
	if (result->retry_after > 0)
		return clamp(result->retry_after, 60, 86400);
	int64_t part = most((chain->not_after - chain->not_before) / 24, 60);
	return result->fail != OBTAIN_OK ? least(part, ARI_INTERVAL) : ARI_INTERVAL;
}

void record_ari(struct store *store, const struct stored_cert *cert, const struct obtain_result *result,
		int64_t now)
{
	const struct chain_info *chain = &cert->chain;
	bool none = result->fail != OBTAIN_OK && result->permanent;
	struct store_state state;
	store_state_load(store, &state);
	if (!same_text(state.ari_id, chain->ari_id) || none) {
		text_set(&state.ari_id, none ? ARI_NONE : chain->ari_id);
		state.ari_at = state.ari_start = state.ari_end = 0;
	}
	if (result->fail == OBTAIN_OK) {
		/* once per window: who draws lots at every look ends up early */
		if (state.ari_start != result->ari_start || state.ari_end != result->ari_end)
			state.ari_at = renew_ari_moment(result->ari_start, result->ari_end, chain->not_after,
							random_number());
		state.ari_start = result->ari_start;
		state.ari_end = result->ari_end;
	}
	state.ari_check = now + (none ? ARI_RETRY : ari_wait(result, chain));
	save(store, &state);
}
