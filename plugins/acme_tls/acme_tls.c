/* SPDX-License-Identifier: MIT */
/*
 * acme_tls - a provider of TLS identities: keeps a valid certificate from an ACME CA in use.  It hands the
 * stored one to the host, decides once a second whether it is time for another (renewal_schedule.h), and has
 * the operation carried out (operation.h).  "semstreams cert" is commands.c.
 *
 * A timer looks once a second, so clocks may jump and others may change the store; what it finds is handled
 * in this order: the store, a changed certificate, an operation under way, the schedule.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/tls-provider.h>
#include "commands.h"
#include "operation.h"
#include "options.h"
#include "renewal_schedule.h"
#include "time_text.h"

#define TICK_NS        UINT64_C(1000000000)
#define LOCKED_WAIT    5    /* seconds until the next check while another process has the store locked */
#define STORE_WAIT     30   /* seconds until the store is tried again */
#define ARI_MIN_LIFE   3600 /* seconds; the CA's advice comes too late for shorter lives */
#define ARI_PAUSE      (600 * (uint64_t)ACME_SECOND) /* between two questions, also if no answer can be saved */
#define ACCOUNT_LOADED "ACME account loaded from storage"
#define OBTAIN_FAILED  "failed to obtain certificate from ACME server"

struct acme_tls {
	const struct ss_host *host;
	struct setup setup;
	struct ss_iface loop, publish;
	const char *ca_bundle[2];
	uint32_t tick;

	struct store *store; /* NULL: could not be opened yet */
	struct stored_cert cert;
	struct store_state state; /* as it was last read */
	int64_t last_success;     /* as far as it was counted */
	uint32_t failures;        /* in a row, as far as this process knows */

	/* what the host knows */
	bool published;       /* it uses a certificate of ours, until: */
	int64_t in_use_until; /* s */
	bool cert_published;  /* that is the stored one */
	bool cert_refused;    /* it did not accept the stored one */
	bool notified;        /* it uses one, or knows that there is none */

	struct operation *operation; /* NULL: none under way */
	bool is_ari;                 /* of which kind */
	bool again;                  /* an attempt was asked for meanwhile */
	uint32_t watch;

	int64_t check_at;     /* wall clock, s */
	uint64_t check_at_ns; /* the same by the loop's clock, as wall clocks jump */
	uint64_t next_ari_ns;
	bool quiet; /* the next check belongs to the previous one: log it no more */
	bool warned_of_bounds, announced;
};

static void check(struct acme_tls *t, bool first, bool at_once);

/* ---- metrics ---- */

enum {
	METRIC_SUCCESS,
	METRIC_FAILURE,
	METRIC_NEXT,
	METRIC_FAILURES_IN_A_ROW,
	METRIC_LAST_SUCCESS,
	METRIC_REQUESTS,
	N_METRICS = METRIC_REQUESTS + 14
};

#define METRIC(name, kind, help)                                                                             \
	{                                                                                                    \
		"semstreams_acme_" name, help, NULL, SS_METRIC_##kind, 0                                     \
	}
#define REQUEST(word)                                                                                        \
	{                                                                                                    \
		"semstreams_acme_requests_total", "Requests to the ACME server, by kind.",                   \
			"request=\"" word "\"", SS_METRIC_COUNTER, 0                                         \
	}

static const struct ss_metric metrics[N_METRICS] = {
	METRIC("renewal_success_total", COUNTER,
	       "Certificates obtained, including the first, by this process or by a command."),
	METRIC("renewal_failure_total", COUNTER,
	       "Failed attempts to obtain a certificate, by this process or by a command."),
	METRIC("next_renewal_timestamp_seconds", GAUGE,
	       "Time of the next renewal, or of the next attempt after a failure."),
	METRIC("failures_in_a_row", GAUGE, "Failed attempts since the last success."),
	METRIC("last_success_timestamp_seconds", GAUGE,
	       "Time when a certificate was last obtained; 0 = never."),
	REQUEST("directory"),
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
	REQUEST("other")};

