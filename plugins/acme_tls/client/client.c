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

#define SHORT_NS          (60 * SECOND) /* for what needs no validation */
#define REQUESTS_MAX      100           /* of an operation, and: */
#define REQUESTS_PER_NAME 10

/* ---- operations beside the account's and the order's */

/* The request to revoke the first certificate of a chain; NULL: the chain cannot be read. */
static char *revocation(const char *chain_pem, int reason)
{
	gnutls_datum_t pem = {.data = (unsigned char *)chain_pem, .size = (unsigned int)strlen(chain_pem)};
	gnutls_datum_t der;
	if (gnutls_pem_base64_decode2("CERTIFICATE", &pem, &der) < 0)
		return NULL;
	char *leaf = base64url(der.data, der.size);
	gnutls_free(der.data);
	char *text = leaf ? client_json(json_pack("{sssi}", "certificate", leaf, "reason", reason)) : NULL;
	free(leaf);
	return text;
}

static int revoke_certificate(struct client *c)
{
	struct reply r;
	if (!c->s.directory.revoke_cert)
		return client_fail(c, ACME_REFUSED, true, "the CA does not offer to revoke certificates");
	char *payload = c->q.chain_pem ? revocation(c->q.chain_pem, c->q.reason) : NULL;
	if (!payload)
		return client_fail(c, ACME_LOCAL, true, "the certificate to revoke cannot be read");
	client_doing(c, "revoking the certificate");
	int rc = session_post(c, "revokeCert", c->s.directory.revoke_cert, payload, 2, &r);
	free(payload);
	if (!rc && r.problem && !problem_is(r.problem, "alreadyRevoked"))
		rc = client_refused(c, r.problem);
	return rc;
}

static int renewal_info(struct client *c)
{
	char url[MESSAGE_URL_MAX + CHAIN_ARI_ID + 2];
	const char *base = c->s.directory.renewal_info, *id = c->q.ari_id;
	struct message m;
	struct reply r;
	if (!id || !*id || strlen(id) >= CHAIN_ARI_ID)
		return client_fail(c, ACME_LOCAL, true, "the certificate has no ARI identifier");
	if (!base)
		return client_fail(c, ACME_REFUSED, true, "the CA does not offer renewal information");
	size_t len = strlen(base);
	snprintf(url, sizeof url, "%s%s%s", base, len && base[len - 1] == '/' ? "" : "/", id);
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

/* ---- what all operations have in common */

struct operation {
	const char *name, *failure;
	bool by_account; /* needs one */
	int (*step)(struct client *);
};

static const struct operation operations[] = {
	{"issue", "failed to obtain certificate from ACME server", true, order_issue},
	{"revoke", "revocation failed", true, revoke_certificate},
	{"rollover", "account key rollover failed", true, account_rollover},
	{"deactivate", "account deactivation failed", true, account_deactivate},
	{"ari", "failed to get renewal information", false, renewal_info},
};
#define N_OPERATIONS (sizeof operations / sizeof *operations)

static int steps(struct client *c, const struct operation *op)
{
	int rc = account_load(c, op->by_account);
	if (!rc)
		rc = session_open(c);
	if (!rc && op->by_account)
		rc = account_ready(c);
	return rc ? rc : op->step(c);
}

static void operate(struct client *c, const struct operation *op)
{
	int rc = steps(c, op);
	if (rc == -ENOKEY) {
		rc = account_lost(c);
		if (!rc)
			rc = steps(c, op);
	}
	if (rc == -ENOKEY)
		client_fail(c, ACME_ACCOUNT, false,
			    "the CA does not know the account %s that it has just confirmed", c->account.url);
	session_close(c);
}

static void on_challenge_asked(void *arg, const char *name_or_token, const char *peer)
{
	char name[96], from[64];
	message_text(name_or_token, name, sizeof name);
	message_text(peer ? peer : "", from, sizeof from);
	client_log(arg, SS_LOG_DEBUG, "ACME challenge asked for what=%s peer=%s", name, from);
}

struct client *client_run(const struct client_options *options, const struct client_request *request)
{
	struct client *c = calloc(1, sizeof *c);
	const struct responder_options responder = {
		.loop = options->loop,
		.alpn = options->challenge == ACME_TLS_ALPN_01,
		.address = options->challenge_address ? options->challenge_address : "",
		.port = options->challenge_port,
		.asked = on_challenge_asked,
		.arg = c,
	};
	size_t i = 0;
	while (i < N_OPERATIONS && strcmp(operations[i].name, request->operation) != 0)
		i++;
	if (!c)
		return NULL;
	c->o = *options;
	c->q = *request;
	c->failure = i < N_OPERATIONS ? operations[i].failure : request->operation;
	c->deadline = now_ns() + (i == 0 ? options->order_ns : SHORT_NS);
	c->requests_max = REQUESTS_MAX + REQUESTS_PER_NAME * (unsigned)options->n_names;
	if (i == N_OPERATIONS)
		client_fail(c, ACME_LOCAL, true, "there is no such operation");
	else if (responder_new(&responder, &c->responder) < 0)
		client_no_memory(c);
	else
		operate(c, &operations[i]);
	return c;
}

void client_free(struct client *c)
{
	if (!c)
		return;
	order_free(c->order);
	store_account_done(&c->account);
	key_free(c->key);
	key_free(c->new_key);
	responder_free(c->responder);
	free(c->ari_url);
	free(c);
}
