/* SPDX-License-Identifier: MIT */
/*
 * spool - see spool.h: opening and closing, retention, the loop's side of the writer, and reading for a
 * consumer: newest frames from memory, older ones from disk in bounded pieces.  On the loop: a read is of the
 * page cache in most cases, else of at most SENDLOG_READ bytes, and of one segment's frame headers when a
 * consumer begins in the midst of a segment this process did not write.
 */
#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include <semstreams/base/job.h>

enum { PATIENCE_NS = 1000000 }; /* less than it takes to be written */
enum { SEG_SIZE_MIN = 64 << 10, SEG_SIZE_MAX = 16 << 20, FRAME_MAX = 256 << 10, MARK_EVERY = 64 << 10 };

static void spool_lock(const struct sendlog *log)
{
	pthread_mutex_lock(&log->spool->lock);
}

static void spool_unlock(const struct sendlog *log)
{
	pthread_mutex_unlock(&log->spool->lock);
}

static void spool_save(struct sendlog *log, bool at_once)
{
	struct log_spool *s = log->spool;

	s->state_dirty = true;
	if (at_once)
		s->state_ns = 0;
	if (s->waits != WRITER_BUSY)
		pthread_cond_signal(&s->wake);
}

/* ---- the list of segments ---- */

struct segment *spool_newest(const struct log_spool *s)
{
	return s->n_segs ? s->segs[s->n_segs - 1] : NULL;
}

int spool_push_segment(struct log_spool *s, struct segment *g)
{
	if (s->n_segs == s->segs_allocated) {
		uint32_t more = s->segs_allocated ? s->segs_allocated * 2 : 16;
		struct segment **segs = realloc(s->segs, more * sizeof *segs);
		if (!segs)
			return -ENOMEM;
		s->segs = segs;
		s->segs_allocated = more;
	}
	s->segs[s->n_segs++] = g;
	return 0;
}

void spool_segment_free(struct segment *g)
{
	if (!g)
		return;
	free(g->marks);
	free(g);
}

bool spool_removable(const struct log_spool *s)
{
	/* the newest has the snapshot, and if it has nothing yet, the one before it has */
	uint32_t needed = s->n_segs && spool_newest(s)->used == SEG_HEADER ? 2 : 1;

	return s->n_segs > needed && s->segs[0]->last_seq < s->first;
}

void spool_mark(struct segment *g, const struct frame *f, uint64_t offset, uint64_t last_ns,
		uint64_t max_age_ns)
{
	if (!f->count)
		return;
	if (last_ns > g->last_ns || !g->n_marks)
		g->last_ns = last_ns;
	if (g->n_marks) {
		struct mark *last = &g->marks[g->n_marks - 1];
		if (offset - last->offset < MARK_EVERY &&
		    (!max_age_ns || f->time_ns - last->time_ns < max_age_ns / 64)) {
			if (last_ns > last->last_ns)
				last->last_ns = last_ns;
			return;
		}
	}
	if (g->n_marks == g->marks_allocated) {
		uint32_t more = g->marks_allocated ? g->marks_allocated * 2 : 16;
		struct mark *marks = realloc(g->marks, more * sizeof *marks);
		if (!marks)
			return; /* reading begins further in front */
		g->marks = marks;
		g->marks_allocated = more;
	}
	g->marks[g->n_marks++] = (struct mark){f->first_seq, offset, f->time_ns, last_ns};
	if (g->n_marks == 1)
		g->first_ns = f->time_ns;
}

/* ---- newest frames ---- */

/* By its number in the ring. */
static struct cached_frame *cached_at(const struct log_spool *s, uint64_t i)
{
	return *(struct cached_frame **)ss_ring_at(&s->cache, i);
}

void spool_cached_free(struct cached_frame *c)
{
	if (!c)
		return;
	free(c->bytes);
	free(c);
}

static size_t cached_size(const struct cached_frame *c)
{
	return sizeof *c + c->head.len + 64;
}

static void forget_oldest(struct log_spool *s)
{
	struct cached_frame *c = cached_at(s, s->cache.head);

	ss_ring_shift(&s->cache);
	s->cache_bytes -= cached_size(c);
	spool_cached_free(c);
}

