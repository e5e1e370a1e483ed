/* SPDX-License-Identifier: MIT */
/* Tests of files that are not written to any more: rotated, moved away, retained and compressed. */
#include "helper_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

static void test_rotate_size(void **state)
{
	struct fixture *f = *state;
	char names[1024], path[256];
	f->conf.rotate_size = 100;
	world.now = 1763290800;
	start(f);
	for (int i = 0; i < 5; i++) {
		push_long(f, (char)('a' + i), 60, 0);
		push_long(f, (char)('a' + i), 60, 0);
	}
	drain(f);
	assert_string_equal(list(f->dir, "data", names, sizeof names),
			    "data.jsonl data.jsonl.20251116T110000Z data.jsonl.20251116T110000Z.001 "
			    "data.jsonl.20251116T110000Z.002 data.jsonl.20251116T110000Z.003 ");
	snprintf(path, sizeof path, "%s.20251116T110000Z.001", f->path);
	char *text = slurp(path, NULL);
	assert_int_equal(strlen(text), 122);
	assert_int_equal(text[0], 'b');
	free(text);
	assert_int_equal(metric(f, METRIC_ROTATIONS), 4);
	assert_int_equal(f->host.n_finished, 10);
}

/* The name is taken, also by a compressed file: never overwritten. */
static void test_rotate_never_overwrites(void **state)
{
	struct fixture *f = *state;
	char path[256];
	f->conf.rotate_size = 5;
	world.now = 1763290800;
	snprintf(path, sizeof path, "%s.20251116T110000Z", f->path);
	put_file(path, "old\n", 4);
	snprintf(path, sizeof path, "%s.20251116T110000Z.001.gz", f->path);
	put_file(path, "gz", 2);
	start(f);
	push(f, "first");
	push(f, "second");
	drain(f);
	assert_file(path, "gz");
	snprintf(path, sizeof path, "%s.20251116T110000Z", f->path);
	assert_file(path, "old\n");
	snprintf(path, sizeof path, "%s.20251116T110000Z.002", f->path);
	assert_file(path, "first\n");
	assert_file(f->path, "second\n");
}

static void test_rotate_age(void **state)
{
	struct fixture *f = *state;
	char names[512];
	f->conf.rotate_age = INT64_C(3600) * 1000000000;
	start(f);
	push(f, "a");
	drain(f);
	ss_test_host_advance(&f->host, 5000000000);
	assert_string_equal(list(f->dir, "data", names, sizeof names), "data.jsonl ");
	world.now = time(NULL) + 3700;
	ss_test_host_advance(&f->host, 5000000000); /* no event is needed */
	await(f, metric(f, METRIC_ROTATIONS) == 1);
	push(f, "b");
	drain(f);
	assert_file(f->path, "b\n");
	ss_test_host_advance(&f->host, 5000000000);
}

static void test_moved_away(void **state)
{
	struct fixture *f = *state;
	char other[160];
	snprintf(other, sizeof other, "%s.1", f->path);
	start(f);
	push(f, "a");
	drain(f);
	assert_int_equal(rename(f->path, other), 0);
	push(f, "b");
	drain(f);
	ss_test_host_advance(&f->host, 5000000000);
	assert_true(logged(f, "moved or deleted"));
	push(f, "c");
	drain(f);
	assert_file(other, "a\nb\n");
	assert_file(f->path, "c\n");
	unlink(f->path);
	ss_test_host_advance(&f->host, 5000000000);
	push(f, "d");
	drain(f);
	assert_file(f->path, "d\n");
	/* logrotate's copytruncate */
	assert_int_equal(truncate(f->path, 0), 0);
	ss_test_host_advance(&f->host, 5000000000);
	assert_true(logged(f, "Another process changed the length"));
	push(f, "e");
	drain(f);
	assert_file(f->path, "e\n");
	assert_int_equal(f->host.n_finished, 5);
}

