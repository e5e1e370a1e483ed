/* SPDX-License-Identifier: MIT */
/* Unit tests of file_input: files of the test's own, a clock that the test moves. */
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <sys/stat.h>

static char folder[] = "/tmp/test_file_input.XXXXXX";
static char file[64], first[64], second[64], state[64];

#define INTERVAL UINT64_C(250000000)
#define GRACE    UINT64_C(1000000000)

static void put(const char *path, const char *mode, const char *text)
{
	FILE *f = fopen(path, mode);
	check(f && fputs(text, f) >= 0 && fclose(f) == 0, "write a file");
}

static void set_time(const char *path, time_t s)
{
	const struct timespec times[2] = {{.tv_sec = s}, {.tv_sec = s}};
	check(utimensat(AT_FDCWD, path, times, 0) == 0, "set a time");
}

/* Looks until there is nothing more at once. */
static void look(uint64_t after_ns)
{
	ss_test_host_advance(&host, after_ns);
	for (int i = 0; i < 20; i++)
		ss_test_host_advance(&host, 0);
}

static void begin_at(const struct ss_position *from)
{
	const char *const options[] = {"path", file, "state", state, "max_line", "1024", NULL};

	ss_test_host_init(&host, semstreams_entry_v1.components[0]);
	if (from) {
		host.can_resume = true;
		host.resume = *from;
	}
	check(ss_test_host_create(&host, ss_test_host_configure(&host, options)) == 0, "create");
	check(host.desc->start(host.self) == 0, "start");
	look(0);
}

/* The end, as of a host that has stored everything. */
static void end(void)
{
	check(host.desc->drain(host.self) == 0, "drain");
	ss_test_host_done(&host);
	unlink(file);
	unlink(first);
	unlink(second);
	unlink(state);
}

/* Where the newest batch ends. */
static struct ss_position newest(void)
{
	struct ss_position at = {.seq = 0};
	const char *source;

	check(host.n_emitted > 0 &&
		      host.host.position(host.emitted[host.n_emitted - 1].batch, &at, &source) == 0,
	      "a position");
	return at;
}

static void test_lines_as_they_come(void)
{
	begin_at(NULL);
	check(strstr(host.degraded, "waiting for ") != NULL, "a file that is not there yet is waited for");
	put(file, "w", "one\r\n\ntwo\nthr");
	look(INTERVAL);
	check_emitted("one\ntwo\n");
	check(host.degraded[0] == '\0', "it is there");
	look(INTERVAL);
	check(host.n_emitted == 1, "the last line is not whole");
	put(file, "a", "ee\n");
	look(INTERVAL);
	check_emitted("one\ntwo\nthree\n");
	check(newest().seq == 16, "the sequence is the offset behind the line");
	check(host.emitted[0].batch->events[1].seq == 10, "of each");
	end();
}

static void test_nothing_is_read_while_paused(void)
{
	put(file, "w", "one\n");
	begin_at(NULL);
	host.desc->pause(host.self);
	put(file, "a", "two\n");
	look(10 * INTERVAL);
	check_emitted("one\n");
	host.desc->resume(host.self);
	look(0);
	check_emitted("one\ntwo\n");
	check(host.desc->drain(host.self) == 0, "drain");
	put(file, "a", "three\n");
	host.desc->resume(host.self);
	look(10 * INTERVAL);
	check_emitted("one\ntwo\n");
	end();
}

static void test_a_renamed_file_is_read_to_its_end(void)
{
	put(file, "w", "one\n");
	begin_at(NULL);
	const struct ss_position before = newest();
	check(rename(file, first) == 0, "rename");
	look(INTERVAL);
	look(10 * GRACE);
	check(host.n_emitted == 1, "nothing has taken its place");
	put(first, "a", "two\nthree");
	put(file, "w", "four\n");
	look(INTERVAL);
	check_emitted("one\ntwo\n");
	look(GRACE + INTERVAL);
	look(GRACE + INTERVAL);
	check_emitted("one\ntwo\nthree\nfour\n");
	const struct ss_position after = newest();
	check(memcmp(before.epoch, after.epoch, 16) == 0 && after.seq == 18, "sequences go on");
	end();
}

static void test_a_truncated_file_begins_anew(void)
{
	put(file, "w", "one\ntwo\n");
	begin_at(NULL);
	const struct ss_position before = newest();
	put(file, "w", "one\n"); /* the same first line and the same inode */
	look(INTERVAL);
	check_emitted("one\ntwo\none\n");
	check(memcmp(before.epoch, newest().epoch, 16) == 0 && newest().seq == 12, "sequences go on");
	end();
}

