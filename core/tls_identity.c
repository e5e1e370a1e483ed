/* SPDX-License-Identifier: MIT */
/*
 * tls_identity - generations of certificates from files that are read at start and again when they change.
 * The control thread reads; every thread may take and release generations.
 */
#include "core/tls_identity.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/cert.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/metrics.h"
#include "core/tls_config.h"
#include "core/tls_files.h"
#include "core/tls_peer.h"

static const char *const role_names[TLS_ROLES] = {[SS_TLS_SERVER] = "server", [SS_TLS_CLIENT] = "client"};

struct role {
	const struct tls_role *config;
	uint32_t number;
	struct tls_generation *current; /* under the lock; we hold a reference; NULL: off */
	size_t n_files;
	struct tls_stamp *loaded; /* of the current generation's files */
	struct tls_stamp *seen;   /* at the last poll */
	struct tls_stamp *failed; /* of what last could not be used, and why */
	struct tls_stamp *found;  /* scratch */
	char failure[TLS_COMPLAINT];
	bool expiry_told;
	_Atomic uint64_t failures[SS_TLS_FAILS]; /* of handshakes */
};

struct tls_identity {
	struct tls_config config;
	struct role roles[TLS_ROLES];
	uint64_t newest; /* generation; control thread writes, under the lock */
	pthread_mutex_t lock;
	struct tls_watcher *watchers; /* under the lock */
	_Atomic uint64_t reloads, reload_failures;
};

static int64_t wall_seconds(void)
{
	return (int64_t)(clock_wall() / 1000000000u);
}

/* ---- making ---- */

struct at_start {
	const struct jdoc *doc;
	struct diag *diag;
};

static void complain_at_start(void *arg, enum diag_level level, const struct tls_file *file, const char *text)
{
	struct at_start *s = arg;

	jdoc_report(s->doc, s->diag, level, file->node, J_VALUE, "%s", text);
}

static int start_role(struct tls_identity *id, uint32_t number, struct at_start *s)
{
	struct role *r = &id->roles[number];
	const struct tls_complaints complaints = {.add = complain_at_start, .arg = s};

	*r = (struct role){.config = &id->config.roles[number], .number = number};
	if (!r->config->on)
		return 0;
	r->n_files = tls_files_count(r->config);
	r->loaded = calloc(4 * r->n_files, sizeof *r->loaded);
	if (!r->loaded)
		return -ENOMEM;
	r->seen = r->loaded + r->n_files;
	r->failed = r->seen + r->n_files;
	r->found = r->failed + r->n_files;
	int rc = tls_files_load(r->config, number, wall_seconds(), &complaints, r->loaded, &r->current);
	if (rc)
		return rc == -EAGAIN ? -EINVAL : rc;
	r->current->material.generation = ++id->newest;
	memcpy(r->seen, r->loaded, r->n_files * sizeof *r->seen);
	r->expiry_told = r->current->chain && r->current->material.not_after < wall_seconds();
	return 0;
}

int tls_identity_new(const struct jdoc *doc, const struct jnode *security, struct diag *diag,
		     struct tls_identity **out)
{
	struct tls_identity *id = calloc(1, sizeof *id);
	struct at_start s = {.doc = doc, .diag = diag};

	if (!id)
		return -ENOMEM;
	pthread_mutex_init(&id->lock, NULL);
	int rc = tls_config_read(doc, security, diag, &id->config);
	/* after a wrong setting files are not looked at: what was said about them might be wrong too */
	bool good = rc == 0;
	for (uint32_t i = 0; i < TLS_ROLES && good && rc != -ENOMEM; i++) {
		int err = start_role(id, i, &s);
		if (err)
			rc = err;
	}
	if (rc == -ENOMEM) {
		tls_identity_free(id);
		return rc;
	}
	*out = id;
	return rc;
}

void tls_identity_free(struct tls_identity *id)
{
	if (!id)
		return;
	for (size_t i = 0; i < TLS_ROLES; i++) {
		tls_generation_unref(id->roles[i].current);
		free(id->roles[i].loaded);
	}
	tls_config_done(&id->config);
	pthread_mutex_destroy(&id->lock);
	free(id);
}

