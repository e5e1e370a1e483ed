/* SPDX-License-Identifier: MIT */
/*
 * client - the account at the CA (RFC 8555 section 7.3): loaded, found by its key, made, its key changed,
 * closed; and the operations by it.  A key is on disk before the CA hears of it.
 */
#include <errno.h>
#include <stdio.h>
#include <gnutls/x509.h>
#include <jansson.h>
#include <semstreams/plugin.h>
#include <semstreams/base/url.h>
#include "client.h"
#include "plugins/identity/time_text.h"

#define SHORT_NS          (60 * SECOND) /* for what needs no validation */
#define REQUESTS_MAX      100           /* of an operation, and: */
#define REQUESTS_PER_NAME 10

static const char no_url[] = "the CA's reply has no account URL";

static const char *given(const char *text)
{
	return text ? text : "";
}

/* ---- what the store has */

static int account_save(struct client *c)
{
	if (store_account_save(c->o.store, &c->account) < 0)
		return client_fail(c, OBTAIN_STORAGE, false, "%s", store_why(c->o.store));
	return 0;
}

/* From the store; not needed: only to log what there is. */
static int account_load(struct client *c, bool needed)
{
	char why[256] = "out of memory";
	struct store_account *a = &c->account;
	store_account_done(a);
	*a = (struct store_account){0};
	key_free(c->key);
	c->key = NULL;
	int rc = store_account_load(c->o.store, a);
	bool of_this_ca = a->directory && url_same(a->directory, c->o.directory_url);
	if (rc == 0 && a->url && of_this_ca)
		client_log(c, SS_LOG_INFO, "ACME account loaded from storage email=%s", given(a->email));
	if (!needed)
		return 0;
	if (rc < 0 && rc != -ENOENT)
		return client_fail(c, OBTAIN_STORAGE, rc == -EINVAL, "%s", store_why(c->o.store));
	if (rc == 0 && !of_this_ca) {
		/* the key may have an account there, too */
		text_set(&a->url, NULL);
		json_decref(a->body);
		a->body = NULL;
	}
	c->registering = !a->url;
	if (rc == -ENOENT)
		return 0;
	if (!a->key_pem)
		return client_fail(c, OBTAIN_STORAGE, true, "account.key is missing in storage_path");
	rc = key_load(a->key_pem, strlen(a->key_pem), &c->key, why, sizeof why);
	if (rc < 0)
		return client_fail(c, rc == -ENOMEM ? OBTAIN_LOCAL : OBTAIN_STORAGE, rc == -EINVAL,
				   "account.key in storage_path: %s", why);
	return 0;
}

static int account_new_key(struct client *c)
{
	struct store_account *a = &c->account;
	if (key_new(&c->key) >= 0)
		a->key_pem = key_pem(c->key);
	if (!a->key_pem || !text_set(&a->directory, c->o.directory_url) || !text_set(&a->email, c->o.email))
		return client_fail(c, OBTAIN_LOCAL, false, "cannot generate a key");
	return account_save(c);
}

/* ---- what the CA says of it */

static int account_closed_by(struct client *c, enum message_status status)
{
	if (status != MESSAGE_DEACTIVATED && status != MESSAGE_REVOKED)
		return 0;
	return client_fail(c, OBTAIN_ACCOUNT, true,
			   "the account %s was deactivated; to register a new one remove account.json and "
			   "account.key from storage_path",
			   given(c->account.url));
}

/* Keep the account's state as the CA reports it. */
static int account_update(struct client *c, const char *url)
{
	struct store_account *a = &c->account;
	json_decref(a->body);
	a->body = json_incref(c->s.message);
	bool kept = text_set(&a->url, url) && text_set(&a->email, c->o.email) &&
		    text_set(&a->directory, c->o.directory_url);
	int rc = kept ? account_save(c) : client_no_memory(c);
	return rc ? rc : account_closed_by(c, message_status(c->s.message));
}

static json_t *contact(const struct client *c)
{
	const char *email = given(c->o.email);
	return *email ? json_pack("[s+]", "mailto:", email) : json_array();
}

