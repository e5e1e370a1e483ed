/* SPDX-License-Identifier: MIT */
/*
 * renewal - see renewal.h.  A timer looks once a second, so clocks may jump and others may change the store;
 * what it finds is handled in this order: the store, a changed certificate, an operation under way, the
 * schedule.
 */
#include "renewal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/tls-provider.h>
#include "operation.h"
#include "renewal_state.h"
#include "time_text.h"

#define TICK_NS        UINT64_C(1000000000)
#define PORT_WAIT      60   /* seconds to wait for another identity's challenges on the same port */
#define LOCKED_WAIT    5    /* seconds until the next check while another process has the store locked */
#define STORE_WAIT     30   /* seconds until the store is tried again */
#define ARI_MIN_LIFE   3600 /* seconds; the CA's advice comes too late for shorter lives */
#define ARI_PAUSE      (600 * (uint64_t)ACME_SECOND) /* between two questions, also if no answer can be saved */
#define ACCOUNT_LOADED "ACME account loaded from storage"
#define OBTAIN_FAILED  "failed to obtain certificate from ACME server"

struct renewal {
	const struct ss_host *host;
	const struct setup *setup;
	struct ss_iface loop, publish;
	const char *ca_bundle[2];
	uint32_t tick;

	struct store *store; /* NULL: could not be opened yet */
	struct stored_cert cert;
	int64_t last_success; /* as far as it was counted */
	uint32_t failures;    /* in a row, as far as this process knows */

	/* what the host knows */
	bool published;       /* it uses a certificate of ours, until: */
	int64_t in_use_until; /* s */
	bool cert_published;  /* that is the stored one */
	bool cert_refused;    /* it did not accept the stored one */
	bool notified;        /* it uses one, or knows that there is none */

	struct operation *operation; /* NULL: none under way */
	bool is_ari;                 /* of which kind */
	uint32_t watch;
	int port;               /* port_lock(), negative: not held */
	int64_t port_wanted_at; /* since when it is waited for, 0: it is not */

	int64_t check_at;     /* wall clock, s */
	uint64_t check_at_ns; /* the same by the loop's clock, as wall clocks jump */
	uint64_t next_ari_ns;
	bool quiet; /* the next check belongs to the previous one: log it no more */
	bool warned_of_bounds, announced;
};

static void check(struct renewal *r, bool first, bool at_once);

/* ---- metrics ---- */

enum {
	METRIC_SUCCESS,
	METRIC_FAILURE,
	METRIC_NEXT,
	METRIC_FAILURES_IN_A_ROW,
	METRIC_LAST_SUCCESS,
	METRIC_REQUESTS
};

#define REQUEST(word)                                                                                        \
	{                                                                                                    \
		"semstreams_acme_requests_total", "Requests to the ACME server, by kind.",                   \
			"request=\"" word "\"", SS_METRIC_COUNTER, 0                                         \
	}

const struct ss_metric renewal_metrics[RENEWAL_N_METRICS] = {
	[METRIC_SUCCESS] = {"semstreams_acme_renewal_success_total",
			    "Certificates obtained, including the first, by this process or by a command.",
			    NULL, SS_METRIC_COUNTER, 0},
	[METRIC_FAILURE] = {"semstreams_acme_renewal_failure_total",
			    "Failed attempts to obtain a certificate, by this process or by a command.", NULL,
			    SS_METRIC_COUNTER, 0},
	[METRIC_NEXT] = {"semstreams_acme_next_renewal_timestamp_seconds",
			 "Time of the next renewal, or of the next attempt after a failure.", NULL,
			 SS_METRIC_GAUGE, 0},
	[METRIC_FAILURES_IN_A_ROW] = {"semstreams_acme_failures_in_a_row",
				      "Failed attempts since the last success.", NULL, SS_METRIC_GAUGE, 0},
	[METRIC_LAST_SUCCESS] = {"semstreams_acme_last_success_timestamp_seconds",
				 "Time when a certificate was last obtained; 0 = never.", NULL,
				 SS_METRIC_GAUGE, 0},
	[METRIC_REQUESTS] = REQUEST("directory"),
	REQUEST("newNonce"),
	REQUEST("newAccount"),
	REQUEST("account"),
	REQUEST("newOrder"),
	REQUEST("order"),
	REQUEST("authorization"),
	REQUEST("challenge"),
	REQUEST("finalize"),
	REQUEST("certificate"),
	REQUEST("renewalInfo"),
	REQUEST("revokeCert"),
	REQUEST("keyChange"),
	REQUEST("other"),
};

