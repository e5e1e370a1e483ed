/* SPDX-License-Identifier: MIT */
/*
 * order - from a new or remembered order to its certificate, in every state the CA may answer (RFC 8555
 * section 7.4).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <jansson.h>
#include <semstreams/plugin.h>
#include "client.h"
#include "plugins/acme_tls/names.h"
#include "url.h"

#define FINALIZES_MAX 3
#define PEM_CHAIN     "application/pem-certificate-chain"

/* ---- the authorizations to obtain */

static void challenges_free(struct order *o)
{
	for (size_t i = 0; i < o->n_challenges; i++) {
		free(o->challenges[i].url);
		free(o->challenges[i].challenge_url);
		free(o->challenges[i].token);
	}
	free(o->challenges);
	o->challenges = NULL;
	o->n_challenges = 0;
}

static int challenges_load(struct client *c, const struct message *m)
{
	struct order *o = c->order;
	if (o->challenges)
		return 0;
	o->challenges = calloc(m->n_authorizations + 1, sizeof *o->challenges);
	if (!o->challenges)
		return client_no_memory(c);
	for (size_t i = 0; i < m->n_authorizations; i++) {
		size_t j = 0;
		while (j < o->n_challenges && strcmp(o->challenges[j].url, m->authorizations[i]) != 0)
			j++;
		if (j < o->n_challenges)
			continue;
		o->challenges[j].url = strdup(m->authorizations[i]);
		if (!o->challenges[j].url)
			return client_no_memory(c);
		o->n_challenges++;
	}
	return 0;
}

/* Check all of them again. */
static void challenges_recheck(struct order *o)
{
	for (size_t i = 0; i < o->n_challenges; i++)
		if (o->challenges[i].state == CHALLENGE_DONE)
			o->challenges[i].state = CHALLENGE_POSTED;
}

/* ---- what the store remembers */

static int save_in_store(struct client *c, const char *url, const char *key_text)
{
	struct store_state state;
	int rc = store_state_load(c->o.store, &state);
	if (rc < 0 && rc != -EINVAL) /* what is broken is written anew */
		return rc;
	free(state.order_url);
	key_text_free(state.order_key_pem);
	state.order_url = url ? strdup(url) : NULL;
	state.order_key_pem = key_text ? strdup(key_text) : NULL;
	rc = (!url || state.order_url) && (!key_text || state.order_key_pem)
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
	return rc < 0 ? client_fail(c, ACME_STORAGE, false, "%s", store_why(c->o.store)) : 0;
}

/* The operation has failed: forget the order unless a later attempt can go on with it. */
static void order_failed(struct client *c)
{
	switch (c->result.fail) {
	case ACME_UNREACHABLE:
	case ACME_RATE_LIMITED:
	case ACME_STORAGE:
	case ACME_LOCAL:
	case ACME_ACCOUNT:
		return;
	case ACME_REFUSED:
		if (!c->result.permanent)
			return;
		break;
	default:
		break;
	}
	if (c->order && c->order->url && save_in_store(c, NULL, NULL) < 0)
		client_log(c, SS_LOG_WARN, "Cannot remove the ACME order from storage error=\"%s\"",
			   store_why(c->o.store));
}

static void order_empty(struct order *o)
{
	challenges_free(o);
	free(o->url);
	free(o->finalize);
	free(o->certificate);
	key_free(o->key);
	key_text_free(o->key_text);
	if (o->has_chain)
		chain_done(&o->chain);
	while (o->n_alternates)
		free(o->alternates[--o->n_alternates]);
	*o = (struct order){.poll = POLL_FIRST};
}

void order_free(struct order *o)
{
	if (o)
		order_empty(o);
	free(o);
}

/* ---- the CA's replies */

static bool replace(char **to, const char *from)
{
	free(*to);
	*to = from ? strdup(from) : NULL;
	return !from || *to;
}

static bool same_name(const char *name, const struct message_identifier *id)
{
	unsigned char address[16];
	return !strcmp(id->type, name_address(name, address) ? "ip" : "dns") && name_same(name, id->value);
}

