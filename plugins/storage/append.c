/* SPDX-License-Identifier: MIT */
/*
 * append - from the ring of kept batches into files: which file, when the next one, lines into large writes.
 * Runs in the instance's loop.
 */
#include <string.h>
#include "storage.h"

enum { HOUR = 3600, CLOCK_STEP = 60, ROTATE_RETRY_S = 10 };

/* ---- which file ---- */

/* The name depends on nothing finer than the hour.  A clock set back a little changes nothing. */
static bool hour_is_over(const struct storage *s, time_t now)
{
	return now >= s->until || now < s->from - CLOCK_STEP;
}

int storage_open(struct storage *s, char why[WHY_MAX])
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
		       "Repaired a file: its last line was not finished and is now in its .torn file "
		       "bytes=%llu path=%s",
		       (unsigned long long)torn, s->seg->path);
	}
	return 0;
}

void storage_reap(struct storage *s)
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

bool storage_retire(struct storage *s)
{
	if (s->n_closing == CLOSING_MAX)
		return false;
	s->closing[s->n_closing++] = s->seg;
	s->seg = NULL;
	if (!s->syncing)
		storage_reap(s);
	return true;
}

static bool can_retire(const struct storage *s)
{
	return s->seg && s->n_closing < CLOSING_MAX;
}

bool storage_settle(struct storage *s)
{
	if (!storage_flush(s))
		return false;
	if (!s->positioned && !s->record_cuts)
		return true;
	storage_start_sync(s);
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
		ss_log(s->host, SS_LOG_ERROR, "Cannot rotate, going on with the same file path=%s error=%s",
		       s->seg->path, strerror(-rc));
		return;
	}
	s->host->metric_add(s->host, METRIC_ROTATIONS, 1);
	storage_retire(s);
}

/* The hour is over: is there another name now? */
static void change_name(struct storage *s, time_t now)
{
	char rel[REL_MAX];
	if (path_render(&s->path, now, rel) == 0 && strcmp(rel, s->seg->rel) != 0) {
		s->host->metric_add(s->host, METRIC_ROTATIONS, 1);
		storage_retire(s);
		return;
	}
	s->from = now - now % HOUR;
	s->until = s->from + HOUR;
}

/* Between two batches: the right file, open.  A batch is never torn over two files by a rotation. */
static bool prepare_file(struct storage *s)
{
	if (s->look)
		storage_check_file(s);
	if (s->look)
		return false;
	if (can_retire(s)) {
		time_t now = time(NULL);
		bool too_long = s->conf->rotate_size &&
				s->seg->size + lines_bytes(&s->lines) >= (uint64_t)s->conf->rotate_size &&
				may_rotate(s);
		bool other_hour = hour_is_over(s, now);
		if ((too_long || other_hour) && !storage_settle(s))
			return false;
		if (other_hour)
			change_name(s, now);
		else if (too_long)
			rotate(s);
	}
	char why[WHY_MAX];
	int rc = s->seg ? 0 : storage_open(s, why);
	if (rc < 0) {
		storage_fail(s, METRIC_OPEN_ERRORS, "open", why, -rc);
		return false;
	}
	return storage_is_recorded(s) || storage_move_record(s);
}

void storage_check_file(struct storage *s)
{
	s->look = false;
	if (!s->seg || s->down || !storage_flush(s) || !can_retire(s))
		return;
	time_t now = time(NULL);
	uint64_t age_ns = (uint64_t)now * 1000000000U - s->seg->opened_ns;
	bool moved = segment_moved(s->seg), other_hour = hour_is_over(s, now);
	bool too_old = s->conf->rotate_age && (int64_t)age_ns >= s->conf->rotate_age && s->seg->size &&
		       may_rotate(s);
	if ((moved || other_hour || too_old) && !storage_settle(s)) {
		s->look = true;
		return;
	}
	if (moved) {
		ss_log(s->host, SS_LOG_INFO, "The file was moved or deleted, going on with a new one path=%s",
		       s->seg->path);
		storage_retire(s);
	} else if (other_hour) {
		change_name(s, now);
	} else if (too_old) {
		rotate(s);
	} else if (segment_resized(s->seg)) {
		ss_log(s->host, SS_LOG_WARN,
		       "Somebody else changed the length of the file path=%s bytes=%llu", s->seg->path,
		       (unsigned long long)s->seg->size);
	}
}

/* ---- lines ---- */

bool storage_flush(struct storage *s)
{
	lines_seal(&s->lines);
	size_t bytes = s->lines.bytes;
	if (bytes) {
		char why[WHY_MAX];
		int rc = s->seg ? 0 : storage_open(s, why);
		if (rc < 0) {
			storage_fail(s, METRIC_OPEN_ERRORS, "open", why, -rc);
			return false;
		}
		rc = segment_write(s->seg, s->lines.iov, s->lines.n, bytes);
		if (rc < 0) {
			storage_fail(s, METRIC_WRITE_ERRORS, "write", strerror(-rc), -rc);
			return false;
		}
		s->host->metric_add(s->host, METRIC_WRITTEN, (int64_t)bytes);
		s->written += bytes;
	}
	lines_reset(&s->lines);
	while (s->flushed < s->next) {
		const struct kept *k = &s->ring[s->flushed & (s->room - 1)];
		if (k->end > s->written)
			break;
		s->boundary = k->end;
		s->flushed++;
		if (k->stream >= 0)
			stream_write(&s->streams.all[k->stream], &k->at);
	}
	storage_release(s);
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
	if (k->duplicates)
		s->host->drop(s->host, REASON_DUPLICATE, k->duplicates);
}

bool storage_pump(struct storage *s)
{
	while (s->next < s->tail) {
		struct kept *k = &s->ring[s->next & (s->room - 1)];
		uint32_t count = k->batch->count;
		if (s->lines.full && !storage_flush(s))
			return false;
		if (k->row == 0 && !prepare_file(s))
			return false;
		uint32_t n = k->skip ? storage_fresh_rows(k) : count - k->row;
		int64_t took = lines_gather(&s->lines, k->batch->events + k->row, n, &k->dropped);
		if (took < 0) {
			storage_fail(s, METRIC_WRITE_ERRORS, "write", strerror((int)-took), (int)-took);
			return false;
		}
		k->row += (uint32_t)took;
		if (k->row == count)
			finish_batch(s, k);
	}
	return !s->lines.full || storage_flush(s);
}
