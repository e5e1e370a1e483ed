/* SPDX-License-Identifier: MIT */
/*
 * keep - keeps the certificate: takes it from the store, sees when it is time for another, gets it, hands it
 * to the host. One tick a second does the looking, so that clocks may jump and others may change the store.
 * On the instance's loop.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/loop-libev.h>
#include <semstreams/ext/tls-provider.h>
#include "acme_tls.h"
#include "record.h"
#include "text.h"
#include "turn.h"

#define TICK_NS       1000000000U
#define TURN_PATIENCE 60   /* seconds to wait for another identity's challenges on the same port */
#define LOCKED_AGAIN  5    /* seconds until the next look when somebody else is at it */
#define STORE_AGAIN   30   /* seconds until the store is tried again */
#define ARI_MIN_LIFE  3600 /* seconds; the CA's advice comes too late for shorter lives */
#define ARI_PAUSE     (600 * (uint64_t)ACME_SECOND) /* between two questions, at the least */
#define OLD_CONNECTED "ACME account loaded from storage"

static void check(struct acme_tls *t, bool first);

static const struct ss_loop *loop_of(const struct acme_tls *t)
{
	return t->loop.vtbl;
}

static uint64_t loop_now(const struct acme_tls *t)
{
	return loop_of(t)->now(t->loop.self);
}

static int64_t interval_of(const struct acme_tls *t)
{
	return t->setup.conf->check_interval / ACME_SECOND;
}

/* ---- the next look ---- */

static void look_at(struct acme_tls *t, int64_t at, int64_t now)
{
	int64_t wait = at > now ? at - now : 0;
	t->check_at = at;
	t->check_at_ns = loop_now(t) + (uint64_t)wait * ACME_SECOND;
}

static bool is_time(const struct acme_tls *t, int64_t now)
{
	return now >= t->check_at || loop_now(t) >= t->check_at_ns;
}

/* ---- what the host is told ---- */

static void tell_unavailable(struct acme_tls *t, const char *why)
{
	const struct ss_tls_publish *publish = t->publish.vtbl;
	t->published = t->handed = false;
	t->has_been_told = true;
	publish->unavailable(t->publish.self, why);
}

/* Warn once of a renew_before that does not fit the certificates that come. */
static void warn_of_bounds(struct acme_tls *t, const struct renew_facts *f)
{
	int64_t life = f->not_after - f->not_before;
	bool bounded;
	int64_t used = renew_effective(f->not_before, f->not_after, f->renew_before, &bounded);
	if (t->warned_bounds || (!bounded && f->renew_before >= life / 24))
		return;
	t->warned_bounds = true;
	if (bounded)
		ss_log(t->host, SS_LOG_WARN,
		       "renew_before is more than half of what certificates last here, using half of it "
		       "renew_before=%s "
		       "lifetime=%s used=%s",
		       text_duration(f->renew_before).s, text_duration(life).s, text_duration(used).s);
	else
		ss_log(t->host, SS_LOG_WARN,
		       "renew_before leaves little time for certificates that last so long, a third of it is "
		       "usual "
		       "renew_before=%s lifetime=%s",
		       text_duration(f->renew_before).s, text_duration(life).s);
}

static void show_state(struct acme_tls *t, const struct store_state *state, int64_t next)
{
	t->host->metric_set(t->host, METRIC_NEXT, next);
	t->host->metric_set(t->host, METRIC_IN_A_ROW, state->failures);
	t->host->metric_set(t->host, METRIC_LAST_SUCCESS, state->last_success);
}

/* Is what is held to be handed over at this moment?  One that begins later waits while another is in use. */
static bool is_usable(const struct acme_tls *t, int64_t now)
{
	return t->held.there && !t->refused && now < t->held.chain.not_after &&
	       (now >= t->held.chain.not_before || !t->published);
}

/* Hand what is held to the host, now or, by the tick, when its time comes. */
static void hand_over(struct acme_tls *t, int64_t now)
{
	const struct ss_tls_publish *host = t->publish.vtbl;
	const struct chain_info *chain = &t->held.chain;
	char why[512] = "";
	bool hot = t->published;
	if (!is_usable(t, now)) {
		if (t->held.there && now < chain->not_before)
			ss_log(t->host, SS_LOG_WARN,
			       "New certificate is not valid yet and waits, the old one stays in use; is "
			       "this machine's "
			       "clock slow? not_before=%s",
			       text_time(chain->not_before).s);
		return;
	}
	if (host->publish(t->publish.self, "ACME", chain->pem, t->held.key_pem, why, sizeof why)) {
		ss_log(t->host, SS_LOG_ERROR, "Certificate from %s cannot be used error=\"%s\"",
		       t->setup.chain_path, why);
		t->refused = true;
		return;
	}
	t->published = t->handed = t->has_been_told = true;
	t->in_use_until = chain->not_after;
	if (hot)
		ss_log(t->host, SS_LOG_INFO, "Hot-reloaded certificate path=%s", t->setup.chain_path);
}

