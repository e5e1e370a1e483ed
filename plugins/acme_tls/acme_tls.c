/* SPDX-License-Identifier: MIT */
/*
 * acme_tls - a provider of TLS identities: keeps a valid certificate from an ACME CA in use.  What does that
 * is renewer.h; here its attempts are carried out (operation.h), and the CA is asked when it wants
 * certificates renewed.  "semstreams cert" is commands.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
#include "commands.h"
#include "operation.h"
#include "options.h"
#include "plugins/identity/renewer.h"
#include "plugins/identity/time_text.h"

#define ARI_MIN_LIFE   3600 /* seconds; the CA's advice comes too late for shorter lives */
#define ARI_PAUSE      (600 * (uint64_t)SETUP_SECOND) /* between two questions, also if no answer can be saved */
#define ACCOUNT_LOADED "ACME account loaded from storage"

struct acme_tls {
	struct renewed base;
	struct acme_setup setup;
	const char *ca_bundle[2];
	struct operation *operation; /* NULL: none under way */
	bool is_ari;                 /* of which kind */
	uint32_t watch;
	uint64_t next_ari_ns;
};

/* ---- metrics ---- */

enum { METRIC_REQUESTS = RENEWER_N_METRICS, N_METRICS = METRIC_REQUESTS + 14 };

#define REQUEST(word)                                                                                        \
	{                                                                                                    \
		"semstreams_acme_requests_total", "Requests to the ACME server, by kind.",                   \
			"request=\"" word "\"", SS_METRIC_COUNTER, 0                                         \
	}

static const struct ss_metric metrics[N_METRICS] = {RENEWER_METRICS("semstreams_acme_"),
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

/* ---- an operation under way ---- */

static void ari_answered(struct acme_tls *t, const struct obtain_result *result, int64_t now)
{
	record_ari(renewer_store(t->base.renewer), renewer_cert(t->base.renewer), result, now);
	if (result->fail != OBTAIN_OK)
		ss_log(t->base.host, SS_LOG_DEBUG, "ACME renewal information (ARI) unavailable error=\"%s\"",
		       result->why);
	else if (result->ari_url)
		ss_log(t->base.host, SS_LOG_INFO,
		       "ACME server explains when it wants certificates renewed url=\"%s\"", result->ari_url);
}

static void read_operation(void *owner)
{
	struct acme_tls *t = owner;
	struct obtain_result *result = t->operation ? operation_read(t->operation) : NULL;
	if (!result)
		return;
	if (t->is_ari)
		ari_answered(t, result, wall_now());
	renewer_ended(t->base.renewer, t->is_ari ? NULL : result);
}

static void end_operation(void *owner)
{
	struct acme_tls *t = owner;
	void *self;
	const struct ss_loop *loop = renewer_loop(t->base.renewer, &self);
	loop->cancel(self, t->watch);
	t->watch = 0;
	operation_free(t->operation);
	t->operation = NULL;
}

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
	t->base.host->log(t->base.host, level, text);
}

static void on_request_counted(void *arg, const char *request)
{
	struct acme_tls *t = arg;
	char label[64];
	uint32_t i = METRIC_REQUESTS;
	snprintf(label, sizeof label, "request=\"%s\"", request);
	while (i < N_METRICS - 1 && strcmp(metrics[i].label, label) != 0)
		i++;
	t->base.host->metric_add(t->base.host, i, 1);
}

/* The CAs to trust for the CA's own HTTPS, NULL-ended. */
static const char *const *ca_files(const struct acme_tls *t)
{
	return t->ca_bundle[0] ? t->ca_bundle : renewer_ca_files(t->base.renewer);
}

/* Takes over request. */
static int begin_operation(struct acme_tls *t, json_t *request, char *why, size_t why_size)
{
	const struct operation_events events = {
		.log = on_operation_log, .counted = on_request_counted, .arg = t};
	int rc = operation_start(&t->setup, request, ca_files(t), &events, &t->operation, why, why_size);
	void *self;
	if (rc)
		return rc;
	const struct ss_loop *loop = renewer_loop(t->base.renewer, &self);
	rc = loop->fd(self, operation_fd(t->operation), SS_FD_READ, on_readable, t, &t->watch);
	if (rc)
		snprintf(why, why_size, "%s", strerror(-rc));
	return rc;
}

