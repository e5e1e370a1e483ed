/* SPDX-License-Identifier: MIT */
/*
 * Tests of storage as a checkpointer of positions: each event of a resumable source is in the files once,
 * whatever happens. Syncs and writes can be made to fail, and the process to die, at any step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "plugins/storage/storage.h"
#include <semstreams/test-host.h>

/* ---- the world the plugin sees: these take the place of the C library's ---- */

static struct {
	_Atomic int steps, die_at; /* at this step the process is gone; 0 = never */
	_Atomic int data_syncs, record_syncs;
	_Atomic int fail_data, fail_record; /* how many of the next syncs fail */
	_Atomic long room; /* bytes that can still be written to new blocks; -1 = any number */
	_Atomic int hold;  /* syncs of data wait */
	time_t later;      /* seconds that the clock is ahead */
} world = {.room = -1};

time_t time(time_t *out)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += world.later;
	if (out)
		*out = ts.tv_sec;
	return ts.tv_sec;
}

static void step(void)
{
	if (++world.steps == world.die_at)
		kill(getpid(), SIGKILL);
}

static bool is_record(int fd)
{
	char link[64], name[256];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, name, sizeof name - 1);
	name[n > 0 ? n : 0] = '\0';
	return n > 7 && strcmp(name + n - 7, ".commit") == 0;
}

static bool take(_Atomic int *n)
{
	return *n > 0 && (*n)-- > 0;
}