static void show_metrics(struct acme_tls *t, int64_t next, uint32_t failures)
{
	t->host->metric_set(t->host, METRIC_NEXT, next);
	t->host->metric_set(t->host, METRIC_FAILURES_IN_A_ROW, failures);
	t->host->metric_set(t->host, METRIC_LAST_SUCCESS, t->state.last_success);
}

/* ---- the next check ---- */

static const struct ss_loop *loop_of(const struct acme_tls *t)
{
	return t->loop.vtbl;
}

static uint64_t loop_now(const struct acme_tls *t)
{
	return loop_of(t)->now(t->loop.self);
}

static void check_again_at(struct acme_tls *t, int64_t at, int64_t now)
{
	int64_t wait = at > now ? at - now : 0;
	t->check_at = at;
	t->check_at_ns = loop_now(t) + (uint64_t)wait * ACME_SECOND;
}

static bool is_check_due(const struct acme_tls *t, int64_t now)
{
	return now >= t->check_at || loop_now(t) >= t->check_at_ns;
}

/* ---- what the host uses ---- */

__attribute__((format(printf, 2, 3))) static void notify_unavailable(struct acme_tls *t, const char *format,
								     ...)
{
	const struct ss_tls_publish *host = t->publish.vtbl;
	char reason[768];
	va_list ap;
	va_start(ap, format);
	vsnprintf(reason, sizeof reason, format, ap);
	va_end(ap);
	t->published = t->cert_published = false;
	t->notified = true;
	host->unavailable(t->publish.self, reason);
}

static bool has_valid(const struct acme_tls *t, int64_t now)
{
	return t->published && now < t->in_use_until;
}

/* A certificate that is not valid yet waits while another is in use. */
static bool can_publish(const struct acme_tls *t, int64_t now)
{
	return t->cert.exists && !t->cert_refused && now < t->cert.chain.not_after &&
	       (now >= t->cert.chain.not_before || !t->published);
}

/* Now or, by the tick, when its time comes. */
static void publish(struct acme_tls *t, int64_t now)
{
	const struct ss_tls_publish *host = t->publish.vtbl;
	const struct chain_info *chain = &t->cert.chain;
	char why[512] = "";
	bool replaces = t->published;
	if (!can_publish(t, now)) {
		if (t->cert.exists && now < chain->not_before)
			ss_log(t->host, SS_LOG_WARN,
			       "New certificate is not valid yet, the old one stays in use until then; is "
			       "this machine's clock slow? not_before=%s",
			       time_text(chain->not_before).s);
		return;
	}
	if (host->publish(t->publish.self, "ACME", chain->pem, t->cert.key_pem, why, sizeof why)) {
		ss_log(t->host, SS_LOG_ERROR, "Certificate from %s cannot be used error=\"%s\"",
		       t->setup.chain_path, why);
		t->cert_refused = true;
		return;
	}
	t->published = t->cert_published = t->notified = true;
	t->in_use_until = chain->not_after;
	if (replaces)
		ss_log(t->host, SS_LOG_INFO, "Hot-reloaded certificate path=%s", t->setup.chain_path);
}

/* ---- the store ---- */

/* Once: a renew_before that does not fit the CA's certificates. */
static void warn_of_bounds(struct acme_tls *t)
{
	struct renew_facts f = record_facts(&t->setup, &t->cert, &t->state);
	int64_t life = f.not_after - f.not_before;
	bool bounded;
	int64_t used = renew_effective(f.not_before, f.not_after, f.renew_before, &bounded);
	if (t->warned_of_bounds || (!bounded && f.renew_before >= life / 24))
		return;
	t->warned_of_bounds = true;
	if (bounded)
		ss_log(t->host, SS_LOG_WARN,
		       "renew_before is more than half of the certificate's lifetime, using half of it "
		       "renew_before=%s lifetime=%s used=%s",
		       duration_text(f.renew_before).s, duration_text(life).s, duration_text(used).s);
	else
		ss_log(t->host, SS_LOG_WARN,
		       "renew_before leaves little time to renew a certificate with this lifetime, a third "
		       "of it is usual renew_before=%s lifetime=%s",
		       duration_text(f.renew_before).s, duration_text(life).s);
}

