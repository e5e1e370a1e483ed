/* SPDX-License-Identifier: MIT */
/* Orders in every state and order of replies, against a CA that is asked and answers without a socket. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "helper_ca.h"

static void why_has(const struct ca *ca, const char *part)
{
	if (!strstr(ca->result.why, part))
		fail_msg("\"%s\" lacks \"%s\"", ca->result.why, part);
}

static void why_begins(const struct ca *ca, const char *part)
{
	if (strncmp(ca->result.why, part, strlen(part)) != 0)
		fail_msg("\"%s\" does not begin with \"%s\"", ca->result.why, part);
}

static bool is(const struct exchange *x, const char *kind)
{
	return !strcmp(x->kind, kind);
}

static void names(struct ca *ca, size_t n)
{
	ca->options.n_names = n;
}

/* ---- the usual way */

static void test_issue(void **state)
{
	struct ca *ca = *state;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_string_equal(
		ca_kinds(ca, 0),
		"directory newNonce newAccount newOrder authorization challenge finalize certificate");
	assert_true(ca_said(ca, "HTTP-01 challenge server started port=80"));
	assert_true(ca_said(ca, "Waiting for ACME validation"));
	assert_non_null(strstr(ca->chain, "BEGIN CERTIFICATE"));
	assert_non_null(strstr(ca->key, "PRIVATE KEY"));
	assert_false(ca_order_kept(ca));
	assert_int_equal(ca->answers, 1);
	char *first = strdup(ca->key);
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "issue", .old_key_pem = first}),
			 OBTAIN_OK);
	assert_string_not_equal(ca->key, first); /* a new key each time */
	free(first);
}

static void test_alpn(void **state)
{
	struct ca *ca = *state;
	ca->options.challenge = ACME_TLS_ALPN_01;
	ca->offered[2] = "tls-alpn-01";
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_true(ca_said(ca, "TLS-ALPN-01 challenge server started port=80"));
}

static void test_key_is_reused(void **state)
{
	struct ca *ca = *state;
	ca->options.reuse_key = true;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	char *first = strdup(ca->key);
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "issue", .old_key_pem = first}),
			 OBTAIN_OK);
	assert_string_equal(ca->key, first);
	free(first);
}

static void test_names(void **state)
{
	struct ca *ca = *state;
	names(ca, 3);
	ca->async = true;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca->answers, 3);
	assert_int_equal(json_array_size(json_object_get(ca->last_order, "identifiers")), 3);
	/* all are posted before the first is waited for */
	assert_non_null(strstr(ca_kinds(ca, 0),
			       "authorization challenge authorization challenge authorization challenge "
			       "authorization"));
}

static void test_asynchronous(void **state)
{
	struct ca *ca = *state;
	ca->async = true;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_string_equal(ca_kinds(ca, 3),
			    "newOrder authorization challenge authorization authorization finalize order "
			    "certificate");
}

static void authorized(struct ca *ca, struct exchange *x)
{
	if (is(x, "newOrder"))
		for (size_t i = 0; i < ca->orders[x->number].n; i++)
			if ((int)i != ca->left)
				ca->orders[x->number].authorizations[i].status = "valid";
}

static void test_authorizations_are_valid_already(void **state)
{
	struct ca *ca = *state;
	names(ca, 3);
	ca->after = authorized;
	ca->left = 1;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca->answers, 1);
	assert_int_equal(ca_count(ca, "challenge"), 1);
}

static void ready_at_once(struct ca *ca, struct exchange *x)
{
	if (is(x, "newOrder")) {
		ca->orders[x->number].status = "ready";
		json_object_set_new(x->json, "status", json_string("ready"));
		json_object_set_new(x->json, "authorizations", json_array());
	}
}

static void test_ready_at_once(void **state)
{
	struct ca *ca = *state;
	ca->after = ready_at_once;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_string_equal(ca_kinds(ca, 3), "newOrder finalize certificate");
	assert_int_equal(ca->answers, 0);
}

/* Pending without anything to prove: it becomes ready by itself. */
static void empty_authorizations(struct ca *ca, struct exchange *x)
{
	if (is(x, "newOrder") || is(x, "order")) {
		json_object_set_new(x->json, "authorizations", json_array());
		if (is(x, "order") && ca->left-- == 0) {
			ca->orders[x->number].status = "ready";
			json_object_set_new(x->json, "status", json_string("ready"));
		}
	}
}