/* ---- reading again ---- */

/* What is wrong, kept until it is known whether it is news. */
struct findings {
	char error[TLS_COMPLAINT]; /* the first */
	char warnings[4][TLS_COMPLAINT];
	size_t n_warnings;
};

static void keep_finding(void *arg, enum diag_level level, const struct tls_file *file, const char *text)
{
	struct findings *f = arg;

	(void)file; /* the text names it */
	if (level == DIAG_ERROR && !f->error[0])
		snprintf(f->error, sizeof f->error, "%s", text);
	else if (level == DIAG_WARN && f->n_warnings < sizeof f->warnings / sizeof f->warnings[0])
		snprintf(f->warnings[f->n_warnings++], sizeof f->warnings[0], "%s", text);
}

static bool is_same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static void tell_watchers(struct tls_identity *id)
{
	pthread_mutex_lock(&id->lock);
	for (struct tls_watcher *w = id->watchers; w; w = w->next) {
		if (w->told < id->newest && w->tell(w) == 0)
			w->told = id->newest;
	}
	pthread_mutex_unlock(&id->lock);
}

static void log_new(const struct role *r, const struct tls_generation *g, bool certificate)
{
	char who[TLS_COMPLAINT], path[TLS_COMPLAINT], when[CERT_SHOWN];

	if (certificate && g->chain)
		log_info("Hot-reloaded certificate without downtime path=%s role=%s subject=%s expiry=%s",
			 log_value(path, sizeof path, r->config->cert.path), role_names[r->number],
			 log_value(who, sizeof who, g->subject), cert_show_time(when, g->material.not_after));
	else
		log_info("Reloaded trusted CAs without downtime role=%s", role_names[r->number]);
}

/* Takes g over. */
static void put_in_force(struct tls_identity *id, struct role *r, struct tls_generation *g)
{
	struct tls_generation *old = r->current; /* only this thread writes it */
	bool certificate = !is_same_text(old->chain, g->chain) || !is_same_text(old->key, g->key);

	if (!certificate && is_same_text(old->ca, g->ca)) { /* touched, but the same */
		tls_generation_unref(g);
		return;
	}
	pthread_mutex_lock(&id->lock);
	g->material.generation = ++id->newest;
	r->current = g;
	pthread_mutex_unlock(&id->lock);
	log_new(r, g, certificate);
	tls_generation_unref(old);
	r->expiry_told = g->chain && g->material.not_after < wall_seconds();
	atomic_fetch_add_explicit(&id->reloads, 1, memory_order_relaxed);
}

/* Each failure is told and counted once, however often it is met. */
static void note_failure(struct tls_identity *id, struct role *r, const char *error)
{
	char text[TLS_COMPLAINT + 64];

	if (r->failure[0] && strcmp(r->failure, error) == 0 &&
	    tls_stamps_equal(r->failed, r->found, r->n_files))
		return;
	snprintf(r->failure, sizeof r->failure, "%s", error);
	memcpy(r->failed, r->found, r->n_files * sizeof *r->failed);
	atomic_fetch_add_explicit(&id->reload_failures, 1, memory_order_relaxed);
	log_error("Changed certificate files cannot be used, keeping the old ones role=%s error=%s",
		  role_names[r->number], log_value(text, sizeof text, error));
}

static int load_again(struct tls_identity *id, struct role *r)
{
	struct findings f = {.error = ""};
	const struct tls_complaints complaints = {.add = keep_finding, .arg = &f};
	struct tls_generation *g;
	char text[TLS_COMPLAINT + 64];

	int rc = tls_files_load(r->config, r->number, wall_seconds(), &complaints, r->found, &g);
	if (rc == -EAGAIN) /* the next poll will find it finished */
		return rc;
	if (rc) {
		note_failure(id, r, f.error[0] ? f.error : strerror(-rc));
		return rc;
	}
	memcpy(r->loaded, r->found, r->n_files * sizeof *r->loaded);
	r->failure[0] = '\0';
	for (size_t i = 0; i < f.n_warnings; i++)
		log_warn("Certificate warning role=%s reason=%s", role_names[r->number],
			 log_value(text, sizeof text, f.warnings[i]));
	put_in_force(id, r, g);
	return 0;
}

