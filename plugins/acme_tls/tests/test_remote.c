/* SPDX-License-Identifier: MIT */
/*
 * test_remote - errands in a program of their own: with the real program and a CA that is not there, and with
 * programs that do everything wrong.
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
#include "plugins/acme_tls/client/acme.h"
#include "plugins/acme_tls/remote.h"

#define ARRIVED 12345 /* bytes of a log's text */

static char folder[64], program[128];
static struct ev_loop *loop;
static struct store *store;
static struct acme *client;
static struct {
	struct acme_result result;
	bool has_chain;
	int times, counted, levels;
	char log[1024];
	size_t log_len;
	bool again; /* another errand from within done */
} seen;

const char *remote_program(void)
{
	return program;
}

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

static void on_done(void *arg, const struct acme_result *result)
{
	(void)arg;
	seen.result = *result;
	seen.has_chain = result->chain != NULL;
	seen.times++;
	if (seen.again) {
		seen.again = false;
		assert_int_equal(acme_deactivate(client, on_done, NULL), 0);
		return;
	}
	acme_free(client);
	client = NULL;
	ev_break(loop, EVBREAK_ALL);
}

static int begin(void **state)
{
	(void)state;
	char why[256];
	strcpy(folder, "/tmp/remote.XXXXXX");
	assert_non_null(mkdtemp(folder));
	assert_int_equal(store_open(folder, &store, why, sizeof why), 0);
	loop = ev_loop_new(EVFLAG_NOENV);
	memset(&seen, 0, sizeof seen);
	return 0;
}

static int end(void **state)
{
	(void)state;
	acme_free(client);
	client = NULL;
	store_free(store);
	ev_loop_destroy(loop);
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

static void make(const char *directory)
{
	static const char *const names[] = {"a.test"};
	const struct acme_options options = {.loop = loop,
					     .store = store,
					     .directory_url = directory,
					     .email = "admin@a.test",
					     .names = names,
					     .n_names = 1,
					     .challenge_address = "",
					     .challenge_port = 80,
					     .order_ns = 20000000000,
					     .log = on_log,
					     .counted = on_counted};
	char why[256];
	if (acme_new(&options, &client, why, sizeof why))
		fail_msg("%s", why);
}

static void issue(void)
{
	make("https://127.0.0.1:1/dir");
	assert_int_equal(acme_issue(client, NULL, NULL, on_done, NULL), 0);
	assert_int_equal(acme_issue(client, NULL, NULL, on_done, NULL), -EBUSY);
	assert_int_equal(seen.times, 0);
	ev_run(loop, 0);
	assert_int_equal(seen.times, 1);
}

static void goes_all_the_way(void **state)
{
	(void)state;
	snprintf(program, sizeof program, "%s", ACME_PROGRAM);
	issue();
	assert_int_equal(seen.result.fail, ACME_UNREACHABLE);
	assert_non_null(strstr(seen.result.why, "failed to connect to ACME server"));
	assert_true(seen.counted > 0);
	/* the other errands find no account */
	make("https://127.0.0.1:1/dir");
	assert_int_equal(acme_ari(client, "a.b", on_done, NULL), 0);
	ev_run(loop, 0);
	assert_int_equal(seen.result.fail, ACME_UNREACHABLE);
	make("https://127.0.0.1:1/dir");
	assert_int_equal(acme_rollover(client, on_done, NULL), 0);
	ev_run(loop, 0);
	assert_int_not_equal(seen.result.fail, ACME_OK);
	make("https://127.0.0.1:1/dir");
	assert_int_equal(acme_revoke(client, "-", 1, on_done, NULL), 0);
	ev_run(loop, 0);
	assert_int_not_equal(seen.result.fail, ACME_OK);
	assert_int_equal(seen.times, 4);
}

static void passes_on_what_is_said(void **state)
{
	(void)state;
	speaks("say '{\"log\":\"one\",\"level\":20}'\nsay '{\"counted\":\"directory\"}'\n"
	       "say \"{\\\"log\\\":\\\"$(head -c 12345 /dev/zero | tr '\\0' x)\\\",\\\"level\\\":10}\"\n"
	       "say '{\"result\":{\"fail\":4,\"why\":\"too many\",\"permanent\":true,\"retry_after\":77}}'");
	issue();
	assert_int_equal(seen.levels, 30);
	assert_int_equal(seen.log_len, ARRIVED);
	assert_int_equal(seen.counted, 1);
	assert_int_equal(seen.result.fail, ACME_RATE_LIMITED);
	assert_true(seen.result.permanent);
	assert_int_equal(seen.result.retry_after, 77);
	assert_string_equal(seen.result.why, "too many");
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
		memset(&seen, 0, sizeof seen);
		issue();
		if (seen.result.fail != ACME_LOCAL || seen.has_chain)
			fail_msg("\"%s\": %d %s", scripts[i], seen.result.fail, seen.result.why);
	}
	snprintf(program, sizeof program, "%s/none", folder);
	struct acme *none = NULL;
	char why[256];
	assert_int_equal(acme_new(&(struct acme_options){.loop = loop}, &none, why, sizeof why), -ENOENT);
	assert_non_null(strstr(why, "cannot be run"));
}

static void begins_again_at_the_end(void **state)
{
	(void)state;
	speaks("say '{\"log\":\"x\",\"level\":0}'\nsay '{\"result\":{\"fail\":6}}'\nsay "
	       "'{\"log\":\"never\",\"level\":0}'");
	seen.again = true;
	make("https://127.0.0.1:1/dir");
	assert_int_equal(acme_deactivate(client, on_done, NULL), 0);
	ev_run(loop, 0);
	assert_int_equal(seen.times, 2);
	assert_string_equal(seen.log, "x");
}

/* When it is given up, the program ends: the pipe it holds is closed. */
static void ends_the_program(void **state)
{
	(void)state;
	int pipe_fds[2];
	char c;
	snprintf(program, sizeof program, "%s", ACME_PROGRAM);
	assert_int_equal(pipe(pipe_fds), 0); /* inherited, as it is not close-on-exec */
	make("https://192.0.2.1/dir");       /* no answer comes from there */
	assert_int_equal(acme_issue(client, NULL, NULL, on_done, NULL), 0);
	acme_free(client);
	client = NULL;
	close(pipe_fds[1]);
	assert_int_equal(read(pipe_fds[0], &c, 1), 0);
	close(pipe_fds[0]);
	assert_int_equal(seen.times, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(goes_all_the_way),        TEST(passes_on_what_is_said), TEST(survives_bad_programs),
		TEST(begins_again_at_the_end), TEST(ends_the_program),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