static void show_metrics(struct renewal *r, const struct store_state *state, int64_t next)
{
	r->host->metric_set(r->host, METRIC_NEXT, next);
	r->host->metric_set(r->host, METRIC_FAILURES_IN_A_ROW, state->failures);
	r->host->metric_set(r->host, METRIC_LAST_SUCCESS, state->last_success);
}

/* ---- the next check ---- */

static const struct ss_loop *loop_of(const struct renewal *r)
{
	return r->loop.vtbl;
}

static uint64_t loop_now(const struct renewal *r)
{
	return loop_of(r)->now(r->loop.self);
}

static void check_again_at(struct renewal *r, int64_t at, int64_t now)
{
	int64_t wait = at > now ? at - now : 0;
	r->check_at = at;
	r->check_at_ns = loop_now(r) + (uint64_t)wait * ACME_SECOND;
}

static bool is_check_due(const struct renewal *r, int64_t now)
{
	return now >= r->check_at || loop_now(r) >= r->check_at_ns;
}

/* ---- what the host uses ---- */

static void notify_unavailable(struct renewal *r, const char *reason)
{
	const struct ss_tls_publish *host = r->publish.vtbl;
	r->published = r->cert_published = false;
	r->notified = true;
	host->unavailable(r->publish.self, reason);
}

static bool has_valid(const struct renewal *r, int64_t now)
{
	return r->published && now < r->in_use_until;
}

/* A certificate that is not valid yet waits while another is in use. */
static bool can_publish(const struct renewal *r, int64_t now)
{
	return r->cert.exists && !r->cert_refused && now < r->cert.chain.not_after &&
	       (now >= r->cert.chain.not_before || !r->published);
}

/* Now or, by the tick, when its time comes. */
static void publish(struct renewal *r, int64_t now)
{
	const struct ss_tls_publish *host = r->publish.vtbl;
	const struct chain_info *chain = &r->cert.chain;
	char why[512] = "";
	bool replaces = r->published;
	if (!can_publish(r, now)) {
		if (r->cert.exists && now < chain->not_before)
			ss_log(r->host, SS_LOG_WARN,
			       "New certificate is not valid yet, the old one stays in use until then; is "
			       "this machine's "
			       "clock slow? not_before=%s",
			       time_text(chain->not_before).s);
		return;
	}
	if (host->publish(r->publish.self, "ACME", chain->pem, r->cert.key_pem, why, sizeof why)) {
		ss_log(r->host, SS_LOG_ERROR, "Certificate from %s cannot be used error=\"%s\"",
		       r->setup->chain_path, why);
		r->cert_refused = true;
		return;
	}
	r->published = r->cert_published = r->notified = true;
	r->in_use_until = chain->not_after;
	if (replaces)
		ss_log(r->host, SS_LOG_INFO, "Hot-reloaded certificate path=%s", r->setup->chain_path);
}

/* ---- the store ---- */

/* Once: a renew_before that does not fit the CA's certificates. */
static void warn_of_bounds(struct renewal *r, const struct renew_facts *f)
{
	int64_t life = f->not_after - f->not_before;
	bool bounded;
	int64_t used = renew_effective(f->not_before, f->not_after, f->renew_before, &bounded);
	if (r->warned_of_bounds || (!bounded && f->renew_before >= life / 24))
		return;
	r->warned_of_bounds = true;
	if (bounded)
		ss_log(r->host, SS_LOG_WARN,
		       "renew_before is more than half of the certificate's lifetime, using half of it "
		       "renew_before=%s lifetime=%s used=%s",
		       duration_text(f->renew_before).s, duration_text(life).s, duration_text(used).s);
	else
		ss_log(r->host, SS_LOG_WARN,
		       "renew_before leaves little time to renew a certificate with this lifetime, a third "
		       "of it is usual "
		       "renew_before=%s lifetime=%s",
		       duration_text(f->renew_before).s, duration_text(life).s);
}

