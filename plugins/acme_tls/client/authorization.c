/* SPDX-License-Identifier: MIT */
/*
 * authorization - proofs that the names are ours (RFC 8555 section 7.5): the challenges of all names are
 * answered and posted, then looked at one after the other.  On the client's loop.
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

#define POSTS_MAX  6      /* of one challenge */
#define POST_AGAIN SECOND /* doubled from post to post */
#define PORT_WAIT  (SECOND / 10)
#define PORT_WAITS 200 /* 20 s: a validation takes less */

static void proof_look(struct acme *);
static void proof_post(struct acme *);

static const char *challenge_type(const struct acme *a)
{
	return a->o.challenge == ACME_TLS_ALPN_01 ? "tls-alpn-01" : "http-01";
}

void proofs_free(struct order *o)
{
	for (size_t i = 0; i < o->n_proofs; i++) {
		free(o->proofs[i].url);
		free(o->proofs[i].challenge_url);
		free(o->proofs[i].token);
	}
	free(o->proofs);
	o->proofs = o->at = NULL;
	o->n_proofs = 0;
}

bool proofs_take(struct acme *a, const struct message_order *m)
{
	struct order *o = a->order;
	o->proofs = calloc(m->n_authorizations + 1, sizeof *o->proofs);
	bool ok = o->proofs != NULL;
	for (size_t i = 0; ok && i < m->n_authorizations; i++) {
		size_t j = 0;
		while (j < o->n_proofs && strcmp(o->proofs[j].url, m->authorizations[i]) != 0)
			j++;
		if (j < o->n_proofs)
			continue;
		o->proofs[j].url = strdup(m->authorizations[i]);
		ok = o->proofs[j].url != NULL;
		o->n_proofs += ok;
	}
	if (!ok)
		errand_fail(a, ACME_LOCAL, false, "out of memory");
	return ok;
}

void proofs_again(struct order *o)
{
	for (size_t i = 0; i < o->n_proofs; i++)
		if (o->proofs[i].state == PROOF_DONE)
			o->proofs[i].state = PROOF_POSTED;
}

static void proof_retract(struct acme *a, struct proof *p)
{
	if (p->answering)
		responder_remove(a->responder, p->name, p->token);
	p->answering = false;
}

static void proof_done(struct acme *a, struct proof *p)
{
	proof_retract(a, p);
	p->state = PROOF_DONE;
	a->order->poll = SECOND / 40;
	a->order->polls = 0;
	proofs_next(a);
}

static void proof_failed(struct acme *a, struct proof *p, const struct json_t *error)
{
	struct problem problem;
	char text[512], why[800];
	problem_from(error, &problem);
	if (error)
		problem_text(&problem, text, sizeof text);
	else
		snprintf(text, sizeof text, "%s", p->trouble[0] ? p->trouble : "the CA gives no reason");
	snprintf(why, sizeof why, "%s: %s", p->name, text);
	order_useless(a, ACME_CHALLENGE_FAILED, error && problem_is(&problem, "caa"), why);
}

static void proof_later(struct acme *a, const struct proof *p)
{
	acme_log(a, SS_LOG_WARN, "ACME validation did not succeed, asking for another domain=%s error=\"%s\"",
		 p->name, p->trouble);
	errand_poll(a, POST_AGAIN << (p->posts - 1), proof_post);
}

void proofs_next(struct acme *a)
{
	struct order *o = a->order;
	struct proof *open = NULL;
	for (size_t i = 0; i < o->n_proofs; i++) {
		struct proof *p = &o->proofs[i];
		if (p->state == PROOF_NEW) {
			o->at = p;
			errand_doing(a, "asking what proof the CA wants");
			proof_look(a);
			return;
		}
		if (!open && p->state != PROOF_DONE)
			open = p;
	}
	o->at = open;
	if (!open) {
		/* an order without anything to prove is not ready by our doing */
		if (o->n_proofs && !o->finalizes) {
			order_finalize(a);
			return;
		}
		errand_doing(a, "waiting for the order to become ready");
		order_poll(a);
		return;
	}
	errand_doing(a, "%s: %s", open->name,
		     open->trouble[0] ? open->trouble : "the CA has not come to an end");
	if (open->state == PROOF_HELD)
		proof_look(a);
	else if (!open->post_again)
		errand_poll(a, order_poll_next(o), proof_look);
	else if (open->posts < POSTS_MAX)
		proof_later(a, open);
	else
		proof_failed(a, open, NULL);
}

