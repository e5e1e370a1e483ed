/* SPDX-License-Identifier: MIT */
/*
 * state - what a spool is when it is opened: the folder, its lock, the cursors in the file `state`,
 * and from the segments the end of the log and the snapshot, whatever a crash or a bad disk left.  `state`
 * is a two-slot record, so that cursors can be saved, and room be made, on a full disk.
 */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "spool.h"

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

int spool_folder_open(const char *path, bool create, char why[256])
{
	struct stat st;
	int rc = create ? make_parents(path) : 0;
	int fd = rc < 0 ? rc : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		rc = rc < 0 ? rc : -errno;
		snprintf(why, 256, "cannot %s the spool folder \"%.150s\": %s",
			 create ? "make or open" : "open", path, strerror(-rc));
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

int spool_folder_lock(struct log_spool *s, const char *path, char why[256])
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

/* ---- the file `state`: a two-slot record of next, seg_size and identity, 8 bytes each, 16 each of files,
 * epoch and boot, then u64 n, n times {epoch, u64 last}, u64 n, n times {u64 acked, seen_ns, away_ns, u8
 * length, name}; little-endian ---- */

const char spool_state_magic[8] = "SSSTATE3";
enum { STATE_HEADER = 72, STATE_PAST = 24, STATE_CURSOR = 26 };
_Static_assert(STATE_HEADER + 8 + SENDLOG_PAST * STATE_PAST + 8 +
			       SENDLOG_CONSUMERS_MAX * (STATE_CURSOR + SENDLOG_NAME) <=
		       SPOOL_STATE_MAX,
	       "all of the state fits into a slot");

static void put64(uint8_t *to, uint64_t v)
{
	v = htole64(v);
	memcpy(to, &v, sizeof v);
}

static uint64_t get64(const uint8_t *from)
{
	uint64_t v;
	memcpy(&v, from, sizeof v);
	return le64toh(v);
}

static size_t encode(const struct spool_state *st, uint8_t out[SPOOL_STATE_MAX])
{
	uint8_t *at = out + STATE_HEADER;

	put64(out, st->next);
	put64(out + 8, st->seg_size);
	put64(out + 16, st->identity);
	memcpy(out + 24, st->files, sizeof st->files);
	memcpy(out + 40, st->epoch, sizeof st->epoch);
	memcpy(out + 56, st->boot, sizeof st->boot);
	put64(at, st->n_past);
	at += 8;
	for (uint32_t i = 0; i < st->n_past; i++, at += STATE_PAST) {
		memcpy(at, st->past[i].epoch, sizeof st->past[i].epoch);
		put64(at + 16, st->past[i].last);
	}
	put64(at, st->n_cursors);
	at += 8;
	for (uint32_t i = 0; i < st->n_cursors; i++) {
		const struct log_cursor *c = &st->cursors[i];
		size_t len = strlen(c->name);
		put64(at, c->acked);
		put64(at + 8, c->seen_ns);
		put64(at + 16, c->away_ns);
		at[24] = (uint8_t)len;
		at[25] = c->verified;
		memcpy(at + STATE_CURSOR, c->name, len);
		at += STATE_CURSOR + len;
	}
	return (size_t)(at - out);
}

int spool_state_write(struct ss_two_slot *slots, const struct spool_state *st, bool both)
{
	uint8_t *bytes = calloc(1, SPOOL_STATE_MAX);

	if (!bytes)
		return -ENOMEM;
	size_t len = encode(st, bytes);
	int rc = both ? ss_two_slot_write_both(slots, bytes, len) : ss_two_slot_write(slots, bytes, len);
	free(bytes);
	return rc;
}

static bool read_cursors(const uint8_t *at, const uint8_t *end, uint64_t n, struct spool_state *st)
{
	for (st->n_cursors = 0; st->n_cursors < n;) {
		if (end - at < STATE_CURSOR || at[24] > SENDLOG_NAME || end - at < STATE_CURSOR + at[24])
			return false;
		struct log_cursor *c = &st->cursors[st->n_cursors++];
		*c = (struct log_cursor){.acked = get64(at),
					 .seen_ns = get64(at + 8),
					 .away_ns = get64(at + 16),
					 .verified = at[25]};
		memcpy(c->name, at + STATE_CURSOR, at[24]);
		at += STATE_CURSOR + at[24];
	}
	return true;
}

bool spool_state_decode(const uint8_t *bytes, size_t len, struct spool_state *st)
{
	const uint8_t *at = bytes + STATE_HEADER, *end = bytes + len;

	if (len < STATE_HEADER + 8 || get64(at) > SENDLOG_PAST ||
	    (size_t)(end - at) < 8 + get64(at) * STATE_PAST + 8)
		return false;
	st->next = get64(bytes);
	st->seg_size = get64(bytes + 8);
	st->identity = get64(bytes + 16);
	memcpy(st->files, bytes + 24, sizeof st->files);
	memcpy(st->epoch, bytes + 40, sizeof st->epoch);
	memcpy(st->boot, bytes + 56, sizeof st->boot);
	uint64_t n_past = get64(at);
	at += 8;
	for (st->n_past = 0; st->n_past < n_past; at += STATE_PAST) {
		struct log_past *p = &st->past[st->n_past++];
		memcpy(p->epoch, at, sizeof p->epoch);
		p->last = get64(at + 16);
	}
	return get64(at) <= SENDLOG_CONSUMERS_MAX && read_cursors(at + 8, end, get64(at), st);
}

int spool_state_open(struct ss_two_slot *slots, int fd, struct spool_state *st, bool *has, bool *doubt)
{
	struct ss_two_slot_found found;
	int rc = ss_two_slot_open(slots, fd, spool_state_magic, SPOOL_STATE_SLOT, &found);

	if (rc < 0)
		return rc;
	*doubt = found.doubt;
	*has = found.n > 0 && spool_state_decode(found.slots[0].bytes, found.slots[0].len, st);
	ss_two_slot_found_done(&found);
	return 0;
}

/* Which start of the machine this is; all zero if nobody knows. */
static void boot_id(uint8_t out[16])
{
	char text[37] = "", *at = text;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
	unsigned byte;

	if (fd >= 0)
		close(fd);
	memset(out, 0, 16);
	for (int i = 0; n > 0 && i < 16 && sscanf(at, "%2x", &byte) == 1; i++) {
		out[i] = (uint8_t)byte;
		at += 2;
		at += *at == '-';
	}
}

/* A copy is another file, even where it gets the number of the one it replaces. */
static uint64_t identity_of(int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st) < 0)
		return 0;
	return st.stx_ino ^
	       ((uint64_t)st.stx_btime.tv_sec * 1000000000u + st.stx_btime.tv_nsec) * 0x9e3779b97f4a7c15u;
}

