/* SPDX-License-Identifier: MIT */
/* test_commands - "semstreams cert ...": what is printed and returned, done once and only by whom the lock
 * lets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>
#include <semstreams/ext/tls-provider.h>
#include "helper_acme.h"

static char out[16384];

static void print(void *arg, const char *text)
{
	(void)arg;
	assert_true(strlen(out) + strlen(text) < sizeof out);
	strcat(out, text);
}

static int run(const char *first, ...)
{
	const char *argv[8] = {first};
	uint32_t argc = 1;
	struct ss_iface face;
	va_list ap;
	va_start(ap, first);
	while ((argv[argc] = va_arg(ap, const char *)))
		argc++;
	va_end(ap);
	out[0] = '\0';
	assert_int_equal(
		host.desc->extension(host.self, SS_TLS_PROVIDER, sizeof(struct ss_tls_provider), &face), 0);
	const struct ss_tls_provider *provider = face.vtbl;
	return provider->command(face.self, argc, argv, print, NULL);
}

static void make(void)
{
	assert_int_equal(ss_test_host_create(&host, &conf), 0);
}

static void has(const char *text)
{
	if (!strstr(out, text))
		fail_msg("no \"%s\" in:\n%s", text, out);
}

static void explains_itself(void **state)
{
	(void)state;
	make();
	assert_int_equal(run("help", NULL), 2);
	has("usage: semstreams cert VERB");
	assert_int_equal(run("", NULL), 2);
	assert_int_equal(run("statsu", NULL), 2);
	assert_non_null(strstr(host.log, "ERROR Unknown verb 'statsu', did you mean 'status'?"));
	assert_int_equal(run("status", "--force", NULL), 2);
	assert_int_equal(run("renew", "now", NULL), 2);
	assert_int_equal(run("revoke", "--reason", "boredom", NULL), 2);
	assert_int_equal(run("revoke", "--reason", NULL), 2);
	assert_int_equal(run("deactivate", NULL), 2);
	has("--yes");
	assert_int_equal(engine.made, 0);
}

static void shows_the_state(void **state)
{
	(void)state;
	char path[128];
	snprintf(path, sizeof path, "%s/none", folder);
	const char *real = conf.storage_path;
	conf.storage_path = path;
	make();
	assert_int_equal(run("status", NULL), 1);
	has("names         a.test\n");
	has("there is none yet");
	assert_int_not_equal(access(path, F_OK), 0); /* looking makes nothing */
	end();
	conf.storage_path = real;
	make();
	assert_int_equal(run("status", NULL), 1);
	has("there is none yet");
	has("next renewal  due now");
	put_pair("a.test", now, now + DAY, now);
	assert_int_equal(run("status", NULL), 0);
	has("names         a.test\n");
	has("certificate   good\n");
	has("root SHA-256  ");
	has("valid until   2027-01-16T08:00:00Z (1d left)\n");
	has("next renewal  2027-01-16T00:00:00Z (in 16h)\n");
	has("directory     https://ca.test/dir\n");
	has("account       none yet\n");
	now += DAY - 2 * HOUR - 1800; /* 2h24m are a tenth */
	assert_int_equal(run("status", NULL), 0);
	now += 900;
	assert_int_equal(run("status", NULL), 1);
	has("certificate   expires soon: less than a tenth of its lifetime is left\n");
	now -= DAY - 2 * HOUR - 900;
	now += 2 * DAY;
	assert_int_equal(run("status", NULL), 1);
	has("certificate   expired\n");
	has("(1d ago)");
	now -= 2 * DAY;
	assert_int_equal(run("status", "--json", NULL), 0);
	json_t *root = json_loads(out, 0, NULL);
	assert_non_null(root);
	assert_true(json_is_true(json_object_get(root, "good")));
	const json_t *certificate = json_object_get(root, "certificate");
	assert_int_equal(json_integer_value(json_object_get(certificate, "remaining_seconds")), DAY);
	assert_string_equal(json_string_value(json_object_get(root, "next_renewal")), "2027-01-16T00:00:00Z");
	json_decref(root);
	put_pair("b.test", now, now + DAY, now);
	assert_int_equal(run("status", NULL), 1);
	has("not for the names in");
	assert_int_equal(engine.made, 0);
}

static void issues_and_renews(void **state)
{
	(void)state;
	make();
	assert_int_equal(run("issue", NULL), 0);
	has("Getting a certificate for [\"a.test\"] from https://ca.test/dir ...\n");
	has("Certificate valid until 2027-01-16T08:00:00Z saved to ");
	assert_int_equal(engine.issues, 1);
	assert_int_equal(run("status", NULL), 0);
	assert_int_equal(run("issue", NULL), 0);
	has("There is a certificate, valid until 2027-01-16T08:00:00Z");
	assert_int_equal(run("renew", NULL), 0);
	has("Renewal is due 2027-01-16T00:");
	assert_int_equal(engine.issues, 1);
	assert_int_equal(run("renew", "--force", NULL), 0);
	assert_int_equal(engine.issues, 2);
	assert_true(engine.has_old_key);
	now += 17 * HOUR;
	assert_int_equal(run("issue", NULL), 0);
	assert_int_equal(engine.issues, 2);
	assert_int_equal(run("renew", NULL), 0);
	assert_int_equal(engine.issues, 3);
	assert_int_equal(engine.alive, 0);
}

