/* SPDX-License-Identifier: MIT */
/*
 * writer - from batches to durable lines: which file, lines into large writes, group commit with the record
 * that makes events arrive once, and what to do when the disk is full, slow or lies.  Runs in the instance's
 * loop; only run_sync() runs in the sync job's thread.
 *
 * While batches with positions come, the record ends the current file: each sync commits its length and a
 * snapshot of the positions of what lies before it, and at start the rest is cut off, as it was never
 * acknowledged and comes again.  So a line is only appended to the file that the record names, and a file is
 * only left when all of it is committed; the record covers one file at a time.  Without positions the record,
 * if there is one from before, is moved once to say that nothing is to be cut, and then left alone.
 */
#include "storage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOUR = 3600, CLOCK_STEP = 60, ROTATE_RETRY_S = 10 };
#define SECOND    UINT64_C(1000000000)
#define RETRY_MAX (10 * SECOND)
#define STALL_NS  (5 * SECOND) /* a sync that takes longer is reported */
/* A commit costs as much CPU as a few hundred events.  So they begin so far apart at least, the farther the
 * more the last one held, unless COMMIT_BYTES wait. */
#define PACE_MIN_NS      UINT64_C(2000000)
#define PACE_MAX_NS      UINT64_C(8000000)
#define PACE_PER_BYTE_NS 120
#define COMMIT_BYTES     (UINT64_C(1) << 20)

static bool settle(struct storage *);
static void suspend(struct storage *, uint32_t metric, const char *what, const char *why, int err);
static void add_record(struct storage *);
static void end_record(struct storage *);
static bool is_recorded(const struct storage *);
static bool move_record(struct storage *);

/* Report what is durable. */
static void release(struct storage *s)
{
	uint64_t durable = s->conf->sync == SYNC_RELAXED ? s->written : s->synced;
	while (s->ring.head < s->next) {
		struct kept *k = ss_ring_at(&s->ring, s->ring.head);
		if (k->end > durable)
			break;
		s->ring.head++;
		s->kept_bytes -= k->bytes;
		if (k->batch == s->in_process)
			s->in_process = NULL; /* process() says so by its result */
		else
			s->host->done(s->host, k->batch, SS_DELIVERED);
	}
}

/* ---- which file ---- */

/* The name depends on nothing finer than the hour.  A clock set back a little changes nothing. */
static bool hour_is_over(const struct storage *s, time_t now)
{
	return now >= s->until || now < s->from - CLOCK_STEP;
}

static int open_file(struct storage *s, char why[WHY_MAX])
{
	char rel[REL_MAX];
	uint64_t torn;
	time_t now = time(NULL);
	int rc = path_render(&s->path, now, rel);
	if (rc < 0) {
		snprintf(why, WHY_MAX, "the name is too long");
		return rc;
	}
	rc = segment_open(&s->seg, &s->path, rel, s->mode, 2 * (uint64_t)s->conf->max_line + 1, &torn, why);
	if (rc < 0)
		return rc;
	s->from = now - now % HOUR;
	s->until = s->from + HOUR;
	if (torn) {
		s->host->metric_add(s->host, METRIC_REPAIRED, 1);
		ss_log(s->host, SS_LOG_WARN,
		       "Moved an unfinished last line from the file to its .torn file "
		       "bytes=%llu path=%s",
		       (unsigned long long)torn, s->seg->path);
	}
	return 0;
}

static void reap(struct storage *s)
{
	int left = 0;
	for (int i = 0; i < s->n_closing; i++) {
		struct segment *seg = s->closing[i];
		if (seg->synced < seg->size || seg->entry_dirty) {
			s->closing[left++] = seg;
			continue;
		}
		segment_free(seg);
		retain_wake(s->retain);
	}
	s->n_closing = left;
}

static bool retire(struct storage *s)
{
	if (s->n_closing == CLOSING_MAX)
		return false;
	s->closing[s->n_closing++] = s->seg;
	s->seg = NULL;
	if (!s->syncing)
		reap(s);
	return true;
}