static void test_empty_authorizations(void **state)
{
	struct ca *ca = *state;
	ca->after = empty_authorizations;
	ca->left = 2;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_string_equal(ca_kinds(ca, 3), "newOrder order order order finalize certificate");
}

static void not_ready(struct ca *ca, struct exchange *x)
{
	if (is(x, "finalize") && ca->left-- > 0) {
		ca_problem(x, "orderNotReady", 403);
		ca->orders[x->number].status = "ready";
	}
}

static void test_order_is_not_ready(void **state)
{
	struct ca *ca = *state;
	ca->after = not_ready;
	ca->left = 1;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "finalize"), 2);
	ca->left = 1000;
	assert_int_equal(ca_issue(ca), OBTAIN_REFUSED);
	assert_int_equal(ca_count(ca, "finalize"), 2 + 3);
}

/* The challenge is said to be valid before the authorization is. */
static void valid_too_early(struct ca *ca, struct exchange *x)
{
	if (is(x, "challenge")) {
		struct ca_authorization *p =
			&ca->orders[x->number / CA_NAMES].authorizations[x->number % CA_NAMES];
		p->status = "pending";
		p->challenge_status = "processing";
	}
}

static void test_valid_too_early(void **state)
{
	struct ca *ca = *state;
	ca->after = valid_too_early;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_string_equal(ca_kinds(ca, 4),
			    "authorization challenge finalize order authorization authorization order "
			    "finalize certificate");
}

static void strange_word(struct ca *ca, struct exchange *x)
{
	(void)ca;
	if (is(x, "newOrder"))
		json_object_set_new(x->json, "status", json_string("simmering\033"));
}

static void test_strange_word(void **state)
{
	struct ca *ca = *state;
	ca->after = strange_word;
	assert_int_equal(ca_issue(ca), OBTAIN_BROKEN);
	why_has(ca, "simmering");
	assert_null(strchr(ca->result.why, '\033'));
	assert_false(ca_order_kept(ca));
}

static void no_location(struct ca *ca, struct exchange *x)
{
	(void)ca;
	if (is(x, "newOrder"))
		x->location[0] = '\0';
}

static void test_no_location(void **state)
{
	struct ca *ca = *state;
	ca->after = no_location;
	assert_int_equal(ca_issue(ca), OBTAIN_BROKEN);
	why_has(ca, "order URL");
}

static void broken_document(struct ca *ca, struct exchange *x)
{
	if (!is(x, "newOrder") && !is(x, "authorization") && !is(x, "challenge") && !is(x, "finalize"))
		return;
	if (ca->left-- > 0)
		return;
	json_decref(x->json);
	x->json = NULL;
	x->text = strdup("{\"status\":\"pen");
}

static void test_documents_cut_short(void **state)
{
	struct ca *ca = *state;
	ca->after = broken_document;
	for (int i = 0; i < 4; i++) {
		ca->left = i;
		assert_int_equal(ca_issue(ca), OBTAIN_BROKEN);
		why_has(ca, "JSON");
		assert_false(ca_order_kept(ca));
	}
}

static void invalid_later(struct ca *ca, struct exchange *x)
{
	if (is(x, "finalize")) {
		ca->orders[x->number].status = "invalid";
		json_object_set_new(x->json, "status", json_string("invalid"));
		json_object_del(x->json, "certificate");
		json_object_set_new(x->json, "error", json_pack("{ss}", "type", CA_PROBLEM "badCSR"));
	}
}

static void test_invalid_at_the_end(void **state)
{
	struct ca *ca = *state;
	ca->after = invalid_later;
	assert_int_equal(ca_issue(ca), OBTAIN_REFUSED);
	assert_true(ca->result.permanent);
	why_begins(ca, "failed to obtain certificate from ACME server: the CA does not accept the "
		       "certificate request");
	assert_false(ca_order_kept(ca));
}

static void stuck(struct ca *ca, struct exchange *x)
{
	(void)ca;
	if (is(x, "finalize") || is(x, "order"))
		json_object_set_new(x->json, "status", json_string("processing"));
}

