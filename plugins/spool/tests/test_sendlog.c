/* SPDX-License-Identifier: MIT */
/* test_sendlog - the sender's log in memory and on disk: what is kept, limits, cursors. */
#include "helper_sendlog.h"

/* ---- memory ---- */

static void memory_keeps_until_acked(void **state)
{
	struct rig *r = *state;

	r->options.path = NULL;
	open_log(r);
	assert_int_equal(sendlog_first(r->log), 1);
	assert_int_equal(sendlog_next(r->log), 1);
	assert_int_equal(sendlog_figures(r->log).oldest_ns, 0);
	assert_int_equal(append(r, 1, 10, 0), 0);
	assert_int_equal(append(r, 11, 10, 0), 0);
	assert_int_equal(sendlog_committed(r->log), 20); /* at once; told from the loop */
	assert_int_equal(r->committed, 0);
	wait_for(r, r->committed == 20);
	assert_int_equal(read_all(r, 1, 3, NULL), 20);
	assert_int_equal(read_all(r, 15, 100, NULL), 6);
	assert_true(sendlog_figures(r->log).oldest_ns > 0);

	/* nobody is known: it stays */
	assert_int_equal(sendlog_all_acked(r->log), 0);
	assert_int_equal(ack(r, "b", 12), 0);
	assert_int_equal(ack(r, "c", 0), 0);
	assert_int_equal(sendlog_first(r->log), 13); /* c came later */
	assert_int_equal(ack(r, "b", 20), 0);
	assert_int_equal(sendlog_all_acked(r->log), 0);
	assert_int_equal(ack(r, "c", 15), 0);
	assert_int_equal(sendlog_all_acked(r->log), 15);
	assert_int_equal(sendlog_first(r->log), 16);
	assert_int_equal(sendlog_view(r->log, "c", NULL).cursor, 15);
	assert_int_equal(sendlog_view(r->log, "d", NULL).cursor, 0);
	assert_int_equal(ack(r, "c", 3), 0);    /* never back */
	assert_int_equal(ack(r, "c", 1000), 0); /* nor beyond what there is */
	assert_int_equal(sendlog_view(r->log, "c", NULL).cursor, 20);
	assert_int_equal(sendlog_first(r->log), 21);
	assert_int_equal(sendlog_figures(r->log).bytes, 0);
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
	assert_true(sendlog_figures(r->log).bytes <= 64 << 10);
	assert_true(sendlog_figures(r->log).bytes > 48 << 10);
	assert_int_equal(append(r, seq, 16, 0), -EAGAIN);
	assert_int_equal(sendlog_next(r->log), seq);
	assert_int_equal(ack(r, "b", seq / 2), 0);
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
	assert_int_equal(ack(r, "b", 0), 0);
	for (uint64_t seq = 1; seq < 16 * 200; seq += 16)
		assert_int_equal(append(r, seq, 16, 0), 0);
	settle(r);
	wait_for(r, r->committed == 3200);
	assert_true(sendlog_figures(r->log).bytes <= 64 << 10);
	assert_int_equal(lost_records(r, "full"), sendlog_first(r->log) - 1);
	assert_int_equal(r->lost[0].from, 1);
	assert_int_equal(read_all(r, 1, 1000, &rd), 3201 - sendlog_first(r->log));
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
	memcpy(epoch, sendlog_view(r->log, "", NULL).epoch, 16);
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
		assert_memory_equal(sendlog_view(r->log, "", NULL).epoch, epoch, 16);
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
	assert_int_equal(sendlog_figures(r->log).corrupt, 0);

	/* fn that has had enough: the record it refused is the next one */
	rd = (struct reader){.next = 1, .stop_after = 5};
	assert_int_equal(sendlog_read(r->log, 1, 100, take, &rd), 6);
}

static void spool_keeps_the_snapshot(void **state)
{
	struct rig *r = *state;
	size_t size;

	open_log(r);
	assert_null(sendlog_snapshot(r->log, &size));
	assert_int_equal(append(r, 1, 10, 1), 0);
	assert_int_equal(append(r, 3, 10, 1), 8);
	assert_int_equal(append(r, 100, 5, 0), 0); /* one without: the last one counts */
	settle(r);
	uint64_t bytes = sendlog_figures(r->log).bytes;
	close_log(r);
	open_log(r);
	assert_int_equal(sendlog_figures(r->log).bytes, bytes);
	assert_int_equal(stored(r).seq, 12);
	assert_int_equal(stored(r).epoch[5], 1);
	assert_int_equal(sendlog_next(r->log), 18);
	assert_int_equal(append(r, 8, 10, 1), 5);
	settle(r);
	close_log(r);
	open_log(r);
	assert_int_equal(stored(r).seq, 17);
	assert_int_equal(sendlog_committed(r->log), 22);
}

