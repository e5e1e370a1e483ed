/* SPDX-License-Identifier: MIT */
/*
 * durable - from written to acknowledged: group commit, what to do when the disk is full or lies, and telling
 * the host. Runs in the instance's loop.
 */
#include <errno.h>
#include <string.h>
#include "storage.h"

#define SECOND    UINT64_C(1000000000)
#define RETRY_MAX (10 * SECOND)
/* A commit costs as much CPU as a few hundred events.  So they begin so far apart at least, the farther the
 * more the last one held, unless COMMIT_BYTES wait. */
#define PACE_MIN_NS      UINT64_C(2000000)
#define PACE_MAX_NS      UINT64_C(8000000)
#define PACE_PER_BYTE_NS 120
#define COMMIT_BYTES     (UINT64_C(1) << 20)

void storage_release(struct storage *s)
{
	uint64_t durable = s->conf->sync == SYNC_RELAXED ? s->written : s->synced;
	while (s->head < s->next) {
		struct kept *k = &s->ring[s->head & (s->room - 1)];
		if (k->end > durable)
			break;
		s->head++;
		s->kept_bytes -= k->bytes;
		if (k->batch == s->in_process)
			s->in_process = NULL; /* process() says so by its result */
		else
			s->host->done(s->host, k->batch, SS_DELIVERED);
	}
}

/* ---- group commit ---- */

bool storage_needs_sync(const struct storage *s)
{
	return s->n_closing || s->boundary > s->synced || (s->seg && s->seg->entry_dirty);
}

/* partial: bytes at its end that belong to a batch that is not written as a whole. */
static void add_to_job(struct sync_job *job, struct segment *seg, uint64_t partial)
{
	job->files[job->n].fd = seg->fd;
	job->files[job->n++].dirfd = seg->entry_dirty ? seg->dirfd : -1;
	seg->entry_dirty = false;
	seg->syncing = seg->size > partial ? seg->size - partial : 0;
}

void storage_start_sync(struct storage *s)
{
	if (s->syncing || s->rewrite || s->recommit || !(storage_needs_sync(s) || s->moving))
		return;
	struct sync_job job = {0};
	for (int i = 0; i < s->n_closing; i++)
		add_to_job(&job, s->closing[i], 0);
	if (s->seg)
		add_to_job(&job, s->seg, s->written - s->boundary);
	if (job.n == 0) { /* all of it went with files that were taken away */
		s->synced = s->boundary;
		storage_release(s);
		return;
	}
	storage_add_record(s, &job);
	s->sync_upto = s->boundary;
	s->syncing = true;
	s->commit_ns = s->loop->now(s->loop_self);
	s->pace_ns = PACE_MIN_NS + (s->boundary - s->synced) * PACE_PER_BYTE_NS;
	if (s->pace_ns > PACE_MAX_NS)
		s->pace_ns = PACE_MAX_NS;
	syncer_start(s->syncer, &job);
}