static void test_stuck_in_processing(void **state)
{
	struct ca *ca = *state;
	ca->after = stuck;
	assert_int_equal(ca_issue(ca), OBTAIN_TIMEOUT);
	why_has(ca, "waiting for the CA to issue");
	assert_false(ca_order_kept(ca));
	assert_true(ca->n_log <= 110);
}

/* ---- waiting as long as the CA says */

static void slow(struct ca *ca, struct exchange *x)
{
	if ((is(x, "finalize") || is(x, "order")) && ca->left-- > 0) {
		json_object_set_new(x->json, "status", json_string("processing"));
		snprintf(x->retry_after, sizeof x->retry_after, "20");
	}
}

static void test_polls_no_earlier(void **state)
{
	struct ca *ca = *state;
	ca->after = slow;
	ca->left = 3;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	int looks = 0;
	for (int i = 1; i < ca->n_log; i++)
		if (!strcmp(ca->log[i], "order")) {
			assert_true(ca->at[i] - ca->at[i - 1] >= 20);
			looks++;
		}
	assert_int_equal(looks, 3);
}

static void very_slow(struct ca *ca, struct exchange *x)
{
	if (is(x, "finalize") && ca->left-- > 0) {
		ca->orders[x->number].status = "processing";
		json_object_set_new(x->json, "status", json_string("processing"));
		snprintf(x->retry_after, sizeof x->retry_after, "7200");
	}
}

static void test_too_slow_for_this_attempt(void **state)
{
	struct ca *ca = *state;
	ca->after = very_slow;
	ca->left = 1;
	assert_int_equal(ca_issue(ca), OBTAIN_RATE_LIMITED);
	assert_true(ca->result.retry_after > 7000);
	assert_true(ca_order_kept(ca)); /* it is good then */
}

/* ---- challenges */

static json_t *connection_refused(void)
{
	return json_pack("{ss,ss}", "type", CA_PROBLEM "connection", "detail",
			 "dial tcp: connection refused");
}

/* step-ca: it tries when the challenge is posted, and only then. */
static void posts_fail(struct ca *ca, struct exchange *x)
{
	if (!is(x, "challenge"))
		return;
	struct ca_authorization *p = &ca->orders[x->number / CA_NAMES].authorizations[x->number % CA_NAMES];
	json_decref(p->error);
	p->error = NULL;
	if (ca->left-- > 0) {
		p->status = p->challenge_status = "pending";
		p->error = connection_refused();
		json_object_set_new(x->json, "status", json_string("pending"));
		json_object_set(x->json, "error", p->error);
	}
}

static void test_posted_again(void **state)
{
	struct ca *ca = *state;
	ca->after = posts_fail;
	ca->left = 3;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "challenge"), 4);
	assert_int_equal(ca_count(ca, "authorization"), 1); /* the answers to the posts tell enough */
	int first = 0;
	double wait = 0, last = 0;
	for (int i = 0; i < ca->n_log; i++)
		if (!strcmp(ca->log[i], "challenge")) {
			if (first++)
				assert_true(ca->at[i] - last >= (wait = wait > 0 ? 2 * wait : 1));
			last = ca->at[i];
		}
}

static void test_posted_in_vain(void **state)
{
	struct ca *ca = *state;
	ca->after = posts_fail;
	ca->left = 1000;
	assert_int_equal(ca_issue(ca), OBTAIN_CHALLENGE_FAILED);
	why_begins(
		ca,
		"HTTP-01 challenge failed: challenge validation failed: a.example: the CA could not connect");
	why_has(ca, "dial tcp: connection refused");
	assert_false(ca->result.permanent);
	assert_int_equal(ca_count(ca, "challenge"), 6);
	assert_false(ca_order_kept(ca));
}

static void challenge_invalid(struct ca *ca, struct exchange *x)
{
	if (!is(x, "challenge"))
		return;
	struct ca_authorization *p = &ca->orders[x->number / CA_NAMES].authorizations[x->number % CA_NAMES];
	p->status = "pending";
	p->challenge_status = "invalid";
	p->error = json_pack("{ss,ss}", "type", CA_PROBLEM "incorrectResponse", "detail", "got <html>");
	if (ca->async) {
		json_object_set_new(x->json, "status", json_string("processing"));
	} else {
		json_object_set_new(x->json, "status", json_string("invalid"));
		json_object_set(x->json, "error", p->error);
	}
}

