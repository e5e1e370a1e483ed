/* SPDX-License-Identifier: MIT */
/*
 * tls_identity - generations of certificates and trust: made from files, which are read again when they
 * change, or from what a provider publishes; handed out to every thread.
 */
#include "core/tls/tls_identity.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <semstreams/ext/tls.h>
#include "core/admin/clock.h"
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/admin/metrics.h"
#include "core/config/tls_config.h"
#include "core/plugin/provider.h"
#include "core/tls/tls_files.h"
#include "core/tls/tls_identity_internal.h"
#include "core/tls/tls_peer.h"
#include "core/tls/tls_trial.h"
#include "core/tls/tls_trust.h"
const char *const tls_role_names[TLS_ROLES] = {[SS_TLS_SERVER] = "server", [SS_TLS_CLIENT] = "client"};
/* Their entries in /readyz, and the ids of their providers. */
static const char *const role_ids[TLS_ROLES] = {
	[SS_TLS_SERVER] = "tls.server", [SS_TLS_CLIENT] = "tls.client"};

static int64_t now_s(void)
{
	return (int64_t)(clock_wall() / 1000000000u);
}

/* ---- changing ---- */

/* What is to be current now, with a reference; NULL: out of memory. */
static struct tls_generation *compose(const struct role *r)
{
	if (!r->config.mode)
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
	if (r->config.mode && !g->chain && !r->lost)
		g->material.flags |= SS_TLS_PENDING;
	if (old && old->material.flags == g->material.flags && tls_generation_same_pair(old, g) &&
	    tls_generation_same_trust(old, g) && strcmp(old->source, g->source) == 0 &&
	    tls_generation_same_names(old, g)) {
		tls_generation_unref(g);
		return 0;
	}
	pthread_mutex_lock(&id->lock);
	struct tls_generation *before = r->current;
	g->material.generation = ++id->newest;
	r->current = g;
	pthread_mutex_unlock(&id->lock);
	tls_generation_unref(before);
	/* a certificate that has expired already was reported when it was read */
	r->expiry_logged = g->chain && g->material.not_after < now_s();
	r->overdue_logged = g->chain && tls_generation_overdue(g) <= now_s();
	return 1;
}

void tls_identity_notify(struct tls_identity *id)
{
	pthread_mutex_lock(&id->lock);
	for (struct tls_watcher *w = id->watchers; w; w = w->next) {
		if (w->notified < id->newest && w->notify(w) == 0)
			w->notified = id->newest;
	}
	pthread_mutex_unlock(&id->lock);
}

/* ---- health ---- */

/* [writers] */
void tls_role_report(struct tls_identity *id, const struct role *r)
{
	char text[sizeof r->reason + sizeof r->failure + sizeof r->refused + 256];
	bool fails;

	if (!id->health || !r->current)
		return;
	fails = tls_generation_judge(r->current, r->config.mode, r->lost ? r->reason : NULL, now_s(), text,
				     sizeof text);
	if (!fails && r->failure[0])
		snprintf(text, sizeof text, "changed certificate files cannot be used, the old ones stay: %s",
			 r->failure);
	size_t len = strlen(text);
	if (r->refused[0])
		snprintf(text + len, sizeof text - len,
			 "%sthe new certificate of mode \"%s\" cannot be used: %s", len ? "; " : "",
			 r->config.mode, r->refused);
	health_set(id->health, role_ids[r->number], fails ? text : NULL);
	health_degrade(id->health, role_ids[r->number], !fails && text[0] ? text : NULL);
}

/* Say once of each certificate that its end is near, and that it has come. */
static void watch_expiry(struct role *r)
{
	const struct tls_generation *g = r->current;
	char who[TLS_COMPLAINT], when[CERT_SHOWN];

	if (!g->chain)
		return;
	log_value(who, sizeof who, g->subject);
	cert_show_time(when, g->material.not_after);
	if (!r->expiry_logged && g->material.not_after < now_s()) {
		r->expiry_logged = r->overdue_logged = true;
		log_error("Certificate has expired, peers will reject it role=%s subject=%s expiry=%s",
			  tls_role_names[r->number], who, when);
	} else if (!r->overdue_logged && tls_generation_overdue(g) <= now_s()) {
		r->overdue_logged = true;
		log_warn("Certificate expires soon and was not renewed role=%s subject=%s expiry=%s",
			 tls_role_names[r->number], who, when);
	}
}

/* ---- files that change: only a whole set that is valid replaces the old one; control thread ---- */

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

