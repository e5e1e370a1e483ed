/* SPDX-License-Identifier: MIT */
/*
 * test_acme_tls - the component under a clock of the test's and with a client that does what the test says:
 * what is obtained when, what the host, the log and the disk are told, and what survives.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "helper_acme.h"
#include "plugins/acme_tls/operation.h"
#include "plugins/identity/time_text.h"

/* ---- options ---- */

#define SECRET "s3cret" /* of a URL; no message has it */

static void refuse(const char *expected)
{
	assert_int_equal(ss_test_host_create(&host, &conf), -EINVAL);
	if (!strstr(host.errors, expected))
		fail_msg("\"%s\" is not in: %s", expected, host.errors);
	assert_null(strstr(host.errors, SECRET));
	host.errors[0] = '\0';
	ss_test_host_done(&host);
	test_end(NULL);
	test_begin(NULL);
}

static void refuses_bad_options(void **state)
{
	(void)state;
	static const struct {
		size_t member; /* of conf */
		const char *value, *expected;
	} rows[] = {
#define ROW(member, value, expected) {offsetof(struct acme_conf, member), value, expected}
		ROW(directory_url, "http://ca.test/dir", "/directory_url: must be https"),
		ROW(directory_url, "ca.test/dir", "/directory_url: must be the URL"),
		ROW(directory_url, "https:///dir", "/directory_url: has no usable host"),
		ROW(directory_url, "https://me@ca.test/dir", "/directory_url: contains a user name"),
		ROW(directory_url, "https://me:" SECRET "@ca.test/dir", "contains a user name or password"),
		ROW(directory_url, "https://me:" SECRET "/2@ca.test/dir", "contains a user name or password"),
		ROW(directory_url, "https://:" SECRET "?2@ca.test/dir", "contains a user name or password"),
		ROW(directory_url, "https://@/dir", "contains a user name or password"),
		ROW(directory_url, "https://ca.test/dir#x", "/directory_url: has a fragment"),
		ROW(directory_url, "https://ca.test/dir?a#", "/directory_url: has a fragment"),
		ROW(directory_url, "https://ca.test#", "/directory_url: has a fragment"),
		ROW(directory_url, "https://ca.test/a b", "/directory_url: has a character"),
		ROW(directory_url, "https://ca.test:99999/dir", "has the port 99999; ports are 1 to 65535"),
		ROW(directory_url, "https://ca.test:0/dir", "has the port 0;"),
		ROW(directory_url, "https://ca.test:x/dir", "has the host \"ca.test:x\", which is neither"),
		ROW(directory_url, "https://10.0.0.256/dir", "\"10.0.0.256\", which is not an IPv4 address"),
		ROW(directory_url, "https://[::1:9000/dir", "has the host \"[::1\", which is neither"),
		ROW(directory_url, "https://fe80::1:9000/dir", "an IPv6 address stands in brackets"),
		ROW(directory_url,
		    "https://b\xc3\xbc"
		    "cher.test/",
		    "punycode form, xn--bcher-kva.test"),
		ROW(email, "", "/email: is not an e-mail"),
		ROW(email, "admin", "/email: is not an e-mail"),
		ROW(email, "@example.com", "/email: is not an e-mail"),
		ROW(email, "a b@example.com", "/email: is not an e-mail"),
		ROW(email, "a@b@example.com", "/email: is not an e-mail"),
		ROW(email, "a@example.com?cc=b", "/email: is not an e-mail"),
		ROW(email, "a@", "/email: is not an e-mail"),
		ROW(email, "mailto:a@example.com", "/email: is an address without"),
		ROW(domains, "[]", "/domains: must be an array"),
		ROW(domains, "\"a.test\"", "/domains: must be an array"),
		ROW(domains, "[\"a.test\",7]", "/domains/1: must be a string"),
		ROW(domains, "[\"a.test\",\"\"]", "/domains/1: is neither"),
		ROW(domains, "[\"a..test\"]", "/domains/0: is neither"),
		ROW(domains, "[\"a.test\\u0000b\"]", "/domains: must be an array"),
		ROW(domains, "[\"*.a.test\"]", "/domains/0: is a wildcard"),
		ROW(domains, "[\"a.test\",\"b.test\",\"A.TEST\"]", "/domains/2: is listed twice"),
		ROW(domains, "[\"fd00::1\",\"FD00:0::1\"]", "/domains/1: is listed twice"),
		ROW(domains, "[\"::ffff:192.0.2.1\",\"192.0.2.1\"]", "/domains/1: is listed twice"),
		ROW(domains, "[\"10.0.0.256\"]", "/domains/0: is not an IPv4 address, which is four numbers"),
		ROW(domains, "[\"a.test\",\"1.2.3\"]", "/domains/1: is not an IPv4 address"),
		ROW(domains,
		    "[\"b\xc3\xbc"
		    "cher.test\"]",
		    "/domains/0: is not ASCII: write its punycode form, xn--bcher-kva.test"),
		ROW(domains, "[\"\xff.test\"]", "/domains: must be an array"),
		ROW(domains, "[\"\xe2\x80\xae.test\"]",
		    "/domains/0: is not ASCII: write its punycode form (xn--...)"),
		ROW(challenge_address, "localhost", "/challenge_address: \"localhost\" is not"),
		ROW(storage_path, "", "/storage_path: is empty"),
		ROW(ca_bundle, "", "/ca_bundle: is empty"),
		ROW(eab_kid, "kid-1", "/eab_kid: needs eab_hmac"),
		ROW(eab_hmac, "AAAA", "/eab_hmac: needs eab_kid"),
#undef ROW
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		*(const char **)(void *)((char *)&conf + rows[i].member) = rows[i].value;
		refuse(rows[i].expected);
	}
	conf.eab_kid = "kid-1";
	conf.eab_hmac = "not base64url!";
	refuse("/eab_hmac: is not base64");
	conf.eab_kid = "kid-1";
	conf.eab_hmac = "AA";
	refuse("/eab_hmac: is a key of 1 byte,");
	conf.eab_kid = "kid-1";
	conf.eab_hmac = "AAAAAAAAAAAAAAAAAAAA";
	refuse("/eab_hmac: is a key of 15 bytes");
	conf.eab_kid = "kid-1";
	conf.eab_hmac = "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
	refuse("/eab_hmac: is not base64; if the CA gave the key in hex");
	conf.email = "";
	conf.domains = "[]";
	assert_int_equal(ss_test_host_create(&host, &conf), -EINVAL);
	assert_non_null(strstr(host.errors, "/email")); /* all at once */
	assert_non_null(strstr(host.errors, "/domains"));
}

