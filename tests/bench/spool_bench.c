/* SPDX-License-Identifier: MIT */
/*
 * spool_bench - which store is to carry a sender's log on disk: SQLite (WAL), LMDB, or a bare file of its own
 * as the yardstick.  Batches of 64 records of 100 B go in, one blob per batch or per transaction; old ones
 * are deleted behind.
 *
 *   spool_bench DIR [MILLIONS]   bytes/s, CPU, write amplification and size in DIR
 *   spool_bench --kill DIR       kill -9 of a writer, 50 times: what was told as committed must be there
 *   spool_bench --full DIR       DIR on a small file system: what a full disk does, and after room was made
 *   spool_bench --log DIR        the sender's log as it is, with a consumer that reads and acknowledges
 * everything spool_bench --flip DIR       300 times a damaged byte: does a reader get an error, or die?
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef HAVE_LMDB
#include <lmdb.h>
#endif
#ifdef HAVE_SQLITE3
#include <sqlite3.h>
#endif
#include "plugins/spool/sendlog.h"
#include <semstreams/test-host.h>

enum { RECORDS = 64, RECORD = 100, HEAD = 16, BLOB = RECORDS * (RECORD + HEAD), MAX_BATCHES = 64 };
enum { KEEP = 1024 /* batches */ };

struct bench {
	char dir[512];
	uint64_t limit; /* of the file, bytes */
	bool relaxed;
	bool joined; /* all batches of a transaction in one blob */
	bool grow;   /* delete nothing */
	int page;    /* SQLite's */
#ifdef HAVE_SQLITE3
	sqlite3 *db;
	sqlite3_stmt *put, *del, *last, *begin, *commit, *rollback;
#endif
#ifdef HAVE_LMDB
	MDB_env *env;
	MDB_dbi dbi;
	MDB_txn *txn;
#endif
	int fd;
};

struct store {
	const char *name;
	int page;
	int (*open)(struct bench *);
	int (*begin)(struct bench *);
	int (*put)(struct bench *, uint64_t key, const void *blob, size_t len);
	int (*del)(struct bench *, uint64_t below);
	uint64_t (*count)(struct bench *); /* blobs that can be read */
	int (*commit)(struct bench *);
	void (*rollback)(struct bench *);
	uint64_t (*last)(struct bench *); /* newest key, 0 = empty */
	const char *(*text)(struct bench *, int rc);
	void (*close)(struct bench *);
};

/* ---- SQLite ---- */

#ifdef HAVE_SQLITE3

static int sq_open(struct bench *b)
{
	char sql[512], path[600];

	snprintf(path, sizeof path, "%s/spool.db", b->dir);
	int rc = sqlite3_open_v2(path, &b->db,
				 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc)
		return rc;
	snprintf(sql, sizeof sql,
		 "PRAGMA page_size=%d;PRAGMA journal_mode=WAL;PRAGMA synchronous=%s;"
		 "PRAGMA locking_mode=NORMAL;PRAGMA max_page_count=%llu;PRAGMA wal_autocheckpoint=%d;"
		 "CREATE TABLE IF NOT EXISTS b(k INTEGER PRIMARY KEY, d BLOB NOT NULL)",
		 b->page, b->relaxed ? "NORMAL" : "FULL", (unsigned long long)(b->limit / (uint64_t)b->page),
		 (16 << 20) / b->page);
	rc = sqlite3_exec(b->db, sql, NULL, NULL, NULL);
	if (rc)
		return rc;
	sqlite3_prepare_v2(b->db, "INSERT INTO b VALUES(?,?)", -1, &b->put, NULL);
	sqlite3_prepare_v2(b->db, "DELETE FROM b WHERE k<?", -1, &b->del, NULL);
	sqlite3_prepare_v2(b->db, "SELECT max(k) FROM b", -1, &b->last, NULL);
	sqlite3_prepare_v2(b->db, "BEGIN IMMEDIATE", -1, &b->begin, NULL);
	sqlite3_prepare_v2(b->db, "COMMIT", -1, &b->commit, NULL);
	return sqlite3_prepare_v2(b->db, "ROLLBACK", -1, &b->rollback, NULL);
}

static int sq_run(sqlite3_stmt *s)
{
	int rc = sqlite3_step(s);

	sqlite3_reset(s);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : rc;
}

static int sq_begin(struct bench *b)
{
	return sq_run(b->begin);
}