static void on_commit_due(void *arg)
{
	struct storage *s = arg;
	s->commit_timer = 0;
	storage_commit(s);
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

void storage_commit(struct storage *s)
{
	if (!s->syncing && storage_needs_sync(s) && !comes_soon(s))
		storage_start_sync(s);
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

void storage_end_sync(struct storage *s, const struct sync_job *job)
{
	bool ok = job->result == 0;
	s->syncing = false;
	s->host->metric_add(s->host, METRIC_SYNCS, 1);
	if (!ok && s->conf->sync == SYNC_RELAXED) {
		/* what was lost was acknowledged long ago */
		s->host->metric_add(s->host, METRIC_SYNC_ERRORS, 1);
		ss_log(s->host, SS_LOG_ERROR,
		       "Lines may be lost: a file cannot be synced path=%s/%s error=%s", s->path.prefix,
		       s->path.pattern, strerror(-job->result));
		ok = true;
	}
	for (int i = 0; i < s->n_closing; i++)
		settle_segment(s->closing[i], ok);
	if (s->seg)
		settle_segment(s->seg, ok);
	storage_end_record(s, job);
	if (!ok && job->record_failed) {
		/* the files are safe, only nobody would know: once more, to the same slot */
		s->recommit = true;
		storage_fail(s, METRIC_COMMIT_ERRORS, "commit", strerror(-job->result), -job->result);
		return;
	}
	if (!ok) {
		/* The kernel reports a lost write once and takes the pages for clean: a second sync would
		 * lie.  The batches are still here, so all that is not synced is cut off and written again.
		 */
		s->rewrite = true;
		storage_fail(s, METRIC_SYNC_ERRORS, "sync", strerror(-job->result), -job->result);
		return;
	}
	s->synced = s->sync_upto;
	storage_reap(s);
	storage_release(s);
}

/* ---- trouble ---- */

static void arm_retry(struct storage *s)
{
	s->loop->cancel(s->loop_self, s->retry_timer);
	s->retry_timer = 0;
	if (s->loop->timer(s->loop_self, s->retry_ns, 0, storage_on_retry, s, &s->retry_timer) < 0)
		ss_log(s->host, SS_LOG_ERROR, "Out of memory: cannot try again before the next check");
}

void storage_fail(struct storage *s, uint32_t metric, const char *what, const char *why, int err)
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
		       "Cannot %s, nothing is dropped: input waits until it works again path=%s/%s error=%s "
		       "batches=%llu",
		       what, s->path.prefix, rel, why, (unsigned long long)(s->tail - s->head));
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
			       "Giving up a closed file, lines in it may be stored twice path=%s error=%s",
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
	if (rc < 0)
		return rc;
	storage_reap(s);
	for (uint64_t i = s->head; i < s->tail; i++) {
		struct kept *k = &s->ring[i & (s->room - 1)];
		k->row = k->duplicates = 0;
		k->dropped = (struct lines_dropped){0};
	}
	s->flushed = s->next = s->head;
	s->written = s->boundary = s->synced;
	streams_rewind(&s->streams);
	s->moving = false;
	lines_reset(&s->lines);
	return 0;
}

static bool try_again(struct storage *s)
{
	if (s->rewrite) {
		int rc = cut_and_rewind(s);
		if (rc < 0) {
			storage_fail(s, METRIC_WRITE_ERRORS, "cut back", strerror(-rc), -rc);
			return false;
		}
		s->rewrite = s->recommit = false;
		/* only a sync that works shows that the disk does */
		if (!storage_pump(s) || !storage_flush(s))
			return false;
		s->recommit = true;
	}
	if (s->recommit) {
		s->recommit = false;
		storage_start_sync(s);
		if (s->syncing)
			return false;
	}
	return storage_flush(s) && storage_pump(s) && storage_flush(s);
}

void storage_on_retry(void *arg)
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
			storage_retire(s);
	}
	if (!try_again(s))
		return;
	recover(s);
	storage_start_sync(s);
	storage_tell_host(s);
}

void storage_on_synced(void *arg)
{
	struct storage *s = arg;
	struct sync_job job;
	if (!s->syncer || !syncer_take(s->syncer, &job))
		return;
	storage_end_sync(s, &job);
	if (s->down && job.result == 0 && !s->rewrite && !s->retry_timer)
		recover(s);
	if (s->waiting && !s->down) {
		s->waiting = false;
		if (s->look)
			storage_check_file(s);
		if (storage_pump(s))
			storage_flush(s);
	}
	if (s->n_closing || s->draining)
		storage_start_sync(s);
	else if (s->conf->sync == SYNC_ALWAYS)
		storage_commit(s);
	storage_tell_host(s);
}

/* ---- the host ---- */

bool storage_is_drained(const struct storage *s)
{
	return s->head == s->tail && !s->syncing && !s->down && !storage_needs_sync(s);
}

void storage_tell_host(struct storage *s)
{
	if (s->busy && !s->down &&
	    (s->head == s->tail || s->kept_bytes <= (uint64_t)s->conf->max_pending / 2)) {
		s->busy = false;
		s->host->input_ready(s->host);
	}
	if (s->draining && storage_is_drained(s)) {
		s->draining = false;
		s->host->drained(s->host);
	}
}