/* What is taken, but is likely to be a mistake. */
static void warns_of_binding_keys(void **state)
{
	(void)state;
	static const char weak[] = "WARN eab_hmac is a key of ", hex[] = "WARN eab_hmac looks like hex";
	static const struct {
		const char *key, *warning;
	} rows[] = {
		{"zzzzzzzzzzzzzzzzzzzzzw", weak}, /* 16 bytes */
		{"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzw", weak},
		{"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzw", NULL},
		{"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzw=", NULL},
		{"00112233445566778899aabbccddeeff", hex},
		{"00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF", hex},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		conf.eab_kid = "kid-1";
		conf.eab_hmac = rows[i].key;
		host.log[0] = '\0';
		assert_int_equal(ss_test_host_create(&host, &conf), 0);
		assert_int_equal(!rows[i].warning, !strstr(host.log, "WARN eab_hmac"));
		assert_int_equal(!rows[i].warning,
				 !strstr(host.log, rows[i].warning ? rows[i].warning : hex));
		assert_null(strstr(host.log, rows[i].key));
		ss_test_host_done(&host);
		test_end(NULL);
		test_begin(NULL);
	}
}

/* Somebody else may be using the usual ports. */
static void begin_with_port(void)
{
	int made = engine.made;
	begin();
	for (int i = 0; engine.made == made && i < 65; i++)
		pass(1);
}

