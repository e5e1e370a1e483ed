/* SPDX-License-Identifier: MIT */
/*
 * step_tls - a provider of TLS identities: keeps a valid certificate from step-ca in use, for machines that
 * cannot answer the challenges of ACME.  The first is obtained with a one-time token, and renewed with
 * itself. What does that is renewer.h; an attempt (enrolment.h) waits for the CA in a thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <semstreams/base/job.h>
#include <semstreams/sugar.h>
#include "enrolment.h"
#include "options.h"
#include "plugins/identity/cert_command.h"
#include "plugins/identity/renewer.h"

struct step_tls {
	const struct ss_host *host;
	struct step_setup setup;
	struct renewer *renewer;
	struct ss_job *job;          /* NULL: none was needed yet */
	struct enrolment *enrolment; /* NULL: none under way; the job's while that is busy */
};

#define REQUEST(word)                                                                                        \
	{                                                                                                    \
		"semstreams_step_requests_total", "Requests to step-ca, by kind.", "request=\"" word "\"",   \
			SS_METRIC_COUNTER, 0                                                                 \
	}

enum { METRIC_REQUESTS = RENEWER_N_METRICS, N_METRICS = METRIC_REQUESTS + ENROLMENT_N_REQUESTS };

static const struct ss_metric metrics[N_METRICS] = {
	RENEWER_METRICS("semstreams_step_"),
	[METRIC_REQUESTS + ENROLMENT_ROOT] = REQUEST("root"),
	[METRIC_REQUESTS + ENROLMENT_SIGN] = REQUEST("sign"),
	[METRIC_REQUESTS + ENROLMENT_RENEW] = REQUEST("renew"),
};

/* ---- an attempt ---- */

static void poll_enrolment(void *owner)
{
	struct step_tls *t = owner;
	if (!t->enrolment || !ss_job_take(t->job))
		return;
	for (uint32_t i = 0; i < ENROLMENT_N_REQUESTS; i++)
		t->host->metric_add(t->host, METRIC_REQUESTS + i, t->enrolment->requests[i]);
	if (t->enrolment->by_token && t->enrolment->result.fail == OBTAIN_OK)
		ss_log(t->host, SS_LOG_INFO, "One-time token was used and can be removed%s%s",
		       t->setup.conf->token_file ? " path=" : "",
		       t->setup.conf->token_file ? t->setup.conf->token_file : "");
	renewer_ended(t->renewer, &t->enrolment->result);
}

/* In the job's thread. */
static void on_done(void *arg)
{
	const struct step_tls *t = arg;
	void *self;
	const struct ss_loop *loop = renewer_loop(t->renewer, &self);
	loop->post(self, poll_enrolment, arg);
}

static int begin(void *owner, char *why, size_t why_size)
{
	struct step_tls *t = owner;
	int rc = t->job ? 0 : ss_job_new(&t->job, "step-ca", on_done, t);
	if (rc) {
		snprintf(why, why_size, "no thread can be started: %s", strerror(-rc));
		return rc;
	}
	rc = enrolment_new(&t->setup, renewer_cert(t->renewer), renewer_state(t->renewer)->revoked,
			   renewer_ca_files(t->renewer), &t->enrolment, why, why_size);
	if (rc == 0)
		ss_job_start(t->job, enrolment_run, t->enrolment);
	return rc;
}

static void end(void *owner)
{
	struct step_tls *t = owner;
	if (t->enrolment && ss_job_busy(t->job)) {
		enrolment_cancel(t->enrolment);
		ss_job_wait(t->job);
	}
	enrolment_free(t->enrolment);
	t->enrolment = NULL;
}

static const struct renewer_source source = {
	.name = "step-ca",
	.failed = "failed to obtain certificate from step-ca",
	.unopened = "storage cannot be used",
	.begin = begin,
	.poll = poll_enrolment,
	.end = end,
};

/* ---- "semstreams cert" ---- */

static int obtain(struct cert_command *c)
{
	struct obtain_result wrong = {.fail = OBTAIN_LOCAL};
	struct enrolment *enrolment = NULL;
	if (cert_command_has_to_wait(c))
		return EX_TEMPFAIL;
	if (enrolment_new(c->owner, &c->cert, c->state.revoked, c->ca_files, &enrolment, wrong.why,
			  sizeof wrong.why) == 0)
		enrolment_run(enrolment);
	int code = cert_command_ended(c, true, enrolment ? &enrolment->result : &wrong);
	enrolment_free(enrolment);
	return code;
}

static const struct cert_provider cert_provider = {
	.usage = "usage: semstreams cert VERB\n"
		 "  status [--json]            the certificate, its next renewal and the last error\n"
		 "  issue                      get a certificate unless there is one that fits\n"
		 "  renew [--force]            renew it if it is due, or in any case\n"
		 "Exit status: 0 done, 1 failed, 2 wrong usage, 75 try again later.\n",
	.url_word = "ca",
	.obtain = obtain,
};

static int32_t command(void *self, uint32_t argc, const char *const *argv,
		       void (*print)(void *arg, const char *text), void *arg)
{
	struct step_tls *t = self;
	struct cert_command c = {.host = t->host,
				 .setup = &t->setup.common,
				 .provider = &cert_provider,
				 .owner = &t->setup,
				 .ca_files = renewer_ca_files(t->renewer),
				 .print = print,
				 .arg = arg};
	return cert_command_run(&c, argc, argv);
}

/* ---- as a provider ---- */

static const char *identity(void *self)
{
	const struct step_tls *t = self;
	return t->setup.common.path;
}

static void retry(void *self)
{
	struct step_tls *t = self;
	renewer_retry(t->renewer);
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

/* ---- life cycle ---- */

static void destroy(void *self)
{
	struct step_tls *t = self;
	renewer_free(t->renewer);
	setup_done(&t->setup.common);
	free(t);
}

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct step_tls *t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	t->host = host;
	int32_t rc = step_setup_init(&t->setup, host, conf);
	if (rc == 0)
		rc = renewer_new(host, &t->setup.common, &source, t, &t->renewer);
	if (rc) {
		destroy(t);
		return rc;
	}
	*self = t;
	return 0;
}

static int32_t start(void *self)
{
	struct step_tls *t = self;
	ss_log(t->host, SS_LOG_INFO, "Initializing step-ca client url=%s", t->setup.common.shown_url);
	return renewer_start(t->renewer);
}

static void stop(void *self)
{
	struct step_tls *t = self;
	renewer_stop(t->renewer);
	ss_job_free(t->job);
	t->job = NULL;
}

static const struct ss_component step_tls = {
	.struct_size = sizeof step_tls,
	.kind = SS_KIND_PROVIDER,
	.type = "step_tls",
	.version = "1.0",
	.summary = "TLS certificates from step-ca by a one-time token, renewed automatically",
	.license = "MIT",
	.flags = SS_TELLS_PATHS,
	.options = step_options_table,
	.option_size = sizeof step_options_table[0],
	.n_options = STEP_N_OPTIONS,
	.metrics = metrics,
	.metric_size = sizeof metrics[0],
	.n_metrics = N_METRICS,
	.conf_size = sizeof(struct step_conf),
	.create = create,
	.destroy = destroy,
	.start = start,
	.stop = stop,
	.extension = extension,
};

SS_REGISTER(&step_tls);
