/* SPDX-License-Identifier: MIT */
/*
 * test_operation - operations in a process of their own: with the real program and a CA that is not there,
 * and with programs that do everything wrong.
 */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "plugins/acme_tls/operation.h"
#include "plugins/identity/store.h"
#include "plugins/identity/tests/helper_pair.h"

#define ARRIVED 12345 /* bytes of a log's text */

static char folder[64], program[128];
static struct acme_conf conf;
static struct acme_setup setup;
static struct store *store;
static struct operation *operation;
static struct obtain_result *result;
static struct {
	int counted, levels;
	char log[1024];
	size_t log_len;
} seen;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path) && errno != ENOENT;
}

static void on_log(void *arg, int32_t level, const char *text)
{
	(void)arg;
	seen.levels += level;
	seen.log_len = strlen(text);
	snprintf(seen.log, sizeof seen.log, "%s", text);
}

static void on_counted(void *arg, const char *what)
{
	(void)arg;
	seen.counted += strcmp(what, "directory") == 0;
}

static int begin(void **state)
{
	(void)state;
	char why[256];
	strcpy(folder, "/tmp/operation.XXXXXX");
	assert_non_null(mkdtemp(folder));
	assert_int_equal(store_open(folder, &store, why, sizeof why), 0);
	memset(&seen, 0, sizeof seen);
	conf = (struct acme_conf){.directory_url = "https://127.0.0.1:1/dir",
				  .email = "admin@a.test",
				  .challenge_address = "",
				  .order_timeout = 20 * SETUP_SECOND};
	setup = (struct acme_setup){.conf = &conf,
				    .program = program,
				    .challenge_port = 80,
				    .common = {.names = {"a.test"},
					       .names_json = (char *)"[\"a.test\"]",
					       .n_names = 1,
					       .path = folder}};
	return 0;
}

static int end(void **state)
{
	(void)state;
	operation_free(operation);
	operation = NULL;
	store_free(store);
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

/* A program that says this and ends; %s of printf. */
static void speaks(const char *script)
{
	snprintf(program, sizeof program, "%s/program", folder);
	FILE *f = fopen(program, "we");
	assert_non_null(f);
	fprintf(f, "#!/bin/sh\nread request <&3\nsay () { printf '%%s\\n' \"$1\" >&3; }\n%s\n", script);
	assert_int_equal(fchmod(fileno(f), 0700), 0);
	fclose(f);
}

static void start(json_t *request, const char *const *ca_files)
{
	static const struct operation_events events = {.log = on_log, .counted = on_counted};
	char why[256];
	operation_free(operation);
	operation = NULL;
	if (operation_start(&setup, request, ca_files, &events, &operation, why, sizeof why))
		fail_msg("%s", why);
}

static void run(json_t *request)
{
	start(request, NULL);
	result = operation_wait(operation);
	assert_ptr_equal(operation_read(operation), result); /* for ever */
}

static json_t *issue(void)
{
	return operation_issue(&setup, &(struct stored_cert){.exists = false});
}

static json_t *ari(void)
{
	return json_pack("{s:s, s:s}", "operation", "ari", "ari_id", "a.b");
}

static void goes_all_the_way(void **state)
{
	(void)state;
	snprintf(program, sizeof program, "%s", ACME_PROGRAM);
	run(issue());
	assert_int_equal(result->fail, OBTAIN_UNREACHABLE);
	assert_non_null(strstr(result->why, "failed to connect to ACME server"));
	assert_true(seen.counted > 0);
	/* the other operations find no account */
	run(ari());
	assert_int_equal(result->fail, OBTAIN_UNREACHABLE);
	static const char *const others[] = {"rollover", "revoke", "deactivate"};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		run(json_pack("{s:s, s:s, s:i}", "operation", others[i], "chain", "-", "reason", 1));
		assert_int_not_equal(result->fail, OBTAIN_OK);
	}
}

static void passes_on_what_is_said(void **state)
{
	(void)state;
	speaks("say '{\"log\":\"one\",\"level\":20}'\nsay '{\"counted\":\"directory\"}'\n"
	       "say \"{\\\"log\\\":\\\"$(head -c 12345 /dev/zero | tr '\\0' x)\\\",\\\"level\\\":10}\"\n"
	       "say '{\"result\":{\"fail\":4,\"why\":\"too many\",\"permanent\":true,\"retry_after\":77}}'\n"
	       "say '{\"log\":\"never\",\"level\":0}'");
	run(issue());
	assert_int_equal(seen.levels, 30);
	assert_int_equal(seen.log_len, ARRIVED);
	assert_int_equal(seen.counted, 1);
	assert_int_equal(result->fail, OBTAIN_RATE_LIMITED);
	assert_true(result->permanent);
	assert_int_equal(result->retry_after, 77);
	assert_string_equal(result->why, "too many");
	speaks("say '{\"result\":{\"fail\":0,\"ari_start\":5,\"ari_end\":6,\"ari_url\":\"https://x\"}}'");
	run(ari());
	assert_int_equal(result->fail, OBTAIN_OK);
	assert_int_equal(result->ari_start + 10 * result->ari_end, 65);
	assert_string_equal(result->ari_url, "https://x");
}