static void hands_options_on(void **state)
{
	(void)state;
	conf.challenge_port = 0;
	conf.directory_url = "https://[fe80::1%25eth0]:9000/dir";
	conf.domains = "[ \"A.test.\", \"::ffff:192.0.2.1\", \"2001:DB8:0::1\", \"0::1\" ]";
	conf.eab_kid = "kid-1";
	conf.eab_hmac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wE";
	conf.profile = "short";
	begin_with_port();
	const struct acme_setup *s = engine.setup;
	assert_int_equal(s->common.n_names, 4);
	assert_string_equal(s->common.names[0], "a.test");
	assert_string_equal(s->common.names[1], "192.0.2.1");
	assert_string_equal(s->common.names[3], "::1");
	assert_string_equal(s->common.names[2], "2001:db8::1");
	assert_int_equal(s->conf->challenge_type, ACME_HTTP_01);
	assert_int_equal(s->challenge_port, 80);
	assert_int_equal(engine.n_ca_files, 2); /* the host's, as none is configured */
	assert_string_equal(engine.ca_files[1], "/trust/two.pem");
	assert_string_equal(s->conf->eab_hmac, "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wE");
	assert_string_equal(s->conf->profile, "short");
	end();
	conf.challenge_type = 1;
	conf.ca_bundle = "/trust/mine.pem";
	begin_with_port();
	s = engine.setup;
	assert_int_equal(s->conf->challenge_type, ACME_TLS_ALPN_01);
	assert_int_equal(s->challenge_port, 443);
	assert_int_equal(engine.n_ca_files, 1);
	assert_string_equal(engine.ca_files[0], "/trust/mine.pem");
	end();
	conf.challenge_port = 5001;
	begin_with_port();
	assert_int_equal(engine.setup->challenge_port, 5001);
}

/* ---- the good days ---- */

static void obtains_the_first(void **state)
{
	(void)state;
	begin();
	assert_int_equal(engine.issues, 1);
	assert_false(engine.has_old_key);
	assert_int_equal(published.times + published.times_gone, 0);
	expect_log("INFO Initializing ACME client directory=https://ca.test/dir",
		   "INFO Checking existing certificate domain=a.test",
		   "INFO Starting certificate obtainment domains=[\"a.test\"]", NULL);
	pass(5);
	bring(DAY);
	assert_int_equal(published.times, 1);
	expect_no_log("Background renewal loop"); /* before the listener */
	pass(1);
	expect_log("INFO Certificate obtained successfully domain=a.test expiry=2027-01-16T08:00:05Z",
		   "INFO Certificate saved to storage path=/tmp/acme.", "/certificate.pem",
		   "INFO Background renewal loop started check_interval=1h", NULL);
	assert_int_equal(engine.alive, 0);
	assert_int_equal(metric("semstreams_acme_renewal_success_total"), 1);
	assert_int_equal(metric("semstreams_acme_renewal_failure_total"), 0);
	int64_t next = metric("semstreams_acme_next_renewal_timestamp_seconds");
	assert_true(next >= now - 1 + 16 * HOUR && next <= now + 16 * HOUR + 48 * 60);
	assert_int_equal(metric("semstreams_acme_last_success_timestamp_seconds"), now - 1);
	pass(10);
	assert_int_equal(published.times, 1);
	expect_no_log("INFO Certificate renewal check starting");
}

static void starts_with_the_stored(void **state)
{
	(void)state;
	put_pair("a.test", T0 - HOUR, T0 - HOUR + DAY, T0 - HOUR);
	struct store *s = other_store();
	struct pair pair;
	make_pair("k", T0, T0 + 1, &pair);
	struct store_account account = {.email = (char *)"admin@a.test", .key_pem = pair.key_pem};
	assert_int_equal(store_account_save(s, &account), 0);
	drop_pair(&pair);
	store_free(s);
	begin();
	assert_int_equal(published.times, 1); /* before start() is over */
	assert_int_equal(engine.made, 0);
	pass(1);
	expect_log("INFO Initializing ACME client directory=https://ca.test/dir",
		   "INFO ACME account loaded from storage email=admin@a.test",
		   "INFO Checking existing certificate domain=a.test",
		   "INFO Certificate valid, no renewal needed expiry=2027-01-16T07:00:00Z remaining=23h",
		   "INFO Background renewal loop started check_interval=1h", NULL);
	jump(HOUR);
	expect_log("INFO Certificate renewal check starting",
		   "INFO Certificate valid, no renewal needed expiry=2027-01-16T07:00:00Z remaining=21h59m",
		   NULL);
	pass(60);
	expect_no_log("Certificate");
}