static void test_it_goes_on_where_it_was(void)
{
	put(file, "w", "one\ntwo\n");
	begin_at(NULL);
	struct ss_position at = newest();
	check(host.desc->drain(host.self) == 0, "drain");
	ss_test_host_done(&host);

	put(file, "a", "three\n");
	begin_at(&at);
	check_emitted("three\n");
	check(memcmp(at.epoch, newest().epoch, 16) == 0, "in the same epoch");
	at = newest();
	ss_test_host_done(&host);

	/* rotated twice while nobody looked */
	put(file, "a", "four\n");
	check(rename(file, second) == 0, "rename");
	put(first, "w", "five\n");
	put(file, "w", "six\n");
	set_time(second, 1000);
	set_time(first, 2000);
	begin_at(&at);
	for (int i = 0; i < 8; i++)
		look(GRACE);
	check_emitted("four\nfive\nsix\n");
	end();
}

/* Somebody has less than the others: what they have is read again with the sequences it had. */
static void test_files_are_read_again(void)
{
	put(file, "w", "one\ntwo\n");
	begin_at(NULL);
	struct ss_position at = newest();
	check(rename(file, first) == 0, "rename");
	put(file, "w", "three\n");
	look(INTERVAL);
	look(GRACE + INTERVAL);
	put(file, "w", "four\n"); /* truncated */
	look(INTERVAL);
	check_emitted("one\ntwo\nthree\nfour\n");
	const struct ss_position last = newest();
	check(last.seq == 19, "the bytes of all files");
	ss_test_host_done(&host);

	put(first, "a", "late\n"); /* after the next file was begun */
	at.seq = 4;
	begin_at(&at);
	look(INTERVAL);
	look(INTERVAL);
	check_emitted("two\nfour\n"); /* what was truncated is gone */
	check(memcmp(last.epoch, newest().epoch, 16) == 0 && newest().seq == last.seq, "the same sequences");
	end();
}

/* Nobody downstream knows of positions: what was acknowledged is not sent again. */
static void test_without_positions(void)
{
	put(file, "w", "one\n");
	begin_at(NULL);
	put(file, "a", "two\n");
	look(INTERVAL);
	put(file, "a", "three\n");
	look(INTERVAL);
	host.desc->acked(host.self, 1, SS_DELIVERED);
	host.desc->acked(host.self, 3, SS_DELIVERED);
	ss_test_host_done(&host);
	begin_at(NULL);
	check_emitted("two\nthree\n");
	host.desc->acked(host.self, 1, SS_DELIVERED);
	look(UINT64_C(2000000000)); /* it is saved while it runs, too */
	check(rename(file, first) == 0, "rename");
	put(file, "w", "four\n");
	look(INTERVAL);
	look(GRACE + INTERVAL);
	check_emitted("two\nthree\nfour\n");
	ss_test_host_done(&host);
	begin_at(NULL);
	check_emitted("four\n");
	end();
}

static void test_state_that_cannot_be_written(void)
{
	char right[sizeof state];
	memcpy(right, state, sizeof right);
	snprintf(state, sizeof state, "/nonexistent/state");
	put(file, "w", "one\n");
	begin_at(NULL);
	check(host.n_emitted == 0, "nothing is given out whose position would be forgotten");
	check(strstr(host.degraded, "Cannot open the folder of /nonexistent/state") != NULL, "it is told");
	end();
	memcpy(state, right, sizeof right);
}

static void test_state_that_is_none(void)
{
	const char *const texts[] = {"hello", "file_input 1\nacked x", "file_input 1\nacked 1\nepoch 12\n",
				     "file_input 1\nacked 1\nepoch 00000000000000000000000000000000\nfile 1"};
	const char *const options[] = {"path", file, "state", state, NULL};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		put(state, "w", texts[i]);
		ss_test_host_init(&host, semstreams_entry_v1.components[0]);
		check(ss_test_host_create(&host, ss_test_host_configure(&host, options)) == 0, "create");
		check(host.desc->start(host.self) == -EBADMSG, "start fails");
		check(strstr(host.log, "is no state of file_input; remove it") != NULL, "it is told");
		ss_test_host_done(&host);
	}
	unlink(state);
}

static void test_a_file_that_is_gone(void)
{
	put(file, "w", "one\ntwo\n");
	begin_at(NULL);
	const struct ss_position at = newest();
	ss_test_host_done(&host);
	put(file, "w", "new\n");
	begin_at(&at);
	check_emitted("new\n");
	check(strstr(host.log, "is gone or was truncated") != NULL, "the log says so");
	check(memcmp(at.epoch, newest().epoch, 16) != 0, "with positions of its own");
	end();
}

