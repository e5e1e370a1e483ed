/* SPDX-License-Identifier: MIT */
/*
 * Tests of one storage with many files: each event goes to the file of its attributes, few are open at once,
 * and what is committed is committed for all of them together.
 */
#include "helper_crash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int setup_many(void **state)
{
	int rc = setup(state);
	struct fixture *f = *state;
	snprintf(f->path, sizeof f->path, "%s/{peer}.jsonl", f->dir);
	return rc;
}

static const char *file(const struct fixture *f, const char *name)
{
	static char path[600];
	snprintf(path, sizeof path, "%s/%s", f->dir, name);
	return path;
}

/* Row i is of the peer NAME(i % peers); without a source there is no position. */
static struct ss_batch *spread(struct fixture *f, const char *source, uint64_t first, uint32_t n,
			       uint32_t from, uint32_t peers)
{
	struct ss_batch *b = batch(f, source, 1, first, n);
	for (uint32_t i = 0; i < n; i++) {
		char peer[16];
		snprintf(peer, sizeof peer, "p%u", from + i % peers);
		set_peer(f, b, i, peer);
	}
	return b;
}

static int send(struct fixture *f, const char *source, uint64_t first, uint32_t n, uint32_t from,
		uint32_t peers)
{
	return push_on(f, 0, spread(f, source, first, n, from, peers));
}

/* Files of the folder that this process has open, the record and what belongs to it apart. */
static unsigned open_files(const struct fixture *f)
{
	unsigned n = 0;
	DIR *dir = opendir("/proc/self/fd");
	for (const struct dirent *e; (e = readdir(dir));) {
		char link[300], to[512];
		snprintf(link, sizeof link, "/proc/self/fd/%s", e->d_name);
		ssize_t len = readlink(link, to, sizeof to - 1);
		to[len > 0 ? len : 0] = '\0';
		const char *name = strncmp(to, f->dir, strlen(f->dir)) == 0 ? to + strlen(f->dir) : "";
		n += name[0] == '/' && name[1] != '.';
	}
	closedir(dir);
	return n;
}

/* All lines of all files, and that of a source each number from 1 to last is there once. */
static void assert_once(const struct fixture *f, const char *source, uint64_t last)
{
	struct dirent **names;
	char seen[8192] = {0};
	int n = scandir(f->dir, &names, NULL, alphasort);
	need(n >= 0 && last < sizeof seen);
	for (int i = 0; i < n; i++) {
		char *text = strdup("");
		if (names[i]->d_name[0] != '.') {
			free(text);
			text = slurp(file(f, names[i]->d_name), NULL);
		}
		uint64_t before = 0;
		for (char *at = text; *at; at = strchr(at, '\n') + 1) {
			if (strncmp(at, source, strlen(source)) != 0)
				continue;
			uint64_t number = strtoull(at + strlen(source), NULL, 10);
			if (number > last || seen[number]++ || number <= before)
				fail_msg("%s: %s%llu", names[i]->d_name, source, (unsigned long long)number);
			before = number;
		}
		free(text);
		free(names[i]);
	}
	free(names);
	for (uint64_t k = 1; k <= last; k++)
		if (!seen[k])
			fail_msg("%s%llu is missing", source, (unsigned long long)k);
}