/* ---- the store ---- */

/* Take what the store has now; what is in use stays in use if that is nothing. */
static void take(struct acme_tls *t, const struct store_state *state)
{
	char why[512] = "";
	struct held held;
	if (held_load(&held, t->store, &t->setup, why, sizeof why))
		ss_log(t->host, SS_LOG_WARN,
		       "Stored certificate cannot be used, a new one is obtained error=\"%s\"", why);
	held_done(&t->held);
	t->held = held;
	t->handed = t->refused = false;
	if (held.there) {
		struct renew_facts f = record_facts(&t->setup, &t->held, state);
		warn_of_bounds(t, &f);
	}
}

static void say_renewed(struct acme_tls *t)
{
	struct text expiry = text_time(t->held.chain.not_after);
	ss_log(t->host, SS_LOG_INFO, "Certificate renewed successfully domain=%s expiry=%s new_expiry=%s",
	       t->setup.names[0], expiry.s, expiry.s);
}

/* Somebody else changed the pair: the command line, an operator, another host. */
static void take_change(struct acme_tls *t, int64_t now)
{
	struct store_state state;
	record_load(t->store, &state);
	take(t, &state);
	bool obtained = state.last_success > t->last_success;
	t->last_success = state.last_success;
	if (t->held.there) {
		if (obtained) {
			t->failures = 0;
			t->host->metric_add(t->host, METRIC_SUCCESS, 1);
			say_renewed(t);
		} else {
			ss_log(t->host, SS_LOG_INFO, "Certificate in storage was changed expiry=%s",
			       text_time(t->held.chain.not_after).s);
		}
		hand_over(t, now);
	} else {
		ss_log(t->host, SS_LOG_WARN, "Certificate is gone from storage, obtaining another path=%s",
		       t->setup.chain_path);
	}
	store_state_done(&state);
	look_at(t, now, now);
}

/* ---- the client ---- */

static void client_end(struct acme_tls *t)
{
	acme_free(t->client);
	t->client = NULL;
	t->doing = DOING_NOTHING;
	if (t->turn >= 0)
		close(t->turn);
	t->turn = -1;
	t->turn_wanted_at = 0;
	if (t->store)
		store_unlock(t->store);
}

static void on_client_log(void *arg, int32_t level, const char *text)
{
	struct acme_tls *t = arg;
	/* said at start already; each client that is made says it again */
	if (strncmp(text, OLD_CONNECTED, sizeof OLD_CONNECTED - 1) == 0)
		level = SS_LOG_DEBUG;
	t->host->log(t->host, level, text);
}

static void on_client_counted(void *arg, const char *what)
{
	struct acme_tls *t = arg;
	t->host->metric_add(t->host, acme_request_metric(what), 1);
}

static void client_touched(struct acme_tls *t)
{
	const struct ss_loop_libev *libev = t->libev.vtbl;
	libev->touched(t->libev.self);
}

static int client_begin(struct acme_tls *t, enum doing doing, char *why, size_t why_size)
{
	const struct ss_loop_libev *libev = t->libev.vtbl;
	const struct client_sink sink = {.log = on_client_log, .counted = on_client_counted, .arg = t};
	int rc = client_new(t, libev->ev_loop(t->libev.self), t->store, &sink, &t->client, why, why_size);
	t->doing = rc ? DOING_NOTHING : doing;
	return rc;
}

/* ---- failures ---- */

static bool is_valid(const struct acme_tls *t, int64_t now)
{
	return t->published && now < t->in_use_until;
}

