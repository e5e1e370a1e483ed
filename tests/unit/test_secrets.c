/* SPDX-License-Identifier: MIT */
/*
 * What the configuration holds may be secret: no memory that held one is given back to the allocator as it
 * was. This program's free() and realloc(), which the C library uses as well, look at what they are given.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <semstreams/sugar.h>

#include "core/config/config.h"
#include "core/config/options.h"

#if !defined(__GLIBC__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAN_WATCH 0 /* their allocator is in the way */
#else
#define CAN_WATCH 1
#endif

/* Eight bytes of each secret, so that a part of it is found, too. */
static const char mark[] = "n0t4You!";
static volatile bool watching;
static volatile unsigned found;

#if CAN_WATCH
extern void __libc_free(void *);
extern void *__libc_malloc(size_t);

/* What this test itself leaves behind must not be found in the next block. */
static void look(void *block)
{
	size_t size = block ? malloc_usable_size(block) : 0;

	if (watching && block && memmem(block, size, mark, sizeof mark - 1))
		found++;
	if (block)
		explicit_bzero(block, size);
}

void free(void *block)
{
	look(block);
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
#endif

/* Longer than any buffer begins with. */
static char *make_secret(void)
{
	char *secret = calloc(1, 4001);

	assert_non_null(secret);
	for (int i = 0; i < 500; i++)
		memcpy(secret + 8 * i, mark, 8);
	return secret;
}

struct conf {
	const char *text, *json, *file;
	int64_t number;
};
static const struct ss_option options[] = {
	SS_OPT(struct conf, text, SS_OPT_STRING, NULL, "", .flags = SS_OPT_SECRET),
	SS_OPT(struct conf, json, SS_OPT_JSON, NULL, ""),
	SS_OPT(struct conf, file, SS_OPT_STRING, NULL, ""),
	SS_OPT(struct conf, number, SS_OPT_INT, "1", "", .max = 9),
};
static const struct option_table table = OPTION_TABLE(options, struct conf);

static char folder[] = "/tmp/semstreams-secrets-XXXXXX";

static void write_file(const char *name, const char *before, const char *text, const char *after)
{
	char path[128];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	/* not by stdio, whose buffers come from this heap as well */
	assert_true(write(fd, before, strlen(before)) >= 0);
	assert_true(write(fd, text, strlen(text)) >= 0);
	assert_true(write(fd, after, strlen(after)) >= 0);
	close(fd);
}

/* Load <folder>/config.json and fill the options of its first component from it. */
static int load(void)
{
	char path[128];
	struct config *config;
	struct options filled;
	struct diag diag;

	snprintf(path, sizeof path, "%s/config.json", folder);
	diag_init(&diag);
	int rc = config_load(path, &diag, &config);
	if (config && config->n_components) {
		const struct config_component *c = &config->components[0];
		int filling = options_fill(&table, config->doc, c->options, c->node, &diag, &filled);
		rc = rc ? rc : filling;
		options_done(&filled);
	}
	config_free(config);
	diag_done(&diag);
	return rc;
}

static void expect_clean(const char *before, const char *text, const char *after, bool good)
{
	write_file("config.json", before, text, after);
	found = 0;
	watching = true;
	int rc = load();
	watching = false;
	assert_int_equal(rc == 0, good);
	assert_int_equal(found, 0);
}

#define COMPONENT(options) "{\"components\": [{\"id\": \"a\", \"type\": \"t\", \"config\": {" options "}}]}"

static void test_wiped(void **state)
{
	(void)state;
	if (!CAN_WATCH)
		skip();
	char *secret = make_secret();

	setenv("SECRET", secret, 1);
	write_file("secret", secret, "\n", "");
	write_file("not-text", secret, "\xff", "");
	expect_clean(COMPONENT("\"text\": \"a ${env:SECRET} b\", \"file\": {\"file\": \"secret\"}"), "", "",
		     true);
	expect_clean(COMPONENT("\"json\": [{\"k\": \"${env:SECRET}\"}, \"x\"]"), "", "", true);
	/* in the file itself */
	expect_clean("{\"components\": [{\"id\": \"a\", \"type\": \"t\", \"config\": {\"text\": \"", secret,
		     "\", \"json\": {\"x\": 1}}}]}", true);
	unsetenv("SECRET");
	free(secret);
}

static void test_wiped_after_errors(void **state)
{
	(void)state;
	if (!CAN_WATCH)
		skip();
	char *secret = make_secret();

	setenv("SECRET", secret, 1);
	expect_clean(COMPONENT("\"text\": \"${env:SECRET} ${env:NOT_SET}\""), "", "", false);
	expect_clean(COMPONENT("\"json\": [\"${env:SECRET}\", \"${env:NOT_SET}\"]"), "", "", false);
	expect_clean(COMPONENT("\"file\": {\"file\": \"not-text\"}"), "", "", false);
	expect_clean("{\"components\": [{\"id\": \"a\", \"type\": \"t\", \"config\": {\"text\": \"", secret,
		     "", false);
	unsetenv("SECRET");
	free(secret);
}

/* That the test would find one. */
static void test_finds_what_is_not_wiped(void **state)
{
	(void)state;
	if (!CAN_WATCH)
		skip();
	char *secret = make_secret();

	found = 0;
	watching = true;
	free(strdup(secret));
	secret = realloc(secret, 5000);
	watching = false;
	assert_int_equal(found, 2);
	free(secret);
}

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	static const char *const names[] = {"config.json", "secret", "not-text"};
	char path[128];

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		unlink(path);
	}
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_what_is_not_wiped),
		cmocka_unit_test(test_wiped),
		cmocka_unit_test(test_wiped_after_errors),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
