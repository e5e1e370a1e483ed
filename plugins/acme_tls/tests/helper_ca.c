/* SPDX-License-Identifier: MIT */
/* helper_ca - a CA for tests of the client; see helper_ca.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include "helper_ca.h"
#include "plugins/identity/key.h"
#include "plugins/acme_tls/client/responder.h"
#include "plugins/acme_tls/client/message.h"

static struct ca *the_ca;

/* ---- time: every wait is shorter, and its seconds longer; what the machine takes to work counts as it is */

static struct {
	int64_t waited_ns, since_ns;
} waits;

int __real_clock_gettime(clockid_t, struct timespec *);
int __wrap_clock_gettime(clockid_t, struct timespec *);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
	int err = __real_clock_gettime(id, ts);
	if (id != CLOCK_MONOTONIC)
		return err;
	int64_t now = ts->tv_sec * 1000000000ll + ts->tv_nsec + waits.waited_ns * (CA_SPEED - 1);
	*ts = (struct timespec){.tv_sec = now / 1000000000, .tv_nsec = now % 1000000000};
	return err;
}

static int64_t real_now(void)
{
	struct timespec ts;
	__real_clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static void wait_begins(struct ev_loop *loop)
{
	(void)loop;
	waits.since_ns = real_now();
}

static void wait_ends(struct ev_loop *loop)
{
	(void)loop;
	waits.waited_ns += real_now() - waits.since_ns;
}

void __real_ev_timer_start(struct ev_loop *, ev_timer *);
void __wrap_ev_timer_start(struct ev_loop *, ev_timer *);
void __wrap_ev_timer_start(struct ev_loop *loop, ev_timer *timer)
{
	ev_set_loop_release_cb(loop, wait_begins, wait_ends);
	timer->at /= CA_SPEED;
	__real_ev_timer_start(loop, timer);
}

double ca_now(void)
{
	struct timespec ts;
	__wrap_clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- the responder */

int responder_new(const struct responder_options *options, struct responder **out)
{
	assert_int_equal(options->alpn, the_ca->options.challenge == ACME_TLS_ALPN_01);
	*out = calloc(1, sizeof **out);
	return 0;
}

int responder_add(struct responder *r, const char *name, const char *token, const char *authorization,
		  char *why, size_t why_size)
{
	(void)r;
	if (the_ca->port_taken) {
		snprintf(why, why_size, "%s", the_ca->port_taken);
		return -EADDRINUSE;
	}
	assert_true(strlen(name) > 0);
	assert_memory_equal(token, authorization, strlen(token));
	the_ca->answering++;
	the_ca->answers++;
	return 0;
}

void responder_remove(struct responder *r, const char *name, const char *token)
{
	(void)r;
	assert_non_null(name);
	assert_non_null(token);
	the_ca->answering--;
}

uint16_t responder_port(const struct responder *r)
{
	(void)r;
	return 80;
}

void responder_free(struct responder *r)
{
	free(r);
}

/* ---- certificates */

static gnutls_x509_privkey_t issuer_key(void)
{
	static gnutls_x509_privkey_t key;
	if (!key) {
		gnutls_x509_privkey_init(&key);
		gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
					     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	}
	return key;
}

char *ca_certificate(const char *root, json_t *csr_text, const char *const *names, size_t n)
{
	static unsigned char serial;
	uint8_t *der;
	size_t len;
	gnutls_x509_crq_t csr;
	gnutls_x509_crt_t issuer, leaf;
	gnutls_datum_t pem;
	assert_int_equal(base64url_decode(json_string_value(csr_text), &der, &len), 0);
	gnutls_x509_crq_init(&csr);
	assert_int_equal(
		gnutls_x509_crq_import(csr, &(gnutls_datum_t){der, (unsigned)len}, GNUTLS_X509_FMT_DER), 0);
	gnutls_x509_crt_init(&issuer);
	gnutls_x509_crt_set_version(issuer, 3);
	gnutls_x509_crt_set_key(issuer, issuer_key());
	gnutls_x509_crt_set_dn_by_oid(issuer, GNUTLS_OID_X520_COMMON_NAME, 0, root, (unsigned)strlen(root));
	gnutls_x509_crt_set_basic_constraints(issuer, 1, -1);
	gnutls_x509_crt_init(&leaf);
	gnutls_x509_crt_set_version(leaf, 3);
	gnutls_x509_crt_set_crq(leaf, csr);
	serial++;
	gnutls_x509_crt_set_serial(leaf, &serial, 1);
	gnutls_x509_crt_set_activation_time(leaf, time(NULL) - 60);
	gnutls_x509_crt_set_expiration_time(leaf, time(NULL) + 86400);
	for (size_t i = 0; i < n; i++)
		gnutls_x509_crt_set_subject_alt_name(leaf, GNUTLS_SAN_DNSNAME, names[i],
						     (unsigned)strlen(names[i]),
						     i ? GNUTLS_FSAN_APPEND : GNUTLS_FSAN_SET);
	assert_int_equal(gnutls_x509_crt_sign2(leaf, issuer, issuer_key(), GNUTLS_DIG_SHA256, 0), 0);
	assert_int_equal(gnutls_x509_crt_export2(leaf, GNUTLS_X509_FMT_PEM, &pem), 0);
	char *text = strndup((char *)pem.data, pem.size);
	gnutls_free(pem.data);
	gnutls_x509_crt_deinit(leaf);
	gnutls_x509_crt_deinit(issuer);
	gnutls_x509_crq_deinit(csr);
	free(der);
	return text;
}

/* ---- what the CA does by itself */

void ca_problem(struct exchange *x, const char *type, long status)
{
	char text[100];
	snprintf(text, sizeof text, CA_PROBLEM "%s", type);
	json_decref(x->json);
	x->json = json_pack("{ss,ss}", "type", text, "detail", "as the test wants it");
	x->status = status;
	x->location[0] = '\0';
}

static json_t *place(const char *path)
{
	return json_sprintf(CA_URL "%s", path);
}

static json_t *url(const char *path, int number)
{
	return json_sprintf(CA_URL "%s%d", path, number);
}

static void serve_directory(struct ca *ca, struct exchange *x)
{
	x->json = json_pack("{so,so,so,so}", "newNonce", place("/nonce"), "newAccount", place("/account"),
			    "newOrder", place("/order"), "revokeCert", place("/revoke"));
	if (ca->key_change)
		json_object_set_new(x->json, "keyChange", place("/key"));
	if (ca->ari)
		json_object_set_new(x->json, "renewalInfo", place("/ari"));
	json_t *meta = json_pack("{sb}", "externalAccountRequired", ca->eab);
	if (ca->profiles)
		json_object_set(meta, "profiles", ca->profiles);
	json_object_set_new(x->json, "meta", meta);
	x->no_nonce = true;
}

static void serve_account(struct ca *ca, struct exchange *x)
{
	x->json = json_pack("{ss,sO?}", "status", ca->account_status, "contact", ca->contact);
	snprintf(x->location, sizeof x->location, CA_URL "/account/1");
}

static void serve_new_account(struct ca *ca, struct exchange *x)
{
	json_t *jwk = json_object_get(x->header, "jwk");
	bool only_look = json_is_true(json_object_get(x->payload, "onlyReturnExisting"));
	assert_non_null(jwk);
	json_decref(ca->last_account);
	ca->last_account = json_incref(x->payload);
	bool known = ca->account && json_equal(ca->account, jwk);
	if (!known && only_look) {
		ca_problem(x, "accountDoesNotExist", 400);
		return;
	}
	if (!known && ca->eab && !json_object_get(x->payload, "externalAccountBinding")) {
		ca_problem(x, "externalAccountRequired", 403);
		return;
	}
	x->status = known ? 200 : 201;
	if (!known) {
		assert_true(json_is_true(json_object_get(x->payload, "termsOfServiceAgreed")));
		json_decref(ca->account);
		ca->account = json_incref(jwk);
		json_decref(ca->contact);
		ca->contact = json_incref(json_object_get(x->payload, "contact"));
	}
	serve_account(ca, x);
}

static void serve_own_account(struct ca *ca, struct exchange *x)
{
	json_t *contact = json_object_get(x->payload, "contact");
	const char *status = json_string_value(json_object_get(x->payload, "status"));
	if (contact) {
		json_decref(ca->contact);
		ca->contact = json_incref(contact);
	}
	if (status && !strcmp(status, "deactivated"))
		ca->account_status = "deactivated";
	serve_account(ca, x);
}

static void serve_key_change(struct ca *ca, struct exchange *x)
{
	uint8_t *text;
	size_t len;
	assert_int_equal(
		base64url_decode(json_string_value(json_object_get(x->payload, "protected")), &text, &len),
		0);
	json_t *inner = json_loadb((char *)text, len, 0, NULL);
	json_decref(ca->account);
	ca->account = json_incref(json_object_get(inner, "jwk"));
	json_decref(inner);
	free(text);
	serve_account(ca, x);
}

static bool all_valid(const struct ca_order *o)
{
	for (size_t i = 0; i < o->n; i++)
		if (strcmp(o->authorizations[i].status, "valid") != 0)
			return false;
	return o->n > 0;
}

static void serve_order(struct ca *ca, struct exchange *x)
{
	struct ca_order *o = &ca->orders[x->number];
	json_t *list = json_array();
	if (!strcmp(o->status, "pending") && all_valid(o))
		o->status = "ready";
	if (!strcmp(o->status, "processing") && o->looks++ >= 1)
		o->status = "valid";
	for (size_t i = 0; i < o->n; i++)
		json_array_append_new(list, url("/authz/", x->number * CA_NAMES + (int)i));
	x->json = json_pack("{ss,sO,so,so}", "status", o->status, "identifiers", o->identifiers,
			    "authorizations", list, "finalize", url("/finalize/", x->number));
	if (!strcmp(o->status, "valid"))
		json_object_set_new(x->json, "certificate", url("/cert/", x->number));
}

static void serve_new_order(struct ca *ca, struct exchange *x)
{
	size_t i;
	json_t *identifier;
	assert_true(ca->n_orders < CA_ORDERS);
	struct ca_order *o = &ca->orders[ca->n_orders];
	json_decref(ca->last_order);
	ca->last_order = json_incref(x->payload);
	x->number = ca->n_orders++;
	x->status = 201;
	o->status = "pending";
	o->identifiers = json_incref(json_object_get(x->payload, "identifiers"));
	json_array_foreach(o->identifiers, i, identifier)
	{
		struct ca_authorization *p = &o->authorizations[o->n++];
		p->status = p->challenge_status = "pending";
		snprintf(p->name, sizeof p->name, "%s",
			 json_string_value(json_object_get(identifier, "value")));
	}
	snprintf(x->location, sizeof x->location, CA_URL "/order/%d", x->number);
	serve_order(ca, x);
}

static struct ca_authorization *authorization_of(struct ca *ca, int number)
{
	return &ca->orders[number / CA_NAMES].authorizations[number % CA_NAMES];
}

static json_t *challenge_of(struct ca *ca, int number, const char *type)
{
	struct ca_authorization *p = authorization_of(ca, number);
	json_t *json = json_pack("{ss,ss,so,so}", "type", type, "status", p->challenge_status, "url",
				 url("/chall/", number), "token", json_sprintf("token-%d", number));
	if (p->error)
		json_object_set(json, "error", p->error);
	return json;
}

static void serve_authorization(struct ca *ca, struct exchange *x)
{
	struct ca_authorization *p = authorization_of(ca, x->number);
	json_t *list = json_array();
	if (!strcmp(p->challenge_status, "processing") && p->looks++ >= 1)
		p->challenge_status = p->status = "valid";
	for (size_t i = 0; ca->offered[i]; i++)
		json_array_append_new(list, challenge_of(ca, x->number, ca->offered[i]));
	x->json = json_pack("{ss,s{ss,ss},so}", "status", p->status, "identifier", "type", "dns", "value",
			    p->name, "challenges", list);
}

static void serve_challenge(struct ca *ca, struct exchange *x)
{
	struct ca_authorization *p = authorization_of(ca, x->number);
	assert_true(ca->answering > 0);
	assert_true(json_is_object(x->payload) && json_object_size(x->payload) == 0);
	p->posts++;
	if (ca->async)
		p->challenge_status = "processing";
	else
		p->challenge_status = p->status = "valid";
	x->json = challenge_of(ca, x->number,
			       ca->options.challenge == ACME_HTTP_01 ? "http-01" : "tls-alpn-01");
}

static void serve_finalize(struct ca *ca, struct exchange *x)
{
	struct ca_order *o = &ca->orders[x->number];
	if (!strcmp(o->status, "pending") && all_valid(o))
		o->status = "ready";
	if (strcmp(o->status, "ready") != 0) {
		ca_problem(x, "orderNotReady", 403);
		return;
	}
	free(o->chain);
	o->chain = ca_certificate("Test Root", json_object_get(x->payload, "csr"), ca->options.names,
				  ca->options.n_names);
	o->status = ca->async ? "processing" : "valid";
	serve_order(ca, x);
}

static void serve_certificate(struct ca *ca, struct exchange *x)
{
	x->text = strdup(ca->orders[x->number].chain);
	snprintf(x->content_type, sizeof x->content_type, "application/pem-certificate-chain");
	assert_non_null(x->accept);
}

static void serve_revoke(struct ca *ca, struct exchange *x)
{
	assert_non_null(json_string_value(json_object_get(x->payload, "certificate")));
	if (ca->revoked++)
		ca_problem(x, "alreadyRevoked", 400);
}

static void serve_ari(struct ca *ca, struct exchange *x)
{
	(void)ca;
	x->json = json_pack("{s{ss,ss}}", "suggestedWindow", "start", "2025-11-16T10:00:00Z", "end",
			    "2025-11-16T11:00:00Z");
	snprintf(x->retry_after, sizeof x->retry_after, "3600");
	x->no_nonce = true;
}

static void serve_nonce(struct ca *ca, struct exchange *x)
{
	(void)ca;
	assert_string_equal(x->method, "HEAD");
}

static const struct {
	const char *path, *kind;
	void (*serve)(struct ca *, struct exchange *);
} places[] = {
	{"/directory", "directory", serve_directory},
	{"/nonce", "newNonce", serve_nonce},
	{"/account", "newAccount", serve_new_account},
	{"/account/%d", "account", serve_own_account},
	{"/order", "newOrder", serve_new_order},
	{"/order/%d", "order", serve_order},
	{"/authz/%d", "authorization", serve_authorization},
	{"/chall/%d", "challenge", serve_challenge},
	{"/finalize/%d", "finalize", serve_finalize},
	{"/cert/%d", "certificate", serve_certificate},
	{"/revoke", "revokeCert", serve_revoke},
	{"/key", "keyChange", serve_key_change},
	{"/ari/x.y", "renewalInfo", serve_ari},
};

static size_t place_of(const char *full, int *number)
{
	const char *path = full + strlen(CA_URL);
	path += strncmp(path, ":443", 4) ? 0 : 4;
	char again[100];
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		*number = 0;
		const char *digits = strrchr(path, '/') + 1;
		if (strchr(places[i].path, '%'))
			*number = atoi(digits);
		char *percent = strchr(places[i].path, '%');
		if (percent)
			snprintf(again, sizeof again, "%.*s%d", (int)(percent - places[i].path),
				 places[i].path, *number);
		else
			snprintf(again, sizeof again, "%s", places[i].path);
		if (!strcmp(again, path))
			return i;
	}
	fail_msg("nothing is at %s", full);
	return 0;
}

/* ---- http.h */

struct http {
	struct ev_loop *loop;
	struct exchange x; /* the last */
	char *body, nonce[30], location[300];
	const char *links[2];
};

static json_t *part(const json_t *jws, const char *key)
{
	uint8_t *text;
	size_t len;
	assert_int_equal(base64url_decode(json_string_value(json_object_get(jws, key)), &text, &len), 0);
	json_t *json = len ? json_loadb((char *)text, len, 0, NULL) : NULL;
	free(text);
	return json;
}

/* The nonce must be one of ours that was not used; only the last is remembered, as a hard CA would. */
static bool signed_well(struct ca *ca, struct exchange *x)
{
	char last[30];
	const char *nonce = json_string_value(json_object_get(x->header, "nonce"));
	snprintf(last, sizeof last, "nonce-%d", ca->nonce);
	assert_string_equal(json_string_value(json_object_get(x->header, "url")), x->url);
	if (!strcmp(x->kind, "newAccount"))
		assert_null(json_object_get(x->header, "kid"));
	else
		assert_string_equal(json_string_value(json_object_get(x->header, "kid")),
				    CA_URL "/account/1");
	if (strcmp(nonce, last) != 0) {
		ca_problem(x, "badNonce", 400);
		return false;
	}
	ca->nonce++;
	if (!ca->account && strcmp(x->kind, "newAccount") != 0) {
		ca_problem(x, "accountDoesNotExist", 400);
		return false;
	}
	return true;
}

static void exchange_serve(struct ca *ca, struct exchange *x)
{
	size_t at = place_of(x->url, &x->number);
	x->kind = places[at].kind;
	assert_true(ca->n_log < CA_LOG);
	ca->log[ca->n_log] = x->kind;
	ca->at[ca->n_log++] = ca_now();
	if (ca->before && ca->before(ca, x))
		return;
	if (!x->header || signed_well(ca, x))
		places[at].serve(ca, x);
	if (ca->after)
		ca->after(ca, x);
}

static const char *given(const char *text)
{
	return text[0] ? text : NULL;
}

static void exchange_done(struct http *h)
{
	free(h->body);
	free(h->x.text);
	json_decref(h->x.json);
	json_decref(h->x.header);
	json_decref(h->x.payload);
}

int http_new(const struct http_options *options, struct http **out, char *why, size_t why_size)
{
	(void)why;
	(void)why_size;
	*out = calloc(1, sizeof **out);
	(*out)->loop = options->loop;
	return 0;
}

void http_free(struct http *h)
{
	if (h)
		exchange_done(h);
	free(h);
}

static void on_time(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)timer;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

static void run_until(struct ev_loop *loop, uint64_t deadline)
{
	ev_timer timer;
	ev_timer_init(&timer, on_time, (double)deadline / 1e9 - ca_now() + 1, 0.);
	ev_now_update(loop);
	ev_timer_start(loop, &timer);
	ev_run(loop, 0);
}

static void exchange_body(struct http *h)
{
	struct exchange *x = &h->x;
	h->body = x->text ? strdup(x->text) : x->json ? json_dumps(x->json, 0) : strdup("");
	if (!x->text || !x->len) {
		x->len = strlen(h->body);
		return;
	}
	free(h->body);
	h->body = malloc(x->len + 1);
	memcpy(h->body, x->text, x->len);
	h->body[x->len] = '\0';
}

void http_ask(struct http *h, const struct http_request *q, struct http_reply *out)
{
	struct exchange *x = &h->x;
	exchange_done(h);
	h->body = NULL;
	*x = (struct exchange){.method = q->method, .url = q->url, .accept = q->accept, .status = 200};
	h->links[0] = NULL;
	*out = (struct http_reply){.links = h->links, .body = ""};
	out->error = url_check(CA_URL "/directory", q->url, out->why, sizeof out->why);
	if (out->error)
		return;
	json_t *jws = q->body ? json_loads(q->body, 0, NULL) : NULL;
	if (jws) {
		x->header = part(jws, "protected");
		x->payload = part(jws, "payload");
	}
	json_decref(jws);
	exchange_serve(the_ca, x);
	if (x->silent) {
		run_until(h->loop, q->deadline);
		x->error = -ETIMEDOUT;
	}
	exchange_body(h);
	if (!x->no_nonce)
		the_ca->nonce++;
	snprintf(h->nonce, sizeof h->nonce, "nonce-%d", the_ca->nonce);
	h->links[0] = given(x->link);
	url_resolve(q->url, x->location, h->location, sizeof h->location);
	*out = (struct http_reply){
		.error = x->error,
		.why = "as the test wants it",
		.status = x->status,
		.location = given(h->location),
		.nonce = x->no_nonce ? NULL : h->nonce,
		.retry_after = given(x->retry_after),
		.content_type = given(x->content_type),
		.date = given(x->date),
		.links = h->links,
		.body = h->body,
		.len = x->len,
	};
}

/* ---- around it */

static void on_log(void *arg, int32_t level, const char *text)
{
	struct ca *ca = arg;
	(void)level;
	if (ca->n_lines < CA_LINES)
		snprintf(ca->lines[ca->n_lines++], sizeof *ca->lines, "%s", text);
}

bool ca_said(const struct ca *ca, const char *line)
{
	for (int i = 0; i < ca->n_lines; i++)
		if (!strcmp(ca->lines[i], line))
			return true;
	return false;
}

int ca_count(const struct ca *ca, const char *kind)
{
	int n = 0;
	for (int i = 0; i < ca->n_log; i++)
		n += !strcmp(ca->log[i], kind);
	return n;
}

const char *ca_kinds(const struct ca *ca, int since)
{
	static char text[8000];
	size_t used = 0;
	text[0] = '\0';
	for (int i = since; i < ca->n_log; i++)
		used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? " " : "",
					 ca->log[i]);
	return text;
}

