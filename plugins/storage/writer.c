/* SPDX-License-Identifier: MIT */
/*
 * writer - from batches to durable lines: lines into large writes, group commit, and what to do when the disk
 * is full, slow or lies.  Runs in the instance's loop; only run_sync() runs in the sync job's thread.
 */
#include "storage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECOND    UINT64_C(1000000000)
#define RETRY_MAX (10 * SECOND)
#define STALL_NS  (5 * SECOND) /* a sync that takes longer is reported */
/* A commit costs as much CPU as a few hundred events.  So they begin so far apart at least, the farther the
 * more the last one held, unless COMMIT_BYTES wait: soon for who sends one event and waits for it, and as
 * late as may be once twenty came together. */
#define PACE_MIN_NS      UINT64_C(2000000)
#define PACE_MAX_NS      UINT64_C(8000000)
#define PACE_PER_BYTE_NS 2500
#define COMMIT_BYTES     (UINT64_C(1) << 20)

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
		envelopes_free(k->envelopes);
		if (k->batch == s->in_process)
			s->in_process = NULL; /* process() says so by its result */
		else
			s->host->done(s->host, k->batch, SS_DELIVERED);
	}
}

bool writer_settle(struct storage *s)
{
	if (!writer_flush(s))
		return false;
	if (!s->positioned && !s->record_cuts)
		return true;
	writer_sync(s);
	s->waiting = s->syncing;
	return !s->waiting;
}

/* ---- lines ---- */

bool writer_flush(struct storage *s)
{
	lines_seal(&s->lines);
	size_t bytes = s->lines.bytes;
	if (bytes) {
		struct file *failed = NULL;
		char why[WHY_MAX];
		int rc = files_write(s, &failed, why);
		if (rc < 0) {
			bool opening = why[0];
			writer_suspend(s, opening ? METRIC_OPEN_ERRORS : METRIC_WRITE_ERRORS,
				       opening ? "open" : "write", failed, opening ? why : strerror(-rc),
				       -rc);
			return false;
		}
		s->host->metric_add(s->host, METRIC_WRITTEN, (int64_t)bytes);
		s->written += bytes;
	}
	files_forget_runs(s);
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
	if (k->others)
		s->host->metric_add(s->host, METRIC_OTHERS, (int64_t)k->others);
}

