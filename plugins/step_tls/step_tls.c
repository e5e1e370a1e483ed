/* SPDX-License-Identifier: MIT */
/*
 * step_tls - a provider of TLS identities: keeps a valid certificate from step-ca in use, for machines that
 * cannot answer the challenges of ACME.  The first is obtained with a one-time token, and renewed with
 * itself. What does that is renewer.h; an attempt waits for the CA in a thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/job.h>
#include <semstreams/ext/step-ca.h>
#include <semstreams/sugar.h>
#include "options.h"
#include "plugins/identity/cert_command.h"
#include "plugins/identity/key.h"
#include "plugins/identity/obtain_result.h"
#include "plugins/identity/renewer.h"
#include "plugins/identity/store.h"
#include "plugins/identity/time_text.h"
#include "plugins/identity/x509.h"

/*
 * ---- enrolment: one attempt to obtain a certificate from step-ca, renewed with the one there is, over
 * mutual TLS, or else obtained with the one-time token.  It waits for the CA, so it runs in a thread of its
 * own ----
 */

/* What was asked of the CA, for counting. */
enum enrolment_request { ENROLMENT_ROOT, ENROLMENT_SIGN, ENROLMENT_RENEW, ENROLMENT_N_REQUESTS };

struct enrolment {
	/* the outcome, when enrolment_run() has returned; its texts are the enrolment's */
	struct obtain_result result;
	bool by_token; /* a token was used for it */
	unsigned requests[ENROLMENT_N_REQUESTS];

	/* the rest is its own */
	const struct step_setup *setup;
	struct step_ca *ca;
	bool can_renew;
	int64_t expired;           /* when the old one did; 0: it has not, or there is none */
	char *old_chain, *old_key; /* copies; NULL: none */
	char *token;
};

#define TOKEN_MAX (16u << 10)

/* A failure of this machine's, and what to do. */
__attribute__((format(printf, 4, 5))) static void fail(struct enrolment *e, enum obtain_fail fail,
						       bool permanent, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	vsnprintf(e->result.why, sizeof e->result.why, format, ap);
	va_end(ap);
	e->result.fail = fail;
	e->result.permanent = permanent;
}

/* What the CA's answer means for the next attempt. */
static void take_failure(struct enrolment *e, const struct step_ca_result *r)
{
	static const struct {
		enum obtain_fail fail;
		bool permanent;
	} meaning[] = {
		[STEP_CA_UNREACHABLE] = {OBTAIN_UNREACHABLE, false},
		[STEP_CA_BUSY] = {OBTAIN_RATE_LIMITED, false},
		[STEP_CA_UNTRUSTED] = {OBTAIN_REFUSED, true},
		[STEP_CA_TOKEN] = {OBTAIN_REFUSED, true},
		[STEP_CA_UNAUTHORIZED] = {OBTAIN_REFUSED, true},
		[STEP_CA_REFUSED] = {OBTAIN_REFUSED, true},
		[STEP_CA_BROKEN] = {OBTAIN_BROKEN, false},
		[STEP_CA_CANCELLED] = {OBTAIN_LOCAL, false},
		[STEP_CA_LOCAL] = {OBTAIN_LOCAL, false},
	};
	e->result.retry_after = r->retry_after;
	fail(e, meaning[r->fail].fail, meaning[r->fail].permanent, "%s", r->why);
}

/* Nothing is taken on trust that decides what is served.  Takes over chain. */
static void take_chain(struct enrolment *e, char *chain, const struct identity_key *key)
{
	const struct setup *s = &e->setup->common;
	char why[256] = "out of memory";
	int rc = chain_read(chain, strlen(chain), key, s->names, s->n_names, &e->result.chain, why,
			    sizeof why);
	if (rc == 0 && !(e->result.key_pem = key_pem(key)))
		rc = -ENOMEM;
	if (rc) {
		chain_done(&e->result.chain);
		fail(e, rc == -ENOMEM ? OBTAIN_LOCAL : OBTAIN_BROKEN, false,
		     "%s sent a certificate that cannot be used: %s", s->shown_url, why);
	}
	free(chain);
}

/* ---- with the certificate that there is ---- */