static int begin(void *owner, char *why, size_t why_size)
{
	struct acme_tls *t = owner;
	t->is_ari = false;
	return begin_operation(t, operation_issue(&t->setup, renewer_cert(t->base.renewer)), why, why_size);
}

/* Where the CA offers it and it is time for it; once in ARI_PAUSE. */
static void ask_ari(void *owner, int64_t now)
{
	struct acme_tls *t = owner;
	const struct stored_cert *cert = renewer_cert(t->base.renewer);
	const struct chain_info *chain = &cert->chain;
	void *self;
	const struct ss_loop *loop = renewer_loop(t->base.renewer, &self);
	char why[256];
	if (!t->setup.conf->ari || !cert->exists || !chain->ari_id[0] ||
	    chain->not_after - chain->not_before < ARI_MIN_LIFE || now >= chain->not_after ||
	    !record_ari_due(renewer_state(t->base.renewer), cert, now) || t->next_ari_ns > loop->now(self) ||
	    !renewer_begin_other(t->base.renewer))
		return;
	t->next_ari_ns = loop->now(self) + ARI_PAUSE;
	t->is_ari = true;
	if (begin_operation(t, json_pack("{s:s, s:s}", "operation", "ari", "ari_id", chain->ari_id), why,
			    sizeof why))
		renewer_ended(t->base.renewer, NULL);
}

static void opened(void *owner, struct store *store)
{
	struct acme_tls *t = owner;
	struct store_account account;
	int rc = store_account_load(store, &account);
	if (rc == 0) {
		ss_log(t->base.host, SS_LOG_INFO, ACCOUNT_LOADED " email=%s",
		       account.email ? account.email : "");
		store_account_done(&account);
	} else if (rc != -ENOENT) {
		ss_log(t->base.host, SS_LOG_ERROR, "ACME account cannot be loaded from storage error=\"%s\"",
		       store_why(store));
	}
}

static const struct renewer_source source = {
	.name = "ACME",
	.failed = "failed to obtain certificate from ACME server",
	.unopened = "account registration failed",
	.begin = begin,
	.poll = read_operation,
	.end = end_operation,
	.opened = opened,
	.idle = ask_ari,
};

/* ---- as a provider ---- */

static int32_t command(void *self, uint32_t argc, const char *const *argv,
		       void (*print)(void *arg, const char *text), void *arg)
{
	struct acme_tls *t = self;
	return commands_run(t->base.host, &t->setup, ca_files(t), argc, argv, print, arg);
}

static const struct ss_tls_provider provider = {
	.struct_size = sizeof provider,
	.identity = renewed_identity,
	.command = command,
	.retry = renewed_retry,
};

/* ---- life cycle ---- */

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct acme_tls *t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	t->base = (struct renewed){.host = host, .setup = &t->setup.common, .provider = &provider};
	int32_t rc = acme_setup_init(&t->setup, host, conf);
	t->ca_bundle[0] = t->setup.conf->ca_bundle;
	return renewed_create(&t->base, &source, rc, self);
}

static int32_t start(void *self)
{
	struct acme_tls *t = self;
	ss_log(t->base.host, SS_LOG_INFO, "Initializing ACME client directory=%s", t->setup.common.shown_url);
	return renewed_start(self);
}

static const struct ss_component acme_tls = {
	.struct_size = sizeof acme_tls,
	.kind = SS_KIND_PROVIDER,
	.type = "acme_tls",
	.version = "1.0",
	.summary = "TLS certificates by ACME (RFC 8555), obtained and renewed automatically",
	.license = "MIT",
	.flags = SS_TELLS_PATHS,
	.options = acme_options_table,
	.option_size = sizeof acme_options_table[0],
	.n_options = ACME_N_OPTIONS,
	.metrics = metrics,
	.metric_size = sizeof metrics[0],
	.n_metrics = N_METRICS,
	.conf_size = sizeof(struct acme_conf),
	.create = create,
	.destroy = renewed_destroy,
	.start = start,
	.stop = renewed_stop,
	.extension = renewed_extension,
};

SS_REGISTER(&acme_tls);