/* The authorization stays pending though the challenge is lost. */
static void test_challenge_is_invalid(void **state)
{
	struct ca *ca = *state;
	ca->after = challenge_invalid;
	for (int i = 0; i < 2; i++) {
		ca->async = i;
		assert_int_equal(ca_issue(ca), OBTAIN_CHALLENGE_FAILED);
		why_has(ca, "a.example: the CA got a wrong answer");
		why_has(ca, "got <html>");
		assert_int_equal(ca_count(ca, "challenge"), i + 1);
	}
}

static void authorization_invalid(struct ca *ca, struct exchange *x)
{
	if (is(x, "challenge")) {
		struct ca_authorization *p =
			&ca->orders[x->number / CA_NAMES].authorizations[x->number % CA_NAMES];
		p->status = p->challenge_status = "invalid";
		p->error = connection_refused();
		json_object_set_new(x->json, "status", json_string("processing"));
	}
}

static void test_authorization_is_invalid(void **state)
{
	struct ca *ca = *state;
	names(ca, 2);
	ca->after = authorization_invalid;
	assert_int_equal(ca_issue(ca), OBTAIN_CHALLENGE_FAILED);
	why_begins(ca, "HTTP-01 challenge failed: challenge validation failed: a.example: ");
}

static bool post_unanswered(struct ca *ca, struct exchange *x)
{
	if (!is(x, "challenge") || ca->left-- <= 0)
		return false;
	x->error = -ECONNRESET;
	return true;
}

/* Nobody knows whether the CA has got it. */
static void test_post_breaks(void **state)
{
	struct ca *ca = *state;
	ca->before = post_unanswered;
	ca->left = 2;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "challenge"), 3);
}

static void post_answer_lost(struct ca *ca, struct exchange *x)
{
	(void)ca;
	if (is(x, "challenge"))
		x->error = -ECONNRESET;
}

static void test_answer_of_post_is_lost(void **state)
{
	struct ca *ca = *state;
	ca->after = post_answer_lost;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "challenge"), 1);
}

static void validation_for_ever(struct ca *ca, struct exchange *x)
{
	if (is(x, "challenge") || is(x, "authorization")) {
		int number = x->number;
		struct ca_authorization *p = &ca->orders[number / CA_NAMES].authorizations[number % CA_NAMES];
		p->status = "pending";
		p->looks = 0;
	}
}

static void test_validation_for_ever(void **state)
{
	struct ca *ca = *state;
	ca->options.order_ns = 120000000000ull;
	ca->after = validation_for_ever;
	ca->async = true;
	assert_int_equal(ca_issue(ca), OBTAIN_TIMEOUT);
	why_begins(ca, "HTTP-01 challenge failed: challenge validation failed: out of time while validating "
		       "a.example");
	assert_true(ca->n_log <= 110);
	assert_false(ca_order_kept(ca));
}

static void test_not_offered(void **state)
{
	struct ca *ca = *state;
	ca->offered[1] = "of-the-future-01";
	assert_int_equal(ca_issue(ca), OBTAIN_CHALLENGE_FAILED);
	assert_true(ca->result.permanent);
	why_has(ca, "the CA does not offer http-01 for a.example; it offers: dns-01, of-the-future-01");
	why_has(ca, "challenge_type");
}

static void evil_token(struct ca *ca, struct exchange *x)
{
	size_t i;
	json_t *challenge;
	(void)ca;
	if (is(x, "authorization"))
		json_array_foreach(json_object_get(x->json, "challenges"), i, challenge)
			json_object_set_new(challenge, "token", json_string("../../../etc/passwd"));
}

static void test_evil_token(void **state)
{
	struct ca *ca = *state;
	ca->after = evil_token;
	assert_int_equal(ca_issue(ca), OBTAIN_BROKEN);
	why_has(ca, "token");
	assert_int_equal(ca->answers, 0);
}

