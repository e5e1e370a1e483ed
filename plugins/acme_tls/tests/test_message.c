/* SPDX-License-Identifier: MIT */
/* What a CA says: the objects of RFC 8555, and what hostile ones must not do. */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include "plugins/acme_tls/client/message.h"

#define NOW 1763287200 /* 2025-11-16T10:00:00Z */

static char why[256];

#define READ(kind, text, out) message_read(kind, text, strlen(text), out, why, sizeof why)
#define REFUSED(kind, text, word)                                                                            \
	do {                                                                                                 \
		json_t *refused_;                                                                            \
		assert_int_equal(READ(kind, text, &refused_), -EINVAL);                                      \
		assert_null(refused_);                                                                       \
		if (!strstr(why, word))                                                                      \
			fail_msg("\"%s\" does not tell of \"%s\"", why, word);                               \
	} while (0)

static const json_t *item(const json_t *m, const char *key, size_t i)
{
	return json_array_get(json_object_get(m, key), i);
}

static void test_directory(void **state)
{
	json_t *d;
	char text[200];
	(void)state;
	assert_int_equal(
		READ(MESSAGE_DIRECTORY,
		     "{\"newNonce\":\"https://ca/n\",\"newAccount\":\"https://ca/a\",\"newOrder\":\"https://"
		     "ca/o\","
		     "\"revokeCert\":\"https://ca/r\",\"keyChange\":null,\"strange\":{\"a\":[1]},\"meta\":{"
		     "\"externalAccountRequired\":true,\"profiles\":{\"classic\":\"the "
		     "usual\",\"short\":\"lived\"}}}",
		     &d),
		0);
	assert_string_equal(member_text(d, "newNonce"), "https://ca/n");
	assert_string_equal(member_text(d, "newAccount"), "https://ca/a");
	assert_string_equal(member_text(d, "newOrder"), "https://ca/o");
	assert_string_equal(member_text(d, "revokeCert"), "https://ca/r");
	assert_null(member_text(d, "keyChange"));
	assert_null(member_text(d, "renewalInfo"));
	assert_true(json_is_true(json_object_get(json_object_get(d, "meta"), "externalAccountRequired")));
	assert_true(message_profiles(d, "short", text, sizeof text));
	assert_false(message_profiles(d, "long", text, sizeof text));
	assert_string_equal(text, "classic, short");
	message_profiles(d, "short", text, 10);
	assert_true(strlen(text) < 10);
	json_decref(d);
}

static void test_directory_refused(void **state)
{
	char large[5000];
	(void)state;
	REFUSED(MESSAGE_DIRECTORY, "", "JSON");
	REFUSED(MESSAGE_DIRECTORY, "<html>", "JSON");
	REFUSED(MESSAGE_DIRECTORY, "[]", "object");
	REFUSED(MESSAGE_DIRECTORY, "{\"newNonce\":\"https://ca/n\"", "JSON");
	REFUSED(MESSAGE_DIRECTORY, "{}", "newNonce");
	REFUSED(MESSAGE_DIRECTORY, "{\"newNonce\":\"https://ca/n\",\"newAccount\":7}", "newAccount");
	REFUSED(MESSAGE_DIRECTORY, "{\"newNonce\":\"https://ca/a b\"}", "newNonce");
	REFUSED(MESSAGE_DIRECTORY, "{\"newNonce\":\"https://ca/\\n\"}", "newNonce");
	REFUSED(MESSAGE_DIRECTORY, "{\"newNonce\":\"https://ca/\\u0000x\"}", "JSON");
	REFUSED(MESSAGE_DIRECTORY, "{\"newNonce\":\"a\",\"newNonce\":\"b\"}", "JSON");
	memset(large, 'x', sizeof large);
	memcpy(large, "{\"newNonce\":\"", 13);
	memcpy(large + sizeof large - 3, "\"}", 3);
	REFUSED(MESSAGE_DIRECTORY, large, "newNonce");
}