void spool_state_fill(const struct log_spool *s, struct spool_state *st)
{
	const struct sendlog *log = s->log;

	memcpy(st->files, s->files, sizeof st->files);
	memcpy(st->epoch, log->epoch, sizeof st->epoch);
	memcpy(st->boot, s->boot, sizeof st->boot);
	st->identity = s->identity;
	st->seg_size = s->seg_size;
	st->n_past = log->n_past;
	memcpy(st->past, log->past, sizeof st->past);
	st->n_cursors = log->n_cursors;
	if (st->cursors != log->cursors)
		memcpy(st->cursors, log->cursors, log->n_cursors * sizeof *log->cursors);
}

/* ---- segments ---- */

struct found {
	uint64_t *ordinals;
	size_t n, allocated;
};

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int list_segments(const struct log_spool *s, struct found *out)
{
	int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	uint64_t ordinal;
	int rc = 0;

	if (!d) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	for (struct dirent *e; (e = readdir(d));) {
		if (!seg_name_parse(e->d_name, &ordinal))
			continue;
		if (out->n == out->allocated) {
			size_t more = out->allocated ? out->allocated * 2 : 64;
			uint64_t *list = realloc(out->ordinals, more * sizeof *list);
			if (!list) {
				rc = -ENOMEM;
				break;
			}
			out->ordinals = list;
			out->allocated = more;
		}
		out->ordinals[out->n++] = ordinal;
	}
	closedir(d);
	if (out->n)
		qsort(out->ordinals, out->n, sizeof *out->ordinals, compare);
	return rc;
}