/* As the host does when it has stored a certificate. */
static void forget_order(struct ca *ca)
{
	struct store_state s;
	assert_int_equal(store_state_load(ca->store, &s), 0);
	assert_non_null(s.order_url);
	free(s.order_url);
	free(s.order_key_pem);
	s.order_url = s.order_key_pem = NULL;
	assert_int_equal(store_state_save(ca->store, &s), 0);
	store_state_done(&s);
}

enum obtain_fail ca_run(struct ca *ca, const struct client_request *request)
{
	struct client *client = client_run(&ca->options, request);
	assert_non_null(client);
	assert_int_equal(ca->answering, 0);
	ca->result = client->result;
	free(ca->chain);
	free(ca->key);
	ca->chain = ca->result.chain.pem ? strdup(ca->result.chain.pem) : NULL;
	ca->key = ca->result.key_pem ? strdup(ca->result.key_pem) : NULL;
	ca->result.chain.pem = ca->result.key_pem = ca->result.ari_url = NULL;
	client_free(client);
	if (ca->chain)
		forget_order(ca);
	return ca->result.fail;
}

enum obtain_fail ca_issue(struct ca *ca)
{
	return ca_run(ca, &(struct client_request){.operation = "issue"});
}

bool ca_order_kept(struct ca *ca)
{
	struct store_state s;
	assert_int_equal(store_state_load(ca->store, &s), 0);
	bool kept = s.order_url != NULL;
	assert_true(!kept || s.order_key_pem);
	store_state_done(&s);
	return kept;
}

