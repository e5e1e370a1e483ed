/* SPDX-License-Identifier: MIT */
/*
 * authorization - proofs that the names are ours (RFC 8555 section 7.5): the challenges of all names are
 * posted first, then waited for one after the other, so the CA validates them side by side.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <semstreams/plugin.h>
#include "client.h"
#include "plugins/acme_tls/names.h"

#define POSTS_MAX  6      /* of one challenge */
#define POST_AGAIN SECOND /* doubled from post to post */
#define PORT_WAIT  (SECOND / 10)
#define PORT_WAITS 200 /* 20 s: a validation takes less */

static const char *challenge_type(const struct client *c)
{
	return c->o.challenge == ACME_TLS_ALPN_01 ? "tls-alpn-01" : "http-01";
}

static void retract(struct client *c, struct challenge *p)
{
	if (p->answering)
		responder_remove(c->responder, p->name, p->token);
	p->answering = false;
}

void challenges_retract(struct client *c)
{
	for (size_t i = 0; i < c->order->n_challenges; i++)
		retract(c, &c->order->challenges[i]);
}

static int challenge_done(struct client *c, struct challenge *p)
{
	retract(c, p);
	p->state = CHALLENGE_DONE;
	c->order->poll = POLL_FIRST;
	c->order->polls = 0;
	return 0;
}

static void note_trouble(struct challenge *p, const struct json_t *error)
{
	struct problem problem;
	if (!error)
		return;
	problem_from(error, &problem);
	problem_text(&problem, p->trouble, sizeof p->trouble);
}

static int challenge_failed(struct client *c, struct challenge *p, const struct json_t *error)
{
	struct problem problem;
	problem_from(error, &problem);
	note_trouble(p, error);
	return order_useless(c, ACME_CHALLENGE_FAILED, problem_is(&problem, "caa"), "%s: %s", p->name,
			     p->trouble[0] ? p->trouble : "the CA gives no reason");
}

/* ---- a challenge is posted */

static int challenge_post(struct client *c, struct challenge *p)
{
	struct message m;
	struct reply r;
	p->posts++;
	client_doing(c, "validating %s", p->name);
	int rc = session_ask(
		c,
		&(struct ask){
			.what = "challenge", .url = p->challenge_url, .payload = "{}", .may_break = true},
		&r);
	if (rc)
		return rc;
	p->state = CHALLENGE_POSTED;
	p->post_again = false;
	p->unsure = r.http->error || r.problem; /* the CA may be validating: look */
	if (r.problem)
		problem_text(r.problem, p->trouble, sizeof p->trouble);
	else if (r.http->error)
		snprintf(p->trouble, sizeof p->trouble, "during validation, %s", r.http->why);
	if (p->unsure)
		return 0;
	rc = session_read(c, MESSAGE_CHALLENGE, &r, &m);
	if (rc)
		return rc;
	note_trouble(p, m.challenges[0].error);
	p->post_again = m.challenges[0].status == MESSAGE_PENDING && m.challenges[0].error;
	if (m.challenges[0].status == MESSAGE_VALID)
		rc = challenge_done(c, p);
	else if (m.challenges[0].status == MESSAGE_INVALID)
		rc = challenge_failed(c, p, m.challenges[0].error);
	message_done(&m);
	return rc;
}

/* ---- what the CA wants */

static int not_offered(struct client *c, const struct challenge *p, const struct message *m)
{
	char offered[200] = "", type[40];
	for (size_t i = 0; i < m->n_challenges; i++) {
		message_text(m->challenges[i].type, type, sizeof type);
		append(offered, sizeof offered, "%s%s", i ? ", " : "", type);
	}
	return order_useless(
		c, ACME_CHALLENGE_FAILED, true,
		"the CA does not offer %s for %s; it offers: %s. Choose challenge_type among them",
		challenge_type(c), p->name, offered[0] ? offered : "nothing");
}

/* Answer the challenge as soon as the port is free: another process of this host may be answering there. */
static int answer(struct client *c, struct challenge *p)
{
	char *authorization = NULL, why[300] = "out of memory";
	struct order *o = c->order;
	int rc = jws_key_authorization(c->key, p->token, &authorization), waited = 0;
	while (rc == 0 && waited == 0) {
		rc = responder_add(c->responder, p->name, p->token, authorization, why, sizeof why);
		if (rc != -EADDRINUSE || o->port_waits >= PORT_WAITS)
			break;
		if (!o->port_waits++)
			client_log(c, SS_LOG_WARN, "Challenge port is busy, waiting for it error=\"%s\"",
				   why);
		client_doing(c, "%s", why);
		waited = client_poll(c, PORT_WAIT);
		rc = 0;
	}
	free(authorization);
	if (waited)
		return waited;
	if (rc < 0)
		return client_fail(c, ACME_LOCAL, false, "%s", why);
	p->answering = true;
	if (!o->announced) {
		uint16_t port = responder_port(c->responder);
		client_log(c, SS_LOG_INFO, "%s challenge server started port=%u",
			   c->o.challenge == ACME_TLS_ALPN_01 ? "TLS-ALPN-01" : "HTTP-01",
			   port ? port : c->o.challenge_port);
		client_log(c, SS_LOG_INFO, "Waiting for ACME validation");
	}
	o->announced = true;
	return challenge_post(c, p);
}

