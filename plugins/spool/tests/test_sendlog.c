/* SPDX-License-Identifier: MIT */
/* test_sendlog - the sender's log against a fake host and real files; kills of a process of its own included.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "plugins/spool/spool.h"
#include <semstreams/test-host.h>

enum { MIB = 1 << 20 };

static const struct ss_component component = {
	.struct_size = sizeof component, .kind = SS_KIND_SINK, .type = "test", .version = "1"};

/* ---- the disk ---- */

static atomic_bool hold_syncs;

/* Instead of the C library's: a disk that does not answer. */
int fdatasync(int fd)
{
	while (atomic_load(&hold_syncs))
		usleep(1000);
	return (int)syscall(SYS_fdatasync, fd);
}

/* ---- a log with its owner ---- */

struct loss {
	uint64_t from, to;
	char reason[16];
};

struct rig {
	struct ss_test_host host;
	struct sendlog *log;
	struct sendlog_options options;
	char base[64], path[96]; /* the spool is path: folders below base that are not there yet */
	uint64_t committed;
	uint32_t forgotten, rooms, troubles, recoveries, n_lost;
	char health[300]; /* "" = well */
	struct loss lost[512];
	char trouble[128];
	int tell; /* descriptor to write committed sequences to, -1 = none */
};

static void on_committed(void *arg, uint64_t seq)
{
	struct rig *r = arg;

	assert_true(seq >= r->committed);
	assert_int_equal(seq, sendlog_committed(r->log));
	r->committed = seq;
	if (r->tell >= 0 && write(r->tell, &seq, sizeof seq) != sizeof seq)
		_exit(3);
}

static void on_room(void *arg)
{
	((struct rig *)arg)->rooms++;
}

static void on_lost(void *arg, uint64_t from, uint64_t to, const char *reason)
{
	struct rig *r = arg;

	assert_true(from <= to);
	assert_true(r->n_lost < sizeof r->lost / sizeof r->lost[0]);
	struct loss *l = &r->lost[r->n_lost++];
	*l = (struct loss){.from = from, .to = to};
	snprintf(l->reason, sizeof l->reason, "%s", reason);
}

static void on_trouble(void *arg, const char *why)
{
	struct rig *r = arg;

	*(why ? &r->troubles : &r->recoveries) += 1;
	snprintf(r->trouble, sizeof r->trouble, "%s", why ? why : "");
}

static void on_health(void *arg, const char *why)
{
	struct rig *r = arg;

	snprintf(r->health, sizeof r->health, "%s", why ? why : "");
}

static void on_forgotten(void *arg, const char *consumer, uint64_t acked);
static const struct sendlog_events events = {.committed = on_committed,
					     .room = on_room,
					     .lost = on_lost,
					     .trouble = on_trouble,
					     .health = on_health,
					     .forgotten = on_forgotten};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof *r);

	assert_non_null(r);
	snprintf(r->base, sizeof r->base, "%s/sendlogXXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	assert_non_null(mkdtemp(r->base));
	snprintf(r->path, sizeof r->path, "%s/a/spool", r->base);
	r->tell = -1;
	r->options = (struct sendlog_options){.path = r->path, .max_bytes = 64 * MIB};
	ss_test_host_init(&r->host, &component);
	*state = r;
	return 0;
}

static int open_log_rc(struct rig *r, char why[256])
{
	r->committed = 0;
	return sendlog_open(&r->host.host, &r->options, &events, r, why, &r->log);
}

static void open_log(struct rig *r)
{
	char why[256];
	int rc = open_log_rc(r, why);

	if (rc < 0)
		fail_msg("sendlog_open: %d %s", rc, why);
}

static void close_log(struct rig *r)
{
	sendlog_close(r->log);
	r->log = NULL;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	close_log(r);
	ss_test_host_done(&r->host);
	nftw(r->base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(r);
	return 0;
}

/* What the record with sequence seq says; its length differs. */
static uint32_t record(uint64_t seq, char *to, uint32_t size)
{
	uint32_t len = (uint32_t)snprintf(to, size, "{\"n\":%llu,\"pad\":\"", (unsigned long long)seq);

	for (uint32_t pad = (uint32_t)(seq * 7 % 150); pad > 0; pad--)
		to[len++] = (char)('a' + (seq + pad) % 26);
	to[len++] = '"';
	to[len++] = '}';
	return len;
}

static uint64_t wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Events seq..seq+n-1 of a stream; tracked with a position if epoch is not 0. */
static struct ss_batch *batch_of(struct rig *r, uint64_t seq, uint32_t n, uint8_t epoch, uint64_t time_ns)
{
	struct ss_batch *b = r->host.host.batch_new(&r->host.host, NULL, n, (size_t)n * 256 + 1);
	uint8_t *at = b->data;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t len = record(seq + i, (char *)at, 256);
		b->events[i] = (struct ss_event){
			.data = at, .len = len, .time_ns = time_ns ? time_ns : wall_ns(), .seq = seq + i};
		at += len;
	}
	b->count = n;
	if (epoch) {
		struct ss_position p = {.seq = seq + n - 1};
		memset(p.epoch, epoch, sizeof p.epoch);
		assert_int_equal(r->host.host.track(&r->host.host, b, 0, &p), 0);
	}
	return b;
}

static int append(struct rig *r, uint64_t seq, uint32_t n, uint8_t epoch)
{
	struct ss_batch *b = batch_of(r, seq, n, epoch, 0);
	uint64_t duplicates = 0;
	int rc = sendlog_append(r->log, 0, b, &duplicates);

	r->host.host.batch_unref(b);
	return rc < 0 ? rc : (int)duplicates;
}

/* Run the loop until cond; fail if nothing comes of it. */
#define wait_for(r, cond)                                                                                    \
	do {                                                                                                 \
		for (int tries_ = 0; !(cond); tries_++) {                                                    \
			if (tries_ > 100)                                                                    \
				fail_msg("nothing came of: %s", #cond);                                      \
			ss_test_host_run(&(r)->host, 200);                                                   \
		}                                                                                            \
	} while (0)

static void settle(struct rig *r)
{
	wait_for(r, sendlog_committed(r->log) == sendlog_next(r->log) - 1);
}

/* ---- reading ---- */

struct reader {
	uint64_t next, n, gaps, bytes;
	uint32_t stop_after; /* 0 = never */
	bool bad;
};

static bool take(void *arg, uint64_t seq, const struct ss_event *e)
{
	struct reader *rd = arg;
	char want[512];

	if (rd->stop_after && rd->n == rd->stop_after)
		return false;
	uint32_t len = record(seq, want, sizeof want);
	if (e->seq != seq || e->len != len || memcmp(e->data, want, len) != 0 || seq < rd->next ||
	    !e->time_ns)
		rd->bad = true;
	rd->gaps += seq - rd->next;
	rd->next = seq + 1;
	rd->bytes += e->len;
	rd->n++;
	return true;
}

/* Everything from seq on: how many records came. */
static uint64_t read_all(struct rig *r, uint64_t seq, uint32_t piece, struct reader *rd)
{
	struct reader mine;

	rd = rd ? rd : &mine;
	*rd = (struct reader){.next = seq};
	while (seq <= sendlog_committed(r->log)) {
		uint64_t next = sendlog_read(r->log, seq, piece, take, rd);
		assert_true(next > seq);
		seq = next;
	}
	assert_false(rd->bad);
	assert_true(rd->next <= seq);
	return rd->n;
}

static uint64_t lost_records(const struct rig *r, const char *reason)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < r->n_lost; i++)
		if (strcmp(r->lost[i].reason, reason) == 0)
			n += r->lost[i].to - r->lost[i].from + 1;
	return n;
}