static void failed(struct acme_tls *t, const struct acme_result *result, int64_t now)
{
	char reason[768];
	bool valid = is_valid(t, now);
	int64_t left = valid ? t->in_use_until - now : 0;
	int64_t wait = record_failure(t->store, &t->setup, result, left, now, &t->failures);
	t->host->metric_add(t->host, METRIC_FAILURE, 1);
	t->host->metric_set(t->host, METRIC_IN_A_ROW, t->failures);
	t->host->metric_set(t->host, METRIC_NEXT, now + wait);
	const char *what = t->held.there ? "Certificate renewal failed"
					 : "failed to obtain certificate from ACME server";
	if (valid)
		ss_log(t->host, SS_LOG_ERROR,
		       "%s, retry in %s failures=%u expiry=%s remaining=%s error=\"%s\"", what,
		       text_duration(wait).s, t->failures, text_time(t->in_use_until).s,
		       text_duration(left).s, result->why);
	else
		ss_log(t->host, SS_LOG_ERROR, "%s, retry in %s failures=%u error=\"%s\"", what,
		       text_duration(wait).s, t->failures, result->why);
	if (!valid) {
		snprintf(reason, sizeof reason, "failed to obtain certificate from ACME server: %s",
			 result->why);
		tell_unavailable(t, reason);
	}
	look_at(t, now + (wait < interval_of(t) ? wait : interval_of(t)), now);
}

static void failed_here(struct acme_tls *t, enum acme_fail fail, const char *why, int64_t now)
{
	struct acme_result result = {.fail = fail};
	snprintf(result.why, sizeof result.why, "%s", why);
	failed(t, &result, now);
}

/* ---- getting one ---- */

static void say_obtained(struct acme_tls *t, bool renewal, int64_t now)
{
	const struct setup *s = &t->setup;
	struct text expiry = text_time(t->held.chain.not_after);
	if (renewal)
		say_renewed(t);
	else
		ss_log(t->host, SS_LOG_INFO, "Certificate obtained successfully domain=%s expiry=%s",
		       s->names[0], expiry.s);
	ss_log(t->host, SS_LOG_INFO, "Certificate saved to storage path=%s", s->chain_path);
	hand_over(t, now);
}

static void say_loop_started(struct acme_tls *t)
{
	if (!t->loop_started)
		ss_log(t->host, SS_LOG_INFO, "Background renewal loop started check_interval=%s",
		       text_duration(interval_of(t)).s);
	t->loop_started = true;
}

static void obtained(struct acme_tls *t, const struct acme_result *result, int64_t now)
{
	char why[640];
	struct store_state state;
	bool renewal = t->held.there;
	int rc = record_success(t->store, &t->setup, result->chain, result->key_pem, now, why, sizeof why);
	if (rc) {
		failed_here(t, rc == -ERANGE ? ACME_BROKEN : ACME_STORAGE, why, now);
		return;
	}
	t->host->metric_add(t->host, METRIC_SUCCESS, 1);
	t->failures = 0;
	record_load(t->store, &state);
	t->last_success = now;
	take(t, &state);
	say_obtained(t, renewal, now);
	struct renew_facts f = record_facts(&t->setup, &t->held, &state);
	struct renew_decision d = renew_decide(&f, now);
	if (renewal)
		ss_log(t->host, SS_LOG_INFO, "Certificate renewal complete next_check=%s",
		       text_duration(d.check_at - now).s);
	show_state(t, &state, d.due_at);
	look_at(t, d.check_at, now);
	store_state_done(&state);
}

static void on_issued(void *arg, const struct acme_result *result)
{
	struct acme_tls *t = arg;
	int64_t now = wall_now();
	if (result->fail == ACME_OK)
		obtained(t, result, now);
	else
		failed(t, result, now);
	client_end(t);
	say_loop_started(t);
	client_touched(t);
}

static void say_begin(struct acme_tls *t, enum renew_why why, int64_t now)
{
	const struct setup *s = &t->setup;
	struct text before = text_duration(s->conf->renew_before / ACME_SECOND);
	struct text left = text_duration(t->held.chain.not_after - now);
	static const char *const because[] = {
		[RENEW_EXPIRED] = "expired", [RENEW_NAMES] = "other domains", [RENEW_REVOKED] = "revoked",
		[RENEW_TIME] = "time",       [RENEW_ARI] = "asked by the CA", [RENEW_EMERGENCY] = "overdue",
	};
	if (!t->held.there) {
		ss_log(t->host, SS_LOG_INFO, "Starting certificate obtainment domains=%s", s->names_json);
		return;
	}
	ss_log(t->host, SS_LOG_INFO,
	       "Certificate eligible for renewal remaining=%s renew_before=%s reason=\"%s\"", left.s,
	       before.s, because[why]);
	ss_log(t->host, SS_LOG_INFO, "Starting certificate renewal domain=%s", s->names[0]);
}

