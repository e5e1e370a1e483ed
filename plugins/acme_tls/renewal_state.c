/* SPDX-License-Identifier: MIT */
/* renewal_state - see renewal_state.h. */
#include "renewal_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "key.h"
#include "time_text.h"

#define ARI_INTERVAL 21600       /* seconds between questions where the CA names no time */
#define ARI_RETRY    (7 * 86400) /* seconds until a CA without ARI is asked again */
#define ARI_NONE     "-"         /* in place of a certificate's id: the CA has no ARI */

/* [0, 2^32) */
static uint32_t random_number(void)
{
	uint32_t random;
	if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
		random = (uint32_t)time(NULL) * 2654435761u;
	return random;
}

static void save(struct store *store, struct store_state *state)
{
	store_state_save(store, state);
	store_state_done(state);
}

static void set_text(char **to, const char *text)
{
	free(*to);
	*to = text ? strdup(text) : NULL;
}

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static bool same_text(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

/* The fingerprint begins with the directory's URL and a blank. */
static bool same_ca(const struct setup *setup, const char *fingerprint)
{
	return strncmp(setup->fingerprint, fingerprint, strcspn(setup->fingerprint, " ") + 1) == 0;
}

struct renew_facts record_facts(const struct setup *setup, const struct stored_cert *cert,
				const struct store_state *state)
{
	const struct acme_conf *conf = setup->conf;
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
	else if (!same_ca(setup, state->config))
		f.ca_try = 0;
	if (!cert->exists)
		return f;
	f.not_before = chain->not_before;
	f.not_after = chain->not_after;
	/* CAs date certificates back */
	if (state->last_success > chain->not_before && state->last_success < chain->not_after)
		f.not_before = state->last_success;
	if (conf->ari && same_text(state->ari_id, chain->ari_id))
		f.ari_at = state->ari_at;
	return f;
}

int record_success(struct store *store, const struct setup *setup, const struct operation_result *result,
		   int64_t now, char *why, size_t why_size)
{
	const struct chain_info *chain = &result->chain;
	struct store_state state;
	if (now >= chain->not_after) {
		snprintf(why, why_size,
			 "the new certificate expired %s by the clock of this machine; is the clock right?",
			 time_text(chain->not_after).s);
		return -ERANGE;
	}
	int rc = stored_cert_save(store, chain->pem, result->key_pem);
	if (rc) {
		snprintf(why, why_size, "%s", store_why(store));
		return rc;
	}
	store_state_load(store, &state);
	set_text(&state.order_url, NULL);
	key_text_free(state.order_key_pem);
	state.order_key_pem = NULL;
	set_text(&state.last_error, NULL);
	set_text(&state.config, setup->fingerprint);
	state.failures = 0;
	state.next_try = state.ca_try = 0;
	state.revoked = false;
	state.ari_at = state.ari_start = state.ari_end = 0;
	if (!same_text(state.ari_id, ARI_NONE)) {
		int64_t wait = (chain->not_after - now) / 8;
		set_text(&state.ari_id, chain->ari_id);
		state.ari_check = now + (wait < ARI_INTERVAL ? wait : ARI_INTERVAL);
	}
	state.last_success = now;
	state.jitter = renew_jitter(later(chain->not_before, now), chain->not_after, setup->renew_before,
				    random_number());
	save(store, &state);
	return 0;
}

int64_t record_failure(struct store *store, const struct setup *setup, const struct operation_result *result,
		       int64_t left, int64_t now, uint32_t *failures)
{
	struct store_state state;
	enum renew_cost cost = result->permanent                  ? RENEW_PERMANENT
			       : result->fail == ACME_UNREACHABLE ? RENEW_CHEAP
								  : RENEW_COSTLY;
	store_state_load(store, &state);
	if (state.failures < *failures)
		state.failures = *failures;
	if (state.failures < UINT32_MAX)
		state.failures++;
	*failures = state.failures;
	int64_t wait = renew_backoff(state.failures, cost, left, result->retry_after, random_number());
	state.next_try = now + wait;
	if (result->retry_after > 0)
		state.ca_try = now + result->retry_after;
	set_text(&state.last_error, result->why);
	set_text(&state.config, setup->fingerprint);
	save(store, &state);
	return wait;
}

void record_command_failure(struct store *store, const struct operation_result *result, bool counts,
			    int64_t now)
{
	struct store_state state;
	store_state_load(store, &state);
	if (counts && state.failures < UINT32_MAX)
		state.failures++;
	if (result->retry_after > 0)
		state.ca_try = now + result->retry_after;
	set_text(&state.last_error, result->why);
	save(store, &state);
}

void record_revoked(struct store *store)
{
	struct store_state state;
	store_state_load(store, &state);
	state.revoked = true;
	save(store, &state);
}

bool record_ari_due(const struct store_state *state, const struct stored_cert *cert, int64_t now)
{
	bool known = same_text(state->ari_id, ARI_NONE) || same_text(state->ari_id, cert->chain.ari_id);
	return !known || now >= state->ari_check || state->ari_check > now + ARI_RETRY;
}

static int64_t ari_wait(const struct operation_result *result, const struct chain_info *chain)
{
	int64_t part = later((chain->not_after - chain->not_before) / 24, 60);
	if (result->retry_after > 0)
		return result->retry_after < 60      ? 60
		       : result->retry_after > 86400 ? 86400
						     : result->retry_after;
	if (result->fail != ACME_OK && part < ARI_INTERVAL)
		return part;
	return ARI_INTERVAL;
}

void record_ari(struct store *store, const struct stored_cert *cert, const struct operation_result *result,
		int64_t now)
{
	const struct chain_info *chain = &cert->chain;
	bool none = result->fail != ACME_OK && result->permanent;
	struct store_state state;
	store_state_load(store, &state);
	if (!same_text(state.ari_id, chain->ari_id) || none) {
		set_text(&state.ari_id, none ? ARI_NONE : chain->ari_id);
		state.ari_at = state.ari_start = state.ari_end = 0;
	}
	if (result->fail == ACME_OK) {
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