static void renews(void **state)
{
	(void)state;
	begin();
	bring(DAY);
	char *first = strdup(published.chain);
	int64_t due = metric("semstreams_acme_next_renewal_timestamp_seconds");
	host.log[0] = '\0';
	jump(due - 1 - now);
	assert_int_equal(engine.issues, 1);
	host.log[0] = '\0';
	pass(1);
	assert_int_equal(engine.issues, 2);
	assert_true(engine.has_old_key);
	assert_int_equal(strncmp(engine.old_ari_id, "YXV0aG9yaXR5.", 13), 0);
	expect_log("INFO Certificate renewal check starting",
		   "INFO Certificate eligible for renewal remaining=7h", "renew_before=8h",
		   "INFO Starting certificate renewal domain=a.test", NULL);
	pass(7);
	bring(DAY);
	expect_log("INFO Certificate renewed successfully domain=a.test expiry=2027-01-17T",
		   "new_expiry=2027-01-17T",
		   "INFO Certificate saved to storage path=", "INFO Hot-reloaded certificate path=/tmp/acme.",
		   "INFO Certificate renewal complete next_check=1h", NULL);
	assert_int_equal(published.times, 2);
	assert_string_not_equal(published.chain, first);
	assert_int_equal(metric("semstreams_acme_renewal_success_total"), 2);
	free(first);
}

/* "semstreams check" ends before the start. */
static void warns_before_the_start(void **state)
{
	(void)state;
	put_pair("a.test", T0, T0 + 12 * HOUR, T0);
	assert_int_equal(ss_test_host_create(&host, &conf), 0);
	expect_log("WARN renew_before is more than half of the certificate's lifetime, using half of it "
		   "renew_before=8h lifetime=12h used=6h",
		   NULL);
	assert_int_equal(host.desc->start(host.self), 0);
	expect_no_log("renew_before is more"); /* once */
	assert_int_equal(published.times, 1);
}

/* Lives of certificates of a minute, under the default renew_before: no loop, none expires, each is used. */
static void lives_with_short_ones(void **state)
{
	(void)state;
	begin();
	bring(60);
	expect_log("WARN renew_before is more than half of the certificate's lifetime",
		   "renew_before=8h lifetime=1m used=30s", NULL);
	for (int i = 0; i < 300; i++) {
		assert_true(now < T0 + 300 * 60);
		pass(1);
		if (engine.running) {
			pass(2);
			bring(60);
		}
		assert_int_equal(published.times_gone, 0);
	}
	assert_true(engine.issues >= 8 && engine.issues <= 11);
	assert_int_equal(metric("semstreams_acme_renewal_success_total"), engine.issues - (engine.running));
	expect_no_log("WARN renew_before"); /* once is enough */
}

/* ---- the bad days ---- */

static void survives_the_ca(void **state)
{
	(void)state;
	begin();
	bring(DAY);
	int64_t expiry = now + DAY;
	jump(17 * HOUR);
	int tries = 0;
	while (now < expiry - 20) {
		if (engine.running) {
			host.log[0] = '\0';
			fail_with(OBTAIN_UNREACHABLE, false, 0,
				  "failed to connect to ACME server: connection refused");
			expect_log("ERROR Certificate renewal failed, retry in ", "failures=", "remaining=",
				   "error=\"failed to connect to ACME server: connection refused\"", NULL);
			assert_int_equal(metric("semstreams_acme_failures_in_a_row"), ++tries);
		}
		pass(10);
		assert_int_equal(published.times_gone, 0); /* the old one is in use to its end */
	}
	assert_true(tries > 8 && tries < 200);
	assert_int_equal(metric("semstreams_acme_renewal_failure_total"), tries);
	pass(30);
	assert_int_equal(published.times_gone > 0, 1);
	assert_non_null(strstr(published.gone, "expired"));
	/* it is back: everything by itself */
	for (int i = 0; !engine.running && i < 600; i++)
		pass(1);
	assert_true(engine.running);
	bring(DAY);
	assert_string_equal(published.gone, "");
	assert_int_equal(metric("semstreams_acme_failures_in_a_row"), 0);
	expect_log("INFO Certificate renewed successfully", NULL);
}