/* Another address of the operator. */
static int account_contact(struct client *c)
{
	const char *email = given(c->o.email);
	client_doing(c, "updating the account's email address");
	int rc = session_ask(c, "account", c->account.url, json_pack("{so}", "contact", contact(c)),
			     &(struct ask){.how = ASK_MAY_REFUSE, .expect = MESSAGE_ACCOUNT, .repeat = 2});
	if (!rc && c->s.refusal) {
		client_log(
			c, SS_LOG_WARN,
			"ACME account keeps its old email, as the ACME server refuses the new one email=%s "
			"error=\"%s\"",
			email, c->s.refusal->text);
		return 0;
	}
	if (!rc)
		rc = account_update(c, c->account.url);
	if (!rc)
		client_log(c, SS_LOG_INFO, "ACME account updated email=%s", email);
	return rc;
}

static int account_check(struct client *c)
{
	int rc = account_closed_by(c, message_status(c->account.body));
	if (rc)
		return rc;
	return strcmp(given(c->account.email), given(c->o.email)) ? account_contact(c) : 0;
}

/* ---- registration */

static json_t *registration(struct client *c)
{
	json_t *json = json_pack("{sbso}", "termsOfServiceAgreed", 1, "contact", contact(c));
	char *eab = NULL;
	if (json && c->o.eab_kid &&
	    (jws_eab(c->key, c->o.eab_kid, c->o.eab_mac, member_text(c->s.directory, "newAccount"), &eab) <
		     0 ||
	     json_object_set_new(json, "externalAccountBinding", json_loads(eab, 0, NULL)) < 0)) {
		json_decref(json);
		json = NULL;
	}
	free(eab);
	return json;
}

static int ask_registration(struct client *c, bool only_look)
{
	json_t *payload = only_look ? json_pack("{sb}", "onlyReturnExisting", 1) : registration(c);
	if (!payload)
		return client_fail(c, OBTAIN_LOCAL, true,
				   "cannot write the registration: is the HMAC key of the external account "
				   "binding base64?");
	return session_ask(
		c, "newAccount", member_text(c->s.directory, "newAccount"), payload,
		&(struct ask){.how = ASK_BY_JWK | ASK_MAY_REFUSE, .expect = MESSAGE_ACCOUNT, .repeat = 2});
}

/* The account is named by its URL from now on, so it must be one that requests may be sent to. */
static int registered(struct client *c)
{
	const struct http_reply *reply = &c->s.reply;
	char url[MESSAGE_URL_MAX + 1], why[200];
	if (!reply->location || !message_url_ok(reply->location))
		return client_broken(c, no_url);
	if (url_check(c->o.directory_url, reply->location, why, sizeof why) < 0)
		return client_broken(c, "the account URL in the CA's reply %s", why);
	message_text(reply->location, url, sizeof url);
	int rc = account_update(c, url);
	if (rc)
		return rc;
	client_log(c, SS_LOG_INFO, "ACME account %s email=%s account_url=%s",
		   reply->status == 201 ? "created" : "found", given(c->o.email), url);
	c->registering = false;
	return 0;
}

static int account_register(struct client *c, bool known_key)
{
	static const char no_eab[] = "{\"type\":\"urn:ietf:params:acme:error:externalAccountRequired\"}";
	/* the binding to an external account is good for one registration: look for the account first */
	bool look_first = known_key && c->o.eab_kid;
	const json_t *meta = json_object_get(c->s.directory, "meta");
	c->registering = true;
	client_doing(c, "registering the account");
	if (json_is_true(json_object_get(meta, "externalAccountRequired")) && !c->o.eab_kid && !known_key) {
		problem_read(no_eab, sizeof no_eab - 1, 0, &c->s.problem);
		return client_refused(c, &c->s.problem);
	}
	int rc = ask_registration(c, look_first);
	if (!rc && look_first && c->s.refusal && problem_is(c->s.refusal, "accountDoesNotExist"))
		rc = ask_registration(c, false);
	if (rc)
		return rc;
	if (c->s.refusal && problem_is(c->s.refusal, "unauthorized") && known_key)
		return client_fail(c, OBTAIN_ACCOUNT, true,
				   "%s: if the account was deactivated, remove account.json and account.key "
				   "from storage_path to register a new one",
				   c->s.refusal->text);
	return c->s.refusal ? client_refused(c, c->s.refusal) : registered(c);
}