/* What is in use stays in use if the store has nothing usable. */
static void load_cert(struct renewal *r, const struct store_state *state)
{
	const struct setup *s = r->setup;
	stored_cert_done(&r->cert);
	int rc = stored_cert_load(r->store, (const char *const *)s->names, s->n_names, &r->cert);
	if (rc && rc != -ENOENT)
		ss_log(r->host, SS_LOG_WARN,
		       "Stored certificate cannot be used, obtaining a new one error=\"%s\"",
		       store_why(r->store));
	r->cert_published = r->cert_refused = false;
	if (r->cert.exists) {
		struct renew_facts f = record_facts(s, &r->cert, state);
		warn_of_bounds(r, &f);
	}
}

static void log_renewed(struct renewal *r)
{
	struct time_text expiry = time_text(r->cert.chain.not_after);
	ss_log(r->host, SS_LOG_INFO, "Certificate renewed successfully domain=%s expiry=%s new_expiry=%s",
	       r->setup->names[0], expiry.s, expiry.s);
}

/* A command, an operator or another host has changed the stored certificate. */
static void reload(struct renewal *r, int64_t now)
{
	struct store_state state;
	store_state_load(r->store, &state);
	load_cert(r, &state);
	bool obtained = state.last_success > r->last_success;
	r->last_success = state.last_success;
	if (!r->cert.exists) {
		ss_log(r->host, SS_LOG_WARN, "Certificate is gone from storage, obtaining another path=%s",
		       r->setup->chain_path);
	} else if (obtained) {
		r->failures = 0;
		r->host->metric_add(r->host, METRIC_SUCCESS, 1);
		log_renewed(r);
	} else {
		ss_log(r->host, SS_LOG_INFO, "Certificate in storage was changed expiry=%s",
		       time_text(r->cert.chain.not_after).s);
	}
	publish(r, now);
	store_state_done(&state);
	check_again_at(r, now, now);
}

/* ---- the end of an operation ---- */

static void end_operation(struct renewal *r)
{
	loop_of(r)->cancel(r->loop.self, r->watch);
	r->watch = 0;
	operation_free(r->operation);
	r->operation = NULL;
	if (r->port >= 0)
		close(r->port);
	r->port = -1;
	r->port_wanted_at = 0;
	if (r->store)
		store_unlock(r->store);
}

/* The error without the words that the message begins with already. */
static const char *error_of(const char *why)
{
	size_t n = sizeof OBTAIN_FAILED ": " - 1;
	return strncmp(why, OBTAIN_FAILED ": ", n) == 0 ? why + n : why;
}

static void failed(struct renewal *r, const struct operation_result *result, int64_t now)
{
	char reason[768];
	bool valid = has_valid(r, now);
	int64_t left = valid ? r->in_use_until - now : 0, interval = r->setup->check_interval;
	int64_t wait = record_failure(r->store, r->setup, result, left, now, &r->failures);
	r->host->metric_add(r->host, METRIC_FAILURE, 1);
	r->host->metric_set(r->host, METRIC_FAILURES_IN_A_ROW, r->failures);
	r->host->metric_set(r->host, METRIC_NEXT, now + wait);
	const char *what = r->cert.exists ? "Certificate renewal failed" : OBTAIN_FAILED;
	if (valid)
		ss_log(r->host, SS_LOG_ERROR,
		       "%s, retry in %s failures=%u expiry=%s remaining=%s error=\"%s\"", what,
		       duration_text(wait).s, r->failures, time_text(r->in_use_until).s,
		       duration_text(left).s, error_of(result->why));
	else
		ss_log(r->host, SS_LOG_ERROR, "%s, retry in %s failures=%u error=\"%s\"", what,
		       duration_text(wait).s, r->failures, error_of(result->why));
	if (!valid) {
		snprintf(reason, sizeof reason, OBTAIN_FAILED ": %s", error_of(result->why));
		notify_unavailable(r, reason);
	}
	check_again_at(r, now + (wait < interval ? wait : interval), now);
}