int fdatasync(int fd)
{
	bool record = is_record(fd);
	step();
	while (!record && world.hold)
		poll(NULL, 0, 1);
	(*(record ? &world.record_syncs : &world.data_syncs))++;
	if (take(record ? &world.fail_record : &world.fail_data)) {
		errno = EIO;
		return -1;
	}
	int rc = (int)syscall(SYS_fdatasync, fd);
	step();
	return rc;
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	step();
	struct stat st;
	if (world.room >= 0 && fstat(fd, &st) == 0 && at + (off_t)n > st.st_size) {
		errno = ENOSPC;
		return -1;
	}
	ssize_t rc = syscall(SYS_pwrite64, fd, p, n, at);
	step();
	return rc;
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	step();
	if (world.room == 0) {
		errno = ENOSPC;
		return -1;
	}
	ssize_t rc = syscall(SYS_writev, fd, iov, n);
	step();
	return rc;
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
	step();
	int rc = (int)syscall(SYS_renameat2, a, from, b, to, flags);
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

int fsync(int fd)
{
	step();
	int rc = (int)syscall(SYS_fsync, fd);
	step();
	return rc;
}

/* ---- fixture ---- */

/* Also in children, of which cmocka knows nothing. */
#define need(cond)                                                                                           \
	do {                                                                                                 \
		if (!(cond)) {                                                                               \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                           \
			abort();                                                                             \
		}                                                                                            \
	} while (0)

enum { BATCHES = 4096 };

struct fixture {
	struct ss_test_host host;
	struct storage_conf conf;
	char dir[64], path[128], record[128];
	struct ss_batch *batches[BATCHES];
	int n;
};

static const struct ss_component *desc(void)
{
	return semstreams_entry_v1.components[0];
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	const char *tmp = getenv("TMPDIR");
	snprintf(f->dir, sizeof f->dir, "%.40s/commit.XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof f->path, "%s/data.jsonl", f->dir);
	snprintf(f->record, sizeof f->record, "%s/.test.commit", f->dir);
	f->conf = (struct storage_conf){
		.path = f->path,
		.mode = "0640",
		.sync_interval = 1000000000,
		.max_line = 16 << 20,
		.write_buffer = 256 << 10,
		.max_pending = 64 << 20,
	};
	memset(&world, 0, sizeof world);
	world.room = -1;
	*state = f;
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* Stop and destroy the instance. */
static void end(struct fixture *f)
{
	world.hold = 0;
	if (f->host.self)
		desc()->stop(f->host.self);
	for (int i = 0; i < f->n; i++)
		f->host.host.batch_unref(f->batches[i]);
	f->n = 0;
	ss_test_host_done(&f->host);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	end(f);
	nftw(f->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

static int try_start(struct fixture *f)
{
	bool none = f->host.no_positions;
	ss_test_host_init(&f->host, desc());
	f->host.no_positions = none;
	need(ss_test_host_create(&f->host, &f->conf) == 0);
	return desc()->start(f->host.self);
}

static void start(struct fixture *f)
{
	int rc = try_start(f);
	if (rc != 0)
		fprintf(stderr, "%s", f->host.log);
	need(rc == 0);
}

#define await(f, cond)                                                                                       \
	do {                                                                                                 \
		for (int tries_ = 0; !(cond) && tries_ < 3000; tries_++)                                     \
			ss_test_host_run(&(f)->host, 5);                                                     \
		need(cond);                                                                                  \
	} while (0)

static int64_t metric(const struct fixture *f, uint32_t row)
{
	return __atomic_load_n(&f->host.metrics[row], __ATOMIC_ACQUIRE);
}

static bool logged(struct fixture *f, const char *text)
{
	return strstr(f->host.log, text) != NULL;
}

static void drain(struct fixture *f)
{
	uint32_t before = f->host.n_drained;
	if (desc()->drain(f->host.self) == SS_BUSY)
		await(f, f->host.n_drained > before);
	ss_test_host_advance(&f->host, 10000000); /* the next commit need not wait for its time */
}

/* Events first.. of a source: "a1", "a2", ...; without a source they have no position. */
static struct ss_batch *batch(struct fixture *f, const char *source, uint8_t epoch, uint64_t first,
			      uint32_t n)
{
	char texts[256][24];
	const char *text[256] = {0};
	need(n <= 256);
	for (uint32_t i = 0; i < n; i++) {
		snprintf(texts[i], sizeof texts[i], "%s%llu", source ? source : "plain",
			 (unsigned long long)(first + i));
		text[i] = texts[i];
	}
	struct ss_batch *b = ss_test_host_batch(&f->host, text, n);
	for (uint32_t i = 0; i < n; i++)
		b->events[i].seq = source ? first + i : 0;
	if (source) {
		const struct ss_position at = {.epoch = {epoch}, .seq = first + n - 1};
		ss_test_host_track(&f->host, b, source, &at);
	}
	return b;
}

static int push_on(struct fixture *f, uint32_t port, struct ss_batch *b)
{
	need(f->n < BATCHES);
	f->batches[f->n++] = b;
	int rc = ss_test_host_process(&f->host, port, b);
	need(rc == SS_DONE || rc == SS_KEPT || rc == SS_BUSY);
	return rc;
}

static int push(struct fixture *f, const char *source, uint64_t first, uint32_t n)
{
	return push_on(f, 0, batch(f, source, 1, first, n));
}

/* Let scene run in a process that is killed at its end, or at a step of it. */
static void crash_after(struct fixture *f, void (*scene)(struct fixture *))
{
	int status;
	fflush(NULL);
	pid_t pid = fork();
	need(pid >= 0);
	if (pid == 0) {
		alarm(60);
		scene(f);
		raise(SIGKILL);
	}
	need(waitpid(pid, &status, 0) == pid);
	need(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* A file's content, NUL added; "" if there is none. */
static char *slurp(const char *path)
{
	FILE *in = fopen(path, "re");
	char *buf = NULL;
	size_t size = 0;
	FILE *mem = open_memstream(&buf, &size);
	need(mem);
	for (int c; in && (c = getc(in)) != EOF;)
		putc(c, mem);
	if (in)
		fclose(in);
	fclose(mem);
	return buf;
}

static void assert_file(const char *path, const char *expected)
{
	char *got = slurp(path);
	assert_string_equal(got, expected);
	free(got);
}

static void put_file(const char *path, const char *text)
{
	FILE *out = fopen(path, "we");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
}

static int is_data(const struct dirent *e)
{
	return strncmp(e->d_name, "data", 4) == 0;
}

/* All data files of the folder, in order of their names, the current one last; malloced. */
static char *all_data(const struct fixture *f)
{
	struct dirent **names;
	char path[400], *buf = NULL;
	size_t size = 0;
	FILE *mem = open_memstream(&buf, &size);
	int n = scandir(f->dir, &names, is_data, alphasort);
	need(mem && n >= 0);
	for (int i = 0; i <= n; i++) {
		bool current = i < n && strcmp(names[i]->d_name, "data.jsonl") == 0;
		if (i < n && !current)
			snprintf(path, sizeof path, "%s/%s", f->dir, names[i]->d_name);
		else
			snprintf(path, sizeof path, "%s", f->path);
		char *text = current ? strdup("") : slurp(path);
		fputs(text, mem);
		free(text);
	}
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	fclose(mem);
	return buf;
}

/* The kept position of a source on a port; -1 = none. */
static int64_t kept_seq(const struct fixture *f, uint32_t port, const char *source)
{
	for (uint32_t i = 0; i < f->host.n_kept; i++)
		if (f->host.kept[i].port == port && strcmp(f->host.kept[i].source, source) == 0)
			return (int64_t)f->host.kept[i].position.seq;
	return -1;
}

/* ---- what is kept, what is dropped ---- */

static void test_plain_makes_no_record(void **state)
{
	struct fixture *f = *state;
	start(f);
	assert_true(f->host.checkpointer);
	push(f, NULL, 1, 2);
	drain(f);
	int syncs = world.data_syncs;
	push(f, NULL, 3, 1);
	drain(f);
	assert_int_equal(world.data_syncs, syncs + 1);
	assert_int_equal(world.record_syncs, 0);
	assert_int_equal(access(f->record, F_OK), -1);
	assert_file(f->path, "plain1\nplain2\nplain3\n");
}

static void test_kept_and_told(void **state)
{
	struct fixture *f = *state;
	start(f);
	assert_int_equal(f->host.n_kept, 0);
	push(f, "a", 1, 3);
	push_on(f, 1, batch(f, "a", 1, 1, 2));
	push_on(f, 1, batch(f, "b", 7, 100, 5));
	drain(f);
	assert_int_equal(f->host.n_finished, 3);
	struct stat st;
	assert_int_equal(stat(f->record, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	end(f);
	start(f);
	assert_true(f->host.checkpointer);
	assert_int_equal(f->host.n_kept, 3);
	assert_int_equal(kept_seq(f, 0, "a"), 3);
	assert_int_equal(kept_seq(f, 1, "a"), 2);
	assert_int_equal(kept_seq(f, 1, "b"), 104);
	assert_int_equal(f->host.kept[2].position.epoch[0], 7);
	assert_int_equal(metric(f, METRIC_CUT), 0);
	assert_file(f->path, "a1\na2\na3\na1\na2\nb100\nb101\nb102\nb103\nb104\n");
}

static void test_duplicates(void **state)
{
	struct fixture *f = *state;
	start(f);
	push(f, "a", 1, 5);
	push(f, "a", 3, 5);                    /* overlaps what is not even committed */
	push(f, "a", 2, 2);                    /* old as a whole */
	push_on(f, 1, batch(f, "a", 1, 4, 2)); /* another way: not the same */
	push(f, "b", 1, 2);
	drain(f);
	assert_file(f->path, "a1\na2\na3\na4\na5\na6\na7\na4\na5\nb1\nb2\n");
	assert_int_equal(f->host.duplicates, 5);
	assert_int_equal(f->host.n_finished, 4); /* one batch had nothing new */
	end(f);
	start(f);
	push(f, "a", 6, 4);
	push_on(f, 0, batch(f, "a", 2, 6, 1)); /* another epoch begins anew */
	push_on(f, 0, batch(f, "a", 2, 6, 2));
	drain(f);
	assert_int_equal(f->host.duplicates, 3);
	char *got = slurp(f->path);
	assert_string_equal(strstr(got, "b2\n"), "b2\na8\na9\na6\na7\n");
	free(got);
	end(f);
	start(f);
	assert_int_equal(f->host.n_kept, 3);
	assert_int_equal(kept_seq(f, 0, "a"), 7);
	assert_int_equal(f->host.kept[0].position.epoch[0], 2);
}

/* Rows that a processor picked, rows it made itself, several from one event. */
static void test_rows(void **state)
{
	struct fixture *f = *state;
	start(f);
	push(f, "a", 1, 4);
	struct ss_batch *b = batch(f, "a", 1, 1, 8);
	const uint64_t seqs[8] = {5, 2, 0, 6, 4, 7, 7, 0};
	for (int i = 0; i < 8; i++)
		b->events[i].seq = seqs[i];
	push_on(f, 0, b);
	drain(f);
	assert_file(f->path, "a1\na2\na3\na4\na1\na3\na4\na6\na7\na8\n");
	assert_int_equal(f->host.duplicates, 2);
	end(f);
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 7); /* not 8: that may be in a batch to come */
}

static void test_names(void **state)
{
	struct fixture *f = *state;
	char path[160];
	const struct {
		const char *name, *error;
	} cases[] = {{".test.commit", "commit record"},
		     {".{component}.commit", "commit record"},
		     {".test.commit/%Y", NULL},
		     {".other.commit", NULL},
		     {"sub/.test.commit", "commit record"},
		     {"%Y/.test.commit", NULL}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		snprintf(path, sizeof path, "%s/%s", f->dir, cases[i].name);
		f->conf.path = path;
		ss_test_host_init(&f->host, desc());
		int rc = ss_test_host_create(&f->host, &f->conf);
		assert_int_equal(rc, cases[i].error ? -EINVAL : 0);
		if (cases[i].error)
			assert_non_null(strstr(f->host.errors, cases[i].error));
		ss_test_host_done(&f->host);
	}
}

/* Thousands of streams fit into a record. */
static void test_many_streams(void **state)
{
	enum { STREAMS_MANY = 3000 };
	struct fixture *f = *state;
	static char names[STREAMS_MANY][16];
	start(f);
	for (int i = 0; i < STREAMS_MANY; i++) {
		snprintf(names[i], sizeof names[i], "s%d", i);
		push(f, names[i], 1, 1);
	}
	drain(f);
	assert_int_equal(f->host.n_finished, STREAMS_MANY);
	end(f);
	struct commit *c;
	struct commit_found found;
	struct path p;
	char why[WHY_MAX];
	assert_int_equal(path_parse(&p, f->path, "test", why), 0);
	assert_int_equal(commit_open(&c, &p, "test", false, &found, why), 0);
	assert_true(found.records[0].snapshot_len > (size_t)STREAMS_MANY * 34);
	commit_found_done(&found);
	commit_close(c);
	path_done(&p);
}

/* ---- crashes ---- */

/* a1 to a3 are committed; a4, a5 are in the file when it ends. */
static void scene_uncommitted(struct fixture *f)
{
	start(f);
	push(f, "a", 1, 3);
	drain(f);
	world.hold = 1;
	push(f, "a", 4, 2);
	desc()->idle(f->host.self);
}

static void test_cut(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_uncommitted);
	assert_file(f->path, "a1\na2\na3\na4\na5\n");
	start(f);
	assert_file(f->path, "a1\na2\na3\n");
	assert_int_equal(kept_seq(f, 0, "a"), 3);
	assert_int_equal(metric(f, METRIC_CUT), 1);
	assert_int_equal(metric(f, METRIC_REPAIRED), 0);
	assert_true(logged(f, "bytes=6"));
	push(f, "a", 2, 5);
	drain(f);
	assert_file(f->path, "a1\na2\na3\na4\na5\na6\n");
}

/* logrotate was there just before. */
static void test_cut_moved(void **state)
{
	struct fixture *f = *state;
	char other[160];
	snprintf(other, sizeof other, "%s.1", f->path);
	crash_after(f, scene_uncommitted);
	assert_int_equal(rename(f->path, other), 0);
	start(f);
	assert_file(other, "a1\na2\na3\n");
	assert_int_equal(kept_seq(f, 0, "a"), 3);
	push(f, "a", 4, 2);
	drain(f);
	assert_file(f->path, "a4\na5\n");
}

/* Another file of the name is none of ours to cut; positions are what they were. */
static void test_not_ours(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_uncommitted);
	assert_int_equal(unlink(f->path), 0);
	put_file(f->path, "restored from somewhere\nas it was\n");
	start(f);
	assert_file(f->path, "restored from somewhere\nas it was\n");
	assert_int_equal(kept_seq(f, 0, "a"), 3);
	end(f);
	assert_int_equal(unlink(f->path), 0);
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 3);
}

/* Lines without a position are acknowledged as well: never cut, whoever's they are between. */
static void scene_mixed(struct fixture *f)
{
	start(f);
	push(f, "a", 1, 2);
	push(f, NULL, 1, 2);
	push(f, "a", 3, 1);
	drain(f);
	push(f, NULL, 3, 1);
	drain(f);
}

static void scene_plain(struct fixture *f)
{
	start(f);
	push(f, NULL, 4, 1);
	drain(f);
	int records = world.record_syncs;
	push(f, NULL, 5, 1);
	drain(f);
	need(world.record_syncs == records);
}

static void test_mixed(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_mixed);
	start(f);
	assert_file(f->path, "a1\na2\nplain1\nplain2\na3\nplain3\n");
	end(f);
	/* the source is gone from the configuration; positions stay */
	crash_after(f, scene_plain);
	crash_after(f, scene_plain);
	start(f);
	assert_file(f->path, "a1\na2\nplain1\nplain2\na3\nplain3\nplain4\nplain5\nplain4\nplain5\n");
	assert_int_equal(kept_seq(f, 0, "a"), 3);
	/* and it comes back */
	push(f, "a", 3, 2);
	drain(f);
	end(f);
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 4);
	assert_int_equal(metric(f, METRIC_CUT), 0);
}

/* Without "always" or "interval" nothing is kept any more, and what was must not mislead anybody later. */
static void test_relaxed(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_uncommitted);
	f->conf.sync = SYNC_RELAXED;
	start(f);
	assert_false(f->host.checkpointer);
	assert_file(f->path, "a1\na2\na3\n");
	assert_int_equal(access(f->record, F_OK), -1);
	push(f, "a", 4, 1);
	drain(f);
	end(f);
	f->conf.sync = SYNC_ALWAYS;
	start(f);
	assert_int_equal(f->host.n_kept, 0);
	assert_file(f->path, "a1\na2\na3\na4\n");
}

static void test_host_without_positions(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_uncommitted);
	f->host.no_positions = true;
	start(f);
	assert_int_equal(access(f->record, F_OK), -1);
	push(f, "a", 4, 1);
	drain(f);
	assert_file(f->path, "a1\na2\na3\na4\n");
	f->host.no_positions = false;
}

static void scene_interval(struct fixture *f)
{
	f->conf.sync = SYNC_INTERVAL;
	start(f);
	push(f, "a", 1, 2);
	await(f, f->host.n_finished == 1);
	push(f, "a", 3, 2);
	desc()->idle(f->host.self);
	char *text = slurp(f->path);
	need(strcmp(text, "a1\na2\na3\na4\n") == 0);
	free(text);
}

static void test_interval(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_interval);
	start(f);
	assert_file(f->path, "a1\na2\n");
	assert_int_equal(kept_seq(f, 0, "a"), 2);
}

