/* SPDX-License-Identifier: MIT */
/*
 * order - from a new or remembered order to its certificate, in every state the CA may answer (RFC 8555
 * sections 7.4 and 7.5).  The challenges of all names are posted first, then waited for one after the other,
 * so the CA validates them side by side.
 */
#include <errno.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>
#include <jansson.h>
#include <semstreams/plugin.h>
#include "client.h"
#include "plugins/identity/names.h"

#define PEM_CHAIN     "application/pem-certificate-chain"
#define FINALIZES_MAX 3
#define POSTS_MAX     6      /* of one challenge */
#define POST_AGAIN    SECOND /* doubled from post to post */
#define PORT_WAIT     (SECOND / 10)
#define PORT_WAITS    200          /* 20 s: a validation takes less */
#define POLL_SOON     (2 * SECOND) /* up to here the waits grow, and stay for: */
#define POLLS_SOON    30
#define POLL_LATER    (15 * SECOND) /* then they grow up to here */

/* ---- what is kept of an order */

static int order_new(struct client *c)
{
	order_free(c->order);
	c->order = calloc(1, sizeof *c->order);
	if (!c->order)
		return client_no_memory(c);
	c->order->poll = POLL_FIRST;
	return 0;
}

void order_free(struct order *o)
{
	if (!o)
		return;
	for (size_t i = 0; i < o->n_challenges; i++) {
		json_decref(o->challenges[i].authorization);
		json_decref(o->challenges[i].document);
	}
	free(o->challenges);
	free(o->url);
	json_decref(o->document);
	key_free(o->key);
	key_text_free(o->key_text);
	chain_done(&o->chain);
	free(o);
}

static int save_in_store(struct client *c, const char *url, const char *key_text)
{
	struct store_state state;
	int rc = store_state_load(c->o.store, &state);
	if (rc < 0 && rc != -EINVAL) /* what is broken is written anew */
		return rc;
	key_text_free(state.order_key_pem);
	state.order_key_pem = key_text ? strdup(key_text) : NULL;
	rc = text_set(&state.order_url, url) && (!key_text || state.order_key_pem)
		     ? store_state_save(c->o.store, &state)
		     : -ENOMEM;
	store_state_done(&state);
	return rc;
}

static int order_save(struct client *c)
{
	int rc = save_in_store(c, c->order->url, c->order->key_text);
	if (rc == -ENOMEM)
		return client_no_memory(c);
	return rc < 0 ? client_fail(c, OBTAIN_STORAGE, false, "%s", store_why(c->o.store)) : 0;
}

/* The operation has failed: forget the order unless a later attempt can go on with it. */
static void order_failed(struct client *c)
{
	const unsigned passing = 1u << OBTAIN_UNREACHABLE | 1u << OBTAIN_RATE_LIMITED | 1u << OBTAIN_STORAGE |
				 1u << OBTAIN_LOCAL | 1u << OBTAIN_ACCOUNT;
	if (passing >> c->result.fail & 1 || (c->result.fail == OBTAIN_REFUSED && !c->result.permanent))
		return;
	if (c->order && c->order->url && save_in_store(c, NULL, NULL) < 0)
		client_log(c, SS_LOG_WARN, "Cannot remove the ACME order from storage error=\"%s\"",
			   store_why(c->o.store));
}

/* ---- the CA's replies */

/* A problem of the CA's own passes; any other one means that the order is no good.  why NULL: what the CA
 * says. */
static int order_refused(struct client *c, const char *why)
{
	const struct problem *problem = c->s.refusal;
	if (problem->status >= 500)
		return client_refused(c, problem);
	return order_useless(c, OBTAIN_REFUSED, !why && problem->permanent, "%s", why ? why : problem->text);
}

static bool same_name(const char *name, const json_t *id)
{
	unsigned char address[16];
	return !strcmp(member_text(id, "type"), name_address(name, address) ? "ip" : "dns") &&
	       name_same(name, member_text(id, "value"));
}