static unsigned ledgers(const struct fixture *f, uint64_t *size)
{
	unsigned n = 0;
	DIR *dir = opendir(f->dir);
	for (const struct dirent *e; (e = readdir(dir));) {
		struct stat st;
		if (strncmp(e->d_name, ".test.files.", 12) != 0)
			continue;
		assert_int_equal(stat(file(f, e->d_name), &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		*size = (uint64_t)st.st_size;
		n++;
	}
	closedir(dir);
	return n;
}

/* ---- which file ---- */

static void test_each_its_own(void **state)
{
	struct fixture *f = *state;
	start(f);
	assert_true(f->host.wants_attributes);
	struct ss_batch *b = batch(f, NULL, 1, 1, 7);
	static const char *const peers[] = {"a", "b", "a", "../c", "a", "b"};
	for (uint32_t i = 0; i < 6; i++)
		set_peer(f, b, i, peers[i]);
	push_on(f, 0, b);
	send(f, NULL, 8, 1, 0, 1);
	drain(f);
	assert_int_equal(f->host.n_finished, 2);
	assert_file(file(f, "a.jsonl"), "plain1\nplain3\nplain5\n");
	assert_file(file(f, "b.jsonl"), "plain2\nplain6\n");
	assert_file(file(f, "%2E.%2Fc.jsonl"), "plain4\n");
	assert_file(file(f, "%none.jsonl"), "plain7\n");
	assert_file(file(f, "p0.jsonl"), "plain8\n");
	assert_int_equal(metric(f, METRIC_OPEN_FILES), 5);
	assert_int_equal(access(f->record, F_OK), -1);
	uint64_t size;
	assert_int_equal(ledgers(f, &size), 0);
	/* again, and behind what is there */
	end(f);
	start(f);
	send(f, NULL, 9, 1, 0, 1);
	drain(f);
	assert_file(file(f, "p0.jsonl"), "plain8\nplain9\n");
}

static void test_folders(void **state)
{
	struct fixture *f = *state;
	char path[160];
	snprintf(path, sizeof path, "%s/{peer}/{input}/{component}.jsonl", f->dir);
	f->conf.path = path;
	start(f);
	struct ss_batch *b = batch(f, "a", 1, 1, 2);
	const char *const texts[SS_ATTR_COUNT] = {[SS_ATTR_PEER] = "x", [SS_ATTR_INPUT] = "edges"};
	ss_test_host_attributes(&f->host, b, 0, texts, 0);
	push_on(f, 0, b);
	drain(f);
	assert_file(file(f, "%unverified:x/edges/test.jsonl"), "a1\n");
	assert_file(file(f, "%none/%none/test.jsonl"), "a2\n");
}

static void test_config(void **state)
{
	struct fixture *f = *state;
	char path[160];
	static const char *const cases[][2] = {{"{peer}", "needs an ending"},
					       {"{host}.jsonl", "{host} is unknown"},
					       {"{component}{peer}.jsonl", NULL}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		snprintf(path, sizeof path, "%s/%s", f->dir, cases[i][0]);
		f->conf.path = path;
		ss_test_host_init(&f->host, desc());
		assert_int_equal(ss_test_host_create(&f->host, &f->conf), cases[i][1] ? -EINVAL : 0);
		if (cases[i][1])
			assert_non_null(strstr(f->host.errors, cases[i][1]));
		ss_test_host_done(&f->host);
	}
	f->conf.path = f->path;
	ss_test_host_init(&f->host, desc());
	ss_test_host_offer(&f->host, SS_ATTRIBUTES, NULL, 0, NULL);
	assert_int_equal(ss_test_host_create(&f->host, &f->conf), -EINVAL);
	assert_non_null(strstr(f->host.errors, "this host does not have"));
}

/* Long lines, more runs than iovecs, lines in many pieces: each file gets its own. */
static void test_large(void **state)
{
	struct fixture *f = *state;
	enum { N = 20000, LONG = 3000 };
	static const char *texts[N];
	static char text[N][12], longer[LONG + 1];
	f->conf.write_buffer = 4096;
	memset(longer, 'l', LONG);
	for (int i = 0; i < N; i++) {
		snprintf(text[i], sizeof text[i], "%d", i);
		texts[i] = i % 100 == 7 ? longer : i % 10 == 3 ? "" : text[i];
	}
	start(f);
	struct ss_batch *b = ss_test_host_batch(&f->host, texts, N);
	for (uint32_t i = 0; i < N; i++)
		set_peer(f, b, i, i % 3 ? "x" : "y");
	push_on(f, 0, b);
	drain(f);
	for (int k = 0; k < 2; k++) {
		char *got = slurp(file(f, k ? "x.jsonl" : "y.jsonl"), NULL), *at = got;
		for (int i = 0; i < N; i++) {
			if ((i % 3 != 0) != k || !texts[i][0])
				continue;
			size_t len = strlen(texts[i]);
			if (strncmp(at, texts[i], len) != 0 || at[len] != '\n')
				fail_msg("%d of file %d", i, k);
			at += len + 1;
		}
		assert_int_equal(*at, 0);
		free(got);
	}
	assert_int_equal(f->host.dropped[REASON_EMPTY], N / 10);
}

/* ---- how many ---- */

static void check_open_limit(struct fixture *f, const char *source)
{
	f->conf.max_open_files = 5;
	start(f);
	uint64_t n = 0;
	for (int round = 0; round < 3; round++)
		for (uint32_t peer = 0; peer < 40; peer++) {
			send(f, source, n + 1, 2, peer, 2);
			n += 2;
			await(f, f->host.n_finished == n / 2 || open_files(f) <= 5);
			assert_in_range(open_files(f), 0, 5);
		}
	drain(f);
	assert_int_equal(f->host.n_finished, n / 2);
	assert_true(metric(f, METRIC_EVICTED) > 40);
	assert_once(f, source ? source : "plain", n);
}

static void test_open_limit(void **state)
{
	check_open_limit(*state, NULL);
}

static void test_open_limit_recorded(void **state)
{
	check_open_limit(*state, "a");
}

/* What is unused for longest goes. */
static void test_least_recently_used(void **state)
{
	struct fixture *f = *state;
	f->conf.max_open_files = 3;
	start(f);
	for (uint32_t peer = 0; peer < 3; peer++) {
		send(f, "a", peer + 1, 1, peer, 1);
		drain(f);
	}
	send(f, "a", 4, 1, 0, 1);
	drain(f);
	assert_int_equal(metric(f, METRIC_EVICTED), 0);
	send(f, "a", 5, 1, 7, 1);
	drain(f);
	assert_int_equal(metric(f, METRIC_EVICTED), 1);
	int opened = open(file(f, "p1.jsonl"), O_RDONLY | O_CLOEXEC);
	assert_true(opened >= 0);
	close(opened);
	send(f, "a", 6, 1, 0, 1);
	send(f, "a", 7, 1, 2, 1);
	drain(f);
	assert_int_equal(metric(f, METRIC_EVICTED), 1);
	send(f, "a", 8, 1, 1, 1); /* this one was closed */
	drain(f);
	assert_int_equal(metric(f, METRIC_EVICTED), 2);
	assert_file(file(f, "p1.jsonl"), "a2\na8\n");
}

/* One batch goes to more files than may be open. */
static void check_batch_over_limit(struct fixture *f, const char *source)
{
	f->conf.max_open_files = 4;
	start(f);
	send(f, source, 1, 200, 0, 50);
	send(f, source, 201, 200, 10, 50);
	await(f, f->host.n_finished == 2);
	assert_in_range(open_files(f), 1, 4);
	drain(f);
	assert_once(f, source ? source : "plain", 400);
	send(f, source, 401, 100, 0, 100);
	drain(f);
	assert_once(f, source ? source : "plain", 500);
	assert_int_equal(f->host.n_finished, 3);
	assert_int_equal(metric(f, METRIC_SYNC_ERRORS) + metric(f, METRIC_OPEN_ERRORS), 0);
}

static void test_batch_over_limit(void **state)
{
	check_batch_over_limit(*state, NULL);
}

static void test_batch_over_limit_recorded(void **state)
{
	check_batch_over_limit(*state, "a");
}

/* Not even two at once, and all of them are rotated: it goes on, one by one. */
static void test_one_open_file(void **state)
{
	struct fixture *f = *state;
	f->conf.max_open_files = 1;
	f->conf.rotate_size = 12;
	start(f);
	send(f, "a", 1, 60, 0, 20);
	send(f, "a", 61, 40, 5, 20);
	await(f, f->host.n_finished == 2);
	drain(f);
	assert_in_range(open_files(f), 0, 1);
	assert_true(metric(f, METRIC_ROTATIONS) > 0);
	assert_int_equal(metric(f, METRIC_OPEN_ERRORS) + metric(f, METRIC_ROTATE_ERRORS), 0);
	assert_once(f, "a", 100);
	end(f);
	start(f);
	assert_int_equal(f->host.kept[0].position.seq, 100);
}

/* A sync fails when part of such a batch is asleep already: all of it is written again, once. */
static void test_batch_over_limit_fails(void **state)
{
	struct fixture *f = *state;
	for (int at = 1; at < 40; at++) {
		f->conf.max_open_files = 4;
		start(f);
		send(f, "a", 1, 20, 0, 20);
		drain(f);
		int syncs = world.data_syncs;
		send(f, "a", 21, 80, 0, 40);
		for (int i = 0; i < 400 && world.data_syncs < syncs + at; i++)
			ss_test_host_run(&f->host, 1);
		world.fail_data = 1;
		for (int i = 0; i < 20; i++) {
			ss_test_host_run(&f->host, 1);
			ss_test_host_advance(&f->host, 1000000000);
		}
		await(f, f->host.n_finished == 2 && metric(f, METRIC_BLOCKED) == 0);
		drain(f);
		assert_once(f, "a", 100);
		end(f);
		start(f);
		assert_int_equal(f->host.kept[0].position.seq, 100);
		end(f);
		for (int i = 0; i < 40; i++) {
			char name[32];
			snprintf(name, sizeof name, "p%d.jsonl", i);
			unlink(file(f, name));
		}
		unlink(f->record);
	}
}

static void test_max_files(void **state)
{
	struct fixture *f = *state;
	f->conf.max_files = 3;
	f->conf.max_open_files = 2;
	start(f);
	send(f, "a", 1, 10, 0, 5);
	send(f, "a", 11, 3, 0, 3);
	drain(f);
	assert_file(file(f, "p0.jsonl"), "a1\na6\na11\n");
	assert_file(file(f, "p2.jsonl"), "a3\na8\na13\n");
	assert_file(file(f, "%other.jsonl"), "a4\na5\na9\na10\n");
	assert_int_equal(metric(f, METRIC_OTHERS), 4);
	assert_int_equal(access(file(f, "p3.jsonl"), F_OK), -1);
	assert_true(logged(f, "WARN There are as many files as max_files allows"));
	end(f);
	/* a restart is no way around it */
	start(f);
	send(f, "a", 14, 6, 0, 6);
	drain(f);
	assert_file(file(f, "p1.jsonl"), "a2\na7\na12\na15\n");
	assert_file(file(f, "%other.jsonl"), "a4\na5\na9\na10\na17\na18\na19\n");
	assert_int_equal(metric(f, METRIC_OTHERS), 3);
	/* room is made by hand */
	assert_int_equal(unlink(file(f, "p0.jsonl")), 0);
	ss_test_host_advance(&f->host, UINT64_C(11000000000));
	send(f, "a", 20, 1, 9, 1);
	drain(f);
	assert_file(file(f, "p9.jsonl"), "a20\n");
	send(f, "a", 21, 1, 10, 1);
	drain(f);
	assert_int_equal(metric(f, METRIC_OTHERS), 4);
	assert_int_equal(access(file(f, "p10.jsonl"), F_OK), -1);
}

/* ---- what is committed ---- */

static void scene_uncommitted(struct fixture *f)
{
	start(f);
	send(f, "a", 1, 6, 0, 3);
	drain(f);
	world.hold = 1;
	send(f, "a", 7, 2, 1, 2);
	idle(f);
}

static void test_cut(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_uncommitted);
	assert_file(file(f, "p0.jsonl"), "a1\na4\n");
	assert_file(file(f, "p1.jsonl"), "a2\na5\na7\n");
	assert_file(file(f, "p2.jsonl"), "a3\na6\na8\n");
	start(f);
	assert_file(file(f, "p1.jsonl"), "a2\na5\n");
	assert_file(file(f, "p2.jsonl"), "a3\na6\n");
	assert_int_equal(f->host.kept[0].position.seq, 6);
	assert_int_equal(metric(f, METRIC_CUT), 2);
	assert_true(logged(f, "bytes=6"));
	assert_true(logged(f, "files=2"));
	send(f, "a", 5, 4, 2, 3); /* 5 and 6 again, 7 and 8 elsewhere */
	drain(f);
	assert_once(f, "a", 8);
}

/* The first lines of a file were not committed, not even that it exists. */
static void scene_new_file(struct fixture *f)
{
	start(f);
	send(f, "a", 1, 1, 0, 1);
	drain(f);
	world.hold = 1;
	send(f, "a", 2, 3, 5, 3);
	await(f, access(file(f, "p7.jsonl"), F_OK) == 0 && f->host.n_finished == 1);
	idle(f);
	for (int i = 0; i < 100; i++)
		ss_test_host_run(&f->host, 1);
	idle(f);
}

static void test_cut_new_files(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_new_file);
	assert_file(file(f, "p6.jsonl"), "a3\n");
	start(f);
	assert_int_equal(metric(f, METRIC_CUT), 3);
	assert_file(file(f, "p6.jsonl"), "");
	send(f, "a", 2, 3, 5, 3);
	drain(f);
	assert_once(f, "a", 4);
}