/* ---- the record ---- */

static void flip(const char *path, off_t at)
{
	uint8_t c;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 0x10;
	assert_int_equal(syscall(SYS_pwrite64, fd, &c, 1, at), 1);
	close(fd);
}

static void scene_two_commits(struct fixture *f)
{
	start(f);
	for (int i = 0; i < 4; i++) {
		push(f, "a", (uint64_t)i + 1, 1);
		drain(f);
	}
}

/* Who empties the file does not want it to come again. */
static void test_emptied(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_two_commits);
	assert_int_equal(truncate(f->path, 0), 0);
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 4);
	push(f, "a", 1, 5);
	drain(f);
	assert_file(f->path, "a5\n");
}

enum { SLOT_SIZE = 1 << 20 };

/* Offset of the slot that was written last. */
static off_t newest_slot(const struct fixture *f)
{
	uint64_t generation[2];
	int fd = open(f->record, O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pread(fd, &generation[i], 8, i * (off_t)SLOT_SIZE + 8), 8);
	close(fd);
	return generation[1] > generation[0] ? SLOT_SIZE : 0;
}

/* Each byte of the newer slot damaged in turn: what it committed may have been acknowledged, so the file
 * stays whole, and that is said.  In the older one: nothing is in doubt. */
static void test_damaged(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_two_commits);
	off_t newest = newest_slot(f);
	for (off_t at = 0; at < 200; at++) {
		for (int newer = 0; newer < 2; newer++) {
			off_t slot = newer ? newest : SLOT_SIZE - newest;
			struct commit *c;
			struct commit_found found;
			char why[WHY_MAX];
			struct path p;
			flip(f->record, slot + at);
			assert_int_equal(path_parse(&p, f->path, "test", why), 0);
			assert_int_equal(commit_open(&c, &p, "test", false, &found, why), 0);
			if (found.n ==
			    2) { /* a byte behind the record, or one of a head, which is there twice */
				assert_false(found.doubt);
			} else {
				assert_int_equal(found.n, 1);
				assert_int_equal(found.doubt, newer);
			}
			commit_found_done(&found);
			commit_close(c);
			path_done(&p);
			flip(f->record, slot + at);
		}
	}
	/* both slots: nothing is known */
	flip(f->record, 100);
	flip(f->record, SLOT_SIZE + 100);
	start(f);
	assert_true(logged(f, "commit record is damaged, no copy"));
	assert_int_equal(f->host.n_kept, 0);
	assert_file(f->path, "a1\na2\na3\na4\n");
	push(f, "a", 5, 1);
	drain(f);
	end(f);
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 5);
	assert_false(logged(f, "damaged"));
}

