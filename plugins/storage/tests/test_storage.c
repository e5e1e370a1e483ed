/* SPDX-License-Identifier: MIT */
/* Tests of the storage sink in one process: real files, the clock and the disk in the test's hand. */
#include "helper_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- lines ---- */

static void test_lines(void **state)
{
	struct fixture *f = *state;
	const char *texts[] = {"{\"a\":1}", "{\"b\":2}\n", "{\"c\":3}\r\n", "{\"d\":4}\n\n\r\n", "", "\n",
			       "x"};
	start(f);
	push_batch(f, ss_test_host_batch(&f->host, texts, 7));
	push(f, "last");
	drain(f);
	assert_file(f->path, "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n{\"d\":4}\nx\nlast\n");
	assert_int_equal(f->host.dropped[REASON_EMPTY], 2);
	assert_int_equal(f->host.n_finished, 2);
	assert_int_equal(f->host.finished[0].status, SS_DELIVERED);
	assert_ptr_equal(f->host.finished[1].batch, f->batches[1]);
	assert_int_equal(metric(f, METRIC_WRITTEN), 39);
}

static void test_breaks(void **state)
{
	struct fixture *f = *state;
	for (int escape = 0; escape < 2; escape++) {
		f->conf.line_breaks = escape ? BREAKS_ESCAPE : BREAKS_SPACE;
		unlink(f->path);
		start(f);
		push(f, "{\n\"a\":1,\r\n\"b\":\r2}\n");
		push(f, "{\"long enough for vectors\":\"0123456789\",\n\"x\":1}");
		push(f, "0123456789abcdef0123456789abcde\nf");
		push(f, "\ttabs\tstay\tas\tthey\tare\t");
		drain(f);
		assert_file(f->path,
			    escape ? "{\\n\"a\":1,\\n\"b\":\\n2}\n"
				     "{\"long enough for vectors\":\"0123456789\",\\n\"x\":1}\n"
				     "0123456789abcdef0123456789abcde\\nf\n\ttabs\tstay\tas\tthey\tare\t\n"
				   : "{ \"a\":1, \"b\": 2}\n"
				     "{\"long enough for vectors\":\"0123456789\", \"x\":1}\n"
				     "0123456789abcdef0123456789abcde f\n\ttabs\tstay\tas\tthey\tare\t\n");
		end(f);
	}
}

/* A break at each place of lines of each length, next to a plain writer of lines. */
static void test_break_everywhere(void **state)
{
	(void)state;
	struct lines l;
	struct lines_dropped dropped = {0};
	assert_int_equal(lines_init(&l, 65536, 1 << 20, false, LINES_IOVS), 0);
	for (size_t n = 1; n < 70; n++) {
		for (size_t at = 0; at < n; at++) {
			uint8_t *text = malloc(n); /* exactly: reads beyond it are seen */
			memset(text, 'x', n);
			text[at] = at % 2 ? '\n' : '\r';
			struct ss_event ev = {.data = text, .len = (uint32_t)n};
			lines_reset(&l);
			assert_int_equal(lines_gather(&l, &ev, 1, &dropped), 1);
			lines_seal(&l);
			if (at + 1 < n) {
				text[at] = ' ';
				assert_int_equal(l.bytes, n + 1);
				assert_memory_equal(l.buf, text, n);
			} else if (n > 1) {
				assert_int_equal(l.bytes, n);
			}
			assert_true(l.bytes == 0 || l.buf[l.bytes - 1] == '\n');
			free(text);
		}
	}
	lines_done(&l);
}

static void test_long_lines(void **state)
{
	struct fixture *f = *state;
	f->conf.write_buffer = 4096;
	f->conf.max_line = 300000;
	start(f);
	push(f, "first");
	push_long(f, 'a', 2048, 0);
	push_long(f, 'b', 2049, 0);
	push_long(f, 'c', 300000, 0);
	push_long(f, 'd', 300001, 0);
	push_long(f, 'e', 250000, 1000);
	push_long(f, 'f', 5000, 100);
	push(f, "last");
	drain(f);
	size_t n;
	char *got = slurp(f->path, &n);
	assert_int_equal(n, 6 + 2049 + 2050 + 300001 + 250001 + 5001 + 5);
	size_t lines = 0;
	for (size_t i = 0; i < n; i++)
		lines += got[i] == '\n';
	assert_int_equal(lines, 7);
	assert_memory_equal(got + 6 + 2049 + 2050 + 300001 + 998, "ee e", 4);
	assert_string_equal(got + n - 6, "\nlast\n");
	assert_int_equal(f->host.dropped[REASON_TOO_LONG], 1);
	free(got);
}