static bool can_retire(const struct storage *s)
{
	return s->seg && s->n_closing < CLOSING_MAX;
}

static bool settle(struct storage *s)
{
	if (!writer_flush(s))
		return false;
	if (!s->positioned && !s->record_cuts)
		return true;
	writer_sync(s);
	s->waiting = s->syncing;
	return !s->waiting;
}

/* After a failure it is not tried again at once. */
static bool may_rotate(const struct storage *s)
{
	return s->loop->now(s->loop_self) >= s->no_rotate_before_ns;
}

/* Close the current file under a name that says when. */
static void rotate(struct storage *s)
{
	int rc = segment_stamp(s->seg, time(NULL));
	if (rc < 0) {
		/* better a file that is too long than one that is not written */
		s->no_rotate_before_ns = s->loop->now(s->loop_self) + ROTATE_RETRY_S * UINT64_C(1000000000);
		s->host->metric_add(s->host, METRIC_ROTATE_ERRORS, 1);
		ss_log(s->host, SS_LOG_ERROR,
		       "Cannot rotate the file; writing to it continues path=%s error=%s", s->seg->path,
		       strerror(-rc));
		return;
	}
	s->host->metric_add(s->host, METRIC_ROTATIONS, 1);
	retire(s);
}

/* The hour is over: is there another name now? */
static void change_name(struct storage *s, time_t now)
{
	char rel[REL_MAX];
	if (path_render(&s->path, now, rel) == 0 && strcmp(rel, s->seg->rel) != 0) {
		s->host->metric_add(s->host, METRIC_ROTATIONS, 1);
		retire(s);
		return;
	}
	s->from = now - now % HOUR;
	s->until = s->from + HOUR;
}

/* Between two batches: the right file, open.  A batch is never torn over two files by a rotation. */
static bool prepare_file(struct storage *s)
{
	if (s->check_due)
		writer_check_file(s);
	if (s->check_due)
		return false;
	if (can_retire(s)) {
		time_t now = time(NULL);
		bool too_long = s->conf->rotate_size &&
				s->seg->size + lines_bytes(&s->lines) >= (uint64_t)s->conf->rotate_size &&
				may_rotate(s);
		bool other_hour = hour_is_over(s, now);
		if ((too_long || other_hour) && !settle(s))
			return false;
		if (other_hour)
			change_name(s, now);
		else if (too_long)
			rotate(s);
	}
	char why[WHY_MAX];
	int rc = s->seg ? 0 : open_file(s, why);
	if (rc < 0) {
		suspend(s, METRIC_OPEN_ERRORS, "open", why, -rc);
		return false;
	}
	return is_recorded(s) || move_record(s);
}

void writer_check_file(struct storage *s)
{
	s->check_due = false;
	if (!s->seg || s->down || !writer_flush(s) || !can_retire(s))
		return;
	time_t now = time(NULL);
	uint64_t age_ns = (uint64_t)now * 1000000000U - s->seg->opened_ns;
	bool moved = segment_moved(s->seg), other_hour = hour_is_over(s, now);
	bool too_old = s->conf->rotate_age && (int64_t)age_ns >= s->conf->rotate_age && s->seg->size &&
		       may_rotate(s);
	if ((moved || other_hour || too_old) && !settle(s)) {
		s->check_due = true;
		return;
	}
	if (moved) {
		ss_log(s->host, SS_LOG_INFO, "The file was moved or deleted; opening a new one path=%s",
		       s->seg->path);
		retire(s);
	} else if (other_hour) {
		change_name(s, now);
	} else if (too_old) {
		rotate(s);
	} else if (segment_resized(s->seg)) {
		ss_log(s->host, SS_LOG_WARN,
		       "Another process changed the length of the file path=%s bytes=%llu", s->seg->path,
		       (unsigned long long)s->seg->size);
	}
}

/* ---- lines ---- */

