/* SPDX-License-Identifier: MIT */
/* tls_crl_files - see tls_crl_files.h. */
#include "core/tls/tls_crl_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <semstreams/base/file_atomic.h>
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/admin/metrics.h"
#include "core/tls/tls_trial.h"

enum {
	MAX_CAS = 128000,  /* more than all files of a role may hold */
	CUT_SHOWN_S = 600, /* how long /readyz tells of a peer that was cut off */
};

int tls_crl_files_init(struct tls_crl_files *f, const struct tls_role *config, const char *role)
{
	pthread_mutex_init(&f->lock, NULL);
	f->config = config;
	f->role = role;
	f->loaded = calloc(3 * config->n_crl + 1, sizeof *f->loaded);
	f->seen = f->loaded + config->n_crl;
	f->found = f->seen + config->n_crl;
	return f->loaded ? 0 : -ENOMEM;
}

void tls_crl_files_done(struct tls_crl_files *f)
{
	if (!f->config)
		return;
	free(f->loaded);
	pthread_mutex_destroy(&f->lock);
	f->config = NULL;
}

/* ---- reading ---- */

struct reading {
	struct tls_crl_files *files;
	const struct tls_complaints *complaints;
	enum diag_level level; /* of a file that cannot be used */
	const struct tls_trial *trial;
	struct cert_list cas;
	struct tls_crls *lists;
	size_t faults;
	char trouble[TLS_COMPLAINT]; /* the first */
};