/* Who emptied one of the files does not want it to come again; the others are not touched for it. */
static void test_emptied(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_uncommitted);
	assert_int_equal(truncate(file(f, "p0.jsonl"), 0), 0);
	assert_int_equal(unlink(file(f, "p2.jsonl")), 0);
	start(f);
	assert_int_equal(f->host.kept[0].position.seq, 6);
	assert_file(file(f, "p1.jsonl"), "a2\na5\n");
	assert_file(file(f, "p0.jsonl"), "");
}

static void test_damaged_ledger(void **state)
{
	struct fixture *f = *state;
	char name[256];
	for (int gone = 0; gone < 2; gone++) {
		crash_after(f, scene_uncommitted);
		DIR *dir = opendir(f->dir);
		for (const struct dirent *e; (e = readdir(dir));)
			if (strncmp(e->d_name, ".test.files.", 12) == 0)
				snprintf(name, sizeof name, "%s", e->d_name);
		closedir(dir);
		if (gone) {
			assert_int_equal(unlink(file(f, name)), 0);
		} else {
			int fd = open(file(f, name), O_RDWR | O_CLOEXEC);
			assert_int_equal(syscall(SYS_pwrite64, fd, "\x7f", 1, 40), 1);
			close(fd);
		}
		start(f);
		assert_true(logged(f, "ERROR The list of files beside the commit record is damaged or gone"));
		assert_int_equal(metric(f, METRIC_COMMIT_ERRORS), 1);
		assert_int_equal(metric(f, METRIC_CUT), 0);
		assert_file(file(f, "p1.jsonl"), "a2\na5\na7\n");
		send(f, "a", 9, 1, 0, 1);
		drain(f);
		end(f);
		start(f);
		assert_false(logged(f, "damaged"));
		assert_int_equal(f->host.kept[0].position.seq, 9);
		end(f);
		unlink(f->record);
		for (int i = 0; i < 3; i++) {
			snprintf(name, sizeof name, "p%d.jsonl", i);
			unlink(file(f, name));
		}
	}
}