/* All there and either old enough or as they were at the last poll: nobody is writing to them. */
static bool is_settled(const struct role *r)
{
	const int64_t age_ns = 1000000000;
	int64_t limit = (int64_t)clock_wall() - age_ns;
	bool settled = true;

	for (size_t i = 0; i < r->n_files; i++) {
		/* a file that is not configured is never there */
		bool there = r->found[i].there || !r->loaded[i].there;
		settled = settled && there && r->found[i].changed_ns < limit;
	}
	return settled || tls_stamps_equal(r->found, r->seen, r->n_files);
}

static void poll_role(struct tls_identity *id, struct role *r)
{
	if (!r->current)
		return;
	tls_files_stamp(r->config, r->found);
	bool changed = !tls_stamps_equal(r->found, r->loaded, r->n_files), settled = is_settled(r);
	memcpy(r->seen, r->found, r->n_files * sizeof *r->seen);
	if (changed && settled)
		load_again(id, r);
	else if (!changed)
		r->failure[0] = '\0';

	const struct tls_generation *g = r->current;
	if (!r->expiry_told && g->chain && g->material.not_after < wall_seconds()) {
		char who[TLS_COMPLAINT], when[CERT_SHOWN];
		r->expiry_told = true;
		log_error("Certificate has expired, peers will refuse it role=%s subject=%s expiry=%s",
			  role_names[r->number], log_value(who, sizeof who, g->subject),
			  cert_show_time(when, g->material.not_after));
	}
}

void tls_identity_poll(struct tls_identity *id)
{
	if (!id)
		return;
	for (size_t i = 0; i < TLS_ROLES; i++)
		poll_role(id, &id->roles[i]);
	tell_watchers(id);
}

int tls_identity_reload(struct tls_identity *id)
{
	int rc = 0;

	for (size_t i = 0; i < TLS_ROLES; i++) {
		int err = id->roles[i].current ? load_again(id, &id->roles[i]) : 0;
		rc = err ? err : rc;
	}
	tell_watchers(id);
	return rc;
}

/* ---- for every thread ---- */

bool tls_identity_enabled(const struct tls_identity *id, uint32_t role)
{
	return role < TLS_ROLES && id->config.roles[role].on;
}

const struct ss_tls_material *tls_identity_acquire(struct tls_identity *id, uint32_t role)
{
	struct tls_generation *g = NULL;

	if (role >= TLS_ROLES)
		return NULL;
	pthread_mutex_lock(&id->lock);
	g = id->roles[role].current;
	if (g)
		atomic_fetch_add_explicit(&g->references, 1, memory_order_relaxed);
	pthread_mutex_unlock(&id->lock);
	return g ? &g->material : NULL;
}

void tls_identity_release(const struct ss_tls_material *material)
{
	union {
		const struct ss_tls_material *given;
		struct tls_generation *generation; /* whose first member it is */
	} m = {.given = material};

	tls_generation_unref(m.generation);
}

int tls_identity_check_peer(const struct tls_identity *id, uint32_t role, const struct ss_der *chain,
			    uint32_t n, int32_t error, const char *host, char *name, size_t name_size,
			    int32_t *fail, char *why, size_t why_size)
{
	if (role >= TLS_ROLES)
		role = SS_TLS_SERVER;
	const struct tls_role *config = &id->config.roles[role];
	const struct tls_peer_policy policy = {
		.role = role,
		/* who asks about a role that is off is told no, not yes */
		.flags = config->on ? config->flags : SS_TLS_REQUIRE_PEER | SS_TLS_VERIFY_PEER,
		.min_version = config->min_version,
		.names = config->names,
		.n_names = config->n_names,
	};

	return tls_peer_check(&policy, chain, n, error, host, wall_seconds(), name, name_size, fail, why,
			      why_size);
}

