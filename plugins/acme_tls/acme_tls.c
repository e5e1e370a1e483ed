/* SPDX-License-Identifier: MIT */
/*
 * acme_tls - a provider of TLS identities: a certificate from an ACME CA, kept and renewed.  This file is the
 * component: its life cycle, faces and metrics.  Everything runs on the instance's loop, but for create,
 * destroy and the commands.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/loop-libev.h>
#include <semstreams/ext/tls-provider.h>
#include "acme_tls.h"

#define VERSION "1.0"

#define REQUEST(word)                                                                                        \
	{                                                                                                    \
		"semstreams_acme_requests_total", "Requests to the ACME server.", "request=\"" word "\"",    \
			SS_METRIC_COUNTER, 0                                                                 \
	}

static const struct ss_metric metrics[] = {
	[METRIC_SUCCESS] = {"semstreams_acme_renewal_success_total",
			    "Certificates obtained, the first and renewals alike.", NULL, SS_METRIC_COUNTER,
			    0},
	[METRIC_FAILURE] = {"semstreams_acme_renewal_failure_total",
			    "Attempts to obtain a certificate that failed.", NULL, SS_METRIC_COUNTER, 0},
	[METRIC_NEXT] = {"semstreams_acme_next_renewal_timestamp_seconds",
			 "When the certificate is due for renewal or, after a failure, is tried again.", NULL,
			 SS_METRIC_GAUGE, 0},
	[METRIC_IN_A_ROW] = {"semstreams_acme_failures_in_a_row",
			     "Attempts that failed since the last success.", NULL, SS_METRIC_GAUGE, 0},
	[METRIC_LAST_SUCCESS] = {"semstreams_acme_last_success_timestamp_seconds",
				 "When a certificate was last obtained; 0 for never.", NULL, SS_METRIC_GAUGE,
				 0},
	[METRIC_REQUESTS] = REQUEST("directory"),
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
	REQUEST("other"),
};
enum { N_METRICS = sizeof metrics / sizeof *metrics };

uint32_t acme_request_metric(const char *what)
{
	static const size_t head = sizeof "request=\"" - 1;
	size_t n = strlen(what);
	for (uint32_t i = METRIC_REQUESTS; i < N_METRICS; i++)
		if (strncmp(metrics[i].label + head, what, n) == 0 && metrics[i].label[head + n] == '"')
			return i;
	return N_METRICS - 1;
}

uint16_t challenge_port(const struct acme_conf *c)
{
	return (uint16_t)(c->challenge_port ? c->challenge_port : c->challenge_type ? 443 : 80);
}

int client_new(const struct acme_tls *t, struct ev_loop *loop, struct store *store,
	       const struct client_sink *sink, struct acme **out, char *why, size_t why_size)
{
	const struct ss_tls_publish *publish = t->publish.vtbl;
	const struct acme_conf *c = t->setup.conf;
	const char *const *cas = c->ca_bundle ? t->setup.ca_files : publish->ca_files(t->publish.self);
	size_t n_cas = c->ca_bundle ? 1 : 0;
	while (!c->ca_bundle && cas[n_cas])
		n_cas++;
	const struct acme_options options = {
		.loop = loop,
		.store = store,
		.directory_url = c->directory_url,
		.email = c->email,
		.names = (const char *const *)t->setup.names,
		.n_names = t->setup.n_names,
		.challenge = c->challenge_type ? ACME_TLS_ALPN_01 : ACME_HTTP_01,
		.challenge_address = c->challenge_address,
		.challenge_port = challenge_port(c),
		.ca_files = cas,
		.n_ca_files = n_cas,
		.eab_kid = c->eab_kid,
		.eab_mac = c->eab_hmac,
		.profile = c->profile,
		.preferred_chain = c->preferred_chain,
		.reuse_key = c->reuse_key,
		.order_ns = (uint64_t)c->order_timeout,
		.log = sink->log,
		.counted = sink->counted,
		.arg = sink->arg,
	};
	return acme_new(&options, out, why, why_size);
}

/* ---- faces ---- */

static const char *identity(void *self)
{
	const struct acme_tls *t = self;
	return t->setup.path;
}

static int32_t command(void *self, uint32_t argc, const char *const *argv,
		       void (*print)(void *arg, const char *text), void *arg)
{
	return commands_run(self, argc, argv, print, arg);
}

static const struct ss_tls_provider provider = {
	.struct_size = sizeof provider,
	.identity = identity,
	.command = command,
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
	t->turn = -1;
	int32_t rc = setup_init(&t->setup, host, conf);
	if (rc == 0)
		rc = host->query(host, SS_LOOP, sizeof(struct ss_loop), &t->loop);
	if (rc == 0)
		rc = host->query(host, SS_LOOP_LIBEV, sizeof(struct ss_loop_libev), &t->libev);
	if (rc == 0)
		rc = host->query(host, SS_TLS_PUBLISH, sizeof(struct ss_tls_publish), &t->publish);
	if (rc) {
		destroy(t);
		return rc;
	}
	*self = t;
	return 0;
}

static int32_t start(void *self)
{
	return keep_start(self);
}

static void stop(void *self)
{
	keep_stop(self);
}

static const struct ss_component acme_tls = {
	.struct_size = sizeof acme_tls,
	.kind = SS_KIND_PROVIDER,
	.type = "acme_tls",
	.version = VERSION,
	.summary = "TLS certificates by ACME (RFC 8555), obtained, kept and renewed",
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