static void load_state(struct acme_tls *t)
{
	store_state_done(&t->state);
	store_state_load(t->store, &t->state);
}

/* With the state.  What is in use stays in use if the store has nothing usable. */
static void load_cert(struct acme_tls *t)
{
	load_state(t);
	stored_cert_done(&t->cert);
	int rc = stored_cert_load(t->store, t->setup.names, t->setup.n_names, &t->cert);
	if (rc && rc != -ENOENT)
		ss_log(t->host, SS_LOG_WARN,
		       "Stored certificate cannot be used, obtaining a new one error=\"%s\"",
		       store_why(t->store));
	t->cert_published = t->cert_refused = false;
	if (t->cert.exists)
		warn_of_bounds(t);
}

/* A new certificate was stored, by us or a command. */
static void count_success(struct acme_tls *t)
{
	t->host->metric_add(t->host, METRIC_SUCCESS, 1);
	t->failures = 0;
	t->last_success = t->state.last_success;
}

static void log_renewed(struct acme_tls *t)
{
	struct time_text expiry = time_text(t->cert.chain.not_after);
	ss_log(t->host, SS_LOG_INFO, "Certificate renewed successfully domain=%s expiry=%s new_expiry=%s",
	       t->setup.names[0], expiry.s, expiry.s);
}

/* A command, an operator or another host has changed the stored certificate. */
static void reload(struct acme_tls *t, int64_t now)
{
	load_cert(t);
	if (!t->cert.exists) {
		ss_log(t->host, SS_LOG_WARN, "Certificate is gone from storage, obtaining another path=%s",
		       t->setup.chain_path);
	} else if (t->state.last_success > t->last_success) {
		count_success(t);
		log_renewed(t);
	} else {
		ss_log(t->host, SS_LOG_INFO, "Certificate in storage was changed expiry=%s",
		       time_text(t->cert.chain.not_after).s);
	}
	t->last_success = t->state.last_success;
	publish(t, now);
	check_again_at(t, now, now);
}

/* ---- the end of an operation ---- */

static void end_operation(struct acme_tls *t)
{
	loop_of(t)->cancel(t->loop.self, t->watch);
	t->watch = 0;
	operation_free(t->operation);
	t->operation = NULL;
	t->again = false;
	if (t->store)
		store_unlock(t->store);
}

/* The error without the words that the message begins with already. */
static const char *error_of(const char *why)
{
	size_t n = sizeof OBTAIN_FAILED ": " - 1;
	return strncmp(why, OBTAIN_FAILED ": ", n) == 0 ? why + n : why;
}

static void failed(struct acme_tls *t, const struct operation_result *result, int64_t now)
{
	bool valid = has_valid(t, now);
	int64_t left = valid ? t->in_use_until - now : 0, interval = t->setup.check_interval;
	int64_t wait = record_failure(t->store, &t->setup, result, left, now, &t->failures);
	t->host->metric_add(t->host, METRIC_FAILURE, 1);
	show_metrics(t, now + wait, t->failures);
	const char *what = t->cert.exists ? "Certificate renewal failed" : OBTAIN_FAILED;
	const char *error = error_of(result->why);
	char in_use[128] = "";
	if (valid)
		snprintf(in_use, sizeof in_use, " expiry=%s remaining=%s", time_text(t->in_use_until).s,
			 duration_text(left).s);
	ss_log(t->host, SS_LOG_ERROR, "%s, retry in %s failures=%u%s error=\"%s\"", what,
	       duration_text(wait).s, t->failures, in_use, error);
	if (!valid)
		notify_unavailable(t, OBTAIN_FAILED ": %s", error);
	check_again_at(t, now + (wait < interval ? wait : interval), now);
}