/* The newer slot is spoilt: its lines were acknowledged and will not come again, so they must stay. */
static void test_newest_damaged(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_two_commits);
	flip(f->record, newest_slot(f) + 100);
	start(f);
	assert_file(f->path, "a1\na2\na3\na4\n");
	assert_int_equal(kept_seq(f, 0, "a"), 3);
	assert_true(logged(f, "an older copy of it counts: nothing is truncated"));
	assert_int_equal(metric(f, METRIC_CUT), 0);
	assert_int_equal(metric(f, METRIC_COMMIT_ERRORS), 1);
	push(f, "a", 5, 1);
	drain(f);
	end(f);
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 5);
	assert_file(f->path, "a1\na2\na3\na4\na5\n");
	assert_false(logged(f, "damaged"));
}

/* After a clean end both slots say the same: either may be spoilt. */
static void test_damaged_after_a_clean_end(void **state)
{
	struct fixture *f = *state;
	start(f);
	for (uint64_t i = 1; i <= 4; i++) {
		push(f, "a", i, 1);
		drain(f);
	}
	end(f);
	for (int i = 0; i < 2; i++) {
		flip(f->record, i * (off_t)SLOT_SIZE + 100);
		start(f);
		assert_int_equal(kept_seq(f, 0, "a"), 4);
		assert_false(logged(f, "damaged"));
		end(f);
		flip(f->record, i * (off_t)SLOT_SIZE + 100);
	}
}