/* A commit adds what has changed; there is one ledger, and it does not grow for ever. */
static void test_ledger(void **state)
{
	enum { PEERS = 1000 };
	struct fixture *f = *state;
	uint64_t size = 0, before, largest = 0, seq = 1;
	f->conf.max_open_files = 2 * PEERS;
	start(f);
	for (; seq < PEERS; seq += 100) {
		send(f, "a", seq, 100, (uint32_t)seq, 100);
		drain(f);
	}
	assert_int_equal(ledgers(f, &size), 1);
	assert_in_range(size, 50 * PEERS, 100 * PEERS);
	before = size;
	send(f, "a", seq++, 1, 5, 1);
	drain(f);
	assert_int_equal(ledgers(f, &size), 1);
	assert_int_equal(size - before, 32);
	/* few files, many commits */
	end(f);
	start(f);
	for (int i = 0; i < 2500; i++) {
		send(f, "a", seq++, 1, (uint32_t)i % 3, 1);
		drain(f);
		if (i % 100 == 0)
			assert_int_equal(ledgers(f, &size), 1);
		largest = size > largest ? size : largest;
		f->host.host.batch_unref(f->batches[--f->n]);
		ss_test_host_clear(&f->host);
	}
	assert_in_range(largest, 30000, 80000);
	assert_once(f, "a", seq - 1);
}

