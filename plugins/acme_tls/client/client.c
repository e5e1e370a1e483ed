/* SPDX-License-Identifier: MIT */
/*
 * client - the operations at a CA, from the account to the result; see client.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <gnutls/x509.h>
#include <jansson.h>
#include <semstreams/plugin.h>
#include "client.h"
#include "plugins/acme_tls/jws.h"

#define SHORT_NS          (60 * SECOND) /* for what needs no validation */
#define REQUESTS_MAX      100           /* of an operation, and: */
#define REQUESTS_PER_NAME 10

/* ---- operations */

struct operation {
	const char *failure;
	bool by_account; /* needs one */
	int (*step)(struct client *);
	uint64_t life_ns;
};

static int operation_steps(struct client *c, const struct operation *op)
{
	int rc = op->by_account ? account_load(c) : 0;
	client_doing(c, "asking for the CA's directory");
	if (!rc)
		rc = session_directory(c);
	if (!rc && op->by_account)
		rc = account_ready(c);
	return rc ? rc : op->step(c);
}

static const struct client_result *operate(struct client *c, const struct operation *op)
{
	c->failure = op->failure;
	c->deadline = now_ns() + op->life_ns;
	c->requests_max = REQUESTS_MAX + REQUESTS_PER_NAME * (unsigned)c->o.n_names;
	int rc = operation_steps(c, op);
	if (rc == -ENOKEY) {
		rc = account_lost(c);
		if (!rc)
			rc = operation_steps(c, op);
	}
	if (rc == -ENOKEY)
		client_fail(c, ACME_ACCOUNT, false,
			    "the CA does not know the account %s that it has just confirmed", c->account.url);
	uint64_t now = now_ns();
	if (c->result.fail && c->s.not_before > now)
		c->result.retry_after = (int64_t)((c->s.not_before - now + SECOND - 1) / SECOND);
	/* certificates are judged by the clock */
	if (session_skewed(c))
		client_log(c, SS_LOG_WARN,
			   "Clock of this machine differs from the ACME server's, set it right seconds=%lld",
			   (long long)-c->s.skew);
	if (c->order)
		challenges_retract(c);
	if (c->result.fail && op->step == order_issue)
		order_failed(c);
	return &c->result;
}

const struct client_result *client_issue(struct client *c, const char *old_ari_id, const char *old_key_pem)
{
	c->old_ari_id = old_ari_id && *old_ari_id ? old_ari_id : NULL;
	c->old_key_text = old_key_pem;
	return operate(c, &(struct operation){.failure = "failed to obtain certificate from ACME server",
					      .by_account = true,
					      .step = order_issue,
					      .life_ns = c->o.order_ns});
}

/* The request to revoke the first certificate of a chain; NULL: the chain cannot be read. */
static char *revocation(const char *chain_pem, int reason)
{
	gnutls_datum_t pem = {.data = (unsigned char *)chain_pem, .size = (unsigned int)strlen(chain_pem)};
	gnutls_datum_t der;
	if (gnutls_pem_base64_decode2("CERTIFICATE", &pem, &der) < 0)
		return NULL;
	char *leaf = base64url(der.data, der.size);
	gnutls_free(der.data);
	json_t *json = leaf ? json_pack("{sssi}", "certificate", leaf, "reason", reason) : NULL;
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	free(leaf);
	return text;
}

static int revoke_certificate(struct client *c)
{
	struct reply r;
	if (!c->s.directory.revoke_cert)
		return client_fail(c, ACME_REFUSED, true, "the CA does not offer to revoke certificates");
	char *payload = revocation(c->chain_pem, c->reason);
	if (!payload)
		return client_fail(c, ACME_LOCAL, true, "the certificate to revoke cannot be read");
	client_doing(c, "revoking the certificate");
	int rc = session_post(c, "revokeCert", c->s.directory.revoke_cert, payload, 2, &r);
	free(payload);
	if (!rc && r.problem && !problem_is(r.problem, "alreadyRevoked"))
		rc = client_refused(c, r.problem);
	return rc;
}