static int sq_put(struct bench *b, uint64_t key, const void *blob, size_t len)
{
	sqlite3_bind_int64(b->put, 1, (sqlite3_int64)key);
	sqlite3_bind_blob(b->put, 2, blob, (int)len, SQLITE_STATIC);
	return sq_run(b->put);
}

static int sq_del(struct bench *b, uint64_t below)
{
	sqlite3_bind_int64(b->del, 1, (sqlite3_int64)below);
	return sq_run(b->del);
}

static int sq_commit(struct bench *b)
{
	return sq_run(b->commit);
}

static void sq_rollback(struct bench *b)
{
	sq_run(b->rollback);
}

static uint64_t sq_last(struct bench *b)
{
	sqlite3_step(b->last);
	uint64_t k = (uint64_t)sqlite3_column_int64(b->last, 0);
	sqlite3_reset(b->last);
	return k;
}

static uint64_t sq_count(struct bench *b)
{
	sqlite3_stmt *all;
	uint64_t n = 0, sum = 0;

	if (sqlite3_prepare_v2(b->db, "SELECT k, d FROM b ORDER BY k", -1, &all, NULL))
		return 0;
	while (sqlite3_step(all) == SQLITE_ROW) {
		const uint8_t *d = sqlite3_column_blob(all, 1);
		for (int i = 0; d && i < sqlite3_column_bytes(all, 1); i++)
			sum += d[i];
		n++;
	}
	sqlite3_finalize(all);
	return n + (sum & 0);
}

static const char *sq_text(struct bench *b, int rc)
{
	(void)rc;
	return sqlite3_errmsg(b->db);
}

static void sq_close(struct bench *b)
{
	sqlite3_finalize(b->put);
	sqlite3_finalize(b->del);
	sqlite3_finalize(b->last);
	sqlite3_finalize(b->begin);
	sqlite3_finalize(b->commit);
	sqlite3_finalize(b->rollback);
	sqlite3_close(b->db);
}

#endif

/* ---- LMDB ---- */

#ifdef HAVE_LMDB

static int lm_open(struct bench *b)
{
	int rc = mdb_env_create(&b->env);

	if (rc)
		return rc;
	mdb_env_set_mapsize(b->env, b->limit);
	rc = mdb_env_open(b->env, b->dir, b->relaxed ? MDB_NOMETASYNC | MDB_NOSYNC : 0, 0600);
	if (rc)
		return rc;
	rc = mdb_txn_begin(b->env, NULL, 0, &b->txn);
	if (rc)
		return rc;
	rc = mdb_dbi_open(b->txn, NULL, MDB_INTEGERKEY | MDB_CREATE, &b->dbi);
	return rc ? rc : mdb_txn_commit(b->txn);
}

static int lm_begin(struct bench *b)
{
	return mdb_txn_begin(b->env, NULL, 0, &b->txn);
}

static int lm_put(struct bench *b, uint64_t key, const void *blob, size_t len)
{
	MDB_val k = {sizeof key, &key}, v = {len, NULL};
	int rc = mdb_put(b->txn, b->dbi, &k, &v, MDB_APPEND | MDB_RESERVE);

	if (rc == 0)
		memcpy(v.mv_data, blob, len);
	return rc;
}

static int lm_del(struct bench *b, uint64_t below)
{
	MDB_cursor *c;
	MDB_val k, v;
	int rc = mdb_cursor_open(b->txn, b->dbi, &c);

	while (rc == 0 && (rc = mdb_cursor_get(c, &k, &v, MDB_FIRST)) == 0) {
		if (*(uint64_t *)k.mv_data >= below)
			break;
		rc = mdb_cursor_del(c, 0);
	}
	mdb_cursor_close(c);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

static int lm_commit(struct bench *b)
{
	return mdb_txn_commit(b->txn);
}

static void lm_rollback(struct bench *b)
{
	mdb_txn_abort(b->txn);
}

static uint64_t lm_last(struct bench *b)
{
	MDB_cursor *c;
	MDB_val k, v;
	uint64_t last = 0;

	mdb_txn_begin(b->env, NULL, MDB_RDONLY, &b->txn);
	mdb_cursor_open(b->txn, b->dbi, &c);
	if (mdb_cursor_get(c, &k, &v, MDB_LAST) == 0)
		last = *(uint64_t *)k.mv_data;
	mdb_cursor_close(c);
	mdb_txn_abort(b->txn);
	return last;
}

static uint64_t lm_count(struct bench *b)
{
	MDB_cursor *c;
	MDB_val k, v;
	uint64_t n = 0;
	volatile uint8_t sum = 0;

	mdb_txn_begin(b->env, NULL, MDB_RDONLY, &b->txn);
	mdb_cursor_open(b->txn, b->dbi, &c);
	while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0) {
		for (size_t i = 0; i < v.mv_size; i++)
			sum = (uint8_t)(sum + ((uint8_t *)v.mv_data)[i]);
		n++;
	}
	mdb_cursor_close(c);
	mdb_txn_abort(b->txn);
	return n;
}