static void cache_add(struct log_spool *s, struct cached_frame *c)
{
	struct cached_frame **place = c->head.count ? ss_ring_push(&s->cache) : NULL;
	if (!place) {
		/* a hole would be taken for corruption: begin anew behind it */
		while (c->head.count && ss_ring_count(&s->cache))
			forget_oldest(s);
		spool_cached_free(c);
		return;
	}
	*place = c;
	s->cache_bytes += cached_size(c);
	while (s->cache_bytes > SENDLOG_CACHE && ss_ring_count(&s->cache) > 1)
		forget_oldest(s);
}

/* ---- folder ---- */

static int make_parents(const char *path)
{
	char part[4096];
	size_t len = strlen(path);

	if (len >= sizeof part)
		return -ENAMETOOLONG;
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

/* A descriptor of the folder, which is made. */
static int open_folder(const char *path, char why[256])
{
	struct stat st;
	int rc = make_parents(path);
	int fd = rc < 0 ? rc : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		rc = rc < 0 ? rc : -errno;
		snprintf(why, 256, "cannot make or open the spool folder \"%.150s\": %s", path,
			 strerror(-rc));
		return rc;
	}
	if (fstat(fd, &st) == 0 && !((st.st_uid != geteuid() && st.st_uid != 0) || st.st_mode & 022))
		return fd;
	close(fd);
	snprintf(why, 256,
		 "the spool folder \"%.120s\" must belong to the user this runs as and be writable by nobody "
		 "else; see chown, "
		 "chmod 700",
		 path);
	return -EPERM;
}

static int lock_folder(struct log_spool *s, const char *path, char why[256])
{
	char text[32] = "";
	int len;

	s->lock_fd = openat(s->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd < 0) {
		int rc = -errno;
		snprintf(why, 256, "cannot open \"%.150s/lock\": %s", path, strerror(-rc));
		return rc;
	}
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		int rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
		ssize_t n = pread(s->lock_fd, text, sizeof text - 1, 0);
		text[n > 0 ? strcspn(text, "\n") : 0] = '\0';
		snprintf(why, 256,
			 "the spool \"%.120s\" is in use by another process%s%s; give each its own path",
			 path, *text ? ", pid " : "", text);
		return rc;
	}
	/* who it is, for the message above; nothing depends on it */
	len = snprintf(text, sizeof text, "%ld\n", (long)getpid());
	if (ftruncate(s->lock_fd, 0) == 0 && pwrite(s->lock_fd, text, (size_t)len, 0) < 0)
		return 0;
	return 0;
}

/* ---- life ---- */

static void set_sizes(struct log_spool *s, uint64_t max_bytes)
{
	s->limit = max_bytes - SPOOL_OTHER;
	s->seg_size = s->limit / 8 & ~UINT64_C(4095);
	if (s->seg_size < SEG_SIZE_MIN)
		s->seg_size = SEG_SIZE_MIN;
	if (s->seg_size > SEG_SIZE_MAX)
		s->seg_size = SEG_SIZE_MAX;
	s->frame_max = s->seg_size / 4 < FRAME_MAX ? s->seg_size / 4 : FRAME_MAX;
	/* two segments with nothing else must fit; some of it goes to the snapshot and rounding */
	s->largest = s->limit / 2 < SEG_MAX ? s->limit / 2 : SEG_MAX;
	s->largest -= 16 << 10;
}

static int start_writer(struct log_spool *s)
{
	int rc = ss_thread_start(&s->thread, NULL, spool_writer, s);

	s->running = rc == 0;
	return rc;
}