static void obtained(struct acme_tls *t, struct operation_result *result, int64_t now)
{
	bool renewal = t->cert.exists;
	record_success(t->store, &t->setup, result, now);
	if (result->fail != ACME_OK) {
		failed(t, result, now);
		return;
	}
	load_cert(t);
	count_success(t);
	if (renewal)
		log_renewed(t);
	else
		ss_log(t->host, SS_LOG_INFO, "Certificate obtained successfully domain=%s expiry=%s",
		       t->setup.names[0], time_text(t->cert.chain.not_after).s);
	ss_log(t->host, SS_LOG_INFO, "Certificate saved to storage path=%s", t->setup.chain_path);
	if (store_warning(t->store))
		ss_log(t->host, SS_LOG_WARN, "%s", store_warning(t->store));
	publish(t, now);
	struct renew_facts f = record_facts(&t->setup, &t->cert, &t->state);
	struct renew_decision d = renew_decide(&f, now);
	if (renewal)
		ss_log(t->host, SS_LOG_INFO, "Certificate renewal complete next_check=%s",
		       duration_text(d.check_at - now).s);
	show_metrics(t, d.due_at, t->state.failures);
	check_again_at(t, d.check_at, now);
}

static void ari_answered(struct acme_tls *t, const struct operation_result *result, int64_t now)
{
	record_ari(t->store, &t->cert, result, now);
	if (result->fail != ACME_OK)
		ss_log(t->host, SS_LOG_DEBUG, "ACME renewal information (ARI) unavailable error=\"%s\"",
		       result->why);
	else if (result->ari_url)
		ss_log(t->host, SS_LOG_INFO,
		       "ACME server explains when it wants certificates renewed url=\"%s\"", result->ari_url);
	check_again_at(t, now, now);
	t->quiet = true;
}

static void read_operation(struct acme_tls *t)
{
	struct operation_result *result = operation_read(t->operation);
	int64_t now = wall_now();
	if (!result)
		return;
	if (t->is_ari)
		ari_answered(t, result, now);
	else if (result->fail == ACME_OK)
		obtained(t, result, now);
	else
		failed(t, result, now);
	/* whatever was mended meanwhile, this one may have come too early */
	bool again = t->again && (t->is_ari || result->fail != ACME_OK);
	end_operation(t);
	if (again)
		check(t, false, true);
}

/* ---- its begin; the store is locked ---- */

static void on_readable(void *arg, uint32_t events)
{
	(void)events;
	read_operation(arg);
}

static void on_operation_log(void *arg, int32_t level, const char *text)
{
	struct acme_tls *t = arg;
	/* was logged at start already, and each operation logs it again */
	if (strncmp(text, ACCOUNT_LOADED, sizeof ACCOUNT_LOADED - 1) == 0)
		level = SS_LOG_DEBUG;
	t->host->log(t->host, level, text);
}

static void on_request_counted(void *arg, const char *request)
{
	struct acme_tls *t = arg;
	char label[64];
	uint32_t i = METRIC_REQUESTS;
	snprintf(label, sizeof label, "request=\"%s\"", request);
	while (i < N_METRICS - 1 && strcmp(metrics[i].label, label) != 0)
		i++;
	t->host->metric_add(t->host, i, 1);
}

/* The CAs to trust for the CA's own HTTPS, NULL-ended. */
static const char *const *ca_files(const struct acme_tls *t)
{
	const struct ss_tls_publish *host = t->publish.vtbl;
	return t->ca_bundle[0] ? t->ca_bundle : host->ca_files(t->publish.self);
}

/* Takes over request. */
static int begin_operation(struct acme_tls *t, json_t *request, char *why, size_t why_size)
{
	const struct operation_events events = {
		.log = on_operation_log, .counted = on_request_counted, .arg = t};
	int rc = operation_start(&t->setup, request, ca_files(t), &events, &t->operation, why, why_size);
	if (rc)
		return rc;
	rc = loop_of(t)->fd(t->loop.self, operation_fd(t->operation), SS_FD_READ, on_readable, t, &t->watch);
	if (rc)
		snprintf(why, why_size, "%s", strerror(-rc));
	return rc;
}

