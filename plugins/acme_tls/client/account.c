/* SPDX-License-Identifier: MIT */
/*
 * account - the account at the CA (RFC 8555 section 7.3): loaded, found by its key, made, its key changed,
 * closed.  The key is on disk before the CA hears of it.  On the client's loop.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <jansson.h>
#include <semstreams/plugin.h>
#include "client.h"
#include "plugins/acme_tls/jws.h"

static bool text_set(char **to, const char *from)
{
	char *copy = from ? strdup(from) : NULL;
	if (from && !copy)
		return false;
	free(*to);
	*to = copy;
	return true;
}

bool account_save(struct acme *a)
{
	char why[256] = "out of memory";
	if (store_account_save(a->o.store, &a->account, why, sizeof why) >= 0)
		return true;
	errand_fail(a, ACME_STORAGE, false, "%s", why);
	return false;
}

/* Its state at the CA, as last heard. */
static enum message_status account_status(const struct acme *a)
{
	struct message_account m;
	char why[8];
	if (!a->account.body ||
	    message_account(a->account.body, strlen(a->account.body), &m, why, sizeof why) < 0)
		return MESSAGE_VALID; /* "{}": not known */
	message_done(&m.json);
	return m.status;
}

static void account_closed(struct acme *a)
{
	errand_fail(a, ACME_ACCOUNT, true,
		    "the account %s was deactivated; to register a new one remove account.json and "
		    "account.key from storage_path",
		    a->account.url ? a->account.url : "");
}

bool account_load(struct acme *a)
{
	char why[256] = "out of memory";
	if (a->has_account)
		store_account_done(&a->account);
	a->has_account = false;
	a->account = (struct store_account){0};
	key_free(a->key);
	a->key = NULL;
	int err = store_account_load(a->o.store, &a->account, why, sizeof why);
	if (err == -ENOENT) {
		a->e.registering = true;
		return true;
	}
	if (err < 0) {
		errand_fail(a, ACME_STORAGE, err == -EINVAL, "%s", why);
		return false;
	}
	a->has_account = true;
	if (!a->account.directory || strcmp(a->account.directory, a->o.directory_url) != 0) {
		/* another CA: the key may have an account there, too */
		text_set(&a->account.url, NULL);
		text_set(&a->account.body, "{}");
	}
	a->e.registering = !a->account.url;
	err = a->account.key_pem
		      ? key_load(a->account.key_pem, strlen(a->account.key_pem), &a->key, why, sizeof why)
		      : -EINVAL;
	if (err < 0) {
		errand_fail(a, err == -ENOMEM ? ACME_LOCAL : ACME_STORAGE, err == -EINVAL,
			    "account.key in storage_path: %s", a->account.key_pem ? why : "missing");
		return false;
	}
	return true;
}

/* ---- registration */

static bool account_new_key(struct acme *a)
{
	a->account = (struct store_account){0};
	a->has_account = true;
	if (key_new(&a->key) >= 0)
		a->account.key_pem = key_pem(a->key);
	if (!a->account.key_pem || !text_set(&a->account.directory, a->o.directory_url) ||
	    !text_set(&a->account.email, a->o.email) || !text_set(&a->account.body, "{}")) {
		errand_fail(a, ACME_LOCAL, false, "no key can be made");
		return false;
	}
	return account_save(a);
}

static json_t *contact(const struct acme *a)
{
	return a->o.email && *a->o.email ? json_pack("[s+]", "mailto:", a->o.email) : json_array();
}

