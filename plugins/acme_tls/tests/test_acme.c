/* SPDX-License-Identifier: MIT */
/* The client against a CA that is asked and answers without a socket: requests, account, other operations. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static char *account_key(struct ca *ca)
{
	struct store_account account;
	assert_int_equal(store_account_load(ca->store, &account), 0);
	char *key = strdup(account.key_pem);
	store_account_done(&account);
	return key;
}

/* ---- nonces and repetition */

static bool bad_nonces(struct ca *ca, struct exchange *x)
{
	if (!is(x, "newOrder") || ca->left-- <= 0)
		return false;
	ca_problem(x, "badNonce", 400);
	return true;
}

static void test_bad_nonce(void **state)
{
	struct ca *ca = *state;
	ca->before = bad_nonces;
	ca->left = 10;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "newOrder"), 11);
	assert_int_equal(ca_count(ca, "newNonce"), 1); /* each refusal brought the nonce for the next */
}

static void test_bad_nonce_for_ever(void **state)
{
	struct ca *ca = *state;
	ca->before = bad_nonces;
	ca->left = 1000;
	assert_int_equal(ca_issue(ca), OBTAIN_REFUSED);
	why_has(ca, "refused every nonce");
	assert_false(ca->result.permanent);
	assert_int_equal(ca_count(ca, "newOrder"), 11);
}

static bool no_nonce(struct ca *ca, struct exchange *x)
{
	x->no_nonce = true;
	return bad_nonces(ca, x);
}

static void test_no_nonce(void **state)
{
	struct ca *ca = *state;
	ca->before = no_nonce;
	ca->left = 1000;
	assert_int_equal(ca_issue(ca), OBTAIN_ACCOUNT);
	why_has(ca, "no nonce");
}

static void hide_nonce(struct ca *ca, struct exchange *x)
{
	(void)ca;
	x->no_nonce = !is(x, "newNonce");
}

static void test_nonces_only_where_asked_for(void **state)
{
	struct ca *ca = *state;
	ca->after = hide_nonce;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "newNonce"), ca->n_log / 2); /* one for each but the directory */
}

static bool errors(struct ca *ca, struct exchange *x)
{
	if (!is(x, "authorization") || ca->left-- <= 0)
		return false;
	x->status = 500;
	x->text = strdup("<html>");
	return true;
}

static void test_errors_of_the_ca(void **state)
{
	struct ca *ca = *state;
	ca->before = errors;
	ca->left = 3;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "authorization"), 4);
	ca->left = 1000;
	assert_int_equal(ca_issue(ca), OBTAIN_REFUSED);
	assert_false(ca->result.permanent);
	why_begins(ca, "failed to obtain certificate from ACME server: the CA reports an internal error");
	/* the order is still there for the next attempt */
	assert_true(ca_order_kept(ca));
	ca->before = NULL;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca->n_orders, 2);
	assert_false(ca_order_kept(ca));
}

static bool breaks(struct ca *ca, struct exchange *x)
{
	if (ca->left-- <= 0)
		return false;
	x->error = -ECONNRESET;
	return true;
}

static void test_unreachable(void **state)
{
	struct ca *ca = *state;
	ca->before = breaks;
	ca->left = 1000;
	assert_int_equal(ca_issue(ca), OBTAIN_UNREACHABLE);
	assert_string_equal(
		ca->result.why,
		"failed to connect to ACME server: as the test wants it (https://ca.example/directory)");
	assert_int_equal(ca->n_log, 1);
	assert_false(ca->result.permanent);
}

static bool breaks_later(struct ca *ca, struct exchange *x)
{
	return !is(x, "directory") && breaks(ca, x);
}

static void test_breaks(void **state)
{
	struct ca *ca = *state;
	ca->before = breaks_later;
	ca->left = 2;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	ca->left = 1000;
	assert_int_equal(ca_issue(ca), OBTAIN_UNREACHABLE);
}

static bool silent(struct ca *ca, struct exchange *x)
{
	(void)ca;
	x->silent = is(x, "newOrder");
	return x->silent;
}