static void test_what_failed_is_sent_again(void)
{
	put(file, "w", "one\n");
	begin_at(NULL);
	put(file, "a", "two\n");
	look(INTERVAL);
	put(file, "a", "three\n");
	look(INTERVAL);
	check_emitted("one\ntwo\nthree\n");
	/* the second one, and so the third, too; the first is safe */
	host.desc->acked(host.self, 1, SS_DELIVERED);
	host.desc->acked(host.self, 2, SS_FAILED);
	host.desc->acked(host.self, 3, SS_FAILED);
	look(INTERVAL);
	look(INTERVAL);
	check_emitted("one\ntwo\nthree\ntwo\nthree\n");
	check(newest().seq == 14, "with the same sequences");
	end();
}

static void test_what_failed_in_a_renamed_file(void)
{
	put(file, "w", "one\n");
	begin_at(NULL);
	check(rename(file, first) == 0, "rename");
	put(file, "w", "two\n");
	look(INTERVAL);
	look(GRACE + INTERVAL);
	check_emitted("one\ntwo\n");
	host.desc->acked(host.self, 2, SS_FAILED);
	host.desc->acked(host.self, 1, SS_FAILED);
	look(INTERVAL);
	look(GRACE + INTERVAL);
	look(GRACE + INTERVAL);
	check_emitted("one\ntwo\none\ntwo\n");
	end();
}

static void test_what_failed_and_was_truncated(void)
{
	put(file, "w", "one\ntwo\n");
	begin_at(NULL);
	put(file, "w", "three\n");
	look(INTERVAL);
	host.desc->acked(host.self, 1, SS_FAILED);
	look(INTERVAL);
	look(INTERVAL);
	check_emitted("one\ntwo\nthree\nthree\n");
	check(host.dropped[0] == 2, "what cannot be read again is counted");
	end();
}

static void test_long_lines_are_dropped(void)
{
	char text[400002];

	memset(text, 'x', sizeof text);
	text[1025] = '\n'; /* one too many */
	memcpy(text + 1026, "short\n", 6);
	text[sizeof text - 2] = '\n';
	text[sizeof text - 1] = '\0';
	put(file, "w", text);
	put(file, "a", "end\n");
	begin_at(NULL);
	check_emitted("short\nend\n");
	check(host.dropped[1] == 2, "and counted, each once");
	end();
}

static void test_out_of_memory(void)
{
	put(file, "w", "one\n");
	begin_at(NULL);
	put(file, "a", "two\n");
	host.fail_batch_new = 0;
	look(INTERVAL);
	check(strcmp(host.degraded, "out of memory") == 0, "it is told");
	host.fail_batch_new = UINT32_MAX;
	look(INTERVAL);
	check_emitted("one\ntwo\n");
	check(host.degraded[0] == '\0', "and over");
	end();
}

static void test_a_folder_is_no_file(void)
{
	const char *const options[] = {"path", "/tmp/", "state", "s", NULL};

	ss_test_host_init(&host, semstreams_entry_v1.components[0]);
	check(ss_test_host_create(&host, ss_test_host_configure(&host, options)) < 0, "it is refused");
	check(strstr(host.errors, "/path: must name a file") != NULL, "by its place");
	ss_test_host_done(&host);
}

int main(void)
{
	check(mkdtemp(folder) != NULL, "make a folder");
	snprintf(file, sizeof file, "%s/app.log", folder);
	snprintf(state, sizeof state, "%s/state", folder);
	snprintf(first, sizeof first, "%s/app.log.1", folder);
	snprintf(second, sizeof second, "%s/app.log.2", folder);
	run("lines as they come", test_lines_as_they_come);
	run("nothing is read while paused", test_nothing_is_read_while_paused);
	run("a renamed file is read to its end", test_a_renamed_file_is_read_to_its_end);
	run("a truncated file begins anew", test_a_truncated_file_begins_anew);
	run("it goes on where it was", test_it_goes_on_where_it_was);
	run("files are read again", test_files_are_read_again);
	run("without positions", test_without_positions);
	run("state that cannot be written", test_state_that_cannot_be_written);
	run("state that is none", test_state_that_is_none);
	run("a file that is gone", test_a_file_that_is_gone);
	run("what failed is sent again", test_what_failed_is_sent_again);
	run("what failed in a renamed file", test_what_failed_in_a_renamed_file);
	run("what failed and was truncated", test_what_failed_and_was_truncated);
	run("long lines are dropped", test_long_lines_are_dropped);
	run("out of memory", test_out_of_memory);
	run("a folder is no file", test_a_folder_is_no_file);
	check(rmdir(folder) == 0, "remove the folder");
	return result();
}
