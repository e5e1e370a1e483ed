/* SPDX-License-Identifier: MIT */
/*
 * order - from a new or remembered order to its certificate, in every state the CA may answer (RFC 8555
 * section 7.4).  On the client's loop.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <jansson.h>
#include <semstreams/plugin.h>
#include "client.h"
#include "plugins/acme_tls/names.h"
#include "plugins/acme_tls/jws.h"

#define POLL_FIRST    (SECOND / 40)
#define POLL_SOON     (2 * SECOND) /* up to here the waits grow, and stay for: */
#define POLLS_SOON    30
#define POLL_LATER    (15 * SECOND) /* then they grow up to here */
#define FINALIZES_MAX 3

static void order_create(struct acme *);

/* ---- what is remembered */

bool state_save_order(struct acme *a, const char *url, const char *key_text, char *why, size_t why_size)
{
	struct store_state state;
	snprintf(why, why_size, "out of memory");
	int err = store_state_load(a->o.store, &state, why, why_size);
	if (err == -EINVAL)
		state = (struct store_state){0}; /* what is broken is written anew */
	else if (err < 0)
		return false;
	free(state.order_url);
	key_text_free(state.order_key_pem);
	state.order_url = url ? strdup(url) : NULL;
	state.order_key_pem = key_text ? strdup(key_text) : NULL;
	bool ok = (!url || state.order_url) && (!key_text || state.order_key_pem) &&
		  store_state_save(a->o.store, &state, why, why_size) >= 0;
	store_state_done(&state);
	return ok;
}

static bool order_save(struct acme *a)
{
	char why[256];
	if (state_save_order(a, a->order->url, a->order->key_text, why, sizeof why))
		return true;
	errand_fail(a, ACME_STORAGE, false, "%s", why);
	return false;
}

static void order_forget(struct acme *a)
{
	char why[256];
	if (!state_save_order(a, NULL, NULL, why, sizeof why))
		acme_log(a, SS_LOG_WARN, "Order cannot be forgotten error=\"%s\"", why);
}

/* At the end: an order that can go on later is kept. */
void order_drop(struct acme *a, const struct acme_result *result)
{
	switch (result->fail) {
	case ACME_UNREACHABLE:
	case ACME_RATE_LIMITED:
	case ACME_STORAGE:
	case ACME_LOCAL:
	case ACME_ACCOUNT:
		return;
	case ACME_REFUSED:
		if (!result->permanent)
			return;
		break;
	default:
		break;
	}
	if (result->fail == ACME_OK || (a->order && a->order->url))
		order_forget(a);
}

static void order_empty(struct order *o)
{
	proofs_free(o);
	free(o->url);
	free(o->finalize);
	free(o->certificate);
	key_free(o->key);
	key_text_free(o->key_text);
	if (o->has_chain)
		chain_done(&o->chain);
	for (size_t i = 0; i < o->n_alternates; i++)
		free(o->alternates[i]);
}

void order_free(struct order *o)
{
	if (!o)
		return;
	order_empty(o);
	free(o);
}

void order_quiet(struct acme *a)
{
	struct order *o = a->order;
	for (size_t i = 0; i < o->n_proofs; i++)
		if (o->proofs[i].answering) {
			responder_remove(a->responder, o->proofs[i].name, o->proofs[i].token);
			o->proofs[i].answering = false;
		}
}

/* An order of an earlier run that leads nowhere is replaced, once; one of this run is a failure. */
void order_useless(struct acme *a, enum acme_fail fail, bool permanent, const char *why)
{
	struct order *o = a->order;
	if (!o->resumed) {
		errand_fail(a, fail, permanent, "%s", why);
		return;
	}
	acme_log(a, SS_LOG_INFO, "ACME order of an earlier attempt is of no use any more reason=\"%s\"", why);
	order_quiet(a);
	order_empty(o);
	*o = (struct order){.poll = POLL_FIRST};
	order_create(a);
}

/* ---- looking again */

uint64_t order_poll_next(struct order *o)
{
	uint64_t now = o->poll, most = ++o->polls > POLLS_SOON ? POLL_LATER : POLL_SOON;
	o->poll = now + now / 5 * 3;
	if (o->poll > most)
		o->poll = most;
	return now;
}

static void order_go(struct acme *a, const struct message_order *m)
{
	struct order *o = a->order;
	struct problem problem;
	char text[512];
	switch (m->status) {
	case MESSAGE_PENDING:
		if (!o->proofs && !proofs_take(a, m))
			return;
		o->validating = true;
		proofs_next(a);
		return;
	case MESSAGE_READY:
		order_finalize(a);
		return;
	case MESSAGE_PROCESSING:
		errand_doing(a, "waiting for the CA to issue the certificate");
		order_poll(a);
		return;
	case MESSAGE_VALID:
		if (o->certificate)
			certificate_get(a);
		else
			order_useless(a, ACME_BROKEN, false, "the order is valid but has no certificate");
		return;
	case MESSAGE_INVALID:
		problem_from(m->error, &problem);
		problem_text(&problem, text, sizeof text);
		order_useless(a, ACME_REFUSED, m->error && problem_permanent(&problem), text);
		return;
	default:
		message_text(m->status_word, text, 64);
		snprintf(text + strlen(text), 64, " is no status of an order that is of use");
		order_useless(a, ACME_BROKEN, false, text);
	}
}

