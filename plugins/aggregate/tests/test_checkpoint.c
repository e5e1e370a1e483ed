/* SPDX-License-Identifier: MIT */
/*
 * Tests of the file of a checkpoint: complete or absent whatever happens while it is written, and nothing is
 * taken for one that is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "plugins/aggregate/checkpoint.h"

/* ---- the world the writer sees: these take the place of the C library's ---- */

static struct {
	_Atomic int steps, die_at; /* at this step the process is gone; 0 = never */
	_Atomic int fail_sync, fail_rename;
	_Atomic long room; /* bytes that can still be written; -1 = any number */
} world = {.room = -1};

static void step(void)
{
	if (world.die_at && ++world.steps == world.die_at)
		kill(getpid(), SIGKILL);
}

ssize_t write(int fd, const void *p, size_t n)
{
	if (fd <= 2)
		return syscall(SYS_write, fd, p, n);
	step();
	if (world.room == 0) {
		errno = ENOSPC;
		return -1;
	}
	n = n > 1000 ? 1000 : n; /* not all at once */
	if (world.room > 0) {
		n = n < (size_t)world.room ? n : (size_t)world.room;
		world.room -= (long)n;
	}
	ssize_t rc = syscall(SYS_write, fd, p, n);
	step();
	return rc;
}

int fsync(int fd)
{
	step();
	if (world.fail_sync && world.fail_sync--) {
		errno = EIO;
		return -1;
	}
	int rc = (int)syscall(SYS_fsync, fd);
	step();
	return rc;
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	step();
	if (world.fail_rename) {
		errno = EACCES;
		return -1;
	}
	int rc = (int)syscall(SYS_renameat, from_dir, from, to_dir, to);
	step();
	return rc;
}

int ftruncate(int fd, off_t n)
{
	step();
	int rc = (int)syscall(SYS_ftruncate, fd, n);
	step();
	return rc;
}

/* ---- fixture ---- */

struct fixture {
	char folder[64], path[96], next[100];
	struct checkpoint *c;
	sem_t done;
};

