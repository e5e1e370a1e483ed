/* SPDX-License-Identifier: MIT */
/* renewer - see renewer.h. */
#include "renewer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include "time_text.h"

#define TICK_NS     UINT64_C(1000000000)
#define LOCKED_WAIT 5  /* seconds until the next check while another process has the store locked */
#define STORE_WAIT  30 /* seconds until the store is tried again */

struct renewer {
	const struct ss_host *host;
	const struct setup *setup;
	const struct renewer_source *source;
	void *owner;
	struct ss_iface loop, publish;
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

	bool under_way; /* an attempt, or something else of the owner's */
	bool again;     /* an attempt was asked for meanwhile */

	int64_t check_at;     /* wall clock, s */
	uint64_t check_at_ns; /* the same by the loop's clock, as wall clocks jump */
	bool quiet;           /* the next check belongs to the previous one: log it no more */
	bool warned_of_bounds, announced;
};

static void check(struct renewer *t, bool first, bool at_once);

static void show_metrics(struct renewer *t, int64_t next, uint32_t failures)
{
	t->host->metric_set(t->host, RENEWER_NEXT, next);
	t->host->metric_set(t->host, RENEWER_FAILURES_IN_A_ROW, failures);
	t->host->metric_set(t->host, RENEWER_LAST_SUCCESS, t->state.last_success);
}

/* ---- the next check ---- */

static const struct ss_loop *loop_of(const struct renewer *t)
{
	return t->loop.vtbl;
}

static uint64_t loop_now(const struct renewer *t)
{
	return loop_of(t)->now(t->loop.self);
}

static void check_again_at(struct renewer *t, int64_t at, int64_t now)
{
	int64_t wait = at > now ? at - now : 0;
	t->check_at = at;
	t->check_at_ns = loop_now(t) + (uint64_t)wait * SETUP_SECOND;
}

static bool is_check_due(const struct renewer *t, int64_t now)
{
	return now >= t->check_at || loop_now(t) >= t->check_at_ns;
}

/* ---- what the host uses ---- */

__attribute__((format(printf, 2, 3))) static void notify_unavailable(struct renewer *t, const char *format,
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

static bool has_valid(const struct renewer *t, int64_t now)
{
	return t->published && now < t->in_use_until;
}

/* A certificate that is not valid yet waits while another is in use. */
static bool can_publish(const struct renewer *t, int64_t now)
{
	return t->cert.exists && !t->cert_refused && now < t->cert.chain.not_after &&
	       (now >= t->cert.chain.not_before || !t->published);
}

/* Now or, by the tick, when its time comes. */
static void publish(struct renewer *t, int64_t now)
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
	if (host->publish(t->publish.self, t->source->name, chain->pem, t->cert.key_pem, why, sizeof why)) {
		ss_log(t->host, SS_LOG_ERROR, "Certificate from %s cannot be used error=\"%s\"",
		       t->setup->chain_path, why);
		t->cert_refused = true;
		return;
	}
	t->published = t->cert_published = t->notified = true;
	t->in_use_until = chain->not_after;
	if (replaces)
		ss_log(t->host, SS_LOG_INFO, "Hot-reloaded certificate path=%s", t->setup->chain_path);
}

/* ---- the store ---- */

