/* SPDX-License-Identifier: MIT */
/*
 * account - the account at the CA (RFC 8555 section 7.3): loaded, found by its key, made, its key changed,
 * closed.  The key is on disk before the CA hears of it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include <semstreams/plugin.h>
#include "client.h"
#include "url.h"

static bool text_set(char **to, const char *from)
{
	char *copy = from ? strdup(from) : NULL;
	if (from && !copy)
		return false;
	free(*to);
	*to = copy;
	return true;
}

static const char *email(const struct client *c)
{
	return c->o.email ? c->o.email : "";
}

static int account_save(struct client *c)
{
	if (store_account_save(c->o.store, &c->account) < 0)
		return client_fail(c, ACME_STORAGE, false, "%s", store_why(c->o.store));
	return 0;
}

static bool is_closed(enum message_status status)
{
	return status == MESSAGE_DEACTIVATED || status == MESSAGE_REVOKED;
}

static int account_closed(struct client *c)
{
	return client_fail(c, ACME_ACCOUNT, true,
			   "the account %s was deactivated; to register a new one remove account.json and "
			   "account.key from storage_path",
			   c->account.url ? c->account.url : "");
}

int account_load(struct client *c, bool needed)
{
	char why[256] = "out of memory";
	store_account_done(&c->account);
	c->account = (struct store_account){0};
	key_free(c->key);
	c->key = NULL;
	int rc = store_account_load(c->o.store, &c->account);
	bool of_this_ca = c->account.directory && url_same(c->account.directory, c->o.directory_url);
	if (rc == 0 && c->account.url && of_this_ca)
		client_log(c, SS_LOG_INFO, "ACME account loaded from storage email=%s",
			   c->account.email ? c->account.email : "");
	if (!needed)
		return 0;
	if (rc < 0 && rc != -ENOENT)
		return client_fail(c, ACME_STORAGE, rc == -EINVAL, "%s", store_why(c->o.store));
	if (rc == 0 && !of_this_ca) {
		/* the key may have an account there, too */
		text_set(&c->account.url, NULL);
		text_set(&c->account.body, "{}");
	}
	c->registering = !c->account.url;
	if (rc == -ENOENT)
		return 0;
	if (!c->account.key_pem)
		return client_fail(c, ACME_STORAGE, true, "account.key is missing in storage_path");
	rc = key_load(c->account.key_pem, strlen(c->account.key_pem), &c->key, why, sizeof why);
	if (rc < 0)
		return client_fail(c, rc == -ENOMEM ? ACME_LOCAL : ACME_STORAGE, rc == -EINVAL,
				   "account.key in storage_path: %s", why);
	return 0;
}

/* ---- registration */

static int account_new_key(struct client *c)
{
	if (key_new(&c->key) >= 0)
		c->account.key_pem = key_pem(c->key);
	if (!c->account.key_pem || !text_set(&c->account.directory, c->o.directory_url) ||
	    !text_set(&c->account.email, c->o.email) || !text_set(&c->account.body, "{}"))
		return client_fail(c, ACME_LOCAL, false, "cannot generate a key");
	return account_save(c);
}

static json_t *contact(const struct client *c)
{
	return *email(c) ? json_pack("[s+]", "mailto:", email(c)) : json_array();
}

/* Keep the account's state as the CA reports it. */
static int account_update(struct client *c, const struct reply *reply, const char *url)
{
	struct message m;
	int rc = session_read(c, MESSAGE_ACCOUNT, reply, &m);
	if (rc)
		return rc;
	char *body = json_dumps(m.json, JSON_COMPACT);
	message_done(&m);
	bool kept = body && text_set(&c->account.body, body) && text_set(&c->account.url, url) &&
		    text_set(&c->account.email, c->o.email) &&
		    text_set(&c->account.directory, c->o.directory_url);
	free(body);
	rc = kept ? account_save(c) : client_no_memory(c);
	return !rc && is_closed(m.status) ? account_closed(c) : rc;
}

static char *registration(struct client *c, bool only_look)
{
	char *eab = NULL;
	json_t *json = only_look ? json_pack("{sb}", "onlyReturnExisting", 1)
				 : json_pack("{sbso}", "termsOfServiceAgreed", 1, "contact", contact(c));
	if (json && !only_look && c->o.eab_kid) {
		if (jws_eab(c->key, c->o.eab_kid, c->o.eab_mac, c->s.directory.new_account, &eab) < 0 ||
		    json_object_set_new(json, "externalAccountBinding", json_loads(eab, 0, NULL)) < 0) {
			json_decref(json);
			json = NULL;
		}
		free(eab);
	}
	return client_json(json);
}