static void fails_clearly(void **state)
{
	(void)state;
	make();
	engine.at_once = (struct obtain_result){.fail = OBTAIN_UNREACHABLE,
						.why = "failed to connect to ACME server: no"};
	assert_int_equal(run("issue", NULL), 75);
	assert_non_null(strstr(host.log, "ERROR failed to connect to ACME server: no"));
	assert_int_equal(run("status", NULL), 1);
	has("last error    failed to connect to ACME server: no");
	has("failures      1 in a row");
	engine.at_once = (struct obtain_result){.fail = OBTAIN_REFUSED, .permanent = true, .why = "no"};
	assert_int_equal(run("issue", NULL), 1);
	assert_int_equal(engine.issues, 2);
	engine.at_once =
		(struct obtain_result){.fail = OBTAIN_RATE_LIMITED, .retry_after = 5000, .why = "too many"};
	assert_int_equal(run("issue", NULL), 75);
	assert_non_null(strstr(host.log, "too many; the CA asks to wait 1h23m"));
	assert_int_equal(engine.issues, 3);
	engine.at_once = (struct obtain_result){0};
	now += 4999;
	assert_int_equal(run("issue", NULL), 75); /* not even by hand */
	assert_int_equal(engine.issues, 3);
	now += 1;
	assert_int_equal(run("issue", NULL), 0);
	assert_int_equal(engine.issues, 4);
	engine.at_once_life = -5;
	assert_int_equal(run("renew", "--force", NULL), 1);
	assert_non_null(strstr(host.log, "is the clock right?"));
	assert_int_equal(run("status", NULL), 0); /* the old one */
}

static void revokes(void **state)
{
	(void)state;
	make();
	assert_int_equal(run("revoke", NULL), 1);
	assert_int_equal(engine.revokes, 0);
	assert_int_equal(run("issue", NULL), 0);
	assert_int_equal(run("revoke", "--reason", "keycompromise", NULL), 0);
	has(" revoked.\n");
	assert_int_equal(engine.revokes, 1);
	assert_int_equal(engine.reason, 1);
	assert_int_equal(engine.issues, 2);
	assert_int_equal(run("status", NULL), 0);
	assert_int_equal(run("revoke", "--keep", "--reason=superseded", NULL), 0);
	assert_int_equal(engine.reason, 4);
	assert_int_equal(engine.issues, 2);
	assert_int_equal(run("status", NULL), 1);
	has("certificate   revoked\n");
	/* the host gets another when it sees that */
	assert_int_equal(host.desc->start(host.self), 0);
	assert_int_equal(engine.issues, 3);
	bring(DAY);
	assert_int_equal(run("status", NULL), 0);
}

static void changes_accounts(void **state)
{
	(void)state;
	make();
	assert_int_equal(run("rollover", NULL), 0);
	assert_int_equal(engine.rollovers, 1);
	engine.at_once = (struct obtain_result){.fail = OBTAIN_REFUSED, .permanent = true, .why = "cannot"};
	assert_int_equal(run("rollover", NULL), 1);
	engine.at_once = (struct obtain_result){0};
	assert_int_equal(run("deactivate", "--yes", NULL), 0);
	assert_int_equal(engine.deactivations, 1);
}

/* Another process holds the lock, and lets go when it is told that somebody waits. */
static void print_and_release(void *arg, const char *text)
{
	print(NULL, text);
	if (strstr(text, "Waiting for another process"))
		store_unlock(arg);
}

static void waits_for_the_lock(void **state)
{
	(void)state;
	struct ss_iface face;
	const char *argv[] = {"issue", NULL};
	struct store *other = other_store();
	make();
	assert_int_equal(store_lock(other), 0);
	out[0] = '\0';
	assert_int_equal(
		host.desc->extension(host.self, SS_TLS_PROVIDER, sizeof(struct ss_tls_provider), &face), 0);
	const struct ss_tls_provider *provider = face.vtbl;
	assert_int_equal(provider->command(face.self, 1, argv, print_and_release, other), 0);
	assert_int_equal(engine.issues, 1);
	/* a look needs no lock */
	assert_int_equal(store_lock(other), 0);
	assert_int_equal(run("status", NULL), 0);
	store_free(other);
}

static void runs_beside_a_host(void **state)
{
	(void)state;
	begin();
	bring(DAY);
	pass(2);
	/* a failure of a command is one */
	engine.at_once = (struct obtain_result){.fail = OBTAIN_UNREACHABLE, .why = "no"};
	assert_int_equal(run("renew", "--force", NULL), 75);
	assert_int_equal(run("rollover", NULL), 75); /* but not of that */
	pass(1);
	assert_int_equal(metric("semstreams_acme_renewal_failure_total"), 1);
	assert_int_equal(metric("semstreams_acme_failures_in_a_row"), 1);
	engine.at_once = (struct obtain_result){0};
	assert_int_equal(run("renew", "--force", NULL), 0);
	assert_int_equal(published.times, 1);
	pass(1);
	assert_int_equal(published.times, 2);
	expect_log("INFO Certificate renewed successfully domain=a.test", NULL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, test_begin, test_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(explains_itself),
		TEST(shows_the_state),
		TEST(issues_and_renews),
		TEST(fails_clearly),
		TEST(revokes),
		TEST(changes_accounts),
		TEST(waits_for_the_lock),
		TEST(runs_beside_a_host),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
