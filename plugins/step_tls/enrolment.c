/* SPDX-License-Identifier: MIT */
/* enrolment - see enrolment.h. */
#include "enrolment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/ext/step-ca.h>
#include "plugins/identity/key.h"
#include "plugins/identity/time_text.h"
#include "plugins/identity/x509.h"

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

void enrolment_run(void *arg)
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

void enrolment_cancel(struct enrolment *e)
{
	step_ca_cancel(e->ca);
}

static char *copy(const char *text, bool *failed)
{
	char *out = text ? strdup(text) : NULL;
	*failed |= text && !out;
	return out;
}

int enrolment_new(const struct step_setup *setup, const struct stored_cert *old, bool revoked,
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

void enrolment_free(struct enrolment *e)
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