static void test_account(void **state)
{
	json_t *m;
	(void)state;
	assert_int_equal(READ(MESSAGE_ACCOUNT, "{\"status\":\"valid\",\"contact\":[]}", &m), 0);
	assert_int_equal(message_status(m), MESSAGE_VALID);
	json_decref(m);
	assert_int_equal(READ(MESSAGE_ACCOUNT, "{\"status\":\"deactivated\"}", &m), 0);
	assert_int_equal(message_status(m), MESSAGE_DEACTIVATED);
	json_decref(m);
	REFUSED(MESSAGE_ACCOUNT, "{}", "status");
	REFUSED(MESSAGE_ACCOUNT, "{\"status\":5}", "status");
}

static void test_order(void **state)
{
	json_t *m;
	(void)state;
	assert_int_equal(
		READ(MESSAGE_ORDER,
		     "{\"status\":\"pending\",\"expires\":\"2025-11-17T10:00:00Z\",\"identifiers\":["
		     "{\"type\":\"dns\",\"value\":\"b.example\"},{\"type\":\"ip\",\"value\":\"192.0.2.1\"}],"
		     "\"authorizations\":[\"https://ca/z/2\",\"https://ca/z/1\"],\"finalize\":\"https://ca/"
		     "f\"}",
		     &m),
		0);
	assert_int_equal(message_status(m), MESSAGE_PENDING);
	assert_int_equal(json_array_size(json_object_get(m, "identifiers")), 2);
	assert_string_equal(member_text(item(m, "identifiers", 1), "value"), "192.0.2.1");
	assert_int_equal(json_array_size(json_object_get(m, "authorizations")), 2);
	assert_string_equal(json_string_value(item(m, "authorizations", 0)), "https://ca/z/2");
	assert_string_equal(member_text(m, "finalize"), "https://ca/f");
	assert_null(member_text(m, "certificate"));
	assert_null(message_error(m));
	json_decref(m);

	assert_int_equal(
		READ(MESSAGE_ORDER,
		     "{\"status\":\"valid\",\"certificate\":\"https://ca/c\",\"error\":{\"type\":\"x\"},"
		     "\"authorizations\":[]}",
		     &m),
		0);
	assert_int_equal(message_status(m), MESSAGE_VALID);
	assert_string_equal(member_text(m, "certificate"), "https://ca/c");
	assert_non_null(message_error(m));
	json_decref(m);

	assert_int_equal(READ(MESSAGE_ORDER, "{\"status\":\"cooking\"}", &m), 0);
	assert_int_equal(message_status(m), MESSAGE_OTHER);
	assert_string_equal(member_text(m, "status"), "cooking");
	json_decref(m);
}

static void test_order_refused(void **state)
{
	(void)state;
	REFUSED(MESSAGE_ORDER, "{}", "status");
	REFUSED(MESSAGE_ORDER, "{\"status\":\"pending\",\"authorizations\":\"https://ca/z\"}",
		"authorizations");
	REFUSED(MESSAGE_ORDER, "{\"status\":\"pending\",\"authorizations\":[5]}", "authorization");
	REFUSED(MESSAGE_ORDER, "{\"status\":\"pending\",\"authorizations\":[\"a b\"]}", "authorization");
	REFUSED(MESSAGE_ORDER, "{\"status\":\"pending\",\"identifiers\":[{\"type\":\"dns\"}]}", "identifier");
	REFUSED(MESSAGE_ORDER, "{\"status\":\"pending\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"\"}]}",
		"identifier");
	REFUSED(MESSAGE_ORDER, "{\"status\":\"pending\",\"identifiers\":[[]]}", "identifier");
	REFUSED(MESSAGE_ORDER, "{\"status\":\"ready\",\"finalize\":[]}", "finalize");
}

static void test_order_too_long(void **state)
{
	(void)state;
	json_t *many = json_array();
	for (int i = 0; i <= MESSAGE_LIST_MAX; i++)
		json_array_append_new(many, json_string("https://ca/z"));
	json_t *order = json_pack("{ss,so}", "status", "pending", "authorizations", many);
	char *text = json_dumps(order, 0);
	REFUSED(MESSAGE_ORDER, text, "authorizations");
	json_decref(order);
	free(text);
}