bool writer_flush(struct storage *s)
{
	lines_seal(&s->lines);
	size_t bytes = s->lines.bytes;
	if (bytes) {
		char why[WHY_MAX];
		int rc = s->seg ? 0 : open_file(s, why);
		if (rc < 0) {
			suspend(s, METRIC_OPEN_ERRORS, "open", why, -rc);
			return false;
		}
		rc = segment_write(s->seg, s->lines.iov, s->lines.n, bytes);
		if (rc < 0) {
			suspend(s, METRIC_WRITE_ERRORS, "write", strerror(-rc), -rc);
			return false;
		}
		s->host->metric_add(s->host, METRIC_WRITTEN, (int64_t)bytes);
		s->written += bytes;
	}
	lines_reset(&s->lines);
	while (s->flushed < s->next) {
		const struct kept *k = ss_ring_at(&s->ring, s->flushed);
		if (k->end > s->written)
			break;
		s->boundary = k->end;
		s->flushed++;
		if (k->positioned)
			(void)s->positions->cover(s->positions_self, k->port, k->batch);
	}
	release(s);
	return true;
}

/* The batch is gathered as a whole. */
static void finish_batch(struct storage *s, struct kept *k)
{
	k->end = s->written + lines_bytes(&s->lines);
	s->next++;
	if (k->counted)
		return;
	k->counted = true;
	if (k->dropped.empty)
		s->host->drop(s->host, REASON_EMPTY, k->dropped.empty);
	if (k->dropped.too_long)
		s->host->drop(s->host, REASON_TOO_LONG, k->dropped.too_long);
}

bool writer_pump(struct storage *s)
{
	while (s->next < s->ring.tail) {
		struct kept *k = ss_ring_at(&s->ring, s->next);
		uint32_t count = k->batch->count;
		if (s->lines.full && !writer_flush(s))
			return false;
		if (k->row == 0 && !prepare_file(s))
			return false;
		int64_t took =
			lines_gather(&s->lines, k->batch->events + k->row, count - k->row, &k->dropped);
		if (took < 0) {
			suspend(s, METRIC_WRITE_ERRORS, "write", strerror((int)-took), (int)-took);
			return false;
		}
		k->row += (uint32_t)took;
		if (k->row == count)
			finish_batch(s, k);
	}
	return !s->lines.full || writer_flush(s);
}
/* ---- group commit ---- */

static bool needs_sync(const struct storage *s)
{
	return s->n_closing || s->boundary > s->synced || (s->seg && s->seg->entry_dirty);
}

/* partial: bytes at its end that belong to a batch that is not written as a whole. */
static void add_to_sync(struct sync *sync, struct segment *seg, uint64_t partial)
{
	sync->files[sync->n].fd = seg->fd;
	sync->files[sync->n++].dirfd = seg->entry_dirty ? seg->dirfd : -1;
	seg->entry_dirty = false;
	seg->syncing = seg->size > partial ? seg->size - partial : 0;
}

/* In the job's thread. */
static void run_sync(void *arg)
{
	struct sync *sync = arg;

	sync->result = 0;
	sync->record_failed = false;
	for (int i = 0; i < sync->n; i++) {
		int rc = fdatasync(sync->files[i].fd);
		if (rc == 0 && sync->files[i].dirfd >= 0)
			rc = fsync(sync->files[i].dirfd);
		if (rc < 0 && sync->result == 0)
			sync->result = -errno;
	}
	/* the record tells of what is in the files: never before it is there */
	if (sync->result == 0 && sync->commit) {
		const struct ss_strbuf *snapshot = sync->snapshot;
		sync->result = sync->positions->sync(sync->positions_self, snapshot->bytes, snapshot->len, 1);
		if (sync->result == 0)
			sync->result = commit_write(sync->commit, sync->record, false);
		sync->record_failed = sync->result < 0;
		if (sync->result == 0)
			sync->positions->committed(sync->positions_self, snapshot->bytes, snapshot->len);
	}
}

