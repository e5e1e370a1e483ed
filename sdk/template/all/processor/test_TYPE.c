/* SPDX-License-Identifier: MIT */
/* Unit tests of @TYPE@: no program, no sockets, no time to wait for. */
#include "check.h"

static void test_every_second_event_passes(void)
{
	const char *const options[] = {"every", "2", NULL};
	const char *const first[] = {"1", "2", "3"}, *const second[] = {"4"};
	begin(options);
	check(process(first, 3) == SS_DONE, "the first batch");
	check(process(second, 1) == SS_DONE, "the count goes on from batch to batch");
	check_emitted("2\n4\n");
	ss_test_host_done(&host); /* and nothing has leaked */
}

static void test_nothing_is_emitted_for_nothing(void)
{
	const char *const options[] = {"every", "3", NULL};
	const char *const texts[] = {"1", "2"};
	begin(options);
	check(process(texts, 2) == SS_DONE, "a batch");
	check(host.n_emitted == 0, "no empty batch");
	ss_test_host_done(&host);
}

static void test_out_of_memory(void)
{
	const char *const options[] = {"every", "1", NULL};
	const char *const texts[] = {"1"};
	begin(options);
	struct ss_batch *batch = ss_test_host_batch(&host, texts, 1);
	host.fail_batch_new = 0;
	check(ss_test_host_process(&host, 0, batch) < 0, "process reports that memory ran out");
	host.host.batch_unref(batch);
	ss_test_host_done(&host);
}

int main(void)
{
	run("every second event passes", test_every_second_event_passes);
	run("nothing is emitted for nothing", test_nothing_is_emitted_for_nothing);
	run("out of memory", test_out_of_memory);
	return result();
}
