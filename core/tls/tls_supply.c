/* SPDX-License-Identifier: MIT */
/*
 * tls_supply - certificates of providers: published, refused, withdrawn; what the log and /readyz are told.
 * In the providers' threads.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "core/admin/clock.h"
#include "core/admin/log.h"
#include "core/tls/tls_identity_internal.h"
#include "core/tls/tls_trial.h"

static void log_lost(struct role *r)
{
	const struct tls_generation *g = r->current;
	char why[sizeof r->reason + 64], who[TLS_COMPLAINT], path[TLS_COMPLAINT], when[CERT_SHOWN];

	log_value(why, sizeof why, r->reason);
	r->warned_ns = clock_now();
	if (g->chain)
		log_warn("Operating in fallback mode, using cert_file role=%s reason=%s path=%s subject=%s "
			 "expiry=%s",
			 tls_role_names[r->number], why, log_value(path, sizeof path, r->config.cert.path),
			 log_value(who, sizeof who, g->subject), cert_show_time(when, g->material.not_after));
	else
		log_error("No TLS certificate and no fallback, %s role=%s reason=%s",
			  r->number == SS_TLS_SERVER ? "handshakes fail"
						     : "servers that require one will reject this client",
			  tls_role_names[r->number], why);
}

void tls_identity_remind(struct tls_identity *id, uint64_t now_ns)
{
	const uint64_t hour_ns = 3600ull * 1000000000u;

	pthread_mutex_lock(&id->writers);
	for (size_t i = 0; i < TLS_ROLES; i++) {
		struct role *r = &id->roles[i];
		if (r->lost && now_ns >= r->warned_ns + hour_ns)
			log_lost(r);
	}
	pthread_mutex_unlock(&id->writers);
}

/* ---- there is none ---- */

static void withdraw(struct tls_identity *id, struct role *r, const char *reason)
{
	bool news = !r->lost;

	tls_generation_unref(r->given);
	r->given = NULL;
	r->lost = true;
	r->refused[0] = '\0'; /* the newest word counts */
	snprintf(r->reason, sizeof r->reason, "%s", reason);
	atomic_store_explicit(&r->fallback, r->files->chain != NULL, memory_order_relaxed);
	/* out of memory: the old one stays until the provider speaks again */
	tls_role_renew(id, r);
	tls_role_report(id, r);
	if (news)
		log_lost(r);
}

/* Is it one of roles, (1 << SS_TLS_...), with a certificate of a provider? */
static bool takes_pairs(const struct role *r, uint32_t roles)
{
	return (roles & 1u << r->number) && r->files && r->config.mode;
}

void tls_identity_unavailable(struct tls_identity *id, uint32_t roles, const char *reason)
{
	pthread_mutex_lock(&id->writers);
	for (uint32_t i = 0; i < TLS_ROLES; i++) {
		struct role *r = &id->roles[i];
		if (takes_pairs(r, roles))
			withdraw(id, r, reason ? reason : "no reason given");
	}
	pthread_mutex_unlock(&id->writers);
	tls_identity_notify(id);
}

/* ---- here is one ---- */

enum { NAMES_SIZE = 32 }; /* of roles that one line of the log is about, "server,client" */

static void add_name(char names[NAMES_SIZE], const struct role *r)
{
	size_t len = strlen(names);

	snprintf(names + len, NAMES_SIZE - len, "%s%s", len ? "," : "", tls_role_names[r->number]);
}

/* Use the pair for the role.  Roles whose certificate it replaces are added to swapped, those that had none
 * of the provider to ended. */
static int accept_pair(struct tls_identity *id, struct role *r, struct tls_generation *g, char *swapped,
		       char *ended)
{
	struct tls_generation *before = r->given;
	bool had = r->current->chain, lost = r->lost;

	r->given = tls_generation_ref(g);
	int rc = tls_role_renew(id, r);
	if (rc < 0) {
		r->given = before;
		tls_generation_unref(g);
		return rc;
	}
	tls_generation_unref(before);
	r->lost = false;
	r->refused[0] = '\0';
	atomic_store_explicit(&r->fallback, false, memory_order_relaxed);
	tls_role_report(id, r);
	if (lost)
		add_name(ended, r);
	if (rc && had)
		add_name(swapped, r);
	return 0;
}

static void log_given(const struct tls_generation *g, const char *swapped, const char *ended)
{
	char who[TLS_COMPLAINT], source[2 * TLS_MAX_SOURCE], when[CERT_SHOWN];

	log_value(who, sizeof who, g->subject);
	log_value(source, sizeof source, g->source);
	cert_show_time(when, g->material.not_after);
	if (ended[0])
		log_info("Certificate available again role=%s source=%s subject=%s expiry=%s", ended, source,
			 who, when);
	if (swapped[0])
		log_info("Hot-reloaded certificate without downtime role=%s source=%s subject=%s expiry=%s",
			 swapped, source, who, when);
}

/* Shown until the provider speaks again; it logs it. */
static void refuse_pair(struct tls_identity *id, struct role *r, const char *why)
{
	snprintf(r->refused, sizeof r->refused, "%s", why);
	tls_role_report(id, r);
}

int tls_identity_publish(struct tls_identity *id, uint32_t roles, const struct tls_pair *pair, char *why,
			 size_t why_size)
{
	char swapped[NAMES_SIZE] = "", ended[NAMES_SIZE] = "";
	const struct tls_trial *trial = tls_trial_open(NULL, why, why_size);
	struct tls_generation *g = NULL;

	int rc = trial ? tls_generation_read(pair, (int64_t)(clock_wall() / 1000000000u), &g, why, why_size)
		       : -EINVAL;
	pthread_mutex_lock(&id->writers);
	for (uint32_t i = 0; i < TLS_ROLES && rc == 0; i++)
		if (takes_pairs(&id->roles[i], roles))
			rc = trial->identity(&g->material, i, id->roles[i].config.min_version, why, why_size);
	for (uint32_t i = 0; i < TLS_ROLES && rc == 0; i++)
		if (takes_pairs(&id->roles[i], roles))
			rc = accept_pair(id, &id->roles[i], g, swapped, ended);
	for (uint32_t i = 0; i < TLS_ROLES && rc == -EINVAL; i++)
		if (takes_pairs(&id->roles[i], roles))
			refuse_pair(id, &id->roles[i], why);
	pthread_mutex_unlock(&id->writers);
	if (rc == -ENOMEM)
		snprintf(why, why_size, "out of memory");
	else if (rc == 0)
		log_given(g, swapped, ended);
	tls_generation_unref(g);
	tls_identity_notify(id);
	return rc;
}