/* The store is locked. */
static void begin(struct acme_tls *t, enum renew_why why, int64_t now)
{
	char text[640] = "out of memory";
	const struct held *held = &t->held;
	say_begin(t, why, now);
	int rc = client_begin(t, DOING_ISSUE, text, sizeof text);
	if (rc == 0)
		rc = acme_issue(t->client, held->there && held->chain.ari_id[0] ? held->chain.ari_id : NULL,
				held->there ? held->key_pem : NULL, on_issued, t);
	if (rc == 0)
		return;
	failed_here(t, ACME_LOCAL, text, now);
	client_end(t);
	say_loop_started(t);
}

/* ---- the CA's window ---- */

static void on_ari(void *arg, const struct acme_result *result)
{
	struct acme_tls *t = arg;
	int64_t now = wall_now();
	record_ari(t->store, &t->held, result, now);
	if (result->fail != ACME_OK)
		ss_log(t->host, SS_LOG_DEBUG, "ACME renewal information is not to be had error=\"%s\"",
		       result->why);
	else if (result->ari_url)
		ss_log(t->host, SS_LOG_INFO,
		       "ACME server explains when it wants certificates renewed url=\"%s\"", result->ari_url);
	client_end(t);
	look_at(t, now, now);
	t->quiet = true;
	client_touched(t);
}

/* True if it is being asked. */
static bool ask_ari(struct acme_tls *t, const struct store_state *state, int64_t now)
{
	const struct chain_info *chain = &t->held.chain;
	char why[256];
	if (!t->setup.conf->ari || !t->held.there || !chain->ari_id[0] ||
	    chain->not_after - chain->not_before < ARI_MIN_LIFE || now >= chain->not_after ||
	    !record_ari_due(state, &t->held, now))
		return false;
	/* also where the answer could not be written down */
	if (t->ari_again_ns > loop_now(t) || store_lock(t->store))
		return false;
	t->ari_again_ns = loop_now(t) + ARI_PAUSE;
	if (client_begin(t, DOING_ARI, why, sizeof why) == 0 &&
	    acme_ari(t->client, chain->ari_id, on_ari, t) == 0)
		return true;
	client_end(t);
	return false;
}

/* ---- looking ---- */

static void say_not_due(struct acme_tls *t, int64_t now)
{
	ss_log(t->host, SS_LOG_INFO, "Certificate valid, no renewal needed expiry=%s remaining=%s",
	       text_time(t->held.chain.not_after).s, text_duration(t->held.chain.not_after - now).s);
}

static void say_waiting(struct acme_tls *t, const struct renew_decision *d, const struct store_state *state,
			int64_t now)
{
	if (d->too_soon)
		ss_log(t->host, SS_LOG_WARN,
		       "Certificate would be due for renewal again so soon after the last one that something "
		       "is wrong: check "
		       "the clock, renew_before and how long the CA's certificates last last_success=%s",
		       text_time(state->last_success).s);
	else
		ss_log(t->host, SS_LOG_INFO,
		       "Certificate is due, but the last attempt failed failures=%u next_try=%s error=\"%s\"",
		       state->failures, text_time(d->check_at > now ? d->check_at : now).s,
		       state->last_error ? state->last_error : "");
}

/* Nothing to serve, and nothing will be tried for a while: the host need not wait for it. */
static void tell_waiting(struct acme_tls *t, const struct store_state *state, int64_t now)
{
	char reason[768];
	if (is_valid(t, now) || t->has_been_told)
		return;
	snprintf(reason, sizeof reason, "failed to obtain certificate from ACME server: %s",
		 state->last_error ? state->last_error : "the next attempt has to wait");
	tell_unavailable(t, reason);
}

/* A host may have two identities, and challenges of both come to one port. */
static bool is_our_turn(struct acme_tls *t, int64_t now)
{
	const struct acme_conf *c = t->setup.conf;
	int fd = turn_take(c->challenge_address, challenge_port(c));
	if (fd != -EAGAIN) {
		t->turn = fd >= 0 ? fd : -1;
		return true;
	}
	if (!t->turn_wanted_at || t->turn_wanted_at > now)
		t->turn_wanted_at = now;
	return now - t->turn_wanted_at >= TURN_PATIENCE;
}

static void due(struct acme_tls *t, const struct renew_decision *d, int64_t now)
{
	int rc = store_lock(t->store);
	if (rc == -EAGAIN) {
		ss_log(t->host, SS_LOG_DEBUG,
		       "Another process is getting a certificate for the same storage_path");
		look_at(t, now + LOCKED_AGAIN, now);
		t->quiet = true;
	} else if (rc) {
		char why[512];
		snprintf(why, sizeof why, "storage_path %s cannot be locked: %s", t->setup.path,
			 strerror(-rc));
		failed_here(t, ACME_STORAGE, why, now);
	} else if (store_pair_changed(t->store)) {
		store_unlock(t->store);
		take_change(t, now); /* and looks again */
	} else if (!is_our_turn(t, now)) {
		store_unlock(t->store);
		look_at(t, now + 1, now);
		t->quiet = true;
	} else {
		begin(t, d->why, now);
	}
}