/* The same names as sets: what is listed twice counts once. */
static bool names_match(const struct client *c, const json_t *identifiers)
{
	bool ours[MESSAGE_LIST_MAX] = {false}, theirs[MESSAGE_LIST_MAX] = {false};
	size_t n_theirs = json_array_size(identifiers);
	if (c->o.n_names > MESSAGE_LIST_MAX)
		return false;
	for (size_t i = 0; i < c->o.n_names; i++)
		for (size_t j = 0; j < n_theirs; j++)
			if (same_name(c->o.names[i], json_array_get(identifiers, j)))
				ours[i] = theirs[j] = true;
	return !memchr(ours, false, c->o.n_names) && !memchr(theirs, false, n_theirs);
}

/* The authorizations to obtain. */
static int challenges_load(struct client *c)
{
	struct order *o = c->order;
	const json_t *urls = json_object_get(o->document, "authorizations");
	if (o->challenges)
		return 0;
	o->challenges = calloc(json_array_size(urls) + 1, sizeof *o->challenges);
	if (!o->challenges)
		return client_no_memory(c);
	for (size_t i = 0; i < json_array_size(urls); i++) {
		json_t *url = json_array_get(urls, i);
		size_t j = 0;
		while (j < o->n_challenges && !json_equal(o->challenges[j].authorization, url))
			j++;
		if (j == o->n_challenges)
			o->challenges[o->n_challenges++].authorization = json_incref(url);
	}
	return 0;
}

static int order_update(struct client *c, bool check_names)
{
	struct order *o = c->order;
	json_decref(o->document);
	o->document = json_incref(c->s.message);
	if (check_names && !names_match(c, json_object_get(o->document, "identifiers")))
		return order_broken(c, "the order is for other names");
	return message_status(o->document) == MESSAGE_PENDING ? challenges_load(c) : 0;
}

/* Before the next look at the order or an authorization; each wait is longer than the last. */
static int order_wait(struct client *c)
{
	struct order *o = c->order;
	uint64_t now = o->poll, most = ++o->polls > POLLS_SOON ? POLL_LATER : POLL_SOON;
	o->poll = now + now / 5 * 3;
	if (o->poll > most)
		o->poll = most;
	return client_poll(c, now);
}

static int order_look(struct client *c, bool of_earlier_attempt)
{
	int rc = session_ask(c, "order", c->order->url, NULL,
			     &(struct ask){.how = ASK_LOOK | (of_earlier_attempt ? ASK_MAY_REFUSE : 0),
					   .expect = MESSAGE_ORDER,
					   .repeat = 3});
	if (!rc && c->s.refusal)
		return order_refused(c, "the CA no longer has the order");
	return rc ? rc : order_update(c, of_earlier_attempt);
}

static int order_poll(struct client *c)
{
	int rc = order_wait(c);
	return rc ? rc : order_look(c, false);
}

/* ---- challenges: what comes of one */

static const char *challenge_type(const struct client *c)
{
	return c->o.challenge == ACME_TLS_ALPN_01 ? "tls-alpn-01" : "http-01";
}

static void retract(struct client *c, struct challenge *p)
{
	if (p->answering)
		responder_remove(c->responder, p->name, member_text(p->document, "token"));
	p->answering = false;
}