/* A snapshot is committed with all events of its batch, in one frame however large it is, or not at all. */
static void a_snapshot_is_never_ahead_of_its_events(void **state)
{
	struct rig *r = *state;

	r->options.max_bytes = MIB;
	open_log(r);
	for (uint64_t seq = 1; seq < 6000; seq += 1500) {
		assert_int_equal(append(r, seq, 1500, 1), 0); /* more than a quarter of a segment */
		settle(r);
		assert_int_equal(ack(r, "b", sendlog_committed(r->log)), 0);
	}
	uint64_t committed = sendlog_committed(r->log);
	close_log(r);
	open_log(r);
	assert_int_equal(stored(r).seq, committed);
	assert_int_equal(append(r, committed + 1, 5000, 1), -EMSGSIZE);
	assert_int_equal(append(r, committed + 1, 5000, 0), 0); /* it may be split */
	settle(r);
}

static void spool_remembers_cursors(void **state)
{
	struct rig *r = *state;
	char name[160];

	open_log(r);
	assert_int_equal(append(r, 1, 100, 1), 0);
	settle(r);
	assert_int_equal(ack(r, "hub", 40), 0);
	assert_int_equal(ack(r, "cloud", 60), 0);
	assert_int_equal(ack(r, "new", 0), 0);
	close_log(r);
	open_log(r);
	assert_int_equal(sendlog_view(r->log, "hub", NULL).cursor, 40);
	assert_int_equal(sendlog_view(r->log, "cloud", NULL).cursor, 60);
	assert_int_equal(sendlog_all_acked(r->log), 0);
	assert_int_equal(ack(r, "new", 100), 0);
	assert_int_equal(sendlog_all_acked(r->log), 40);
	assert_int_equal(sendlog_first(r->log), 41);
	memset(name, 'x', sizeof name);
	name[150] = '\0';
	assert_int_equal(ack(r, name, 1), -ENAMETOOLONG);
	for (int i = 3; i < 128; i++) {
		snprintf(name, sizeof name, "%0127d", i);
		assert_int_equal(ack(r, name, 1), 0);
	}
	assert_int_equal(ack(r, "one too many", 1), -ENOSPC);
	close_log(r);
	open_log(r);
	assert_int_equal(sendlog_view(r->log, name, NULL).cursor, 1);
	assert_int_equal(sendlog_view(r->log, "new", NULL).cursor, 100);
}

static void consumers_have_limits(void **state)
{
	struct rig *r = *state;

	r->options.max_consumers = 4;
	for (int disk = 0; disk < 2; disk++) {
		r->options.path = disk ? r->path : NULL;
		open_log(r);
		assert_int_equal(sendlog_add_consumer(r->log, "a", false, true), 0);
		assert_int_equal(sendlog_add_consumer(r->log, "b", false, true), 0);
		/* the rest is for those whose name a certificate says */
		assert_int_equal(sendlog_add_consumer(r->log, "c", false, true), -ENOSPC);
		assert_int_equal(sendlog_add_consumer(r->log, "v", true, true), 0);
		assert_int_equal(sendlog_add_consumer(r->log, "c", false, false), -ENOSPC);
		assert_int_equal(sendlog_add_consumer(r->log, "w", true, true), 0);
		assert_int_equal(sendlog_add_consumer(r->log, "x", true, true), -ENOSPC);
		assert_int_equal(sendlog_ack(r->log, "x", 1), -ENOENT);
		/* and a name that a certificate said is nobody else's, also after a restart */
		assert_int_equal(sendlog_add_consumer(r->log, "a", true, true), 0);
		if (disk) {
			close_log(r);
			open_log(r);
		}
		assert_int_equal(sendlog_add_consumer(r->log, "v", false, true), -EACCES);
		assert_int_equal(sendlog_add_consumer(r->log, "a", false, false), -EACCES);
		assert_int_equal(sendlog_add_consumer(r->log, "b", false, true), 0);
		close_log(r);
	}
	/* where no name is verified all room is theirs */
	r->options.path = NULL;
	open_log(r);
	for (int i = 0; i < 5; i++) {
		char name[2] = {(char)('a' + i), 0};
		assert_int_equal(sendlog_add_consumer(r->log, name, false, false), i < 4 ? 0 : -ENOSPC);
	}
}

