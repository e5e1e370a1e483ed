/* SPDX-License-Identifier: MIT */
/*
 * Tests of storage as a checkpointer of positions: each event of a resumable source is in the files once,
 * whatever happens. Syncs and writes can be made to fail, and the process to die, at any step.
 */
#include "helper_crash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

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
	char *got = slurp(f->path, NULL);
	assert_string_equal(strstr(got, "b2\n"), "b2\na8\na9\na6\na7\n");
	free(got);
	end(f);
	start(f);
	assert_int_equal(f->host.n_kept, 3);
	assert_int_equal(kept_seq(f, 0, "a"), 7);
	assert_int_equal(f->host.kept[2].position.epoch[0], 2); /* the one used last */
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

/* The positions of thousands of streams are beside the record. */
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
	assert_true(found.records[0].snapshot_len < 64);
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
	put_file(f->path, "restored from somewhere\nas it was\n", 34);
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
	char *text = slurp(f->path, NULL);
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
	put_file(f->record, "", 0);
	start(f);
	assert_false(logged(f, "damaged"));
	end(f);
	put_file(f->record, "ssrec", 5);
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
	char *text = slurp(f->path, NULL);
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
	char *text = slurp(f->path, NULL);
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
	};
	return cmocka_run_group_tests_name("commit", tests, NULL, NULL);
}
