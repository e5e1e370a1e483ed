/* SPDX-License-Identifier: MIT */
#include "core/flow/stream_log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/base/crc32c.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/strbuf.h>

/*
 * A file: magic, then records, a kind and its numbers.  Streams are numbered from 1 in the order of their
 * definitions; times are minutes since 1970.
 *   define: port, length of the source's id, the id, stream, epoch, sequence, when it was used
 *   move:   number, sequence; 0: it has no position any more
 *   renew:  number, epoch, sequence
 *   time:   when the streams of the following moves and renewals were used
 */
static const char magic[8] = "SSPLOG\n\1";
enum { DEFINE = 1, MOVE, RENEW, TIME };
enum { DEFINE_MAX = 1 + 4 + 4 + STREAM_SOURCE_MAX + STREAM_ID + 16 + 8 + 4, TIME_SIZE = 1 + 4 };

/* A snapshot that refers to a file: "SSPL", number, bytes that count, their checksum. */
static const char snapshot_magic[4] = {'S', 'S', 'P', 'L'};

struct snapshot {
	uint64_t number, length;
	uint32_t crc;
};

struct file {
	struct file *next; /* newer */
	uint64_t number;
	struct ss_strbuf tail; /* appended; under the lock */
	/* of the thread that syncs */
	struct ss_strbuf writing; /* taken from the tail, not known to be written */
	uint64_t written;         /* bytes before it */
	int fd;                   /* -1: not open yet */
	bool is_new, unsynced;
};

struct stream_log {
	char *path;
	pthread_mutex_t lock; /* the list of files, their tails and what follows */
	struct file *oldest, *newest;
	uint64_t number;  /* of the newest file there was */
	uint64_t settled; /* the newest with STREAM_LOG_SETTLED commits */
	uint64_t counted; /* the newest with any */
	uint32_t commits; /* of that */
	/* of the newest file, in the thread of the streams */
	uint64_t length;
	uint32_t crc, time, defined;
};

/* ---- files ---- */

static void file_free(struct file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	ss_strbuf_done(&f->tail);
	ss_strbuf_done(&f->writing);
	free(f);
}

/* Those before this one; NULL: all. */
static void drop_files(struct stream_log *l, const struct file *until)
{
	while (l->oldest && l->oldest != until) {
		struct file *f = l->oldest;
		l->oldest = f->next;
		file_free(f);
	}
	if (!l->oldest)
		l->newest = NULL;
}

static struct file *add_file(struct stream_log *l, uint64_t number)
{
	struct file *f = calloc(1, sizeof *f);

	if (!f)
		return NULL;
	*f = (struct file){.number = number, .fd = -1};
	if (l->newest)
		l->newest->next = f;
	else
		l->oldest = f;
	return l->newest = f;
}

static int file_name(const struct stream_log *l, uint64_t number, char name[4096])
{
	return snprintf(name, 4096, "%s.%llu", l->path, (unsigned long long)number) < 4096 ? 0
											   : -ENAMETOOLONG;
}

struct stream_log *stream_log_new(const char *path)
{
	struct stream_log *l = calloc(1, sizeof *l);

	if (!l)
		return NULL;
	l->path = strdup(path);
	if (!l->path) {
		free(l);
		return NULL;
	}
	pthread_mutex_init(&l->lock, NULL);
	return l;
}

void stream_log_free(struct stream_log *l)
{
	if (!l)
		return;
	drop_files(l, NULL);
	pthread_mutex_destroy(&l->lock);
	free(l->path);
	free(l);
}

void stream_log_restart(struct stream_log *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	drop_files(l, NULL);
	pthread_mutex_unlock(&l->lock);
}

/* ---- appending; there is room in the tail ---- */

static void put_kind(struct ss_strbuf *b, char kind)
{
	ss_strbuf_char(b, kind);
}

static void define(struct stream_log *l, struct ss_strbuf *b, struct stream *st)
{
	const struct ss_position *at = stream_position(st);
	const size_t len = strlen(st->source);

	put_kind(b, DEFINE);
	ss_strbuf_u32(b, st->port);
	ss_strbuf_u32(b, (uint32_t)len);
	ss_strbuf_add(b, st->source, len);
	ss_strbuf_add(b, st->id, sizeof st->id);
	ss_strbuf_add(b, at->epoch, sizeof at->epoch);
	ss_strbuf_u64(b, at->seq);
	ss_strbuf_u32(b, st->used);
	st->number = ++l->defined;
}