static void test_empty_and_short(void **state)
{
	struct fixture *f = *state;
	put_file(f->record, "");
	start(f);
	assert_false(logged(f, "damaged"));
	end(f);
	put_file(f->record, "ssrec");
	start(f);
	assert_true(logged(f, "damaged"));
	push(f, "a", 1, 1);
	drain(f);
	end(f);
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 1);
	end(f);
	unlink(f->record);
	assert_int_equal(symlink("/etc/passwd", f->record), 0);
	assert_true(try_start(f) < 0);
	assert_true(logged(f, "commit record"));
	assert_true(logged(f, "symbolic link"));
}

static void test_locked(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_two_commits);
	int fd = open(f->record, O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_true(try_start(f) < 0);
	assert_true(logged(f, "in use by another"));
	end(f);
	close(fd);
	start(f);
}

/* ---- trouble ---- */

/* The record cannot be written: nothing is acknowledged, nothing is lost or doubled, and it goes on by
 * itself. */
static void test_commit_fails(void **state)
{
	struct fixture *f = *state;
	start(f);
	push(f, "a", 1, 2);
	drain(f);
	world.fail_record = 2;
	push(f, "a", 3, 2);
	await(f, metric(f, METRIC_COMMIT_ERRORS) == 1);
	assert_int_equal(f->host.n_finished, 1);
	assert_int_equal(metric(f, METRIC_BLOCKED), 1);
	assert_non_null(strstr(f->host.unready, "cannot commit"));
	assert_int_equal(push(f, "a", 5, 1), SS_BUSY);
	ss_test_host_advance(&f->host, 1000000000);
	await(f, metric(f, METRIC_COMMIT_ERRORS) == 2);
	assert_int_equal(metric(f, METRIC_BLOCKED), 1);
	ss_test_host_advance(&f->host, 2000000000);
	await(f, metric(f, METRIC_BLOCKED) == 0);
	assert_int_equal(f->host.n_finished, 2);
	assert_int_equal(f->host.n_input_ready, 1);
	assert_int_equal(ss_test_host_process(&f->host, 0, f->batches[2]), SS_KEPT);
	drain(f);
	assert_file(f->path, "a1\na2\na3\na4\na5\n");
	end(f);
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 5);
}

/* A sync of the data fails: what was not committed is cut off and written again, positions go back with it.
 */
