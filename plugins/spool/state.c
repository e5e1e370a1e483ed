/* SPDX-License-Identifier: MIT */
/*
 * state - what a spool is when it is opened: the cursors in the file `state`,
 * and from the segments the end of the log and the snapshot, whatever a crash or a bad disk left.  `state`
 * is a two-slot record, so that cursors can be saved, and room be made, on a full disk.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/base/strbuf.h>
#include "spool.h"

/* ---- the file `state`: a two-slot record of next, seg_size and identity, 8 bytes each, 16 each of files,
 * epoch and boot, then u64 n, n times {epoch, u64 last}, u64 n, n times {u64 acked, seen_ns, away_ns, u8
 * length, name}; little-endian ---- */

const char spool_state_magic[8] = "SSSTATE3";
enum { STATE_HEADER = 72, STATE_PAST = 24, STATE_CURSOR = 26 };
_Static_assert(STATE_HEADER + 8 + SENDLOG_PAST * STATE_PAST + 8 +
			       SENDLOG_CONSUMERS_MAX * (STATE_CURSOR + SENDLOG_NAME) <=
		       SPOOL_STATE_MAX,
	       "all of the state fits into a slot");

static void encode(const struct spool_state *st, struct ss_strbuf *out)
{
	ss_strbuf_u64(out, st->next);
	ss_strbuf_u64(out, st->seg_size);
	ss_strbuf_u64(out, st->identity);
	ss_strbuf_add(out, st->files, sizeof st->files);
	ss_strbuf_add(out, st->epoch, sizeof st->epoch);
	ss_strbuf_add(out, st->boot, sizeof st->boot);
	ss_strbuf_u64(out, st->n_past);
	for (uint32_t i = 0; i < st->n_past; i++) {
		ss_strbuf_add(out, st->past[i].epoch, sizeof st->past[i].epoch);
		ss_strbuf_u64(out, st->past[i].last);
	}
	ss_strbuf_u64(out, st->n_cursors);
	for (uint32_t i = 0; i < st->n_cursors; i++) {
		const struct log_cursor *c = &st->cursors[i];
		ss_strbuf_u64(out, c->acked);
		ss_strbuf_u64(out, c->seen_ns);
		ss_strbuf_u64(out, c->away_ns);
		ss_strbuf_char(out, (char)strlen(c->name));
		ss_strbuf_char(out, c->verified);
		ss_strbuf_text(out, c->name);
	}
}

int spool_state_write(struct ss_two_slot *slots, const struct spool_state *st, bool both)
{
	struct ss_strbuf out = {0};

	encode(st, &out);
	int rc = out.failed ? -ENOMEM
		 : both     ? ss_two_slot_write_both(slots, out.bytes, out.len)
			    : ss_two_slot_write(slots, out.bytes, out.len);
	ss_strbuf_done(&out);
	return rc;
}

static void take(struct ss_unpack *u, void *to, size_t len)
{
	const uint8_t *from = ss_unpack_bytes(u, len);

	if (from)
		memcpy(to, from, len);
}

static void read_cursor(struct ss_unpack *u, struct log_cursor *c)
{
	uint8_t flags[2] = {0}; /* length of the name, verified */

	*c = (struct log_cursor){.acked = ss_unpack_u64(u)};
	c->seen_ns = ss_unpack_u64(u);
	c->away_ns = ss_unpack_u64(u);
	take(u, flags, sizeof flags);
	c->verified = flags[1];
	if (flags[0] > SENDLOG_NAME)
		u->failed = true;
	else
		take(u, c->name, flags[0]);
}