static void log_new(const struct role *r, const struct tls_generation *g, const struct tls_generation *old)
{
	bool certificate = !tls_generation_same_pair(old, g);
	char who[TLS_COMPLAINT], path[TLS_COMPLAINT], when[CERT_SHOWN];

	if (!certificate || !g->chain) {
		if (!tls_crls_same(g->crls, old->crls))
			log_info("Reloaded revocation lists without downtime role=%s lists=%zu",
				 tls_role_names[r->number], tls_crls_count(g->crls));
		else
			log_info("Reloaded trusted CAs without downtime role=%s", tls_role_names[r->number]);
		return;
	}
	bool used = !r->config.mode || (r->lost && !r->given);
	log_info("%s path=%s role=%s subject=%s expiry=%s",
		 used ? "Hot-reloaded certificate without downtime" : "Reloaded the fallback certificate",
		 log_value(path, sizeof path, r->config.cert.path), tls_role_names[r->number],
		 log_value(who, sizeof who, g->subject), cert_show_time(when, g->material.not_after));
}

/* Takes g over. */
static int use_files(struct tls_identity *id, struct role *r, struct tls_generation *g)
{
	struct tls_generation *old = r->files;
	bool certificate = !tls_generation_same_pair(old, g);

	if (!certificate && tls_generation_same_trust(old, g)) { /* touched, but the same */
		tls_generation_unref(g);
		return 0;
	}
	r->files = g;
	if (tls_role_renew(id, r) < 0) {
		r->files = old;
		tls_generation_unref(g);
		return -ENOMEM;
	}
	log_new(r, g, old);
	tls_generation_unref(old);
	atomic_fetch_add_explicit(&id->reloads, 1, memory_order_relaxed);
	return 0;
}

/* Each failure is logged and counted once, however often the files are read. */
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
		  tls_role_names[r->number], log_value(text, sizeof text, error));
}

/* New in the log, and counted. */
static void note_crls(struct tls_identity *id, struct role *r, const char *before)
{
	char text[TLS_COMPLAINT + 64];

	if (!r->crl.trouble[0] || strcmp(r->crl.trouble, before) == 0)
		return;
	atomic_fetch_add_explicit(&id->reload_failures, 1, memory_order_relaxed);
	log_error("Changed revocation lists cannot be used, keeping the old ones role=%s error=%s",
		  tls_role_names[r->number], log_value(text, sizeof text, r->crl.trouble));
}

/* Read the lists anew, into a generation of the files that nobody has yet. */
static int load_crls(struct tls_identity *id, struct role *r, struct tls_generation *g, struct findings *f)
{
	const struct tls_complaints complaints = {.add = keep_finding, .arg = f};
	char before[TLS_COMPLAINT];
	struct tls_crls *crls;

	memcpy(before, r->crl.trouble, sizeof before);
	int rc = tls_crl_files_read(&r->crl, g->ca, r->files->crls, now_s(), &complaints, &crls);
	if (rc == 0)
		rc = tls_generation_revoke(g, crls);
	tls_crls_unref(crls);
	note_crls(id, r, before);
	return rc;
}

static void log_findings(const struct role *r, const struct findings *f)
{
	char text[TLS_COMPLAINT + 64];

	for (size_t i = 0; i < f->n_warnings; i++)
		log_warn("Certificate warning role=%s reason=%s", tls_role_names[r->number],
			 log_value(text, sizeof text, f->warnings[i]));
}

static int load_again(struct tls_identity *id, struct role *r)
{
	struct findings f = {.error = ""};
	const struct tls_complaints complaints = {.add = keep_finding, .arg = &f};
	struct tls_generation *g = NULL;

	int rc = tls_files_load(&r->config, r->number, now_s(), &complaints, r->found, &g);
	if (rc == 0)
		rc = load_crls(id, r, g, &f);
	if (rc == 0)
		rc = use_files(id, r, g);
	else if (g)
		tls_generation_unref(g);
	if (rc == -EAGAIN) /* the next poll will find it finished */
		return rc;
	if (rc) {
		note_failure(id, r, f.error[0] ? f.error : strerror(-rc));
		return rc;
	}
	memcpy(r->loaded, r->found, r->n_files * sizeof *r->loaded);
	r->failure[0] = '\0';
	log_findings(r, &f);
	return 0;
}