const struct client_result *client_revoke(struct client *c, const char *chain_pem, int reason)
{
	c->chain_pem = chain_pem;
	c->reason = reason;
	return operate(c, &(struct operation){.failure = "revocation failed",
					      .by_account = true,
					      .step = revoke_certificate,
					      .life_ns = SHORT_NS});
}

const struct client_result *client_rollover(struct client *c)
{
	return operate(c, &(struct operation){.failure = "account key rollover failed",
					      .by_account = true,
					      .step = account_rollover,
					      .life_ns = SHORT_NS});
}

const struct client_result *client_deactivate(struct client *c)
{
	return operate(c, &(struct operation){.failure = "account deactivation failed",
					      .by_account = true,
					      .step = account_deactivate,
					      .life_ns = SHORT_NS});
}

static int renewal_info(struct client *c)
{
	char url[MESSAGE_URL_MAX + CHAIN_ARI_ID + 2];
	const char *base = c->s.directory.renewal_info;
	struct message m;
	struct reply r;
	if (!base)
		return client_fail(c, ACME_REFUSED, true, "the CA does not offer renewal information");
	size_t len = strlen(base);
	snprintf(url, sizeof url, "%s%s%s", base, len && base[len - 1] == '/' ? "" : "/", c->ari_id);
	client_doing(c, "asking for renewal information");
	int rc = session_ask(c, &(struct ask){.what = "renewalInfo", .url = url, .repeat = 2}, &r);
	if (rc)
		return rc;
	if (r.problem)
		return client_refused(c, r.problem);
	rc = session_read(c, MESSAGE_RENEWAL, &r, &m);
	if (rc)
		return rc;
	c->ari_url = m.explanation ? strdup(m.explanation) : NULL;
	c->result = (struct client_result){.retry_after = c->s.retry_after,
					   .ari_start = m.start,
					   .ari_end = m.end,
					   .ari_url = c->ari_url};
	message_done(&m);
	return 0;
}

const struct client_result *client_ari(struct client *c, const char *ari_id)
{
	c->ari_id = ari_id;
	c->failure = "failed to get renewal information";
	if (!*ari_id || strlen(ari_id) >= CHAIN_ARI_ID) {
		client_fail(c, ACME_LOCAL, true, "the certificate has no ARI identifier");
		return &c->result;
	}
	return operate(c,
		       &(struct operation){.failure = c->failure, .step = renewal_info, .life_ns = SHORT_NS});
}

/* ---- the client */

static void on_challenge_asked(void *arg, const char *name_or_token, const char *peer)
{
	char name[96], from[64];
	message_text(name_or_token, name, sizeof name);
	message_text(peer ? peer : "", from, sizeof from);
	client_log(arg, SS_LOG_DEBUG, "ACME challenge asked for what=%s peer=%s", name, from);
}

int client_new(const struct client_options *options, struct client **out, char *why, size_t why_size)
{
	const struct responder_options responder = {
		.loop = options->loop,
		.address = options->challenge_address ? options->challenge_address : "",
		.port = options->challenge_port,
		.asked = on_challenge_asked,
		.arg = calloc(1, sizeof(struct client)),
	};
	struct client *c = responder.arg;
	snprintf(why, why_size, "out of memory");
	if (!c)
		return -ENOMEM;
	c->o = *options;
	int rc = session_open(c, why, why_size);
	if (!rc)
		rc = c->o.challenge == ACME_TLS_ALPN_01 ? responder_alpn_new(&responder, &c->responder)
							: responder_http_new(&responder, &c->responder);
	if (rc) {
		client_free(c);
		return rc;
	}
	account_announce(c);
	*out = c;
	return 0;
}

void client_free(struct client *c)
{
	if (!c)
		return;
	if (c->order)
		challenges_retract(c);
	order_free(c->order);
	session_close(&c->s);
	store_account_done(&c->account);
	key_free(c->key);
	key_free(c->new_key);
	responder_free(c->responder);
	free(c->ari_url);
	free(c);
}