static void test_authorization(void **state)
{
	json_t *m;
	(void)state;
	assert_int_equal(READ(MESSAGE_AUTHORIZATION,
			      "{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":\"a."
			      "example\"},\"challenges\":["
			      "{\"type\":\"of-the-future-01\",\"status\":\"simmering\",\"token\":7},"
			      "{\"type\":\"http-01\",\"status\":\"pending\",\"url\":\"https://ca/"
			      "h\",\"token\":\"tok\",\"error\":{}}]}",
			      &m),
			 0);
	assert_int_equal(json_array_size(json_object_get(m, "challenges")), 2);
	assert_null(member_text(item(m, "challenges", 0), "token"));
	assert_int_equal(message_status(item(m, "challenges", 0)), MESSAGE_OTHER);
	assert_string_equal(member_text(item(m, "challenges", 1), "token"), "tok");
	assert_non_null(message_error(item(m, "challenges", 1)));
	json_decref(m);
	REFUSED(MESSAGE_AUTHORIZATION, "{\"status\":\"pending\"}", "identifier");
	REFUSED(MESSAGE_AUTHORIZATION,
		"{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":\"a\"},\"challenges\":[5]"
		"}",
		"type");
	REFUSED(MESSAGE_AUTHORIZATION,
		"{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":\"a\"},"
		"\"challenges\":[{\"type\":\"x\"}]}",
		"status");
	REFUSED(MESSAGE_AUTHORIZATION,
		"{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":\"a\"},\"challenges\":{}"
		"}",
		"challenges");
}

static void test_challenge(void **state)
{
	const char *text =
		"{\"type\":\"http-01\",\"status\":\"processing\",\"url\":\"https://ca/h\",\"token\":\"t\"}";
	json_t *m;
	(void)state;
	assert_int_equal(READ(MESSAGE_CHALLENGE, text, &m), 0);
	assert_int_equal(message_status(m), MESSAGE_PROCESSING);
	json_decref(m);
	REFUSED(MESSAGE_CHALLENGE, "{}", "type");
}

static void test_renewal(void **state)
{
	json_t *m;
	int64_t start, end;
	(void)state;
	assert_int_equal(READ(MESSAGE_RENEWAL,
			      "{\"suggestedWindow\":{\"start\":\"2025-11-16T10:00:00Z\",\"end\":\"2025-11-"
			      "16T12:00:00.5+01:00\"},"
			      "\"explanationURL\":\"https://ca/why\"}",
			      &m),
			 0);
	assert_true(message_window(m, &start, &end));
	assert_int_equal(start, NOW);
	assert_int_equal(end, NOW + 3600);
	assert_string_equal(member_text(m, "explanationURL"), "https://ca/why");
	json_decref(m);
	REFUSED(MESSAGE_RENEWAL, "{}", "suggestedWindow");
	REFUSED(MESSAGE_RENEWAL,
		"{\"suggestedWindow\":{\"start\":\"2025-11-16T10:00:00Z\",\"end\":\"2025-11-16T10:00:00Z\"}}",
		"suggestedWindow");
	REFUSED(MESSAGE_RENEWAL, "{\"suggestedWindow\":{\"start\":1,\"end\":2}}", "suggestedWindow");
}