static void obtain(struct acme_tls *t, enum renew_why reason, int64_t now)
{
	static const char *const reasons[] = {
		[RENEW_EXPIRED] = "expired", [RENEW_NAMES] = "other domains", [RENEW_REVOKED] = "revoked",
		[RENEW_TIME] = "time",       [RENEW_ARI] = "asked by the CA", [RENEW_EMERGENCY] = "overdue",
	};
	struct operation_result wrong = {.fail = ACME_LOCAL};
	if (t->cert.exists) {
		ss_log(t->host, SS_LOG_INFO,
		       "Certificate eligible for renewal remaining=%s renew_before=%s reason=\"%s\"",
		       duration_text(t->cert.chain.not_after - now).s, duration_text(t->setup.renew_before).s,
		       reasons[reason]);
		ss_log(t->host, SS_LOG_INFO, "Starting certificate renewal domain=%s", t->setup.names[0]);
	} else {
		ss_log(t->host, SS_LOG_INFO, "Starting certificate obtainment domains=%s",
		       t->setup.names_json);
	}
	t->is_ari = false;
	if (begin_operation(t, operation_issue(&t->setup, &t->cert), wrong.why, sizeof wrong.why)) {
		failed(t, &wrong, now);
		end_operation(t);
	}
}

/* Where the CA offers it and it is time for it; once in ARI_PAUSE. */
static void ask_ari(struct acme_tls *t, int64_t now)
{
	const struct chain_info *chain = &t->cert.chain;
	char why[256];
	if (!t->setup.conf->ari || !t->cert.exists || !chain->ari_id[0] ||
	    chain->not_after - chain->not_before < ARI_MIN_LIFE || now >= chain->not_after ||
	    !record_ari_due(&t->state, &t->cert, now) || t->next_ari_ns > loop_now(t) || store_lock(t->store))
		return;
	t->next_ari_ns = loop_now(t) + ARI_PAUSE;
	t->is_ari = true;
	if (begin_operation(t, json_pack("{s:s, s:s}", "operation", "ari", "ari_id", chain->ari_id), why,
			    sizeof why))
		end_operation(t);
}

/* ---- the check ---- */

static void is_due(struct acme_tls *t, enum renew_why reason, int64_t now)
{
	int rc = store_lock(t->store);
	if (rc == -EAGAIN) {
		ss_log(t->host, SS_LOG_DEBUG,
		       "Another process is obtaining a certificate for this storage_path");
		check_again_at(t, now + LOCKED_WAIT, now);
		t->quiet = true;
	} else if (rc) {
		struct operation_result wrong = {.fail = ACME_STORAGE};
		snprintf(wrong.why, sizeof wrong.why, "storage_path %s cannot be locked: %s", t->setup.path,
			 strerror(-rc));
		failed(t, &wrong, now);
	} else if (stored_cert_changed(t->store)) {
		store_unlock(t->store);
		reload(t, now); /* and check again */
	} else {
		obtain(t, reason, now);
	}
}

/* Nothing is tried for a while; if nothing is valid either, the host need not wait for it. */
static void postponed(struct acme_tls *t, const struct renew_decision *d, int64_t now)
{
	const char *error = t->state.last_error ? error_of(t->state.last_error) : NULL;
	if (!t->quiet && d->too_soon)
		ss_log(t->host, SS_LOG_WARN,
		       "Certificate is due for renewal too soon after the last one, waiting; check the "
		       "clock, renew_before and the lifetime of the CA's certificates last_success=%s",
		       time_text(t->state.last_success).s);
	else if (!t->quiet)
		ss_log(t->host, SS_LOG_INFO,
		       "Certificate is due, but the last attempt failed failures=%u next_try=%s error=\"%s\"",
		       t->state.failures, time_text(d->check_at > now ? d->check_at : now).s,
		       error ? error : "");
	if (!has_valid(t, now) && !t->notified)
		notify_unavailable(t, OBTAIN_FAILED ": %s", error ? error : "the next attempt has to wait");
}

