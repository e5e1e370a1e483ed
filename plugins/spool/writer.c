/* SPDX-License-Identifier: MIT */
/*
 * writer - a spool's thread: one frame and one fdatasync for all that was appended meanwhile, new
 * segments, and the removal of old ones.  It alone changes files; what it shares with the loop is in struct
 * log_spool, under its lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include "spool.h"

enum {
	/* A sync costs more CPU than what it syncs.  So commits begin so far apart at least, the farther the
	 * more the last one held, unless a whole frame waits. */
	PACE_MIN_NS = 2000000,
	PACE_MAX_NS = 8000000,
	PACE_PER_BYTE_NS = 120,
	BACKOFF_MIN_NS = 50000000,
	STATE_NS = 1000000000, /* cursors may be this old on disk */
};
#define BACKOFF_MAX_NS UINT64_C(5000000000)

uint64_t spool_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int spool_seal(struct log_spool *s, int fd, const struct segment *g, uint64_t next_seq)
{
	uint8_t seal[FRAME_HEADER] = {0};
	struct frame f = {.len = sizeof seal, .first_seq = next_seq, .seal = true};

	if (g->used + sizeof seal > g->size)
		return 0;
	frame_finish(seal, &f, s->files, g->ordinal, g->used);
	return ss_pwrite_all(fd, seal, sizeof seal, (off_t)g->used);
}

/* ---- segments ---- */

/* Lock held. */
static void write_state(struct log_spool *s, bool both)
{
	struct log_cursor cursors[SENDLOG_CONSUMERS_MAX];
	struct spool_state st = {.next = s->committed + 1, .cursors = cursors};

	spool_state_fill(s, &st);
	s->state_dirty = false;
	const uint64_t since = s->commit_since;
	if (!since)
		s->commit_since = spool_clock(); /* a disk that does not answer shows here, too */
	pthread_mutex_unlock(&s->lock);
	int rc = spool_state_write(&s->state, &st, both);
	pthread_mutex_lock(&s->lock);
	s->state_ns = spool_clock();
	s->commit_since = since;
	if (rc < 0)
		s->state_dirty = true; /* an older cursor only sends again */
}

/* Lock held: the oldest segment goes, to be used again if there is no spare yet.  What its consumers
 * acknowledged is on disk before, so that a crash does not make it look lost. */
static void remove_oldest(struct log_spool *s)
{
	char name[SEG_NAME];

	if (s->state_dirty)
		write_state(s, false);
	struct segment *g = s->segs[0];
	memmove(s->segs, s->segs + 1, --s->n_segs * sizeof *s->segs);
	bool keep = !s->has_spare && g->size == s->seg_size;
	seg_name(g->ordinal, name);
	pthread_mutex_unlock(&s->lock);
	if (keep)
		keep = renameat(s->dir_fd, name, s->dir_fd, "spare") == 0;
	if (!keep)
		unlinkat(s->dir_fd, name, 0);
	pthread_mutex_lock(&s->lock);
	s->has_spare |= keep;
	if (!keep)
		s->total -= g->size;
	spool_segment_free(g);
}

/* Lock held: room on disk for a new segment.  0, -EAGAIN. */
static int make_room(struct log_spool *s, uint64_t size)
{
	while (s->total + (s->has_spare && size == s->seg_size ? 0 : size) > s->limit) {
		if (spool_removable(s)) {
			remove_oldest(s);
		} else if (s->has_spare) {
			unlinkat(s->dir_fd, "spare", 0);
			s->has_spare = false;
			s->total -= s->seg_size;
		} else if (s->log->options.drop_oldest && s->n_segs > 1) {
			uint64_t last = s->segs[0]->last_seq;
			if (s->first <= last) {
				if (log_add_loss(s->log, &s->losses, s->first, last, "full") < 0)
					return -ENOMEM;
				s->first = last + 1;
				s->commit_is_news = true;
				log_wake(s->log);
			}
			remove_oldest(s);
		} else {
			return -EAGAIN;
		}
	}
	return 0;
}

