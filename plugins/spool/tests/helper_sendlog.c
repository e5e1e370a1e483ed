/* SPDX-License-Identifier: MIT */
#include "helper_sendlog.h"

const struct ss_component component = {
	.struct_size = sizeof component, .kind = SS_KIND_SINK, .type = "test", .version = "1"};

/* ---- a log with its owner ---- */

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

static void on_degraded(void *arg, const char *why)
{
	struct rig *r = arg;

	snprintf(r->degraded, sizeof r->degraded, "%s", why ? why : "");
}

static void on_forgotten(void *arg, const char *consumer, uint64_t acked)
{
	struct rig *r = arg;

	r->forgotten++;
	assert_string_equal(consumer, "b");
	assert_int_equal(acked, 10);
}

static const struct sendlog_events events = {.committed = on_committed,
					     .room = on_room,
					     .lost = on_lost,
					     .disk_error = on_trouble,
					     .health = on_health,
					     .degraded = on_degraded,
					     .forgotten = on_forgotten};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int setup(void **state)
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

int open_log_rc(struct rig *r, char why[256])
{
	r->committed = 0;
	int rc = sendlog_open(&r->host.host, &r->options, &events, r, why, &r->log);
	if (rc == 0)
		r->taken = stored(r); /* as the host does with a snapshot */
	return rc;
}

void open_log(struct rig *r)
{
	char why[256];
	int rc = open_log_rc(r, why);

	if (rc < 0)
		fail_msg("sendlog_open: %d %s", rc, why);
}

void close_log(struct rig *r)
{
	sendlog_close(r->log);
	r->log = NULL;
}

int teardown(void **state)
{
	struct rig *r = *state;

	close_log(r);
	ss_test_host_done(&r->host);
	nftw(r->base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(r);
	return 0;
}

/* What the record with sequence seq says; its length differs. */
uint32_t record(uint64_t seq, char *to, uint32_t size)
{
	uint32_t len = (uint32_t)snprintf(to, size, "{\"n\":%llu,\"pad\":\"", (unsigned long long)seq);

	for (uint32_t pad = (uint32_t)(seq * 7 % 150); pad > 0; pad--)
		to[len++] = (char)('a' + (seq + pad) % 26);
	to[len++] = '"';
	to[len++] = '}';
	return len;
}

uint64_t wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Events seq..seq+n-1 of a stream; tracked with a position if epoch is not 0. */
struct ss_batch *batch_of(struct rig *r, uint64_t seq, uint32_t n, uint8_t epoch, uint64_t time_ns)
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

/* As the host does: without what is there already, whose number is returned. */
int append(struct rig *r, uint64_t seq, uint32_t n, uint8_t epoch)
{
	uint64_t floor = epoch && r->taken.epoch[0] == epoch ? r->taken.seq : 0;
	uint32_t duplicates = floor < seq ? 0 : floor - seq + 1 < n ? (uint32_t)(floor - seq + 1) : n;
	struct ss_position at = {.seq = seq + n - 1};

	if (duplicates == n && n)
		return (int)n;
	struct ss_batch *b = batch_of(r, seq + duplicates, n - duplicates, epoch, 0);
	memset(at.epoch, epoch, sizeof at.epoch);
	int rc = sendlog_admit(r->log, b, epoch);
	if (rc == 0)
		rc = sendlog_append(r->log, b, &at, epoch ? sizeof at : 0);
	if (rc == 0 && epoch)
		r->taken = at;
	r->host.host.batch_unref(b);
	return rc < 0 ? rc : (int)duplicates;
}

/* The snapshot that the log was opened with. */
struct ss_position stored(const struct rig *r)
{
	struct ss_position p = {0};
	size_t size;
	const void *snapshot = sendlog_snapshot(r->log, &size);

	if (snapshot) {
		assert_int_equal(size, sizeof p);
		memcpy(&p, snapshot, size);
	}
	return p;
}

int ack(struct rig *r, const char *consumer, uint64_t seq)
{
	int rc = sendlog_add_consumer(r->log, consumer, false, false);

	return rc < 0 ? rc : sendlog_ack(r->log, consumer, seq);
}

void settle(struct rig *r)
{
	wait_for(r, sendlog_committed(r->log) == sendlog_next(r->log) - 1);
}

/* ---- reading ---- */

bool take(void *arg, uint64_t seq, const struct ss_event *e)
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
uint64_t read_all(struct rig *r, uint64_t seq, uint32_t piece, struct reader *rd)
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

uint64_t lost_records(const struct rig *r, const char *reason)
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
uint64_t disk_size(const struct rig *r)
{
	disk_sum = 0;
	disk_files = 0;
	nftw(r->path, add_size, 16, FTW_PHYS);
	return disk_sum;
}
