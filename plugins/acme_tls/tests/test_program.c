/* SPDX-License-Identifier: MIT */
/*
 * test_program - semstreams-acme leaves no secret behind in memory that it gives back: neither those of the
 * request, nor the key that it answers with; nor does the host that made the request.  This program's free(),
 * which the C library uses as well, looks at what it is given.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <cmocka.h>

/* tools that look for leaks need a process that may be traced */
#define prctl(...) ((void)0)
#define main       program_main
int program_main(void);
#include "plugins/acme_tls/client/program.c"
#undef main
#include "plugins/acme_tls/operation.h"

/* Eight letters of each secret, so that a part of it is found, too; and what they are in base64. */
static const char mark[] = "n0t4YouX", decoded[] = "\x9f\x4b\x78\x62\x8b\x97";
static char secret[801];
static volatile bool watching;
static volatile unsigned found;

extern void __libc_free(void *);
extern void *__libc_malloc(size_t);

void free(void *block)
{
	size_t size = block ? malloc_usable_size(block) : 0;

	if (watching && block && (memmem(block, size, mark, 8) || memmem(block, size, decoded, 6)))
		found++;
	/* what this test itself leaves behind must not be found in the next block */
	if (block)
		explicit_bzero(block, size);
	__libc_free(block);
}

/* It always moves, as it may. */
void *realloc(void *block, size_t size)
{
	void *moved = __libc_malloc(size);

	if (moved && block) {
		size_t had = malloc_usable_size(block);
		memcpy(moved, block, had < size ? had : size);
		free(block);
	}
	return moved;
}

/* ---- the operation ---- */

static struct client client;

struct client *__wrap_client_run(const struct client_options *o, const struct client_request *q);
void __wrap_client_free(struct client *c);

struct client *__wrap_client_run(const struct client_options *o, const struct client_request *q)
{
	struct identity_key *key = NULL;
	char *binding = NULL;

	assert_string_equal(o->eab_mac, secret);
	assert_string_equal(q->old_key_pem, secret);
	o->log(o->arg, SS_LOG_INFO, "at work");
	assert_int_equal(key_new(&key), 0);
	assert_int_equal(jws_eab(key, o->eab_kid, o->eab_mac, o->directory_url, &binding), 0);
	key_free(key);
	free(binding);
	client.result = (struct obtain_result){.key_pem = secret};
	return &client;
}

void __wrap_client_free(struct client *c)
{
	assert_ptr_equal(c, &client);
}

static void test_secrets(void **state)
{
	static char folder[] = "/tmp/semstreams-program-XXXXXX", request[4096], answers[4096];
	int pair[2];
	size_t have = 0;
	ssize_t n;

	(void)state;
	for (size_t at = 0; at + 1 < sizeof secret; at += 8)
		memcpy(secret + at, mark, 8);
	assert_non_null(mkdtemp(folder));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	int len = snprintf(request, sizeof request,
			   "{\"operation\":\"issue\",\"storage_path\":\"%s\",\"email\":\"a@b.test\","
			   "\"directory_url\":\"https://ca.test/\",\"names\":[\"a.test\"],"
			   "\"eab_kid\":\"kid\",\"eab_mac\":\"%s\",\"old_key\":\"%s\"}\n",
			   folder, secret, secret);
	assert_int_equal(write(pair[0], request, (size_t)len), len);
	/* PROTOCOL_FD may be one of the two */
	int ours = fcntl(pair[0], F_DUPFD_CLOEXEC, 10), theirs = fcntl(pair[1], F_DUPFD_CLOEXEC, 10);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(dup2(theirs, PROTOCOL_FD), PROTOCOL_FD);
	close(theirs);
	found = 0;
	watching = true;
	int code = program_main();
	watching = false;
	close(PROTOCOL_FD);
	while ((n = read(ours, answers + have, sizeof answers - 1 - have)) > 0)
		have += (size_t)n;
	close(ours);
	rmdir(folder);
	assert_int_equal(code, EXIT_SUCCESS);
	assert_non_null(strstr(answers, "{\"log\":\"at work\",\"level\":"));
	assert_non_null(strstr(answers, secret));
	assert_int_equal(found, 0);
}

/* In a host, Jansson's memory is everybody's. */
static void test_request(void **state)
{
	(void)state;
	static struct acme_conf conf = {.directory_url = "https://ca.test/",
					.email = "a@b.test",
					.challenge_address = "",
					.eab_kid = "kid",
					.eab_hmac = secret,
					.reuse_key = 1};
	static const struct acme_setup setup = {
		.conf = &conf,
		.program = "/bin/true",
		.common = {.path = (char *)"/tmp", .names_json = (char *)"[]"}};
	static const struct operation_events events = {.log = NULL};
	const struct stored_cert old = {.exists = true, .key_pem = secret};
	struct operation *operation = NULL;
	char why[400];

	json_set_alloc_funcs(malloc, free);
	found = 0;
	watching = true;
	/* a program that ends at once may be gone before all is sent */
	int rc = operation_start(&setup, operation_issue(&setup, &old), NULL, &events, &operation, why,
				 sizeof why);
	if (rc == 0)
		operation_free(operation);
	watching = false;
	assert_true(rc == 0 || rc == -EPIPE || rc == -ECONNRESET);
	assert_int_equal(found, 0);
}

/* Else the tests above could not fail. */
static void test_watch(void **state)
{
	(void)state;
	found = 0;
	watching = true;
	char *volatile copy = strdup(secret);
	free(copy);
	watching = false;
	assert_int_equal(found, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_secrets), cmocka_unit_test(test_request),
					   cmocka_unit_test(test_watch)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