/* A file of size bytes by the name: the spare, or a new one whose blocks are there from the beginning. */
static int make_file(struct log_spool *s, const char *name, uint64_t size)
{
	bool spare = s->has_spare && size == s->seg_size;

	if (spare && renameat(s->dir_fd, "spare", s->dir_fd, name) < 0)
		return -errno;
	int fd = openat(s->dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (spare ? 0 : O_CREAT | O_TRUNC),
			0600);
	if (fd < 0)
		return -errno;
	int rc = spare ? 0 : posix_fallocate(fd, 0, (off_t)size);
	if (rc) {
		unlinkat(s->dir_fd, name, 0);
		close(fd);
		return -rc;
	}
	pthread_mutex_lock(&s->lock);
	if (spare)
		s->has_spare = false;
	else
		s->total += size;
	pthread_mutex_unlock(&s->lock);
	return fd;
}

static int begin_segment(struct log_spool *s, uint64_t size, uint64_t first_seq)
{
	char name[SEG_NAME];
	const struct segment *newest = spool_newest(s);
	struct segment *g = calloc(1, sizeof *g);
	uint64_t now = log_wall_ns();

	if (!g)
		return -ENOMEM;
	*g = (struct segment){.ordinal = newest ? newest->ordinal + 1 : 1,
			      .first_seq = first_seq,
			      .last_seq = first_seq - 1,
			      .size = size,
			      .used = SEG_HEADER,
			      .first_ns = now,
			      .last_ns = now};
	seg_name(g->ordinal, name);
	int fd = make_file(s, name, size);
	if (fd < 0) {
		free(g);
		return fd;
	}
	pthread_mutex_lock(&s->lock);
	int rc = spool_push_segment(s, g);
	if (rc < 0)
		s->total -= size;
	s->state_dirty = true; /* with the sequence reached, in case the end of this file gets lost */
	pthread_mutex_unlock(&s->lock);
	if (rc < 0) {
		unlinkat(s->dir_fd, name, 0);
		spool_segment_free(g);
		close(fd);
		return rc;
	}
	if (s->fd >= 0) {
		if (s->log->options.relaxed)
			fdatasync(s->fd);
		close(s->fd);
	}
	s->fd = fd;
	s->sync_dir = true;
	return 0;
}

/* The newest segment has room for need bytes and a seal. */
static int place(struct log_spool *s, size_t need, uint64_t first_seq)
{
	struct segment *g = spool_newest(s);
	uint64_t size = (SEG_HEADER + need + FRAME_HEADER + 4095) & ~UINT64_C(4095);
	int rc;

	need += FRAME_HEADER;
	if (g && s->fd >= 0 && g->used + need <= g->size)
		return 0;
	if (size < s->seg_size)
		size = s->seg_size;
	pthread_mutex_lock(&s->lock);
	rc = make_room(s, size);
	pthread_mutex_unlock(&s->lock);
	return rc < 0 ? rc : begin_segment(s, size, first_seq);
}

/* ---- one commit ---- */

/* What goes into a frame: from the work list, whole pieces but for the ends. */
struct plan {
	uint64_t first_seq;
	uint32_t count, pieces;     /* pieces begun */
	uint32_t last_rows;         /* of the last piece: up to this row of it */
	size_t payload, attributes; /* attributes: their bytes, at most */
	uint64_t time_ns;           /* of the first record */
};

static void plan_frame(const struct log_spool *s, struct plan *plan)
{
	uint32_t from = s->work_row;

	*plan = (struct plan){.first_seq = s->work->first_seq + from};
	for (const struct log_piece *p = s->work; p; p = p->next, from = 0) {
		const size_t taken = frame_size(plan->count, 0, plan->payload + plan->attributes);
		size_t room = s->frame_max > taken ? s->frame_max - taken : 0;
		uint32_t rows = p->count;
		size_t payload = p->payload, attributes = p->attributes, n = (size_t)p->count * FRAME_INDEX;
		if (from || payload + attributes + n > room) {
			if (plan->count && p->snapshot_size)
				return;
			payload = attributes = 0;
			for (rows = from; rows < p->count; rows++) {
				const size_t own = log_attributes_size(p->batch, rows, rows == from);
				size_t more = p->batch->events[rows].len + own + FRAME_INDEX;
				if (!p->snapshot_size && (plan->count || rows > from) && more > room)
					break;
				room -= more < room ? more : room;
				payload += p->batch->events[rows].len;
				attributes += own;
			}
			if (rows == from && p->count)
				return;
		}
		if (!plan->count && p->count)
			plan->time_ns = p->batch->events[from].time_ns;
		plan->pieces++;
		plan->last_rows = rows;
		plan->count += rows - from;
		plan->payload += payload;
		plan->attributes += attributes;
		if (rows < p->count)
			return;
	}
}