static void on_done(void *arg)
{
	sem_post(&((struct fixture *)arg)->done);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	snprintf(f->folder, sizeof f->folder, "/tmp/checkpoint-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->path, sizeof f->path, "%s/state", f->folder);
	snprintf(f->next, sizeof f->next, "%s.new", f->path);
	sem_init(&f->done, 0, 0);
	memset(&world, 0, sizeof world);
	world.room = -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	world.room = -1;
	world.fail_rename = 0;
	checkpoint_free(f->c);
	assert_int_equal(access(f->next, F_OK), -1); /* nothing is left lying about */
	unlink(f->path);
	assert_int_equal(rmdir(f->folder), 0);
	sem_destroy(&f->done);
	free(f);
	return 0;
}

static void open_it(struct fixture *f)
{
	assert_int_equal(checkpoint_new(f->path, on_done, f, &f->c), 0);
}

/* Number n: of a length and with contents of its own. */
static void make(struct ss_strbuf parts[CHECKPOINT_PARTS], uint64_t n)
{
	parts[0].len = parts[1].len = 0;
	ss_strbuf_u64(&parts[0], n);
	for (uint64_t i = 0; i < 500 + 37 * (n % 8); i++)
		ss_strbuf_u64(&parts[1], n * 1000003 + i);
}

static int write_it(struct fixture *f, uint64_t n, const char **why)
{
	struct ss_strbuf parts[CHECKPOINT_PARTS] = {0};
	int rc;

	make(parts, n);
	checkpoint_write(f->c, parts);
	while (sem_wait(&f->done) < 0)
		;
	assert_true(checkpoint_take(f->c, false, &rc, why));
	assert_false(checkpoint_take(f->c, false, &rc, why));
	ss_strbuf_done(&parts[0]);
	ss_strbuf_done(&parts[1]);
	return rc;
}

static void write_well(struct fixture *f, uint64_t n)
{
	const char *why;

	assert_int_equal(write_it(f, n, &why), 0);
}

/* Its number, or -errno. */
static int64_t read_it(struct fixture *f)
{
	struct ss_strbuf parts[CHECKPOINT_PARTS] = {0};
	uint8_t *bytes;
	size_t len;
	int rc = checkpoint_read(f->path, &bytes, &len);

	if (rc < 0)
		return rc;
	struct ss_unpack r = {.at = bytes, .end = bytes + len};
	uint64_t n = ss_unpack_u64(&r);
	make(parts, n);
	assert_int_equal(len, 8 + parts[1].len);
	assert_memory_equal(r.at, parts[1].bytes, parts[1].len);
	ss_strbuf_done(&parts[0]);
	ss_strbuf_done(&parts[1]);
	free(bytes);
	return (int64_t)n;
}

/* ---- tests ---- */

static void is_there_again(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	open_it(f);
	assert_int_equal(read_it(f), -ENOENT);
	for (uint64_t n = 1; n < 30; n++) {
		write_well(f, n);
		assert_int_equal(read_it(f), n);
	}
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	write_well(f, 0); /* shorter */
	assert_int_equal(read_it(f), 0);
	checkpoint_free(f->c);
	f->c = NULL;
	assert_int_equal(read_it(f), 0);
	open_it(f);
	assert_int_equal(read_it(f), 0);
	write_well(f, 2);
	assert_int_equal(read_it(f), 2);
}

static void waiting(void **state)
{
	struct fixture *f = *state;
	struct ss_strbuf parts[CHECKPOINT_PARTS] = {0};
	const char *why;
	int rc;

	open_it(f);
	assert_false(checkpoint_take(f->c, true, &rc, &why)); /* there is nothing to wait for */
	make(parts, 7);
	checkpoint_write(f->c, parts);
	assert_true(checkpoint_take(f->c, true, &rc, &why));
	assert_int_equal(rc, 0);
	assert_int_equal(read_it(f), 7);
	make(parts, 8);
	checkpoint_write(f->c, parts);
	checkpoint_free(f->c); /* waits as well */
	f->c = NULL;
	assert_int_equal(read_it(f), 8);
	ss_strbuf_done(&parts[0]);
	ss_strbuf_done(&parts[1]);
}

static void cannot_be_made_there(void **state)
{
	struct fixture *f = *state;
	char path[128];

	snprintf(path, sizeof path, "%s/missing/state", f->folder);
	assert_int_equal(checkpoint_new(path, on_done, f, &f->c), -ENOENT);
	assert_int_equal(checkpoint_read(path, NULL, NULL), -ENOENT);
	open_it(f);
	write_well(f, 1);
	snprintf(path, sizeof path, "%s/state", f->path);
	struct checkpoint *other = NULL;
	assert_int_equal(checkpoint_new(path, on_done, f, &other), -ENOTDIR);
	assert_null(other);
	assert_int_equal(checkpoint_read(f->folder, NULL, NULL), -EINVAL);
}

static void belongs_to_one(void **state)
{
	struct fixture *f = *state;
	struct checkpoint *other = NULL;

	open_it(f);
	for (uint64_t n = 1; n < 4; n++) {
		assert_int_equal(checkpoint_new(f->path, on_done, f, &other), -EBUSY);
		assert_int_equal(access(f->path, F_OK), n == 1 ? -1 : 0);
		write_well(f, n);
		assert_int_equal(read_it(f), n);
	}
	checkpoint_free(f->c);
	open_it(f);
	assert_int_equal(checkpoint_new(f->path, on_done, f, &other), -EBUSY);
	assert_int_equal(read_it(f), 3);
}

static void damage_is_seen(void **state)
{
	struct fixture *f = *state;

	open_it(f);
	write_well(f, 3);
	checkpoint_free(f->c);
	f->c = NULL;
	int fd = open(f->path, O_RDWR);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	for (off_t at = 0; at < st.st_size; at++) {
		for (int bit = 0; bit < 8; bit += at < 32 ? 1 : 5) {
			uint8_t byte, other;
			assert_int_equal(pread(fd, &byte, 1, at), 1);
			other = (uint8_t)(byte ^ 1 << bit);
			assert_int_equal(pwrite(fd, &other, 1, at), 1);
			assert_int_equal(read_it(f), -EINVAL);
			assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		}
	}
	assert_int_equal(read_it(f), 3);
	assert_int_equal(pwrite(fd, "x", 1, st.st_size), 1);
	assert_int_equal(read_it(f), -EINVAL);
	for (off_t len = st.st_size - 1; len >= 0; len--) {
		assert_int_equal(syscall(SYS_ftruncate, fd, len), 0);
		assert_int_equal(read_it(f), -EINVAL);
	}
	close(fd);
}

static void trouble_leaves_the_old_one(void **state)
{
	struct fixture *f = *state;
	const char *why;

	open_it(f);
	write_well(f, 1);
	for (long room = 0; room < 4000; room += 333) {
		world.room = room;
		assert_int_equal(write_it(f, 2, &why), -ENOSPC);
		assert_string_equal(why, "write");
		assert_int_equal(access(f->next, F_OK), -1); /* its room is given back */
		assert_int_equal(read_it(f), 1);
	}
	world.room = -1;
	world.fail_sync = 1;
	assert_int_equal(write_it(f, 3, &why), -EIO);
	assert_string_equal(why, "sync");
	assert_int_equal(read_it(f), 1);
	world.fail_rename = 1;
	assert_int_equal(write_it(f, 4, &why), -EACCES);
	assert_string_equal(why, "rename");
	assert_int_equal(read_it(f), 1);
	world.fail_rename = 0;
	write_well(f, 5);
	assert_int_equal(read_it(f), 5);
	unlink(f->path); /* somebody meddles */
	write_well(f, 6);
	assert_int_equal(read_it(f), 6);
}

/* The process is gone at any step: what was told to be durable is there, or what was being written. */
static void killed_at_any_step(void **state)
{
	struct fixture *f = *state;
	int64_t before = -ENOENT;
	bool died = true;

	for (int at = 1; died; at++) {
		int told[2];
		assert_int_equal(pipe(told), 0);
		pid_t child = fork();
		if (child == 0) {
			if (checkpoint_new(f->path, on_done, f, &f->c) < 0)
				_exit(1);
			world.die_at = at;
			for (uint8_t n = 1; n < 4; n++) {
				const char *why;
				if (write_it(f, (uint64_t)at * 4 + n, &why) < 0)
					_exit(2);
				syscall(SYS_write, told[1], &n, 1);
			}
			_exit(0);
		}
		int status;
		assert_int_equal(waitpid(child, &status, 0), child);
		died = WIFSIGNALED(status);
		assert_true(died || status == 0);
		close(told[1]);
		uint8_t n = 0, last = 0;
		while (read(told[0], &n, 1) == 1)
			last = n;
		close(told[0]);
		int64_t found = read_it(f);
		if (last == 0)
			assert_true(found == before || found == at * 4 + 1);
		else
			assert_in_range(found, at * 4 + last, at * 4 + last + 1);
		before = found;
	}
	assert_true(before > 100); /* it has many steps */
	unlink(f->next);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(is_there_again, setup, teardown),
		cmocka_unit_test_setup_teardown(waiting, setup, teardown),
		cmocka_unit_test_setup_teardown(cannot_be_made_there, setup, teardown),
		cmocka_unit_test_setup_teardown(belongs_to_one, setup, teardown),
		cmocka_unit_test_setup_teardown(damage_is_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(trouble_leaves_the_old_one, setup, teardown),
		cmocka_unit_test_setup_teardown(killed_at_any_step, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