static void put_closed(struct fixture *f, const char *tail, size_t n, time_t age)
{
	char path[256];
	char *text = malloc(n + 1);
	memset(text, 'x', n);
	if (n)
		text[n - 1] = '\n';
	snprintf(path, sizeof path, "%s/%s", f->dir, tail);
	put_file(path, text, n);
	free(text);
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	const struct timespec times[2] = {{.tv_sec = now.tv_sec - age}, {.tv_sec = now.tv_sec - age}};
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void test_retain_files(void **state)
{
	struct fixture *f = *state;
	char names[1024];
	f->conf.retain_files = 2;
	put_closed(f, "data.jsonl.20251101T000000Z.gz", 10, 500);
	put_closed(f, "data.jsonl.20251102T000000Z", 10, 400);
	put_closed(f, "data.jsonl.20251103T000000Z.zst", 10, 300);
	put_closed(f, "data.jsonl.20251104T000000Z.001", 10, 200);
	/* none of ours */
	put_closed(f, "data.jsonl.1", 10, 900);
	put_closed(f, "data.jsonl.torn", 10, 900);
	put_closed(f, "data.jsonl.20251101T000000Z.bak", 10, 900);
	put_closed(f, "other.jsonl.20251101T000000Z", 10, 900);
	/* half done */
	put_closed(f, "data.jsonl.20251101T000000Z.gz.tmp", 10, 900);
	start(f);
	await(f, metric(f, METRIC_REMOVED) == 2);
	assert_string_equal(list(f->dir, "", names, sizeof names),
			    "data.jsonl data.jsonl.1 data.jsonl.20251101T000000Z.bak "
			    "data.jsonl.20251103T000000Z.zst data.jsonl.20251104T000000Z.001 data.jsonl.torn "
			    "other.jsonl.20251101T000000Z ");
}

static void test_retain_age_and_bytes(void **state)
{
	struct fixture *f = *state;
	char names[1024];
	f->conf.retain_age = INT64_C(1000) * 1000000000;
	f->conf.retain_bytes = 2500;
	put_closed(f, "data.jsonl.20251101T000000Z", 10, 1100);
	put_closed(f, "data.jsonl.20251102T000000Z", 1000, 400);
	put_closed(f, "data.jsonl.20251103T000000Z", 1000, 300);
	put_closed(f, "data.jsonl.20251104T000000Z", 1000, 200);
	start(f);
	await(f, metric(f, METRIC_REMOVED) == 2);
	assert_string_equal(list(f->dir, "", names, sizeof names),
			    "data.jsonl data.jsonl.20251103T000000Z data.jsonl.20251104T000000Z ");
}

/* Dated names: the current one is never touched, empty directories go with their last file. */
static void test_retain_dated(void **state)
{
	struct fixture *f = *state;
	char path[160], names[512], sub[160];
	snprintf(path, sizeof path, "%s/%%Y-%%m/x-%%d.jsonl", f->dir);
	f->conf.path = path;
	f->conf.retain_files = 1;
	world.now = 1763290800;
	for (int i = 0; i < 3; i++) {
		snprintf(sub, sizeof sub, "%s/2025-0%d", f->dir, i + 1);
		assert_int_equal(mkdir(sub, 0700), 0);
		snprintf(sub, sizeof sub, "2025-0%d/x-01.jsonl", i + 1);
		put_closed(f, sub, 10, 1000 - 100 * i);
	}
	snprintf(sub, sizeof sub, "%s/2025-0x", f->dir);
	assert_int_equal(mkdir(sub, 0700), 0);
	put_closed(f, "2025-0x/x-01.jsonl", 10, 5000);
	start(f);
	push(f, "a");
	drain(f);
	await(f, metric(f, METRIC_REMOVED) == 2);
	end(f);
	assert_string_equal(list(f->dir, "", names, sizeof names), "2025-03 2025-0x 2025-11 ");
	snprintf(sub, sizeof sub, "%s/2025-11/x-16.jsonl", f->dir);
	assert_file(sub, "a\n");
}

#if defined HAVE_ZLIB || defined HAVE_ZSTD
/* What a compressed file holds; malloced. */
static char *unpack(const char *path, const char *ext, size_t *n)
{
	char *out = malloc(8 << 20);
	*n = 0;
#ifdef HAVE_ZLIB
	if (strcmp(ext, ".gz") == 0) {
		gzFile in = gzopen(path, "rbe");
		assert_non_null(in);
		int got = gzread(in, out, 8 << 20);
		assert_true(got >= 0);
		*n = (size_t)got;
		assert_int_equal(gzclose(in), Z_OK);
	}
#endif
#ifdef HAVE_ZSTD
	if (strcmp(ext, ".zst") == 0) {
		size_t size;
		char *packed = slurp(path, &size);
		assert_non_null(packed);
		*n = ZSTD_decompress(out, 8 << 20, packed, size);
		assert_false(ZSTD_isError(*n));
		free(packed);
	}
#endif
	return out;
}

static const char *extension_of(int kind)
{
	return strcmp(compress_names[kind], "gzip") == 0 ? ".gz" : ".zst";
}

static void test_compress(void **state)
{
	struct fixture *f = *state;
	for (int kind = 1; compress_names[kind]; kind++) {
		const char *ext = extension_of(kind);
		char names[512], path[256], expected[256];
		f->conf.compress = kind;
		f->conf.rotate_size = 1 << 20;
		f->conf.mode = "0644";
		world.now = 1763290800 + kind;
		unlink(f->path);
		start(f);
		char *all = malloc(4 << 20), *at = all;
		for (int i = 0; i < 120; i++) { /* some of it does not compress */
			char *text = malloc(10001);
			for (int k = 0; k < 10000; k++)
				text[k] = i % 2 ? (char)('a' + random() % 26) : 'x';
			text[10000] = '\0';
			if (i < 105)
				at += sprintf(at, "%s\n", text);
			push(f, text);
			free(text);
		}
		drain(f);
		await(f, metric(f, METRIC_COMPRESSED) == 1);
		snprintf(expected, sizeof expected, "data.jsonl.20251116T11000%dZ%s ", kind, ext);
		assert_string_equal(list(f->dir, ext, names, sizeof names), expected);
		snprintf(path, sizeof path, "%s.20251116T11000%dZ%s", f->path, kind, ext);
		struct stat st;
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 0777, 0644);
		size_t n;
		char *got = unpack(path, ext, &n);
		assert_int_equal(n, at - all);
		assert_memory_equal(got, all, n);
		free(got);
		free(all);
		path[strlen(path) - strlen(ext)] = '\0';
		assert_int_equal(access(path, F_OK), -1);
		end(f);
	}
}