/* The lists alone: a certificate that is being replaced meanwhile does not keep a peer from being cut off. */
static int load_only_crls(struct tls_identity *id, struct role *r)
{
	struct findings f = {.error = ""};
	struct tls_generation *g = tls_generation_join(r->files, r->files->chain ? r->files : NULL);
	int rc = g ? load_crls(id, r, g, &f) : -ENOMEM;

	if (rc == 0)
		rc = use_files(id, r, g);
	else
		tls_generation_unref(g);
	if (rc == 0 && !r->crl.trouble[0])
		log_findings(r, &f);
	return rc;
}

void tls_identity_poll_crls(struct tls_identity *id)
{
	bool changed = false;

	if (!id)
		return;
	pthread_mutex_lock(&id->writers);
	for (size_t i = 0; i < TLS_ROLES; i++) {
		struct role *r = &id->roles[i];
		if (!r->files)
			continue;
		bool news = tls_crl_files_have_news(&r->crl);
		if (tls_crl_files_changed(&r->crl)) {
			news = changed = true;
			load_only_crls(id, r);
		}
		if (news)
			tls_crl_files_report(&r->crl, r->current->crls, now_s(), id->health);
	}
	pthread_mutex_unlock(&id->writers);
	if (changed)
		tls_identity_notify(id);
}

bool tls_identity_has_crls(const struct tls_identity *id)
{
	return id && (id->config->roles[SS_TLS_SERVER].n_crl || id->config->roles[SS_TLS_CLIENT].n_crl);
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
	if (!r->files)
		return;
	tls_files_stamp(&r->config, r->found);
	bool changed = !tls_stamps_equal(r->found, r->loaded, r->n_files), settled = is_settled(r);
	memcpy(r->seen, r->found, r->n_files * sizeof *r->seen);
	if (changed && settled)
		load_again(id, r);
	else if (!changed)
		r->failure[0] = '\0';

	watch_expiry(r);
	tls_role_report(id, r);
	tls_crl_files_report(&r->crl, r->current->crls, now_s(), id->health);
}

void tls_identity_poll(struct tls_identity *id)
{
	if (!id)
		return;
	pthread_mutex_lock(&id->writers);
	for (size_t i = 0; i < TLS_ROLES; i++)
		poll_role(id, &id->roles[i]);
	pthread_mutex_unlock(&id->writers);
	tls_identity_notify(id);
}

/* [writers] */
static int set_names(struct tls_identity *id, struct role *r, const char *const *names, size_t n)
{
	/* the certificate stays, if there is one */
	struct tls_generation *old = r->files;
	struct tls_generation *g = tls_generation_join(old, old->chain ? old : NULL);

	if (!g || tls_generation_allow(g, names, n)) {
		tls_generation_unref(g);
		return -ENOMEM;
	}
	if (tls_generation_same_names(old, g)) {
		tls_generation_unref(g);
		return 0;
	}
	r->files = g;
	if (tls_role_renew(id, r) < 0) {
		r->files = old;
		tls_generation_unref(g);
		return -ENOMEM;
	}
	tls_generation_unref(old);
	tls_generation_unref(r->names_of);
	r->names_of = tls_generation_ref(g);
	r->config.names = (const char **)g->names;
	r->config.n_names = g->n_names;
	return 1;
}

int tls_identity_set_names(struct tls_identity *id, const char *const *names, size_t n)
{
	struct role *r = &id->roles[SS_TLS_SERVER];
	int rc = 0;

	pthread_mutex_lock(&id->writers);
	if (r->files)
		rc = set_names(id, r, names, n);
	pthread_mutex_unlock(&id->writers);
	if (rc > 0) {
		log_info("Reloaded allowed_client_cns without downtime role=server names=%zu", n);
		tls_identity_notify(id);
	}
	return rc;
}

int tls_identity_reload(struct tls_identity *id)
{
	int rc = 0;

	pthread_mutex_lock(&id->writers);
	for (size_t i = 0; i < TLS_ROLES; i++) {
		int err = id->roles[i].files ? load_again(id, &id->roles[i]) : 0;
		tls_role_report(id, &id->roles[i]);
		if (id->roles[i].files)
			tls_crl_files_report(&id->roles[i].crl, id->roles[i].current->crls, now_s(),
					     id->health);
		rc = err ? err : rc;
	}
	pthread_mutex_unlock(&id->writers);
	tls_identity_notify(id);
	return rc;
}

/* ---- making ---- */

struct at_start {
	const struct jdoc *doc;
	struct diag *diag;
	unsigned general; /* complaints that are about no file */
};