/* From one file to many and back: what is not committed is cut in either case. */
static void scene_one(struct fixture *f)
{
	start(f);
	push(f, "a", 9, 2);
	drain(f);
	world.hold = 1;
	push(f, "a", 11, 2);
	idle(f);
}

static void test_change_of_path(void **state)
{
	struct fixture *f = *state;
	uint64_t size;
	char one[160];
	snprintf(one, sizeof one, "%s/one.jsonl", f->dir);
	crash_after(f, scene_uncommitted); /* 1 to 6 */
	start(f);
	send(f, "a", 7, 2, 1, 2);
	drain(f);
	end(f);
	f->conf.path = one;
	crash_after(f, scene_one); /* 9 and 10 */
	assert_int_equal(ledgers(f, &size), 0);
	assert_file(one, "a9\na10\na11\na12\n");
	f->conf.path = f->path;
	start(f);
	assert_file(one, "a9\na10\n");
	send(f, "a", 10, 3, 0, 3);
	drain(f);
	assert_once(f, "a", 12);
	end(f);
	f->conf.sync = SYNC_RELAXED;
	start(f);
	assert_int_equal(access(f->record, F_OK), -1);
	assert_int_equal(ledgers(f, &size), 0);
}

/* ---- trouble ---- */

/* One of many files cannot be written: none of them keeps a part of it, and later all have it. */
static void test_write_fails(void **state)
{
	struct fixture *f = *state;
	for (int relaxed = 0; relaxed < 2; relaxed++) {
		f->conf.sync = relaxed ? SYNC_RELAXED : SYNC_ALWAYS;
		start(f);
		send(f, "a", 1 + 16 * (uint64_t)relaxed, 8, 0, 4);
		drain(f);
		char *before = slurp(file(f, "p0.jsonl"), NULL);
		world.fail_write = 3;
		send(f, "a", 9 + 16 * (uint64_t)relaxed, 8, 0, 4);
		idle(f);
		await(f, metric(f, METRIC_BLOCKED) == 1);
		assert_non_null(strstr(f->host.unready, "/p2.jsonl: No space left"));
		assert_file(file(f, "p0.jsonl"), before);
		free(before);
		ss_test_host_advance(&f->host, 1000000000);
		await(f, metric(f, METRIC_BLOCKED) == 0);
		drain(f);
		assert_once(f, "a", 16 + 16 * (uint64_t)relaxed);
		end(f);
	}
}