static void test_time(void **state)
{
	int64_t t;
	(void)state;
	assert_true(message_time("2025-11-16T10:00:00Z", &t));
	assert_int_equal(t, NOW);
	assert_true(message_time("2025-11-16t05:30:00.123456789-04:30", &t));
	assert_int_equal(t, NOW);
	assert_true(message_time("9999-12-31T23:59:60Z", &t));
	static const char *const wrong[] = {"",
					    "2025-11-16",
					    "2025-11-16T10:00:00",
					    "2025-11-16T10:00:00Zz",
					    "2025-13-16T10:00:00Z",
					    "2025-00-16T10:00:00Z",
					    "2025-11-32T10:00:00Z",
					    "2025-11-16T24:00:00Z",
					    "2025-11-16T10:00:00.Z",
					    "2025-11-16T10:00:00+1:00",
					    "1900-11-16T10:00:00Z",
					    "-025-11-16T10:00:00Z"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		assert_false(message_time(wrong[i], &t));
}

static void test_retry_after(void **state)
{
	static const struct {
		const char *value;
		int64_t seconds;
	} cases[] = {
		{NULL, 0},
		{"", 0},
		{"garbage", 0},
		{"12 monkeys", 0},
		{"0x10", 0},
		{"1.5", 0},
		{"--5", 0},
		{"-", 0},
		{"0", 1},
		{"-1", 1},
		{"-100000000000000000000", 1},
		{"1", 1},
		{" 120 ", 120},
		{"+7", 7},
		{"0000000000000000000000060", 60},
		{"86400", 86400},
		{"86401", 86400},
		{"9999999", 86400},
		{"100000000000000000000", 86400},
		{"Sun, 16 Nov 2025 10:00:30 GMT", 30},
		{"Sunday, 16-Nov-25 10:01:00 GMT", 60},
		{"Sun Nov 16 10:00:05 2025", 5},
		{"Sun, 16 Nov 2025 09:00:00 GMT", 1},
		{"Thu, 01 Jan 1970 00:00:00 GMT", 1},
		{"Tue, 16 Nov 2038 10:00:00 GMT", 86400},
		{"Sun, 99 Nov 2025 10:00:30 GMT", 0},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (message_retry_after(cases[i].value, NOW) != cases[i].seconds)
			fail_msg("\"%s\": %lld", cases[i].value,
				 (long long)message_retry_after(cases[i].value, NOW));
}

static void test_link(void **state)
{
	char url[64];
	(void)state;
	assert_true(message_link("<https://ca/c/1>;rel=\"alternate\"", "alternate", url, sizeof url));
	assert_string_equal(url, "https://ca/c/1");
	assert_true(
		message_link("  <https://ca/c/2> ; title=x; rel=alternate", "alternate", url, sizeof url));
	assert_string_equal(url, "https://ca/c/2");
	assert_true(message_link("<https://ca/c/3>;rel=\"next ALTERNATE\"", "alternate", url, sizeof url));
	assert_false(message_link("<https://ca/dir>;rel=\"index\"", "alternate", url, sizeof url));
	assert_false(message_link("<https://ca/dir>;rel=\"alternately\"", "alternate", url, sizeof url));
	assert_false(message_link("<https://ca/dir>", "alternate", url, sizeof url));
	assert_false(message_link("https://ca/dir;rel=alternate", "alternate", url, sizeof url));
	assert_false(message_link("<https://ca/dir;rel=alternate", "alternate", url, sizeof url));
	assert_false(message_link("<>;rel=alternate", "alternate", url, sizeof url));
	assert_false(message_link("<https://ca/a b>;rel=alternate", "alternate", url, sizeof url));
	assert_false(message_link("", "alternate", url, sizeof url));
	assert_false(message_link("<https://ca/c/1>;rel=\"alternate\"", "alternate", url, 8));
	assert_false(message_link("<https://ca/c/1>;rel=", "alternate", url, sizeof url));
	assert_false(message_link("<https://ca/c/1>;rel=\"", "alternate", url, sizeof url));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_directory),     cmocka_unit_test(test_directory_refused),
		cmocka_unit_test(test_account),       cmocka_unit_test(test_order),
		cmocka_unit_test(test_order_refused), cmocka_unit_test(test_order_too_long),
		cmocka_unit_test(test_authorization), cmocka_unit_test(test_challenge),
		cmocka_unit_test(test_renewal),       cmocka_unit_test(test_time),
		cmocka_unit_test(test_retry_after),   cmocka_unit_test(test_link),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