/* Many long lines in one batch: more iovecs than one write takes. */
static void test_many_long_lines(void **state)
{
	struct fixture *f = *state;
	enum { N = 3000 };
	char text[2101];
	const char *texts[N];
	f->conf.write_buffer = 64 << 20;
	memset(text, 'z', 2100);
	text[2100] = '\0';
	for (int i = 0; i < N; i++)
		texts[i] = i % 3 ? text : "short";
	start(f);
	push_batch(f, ss_test_host_batch(&f->host, texts, N));
	drain(f);
	struct stat st;
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_size, 2000 * 2101 + 1000 * 6);
}

/* ---- names ---- */

static void check_path(struct fixture *f, const char *path, const char *error)
{
	f->conf.path = path;
	ss_test_host_init(&f->host, desc());
	int rc = ss_test_host_create(&f->host, &f->conf);
	if ((rc == 0) != (error == NULL) || (error && !strstr(f->host.errors, error)))
		fail_msg("%s: %d %s", path, rc, f->host.errors);
	if (error)
		assert_true(strncmp(f->host.errors, "/path: ", 7) == 0);
	ss_test_host_done(&f->host);
}

static void test_templates(void **state)
{
	struct fixture *f = *state;
	check_path(f, "/data/%Y/%m/%d/%H-{component}.jsonl", NULL);
	check_path(f, "data.jsonl", NULL);
	check_path(f, "./%Y.jsonl", NULL);
	check_path(f, "../data/x", NULL);
	check_path(f, "/data/100%%", NULL);
	check_path(f, "/data/%y.jsonl", "%y is unknown");
	check_path(f, "/data/x%", "is unknown");
	check_path(f, "/data/{host}.jsonl", "{host} is unknown");
	check_path(f, "/data/{component.jsonl", "is unknown");
	check_path(f, "/data/x}.jsonl", "without '{'");
	check_path(f, "/%Y/x", "fixed directory");
	check_path(f, "%Y.jsonl", "fixed directory");
	check_path(f, "{component}/x", "fixed directory");
	check_path(f, "/data/", "names a directory");
	check_path(f, "", "names a directory");
	check_path(f, "/data/%Y/../x", "'..'");
	check_path(f, "/data/%Y/./x", "'.'");
	check_path(f, "/data/%Y//x", "empty part");
	check_path(f, "/data/..", "'..'");
	check_path(f, "/data/a\nb", "control character");
	char longest[400];
	memset(longest, 'x', sizeof longest);
	memcpy(longest, "/data/", 6);
	longest[sizeof longest - 1] = '\0';
	check_path(f, longest, "longer than");
}

static void test_mode(void **state)
{
	struct fixture *f = *state;
	const char *bad[] = {"", "rw", "0999", "1777", "0440", " 640", "-640", "0640x"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		f->conf.mode = bad[i];
		ss_test_host_init(&f->host, desc());
		assert_int_equal(ss_test_host_create(&f->host, &f->conf), -EINVAL);
		assert_true(strncmp(f->host.errors, "/mode: ", 7) == 0);
		ss_test_host_done(&f->host);
	}
	f->conf.mode = "0664";
	mode_t mask = umask(077);
	start(f);
	umask(mask);
	struct stat st;
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0664);
}

static void test_match(void **state)
{
	(void)state;
#define MATCHES(part, name) path_matches(part, name, strlen(name), NULL)
	assert_true(MATCHES("d-%Y-%m.x/rest", "d-2025-11.x"));
	assert_false(MATCHES("d-%Y", "d-2025.gz"));
	assert_true(MATCHES("100%%", "100%"));
	assert_false(MATCHES("d-%Y", "d-20x5"));
	assert_false(MATCHES("d-%Y", "d-20"));
	assert_false(MATCHES("data", "dat"));
	assert_int_equal(path_stamp_len(".20251116T100000Z"), 17);
	assert_int_equal(path_stamp_len(".20251116T100000Z.001.gz"), 21);
	assert_int_equal(path_stamp_len(".20251116T100000Z.gz"), 17);
	assert_int_equal(path_stamp_len(".2025"), 0);
	assert_int_equal(path_stamp_len(""), 0);
}