/* The account's state, as the CA tells it, is kept; false: the errand has ended. */
static bool account_keep(struct acme *a, const struct http_reply *reply, const char *url)
{
	struct message_account m;
	char why[256] = "out of memory", *body = NULL;
	int err = message_account(reply->body, reply->len, &m, why, sizeof why);
	if (err < 0) {
		errand_fail(a, err == -ENOMEM ? ACME_LOCAL : ACME_BROKEN, false, "%s", why);
		return false;
	}
	body = json_dumps(m.json, JSON_COMPACT);
	enum message_status status = m.status;
	message_done(&m.json);
	bool kept = body && text_set(&a->account.body, body) && text_set(&a->account.url, url) &&
		    text_set(&a->account.email, a->o.email) &&
		    text_set(&a->account.directory, a->o.directory_url);
	free(body);
	if (!kept) {
		errand_fail(a, ACME_LOCAL, false, "out of memory");
		return false;
	}
	if (!account_save(a))
		return false;
	if (status == MESSAGE_DEACTIVATED || status == MESSAGE_REVOKED) {
		account_closed(a);
		return false;
	}
	return true;
}

static void account_register(struct acme *);

/* The account is named by its URL from now on, so it must not be one that no request would be sent to. */
static bool is_at_ca(const struct acme *a, const char *url)
{
	const char *directory = a->o.directory_url, *host = strstr(directory, "://");
	size_t len = host ? (size_t)(host - directory) + 3 + strcspn(host + 3, "/?#") : 0;
	return len && strncasecmp(url, directory, len) == 0 && url[len] == '/';
}

static void on_new_account(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	char url[MESSAGE_URL_MAX + 1];
	if (problem && problem_is(problem, "accountDoesNotExist")) {
		/* only looked for so far: the binding to an external account is good for one registration */
		a->e.looked_for = true;
		account_register(a);
		return;
	}
	if (problem && problem_is(problem, "unauthorized") && a->e.known_key) {
		char text[512];
		problem_text(problem, text, sizeof text);
		errand_fail(a, ACME_ACCOUNT, true,
			    "%s: if the account was deactivated, remove account.json and account.key from "
			    "storage_path to register a new one",
			    text);
		return;
	}
	if (problem) {
		errand_refused(a, problem);
		return;
	}
	if (!reply->location || !message_url_ok(reply->location)) {
		errand_fail(a, ACME_BROKEN, false, "the CA does not tell the account's URL");
		return;
	}
	if (!is_at_ca(a, reply->location)) {
		errand_fail(a, ACME_BROKEN, false,
			    "the CA tells an account's URL that is not at the host of directory_url");
		return;
	}
	message_text(reply->location, url, sizeof url);
	if (!account_keep(a, reply, url))
		return;
	acme_log(a, SS_LOG_INFO, "ACME account %s email=%s account_url=%s",
		 reply->status == 201 ? "created" : "found", a->o.email ? a->o.email : "", url);
	a->told_account = true;
	a->e.registering = false;
	a->after_account(a);
}

static char *registration(struct acme *a, bool only_look)
{
	char *text = NULL, *eab = NULL;
	json_t *json = only_look ? json_pack("{sb}", "onlyReturnExisting", 1)
				 : json_pack("{sbso}", "termsOfServiceAgreed", 1, "contact", contact(a));
	if (json && !only_look && a->o.eab_kid) {
		if (jws_eab(a->key, a->o.eab_kid, a->o.eab_mac, a->s.directory.new_account, &eab) < 0 ||
		    json_object_set_new(json, "externalAccountBinding", json_loads(eab, 0, NULL)) < 0) {
			json_decref(json);
			json = NULL;
		}
		free(eab);
	}
	if (json)
		text = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	return text;
}

static void account_register(struct acme *a)
{
	a->e.registering = true;
	errand_doing(a, "registering the account");
	if (a->s.directory.eab_required && !a->o.eab_kid && !a->e.known_key) {
		struct problem problem = {.main = {.type = "externalAccountRequired"}};
		errand_refused(a, &problem);
		return;
	}
	bool only_look = a->e.known_key && !a->e.looked_for && a->o.eab_kid;
	char *payload = registration(a, only_look);
	if (!payload) {
		errand_fail(a, ACME_LOCAL, true,
			    "the registration cannot be written: is the HMAC key of the external account "
			    "binding base64url?");
		return;
	}
	session_ask(a, &(struct ask){.what = "newAccount",
				     .url = a->s.directory.new_account,
				     .payload = payload,
				     .by_jwk = true,
				     .repeat = 2,
				     .then = on_new_account});
	free(payload);
}