static void complain_at_start(void *arg, enum diag_level level, const struct tls_file *file, const char *text)
{
	struct at_start *s = arg;

	const struct jnode *security = jnode_get(s->doc->root, "security");

	if (file)
		jdoc_report(s->doc, s->diag, level, file->node, J_VALUE, "%s", text);
	else if (!s->general++) /* it is the same for all roles */
		jdoc_report(s->doc, s->diag, level, jnode_get(security, "tls"), J_NAME, "%s", text);
}

static int start_crls(struct role *r, const struct tls_complaints *complaints)
{
	struct tls_crls *crls;
	int rc = tls_crl_files_init(&r->crl, &r->config, tls_role_names[r->number]);

	if (rc == 0)
		rc = tls_crl_files_read(&r->crl, r->files->ca, NULL, now_s(), complaints, &crls);
	if (rc)
		return rc;
	rc = crls ? tls_generation_revoke(r->files, crls) : 0;
	tls_crls_unref(crls);
	return rc;
}

static int start_role(struct tls_identity *id, struct role *r, struct at_start *s)
{
	const struct tls_complaints complaints = {.add = complain_at_start, .arg = s};

	if (!r->config.on)
		return 0;
	r->n_files = tls_files_count(&r->config);
	r->loaded = calloc(4 * r->n_files, sizeof *r->loaded);
	if (!r->loaded)
		return -ENOMEM;
	r->seen = r->loaded + r->n_files;
	r->failed = r->seen + r->n_files;
	r->found = r->failed + r->n_files;
	int rc = tls_files_load(&r->config, r->number, now_s(), &complaints, r->loaded, &r->files);
	if (rc)
		return rc == -EAGAIN ? -EINVAL : rc;
	memcpy(r->seen, r->loaded, r->n_files * sizeof *r->seen);
	rc = start_crls(r, &complaints);
	if (rc)
		return rc == -EAGAIN ? -EINVAL : rc;
	if (tls_role_renew(id, r) < 0)
		return -ENOMEM;
	tls_role_report(id, r);
	tls_crl_files_report(&r->crl, r->current->crls, now_s(), id->health);
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
		r->config = config->roles[i];
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
		tls_generation_unref(r->names_of);
		free(r->loaded);
		tls_crl_files_done(&r->crl);
	}
	pthread_mutex_destroy(&id->lock);
	pthread_mutex_destroy(&id->writers);
	free(id);
}

/* ---- for every thread ---- */

bool tls_identity_enabled(const struct tls_identity *id, uint32_t role)
{
	return role < TLS_ROLES && id->config->roles[role].on;
}

static struct tls_generation *acquire(struct tls_identity *id, uint32_t role)
{
	struct tls_generation *g = NULL;

	if (role >= TLS_ROLES)
		return NULL;
	pthread_mutex_lock(&id->lock);
	g = id->roles[role].current;
	if (g)
		tls_generation_ref(g);
	pthread_mutex_unlock(&id->lock);
	return g;
}

const struct ss_tls_material *tls_identity_acquire(struct tls_identity *id, uint32_t role)
{
	struct tls_generation *g = acquire(id, role);

	return g ? &g->material : NULL;
}

static struct tls_generation *generation_of(const struct ss_tls_material *material)
{
	union {
		const struct ss_tls_material *given;
		struct tls_generation *generation; /* whose first member it is */
	} m = {.given = material};

	return m.generation;
}

const struct ss_tls_material *tls_identity_without_certificate(const struct ss_tls_material *material)
{
	struct tls_generation *g = tls_generation_join(generation_of(material), NULL);

	tls_identity_release(material);
	return g ? &g->material : NULL;
}

void tls_identity_release(const struct ss_tls_material *material)
{
	tls_generation_unref(generation_of(material));
}

/* The rules of a role as of a generation, which must outlive them; NULL: nothing was read. */
static struct tls_peer_policy policy_of(const struct tls_identity *id, uint32_t role,
					const struct tls_generation *g)
{
	const struct tls_role *config = &id->config->roles[role];

	return (struct tls_peer_policy){
		.role = role,
		/* a role that is off accepts nobody */
		.flags = config->on ? config->flags : SS_TLS_REQUIRE_PEER | SS_TLS_VERIFY_PEER,
		.min_version = config->min_version,
		.names = g ? (const char *const *)g->names : config->names,
		.n_names = g ? g->n_names : config->n_names,
		.trust = g ? g->trust : NULL,
	};
}