static int ask_registration(struct client *c, bool only_look, struct reply *r)
{
	char *payload = registration(c, only_look);
	if (!payload)
		return client_fail(c, ACME_LOCAL, true,
				   "cannot write the registration: is the HMAC key of the external account "
				   "binding base64?");
	int rc = session_ask(c,
			     &(struct ask){.what = "newAccount",
					   .url = c->s.directory.new_account,
					   .payload = payload,
					   .by_jwk = true,
					   .repeat = 2},
			     r);
	free(payload);
	return rc;
}

/* The account is named by its URL from now on, so it must be one that requests may be sent to. */
static int registered(struct client *c, const struct reply *reply)
{
	char url[MESSAGE_URL_MAX + 1], why[200];
	if (!reply->http->location || !message_url_ok(reply->http->location))
		return client_fail(c, ACME_BROKEN, false, "the CA's reply has no account URL");
	if (url_check(c->o.directory_url, reply->http->location, why, sizeof why) < 0)
		return client_fail(c, ACME_BROKEN, false, "the account URL in the CA's reply %s", why);
	message_text(reply->http->location, url, sizeof url);
	int rc = account_update(c, reply, url);
	if (rc)
		return rc;
	client_log(c, SS_LOG_INFO, "ACME account %s email=%s account_url=%s",
		   reply->http->status == 201 ? "created" : "found", email(c), url);
	c->registering = false;
	return 0;
}

static int account_register(struct client *c, bool known_key)
{
	/* the binding to an external account is good for one registration: look for the account first */
	bool look_first = known_key && c->o.eab_kid;
	char text[512];
	struct reply r;
	c->registering = true;
	client_doing(c, "registering the account");
	if (c->s.directory.eab_required && !c->o.eab_kid && !known_key)
		return client_refused(c, &(struct problem){.main = {.type = "externalAccountRequired"}});
	int rc = ask_registration(c, look_first, &r);
	if (!rc && look_first && r.problem && problem_is(r.problem, "accountDoesNotExist"))
		rc = ask_registration(c, false, &r);
	if (rc)
		return rc;
	if (r.problem && problem_is(r.problem, "unauthorized") && known_key) {
		problem_text(r.problem, text, sizeof text);
		return client_fail(c, ACME_ACCOUNT, true,
				   "%s: if the account was deactivated, remove account.json and account.key "
				   "from storage_path to register a new one",
				   text);
	}
	return r.problem ? client_refused(c, r.problem) : registered(c, &r);
}

int account_lost(struct client *c)
{
	client_log(c, SS_LOG_WARN,
		   "ACME server no longer knows the account, registering its key again "
		   "account_url=%s",
		   c->account.url);
	text_set(&c->account.url, NULL);
	return account_save(c);
}

/* ---- another address of the operator */

static int account_contact(struct client *c)
{
	char *payload = client_json(json_pack("{so}", "contact", contact(c)));
	char text[512], url[MESSAGE_URL_MAX + 1];
	struct reply r;
	if (!payload)
		return client_no_memory(c);
	client_doing(c, "updating the account's email address");
	int rc = session_post(c, "account", c->account.url, payload, 2, &r);
	free(payload);
	if (rc)
		return rc;
	if (r.problem) {
		problem_text(r.problem, text, sizeof text);
		client_log(
			c, SS_LOG_WARN,
			"ACME account keeps its old email, as the ACME server refuses the new one email=%s "
			"error=\"%s\"",
			email(c), text);
		return 0;
	}
	message_text(c->account.url, url, sizeof url);
	rc = account_update(c, &r, url);
	if (!rc)
		client_log(c, SS_LOG_INFO, "ACME account updated email=%s", email(c));
	return rc;
}

static int account_check(struct client *c)
{
	const char *body = c->account.body ? c->account.body : "{}";
	struct message m;
	char why[8];
	/* "{}": the state is not known */
	if (message_read(MESSAGE_ACCOUNT, body, strlen(body), &m, why, sizeof why) == 0) {
		message_done(&m);
		if (is_closed(m.status))
			return account_closed(c);
	}
	return strcmp(c->account.email ? c->account.email : "", email(c)) ? account_contact(c) : 0;
}

/* ---- a roll-over that was begun: which key does the CA know? */