static void test_template_paths(void **state)
{
	struct fixture *f = *state;
	char path[256];
	snprintf(path, sizeof path, "%s/new/deep/%%Y/%%m-%%d/{component}-%%H%%%%.jsonl", f->dir);
	f->conf.path = path;
	world.now = 1763290800; /* 2025-11-16T11:00:00Z */
	start(f);
	push(f, "a");
	drain(f);
	world.now += 3599;
	push(f, "b");
	drain(f);
	world.now += 1; /* another hour */
	push(f, "c");
	drain(f);
	world.now -= 30; /* a clock that is set back a little */
	push(f, "d");
	drain(f);
	world.now += 86400;
	push(f, "e");
	drain(f);
	snprintf(path, sizeof path, "%s/new/deep/2025/11-16/test-11%%.jsonl", f->dir);
	assert_file(path, "a\nb\n");
	snprintf(path, sizeof path, "%s/new/deep/2025/11-16/test-12%%.jsonl", f->dir);
	assert_file(path, "c\nd\n");
	snprintf(path, sizeof path, "%s/new/deep/2025/11-17/test-11%%.jsonl", f->dir);
	assert_file(path, "e\n");
	struct stat st;
	snprintf(path, sizeof path, "%s/new/deep", f->dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 027, 0);
	assert_int_equal(metric(f, METRIC_ROTATIONS), 2);
}

static void refuse(struct fixture *f, const char *why)
{
	assert_true(try_start(f) < 0);
	if (!logged(f, why))
		fail_msg("wanted '%s' in: %s", why, f->host.log);
	end(f);
}

static void test_confined(void **state)
{
	struct fixture *f = *state;
	char other[128], path[128];
	snprintf(other, sizeof other, "%s/other", f->dir);
	put_file(other, "keep\n", 5);

	assert_int_equal(symlink(other, f->path), 0);
	refuse(f, "is a symbolic link");
	unlink(f->path);
	assert_int_equal(link(other, f->path), 0);
	refuse(f, "hard links");
	unlink(f->path);
	assert_int_equal(mkfifo(f->path, 0600), 0);
	refuse(f, "is not a regular file");
	unlink(f->path);
	assert_int_equal(mkdir(f->path, 0700), 0);
	refuse(f, "is a directory");
	rmdir(f->path);
	if (geteuid() == 0) {
		put_file(f->path, "", 0);
		assert_int_equal(chown(f->path, 12345, 12345), 0);
		refuse(f, "belongs to user 12345, not to the one running this (0); change its owner, or set "
			  "any_owner");
		unlink(f->path);
	} else {
		print_message("not root: a file of another user is not tried\n");
	}

	snprintf(path, sizeof path, "%s/%%Y/x.jsonl", f->dir);
	f->conf.path = path;
	world.now = 1763290800;
	char year[128];
	snprintf(year, sizeof year, "%s/2025", f->dir);
	assert_int_equal(symlink("/tmp", year), 0);
	refuse(f, "is a symbolic link");
	unlink(year);
	put_file(year, "", 0);
	refuse(f, "not a directory");
	assert_file(other, "keep\n");
}

/* The prefix is the operator's: links in it are followed. */
static void test_prefix_link(void **state)
{
	struct fixture *f = *state;
	char real[128], here[128], path[160];
	snprintf(real, sizeof real, "%s/real", f->dir);
	snprintf(here, sizeof here, "%s/link", f->dir);
	snprintf(path, sizeof path, "%s/link/sub/x.jsonl", f->dir);
	assert_int_equal(mkdir(real, 0700), 0);
	assert_int_equal(symlink(real, here), 0);
	f->conf.path = path;
	start(f);
	push(f, "a");
	drain(f);
	assert_file(path, "a\n");
}

static void test_lock(void **state)
{
	struct fixture *f = *state;
	start(f);
	struct fixture *other = NULL;
	assert_int_equal(setup((void **)&other), 0);
	other->conf.path = f->path;
	refuse(other, "is in use by another");
	end(f);
	start(other);
	teardown((void **)&other);
}