/* The snapshot of the newest piece that the plan has wholly. */
static int keep_snapshot(struct log_spool *s, const struct plan *plan, bool *fresh)
{
	const struct log_piece *p = s->work, *newest = NULL;

	for (uint32_t i = 0; i < plan->pieces; i++, p = p->next)
		if (p->snapshot_size && (i + 1 < plan->pieces || plan->last_rows == p->count))
			newest = p;
	*fresh = newest;
	return newest ? log_snapshot_set(&s->snapshot, newest->snapshot, newest->snapshot_size) : 0;
}

/* A segment begins with the snapshot, so that older segments can go. */
static bool begins_segment(const struct log_spool *s)
{
	return spool_newest(s)->used == SEG_HEADER;
}

static void fill_frame(struct log_spool *s, const struct plan *plan, const struct frame *f, bool snapshot,
		       uint8_t *frame)
{
	uint8_t *data = frame + FRAME_HEADER + f->meta_len + (size_t)f->count * FRAME_INDEX;
	const struct log_piece *p = s->work;
	uint32_t from = s->work_row, n = 0;

	frame_set_attributes(frame, &s->attributes);
	if (snapshot)
		frame_set_snapshot(frame, f, s->snapshot.bytes, s->snapshot.len);
	for (uint32_t i = 0; i < plan->pieces; i++, p = p->next, from = 0) {
		uint32_t rows = i + 1 == plan->pieces ? plan->last_rows : p->count;
		for (uint32_t row = from; row < rows; row++) {
			const struct ss_event *e = &p->batch->events[row];
			frame_set_record(frame, f, n++, e);
			if (e->len)
				memcpy(data, e->data, e->len);
			data += e->len;
		}
	}
	memset(data, 0, (size_t)(frame + f->len - data));
}

/* The attributes of what goes into a frame: the bytes of their block, 0: there are none; -ENOMEM. */
static int64_t gather_attributes(struct log_spool *s, const struct plan *plan)
{
	struct ss_attribute_writer *w = &s->attributes;
	uint8_t set[SS_ATTRIBUTE_SET_MAX];
	const struct log_piece *p = s->work;
	uint32_t from = s->work_row;

	ss_attribute_writer_clear(w);
	if (!plan->attributes)
		return 0;
	for (uint32_t i = 0; i < plan->pieces; i++, p = p->next, from = 0) {
		const uint32_t rows = i + 1 == plan->pieces ? plan->last_rows : p->count;
		size_t len;
		for (uint32_t row = from; row < rows; row++) {
			const struct ss_event *e = &p->batch->events[row];
			if (row != from && e->attributes == e[-1].attributes) {
				ss_attribute_writer_again(w);
				continue;
			}
			len = ss_attribute_set_write(ss_attributes_of(p->batch, e), set);
			if (ss_attribute_writer_add(w, set, len) < 0)
				return -ENOMEM;
		}
	}
	return (int64_t)ss_attribute_writer_size(w);
}

static int sync_files(struct log_spool *s)
{
	uint64_t now = spool_clock();

	if (s->log->options.relaxed && !s->sync_dir && now - s->sync_ns < STATE_NS)
		return 0;
	s->sync_ns = now;
	if (fdatasync(s->fd) < 0)
		return -errno;
	if (s->sync_dir && fsync(s->dir_fd) < 0)
		return -errno;
	s->sync_dir = false;
	return 0;
}