static int pending_settle(struct client *c, bool taken)
{
	if (taken) {
		key_free(c->key);
		c->key = c->new_key;
		c->new_key = NULL;
		key_text_free(c->account.key_pem);
		c->account.key_pem = c->account.pending_key_pem;
	} else {
		key_text_free(c->account.pending_key_pem);
	}
	c->account.pending_key_pem = NULL;
	key_free(c->new_key);
	c->new_key = NULL;
	int rc = account_save(c);
	if (!rc && taken)
		client_log(c, SS_LOG_INFO, "ACME account key changed account_url=%s", c->account.url);
	return rc;
}

/* Ask by the new key, which no account has unless the CA has taken it. */
static int pending_probe(struct client *c, bool *taken)
{
	const char *pem = c->account.pending_key_pem;
	char why[160] = "out of memory";
	struct reply r;
	if (!c->new_key && key_load(pem, strlen(pem), &c->new_key, why, sizeof why) < 0)
		return client_fail(c, ACME_STORAGE, true,
				   "the new account key of an unfinished rollover cannot be read: %s", why);
	client_doing(c, "checking which account key the CA has");
	int rc = session_ask(c,
			     &(struct ask){.what = "newAccount",
					   .url = c->s.directory.new_account,
					   .payload = "{\"onlyReturnExisting\":true}",
					   .key = c->new_key,
					   .by_jwk = true,
					   .repeat = 2},
			     &r);
	if (rc)
		return rc;
	if (r.problem && !problem_is(r.problem, "accountDoesNotExist"))
		return client_refused(c, r.problem);
	if (!r.problem && !r.http->location)
		return client_fail(c, ACME_BROKEN, false, "the CA's reply has no account URL");
	/* another account of that key is not ours */
	*taken = !r.problem && url_same(r.http->location, c->account.url);
	return pending_settle(c, *taken);
}

int account_ready(struct client *c)
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

int account_rollover(struct client *c)
{
	const char *url = c->s.directory.key_change;
	char *payload = NULL, refused[400] = "the CA has kept the old account key";
	bool for_good = false, taken;
	struct reply r;
	if (!url)
		return client_fail(c, ACME_REFUSED, true, "the CA does not offer to change account keys");
	if (key_new(&c->new_key) >= 0)
		c->account.pending_key_pem = key_pem(c->new_key);
	if (!c->account.pending_key_pem ||
	    jws_key_change(c->key, c->new_key, c->account.url, url, &payload) < 0)
		return client_fail(c, ACME_LOCAL, false, "cannot generate a key");
	client_doing(c, "changing the account key");
	int rc = account_save(c);
	if (!rc)
		rc = session_ask(
			c,
			&(struct ask){.what = "keyChange", .url = url, .payload = payload, .may_break = true},
			&r);
	free(payload);
	if (rc)
		return rc;
	if (r.problem && r.problem->status == 501)
		snprintf(refused, sizeof refused,
			 "the CA cannot change account keys, as step-ca cannot: to have another key, remove "
			 "account.json and account.key from storage_path");
	else if (r.problem)
		problem_text(r.problem, refused, sizeof refused);
	for_good = r.problem && problem_permanent(r.problem);
	/* whatever the answer, which may be lost or somebody else's: what counts is which key the CA has */
	rc = pending_probe(c, &taken);
	return rc || taken ? rc : client_fail(c, ACME_REFUSED, for_good, "%s", refused);
}

int account_deactivate(struct client *c)
{
	struct message m;
	char url[MESSAGE_URL_MAX + 1];
	struct reply r;
	client_doing(c, "deactivating the account");
	int rc = session_post(c, "account", c->account.url, "{\"status\":\"deactivated\"}", 2, &r);
	if (rc)
		return rc;
	if (r.problem)
		return client_refused(c, r.problem);
	rc = session_read(c, MESSAGE_ACCOUNT, &r, &m);
	if (rc)
		return rc;
	message_done(&m);
	if (m.status != MESSAGE_DEACTIVATED)
		return client_fail(c, ACME_BROKEN, false, "the CA has not deactivated the account");
	message_text(c->account.url, url, sizeof url);
	if (!text_set(&c->account.body, "{\"status\":\"deactivated\"}"))
		return client_no_memory(c);
	rc = account_save(c);
	if (!rc)
		client_log(c, SS_LOG_INFO, "ACME account deactivated account_url=%s", url);
	return rc;
}