static int spool_open(struct sendlog *log, char why[256])
{
	const char *path = log->options.path;
	pthread_condattr_t attr;
	struct log_spool *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	*s = (struct log_spool){.log = log, .dir_fd = -1, .lock_fd = -1, .state_fd = -1, .fd = -1};
	s->pending_end = &s->pending;
	s->done_end = &s->done;
	s->cache.value_size = sizeof(struct cached_frame *);
	s->fresh_end = &s->fresh;
	s->work_end = &s->work;
	for (int i = 0; i < SPOOL_READERS; i++)
		s->readers[i].file.fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	log->spool = s;
	if (log->options.max_bytes < SPOOL_MIN) {
		snprintf(why, 256, "max_bytes of a spool is at least 1 MiB, not %" PRIu64,
			 log->options.max_bytes);
		return -EINVAL;
	}
	set_sizes(s, log->options.max_bytes);
	s->dir_fd = open_folder(path, why);
	if (s->dir_fd < 0)
		return s->dir_fd;
	int rc = lock_folder(s, path, why);
	if (rc < 0)
		return rc;
	s->state_fd = openat(s->dir_fd, "state", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	rc = s->state_fd < 0 ? -errno : spool_recover(s, why);
	if (rc == 0)
		rc = start_writer(s);
	if (rc == 0)
		ss_set_max_delay(log->loop, log->loop_self, PATIENCE_NS);
	if (rc < 0 && !why[0])
		snprintf(why, 256, "the spool \"%.150s\": %s", path, strerror(-rc));
	return rc;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void free_frames(struct cached_frame *c)
{
	while (c) {
		struct cached_frame *next = c->next;
		spool_cached_free(c);
		c = next;
	}
}

static void spool_close(struct sendlog *log)
{
	struct log_spool *s = log->spool;

	if (s->running) {
		pthread_mutex_lock(&s->lock);
		s->stop = true;
		pthread_cond_signal(&s->wake);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
	}
	/* what could not be written any more was never reported as committed */
	log_pieces_free(log, s->work);
	log_pieces_free(log, s->pending);
	log_pieces_free(log, s->done);
	free_frames(s->fresh);
	while (ss_ring_count(&s->cache))
		forget_oldest(s);
	ss_ring_done(&s->cache);
	for (int i = 0; i < SPOOL_READERS; i++)
		seg_reader_done(&s->readers[i].file);
	for (uint32_t i = 0; i < s->n_segs; i++)
		spool_segment_free(s->segs[i]);
	free(s->segs);
	free(s->losses.list);
	free(s->snapshot.bytes);
	ss_attribute_writer_done(&s->attributes);
	close_fd(s->fd);
	ss_two_slot_close(&s->state);
	close_fd(s->state_fd);
	close_fd(s->lock_fd);
	close_fd(s->dir_fd);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
	log->spool = NULL;
}

/* ---- the loop's side ---- */

static int spool_admit(struct sendlog *log, uint32_t fresh, size_t largest, size_t memory)
{
	struct log_spool *s = log->spool;

	(void)fresh;
	(void)memory;
	if (largest > s->largest)
		return -EMSGSIZE;
	pthread_mutex_lock(&s->lock);
	bool full = s->full || s->pending_bytes >= SENDLOG_PENDING;
	pthread_mutex_unlock(&s->lock);
	return full ? -EAGAIN : 0;
}

static int spool_append(struct sendlog *log, struct log_piece *p)
{
	struct log_spool *s = log->spool;

	pthread_mutex_lock(&s->lock);
	*s->pending_end = p;
	s->pending_end = &p->next;
	s->pending_bytes += p->memory;
	if (s->waits == WRITER_IDLE || (s->waits == WRITER_PACING && s->pending_bytes >= s->frame_max))
		pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

/* The oldest that is young enough. */
static uint64_t young_enough(const struct log_spool *s, uint64_t max_age)
{
	uint64_t now = log_wall_ns(), since = now > max_age ? now - max_age : 0, seq = s->first;

	for (uint32_t i = 0; i < s->n_segs; i++) {
		const struct segment *g = s->segs[i];
		if (g->last_seq < seq)
			continue;
		if (g->last_ns < since) {
			seq = g->last_seq + 1;
			continue;
		}
		for (uint32_t k = 0; k + 1 < g->n_marks && g->marks[k].last_ns < since; k++)
			if (g->marks[k + 1].seq > seq)
				seq = g->marks[k + 1].seq;
		break;
	}
	return seq;
}

static void spool_retain(struct sendlog *log)
{
	struct log_spool *s = log->spool;
	uint64_t acked = sendlog_all_acked(log), max_age = log->options.max_age_ns;

	pthread_mutex_lock(&s->lock);
	bool signal = !s->state_dirty;
	s->state_dirty = true;
	if (s->first <= acked)
		s->first = acked + 1;
	uint64_t young = max_age ? young_enough(s, max_age) : 0;
	if (young > s->first && log_add_loss(log, &s->losses, s->first, young - 1, "age") == 0) {
		s->first = young;
		s->commit_is_news = true;
		log_wake(log);
	}
	if (s->waits == WRITER_IDLE && (signal || s->full || spool_removable(s)))
		pthread_cond_signal(&s->wake);
	log->first = s->first;
	pthread_mutex_unlock(&s->lock);
}

static void spool_handle(struct sendlog *log)
{
	struct log_spool *s = log->spool;
	char error[sizeof s->disk_error];

	pthread_mutex_lock(&s->lock);
	struct log_piece *done = s->done;
	struct cached_frame *fresh = s->fresh;
	struct log_losses losses = s->losses;
	bool commit_is_news = s->commit_is_news, error_is_news = s->error_is_news;
	bool room = log->wants_room && !s->full && s->pending_bytes <= SENDLOG_PENDING / 2;
	memcpy(error, s->disk_error, sizeof error);
	s->done = NULL;
	s->done_end = &s->done;
	s->fresh = NULL;
	s->fresh_end = &s->fresh;
	s->losses = (struct log_losses){0};
	s->commit_is_news = s->error_is_news = false;
	log->first = s->first;
	log->committed = s->committed;
	pthread_mutex_unlock(&s->lock);

	for (struct cached_frame *next; fresh; fresh = next) {
		next = fresh->next;
		cache_add(s, fresh);
	}
	if (room)
		log->wants_room = false;
	if (error_is_news) {
		log->events->disk_error(log->arg, error[0] ? error : NULL);
		usage_disk_error(log, error[0] ? error : NULL);
	}
	usage_woken(log);
	log_report_losses(log, &losses);
	if (commit_is_news)
		log->events->committed(log->arg, log->committed);
	/* after it: until then the owner may still have use for the batches */
	log_pieces_free(log, done);
	if (room)
		log->events->room(log->arg);
}

static uint64_t spool_bytes(const struct sendlog *log)
{
	struct log_spool *s = log->spool;
	uint64_t sum = 0;

	pthread_mutex_lock(&s->lock);
	for (uint32_t i = 0; i < s->n_segs; i++) {
		const struct segment *g = s->segs[i];
		uint64_t all = g->last_seq + 1 - g->first_seq;
		uint64_t from = s->first > g->first_seq ? s->first : g->first_seq;
		if (from <= g->last_seq)
			sum += (uint64_t)((double)g->used * (double)(g->last_seq + 1 - from) / (double)all);
	}
	pthread_mutex_unlock(&s->lock);
	return sum;
}

static void spool_usage(const struct sendlog *log, uint64_t *used, uint64_t *limit, bool *full,
			uint64_t *committing_ns)
{
	struct log_spool *s = log->spool;
	uint64_t segments = s->limit / s->seg_size;

	*used = 0;
	*limit = segments * s->seg_size;
	pthread_mutex_lock(&s->lock);
	for (uint32_t i = 0; i < s->n_segs; i++) {
		const struct segment *g = s->segs[i];
		if (i + 1 == s->n_segs)
			*used += g->used;
		else if (g->last_seq >= s->first)
			*used += g->size;
	}
	*full = s->full;
	*committing_ns = s->commit_since ? spool_clock() - s->commit_since : 0;
	pthread_mutex_unlock(&s->lock);
	if (*used > *limit)
		*used = *limit;
}

static uint64_t spool_oldest(const struct sendlog *log)
{
	struct log_spool *s = log->spool;
	uint64_t time_ns = 0;

	pthread_mutex_lock(&s->lock);
	for (uint32_t i = 0; i < s->n_segs && !time_ns; i++) {
		const struct segment *g = s->segs[i];
		if (g->last_seq < s->first || g->last_seq < g->first_seq)
			continue;
		time_ns = g->first_ns;
		for (uint32_t k = 0; k < g->n_marks && g->marks[k].seq <= s->first; k++)
			time_ns = g->marks[k].time_ns;
	}
	pthread_mutex_unlock(&s->lock);
	return time_ns;
}

/* ---- reading ---- */

static uint64_t find_cached(const struct log_spool *s, uint64_t seq)
{
	uint64_t low = s->cache.head, high = s->cache.tail;

	while (low < high) {
		uint64_t mid = (low + high) / 2;
		const struct frame *f = &cached_at(s, mid)->head;
		if (f->first_seq + f->count <= seq)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* What is asked for, and how far it is. */
struct reading {
	uint64_t seq, bytes;
	uint32_t left; /* records */
	bool stopped;  /* fn has had enough */
	bool (*fn)(void *arg, uint64_t seq, const struct ss_event *);
	void *arg;
};

static void give(struct reading *r, const struct ss_event *e)
{
	if (!r->fn(r->arg, e->seq, e)) {
		r->stopped = true;
		return;
	}
	r->seq = e->seq + 1;
	r->left--;
	r->bytes += e->len;
}

static void take_in_hand(struct log_spool *s, const uint8_t *frame, const struct frame *f,
			 struct frame_walk *w)
{
	struct log_hand *h = &s->log->hand;

	h->again = h->frame == frame && frame_same_attributes(w);
	if (h->again)
		return;
	h->frame = frame;
	h->bytes = frame_attributes(frame, f, w, &h->len);
}

static void read_cached(struct log_spool *s, struct reading *r)
{
	for (uint64_t i = find_cached(s, r->seq); i < s->cache.tail && r->left && !r->stopped; i++) {
		struct cached_frame *c = cached_at(s, i);
		struct frame_walk w = {0}, before;
		struct ss_event e;
		if (c->head.first_seq + c->hint.i <= r->seq)
			w = c->hint;
		for (before = w; r->left && !r->stopped && frame_next(c->bytes, &c->head, &w, &e);) {
			if (e.seq >= r->seq) {
				take_in_hand(s, c->bytes, &c->head, &w);
				give(r, &e);
			}
			if (!r->stopped)
				before = w;
		}
		c->hint = before;
	}
}

/* ---- disk ---- */

/* Where a sequence lies. */
struct place {
	uint64_t ordinal, first_seq, last_seq, end, offset;
};

/* 0; -ENOENT: it is behind all segments; *seq moves forward if it is gone already. */
static int locate(struct log_spool *s, uint64_t *seq, struct place *p)
{
	uint32_t low = 0, high;

	pthread_mutex_lock(&s->lock);
	if (*seq < s->first)
		*seq = s->first;
	high = s->n_segs;
	while (low < high) {
		uint32_t mid = (low + high) / 2;
		if (s->segs[mid]->last_seq < *seq)
			low = mid + 1;
		else
			high = mid;
	}
	if (low < s->n_segs) {
		const struct segment *g = s->segs[low];
		*p = (struct place){g->ordinal, g->first_seq, g->last_seq, g->used, SEG_HEADER};
		for (uint32_t lo = 0, hi = g->n_marks; lo < hi;) {
			uint32_t mid = (lo + hi) / 2;
			if (g->marks[mid].seq <= *seq) {
				p->offset = g->marks[mid].offset;
				lo = mid + 1;
			} else {
				hi = mid;
			}
		}
	}
	low = low < s->n_segs;
	pthread_mutex_unlock(&s->lock);
	return low ? 0 : -ENOENT;
}

static int reader_for(struct log_spool *s, const struct place *p, uint64_t seq, struct spool_reader **out)
{
	char name[SEG_NAME];

	for (int i = 0; i < SPOOL_READERS; i++) {
		struct spool_reader *r = &s->readers[i];
		if (r->next_seq == seq && r->file.ordinal == p->ordinal) {
			r->file.at = r->frame_at;
			r->file.end = p->end;
			*out = r;
			return 0;
		}
	}
	struct spool_reader *r = &s->readers[s->next_reader++ % SPOOL_READERS];
	seg_reader_done(&r->file);
	r->next_seq = 0;
	seg_name(p->ordinal, name);
	int fd = openat(s->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	seg_reader_init(&r->file, fd, s->files, p->ordinal, p->end);
	r->file.at = r->frame_at = p->offset;
	*out = r;
	return 0;
}

static void give_frame(struct log_spool *s, struct reading *r, uint8_t *bytes, struct frame *f,
		       uint64_t ordinal)
{
	struct frame_walk w = {0};
	struct ss_event e;

	bool good = frame_repair_index(bytes, f);
	if (good && f->repaired)
		log_warn_repaired(s->log, ordinal);
	if (!good) {
		log_corrupt(s->log, r->seq, f->first_seq + f->count - 1);
		r->seq = f->first_seq + f->count;
		return;
	}
	while (r->left && !r->stopped && frame_next(bytes, f, &w, &e)) {
		if (e.seq < r->seq)
			continue;
		if (frame_record_ok(bytes, f, w.i - 1, &e)) {
			take_in_hand(s, bytes, f, &w);
			give(r, &e);
		} else {
			log_corrupt(s->log, e.seq, e.seq);
			r->seq = e.seq + 1;
		}
	}
}

/* From one segment, until it ends or enough was read.  0, or -errno. */
static int read_segment(struct log_spool *s, struct reading *r, const struct place *p)
{
	struct spool_reader *reader = NULL;
	uint8_t *bytes;
	struct frame f;
	int rc = reader_for(s, p, r->seq, &reader);

	if (rc < 0)
		return rc;
	while (r->left && !r->stopped && r->bytes < SENDLOG_READ && r->seq <= p->last_seq) {
		rc = seg_reader_next(&reader->file, &f, &bytes);
		if (rc < 0)
			return rc;
		/* a seal, or the end: what is missing up to the segment's last is lost */
		uint64_t from = rc && !f.seal && f.first_seq <= p->last_seq ? f.first_seq : p->last_seq + 1;
		if (rc && !f.seal && f.first_seq + f.count <= r->seq)
			continue;
		if (from > r->seq) {
			log_corrupt(s->log, r->seq, from - 1);
			r->seq = from;
		}
		if (from > p->last_seq)
			break;
		reader->frame_at = reader->file.at - f.len;
		give_frame(s, r, bytes, &f, p->ordinal);
		if (r->seq == f.first_seq + f.count)
			reader->frame_at = reader->file.at;
	}
	reader->next_seq = r->seq;
	return 0;
}

/* Nothing to be read there any more, and waiting does not help? */
static bool is_damage(int rc)
{
	return rc == -EIO || rc == -ENOENT || rc == -EUCLEAN || rc == -ELOOP;
}

static void read_disk(struct log_spool *s, struct reading *r, uint64_t until)
{
	struct place p;

	while (r->left && !r->stopped && r->bytes < SENDLOG_READ && r->seq < until) {
		int rc = locate(s, &r->seq, &p);
		if (rc < 0) {
			log_corrupt(s->log, r->seq, until - 1);
			r->seq = until;
			return;
		}
		if (r->seq < p.first_seq) {
			log_corrupt(s->log, r->seq, p.first_seq - 1);
			r->seq = p.first_seq;
		}
		if (p.last_seq >= until)
			p.last_seq = until - 1;
		rc = r->seq <= p.last_seq ? read_segment(s, r, &p) : 0;
		if (rc == 0)
			continue;
		/* gone since it was located? */
		struct place again;
		uint64_t seq = r->seq;
		if (locate(s, &seq, &again) == 0 && (seq != r->seq || again.ordinal != p.ordinal)) {
			r->seq = seq;
			continue;
		}
		if (!is_damage(rc))
			return;
		log_corrupt(s->log, r->seq, p.last_seq);
		r->seq = p.last_seq + 1;
	}
}

static uint64_t spool_read(struct sendlog *log, uint64_t seq, uint32_t max,
			   bool (*fn)(void *, uint64_t, const struct ss_event *), void *arg)
{
	struct log_spool *s = log->spool;
	struct reading r = {.seq = seq, .left = max, .fn = fn, .arg = arg};
	uint64_t cached =
		ss_ring_count(&s->cache) ? cached_at(s, s->cache.head)->head.first_seq : log->committed + 1;

	if (r.seq < cached)
		read_disk(s, &r, cached);
	if (r.seq >= cached)
		read_cached(s, &r);
	return r.seq;
}

const struct log_store spool_store = {
	.name = "spool",
	.open = spool_open,
	.close = spool_close,
	.admit = spool_admit,
	.append = spool_append,
	.retain = spool_retain,
	.handle = spool_handle,
	.read = spool_read,
	.bytes = spool_bytes,
	.oldest_ns = spool_oldest,
	.usage = spool_usage,
	.lock = spool_lock,
	.unlock = spool_unlock,
	.save = spool_save,
};