static const char *lm_text(struct bench *b, int rc)
{
	(void)b;
	return mdb_strerror(rc);
}

static void lm_close(struct bench *b)
{
	mdb_env_close(b->env);
}

#endif

/* ---- a bare file: append, fdatasync; no index, no deletion: nothing can be cheaper ---- */

static int raw_open(struct bench *b)
{
	char path[600];

	snprintf(path, sizeof path, "%s/raw", b->dir);
	b->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND, 0600);
	return b->fd < 0 ? errno : 0;
}

static int raw_begin(struct bench *b)
{
	(void)b;
	return 0;
}

static int raw_put(struct bench *b, uint64_t key, const void *blob, size_t len)
{
	(void)key;
	ssize_t n = write(b->fd, blob, len);
	return n == (ssize_t)len ? 0 : n < 0 ? errno : ENOSPC;
}

static int raw_del(struct bench *b, uint64_t below)
{
	(void)b;
	(void)below;
	return 0;
}

static int raw_commit(struct bench *b)
{
	return !b->relaxed && fdatasync(b->fd) < 0 ? errno : 0;
}

static void raw_rollback(struct bench *b)
{
	(void)b;
}

static uint64_t raw_last(struct bench *b)
{
	struct stat st;

	return fstat(b->fd, &st) ? 0 : (uint64_t)st.st_size / BLOB;
}

static const char *raw_text(struct bench *b, int rc)
{
	(void)b;
	return strerror(rc);
}

static void raw_close(struct bench *b)
{
	close(b->fd);
}

static const struct store stores[] = {
#ifdef HAVE_SQLITE3
	{"sqlite 4K", 4096, sq_open, sq_begin, sq_put, sq_del, sq_count, sq_commit, sq_rollback, sq_last,
	 sq_text, sq_close},
	{"sqlite 16K", 16384, sq_open, sq_begin, sq_put, sq_del, sq_count, sq_commit, sq_rollback, sq_last,
	 sq_text, sq_close},
	{"sqlite 64K", 65536, sq_open, sq_begin, sq_put, sq_del, sq_count, sq_commit, sq_rollback, sq_last,
	 sq_text, sq_close},
#endif
#ifdef HAVE_LMDB
	{"lmdb", 0, lm_open, lm_begin, lm_put, lm_del, lm_count, lm_commit, lm_rollback, lm_last, lm_text,
	 lm_close},
#endif
	{"bare file", 0, raw_open, raw_begin, raw_put, raw_del, raw_last, raw_commit, raw_rollback, raw_last,
	 raw_text, raw_close},
};
enum { STORES = sizeof stores / sizeof stores[0] };

/* ---- what is measured ---- */

static uint64_t wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static double cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Bytes this process had written to the disk, by the kernel's count. */
static uint64_t written(void)
{
	char line[128];
	unsigned long long n = 0;
	FILE *f = fopen("/proc/self/io", "re");

	while (f && fgets(line, sizeof line, f))
		sscanf(line, "write_bytes: %llu", &n);
	if (f)
		fclose(f);
	return n;
}

static const char *const files[] = {"spool.db", "spool.db-wal", "spool.db-shm",
				    "data.mdb", "lock.mdb",     "raw"};

static uint64_t on_disk(const struct bench *b, bool remove)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		char path[600];
		struct stat st;
		snprintf(path, sizeof path, "%s/%s", b->dir, files[i]);
		if (stat(path, &st) == 0)
			sum += (uint64_t)st.st_blocks * 512;
		if (remove)
			unlink(path);
	}
	return sum;
}

static void die(const struct store *s, struct bench *b, const char *what, int rc)
{
	fprintf(stderr, "spool_bench: %s: %s: %s\n", s->name, what, s->text(b, rc));
	exit(1);
}