int ca_setup(void **state)
{
	static const char *const names[] = {"a.example", "b.example", "c.example"};
	struct ca *ca = calloc(1, sizeof *ca);
	char why[200] = "";
	the_ca = ca;
	*state = ca;
	snprintf(ca->folder, sizeof ca->folder, "/tmp/semstreams-test.XXXXXX");
	assert_non_null(mkdtemp(ca->folder));
	ca->loop = ev_loop_new(EVFLAG_AUTO);
	assert_int_equal(store_open(ca->folder, &ca->store, why, sizeof why), 0);
	assert_int_equal(store_lock(ca->store), 0);
	ca->account_status = "valid";
	ca->key_change = true;
	ca->offered[0] = "dns-01";
	ca->offered[1] = "http-01";
	ca->options = (struct client_options){
		.loop = ca->loop,
		.store = ca->store,
		.directory_url = CA_URL "/directory",
		.email = "operator@example.org",
		.names = names,
		.n_names = 1,
		.challenge_port = 80,
		.order_ns = 600000000000ull,
		.log = on_log,
		.arg = ca,
	};
	return 0;
}

int ca_teardown(void **state)
{
	struct ca *ca = *state;
	char command[100];
	store_free(ca->store);
	ev_loop_destroy(ca->loop);
	for (int i = 0; i < ca->n_orders; i++) {
		json_decref(ca->orders[i].identifiers);
		free(ca->orders[i].chain);
		for (size_t j = 0; j < ca->orders[i].n; j++)
			json_decref(ca->orders[i].authorizations[j].error);
	}
	json_decref(ca->account);
	json_decref(ca->contact);
	json_decref(ca->profiles);
	json_decref(ca->last_order);
	json_decref(ca->last_account);
	free(ca->chain);
	free(ca->key);
	snprintf(command, sizeof command, "rm -rf %s", ca->folder);
	int left = system(command);
	free(ca);
	return left;
}