/* false: a token might help. */
static bool renew(struct enrolment *e)
{
	struct step_ca_result r;
	struct identity_key *key = NULL;
	char *chain = NULL, why[256] = "out of memory";
	if (key_load(e->old_key, strlen(e->old_key), &key, why, sizeof why)) {
		fail(e, OBTAIN_LOCAL, false, "the stored key cannot be used: %s", why);
		return true;
	}
	e->requests[ENROLMENT_RENEW]++;
	if (step_ca_renew(e->ca, e->old_chain, e->old_key, &chain, &r) == 0)
		take_chain(e, chain, key);
	else
		take_failure(e, &r);
	key_free(key);
	return r.fail != STEP_CA_UNAUTHORIZED;
}

/* ---- with a token ---- */

/* PEM, malloced; NULL: out of memory. */
static char *request_of(const struct enrolment *e, const struct identity_key *key)
{
	gnutls_datum_t der = {0}, pem = {0};
	char *out = NULL;
	if (csr_new(key, e->setup->common.names, e->setup->common.n_names, &der) == 0 &&
	    gnutls_pem_base64_encode2("CERTIFICATE REQUEST", &der, &pem) == 0)
		out = strndup((const char *)pem.data, pem.size);
	gnutls_free(der.data);
	gnutls_free(pem.data);
	return out;
}

static void enrol(struct enrolment *e)
{
	const struct step_conf *conf = e->setup->conf;
	struct step_ca_result r;
	struct identity_key *key = NULL;
	char lifetime[32], *chain = NULL;
	int rc = key_new(&key);
	char *request = rc == 0 ? request_of(e, key) : NULL;
	snprintf(lifetime, sizeof lifetime, "%" PRId64 "s", conf->lifetime / SETUP_SECOND);
	e->result = (struct obtain_result){.fail = OBTAIN_OK};
	if (!request) {
		fail(e, OBTAIN_LOCAL, false, "no key or certificate signing request can be made: %s",
		     strerror(rc ? -rc : ENOMEM));
	} else {
		e->by_token = true;
		e->requests[ENROLMENT_SIGN]++;
		if (step_ca_sign(e->ca, request, e->token, conf->lifetime ? lifetime : NULL, &chain, &r) == 0)
			take_chain(e, chain, key);
		else
			take_failure(e, &r);
	}
	free(request);
	key_free(key);
}

/* Is there a token?  Otherwise why_so, the failure that made one necessary, becomes "a token is needed". */
static bool read_token(struct enrolment *e)
{
	const struct step_conf *conf = e->setup->conf;
	const char *name = conf->token_file;
	size_t len = 0;
	int rc = 0;
	if (conf->token)
		e->token = strdup(conf->token);
	else if (name)
		rc = ss_file_read(AT_FDCWD, name, TOKEN_MAX, &e->token, &len, NULL);
	if (e->token)
		return true;
	char before[400] = "there is no certificate yet", need[300];
	if (e->result.fail != OBTAIN_OK)
		snprintf(before, sizeof before, "%.390s", e->result.why);
	else if (e->expired)
		snprintf(before, sizeof before,
			 "the certificate expired %s, and step-ca renews none that has",
			 time_text(e->expired).s);
	else if (e->old_chain)
		snprintf(before, sizeof before,
			 "the certificate was revoked, or is for other names than \"domains\"");
	if (name && rc == -ENOENT)
		snprintf(need, sizeof need, "put a new one-time token into %.200s and send SIGHUP", name);
	else if (name)
		snprintf(need, sizeof need, "the token in %.200s cannot be read: %s", name, strerror(-rc));
	else
		snprintf(need, sizeof need, "set token or token_file to a new one-time token");
	fail(e, OBTAIN_REFUSED, true, "%s: %s", before, need);
	return false;
}

/* ---- the whole ---- */

/* enrolment: a struct enrolment.  At most twice the timeout for each request. */
static void enrolment_run(void *arg)
{
	struct enrolment *e = arg;
	struct step_ca_result r;
	const char *fingerprint = e->setup->conf->fingerprint;
	if (!e->can_renew && !read_token(e))
		return;
	e->requests[ENROLMENT_ROOT] += fingerprint != NULL;
	if (fingerprint && step_ca_root(e->ca, fingerprint, NULL, &r)) {
		take_failure(e, &r);
		return;
	}
	if (e->can_renew && (renew(e) || !read_token(e)))
		return;
	enrol(e);
}

/* [any] While it runs: it ends at once. */
static void enrolment_cancel(struct enrolment *e)
{
	step_ca_cancel(e->ca);
}