/* ---- acknowledgement ---- */

static void test_group_commit(void **state)
{
	struct fixture *f = *state;
	start(f);
	drain(f);
	int before = world.syncs;
	hold_syncs(true);
	assert_int_equal(push(f, "first"), SS_KEPT);
	idle(f);
	await_held_sync();
	for (int i = 0; i < 100; i++) {
		assert_int_equal(push(f, "more"), SS_KEPT);
		idle(f);
	}
	assert_int_equal(f->host.n_finished, 0);
	size_t n;
	char *text = slurp(f->path, &n);
	assert_int_equal(n, 6 + 100 * 5); /* written while the sync is under way */
	free(text);
	hold_syncs(false);
	await(f, f->host.n_finished == 101);
	assert_int_equal(world.syncs - before, 2);
	for (int i = 0; i < 101; i++) {
		assert_ptr_equal(f->host.finished[i].batch, f->batches[i]);
		assert_int_equal(f->host.finished[i].status, SS_DELIVERED);
	}
}

static void test_relaxed(void **state)
{
	struct fixture *f = *state;
	f->conf.sync = SYNC_RELAXED;
	start(f);
	int before = world.syncs;
	assert_int_equal(push(f, "a"), SS_KEPT);
	assert_int_equal(f->host.n_finished, 0);
	idle(f);
	assert_int_equal(f->host.n_finished, 1);
	assert_file(f->path, "a\n");
	assert_int_equal(world.syncs, before);
	assert_int_equal(push_long(f, 'x', 300000, 0), SS_DONE); /* fills a buffer: written at once */
	drain(f);
	assert_true(world.syncs > before);
}

static void test_interval(void **state)
{
	struct fixture *f = *state;
	f->conf.sync = SYNC_INTERVAL;
	start(f);
	push(f, "a");
	idle(f);
	assert_file(f->path, "a\n");
	ss_test_host_advance(&f->host, 900000000);
	assert_int_equal(f->host.n_finished, 0);
	ss_test_host_advance(&f->host, 200000000);
	await(f, f->host.n_finished == 1);
}

static void test_few_writes(void **state)
{
	struct fixture *f = *state;
	char text[101];
	const char *texts[64];
	memset(text, 'x', 100);
	text[100] = '\0';
	for (int i = 0; i < 64; i++)
		texts[i] = text;
	start(f);
	drain(f);
	int before = world.writes;
	for (int i = 0; i < 400; i++)
		push_batch(f, ss_test_host_batch(&f->host, texts, 64));
	drain(f);
	/* 2.6 MB in writes of 256 KiB */
	assert_in_range(world.writes - before, 9, 12);
}

static void test_busy(void **state)
{
	struct fixture *f = *state;
	f->conf.max_pending = 1 << 20;
	start(f);
	drain(f);
	hold_syncs(true);
	int taken = 0;
	while (push_long(f, 'x', 100000, 0) == SS_KEPT)
		taken++;
	assert_in_range(taken, 9, 10);
	assert_int_equal(f->host.n_input_ready, 0);
	hold_syncs(false);
	await(f, f->host.n_input_ready == 1);
	assert_int_equal(f->host.n_finished, taken);
	assert_int_equal(ss_test_host_process(&f->host, 0, f->batches[f->n - 1]), SS_KEPT);
	drain(f);
	assert_int_equal(f->host.n_finished, taken + 1);
	hold_syncs(true); /* as much fits again */
	for (int i = 0; i < taken; i++)
		assert_int_equal(push_long(f, 'x', 100000, 0), SS_KEPT);
}

/* One batch over the limit is taken when nothing else waits. */
static void test_huge_batch(void **state)
{
	struct fixture *f = *state;
	f->conf.max_pending = 1 << 20;
	start(f);
	assert_true(push_long(f, 'x', 3 << 20, 0) != SS_BUSY);
	drain(f);
	assert_int_equal(f->host.n_finished, 1);
}