/* Without an operation: something on this machine. */
static void failed_here(struct renewal *r, enum acme_fail fail, const char *why, int64_t now)
{
	struct operation_result result = {.fail = fail};
	snprintf(result.why, sizeof result.why, "%s", why);
	failed(r, &result, now);
}

static void obtained(struct renewal *r, const struct operation_result *result, int64_t now)
{
	char why[640];
	struct store_state state;
	const struct setup *s = r->setup;
	bool renewal = r->cert.exists;
	int rc = record_success(r->store, s, result, now, why, sizeof why);
	if (rc) {
		failed_here(r, rc == -ERANGE ? ACME_BROKEN : ACME_STORAGE, why, now);
		return;
	}
	r->host->metric_add(r->host, METRIC_SUCCESS, 1);
	r->failures = 0;
	r->last_success = now;
	store_state_load(r->store, &state);
	load_cert(r, &state);
	if (renewal)
		log_renewed(r);
	else
		ss_log(r->host, SS_LOG_INFO, "Certificate obtained successfully domain=%s expiry=%s",
		       s->names[0], time_text(r->cert.chain.not_after).s);
	ss_log(r->host, SS_LOG_INFO, "Certificate saved to storage path=%s", s->chain_path);
	if (store_warning(r->store))
		ss_log(r->host, SS_LOG_WARN, "%s", store_warning(r->store));
	publish(r, now);
	struct renew_facts f = record_facts(s, &r->cert, &state);
	struct renew_decision d = renew_decide(&f, now);
	if (renewal)
		ss_log(r->host, SS_LOG_INFO, "Certificate renewal complete next_check=%s",
		       duration_text(d.check_at - now).s);
	show_metrics(r, &state, d.due_at);
	check_again_at(r, d.check_at, now);
	store_state_done(&state);
}

static void ari_answered(struct renewal *r, const struct operation_result *result, int64_t now)
{
	record_ari(r->store, &r->cert, result, now);
	if (result->fail != ACME_OK)
		ss_log(r->host, SS_LOG_DEBUG, "ACME renewal information (ARI) unavailable error=\"%s\"",
		       result->why);
	else if (result->ari_url)
		ss_log(r->host, SS_LOG_INFO,
		       "ACME server explains when it wants certificates renewed url=\"%s\"", result->ari_url);
	check_again_at(r, now, now);
	r->quiet = true;
}

static void read_operation(struct renewal *r)
{
	const struct operation_result *result = operation_read(r->operation);
	int64_t now = wall_now();
	if (!result)
		return;
	if (r->is_ari)
		ari_answered(r, result, now);
	else if (result->fail == ACME_OK)
		obtained(r, result, now);
	else
		failed(r, result, now);
	end_operation(r);
}

/* ---- its begin; the store is locked ---- */

static void on_readable(void *arg, uint32_t events)
{
	(void)events;
	read_operation(arg);
}

static void on_operation_log(void *arg, int32_t level, const char *text)
{
	struct renewal *r = arg;
	/* was logged at start already, and each operation logs it again */
	if (strncmp(text, ACCOUNT_LOADED, sizeof ACCOUNT_LOADED - 1) == 0)
		level = SS_LOG_DEBUG;
	r->host->log(r->host, level, text);
}

static void on_request_counted(void *arg, const char *request)
{
	struct renewal *r = arg;
	static const size_t head = sizeof "request=\"" - 1;
	size_t n = strlen(request);
	uint32_t i = METRIC_REQUESTS;
	for (; i < RENEWAL_N_METRICS - 1; i++)
		if (strncmp(renewal_metrics[i].label + head, request, n) == 0 &&
		    renewal_metrics[i].label[head + n] == '"')
			break;
	r->host->metric_add(r->host, i, 1);
}