bool spool_state_decode(const uint8_t *bytes, size_t len, struct spool_state *st)
{
	struct ss_unpack u = {.at = bytes, .end = bytes + len};

	st->next = ss_unpack_u64(&u);
	st->seg_size = ss_unpack_u64(&u);
	st->identity = ss_unpack_u64(&u);
	take(&u, st->files, sizeof st->files);
	take(&u, st->epoch, sizeof st->epoch);
	take(&u, st->boot, sizeof st->boot);
	uint64_t n = ss_unpack_u64(&u);
	if (n > SENDLOG_PAST)
		return false;
	for (st->n_past = 0; st->n_past < n; st->n_past++) {
		take(&u, st->past[st->n_past].epoch, sizeof st->past->epoch);
		st->past[st->n_past].last = ss_unpack_u64(&u);
	}
	n = ss_unpack_u64(&u);
	if (n > SENDLOG_CONSUMERS_MAX)
		return false;
	for (st->n_cursors = 0; st->n_cursors < n && !u.failed; st->n_cursors++)
		read_cursor(&u, &st->cursors[st->n_cursors]);
	return !u.failed;
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

static int is_segment(const struct dirent *e)
{
	uint64_t ordinal;

	return seg_name_parse(e->d_name, &ordinal);
}

int spool_names(int dir_fd, struct dirent ***names)
{
	int n = scandirat(dir_fd, ".", names, is_segment, alphasort);

	return n < 0 ? -errno : n;
}

void spool_names_free(struct dirent **names, int n)
{
	while (n > 0)
		free(names[--n]);
	free(names);
}

static uint64_t ordinal_of(const struct dirent *e)
{
	uint64_t ordinal = 0;

	(void)seg_name_parse(e->d_name, &ordinal);
	return ordinal;
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
 * and has no seal behind it was being written when the end came: it was never reported as committed, so it is
 * not there.
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
			rc = frame_repair_index(doubtful, &doubt) ? take_snapshot(s, doubtful, &doubt) : 0;
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
		bool good = frame_repair_index(bytes, &f);
		if (good && f.repaired)
			log_warn_repaired(s->log, g->ordinal);
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
		    frame_repair_index(bytes, &f) &&
		    (was_finished(bytes, &f, &ignored) || seg_reader_next(&r, &f, &bytes) == 1);
	seg_reader_done(&r);
	return good;
}

/* The epoch in the files: the state has it, else the newest segment that can be read, else it is a new log.
 */
static int find_files(struct log_spool *s, struct dirent **names, int n, bool has, char why[256])
{
	struct seg_header h;

	for (int i = n; i-- > 0;) {
		if (!header_of(s, ordinal_of(names[i]), &h))
			continue;
		if (!has)
			memcpy(s->files, h.epoch, sizeof h.epoch);
		has = true;
		if (memcmp(h.epoch, s->files, sizeof h.epoch) != 0 && i + 1 < n) {
			snprintf(why, 256,
				 "%.24s in the spool belongs to another log: move it out of the folder",
				 names[i]->d_name);
			return -EINVAL;
		}
	}
	return 0;
}

static int load_segments(struct log_spool *s, struct dirent **names, int n)
{
	for (int i = 0; i < n; i++) {
		struct segment *g = calloc(1, sizeof *g), *before = spool_newest(s);
		int rc = g ? load_segment(s, ordinal_of(names[i]), g) : -ENOMEM;
		if (rc == 0 && before && g->first_seq < before->first_seq)
			rc = -ENOENT;
		if (rc == 0)
			rc = spool_push_segment(s, g);
		if (rc < 0)
			spool_segment_free(g);
		if (rc == -ENOENT)
			/* nothing in it can be read: what is missing shows */
			unlinkat(s->dir_fd, names[i]->d_name, 0);
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
	uint64_t acked = sendlog_all_acked(log);
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
	struct dirent **names = NULL;
	uint64_t next = 1;
	bool has_state = false, doubt = false;
	int n = 0;
	int rc = spool_state_open(&s->state, s->state_fd, &st, &has_state, &doubt);
	if (rc == 0)
		rc = n = spool_names(s->dir_fd, &names);

	boot_id(s->boot);
	s->identity = identity_of(s->state_fd);
	memcpy(s->files, has_state ? st.files : s->log->epoch, sizeof s->files);
	if (rc >= 0)
		rc = find_files(s, names, n, has_state, why);
	if (rc == 0)
		rc = load_segments(s, names, n);
	if (rc == 0)
		rc = scan_newest(s, &next);
	if (rc == 0)
		rc = find_spare(s);
	spool_names_free(names, n);
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