static void test_sync_fails(void **state)
{
	struct fixture *f = *state;
	start(f);
	send(f, "a", 1, 8, 0, 4);
	drain(f);
	world.fail_data = 1;
	send(f, "a", 8, 5, 2, 4);
	await(f, metric(f, METRIC_SYNC_ERRORS) == 1);
	ss_test_host_advance(&f->host, 1000000000);
	await(f, metric(f, METRIC_BLOCKED) == 0);
	drain(f);
	assert_once(f, "a", 12);
	assert_int_equal(f->host.n_finished, 2);
	end(f);
	start(f);
	assert_int_equal(f->host.kept[0].position.seq, 12);
	assert_int_equal(metric(f, METRIC_CUT), 0);
}

/* A record got to the disk though its sync said no; then the data is cut back, and the crash comes. */
static void scene_ahead(struct fixture *f)
{
	start(f);
	send(f, "a", 1, 4, 0, 4);
	drain(f);
	world.fail_record = 1;
	send(f, "a", 5, 4, 0, 4);
	await(f, metric(f, METRIC_COMMIT_ERRORS) == 1);
	assert_int_equal(f->host.n_finished, 1);
	world.fail_data = 1;
	ss_test_host_advance(&f->host, 1000000000);
	await(f, metric(f, METRIC_SYNC_ERRORS) == 1);
	world.fail_write = -1;
	ss_test_host_advance(&f->host, 10000000000);
	char *text = slurp(file(f, "p1.jsonl"), NULL);
	need(strcmp(text, "a2\n") == 0);
	free(text);
}