static void test_sync_fails(void **state)
{
	struct fixture *f = *state;
	start(f);
	push(f, "a", 1, 2);
	drain(f);
	world.fail_data = 1;
	push(f, "a", 2, 3);
	await(f, metric(f, METRIC_SYNC_ERRORS) == 1);
	ss_test_host_advance(&f->host, 1000000000);
	await(f, metric(f, METRIC_BLOCKED) == 0);
	drain(f);
	assert_file(f->path, "a1\na2\na3\na4\n");
	assert_int_equal(f->host.duplicates, 1);
	assert_int_equal(f->host.n_finished, 2);
	end(f);
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 4);
}

/* A record got to the disk though its sync said no; then the data is cut back, and the crash comes: the
 * record is ahead. */
static void scene_ahead(struct fixture *f)
{
	start(f);
	push(f, "a", 1, 2);
	drain(f);
	world.fail_record = 1;
	push(f, "a", 3, 2);
	await(f, metric(f, METRIC_COMMIT_ERRORS) == 1);
	world.fail_data = 1;
	ss_test_host_advance(&f->host, 1000000000);
	await(f, metric(f, METRIC_SYNC_ERRORS) == 1);
	world.room = 0;
	ss_test_host_advance(&f->host, 10000000000);
	char *text = slurp(f->path);
	need(strcmp(text, "a1\na2\n") == 0);
	free(text);
}

static void test_record_ahead(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_ahead);
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 2);
	push(f, "a", 3, 2);
	drain(f);
	assert_file(f->path, "a1\na2\na3\na4\n");
	end(f);
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 4);
}

static void test_full_disk(void **state)
{
	struct fixture *f = *state;
	start(f);
	push(f, NULL, 1, 1);
	drain(f);
	world.room = 0; /* not even the record can be made */
	push(f, "a", 1, 2);
	await(f, metric(f, METRIC_BLOCKED) == 1);
	assert_true(logged(f, "No space left"));
	assert_int_equal(access(f->record, F_OK), -1);
	assert_int_equal(push(f, "a", 3, 1), SS_BUSY);
	world.room = -1;
	ss_test_host_advance(&f->host, 1000000000);
	await(f, metric(f, METRIC_BLOCKED) == 0 && f->host.n_input_ready == 1);
	assert_int_equal(ss_test_host_process(&f->host, 0, f->batches[2]), SS_KEPT);
	drain(f);
	world.room = 0; /* once it is there, it needs none */
	push(f, "a", 4, 1);
	await(f, metric(f, METRIC_BLOCKED) == 1);
	world.room = -1;
	ss_test_host_advance(&f->host, 1000000000);
	await(f, metric(f, METRIC_BLOCKED) == 0);
	drain(f);
	assert_file(f->path, "plain1\na1\na2\na3\na4\n");
	end(f);
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 4);
}

/* A disk that does not answer is reported after 5 s, with how long the oldest event has been waiting. */
static void test_stalled_disk(void **state)
{
	struct fixture *f = *state;
	start(f);
	world.hold = 1;
	push(f, "a", 1, 2);
	desc()->idle(f->host.self);
	for (int i = 0; i < 700 && !f->host.degraded[0]; i++)
		ss_test_host_run(&f->host, 10);
	assert_non_null(strstr(f->host.degraded, "to disk has taken 5 s so far"));
	assert_true(logged(f, "WARN Syncing to disk takes longer than 5 s"));
	assert_int_equal(metric(f, METRIC_STALLS), 1);
	assert_in_range(metric(f, METRIC_OLDEST_UNSYNCED), 5, 8);
	world.hold = 0;
	await(f, f->host.n_finished == 1 && !f->host.degraded[0]);
	assert_true(logged(f, "The disk answers again"));
	ss_test_host_advance(&f->host, 1000000000);
	assert_int_equal(metric(f, METRIC_OLDEST_UNSYNCED), 0);
}

/* ---- rotation ---- */

static void scene_rotation(struct fixture *f)
{
	f->conf.rotate_size = 10;
	start(f);
	world.hold = 1;
	for (int i = 0; i < 40; i++)
		push(f, "a", 10 + (uint64_t)i, 1);
	desc()->idle(f->host.self);
	need(f->host.n_finished == 0);
	world.hold = 0;
	await(f, f->host.n_finished == 40);
	world.hold = 1;
	push(f, "a", 50, 1);
	desc()->idle(f->host.self);
}

static void test_rotation(void **state)
{
	struct fixture *f = *state;
	char expected[512] = "";
	crash_after(f, scene_rotation);
	f->conf.rotate_size = 10;
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 49);
	push(f, "a", 48, 3);
	drain(f);
	char *got = all_data(f);
	for (int i = 10; i <= 50; i++)
		snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "a%d\n", i);
	assert_string_equal(got, expected);
	free(got);
}