/* What is asked, as the program reads it. */
static void asks_for_all(void **state)
{
	(void)state;
	static const char *const files[] = {"/trust/one.pem", "/trust/two.pem", NULL};
	char text[4096] = "";
	speaks("printf '%s' \"$request\" >\"$(dirname \"$0\")/request\"\nsay '{\"result\":{\"fail\":5}}'");
	conf.reuse_key = 1;
	conf.profile = "short";
	struct stored_cert old = {.key_pem = (char *)"key", .chain.ari_id = "a.b"};
	start(operation_issue(&setup, &old), files);
	result = operation_wait(operation);
	snprintf(text, sizeof text, "%s/request", folder);
	FILE *f = fopen(text, "re");
	assert_non_null(f);
	text[fread(text, 1, sizeof text - 1, f)] = '\0';
	fclose(f);
	static const char *const parts[] = {"\"operation\":\"issue\"",
					    "\"old_ari_id\":\"a.b\"",
					    "\"old_key\":\"key\"",
					    "\"storage_path\":\"/tmp/operation.",
					    "\"ca_files\":[\"/trust/one.pem\",\"/trust/two.pem\"]",
					    "\"names\":[\"a.test\"]",
					    "\"profile\":\"short\"",
					    "\"eab_kid\":null",
					    "\"challenge_port\":80",
					    "\"reuse_key\":true",
					    "\"order_ns\":20000000000"};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (!strstr(text, parts[i]))
			fail_msg("no %s in %s", parts[i], text);
	/* a new key, unless it is to be used again */
	conf.reuse_key = 0;
	json_t *request = operation_issue(&setup, &old);
	assert_true(json_is_null(json_object_get(request, "old_key")));
	json_decref(request);
}

static void survives_bad_programs(void **state)
{
	(void)state;
	static const char *const scripts[] = {
		"exit 0",
		"kill -9 $$",
		"say '{\"result\":{\"fail\":0}}'",
		"say '{\"result\":{\"fail\":0,\"chain\":\"x\",\"key\":\"y\"}}'",
		"say '{\"result\":{\"fail\":99}}'",
		"say '{\"result\":{\"fail\":-1}}'",
		"say '{\"result\":7}'",
		"say 'no json'\nsay '[]'\nsay '{}'\nsay ''",
		"printf '{\"result\":{\"fail\":1' >&3",
		"head -c 4000000 /dev/zero >&3",
		"yes '{\"counted\":\"x\"}' >&3",
	};
	for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
		speaks(scripts[i]);
		run(issue());
		if (result->fail != OBTAIN_LOCAL || result->chain.pem || result->key_pem)
			fail_msg("\"%s\": %d %s", scripts[i], result->fail, result->why);
	}
	snprintf(program, sizeof program, "%s/none", folder);
	char why[256];
	struct operation *none = NULL;
	const struct operation_events events = {.log = on_log};
	assert_int_equal(operation_start(&setup, issue(), NULL, &events, &none, why, sizeof why), -ENOENT);
	assert_non_null(strstr(why, "cannot be run"));
}

/* A certificate for another name, as a chain or with another key, is not passed on. */
static void checks_certificates(void **state)
{
	(void)state;
	struct pair good, other;
	make_pair("a.test", 1763200800, 1763373600, &good);
	make_pair("b.test", 1763200800, 1763373600, &other);
	const struct {
		const char *chain, *key;
		bool accepted;
	} rows[] = {{good.chain_pem, good.key_pem, true},
		    {good.chain_pem, other.key_pem, false},
		    {other.chain_pem, other.key_pem, false}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char path[128];
		snprintf(path, sizeof path, "%s/chain", folder);
		FILE *f = fopen(path, "we");
		assert_non_null(f);
		/* one JSON line; the texts have no other character to be escaped than the newline */
		fputs("{\"result\":{\"fail\":0,\"chain\":\"", f);
		for (const char *p = rows[i].chain; *p; p++)
			*p == '\n' ? (void)fputs("\\n", f) : (void)fputc(*p, f);
		fputs("\",\"key\":\"", f);
		for (const char *p = rows[i].key; *p; p++)
			*p == '\n' ? (void)fputs("\\n", f) : (void)fputc(*p, f);
		fputs("\"}}\n", f);
		fclose(f);
		speaks("cat \"$(dirname \"$0\")/chain\" >&3");
		run(issue());
		assert_int_equal(result->fail == OBTAIN_OK, rows[i].accepted);
		if (rows[i].accepted)
			assert_string_equal(result->key_pem, good.key_pem);
		else
			assert_non_null(strstr(result->why, "returned an invalid certificate"));
	}
	drop_pair(&good);
	drop_pair(&other);
}

/* When it is given up, the program ends: the pipe it holds is closed. */
static void ends_the_program(void **state)
{
	(void)state;
	int pipe_fds[2];
	char c;
	snprintf(program, sizeof program, "%s", ACME_PROGRAM);
	assert_int_equal(pipe(pipe_fds), 0);          /* inherited, as it is not close-on-exec */
	conf.directory_url = "https://192.0.2.1/dir"; /* no answer comes from there */
	start(issue(), NULL);
	assert_null(operation_read(operation));
	operation_free(operation);
	operation = NULL;
	close(pipe_fds[1]);
	assert_int_equal(read(pipe_fds[0], &c, 1), 0);
	close(pipe_fds[0]);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(goes_all_the_way),      TEST(passes_on_what_is_said), TEST(asks_for_all),
		TEST(survives_bad_programs), TEST(checks_certificates),    TEST(ends_the_program),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