/* at_once: our own backoff does not count, only what the CA asked for. */
static void check(struct acme_tls *t, bool first, bool at_once)
{
	int64_t now = wall_now();
	load_state(t);
	if (t->state.failures > t->failures && !first) /* of a command */
		t->host->metric_add(t->host, METRIC_FAILURE, t->state.failures - t->failures);
	if (t->state.failures > t->failures || first)
		t->failures = t->state.failures;
	struct renew_facts f = record_facts(&t->setup, &t->cert, &t->state);
	if (at_once)
		f.next_try = 0;
	struct renew_decision d = renew_decide(&f, now);
	check_again_at(t, d.check_at, now);
	show_metrics(t, d.now || d.why == RENEW_NOT_DUE ? d.due_at : d.check_at, t->state.failures);
	if (!first && !t->quiet)
		ss_log(t->host, SS_LOG_INFO, "Certificate renewal check starting");
	bool quiet = t->quiet;
	if (!d.now && d.why != RENEW_NOT_DUE)
		postponed(t, &d, now);
	t->quiet = false;
	if (d.now) {
		is_due(t, d.why, now);
	} else if (d.why == RENEW_NOT_DUE) {
		if (!quiet)
			ss_log(t->host, SS_LOG_INFO,
			       "Certificate valid, no renewal needed expiry=%s remaining=%s",
			       time_text(t->cert.chain.not_after).s,
			       duration_text(t->cert.chain.not_after - now).s);
		ask_ari(t, now);
	}
}

/* ---- the tick ---- */

static bool open_store(struct acme_tls *t)
{
	char why[512];
	int64_t now = wall_now();
	if (store_open(t->setup.path, &t->store, why, sizeof why) == 0) {
		if (store_warning(t->store))
			ss_log(t->host, SS_LOG_WARN, "%s", store_warning(t->store));
		return true;
	}
	ss_log(t->host, SS_LOG_ERROR, "account registration failed: %s; retrying every %d s", why,
	       STORE_WAIT);
	notify_unavailable(t, "account registration failed: %s", why);
	check_again_at(t, now + STORE_WAIT, now);
	return false;
}

static void log_account(struct acme_tls *t)
{
	struct store_account account;
	int rc = store_account_load(t->store, &account);
	if (rc == 0) {
		ss_log(t->host, SS_LOG_INFO, ACCOUNT_LOADED " email=%s", account.email ? account.email : "");
		store_account_done(&account);
	} else if (rc != -ENOENT) {
		ss_log(t->host, SS_LOG_ERROR, "ACME account cannot be loaded from storage error=\"%s\"",
		       store_why(t->store));
	}
}

/* The stored certificate into use, and the first check. */
static void begin(struct acme_tls *t)
{
	log_account(t);
	ss_log(t->host, SS_LOG_INFO, "Checking existing certificate domain=%s", t->setup.names[0]);
	load_cert(t);
	t->last_success = t->state.last_success;
	publish(t, wall_now());
	check(t, true, !has_valid(t, wall_now())); /* whatever was wrong may be mended */
}

static void on_tick(void *arg)
{
	struct acme_tls *t = arg;
	int64_t now = wall_now();
	if (!t->store) {
		if (is_check_due(t, now) && open_store(t))
			begin(t);
		return;
	}
	if (t->published && now >= t->in_use_until)
		notify_unavailable(t, "the certificate expired %s and could not be renewed",
				   time_text(t->in_use_until).s);
	if (!t->cert_published && can_publish(t, now))
		publish(t, now);
	if (t->operation) {
		read_operation(t); /* is it overdue? */
		return;
	}
	if (!t->announced) /* not before the listener that uses the first certificate is announced */
		ss_log(t->host, SS_LOG_INFO, "Background renewal loop started check_interval=%s",
		       duration_text(t->setup.check_interval).s);
	t->announced = true;
	bool touched = store_state_changed(t->store);
	if (stored_cert_changed(t->store)) {
		reload(t, now);
	} else if (touched || is_check_due(t, now)) {
		t->quiet |= !is_check_due(t, now); /* the state may be our own, and logged */
		check(t, false, false);
	}
}

/* ---- as a provider ---- */