/* ---- a challenge is posted */

static void on_post(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	struct proof *p = a->order->at;
	struct message_challenge m;
	struct problem trouble;
	json_t *json = NULL;
	char why[256] = "out of memory";
	p->state = PROOF_POSTED;
	p->post_again = false;
	if (reply->error == -EINVAL) {
		order_useless(a, ACME_BROKEN, false, reply->why);
		return;
	}
	if (reply->error || problem) {
		/* it may be under way: look */
		if (problem)
			problem_text(problem, p->trouble, sizeof p->trouble);
		else
			snprintf(p->trouble, sizeof p->trouble, "while the CA validated, %s", reply->why);
		p->unsure = true;
		proofs_next(a);
		return;
	}
	p->unsure = false;
	if (message_challenge(reply->body, reply->len, &json, &m, why, sizeof why) < 0) {
		order_useless(a, ACME_BROKEN, false, why);
		return;
	}
	if (m.error) {
		problem_from(m.error, &trouble);
		problem_text(&trouble, p->trouble, sizeof p->trouble);
	}
	p->post_again = m.status == MESSAGE_PENDING && m.error;
	if (m.status == MESSAGE_VALID)
		proof_done(a, p);
	else if (m.status == MESSAGE_INVALID)
		proof_failed(a, p, m.error);
	else
		proofs_next(a);
	json_decref(json);
}

static void proof_post(struct acme *a)
{
	struct proof *p = a->order->at;
	p->posts++;
	errand_doing(a, "%s: the CA has not come to an end", p->name);
	session_ask(a, &(struct ask){.what = "challenge",
				     .url = p->challenge_url,
				     .payload = "{}",
				     .may_break = true,
				     .then = on_post});
}

/* ---- what the CA wants */

static void not_offered(struct acme *a, const struct message_authorization *m)
{
	char offered[200] = "", why[600], type[40];
	size_t used = 0;
	for (size_t i = 0; i < m->n_challenges && used < sizeof offered - 1; i++) {
		message_text(m->challenges[i].type, type, sizeof type);
		int n = snprintf(offered + used, sizeof offered - used, "%s%s", i ? ", " : "", type);
		used += n > 0 ? (size_t)n : 0;
	}
	snprintf(why, sizeof why,
		 "the CA does not offer %s for %s; it offers: %s. Choose challenge_type among them",
		 challenge_type(a), a->order->at->name, offered[0] ? offered : "nothing");
	order_useless(a, ACME_CHALLENGE_FAILED, true, why);
}

/* The challenge of order->at is known: answer it, as soon as the port is free.  Another identity of this host
 * may be answering there at the moment. */
static void answer(struct acme *a)
{
	char *authorization = NULL, why[300] = "out of memory";
	struct order *o = a->order;
	struct proof *p = o->at;
	int rc = jws_key_authorization(a->key, p->token, &authorization);
	if (rc == 0)
		rc = responder_add(a->responder, p->name, p->token, authorization, why, sizeof why);
	free(authorization);
	if (rc == -EADDRINUSE && o->port_waits++ < PORT_WAITS) {
		errand_doing(a, "%s", why);
		errand_poll(a, PORT_WAIT, answer);
		return;
	}
	if (rc < 0) {
		errand_fail(a, ACME_LOCAL, false, "%s", why);
		return;
	}
	p->answering = true;
	if (!o->announced) {
		uint16_t port = responder_port(a->responder);
		acme_log(a, SS_LOG_INFO, "%s challenge server started port=%u",
			 a->o.challenge == ACME_TLS_ALPN_01 ? "TLS-ALPN-01" : "HTTP-01",
			 port ? port : a->o.challenge_port);
		acme_log(a, SS_LOG_INFO, "Waiting for ACME validation");
	}
	o->announced = true;
	proof_post(a);
}

/* tls-alpn-01 has one answer for a name, so two proofs of one name are given one after the other. */
static bool name_busy(const struct order *o, const struct proof *p)
{
	for (size_t i = 0; i < o->n_proofs; i++)
		if (&o->proofs[i] != p && o->proofs[i].answering && !strcasecmp(o->proofs[i].name, p->name))
			return true;
	return false;
}