void writer_sync(struct storage *s)
{
	if (s->syncing || s->rewrite || s->recommit || !(needs_sync(s) || s->moving))
		return;
	s->sync = (struct sync){0};
	for (int i = 0; i < s->n_closing; i++)
		add_to_sync(&s->sync, s->closing[i], 0);
	if (s->seg)
		add_to_sync(&s->sync, s->seg, s->written - s->boundary);
	if (s->sync.n == 0) { /* all of it went with files that were taken away */
		s->synced = s->boundary;
		release(s);
		return;
	}
	add_record(s);
	s->sync_upto = s->boundary;
	s->syncing = true;
	s->commit_ns = s->loop->now(s->loop_self);
	s->pace_ns = PACE_MIN_NS + (s->boundary - s->synced) * PACE_PER_BYTE_NS;
	if (s->pace_ns > PACE_MAX_NS)
		s->pace_ns = PACE_MAX_NS;
	ss_job_start(s->job, run_sync, &s->sync);
}

static void on_commit_due(void *arg)
{
	struct storage *s = arg;
	s->commit_timer = 0;
	writer_commit(s);
}

/* Is a commit to wait, because the last one was just now? */
static bool comes_soon(struct storage *s)
{
	uint64_t now = s->loop->now(s->loop_self), due = s->commit_ns + s->pace_ns;
	if (now >= due || s->kept_bytes >= COMMIT_BYTES || s->draining)
		return false;
	return s->commit_timer ||
	       s->loop->timer(s->loop_self, due - now, 0, on_commit_due, s, &s->commit_timer) == 0;
}

void writer_commit(struct storage *s)
{
	if (!s->syncing && needs_sync(s) && !comes_soon(s))
		writer_sync(s);
}

/* All files that may be part of the job: a current one that was not is unharmed by this. */
static void settle_segment(struct segment *seg, bool ok)
{
	if (!ok)
		seg->entry_dirty = true;
	else if (seg->syncing > seg->synced)
		seg->synced = seg->syncing < seg->size ? seg->syncing : seg->size;
	seg->syncing = 0;
}

static void end_sync(struct storage *s)
{
	const struct sync *sync = &s->sync;
	bool ok = sync->result == 0;
	s->syncing = false;
	s->host->metric_add(s->host, METRIC_SYNCS, 1);
	if (!ok && s->conf->sync == SYNC_RELAXED) {
		/* what was lost was acknowledged long ago */
		s->host->metric_add(s->host, METRIC_SYNC_ERRORS, 1);
		ss_log(s->host, SS_LOG_ERROR,
		       "A file cannot be synced; acknowledged lines may be lost path=%s/%s error=%s",
		       s->path.prefix, s->path.pattern, strerror(-sync->result));
		ok = true;
	}
	for (int i = 0; i < s->n_closing; i++)
		settle_segment(s->closing[i], ok);
	if (s->seg)
		settle_segment(s->seg, ok);
	end_record(s);
	if (!ok && sync->record_failed) {
		/* the files are safe, only nobody would know: once more, to the same slot */
		s->recommit = true;
		suspend(s, METRIC_COMMIT_ERRORS, "commit", strerror(-sync->result), -sync->result);
		return;
	}
	if (!ok) {
		/* The kernel reports a lost write once and takes the pages for clean: a second sync would
		 * lie.  The batches are still here, so all that is not synced is cut off and written again.
		 */
		s->rewrite = true;
		suspend(s, METRIC_SYNC_ERRORS, "sync", strerror(-sync->result), -sync->result);
		return;
	}
	s->synced = s->sync_upto;
	reap(s);
	release(s);
}

/* ---- trouble ---- */

static void arm_retry(struct storage *s)
{
	s->loop->cancel(s->loop_self, s->retry_timer);
	s->retry_timer = 0;
	if (s->loop->timer(s->loop_self, s->retry_ns, 0, writer_on_retry, s, &s->retry_timer) < 0)
		ss_log(s->host, SS_LOG_ERROR, "Out of memory: writing is tried again at the next check");
}

