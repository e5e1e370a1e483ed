/* SPDX-License-Identifier: MIT */
/* Unit tests of sample, in the host that the SDK has for tests: no program, no sockets, no time to wait for.
 */
#include <semstreams/test-host.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct ss_test_host host;
static int failures;

static void check(int holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "failed: %s; emitted, log, errors:\n%u batches\n%s%s", what, host.n_emitted,
			host.log, host.errors);
		failures++;
	}
}

/* An instance with an option, as the configuration would set it. */
static void begin(const char *every)
{
	const char *const options[] = {"every", every, NULL};
	ss_test_host_init(&host, semstreams_entry_v1.components[0]);
	check(ss_test_host_create(&host, ss_test_host_configure(&host, options)) == 0, "create");
}

/* One batch of n texts. */
static void process(const char *const *texts, uint32_t n)
{
	struct ss_batch *batch = ss_test_host_batch(&host, texts, n);
	check(ss_test_host_process(&host, 0, batch) == SS_DONE, "process");
	host.host.batch_unref(batch);
}

static void check_emitted(const char *expected)
{
	char *text = ss_test_host_text(&host, 0);
	check(strcmp(text, expected) == 0, expected);
	free(text);
}

static void test_every_second_event_passes(void)
{
	const char *const first[] = {"1", "2", "3"}, *const second[] = {"4"};
	begin("2");
	process(first, 3);
	process(second, 1); /* the count goes on from batch to batch */
	check_emitted("2\n4\n");
	ss_test_host_done(&host); /* and nothing has leaked */
}

static void test_nothing_is_emitted_for_nothing(void)
{
	const char *const texts[] = {"1", "2"};
	begin("3");
	process(texts, 2);
	check(host.n_emitted == 0, "no empty batch");
	ss_test_host_done(&host);
}

static void test_out_of_memory(void)
{
	const char *const texts[] = {"1"};
	begin("1");
	struct ss_batch *batch = ss_test_host_batch(&host, texts, 1);
	host.fail_batch_new = 0;
	check(ss_test_host_process(&host, 0, batch) < 0, "process reports that memory ran out");
	host.host.batch_unref(batch);
	ss_test_host_done(&host);
}

static void run(int number, const char *name, void (*test)(void))
{
	int before = failures;
	test();
	printf("%sok %d - %s\n", failures > before ? "not " : "", number, name);
}

/* Prints TAP, the Test Anything Protocol; whoever does not read it looks at the exit status. */
int main(void)
{
	printf("1..3\n");
	run(1, "every second event passes", test_every_second_event_passes);
	run(2, "nothing is emitted for nothing", test_nothing_is_emitted_for_nothing);
	run(3, "out of memory", test_out_of_memory);
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