static void proof_begin(struct acme *a, struct proof *p, const struct message_challenge *c)
{
	if (!c->url || !c->token || !message_token_ok(c->token)) {
		order_useless(a, ACME_BROKEN, false,
			      "the CA's challenge has no URL or a token of forbidden characters");
		return;
	}
	if (name_busy(a->order, p)) {
		p->state = PROOF_HELD;
		proofs_next(a);
		return;
	}
	p->challenge_url = strdup(c->url);
	p->token = strdup(c->token);
	if (!p->challenge_url || !p->token) {
		errand_fail(a, ACME_LOCAL, false, "out of memory");
		return;
	}
	answer(a);
}

static void proof_pending(struct acme *a, const struct message_authorization *m)
{
	struct proof *p = a->order->at;
	struct problem trouble;
	const struct message_challenge *c = NULL;
	for (size_t i = 0; i < m->n_challenges && !c; i++)
		if (!strcmp(m->challenges[i].type, challenge_type(a)))
			c = &m->challenges[i];
	if (!c) {
		not_offered(a, m);
		return;
	}
	if (c->status == MESSAGE_INVALID) {
		/* some CAs let the authorization pend for a day */
		proof_failed(a, p, c->error);
		return;
	}
	if (p->state != PROOF_POSTED && c->status == MESSAGE_PENDING) {
		proof_begin(a, p, c);
		return;
	}
	if (c->error) {
		problem_from(c->error, &trouble);
		problem_text(&trouble, p->trouble, sizeof p->trouble);
	}
	p->post_again = p->posts && c->status == MESSAGE_PENDING && (c->error || p->unsure);
	p->state = PROOF_POSTED;
	proofs_next(a);
}

/* Is it about one of our names?  Wildcards come without their "*.". */
static bool name_ours(const struct acme *a, const struct message_identifier *id)
{
	unsigned char ours[16], theirs[16];
	for (size_t i = 0; i < a->o.n_names; i++) {
		const char *name = a->o.names[i];
		if (!strncmp(name, "*.", 2))
			name += 2;
		if (!strcasecmp(name, id->value))
			return true;
		size_t n = name_address(name, ours);
		if (n && name_address(id->value, theirs) == n && !memcmp(ours, theirs, n))
			return true;
	}
	return false;
}

static const struct json_t *invalid_reason(const struct acme *a, const struct message_authorization *m)
{
	const struct json_t *any = NULL;
	for (size_t i = 0; i < m->n_challenges; i++) {
		if (m->challenges[i].error && !strcmp(m->challenges[i].type, challenge_type(a)))
			return m->challenges[i].error;
		if (m->challenges[i].error)
			any = m->challenges[i].error;
	}
	return any;
}

static void authorization_go(struct acme *a, const struct message_authorization *m)
{
	struct proof *p = a->order->at;
	char word[32], why[128];
	if (!name_ours(a, &m->identifier)) {
		order_useless(a, ACME_BROKEN, false, "the CA wants a proof of a name that was not asked for");
		return;
	}
	snprintf(p->name, sizeof p->name, "%s", m->identifier.value);
	switch (m->status) {
	case MESSAGE_VALID:
		proof_done(a, p);
		return;
	case MESSAGE_PENDING:
	case MESSAGE_PROCESSING:
		proof_pending(a, m);
		return;
	case MESSAGE_INVALID:
		proof_failed(a, p, invalid_reason(a, m));
		return;
	default:
		message_text(m->status_word, word, sizeof word);
		snprintf(why, sizeof why, "the CA's authorization is of no use: its status is %s", word);
		order_useless(a, m->status == MESSAGE_OTHER ? ACME_BROKEN : ACME_CHALLENGE_FAILED, false,
			      why);
	}
}

static void on_authorization(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	struct message_authorization m;
	char why[256] = "out of memory", text[400];
	if (problem && problem->status < 500) {
		problem_text(problem, text, sizeof text);
		order_useless(a, ACME_REFUSED, problem_permanent(problem), text);
		return;
	}
	if (problem) {
		errand_refused(a, problem);
		return;
	}
	int err = message_authorization(reply->body, reply->len, &m, why, sizeof why);
	if (err < 0) {
		order_useless(a, err == -ENOMEM ? ACME_LOCAL : ACME_BROKEN, false, why);
		return;
	}
	json_t *json = m.json;
	authorization_go(a, &m);
	json_decref(json);
}

static void proof_look(struct acme *a)
{
	session_ask(a, &(struct ask){.what = "authorization",
				     .url = a->order->at->url,
				     .payload = "",
				     .repeat = 3,
				     .then = on_authorization});
}
