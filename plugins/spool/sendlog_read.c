/* SPDX-License-Identifier: MIT */
/*
 * sendlog_read - from a spool to a consumer: newest frames from memory, older ones from disk in bounded
 * pieces.  On the loop: a read is of the page cache in most cases, else of at most SENDLOG_READ bytes, and of
 * one segment's frame headers when a consumer begins in the midst of a segment this process did not write.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "sendlog_spool.h"

/* ---- newest frames ---- */

static struct cached_frame *cached_at(const struct log_spool *s, size_t i)
{
	return s->cache[(s->cache_first + i) % s->cache_allocated];
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
	struct cached_frame *c = cached_at(s, 0);

	s->cache_first = (s->cache_first + 1) % s->cache_allocated;
	s->cache_n--;
	s->cache_bytes -= cached_size(c);
	spool_cached_free(c);
}

static bool make_place(struct log_spool *s)
{
	if (s->cache_n < s->cache_allocated)
		return true;
	size_t more = s->cache_allocated ? s->cache_allocated * 2 : 64;
	struct cached_frame **ring = malloc(more * sizeof *ring);
	if (!ring)
		return false;
	for (size_t i = 0; i < s->cache_n; i++)
		ring[i] = cached_at(s, i);
	free(s->cache);
	s->cache = ring;
	s->cache_first = 0;
	s->cache_allocated = more;
	return true;
}

void spool_cache_add(struct log_spool *s, struct cached_frame *c)
{
	if (c->head.count == 0 || !make_place(s)) {
		/* a hole would be taken for corruption: begin anew behind it */
		while (c->head.count && s->cache_n)
			forget_oldest(s);
		spool_cached_free(c);
		return;
	}
	s->cache[(s->cache_first + s->cache_n++) % s->cache_allocated] = c;
	s->cache_bytes += cached_size(c);
	while (s->cache_bytes > SENDLOG_CACHE && s->cache_n > 1)
		forget_oldest(s);
}

static size_t find_cached(const struct log_spool *s, uint64_t seq)
{
	size_t low = 0, high = s->cache_n;

	while (low < high) {
		size_t mid = (low + high) / 2;
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

static void read_cached(struct log_spool *s, struct reading *r)
{
	for (size_t i = find_cached(s, r->seq); i < s->cache_n && r->left && !r->stopped; i++) {
		struct cached_frame *c = cached_at(s, i);
		struct frame_walk w = {0}, before;
		struct ss_event e;
		if (c->head.first_seq + c->hint.i <= r->seq)
			w = c->hint;
		for (before = w; r->left && !r->stopped && frame_next(c->bytes, &c->head, &w, &e);) {
			if (e.seq >= r->seq)
				give(r, &e);
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

static void give_frame(struct log_spool *s, struct reading *r, const uint8_t *bytes, const struct frame *f)
{
	struct frame_walk w = {0};
	struct ss_event e;

	if (!frame_index_ok(bytes, f)) {
		log_corrupt(s->log, r->seq, f->first_seq + f->count - 1);
		r->seq = f->first_seq + f->count;
		return;
	}
	while (r->left && !r->stopped && frame_next(bytes, f, &w, &e)) {
		if (e.seq < r->seq)
			continue;
		if (frame_record_ok(bytes, f, w.i - 1, &e)) {
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
	const uint8_t *bytes;
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
		give_frame(s, r, bytes, &f);
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

uint64_t spool_read(struct sendlog *log, uint64_t seq, uint32_t max,
		    bool (*fn)(void *, uint64_t, const struct ss_event *), void *arg)
{
	struct log_spool *s = log->spool;
	struct reading r = {.seq = seq, .left = max, .fn = fn, .arg = arg};
	uint64_t cached = s->cache_n ? cached_at(s, 0)->head.first_seq : log->committed + 1;

	if (r.seq < cached)
		read_disk(s, &r, cached);
	if (r.seq >= cached)
		read_cached(s, &r);
	return r.seq;
}