/* The same names as sets: what is listed twice counts once. */
static bool names_match(const struct client *c, const struct message *m)
{
	bool ours[MESSAGE_LIST_MAX] = {false}, theirs[MESSAGE_LIST_MAX] = {false};
	if (c->o.n_names > MESSAGE_LIST_MAX)
		return false;
	for (size_t i = 0; i < c->o.n_names; i++)
		for (size_t j = 0; j < m->n_identifiers; j++)
			if (same_name(c->o.names[i], &m->identifiers[j]))
				ours[i] = theirs[j] = true;
	return !memchr(ours, false, c->o.n_names) && !memchr(theirs, false, m->n_identifiers);
}

static int order_update(struct client *c, const struct reply *reply, bool check_names)
{
	struct order *o = c->order;
	struct message m;
	int rc = session_read(c, MESSAGE_ORDER, reply, &m);
	if (rc)
		return rc;
	o->status = m.status;
	message_text(m.status_word, o->status_word, sizeof o->status_word);
	problem_from(m.error, &o->error);
	if (check_names && !names_match(c, &m))
		rc = order_useless(c, ACME_BROKEN, false, "the order is for other names");
	else if (!replace(&o->finalize, m.finalize) || !replace(&o->certificate, m.certificate))
		rc = client_no_memory(c);
	else if (o->status == MESSAGE_PENDING)
		rc = challenges_load(c, &m);
	message_done(&m);
	return rc;
}

/* Look at the order after a while. */
static int order_poll(struct client *c)
{
	struct reply r;
	int rc = order_wait(c);
	if (!rc)
		rc = session_post(c, "order", c->order->url, "", 3, &r);
	if (!rc)
		rc = r.problem ? client_refused(c, r.problem) : order_update(c, &r, false);
	return rc;
}

/* ---- the chain of a valid order (section 7.4.2) */

static bool content_is_chain(const struct http_reply *reply)
{
	const char *type = reply->content_type;
	size_t n = sizeof PEM_CHAIN - 1;
	return !type || (!strncasecmp(type, PEM_CHAIN, n) && (!type[n] || type[n] == ';' || type[n] == ' '));
}

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

static int download(struct client *c, const char *url, bool may_break, struct reply *r)
{
	return session_ask(c,
			   &(struct ask){.what = "certificate",
					 .url = url,
					 .payload = "",
					 .accept = PEM_CHAIN,
					 .may_break = may_break,
					 .repeat = may_break ? 1 : 3},
			   r);
}

static void alternates_keep(struct order *o, const struct http_reply *reply)
{
	char link[MESSAGE_URL_MAX + 1], url[MESSAGE_URL_MAX + 1];
	for (size_t i = 0; reply->links[i] && o->n_alternates < ALTERNATES; i++) {
		if (!message_link(reply->links[i], "alternate", link, sizeof link))
			continue;
		url_resolve(o->certificate, link, url, sizeof url);
		if ((o->alternates[o->n_alternates] = strdup(url)))
			o->n_alternates++;
	}
}

/* Look for the preferred chain among the others; an alternate that fails is passed over. */
static int choose_alternate(struct client *c)
{
	struct order *o = c->order;
	struct chain_info chain;
	char why[200], root[256];
	struct reply r;
	for (size_t i = 0; i < o->n_alternates; i++) {
		if (url_check(c->o.directory_url, o->alternates[i], why, sizeof why) < 0)
			continue;
		int rc = download(c, o->alternates[i], true, &r);
		if (rc)
			return rc;
		if (r.http->error || r.problem || !content_is_chain(r.http) ||
		    chain_read(r.http->body, r.http->len, o->key, c->o.names, c->o.n_names, &chain, why,
			       sizeof why) < 0)
			continue;
		if (!strcmp(chain.root, c->o.preferred_chain)) {
			chain_done(&o->chain);
			o->chain = chain;
			return 0;
		}
		chain_done(&chain);
	}
	message_text(o->chain.root, root, sizeof root);
	client_log(
		c, SS_LOG_WARN,
		"ACME server has no chain with the preferred issuer, using its own choice preferred=\"%s\" "
		"root=\"%s\"",
		c->o.preferred_chain, root);
	return 0;
}