static void test_ring_grows(void **state)
{
	struct fixture *f = *state;
	start(f);
	drain(f);
	hold_syncs(true);
	for (int i = 0; i < 1000; i++) {
		char text[16];
		snprintf(text, sizeof text, "%d", i);
		assert_int_equal(push(f, text), SS_KEPT);
	}
	hold_syncs(false);
	drain(f);
	assert_int_equal(f->host.n_finished, 1000);
	for (int i = 0; i < 1000; i++)
		assert_ptr_equal(f->host.finished[i].batch, f->batches[i]);
	char *text = slurp(f->path, NULL);
	char *at = text;
	for (int i = 0; i < 1000; i++)
		assert_int_equal(strtol(at, &at, 10), i);
	free(text);
}

static void test_stop_without_drain(void **state)
{
	struct fixture *f = *state;
	start(f);
	push(f, "never safe");
	desc()->stop(f->host.self);
	assert_int_equal(f->host.n_finished, 1);
	assert_int_equal(f->host.finished[0].status, SS_FAILED);
}

/* ---- trouble ---- */

static void test_disk_full(void **state)
{
	struct fixture *f = *state;
	start(f);
	push(f, "before");
	drain(f);
	world.room = 3; /* and some of it is taken: "xxx" must not stay */
	push_long(f, 'x', 1000, 0);
	push(f, "second");
	idle(f);
	assert_file(f->path, "before\n");
	assert_non_null(strstr(f->host.unready, "No space left"));
	assert_true(logged(f, "No space left"));
	assert_int_equal(metric(f, METRIC_BLOCKED), 1);
	assert_int_equal(push(f, "refused"), SS_BUSY);
	for (int i = 0; i < 5; i++)
		ss_test_host_advance(&f->host, 2000000000);
	assert_file(f->path, "before\n");
	assert_int_equal(f->host.n_finished, 1);
	assert_int_equal(f->host.n_input_ready, 0);
	assert_true(metric(f, METRIC_WRITE_ERRORS) > 1);
	char *once = strstr(f->host.log, "No space left");
	assert_null(strstr(once + 1, "No space left")); /* said once */

	world.room = -1;
	ss_test_host_advance(&f->host, 10000000000);
	assert_string_equal(f->host.unready, "");
	assert_int_equal(f->host.n_input_ready, 1);
	assert_true(logged(f, "Writing again"));
	drain(f);
	assert_int_equal(f->host.n_finished, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(f->host.finished[i].status, SS_DELIVERED);
	size_t n;
	char *text = slurp(f->path, &n);
	assert_int_equal(n, 7 + 1001 + 7);
	assert_string_equal(text + n - 8, "\nsecond\n");
	free(text);
}

/* Room ends in the middle of a batch that takes several writes; wherever it ends, the lines are whole
 * afterwards. */
static void test_full_in_mid_batch(void **state)
{
	struct fixture *f = *state;
	f->conf.write_buffer = 4096;
	enum { N = 40 };
	char text[N][1200];
	const char *texts[N];
	for (int i = 0; i < N; i++) {
		memset(text[i], 'a' + i % 26, 1199);
		text[i][0] = '\0';
		snprintf(text[i], 20, "%03d-", i);
		text[i][4] = 'x';
		text[i][1199] = '\0';
		texts[i] = text[i];
	}
	for (long room = 0; room < N * 1200; room += 1777) {
		world.room = -1;
		unlink(f->path);
		start(f);
		drain(f);
		world.room = room;
		push_batch(f, ss_test_host_batch(&f->host, texts, N));
		idle(f);
		assert_int_equal(metric(f, METRIC_BLOCKED), 1);
		char *part = slurp(f->path, NULL);
		size_t len = strlen(part);
		assert_int_equal(len % 1200, 0);
		free(part);
		ss_test_host_advance(&f->host, 1500000000);
		world.room = -1;
		ss_test_host_advance(&f->host, 10000000000);
		drain(f);
		char *all = slurp(f->path, NULL);
		assert_int_equal(strlen(all), N * 1200);
		for (int i = 0; i < N; i++)
			assert_int_equal(strtol(all + (size_t)i * 1200, NULL, 10), i);
		free(all);
		assert_int_equal(f->host.n_finished, 1);
		end(f);
	}
}

/* A lost write is reported once by the kernel: what was not synced is written anew, once. */
static void test_sync_fails(void **state)
{
	struct fixture *f = *state;
	start(f);
	push(f, "safe");
	push(f, "\n");
	drain(f);
	hold_syncs(true);
	push(f, "a");
	push(f, "");
	idle(f);
	await_held_sync();
	push(f, "b");
	idle(f);
	push(f, "c");
	world.lost_from = 5;
	world.sync_errno = EIO;
	world.failing_syncs = 2;
	hold_syncs(false);
	await(f, metric(f, METRIC_BLOCKED) == 1);
	assert_int_equal(f->host.n_finished, 2);
	assert_true(logged(f, "Cannot sync"));
	assert_int_equal(push(f, "refused"), SS_BUSY);
	ss_test_host_advance(&f->host, 1000000000); /* writes again, and the sync fails again */
	await(f, metric(f, METRIC_SYNC_ERRORS) == 2);
	assert_int_equal(metric(f, METRIC_BLOCKED), 1);
	ss_test_host_advance(&f->host, 2000000000);
	await(f, metric(f, METRIC_BLOCKED) == 0);
	assert_int_equal(f->host.n_input_ready, 1);
	drain(f);
	assert_int_equal(f->host.n_finished, 6);
	assert_file(f->path, "safe\na\nb\nc\n");
	assert_int_equal(f->host.dropped[REASON_EMPTY], 2);
	for (uint32_t i = 0; i < f->host.n_finished; i++)
		assert_int_equal(f->host.finished[i].status, SS_DELIVERED);
}

/* The disk is full in the middle of a batch, of which a part is written; then a sync fails.  earlier: the
 * sync was under way before; else it comes after a good one that covered the batch before. */
static void sync_fails_in_mid_batch(struct fixture *f, bool earlier)
{
	enum { N = 12, LEN = 1500 };
	char text[N][LEN + 1];
	const char *texts[2 * N];
	for (int i = 0; i < N; i++) {
		memset(text[i], 'a' + i, LEN);
		text[i][LEN] = '\0';
		texts[2 * i] = text[i];
		texts[2 * i + 1] = "";
	}
	f->conf.write_buffer = 4096;
	world.sync_errno = EIO;
	start(f);
	drain(f);
	if (earlier)
		hold_syncs(true);
	push(f, "first");
	if (earlier) {
		idle(f);
		await_held_sync();
	}
	world.room = 6000;
	push_batch(f, ss_test_host_batch(&f->host, texts, 2 * N));
	assert_int_equal(metric(f, METRIC_BLOCKED), 1);
	if (!earlier) {
		await(f, f->host.n_finished == 1);
		world.lost_from = 6;
	}
	pthread_mutex_lock(&world.lock);
	world.failing_syncs = 1;
	pthread_mutex_unlock(&world.lock);
	hold_syncs(false);
	if (earlier)
		await(f, metric(f, METRIC_SYNC_ERRORS) == 1);
	world.room = -1;
	for (int i = 0; i < 4; i++) {
		ss_test_host_advance(&f->host, 10000000000);
		if (metric(f, METRIC_SYNC_ERRORS) == 0)
			await(f, metric(f, METRIC_SYNC_ERRORS) == 1);
	}
	await(f, f->host.n_finished == 2 && metric(f, METRIC_BLOCKED) == 0);
	drain(f);
	char *got = slurp(f->path, NULL);
	assert_int_equal(strlen(got), 6 + N * (LEN + 1));
	for (int i = 0; i < N; i++)
		assert_memory_equal(got + 6 + (size_t)i * (LEN + 1), text[i], LEN);
	free(got);
	assert_int_equal(f->host.dropped[REASON_EMPTY], N);
}

static void test_sync_fails_in_mid_batch(void **state)
{
	sync_fails_in_mid_batch(*state, true);
}

static void test_sync_fails_after_half_a_batch(void **state)
{
	sync_fails_in_mid_batch(*state, false);
}

/* The same when the lines lie in a file that was closed meanwhile. */
static void test_sync_fails_after_rotation(void **state)
{
	struct fixture *f = *state;
	char names[512];
	f->conf.rotate_size = 10;
	start(f);
	drain(f);
	hold_syncs(true);
	push(f, "0123456789");
	idle(f);
	await_held_sync();
	push(f, "in the second file");
	idle(f);
	world.sync_errno = EIO;
	world.failing_syncs = 1;
	hold_syncs(false);
	await(f, metric(f, METRIC_SYNC_ERRORS) == 1);
	ss_test_host_advance(&f->host, 1000000000);
	await(f, f->host.n_finished == 2);
	drain(f);
	/* both are there exactly once */
	list(f->dir, "data", names, sizeof names);
	char all[256] = "";
	for (char *name = strtok(names, " "); name; name = strtok(NULL, " ")) {
		char path[256];
		snprintf(path, sizeof path, "%s/%s", f->dir, name);
		char *text = slurp(path, NULL);
		strncat(all, text, sizeof all - strlen(all) - 1);
		free(text);
	}
	assert_non_null(strstr(all, "0123456789\n"));
	assert_non_null(strstr(all, "in the second file\n"));
	assert_int_equal(strlen(all), 11 + 19);
}

static void test_start_on_full_disk(void **state)
{
	struct fixture *f = *state;
	world.room = 0;
	start(f);
	push(f, "a");
	idle(f);
	assert_int_equal(metric(f, METRIC_BLOCKED), 1);
	assert_int_equal(desc()->drain(f->host.self), SS_BUSY);
	world.room = -1;
	ss_test_host_advance(&f->host, 1000000000);
	await(f, f->host.n_drained == 1);
	assert_file(f->path, "a\n");
}

/* ---- repair ---- */

static void test_repair(void **state)
{
	struct fixture *f = *state;
	const char whole[] = "{\"a\":1}\n{\"bb\":22}\n\n{\"ccc\":333}\n";
	char torn_path[160], expected[64];
	snprintf(torn_path, sizeof torn_path, "%s.torn", f->path);
	for (size_t n = 0; n < sizeof whole; n++) {
		size_t lines = n;
		while (lines && whole[lines - 1] != '\n')
			lines--;
		unlink(torn_path);
		put_file(f->path, whole, n);
		start(f);
		assert_int_equal(metric(f, METRIC_REPAIRED), lines < n);
		push(f, "next");
		drain(f);
		snprintf(expected, sizeof expected, "%.*snext\n", (int)lines, whole);
		assert_file(f->path, expected);
		if (lines < n) {
			snprintf(expected, sizeof expected, "%.*s\n", (int)(n - lines), whole + lines);
			assert_file(torn_path, expected);
		} else {
			assert_int_equal(access(torn_path, F_OK), -1);
		}
		end(f);
	}
}

static void test_repair_long(void **state)
{
	struct fixture *f = *state;
	f->conf.max_line = 100000;
	enum { BIG = 300000 };
	char *text = malloc(BIG), torn_path[160];
	struct stat st;
	snprintf(torn_path, sizeof torn_path, "%s.torn", f->path);
	memset(text, 'x', BIG);
	text[150000] = '\n';
	put_file(f->path, text, BIG);
	start(f);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_size, 150001);
	assert_int_equal(stat(torn_path, &st), 0);
	assert_int_equal(st.st_size, BIG - 150001 + 1);
	assert_int_equal(st.st_mode & 07777, 0600);
	end(f);

	text[150000] = 'x'; /* this cannot have been ours */
	put_file(f->path, text, BIG);
	refuse(f, "semstreams did not write it");
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_size, BIG);
	free(text);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_lines),
		T(test_breaks),
		cmocka_unit_test(test_break_everywhere),
		T(test_long_lines),
		T(test_many_long_lines),
		T(test_templates),
		T(test_mode),
		cmocka_unit_test(test_match),
		T(test_template_paths),
		T(test_confined),
		T(test_prefix_link),
		T(test_lock),
		T(test_group_commit),
		T(test_relaxed),
		T(test_interval),
		T(test_few_writes),
		T(test_busy),
		T(test_huge_batch),
		T(test_ring_grows),
		T(test_stop_without_drain),
		T(test_disk_full),
		T(test_full_in_mid_batch),
		T(test_sync_fails),
		T(test_sync_fails_in_mid_batch),
		T(test_sync_fails_after_half_a_batch),
		T(test_sync_fails_after_rotation),
		T(test_start_on_full_disk),
		T(test_repair),
		T(test_repair_long),
	};
	return cmocka_run_group_tests_name("storage", tests, NULL, NULL);
}