/* A rotation by age waits until all is committed, even if there is always more. */
static void test_rotation_by_age(void **state)
{
	struct fixture *f = *state;
	f->conf.rotate_age = INT64_C(20) * 1000000000;
	start(f);
	uint64_t n = 0;
	for (int64_t rotations = 1; rotations <= 3; rotations++) {
		world.later += 30;
		while (metric(f, METRIC_ROTATIONS) < rotations && n < 3000) {
			push(f, "a", ++n, 1); /* there is always something that is not committed */
			ss_test_host_advance(&f->host, 1000000000);
			ss_test_host_run(&f->host, 1);
		}
		assert_int_equal(metric(f, METRIC_ROTATIONS), rotations);
	}
	drain(f);
	assert_int_equal(f->host.n_finished, n);
}

/* The file goes away while the disk is full: what it held that was not committed goes to the new one. */
static void test_moved_on_full_disk(void **state)
{
	struct fixture *f = *state;
	char other[160];
	snprintf(other, sizeof other, "%s.1", f->path);
	start(f);
	push(f, "a", 1, 2);
	drain(f);
	world.hold = 1;
	push(f, "a", 3, 1);
	desc()->idle(f->host.self);
	world.room = 0;
	push(f, "a", 4, 1);
	desc()->idle(f->host.self);
	assert_int_equal(metric(f, METRIC_BLOCKED), 1);
	assert_int_equal(rename(f->path, other), 0);
	world.fail_data = 1;
	world.hold = 0;
	await(f, metric(f, METRIC_SYNC_ERRORS) == 1);
	world.room = -1;
	for (int i = 0; i < 4 && metric(f, METRIC_BLOCKED); i++) {
		ss_test_host_advance(&f->host, 10000000000);
		ss_test_host_run(&f->host, 50);
	}
	await(f, metric(f, METRIC_BLOCKED) == 0);
	drain(f);
	assert_file(other, "a1\na2\n");
	assert_file(f->path, "a3\na4\n");
	end(f);
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 4);
}

/* The same, and the crash comes when the record has moved to the new file, which is empty. */
static void scene_gone_back(struct fixture *f)
{
	char other[160];
	snprintf(other, sizeof other, "%s.1", f->path);
	start(f);
	push(f, "a", 1, 2);
	drain(f);
	world.hold = 1;
	push(f, "a", 3, 1);
	desc()->idle(f->host.self);
	need(rename(f->path, other) == 0);
	world.fail_data = 1;
	world.hold = 0;
	await(f, metric(f, METRIC_SYNC_ERRORS) == 1);
	world.room = 0;
	ss_test_host_advance(&f->host, 10000000000);
	await(f, metric(f, METRIC_WRITE_ERRORS) > 0);
	char *text = slurp(f->path);
	need(text[0] == '\0');
	free(text);
}

static void test_positions_go_back(void **state)
{
	struct fixture *f = *state;
	crash_after(f, scene_gone_back);
	start(f);
	assert_int_equal(kept_seq(f, 0, "a"), 2);
	push(f, "a", 3, 1);
	drain(f);
	assert_file(f->path, "a3\n");
}

/* ---- killed at any moment ---- */

enum { STREAMS = 2 };
#define EPOCH UINT64_C(1000000000000)
static const char *const sources[STREAMS] = {"a", "b"};

/* What the sources know, as their log on disk would: shared with the children. */
struct senders {
	_Atomic uint64_t acked[STREAMS];
	_Atomic uint64_t finish; /* 0 = send for ever */
	_Atomic uint8_t epoch[STREAMS];
	_Atomic unsigned seed;
};
static struct senders *senders;

/* Events carry their sequence; another epoch goes on with the numbers in the text, its sequences begin anew.
 */
static uint64_t base_of(uint8_t epoch)
{
	return (epoch - 1) * EPOCH;
}

static struct ss_batch *numbered(struct fixture *f, int i, uint64_t first, uint32_t n)
{
	uint8_t epoch = senders->epoch[i];
	struct ss_batch *b = batch(f, sources[i], epoch, base_of(epoch) + first, n);
	for (uint32_t k = 0; k < n; k++)
		b->events[k].seq = first + k;
	return b;
}

/* Where a source goes on: what it gets asked for must not be acknowledged already. */
static uint64_t go_on(struct fixture *f, int i)
{
	for (uint32_t k = 0; k < f->host.n_kept; k++) {
		if (f->host.kept[k].port != (uint32_t)i || strcmp(f->host.kept[k].source, sources[i]) != 0 ||
		    f->host.kept[k].position.epoch[0] != senders->epoch[i])
			continue;
		need(f->host.kept[k].position.seq >= senders->acked[i]);
		return f->host.kept[k].position.seq + 1;
	}
	need(senders->acked[i] == 0);
	return 1;
}

static void take_acks(struct fixture *f)
{
	for (uint32_t k = 0; k < f->host.n_finished; k++) {
		const struct ss_batch *b = f->host.finished[k].batch;
		const struct ss_event *last = &b->events[b->count - 1];
		int i = last->data[0] == 'b';
		need(f->host.finished[k].status == SS_DELIVERED);
		if (last->seq > senders->acked[i])
			senders->acked[i] = last->seq;
	}
	f->host.n_finished = 0;
}