/* On a file system that shows every file with one owner, who is not us: if it is said that this is so, files
 * are written, repaired, rotated, compressed and removed as if they were ours. */
static void test_one_owner(void **state)
{
	struct fixture *f = *state;
	char torn[160];
	if (geteuid() != 0 || !compress_names[1]) {
		print_message("not root, or without compression: files of other users are not tried\n");
		skip();
	}
	put_file(f->path, "old\nhalf", 8);
	snprintf(torn, sizeof torn, "%s.torn", f->path);
	put_file(torn, "", 0);
	assert_int_equal(chmod(f->path, 0666), 0);
	assert_int_equal(chown(f->path, 12345, 12345), 0);
	assert_int_equal(chown(torn, 12345, 12345), 0);
	world.one_owner = true;
	world.now = 1763290800;
	f->conf.any_owner = 1;
	f->conf.rotate_size = 5;
	f->conf.compress = 1;
	f->conf.retain_files = 2;
	start(f);
	assert_file(torn, "half\n");
	push(f, "first");
	push(f, "second");
	push(f, "third");
	drain(f);
	assert_file(f->path, "third\n");
	await(f, metric(f, METRIC_COMPRESSED) == 2);
	push(f, "fourth");
	drain(f);
	await(f, metric(f, METRIC_REMOVED) == 1);
	assert_int_equal(metric(f, METRIC_RETAIN_ERRORS), 0);
	assert_file(f->path, "fourth\n");
}

/* Closed files of earlier runs are compressed at start; one whose compressed form is complete is only
 * removed; one that somebody writes to is left alone. */
static void test_compress_leftovers(void **state)
{
	struct fixture *f = *state;
	char names[512], path[256];
	f->conf.compress = 1;
	const char *ext = extension_of(1);
	put_closed(f, "data.jsonl.20251101T000000Z", 5000, 500);
	put_closed(f, "data.jsonl.20251102T000000Z", 5000, 400);
	snprintf(names, sizeof names, "data.jsonl.20251102T000000Z%s", ext);
	put_closed(f, names, 50, 400);
	put_closed(f, "data.jsonl.20251103T000000Z", 5000, 300);
	put_closed(f, "data.jsonl.20251104T000000Z", 0, 200);
	snprintf(path, sizeof path, "%s.20251103T000000Z", f->path);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	start(f);
	await(f, metric(f, METRIC_COMPRESSED) == 3);
	close(fd);
	list(f->dir, "data.jsonl.", names, sizeof names);
	char expected[512];
	snprintf(expected, sizeof expected,
		 "data.jsonl.20251101T000000Z%s data.jsonl.20251102T000000Z%s data.jsonl.20251103T000000Z "
		 "data.jsonl.20251104T000000Z%s ",
		 ext, ext, ext);
	assert_string_equal(names, expected);
	size_t n;
	snprintf(path, sizeof path, "%s.20251101T000000Z%s", f->path, ext);
	free(unpack(path, ext, &n));
	assert_int_equal(n, 5000);
}
#endif

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_rotate_size),
		T(test_rotate_never_overwrites),
		T(test_rotate_age),
		T(test_moved_away),
		T(test_retain_files),
		T(test_retain_age_and_bytes),
		T(test_retain_dated),
#if defined HAVE_ZLIB || defined HAVE_ZSTD
		T(test_one_owner),
		T(test_compress),
		T(test_compress_leftovers),
#endif
	};
	return cmocka_run_group_tests_name("closed files", tests, NULL, NULL);
}