static void suspend(struct storage *s, uint32_t metric, const char *what, const char *why, int err)
{
	s->host->metric_add(s->host, metric, 1);
	if (!s->down) {
		s->down_since_ns = s->loop->now(s->loop_self);
		s->retry_ns = SECOND;
	}
	if (!s->down || s->down_errno != err) {
		char rel[REL_MAX] = "", text[WHY_MAX + REL_MAX];
		(void)path_render(&s->path, time(NULL), rel);
		snprintf(text, sizeof text, "cannot %s %s/%s: %s", what, s->path.prefix, rel, why);
		s->host->set_health(s->host, text);
		ss_log(s->host, SS_LOG_ERROR,
		       "Cannot %s the file; input is paused and nothing is dropped; trying again path=%s/%s "
		       "error=%s "
		       "batches=%llu",
		       what, s->path.prefix, rel, why, (unsigned long long)(s->ring.tail - s->ring.head));
	}
	s->down = true;
	s->down_errno = err;
	s->host->metric_set(s->host, METRIC_BLOCKED, 1);
	arm_retry(s);
}

static void recover(struct storage *s)
{
	uint64_t ns = s->loop->now(s->loop_self) - s->down_since_ns;
	s->down = false;
	s->host->metric_set(s->host, METRIC_BLOCKED, 0);
	s->host->set_health(s->host, NULL);
	ss_log(s->host, SS_LOG_INFO, "Writing again after=%llu.%llus path=%s",
	       (unsigned long long)(ns / SECOND), (unsigned long long)(ns % SECOND / (SECOND / 10)),
	       s->seg ? s->seg->path : s->path.prefix);
}

/* Cut files back to what is safe and start over from there.  A closed file that cannot be cut is given up:
 * some of its lines may be there twice, none is missing. */
static int cut_and_rewind(struct storage *s)
{
	for (int i = 0; i < s->n_closing; i++) {
		struct segment *seg = s->closing[i];
		int rc = segment_cut_unsynced(seg);
		if (rc < 0) {
			ss_log(s->host, SS_LOG_ERROR,
			       "A closed file cannot be truncated after a failed sync; some of its lines may "
			       "be stored twice path=%s error=%s",
			       seg->path, strerror(-rc));
			seg->size = seg->synced;
			seg->entry_dirty = false;
		}
	}
	if (s->seg && segment_moved(s->seg)) {
		(void)segment_cut_unsynced(s->seg); /* it goes to another file; if not, it is there twice */
		segment_free(s->seg);
		s->seg = NULL;
	}
	int rc = s->seg ? segment_cut_unsynced(s->seg) : 0;
	if (rc == 0 && s->positions)
		rc = s->positions->rewind(s->positions_self, s->committed.bytes, s->committed.len);
	if (rc < 0)
		return rc;
	reap(s);
	for (uint64_t i = s->ring.head; i < s->ring.tail; i++) {
		struct kept *k = ss_ring_at(&s->ring, i);
		k->row = 0;
		k->dropped = (struct lines_dropped){0};
	}
	s->flushed = s->next = s->ring.head;
	s->written = s->boundary = s->synced;
	s->moving = false;
	lines_reset(&s->lines);
	return 0;
}

static bool try_again(struct storage *s)
{
	if (s->rewrite) {
		int rc = cut_and_rewind(s);
		if (rc < 0) {
			suspend(s, METRIC_WRITE_ERRORS, "truncate", strerror(-rc), -rc);
			return false;
		}
		s->rewrite = s->recommit = false;
		/* only a sync that works shows that the disk does */
		if (!writer_pump(s) || !writer_flush(s))
			return false;
		s->recommit = true;
	}
	if (s->recommit) {
		s->recommit = false;
		writer_sync(s);
		if (s->syncing)
			return false;
	}
	return writer_flush(s) && writer_pump(s) && writer_flush(s);
}

void writer_on_retry(void *arg)
{
	struct storage *s = arg;
	s->retry_timer = 0;
	s->retry_ns = 2 * s->retry_ns < RETRY_MAX ? 2 * s->retry_ns : RETRY_MAX;
	if (s->syncing) {
		arm_retry(s);
		return;
	}
	if (s->seg && !s->rewrite && segment_moved(s->seg)) {
		if (s->record_cuts || s->moving)
			s->rewrite = true; /* what it holds that is not committed goes to the new file */
		else
			retire(s);
	}
	if (!try_again(s))
		return;
	recover(s);
	writer_sync(s);
	writer_notify_host(s);
}