/* Both sources send, again and again overlapping what was sent, until both have sent finish. */
static void scene_stream(struct fixture *f)
{
	uint64_t next[STREAMS];
	unsigned seed = senders->seed;
	start(f);
	for (int i = 0; i < STREAMS; i++)
		next[i] = go_on(f, i);
	uint64_t finish = senders->finish;
	while (!finish || next[0] <= finish || next[1] <= finish) {
		int i = rand_r(&seed) & 1;
		uint32_t n = 1 + (uint32_t)rand_r(&seed) % 40;
		uint64_t first = next[i];
		if (rand_r(&seed) % 4 == 0)
			first -= first > 10 ? (uint64_t)(rand_r(&seed) % 10) : 0;
		if (finish && first > finish)
			continue;
		if (finish && first + n - 1 > finish)
			n = (uint32_t)(finish - first + 1);
		need(push_on(f, (uint32_t)i, numbered(f, i, first, n)) != SS_BUSY);
		if (first + n > next[i])
			next[i] = first + n;
		if (rand_r(&seed) % 3 == 0)
			ss_test_host_run(&f->host, 0);
		take_acks(f);
		if (f->n > BATCHES - 2) { /* all that is done is free */
			drain(f);
			take_acks(f);
			for (int k = 0; k < f->n; k++)
				f->host.host.batch_unref(f->batches[k]);
			f->n = 0;
		}
	}
	drain(f);
	take_acks(f);
}

/* Each number of each source once, in order. */
static void assert_once(struct fixture *f, const uint64_t last[STREAMS])
{
	char *all = all_data(f), *at = all;
	uint64_t seen[STREAMS] = {0};
	while (*at) {
		int i = *at == 'b';
		uint64_t n = strtoull(at + 1, &at, 10);
		need(*at++ == '\n');
		if (n / EPOCH != seen[i] / EPOCH)
			seen[i] = n / EPOCH * EPOCH;
		if (n != seen[i] + 1)
			fail_msg("%s%llu after %llu", sources[i], (unsigned long long)n,
				 (unsigned long long)seen[i]);
		seen[i] = n;
	}
	for (int i = 0; i < STREAMS; i++)
		assert_int_equal(seen[i], last[i]);
	free(all);
}

static void begin_streams(struct fixture *f)
{
	senders = mmap(NULL, sizeof *senders, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(senders != MAP_FAILED);
	for (int i = 0; i < STREAMS; i++)
		senders->epoch[i] = 1;
	f->conf.rotate_size = 20000;
}

static void end_streams(struct fixture *f)
{
	uint64_t last[STREAMS];
	/* beyond all that was sent, acknowledged or not */
	senders->finish =
		(senders->acked[0] > senders->acked[1] ? senders->acked[0] : senders->acked[1]) + 100000;
	crash_after(f, scene_stream);
	for (int i = 0; i < STREAMS; i++)
		last[i] = base_of(senders->epoch[i]) + senders->finish;
	assert_once(f, last);
	munmap(senders, sizeof *senders);
}

/* Before and after each call that changes a file, from the first to one far into the stream. */
static void test_killed_at_each_step(void **state)
{
	struct fixture *f = *state;
	begin_streams(f);
	for (int at = 1; at < 150; at++) {
		senders->seed = (unsigned)at;
		world.die_at = at;
		crash_after(f, scene_stream);
	}
	world.die_at = 0;
	end_streams(f);
}

static void kill_at_random(struct fixture *f, unsigned *seed)
{
	int status;
	senders->seed = (unsigned)rand_r(seed);
	long us = rand_r(seed) % 20000;
	fflush(NULL);
	pid_t pid = fork();
	need(pid >= 0);
	if (pid == 0) {
		alarm(60);
		scene_stream(f);
		abort();
	}
	const struct timespec wait = {.tv_nsec = us * 1000};
	ppoll(NULL, 0, &wait, NULL);
	kill(pid, SIGKILL);
	need(waitpid(pid, &status, 0) == pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("the child ended by itself: %d", status);
}

static void test_killed_at_random(void **state)
{
	struct fixture *f = *state;
	unsigned seed = 1;
	begin_streams(f);
	for (int i = 0; i < 300; i++) {
		kill_at_random(f, &seed);
		/* one of the senders loses its log, and starts another with what was not acknowledged */
		if (i == 150) {
			senders->epoch[1] = 2;
			senders->acked[1] = 0;
		}
	}
	assert_true(senders->acked[0] > 1000 && senders->acked[1] > 1000);
	end_streams(f);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_plain_makes_no_record),
		T(test_kept_and_told),
		T(test_duplicates),
		T(test_rows),
		T(test_names),
		T(test_many_streams),
		T(test_cut),
		T(test_cut_moved),
		T(test_not_ours),
		T(test_emptied),
		T(test_mixed),
		T(test_relaxed),
		T(test_host_without_positions),
		T(test_interval),
		T(test_damaged),
		T(test_newest_damaged),
		T(test_damaged_after_a_clean_end),
		T(test_empty_and_short),
		T(test_locked),
		T(test_commit_fails),
		T(test_sync_fails),
		T(test_record_ahead),
		T(test_full_disk),
		T(test_stalled_disk),
		T(test_rotation),
		T(test_rotation_by_age),
		T(test_moved_on_full_disk),
		T(test_positions_go_back),
		T(test_killed_at_each_step),
		T(test_killed_at_random),
	};
	return cmocka_run_group_tests_name("commit", tests, NULL, NULL);
}