static char *copy(const char *text, bool *failed)
{
	char *out = text ? strdup(text) : NULL;
	*failed |= text && !out;
	return out;
}

/* NULL is allowed; it must not be running. */
static void enrolment_free(struct enrolment *e)
{
	if (!e)
		return;
	step_ca_free(e->ca);
	chain_done(&e->result.chain);
	key_text_free(e->result.key_pem);
	key_text_free(e->old_key);
	key_text_free(e->token);
	free(e->old_chain);
	free(e);
}

/* old may be no certificate at all; ca_files: whom to trust where the settings do not say, NULL-ended,
 * borrowed. 0; -errno with why. */
static int enrolment_new(const struct step_setup *setup, const struct stored_cert *old, bool revoked,
			 const char *const *ca_files, struct enrolment **out, char *why, size_t why_size)
{
	const struct step_conf *conf = setup->conf;
	const char *const bundle[] = {conf->ca_bundle, NULL}, *const none[] = {NULL};
	const struct step_ca_options options = {.url = conf->ca_url,
						.ca_files = conf->ca_bundle     ? bundle
							    : conf->fingerprint ? none
										: ca_files,
						.ca_option = conf->fingerprint ? "fingerprint" : "ca_bundle",
						.timeout_ns = (uint64_t)conf->timeout};
	struct enrolment *e = calloc(1, sizeof *e);
	bool failed = false;
	int64_t now = wall_now();
	snprintf(why, why_size, "out of memory");
	if (!e)
		return -ENOMEM;
	e->setup = setup;
	e->old_chain = copy(old->exists ? old->chain.pem : NULL, &failed);
	e->old_key = copy(old->exists ? old->key_pem : NULL, &failed);
	e->expired = old->exists && now >= old->chain.not_after ? old->chain.not_after : 0;
	e->can_renew = old->exists && !e->expired && old->names_match && !revoked;
	int rc = failed ? -ENOMEM : step_ca_new(&options, &e->ca, why, why_size);
	if (rc) {
		enrolment_free(e);
		return rc;
	}
	*out = e;
	return 0;
}

/* ---- the provider ---- */

struct step_tls {
	struct renewed base;
	struct step_setup setup;
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
		t->base.host->metric_add(t->base.host, METRIC_REQUESTS + i, t->enrolment->requests[i]);
	if (t->enrolment->by_token && t->enrolment->result.fail == OBTAIN_OK)
		ss_log(t->base.host, SS_LOG_INFO, "One-time token was used and can be removed%s%s",
		       t->setup.conf->token_file ? " path=" : "",
		       t->setup.conf->token_file ? t->setup.conf->token_file : "");
	renewer_ended(t->base.renewer, &t->enrolment->result);
}

/* In the job's thread. */
static void on_done(void *arg)
{
	const struct step_tls *t = arg;
	void *self;
	const struct ss_loop *loop = renewer_loop(t->base.renewer, &self);
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
	rc = enrolment_new(&t->setup, renewer_cert(t->base.renewer), renewer_state(t->base.renewer)->revoked,
			   renewer_ca_files(t->base.renewer), &t->enrolment, why, why_size);
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
	struct cert_command c = {.host = t->base.host,
				 .setup = &t->setup.common,
				 .provider = &cert_provider,
				 .owner = &t->setup,
				 .ca_files = renewer_ca_files(t->base.renewer),
				 .print = print,
				 .arg = arg};
	return cert_command_run(&c, argc, argv);
}

/* ---- as a provider ---- */

static const struct ss_tls_provider provider = {
	.struct_size = sizeof provider,
	.identity = renewed_identity,
	.command = command,
	.retry = renewed_retry,
};

/* ---- life cycle ---- */

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct step_tls *t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	t->base = (struct renewed){.host = host, .setup = &t->setup.common, .provider = &provider};
	int32_t rc = step_setup_init(&t->setup, host, conf);
	return renewed_create(&t->base, &source, rc, self);
}

static int32_t start(void *self)
{
	struct step_tls *t = self;
	ss_log(t->base.host, SS_LOG_INFO, "Initializing step-ca client url=%s", t->setup.common.shown_url);
	return renewed_start(self);
}

static void stop(void *self)
{
	struct step_tls *t = self;
	renewed_stop(self);
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
	.destroy = renewed_destroy,
	.start = start,
	.stop = stop,
	.extension = renewed_extension,
};

SS_REGISTER(&step_tls);