static void move(struct stream_log *l, struct ss_strbuf *b, struct stream *st)
{
	const struct ss_position *at = stream_position(st);

	if (st->used != l->time) {
		l->time = st->used;
		put_kind(b, TIME);
		ss_strbuf_u32(b, l->time);
	}
	put_kind(b, st->renewed ? RENEW : MOVE);
	ss_strbuf_u32(b, st->number);
	if (st->renewed)
		ss_strbuf_add(b, at->epoch, sizeof at->epoch);
	ss_strbuf_u64(b, at->seq);
}

static void count(struct stream_log *l, const struct ss_strbuf *b, size_t from)
{
	l->crc = ss_crc32c(l->crc, b->bytes + from, b->len - from);
	l->length += b->len - from;
}

/* Bytes that n records take at most. */
static size_t room_for(uint32_t n)
{
	return sizeof magic + (size_t)n * (DEFINE_MAX + TIME_SIZE);
}

static int begin_file(struct stream_log *l, struct streams *s)
{
	struct ss_strbuf first = {0};
	struct file *f =
		ss_strbuf_room(&first, room_for(streams_count(s))) ? add_file(l, l->number + 1) : NULL;
	struct stream *st = NULL;

	if (!f) {
		ss_strbuf_done(&first);
		return -ENOMEM;
	}
	l->number = f->number;
	l->length = l->crc = l->time = l->defined = 0;
	f->is_new = true;
	ss_strbuf_add(&first, magic, sizeof magic);
	while ((st = streams_next(s, st))) {
		st->number = 0;
		if (stream_position(st)->seq)
			define(l, &first, st);
		stream_is_saved(st);
	}
	count(l, &first, 0);
	f->tail = first;
	return 0;
}

static int append_changes(struct stream_log *l, struct streams *s)
{
	struct ss_strbuf *b = &l->newest->tail;
	const size_t from = b->len;
	struct stream *st;
	uint32_t n = 0;

	for (st = streams_changed(s); st; st = LIST_NEXT(st, by_change))
		n++;
	if (n && !ss_strbuf_room(b, room_for(n))) {
		b->failed = false; /* what is there is whole */
		return -ENOMEM;
	}
	while ((st = streams_changed(s))) {
		if (st->number)
			move(l, b, st);
		else if (stream_position(st)->seq)
			define(l, b, st);
		stream_is_saved(st);
	}
	if (n)
		count(l, b, from);
	return 0;
}

/* Is more of the file out of date than not, and the one before it gone? */
static bool is_full_of_garbage(const struct stream_log *l, const struct streams *s)
{
	return l->length > 2 * room_for(streams_count(s)) + STREAM_LOG_SLACK &&
	       l->settled == l->newest->number;
}

int64_t stream_log_save(struct stream_log *l, struct streams *s, void *buf, size_t size)
{
	if (!l || (!l->newest && streams_count(s) <= STREAM_LOG_INLINE))
		return streams_save(s, buf, size);
	if (size < STREAM_LOG_SNAPSHOT)
		return STREAM_LOG_SNAPSHOT;
	pthread_mutex_lock(&l->lock);
	int rc = !l->newest || is_full_of_garbage(l, s) ? begin_file(l, s) : append_changes(l, s);
	pthread_mutex_unlock(&l->lock);
	if (rc < 0)
		return rc;
	struct ss_strbuf b = {0};
	ss_strbuf_add(&b, snapshot_magic, sizeof snapshot_magic);
	ss_strbuf_u64(&b, l->number);
	ss_strbuf_u64(&b, l->length);
	ss_strbuf_u32(&b, l->crc);
	if (!b.failed)
		memcpy(buf, b.bytes, STREAM_LOG_SNAPSHOT);
	rc = b.failed ? -ENOMEM : 0;
	ss_strbuf_done(&b);
	return rc < 0 ? rc : STREAM_LOG_SNAPSHOT;
}

/* ---- reading ---- */

static bool read_snapshot(const void *bytes, size_t size, struct snapshot *out)
{
	struct ss_unpack u = {.at = bytes, .end = (const uint8_t *)bytes + size};
	const uint8_t *kind = ss_unpack_bytes(&u, sizeof snapshot_magic);

	if (size != STREAM_LOG_SNAPSHOT || memcmp(kind, snapshot_magic, sizeof snapshot_magic) != 0)
		return false;
	*out = (struct snapshot){.number = ss_unpack_u64(&u)};
	out->length = ss_unpack_u64(&u);
	out->crc = ss_unpack_u32(&u);
	return out->number != 0;
}

struct reader {
	struct ss_unpack u;
	struct stream_saved *all;
	uint32_t n, room, time;
};