/* Take what a reply says of the order; false: the errand has ended or gone on elsewhere. */
static bool order_take(struct acme *a, const struct http_reply *reply, struct message_order *m)
{
	struct order *o = a->order;
	char why[256] = "out of memory";
	int err = message_order(reply->body, reply->len, m, why, sizeof why);
	if (err < 0) {
		order_useless(a, err == -ENOMEM ? ACME_LOCAL : ACME_BROKEN, false, why);
		return false;
	}
	free(o->finalize);
	free(o->certificate);
	o->finalize = m->finalize ? strdup(m->finalize) : NULL;
	o->certificate = m->certificate ? strdup(m->certificate) : NULL;
	return true;
}

/* An order's reply is a step of its own. */
static void order_reply(struct acme *a, const struct http_reply *reply)
{
	struct message_order m;
	if (!order_take(a, reply, &m))
		return;
	/* the document must outlive the step that reads it, and nothing else */
	json_t *json = m.json;
	order_go(a, &m);
	json_decref(json);
}

static void on_order(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	if (problem)
		errand_refused(a, problem);
	else
		order_reply(a, reply);
}

void order_look(struct acme *a)
{
	session_ask(
		a,
		&(struct ask){
			.what = "order", .url = a->order->url, .payload = "", .repeat = 3, .then = on_order});
}

void order_poll(struct acme *a)
{
	errand_poll(a, order_poll_next(a->order), order_look);
}

/* ---- an order of an earlier run */

static bool same_name(const char *name, const struct message_identifier *id)
{
	unsigned char ours[16], theirs[16];
	size_t n = name_address(name, ours);
	if (n)
		return !strcmp(id->type, "ip") && name_address(id->value, theirs) == n &&
		       !memcmp(ours, theirs, n);
	return !strcmp(id->type, "dns") && !strcasecmp(name, id->value);
}

/* The same names as sets: what is listed twice counts once. */
static bool names_match(const struct acme *a, const struct message_order *m)
{
	for (size_t i = 0; i < a->o.n_names; i++) {
		size_t j = 0;
		while (j < m->n_identifiers && !same_name(a->o.names[i], &m->identifiers[j]))
			j++;
		if (j == m->n_identifiers)
			return false;
	}
	for (size_t j = 0; j < m->n_identifiers; j++) {
		size_t i = 0;
		while (i < a->o.n_names && !same_name(a->o.names[i], &m->identifiers[j]))
			i++;
		if (i == a->o.n_names)
			return false;
	}
	return true;
}

static void on_resumed(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	struct message_order m;
	if (reply->error == -EINVAL) {
		order_useless(a, ACME_BROKEN, false, reply->why);
	} else if (reply->error) {
		session_broken(a, reply);
	} else if (problem && problem->status >= 500) {
		errand_refused(a, problem);
	} else if (problem) {
		order_useless(a, ACME_REFUSED, false, "the CA does not have it any more");
	} else if (order_take(a, reply, &m)) {
		json_t *json = m.json;
		if (names_match(a, &m))
			order_go(a, &m);
		else
			order_useless(a, ACME_BROKEN, false, "it is for other names");
		json_decref(json);
	}
}

static bool order_remembered(struct acme *a)
{
	struct store_state state;
	struct order *o = a->order;
	char why[256];
	if (store_state_load(a->o.store, &state, why, sizeof why) < 0)
		return false;
	if (state.order_url && state.order_key_pem && strlen(state.order_url) <= MESSAGE_URL_MAX &&
	    key_load(state.order_key_pem, strlen(state.order_key_pem), &o->key, why, sizeof why) >= 0) {
		o->url = state.order_url;
		o->key_text = state.order_key_pem;
		state.order_url = state.order_key_pem = NULL;
		o->resumed = true;
	}
	store_state_done(&state);
	return o->resumed;
}

void order_begin(struct acme *a)
{
	a->order = calloc(1, sizeof *a->order);
	if (!a->order) {
		errand_fail(a, ACME_LOCAL, false, "out of memory");
		return;
	}
	a->order->poll = POLL_FIRST;
	if (!order_remembered(a)) {
		order_create(a);
		return;
	}
	errand_doing(a, "looking at the order of an earlier attempt");
	session_ask(a, &(struct ask){.what = "order",
				     .url = a->order->url,
				     .payload = "",
				     .may_break = true,
				     .repeat = 3,
				     .then = on_resumed});
}

/* ---- a new order */

static json_t *identifier(const char *name)
{
	unsigned char address[16];
	return json_pack("{ssss}", "type", name_address(name, address) ? "ip" : "dns", "value", name);
}

