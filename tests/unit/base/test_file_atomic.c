/* SPDX-License-Identifier: MIT */
/* file_atomic: files that are complete or absent, and what each failure leaves. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include <semstreams/base/file_atomic.h>

struct fixture {
	char path[64];
	int dir;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	snprintf(f->path, sizeof f->path, "file_atomic-XXXXXX");
	if (!mkdtemp(f->path))
		return -1;
	f->dir = open(f->path, O_RDONLY | O_DIRECTORY);
	*state = f;
	return f->dir < 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	DIR *d = opendir(f->path);

	for (struct dirent *e; (e = readdir(d));)
		unlinkat(f->dir, e->d_name, e->d_type == DT_DIR && e->d_name[0] != '.' ? AT_REMOVEDIR : 0);
	closedir(d);
	close(f->dir);
	rmdir(f->path);
	free(f);
	return 0;
}

static const char *content(int dir, const char *name)
{
	static char text[64];
	int fd = openat(dir, name, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : ss_pread_all(fd, text, sizeof text - 1, 0);

	if (fd >= 0)
		close(fd);
	text[n < 0 ? 0 : n] = '\0';
	return n < 0 ? "(none)" : text;
}

static int count_files(const char *path)
{
	DIR *d = opendir(path);
	int n = 0;

	for (struct dirent *e; (e = readdir(d));)
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	closedir(d);
	return n;
}

static void test_write(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(ss_file_write(f->dir, "a", "one", 3, 0600), 0);
	assert_int_equal(ss_file_write(f->dir, "a", "two", 3, 0600), 0);
	assert_string_equal(content(f->dir, "a"), "two");
	assert_int_equal(fstatat(f->dir, "a", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	/* what a crash left, and a link that somebody laid, are replaced and not followed */
	assert_int_equal(symlinkat("a", f->dir, ".a.new"), 0);
	assert_int_equal(ss_file_write(f->dir, "a", "three", 5, 0600), 0);
	assert_string_equal(content(f->dir, "a"), "three");
	assert_int_equal(ss_link_write(f->dir, "a", "current"), 0);
	assert_int_equal(ss_link_write(f->dir, "b", "current"), 0);
	assert_int_equal(ss_link_write(f->dir, "a", "current"), 0);
	assert_string_equal(content(f->dir, "current"), "three");
	assert_int_equal(count_files(f->path), 2);
	/* onto a folder: the old stays, nothing is left */
	assert_int_equal(mkdirat(f->dir, "folder", 0700), 0);
	assert_int_equal(ss_file_write(f->dir, "folder", "x", 1, 0600), -EISDIR);
	assert_int_equal(count_files(f->path), 3);
	assert_int_equal(ss_file_write(-1, "a", "x", 1, 0600), -EBADF);
	char longest[400];
	memset(longest, 'n', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	assert_int_equal(ss_file_write(f->dir, longest, "x", 1, 0600), -ENAMETOOLONG);
	assert_int_equal(ss_link_write(f->dir, "a", longest), -ENAMETOOLONG);
}