void writer_on_synced(void *arg)
{
	struct storage *s = arg;
	if (!s->job || !ss_job_take(s->job))
		return;
	end_sync(s);
	writer_check_stall(s);
	if (s->down && s->sync.result == 0 && !s->rewrite && !s->retry_timer)
		recover(s);
	if (s->waiting && !s->down) {
		s->waiting = false;
		if (s->check_due)
			writer_check_file(s);
		if (writer_pump(s))
			writer_flush(s);
	}
	if (s->n_closing || s->draining)
		writer_sync(s);
	else if (s->conf->sync == SYNC_ALWAYS)
		writer_commit(s);
	writer_notify_host(s);
}

/* ---- the host ---- */

bool writer_is_drained(const struct storage *s)
{
	return s->ring.head == s->ring.tail && !s->syncing && !s->down && !needs_sync(s);
}

void writer_notify_host(struct storage *s)
{
	if (s->busy && !s->down &&
	    (s->ring.head == s->ring.tail || s->kept_bytes <= (uint64_t)s->conf->max_pending / 2)) {
		s->busy = false;
		s->host->input_ready(s->host);
	}
	if (s->draining && writer_is_drained(s)) {
		s->draining = false;
		s->host->drained(s->host);
	}
}
/* ---- a disk that does not answer ---- */

void writer_check_stall(struct storage *s)
{
	uint64_t now = s->loop->now(s->loop_self), running = s->job ? ss_job_running_ns(s->job) : 0;
	const struct kept *oldest = ss_ring_first(&s->ring);
	char text[WHY_MAX];

	s->host->metric_set(s->host, METRIC_OLDEST_UNSYNCED,
			    oldest ? (int64_t)((now - oldest->since_ns) / SECOND) : 0);
	if (running < STALL_NS) {
		if (s->stalled) {
			s->host->set_degraded(s->host, NULL);
			ss_log(s->host, SS_LOG_INFO, "The disk answers again path=%s", s->path.prefix);
		}
		s->stalled = false;
		return;
	}
	if (!s->stalled) {
		s->host->metric_add(s->host, METRIC_STALLS, 1);
		ss_log(s->host, SS_LOG_WARN,
		       "Syncing to disk takes longer than %llu s: nothing is acknowledged until the disk "
		       "answers "
		       "path=%s batches=%llu",
		       (unsigned long long)(STALL_NS / SECOND), s->path.prefix,
		       (unsigned long long)ss_ring_count(&s->ring));
	}
	s->stalled = true;
	snprintf(text, sizeof text, "syncing %.150s to disk has taken %llu s so far", s->path.prefix,
		 (unsigned long long)(running / SECOND));
	s->host->set_degraded(s->host, text);
}

/* ---- the record ---- */

/* May lines be appended to the current file, as far as the record goes? */
static bool is_recorded(const struct storage *s)
{
	return s->positioned ? s->record_cuts && s->seg->recorded : !s->record_cuts;
}

/* Make it so: false, as it takes a sync, or the disk is in trouble. */
static bool move_record(struct storage *s)
{
	if (!settle(s))
		return false;
	if (!s->commit) {
		struct commit_found none;
		char why[WHY_MAX];
		int rc = commit_open(&s->commit, &s->path, s->host->id, true, &none, why);
		if (rc < 0) {
			suspend(s, METRIC_OPEN_ERRORS, "open", why, -rc);
			return false;
		}
		commit_found_done(&none);
	}
	s->moving = true;
	s->moving_cuts = s->positioned;
	writer_sync(s);
	s->waiting = s->syncing;
	return false;
}