static void says_why_there_is_none(void **state)
{
	(void)state;
	begin();
	fail_with(OBTAIN_CHALLENGE_FAILED, false, 0,
		  "failed to obtain certificate from ACME server: HTTP-01 challenge failed: challenge "
		  "validation "
		  "failed: no route"); /* said once */
	expect_log("ERROR failed to obtain certificate from ACME server, retry in ", "failures=1",
		   "error=\"HTTP-01 challenge failed", NULL);
	assert_int_equal(published.times_gone, 1);
	assert_string_equal(published.gone,
			    "failed to obtain certificate from ACME server: HTTP-01 challenge failed: "
			    "challenge validation failed: no route");
	int64_t next = metric("semstreams_acme_next_renewal_timestamp_seconds");
	assert_true(next >= now + 30 && next <= now + 60);
	pass(1);
	expect_log("INFO Background renewal loop started", NULL);
	pass(28);
	assert_false(engine.running);
	pass(31);
	assert_true(engine.running);
	/* a CA that is not there costs nothing: soon again */
	fail_with(OBTAIN_UNREACHABLE, false, 0, "failed to connect to ACME server: connection refused");
	for (int i = 0; i < 5; i++) {
		for (int k = 0; !engine.running && k < 301; k++)
			pass(1);
		assert_true(engine.running);
		fail_with(OBTAIN_UNREACHABLE, false, 0,
			  "failed to connect to ACME server: connection refused");
	}
	for (int k = 0; !engine.running && k < 301; k++)
		pass(1);
	bring(DAY);
	assert_string_equal(published.gone, "");
}

static void heeds_retry_after(void **state)
{
	(void)state;
	begin();
	fail_with(OBTAIN_RATE_LIMITED, false, 5000, "rateLimited: too many");
	int64_t until = now + 5000;
	/* not by waiting, nor by a restart, nor with other settings for the same CA */
	jump(2000);
	assert_int_equal(engine.issues, 1);
	end();
	begin();
	assert_int_equal(engine.issues, 1);
	assert_string_equal(published.gone,
			    "failed to obtain certificate from ACME server: rateLimited: too many");
	end();
	conf.email = "other@a.test";
	begin();
	jump(until - 1 - now);
	assert_int_equal(engine.issues, 1);
	for (int i = 0; !engine.running && i < 200; i++)
		pass(1);
	assert_int_equal(engine.issues, 2);
	fail_with(OBTAIN_RATE_LIMITED, false, 5000, "rateLimited: too many");
	end();
	/* another CA has not asked for anything */
	conf.directory_url = "https://other.test/dir";
	begin();
	assert_int_equal(engine.issues, 3);
}

static void remembers_failures(void **state)
{
	(void)state;
	put_pair("a.test", T0 - 17 * HOUR, T0 + 7 * HOUR, T0 - 17 * HOUR); /* due, and valid */
	begin();
	fail_with(OBTAIN_REFUSED, true, 0, "rejectedIdentifier: no");
	end();
	jump(20 * 60);
	begin();
	assert_int_equal(engine.issues, 1);
	expect_log("INFO Certificate is due, but the last attempt failed failures=1 next_try=",
		   "rejectedIdentifier: no", NULL);
	end();
	/* the operator changed something: at once */
	conf.domains = "[\"a.test\",\"b.test\"]";
	begin();
	assert_int_equal(engine.issues, 2);
	fail_with(OBTAIN_REFUSED, true, 0, "rejectedIdentifier: no");
	assert_int_equal(metric("semstreams_acme_failures_in_a_row"), 2);
	retry(); /* or says so */
	assert_int_equal(engine.issues, 3);
	retry();
	assert_int_equal(engine.issues, 3); /* one at a time */
	fail_with(OBTAIN_REFUSED, true, 0, "rejectedIdentifier: no");
	assert_int_equal(engine.issues, 4); /* then the one that was asked for */
	fail_with(OBTAIN_REFUSED, true, 0, "rejectedIdentifier: no");
	for (int i = 0; !engine.running && i < 3601; i++)
		pass(1);
	assert_int_equal(engine.issues, 5);
}