static void check(struct acme_tls *t, bool first)
{
	int64_t now = wall_now();
	struct store_state state;
	record_load(t->store, &state);
	struct renew_facts f = record_facts(&t->setup, &t->held, &state);
	struct renew_decision d = renew_decide(&f, now);
	bool quiet = t->quiet;
	t->quiet = false;
	look_at(t, d.check_at, now);
	show_state(t, &state, d.now || d.why == RENEW_NOT_DUE ? d.due_at : d.check_at);
	if (!first && !quiet)
		ss_log(t->host, SS_LOG_INFO, "Certificate renewal check starting");
	if (d.now) {
		due(t, &d, now);
	} else if (d.why == RENEW_NOT_DUE) {
		if (!quiet)
			say_not_due(t, now);
		ask_ari(t, &state, now);
	} else {
		if (!quiet)
			say_waiting(t, &d, &state, now);
		tell_waiting(t, &state, now);
	}
	store_state_done(&state);
}

/* ---- the tick ---- */

static bool open_store(struct acme_tls *t)
{
	char why[512], reason[640];
	if (store_open(t->setup.path, &t->store, why, sizeof why) == 0) {
		if (store_warning(t->store))
			ss_log(t->host, SS_LOG_WARN, "%s", store_warning(t->store));
		return true;
	}
	ss_log(t->host, SS_LOG_ERROR, "account registration failed: %s; trying again every %d s", why,
	       STORE_AGAIN);
	snprintf(reason, sizeof reason, "account registration failed: %s", why);
	tell_unavailable(t, reason);
	int64_t now = wall_now();
	look_at(t, now + STORE_AGAIN, now);
	return false;
}

/* What the store has, into use. */
static void load(struct acme_tls *t)
{
	char why[512];
	struct store_account account;
	struct store_state state;
	int64_t now = wall_now();
	int rc = store_account_load(t->store, &account, why, sizeof why);
	if (rc == 0) {
		ss_log(t->host, SS_LOG_INFO, OLD_CONNECTED " email=%s", account.email ? account.email : "");
		store_account_done(&account);
	} else if (rc != -ENOENT) {
		ss_log(t->host, SS_LOG_ERROR, "ACME account cannot be loaded from storage error=\"%s\"", why);
	}
	ss_log(t->host, SS_LOG_INFO, "Checking existing certificate domain=%s", t->setup.names[0]);
	record_load(t->store, &state);
	t->last_success = state.last_success;
	take(t, &state);
	store_state_done(&state);
	hand_over(t, now);
	check(t, true);
	if (t->doing != DOING_ISSUE)
		say_loop_started(t);
}

static void on_tick(void *arg)
{
	struct acme_tls *t = arg;
	int64_t now = wall_now();
	if (!t->store) {
		if (is_time(t, now) && open_store(t))
			load(t);
		return;
	}
	if (t->published && now >= t->in_use_until) {
		char reason[128];
		snprintf(reason, sizeof reason, "the certificate expired %s and could not be renewed",
			 text_time(t->in_use_until).s);
		tell_unavailable(t, reason);
	}
	if (!t->handed && is_usable(t, now))
		hand_over(t, now);
	if (t->doing != DOING_NOTHING)
		return;
	bool touched = store_state_changed(t->store);
	if (store_pair_changed(t->store)) {
		take_change(t, now);
	} else if (touched || is_time(t, now)) {
		t->quiet |= !is_time(t, now); /* what it says may be what was written here, and known */
		check(t, false);
	}
}

int32_t keep_start(struct acme_tls *t)
{
	ss_log(t->host, SS_LOG_INFO, "Initializing ACME client directory=%s", t->setup.conf->directory_url);
	if (open_store(t))
		load(t);
	return loop_of(t)->timer(t->loop.self, TICK_NS, TICK_NS, on_tick, t, &t->tick);
}

void keep_stop(struct acme_tls *t)
{
	loop_of(t)->cancel(t->loop.self, t->tick);
	t->tick = 0;
	client_end(t);
	held_done(&t->held);
	store_free(t->store);
	t->store = NULL;
}
