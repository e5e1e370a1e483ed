/* SPDX-License-Identifier: MIT */
/* The attributes of records, in memory, in the cache of a spool and on its disk. */
#include "helper_sendlog.h"

enum { BATCHES = 12, ROWS = 300, ALL = BATCHES * ROWS };

/* What record seq has: nothing, one of a few sets, or one of its own, which is as long as can be. */
static void texts_of(uint64_t seq, char origin[SS_ATTR_NAME_MAX + 1], char path[SS_ATTR_PATH_MAX + 1])
{
	origin[0] = path[0] = '\0';
	if (seq / ROWS % 3 == 0 && seq % 5)
		snprintf(origin, SS_ATTR_NAME_MAX + 1, "edge-%u", (unsigned)(seq / 7 % 4));
	if (seq / ROWS % 3 == 1) {
		memset(path, 'p', SS_ATTR_PATH_MAX);
		path[SS_ATTR_PATH_MAX] = '\0';
		snprintf(path, 24, "%llu", (unsigned long long)seq);
		path[strlen(path)] = '/';
		snprintf(origin, SS_ATTR_NAME_MAX + 1, "%0*llu", SS_ATTR_NAME_MAX, (unsigned long long)seq);
	}
}

static void append_all(struct rig *r, uint8_t epoch)
{
	char origin[SS_ATTR_NAME_MAX + 1], path[SS_ATTR_PATH_MAX + 1];

	for (uint64_t seq = 1; seq <= ALL; seq += ROWS) {
		struct ss_batch *b = batch_of(r, seq, ROWS, 0, 0);
		struct ss_position at = {.seq = seq + ROWS - 1};
		for (uint32_t i = 0; i < ROWS; i++) {
			texts_of(seq + i, origin, path);
			const char *const texts[SS_ATTR_COUNT] = {[SS_ATTR_PEER] = "peer",
								  [SS_ATTR_ORIGIN] =
									  origin[0] ? origin : NULL,
								  [SS_ATTR_PATH] = path[0] ? path : NULL};
			if (origin[0])
				ss_test_host_attributes(&r->host, b, i, texts, SS_ATTR_ORIGIN_VERIFIED);
		}
		memset(at.epoch, epoch, sizeof at.epoch);
		int rc = sendlog_admit(r->log, b, epoch);
		for (int tries = 0; rc == -EAGAIN && tries < 100; tries++) {
			ss_test_host_run(&r->host, 200);
			rc = sendlog_admit(r->log, b, epoch);
		}
		assert_int_equal(rc, 0);
		assert_int_equal(sendlog_append(r->log, b, &at, epoch ? sizeof at : 0), 0);
		r->host.host.batch_unref(b);
	}
	wait_for(r, sendlog_committed(r->log) == ALL);
}

struct looking {
	struct rig *r;
	uint64_t next;
	bool first; /* of a read */
	uint32_t again;
	uint8_t last[SS_ATTRIBUTE_SET_MAX];
	size_t last_len;
};

/* Who is told that they are those of the record before need not look. */
static void look_again(struct looking *l, const uint8_t *set, size_t len, bool again)
{
	if (again) {
		assert_false(l->first);
		assert_int_equal(len, l->last_len);
		assert_memory_equal(set, l->last, len);
		l->again++;
	}
	l->first = false;
	l->last_len = len;
	if (len)
		memcpy(l->last, set, len);
}

static bool look(void *arg, uint64_t seq, const struct ss_event *e)
{
	struct looking *l = arg;
	char origin[SS_ATTR_NAME_MAX + 1], path[SS_ATTR_PATH_MAX + 1], text[256];
	struct ss_attributes a;
	size_t len;
	bool again;

	assert_int_equal(seq, l->next++);
	assert_int_equal(e->len, record(seq, text, sizeof text));
	assert_memory_equal(e->data, text, e->len);
	const uint8_t *set = sendlog_attributes(l->r->log, &len, &again);
	look_again(l, set, len, again);
	texts_of(seq, origin, path);
	assert_int_equal(len != 0, origin[0] != '\0');
	if (!len)
		return true;
	assert_int_equal(ss_attribute_set_read(set, len, &a), 0);
	assert_int_equal(a.flags, SS_ATTR_ORIGIN_VERIFIED);
	assert_null(a.values[SS_ATTR_PEER].text);
	assert_int_equal(a.values[SS_ATTR_ORIGIN].len, strlen(origin));
	assert_memory_equal(a.values[SS_ATTR_ORIGIN].text, origin, strlen(origin));
	assert_int_equal(a.values[SS_ATTR_PATH].len, strlen(path));
	if (path[0])
		assert_memory_equal(a.values[SS_ATTR_PATH].text, path, strlen(path));
	return true;
}