/* Fix the cause, restart or SIGHUP, recovered; and by itself within five minutes. */
static void recovers_at_once(void **state)
{
	(void)state;
	begin();
	for (int i = 1; i <= 8; i++) {
		assert_int_equal(engine.issues, i);
		fail_with(OBTAIN_ACCOUNT, true, 0, "the CA has nothing at /acme/other (HTTP status 404)");
		assert_true(metric("semstreams_acme_next_renewal_timestamp_seconds") <= now + 300);
		if (i % 3 == 0) {
			end();
			begin();
		} else if (i % 3 == 1) {
			retry();
		} else {
			pass(300);
		}
	}
	bring(DAY);
	assert_string_equal(published.gone, "");
	/* an expired one is none */
	jump(17 * HOUR);
	fail_with(OBTAIN_REFUSED, true, 0, "no");
	jump(8 * HOUR);
	assert_non_null(strstr(published.gone, "expired"));
	if (engine.running)
		fail_with(OBTAIN_REFUSED, true, 0, "no");
	int before = engine.issues;
	end();
	begin();
	assert_int_equal(engine.issues, before + 1);
	/* but what the CA asks for is kept */
	fail_with(OBTAIN_RATE_LIMITED, false, 5000, "too many");
	retry();
	end();
	begin();
	pass(301);
	retry();
	assert_int_equal(engine.issues, before + 1);
}

static void keeps_what_cannot_be_saved(void **state)
{
	(void)state;
	char path[128];
	begin();
	/* no file can be exchanged for this */
	snprintf(path, sizeof path, "%s/current", folder);
	assert_int_equal(mkdir(path, 0700), 0);
	bring(DAY);
	expect_log("ERROR failed to obtain certificate from ACME server, retry in ",
		   "cannot write the certificate to", NULL);
	assert_int_equal(metric("semstreams_acme_renewal_failure_total"), 1);
	rmdir(path);
	for (int i = 0; !engine.running && i < 61; i++)
		pass(1);
	bring(DAY);
	assert_int_equal(published.times, 1);
	/* with a folder nothing can be written to, tries stay rare */
	jump(17 * HOUR);
	snprintf(path, sizeof path, "%s/state.json", folder);
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	int before = engine.issues;
	for (int i = 0; i < 3600; i++) {
		if (engine.running)
			fail_with(OBTAIN_STORAGE, false, 0, "disk full");
		pass(1);
	}
	assert_true(engine.issues - before <= 6);
	rmdir(path);
}

static void understands_clocks(void **state)
{
	(void)state;
	begin();
	bring_dated(now - DAY, now - HOUR); /* our clock is ahead */
	expect_log("ERROR failed to obtain certificate", "is the clock right?", NULL);
	assert_int_equal(published.times, 0);
	for (int i = 0; !engine.running && i < 61; i++)
		pass(1);
	bring(DAY);
	jump(17 * HOUR);
	bring_dated(now + 120, now + DAY); /* our clock is behind: the old one stays until then */
	assert_int_equal(published.times, 1);
	expect_log("WARN New certificate is not valid yet", NULL);
	pass(119);
	assert_int_equal(published.times, 1);
	pass(1);
	assert_int_equal(published.times, 2);
	/* a jump behind the end and back */
	now += 3 * DAY;
	pass(1);
	assert_non_null(strstr(published.gone, "expired"));
	now -= 3 * DAY;
	pass(2);
	assert_string_equal(published.gone, "");
	if (engine.running)
		fail_with(OBTAIN_UNREACHABLE, false, 0, "x");
	/* set back far: looked after by the other clock */
	now -= 30 * DAY;
	host.log[0] = '\0';
	pass(HOUR + 1);
	expect_log("INFO Certificate renewal check starting", NULL);
}

/* ---- other hands ---- */

static void takes_what_others_bring(void **state)
{
	(void)state;
	begin();
	bring(DAY);
	jump(2 * HOUR);
	host.log[0] = '\0';
	put_pair("a.test", now, now + DAY, now);
	pass(1);
	assert_int_equal(published.times, 2);
	assert_int_equal(metric("semstreams_acme_renewal_success_total"), 2);
	expect_log("INFO Certificate renewed successfully domain=a.test",
		   "INFO Hot-reloaded certificate path=", NULL);
	put_pair("a.test", now, now + DAY, 0);
	pass(1);
	assert_int_equal(published.times, 3);
	assert_int_equal(metric("semstreams_acme_renewal_success_total"), 2);
	expect_log("INFO Certificate in storage was changed", NULL);
	assert_int_equal(engine.issues, 1);
}