void tls_identity_count_failure(struct tls_identity *id, uint32_t role, int32_t fail)
{
	int32_t known = fail >= 0 && fail < SS_TLS_FAILS ? fail : SS_TLS_FAIL_OTHER;

	if (role < TLS_ROLES)
		atomic_fetch_add_explicit(&id->roles[role].failures[known], 1, memory_order_relaxed);
}

void tls_identity_watch(struct tls_identity *id, struct tls_watcher *w)
{
	pthread_mutex_lock(&id->lock);
	w->told = id->newest;
	w->next = id->watchers;
	id->watchers = w;
	pthread_mutex_unlock(&id->lock);
}

void tls_identity_unwatch(struct tls_identity *id, struct tls_watcher *w)
{
	pthread_mutex_lock(&id->lock);
	for (struct tls_watcher **at = &id->watchers; *at; at = &(*at)->next) {
		if (*at == w) {
			*at = w->next;
			break;
		}
	}
	pthread_mutex_unlock(&id->lock);
}

/* ---- metrics ---- */

static const struct ss_metric FAILURES = {
	"semstreams_mtls_handshake_failures_total",
	"TLS handshakes that were refused, by whether we were server or client and by reason.", NULL,
	SS_METRIC_COUNTER, 0};
static const struct ss_metric EXPIRY_TIME = {"semstreams_certificate_expiry_timestamp_seconds",
					     "When the certificate in use expires, seconds since 1970.", NULL,
					     SS_METRIC_GAUGE, 0};
static const struct ss_metric EXPIRY = {"semstreams_certificate_expiry_seconds",
					"Seconds until the certificate in use expires; negative afterwards.",
					NULL, SS_METRIC_GAUGE, 0};
static const struct ss_metric RELOADS = {"semstreams_tls_reloads_total",
					 "Changed certificate or CA files taken into use.", NULL,
					 SS_METRIC_COUNTER, 0};
static const struct ss_metric RELOAD_FAILURES = {"semstreams_tls_reload_failures_total",
						 "Changed certificate or CA files that could not be used.",
						 NULL, SS_METRIC_COUNTER, 0};
static const struct ss_metric INSECURE = {"semstreams_tls_insecure_skip_verify",
					  "1 if servers are not verified (insecure_skip_verify).", NULL,
					  SS_METRIC_GAUGE, 0};

static void sample(struct metrics_page *page, const struct ss_metric *m, const char *labels, int64_t value)
{
	metrics_sample_int(page, m->name, m->help, m->kind, labels, value);
}

static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void collect_role(struct tls_identity *id, const struct role *r, struct metrics_page *page)
{
	const struct ss_tls_material *m = tls_identity_acquire(id, r->number);
	char role[64] = "", labels[128];

	if (!m)
		return;
	metrics_label(role, sizeof role, "role", role_names[r->number]);
	for (int32_t i = 0; i < SS_TLS_FAILS; i++) {
		snprintf(labels, sizeof labels, "%s", role);
		metrics_label(labels, sizeof labels, "reason", tls_peer_reason(i));
		sample(page, &FAILURES, labels, (int64_t)load(&r->failures[i]));
	}
	if (m->chain_pem) {
		sample(page, &EXPIRY_TIME, role, m->not_after);
		sample(page, &EXPIRY, role, m->not_after - wall_seconds());
	}
	tls_identity_release(m);
}

void tls_identity_collect(struct tls_identity *id, struct metrics_page *page)
{
	if (!id || (!id->config.roles[SS_TLS_SERVER].on && !id->config.roles[SS_TLS_CLIENT].on))
		return;
	for (size_t i = 0; i < TLS_ROLES; i++)
		collect_role(id, &id->roles[i], page);
	sample(page, &RELOADS, NULL, (int64_t)load(&id->reloads));
	sample(page, &RELOAD_FAILURES, NULL, (int64_t)load(&id->reload_failures));
	sample(page, &INSECURE, NULL, (id->config.roles[SS_TLS_CLIENT].flags & SS_TLS_INSECURE) != 0);
}