static void test_silence(void **state)
{
	struct ca *ca = *state;
	ca->options.order_ns = 120000000000ull;
	double begun = ca_now();
	ca->before = silent;
	assert_int_equal(ca_issue(ca), OBTAIN_TIMEOUT);
	assert_true(ca_now() - begun >= 120);
	why_has(ca, "while ordering the certificate");
}

static bool redirects(struct ca *ca, struct exchange *x)
{
	(void)ca;
	x->status = 302;
	snprintf(x->location, sizeof x->location, "http://127.0.0.1/\033[2J");
	return true;
}

static void test_redirect(void **state)
{
	struct ca *ca = *state;
	ca->before = redirects;
	assert_int_equal(ca_issue(ca), OBTAIN_ACCOUNT);
	why_has(ca, "redirects to http://127.0.0.1/");
	assert_null(strchr(ca->result.why, '\033'));
	assert_int_equal(ca->n_log, 1);
}

static void elsewhere(struct ca *ca, struct exchange *x)
{
	(void)ca;
	if (is(x, "directory"))
		json_object_set_new(x->json, "newOrder", json_string("https://127.0.0.1/order"));
}

static void test_links_elsewhere(void **state)
{
	struct ca *ca = *state;
	ca->after = elsewhere;
	assert_int_equal(ca_issue(ca), OBTAIN_BROKEN);
	why_has(ca, "the CA's address for newOrder, https://127.0.0.1/order, is not at ca.example:443, the "
		    "host of directory_url");
	/* each operation reads the directory */
	ca->after = NULL;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "directory"), 2);
}

/* What RFC 3986 and RFC 9110 allow: locations that are relative, a default port that is named or not. */
static void addresses_vary(struct ca *ca, struct exchange *x)
{
	char text[200];
	if (!strncmp(x->location, CA_URL, sizeof CA_URL - 1)) {
		snprintf(text, sizeof text, "%s%s", ca->left++ % 2 ? CA_URL ":443" : "",
			 x->location + sizeof CA_URL - 1);
		snprintf(x->location, sizeof x->location, "%s", text);
	}
	if (is(x, "directory"))
		json_object_set_new(x->json, "newOrder", json_string(CA_URL ":443/order"));
}

static void test_addresses_vary(void **state)
{
	struct ca *ca = *state;
	ca->after = addresses_vary;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_true(ca_said(
		ca,
		"ACME account created email=operator@example.org account_url=https://ca.example/account/1"));
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "rollover"}), OBTAIN_OK);
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "rollover"}), OBTAIN_OK);
	ca->options.directory_url = CA_URL ":443/directory";
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "newAccount"), 3);
}

/* ---- Retry-After */

static const char *retry_after;

static bool limits(struct ca *ca, struct exchange *x)
{
	if (!is(x, "newOrder") || ca->left-- <= 0)
		return false;
	ca_problem(x, "rateLimited", 429);
	snprintf(x->retry_after, sizeof x->retry_after, "%s", retry_after);
	return true;
}

static void test_rate_limit_is_waited_for(void **state)
{
	struct ca *ca = *state;
	int first = -1;
	ca->before = limits;
	ca->left = 2;
	retry_after = "30";
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "newOrder"), 3);
	for (int i = 0; i < ca->n_log; i++)
		if (!strcmp(ca->log[i], "newOrder")) {
			if (first >= 0)
				assert_true(ca->at[i] - ca->at[i - 1] >= 30);
			first = i;
		}
}

static void test_rate_limit_too_long(void **state)
{
	struct ca *ca = *state;
	ca->before = limits;
	ca->left = 1;
	retry_after = "100000000000000000000";
	assert_int_equal(ca_issue(ca), OBTAIN_RATE_LIMITED);
	assert_true(ca->result.retry_after > 86300 && ca->result.retry_after <= 86400);
	why_has(ca, "retry in 86400 s");
	assert_int_equal(ca_count(ca, "newOrder"), 1);
}

