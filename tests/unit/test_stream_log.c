/* SPDX-License-Identifier: MIT */
/* Positions of thousands of streams in files of their own: appended, begun anew, damaged, cut, crashed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include <semstreams/base/file_atomic.h>
#include "core/flow/stream_log.h"

enum { MANY = 10000 };

struct rig {
	char folder[64], path[80];
	struct streams *streams;
	struct stream_log *log;
	uint8_t snapshot[STREAM_LOG_SNAPSHOT];
};

static void open_rig(struct rig *r, bool covers)
{
	r->streams = streams_new(covers);
	r->log = stream_log_new(r->path);
	assert_non_null(r->streams);
	assert_non_null(r->log);
	streams_clock(r->streams, 1000);
}

static void close_rig(struct rig *r)
{
	streams_free(r->streams);
	stream_log_free(r->log);
	r->streams = NULL;
	r->log = NULL;
}

static int set_up(void **state)
{
	struct rig *r = calloc(1, sizeof *r);

	strcpy(r->folder, "stream_log.XXXXXX");
	assert_non_null(mkdtemp(r->folder));
	snprintf(r->path, sizeof r->path, "%s/positions", r->folder);
	open_rig(r, false);
	*state = r;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *r = *state;
	char command[128];

	close_rig(r);
	snprintf(command, sizeof command, "rm -rf %s", r->folder);
	assert_int_equal(system(command), 0);
	free(r);
	return 0;
}

/* ---- what tests do ---- */

static void id_of(int i, uint8_t id[STREAM_ID])
{
	memset(id, 0, STREAM_ID);
	memcpy(id, &i, sizeof i);
}

static struct stream *get(const struct rig *r, int i)
{
	uint8_t id[STREAM_ID];

	id_of(i, id);
	return streams_get(r->streams, 0, "in", id);
}

/* Stream i has come to seq of an epoch. */
static void go_to(const struct rig *r, int i, uint8_t epoch, uint64_t seq)
{
	struct stream *st = get(r, i);
	struct ss_position at = {.epoch = {epoch}, .seq = seq};

	memcpy(at.stream, st->id, sizeof at.stream);
	stream_accept(st, &at);
}

static uint64_t seq_of(const struct rig *r, int i)
{
	uint8_t id[STREAM_ID];

	id_of(i, id);
	const struct stream *st = streams_find(r->streams, 0, "in", id);
	return st ? stream_position(st)->seq : 0;
}

static void save(struct rig *r)
{
	assert_int_equal(stream_log_save(r->log, r->streams, NULL, 0), STREAM_LOG_SNAPSHOT);
	assert_int_equal(stream_log_save(r->log, r->streams, r->snapshot, sizeof r->snapshot),
			 STREAM_LOG_SNAPSHOT);
}

static void commit(struct rig *r)
{
	save(r);
	assert_int_equal(stream_log_sync(r->log, r->snapshot, sizeof r->snapshot, true), 0);
	stream_log_committed(r->log, r->snapshot, sizeof r->snapshot);
}

static int load(struct rig *r, bool covered_only)
{
	return stream_log_load(r->log, r->streams, r->snapshot, sizeof r->snapshot, covered_only);
}

/* As after a crash. */
static int reload(struct rig *r)
{
	close_rig(r);
	open_rig(r, false);
	return load(r, false);
}

static off_t size_of(const struct rig *r, unsigned number)
{
	char name[128];
	struct stat st;

	snprintf(name, sizeof name, "%s.%u", r->path, number);
	return stat(name, &st) < 0 ? -1 : st.st_size;
}

