/* SPDX-License-Identifier: MIT */
/*
 * acme_tls - a provider of TLS identities: a certificate from an ACME CA, obtained and renewed.  This file is
 * the component; renewal.c does the work in a running host, commands.c that of "semstreams cert".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/tls-provider.h>
#include "commands.h"
#include "options.h"
#include "renewal.h"

struct acme_tls {
	const struct ss_host *host;
	struct setup setup;
	struct renewal *renewal;
};

static const char *identity(void *self)
{
	const struct acme_tls *t = self;
	return t->setup.path;
}

static int32_t command(void *self, uint32_t argc, const char *const *argv,
		       void (*print)(void *arg, const char *text), void *arg)
{
	struct acme_tls *t = self;
	return commands_run(t->host, &t->setup, renewal_ca_files(t->renewal), argc, argv, print, arg);
}

static void retry(void *self)
{
	struct acme_tls *t = self;
	renewal_retry(t->renewal);
}

static const struct ss_tls_provider provider = {
	.struct_size = sizeof provider,
	.identity = identity,
	.command = command,
	.retry = retry,
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

static void destroy(void *self)
{
	struct acme_tls *t = self;
	renewal_free(t->renewal);
	setup_done(&t->setup);
	free(t);
}

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct acme_tls *t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	t->host = host;
	int32_t rc = setup_init(&t->setup, host, conf);
	if (rc == 0)
		rc = renewal_new(host, &t->setup, &t->renewal);
	if (rc) {
		destroy(t);
		return rc;
	}
	*self = t;
	return 0;
}

static int32_t start(void *self)
{
	struct acme_tls *t = self;
	return renewal_start(t->renewal);
}

static void stop(void *self)
{
	struct acme_tls *t = self;
	renewal_stop(t->renewal);
}

static const struct ss_component acme_tls = {
	.struct_size = sizeof acme_tls,
	.kind = SS_KIND_PROVIDER,
	.type = "acme_tls",
	.version = "1.0",
	.summary = "TLS certificates by ACME (RFC 8555), obtained and renewed automatically",
	.license = "MIT",
	.options = acme_options_table,
	.option_size = sizeof acme_options_table[0],
	.n_options = ACME_N_OPTIONS,
	.metrics = renewal_metrics,
	.metric_size = sizeof renewal_metrics[0],
	.n_metrics = RENEWAL_N_METRICS,
	.conf_size = sizeof(struct acme_conf),
	.create = create,
	.destroy = destroy,
	.start = start,
	.stop = stop,
	.extension = extension,
};

SS_REGISTER(&acme_tls);