static int take_snapshot(struct storage *s)
{
	int64_t size = s->positions->snapshot(s->positions_self, NULL, 0);

	ss_strbuf_clear(&s->snapshot);
	char *room = size > 0 ? ss_strbuf_room(&s->snapshot, (size_t)size) : NULL;
	if (!room)
		return -ENOMEM;
	size = s->positions->snapshot(s->positions_self, room, (size_t)size);
	if (size < 0)
		return (int)size;
	s->snapshot.len = (size_t)size;
	ss_strbuf_add(&s->record, s->snapshot.bytes, s->snapshot.len);
	return 0;
}

/* What the sync has to write besides the files, if anything. */
static void add_record(struct storage *s)
{
	bool cuts = s->moving ? s->moving_cuts : s->record_cuts;

	if (!s->seg || !(s->moving || s->seg->recorded))
		return;
	struct commit_record rec = {.cuts = cuts};
	if (cuts) {
		rec.inode = s->seg->inode;
		rec.born_ns = s->seg->born_ns;
		rec.length = s->seg->syncing;
		snprintf(rec.rel, sizeof rec.rel, "%s", s->seg->rel);
	}
	s->record_whole = false;
	commit_encode(&rec, &s->record);
	if (take_snapshot(s) < 0)
		s->record.failed = true; /* then the job fails */
	s->sync.commit = s->commit;
	s->sync.record = &s->record;
	s->sync.positions = s->positions;
	s->sync.positions_self = s->positions_self;
	s->sync.snapshot = &s->snapshot;
	if (s->commit->entry_dirty) {
		s->sync.files[s->sync.n].fd = s->commit->fd;
		s->sync.files[s->sync.n++].dirfd = s->commit->dirfd;
	}
}

static void end_record(struct storage *s)
{
	if (!s->sync.commit || s->sync.result < 0)
		return;
	s->commit->entry_dirty = false;
	s->record_whole = true;
	struct ss_strbuf committed = s->snapshot;
	s->snapshot = s->committed;
	s->committed = committed;
	if (s->moving) {
		s->moving = false;
		s->record_cuts = s->moving_cuts;
		s->seg->recorded = s->moving_cuts;
	}
}

/* ---- start and stop ---- */

/* The first file.  A full disk is no reason not to start: it is waited for like later. */
int writer_open_first(struct storage *s)
{
	char why[WHY_MAX];
	int rc = open_file(s, why);
	if (rc == -ENOSPC || rc == -EDQUOT) {
		suspend(s, METRIC_OPEN_ERRORS, "open", why, -rc);
		return 0;
	}
	if (rc < 0)
		ss_log(s->host, SS_LOG_ERROR, "Cannot open path=%s/%s error=%s", s->path.prefix,
		       s->path.pattern, why);
	return rc;
}

void writer_stop(struct storage *s)
{
	bool synced = ss_job_free(s->job);

	s->job = NULL;
	if (synced)
		end_sync(s);
	s->loop->cancel(s->loop_self, s->retry_timer);
	s->loop->cancel(s->loop_self, s->commit_timer);
	s->retry_timer = s->commit_timer = 0;
	/* after this one damaged slot leaves nothing in doubt */
	if (s->commit && s->record_whole && !s->syncing)
		(void)commit_write(s->commit, &s->record, true);
	/* what is not safe was not kept */
	for (; s->ring.head < s->ring.tail; ss_ring_shift(&s->ring)) {
		const struct kept *k = ss_ring_first(&s->ring);
		s->host->done(s->host, k->batch, SS_FAILED);
	}
	s->flushed = s->next = s->ring.head;
	s->kept_bytes = 0;
	lines_reset(&s->lines);
	for (int i = 0; i < s->n_closing; i++)
		segment_free(s->closing[i]);
	s->n_closing = 0;
	segment_free(s->seg);
	s->seg = NULL;
	commit_close(s->commit);
	s->commit = NULL;
	ss_strbuf_done(&s->record);
	ss_strbuf_done(&s->snapshot);
	ss_strbuf_done(&s->committed);
	s->record_whole = s->positioned = s->record_cuts = s->moving = s->recommit = s->waiting =
		s->check_due = false;
}