static struct bench bench_of(const struct store *s, const char *dir, bool relaxed)
{
	struct bench b = {.limit = UINT64_C(1) << 30, .page = s->page, .relaxed = relaxed};

	snprintf(b.dir, sizeof b.dir, "%s", dir);
	return b;
}

static int transaction(const struct store *s, struct bench *b, uint64_t *key, int batches,
		       const uint8_t *blob)
{
	int rc = s->begin(b);

	if (rc)
		return rc;
	for (int i = 0; rc == 0 && !b->joined && i < batches; i++)
		rc = s->put(b, *key + (uint64_t)i + 1, blob, BLOB);
	if (b->joined)
		rc = s->put(b, *key + (uint64_t)batches, blob, (size_t)batches * BLOB);
	if (rc == 0 && !b->grow && *key > KEEP)
		rc = s->del(b, *key - KEEP);
	if (rc) {
		s->rollback(b);
		return rc;
	}
	rc = s->commit(b);
	if (rc == 0)
		*key += (uint64_t)batches;
	return rc;
}

static void measure(const struct store *s, const char *dir, uint64_t records, int batches, bool relaxed,
		    bool joined)
{
	static uint8_t blob[MAX_BATCHES * BLOB];
	uint64_t key = 0, peak = 0, size, n = 0;
	struct bench b = bench_of(s, dir, relaxed);

	b.joined = joined;
	memset(blob, 'x', sizeof blob);
	on_disk(&b, true);
	int rc = s->open(&b);
	if (rc)
		die(s, &b, "open", rc);
	uint64_t start = wall_ns(), w0 = written();
	double c0 = cpu_s();
	while (key * RECORDS < records) {
		rc = transaction(s, &b, &key, batches, blob);
		if (rc)
			die(s, &b, "transaction", rc);
		if (n++ % 16 == 0 && (size = on_disk(&b, false)) > peak)
			peak = size;
	}
	double cpu = cpu_s() - c0, wall = (double)(wall_ns() - start) / 1e9;
	double m = (double)(key * RECORDS) / 1e6, payload = (double)key * BLOB;
	printf("%-11s %-8s %-6s %7d %9.1f %9.0f %10.3f %8.2f %9.1f\n", s->name,
	       relaxed ? "relaxed" : "durable", joined ? "commit" : "batch", batches, payload / wall / 1e6,
	       (double)n / wall, cpu / m, (double)(written() - w0) / payload, (double)peak / 1e6);
	fflush(stdout);
	s->close(&b);
	on_disk(&b, true);
}

static void kills(const struct store *s, const char *dir)
{
	uint64_t slowest = 0, lost = 0, key = 0;
	struct bench b = bench_of(s, dir, false);

	on_disk(&b, true);
	for (int round = 0; round < 50; round++) {
		int p[2];
		uint8_t blob[BLOB] = {0};
		if (pipe(p))
			exit(1);
		pid_t pid = fork();
		if (pid == 0) {
			close(p[0]);
			int rc = s->open(&b);
			uint64_t k = rc ? 0 : s->last(&b);
			while (rc == 0 && (rc = transaction(s, &b, &k, 4, blob)) == 0)
				if (write(p[1], &k, sizeof k) != sizeof k)
					break;
			_exit(1);
		}
		close(p[1]);
		/* as many commits as the dice say, and on into the next by a random share of a millisecond */
		for (int n = 1 + rand() % 40; n > 0 && read(p[0], &key, sizeof key) == sizeof key; n--)
			;
		uint64_t until = wall_ns() + (uint64_t)(rand() % 1000000);
		while (wall_ns() < until)
			;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		while (read(p[0], &key, sizeof key) == sizeof key)
			;
		close(p[0]);
		uint64_t t = wall_ns();
		int rc = s->open(&b);
		if (rc)
			die(s, &b, "open after kill", rc);
		lost += s->last(&b) < key;
		t = wall_ns() - t;
		slowest = t > slowest ? t : slowest;
		s->close(&b);
	}
	printf("%-11s 50 kills: %llu lost a commit, slowest open %.1f ms\n", s->name,
	       (unsigned long long)lost, (double)slowest / 1e6);
	on_disk(&b, true);
}