/* The CA does not know it any more: register its key again. */
static int account_lost(struct client *c)
{
	client_log(c, SS_LOG_WARN,
		   "ACME server no longer knows the account, registering its key again "
		   "account_url=%s",
		   c->account.url);
	text_set(&c->account.url, NULL);
	return account_save(c);
}

/* ---- a roll-over that was begun: which key does the CA know? */

static int pending_settle(struct client *c, bool taken)
{
	struct store_account *a = &c->account;
	if (taken) {
		key_free(c->key);
		c->key = c->new_key;
		key_text_free(a->key_pem);
		a->key_pem = a->pending_key_pem;
	} else {
		key_free(c->new_key);
		key_text_free(a->pending_key_pem);
	}
	c->new_key = NULL;
	a->pending_key_pem = NULL;
	int rc = account_save(c);
	if (!rc && taken)
		client_log(c, SS_LOG_INFO, "ACME account key changed account_url=%s", a->url);
	return rc;
}

/* Ask by the new key, which no account has unless the CA has taken it. */
static int pending_probe(struct client *c, bool *taken)
{
	const char *pem = c->account.pending_key_pem;
	char why[160] = "out of memory";
	if (!c->new_key && key_load(pem, strlen(pem), &c->new_key, why, sizeof why) < 0)
		return client_fail(c, OBTAIN_STORAGE, true,
				   "the new account key of an unfinished rollover cannot be read: %s", why);
	client_doing(c, "checking which account key the CA has");
	int rc = session_find_account(c, c->new_key, false);
	if (rc)
		return rc;
	if (!c->s.refusal && !c->s.reply.location)
		return client_broken(c, no_url);
	/* another account of that key is not ours */
	*taken = !c->s.refusal && url_same(c->s.reply.location, c->account.url);
	return pending_settle(c, *taken);
}

/* Have one that the CA knows. */
static int account_ready(struct client *c)
{
	bool taken, known_key = c->key != NULL;
	int rc = known_key ? 0 : account_new_key(c);
	if (!rc && !c->account.url)
		return account_register(c, known_key);
	if (!rc && c->account.pending_key_pem)
		rc = pending_probe(c, &taken);
	return rc ? rc : account_check(c);
}

/* ---- operations */

static int account_rollover(struct client *c)
{
	const char *url = member_text(c->s.directory, "keyChange");
	struct problem problem = {.text = "the CA has kept the old account key"};
	char *inner = NULL;
	bool taken;
	if (!url)
		return client_fail(c, OBTAIN_REFUSED, true, "the CA does not offer to change account keys");
	if (key_new(&c->new_key) >= 0)
		c->account.pending_key_pem = key_pem(c->new_key);
	if (!c->account.pending_key_pem)
		return client_fail(c, OBTAIN_LOCAL, false, "cannot generate a key");
	client_doing(c, "changing the account key");
	int rc = account_save(c);
	if (!rc && jws_key_change(c->key, c->new_key, c->account.url, url, &inner) < 0)
		rc = client_fail(c, OBTAIN_LOCAL, false, "cannot sign by the new key");
	if (!rc)
		rc = session_ask(c, "keyChange", url, json_loads(inner, 0, NULL),
				 &(struct ask){.how = ASK_MAY_REFUSE | ASK_MAY_BREAK});
	free(inner);
	if (rc)
		return rc;
	if (c->s.refusal)
		problem = *c->s.refusal;
	if (problem.status == 501)
		snprintf(problem.text, sizeof problem.text,
			 "the CA cannot change account keys, as step-ca cannot: to have another key, remove "
			 "account.json and account.key from storage_path");
	/* whatever the answer, which may be lost or somebody else's: what counts is which key the CA has */
	rc = pending_probe(c, &taken);
	return rc || taken ? rc : client_fail(c, OBTAIN_REFUSED, problem.permanent, "%s", problem.text);
}