static uint64_t disk_sum;
static int disk_files;
static int add_size(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path;
	(void)ftw;
	if (type == FTW_F) {
		uint64_t blocks = (uint64_t)st->st_blocks * 512, size = (uint64_t)st->st_size;
		disk_sum += blocks > size ? blocks : size;
		disk_files++;
	}
	return 0;
}

/* Bytes of all files of the spool. */
static uint64_t disk_size(const struct rig *r)
{
	disk_sum = 0;
	disk_files = 0;
	nftw(r->path, add_size, 16, FTW_PHYS);
	return disk_sum;
}

/* ---- memory ---- */

static void memory_keeps_until_acked(void **state)
{
	struct rig *r = *state;

	r->options.path = NULL;
	open_log(r);
	assert_int_equal(sendlog_first(r->log), 1);
	assert_int_equal(sendlog_next(r->log), 1);
	assert_int_equal(sendlog_oldest_ns(r->log), 0);
	assert_int_equal(append(r, 1, 10, 0), 0);
	assert_int_equal(append(r, 11, 10, 0), 0);
	assert_int_equal(sendlog_committed(r->log), 20); /* at once; told from the loop */
	assert_int_equal(r->committed, 0);
	wait_for(r, r->committed == 20);
	assert_int_equal(read_all(r, 1, 3, NULL), 20);
	assert_int_equal(read_all(r, 15, 100, NULL), 6);
	assert_true(sendlog_oldest_ns(r->log) > 0);

	/* nobody is known: it stays */
	assert_int_equal(sendlog_all_acked(r->log), 0);
	assert_int_equal(sendlog_ack(r->log, "b", 12), 0);
	assert_int_equal(sendlog_ack(r->log, "c", 0), 0);
	assert_int_equal(sendlog_first(r->log), 13); /* c came later */
	assert_int_equal(sendlog_ack(r->log, "b", 20), 0);
	assert_int_equal(sendlog_all_acked(r->log), 0);
	assert_int_equal(sendlog_ack(r->log, "c", 15), 0);
	assert_int_equal(sendlog_all_acked(r->log), 15);
	assert_int_equal(sendlog_first(r->log), 16);
	assert_int_equal(sendlog_cursor(r->log, "c"), 15);
	assert_int_equal(sendlog_cursor(r->log, "d"), 0);
	assert_int_equal(sendlog_ack(r->log, "c", 3), 0);    /* never back */
	assert_int_equal(sendlog_ack(r->log, "c", 1000), 0); /* nor beyond what there is */
	assert_int_equal(sendlog_cursor(r->log, "c"), 20);
	assert_int_equal(sendlog_first(r->log), 21);
	assert_int_equal(sendlog_bytes(r->log), 0);
	assert_int_equal(r->n_lost, 0);
}

static void memory_is_limited(void **state)
{
	struct rig *r = *state;
	uint64_t seq = 1;

	r->options = (struct sendlog_options){.max_bytes = 64 << 10};
	open_log(r);
	while (append(r, seq, 16, 0) == 0)
		seq += 16;
	assert_true(sendlog_bytes(r->log) <= 64 << 10);
	assert_true(sendlog_bytes(r->log) > 48 << 10);
	assert_int_equal(append(r, seq, 16, 0), -EAGAIN);
	assert_int_equal(sendlog_next(r->log), seq);
	assert_int_equal(sendlog_ack(r->log, "b", seq / 2), 0);
	wait_for(r, r->rooms == 1);
	assert_int_equal(append(r, seq, 16, 0), 0);
	assert_int_equal(read_all(r, 1, 1000, NULL), seq + 16 - 1 - seq / 2);
	assert_int_equal(append(r, seq, 4096, 0), -EMSGSIZE);
}

static void memory_drops_oldest(void **state)
{
	struct rig *r = *state;
	struct reader rd;

	r->options = (struct sendlog_options){.max_bytes = 64 << 10, .drop_oldest = true};
	open_log(r);
	assert_int_equal(sendlog_ack(r->log, "b", 0), 0);
	for (uint64_t seq = 1; seq < 16 * 200; seq += 16)
		assert_int_equal(append(r, seq, 16, 0), 0);
	settle(r);
	wait_for(r, r->committed == 3200);
	assert_true(sendlog_bytes(r->log) <= 64 << 10);
	assert_int_equal(lost_records(r, "full"), sendlog_first(r->log) - 1);
	assert_int_equal(r->lost[0].from, 1);
	assert_int_equal(read_all(r, 1, 1000, &rd), 3201 - sendlog_first(r->log));
}

static void memory_has_duplicates(void **state)
{
	struct rig *r = *state;

	r->options.path = NULL;
	open_log(r);
	assert_int_equal(append(r, 1, 10, 1), 0);
	assert_int_equal(append(r, 6, 10, 1), 5);
	assert_int_equal(append(r, 1, 15, 1), 15);
	assert_int_equal(append(r, 16, 1, 1), 0);
	assert_int_equal(append(r, 17, 1, 2), 0); /* another epoch */
	assert_int_equal(append(r, 18, 0, 2), 0);
	assert_int_equal(sendlog_next(r->log), 18);
	assert_int_equal(read_all(r, 1, 1000, NULL), 17);
}

/* ---- spool ---- */