/* The frame is on disk: tell the loop. */
static void publish(struct log_spool *s, const struct plan *plan, struct cached_frame *c)
{
	struct segment *g = spool_newest(s);
	uint64_t last_ns = 0;

	pthread_mutex_lock(&s->lock);
	if (plan->count) {
		g->last_seq = plan->first_seq + plan->count - 1;
		s->committed = g->last_seq;
	}
	for (uint32_t i = 0; i < plan->pieces; i++) {
		struct log_piece *p = s->work;
		if (p->count) {
			uint32_t row = i + 1 == plan->pieces ? plan->last_rows : p->count;
			last_ns = p->batch->events[row - 1].time_ns;
			if (row < p->count) {
				s->work_row = row;
				break;
			}
		}
		s->work_row = 0;
		s->work = p->next;
		if (!s->work)
			s->work_end = &s->work;
		s->pending_bytes -= p->memory;
		p->next = NULL;
		*s->done_end = p;
		s->done_end = &p->next;
	}
	spool_mark(g, &c->head, g->used, last_ns, s->log->options.max_age_ns);
	g->used += c->head.len;
	*s->fresh_end = c;
	s->fresh_end = &c->next;
	s->commit_is_news = true;
	if (s->disk_error[0]) {
		s->disk_error[0] = '\0';
		s->error_is_news = true;
	}
	s->full = false;
	pthread_mutex_unlock(&s->lock);
	log_wake(s->log);
}

static int write_header(struct log_spool *s, const struct segment *g)
{
	struct seg_header h = {.ordinal = g->ordinal, .first_seq = g->first_seq, .time_ns = g->first_ns};
	uint8_t header[SEG_HEADER];

	memcpy(h.epoch, s->files, sizeof h.epoch);
	seg_header_write(&h, header);
	return ss_pwrite_all(s->fd, header, sizeof header, (off_t)0);
}

/* Without its checksums; attributes and snapshot: what they take in it. */
static int build_frame(struct log_spool *s, const struct plan *plan, size_t attributes, size_t snapshot,
		       struct cached_frame *c)
{
	c->head = (struct frame){.count = plan->count,
				 .meta_len = (uint32_t)(attributes + snapshot),
				 .attributes = attributes,
				 .first_seq = plan->first_seq,
				 .time_ns = plan->time_ns};
	c->head.len = (uint32_t)frame_size(plan->count, c->head.meta_len, plan->payload);
	c->bytes = malloc(c->head.len);
	if (!c->bytes)
		return -ENOMEM;
	fill_frame(s, plan, &c->head, snapshot, c->bytes);
	return 0;
}

static int commit(struct log_spool *s)
{
	struct cached_frame *c = calloc(1, sizeof *c);
	struct plan plan;
	int rc = -ENOMEM;

	if (!c)
		return rc;
	plan_frame(s, &plan);
	bool fresh;
	rc = keep_snapshot(s, &plan, &fresh);
	const size_t snapshot = frame_snapshot_size(s->snapshot.len);
	const int64_t gathered = gather_attributes(s, &plan);
	const size_t attributes = frame_attributes_size(gathered > 0 ? (size_t)gathered : 0);
	if (rc == 0)
		rc = gathered < 0 ? (int)gathered
				  : place(s, frame_size(plan.count, snapshot + attributes, plan.payload),
					  plan.first_seq);
	if (rc == 0)
		rc = build_frame(s, &plan, attributes, fresh || begins_segment(s) ? snapshot : 0, c);
	if (rc < 0)
		goto out;
	struct segment *g = spool_newest(s);
	frame_finish(c->bytes, &c->head, s->files, g->ordinal, g->used);
	s->commit_ns = spool_clock();
	s->pace_ns = PACE_MIN_NS + (uint64_t)c->head.len * PACE_PER_BYTE_NS;
	if (s->pace_ns > PACE_MAX_NS)
		s->pace_ns = PACE_MAX_NS;
	if (fresh && s->log->events->committing)
		rc = s->log->events->committing(s->log->arg, s->snapshot.bytes, s->snapshot.len);
	if (rc < 0)
		goto out;
	/* all of it again after a failed sync: the kernel has forgotten which pages it could not write */
	if (g->used == SEG_HEADER)
		rc = write_header(s, g);
	if (rc == 0)
		rc = ss_pwrite_all(s->fd, c->bytes, c->head.len, (off_t)g->used);
	if (rc == 0)
		rc = sync_files(s);
	if (rc < 0)
		goto out;
	publish(s, &plan, c);
	if (fresh && s->log->events->snapshot_kept)
		s->log->events->snapshot_kept(s->log->arg, s->snapshot.bytes, s->snapshot.len);
	/* not needed for what was committed: it may be late or missing */
	spool_seal(s, s->fd, g, s->committed + 1);
	return 0;
out:
	spool_cached_free(c);
	return rc;
}