static void other_name(struct ca *ca, struct exchange *x)
{
	(void)ca;
	if (is(x, "authorization"))
		json_object_set_new(json_object_get(x->json, "identifier"), "value",
				    json_string("bank.example"));
}

static void test_name_that_was_not_asked_for(void **state)
{
	struct ca *ca = *state;
	ca->after = other_name;
	assert_int_equal(ca_issue(ca), OBTAIN_BROKEN);
	why_has(ca, "name that was not ordered");
	assert_int_equal(ca->answers, 0);
}

/* The same authorization twice, and two of the same name. */
static void duplicates(struct ca *ca, struct exchange *x)
{
	(void)ca;
	json_t *list = json_object_get(x->json, "authorizations");
	if (list)
		json_array_append(list, json_array_get(list, 0));
	if (is(x, "authorization"))
		json_object_set_new(json_object_get(x->json, "identifier"), "value",
				    json_string("a.example"));
}

static void test_duplicates(void **state)
{
	struct ca *ca = *state;
	names(ca, 2);
	ca->after = duplicates;
	ca->async = true;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "challenge"), 2);
	/* one after the other */
	assert_null(strstr(ca_kinds(ca, 0), "challenge authorization challenge"));
}

static void test_port_is_taken(void **state)
{
	struct ca *ca = *state;
	ca->port_taken = "port 80 is in use by another program";
	assert_int_equal(ca_issue(ca), OBTAIN_LOCAL);
	assert_string_equal(ca->result.why, "HTTP-01 challenge failed: port 80 is in use by another program");
	assert_true(ca_said(
		ca, "Challenge port is busy, waiting for it error=\"port 80 is in use by another program\""));
	assert_true(ca_order_kept(ca));
	ca->port_taken = NULL;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca->n_orders, 1);
}

/* ---- finalize */

static void finalize_answer_lost(struct ca *ca, struct exchange *x)
{
	if (is(x, "finalize") && ca->left-- > 0)
		x->error = -ECONNRESET;
}

static bool finalize_lost(struct ca *ca, struct exchange *x)
{
	if (!is(x, "finalize") || ca->left-- <= 0)
		return false;
	x->error = -ECONNRESET;
	return true;
}

static void test_finalize_breaks(void **state)
{
	struct ca *ca = *state;
	ca->after = finalize_answer_lost;
	ca->left = 1;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "finalize"), 1);
	ca->after = NULL;
	ca->before = finalize_lost;
	ca->left = 1;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "finalize"), 3);
	assert_int_equal(ca->n_orders, 2);
}

/* ---- what is left of an earlier run */

static bool broken_after_order(struct ca *ca, struct exchange *x)
{
	(void)ca;
	if (!is(x, "authorization") && !is(x, "certificate"))
		return false;
	x->error = -ENETUNREACH;
	return true;
}

static void begin_an_order(struct ca *ca)
{
	ca->before = broken_after_order;
	assert_int_equal(ca_issue(ca), OBTAIN_UNREACHABLE);
	assert_true(ca_order_kept(ca));
	ca->before = NULL;
}

static void test_resumed(void **state)
{
	struct ca *ca = *state;
	begin_an_order(ca);
	int n = ca->n_log;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_string_equal(ca_kinds(ca, n),
			    "directory newNonce order authorization challenge finalize certificate");
}

static void test_resumed_when_valid(void **state)
{
	struct ca *ca = *state;
	ca->after = ready_at_once;
	begin_an_order(ca);
	ca->after = NULL;
	int n = ca->n_log;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_string_equal(ca_kinds(ca, n), "directory newNonce order certificate");
}

static void test_resumed_when_invalid(void **state)
{
	struct ca *ca = *state;
	begin_an_order(ca);
	ca->orders[0].status = "invalid";
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca->n_orders, 2);
}

static bool order_gone(struct ca *ca, struct exchange *x)
{
	(void)ca;
	return is(x, "order") ? x->status = 404, true : false;
}

static void test_resumed_when_gone(void **state)
{
	struct ca *ca = *state;
	begin_an_order(ca);
	ca->before = order_gone;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca->n_orders, 2);
}

static void test_resumed_for_other_names(void **state)
{
	struct ca *ca = *state;
	begin_an_order(ca);
	names(ca, 2);
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca->n_orders, 2);
}