static const char *identity(void *self)
{
	const struct acme_tls *t = self;
	return t->setup.path;
}

static int32_t command(void *self, uint32_t argc, const char *const *argv,
		       void (*print)(void *arg, const char *text), void *arg)
{
	struct acme_tls *t = self;
	return commands_run(t->host, &t->setup, ca_files(t), argc, argv, print, arg);
}

static void on_retry(void *arg)
{
	struct acme_tls *t = arg;
	if (!t->tick)
		return;
	if (t->operation)
		t->again = true;
	else if (t->store)
		check(t, false, true);
	else if (open_store(t))
		begin(t);
}

/* Soon, an attempt that waits is made now, but for what the CA asked for (Retry-After). */
static void retry(void *self)
{
	struct acme_tls *t = self;
	loop_of(t)->post(t->loop.self, on_retry, t);
}

static const struct ss_tls_provider provider = {
	.struct_size = sizeof provider,
	.identity = identity,
	.command = command,
	.retry = retry,
};

static int32_t extension(void *self, const char *id, uint32_t min_size, struct ss_iface *out)
{
	if (strcmp(id, SS_TLS_PROVIDER) != 0)
		return -ENOENT;
	if (min_size > sizeof provider)
		return -ENOTSUP;
	*out = (struct ss_iface){.vtbl = &provider, .self = self};
	return 0;
}

/* ---- life cycle ---- */

static void close_store(struct acme_tls *t)
{
	stored_cert_done(&t->cert);
	store_state_done(&t->state);
	store_free(t->store);
	t->store = NULL;
}

/* Before the start, so that "semstreams check" says it, too: where a certificate shows how long they last. */
static void check_bounds(struct acme_tls *t)
{
	char why[512];
	if (access(t->setup.chain_path, R_OK) || store_open(t->setup.path, &t->store, why, sizeof why))
		return;
	load_state(t);
	if (stored_cert_load(t->store, NULL, 0, &t->cert) == 0)
		warn_of_bounds(t);
	close_store(t);
}

static void destroy(void *self)
{
	struct acme_tls *t = self;
	setup_done(&t->setup);
	free(t);
}

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct acme_tls *t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	t->host = host;
	int32_t rc = setup_init(&t->setup, host, conf);
	if (rc == 0)
		rc = host->query(host, SS_LOOP, sizeof(struct ss_loop), &t->loop);
	if (rc == 0)
		rc = host->query(host, SS_TLS_PUBLISH, sizeof(struct ss_tls_publish), &t->publish);
	if (rc) {
		destroy(t);
		return rc;
	}
	t->ca_bundle[0] = t->setup.conf->ca_bundle;
	check_bounds(t);
	*self = t;
	return 0;
}

static int32_t start(void *self)
{
	struct acme_tls *t = self;
	ss_log(t->host, SS_LOG_INFO, "Initializing ACME client directory=%s", t->setup.shown_url);
	if (open_store(t))
		begin(t);
	return loop_of(t)->timer(t->loop.self, TICK_NS, TICK_NS, on_tick, t, &t->tick);
}

static void stop(void *self)
{
	struct acme_tls *t = self;
	loop_of(t)->cancel(t->loop.self, t->tick);
	t->tick = 0;
	end_operation(t);
	close_store(t);
}

static const struct ss_component acme_tls = {
	.struct_size = sizeof acme_tls,
	.kind = SS_KIND_PROVIDER,
	.type = "acme_tls",
	.version = "1.0",
	.summary = "TLS certificates by ACME (RFC 8555), obtained and renewed automatically",
	.license = "MIT",
	.options = acme_options_table,
	.option_size = sizeof acme_options_table[0],
	.n_options = ACME_N_OPTIONS,
	.metrics = metrics,
	.metric_size = sizeof metrics[0],
	.n_metrics = N_METRICS,
	.conf_size = sizeof(struct acme_conf),
	.create = create,
	.destroy = destroy,
	.start = start,
	.stop = stop,
	.extension = extension,
};

SS_REGISTER(&acme_tls);