static int begin_operation(struct renewal *r, struct operation_request *request, char *why, size_t why_size)
{
	const struct operation_events events = {
		.log = on_operation_log, .counted = on_request_counted, .arg = r};
	request->ca_files = renewal_ca_files(r);
	int rc = operation_start(r->setup, request, &events, &r->operation, why, why_size);
	if (rc)
		return rc;
	r->is_ari = request->kind == OPERATION_ARI;
	rc = loop_of(r)->fd(r->loop.self, operation_fd(r->operation), SS_FD_READ, on_readable, r, &r->watch);
	if (rc)
		snprintf(why, why_size, "%s", strerror(-rc));
	return rc;
}

static void obtain(struct renewal *r, enum renew_why reason, int64_t now)
{
	const struct setup *s = r->setup;
	struct operation_request request = {.kind = OPERATION_ISSUE};
	char why[640];
	static const char *const reasons[] = {
		[RENEW_EXPIRED] = "expired", [RENEW_NAMES] = "other domains", [RENEW_REVOKED] = "revoked",
		[RENEW_TIME] = "time",       [RENEW_ARI] = "asked by the CA", [RENEW_EMERGENCY] = "overdue",
	};
	if (r->cert.exists) {
		request.old_ari_id = r->cert.chain.ari_id[0] ? r->cert.chain.ari_id : NULL;
		request.old_key_pem = r->cert.key_pem;
		ss_log(r->host, SS_LOG_INFO,
		       "Certificate eligible for renewal remaining=%s renew_before=%s reason=\"%s\"",
		       duration_text(r->cert.chain.not_after - now).s, duration_text(s->renew_before).s,
		       reasons[reason]);
		ss_log(r->host, SS_LOG_INFO, "Starting certificate renewal domain=%s", s->names[0]);
	} else {
		ss_log(r->host, SS_LOG_INFO, "Starting certificate obtainment domains=%s", s->names_json);
	}
	if (begin_operation(r, &request, why, sizeof why)) {
		failed_here(r, ACME_LOCAL, why, now);
		end_operation(r);
	}
}

/* Where the CA offers it and it is time for it; once in ARI_PAUSE. */
static void ask_ari(struct renewal *r, const struct store_state *state, int64_t now)
{
	const struct chain_info *chain = &r->cert.chain;
	struct operation_request request = {.kind = OPERATION_ARI, .ari_id = chain->ari_id};
	char why[256];
	if (!r->setup->conf->ari || !r->cert.exists || !chain->ari_id[0] ||
	    chain->not_after - chain->not_before < ARI_MIN_LIFE || now >= chain->not_after ||
	    !record_ari_due(state, &r->cert, now) || r->next_ari_ns > loop_now(r) || store_lock(r->store))
		return;
	r->next_ari_ns = loop_now(r) + ARI_PAUSE;
	if (begin_operation(r, &request, why, sizeof why))
		end_operation(r);
}

/* ---- the check ---- */

/* The host may have two identities whose challenges come to one port.  True: it is ours, or we waited enough.
 */
static bool get_port(struct renewal *r, int64_t now)
{
	int fd = port_lock(r->setup->conf->challenge_address, r->setup->challenge_port);
	if (fd != -EAGAIN) {
		r->port = fd;
		return true;
	}
	if (!r->port_wanted_at || r->port_wanted_at > now)
		r->port_wanted_at = now;
	return now - r->port_wanted_at >= PORT_WAIT;
}

static void is_due(struct renewal *r, enum renew_why reason, int64_t now)
{
	int rc = store_lock(r->store);
	if (rc == -EAGAIN) {
		ss_log(r->host, SS_LOG_DEBUG,
		       "Another process is obtaining a certificate for this storage_path");
		check_again_at(r, now + LOCKED_WAIT, now);
		r->quiet = true;
	} else if (rc) {
		char why[512];
		snprintf(why, sizeof why, "storage_path %s cannot be locked: %s", r->setup->path,
			 strerror(-rc));
		failed_here(r, ACME_STORAGE, why, now);
	} else if (stored_cert_changed(r->store)) {
		store_unlock(r->store);
		reload(r, now); /* and check again */
	} else if (!get_port(r, now)) {
		store_unlock(r->store);
		check_again_at(r, now + 1, now);
		r->quiet = true;
	} else {
		obtain(r, reason, now);
	}
}