static void test_record_ahead(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_ahead);
	start(f);
	assert_int_equal(f->host.kept[0].position.seq, 4);
	send(f, "a", 3, 6, 0, 4);
	drain(f);
	assert_once(f, "a", 8);
}

static void check_commit_fails(struct fixture *f, bool ledger)
{
	start(f);
	send(f, "a", 1, 4, 0, 4);
	drain(f);
	*(ledger ? &world.fail_ledger : &world.fail_record) = 2;
	send(f, "a", 5, 4, 4, 4); /* the note of new files is what fails */
	await(f, metric(f, METRIC_COMMIT_ERRORS) == 1);
	assert_file(file(f, "p4.jsonl"), "");
	for (int i = 0; i < 5 && metric(f, METRIC_BLOCKED); i++) {
		ss_test_host_advance(&f->host, 10000000000);
		ss_test_host_run(&f->host, 50);
	}
	await(f, metric(f, METRIC_BLOCKED) == 0 && f->host.n_finished == 2);
	assert_once(f, "a", 8);
	*(ledger ? &world.fail_ledger : &world.fail_record) = 1;
	send(f, "a", 9, 4, 4, 4);
	await(f, metric(f, METRIC_COMMIT_ERRORS) == 3);
	ss_test_host_advance(&f->host, 1000000000);
	await(f, metric(f, METRIC_BLOCKED) == 0 && f->host.n_finished == 3);
	end(f);
	start(f);
	assert_int_equal(f->host.kept[0].position.seq, 12);
	assert_int_equal(metric(f, METRIC_CUT), 0);
	assert_once(f, "a", 12);
}

static void test_record_fails(void **state)
{
	check_commit_fails(*state, false);
}

static void test_ledger_fails(void **state)
{
	check_commit_fails(*state, true);
}

/* One that is in the way of a name. */
static void test_open_fails(void **state)
{
	struct fixture *f = *state;
	start(f);
	assert_int_equal(symlink("/etc/passwd", file(f, "p1.jsonl")), 0);
	assert_int_equal(symlink("/etc/passwd", file(f, "%other.jsonl")), 0);
	send(f, "a", 1, 4, 0, 2);
	await(f, metric(f, METRIC_BLOCKED) == 1);
	assert_non_null(strstr(f->host.unready, "/%other.jsonl: is a symbolic link"));
	assert_int_equal(send(f, "a", 5, 1, 0, 1), SS_BUSY);
	assert_int_equal(unlink(file(f, "%other.jsonl")), 0);
	ss_test_host_advance(&f->host, 1000000000);
	await(f, metric(f, METRIC_BLOCKED) == 0 && f->host.n_input_ready == 1);
	assert_int_equal(ss_test_host_process(&f->host, 0, f->batches[1]), SS_KEPT);
	drain(f);
	assert_once(f, "a", 5);
}

/* ---- rotation ---- */

static void test_rotation(void **state)
{
	struct fixture *f = *state;
	char names[4096];
	f->conf.rotate_size = 30;
	f->conf.max_open_files = 3;
	start(f);
	for (uint64_t n = 1; n < 200; n += 10)
		send(f, "a", n, 10, 0, 5);
	drain(f);
	await(f, f->host.n_finished == 20);
	assert_true(metric(f, METRIC_ROTATIONS) >= 10);
	list(f->dir, "p3.jsonl.2", names, sizeof names);
	assert_true(strlen(names) > 20);
	end(f);
	start(f);
	assert_int_equal(f->host.kept[0].position.seq, 200);
	assert_int_equal(metric(f, METRIC_CUT), 0);
}