/* The CA's own choice. */
static int get_first(struct client *c)
{
	struct order *o = c->order;
	char why[360] = "out of memory";
	struct reply r;
	int rc = download(c, o->certificate, false, &r);
	if (rc)
		return rc;
	if (r.problem && r.problem->status >= 500)
		return client_refused(c, r.problem);
	if (r.problem) {
		problem_text(r.problem, why, sizeof why);
		return order_useless(c, ACME_REFUSED, problem_permanent(r.problem), "%s", why);
	}
	if (!content_is_chain(r.http)) {
		message_text(r.http->content_type, why, 80);
		return order_useless(c, ACME_BROKEN, false,
				     "the CA returned content of type %s, not a certificate chain", why);
	}
	rc = chain_read(r.http->body, r.http->len, o->key, c->o.names, c->o.n_names, &o->chain, why,
			sizeof why);
	if (rc < 0)
		return order_useless(c, rc == -ENOMEM ? ACME_LOCAL : ACME_BROKEN, false,
				     "the CA returned a certificate that was not ordered: %s", why);
	o->has_chain = true;
	alternates_keep(o, r.http);
	return 0;
}

static int certificate_get(struct client *c)
{
	struct order *o = c->order;
	challenges_retract(c);
	o->validating = false;
	client_doing(c, "downloading the certificate");
	int rc = get_first(c);
	if (!rc && c->o.preferred_chain && strcmp(o->chain.root, c->o.preferred_chain) != 0)
		rc = choose_alternate(c);
	if (rc)
		return rc;
	if (o->resumed && chain_stale(c, &o->chain))
		return order_useless(c, ACME_BROKEN, false,
				     "its certificate is in use already or expires soon");
	int64_t early = o->chain.not_before - (int64_t)time(NULL);
	if (early > 0)
		client_log(c, SS_LOG_WARN,
			   "Certificate is not yet valid by the clock of this machine, is the clock slow? "
			   "seconds=%lld",
			   (long long)early);
	c->result = (struct client_result){.chain = &o->chain, .key_pem = o->key_text};
	return 0;
}

/* ---- the request for the certificate */

static char *request_payload(const struct client *c)
{
	gnutls_datum_t der = {0};
	char *csr = NULL, *text = NULL;
	if (csr_new(c->order->key, c->o.names, c->o.n_names, &der) >= 0)
		csr = base64url(der.data, der.size);
	if (csr)
		text = client_json(json_pack("{ss}", "csr", csr));
	free(csr);
	gnutls_free(der.data);
	return text;
}