__attribute__((format(printf, 4, 5))) static void complain(struct reading *r, enum diag_level level,
							   const struct tls_file *file, const char *fmt, ...)
{
	char text[TLS_COMPLAINT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	r->complaints->add(r->complaints->arg, level, file, text);
}

__attribute__((format(printf, 3, 4))) static void fail(struct reading *r, const struct tls_file *file,
						       const char *fmt, ...)
{
	char text[TLS_COMPLAINT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (!r->faults++)
		memcpy(r->trouble, text, sizeof r->trouble);
	complain(r, r->level, file, "%s", text);
}

static int read_one(struct reading *r, size_t i)
{
	const struct tls_file *file = &r->files->config->crl[i];
	struct stat st = {0};
	char why[TLS_COMPLAINT / 2];
	char *text = NULL;
	size_t len;
	int rc = ss_file_read(AT_FDCWD, file->path, TLS_MAX_CRL_FILE, &text, &len, &st);

	r->files->found[i] = st.st_ino ? tls_stamp_of(&st) : (struct tls_stamp){0};
	if (rc == -EAGAIN || rc == -ENOMEM)
		return rc;
	if (rc == -EFBIG)
		fail(r, file, "revocation list file \"%s\" is larger than %u MiB", file->path,
		     TLS_MAX_CRL_FILE >> 20);
	else if (rc)
		fail(r, file, "%s reading revocation list file \"%s\"", strerror(-rc), file->path);
	if (rc)
		return 0;
	rc = tls_crls_add(r->lists, r->trial, text, len, &r->cas, why, sizeof why);
	free(text);
	if (rc == -EINVAL)
		fail(r, file, "revocation list file \"%s\": %s", file->path, why);
	return rc == -EINVAL ? 0 : rc;
}

/* "list of CA 'x' expired T", and what follows. */
static void warn_expired(struct reading *r, int64_t now)
{
	char who[CERT_SHOWN], when[CERT_SHOWN];

	for (size_t i = 0; i < tls_crls_count(r->lists); i++) {
		const struct tls_crl *c = tls_crls_at(r->lists, i);
		if (c->next_update < now)
			complain(r, DIAG_WARN, &r->files->config->crl[0],
				 "the revocation list of CA %s expired %s; %s",
				 cert_show_subject(who, c->issuer), cert_show_time(when, c->next_update),
				 r->files->config->crl_soft ? "it is used all the same (crl_policy)"
							    : "peers with certificates of this CA are "
							      "refused until there is a newer "
							      "one");
	}
}

/* An older list is signed, too: whoever brings it on its way would let in again whom a newer one has revoked.
 * One from the future was made by a clock that was wrong. */
static void refuse_older(struct reading *r, const struct tls_crls *before, int64_t now)
{
	char who[CERT_SHOWN], is[CERT_SHOWN], was[CERT_SHOWN];

	for (size_t i = 0; i < tls_crls_count(before); i++) {
		const struct tls_crl *b = tls_crls_at(before, i), *c = tls_crls_of(r->lists, b->issuer);
		if (c && c->this_update < b->this_update && b->this_update <= now)
			fail(r, &r->files->config->crl[0],
			     "the revocation list of CA %s is of %s, older than the one in use, of %s, which "
			     "stays",
			     cert_show_subject(who, b->issuer), cert_show_time(is, c->this_update),
			     cert_show_time(was, b->this_update));
	}
}

/* A file that was mixed up with another would let in whom the list has revoked. */
static void warn_gone(struct reading *r, const struct tls_crls *before)
{
	char who[CERT_SHOWN];

	for (size_t i = 0; i < tls_crls_count(before); i++) {
		gnutls_x509_crt_t ca = tls_crls_at(before, i)->issuer;
		if (!tls_crls_of(r->lists, ca))
			complain(r, DIAG_WARN, &r->files->config->crl[0],
				 "no file has the revocation list of CA %s any more: what it revoked is "
				 "accepted "
				 "again",
				 cert_show_subject(who, ca));
	}
}

static int read_all(struct reading *r, const char *ca_pem, const struct tls_crls *before, int64_t now)
{
	char why[TLS_COMPLAINT / 2];
	int rc = 0;

	r->trial = tls_trial_open(NULL, why, sizeof why);
	r->lists = tls_crls_new(!r->files->config->crl_soft);
	if (!r->lists)
		return -ENOMEM;
	if (!r->trial) {
		fail(r, NULL, "%s", why);
		return -EINVAL;
	}
	if (ca_pem && *ca_pem)
		rc = cert_list_load(ca_pem, strlen(ca_pem), MAX_CAS, &r->cas, why, sizeof why);
	for (size_t i = 0; i < r->files->config->n_crl && rc == 0; i++)
		rc = read_one(r, i);
	if (rc == 0)
		refuse_older(r, before, now);
	if (rc == 0 && r->faults)
		rc = before ? tls_crls_keep(r->lists, before) : r->level == DIAG_ERROR ? -EINVAL : 0;
	if (rc == 0) {
		warn_gone(r, before);
		warn_expired(r, now);
	}
	return rc;
}

int tls_crl_files_read(struct tls_crl_files *f, const char *ca_pem, const struct tls_crls *before,
		       int64_t now, const struct tls_complaints *complaints, struct tls_crls **out)
{
	struct reading r = {.files = f,
			    .complaints = complaints,
			    .level = before || f->config->crl_soft ? DIAG_WARN : DIAG_ERROR};

	*out = NULL;
	if (f->config->n_crl == 0)
		return 0;
	int rc = read_all(&r, ca_pem, before, now);
	cert_list_free(&r.cas);
	if (rc != -EAGAIN) {
		memcpy(f->loaded, f->found, f->config->n_crl * sizeof *f->loaded);
		memcpy(f->seen, f->found, f->config->n_crl * sizeof *f->seen);
		memcpy(f->trouble, r.trouble, sizeof f->trouble);
		f->expiry_logged_s = now;
	}
	if (rc) {
		tls_crls_unref(r.lists);
		return rc;
	}
	*out = r.lists;
	return 0;
}

bool tls_crl_files_changed(struct tls_crl_files *f)
{
	size_t n = f->config ? f->config->n_crl : 0;

	for (size_t i = 0; i < n; i++)
		f->found[i] = tls_stamp_at(f->config->crl[i].path);
	bool changed = n && !tls_stamps_equal(f->found, f->loaded, n);
	bool settled = n && tls_stamps_equal(f->found, f->seen, n);
	if (n)
		memcpy(f->seen, f->found, n * sizeof *f->seen);
	return changed && settled;
}

/* ---- telling ---- */

static void log_expired(struct tls_crl_files *f, const struct tls_crls *lists, int64_t now)
{
	char who[TLS_COMPLAINT], shown[CERT_SHOWN], when[CERT_SHOWN];

	for (size_t i = 0; i < tls_crls_count(lists); i++) {
		const struct tls_crl *c = tls_crls_at(lists, i);
		if (c->next_update >= now || c->next_update < f->expiry_logged_s)
			continue;
		log_value(who, sizeof who, cert_show_subject(shown, c->issuer));
		cert_show_time(when, c->next_update);
		if (tls_crls_hard(lists))
			log_error(
				"Revocation list has expired, peers with certificates of its CA are refused "
				"role=%s ca=%s expiry=%s",
				f->role, who, when);
		else
			log_warn("Revocation list has expired and is used all the same role=%s ca=%s "
				 "expiry=%s",
				 f->role, who, when);
	}
	f->expiry_logged_s = now;
}

/* How many are out of date, the first named in text. */
static size_t count_expired(const struct tls_crls *lists, int64_t now, char *text, size_t size)
{
	char who[CERT_SHOWN], when[CERT_SHOWN];
	size_t n = 0;

	for (size_t i = 0; i < tls_crls_count(lists); i++) {
		const struct tls_crl *c = tls_crls_at(lists, i);
		if (c->next_update < now && n++ == 0)
			snprintf(text, size, "the revocation list of CA %s expired %s, %s",
				 cert_show_subject(who, c->issuer), cert_show_time(when, c->next_update),
				 tls_crls_hard(lists) ? "peers with certificates of this CA are refused"
						      : "it is used all the same");
	}
	return n;
}

static void describe_cut(struct tls_crl_files *f, int64_t now, char *text, size_t size)
{
	char when[CERT_SHOWN];

	pthread_mutex_lock(&f->lock);
	f->cut_is_news = false;
	if (f->cut[0] && now < f->cut_s + CUT_SHOWN_S)
		snprintf(text, size, "a peer was disconnected %s: %s", cert_show_time(when, f->cut_s),
			 f->cut);
	pthread_mutex_unlock(&f->lock);
}

void tls_crl_files_report(struct tls_crl_files *f, const struct tls_crls *lists, int64_t now,
			  struct health *health)
{
	char expired[512] = "", cut[TLS_COMPLAINT + 80] = "", text[2 * TLS_COMPLAINT + 700] = "", id[16];

	if (!f->config || f->config->n_crl == 0)
		return;
	log_expired(f, lists, now);
	describe_cut(f, now, cut, sizeof cut);
	size_t n = count_expired(lists, now, expired, sizeof expired);
	bool fails = n && n == tls_crls_count(lists) && tls_crls_hard(lists);
	snprintf(text, sizeof text, "%s%s%s%s%s", expired, expired[0] && f->trouble[0] ? "; " : "",
		 f->trouble, cut[0] && (expired[0] || f->trouble[0]) ? "; " : "", cut);
	if (!health)
		return;
	snprintf(id, sizeof id, "crl.%s", f->role);
	health_set(health, id, fails ? text : NULL);
	health_degrade(health, id, !fails && text[0] ? text : NULL);
}

void tls_crl_files_cut(struct tls_crl_files *f, int64_t now, const char *why)
{
	pthread_mutex_lock(&f->lock);
	snprintf(f->cut, sizeof f->cut, "%s", why);
	f->cut_s = now;
	f->cut_is_news = true;
	pthread_mutex_unlock(&f->lock);
}

bool tls_crl_files_have_news(struct tls_crl_files *f)
{
	if (!f->config)
		return false;
	pthread_mutex_lock(&f->lock);
	bool news = f->cut_is_news;
	pthread_mutex_unlock(&f->lock);
	return news;
}

void tls_crl_files_collect(const struct tls_crls *lists, const char *labels, struct metrics_page *page)
{
	const struct tls_crl *first = tls_crls_first_end(lists);
	size_t revoked = 0;

	if (!first)
		return;
	for (size_t i = 0; i < tls_crls_count(lists); i++)
		revoked += tls_crls_at(lists, i)->n;
	metrics_host(page, METRIC_CRL_REVOKED, labels, (int64_t)revoked);
	if (first->next_update != TLS_CRL_NEVER)
		metrics_host(page, METRIC_CRL_EXPIRY_TIME, labels, first->next_update);
}