static void test_dates(void **state)
{
	struct fixture *f = *state;
	char path[160], hours[2][32];
	snprintf(path, sizeof path, "%s/{peer}/%%H.jsonl", f->dir);
	f->conf.path = path;
	f->conf.retain_files = 1000;
	start(f);
	for (int i = 0; i < 2; i++) {
		time_t now = time(NULL);
		struct tm tm;
		strftime(hours[i], sizeof hours[i], "%H.jsonl", gmtime_r(&now, &tm));
		send(f, "a", 1 + 4 * (uint64_t)i, 4, 0, 4);
		drain(f);
		world.later += 3600;
	}
	for (int peer = 0; peer < 4; peer++)
		for (int i = 0; i < 2; i++) {
			char name[96], text[16];
			snprintf(name, sizeof name, "p%d/%s", peer, hours[i]);
			snprintf(text, sizeof text, "a%d\n", 1 + 4 * i + peer);
			assert_file(file(f, name), text);
		}
	assert_int_equal(metric(f, METRIC_ROTATIONS), 4);
	await(f, open_files(f) <= 4 + 1);
}

static bool there(const struct fixture *f, const char *peer, const char *name)
{
	char path[128];
	snprintf(path, sizeof path, "%s/%s", peer, name);
	return access(file(f, path), F_OK) == 0;
}

/* Old files of all senders are removed; today's are not, though most of them are closed. */
static void test_retain(void **state)
{
	struct fixture *f = *state;
	char path[160], day[2][32];
	snprintf(path, sizeof path, "%s/{peer}/%%d.jsonl", f->dir);
	f->conf.path = path;
	f->conf.retain_age = INT64_C(1);
	f->conf.max_open_files = 2;
	assert_int_equal(mkdir(file(f, "p9"), 0750), 0);
	put_file(file(f, "p9/notes.txt"), "mine", 4);
	start(f);
	for (int i = 0; i < 2; i++) {
		time_t now = time(NULL);
		struct tm tm;
		strftime(day[i], sizeof day[i], "%d.jsonl", gmtime_r(&now, &tm));
		send(f, "a", 1 + 10 * (uint64_t)i, 10, 0, 10);
		await(f, f->host.n_finished == (uint32_t)i + 1);
		world.later += 24 * 3600;
	}
	world.later -= 24 * 3600;
	for (int i = 0; i < 200 && there(f, "p3", day[0]); i++) {
		ss_test_host_advance(&f->host, UINT64_C(1000000000));
		ss_test_host_run(&f->host, 5);
	}
	await(f, metric(f, METRIC_REMOVED) >= 10);
	for (int i = 0; i < 10; i++) {
		char peer[16];
		snprintf(peer, sizeof peer, "p%d", i);
		assert_false(there(f, peer, day[0]));
		assert_true(there(f, peer, day[1]));
	}
	assert_int_equal(metric(f, METRIC_REMOVED), 10);
	assert_file(file(f, "p9/notes.txt"), "mine");
}

static void test_moved(void **state)
{
	struct fixture *f = *state;
	char other[640];
	start(f);
	send(f, "a", 1, 4, 0, 4);
	drain(f);
	snprintf(other, sizeof other, "%s.1", file(f, "p1.jsonl"));
	assert_int_equal(rename(file(f, "p1.jsonl"), other), 0);
	for (int i = 0; i < 6; i++)
		ss_test_host_advance(&f->host, 1000000000);
	assert_true(logged(f, "was moved or deleted"));
	send(f, "a", 5, 4, 0, 4);
	drain(f);
	assert_file(other, "a2\n");
	assert_file(file(f, "p1.jsonl"), "a6\n");
	assert_file(file(f, "p2.jsonl"), "a3\na7\n");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup_many, teardown)
	const struct CMUnitTest tests[] = {
		T(test_each_its_own),
		T(test_folders),
		T(test_config),
		T(test_large),
		T(test_open_limit),
		T(test_open_limit_recorded),
		T(test_least_recently_used),
		T(test_batch_over_limit),
		T(test_batch_over_limit_recorded),
		T(test_one_open_file),
		T(test_batch_over_limit_fails),
		T(test_max_files),
		T(test_cut),
		T(test_cut_new_files),
		T(test_emptied),
		T(test_damaged_ledger),
		T(test_ledger),
		T(test_change_of_path),
		T(test_write_fails),
		T(test_sync_fails),
		T(test_record_ahead),
		T(test_record_fails),
		T(test_ledger_fails),
		T(test_open_fails),
		T(test_rotation),
		T(test_dates),
		T(test_retain),
		T(test_moved),
	};
	return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