bool writer_pump(struct storage *s)
{
	if (s->waiting && s->syncing)
		return false;
	while (s->next < s->ring.tail) {
		struct kept *k = ss_ring_at(&s->ring, s->next);
		uint32_t count = k->batch->count;
		if (s->lines.full && !writer_flush(s))
			return false;
		if ((k->row == 0 || k->row == k->ready) && !files_prepare(s, k))
			return false;
		int64_t took = files_gather(s, k);
		if (took < 0) {
			writer_suspend(s, METRIC_WRITE_ERRORS, "write", NULL, strerror((int)-took),
				       (int)-took);
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
	return s->files.n_closing || s->boundary > s->synced || s->files.entry_dirty;
}

/* partial: bytes at its end that belong to a batch that is not written as a whole. */
static void add_to_sync(struct sync *sync, struct segment *seg, uint64_t partial)
{
	seg->syncing = seg->size > partial ? seg->size - partial : 0;
	seg->in_sync = true;
	if (segment_is_asleep(seg)) /* it is stored */
		return;
	sync->files[sync->n].fd = seg->fd;
	sync->files[sync->n++].dirfd = seg->entry_dirty ? seg->dirfd : -1;
	seg->entry_dirty = false;
}

/* Of many files only those are synced that need it. */
static void add_files(struct storage *s)
{
	bool store = s->sync.kind == SYNC_STORE;
	struct file *f;

	if (s->files.only) {
		if (s->files.only->seg)
			add_to_sync(&s->sync, s->files.only->seg, s->written - s->boundary);
		return;
	}
	TAILQ_FOREACH(f, &s->files.by_use, by_use)
	if (f->seg && (f->seg->entry_dirty || f->seg->size > (store ? f->seg->stored : f->seg->synced)))
		add_to_sync(&s->sync, f->seg, 0);
}

static int by_folder(const void *one, const void *other)
{
	const struct sync_folder *a = one, *b = other;

	return a->dev != b->dev ? (a->dev > b->dev) - (a->dev < b->dev)
				: (a->inode > b->inode) - (a->inode < b->inode);
}

/* Of however many new files, each folder is synced once. */
static int sync_folders(const struct sync *sync)
{
	struct sync_folder *folders = sync->folders;
	int n = 0, result = 0;
	struct stat st;

	for (int i = 0; i < sync->n; i++) {
		int fd = sync->files[i].dirfd;
		if (fd < 0)
			continue;
		if (fstat(fd, &st) < 0)
			return -errno;
		folders[n++] = (struct sync_folder){.dev = st.st_dev, .inode = st.st_ino, .fd = fd};
	}
	if (n > 1)
		qsort(folders, (size_t)n, sizeof *folders, by_folder);
	for (int i = 0; i < n; i++)
		if ((i == 0 || by_folder(&folders[i - 1], &folders[i]) != 0) && fsync(folders[i].fd) < 0 &&
		    result == 0)
			result = -errno;
	return result;
}

static int sync_files(const struct sync *sync)
{
	int result = 0;

	/* the disk gets all of it to do before anybody waits for a part */
	for (int i = 0; sync->n > 2 && i < sync->n; i++)
		(void)sync_file_range(sync->files[i].fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	for (int i = 0; i < sync->n; i++)
		if (fdatasync(sync->files[i].fd) < 0 && result == 0)
			result = -errno;
	int rc = sync_folders(sync);
	return result ? result : rc;
}

/* In the job's thread. */
static void run_sync(void *arg)
{
	struct sync *sync = arg;
	const struct ss_strbuf *snapshot = sync->snapshot;
	int rc = sync->result = sync_files(sync);

	sync->record_failed = false;
	/* the record tells of what is in the files: never before it is there */
	if (rc < 0 || !sync->commit)
		return;
	if (sync->ledger)
		rc = ledger_write(sync->ledger);
	if (rc == 0 && snapshot)
		rc = sync->positions->sync(sync->positions_self, snapshot->bytes, snapshot->len, 1);
	if (rc == 0)
		rc = commit_write(sync->commit, sync->record, false);
	sync->record_failed = rc < 0;
	sync->result = rc;
	if (rc == 0 && snapshot)
		sync->positions->committed(sync->positions_self, snapshot->bytes, snapshot->len);
	if (rc == 0 && sync->ledger && sync->ledger->renewing)
		ledger_sweep(sync->ledger->path, sync->ledger->id, ledger_frame_generation(sync->ledger));
}

static void begin_sync(struct storage *s, enum sync_kind kind)
{
	files_take_room(s);
	s->sync = (struct sync){.kind = kind, .files = s->sync.files, .folders = s->sync.folders};
	if (kind == SYNC_NOTE)
		return;
	for (int i = 0; i < s->files.n_closing; i++)
		add_to_sync(&s->sync, s->files.closing[i], 0);
	add_files(s);
	s->files.entry_dirty = false;
}

static void start_sync(struct storage *s)
{
	record_begin(s);
	s->syncing = true;
	ss_job_start(s->job, run_sync, &s->sync);
}

void writer_sync(struct storage *s)
{
	if (s->syncing || s->rewrite || s->recommit || !(needs_sync(s) || s->moving))
		return;
	if (s->path.routed && s->written != s->boundary)
		return; /* a batch over many files counts as a whole only */
	begin_sync(s, SYNC_COMMIT);
	if (s->sync.n == 0 && !s->path.routed) {
		/* all of it went with files that were taken away */
		s->synced = s->boundary;
		release(s);
		return;
	}
	s->sync_upto = s->boundary;
	s->commit_ns = s->loop->now(s->loop_self);
	s->pace_ns = PACE_MIN_NS + (s->boundary - s->synced) * PACE_PER_BYTE_NS;
	if (s->pace_ns > PACE_MAX_NS)
		s->pace_ns = PACE_MAX_NS;
	start_sync(s);
}

bool writer_begin(struct storage *s, uint32_t kind)
{
	if (!s->syncing && !s->rewrite && !s->recommit) {
		begin_sync(s, kind);
		start_sync(s);
	}
	s->waiting = s->syncing;
	return false;
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

static void settle_segment(struct storage *s, struct segment *seg, bool ok)
{
	if (!seg || !seg->in_sync)
		return;
	seg->in_sync = false;
	if (!ok) {
		seg->entry_dirty = s->files.entry_dirty = true;
	} else {
		uint64_t upto = seg->syncing < seg->size ? seg->syncing : seg->size;
		if (upto > seg->stored)
			seg->stored = upto;
		if (s->sync.kind == SYNC_COMMIT && upto > seg->synced)
			seg->synced = upto;
	}
	seg->syncing = 0;
}

/* What was acknowledged long ago is lost. */
static void report_relaxed(struct storage *s)
{
	s->host->metric_add(s->host, METRIC_SYNC_ERRORS, 1);
	ss_log(s->host, SS_LOG_ERROR,
	       "A file cannot be synced; acknowledged lines may be lost path=%s/%s error=%s", s->path.prefix,
	       s->path.pattern, strerror(-s->sync.result));
}

static void end_sync(struct storage *s)
{
	const struct sync *sync = &s->sync;
	bool ok = sync->result == 0;
	struct file *f;

	s->syncing = false;
	s->host->metric_add(s->host, METRIC_SYNCS, 1);
	if (!ok && s->conf->sync == SYNC_RELAXED) {
		report_relaxed(s);
		ok = true;
	}
	for (int i = 0; i < s->files.n_closing; i++)
		settle_segment(s, s->files.closing[i], ok);
	TAILQ_FOREACH(f, &s->files.by_use, by_use)
	settle_segment(s, f->seg, ok);
	record_end(s);
	if (!ok && sync->record_failed) {
		/* the files are safe, only nobody would know: once more, to the same slot */
		s->recommit = true;
		writer_suspend(s, METRIC_COMMIT_ERRORS, "commit", NULL, strerror(-sync->result),
			       -sync->result);
		return;
	}
	if (!ok) {
		/* The kernel reports a lost write once and takes the pages for clean: a second sync would
		 * lie.  The batches are still here, so all that is not synced is cut off and written again.
		 */
		s->rewrite = true;
		writer_suspend(s, METRIC_SYNC_ERRORS, "sync", NULL, strerror(-sync->result), -sync->result);
		return;
	}
	if (sync->kind == SYNC_COMMIT)
		s->synced = s->sync_upto;
	files_reap(s);
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

void writer_suspend(struct storage *s, uint32_t metric, const char *what, const struct file *f,
		    const char *why, int err)
{
	s->host->metric_add(s->host, metric, 1);
	if (!s->down) {
		s->down_since_ns = s->loop->now(s->loop_self);
		s->retry_ns = SECOND;
	}
	if (!s->down || s->down_errno != err) {
		char rel[REL_MAX] = "", text[WHY_MAX + REL_MAX];
		(void)path_render(f ? f->pattern : s->path.pattern, time(NULL), rel);
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
	       s->files.only && s->files.only->seg ? s->files.only->seg->path : s->path.prefix);
}

/* Cut files back to what is safe and start over from there.  A closed file that cannot be cut is given up:
 * some of its lines may be there twice, none is missing. */
static int cut_and_rewind(struct storage *s)
{
	int rc = record_restore(s);
	if (rc == 0)
		rc = files_cut_unsynced(s);
	if (rc == 0 && s->positions)
		rc = s->positions->rewind(s->positions_self, s->committed.bytes, s->committed.len);
	if (rc < 0)
		return rc;
	files_reap(s);
	for (uint64_t i = s->ring.head; i < s->ring.tail; i++) {
		struct kept *k = ss_ring_at(&s->ring, i);
		k->row = k->ready = 0;
		k->dropped = (struct lines_dropped){0};
		k->others = 0;
	}
	s->flushed = s->next = s->ring.head;
	s->written = s->boundary = s->synced;
	s->moving = false;
	files_forget_runs(s);
	return 0;
}

static bool try_again(struct storage *s)
{
	if (s->rewrite) {
		int rc = cut_and_rewind(s);
		if (rc < 0) {
			writer_suspend(s, METRIC_WRITE_ERRORS, "truncate", NULL, strerror(-rc), -rc);
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
	/* what a file holds that is not committed goes to the new one */
	bool recorded = s->record_cuts || s->moving;
	if (!s->rewrite && files_leave_moved(s, recorded))
		s->rewrite = recorded;
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
			files_check(s);
		if (writer_pump(s))
			writer_flush(s);
	}
	if (s->files.n_closing || s->draining)
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

/* For how long the oldest batch has been here.  With sync "relaxed" it only stays where something stands
 * still. */
static uint64_t oldest_ns(const struct storage *s, uint64_t now, uint64_t sync_running_ns)
{
	const struct kept *oldest = ss_ring_first(&s->ring);

	if (!oldest)
		return 0;
	if (s->conf->sync != SYNC_RELAXED)
		return now - oldest->since_ns;
	return s->down ? now - s->down_since_ns : sync_running_ns;
}

void writer_check_stall(struct storage *s)
{
	uint64_t now = s->loop->now(s->loop_self), running = s->job ? ss_job_running_ns(s->job) : 0;
	char text[WHY_MAX];

	s->host->metric_set(s->host, METRIC_OLDEST_UNSYNCED, (int64_t)(oldest_ns(s, now, running) / SECOND));
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

/* ---- start and stop ---- */

/* The first file.  A full disk is no reason not to start: it is waited for like later. */
int writer_open_first(struct storage *s)
{
	char why[WHY_MAX];
	int rc = files_open_first(s, why);
	if (rc == -ENOSPC || rc == -EDQUOT) {
		writer_suspend(s, METRIC_OPEN_ERRORS, "open", s->files.only, why, -rc);
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
	/* what is not safe was not kept */
	for (; s->ring.head < s->ring.tail; ss_ring_shift(&s->ring)) {
		const struct kept *k = ss_ring_first(&s->ring);
		envelopes_free(k->envelopes);
		s->host->done(s->host, k->batch, SS_FAILED);
	}
	s->flushed = s->next = s->ring.head;
	s->kept_bytes = 0;
	files_close(s);
	record_stop(s);
	s->waiting = s->check_due = false;
}