static void log_postponed(struct renewal *r, const struct renew_decision *d, const struct store_state *state,
			  int64_t now)
{
	if (d->too_soon)
		ss_log(r->host, SS_LOG_WARN,
		       "Certificate is due for renewal too soon after the last one, waiting; check the "
		       "clock, renew_before "
		       "and the lifetime of the CA's certificates last_success=%s",
		       time_text(state->last_success).s);
	else
		ss_log(r->host, SS_LOG_INFO,
		       "Certificate is due, but the last attempt failed failures=%u next_try=%s error=\"%s\"",
		       state->failures, time_text(d->check_at > now ? d->check_at : now).s,
		       state->last_error ? error_of(state->last_error) : "");
}

/* Nothing is valid, and nothing is tried for a while: the host need not wait for it. */
static void postponed(struct renewal *r, const struct renew_decision *d, const struct store_state *state,
		      int64_t now)
{
	char reason[768];
	if (!r->quiet)
		log_postponed(r, d, state, now);
	if (has_valid(r, now) || r->notified)
		return;
	snprintf(reason, sizeof reason, OBTAIN_FAILED ": %s",
		 state->last_error ? error_of(state->last_error) : "the next attempt has to wait");
	notify_unavailable(r, reason);
}

/* at_once: our own backoff does not count, only what the CA asked for. */
static void check(struct renewal *r, bool first, bool at_once)
{
	int64_t now = wall_now();
	struct store_state state;
	store_state_load(r->store, &state);
	if (state.failures > r->failures && !first) /* of a command */
		r->host->metric_add(r->host, METRIC_FAILURE, state.failures - r->failures);
	r->failures = state.failures > r->failures || first ? state.failures : r->failures;
	struct renew_facts f = record_facts(r->setup, &r->cert, &state);
	if (at_once)
		f.next_try = 0;
	struct renew_decision d = renew_decide(&f, now);
	check_again_at(r, d.check_at, now);
	show_metrics(r, &state, d.now || d.why == RENEW_NOT_DUE ? d.due_at : d.check_at);
	if (!first && !r->quiet)
		ss_log(r->host, SS_LOG_INFO, "Certificate renewal check starting");
	bool quiet = r->quiet;
	if (!d.now && d.why != RENEW_NOT_DUE)
		postponed(r, &d, &state, now);
	r->quiet = false;
	if (d.now) {
		is_due(r, d.why, now);
	} else if (d.why == RENEW_NOT_DUE) {
		if (!quiet)
			ss_log(r->host, SS_LOG_INFO,
			       "Certificate valid, no renewal needed expiry=%s remaining=%s",
			       time_text(r->cert.chain.not_after).s,
			       duration_text(r->cert.chain.not_after - now).s);
		ask_ari(r, &state, now);
	}
	store_state_done(&state);
}

/* ---- the tick ---- */

static bool open_store(struct renewal *r)
{
	char why[512], reason[640];
	int64_t now = wall_now();
	if (store_open(r->setup->path, &r->store, why, sizeof why) == 0) {
		if (store_warning(r->store))
			ss_log(r->host, SS_LOG_WARN, "%s", store_warning(r->store));
		return true;
	}
	snprintf(reason, sizeof reason, "account registration failed: %s", why);
	ss_log(r->host, SS_LOG_ERROR, "%s; retrying every %d s", reason, STORE_WAIT);
	notify_unavailable(r, reason);
	check_again_at(r, now + STORE_WAIT, now);
	return false;
}

static void log_account(struct renewal *r)
{
	struct store_account account;
	int rc = store_account_load(r->store, &account);
	if (rc == 0) {
		ss_log(r->host, SS_LOG_INFO, ACCOUNT_LOADED " email=%s", account.email ? account.email : "");
		store_account_done(&account);
	} else if (rc != -ENOENT) {
		ss_log(r->host, SS_LOG_ERROR, "ACME account cannot be loaded from storage error=\"%s\"",
		       store_why(r->store));
	}
}