/* Once: a renew_before that does not fit the CA's certificates. */
static void warn_of_bounds(struct renewer *t)
{
	struct renew_facts f = record_facts(t->setup, &t->cert, &t->state);
	int64_t life = f.not_after - f.not_before;
	bool bounded;
	int64_t used = renew_effective(f.not_before, f.not_after, f.renew_before, &bounded);
	if (!t->setup->renew_before || t->warned_of_bounds || (!bounded && f.renew_before >= life / 24))
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

static void load_state(struct renewer *t)
{
	store_state_done(&t->state);
	store_state_load(t->store, &t->state);
}

/* With the state.  What is in use stays in use if the store has nothing usable. */
static void load_cert(struct renewer *t)
{
	load_state(t);
	stored_cert_done(&t->cert);
	int rc = stored_cert_load(t->store, t->setup->names, t->setup->n_names, &t->cert);
	if (rc && rc != -ENOENT)
		ss_log(t->host, SS_LOG_WARN,
		       "Stored certificate cannot be used, obtaining a new one error=\"%s\"",
		       store_why(t->store));
	t->cert_published = t->cert_refused = false;
	if (t->cert.exists)
		warn_of_bounds(t);
}

/* A new certificate was stored, by us or a command. */
static void count_success(struct renewer *t)
{
	t->host->metric_add(t->host, RENEWER_SUCCESS, 1);
	t->failures = 0;
	t->last_success = t->state.last_success;
}

static void log_renewed(struct renewer *t)
{
	struct time_text expiry = time_text(t->cert.chain.not_after);
	ss_log(t->host, SS_LOG_INFO, "Certificate renewed successfully domain=%s expiry=%s new_expiry=%s",
	       t->setup->names[0], expiry.s, expiry.s);
}

/* A command, an operator or another host has changed the stored certificate. */
static void reload(struct renewer *t, int64_t now)
{
	load_cert(t);
	if (!t->cert.exists) {
		ss_log(t->host, SS_LOG_WARN, "Certificate is gone from storage, obtaining another path=%s",
		       t->setup->chain_path);
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

/* ---- the end of an attempt ---- */

static void end_attempt(struct renewer *t)
{
	t->source->end(t->owner);
	t->under_way = t->again = false;
	if (t->store)
		store_unlock(t->store);
}

/* The error without the words that the message begins with already. */
static const char *error_of(const struct renewer *t, const char *why)
{
	size_t n = strlen(t->source->failed);
	return strncmp(why, t->source->failed, n) == 0 && strncmp(why + n, ": ", 2) == 0 ? why + n + 2 : why;
}

static void failed(struct renewer *t, const struct obtain_result *result, int64_t now)
{
	bool valid = has_valid(t, now);
	int64_t left = valid ? t->in_use_until - now : 0, interval = t->setup->check_interval;
	int64_t wait = record_failure(t->store, t->setup, result, left, now, &t->failures);
	t->host->metric_add(t->host, RENEWER_FAILURE, 1);
	show_metrics(t, now + wait, t->failures);
	const char *what = t->cert.exists ? "Certificate renewal failed" : t->source->failed;
	const char *error = error_of(t, result->why);
	char in_use[128] = "";
	if (valid)
		snprintf(in_use, sizeof in_use, " expiry=%s remaining=%s", time_text(t->in_use_until).s,
			 duration_text(left).s);
	ss_log(t->host, SS_LOG_ERROR, "%s, retry in %s failures=%u%s error=\"%s\"", what,
	       duration_text(wait).s, t->failures, in_use, error);
	if (!valid)
		notify_unavailable(t, "%s: %s", t->source->failed, error);
	check_again_at(t, now + (wait < interval ? wait : interval), now);
}

static void obtained(struct renewer *t, struct obtain_result *result, int64_t now)
{
	bool renewal = t->cert.exists;
	record_success(t->store, t->setup, result, now);
	if (result->fail != OBTAIN_OK) {
		failed(t, result, now);
		return;
	}
	load_cert(t);
	count_success(t);
	if (renewal)
		log_renewed(t);
	else
		ss_log(t->host, SS_LOG_INFO, "Certificate obtained successfully domain=%s expiry=%s",
		       t->setup->names[0], time_text(t->cert.chain.not_after).s);
	ss_log(t->host, SS_LOG_INFO, "Certificate saved to storage path=%s", t->setup->chain_path);
	if (store_warning(t->store))
		ss_log(t->host, SS_LOG_WARN, "%s", store_warning(t->store));
	publish(t, now);
	struct renew_facts f = record_facts(t->setup, &t->cert, &t->state);
	struct renew_decision d = renew_decide(&f, now);
	if (renewal)
		ss_log(t->host, SS_LOG_INFO, "Certificate renewal complete next_check=%s",
		       duration_text(d.check_at - now).s);
	show_metrics(t, d.due_at, t->state.failures);
	check_again_at(t, d.check_at, now);
}

void renewer_ended(struct renewer *t, struct obtain_result *result)
{
	int64_t now = wall_now();
	if (!result) {
		check_again_at(t, now, now);
		t->quiet = true;
	} else if (result->fail == OBTAIN_OK) {
		obtained(t, result, now);
	} else {
		failed(t, result, now);
	}
	/* whatever was mended meanwhile, this one may have come too early */
	bool again = t->again && (!result || result->fail != OBTAIN_OK);
	end_attempt(t);
	if (again)
		check(t, false, true);
}

/* ---- its begin; the store is locked ---- */

bool renewer_begin_other(struct renewer *t)
{
	t->under_way = store_lock(t->store) == 0;
	return t->under_way;
}

static void obtain(struct renewer *t, enum renew_why reason, int64_t now)
{
	static const char *const reasons[] = {
		[RENEW_EXPIRED] = "expired", [RENEW_NAMES] = "other domains", [RENEW_REVOKED] = "revoked",
		[RENEW_TIME] = "time",       [RENEW_ARI] = "asked by the CA", [RENEW_EMERGENCY] = "overdue",
	};
	struct obtain_result wrong = {.fail = OBTAIN_LOCAL};
	struct renew_facts facts = record_facts(t->setup, &t->cert, &t->state);
	if (t->cert.exists) {
		ss_log(t->host, SS_LOG_INFO,
		       "Certificate eligible for renewal remaining=%s renew_before=%s reason=\"%s\"",
		       duration_text(t->cert.chain.not_after - now).s, duration_text(facts.renew_before).s,
		       reasons[reason]);
		ss_log(t->host, SS_LOG_INFO, "Starting certificate renewal domain=%s", t->setup->names[0]);
	} else {
		ss_log(t->host, SS_LOG_INFO, "Starting certificate obtainment domains=%s",
		       t->setup->names_json);
	}
	t->under_way = true;
	int rc = store_has_room(t->store);
	if (rc) {
		wrong.fail = OBTAIN_STORAGE;
		snprintf(wrong.why, sizeof wrong.why, "%s", store_why(t->store));
	} else {
		rc = t->source->begin(t->owner, wrong.why, sizeof wrong.why);
	}
	if (rc) {
		failed(t, &wrong, now);
		end_attempt(t);
	}
}

/* ---- the check ---- */

static void is_due(struct renewer *t, enum renew_why reason, int64_t now)
{
	int rc = store_lock(t->store);
	if (rc == -EAGAIN) {
		ss_log(t->host, SS_LOG_DEBUG,
		       "Another process is obtaining a certificate for this storage_path");
		check_again_at(t, now + LOCKED_WAIT, now);
		t->quiet = true;
	} else if (rc) {
		struct obtain_result wrong = {.fail = OBTAIN_STORAGE};
		snprintf(wrong.why, sizeof wrong.why, "storage_path %s cannot be locked: %s", t->setup->path,
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
static void postponed(struct renewer *t, const struct renew_decision *d, int64_t now)
{
	const char *error = t->state.last_error ? error_of(t, t->state.last_error) : NULL;
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
		notify_unavailable(t, "%s: %s", t->source->failed,
				   error ? error : "the next attempt has to wait");
}

/* at_once: our own backoff does not count, only what the CA asked for. */
static void check(struct renewer *t, bool first, bool at_once)
{
	int64_t now = wall_now();
	load_state(t);
	if (t->state.failures > t->failures && !first) /* of a command */
		t->host->metric_add(t->host, RENEWER_FAILURE, t->state.failures - t->failures);
	if (t->state.failures > t->failures || first)
		t->failures = t->state.failures;
	struct renew_facts f = record_facts(t->setup, &t->cert, &t->state);
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
		if (t->source->idle)
			t->source->idle(t->owner, now);
	}
}

/* ---- the tick ---- */

static bool open_store(struct renewer *t)
{
	char why[512];
	int64_t now = wall_now();
	if (store_open(t->setup->path, &t->store, why, sizeof why) == 0) {
		if (store_warning(t->store))
			ss_log(t->host, SS_LOG_WARN, "%s", store_warning(t->store));
		return true;
	}
	ss_log(t->host, SS_LOG_ERROR, "%s: %s; retrying every %d s", t->source->unopened, why, STORE_WAIT);
	notify_unavailable(t, "%s: %s", t->source->unopened, why);
	check_again_at(t, now + STORE_WAIT, now);
	return false;
}

/* The stored certificate into use, and the first check. */
static void begin(struct renewer *t)
{
	if (t->source->opened)
		t->source->opened(t->owner, t->store);
	ss_log(t->host, SS_LOG_INFO, "Checking existing certificate domain=%s", t->setup->names[0]);
	load_cert(t);
	t->last_success = t->state.last_success;
	publish(t, wall_now());
	check(t, true, !has_valid(t, wall_now())); /* whatever was wrong may be mended */
}

static void on_tick(void *arg)
{
	struct renewer *t = arg;
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
	if (t->under_way) {
		t->source->poll(t->owner); /* is it overdue? */
		return;
	}
	if (!t->announced) /* not before the listener that uses the first certificate is announced */
		ss_log(t->host, SS_LOG_INFO, "Background renewal loop started check_interval=%s",
		       duration_text(t->setup->check_interval).s);
	t->announced = true;
	bool touched = store_state_changed(t->store);
	if (stored_cert_changed(t->store)) {
		reload(t, now);
	} else if (touched || is_check_due(t, now)) {
		t->quiet |= !is_check_due(t, now); /* the state may be our own, and logged */
		check(t, false, false);
	}
}

static void on_retry(void *arg)
{
	struct renewer *t = arg;
	if (!t->tick)
		return;
	if (t->under_way)
		t->again = true;
	else if (t->store)
		check(t, false, true);
	else if (open_store(t))
		begin(t);
}

void renewed_retry(void *self)
{
	const struct renewed *c = self;
	struct renewer *t = c->renewer;
	loop_of(t)->post(t->loop.self, on_retry, t);
}

/* ---- life cycle ---- */

static void close_store(struct renewer *t)
{
	stored_cert_done(&t->cert);
	store_state_done(&t->state);
	store_free(t->store);
	t->store = NULL;
}

/* Before the start: where a certificate shows how long they last. */
static void check_bounds(struct renewer *t)
{
	char why[512];
	if (access(t->setup->chain_path, R_OK) || store_open(t->setup->path, &t->store, why, sizeof why))
		return;
	load_state(t);
	if (stored_cert_load(t->store, NULL, 0, &t->cert) == 0)
		warn_of_bounds(t);
	close_store(t);
}

int32_t renewed_create(struct renewed *c, const struct renewer_source *source, int32_t rc, void **self)
{
	struct renewer *t = rc ? NULL : calloc(1, sizeof *t);
	c->renewer = t;
	if (rc == 0 && !t)
		rc = -ENOMEM;
	if (rc == 0) {
		*t = (struct renewer){.host = c->host, .setup = c->setup, .source = source, .owner = c};
		rc = c->host->query(c->host, SS_LOOP, sizeof(struct ss_loop), &t->loop);
	}
	if (rc == 0)
		rc = c->host->query(c->host, SS_TLS_PUBLISH, offsetof(struct ss_tls_publish, publish_signer),
				    &t->publish);
	if (rc) {
		renewed_destroy(c);
		return rc;
	}
	check_bounds(t);
	*self = c;
	return 0;
}

void renewed_destroy(void *self)
{
	struct renewed *c = self;
	free(c->renewer);
	setup_done(c->setup);
	free(c);
}

int32_t renewed_start(void *self)
{
	const struct renewed *c = self;
	struct renewer *t = c->renewer;
	if (open_store(t))
		begin(t);
	return loop_of(t)->timer(t->loop.self, TICK_NS, TICK_NS, on_tick, t, &t->tick);
}

void renewed_stop(void *self)
{
	const struct renewed *c = self;
	struct renewer *t = c->renewer;
	loop_of(t)->cancel(t->loop.self, t->tick);
	t->tick = 0;
	end_attempt(t);
	close_store(t);
}

const char *renewed_identity(void *self)
{
	const struct renewed *c = self;
	return c->setup->path;
}

int32_t renewed_extension(void *self, const char *id, uint32_t min_size, struct ss_iface *out)
{
	const struct renewed *c = self;
	if (strcmp(id, SS_TLS_PROVIDER) != 0)
		return -ENOENT;
	if (min_size > c->provider->struct_size)
		return -ENOTSUP;
	*out = (struct ss_iface){.vtbl = c->provider, .self = self};
	return 0;
}

/* ---- what the owner may know ---- */

const struct stored_cert *renewer_cert(const struct renewer *t)
{
	return &t->cert;
}

const struct store_state *renewer_state(const struct renewer *t)
{
	return &t->state;
}

struct store *renewer_store(const struct renewer *t)
{
	return t->store;
}

const struct ss_loop *renewer_loop(const struct renewer *t, void **self)
{
	*self = t->loop.self;
	return loop_of(t);
}

const char *const *renewer_ca_files(const struct renewer *t)
{
	const struct ss_tls_publish *host = t->publish.vtbl;
	return host->ca_files(t->publish.self);
}