static void full(const struct store *s, const char *dir)
{
	uint64_t key = 0;
	uint8_t blob[BLOB] = {0};
	char filler[600];
	struct bench b = bench_of(s, dir, false);
	int rc;

	b.grow = true;
	on_disk(&b, true);
	rc = s->open(&b);
	if (rc)
		die(s, &b, "open", rc);
	snprintf(filler, sizeof filler, "%s/filler", dir);
	int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || posix_fallocate(fd, 0, 4 << 20))
		exit(1);
	while ((rc = transaction(s, &b, &key, 4, blob)) == 0)
		;
	printf("%-11s after %llu batches: \"%s\"; newest %llu; ", s->name, (unsigned long long)key,
	       s->text(&b, rc), (unsigned long long)s->last(&b));
	rc = s->begin(&b);
	rc = rc ? rc : s->del(&b, key / 2);
	if (rc)
		s->rollback(&b);
	else
		rc = s->commit(&b);
	printf("deleting half: %s; ", rc ? s->text(&b, rc) : "ok");
	unlink(filler);
	close(fd);
	uint64_t before = key;
	b.grow = false;
	while (key < before + 100 && (rc = transaction(s, &b, &key, 4, blob)) == 0)
		;
	printf("with room again: %s\n", rc ? s->text(&b, rc) : "ok");
	s->close(&b);
	on_disk(&b, true);
}

static void flips(const struct store *s, const char *dir)
{
	int died = 0, failed = 0, whole = 0;
	const char *file = s->page ? "spool.db" : strcmp(s->name, "lmdb") == 0 ? "data.mdb" : "raw";

	for (int round = 0; round < 300; round++) {
		uint64_t key = 0;
		uint8_t blob[BLOB] = {0}, byte;
		char path[600];
		struct stat st;
		struct bench b = bench_of(s, dir, true);
		on_disk(&b, true);
		if (s->open(&b))
			exit(1);
		while (key < 64)
			transaction(s, &b, &key, 4, blob);
		s->close(&b);
		snprintf(path, sizeof path, "%s/%s", dir, file);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st))
			exit(1);
		/* payload is 0: what is not, is the store's own; nothing but that can hurt it */
		off_t at;
		do {
			at = rand() % st.st_size;
			if (pread(fd, &byte, 1, at) != 1)
				exit(1);
		} while (!byte && s->open != raw_open);
		byte ^= (uint8_t)(1 + rand() % 255);
		if (pwrite(fd, &byte, 1, at) != 1)
			exit(1);
		close(fd);
		pid_t pid = fork();
		if (pid == 0) {
			if (s->open(&b))
				_exit(1);
			uint64_t n = s->count(&b);
			/* and once more with writing */
			int rc = transaction(s, &b, &key, 4, blob);
			_exit(n != 64 || rc ? 1 : 0);
		}
		int status;
		waitpid(pid, &status, 0);
		died += WIFSIGNALED(status);
		failed += WIFEXITED(status) && WEXITSTATUS(status);
		whole += WIFEXITED(status) && !WEXITSTATUS(status);
		on_disk(&b, true);
	}
	printf("%-11s 300 damaged bytes: reader died %d, saw an error %d, read all blobs %d\n", s->name, died,
	       failed, whole);
}

/* ---- the sender's log ---- */

static const struct ss_component component = {
	.struct_size = sizeof component, .kind = SS_KIND_SINK, .type = "bench"};

static void ignore_seq(void *arg, uint64_t seq)
{
	(void)arg;
	(void)seq;
}

static void ignore(void *arg)
{
	(void)arg;
}

static void on_lost(void *arg, uint64_t from, uint64_t to, const char *reason)
{
	(void)arg;
	fprintf(stderr, "spool_bench: lost %llu to %llu: %s\n", (unsigned long long)from,
		(unsigned long long)to, reason);
}

static void on_trouble(void *arg, const char *why)
{
	(void)arg;
	fprintf(stderr, "spool_bench: %s\n", why ? why : "over");
}

static bool count_bytes(void *arg, uint64_t seq, const struct ss_event *e)
{
	(void)seq;
	*(uint64_t *)arg += e->len;
	return true;
}

static const struct sendlog_events log_events = {
	.committed = ignore_seq, .room = ignore, .lost = on_lost, .disk_error = on_trouble};