static void test_resumed_with_an_invalid_authorization(void **state)
{
	struct ca *ca = *state;
	begin_an_order(ca);
	ca->orders[0].authorizations[0].status = "invalid";
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca->n_orders, 2);
}

static void test_resumed_at_another_ca(void **state)
{
	struct ca *ca = *state;
	struct store_state s;
	begin_an_order(ca);
	assert_int_equal(store_state_load(ca->store, &s), 0);
	free(s.order_url);
	s.order_url = strdup("https://other.example/order/1");
	assert_int_equal(store_state_save(ca->store, &s), 0);
	store_state_done(&s);
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca->n_orders, 2);
}

/* Its certificate was stored, only the order was not forgotten. */
static void test_resumed_when_stored(void **state)
{
	struct ca *ca = *state;
	struct store_state s;
	begin_an_order(ca);
	assert_int_equal(store_state_load(ca->store, &s), 0);
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(stored_cert_save(ca->store, ca->chain, ca->key), 0);
	assert_int_equal(store_state_save(ca->store, &s), 0);
	store_state_done(&s);
	char *old = strdup(ca->chain);
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_string_not_equal(old, ca->chain);
	assert_int_equal(ca->n_orders, 2);
	free(old);
}

static void test_account_lost_under_way(void **state)
{
	struct ca *ca = *state;
	begin_an_order(ca);
	json_decref(ca->account);
	ca->account = NULL;
	ca->before = order_gone;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "newAccount"), 2);
}

static void test_state_is_broken(void **state)
{
	struct ca *ca = *state;
	char command[200];
	snprintf(command, sizeof command, "echo '{' > %s/state.json", ca->folder);
	assert_int_equal(system(command), 0);
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
}

static void test_disk_is_full(void **state)
{
	struct ca *ca = *state;
	char command[200];
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	snprintf(command, sizeof command, "rm -f %s/state.json; mkdir -p %s/state.json/x", ca->folder,
		 ca->folder);
	assert_int_equal(system(command), 0);
	assert_int_equal(ca_issue(ca), OBTAIN_STORAGE);
	assert_int_equal(ca->n_orders, 1); /* none was made for nothing */
}

/* ---- certificates */

static const char *content;

static void certificate_is(struct ca *ca, struct exchange *x)
{
	(void)ca;
	if (!is(x, "certificate"))
		return;
	if (!strcmp(content, "html")) {
		snprintf(x->content_type, sizeof x->content_type, "text/html");
	} else if (!strcmp(content, "NUL")) {
		x->len = strlen(x->text);
		x->text[60] = '\0';
	} else if (!strcmp(content, "key")) {
		char *more = malloc(strlen(x->text) + 200);
		sprintf(more, "%s-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", x->text);
		free(x->text);
		x->text = more;
	} else {
		free(x->text);
		x->text = strdup("");
	}
}

static void test_certificates_refused(void **state)
{
	struct ca *ca = *state;
	static const char *const cases[] = {"html", "NUL", "key", "empty"};
	ca->after = certificate_is;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		content = cases[i];
		assert_int_equal(ca_issue(ca), OBTAIN_BROKEN);
		why_begins(ca, "failed to obtain certificate from ACME server: the CA returned ");
		assert_false(ca_order_kept(ca));
	}
}

static json_t *csr; /* of the last finalize */

static void alternates(struct ca *ca, struct exchange *x)
{
	if (is(x, "finalize")) {
		json_decref(csr);
		csr = json_incref(json_object_get(x->payload, "csr"));
	}
	if (is(x, "certificate") && x->number == 0)
		snprintf(x->link, sizeof x->link, "<" CA_URL "/cert/1>;rel=\"alternate\"");
	if (is(x, "certificate") && x->number == 1) {
		free(x->text);
		x->text = ca_certificate("Other Root", csr, ca->options.names, ca->options.n_names);
	}
}

static bool second_certificate(struct ca *ca, struct exchange *x)
{
	if (!is(x, "certificate") || x->number != 1)
		return false;
	x->text = strdup("");
	snprintf(x->content_type, sizeof x->content_type, "application/pem-certificate-chain");
	alternates(ca, x);
	x->no_nonce = true;
	return true;
}