static void test_rate_limit_without_time(void **state)
{
	struct ca *ca = *state;
	ca->before = limits;
	ca->left = 1;
	retry_after = "garbage";
	assert_int_equal(ca_issue(ca), OBTAIN_RATE_LIMITED);
	assert_int_equal(ca->result.retry_after, 0);
	assert_int_equal(ca_count(ca, "newOrder"), 1);
}

static bool limits_by_date(struct ca *ca, struct exchange *x)
{
	/* the CA's own clock counts, which is wrong */
	bool done = limits(ca, x);
	snprintf(x->date, sizeof x->date, "Thu, 01 Jan 2015 00:00:00 GMT");
	return done;
}

static void test_rate_limit_by_date(void **state)
{
	struct ca *ca = *state;
	ca->before = limits_by_date;
	ca->left = 1;
	retry_after = "Thu, 01 Jan 2015 02:00:00 GMT";
	assert_int_equal(ca_issue(ca), OBTAIN_RATE_LIMITED);
	assert_true(ca->result.retry_after > 7100 && ca->result.retry_after <= 7200);
}

/* ---- account */

static void test_account_is_made(void **state)
{
	struct ca *ca = *state;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_true(ca_said(
		ca,
		"ACME account created email=operator@example.org account_url=https://ca.example/account/1"));
	assert_string_equal(json_string_value(json_array_get(ca->contact, 0)), "mailto:operator@example.org");
	assert_false(ca_said(ca, "ACME account loaded from storage email=operator@example.org"));
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_true(ca_said(ca, "ACME account loaded from storage email=operator@example.org"));
	assert_int_equal(ca_count(ca, "newAccount"), 1);
}

static bool account_reset(struct ca *ca, struct exchange *x)
{
	(void)ca;
	return is(x, "newAccount") ? x->error = -ENETUNREACH, true : false;
}

/* The key is on disk before the CA hears of it, and is the one that is tried again. */
static void test_key_is_kept(void **state)
{
	struct ca *ca = *state;
	ca->before = account_reset;
	assert_int_equal(ca_issue(ca), OBTAIN_UNREACHABLE);
	char *first = account_key(ca);
	ca->before = NULL;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	char *second = account_key(ca);
	assert_string_equal(first, second);
	free(first);
	free(second);
}

static void account_answer_lost(struct ca *ca, struct exchange *x)
{
	if (is(x, "newAccount") && ca->left-- > 0)
		x->error = -ENETUNREACH;
}

static void test_account_is_found(void **state)
{
	struct ca *ca = *state;
	ca->after = account_answer_lost;
	ca->left = 1;
	assert_int_equal(ca_issue(ca), OBTAIN_UNREACHABLE);
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_true(ca_said(
		ca,
		"ACME account found email=operator@example.org account_url=https://ca.example/account/1"));
}

static void test_account_is_lost(void **state)
{
	struct ca *ca = *state;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	char *first = account_key(ca);
	json_decref(ca->account);
	ca->account = NULL;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "newAccount"), 2);
	char *second = account_key(ca);
	assert_string_equal(first, second);
	free(first);
	free(second);
}

/* step-ca when it was restored without its database. */
static bool forgotten(struct ca *ca, struct exchange *x)
{
	if (ca->account || !x->header || is(x, "newAccount"))
		return false;
	x->status = 500;
	x->text = strdup("{\"type\":\"" CA_PROBLEM "serverInternal\",\"detail\":\"not found\"}");
	return true;
}

static void test_account_is_forgotten(void **state)
{
	struct ca *ca = *state;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	json_decref(ca->account);
	ca->account = NULL;
	ca->before = forgotten;
	int n = ca->n_log;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_string_equal(ca_kinds(ca, n),
			    "directory newNonce newOrder newAccount directory newAccount newOrder "
			    "authorization challenge finalize certificate");
	assert_true(ca_said(ca, "ACME server no longer knows the account, registering its key again "
				"account_url=https://ca.example/account/1"));
}

static void account_is_denied(struct ca *ca, struct exchange *x)
{
	(void)ca;
	if (is(x, "newOrder"))
		ca_problem(x, "accountDoesNotExist", 400);
}