static void test_steps(void **state)
{
	struct fixture *f = *state;
	struct ss_file_new n, other;

	assert_int_equal(ss_file_new_open(&n, f->dir, "a", "a.tmp", 0600, SS_FILE_LOCK), 0);
	assert_int_equal(ss_file_new_open(&other, f->dir, "a", "a.tmp", 0600, SS_FILE_LOCK), -EBUSY);
	assert_string_equal(other.step, "lock");
	assert_int_equal(ss_write_all(n.fd, "one", 3), 0);
	assert_string_equal(content(f->dir, "a"), "(none)");
	assert_int_equal(ss_file_new_commit(&n, SS_FILE_KEEP_OPEN), 0);
	assert_string_equal(content(f->dir, "a"), "one");
	assert_int_equal(ss_pwrite_all(n.fd, "ONE", 3, 0), 0); /* still open: the caller's */
	assert_string_equal(content(f->dir, "a"), "ONE");
	close(n.fd);

	assert_int_equal(ss_file_new_open(&n, f->dir, "a", NULL, 0600, 0), 0);
	ss_file_new_abort(&n);
	ss_file_new_abort(&n);
	assert_int_equal(ss_file_new_open(&n, f->dir, "a", NULL, 0600, 0), 0);
	assert_int_equal(ss_file_new_commit(&n, SS_FILE_NEVER_REPLACE), -EEXIST);
	assert_string_equal(n.step, "rename");
	assert_int_equal(n.fd, -1);
	assert_string_equal(content(f->dir, "a"), "ONE");
	assert_int_equal(count_files(f->path), 1);
	assert_int_equal(ss_file_new_open(&n, f->dir, "b", NULL, 0600, 0), 0);
	assert_int_equal(ss_file_new_commit(&n, SS_FILE_NEVER_REPLACE), 0);
	assert_string_equal(content(f->dir, "b"), "");
	/* synced is what was written: without it the old file stays */
	assert_int_equal(ss_file_new_open(&n, f->dir, "a", NULL, 0600, 0), 0);
	int real = n.fd;
	n.fd = 1 << 20;
	assert_int_equal(ss_file_new_commit(&n, 0), -EBADF);
	assert_string_equal(n.step, "sync");
	close(real);
	assert_string_equal(content(f->dir, "a"), "ONE");
	assert_int_equal(count_files(f->path), 2);
}

static void test_folders(void **state)
{
	struct fixture *f = *state;
	char path[128];
	const char *name;

	snprintf(path, sizeof path, "%s/state", f->path);
	int fd = ss_open_folder_of(path, &name);
	assert_true(fd >= 0);
	assert_string_equal(name, "state");
	assert_int_equal(ss_file_write(fd, name, "here", 4, 0600), 0);
	close(fd);
	assert_string_equal(content(f->dir, "state"), "here");
	fd = ss_open_folder_of("plain", &name);
	assert_true(fd >= 0);
	assert_string_equal(name, "plain");
	close(fd);
	fd = ss_open_folder_of("/root-file", &name);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(ss_open_folder_of("/does/not/exist", &name), -ENOENT);
	assert_int_equal(ss_sync_folder(-1), -EBADF);
	assert_int_equal(ss_write_all(-1, "x", 1), -EBADF);
	assert_int_equal(ss_pread_all(-1, path, 1, 0), -EBADF);
}

static void test_read(void **state)
{
	const struct fixture *f = *state;
	struct stat st = {0};
	char *text = NULL;
	size_t len = 0;

	assert_int_equal(ss_file_write(f->dir, "state", "a\0b", 3, 0600), 0);
	assert_int_equal(ss_file_read(f->dir, "state", 3, &text, &len, &st), 0);
	assert_int_equal(len, 3);
	assert_memory_equal(text, "a\0b", 4);
	assert_int_equal(st.st_mode & 07777, 0600);
	free(text);
	assert_int_equal(ss_file_read(f->dir, "state", 2, &text, &len, NULL), -EFBIG);
	assert_int_equal(ss_file_read(f->dir, "none", 2, &text, &len, NULL), -ENOENT);
	assert_int_equal(ss_file_read(f->dir, ".", 2, &text, &len, NULL), -EISDIR);
	assert_int_equal(mkfifoat(f->dir, "fifo", 0600), 0);
	assert_int_equal(ss_file_read(f->dir, "fifo", 2, &text, &len, NULL), -EINVAL);
	/* says that it is empty */
	assert_int_equal(ss_file_read(AT_FDCWD, "/proc/self/stat", 1, &text, &len, NULL), -EFBIG);
	assert_int_equal(ss_file_read(AT_FDCWD, "/proc/self/stat", 4096, &text, &len, NULL), 0);
	assert_true(len > 0 && strlen(text) == len);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_write, setup, teardown),
		cmocka_unit_test_setup_teardown(test_steps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_folders, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