static char *order_payload(const struct acme *a)
{
	json_t *names = json_array(), *json;
	bool replaces = a->old_ari_id && a->s.directory.renewal_info && !a->order->plain;
	bool ok = names != NULL;
	for (size_t i = 0; i < a->o.n_names; i++)
		ok = ok && json_array_append_new(names, identifier(a->o.names[i])) == 0;
	json = json_pack("{so}", "identifiers", names);
	if (json && ok && a->o.profile)
		ok = json_object_set_new(json, "profile", json_string(a->o.profile)) == 0;
	if (json && ok && replaces)
		ok = json_object_set_new(json, "replaces", json_string(a->old_ari_id)) == 0;
	char *text = json && ok ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	return text;
}

static void on_new_order(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	struct order *o = a->order;
	if (problem && problem->status < 500 && a->old_ari_id && a->s.directory.renewal_info && !o->plain) {
		/* that it replaces a certificate is only a courtesy */
		o->plain = true;
		order_create(a);
		return;
	}
	if (problem) {
		errand_refused(a, problem);
		return;
	}
	if (!reply->location || !message_url_ok(reply->location)) {
		errand_fail(a, ACME_BROKEN, false, "the CA does not tell the order's URL");
		return;
	}
	o->url = strdup(reply->location);
	if (!o->url) {
		errand_fail(a, ACME_LOCAL, false, "out of memory");
		return;
	}
	if (order_save(a))
		order_reply(a, reply);
}

/* The certificate's key, on disk before anything is asked for: a full disk costs the CA no order. */
static bool order_key(struct acme *a)
{
	struct order *o = a->order;
	char why[160] = "no key can be made";
	int err;
	if (o->key)
		return true;
	if (a->o.reuse_key && a->old_key_text)
		err = key_load(a->old_key_text, strlen(a->old_key_text), &o->key, why, sizeof why);
	else
		err = key_new(&o->key);
	if (!err)
		o->key_text = key_pem(o->key);
	if (o->key_text)
		return order_save(a);
	errand_fail(a, ACME_LOCAL, false, "%s", why);
	return false;
}

static bool profile_ok(struct acme *a)
{
	char offered[300];
	if (!a->o.profile || message_has_profile(&a->s.directory, a->o.profile))
		return true;
	message_profiles(&a->s.directory, offered, sizeof offered);
	if (offered[0])
		errand_fail(a, ACME_REFUSED, true, "the CA has no profile \"%s\"; it has: %s", a->o.profile,
			    offered);
	else
		errand_fail(a, ACME_REFUSED, true, "the CA has no profiles: leave out \"profile\"");
	return false;
}

static void order_create(struct acme *a)
{
	errand_doing(a, "ordering the certificate");
	if (!profile_ok(a) || !order_key(a))
		return;
	char *payload = order_payload(a);
	if (!payload) {
		errand_fail(a, ACME_LOCAL, false, "out of memory");
		return;
	}
	session_ask(a, &(struct ask){.what = "newOrder",
				     .url = a->s.directory.new_order,
				     .payload = payload,
				     .then = on_new_order});
	free(payload);
}

/* ---- the request for the certificate */

static void on_finalize(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	struct order *o = a->order;
	struct message_order m;
	if (reply->error == -EINVAL) {
		order_useless(a, ACME_BROKEN, false, reply->why);
	} else if (reply->error ||
		   (problem && (problem_is(problem, "orderNotReady") || problem->status >= 500))) {
		/* what became of it the order tells */
		proofs_again(o);
		if (o->finalizes >= FINALIZES_MAX && problem)
			errand_refused(a, problem);
		else
			order_poll(a);
	} else if (problem) {
		errand_refused(a, problem);
	} else if (order_take(a, reply, &m)) {
		json_t *json = m.json;
		if (m.status == MESSAGE_READY || m.status == MESSAGE_PENDING)
			order_poll(a);
		else
			order_go(a, &m);
		json_decref(json);
	}
}

void order_finalize(struct acme *a)
{
	struct order *o = a->order;
	uint8_t *der = NULL;
	size_t len;
	char *text = NULL;
	json_t *json = NULL;
	o->validating = false;
	order_quiet(a);
	o->poll = POLL_FIRST << (o->finalizes < 8 ? o->finalizes : 8);
	o->polls = 0;
	if (!o->finalize || o->finalizes >= FINALIZES_MAX) {
		order_useless(a, ACME_BROKEN, false,
			      o->finalize ? "the order stays ready whatever is sent"
					  : "the order has no \"finalize\"");
		return;
	}
	o->finalizes++;
	errand_doing(a, "waiting for the CA to issue the certificate");
	if (csr_new(o->key, a->o.names, a->o.n_names, &der, &len) >= 0)
		text = base64url(der, len);
	free(der);
	if (text)
		json = json_pack("{ss}", "csr", text);
	free(text);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	if (!text) {
		errand_fail(a, ACME_LOCAL, true, "no certificate request can be made for these domains");
		return;
	}
	session_ask(a, &(struct ask){.what = "finalize",
				     .url = o->finalize,
				     .payload = text,
				     .may_break = true,
				     .then = on_finalize});
	free(text);
}