static void test_preferred_chain(void **state)
{
	struct ca *ca = *state;
	ca->after = alternates;
	ca->before = second_certificate;
	ca->options.preferred_chain = "Other Root";
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "certificate"), 2);
	assert_true(ca->n_lines > 0);
	assert_null(strstr(ca->lines[ca->n_lines - 1], "preferred"));
	json_decref(csr);
	csr = NULL;
}

static void test_preferred_chain_is_missing(void **state)
{
	struct ca *ca = *state;
	ca->options.preferred_chain = "Nobody's Root";
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_true(ca_said(ca, "ACME server has no chain with the preferred issuer, using its own choice "
				"preferred=\"Nobody's Root\" root=\"Test Root\""));
}

/* ---- what an order may ask for */

static void test_profile(void **state)
{
	struct ca *ca = *state;
	ca->options.profile = "short";
	assert_int_equal(ca_issue(ca), OBTAIN_REFUSED);
	assert_true(ca->result.permanent);
	why_has(ca, "no profiles");
	ca->profiles = json_pack("{ss,ss}", "classic", "x", "long", "y");
	assert_int_equal(ca_issue(ca), OBTAIN_REFUSED);
	why_has(ca, "it has: classic, long");
	assert_int_equal(ca->n_orders, 0);
	json_object_set_new(ca->profiles, "short", json_string("z"));
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_string_equal(json_string_value(json_object_get(ca->last_order, "profile")), "short");
}

static bool replaced(struct ca *ca, struct exchange *x)
{
	(void)ca;
	if (!is(x, "newOrder") || !json_object_get(x->payload, "replaces"))
		return false;
	ca_problem(x, "alreadyReplaced", 409);
	return true;
}

static void test_replaces(void **state)
{
	struct ca *ca = *state;
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "issue", .old_ari_id = "x.y"}),
			 OBTAIN_OK);
	assert_null(json_object_get(ca->last_order, "replaces")); /* nobody offered ARI */
	ca->ari = true;
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "issue", .old_ari_id = "x.y"}),
			 OBTAIN_OK);
	assert_string_equal(json_string_value(json_object_get(ca->last_order, "replaces")), "x.y");
	ca->before = replaced;
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "issue", .old_ari_id = "x.y"}),
			 OBTAIN_OK);
	assert_null(json_object_get(ca->last_order, "replaces"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ca_setup, ca_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_issue),
		TEST(test_alpn),
		TEST(test_key_is_reused),
		TEST(test_names),
		TEST(test_asynchronous),
		TEST(test_authorizations_are_valid_already),
		TEST(test_ready_at_once),
		TEST(test_empty_authorizations),
		TEST(test_order_is_not_ready),
		TEST(test_valid_too_early),
		TEST(test_strange_word),
		TEST(test_no_location),
		TEST(test_documents_cut_short),
		TEST(test_invalid_at_the_end),
		TEST(test_stuck_in_processing),
		TEST(test_polls_no_earlier),
		TEST(test_too_slow_for_this_attempt),
		TEST(test_posted_again),
		TEST(test_posted_in_vain),
		TEST(test_challenge_is_invalid),
		TEST(test_authorization_is_invalid),
		TEST(test_post_breaks),
		TEST(test_answer_of_post_is_lost),
		TEST(test_validation_for_ever),
		TEST(test_not_offered),
		TEST(test_evil_token),
		TEST(test_name_that_was_not_asked_for),
		TEST(test_duplicates),
		TEST(test_port_is_taken),
		TEST(test_finalize_breaks),
		TEST(test_resumed),
		TEST(test_resumed_when_valid),
		TEST(test_resumed_when_invalid),
		TEST(test_resumed_when_gone),
		TEST(test_resumed_for_other_names),
		TEST(test_resumed_with_an_invalid_authorization),
		TEST(test_resumed_at_another_ca),
		TEST(test_resumed_when_stored),
		TEST(test_account_lost_under_way),
		TEST(test_state_is_broken),
		TEST(test_disk_is_full),
		TEST(test_certificates_refused),
		TEST(test_preferred_chain),
		TEST(test_preferred_chain_is_missing),
		TEST(test_profile),
		TEST(test_replaces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