static int open_segment(const struct log_spool *s, uint64_t ordinal, int flags)
{
	char name[SEG_NAME];

	seg_name(ordinal, name);
	int fd = openat(s->dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

static bool header_of(const struct log_spool *s, uint64_t ordinal, struct seg_header *h)
{
	uint8_t in[SEG_HEADER];
	int fd = open_segment(s, ordinal, O_RDONLY);

	if (fd < 0)
		return false;
	bool good =
		pread(fd, in, sizeof in, 0) == sizeof in && seg_header_read(in, h) && h->ordinal == ordinal;
	close(fd);
	return good;
}

/* The segment as its header has it, or its first good frame.  0, -ENOENT: there is nothing in it. */
static int load_segment(struct log_spool *s, uint64_t ordinal, struct segment *g)
{
	struct seg_reader r;
	struct seg_header h;
	struct frame f;
	struct stat st;
	uint8_t *bytes;
	int fd = open_segment(s, ordinal, O_RDONLY), rc = 0;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return -ENOENT;
	}
	*g = (struct segment){.ordinal = ordinal, .size = (uint64_t)st.st_size, .used = (uint64_t)st.st_size};
	seg_reader_init(&r, fd, s->files, ordinal, g->used);
	if (header_of(s, ordinal, &h)) {
		g->first_seq = h.first_seq;
		g->first_ns = h.time_ns;
	} else {
		rc = seg_reader_next(&r, &f, &bytes);
		g->first_seq = rc == 1 ? f.first_seq : 0;
		g->first_ns = rc == 1 ? f.time_ns : 0;
		rc = rc == 1 ? 0 : rc == 0 ? -ENOENT : rc;
	}
	seg_reader_done(&r);
	return rc;
}

static int take_snapshot(struct log_spool *s, const uint8_t *bytes, const struct frame *f)
{
	size_t len;
	const uint8_t *snapshot = frame_snapshot(bytes, f, &len);

	return snapshot ? log_snapshot_set(&s->snapshot, snapshot, len) : 0;
}

/* Was the frame written to its end?  A record that a bad disk damaged does not say no, as one that was not
 * written. */
static bool was_finished(const uint8_t *bytes, const struct frame *f, uint64_t *last_ns)
{
	struct frame_walk w = {0};
	struct ss_event e;

	while (frame_next(bytes, f, &w, &e)) {
		if (!frame_record_ok(bytes, f, w.i - 1, &e) && !frame_record_near(bytes, f, w.i - 1, &e))
			return false;
		*last_ns = e.time_ns;
	}
	return true;
}

/*
 * Walk over a segment: snapshot, marks and, if it is the newest, its end.  A last frame that is not whole
 * and has no seal behind it was being written when the end came: nobody was told of it, it is not there.
 */
static int scan_segment(struct log_spool *s, struct segment *g, bool newest, uint64_t *next)
{
	struct seg_reader r;
	struct frame f;
	uint8_t *bytes, *doubtful = NULL;
	struct frame doubt = {0};
	int fd = open_segment(s, g->ordinal, O_RDONLY), rc;

	if (fd < 0)
		return fd;
	seg_reader_init(&r, fd, s->files, g->ordinal, g->size);
	uint64_t used = SEG_HEADER, last_ns = 0;
	while ((rc = seg_reader_next(&r, &f, &bytes)) == 1) {
		if (doubtful) {
			/* something follows: it was finished, and damaged later */
			rc = frame_mend_index(doubtful, &doubt) ? take_snapshot(s, doubtful, &doubt) : 0;
			used += doubt.len;
			*next = doubt.first_seq + doubt.count;
			free(doubtful);
			doubtful = NULL;
			if (rc < 0)
				break;
		}
		if (f.first_seq > *next)
			*next = f.first_seq;
		if (f.seal) {
			used = r.at - f.len;
			rc = 0;
			break;
		}
		bool good = frame_mend_index(bytes, &f);
		if (good && f.mended)
			log_mended(s->log, g->ordinal);
		if (!good || !was_finished(bytes, &f, &last_ns)) {
			used = r.at - f.len;
			doubt = f;
			doubtful = malloc(f.len);
			if (doubtful)
				memcpy(doubtful, bytes, f.len);
			rc = doubtful ? 0 : -ENOMEM;
		} else {
			spool_mark(g, &f, r.at - f.len, last_ns, s->log->options.max_age_ns);
			rc = take_snapshot(s, bytes, &f);
			used = r.at;
			*next = f.first_seq + f.count;
		}
		if (rc < 0)
			break;
	}
	free(doubtful);
	seg_reader_done(&r);
	if (newest)
		g->used = used;
	return rc < 0 ? rc : 0;
}

/* Does the segment's first frame, which has the snapshot so far, read well, and was it finished? */
static bool begins_well(const struct log_spool *s, const struct segment *g)
{
	struct seg_reader r;
	struct frame f;
	uint8_t *bytes;
	uint64_t ignored;
	int fd = open_segment(s, g->ordinal, O_RDONLY);

	if (fd < 0)
		return false;
	seg_reader_init(&r, fd, s->files, g->ordinal, g->size);
	bool good = seg_reader_next(&r, &f, &bytes) == 1 && r.at - f.len == SEG_HEADER && !f.seal &&
		    frame_mend_index(bytes, &f) &&
		    (was_finished(bytes, &f, &ignored) || seg_reader_next(&r, &f, &bytes) == 1);
	seg_reader_done(&r);
	return good;
}

/* The epoch in the files: the state has it, else the newest segment that can be read, else it is a new log.
 */
static int find_files(struct log_spool *s, const struct found *found, bool has_state, char why[256])
{
	struct seg_header h;
	bool has = has_state;

	for (size_t i = found->n; i-- > 0;) {
		if (!header_of(s, found->ordinals[i], &h))
			continue;
		if (!has)
			memcpy(s->files, h.epoch, sizeof h.epoch);
		has = true;
		if (memcmp(h.epoch, s->files, sizeof h.epoch) != 0 && i + 1 < found->n) {
			snprintf(why, 256,
				 "%016" PRIx64
				 ".seg in the spool belongs to another log: move it out of the folder",
				 found->ordinals[i]);
			return -EINVAL;
		}
	}
	return 0;
}

static void remove_file(struct log_spool *s, uint64_t ordinal)
{
	char name[SEG_NAME];

	seg_name(ordinal, name);
	unlinkat(s->dir_fd, name, 0);
}

static int load_segments(struct log_spool *s, const struct found *found)
{
	for (size_t i = 0; i < found->n; i++) {
		struct segment *g = calloc(1, sizeof *g), *before = spool_newest(s);
		int rc = g ? load_segment(s, found->ordinals[i], g) : -ENOMEM;
		if (rc == 0 && before && g->first_seq < before->first_seq)
			rc = -ENOENT;
		if (rc == 0)
			rc = spool_push_segment(s, g);
		if (rc < 0)
			spool_segment_free(g);
		if (rc == -ENOENT)
			remove_file(
				s, found->ordinals[i]); /* nothing in it can be read: what is missing shows */
		else if (rc < 0)
			return rc;
		else
			s->total += g->size;
	}
	for (uint32_t i = 0; i + 1 < s->n_segs; i++) {
		s->segs[i]->last_seq = s->segs[i + 1]->first_seq - 1;
		s->segs[i]->last_ns = s->segs[i + 1]->first_ns;
	}
	return 0;
}

/* The snapshot and the end of the log; the newest segment is open for more after it. */
static int scan_newest(struct log_spool *s, uint64_t *next)
{
	uint32_t from = s->n_segs;
	struct segment *g = spool_newest(s);
	int rc = 0;

	if (!g)
		return 0;
	while (from > 0 && !begins_well(s, s->segs[--from]))
		;
	for (; rc == 0 && from < s->n_segs; from++) {
		*next = s->segs[from]->first_seq;
		rc = scan_segment(s, s->segs[from], from + 1 == s->n_segs, next);
	}
	if (rc < 0)
		return rc;
	g->last_seq = *next - 1;
	s->fd = open_segment(s, g->ordinal, O_RDWR);
	if (s->fd < 0)
		return s->fd;
	rc = spool_seal(s, s->fd, g, *next);
	return rc == 0 && fdatasync(s->fd) < 0 ? -errno : rc;
}

static void take_state(struct log_spool *s, const struct spool_state *st, bool has_state, uint64_t *next)
{
	struct sendlog *log = s->log;

	if (has_state) {
		log->n_cursors = st->n_cursors;
		if (st->next > *next)
			*next = st->next;
	}
	/* sequences that somebody has seen are not given to other records, whatever is left of the files */
	for (uint32_t i = 0; i < log->n_cursors; i++)
		if (log->cursors[i].acked >= *next)
			*next = log->cursors[i].acked + 1;
	log->next = *next;
	log->committed = s->committed = *next - 1;
	uint64_t acked = log_all_acked(log);
	s->first = s->n_segs ? s->segs[0]->first_seq : *next;
	if (s->first <= acked)
		s->first = acked + 1;
	log->first = s->first;
}

static int find_spare(struct log_spool *s)
{
	struct stat st;

	if (fstatat(s->dir_fd, "spare", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISREG(st.st_mode) && (uint64_t)st.st_size == s->seg_size &&
	    s->total + s->seg_size <= s->limit) {
		s->has_spare = true;
		s->total += s->seg_size;
		return 0;
	}
	return unlinkat(s->dir_fd, "spare", 0) < 0 ? -errno : 0;
}

/*
 * By what name consumers know the log: one that may have lost its end, or is one of two that go on from the
 * same point, must not give numbers under the old name to new records.  Up to next it is what it was.
 */
static int find_epoch(struct log_spool *s, const struct spool_state *st, bool has_state, bool doubt,
		      uint64_t next)
{
	struct sendlog *log = s->log;

	if (!has_state) {
		memcpy(log->epoch, s->files, sizeof log->epoch);
		if (!s->n_segs)
			return 0;
		log->why_renewed = "its state cannot be read";
	} else {
		memcpy(log->epoch, st->epoch, sizeof log->epoch);
		memcpy(log->past, st->past, sizeof log->past);
		log->n_past = st->n_past;
		if (st->identity != s->identity)
			log->why_renewed = "it is a copy";
		else if (memcmp(st->boot, s->boot, sizeof st->boot) != 0)
			log->why_renewed = "the machine was restarted";
		else if (doubt)
			log->why_renewed = "the newer half of its state is damaged";
	}
	return log->why_renewed ? log_new_epoch(log, next - 1) : 0;
}

int spool_recover(struct log_spool *s, char why[256])
{
	struct spool_state st = {.cursors = s->log->cursors};
	struct found found = {0};
	uint64_t next = 1;
	bool has_state = false, doubt = false;
	int rc = spool_state_open(&s->state, s->state_fd, &st, &has_state, &doubt);
	if (rc == 0)
		rc = list_segments(s, &found);

	boot_id(s->boot);
	s->identity = identity_of(s->state_fd);
	memcpy(s->files, has_state ? st.files : s->log->epoch, sizeof s->files);
	if (rc == 0)
		rc = find_files(s, &found, has_state, why);
	if (rc == 0)
		rc = load_segments(s, &found);
	if (rc == 0)
		rc = scan_newest(s, &next);
	if (rc == 0)
		rc = find_spare(s);
	free(found.ordinals);
	if (rc < 0)
		return rc;
	take_state(s, &st, has_state, &next);
	rc = log_snapshot_set(&s->log->snapshot, s->snapshot.bytes, s->snapshot.len);
	if (rc < 0)
		return rc;
	rc = find_epoch(s, &st, has_state, doubt, next);
	if (rc == 0 && (!has_state || s->log->why_renewed)) {
		st.next = next;
		spool_state_fill(s, &st);
		rc = has_state ? 0 : -posix_fallocate(s->state_fd, 0, 2 * SPOOL_STATE_SLOT);
		rc = rc ? rc : spool_state_write(&s->state, &st, false);
	}
	/* whoever made these files may have been killed before their names were on disk */
	return rc == 0 && fsync(s->dir_fd) < 0 ? -errno : rc;
}