static int read_define(struct reader *r)
{
	if (r->n == r->room) {
		uint32_t room = r->room ? 2 * r->room : 256;
		struct stream_saved *all = realloc(r->all, room * sizeof *all);
		if (!all)
			return -ENOMEM;
		r->all = all;
		r->room = room;
	}
	struct stream_saved *to = &r->all[r->n];
	*to = (struct stream_saved){.port = ss_unpack_u32(&r->u), .number = r->n + 1};
	uint32_t len = ss_unpack_u32(&r->u);
	const uint8_t *source = len && len < STREAM_SOURCE_MAX ? ss_unpack_bytes(&r->u, len) : NULL;
	const uint8_t *id = ss_unpack_bytes(&r->u, STREAM_ID);
	const uint8_t *epoch = ss_unpack_bytes(&r->u, sizeof to->at.epoch);
	to->at.seq = ss_unpack_u64(&r->u);
	to->used = ss_unpack_u32(&r->u);
	if (!source || r->u.failed || memchr(source, '\0', len))
		return -EBADMSG;
	memcpy(to->source, source, len);
	memcpy(to->at.stream, id, STREAM_ID);
	memcpy(to->at.epoch, epoch, sizeof to->at.epoch);
	r->n++;
	return 0;
}

static int read_move(struct reader *r, bool renews)
{
	uint32_t number = ss_unpack_u32(&r->u);
	const uint8_t *epoch = renews ? ss_unpack_bytes(&r->u, sizeof r->all->at.epoch) : NULL;
	uint64_t seq = ss_unpack_u64(&r->u);

	if (r->u.failed || number == 0 || number > r->n)
		return -EBADMSG;
	struct stream_saved *to = &r->all[number - 1];
	if (renews)
		memcpy(to->at.epoch, epoch, sizeof to->at.epoch);
	to->at.seq = seq;
	to->used = r->time;
	return 0;
}

static int read_record(struct reader *r)
{
	const uint8_t *kind = ss_unpack_bytes(&r->u, 1);

	if (!kind)
		return -EBADMSG;
	if (*kind == DEFINE)
		return read_define(r);
	if (*kind == MOVE || *kind == RENEW)
		return read_move(r, *kind == RENEW);
	r->time = ss_unpack_u32(&r->u);
	return *kind == TIME && !r->u.failed ? 0 : -EBADMSG;
}

static int by_use(const void *a, const void *b)
{
	const struct stream_saved *x = a, *y = b;

	return x->used != y->used ? (x->used < y->used ? -1 : 1) : x->number < y->number ? -1 : 1;
}

static int read_file(struct reader *r)
{
	const uint8_t *start = ss_unpack_bytes(&r->u, sizeof magic);
	int rc = start && memcmp(start, magic, sizeof magic) == 0 ? 0 : -EBADMSG;

	while (rc == 0 && r->u.at < r->u.end)
		rc = read_record(r);
	return rc;
}

int stream_log_read(const void *bytes, size_t len, struct stream_saved **out, uint32_t *n)
{
	struct reader r = {.u = {.at = bytes, .end = (const uint8_t *)bytes + len}};
	int rc = read_file(&r);

	if (rc < 0) {
		free(r.all);
		return rc;
	}
	if (r.n)
		qsort(r.all, r.n, sizeof *r.all, by_use);
	*out = r.all;
	*n = r.n;
	return 0;
}

/* The part of the file that the snapshot refers to, malloced; *fd stays open. */
static int read_bytes(const struct stream_log *l, const struct snapshot *at, int *fd, char **bytes)
{
	char name[4096];
	int rc = file_name(l, at->number, name);

	if (rc < 0)
		return rc;
	*fd = open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (*fd < 0)
		return errno == ENOENT ? -EBADMSG : -errno;
	off_t end = lseek(*fd, 0, SEEK_END);
	if (end < 0 || (uint64_t)end < at->length)
		return end < 0 ? -errno : -EBADMSG;
	*bytes = malloc(at->length + 1);
	if (!*bytes)
		return -ENOMEM;
	ssize_t got = ss_pread_all(*fd, *bytes, at->length, 0);
	if (got < 0)
		return (int)got;
	return (uint64_t)got == at->length && ss_crc32c(0, *bytes, at->length) == at->crc ? 0 : -EBADMSG;
}

/* Go on behind what was read. */
static int take_up(struct stream_log *l, const struct snapshot *at, int fd, uint32_t defined)
{
	drop_files(l, NULL);
	struct file *f = add_file(l, at->number);
	if (!f)
		return -ENOMEM;
	f->fd = fd;
	f->written = at->length;
	l->number = at->number;
	l->length = at->length;
	l->crc = at->crc;
	l->defined = defined;
	l->time = 0;
	return 0;
}