/* The stored certificate into use, and the first check. */
static void begin(struct renewal *r)
{
	struct store_state state;
	log_account(r);
	ss_log(r->host, SS_LOG_INFO, "Checking existing certificate domain=%s", r->setup->names[0]);
	store_state_load(r->store, &state);
	r->last_success = state.last_success;
	load_cert(r, &state);
	store_state_done(&state);
	publish(r, wall_now());
	check(r, true, !has_valid(r, wall_now())); /* whatever was wrong may be mended */
}

static void on_tick(void *arg)
{
	struct renewal *r = arg;
	int64_t now = wall_now();
	if (!r->store) {
		if (is_check_due(r, now) && open_store(r))
			begin(r);
		return;
	}
	if (r->published && now >= r->in_use_until) {
		char reason[128];
		snprintf(reason, sizeof reason, "the certificate expired %s and could not be renewed",
			 time_text(r->in_use_until).s);
		notify_unavailable(r, reason);
	}
	if (!r->cert_published && can_publish(r, now))
		publish(r, now);
	if (r->operation) {
		read_operation(r); /* is it overdue? */
		return;
	}
	if (!r->announced) /* not before the listener that uses the first certificate is announced */
		ss_log(r->host, SS_LOG_INFO, "Background renewal loop started check_interval=%s",
		       duration_text(r->setup->check_interval).s);
	r->announced = true;
	bool touched = store_state_changed(r->store);
	if (stored_cert_changed(r->store)) {
		reload(r, now);
	} else if (touched || is_check_due(r, now)) {
		r->quiet |= !is_check_due(r, now); /* the state may be our own, and logged */
		check(r, false, false);
	}
}

static void on_retry(void *arg)
{
	struct renewal *r = arg;
	if (!r->tick || r->operation)
		return;
	if (r->store)
		check(r, false, true);
	else if (open_store(r))
		begin(r);
}

void renewal_retry(struct renewal *r)
{
	loop_of(r)->post(r->loop.self, on_retry, r);
}

/* ---- life cycle ---- */

const char *const *renewal_ca_files(const struct renewal *r)
{
	const struct ss_tls_publish *host = r->publish.vtbl;
	return r->ca_bundle[0] ? r->ca_bundle : host->ca_files(r->publish.self);
}

/* Before the start, so that "semstreams check" says it, too: where a certificate shows how long they last. */
static void check_bounds(struct renewal *r)
{
	const struct setup *s = r->setup;
	struct store_state state;
	struct stored_cert cert;
	char why[512];
	if (access(s->chain_path, R_OK) || store_open(s->path, &r->store, why, sizeof why))
		return;
	store_state_load(r->store, &state);
	if (stored_cert_load(r->store, NULL, 0, &cert) == 0) {
		struct renew_facts f = record_facts(s, &cert, &state);
		warn_of_bounds(r, &f);
	}
	stored_cert_done(&cert);
	store_state_done(&state);
	store_free(r->store);
	r->store = NULL;
}

int32_t renewal_new(const struct ss_host *host, const struct setup *setup, struct renewal **out)
{
	struct renewal *r = calloc(1, sizeof *r);
	if (!r)
		return -ENOMEM;
	r->host = host;
	r->setup = setup;
	r->ca_bundle[0] = setup->conf->ca_bundle;
	r->port = -1;
	int32_t rc = host->query(host, SS_LOOP, sizeof(struct ss_loop), &r->loop);
	if (rc == 0)
		rc = host->query(host, SS_TLS_PUBLISH, sizeof(struct ss_tls_publish), &r->publish);
	if (rc) {
		free(r);
		return rc;
	}
	check_bounds(r);
	*out = r;
	return 0;
}

int32_t renewal_start(struct renewal *r)
{
	ss_log(r->host, SS_LOG_INFO, "Initializing ACME client directory=%s", r->setup->conf->directory_url);
	if (open_store(r))
		begin(r);
	return loop_of(r)->timer(r->loop.self, TICK_NS, TICK_NS, on_tick, r, &r->tick);
}

void renewal_stop(struct renewal *r)
{
	loop_of(r)->cancel(r->loop.self, r->tick);
	r->tick = 0;
	end_operation(r);
	stored_cert_done(&r->cert);
	store_free(r->store);
	r->store = NULL;
}

void renewal_free(struct renewal *r)
{
	free(r);
}