/* tls-alpn-01 has one answer for a name, so two challenges of one name are answered one after the other. */
static bool name_busy(const struct order *o, const struct challenge *p)
{
	for (size_t i = 0; i < o->n_challenges; i++)
		if (&o->challenges[i] != p && o->challenges[i].answering &&
		    !strcasecmp(o->challenges[i].name, p->name))
			return true;
	return false;
}

static int challenge_begin(struct client *c, struct challenge *p, const struct message_challenge *m)
{
	if (!m->url || !m->token || !message_token_ok(m->token))
		return order_useless(c, ACME_BROKEN, false,
				     "the CA's challenge has no URL, or a token with invalid characters");
	if (name_busy(c->order, p)) {
		p->state = CHALLENGE_HELD;
		return 0;
	}
	p->challenge_url = strdup(m->url);
	p->token = strdup(m->token);
	return p->challenge_url && p->token ? answer(c, p) : client_no_memory(c);
}

static int challenge_pending(struct client *c, struct challenge *p, const struct message *m)
{
	const struct message_challenge *ours = NULL;
	for (size_t i = 0; i < m->n_challenges && !ours; i++)
		if (!strcmp(m->challenges[i].type, challenge_type(c)))
			ours = &m->challenges[i];
	if (!ours)
		return not_offered(c, p, m);
	/* some CAs let the authorization pend for a day */
	if (ours->status == MESSAGE_INVALID)
		return challenge_failed(c, p, ours->error);
	if (p->state != CHALLENGE_POSTED && ours->status == MESSAGE_PENDING)
		return challenge_begin(c, p, ours);
	note_trouble(p, ours->error);
	p->post_again = p->posts && ours->status == MESSAGE_PENDING && (ours->error || p->unsure);
	p->state = CHALLENGE_POSTED;
	return 0;
}

/* Is it about one of our names?  Wildcards come without their "*.". */
static bool name_ours(const struct client *c, const char *name)
{
	for (size_t i = 0; i < c->o.n_names; i++)
		if (name_same(c->o.names[i] + (strncmp(c->o.names[i], "*.", 2) ? 0 : 2), name))
			return true;
	return false;
}

static const struct json_t *invalid_reason(const struct client *c, const struct message *m)
{
	const struct json_t *any = NULL;
	for (size_t i = 0; i < m->n_challenges; i++) {
		if (m->challenges[i].error && !strcmp(m->challenges[i].type, challenge_type(c)))
			return m->challenges[i].error;
		if (m->challenges[i].error)
			any = m->challenges[i].error;
	}
	return any;
}

static int authorization_go(struct client *c, struct challenge *p, const struct message *m)
{
	char word[32];
	if (!name_ours(c, m->identifiers[0].value))
		return order_useless(c, ACME_BROKEN, false,
				     "the CA wants proof of a name that was not ordered");
	snprintf(p->name, sizeof p->name, "%s", m->identifiers[0].value);
	switch (m->status) {
	case MESSAGE_VALID:
		return challenge_done(c, p);
	case MESSAGE_PENDING:
	case MESSAGE_PROCESSING:
		return challenge_pending(c, p, m);
	case MESSAGE_INVALID:
		return challenge_failed(c, p, invalid_reason(c, m));
	default:
		message_text(m->status_word, word, sizeof word);
		return order_useless(c, m->status == MESSAGE_OTHER ? ACME_BROKEN : ACME_CHALLENGE_FAILED,
				     false, "the CA's authorization has the status %s", word);
	}
}

static int challenge_look(struct client *c, struct challenge *p)
{
	struct message m;
	char why[400];
	struct reply r;
	int rc = session_post(c, "authorization", p->url, "", 3, &r);
	if (rc)
		return rc;
	if (r.problem && r.problem->status >= 500)
		return client_refused(c, r.problem);
	if (r.problem) {
		problem_text(r.problem, why, sizeof why);
		return order_useless(c, ACME_REFUSED, problem_permanent(r.problem), "%s", why);
	}
	rc = session_read(c, MESSAGE_AUTHORIZATION, &r, &m);
	if (rc)
		return rc;
	rc = authorization_go(c, p, &m);
	message_done(&m);
	return rc;
}

/* A challenge that has been posted: wait, then look, or make the CA try again. */
static int challenge_advance(struct client *c, struct challenge *p)
{
	client_doing(c, "validating %s%s%s", p->name, p->trouble[0] ? ": " : "", p->trouble);
	if (p->state == CHALLENGE_HELD)
		return challenge_look(c, p);
	if (!p->post_again) {
		int rc = order_wait(c);
		return rc ? rc : challenge_look(c, p);
	}
	if (p->posts >= POSTS_MAX)
		return challenge_failed(c, p, NULL);
	client_log(c, SS_LOG_WARN,
		   "ACME validation failed, requesting another attempt domain=%s error=\"%s\"", p->name,
		   p->trouble);
	int rc = client_poll(c, POST_AGAIN << (p->posts - 1));
	return rc ? rc : challenge_post(c, p);
}

int challenges_prove(struct client *c)
{
	struct order *o = c->order;
	int rc = 0;
	for (size_t i = 0; i < o->n_challenges && !rc; i++) {
		if (o->challenges[i].state != CHALLENGE_NEW)
			continue;
		client_doing(c, "reading the CA's authorizations");
		rc = challenge_look(c, &o->challenges[i]);
	}
	for (size_t i = 0; i < o->n_challenges && !rc; i++)
		while (!rc && o->challenges[i].state != CHALLENGE_DONE)
			rc = challenge_advance(c, &o->challenges[i]);
	return rc;
}