static int put_all(struct streams *s, const struct stream_saved *all, uint32_t n, bool covered_only)
{
	struct stream *st = NULL;

	streams_uncover(s);
	while ((st = streams_next(s, st))) {
		st->number = 0;
		stream_is_saved(st);
	}
	for (uint32_t i = 0; i < n; i++) {
		if (all[i].at.seq && streams_put(s, &all[i], covered_only) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int load_file(struct stream_log *l, struct streams *s, const struct snapshot *at, bool covered_only)
{
	struct stream_saved *all = NULL;
	char *bytes = NULL;
	uint32_t n = 0;
	int fd = -1;

	if (l->number < at->number)
		l->number = at->number; /* whatever becomes of it, its name is taken */
	int rc = read_bytes(l, at, &fd, &bytes);
	if (rc == 0)
		rc = stream_log_read(bytes, at->length, &all, &n);
	if (rc == 0) {
		pthread_mutex_lock(&l->lock);
		rc = take_up(l, at, fd, n);
		pthread_mutex_unlock(&l->lock);
		if (rc == 0)
			fd = -1;
	}
	if (rc == 0)
		rc = put_all(s, all, n, covered_only);
	if (rc < 0)
		stream_log_restart(l);
	if (fd >= 0)
		close(fd);
	free(bytes);
	free(all);
	return rc;
}

int stream_log_load(struct stream_log *l, struct streams *s, const void *snapshot, size_t size,
		    bool covered_only)
{
	struct snapshot at;

	if (read_snapshot(snapshot, size, &at))
		return l ? load_file(l, s, &at, covered_only) : -EBADMSG;
	stream_log_restart(l);
	return streams_load(s, snapshot, size, covered_only);
}

/* ---- writing, in any thread ---- */

static int take_tail(struct stream_log *l, struct file *f)
{
	pthread_mutex_lock(&l->lock);
	if (!f->writing.len) {
		struct ss_strbuf empty = f->writing;
		f->writing = f->tail;
		f->tail = empty;
	} else if (f->tail.len) {
		ss_strbuf_add(&f->writing, f->tail.bytes, f->tail.len);
		if (!f->writing.failed)
			f->tail.len = 0;
	}
	bool failed = f->writing.failed;
	f->writing.failed = false;
	pthread_mutex_unlock(&l->lock);
	return failed ? -ENOMEM : 0;
}

static int sync_folder(const char *name)
{
	const char *last;
	int dir = ss_open_folder_of(name, &last);
	int rc = dir < 0 ? dir : ss_sync_folder(dir);

	if (dir >= 0)
		close(dir);
	return rc;
}

static int write_file(const struct stream_log *l, struct file *f, bool durable)
{
	char name[4096];
	int rc = file_name(l, f->number, name);

	if (rc < 0)
		return rc;
	if (f->fd < 0)
		f->fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (f->fd < 0)
		return -errno;
	/* after a sync that failed all of it again: the kernel has forgotten which pages it could not write
	 */
	if (f->writing.len)
		rc = ss_pwrite_all(f->fd, f->writing.bytes, f->writing.len, (off_t)f->written);
	f->unsynced |= f->writing.len != 0;
	if (rc == 0 && durable && f->unsynced)
		rc = fdatasync(f->fd) < 0 ? -errno : 0;
	if (rc == 0 && durable && f->is_new)
		rc = sync_folder(name);
	if (rc < 0)
		return rc;
	f->unsynced &= !durable;
	f->is_new &= !durable;
	f->written += f->writing.len;
	f->writing.len = 0;
	return 0;
}

int stream_log_sync(struct stream_log *l, const void *snapshot, size_t size, bool durable)
{
	struct snapshot at;
	int rc = 0;

	if (!l || !read_snapshot(snapshot, size, &at))
		return 0;
	pthread_mutex_lock(&l->lock);
	struct file *f = l->oldest;
	pthread_mutex_unlock(&l->lock);
	while (rc == 0 && f && f->number <= at.number) {
		rc = take_tail(l, f);
		if (rc == 0)
			rc = write_file(l, f, durable);
		pthread_mutex_lock(&l->lock);
		struct file *next = f->next;
		if (rc == 0 && next && !f->tail.len) /* nothing is appended to it any more */
			drop_files(l, next);
		pthread_mutex_unlock(&l->lock);
		f = next;
	}
	return rc;
}

void stream_log_committed(struct stream_log *l, const void *snapshot, size_t size)
{
	struct snapshot at;
	char name[4096];

	if (!l || !read_snapshot(snapshot, size, &at))
		return;
	pthread_mutex_lock(&l->lock);
	if (at.number != l->counted)
		l->commits = 0;
	l->counted = at.number;
	bool settles = ++l->commits == STREAM_LOG_SETTLED;
	if (settles)
		l->settled = at.number;
	pthread_mutex_unlock(&l->lock);
	for (uint64_t n = at.number; settles && --n > 0 && file_name(l, n, name) == 0;)
		if (unlink(name) < 0)
			break;
}
