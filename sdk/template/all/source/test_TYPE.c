/* SPDX-License-Identifier: MIT */
/* Unit tests of @TYPE@: no program, and a clock that the test moves. */
#include "check.h"
#include <unistd.h>

static char path[] = "/tmp/test_@TYPE@.XXXXXX";

static void write_reading(const char *text)
{
	FILE *f = fopen(path, "w");
	check(f && fputs(text, f) >= 0 && fclose(f) == 0, "write the file");
}

static void begin_reading(const char *file)
{
	const char *const options[] = {"path", file, "interval", "1s", NULL};
	begin(options);
	check(host.desc->start(host.self) == 0, "start");
	ss_test_host_advance(&host, 0);
}

static void test_each_interval_is_a_reading(void)
{
	write_reading("21.5\n");
	begin_reading(path);
	check_emitted("21.5\n"); /* at once */
	write_reading("22\n");
	ss_test_host_advance(&host, 999999999);
	check_emitted("21.5\n");
	ss_test_host_advance(&host, 1);
	check_emitted("21.5\n22\n");
	ss_test_host_done(&host); /* and nothing has leaked */
}

static void test_nothing_is_read_while_paused(void)
{
	write_reading("1");
	begin_reading(path);
	host.desc->pause(host.self);
	ss_test_host_advance(&host, UINT64_C(5000000000));
	check_emitted("1\n");
	host.desc->resume(host.self);
	ss_test_host_advance(&host, 0);
	check_emitted("1\n1\n");
	check(host.desc->drain(host.self) == 0, "drain");
	ss_test_host_advance(&host, UINT64_C(5000000000));
	check_emitted("1\n1\n");
	ss_test_host_done(&host);
}

static void test_a_missing_file_is_told(void)
{
	begin_reading("/nonexistent/reading");
	check(host.n_emitted == 0, "nothing is emitted");
	check(strstr(host.degraded, "/nonexistent/reading") != NULL, "the reason names the file");
	ss_test_host_done(&host);
}

static void test_out_of_memory(void)
{
	write_reading("1");
	begin_reading(path);
	host.fail_batch_new = 0;
	ss_test_host_advance(&host, 1000000000);
	host.fail_batch_new = UINT32_MAX;
	ss_test_host_advance(&host, 1000000000);
	check_emitted("1\n1\n"); /* one reading is missing, and it goes on */
	ss_test_host_done(&host);
}

int main(void)
{
	int fd = mkstemp(path);
	check(fd >= 0 && close(fd) == 0, "make a file");
	run("each interval is a reading", test_each_interval_is_a_reading);
	run("nothing is read while paused", test_nothing_is_read_while_paused);
	run("a missing file is told", test_a_missing_file_is_told);
	run("out of memory", test_out_of_memory);
	unlink(path);
	return result();
}