/* Answer none of them any more. */
static void challenges_retract(struct client *c)
{
	for (size_t i = 0; c->order && i < c->order->n_challenges; i++)
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

static void note_trouble(struct challenge *p, const json_t *error, struct problem *out)
{
	problem_from(error, 0, out);
	if (error)
		snprintf(p->trouble, sizeof p->trouble, "%s", out->text);
}

static int challenge_failed(struct client *c, struct challenge *p, const json_t *error)
{
	struct problem problem;
	note_trouble(p, error, &problem);
	return order_useless(c, OBTAIN_CHALLENGE_FAILED, problem_is(&problem, "caa"), "%s: %s", p->name,
			     p->trouble[0] ? p->trouble : problem.text);
}

/* ---- a challenge is posted */

static int challenge_post(struct client *c, struct challenge *p)
{
	struct problem problem;
	p->posts++;
	client_doing(c, "validating %s", p->name);
	int rc = session_ask(
		c, "challenge", member_text(p->document, "url"), json_object(),
		&(struct ask){.how = ASK_MAY_REFUSE | ASK_MAY_BREAK, .expect = MESSAGE_CHALLENGE});
	if (rc)
		return rc;
	p->state = CHALLENGE_POSTED;
	p->post_again = false;
	p->unsure = c->s.reply.error || c->s.refusal; /* the CA may be validating: look */
	if (c->s.refusal)
		snprintf(p->trouble, sizeof p->trouble, "%s", c->s.refusal->text);
	else if (c->s.reply.error)
		snprintf(p->trouble, sizeof p->trouble, "during validation, %s", c->s.reply.why);
	if (p->unsure)
		return 0;
	enum message_status status = message_status(c->s.message);
	const json_t *error = message_error(c->s.message);
	note_trouble(p, error, &problem);
	p->post_again = status == MESSAGE_PENDING && error;
	if (status == MESSAGE_VALID)
		return challenge_done(c, p);
	return status == MESSAGE_INVALID ? challenge_failed(c, p, error) : 0;
}

/* Answer the challenge as soon as the port is free: another process of this host may be answering there. */
static int answer(struct client *c, struct challenge *p)
{
	char *authorization = NULL, why[300] = "out of memory";
	const char *token = member_text(p->document, "token");
	struct order *o = c->order;
	bool whole = token && member_text(p->document, "url");
	int rc = whole ? jws_key_authorization(c->key, token, &authorization) : -EINVAL, waited = 0;
	if (rc == -EINVAL)
		return order_broken(c, "the CA's challenge has no URL, or a token with invalid characters");
	while (rc == 0 && waited == 0) {
		rc = responder_add(c->responder, p->name, token, authorization, why, sizeof why);
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
		return client_fail(c, OBTAIN_LOCAL, false, "%s", why);
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

static int challenge_begin(struct client *c, struct challenge *p, json_t *challenge)
{
	if (name_busy(c->order, p)) {
		p->state = CHALLENGE_HELD;
		return 0;
	}
	json_decref(p->document);
	p->document = json_incref(challenge);
	return answer(c, p);
}

/* ---- what the CA wants */

static int not_offered(struct client *c, const struct challenge *p, const json_t *challenges)
{
	char offered[200] = "", type[40];
	const json_t *challenge;
	size_t i;
	json_array_foreach(challenges, i, challenge)
	{
		message_text(member_text(challenge, "type"), type, sizeof type);
		append(offered, sizeof offered, "%s%s", i ? ", " : "", type);
	}
	return order_useless(
		c, OBTAIN_CHALLENGE_FAILED, true,
		"the CA does not offer %s for %s; it offers: %s. Choose challenge_type among them",
		challenge_type(c), p->name, offered[0] ? offered : "nothing");
}

static int challenge_pending(struct client *c, struct challenge *p, const json_t *challenges)
{
	json_t *ours = NULL;
	struct problem problem;
	for (size_t i = 0; i < json_array_size(challenges) && !ours; i++)
		if (!strcmp(member_text(json_array_get(challenges, i), "type"), challenge_type(c)))
			ours = json_array_get(challenges, i);
	if (!ours)
		return not_offered(c, p, challenges);
	enum message_status status = message_status(ours);
	const json_t *error = message_error(ours);
	/* some CAs let the authorization pend for a day */
	if (status == MESSAGE_INVALID)
		return challenge_failed(c, p, error);
	if (p->state != CHALLENGE_POSTED && status == MESSAGE_PENDING)
		return challenge_begin(c, p, ours);
	note_trouble(p, error, &problem);
	p->post_again = p->posts && status == MESSAGE_PENDING && (error || p->unsure);
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

static const json_t *invalid_reason(const struct client *c, const json_t *challenges)
{
	const json_t *any = NULL, *challenge;
	size_t i;
	json_array_foreach(challenges, i, challenge)
	{
		const json_t *error = message_error(challenge);
		if (error && !strcmp(member_text(challenge, "type"), challenge_type(c)))
			return error;
		any = error ? error : any;
	}
	return any;
}

static int challenge_look(struct client *c, struct challenge *p)
{
	char word[32];
	int rc = session_ask(c, "authorization", json_string_value(p->authorization), NULL,
			     &(struct ask){.how = ASK_LOOK | ASK_MAY_REFUSE,
					   .expect = MESSAGE_AUTHORIZATION,
					   .repeat = 3});
	if (rc)
		return rc;
	if (c->s.refusal)
		return order_refused(c, NULL);
	const json_t *challenges = json_object_get(c->s.message, "challenges");
	const char *name = member_text(json_object_get(c->s.message, "identifier"), "value");
	enum message_status status = message_status(c->s.message);
	if (!name_ours(c, name))
		return order_broken(c, "the CA wants proof of a name that was not ordered");
	snprintf(p->name, sizeof p->name, "%s", name);
	switch (status) {
	case MESSAGE_VALID:
		return challenge_done(c, p);
	case MESSAGE_PENDING:
	case MESSAGE_PROCESSING:
		return challenge_pending(c, p, challenges);
	case MESSAGE_INVALID:
		return challenge_failed(c, p, invalid_reason(c, challenges));
	default:
		message_text(member_text(c->s.message, "status"), word, sizeof word);
		return order_useless(c, status == MESSAGE_OTHER ? OBTAIN_BROKEN : OBTAIN_CHALLENGE_FAILED,
				     false, "the CA's authorization has the status %s", word);
	}
}

/* A challenge that has been posted: wait, then look, or make the CA try again. */
static int challenge_advance(struct client *c, struct challenge *p)
{
	int rc = 0;
	client_doing(c, "validating %s%s%s", p->name, p->trouble[0] ? ": " : "", p->trouble);
	if (p->state == CHALLENGE_HELD || !p->post_again) {
		if (p->state != CHALLENGE_HELD)
			rc = order_wait(c);
		return rc ? rc : challenge_look(c, p);
	}
	if (p->posts >= POSTS_MAX)
		return challenge_failed(c, p, NULL);
	client_log(c, SS_LOG_WARN,
		   "ACME validation failed, requesting another attempt domain=%s error=\"%s\"", p->name,
		   p->trouble);
	rc = client_poll(c, POST_AGAIN << (p->posts - 1));
	return rc ? rc : challenge_post(c, p);
}

/* All names are proven to be ours. */
static int challenges_prove(struct client *c)
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

/* ---- the chain of a valid order (section 7.4.2) */

/* The order of an earlier attempt may bring a certificate that is in use already, or that expires soon. */
static bool chain_stale(struct client *c, const struct chain_info *chain)
{
	struct stored_cert stored;
	int64_t now = (int64_t)time(NULL), life = chain->not_after - chain->not_before;
	if (now > chain->not_before && now - chain->not_before > life / 3)
		return true;
	if (stored_cert_load(c->o.store, NULL, 0, &stored) < 0)
		return false;
	bool same =
		!strcmp(stored.chain.serial, chain->serial) && !strcmp(stored.chain.issuer, chain->issuer);
	stored_cert_done(&stored);
	return same;
}

static int download(struct client *c, const char *url, bool alternate)
{
	return session_ask(c, "certificate", url, NULL,
			   &(struct ask){.how = ASK_LOOK | ASK_MAY_REFUSE | (alternate ? ASK_MAY_BREAK : 0),
					 .accept = PEM_CHAIN,
					 .repeat = alternate ? 1 : 3});
}

/* What was downloaded.  -EINVAL, -ENOMEM with why. */
static int read_chain(const struct client *c, struct chain_info *out, char *why, size_t why_size)
{
	static const char not_ordered[] = "a certificate that was not ordered: ";
	const struct http_reply *reply = &c->s.reply;
	const char *type = reply->content_type;
	char foreign[80];
	size_t n = sizeof PEM_CHAIN - 1;
	if (type && (strncasecmp(type, PEM_CHAIN, n) != 0 || (type[n] && type[n] != ';' && type[n] != ' '))) {
		message_text(type, foreign, sizeof foreign);
		snprintf(why, why_size, "content of type %s, not a certificate chain", foreign);
		return -EINVAL;
	}
	snprintf(why, why_size, "%sout of memory", not_ordered);
	n = sizeof not_ordered - 1;
	return chain_read(reply->body, reply->len, c->order->key, c->o.names, c->o.n_names, out, why + n,
			  why_size - n);
}

/* The URLs of other chains, as the reply with the first one names them. */
static json_t *alternates(const struct client *c)
{
	const char *const *links = c->s.reply.links, *base = member_text(c->order->document, "certificate");
	char link[MESSAGE_URL_MAX + 1], url[MESSAGE_URL_MAX + 1];
	json_t *urls = json_array();
	for (; *links && json_array_size(urls) < ALTERNATES; links++)
		if (message_link(*links, "alternate", link, sizeof link)) {
			url_resolve(base, link, url, sizeof url);
			json_array_append_new(urls, json_string(url));
		}
	return urls;
}

/* Is it the preferred one?  An alternate that fails is passed over. */
static int try_alternate(struct client *c, const char *url, bool *found)
{
	struct order *o = c->order;
	struct chain_info chain, first = o->chain;
	char why[200];
	if (url_check(c->o.directory_url, url, why, sizeof why) < 0)
		return 0;
	int rc = download(c, url, true);
	if (rc || c->s.reply.error || c->s.refusal || read_chain(c, &chain, why, sizeof why) < 0)
		return rc;
	*found = !strcmp(chain.root, c->o.preferred_chain);
	if (*found)
		o->chain = chain;
	chain_done(*found ? &first : &chain);
	return 0;
}

static int choose_alternate(struct client *c)
{
	json_t *urls = alternates(c);
	bool found = false;
	char root[256];
	int rc = 0;
	for (size_t i = 0; i < json_array_size(urls) && !rc && !found; i++)
		rc = try_alternate(c, json_string_value(json_array_get(urls, i)), &found);
	json_decref(urls);
	if (rc || found)
		return rc;
	message_text(c->order->chain.root, root, sizeof root);
	client_log(
		c, SS_LOG_WARN,
		"ACME server has no chain with the preferred issuer, using its own choice preferred=\"%s\" "
		"root=\"%s\"",
		c->o.preferred_chain, root);
	return 0;
}

static int certificate_get(struct client *c)
{
	struct order *o = c->order;
	char why[360];
	challenges_retract(c);
	o->validating = false;
	client_doing(c, "downloading the certificate");
	int rc = download(c, member_text(o->document, "certificate"), false);
	if (rc)
		return rc;
	if (c->s.refusal)
		return order_refused(c, NULL);
	rc = read_chain(c, &o->chain, why, sizeof why);
	if (rc < 0)
		return order_useless(c, rc == -ENOMEM ? OBTAIN_LOCAL : OBTAIN_BROKEN, false,
				     "the CA returned %s", why);
	if (c->o.preferred_chain && strcmp(o->chain.root, c->o.preferred_chain) != 0)
		rc = choose_alternate(c);
	if (rc)
		return rc;
	if (o->resumed && chain_stale(c, &o->chain))
		return order_broken(c, "its certificate is in use already or expires soon");
	int64_t early = o->chain.not_before - (int64_t)time(NULL);
	if (early > 0)
		client_log(c, SS_LOG_WARN,
			   "Certificate is not yet valid by the clock of this machine, is the clock slow? "
			   "seconds=%lld",
			   (long long)early);
	c->result = (struct obtain_result){.chain = o->chain, .key_pem = o->key_text};
	return 0;
}

/* ---- the request for the certificate */

/* As JSON; NULL: it cannot be made. */
static json_t *certificate_request(const struct client *c)
{
	gnutls_datum_t der = {0};
	char *csr = NULL;
	if (csr_new(c->order->key, c->o.names, c->o.n_names, &der) >= 0)
		csr = base64url(der.data, der.size);
	json_t *payload = csr ? json_pack("{ss}", "csr", csr) : NULL;
	free(csr);
	gnutls_free(der.data);
	return payload;
}

/* No answer tells what became of the request but the order: check all again. */
static int finalize_unsure(struct client *c)
{
	struct order *o = c->order;
	for (size_t i = 0; i < o->n_challenges; i++)
		if (o->challenges[i].state == CHALLENGE_DONE)
			o->challenges[i].state = CHALLENGE_POSTED;
	return c->s.refusal && o->finalizes >= FINALIZES_MAX ? client_refused(c, c->s.refusal)
							     : order_poll(c);
}

static int order_finalize(struct client *c)
{
	struct order *o = c->order;
	const char *url = member_text(o->document, "finalize");
	o->validating = false;
	challenges_retract(c);
	o->poll = POLL_FIRST << o->finalizes;
	o->polls = 0;
	if (!url)
		return order_broken(c, "the order has no \"finalize\"");
	if (o->finalizes++ >= FINALIZES_MAX)
		return order_broken(c, "the order stays ready after %d certificate requests", FINALIZES_MAX);
	json_t *payload = certificate_request(c);
	if (!payload)
		return client_fail(c, OBTAIN_LOCAL, true,
				   "cannot make a certificate request for these domains");
	client_doing(c, "waiting for the CA to issue the certificate");
	int rc = session_ask(c, "finalize", url, payload,
			     &(struct ask){.how = ASK_MAY_REFUSE | ASK_MAY_BREAK, .expect = MESSAGE_ORDER});
	if (rc)
		return rc;
	const struct problem *problem = c->s.refusal;
	if (problem && !problem_is(problem, "orderNotReady") && problem->status < 500)
		return client_refused(c, problem);
	if (c->s.reply.error || problem)
		return finalize_unsure(c);
	rc = order_update(c, false);
	enum message_status status = message_status(o->document);
	if (!rc && (status == MESSAGE_READY || status == MESSAGE_PENDING))
		rc = order_poll(c);
	return rc;
}

static int order_prove(struct client *c)
{
	struct order *o = c->order;
	o->validating = true;
	int rc = challenges_prove(c);
	if (rc)
		return rc;
	/* an order with nothing to prove becomes ready by itself */
	if (o->n_challenges && !o->finalizes)
		return order_finalize(c);
	client_doing(c, "waiting for the order to become ready");
	return order_poll(c);
}

/* From the state of the last reply to the certificate. */
static int order_complete(struct client *c)
{
	struct problem problem;
	char word[32];
	for (int rc = 0; !rc;) {
		const json_t *order = c->order->document;
		switch (message_status(order)) {
		case MESSAGE_PENDING:
			rc = order_prove(c);
			break;
		case MESSAGE_READY:
			rc = order_finalize(c);
			break;
		case MESSAGE_PROCESSING:
			client_doing(c, "waiting for the CA to issue the certificate");
			rc = order_poll(c);
			break;
		case MESSAGE_VALID:
			if (member_text(order, "certificate"))
				return certificate_get(c);
			return order_broken(c, "the order is valid but has no certificate");
		case MESSAGE_INVALID:
			problem_from(message_error(order), 0, &problem);
			return order_useless(c, OBTAIN_REFUSED, problem.permanent, "%s", problem.text);
		default:
			message_text(member_text(order, "status"), word, sizeof word);
			return order_broken(c, "the order has the unexpected status %s", word);
		}
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- an order of an earlier attempt */

static bool order_remembered(struct client *c)
{
	struct store_state state;
	struct order *o = c->order;
	char why[256];
	if (store_state_load(c->o.store, &state) < 0)
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

/* ---- a new order */

/* The certificate's key, on disk before anything is asked for: a full disk costs the CA no order. */
static int order_new_key(struct client *c)
{
	struct order *o = c->order;
	char why[160] = "cannot generate a key";
	int rc;
	if (c->o.reuse_key && c->q.old_key_pem)
		rc = key_load(c->q.old_key_pem, strlen(c->q.old_key_pem), &o->key, why, sizeof why);
	else
		rc = key_new(&o->key);
	if (!rc)
		o->key_text = key_pem(o->key);
	return o->key_text ? order_save(c) : client_fail(c, OBTAIN_LOCAL, false, "%s", why);
}

static int profile_check(struct client *c)
{
	char offered[300];
	if (!c->o.profile || message_profiles(c->s.directory, c->o.profile, offered, sizeof offered))
		return 0;
	if (offered[0])
		return client_fail(c, OBTAIN_REFUSED, true, "the CA has no profile \"%s\"; it has: %s",
				   c->o.profile, offered);
	return client_fail(c, OBTAIN_REFUSED, true, "the CA has no profiles: leave out \"profile\"");
}

static int ask_order(struct client *c, const char *replaces)
{
	json_t *names = json_array();
	unsigned char address[16];
	for (size_t i = 0; names && i < c->o.n_names; i++) {
		const char *type = name_address(c->o.names[i], address) ? "ip" : "dns";
		if (json_array_append_new(names, json_pack("{ssss}", "type", type, "value", c->o.names[i]))) {
			json_decref(names);
			names = NULL;
		}
	}
	json_t *payload = json_pack("{so, ss*, ss*}", "identifiers", names, "profile", c->o.profile,
				    "replaces", replaces);
	client_doing(c, "ordering the certificate");
	return session_ask(c, "newOrder", member_text(c->s.directory, "newOrder"), payload,
			   &(struct ask){.how = ASK_MAY_REFUSE, .expect = MESSAGE_ORDER});
}

static int order_create(struct client *c)
{
	struct order *o = c->order;
	const struct http_reply *reply = &c->s.reply;
	bool replaces = c->q.old_ari_id && *c->q.old_ari_id && member_text(c->s.directory, "renewalInfo");
	int rc = profile_check(c);
	if (!rc)
		rc = order_new_key(c);
	if (!rc)
		rc = ask_order(c, replaces ? c->q.old_ari_id : NULL);
	/* that it replaces a certificate is only a courtesy */
	if (!rc && replaces && c->s.refusal && c->s.refusal->status < 500)
		rc = ask_order(c, NULL);
	if (rc)
		return rc;
	if (c->s.refusal)
		return client_refused(c, c->s.refusal);
	if (!reply->location || !message_url_ok(reply->location))
		return client_broken(c, "the CA's reply has no order URL");
	if (!text_set(&o->url, reply->location))
		return client_no_memory(c);
	rc = order_save(c);
	if (!rc)
		rc = order_update(c, false);
	return rc ? rc : order_complete(c);
}

int order_issue(struct client *c)
{
	int rc = order_new(c);
	if (!rc)
		rc = -ESTALE;
	if (rc == -ESTALE && order_remembered(c)) {
		client_doing(c, "looking at the order of an earlier attempt");
		rc = order_look(c, true);
		if (!rc)
			rc = order_complete(c);
	}
	if (rc == -ESTALE) {
		challenges_retract(c);
		rc = order_new(c);
		if (!rc)
			rc = order_create(c);
	}
	challenges_retract(c);
	if (rc == -ECANCELED)
		order_failed(c);
	return rc;
}
