/* SPDX-License-Identifier: MIT */
/*
 * tls_identity - generations of certificates and trust, handed out to every thread; see tls_reload.c and
 * tls_supply.c for where they come from.
 */
#include "core/tls/tls_identity_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/tls.h>
#include "core/flow/loop.h"
#include "core/admin/metrics.h"
#include "core/tls/tls_peer.h"

const char *const tls_role_names[TLS_ROLES] = {[SS_TLS_SERVER] = "server", [SS_TLS_CLIENT] = "client"};
const char *const tls_role_ids[TLS_ROLES] = {[SS_TLS_SERVER] = "tls.server", [SS_TLS_CLIENT] = "tls.client"};

int64_t tls_now(void)
{
	return (int64_t)(clock_wall() / 1000000000u);
}

bool tls_same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
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

static int start_role(struct tls_identity *id, struct role *r, struct at_start *s)
{
	const struct tls_complaints complaints = {.add = complain_at_start, .arg = s};

	if (!r->config->on)
		return 0;
	r->n_files = tls_files_count(r->config);
	r->loaded = calloc(4 * r->n_files, sizeof *r->loaded);
	if (!r->loaded)
		return -ENOMEM;
	r->seen = r->loaded + r->n_files;
	r->failed = r->seen + r->n_files;
	r->found = r->failed + r->n_files;
	int rc = tls_files_load(r->config, r->number, tls_now(), &complaints, r->loaded, &r->files);
	if (rc)
		return rc == -EAGAIN ? -EINVAL : rc;
	memcpy(r->seen, r->loaded, r->n_files * sizeof *r->seen);
	if (tls_role_renew(id, r) < 0)
		return -ENOMEM;
	if (r->config->mode)
		tls_supply_begin(id, r);
	return 0;
}

int tls_identity_new(const struct jdoc *doc, const struct tls_config *config, bool with_files,
		     struct health *health, struct diag *diag, struct tls_identity **out)
{
	struct tls_identity *id = calloc(1, sizeof *id);
	struct at_start s = {.doc = doc, .diag = diag};
	int rc = 0;

	if (!id)
		return -ENOMEM;
	pthread_mutex_init(&id->lock, NULL);
	pthread_mutex_init(&id->writers, NULL);
	id->config = config;
	id->health = health;
	for (uint32_t i = 0; i < TLS_ROLES; i++) {
		struct role *r = &id->roles[i];
		r->config = &config->roles[i];
		r->number = i;
		int err = with_files && rc != -ENOMEM ? start_role(id, r, &s) : 0;
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
		struct role *r = &id->roles[i];
		tls_generation_unref(r->current);
		tls_generation_unref(r->files);
		tls_generation_unref(r->given);
		free(r->loaded);
	}
	pthread_mutex_destroy(&id->lock);
	pthread_mutex_destroy(&id->writers);
	free(id);
}

/* ---- changing ---- */

/* What is to be current now, with a reference; NULL: out of memory. */
static struct tls_generation *compose(const struct role *r)
{
	if (!r->config->mode)
		return tls_generation_ref(r->files);
	return tls_generation_join(r->files, r->given                     ? r->given
					     : r->lost && r->files->chain ? r->files
									  : NULL);
}

int tls_role_renew(struct tls_identity *id, struct role *r)
{
	const struct tls_generation *old = r->current; /* only writers change it */
	struct tls_generation *g = compose(r);

	if (!g)
		return -ENOMEM;
	if (r->config->mode && !g->chain && !r->lost)
		g->material.flags |= SS_TLS_PENDING;
	if (old && old->material.flags == g->material.flags && tls_same_text(old->chain, g->chain) &&
	    tls_same_text(old->key, g->key) && tls_same_text(old->ca, g->ca) &&
	    strcmp(old->source, g->source) == 0) {
		tls_generation_unref(g);
		return 0;
	}
	pthread_mutex_lock(&id->lock);
	struct tls_generation *before = r->current;
	g->material.generation = ++id->newest;
	r->current = g;
	pthread_mutex_unlock(&id->lock);
	tls_generation_unref(before);
	/* what has expired already is told by whoever brings it */
	r->expiry_told = g->chain && g->material.not_after < tls_now();
	return 1;
}

void tls_tell_watchers(struct tls_identity *id)
{
	pthread_mutex_lock(&id->lock);
	for (struct tls_watcher *w = id->watchers; w; w = w->next) {
		if (w->told < id->newest && w->tell(w) == 0)
			w->told = id->newest;
	}
	pthread_mutex_unlock(&id->lock);
}

/* ---- for every thread ---- */

bool tls_identity_enabled(const struct tls_identity *id, uint32_t role)
{
	return role < TLS_ROLES && id->config->roles[role].on;
}

const struct ss_tls_material *tls_identity_acquire(struct tls_identity *id, uint32_t role)
{
	struct tls_generation *g = NULL;

	if (role >= TLS_ROLES)
		return NULL;
	pthread_mutex_lock(&id->lock);
	g = id->roles[role].current;
	if (g)
		tls_generation_ref(g);
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
	const struct tls_role *config = &id->config->roles[role];
	const struct tls_peer_policy policy = {
		.role = role,
		/* who asks about a role that is off is told no, not yes */
		.flags = config->on ? config->flags : SS_TLS_REQUIRE_PEER | SS_TLS_VERIFY_PEER,
		.min_version = config->min_version,
		.names = config->names,
		.n_names = config->n_names,
	};

	return tls_peer_check(&policy, chain, n, error, host, tls_now(), name, name_size, fail, why,
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

static const struct ss_metric FALLBACK = {"semstreams_tls_fallback",
					  "1 if the provider has no certificate and cert_file's is used.",
					  NULL, SS_METRIC_GAUGE, 0};

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
	metrics_label(role, sizeof role, "role", tls_role_names[r->number]);
	for (int32_t i = 0; i < SS_TLS_FAILS; i++) {
		snprintf(labels, sizeof labels, "%s", role);
		metrics_label(labels, sizeof labels, "reason", tls_peer_reason(i));
		sample(page, &FAILURES, labels, (int64_t)load(&r->failures[i]));
	}
	if (m->chain_pem) {
		sample(page, &EXPIRY_TIME, role, m->not_after);
		sample(page, &EXPIRY, role, m->not_after - tls_now());
	}
	if (r->config->mode)
		sample(page, &FALLBACK, role, atomic_load_explicit(&r->fallback, memory_order_relaxed));
	tls_identity_release(m);
}

void tls_identity_collect(struct tls_identity *id, struct metrics_page *page)
{
	if (!id || (!id->config->roles[SS_TLS_SERVER].on && !id->config->roles[SS_TLS_CLIENT].on))
		return;
	for (size_t i = 0; i < TLS_ROLES; i++)
		collect_role(id, &id->roles[i], page);
	sample(page, &RELOADS, NULL, (int64_t)load(&id->reloads));
	sample(page, &RELOAD_FAILURES, NULL, (int64_t)load(&id->reload_failures));
	sample(page, &INSECURE, NULL, (id->config->roles[SS_TLS_CLIENT].flags & SS_TLS_INSECURE) != 0);
}