static int account_deactivate(struct client *c)
{
	client_doing(c, "deactivating the account");
	int rc = session_ask(c, "account", c->account.url, json_pack("{ss}", "status", "deactivated"),
			     &(struct ask){.expect = MESSAGE_ACCOUNT, .repeat = 2});
	if (rc)
		return rc;
	if (message_status(c->s.message) != MESSAGE_DEACTIVATED)
		return client_broken(c, "the CA has not deactivated the account");
	json_decref(c->account.body);
	c->account.body = json_incref(c->s.message);
	rc = account_save(c);
	if (!rc)
		client_log(c, SS_LOG_INFO, "ACME account deactivated account_url=%s", c->account.url);
	return rc;
}

static int revoke_certificate(struct client *c)
{
	const char *text = given(c->q.chain_pem), *url = member_text(c->s.directory, "revokeCert");
	gnutls_datum_t pem = {(unsigned char *)text, (unsigned int)strlen(text)}, der = {0};
	if (!url)
		return client_fail(c, OBTAIN_REFUSED, true, "the CA does not offer to revoke certificates");
	if (gnutls_pem_base64_decode2("CERTIFICATE", &pem, &der) < 0)
		return client_fail(c, OBTAIN_LOCAL, true, "the certificate to revoke cannot be read");
	char *leaf = base64url(der.data, der.size);
	client_doing(c, "revoking the certificate");
	int rc = session_ask(c, "revokeCert", url,
			     json_pack("{sssi}", "certificate", leaf, "reason", c->q.reason),
			     &(struct ask){.passes = "alreadyRevoked", .repeat = 2});
	free(leaf);
	gnutls_free(der.data);
	return rc;
}

static int renewal_info(struct client *c)
{
	char url[MESSAGE_URL_MAX + CHAIN_ARI_ID + 2];
	const char *base = member_text(c->s.directory, "renewalInfo"), *id = c->q.ari_id;
	if (!id || !*id || strlen(id) >= CHAIN_ARI_ID)
		return client_fail(c, OBTAIN_LOCAL, true, "the certificate has no ARI identifier");
	if (!base)
		return client_fail(c, OBTAIN_REFUSED, true, "the CA does not offer renewal information");
	size_t len = strlen(base);
	snprintf(url, sizeof url, "%s%s%s", base, len && base[len - 1] == '/' ? "" : "/", id);
	client_doing(c, "asking for renewal information");
	int rc = session_ask(c, "renewalInfo", url, NULL,
			     &(struct ask){.how = ASK_GET, .expect = MESSAGE_RENEWAL, .repeat = 2});
	if (rc)
		return rc;
	const char *explanation = member_text(c->s.message, "explanationURL");
	c->ari_url = explanation ? strdup(explanation) : NULL;
	c->result = (struct obtain_result){.retry_after = c->s.retry_after, .ari_url = c->ari_url};
	message_window(c->s.message, &c->result.ari_start, &c->result.ari_end);
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
		client_fail(c, OBTAIN_ACCOUNT, false,
			    "the CA does not know the account %s that it has just confirmed", c->account.url);
	session_close(c);
}

static void on_challenge_asked(void *arg, const char *name_or_token, const char *peer)
{
	char name[96], from[64];
	message_text(name_or_token, name, sizeof name);
	message_text(given(peer), from, sizeof from);
	client_log(arg, SS_LOG_DEBUG, "ACME challenge asked for what=%s peer=%s", name, from);
}

struct client *client_run(const struct client_options *options, const struct client_request *request)
{
	struct client *c = calloc(1, sizeof *c);
	const struct responder_options responder = {
		.loop = options->loop,
		.alpn = options->challenge == ACME_TLS_ALPN_01,
		.address = given(options->challenge_address),
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
	ss_url_redact(options->directory_url, c->shown_url, sizeof c->shown_url);
	c->q = *request;
	c->failure = i < N_OPERATIONS ? operations[i].failure : request->operation;
	c->deadline = monotonic_now() + (i == 0 ? options->order_ns : SHORT_NS);
	c->requests_max = REQUESTS_MAX + REQUESTS_PER_NAME * (unsigned)options->n_names;
	if (i == N_OPERATIONS)
		client_fail(c, OBTAIN_LOCAL, true, "there is no such operation");
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