int tls_identity_check_peer(struct tls_identity *id, uint32_t role, const struct ss_der *chain, uint32_t n,
			    int32_t error, const char *host, char *name, size_t name_size, int32_t *fail,
			    char *why, size_t why_size)
{
	if (role >= TLS_ROLES)
		role = SS_TLS_SERVER;
	struct tls_generation *g = acquire(id, role);
	const struct tls_peer_policy policy = policy_of(id, role, g);

	int rc =
		tls_peer_check(&policy, chain, n, error, host, now_s(), name, name_size, fail, why, why_size);
	tls_generation_unref(g);
	return rc;
}

int tls_identity_recheck_peer(struct tls_identity *id, const struct tls_known_peer *peer,
			      int64_t *valid_until, int32_t *fail, char *why, size_t why_size)
{
	uint32_t role = peer->role < TLS_ROLES ? peer->role : SS_TLS_SERVER;
	struct tls_generation *g = acquire(id, role);
	const struct tls_peer_policy policy = policy_of(id, role, g);
	int32_t reason = SS_TLS_FAIL_OTHER;

	int rc = tls_peer_recheck(&policy, g ? g->trust : NULL, peer, now_s(), &reason, why, why_size);
	if (rc)
		atomic_fetch_add_explicit(&id->roles[role].revoked[reason], 1, memory_order_relaxed);
	if (rc && g && (reason == SS_TLS_FAIL_REVOKED || reason == SS_TLS_FAIL_CRL_EXPIRED))
		tls_crl_files_cut(&id->roles[role].crl, now_s(), why && why_size ? why : "");
	if (rc && fail)
		*fail = reason;
	if (rc == 0 && valid_until)
		*valid_until = tls_trust_next_expiry(policy.trust, peer->chain, peer->n, now_s());
	tls_generation_unref(g);
	return rc;
}

bool tls_identity_listed(struct tls_identity *id, const char *name)
{
	struct tls_generation *g = acquire(id, SS_TLS_SERVER);
	const struct tls_peer_policy policy = policy_of(id, SS_TLS_SERVER, g);
	bool found = false;

	for (size_t i = 0; i < policy.n_names && !found; i++)
		found = strcasecmp(policy.names[i], name) == 0;
	tls_generation_unref(g);
	return found;
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
	w->notified = id->newest;
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

static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void collect_role(struct tls_identity *id, const struct role *r, struct metrics_page *page)
{
	struct tls_generation *g = acquire(id, r->number);
	const struct ss_tls_material *m = g ? &g->material : NULL;
	char role[64] = "", labels[128];

	if (!m)
		return;
	metrics_label(role, sizeof role, "role", tls_role_names[r->number]);
	for (int32_t i = 0; i < SS_TLS_FAILS; i++) {
		snprintf(labels, sizeof labels, "%s", role);
		metrics_label(labels, sizeof labels, "reason", tls_peer_reason(i));
		metrics_host(page, METRIC_TLS_FAILURES, labels, (int64_t)load(&r->failures[i]));
		metrics_host(page, METRIC_TLS_REVOKED_PEERS, labels, (int64_t)load(&r->revoked[i]));
	}
	if (m->chain_pem) {
		metrics_host(page, METRIC_CERTIFICATE_EXPIRY_TIME, role, m->not_after);
		metrics_host(page, METRIC_CERTIFICATE_EXPIRY, role, m->not_after - now_s());
	}
	tls_crl_files_collect(g->crls, role, page);
	if (r->config.mode)
		metrics_host(page, METRIC_TLS_FALLBACK, role,
			     atomic_load_explicit(&r->fallback, memory_order_relaxed));
	tls_identity_release(m);
}

void tls_identity_collect(struct tls_identity *id, struct metrics_page *page)
{
	if (!id || (!id->config->roles[SS_TLS_SERVER].on && !id->config->roles[SS_TLS_CLIENT].on))
		return;
	for (size_t i = 0; i < TLS_ROLES; i++)
		collect_role(id, &id->roles[i], page);
	metrics_host(page, METRIC_TLS_RELOADS, NULL, (int64_t)load(&id->reloads));
	metrics_host(page, METRIC_TLS_RELOAD_FAILURES, NULL, (int64_t)load(&id->reload_failures));
	metrics_host(page, METRIC_TLS_INSECURE, NULL,
		     (id->config->roles[SS_TLS_CLIENT].flags & SS_TLS_INSECURE) != 0);
}