/* In pieces, so that reading begins anew in the midst of frames. */
static void look_at_all(struct rig *r, uint64_t from, uint32_t piece)
{
	struct looking l = {.r = r, .next = from};

	for (uint64_t seq = from, before = 0; seq != before;) {
		before = seq;
		l.first = true;
		seq = sendlog_read(r->log, seq, piece, look, &l);
	}
	assert_true(l.again > 0);
	assert_int_equal(l.next, ALL + 1);
}

static void keep_and_look(struct rig *r, uint8_t epoch)
{
	open_log(r);
	append_all(r, epoch);
	look_at_all(r, 1, 7);
	look_at_all(r, 1, 100000);
	look_at_all(r, 555, 13);
}

static void in_memory(void **state)
{
	struct rig *r = *state;

	r->options.path = NULL;
	keep_and_look(r, 0);
}

static void on_disk(void **state)
{
	struct rig *r = *state;

	keep_and_look(r, 0);
	close_log(r);
	open_log(r);
	look_at_all(r, 1, 11);
	look_at_all(r, 1, 100000);
	look_at_all(r, 777, 3);
}

/* Batches that are committed together with a snapshot. */
static void on_disk_with_snapshots(void **state)
{
	struct rig *r = *state;

	keep_and_look(r, 3);
	close_log(r);
	open_log(r);
	assert_int_equal(r->taken.seq, ALL);
	look_at_all(r, 1, 11);
}

/* The smallest spool takes events whose attributes are far longer than they, once there is room. */
static void the_smallest_spool(void **state)
{
	struct rig *r = *state;
	struct looking l = {.r = r, .next = 1};

	r->options.max_bytes = SPOOL_MIN;
	open_log(r);
	assert_int_equal(ack(r, "b", 0), 0);
	for (uint64_t seq = 1; seq <= ROWS * 6; seq += 20) {
		struct ss_batch *b = batch_of(r, seq, 20, 0, 0);
		char origin[SS_ATTR_NAME_MAX + 1], path[SS_ATTR_PATH_MAX + 1];
		for (uint32_t i = 0; i < 20; i++) {
			texts_of(seq + i, origin, path);
			const char *const texts[SS_ATTR_COUNT] = {[SS_ATTR_ORIGIN] =
									  origin[0] ? origin : NULL,
								  [SS_ATTR_PATH] = path[0] ? path : NULL};
			if (origin[0])
				ss_test_host_attributes(&r->host, b, i, texts, SS_ATTR_ORIGIN_VERIFIED);
		}
		for (int tries = 0; sendlog_admit(r->log, b, false) == -EAGAIN; tries++) {
			assert_true(tries < 100);
			ss_test_host_run(&r->host, 200);
			l.next = sendlog_read(r->log, l.next, 1000, look, &l);
			assert_int_equal(ack(r, "b", l.next - 1), 0);
		}
		assert_int_equal(sendlog_append(r->log, b, NULL, 0), 0);
		r->host.host.batch_unref(b);
	}
	for (int tries = 0; l.next <= ROWS * 6; tries++) {
		assert_true(tries < 100);
		ss_test_host_run(&r->host, 200);
		l.next = sendlog_read(r->log, l.next, 1000, look, &l);
		assert_int_equal(ack(r, "b", l.next - 1), 0);
	}
	assert_int_equal(l.next, ROWS * 6 + 1);
	assert_int_equal(r->n_lost, 0);
	assert_true(disk_size(r) <= SPOOL_MIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(in_memory),
		TEST(on_disk),
		TEST(on_disk_with_snapshots),
		TEST(the_smallest_spool),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