static void spool_is_there_again(void **state)
{
	struct rig *r = *state;
	uint8_t epoch[16];
	struct reader rd;
	struct stat st;
	char file[128];

	open_log(r);
	memcpy(epoch, sendlog_epoch(r->log), 16);
	for (uint64_t seq = 1; seq <= 1000; seq += 10)
		assert_int_equal(append(r, seq, 10, 1), 0);
	assert_int_equal(sendlog_next(r->log), 1001);
	settle(r);
	assert_int_equal(r->committed, 1000);
	assert_int_equal(read_all(r, 1, 7, &rd), 1000); /* from memory */
	assert_int_equal(stat(r->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	for (int i = 0; i < 3; i++) {
		static const char *const names[] = {"state", "lock", "0000000000000001.seg"};
		snprintf(file, sizeof file, "%s/%s", r->path, names[i]);
		assert_int_equal(stat(file, &st), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
	}

	/* and from disk */
	for (int round = 0; round < 3; round++) {
		close_log(r);
		open_log(r);
		assert_memory_equal(sendlog_epoch(r->log), epoch, 16);
		uint64_t next = 1001 + (uint64_t)round * 10;
		assert_int_equal(sendlog_next(r->log), next);
		assert_int_equal(sendlog_committed(r->log), next - 1);
		assert_int_equal(read_all(r, 1, 7, &rd), next - 1);
		assert_int_equal(read_all(r, 1, 100000, &rd), next - 1);
		assert_int_equal(read_all(r, 500, 1, &rd), next - 500);
		assert_int_equal(append(r, next, 10, 1), 0);
		settle(r);
		assert_int_equal(read_all(r, 1, 64, &rd), next + 9); /* both */
		assert_int_equal(rd.gaps, 0);
	}
	assert_int_equal(r->n_lost, 0);
	assert_int_equal(sendlog_corrupt(r->log), 0);

	/* fn that has had enough: the record it refused is the next one */
	rd = (struct reader){.next = 1, .stop_after = 5};
	assert_int_equal(sendlog_read(r->log, 1, 100, take, &rd), 6);
}

static void count_position(void *arg, uint32_t port, const char *source, const struct ss_position *p)
{
	struct ss_position *out = arg;

	assert_string_equal(source, "test");
	out[port] = *p;
}

static void spool_keeps_positions(void **state)
{
	struct rig *r = *state;
	struct ss_position p[2] = {0};
	uint64_t duplicates;

	open_log(r);
	assert_int_equal(append(r, 1, 10, 1), 0);
	struct ss_batch *b = batch_of(r, 11, 5, 9, 0);
	assert_int_equal(sendlog_append(r->log, 1, b, &duplicates), 0); /* another way in */
	r->host.host.batch_unref(b);
	assert_int_equal(append(r, 3, 10, 1), 8);
	settle(r);
	uint64_t bytes = sendlog_bytes(r->log);
	assert_int_equal(append(r, 1, 12, 1), 12); /* nothing new: nothing to write */
	close_log(r);
	open_log(r);
	assert_int_equal(sendlog_bytes(r->log), bytes);
	sendlog_positions(r->log, count_position, p);
	assert_int_equal(p[0].seq, 12);
	assert_int_equal(p[0].epoch[5], 1);
	assert_int_equal(p[1].seq, 15);
	assert_int_equal(p[1].epoch[5], 9);
	assert_int_equal(append(r, 1, 12, 1), 12);
	assert_int_equal(append(r, 8, 10, 1), 5);
	assert_int_equal(sendlog_next(r->log), 23);
	settle(r);
	close_log(r);
	open_log(r);
	sendlog_positions(r->log, count_position, p);
	assert_int_equal(p[0].seq, 17);
	assert_int_equal(sendlog_committed(r->log), 22);
}

static void spool_remembers_cursors(void **state)
{
	struct rig *r = *state;
	char name[160];

	open_log(r);
	assert_int_equal(append(r, 1, 100, 1), 0);
	settle(r);
	assert_int_equal(sendlog_ack(r->log, "hub", 40), 0);
	assert_int_equal(sendlog_ack(r->log, "cloud", 60), 0);
	assert_int_equal(sendlog_ack(r->log, "new", 0), 0);
	close_log(r);
	open_log(r);
	assert_int_equal(sendlog_cursor(r->log, "hub"), 40);
	assert_int_equal(sendlog_cursor(r->log, "cloud"), 60);
	assert_int_equal(sendlog_all_acked(r->log), 0);
	assert_int_equal(sendlog_ack(r->log, "new", 100), 0);
	assert_int_equal(sendlog_all_acked(r->log), 40);
	assert_int_equal(sendlog_first(r->log), 41);
	memset(name, 'x', sizeof name);
	name[150] = '\0';
	assert_int_equal(sendlog_ack(r->log, name, 1), -ENAMETOOLONG);
	for (int i = 3; i < 128; i++) {
		snprintf(name, sizeof name, "%0127d", i);
		assert_int_equal(sendlog_ack(r->log, name, 1), 0);
	}
	assert_int_equal(sendlog_ack(r->log, "one too many", 1), -ENOSPC);
	close_log(r);
	open_log(r);
	assert_int_equal(sendlog_cursor(r->log, name), 1);
	assert_int_equal(sendlog_cursor(r->log, "new"), 100);
}

static void spool_full_blocks(void **state)
{
	struct rig *r = *state;
	uint64_t seq = 1;

	r->options.max_bytes = MIB;
	open_log(r);
	assert_int_equal(sendlog_ack(r->log, "b", 0), 0);
	for (int tries = 0; tries < 200; tries++) {
		if (append(r, seq, 100, 1) == 0)
			seq += 100;
		else
			tries += 50;
		ss_test_host_run(&r->host, 20);
		assert_true(disk_size(r) <= MIB);
	}
	assert_int_equal(append(r, seq, 100, 1), -EAGAIN);
	assert_true(sendlog_committed(r->log) < seq - 1);
	assert_true(sendlog_bytes(r->log) > MIB / 2);
	assert_int_equal(r->rooms, 0);
	assert_int_equal(r->troubles, 0);

	/* what is acknowledged makes room; nothing is missing in the end */
	uint64_t end = seq + 20000, read_to = 1;
	while (read_to < end) {
		if (seq < end && append(r, seq, 100, 1) == 0)
			seq += 100;
		read_to += read_all(r, read_to, 50, NULL);
		assert_int_equal(sendlog_ack(r->log, "b", read_to - 1), 0);
		ss_test_host_run(&r->host, 5);
		assert_true(disk_size(r) <= MIB);
	}
	assert_true(r->rooms > 0);
	assert_int_equal(r->n_lost, 0);
	wait_for(r,
		 disk_size(r) < MIB / 2); /* what nobody needs any more goes, without being asked for room */
	close_log(r);
	open_log(r);
	assert_int_equal(sendlog_first(r->log), end);
	assert_int_equal(sendlog_next(r->log), end);
	assert_int_equal(append(r, 1, 100, 1), 100);
	assert_int_equal(append(r, end, 100, 1), 0);
	settle(r);
	assert_int_equal(read_all(r, end, 50, NULL), 100);
}

/* What is not on disk when it is closed was never told to be. */
static void spool_closes_when_full(void **state)
{
	struct rig *r = *state;
	uint64_t seq = 1;

	r->options.max_bytes = MIB;
	open_log(r);
	for (int tries = 0; tries < 300 && append(r, seq, 100, 1) == 0; tries++) {
		seq += 100;
		ss_test_host_run(&r->host, 20);
	}
	for (int i = 0; i < 5; i++)
		append(r, seq, 100, 1);
	uint64_t committed = sendlog_committed(r->log);
	close_log(r);
	open_log(r);
	assert_int_equal(sendlog_committed(r->log), committed);
	assert_int_equal(read_all(r, 1, 50, NULL), committed);
	struct ss_position p[2] = {0};
	sendlog_positions(r->log, count_position, p);
	assert_int_equal(p[0].seq, committed);
}

static void spool_drops_oldest(void **state)
{
	struct rig *r = *state;
	uint64_t seq = 1, next = 1;
	struct reader rd;

	r->options.max_bytes = MIB;
	r->options.drop_oldest = true;
	open_log(r);
	assert_int_equal(sendlog_ack(r->log, "b", 0), 0);
	while (seq < 20000) {
		if (append(r, seq, 100, 1) == 0)
			seq += 100;
		settle(r);
		assert_true(disk_size(r) <= MIB);
	}
	assert_true(sendlog_first(r->log) > 1);
	/* one loss after the other, from the first to the last */
	for (uint32_t i = 0; i < r->n_lost; i++) {
		assert_string_equal(r->lost[i].reason, "full");
		assert_int_equal(r->lost[i].from, next);
		next = r->lost[i].to + 1;
	}
	assert_int_equal(next, sendlog_first(r->log));
	assert_int_equal(read_all(r, 1, 50, &rd), seq - sendlog_first(r->log));
	assert_int_equal(rd.gaps, sendlog_first(r->log) - 1);
	close_log(r);
	open_log(r);
	assert_int_equal(sendlog_first(r->log), next);
	assert_int_equal(read_all(r, next, 50, &rd), seq - next);
	struct ss_position p[2] = {0};
	sendlog_positions(r->log, count_position, p);
	assert_int_equal(p[0].seq, seq - 1);

	/* what b has had is not lost to it */
	uint32_t before = r->n_lost;
	assert_int_equal(sendlog_ack(r->log, "b", seq - 1), 0);
	for (uint64_t end = seq + 100; seq < end; seq += 100)
		assert_int_equal(append(r, seq, 100, 1), 0);
	settle(r);
	assert_int_equal(r->n_lost, before);
}

static void spool_forgets_by_age(void **state)
{
	struct rig *r = *state;
	uint64_t now = wall_ns(), duplicates;

	r->options.max_age_ns = UINT64_C(3600000000000);
	open_log(r);
	for (uint64_t i = 0; i < 10; i++) {
		/* five of them two hours old, five new */
		struct ss_batch *b =
			batch_of(r, i * 10 + 1, 10, 1, i < 5 ? now - UINT64_C(7200000000000) + i : now + i);
		assert_int_equal(sendlog_append(r->log, 0, b, &duplicates), 0);
		r->host.host.batch_unref(b);
		settle(r);
	}
	assert_int_equal(sendlog_oldest_ns(r->log) / 1000000000,
			 (now - UINT64_C(7200000000000)) / 1000000000);
	ss_test_host_advance(&r->host, UINT64_C(60000000000));
	wait_for(r, r->n_lost == 1);
	assert_int_equal(r->lost[0].from, 1);
	assert_int_equal(r->lost[0].to, 50);
	assert_string_equal(r->lost[0].reason, "age");
	assert_int_equal(sendlog_first(r->log), 51);
	assert_int_equal(read_all(r, 1, 100, NULL), 50);
	assert_int_equal(sendlog_oldest_ns(r->log), now + 5);
}

/* A consumer that is far behind reads from disk, while others live from memory. */
static void spool_serves_laggards(void **state)
{
	struct rig *r = *state;
	uint64_t seq = 1, end = 150001, a, b;
	struct reader ra = {.next = 1}, rb = {.next = 70001};

	open_log(r);
	while (seq < end) {
		if (append(r, seq, 500, 1) == 0)
			seq += 500;
		else
			ss_test_host_run(&r->host, 100);
	}
	settle(r);
	assert_true(sendlog_bytes(r->log) > 12 * MIB);
	for (a = 1, b = 70001; a < end || b < end;) {
		uint64_t before = ra.bytes;
		a = a < end ? sendlog_read(r->log, a, 1000000, take, &ra) : a;
		assert_true(ra.bytes - before <= (a < end - 90000 ? 768u << 10 : 16u * MIB));
		b = b < end ? sendlog_read(r->log, b, 64, take, &rb) : b;
	}
	assert_false(ra.bad || rb.bad);
	assert_int_equal(ra.n, end - 1);
	assert_int_equal(rb.n, end - 70001);
	assert_int_equal(ra.gaps + rb.gaps, 0);
	close_log(r);
	open_log(r);
	assert_int_equal(read_all(r, 1, 64, NULL), end - 1);
	assert_int_equal(read_all(r, 33333, 1000, NULL), end - 33333);
}

static void spool_takes_large_records(void **state)
{
	struct rig *r = *state;
	uint64_t n;

	r->options.max_bytes = MIB;
	open_log(r);
	for (size_t len = 400 << 10; len <= 1200 << 10; len += 800 << 10) {
		struct ss_batch *b = r->host.host.batch_new(&r->host.host, NULL, 1, len);
		memset(b->data, 'z', len);
		b->events[0] = (struct ss_event){.data = b->data, .len = (uint32_t)len, .time_ns = 1};
		b->count = 1;
		assert_int_equal(sendlog_append(r->log, 0, b, &n), len < MIB ? 0 : -EMSGSIZE);
		r->host.host.batch_unref(b);
		settle(r);
	}
	assert_int_equal(sendlog_committed(r->log), 1);
	assert_true(disk_size(r) <= MIB);
	assert_int_equal(append(r, 2, 100, 1), 0);
	settle(r);
	close_log(r);
	open_log(r);
	assert_int_equal(read_all(r, 2, 10, NULL), 100);
	struct reader rd = {.next = 1};
	assert_int_equal(sendlog_read(r->log, 1, 1, take, &rd), 2);
	assert_int_equal(rd.bytes, 400 << 10);
}

static void spool_is_one_process(void **state)
{
	struct rig *r = *state, *other = NULL;
	char why[256];

	open_log(r);
	assert_int_equal(setup((void **)&other), 0);
	other->options.path = r->path;
	assert_int_equal(open_log_rc(other, why), -EBUSY);
	assert_non_null(strstr(why, "in use by another process, pid "));
	assert_non_null(strstr(why, r->path));
	close_log(r);
	assert_int_equal(open_log_rc(other, why), 0);
	teardown((void **)&other);
}

static void spool_wants_a_safe_folder(void **state)
{
	struct rig *r = *state;
	char why[256];

	open_log(r);
	close_log(r);
	assert_int_equal(chmod(r->path, 0777), 0);
	assert_int_equal(open_log_rc(r, why), -EPERM);
	assert_non_null(strstr(why, "chmod 700"));
	chmod(r->path, 0700);
	r->options.max_bytes = 1000;
	assert_int_equal(open_log_rc(r, why), -EINVAL);
	assert_non_null(strstr(why, "1 MiB"));
	r->options.max_bytes = MIB;
	r->options.path = "/proc/nothing/here";
	assert_true(open_log_rc(r, why) < 0);
	assert_non_null(strstr(why, "/proc/nothing/here"));
}

static void spool_relaxed(void **state)
{
	struct rig *r = *state;

	r->options.relaxed = true;
	open_log(r);
	for (uint64_t seq = 1; seq <= 5000; seq += 50) {
		assert_int_equal(append(r, seq, 50, 1), 0);
		settle(r);
	}
	close_log(r);
	open_log(r);
	assert_int_equal(read_all(r, 1, 100, NULL), 5000);
}

/* ---- consumers that stay away, epochs ---- */

static bool is_c(void *arg, const char *consumer)
{
	(void)arg;
	return strcmp(consumer, "c") == 0;
}

static void on_forgotten(void *arg, const char *consumer, uint64_t acked)
{
	struct rig *r = arg;

	r->forgotten++;
	assert_string_equal(consumer, "b");
	assert_int_equal(acked, 10);
}

static void forgets_who_stays_away(void **state)
{
	struct rig *r = *state;
	const uint64_t second = 1000000000;

	for (int disk = 0; disk < 2; disk++) {
		r->options.path = disk ? r->path : NULL;
		r->options.forget_ns = 100 * second;
		r->forgotten = 0;
		open_log(r);
		assert_int_equal(append(r, 1, 100, 0), 0);
		settle(r);
		assert_int_equal(sendlog_ack(r->log, "b", 10), 0);
		assert_int_equal(sendlog_ack(r->log, "c", 90), 0);
		for (int i = 0; i < 99; i++)
			sendlog_look(r->log, second, is_c, r);
		assert_int_equal(sendlog_first(r->log), 11);
		if (disk) {
			/* how long it has been away is not forgotten, and time that nobody saw does not count
			 */
			close_log(r);
			open_log(r);
			assert_int_equal(sendlog_first(r->log), 11);
		}
		sendlog_look(r->log, second / 2, is_c, r);
		assert_int_equal(r->forgotten, 0);
		assert_true(sendlog_knows(r->log, "b"));
		sendlog_look(r->log, second / 2, is_c, r);
		assert_int_equal(r->forgotten, 1);
		assert_false(sendlog_knows(r->log, "b"));
		assert_int_equal(sendlog_first(r->log), 91);
		assert_int_equal(sendlog_all_acked(r->log), 90);
		for (int i = 0; i < 200; i++)
			sendlog_look(r->log, second, is_c, r);
		assert_true(sendlog_knows(r->log, "c"));
		close_log(r);
		if (!disk)
			continue;
		open_log(r);
		assert_false(sendlog_knows(r->log, "b"));
		assert_true(sendlog_knows(r->log, "c"));
	}
}

static void forgets_nobody_by_default(void **state)
{
	struct rig *r = *state;

	open_log(r);
	assert_int_equal(append(r, 1, 10, 0), 0);
	settle(r);
	assert_int_equal(sendlog_ack(r->log, "b", 10), 0);
	for (int i = 0; i < 100; i++)
		sendlog_look(r->log, UINT64_C(1000000000) << 30, is_c, r);
	assert_true(sendlog_knows(r->log, "b"));
}

/* ---- how full it is, and who keeps it so ---- */

static bool nobody(void *arg, const char *consumer)
{
	(void)arg;
	(void)consumer;
	return false;
}

static bool everybody(void *arg, const char *consumer)
{
	(void)arg;
	(void)consumer;
	return true;
}

static unsigned count_lines(const struct rig *r, const char *what)
{
	unsigned n = 0;

	for (const char *at = r->host.log; (at = strstr(at, what)); at += strlen(what))
		n++;
	return n;
}

static void expect_line(const struct rig *r, const char *line)
{
	if (!strstr(r->host.log, line))
		fail_msg("no line \"%s\" in:\n%s", line, r->host.log);
}

/* Append until the log takes no more; the sequence that comes next. */
static uint64_t fill_up(struct rig *r, uint64_t seq)
{
	for (int refused = 0; refused < 5;) {
		if (append(r, seq, 100, 1) == 0)
			seq += 100;
		else
			refused++;
		ss_test_host_run(&r->host, 20);
	}
	return seq;
}

static void full_says_who(void **state)
{
	struct rig *r = *state;
	const uint64_t hour = UINT64_C(3600000000000);
	char line[256];

	for (int disk = 0; disk < 2; disk++) {
		r->options = (struct sendlog_options){.path = disk ? r->path : NULL, .max_bytes = MIB};
		open_log(r);
		assert_int_equal(sendlog_ack(r->log, "ghost", 0), 0);
		assert_int_equal(sendlog_ack(r->log, "b", 0), 0);
		assert_int_equal(append(r, 1, 100, 1), 0);
		settle(r);
		assert_int_equal(sendlog_ack(r->log, "ghost", 40), 0);
		sendlog_look(r->log, hour, nobody, r);
		assert_string_equal(r->health, "");
		fill_up(r, 101);
		uint64_t committed = sendlog_committed(r->log);
		assert_int_equal(sendlog_ack(r->log, "b", committed), 0);
		sendlog_look(r->log, hour, nobody, r);
		assert_string_equal(r->health, ""); /* it may be over in a moment */
		assert_int_equal(count_lines(r, "WARN"), 1);
		expect_line(r, disk ? "WARN The spool is " : "WARN The buffer is ");
		expect_line(r,
			    " % full, at the limit input stops: consumer 'ghost' has not been here for 2h: ");
		sendlog_look(r->log, hour, nobody, r);
		snprintf(line, sizeof line, "%s full: consumer 'ghost' has not been here for 3h: %llu events",
			 disk ? "spool" : "buffer", (unsigned long long)committed - 40);
		assert_string_equal(r->health, line);
		snprintf(line, sizeof line,
			 "ERROR The %s is full and input stops: consumer 'ghost' has not been here for 3h: "
			 "%llu "
			 "events; "
			 "connect the consumer, raise %s or set forget_after ",
			 disk ? "spool" : "buffer", (unsigned long long)committed - 40,
			 disk ? "max_bytes" : "buffer");
		expect_line(r, line);
		expect_line(r, disk ? "max_bytes=1MiB" : "buffer=1MiB");
		assert_int_equal(sendlog_limit(r->log) * 9 / 10 < sendlog_used(r->log), 1);
		for (int i = 0; i < 100; i++)
			sendlog_look(r->log, 1, nobody, r);
		assert_int_equal(count_lines(r, "ERROR"), 1);

		/* it comes back: slow is not away, and room is told */
		sendlog_look(r->log, hour, everybody, r);
		snprintf(line, sizeof line, "%s full: consumer 'ghost' does not keep up: %llu events",
			 disk ? "spool" : "buffer", (unsigned long long)committed - 40);
		assert_string_equal(r->health, line);
		assert_int_equal(sendlog_ack(r->log, "ghost", committed), 0);
		/* what had waited may be written now */
		for (int i = 0; r->health[0] && i < 100; i++) {
			ss_test_host_run(&r->host, 20);
			sendlog_ack(r->log, "ghost", sendlog_committed(r->log));
			sendlog_ack(r->log, "b", sendlog_committed(r->log));
			sendlog_look(r->log, 1, everybody, r);
		}
		assert_string_equal(r->health, "");
		expect_line(r, "INFO ");
		expect_line(r, " has room again, input goes on");
		close_log(r);
		assert_int_equal(count_lines(r, "ERROR"), 1);
		ss_test_host_clear(&r->host);
	}
}

static void full_of_a_slow_consumer(void **state)
{
	struct rig *r = *state;

	r->options.max_bytes = MIB;
	open_log(r);
	assert_int_equal(sendlog_ack(r->log, "slow", 0), 0);
	assert_int_equal(sendlog_ack(r->log, "slower", 0), 0);
	fill_up(r, 1);
	for (int i = 0; i < 29; i++)
		sendlog_look(r->log, 1, everybody, r);
	assert_string_equal(r->health, "");
	sendlog_look(r->log, 1, everybody, r);
	assert_non_null(strstr(r->health, "spool full: consumer 'slow' does not keep up: "));
	assert_non_null(strstr(r->health, " events, and 1 other consumer is behind"));
	close_log(r);
	expect_line(r, "ERROR Stopped with a full spool, so events that waited for it could not be stored: "
		       "consumer 'slow'");
}

static void stalled_disk(void **state)
{
	struct rig *r = *state;

	open_log(r);
	assert_int_equal(append(r, 1, 10, 0), 0);
	settle(r);
	for (int i = 0; i < 100; i++) { /* the writer has a seal to write yet */
		sendlog_look(r->log, 1, everybody, r);
		if (sendlog_committing_ns(r->log) == 0)
			break;
		ss_test_host_run(&r->host, 10);
	}
	assert_int_equal(sendlog_committing_ns(r->log), 0);
	atomic_store(&hold_syncs, true);
	assert_int_equal(append(r, 11, 10, 0), 0);
	for (int i = 0; i < 70 && !r->health[0]; i++) {
		ss_test_host_run(&r->host, 100);
		sendlog_look(r->log, 1, everybody, r);
	}
	uint64_t ns = sendlog_committing_ns(r->log);
	atomic_store(&hold_syncs, false);
	assert_string_equal(r->health, "writing the spool to disk has taken 5s so far");
	assert_true(ns >= UINT64_C(5000000000) && ns < UINT64_C(8000000000));
	expect_line(r, "WARN Writing the spool to disk takes longer than 5 s: nothing is acknowledged until "
		       "the disk answers");
	wait_for(r, r->committed == 20);
	for (int i = 0; r->health[0] && i < 100; i++) {
		ss_test_host_run(&r->host, 10);
		sendlog_look(r->log, 1, everybody, r);
	}
	assert_string_equal(r->health, "");
	expect_line(r, "INFO The disk of the spool answers again");
	assert_int_equal(count_lines(r, "WARN"), 1);
}

/* Counted when it goes, each once, by reason; who lacks it is named; what all have acknowledged is not lost.
 */
static void counts_what_it_drops(void **state)
{
	struct rig *r = *state;
	uint64_t seq = 1, before;

	for (int disk = 0; disk < 2; disk++, seq = 1) {
		r->options = (struct sendlog_options){
			.path = disk ? r->path : NULL, .max_bytes = MIB, .drop_oldest = true};
		r->n_lost = 0;
		open_log(r);
		assert_int_equal(sendlog_ack(r->log, "ghost", 0), 0);
		assert_int_equal(sendlog_ack(r->log, "b", 0), 0);
		assert_int_equal(append(r, seq, 100, 0), 0);
		settle(r);
		assert_int_equal(sendlog_ack(r->log, "ghost", 37), 0);
		sendlog_look(r->log, 60000000000, nobody, r);
		for (seq += 100; seq < 20000; seq += 100) {
			assert_int_equal(append(r, seq, 100, 0), 0);
			settle(r);
			assert_int_equal(sendlog_ack(r->log, "b", sendlog_committed(r->log)), 0);
			ss_test_host_run(&r->host, 0);
			before = sendlog_first(r->log) - 1;
			assert_int_equal(lost_records(r, "full"),
					 before > 37 ? before - 37 : 0); /* exactly, at once */
		}
		assert_true(lost_records(r, "full") > 1000);
		assert_int_equal(r->lost[0].from, 38);
		expect_line(r, "WARN Events lost: dropped to make room before every consumer acknowledged "
			       "them; consumer "
			       "'ghost' has not been here for 1m: ");
		/* one line now, one with the rest later or at the end */
		assert_true(count_lines(r, "Events lost") == 1);
		close_log(r);
		assert_true(count_lines(r, "Events lost") == 2);
		uint64_t told = 0, n;
		for (const char *at = r->host.log; (at = strstr(at, " events=")); at += 8) {
			assert_int_equal(sscanf(at, " events=%" SCNu64, &n), 1);
			told += n;
		}
		assert_int_equal(told, lost_records(r, "full"));
		ss_test_host_clear(&r->host);
	}
}

/* Change what the state says, as it was written. */
static void edit_state(struct rig *r, void (*edit)(struct spool_state *))
{
	struct log_cursor cursors[SENDLOG_CONSUMERS];
	struct spool_state st = {.cursors = cursors};
	char file[160];

	snprintf(file, sizeof file, "%s/state", r->path);
	int fd = open(file, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	struct ss_two_slot slots;
	bool has, doubt;
	assert_int_equal(spool_state_open(&slots, fd, &st, &has, &doubt), 0);
	assert_true(has && !doubt);
	edit(&st);
	assert_int_equal(spool_state_write(&slots, &st, false), 0);
	ss_two_slot_close(&slots);
	close(fd);
}

static void another_boot(struct spool_state *st)
{
	st->boot[3] ^= 1;
}

static void another_file(struct spool_state *st)
{
	st->identity++;
}

static void some_records(struct rig *r, uint64_t seq)
{
	assert_int_equal(append(r, seq, 50, 0), 0);
	settle(r);
}

static void a_crash_of_the_machine_renews(void **state)
{
	struct rig *r = *state;
	uint8_t epochs[SENDLOG_PAST + 5][16];
	struct reader rd;

	for (unsigned i = 0; i < SENDLOG_PAST + 5; i++) {
		if (i)
			edit_state(r, i % 2 ? another_boot : another_file);
		open_log(r);
		memcpy(epochs[i], sendlog_epoch(r->log), 16);
		assert_int_equal(!!sendlog_why_renewed(r->log), i > 0);
		/* numbers go on, and up to where it was opened each earlier epoch is right */
		assert_int_equal(sendlog_next(r->log), 50 * i + 1);
		assert_int_equal(sendlog_past(r->log, epochs[i]), 0);
		for (unsigned k = 0; k < i; k++)
			assert_int_equal(sendlog_past(r->log, epochs[k]),
					 i - k > SENDLOG_PAST ? 0 : 50 * (k + 1));
		some_records(r, 50 * i + 1);
		assert_int_equal(read_all(r, 1, 100, &rd), 50 * (i + 1));
		assert_int_equal(rd.gaps, 0);
		close_log(r);
		open_log(r); /* once only */
		assert_null(sendlog_why_renewed(r->log));
		assert_memory_equal(sendlog_epoch(r->log), epochs[i], 16);
		close_log(r);
	}
	assert_int_equal(r->n_lost, 0);
}

static void a_copy_is_another_log(void **state)
{
	struct rig *r = *state;
	char command[400];
	uint8_t epoch[16];

	open_log(r);
	memcpy(epoch, sendlog_epoch(r->log), 16);
	some_records(r, 1);
	assert_int_equal(sendlog_ack(r->log, "b", 20), 0);
	close_log(r);
	snprintf(command, sizeof command, "cp -a '%s' '%s.copy'", r->path, r->path);
	assert_int_equal(system(command), 0);
	strcat(r->path, ".copy");
	open_log(r);
	assert_non_null(sendlog_why_renewed(r->log));
	assert_memory_not_equal(sendlog_epoch(r->log), epoch, 16);
	assert_int_equal(sendlog_past(r->log, epoch), 50);
	assert_int_equal(sendlog_cursor(r->log, "b"), 20);
}

static void lost_state_renews(void **state)
{
	struct rig *r = *state;
	uint8_t epoch[16];
	char file[160];
	struct reader rd;

	open_log(r);
	memcpy(epoch, sendlog_epoch(r->log), 16);
	some_records(r, 1);
	close_log(r);
	snprintf(file, sizeof file, "%s/state", r->path);
	assert_int_equal(unlink(file), 0);
	open_log(r);
	assert_memory_not_equal(sendlog_epoch(r->log), epoch, 16);
	assert_int_equal(sendlog_past(r->log, epoch), 50);
	assert_int_equal(read_all(r, 1, 100, &rd), 50);
}

static void renewed_by_the_owner(void **state)
{
	struct rig *r = *state;
	uint8_t before[16], after[16];
	struct reader rd;

	for (int disk = 0; disk < 2; disk++) {
		r->options.path = disk ? r->path : NULL;
		open_log(r);
		some_records(r, 1);
		memcpy(before, sendlog_epoch(r->log), 16);
		assert_int_equal(sendlog_renew(r->log), 0);
		memcpy(after, sendlog_epoch(r->log), 16);
		assert_memory_not_equal(before, after, 16);
		assert_int_equal(sendlog_past(r->log, before), 0); /* nobody knows up to where */
		some_records(r, 51);
		assert_int_equal(read_all(r, 1, 100, &rd), 100);
		close_log(r);
	}
	open_log(r);
	assert_memory_equal(sendlog_epoch(r->log), after, 16);
	assert_int_equal(read_all(r, 1, 100, &rd), 100);
}

/* ---- damage ---- */

static void slurp(const char *path, uint8_t **data, size_t *len)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	*len = (size_t)st.st_size;
	*data = malloc(*len + 1);
	assert_int_equal(read(fd, *data, *len), (ssize_t)*len);
	close(fd);
}

static void spit(const char *path, const uint8_t *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
}

/* A spool of some segments, as files. */
struct image {
	char file[8][160];
	uint8_t *data[8];
	size_t len[8];
	int n;
	uint64_t committed;
};

static void make_image(struct rig *r, struct image *im)
{
	static const char *const names[] = {"state", "0000000000000001.seg", "0000000000000002.seg",
					    "0000000000000003.seg"};
	uint64_t seq = 1;

	*im = (struct image){.n = 4};
	r->options.max_bytes = MIB;
	open_log(r);
	assert_int_equal(sendlog_ack(r->log, "b", 0), 0);
	while (seq < 2500) {
		assert_int_equal(append(r, seq, 5, 1), 0);
		seq += 5;
		if (seq % 15 == 1)
			settle(r);
	}
	settle(r);
	im->committed = sendlog_committed(r->log);
	close_log(r);
	for (int i = 0; i < im->n; i++) {
		snprintf(im->file[i], sizeof im->file[i], "%s/%s", r->path, names[i]);
		slurp(im->file[i], &im->data[i], &im->len[i]);
	}
}

static void put_image(const struct image *im)
{
	for (int i = 0; i < im->n; i++)
		spit(im->file[i], im->data[i], im->len[i]);
}

static void free_image(struct image *im)
{
	for (int i = 0; i < im->n; i++)
		free(im->data[i]);
}

/* Every record comes, as it was, or is told as lost once; new ones follow. */
static void all_accounted_for(struct rig *r, const struct image *im, uint64_t most_lost)
{
	struct reader rd;

	r->n_lost = 0;
	open_log(r);
	uint64_t before = sendlog_next(r->log);
	assert_true(before >= im->committed + 1);
	uint64_t n = read_all(r, 1, 100, &rd);
	uint64_t lost = lost_records(r, "corrupt");
	assert_int_equal(sendlog_corrupt(r->log), lost);
	/* an oldest segment that is gone altogether looks like one that was let go of: the link tells of it
	 */
	uint64_t gone = sendlog_first(r->log) - 1;
	assert_int_equal(n + lost + gone, sendlog_committed(r->log));
	assert_true(lost + gone <= most_lost);
	assert_int_equal(read_all(r, 1, 33, &rd), n); /* not told twice */
	assert_int_equal(lost_records(r, "corrupt"), lost);
	assert_int_equal(append(r, before, 10, 0), 0);
	settle(r);
	assert_int_equal(read_all(r, 1, 100, &rd), n + 10);
	close_log(r);
	open_log(r);
	assert_int_equal(read_all(r, 1, 100, &rd), n + 10);
	close_log(r);
}

static void one_damaged_byte(void **state)
{
	struct rig *r = *state;
	struct image im;
	char spare[160];

	make_image(r, &im);
	snprintf(spare, sizeof spare, "%s/0000000000000004.seg", r->path);
	srand(1);
	for (int round = 0; round < 300; round++) {
		int file = rand() % im.n;
		/* the first bytes of a file, where the headers are, more often than others */
		size_t at = (size_t)rand() % (round % 3 == 0 ? 200 : im.len[file]);
		uint8_t old = im.data[file][at];
		im.data[file][at] ^= (uint8_t)(1 + rand() % 255);
		put_image(&im);
		unlink(spare);
		all_accounted_for(r, &im, 1); /* the record it lies in; headers and indices are mended */
		im.data[file][at] = old;
	}
	free_image(&im);
}

static void one_damaged_bit(void **state)
{
	struct rig *r = *state;
	struct image im;
	char spare[160];

	make_image(r, &im);
	snprintf(spare, sizeof spare, "%s/0000000000000004.seg", r->path);
	srand(3);
	for (int round = 0; round < 300; round++) {
		int file = rand() % im.n;
		/* headers and index of the first frame, and everywhere else */
		size_t at = (size_t)rand() % (round % 2 ? 400 : im.len[file]);
		uint8_t bit = (uint8_t)(1 << rand() % 8);
		im.data[file][at] ^= bit;
		put_image(&im);
		unlink(spare);
		all_accounted_for(r, &im, 1);
		im.data[file][at] ^= bit;
	}
	free_image(&im);
}

/* A frame of 20 records with a position, as the writer makes it. */
static uint32_t make_frame(uint8_t *frame, struct frame *f, const uint8_t epoch[16], uint64_t offset)
{
	struct seg_position p = {3, "from", 4, {.seq = 19}};
	char text[256];
	size_t payload = 0;

	for (uint32_t i = 0; i < 20; i++)
		payload += record(i, text, sizeof text);
	*f = (struct frame){
		.count = 20, .meta_len = (uint32_t)seg_position_size(4), .first_seq = 100, .time_ns = 9};
	f->len = (uint32_t)frame_size(f->count, f->meta_len, payload);
	memset(frame, 0, f->len);
	seg_position_write(frame + FRAME_HEADER, &p);
	uint8_t *at = frame + FRAME_HEADER + f->meta_len + f->count * FRAME_INDEX;
	for (uint32_t i = 0; i < f->count; i++) {
		struct ss_event e = {.data = at, .time_ns = i};
		e.len = record(i, (char *)at, 256);
		frame_set_record(frame, f, i, &e);
		at += e.len;
	}
	frame_finish(frame, f, epoch, 7, offset);
	return f->len;
}

/* How many of its records read well; all else of it has to be as it was. */
static uint32_t good_records(uint8_t *frame, const uint8_t epoch[16], uint64_t offset)
{
	struct seg_position p = {0};
	struct frame_walk w = {0};
	struct ss_event e;
	struct frame f;
	size_t at = 0;
	uint32_t good = 0;

	if (!frame_read(frame, epoch, 7, offset, &f) || !frame_mend_index(frame, &f))
		return 0;
	assert_true(f.first_seq == 100 && f.time_ns == 9 && f.count == 20);
	assert_true(frame_position(frame, &f, &at, &p) && p.port == 3 && p.position.seq == 19);
	assert_memory_equal(p.source, "from", 4);
	for (; frame_next(frame, &f, &w, &e); assert_int_equal(e.time_ns, w.i - 1))
		good += frame_record_ok(frame, &f, w.i - 1, &e);
	return good;
}

static void every_bit_of_a_frame(void **state)
{
	static const uint8_t epoch[16] = {1, 2, 3};
	static uint8_t frame[8192], damaged[8192];
	struct frame f;

	(void)state;
	uint32_t len = make_frame(frame, &f, epoch, 4096);
	size_t index_end = FRAME_HEADER + f.meta_len + 20 * FRAME_INDEX;
	for (size_t bit = 0; bit < 8 * (size_t)len; bit++) {
		memcpy(damaged, frame, len);
		damaged[bit / 8] ^= (uint8_t)(1 << bit % 8);
		uint32_t good = good_records(damaged, epoch, 4096);
		if (bit < 8 * index_end)
			assert_int_equal(good, 20);
		else
			assert_true(good >= 19);
	}
	for (size_t at = 0; at < index_end; at++) {
		memcpy(damaged, frame, len);
		damaged[at] ^= 0x5a;
		assert_int_equal(good_records(damaged, epoch, 4096), 20);
	}
	/* what is whole, but of another place, life or log, is no damage */
	memcpy(damaged, frame, len);
	assert_int_equal(good_records(damaged, epoch, 4096 + 8), 0);
	frame_finish(damaged, &f, epoch, 6, 4096);
	assert_int_equal(good_records(damaged, epoch, 4096), 0);
	frame_finish(damaged, &f, (const uint8_t[16]){1, 2, 2}, 7, 4096);
	assert_int_equal(good_records(damaged, epoch, 4096), 0);
}

static void a_damaged_record_is_one(void **state)
{
	struct rig *r = *state;
	struct image im;
	char text[512];

	make_image(r, &im);
	uint32_t len = record(1234, text, sizeof text);
	bool found = false;
	for (int i = 1; i < im.n && !found; i++) {
		uint8_t *at = memmem(im.data[i], im.len[i], text, len);
		if (!at)
			continue;
		found = true;
		at[len / 2] ^= 1;
		put_image(&im);
	}
	assert_true(found);
	all_accounted_for(r, &im, 1);
	assert_int_equal(r->n_lost, 2); /* told again after it was opened again */
	assert_int_equal(r->lost[0].from, 1234);
	assert_int_equal(r->lost[1].from, 1234);
	free_image(&im);
}

static void cut_files(void **state)
{
	struct rig *r = *state;
	struct image im;
	char spare[160];

	make_image(r, &im);
	snprintf(spare, sizeof spare, "%s/0000000000000004.seg", r->path);
	srand(2);
	for (int round = 0; round < 60; round++) {
		int file = 1 + rand() % (im.n - 1);
		size_t len = im.len[file];
		im.len[file] = (size_t)rand() % len;
		put_image(&im);
		unlink(spare);
		all_accounted_for(r, &im, UINT64_MAX);
		im.len[file] = len;
	}
	/* missing files, the state among them */
	for (int file = 0; file < im.n; file++) {
		put_image(&im);
		unlink(spare);
		unlink(im.file[file]);
		all_accounted_for(r, &im, UINT64_MAX);
	}
	free_image(&im);
}

/* ---- kills ---- */

/* In a process of its own: append, acknowledge, tell what is committed; until it is killed. */
static void victim(struct rig *r, int tell, unsigned seed)
{
	struct ss_position p[2] = {0};

	srand(seed);
	ss_test_host_init(&r->host, &component);
	open_log(r);
	r->tell = tell;
	sendlog_positions(r->log, count_position, p);
	uint64_t seq = p[0].seq + 1;
	for (;;) {
		/* some of it comes again */
		uint64_t from = seq > 20 && rand() % 4 == 0 ? seq - (uint64_t)(rand() % 20) : seq;
		uint32_t n = 1 + (uint32_t)rand() % 200;
		if (append(r, from, n, 1) >= 0)
			seq = from + n > seq ? from + n : seq;
		ss_test_host_run(&r->host, rand() % 3 ? 0 : 5);
		uint64_t keep = (uint64_t)rand() % 4000;
		if (sendlog_committed(r->log) > keep)
			sendlog_ack(r->log, "b", sendlog_committed(r->log) - keep);
	}
}

static void killed(void **state)
{
	struct rig *r = *state;
	uint64_t told = 0;

	r->options.max_bytes = MIB;
	srand(3);
	for (int round = 0; round < 200; round++) {
		int p[2];
		unsigned seed = (unsigned)rand();
		assert_int_equal(pipe(p), 0);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			close(p[0]);
			victim(r, p[1], seed);
			_exit(1);
		}
		close(p[1]);
		for (int n = rand() % 12; n >= 0 && read(p[0], &told, sizeof told) == sizeof told; n--)
			;
		struct timespec pause = {.tv_nsec = rand() % 3000000};
		nanosleep(&pause, NULL); /* at any moment: that is the point */
		kill(pid, SIGKILL);
		int status;
		waitpid(pid, &status, 0);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		while (read(p[0], &told, sizeof told) == sizeof told)
			;
		close(p[0]);
		/* a second's worth of cursors may be old; records never */
		open_log(r);
		struct ss_position pos[2] = {0};
		sendlog_positions(r->log, count_position, pos);
		assert_true(sendlog_committed(r->log) >= told);
		assert_int_equal(pos[0].seq, sendlog_committed(r->log));
		uint64_t first = sendlog_first(r->log);
		struct reader rd;
		assert_int_equal(read_all(r, first, 100, &rd), sendlog_committed(r->log) + 1 - first);
		assert_int_equal(rd.gaps, 0);
		assert_int_equal(r->n_lost, 0);
		assert_true(disk_size(r) <= MIB);
		/* often the cursor of before is all there is: then it must not point before the first record
		 */
		assert_true(first == 1 || sendlog_cursor(r->log, "b") + 1 >= first ||
			    sendlog_cursor(r->log, "b") == 0);
		close_log(r);
	}
}

/* ---- a full disk ---- */

static void disk_full(void **state)
{
	struct rig *r = *state;
	char filler[128];
	uint64_t seq = 1;

	if (geteuid() != 0 || mount("none", r->base, "tmpfs", 0, "size=4m") < 0) {
		print_message("needs root, to mount a small file system\n");
		skip();
	}
	snprintf(filler, sizeof filler, "%s/filler", r->base);
	int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(posix_fallocate(fd, 0, 2 * MIB), 0);
	r->options.max_bytes = 8 * MIB;
	open_log(r);
	assert_int_equal(sendlog_ack(r->log, "b", 0), 0);
	for (int tries = 0; tries < 400 && !r->troubles; tries++) {
		if (append(r, seq, 100, 1) == 0)
			seq += 100;
		ss_test_host_run(&r->host, 20);
	}
	assert_int_equal(r->troubles, 1);
	assert_non_null(strstr(r->trouble, "No space left"));
	uint64_t committed = sendlog_committed(r->log);
	assert_true(committed < seq - 1);
	assert_int_equal(read_all(r, 1, 100, NULL), committed);
	for (int i = 0; i < 5; i++)
		ss_test_host_run(&r->host, 50);
	assert_int_equal(r->troubles, 1);
	assert_int_equal(r->recoveries, 0);
	assert_int_equal(sendlog_committed(r->log), committed);

	/* cursors are kept, on the full disk */
	assert_int_equal(sendlog_ack(r->log, "b", 7), 0);
	assert_int_equal(unlink(filler), 0);
	close(fd);
	settle(r);
	wait_for(r, r->recoveries == 1);
	assert_int_equal(r->troubles, 1);
	assert_int_equal(read_all(r, 1, 100, NULL), seq - 1 - 7);
	close_log(r);
	open_log(r);
	assert_int_equal(sendlog_cursor(r->log, "b"), 7);
	assert_int_equal(read_all(r, 8, 100, NULL), seq - 1 - 7);
	assert_int_equal(r->n_lost, 0);
	close_log(r);
	assert_int_equal(umount(r->base), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(memory_keeps_until_acked),
		TEST(memory_is_limited),
		TEST(memory_drops_oldest),
		TEST(memory_has_duplicates),
		TEST(spool_is_there_again),
		TEST(spool_keeps_positions),
		TEST(spool_remembers_cursors),
		TEST(spool_full_blocks),
		TEST(spool_closes_when_full),
		TEST(spool_drops_oldest),
		TEST(spool_forgets_by_age),
		TEST(spool_serves_laggards),
		TEST(spool_takes_large_records),
		TEST(spool_is_one_process),
		TEST(spool_wants_a_safe_folder),
		TEST(spool_relaxed),
		TEST(forgets_who_stays_away),
		TEST(forgets_nobody_by_default),
		TEST(full_says_who),
		TEST(full_of_a_slow_consumer),
		TEST(counts_what_it_drops),
		TEST(stalled_disk),
		TEST(a_crash_of_the_machine_renews),
		TEST(a_copy_is_another_log),
		TEST(lost_state_renews),
		TEST(renewed_by_the_owner),
		TEST(one_damaged_byte),
		TEST(one_damaged_bit),
		TEST(every_bit_of_a_frame),
		TEST(a_damaged_record_is_one),
		TEST(cut_files),
		TEST(killed),
		TEST(disk_full),
	};
	return cmocka_run_group_tests_name("sendlog", tests, NULL, NULL);
}
