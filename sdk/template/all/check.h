/* SPDX-License-Identifier: MIT */
/* check - what unit tests need: an instance in the host that the SDK has for tests, and TAP, the Test
 * Anything Protocol, on stdout; whoever does not read it looks at the exit status. */
#pragma once
#include <semstreams/test-host.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct ss_test_host host;
static int failures, tests;

static inline void check(int holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "failed: %s; emitted, log, errors:\n%u batches\n%s%s", what, host.n_emitted,
			host.log, host.errors);
		failures++;
	}
}

/* An instance with options as the configuration would set them: key, text, ..., NULL. */
static inline void begin(const char *const *options)
{
	ss_test_host_init(&host, semstreams_entry_v1.components[0]);
	check(ss_test_host_create(&host, ss_test_host_configure(&host, options)) == 0, "create");
}

/* One batch of n texts; what process() returns. */
static inline int32_t process(const char *const *texts, uint32_t n)
{
	struct ss_batch *batch = ss_test_host_batch(&host, texts, n);
	int32_t rc = ss_test_host_process(&host, 0, batch);
	host.host.batch_unref(batch);
	return rc;
}

/* All events emitted so far, each followed by a newline. */
static inline void check_emitted(const char *expected)
{
	char *text = ss_test_host_text(&host, 0);
	check(strcmp(text, expected) == 0, expected);
	free(text);
}

static inline void run(const char *name, void (*test)(void))
{
	int before = failures;
	test();
	printf("%sok %d - %s\n", failures > before ? "not " : "", ++tests, name);
}

/* The end of main(). */
static inline int result(void)
{
	printf("1..%d\n", tests);
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
