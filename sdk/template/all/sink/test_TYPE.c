/* SPDX-License-Identifier: MIT */
/* Unit tests of @TYPE@: no program, and a file of the test's own. */
#include "check.h"
#include <unistd.h>

static char path[] = "/tmp/test_@TYPE@.XXXXXX";

static int32_t begin_writing(const char *file)
{
	const char *const options[] = {"path", file, NULL};
	begin(options);
	return host.desc->start(host.self);
}

static void check_written(const char *expected)
{
	char text[256];
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
	text[n] = '\0';
	check(f && fclose(f) == 0 && strcmp(text, expected) == 0, expected);
}

static void test_each_event_is_a_line(void)
{
	const char *const first[] = {"one", "two"}, *const second[] = {""};
	check(begin_writing(path) == 0, "start");
	check(process(first, 2) == SS_DONE, "the first batch");
	check(process(second, 1) == SS_DONE, "an empty event");
	check_written("one\ntwo\n\n");
	ss_test_host_done(&host); /* and nothing has leaked */
}

static void test_what_is_there_stays(void)
{
	const char *const texts[] = {"three"};
	check(begin_writing(path) == 0, "start");
	check(process(texts, 1) == SS_DONE, "a batch");
	check_written("one\ntwo\n\nthree\n");
	ss_test_host_done(&host);
}

static void test_a_folder_that_is_missing(void)
{
	check(begin_writing("/nonexistent/out.txt") < 0, "start fails");
	check(strstr(host.log, "/nonexistent/out.txt") != NULL, "the log names the file");
	ss_test_host_done(&host);
}

static void test_a_full_disk(void)
{
	const char *const texts[] = {"lost"};
	check(begin_writing("/dev/full") == 0, "start");
	check(process(texts, 1) < 0, "process reports it, so that the source is told");
	ss_test_host_done(&host);
}

int main(void)
{
	int fd = mkstemp(path);
	check(fd >= 0 && close(fd) == 0, "make a file");
	run("each event is a line", test_each_event_is_a_line);
	run("what is there stays", test_what_is_there_stays);
	run("a folder that is missing", test_a_folder_that_is_missing);
	run("a full disk", test_a_full_disk);
	unlink(path);
	return result();
}