static void waits_for_others(void **state)
{
	(void)state;
	struct store *other = other_store();
	assert_int_equal(store_lock(other), 0);
	begin();
	pass(60);
	assert_int_equal(engine.made, 0);
	assert_int_equal(published.times_gone, 0);
	/* the other was faster */
	struct pair pair;
	make_pair("a.test", now, now + DAY, &pair);
	assert_int_equal(stored_cert_save(other, pair.chain_pem, pair.key_pem), 0);
	drop_pair(&pair);
	store_free(other);
	pass(10);
	assert_int_equal(published.times, 1);
	assert_int_equal(engine.made, 0);
}

static void gets_another_when_names_change(void **state)
{
	(void)state;
	put_pair("old.test", T0 - HOUR, T0 + DAY, T0 - HOUR);
	begin();
	assert_int_equal(published.times, 1); /* meanwhile the old one */
	assert_int_equal(engine.issues, 1);
	expect_log("INFO Certificate eligible for renewal", "reason=\"other domains\"", NULL);
	bring(DAY);
	assert_int_equal(published.times, 2);
	jump(HOUR);
	assert_int_equal(engine.issues, 1);
}

static void gets_another_when_it_is_deleted(void **state)
{
	(void)state;
	char command[128];
	begin();
	bring(DAY);
	end();
	snprintf(command, sizeof command, "rm %s/* 2>/dev/null", folder);
	assert_int_not_equal(system(command), -1);
	begin();
	assert_int_equal(engine.issues, 2);
	bring(DAY);
	/* under a running host, too, which keeps what it has meanwhile */
	assert_int_not_equal(system(command), -1);
	pass(2);
	assert_int_equal(engine.issues, 3);
	assert_int_equal(published.times_gone, 0);
	bring(DAY);
	assert_int_equal(published.times, 3);
	/* the whole folder */
	snprintf(command, sizeof command, "rm -r %s", folder);
	assert_int_not_equal(system(command), -1);
	pass(2);
	assert_int_equal(engine.issues, 4);
	bring(DAY);
	assert_int_equal(published.times, 4);
}

static void replaces_what_is_broken(void **state)
{
	(void)state;
	char path[128];
	begin();
	bring(DAY);
	end();
	snprintf(path, sizeof path, "%s/certificate.pem", folder);
	assert_int_equal(truncate(path, 100), 0);
	begin();
	expect_log("WARN Stored certificate cannot be used, obtaining a new one", NULL);
	assert_int_equal(engine.issues, 2);
	bring(DAY);
	assert_int_equal(published.times, 2);
	end();
	snprintf(path, sizeof path, "%s/state.json", folder);
	assert_int_equal(truncate(path, 10), 0);
	begin();
	assert_int_equal(published.times, 3);
	assert_int_equal(engine.issues, 2);
	published.refuse = "no good";
	put_pair("a.test", now, now + DAY, 0);
	pass(60);
	assert_int_equal(published.times, 4); /* asked once */
	expect_log("ERROR Certificate from", "cannot be used error=\"no good\"", NULL);
}

static void waits_for_storage(void **state)
{
	(void)state;
	char path[128];
	snprintf(path, sizeof path, "%s/file/store", folder);
	conf.storage_path = path;
	path[strlen(folder) + 5] = '\0';
	assert_int_equal(close(open(path, O_CREAT | O_CLOEXEC, 0600)), 0);
	path[strlen(folder) + 5] = '/';
	begin();
	assert_int_equal(published.times_gone, 1);
	expect_log("ERROR account registration failed: storage_path ", NULL);
	path[strlen(folder) + 5] = '\0';
	unlink(path);
	path[strlen(folder) + 5] = '/';
	pass(60);
	assert_int_equal(engine.issues, 1);
	bring(DAY);
	assert_int_equal(published.times, 1);
}

/* ---- the CA's advice ---- */

