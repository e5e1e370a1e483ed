/* SPDX-License-Identifier: MIT */
/* Error replies of a CA: what they mean, whether trying again helps, and what operators read. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include "plugins/acme_tls/client/message.h"

#define ACME "urn:ietf:params:acme:error:"

static const char *text_of(const char *body, long status)
{
	static struct problem p;
	problem_read(body, strlen(body), status, &p);
	return p.text;
}

static bool permanent(const char *body, long status)
{
	struct problem p;
	problem_read(body, strlen(body), status, &p);
	return p.permanent;
}

static void has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" lacks \"%s\"", text, part);
}

static void test_words(void **state)
{
	(void)state;
	const char *text = text_of(
		"{\"type\":\"" ACME "rejectedIdentifier\",\"detail\":\"no .onion\",\"status\":400}", 403);
	has(text, "policy does not allow");
	has(text, "no .onion");
	has(text, "(rejectedIdentifier, HTTP status 403)");
	text = text_of("{\"type\":\"" ACME "externalAccountRequired\"}", 401);
	has(text, "HMAC key");
	text = text_of("{\"type\":\"" ACME "of-the-future\",\"detail\":\"too hot\"}", 400);
	assert_string_equal(text, "too hot (of-the-future, HTTP status 400)");
	text = text_of("{\"type\":\"about:blank\",\"title\":\"Teapot\"}", 418);
	assert_string_equal(text, "Teapot (HTTP status 418)");
	assert_string_equal(text_of("<html>", 502), "the CA reports an internal error (HTTP status 502)");
	assert_string_equal(text_of("", 403), "the CA gives no reason (HTTP status 403)");
	assert_string_equal(text_of("", 501), "the CA cannot do this (HTTP status 501)");
}

static void test_subproblems(void **state)
{
	(void)state;
	const char *body =
		"{\"type\":\"" ACME "compound\",\"detail\":\"several\",\"subproblems\":["
		"{\"type\":\"" ACME
		"dns\",\"detail\":\"NXDOMAIN\",\"identifier\":{\"type\":\"dns\",\"value\":\"a.example\"}},"
		"{\"type\":\"" ACME "caa\",\"identifier\":{\"type\":\"dns\",\"value\":\"b.example\"}},7,{}]}";
	const char *text = text_of(body, 400);
	has(text, "a.example: the CA could not resolve");
	has(text, "NXDOMAIN (dns)");
	has(text, "b.example: CAA records");
	assert_true(permanent(body, 400));

	json_t *subs = json_array();
	for (int i = 0; i < PROBLEM_SUBS + 5; i++)
		json_array_append_new(subs, json_pack("{ss}", "type", "urn:x"));
	json_t *json = json_pack("{ss,so}", "type", ACME "compound", "subproblems", subs);
	char *many = json_dumps(json, 0);
	struct problem p;
	problem_read(many, strlen(many), 400, &p);
	has(p.text, "; and 5 more");
	assert_false(p.permanent);
	json_decref(json);
	free(many);
}

static void test_permanent(void **state)
{
	(void)state;
	assert_true(permanent("{\"type\":\"" ACME "badCSR\"}", 400));
	assert_true(permanent("{\"type\":\"" ACME "userActionRequired\"}", 403));
	assert_false(permanent("{\"type\":\"" ACME "rateLimited\"}", 429));
	assert_false(permanent("{\"type\":\"" ACME "serverInternal\"}", 500));
	assert_false(permanent("{\"type\":\"" ACME "badNonce\"}", 400));
	assert_false(permanent("{\"type\":\"" ACME "connection\"}", 400));
	/* without a type the status decides */
	assert_true(permanent("", 404));
	assert_false(permanent("", 408));
	assert_false(permanent("", 429));
	assert_false(permanent("", 500));
	assert_true(permanent("", 501));
	assert_false(permanent("", 503));
	/* only types of ACME are ours */
	assert_true(permanent("{\"type\":\"urn:other:error:rateLimited-or-not\"}", 400));
}

static void test_is(void **state)
{
	struct problem p;
	const char *body = "{\"type\":\"" ACME "badNonce\"}";
	(void)state;
	problem_read(body, strlen(body), 400, &p);
	assert_true(problem_is(&p, "badNonce"));
	assert_false(problem_is(&p, "badNonc"));
	problem_read("{\"type\":7}", 10, 400, &p);
	assert_false(problem_is(&p, "badNonce"));
	problem_from(NULL, 0, &p);
	assert_int_equal(p.status, 0);
	assert_string_equal(p.type, "");
}

/* Nothing from a CA reaches a terminal as it is, and nothing is longer than its place. */
static void test_hostile(void **state)
{
	char *body = malloc(70000);
	struct problem p;
	(void)state;
	memset(body, 'x', 70000);
	memcpy(body, "{\"detail\":\"\\u001b[2J\\n\\u202e\\\"", 30);
	memcpy(body + 69997, "\"}", 3);
	problem_read(body, strlen(body), 400, &p);
	assert_non_null(memchr(p.text, '\0', sizeof p.text));
	assert_null(strpbrk(p.text, "\033\n\""));
	free(body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),     cmocka_unit_test(test_subproblems),
		cmocka_unit_test(test_permanent), cmocka_unit_test(test_is),
		cmocka_unit_test(test_hostile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