static void spool_full_blocks(void **state)
{
	struct rig *r = *state;
	uint64_t seq = 1;

	r->options.max_bytes = MIB;
	open_log(r);
	assert_int_equal(ack(r, "b", 0), 0);
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
	assert_true(sendlog_figures(r->log).bytes > MIB / 2);
	assert_int_equal(r->rooms, 0);
	assert_int_equal(r->troubles, 0);

	/* what is acknowledged makes room; nothing is missing in the end */
	uint64_t end = seq + 20000, read_to = 1;
	while (read_to < end) {
		if (seq < end && append(r, seq, 100, 1) == 0)
			seq += 100;
		read_to += read_all(r, read_to, 50, NULL);
		assert_int_equal(ack(r, "b", read_to - 1), 0);
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
	assert_int_equal(stored(r).seq, committed);
}

static void spool_drops_oldest(void **state)
{
	struct rig *r = *state;
	uint64_t seq = 1, next = 1;
	struct reader rd;

	r->options.max_bytes = MIB;
	r->options.drop_oldest = true;
	open_log(r);
	assert_int_equal(ack(r, "b", 0), 0);
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
	assert_int_equal(stored(r).seq, seq - 1);

	/* what b has had is not lost to it */
	uint32_t before = r->n_lost;
	assert_int_equal(ack(r, "b", seq - 1), 0);
	for (uint64_t end = seq + 100; seq < end; seq += 100)
		assert_int_equal(append(r, seq, 100, 1), 0);
	settle(r);
	assert_int_equal(r->n_lost, before);
}

static void spool_forgets_by_age(void **state)
{
	struct rig *r = *state;
	uint64_t now = wall_ns();

	r->options.max_age_ns = UINT64_C(3600000000000);
	open_log(r);
	for (uint64_t i = 0; i < 10; i++) {
		/* five of them two hours old, five new */
		struct ss_batch *b =
			batch_of(r, i * 10 + 1, 10, 1, i < 5 ? now - UINT64_C(7200000000000) + i : now + i);
		assert_int_equal(sendlog_admit(r->log, b, false), 0);
		assert_int_equal(sendlog_append(r->log, b, NULL, 0), 0);
		r->host.host.batch_unref(b);
		settle(r);
	}
	assert_int_equal(sendlog_figures(r->log).oldest_ns / 1000000000,
			 (now - UINT64_C(7200000000000)) / 1000000000);
	ss_test_host_advance(&r->host, UINT64_C(60000000000));
	wait_for(r, r->n_lost == 1);
	assert_int_equal(r->lost[0].from, 1);
	assert_int_equal(r->lost[0].to, 50);
	assert_string_equal(r->lost[0].reason, "age");
	assert_int_equal(sendlog_first(r->log), 51);
	assert_int_equal(read_all(r, 1, 100, NULL), 50);
	assert_int_equal(sendlog_figures(r->log).oldest_ns, now + 5);
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
	assert_true(sendlog_figures(r->log).bytes > 12 * MIB);
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

	r->options.max_bytes = MIB;
	open_log(r);
	for (size_t len = 400 << 10; len <= 1200 << 10; len += 800 << 10) {
		struct ss_batch *b = r->host.host.batch_new(&r->host.host, NULL, 1, len);
		memset(b->data, 'z', len);
		b->events[0] = (struct ss_event){.data = b->data, .len = (uint32_t)len, .time_ns = 1};
		b->count = 1;
		assert_int_equal(sendlog_admit(r->log, b, false), len < MIB ? 0 : -EMSGSIZE);
		if (len < MIB)
			assert_int_equal(sendlog_append(r->log, b, NULL, 0), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(memory_keeps_until_acked),
		TEST(memory_is_limited),
		TEST(memory_drops_oldest),
		TEST(spool_is_there_again),
		TEST(spool_keeps_the_snapshot),
		TEST(a_snapshot_is_never_ahead_of_its_events),
		TEST(consumers_have_limits),
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
	};
	return cmocka_run_group_tests_name("sendlog", tests, NULL, NULL);
}