static void asks_the_ca(void **state)
{
	(void)state;
	conf.ari = 1;
	begin();
	bring(DAY);
	int64_t obtained = now;
	jump(2 * HOUR);
	assert_int_equal(engine.aris, 0);
	jump(HOUR);
	pass(60);
	assert_int_equal(engine.aris, 1);
	/* renew in an hour or two, says the CA */
	advise(now + HOUR, now + 2 * HOUR, 1000);
	pass(2);
	int64_t at = metric("semstreams_acme_next_renewal_timestamp_seconds");
	assert_true(at >= now + HOUR - 5 && at <= now + 2 * HOUR);
	assert_int_equal(engine.alive, 0);
	end();
	begin(); /* the moment survives, and nobody is asked again too soon */
	assert_int_equal(engine.aris, 1);
	assert_int_equal(metric("semstreams_acme_next_renewal_timestamp_seconds"), at);
	jump(at - now);
	if (engine.aris == 2) {
		advise(obtained + 4 * HOUR + 2, obtained + 5 * HOUR, 1000);
		pass(HOUR * 2);
	}
	assert_int_equal(engine.issues, 2);
	expect_log("INFO Certificate eligible for renewal", "reason=\"asked by the CA\"", NULL);
	bring(DAY);
	/* none of that: rarely */
	jump(4 * HOUR);
	int asked = engine.aris;
	fail_with(OBTAIN_REFUSED, true, 0, "the CA has no ARI");
	for (int i = 0; i < 5; i++) {
		jump(17 * HOUR);
		if (engine.running)
			bring(DAY);
	}
	assert_int_equal(engine.aris, asked);
}

/* ---- a certificate that looks old at once ---- */

static void does_not_loop(void **state)
{
	(void)state;
	begin();
	/* begins long ago by our clock: 8 h of 24 are left */
	bring_dated(now - 20 * HOUR, now + 4 * HOUR);
	int issues = engine.issues;
	for (int i = 0; i < 4 * 360; i++) {
		pass(10);
		if (engine.running)
			bring_dated(now - 20 * HOUR, now + 4 * HOUR);
	}
	assert_true(engine.issues - issues <= 2);
	/* one whose end is always near: once an eighth of nothing is still rare */
	for (int i = 0; i < 360; i++) {
		pass(10);
		if (engine.running)
			bring_dated(now - 20 * HOUR, now + 2);
	}
	assert_true(engine.issues - issues < 360);
}

static void writes_times(void **state)
{
	(void)state;
	static const struct {
		int64_t seconds;
		const char *text;
	} rows[] = {{0, "0s"},        {-5, "0s"},         {1, "1s"},           {59, "59s"},
		    {60, "1m"},       {61, "1m1s"},       {3599, "59m59s"},    {3600, "1h"},
		    {27900, "7h45m"}, {57600, "16h"},     {86399, "23h59m"},   {129600, "36h"},
		    {172800, "48h"},  {7776000, "2160h"}, {7779660, "2161h1m"}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_string_equal(duration_text(rows[i].seconds).s, rows[i].text);
	assert_string_equal(span_text(7779600).s, "90d1h");
	assert_string_equal(span_text(172799).s, "1d23h");
	assert_string_equal(time_text(1763287200).s, "2025-11-16T10:00:00Z");
	assert_string_equal(time_text(0).s, "never");
	assert_true(strlen(duration_text(INT64_MAX).s) > 3 && strlen(time_text(INT64_MAX).s) > 3);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, test_begin, test_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(refuses_bad_options),
		TEST(warns_of_binding_keys),
		TEST(hands_options_on),
		TEST(obtains_the_first),
		TEST(starts_with_the_stored),
		TEST(renews),
		TEST(warns_before_the_start),
		TEST(lives_with_short_ones),
		TEST(survives_the_ca),
		TEST(says_why_there_is_none),
		TEST(heeds_retry_after),
		TEST(remembers_failures),
		TEST(recovers_at_once),
		TEST(keeps_what_cannot_be_saved),
		TEST(understands_clocks),
		TEST(takes_what_others_bring),
		TEST(waits_for_others),
		TEST(gets_another_when_names_change),
		TEST(gets_another_when_it_is_deleted),
		TEST(replaces_what_is_broken),
		TEST(waits_for_storage),
		TEST(asks_the_ca),
		TEST(does_not_loop),
		TEST(writes_times),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
