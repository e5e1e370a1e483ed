/* SPDX-License-Identifier: MIT */
/*
 * tls_reload - certificate and CA files that are read again when they change.  Only a whole set that is valid
 * replaces the old one.  Control thread.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "core/admin/log.h"
#include "core/flow/loop.h"
#include "core/tls/tls_identity_impl.h"

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

static void log_new(const struct role *r, const struct tls_generation *g, bool certificate)
{
	char who[TLS_COMPLAINT], path[TLS_COMPLAINT], when[CERT_SHOWN];

	if (!certificate || !g->chain) {
		log_info("Reloaded trusted CAs without downtime role=%s", tls_role_names[r->number]);
		return;
	}
	bool used = !r->config->mode || (r->lost && !r->given);
	log_info("%s path=%s role=%s subject=%s expiry=%s",
		 used ? "Hot-reloaded certificate without downtime" : "Reloaded the fallback certificate",
		 log_value(path, sizeof path, r->config->cert.path), tls_role_names[r->number],
		 log_value(who, sizeof who, g->subject), cert_show_time(when, g->material.not_after));
}

/* Takes g over. */
static int use_files(struct tls_identity *id, struct role *r, struct tls_generation *g)
{
	struct tls_generation *old = r->files;
	bool certificate = !tls_same_text(old->chain, g->chain) || !tls_same_text(old->key, g->key);

	if (!certificate && tls_same_text(old->ca, g->ca)) { /* touched, but the same */
		tls_generation_unref(g);
		return 0;
	}
	r->files = g;
	if (tls_role_renew(id, r) < 0) {
		r->files = old;
		tls_generation_unref(g);
		return -ENOMEM;
	}
	log_new(r, g, certificate);
	tls_generation_unref(old);
	atomic_fetch_add_explicit(&id->reloads, 1, memory_order_relaxed);
	return 0;
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
		  tls_role_names[r->number], log_value(text, sizeof text, error));
}

static int load_again(struct tls_identity *id, struct role *r)
{
	struct findings f = {.error = ""};
	const struct tls_complaints complaints = {.add = keep_finding, .arg = &f};
	struct tls_generation *g;
	char text[TLS_COMPLAINT + 64];

	int rc = tls_files_load(r->config, r->number, tls_now(), &complaints, r->found, &g);
	if (rc == -EAGAIN) /* the next poll will find it finished */
		return rc;
	if (rc == 0)
		rc = use_files(id, r, g);
	if (rc) {
		note_failure(id, r, f.error[0] ? f.error : strerror(-rc));
		return rc;
	}
	memcpy(r->loaded, r->found, r->n_files * sizeof *r->loaded);
	r->failure[0] = '\0';
	for (size_t i = 0; i < f.n_warnings; i++)
		log_warn("Certificate warning role=%s reason=%s", tls_role_names[r->number],
			 log_value(text, sizeof text, f.warnings[i]));
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
	if (!r->files)
		return;
	tls_files_stamp(r->config, r->found);
	bool changed = !tls_stamps_equal(r->found, r->loaded, r->n_files), settled = is_settled(r);
	memcpy(r->seen, r->found, r->n_files * sizeof *r->seen);
	if (changed && settled)
		load_again(id, r);
	else if (!changed)
		r->failure[0] = '\0';

	const struct tls_generation *g = r->current;
	if (!r->expiry_told && g->chain && g->material.not_after < tls_now()) {
		char who[TLS_COMPLAINT], when[CERT_SHOWN];
		r->expiry_told = true;
		log_error("Certificate has expired, peers will refuse it role=%s subject=%s expiry=%s",
			  tls_role_names[r->number], log_value(who, sizeof who, g->subject),
			  cert_show_time(when, g->material.not_after));
	}
}

void tls_identity_poll(struct tls_identity *id)
{
	if (!id)
		return;
	pthread_mutex_lock(&id->writers);
	for (size_t i = 0; i < TLS_ROLES; i++)
		poll_role(id, &id->roles[i]);
	pthread_mutex_unlock(&id->writers);
	tls_tell_watchers(id);
}

int tls_identity_reload(struct tls_identity *id)
{
	int rc = 0;

	pthread_mutex_lock(&id->writers);
	for (size_t i = 0; i < TLS_ROLES; i++) {
		int err = id->roles[i].files ? load_again(id, &id->roles[i]) : 0;
		rc = err ? err : rc;
	}
	pthread_mutex_unlock(&id->writers);
	tls_tell_watchers(id);
	return rc;
}