static void test_account_is_denied(void **state)
{
	struct ca *ca = *state;
	ca->after = account_is_denied;
	assert_int_equal(ca_issue(ca), OBTAIN_ACCOUNT);
	assert_int_equal(ca_count(ca, "newOrder"), 2);
}

static void test_binding(void **state)
{
	struct ca *ca = *state;
	ca->eab = true;
	assert_int_equal(ca_issue(ca), OBTAIN_ACCOUNT);
	assert_true(ca->result.permanent);
	why_begins(ca, "account registration failed: the CA wants an external account binding");
	assert_int_equal(ca_count(ca, "newAccount"), 0);
	ca->options.eab_kid = "kid-1";
	ca->options.eab_mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	/* the key of the first attempt was looked for first */
	assert_int_equal(ca_count(ca, "newAccount"), 2);
	assert_non_null(json_object_get(ca->last_account, "externalAccountBinding"));
}

static void test_binding_is_used_once(void **state)
{
	struct ca *ca = *state;
	ca->eab = true;
	ca->options.eab_kid = "kid-1";
	ca->options.eab_mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
	ca->after = account_answer_lost;
	ca->left = 1;
	assert_int_equal(ca_issue(ca), OBTAIN_UNREACHABLE);
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_null(json_object_get(ca->last_account, "externalAccountBinding"));
}

static void test_email_changes(void **state)
{
	struct ca *ca = *state;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	ca->options.email = "other@example.org";
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_string_equal(json_string_value(json_array_get(ca->contact, 0)), "mailto:other@example.org");
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "account"), 1);
}

static void account_problem(struct ca *ca, struct exchange *x)
{
	(void)ca;
	if (is(x, "newAccount"))
		ca_problem(x, "invalidContact", 400);
}

static void test_registration_fails(void **state)
{
	struct ca *ca = *state;
	ca->after = account_problem;
	assert_int_equal(ca_issue(ca), OBTAIN_ACCOUNT);
	assert_true(ca->result.permanent);
	why_begins(ca, "account registration failed: the CA does not accept the email address: as the test "
		       "wants it");
}

static bool no_directory(struct ca *ca, struct exchange *x)
{
	(void)ca;
	x->status = 404;
	return true;
}

static void test_no_provisioner(void **state)
{
	struct ca *ca = *state;
	ca->before = no_directory;
	assert_int_equal(ca_issue(ca), OBTAIN_ACCOUNT);
	why_begins(ca, "account registration failed: the CA has nothing at https://ca.example/directory");
	why_has(ca, "provisioner");
}

static void test_other_ca(void **state)
{
	struct ca *ca = *state;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	char *first = account_key(ca);
	struct store_account account;
	assert_int_equal(store_account_load(ca->store, &account), 0);
	free(account.directory);
	account.directory = strdup("https://other.example/directory");
	assert_int_equal(store_account_save(ca->store, &account), 0);
	store_account_done(&account);
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "newAccount"), 2);
	char *second = account_key(ca);
	assert_string_equal(first, second);
	free(first);
	free(second);
}

static void test_storage_is_broken(void **state)
{
	struct ca *ca = *state;
	char path[100], command[200];
	snprintf(path, sizeof path, "%s/account.json", ca->folder);
	snprintf(command, sizeof command, "mkdir -p %s/full", path);
	assert_int_equal(system(command), 0);
	assert_int_equal(ca_issue(ca), OBTAIN_STORAGE);
	why_begins(ca, "account registration failed: ");
	assert_int_equal(ca_count(ca, "newAccount"), 0);
}

/* ---- roll-over */

static void test_rollover(void **state)
{
	struct ca *ca = *state;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	char *first = account_key(ca);
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "rollover"}), OBTAIN_OK);
	char *second = account_key(ca);
	assert_string_not_equal(first, second);
	free(first);
	free(second);
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "newAccount"), 2); /* the second asked for the key */
}