void account_lost(struct acme *a)
{
	if (a->e.restarted) {
		errand_fail(a, ACME_ACCOUNT, false,
			    "the CA does not know the account %s that it has just confirmed", a->account.url);
		return;
	}
	acme_log(a, SS_LOG_WARN,
		 "ACME account is not known to the ACME server any more, registering its key again "
		 "account_url=%s",
		 a->account.url);
	text_set(&a->account.url, NULL);
	if (account_save(a))
		errand_restart(a);
}

/* ---- another address of the operator */

static void on_contact(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	char text[512], url[MESSAGE_URL_MAX + 1];
	if (problem) {
		problem_text(problem, text, sizeof text);
		acme_log(a, SS_LOG_WARN,
			 "ACME account keeps its old email, as the ACME server refuses the new one email=%s "
			 "error=\"%s\"",
			 a->o.email ? a->o.email : "", text);
		a->after_account(a);
		return;
	}
	message_text(a->account.url, url, sizeof url);
	if (!account_keep(a, reply, url))
		return;
	acme_log(a, SS_LOG_INFO, "ACME account updated email=%s", a->o.email ? a->o.email : "");
	a->after_account(a);
}

static void account_contact(struct acme *a)
{
	json_t *json = json_pack("{so}", "contact", contact(a));
	char *payload = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	if (!payload) {
		errand_fail(a, ACME_LOCAL, false, "out of memory");
		return;
	}
	errand_doing(a, "telling the CA another email address");
	session_ask(a, &(struct ask){.what = "account",
				     .url = a->account.url,
				     .payload = payload,
				     .repeat = 2,
				     .then = on_contact});
	free(payload);
}

static void account_check(struct acme *a)
{
	bool email_same = !strcmp(a->account.email ? a->account.email : "", a->o.email ? a->o.email : "");
	enum message_status status = account_status(a);
	if (status == MESSAGE_DEACTIVATED || status == MESSAGE_REVOKED) {
		account_closed(a);
		return;
	}
	if (!a->told_account)
		acme_log(a, SS_LOG_INFO, "ACME account loaded from storage email=%s",
			 a->account.email ? a->account.email : "");
	a->told_account = true;
	if (email_same)
		a->after_account(a);
	else
		account_contact(a);
}

/* ---- a roll-over that was begun: which key does the CA know? */

static bool pending_settle(struct acme *a, bool taken)
{
	if (taken) {
		key_free(a->key);
		a->key = a->new_key;
		a->new_key = NULL;
		key_text_free(a->account.key_pem);
		a->account.key_pem = a->account.pending_key_pem;
	} else {
		key_text_free(a->account.pending_key_pem);
	}
	a->account.pending_key_pem = NULL;
	key_free(a->new_key);
	a->new_key = NULL;
	if (!account_save(a))
		return false;
	if (taken)
		acme_log(a, SS_LOG_INFO, "ACME account key changed account_url=%s", a->account.url);
	return true;
}

static void on_probe(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	if (problem && !problem_is(problem, "accountDoesNotExist")) {
		errand_refused(a, problem);
		return;
	}
	if (!problem && !reply->location) {
		errand_fail(a, ACME_BROKEN, false, "the CA does not tell the account's URL");
		return;
	}
	/* another account of that key is not ours */
	bool taken = !problem && !strcmp(reply->location, a->account.url);
	if (!pending_settle(a, taken))
		return;
	if (a->after_probe)
		a->after_probe(a, taken);
	else
		account_check(a);
}