/* ---- the thread ---- */

/* Lock held.  Wait for the loop, at most until deadline (0 = for ever). */
static void wait_until(struct log_spool *s, uint64_t deadline, int how)
{
	struct timespec t = {.tv_sec = (time_t)(deadline / 1000000000),
			     .tv_nsec = (long)(deadline % 1000000000)};

	s->waits = how;
	if (deadline)
		pthread_cond_timedwait(&s->wake, &s->lock, &t);
	else
		pthread_cond_wait(&s->wake, &s->lock);
	s->waits = WRITER_BUSY;
}

/* Lock held: what was appended is the writer's now. */
static void take_pending(struct log_spool *s)
{
	if (!s->pending)
		return;
	*s->work_end = s->pending;
	s->work_end = s->pending_end;
	s->pending = NULL;
	s->pending_end = &s->pending;
}

/* Lock held: it did not work; wait before trying again. */
static void wait_for_better(struct log_spool *s, int rc, uint64_t *backoff)
{
	if (rc == -EAGAIN) {
		s->full = true;
		if (!spool_removable(s))
			wait_until(s, s->state_dirty ? s->state_ns + STATE_NS : 0, WRITER_IDLE);
		return;
	}
	if (!s->disk_error[0]) {
		snprintf(s->disk_error, sizeof s->disk_error, "%s", strerror(-rc));
		s->error_is_news = true;
		log_wake(s->log);
	}
	*backoff = *backoff == 0                   ? BACKOFF_MIN_NS
		   : *backoff * 2 < BACKOFF_MAX_NS ? *backoff * 2
						   : BACKOFF_MAX_NS;
	uint64_t until = spool_clock() + *backoff;
	while (!s->stop && spool_clock() < until)
		wait_until(s, until, WRITER_BUSY);
}

void *spool_writer(void *arg)
{
	struct log_spool *s = arg;
	uint64_t backoff = 0;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		/* both let go of the lock: look at everything anew */
		if (spool_removable(s)) {
			remove_oldest(s);
			continue;
		}
		if (s->state_dirty && spool_clock() - s->state_ns >= STATE_NS) {
			write_state(s, false);
			continue;
		}
		take_pending(s);
		bool stop = s->stop;
		if (!s->work && stop)
			break;
		if (!s->work) {
			wait_until(s, s->state_dirty ? s->state_ns + STATE_NS : 0, WRITER_IDLE);
			continue;
		}
		if (!stop && s->pending_bytes < s->frame_max && spool_clock() - s->commit_ns < s->pace_ns) {
			wait_until(s, s->commit_ns + s->pace_ns, WRITER_PACING);
			continue;
		}
		s->commit_since = spool_clock();
		pthread_mutex_unlock(&s->lock);
		int rc = commit(s);
		pthread_mutex_lock(&s->lock);
		if (spool_clock() - s->commit_since >= STALL_NS)
			log_wake(s->log); /* what was said of a disk that does not answer is over */
		s->commit_since = 0;
		if (rc == 0)
			backoff = 0;
		else if (stop)
			break;
		else
			wait_for_better(s, rc, &backoff);
	}
	write_state(s, true);
	pthread_mutex_unlock(&s->lock);
	if (s->log->options.relaxed && s->fd >= 0)
		fdatasync(s->fd);
	return NULL;
}