static bool key_change_501(struct ca *ca, struct exchange *x)
{
	(void)ca;
	return is(x, "keyChange") ? x->status = 501, true : false;
}

static void test_rollover_is_impossible(void **state)
{
	struct ca *ca = *state;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	char *first = account_key(ca);
	ca->before = key_change_501;
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "rollover"}), OBTAIN_REFUSED);
	assert_true(ca->result.permanent);
	why_begins(ca, "account key rollover failed: the CA cannot change account keys");
	char *second = account_key(ca);
	assert_string_equal(first, second);
	free(first);
	free(second);
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
}

static bool key_change_breaks_before(struct ca *ca, struct exchange *x)
{
	(void)ca;
	return is(x, "keyChange") ? x->error = -ECONNRESET, true : false;
}

static void key_change_breaks_after(struct ca *ca, struct exchange *x)
{
	(void)ca;
	if (is(x, "keyChange"))
		x->error = -ECONNRESET;
}

static void test_rollover_breaks(void **state)
{
	struct ca *ca = *state;
	ca->before = key_change_breaks_before;
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "rollover"}), OBTAIN_REFUSED);
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	ca->before = NULL;
	ca->after = key_change_breaks_after;
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "rollover"}), OBTAIN_OK);
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_true(ca_said(ca, "ACME account key changed account_url=https://ca.example/account/1"));
}

static bool somebody_elses_answer(struct ca *ca, struct exchange *x)
{
	(void)ca;
	if (!is(x, "keyChange") && !is(x, "account"))
		return false;
	x->text = strdup("<html>");
	return true;
}

static void test_answer_of_somebody_else(void **state)
{
	struct ca *ca = *state;
	ca->before = somebody_elses_answer;
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "rollover"}), OBTAIN_REFUSED);
	why_has(ca, "kept the old account key");
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "deactivate"}), OBTAIN_BROKEN);
	ca->before = NULL;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_count(ca, "newAccount"), 2);
}

static bool all_breaks_after_key_change(struct ca *ca, struct exchange *x)
{
	if (is(x, "keyChange"))
		ca->left = 1;
	else if (ca->left == 1)
		x->error = -ENETUNREACH;
	return x->error != 0;
}

/* The process ends between the key change and its answer. */
static void test_rollover_is_settled_later(void **state)
{
	struct ca *ca = *state;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	char *first = account_key(ca);
	ca->before = all_breaks_after_key_change;
	ca->after = key_change_breaks_after;
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "rollover"}), OBTAIN_UNREACHABLE);
	char *still = account_key(ca);
	assert_string_equal(first, still);
	ca->before = NULL;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	char *second = account_key(ca);
	assert_string_not_equal(first, second);
	free(first);
	free(still);
	free(second);
	assert_int_equal(ca_count(ca, "newAccount"), 2);
}

static void test_deactivate(void **state)
{
	struct ca *ca = *state;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "deactivate"}), OBTAIN_OK);
	int n = ca->n_log;
	assert_int_equal(ca_issue(ca), OBTAIN_ACCOUNT);
	assert_true(ca->result.permanent);
	why_has(ca, "remove account.json and account.key");
	assert_string_equal(ca_kinds(ca, n), "directory");
}

/* ---- revocation, renewal information */

static void test_revoke(void **state)
{
	struct ca *ca = *state;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(
		ca_run(ca,
		       &(struct client_request){.operation = "revoke", .chain_pem = ca->chain, .reason = 4}),
		OBTAIN_OK);
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_int_equal(
		ca_run(ca,
		       &(struct client_request){.operation = "revoke", .chain_pem = ca->chain, .reason = 4}),
		OBTAIN_OK); /* again: no matter */
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "revoke",
							     .chain_pem = "no certificate",
							     .reason = 0}),
			 OBTAIN_LOCAL);
	why_has(ca, "cannot be read");
}