/* Ask by the new key, which no account has unless the CA has taken it. */
static void pending_probe(struct acme *a, void (*then)(struct acme *, bool taken))
{
	char why[160] = "out of memory";
	a->after_probe = then;
	if (!a->new_key && key_load(a->account.pending_key_pem, strlen(a->account.pending_key_pem),
				    &a->new_key, why, sizeof why) < 0) {
		errand_fail(a, ACME_STORAGE, true,
			    "the account key of a change that was begun cannot be read: %s", why);
		return;
	}
	errand_doing(a, "asking which account key the CA has");
	session_ask(a, &(struct ask){.what = "newAccount",
				     .url = a->s.directory.new_account,
				     .payload = "{\"onlyReturnExisting\":true}",
				     .key = a->new_key,
				     .by_jwk = true,
				     .repeat = 2,
				     .then = on_probe});
}

void account_ready(struct acme *a, acme_step *then)
{
	a->after_account = then;
	a->e.looked_for = false;
	a->e.known_key = a->has_account;
	if (!a->has_account) {
		if (account_new_key(a))
			account_register(a);
	} else if (!a->account.url) {
		account_register(a);
	} else if (a->account.pending_key_pem) {
		pending_probe(a, NULL);
	} else {
		account_check(a);
	}
}

/* ---- errands */

static void rollover_end(struct acme *a, bool taken)
{
	struct acme_result result = {0};
	if (taken)
		errand_end(a, &result);
	else if (a->e.refused[0])
		errand_fail(a, ACME_REFUSED, a->e.refused_for_good, "%s", a->e.refused);
	else
		errand_fail(a, ACME_REFUSED, false, "the CA has kept the old account key");
}

/* Whatever the answer, what counts is which key the CA has: an answer may be lost or somebody else's. */
static void on_key_change(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	(void)reply;
	a->e.refused[0] = '\0';
	if (problem && problem->status == 501)
		snprintf(a->e.refused, sizeof a->e.refused,
			 "the CA cannot change account keys, as step-ca cannot: to have another key, remove "
			 "account.json and account.key from storage_path");
	else if (problem)
		problem_text(problem, a->e.refused, sizeof a->e.refused);
	a->e.refused_for_good = problem && problem_permanent(problem);
	pending_probe(a, rollover_end);
}

void account_rollover(struct acme *a)
{
	char *payload = NULL;
	if (!a->s.directory.key_change) {
		errand_fail(a, ACME_REFUSED, true, "the CA does not offer to change account keys");
		return;
	}
	if (key_new(&a->new_key) >= 0)
		a->account.pending_key_pem = key_pem(a->new_key);
	if (!a->account.pending_key_pem ||
	    jws_key_change(a->key, a->new_key, a->account.url, a->s.directory.key_change, &payload) < 0) {
		errand_fail(a, ACME_LOCAL, false, "no key can be made");
		return;
	}
	errand_doing(a, "changing the account key");
	if (account_save(a))
		session_ask(a, &(struct ask){.what = "keyChange",
					     .url = a->s.directory.key_change,
					     .payload = payload,
					     .may_break = true,
					     .then = on_key_change});
	free(payload);
}

static void on_deactivated(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	struct acme_result result = {0};
	struct message_account m;
	char url[MESSAGE_URL_MAX + 1], why[256] = "out of memory";
	if (problem) {
		errand_refused(a, problem);
		return;
	}
	int err = message_account(reply->body, reply->len, &m, why, sizeof why);
	message_done(&m.json);
	if (err < 0 || m.status != MESSAGE_DEACTIVATED) {
		errand_fail(a, ACME_BROKEN, false, "%s", err < 0 ? why : "the CA has not done it");
		return;
	}
	message_text(a->account.url, url, sizeof url);
	if (!text_set(&a->account.body, "{\"status\":\"deactivated\"}")) {
		errand_fail(a, ACME_LOCAL, false, "out of memory");
		return;
	}
	if (!account_save(a))
		return;
	acme_log(a, SS_LOG_INFO, "ACME account deactivated account_url=%s", url);
	errand_end(a, &result);
}

void account_deactivate(struct acme *a)
{
	errand_doing(a, "deactivating the account");
	session_ask(a, &(struct ask){.what = "account",
				     .url = a->account.url,
				     .payload = "{\"status\":\"deactivated\"}",
				     .repeat = 2,
				     .then = on_deactivated});
}
