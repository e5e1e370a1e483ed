/* SPDX-License-Identifier: MIT */
/*
 * tls_supply - what providers of certificates say: here is one, or there is none and why.  Without one the
 * pair from files takes its place, if there is one, and everybody is told of it.  In the providers' threads,
 * but for the reminders.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <semstreams/ext/tls.h>
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/flow/loop.h"
#include "core/tls/tls_identity_impl.h"
#include "core/tls/tls_provider.h"

static void report(struct tls_identity *id, const struct role *r, const char *reason, bool mild)
{
	if (!id->health)
		return;
	if (mild)
		health_degrade(id->health, tls_role_ids[r->number], reason);
	else
		health_set(id->health, tls_role_ids[r->number], reason);
}

void tls_supply_begin(struct tls_identity *id, struct role *r)
{
	char text[TLS_MAX_MODE + 64];

	snprintf(text, sizeof text, "no certificate yet, mode \"%s\" is to bring it", r->config->mode);
	report(id, r, text, false);
}

static void log_lost(struct role *r)
{
	const struct tls_generation *g = r->current;
	char why[sizeof r->reason + 64], who[TLS_COMPLAINT], path[TLS_COMPLAINT], when[CERT_SHOWN];

	log_value(why, sizeof why, r->reason);
	r->told_ns = clock_now();
	if (g->chain)
		log_warn("Operating in fallback mode, using cert_file role=%s reason=%s path=%s subject=%s "
			 "expiry=%s",
			 tls_role_names[r->number], why, log_value(path, sizeof path, r->config->cert.path),
			 log_value(who, sizeof who, g->subject), cert_show_time(when, g->material.not_after));
	else
		log_error("No TLS certificate and no fallback, %s role=%s reason=%s",
			  r->number == SS_TLS_SERVER ? "handshakes fail"
						     : "servers that want one will refuse us",
			  tls_role_names[r->number], why);
}

void tls_identity_remind(struct tls_identity *id, uint64_t now_ns)
{
	const uint64_t hour_ns = 3600ull * 1000000000u;

	pthread_mutex_lock(&id->writers);
	for (size_t i = 0; i < TLS_ROLES; i++) {
		struct role *r = &id->roles[i];
		if (r->lost && now_ns >= r->told_ns + hour_ns)
			log_lost(r);
	}
	pthread_mutex_unlock(&id->writers);
}

/* ---- there is none ---- */

static void lose(struct tls_identity *id, struct role *r, const char *reason)
{
	char text[sizeof r->reason + 64];
	bool news = !r->lost;

	tls_generation_unref(r->given);
	r->given = NULL;
	r->lost = true;
	snprintf(r->reason, sizeof r->reason, "%s", reason);
	atomic_store_explicit(&r->fallback, r->files->chain != NULL, memory_order_relaxed);
	/* out of memory: the old one stays until the provider speaks again */
	tls_role_renew(id, r);
	snprintf(text, sizeof text, "%s: %s",
		 r->files->chain ? "fallback certificate in use" : "no certificate", r->reason);
	report(id, r, text, r->files->chain != NULL);
	if (news)
		log_lost(r);
}

void tls_identity_unavailable(struct tls_identity *id, uint32_t roles, const char *reason)
{
	pthread_mutex_lock(&id->writers);
	for (uint32_t i = 0; i < TLS_ROLES; i++) {
		struct role *r = &id->roles[i];
		if ((roles & 1u << i) && r->files && r->config->mode)
			lose(id, r, reason ? reason : "not told");
	}
	pthread_mutex_unlock(&id->writers);
	tls_tell_watchers(id);
}

/* ---- here is one ---- */

/* Roles that one line of the log is about, "server,client". */
struct names {
	char text[32];
};

static void add_name(struct names *n, const struct role *r)
{
	size_t len = strlen(n->text);

	snprintf(n->text + len, sizeof n->text - len, "%s%s", len ? "," : "", tls_role_names[r->number]);
}

/* The pair is news for the role; it is noted whose certificate it replaces, and whose want it ends. */
static int give(struct tls_identity *id, struct role *r, struct tls_generation *g, struct names *swapped,
		struct names *ended)
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
	atomic_store_explicit(&r->fallback, false, memory_order_relaxed);
	report(id, r, NULL, false);
	if (lost)
		add_name(ended, r);
	if (rc && had)
		add_name(swapped, r);
	return 0;
}

static void log_given(const struct tls_generation *g, const struct names *swapped, const struct names *ended)
{
	char who[TLS_COMPLAINT], source[2 * TLS_MAX_SOURCE], when[CERT_SHOWN];

	log_value(who, sizeof who, g->subject);
	log_value(source, sizeof source, g->source);
	cert_show_time(when, g->material.not_after);
	if (ended->text[0])
		log_info("Certificate available again role=%s source=%s subject=%s expiry=%s", ended->text,
			 source, who, when);
	if (swapped->text[0])
		log_info("Hot-reloaded certificate without downtime role=%s source=%s subject=%s expiry=%s",
			 swapped->text, source, who, when);
}

int tls_identity_publish(struct tls_identity *id, uint32_t roles, const char *source, const char *chain_pem,
			 const char *key_pem, char *why, size_t why_size)
{
	struct names swapped = {""}, ended = {""};
	struct tls_generation *g;

	int rc = tls_generation_read(source, chain_pem, key_pem, tls_now(), &g, why, why_size);
	if (rc)
		return rc;
	pthread_mutex_lock(&id->writers);
	for (uint32_t i = 0; i < TLS_ROLES && rc == 0; i++) {
		struct role *r = &id->roles[i];
		if ((roles & 1u << i) && r->files && r->config->mode)
			rc = give(id, r, g, &swapped, &ended);
	}
	pthread_mutex_unlock(&id->writers);
	if (rc)
		snprintf(why, why_size, "out of memory");
	else
		log_given(g, &swapped, &ended);
	tls_generation_unref(g);
	tls_tell_watchers(id);
	return rc;
}