/* rate: records per second, 0 = as fast as it goes. */
static void measure_log(const char *dir, uint64_t records, uint64_t rate, bool relaxed, bool use_log)
{
	struct ss_test_host *h = calloc(1, sizeof *h);
	struct sendlog *log = NULL;
	char path[600], why[256];
	uint64_t seq = 0, read_to = 1, bytes = 0;

	if (!h)
		exit(1);
	snprintf(path, sizeof path, "%s/log-%ld-%d-%d", dir, (long)getpid(), (int)(rate / 1000), relaxed);
	struct sendlog_options o = {.path = path, .max_bytes = UINT64_C(1) << 30, .relaxed = relaxed};
	ss_test_host_init(h, &component);
	if (use_log && sendlog_open(&h->host, &o, &log_events, NULL, why, &log) < 0) {
		fprintf(stderr, "spool_bench: %s\n", why);
		exit(1);
	}
	if (log)
		sendlog_add_consumer(log, "bench", false, false);
	uint64_t start = wall_ns(), w0 = written();
	double c0 = cpu_s();
	while (seq < records || (log && read_to <= records)) {
		uint64_t due = rate ? (wall_ns() - start) / 1000 * rate / 1000000 : records;
		while (seq < records && seq + RECORDS <= due) {
			struct ss_batch *b = h->host.batch_new(&h->host, NULL, RECORDS, RECORDS * RECORD);
			memset(b->data, 'x', RECORDS * RECORD);
			for (uint32_t i = 0; i < RECORDS; i++)
				b->events[i] = (struct ss_event){
					.data = b->data + i * RECORD, .len = RECORD, .time_ns = start};
			b->count = RECORDS;
			int rc = log ? sendlog_admit(log, b, false) : 0;
			if (log && rc == 0)
				rc = sendlog_append(log, b, NULL, 0);
			h->host.batch_unref(b);
			if (rc)
				break;
			seq += RECORDS;
		}
		if (log)
			ss_test_host_run(h, 1);
		for (uint64_t next;
		     log && (next = sendlog_read(log, read_to, 64, count_bytes, &bytes)) != read_to;)
			read_to = next;
		if (log)
			sendlog_ack(log, "bench", read_to - 1);
	}
	double cpu = cpu_s() - c0, wall = (double)(wall_ns() - start) / 1e9,
	       payload = (double)seq * (RECORD + HEAD);
	printf("%-11s %-8s %9.0f/s wanted %9.0f/s had %8.1f MB/s %10.3f CPU s/M rec %8.2f written/x\n",
	       log ? "log" : "(batches)", relaxed ? "relaxed" : "durable", (double)rate, (double)seq / wall,
	       payload / wall / 1e6, cpu / ((double)seq / 1e6), (double)(written() - w0) / payload);
	fflush(stdout);
	sendlog_close(log);
	ss_test_host_done(h);
	free(h);
}

static void logs(const char *dir, uint64_t records)
{
	measure_log(dir, records, 0, false, false);
	for (int relaxed = 0; relaxed < 2; relaxed++) {
		measure_log(dir, records, 0, relaxed, true);
		measure_log(dir, records, 300000, relaxed, true);
		measure_log(dir, records / 2, 100000, relaxed, true);
	}
}

int main(int argc, char **argv)
{
	const char *mode = argc > 2 && argv[1][0] == '-' ? argv[1] : "";
	const char *dir = *mode ? argv[2] : argv[1];

	if (argc < 2) {
		fprintf(stderr, "usage: spool_bench [--log | --kill | --full | --flip] DIR [MILLIONS]\n");
		return 2;
	}
	if (strcmp(mode, "--log") == 0) {
		logs(dir, 64 * 31250);
		return 0;
	}
	if (*mode) {
		for (int i = 0; i < STORES; i++)
			(strcmp(mode, "--kill") == 0   ? kills
			 : strcmp(mode, "--full") == 0 ? full
						       : flips)(&stores[i], dir);
		return 0;
	}
	uint64_t records = (uint64_t)((argc > 2 ? atof(argv[2]) : 1) * 1e6);
	printf("%-11s %-8s %-6s %7s %9s %9s %10s %8s %9s\n", "store", "sync", "blob", "batches", "MB/s",
	       "commits/s", "CPU s/M rec", "written/x", "peak MB");
	for (int relaxed = 0; relaxed < 2; relaxed++)
		for (int batches = 1; batches <= MAX_BATCHES; batches *= 8)
			for (int joined = 0; joined <= (batches > 1); joined++)
				for (int i = 0; i < STORES; i++)
					measure(&stores[i], dir, batches == 1 ? records / 4 : records,
						batches, relaxed, joined);
	return 0;
}