static void test_ari(void **state)
{
	struct ca *ca = *state;
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "ari", .ari_id = "x.y"}),
			 OBTAIN_REFUSED);
	assert_true(ca->result.permanent);
	ca->ari = true;
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "ari", .ari_id = "x.y"}),
			 OBTAIN_OK);
	assert_int_equal(ca->result.ari_end - ca->result.ari_start, 3600);
	assert_int_equal(ca->result.retry_after, 3600);
	assert_int_equal(ca_count(ca, "newAccount"), 0);
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "ari", .ari_id = ""}),
			 OBTAIN_LOCAL);
}

static void ari_is_wrong(struct ca *ca, struct exchange *x)
{
	(void)ca;
	if (is(x, "renewalInfo")) {
		json_decref(x->json);
		x->json = json_pack("{s{ss,ss}}", "suggestedWindow", "start", "2025-11-16T10:00:00Z", "end",
				    "2025-11-16T09:00:00Z");
	}
}

static void test_ari_is_wrong(void **state)
{
	struct ca *ca = *state;
	ca->ari = true;
	ca->after = ari_is_wrong;
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "ari", .ari_id = "x.y"}),
			 OBTAIN_BROKEN);
	assert_false(ca->result.permanent);
}

/* ---- the end, clocks */

static bool never_answered(struct ca *ca, struct exchange *x)
{
	(void)ca;
	x->silent = is(x, "challenge");
	return x->silent;
}

/* ca_run() sees that nothing is answered any more. */
static void test_end_under_way(void **state)
{
	struct ca *ca = *state;
	ca->options.order_ns = 20000000000ull;
	ca->before = never_answered;
	assert_int_equal(ca_run(ca, &(struct client_request){.operation = "issue",
							     .old_ari_id = "x.y",
							     .old_key_pem = "old key"}),
			 OBTAIN_TIMEOUT);
	why_begins(ca, "HTTP-01 challenge failed: challenge validation failed: out of time while validating "
		       "a.example");
	assert_int_equal(ca->answers, 1);
}

static void wrong_clock(struct ca *ca, struct exchange *x)
{
	(void)ca;
	snprintf(x->date, sizeof x->date, "Thu, 01 Jan 2015 00:00:00 GMT");
}

static void test_clocks_differ(void **state)
{
	struct ca *ca = *state;
	ca->after = wrong_clock;
	assert_int_equal(ca_issue(ca), OBTAIN_OK);
	assert_non_null(
		strstr(ca->lines[ca->n_lines - 1], "Clock of this machine differs from the ACME server's"));
	ca->before = breaks_later;
	ca->left = 1000;
	assert_int_equal(ca_issue(ca), OBTAIN_UNREACHABLE);
	why_has(ca, " s ahead of the CA's");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ca_setup, ca_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_bad_nonce),
		TEST(test_bad_nonce_for_ever),
		TEST(test_no_nonce),
		TEST(test_nonces_only_where_asked_for),
		TEST(test_errors_of_the_ca),
		TEST(test_unreachable),
		TEST(test_breaks),
		TEST(test_silence),
		TEST(test_redirect),
		TEST(test_links_elsewhere),
		TEST(test_addresses_vary),
		TEST(test_rate_limit_is_waited_for),
		TEST(test_rate_limit_too_long),
		TEST(test_rate_limit_without_time),
		TEST(test_rate_limit_by_date),
		TEST(test_account_is_made),
		TEST(test_key_is_kept),
		TEST(test_account_is_found),
		TEST(test_account_is_lost),
		TEST(test_account_is_forgotten),
		TEST(test_account_is_denied),
		TEST(test_binding),
		TEST(test_binding_is_used_once),
		TEST(test_email_changes),
		TEST(test_registration_fails),
		TEST(test_no_provisioner),
		TEST(test_other_ca),
		TEST(test_storage_is_broken),
		TEST(test_rollover),
		TEST(test_rollover_is_impossible),
		TEST(test_rollover_breaks),
		TEST(test_answer_of_somebody_else),
		TEST(test_rollover_is_settled_later),
		TEST(test_deactivate),
		TEST(test_revoke),
		TEST(test_ari),
		TEST(test_ari_is_wrong),
		TEST(test_end_under_way),
		TEST(test_clocks_differ),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