static int order_finalize(struct client *c)
{
	struct order *o = c->order;
	struct reply r;
	o->validating = false;
	challenges_retract(c);
	o->poll = POLL_FIRST << o->finalizes;
	o->polls = 0;
	if (!o->finalize)
		return order_useless(c, ACME_BROKEN, false, "the order has no \"finalize\"");
	if (o->finalizes++ >= FINALIZES_MAX)
		return order_useless(c, ACME_BROKEN, false,
				     "the order stays ready after %d certificate requests", FINALIZES_MAX);
	client_doing(c, "waiting for the CA to issue the certificate");
	char *payload = request_payload(c);
	if (!payload)
		return client_fail(c, ACME_LOCAL, true,
				   "cannot make a certificate request for these domains");
	int rc = session_ask(
		c,
		&(struct ask){.what = "finalize", .url = o->finalize, .payload = payload, .may_break = true},
		&r);
	free(payload);
	if (rc)
		return rc;
	if (r.problem && !problem_is(r.problem, "orderNotReady") && r.problem->status < 500)
		return client_refused(c, r.problem);
	if (r.http->error || r.problem) {
		/* the order tells what became of the request */
		challenges_recheck(o);
		return r.problem && o->finalizes >= FINALIZES_MAX ? client_refused(c, r.problem)
								  : order_poll(c);
	}
	rc = order_update(c, &r, false);
	if (!rc && (o->status == MESSAGE_READY || o->status == MESSAGE_PENDING))
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
	struct order *o = c->order;
	char text[512];
	for (int rc = 0; !rc;) {
		switch (o->status) {
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
			if (o->certificate)
				return certificate_get(c);
			return order_useless(c, ACME_BROKEN, false,
					     "the order is valid but has no certificate");
		case MESSAGE_INVALID:
			problem_text(&o->error, text, sizeof text);
			return order_useless(c, ACME_REFUSED, problem_permanent(&o->error), "%s", text);
		default:
			return order_useless(c, ACME_BROKEN, false, "the order has the unexpected status %s",
					     o->status_word);
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

static int order_resume(struct client *c)
{
	struct reply r;
	client_doing(c, "looking at the order of an earlier attempt");
	int rc = session_post(c, "order", c->order->url, "", 3, &r);
	if (rc)
		return rc;
	if (r.problem && r.problem->status >= 500)
		return client_refused(c, r.problem);
	if (r.problem)
		return order_useless(c, ACME_REFUSED, false, "the CA no longer has the order");
	rc = order_update(c, &r, true);
	return rc ? rc : order_complete(c);
}

/* ---- a new order */

static char *order_payload(const struct client *c, bool replaces)
{
	json_t *names = json_array();
	json_t *json = json_pack("{so}", "identifiers", names);
	unsigned char address[16];
	bool ok = json != NULL;
	for (size_t i = 0; i < c->o.n_names; i++)
		ok = ok && json_array_append_new(
				   names, json_pack("{ssss}", "type",
						    name_address(c->o.names[i], address) ? "ip" : "dns",
						    "value", c->o.names[i])) == 0;
	if (ok && c->o.profile)
		ok = json_object_set_new(json, "profile", json_string(c->o.profile)) == 0;
	if (ok && replaces)
		ok = json_object_set_new(json, "replaces", json_string(c->q.old_ari_id)) == 0;
	if (ok)
		return client_json(json);
	json_decref(json);
	return NULL;
}

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
	return o->key_text ? order_save(c) : client_fail(c, ACME_LOCAL, false, "%s", why);
}

static int profile_check(struct client *c)
{
	char offered[300];
	if (!c->o.profile || message_profiles(&c->s.directory, c->o.profile, offered, sizeof offered))
		return 0;
	if (offered[0])
		return client_fail(c, ACME_REFUSED, true, "the CA has no profile \"%s\"; it has: %s",
				   c->o.profile, offered);
	return client_fail(c, ACME_REFUSED, true, "the CA has no profiles: leave out \"profile\"");
}

static int ask_order(struct client *c, bool replaces, struct reply *r)
{
	char *payload = order_payload(c, replaces);
	if (!payload)
		return client_no_memory(c);
	int rc = session_post(c, "newOrder", c->s.directory.new_order, payload, 0, r);
	free(payload);
	return rc;
}

static int order_create(struct client *c)
{
	struct order *o = c->order;
	bool replaces = c->q.old_ari_id && *c->q.old_ari_id && c->s.directory.renewal_info;
	struct reply r;
	client_doing(c, "ordering the certificate");
	int rc = profile_check(c);
	if (!rc)
		rc = order_new_key(c);
	if (!rc)
		rc = ask_order(c, replaces, &r);
	/* that it replaces a certificate is only a courtesy */
	if (!rc && replaces && r.problem && r.problem->status < 500)
		rc = ask_order(c, false, &r);
	if (rc)
		return rc;
	if (r.problem)
		return client_refused(c, r.problem);
	if (!r.http->location || !message_url_ok(r.http->location))
		return client_fail(c, ACME_BROKEN, false, "the CA's reply has no order URL");
	if (!replace(&o->url, r.http->location))
		return client_no_memory(c);
	rc = order_save(c);
	if (!rc)
		rc = order_update(c, &r, false);
	return rc ? rc : order_complete(c);
}

static int resume_or_create(struct client *c)
{
	int rc = order_remembered(c) ? order_resume(c) : -ESTALE;
	if (rc != -ESTALE)
		return rc;
	challenges_retract(c);
	order_empty(c->order);
	return order_create(c);
}

int order_issue(struct client *c)
{
	order_free(c->order);
	c->order = calloc(1, sizeof *c->order);
	if (!c->order)
		return client_no_memory(c);
	c->order->poll = POLL_FIRST;
	int rc = resume_or_create(c);
	challenges_retract(c);
	if (rc == -ECANCELED)
		order_failed(c);
	return rc;
}