static unsigned count_files(const struct rig *r)
{
	DIR *dir = opendir(r->folder);
	unsigned n = 0;

	for (const struct dirent *e; (e = readdir(dir));)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

/* ---- tests ---- */

static void few_streams_need_no_file(void **state)
{
	struct rig *r = *state;
	uint8_t buf[8192];

	for (int i = 0; i < STREAM_LOG_INLINE; i++)
		go_to(r, i, 1, 10 + (uint64_t)i);
	int64_t size = stream_log_save(r->log, r->streams, buf, sizeof buf);
	assert_int_equal(stream_log_sync(r->log, buf, (size_t)size, true), 0);
	stream_log_committed(r->log, buf, (size_t)size);
	assert_int_equal(count_files(r), 0);
	close_rig(r);
	open_rig(r, false);
	assert_int_equal(stream_log_load(r->log, r->streams, buf, (size_t)size, false), 0);
	assert_int_equal(seq_of(r, STREAM_LOG_INLINE - 1), 10 + STREAM_LOG_INLINE - 1);

	go_to(r, STREAM_LOG_INLINE, 1, 1); /* one more */
	commit(r);
	assert_int_equal(count_files(r), 1);
	assert_int_equal(reload(r), 0);
	assert_int_equal(seq_of(r, 0), 10);
	assert_int_equal(seq_of(r, STREAM_LOG_INLINE), 1);

	/* without a place for files all are in the snapshot */
	size = stream_log_save(NULL, r->streams, buf, sizeof buf);
	assert_true(size > 33 * 50);
	assert_int_equal(stream_log_sync(NULL, buf, (size_t)size, true), 0);
	stream_log_committed(NULL, buf, (size_t)size);
	assert_int_equal(stream_log_load(NULL, r->streams, buf, (size_t)size, false), 0);
	assert_int_equal(stream_log_load(NULL, r->streams, r->snapshot, sizeof r->snapshot, false), -EBADMSG);
}

static void what_moved_is_written(void **state)
{
	struct rig *r = *state;

	for (int i = 0; i < MANY; i++)
		go_to(r, i, 1, 1);
	commit(r);
	const off_t all = size_of(r, 1);
	commit(r);
	assert_int_equal(size_of(r, 1), all);
	for (int i = 0; i < 10; i++)
		go_to(r, 977 * i, 1, 2);
	commit(r);
	const off_t ten = size_of(r, 1) - all;
	print_message("%d streams: %lld bytes, then %lld bytes for a commit of which 10 moved\n", MANY,
		      (long long)all, (long long)ten);
	assert_in_range(ten, 10 * 12, 10 * 16);
	go_to(r, 5, 2, 7); /* another epoch */
	commit(r);
	assert_int_equal(reload(r), 0);
	assert_int_equal(streams_count(r->streams), MANY);
	assert_int_equal(seq_of(r, 977), 2);
	assert_int_equal(seq_of(r, 978), 1);
	assert_int_equal(seq_of(r, 5), 7);
	assert_int_equal(get(r, 5)->taken.epoch[0], 2);
	/* what goes on behind it is appended */
	go_to(r, 6, 1, 9);
	commit(r);
	assert_int_equal(count_files(r), 1);
	assert_int_equal(reload(r), 0);
	assert_int_equal(seq_of(r, 6), 9);
	assert_int_equal(seq_of(r, 5), 7);
}

/* Gone back, as after a failure, also to nothing. */
static void going_back(void **state)
{
	struct rig *r = *state;
	const struct ss_event event = {.seq = 4};
	const struct ss_batch batch = {.count = 1, .events = (struct ss_event *)&event};
	const struct ss_position at = {.epoch = {1}, .seq = 4};

	for (int i = 0; i < 40; i++)
		go_to(r, i, 1, 5);
	commit(r);
	stream_fail(get(r, 3), &at, &batch);
	commit(r);
	assert_int_equal(reload(r), 0);
	assert_int_equal(seq_of(r, 3), 3);
	const struct ss_event first = {.seq = 1};
	const struct ss_batch whole = {.count = 1, .events = (struct ss_event *)&first};
	stream_fail(get(r, 3), &at, &whole);
	commit(r);
	assert_int_equal(reload(r), 0);
	assert_int_equal(seq_of(r, 3), 0);
	assert_int_equal(seq_of(r, 4), 5);
}

static void rewound(void **state)
{
	struct rig *r = *state;
	struct ss_event event = {.seq = 1};
	const struct ss_batch batch = {.count = 1, .events = &event};
	const struct ss_position at = {.epoch = {1}, .seq = 1};

	close_rig(r);
	open_rig(r, true);
	for (int i = 0; i < 40; i++) {
		go_to(r, i, 1, 9);
		stream_cover(get(r, i), &at, &batch);
	}
	commit(r);
	const struct rig committed = *r;
	for (int round = 0; round < 3; round++) {
		event.seq = 5 + (uint64_t)round;
		stream_cover(get(r, 7), &at, &batch);
		stream_cover(get(r, 50 + round), &at, &batch);
		save(r);
		assert_int_equal(stream_log_sync(r->log, r->snapshot, sizeof r->snapshot, true), 0);
		assert_int_equal(seq_of(r, 7), event.seq);
		/* it could not be committed */
		memcpy(r->snapshot, committed.snapshot, sizeof r->snapshot);
		assert_int_equal(load(r, true), 0);
		assert_int_equal(seq_of(r, 7), 1);
		assert_int_equal(seq_of(r, 50 + round), 0);
		assert_int_equal(get(r, 7)->taken.seq, 9);
	}
	event.seq = 3;
	stream_cover(get(r, 8), &at, &batch);
	commit(r);
	close_rig(r);
	open_rig(r, true);
	assert_int_equal(load(r, false), 0);
	assert_int_equal(seq_of(r, 7), 1);
	assert_int_equal(seq_of(r, 8), 3);
	assert_int_equal(seq_of(r, 50), 0);

	/* to nothing: what follows has nothing to do with it */
	streams_uncover(r->streams);
	stream_log_restart(r->log);
	event.seq = 4;
	stream_cover(get(r, 8), &at, &batch);
	save(r);
	assert_int_equal(stream_log_sync(r->log, r->snapshot, sizeof r->snapshot, true), 0);
	close_rig(r);
	open_rig(r, true);
	assert_int_equal(load(r, false), 0);
	assert_int_equal(seq_of(r, 8), 4);
	assert_int_equal(seq_of(r, 7), 0);
}

static void write_file(const struct rig *r, unsigned number, const void *bytes, size_t len)
{
	char name[128];

	snprintf(name, sizeof name, "%s.%u", r->path, number);
	int fd = open(name, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ss_write_all(fd, bytes, len), 0);
	close(fd);
}

static void damaged_anywhere(void **state)
{
	struct rig *r = *state;
	char name[128], *bytes;
	size_t len;

	for (int i = 0; i < 40; i++)
		go_to(r, i, 1, 5);
	commit(r);
	go_to(r, 3, 1, 6);
	go_to(r, 4, 2, 1);
	commit(r);
	snprintf(name, sizeof name, "%s.1", r->path);
	assert_int_equal(ss_file_read(AT_FDCWD, name, 1 << 20, &bytes, &len, NULL), 0);
	for (size_t i = 0; i < len; i++) {
		bytes[i] ^= 0x10;
		write_file(r, 1, bytes, len);
		bytes[i] ^= 0x10;
		if (reload(r) != -EBADMSG || streams_count(r->streams) != 0)
			fail_msg("byte %zu is damaged and nobody says so", i);
	}
	for (size_t i = 0; i < len; i++) {
		write_file(r, 1, bytes, i);
		if (reload(r) != -EBADMSG || streams_count(r->streams) != 0)
			fail_msg("cut to %zu bytes and nobody says so", i);
	}
	assert_int_equal(unlink(name), 0);
	assert_int_equal(reload(r), -EBADMSG);
	/* a fresh one, in another file */
	for (int i = 0; i < 40; i++)
		go_to(r, i, 1, 8);
	write_file(r, 2, "older", 5);
	commit(r);
	assert_int_equal(size_of(r, 1), -1);
	assert_int_equal(reload(r), 0);
	assert_int_equal(seq_of(r, 3), 8);
	/* what is behind the part that counts does not */
	free(bytes);
	snprintf(name, sizeof name, "%s.2", r->path);
	assert_int_equal(ss_file_read(AT_FDCWD, name, 1 << 20, &bytes, &len, NULL), 0);
	bytes = realloc(bytes, len + 100);
	memset(bytes + len, 0xee, 100);
	write_file(r, 2, bytes, len + 100);
	assert_int_equal(reload(r), 0);
	free(bytes);
	/* of the snapshot a bit as well */
	for (size_t i = 0; i < sizeof r->snapshot; i++) {
		r->snapshot[i] ^= 1;
		const int rc = reload(r);
		assert_true(rc == -EBADMSG || rc == -EINVAL);
		r->snapshot[i] ^= 1;
	}
}

static void records_out_of_place(void **state)
{
	(void)state;
	struct stream_saved *all;
	uint32_t n;
	static const struct {
		const char *bytes;
		size_t len;
		int rc;
	} cases[] = {
		{"SSPLOG\n\1", 8, 0},
		{"SSPLOG\n\2", 8, -EBADMSG},
		{"SSPLOG\n", 7, -EBADMSG},
		{"", 0, -EBADMSG},
		{"SSPLOG\n\1\4\0\0\0\0", 13, 0},
		{"SSPLOG\n\1\5\0\0\0\0", 13, -EBADMSG},
		{"SSPLOG\n\1\0\0\0\0\0", 13, -EBADMSG},
		{"SSPLOG\n\1\4\0\0\0", 12, -EBADMSG},
		/* of a stream that nobody has defined */
		{"SSPLOG\n\1\2\1\0\0\0\0\0\0\0\0\0\0\0", 21, -EBADMSG},
		{"SSPLOG\n\1\2\0\0\0\0\0\0\0\0\0\0\0\0", 21, -EBADMSG},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		all = NULL;
		int rc = stream_log_read(cases[i].bytes, cases[i].len, &all, &n);
		if (rc != cases[i].rc)
			fail_msg("case %zu: %d", i, rc);
		if (rc == 0)
			free(all);
	}
}

static void a_disk_that_fails(void **state)
{
	struct rig *r = *state;
	char aside[128];

	for (int i = 0; i < 40; i++)
		go_to(r, i, 1, 5);
	save(r);
	snprintf(aside, sizeof aside, "%s.aside", r->folder);
	assert_int_equal(rename(r->folder, aside), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(stream_log_sync(r->log, r->snapshot, sizeof r->snapshot, true), -ENOENT);
		go_to(r, i, 1, 6);
		save(r);
	}
	assert_int_equal(rename(aside, r->folder), 0);
	assert_int_equal(stream_log_sync(r->log, r->snapshot, sizeof r->snapshot, true), 0);
	assert_int_equal(reload(r), 0);
	assert_int_equal(seq_of(r, 2), 6);
	assert_int_equal(seq_of(r, 3), 5);
}

static void out_of_date_files_go(void **state)
{
	struct rig *r = *state;
	struct rig before;
	off_t most = 0;
	unsigned number = 1;

	for (int i = 0; i < 100; i++)
		go_to(r, i, 1, 1);
	commit(r);
	for (uint64_t n = 2; number < 5; n++) {
		before = *r;
		for (int i = 0; i < 100; i++)
			go_to(r, i, 1, n);
		commit(r);
		while (size_of(r, number + 1) >= 0)
			number++;
		most = size_of(r, number) > most ? size_of(r, number) : most;
		assert_true(count_files(r) <= 2);
		/* the one before this one counts where this one cannot be read */
		struct rig other = {.streams = streams_new(false), .log = stream_log_new(r->path)};
		memcpy(other.snapshot, before.snapshot, sizeof other.snapshot);
		assert_int_equal(load(&other, false), 0);
		assert_int_equal(seq_of(&other, 99), n - 1);
		close_rig(&other);
	}
	assert_true(most < 2 * 100 * 128 + STREAM_LOG_SLACK + 2000);
	commit(r);
	commit(r);
	assert_int_equal(count_files(r), 1);
	assert_int_equal(reload(r), 0);
	assert_int_equal(streams_count(r->streams), 100);
}

/* A file is not replaced before its snapshots were committed, however much of it is out of date. */
static void nothing_goes_without_commits(void **state)
{
	struct rig *r = *state;

	for (int i = 0; i < 40; i++)
		go_to(r, i, 1, 1);
	commit(r);
	const struct rig committed = *r;
	for (uint64_t n = 2; n < 1000; n++) {
		for (int i = 0; i < 40; i++)
			go_to(r, i, 1, n);
		save(r);
		assert_int_equal(stream_log_sync(r->log, r->snapshot, sizeof r->snapshot, true), 0);
	}
	assert_int_equal(count_files(r), 1);
	memcpy(r->snapshot, committed.snapshot, sizeof r->snapshot);
	assert_int_equal(reload(r), 0);
	assert_int_equal(seq_of(r, 39), 1);
}

/* Snapshots that wait for their commit while the file is replaced, as those of a spool do. */
static void snapshots_in_a_queue(void **state)
{
	struct rig *r = *state;
	enum { QUEUE = 50 };
	uint8_t queue[QUEUE][STREAM_LOG_SNAPSHOT];
	uint64_t n = 1;
	unsigned number = 1;

	for (int i = 0; i < 60; i++)
		go_to(r, i, 1, n);
	for (int i = 0; i < 4; i++)
		commit(r);
	for (uint64_t at = 0; number < 4; at++) {
		n++;
		for (int i = 0; i < 60; i++)
			go_to(r, i, 1, n);
		save(r);
		memcpy(queue[at % QUEUE], r->snapshot, sizeof r->snapshot);
		if (at < QUEUE - 1)
			continue;
		const uint8_t *oldest = queue[(at + 1) % QUEUE];
		assert_int_equal(stream_log_sync(r->log, oldest, STREAM_LOG_SNAPSHOT, at % 2), 0);
		stream_log_committed(r->log, oldest, STREAM_LOG_SNAPSHOT);
		struct rig other = {.streams = streams_new(false), .log = stream_log_new(r->path)};
		memcpy(other.snapshot, oldest, sizeof other.snapshot);
		assert_int_equal(load(&other, false), 0);
		assert_int_equal(seq_of(&other, 59), n - (QUEUE - 1));
		close_rig(&other);
		while (size_of(r, number + 1) >= 0)
			number++;
	}
}

/* ---- limits ---- */

static unsigned retired[STREAM_RETIRED_REASONS];

static void on_retired(void *arg, const struct stream *st, enum stream_retired why)
{
	(void)arg;
	assert_non_null(st);
	retired[why]++;
}

static void limits(void **state)
{
	struct rig *r = *state;
	const struct streams_limits some = {.max = 100, .forget = 60, .retired = on_retired};

	memset(retired, 0, sizeof retired);
	streams_set_limits(r->streams, &some);
	for (int i = 0; i < 100; i++)
		go_to(r, i, 1, 1);
	go_to(r, 0, 1, 2); /* so that 1 is the one unseen for longest */
	go_to(r, 100, 1, 1);
	assert_int_equal(streams_count(r->streams), 100);
	assert_int_equal(retired[STREAM_RETIRED_LIMIT], 1);
	assert_int_equal(seq_of(r, 1), 0);
	assert_int_equal(seq_of(r, 0), 2);
	commit(r);
	streams_clock(r->streams, 1050);
	for (int i = 50; i < 60; i++)
		go_to(r, i, 1, 2);
	commit(r);
	/* the time of use survives */
	assert_int_equal(reload(r), 0);
	streams_set_limits(r->streams, &some);
	streams_clock(r->streams, 1060);
	streams_forget(r->streams);
	assert_int_equal(streams_count(r->streams), 100);
	streams_clock(r->streams, 1061);
	streams_forget(r->streams);
	assert_int_equal(streams_count(r->streams), 10);
	assert_int_equal(retired[STREAM_RETIRED_AGE], 90);
	assert_int_equal(seq_of(r, 55), 2);
	streams_clock(r->streams, 5); /* a clock that was set back forgets nobody */
	streams_forget(r->streams);
	assert_int_equal(streams_count(r->streams), 10);

	/* a flood of new ones leaves a file of bounded size */
	for (int i = 1000; i < 20000; i++) {
		go_to(r, i, 1, 1);
		if (i % 10 == 0)
			commit(r);
	}
	assert_int_equal(streams_count(r->streams), 100);
	assert_true(count_files(r) <= 2);
	assert_int_equal(reload(r), 0);
	streams_set_limits(r->streams, &some);
	assert_int_equal(seq_of(r, 19990), 1);
}

/* Entries of the table that share a way are found whatever is removed from among them. */
static void the_table_after_removals(void **state)
{
	struct rig *r = *state;
	const struct streams_limits some = {.max = 50};
	bool is_there[3000] = {false};
	int last[50];
	unsigned n = 0, seed = 1;

	streams_set_limits(r->streams, &some);
	for (int round = 0; round < 20000; round++) {
		seed = seed * 1103515245 + 12345;
		const int i = (int)((seed >> 8) % 3000);
		uint8_t id[STREAM_ID];
		id_of(i, id);
		assert_int_equal(streams_find(r->streams, 0, "in", id) != NULL, is_there[i]);
		if (is_there[i]) { /* it was used: to the end */
			unsigned k = 0;
			while (last[k] != i)
				k++;
			memmove(&last[k], &last[k + 1], (n - k - 1) * sizeof *last);
			last[n - 1] = i;
			continue;
		}
		if (n == 50) {
			is_there[last[0]] = false;
			memmove(last, last + 1, --n * sizeof *last);
		}
		assert_non_null(streams_get(r->streams, 0, "in", id));
		last[n++] = i;
		is_there[i] = true;
	}
	assert_int_equal(streams_count(r->streams), 50);
}

/* ---- a model: whatever happens, a snapshot says what was accepted when it was taken ---- */

enum { MODEL = 120, HISTORY = 4 };

struct model {
	uint64_t seq[MODEL];
	uint8_t epoch[MODEL];
	uint8_t snapshot[STREAM_LOG_SNAPSHOT];
};

static void compare(const struct rig *r, const struct model *m)
{
	for (int i = 0; i < MODEL; i++) {
		assert_int_equal(seq_of(r, i), m->seq[i]);
		if (m->seq[i])
			assert_int_equal(get(r, i)->taken.epoch[0], m->epoch[i]);
	}
}

static void move_some(const struct rig *r, struct model *m, unsigned *seed)
{
	for (int k = 0; k < 30; k++) {
		*seed = *seed * 1103515245 + 12345;
		const unsigned i = (*seed >> 8) % MODEL;
		if ((*seed >> 20) % 16 == 0) {
			m->epoch[i]++;
			m->seq[i] = 0;
		}
		m->seq[i] += 1 + (*seed >> 16) % 100;
		go_to(r, (int)i, m->epoch[i], m->seq[i]);
	}
}

static void crashes_at_random(void **state)
{
	struct rig *r = *state;
	struct model now = {0}, committed[HISTORY];
	unsigned seed = 7, crashes = 0;

	for (int i = 0; i < MODEL; i++) {
		now.seq[i] = now.epoch[i] = 1;
		go_to(r, i, 1, 1);
	}
	commit(r);
	memcpy(now.snapshot, r->snapshot, sizeof now.snapshot);
	for (int i = 0; i < HISTORY; i++)
		committed[i] = now;
	for (int round = 0; round < 6000; round++) {
		move_some(r, &now, &seed);
		save(r);
		if (seed >> 12 & 1)
			assert_int_equal(stream_log_sync(r->log, r->snapshot, sizeof r->snapshot, seed & 4),
					 0);
		else
			continue;
		memcpy(now.snapshot, r->snapshot, sizeof now.snapshot);
		stream_log_committed(r->log, r->snapshot, sizeof r->snapshot);
		memmove(&committed[1], &committed[0], (HISTORY - 1) * sizeof *committed);
		committed[0] = now;
		if (seed >> 13 & 31)
			continue;
		/* mostly the newest counts, at times the one before, as when that cannot be read */
		now = committed[seed >> 18 & 3 ? 0 : 1];
		memcpy(r->snapshot, now.snapshot, sizeof now.snapshot);
		assert_int_equal(reload(r), 0);
		compare(r, &now);
		for (int i = 0; i < HISTORY; i++)
			committed[i] = now;
		crashes++;
	}
	assert_true(crashes > 50);
	assert_true(count_files(r) <= 3);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(few_streams_need_no_file),
		TEST(what_moved_is_written),
		TEST(going_back),
		TEST(rewound),
		TEST(damaged_anywhere),
		TEST(records_out_of_place),
		TEST(a_disk_that_fails),
		TEST(out_of_date_files_go),
		TEST(nothing_goes_without_commits),
		TEST(snapshots_in_a_queue),
		TEST(limits),
		TEST(the_table_after_removals),
		TEST(crashes_at_random),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
