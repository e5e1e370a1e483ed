/* SPDX-License-Identifier: MIT */
/* segment - see segment.h. */
#include "segment.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/base/crc32c.h>
#include <semstreams/base/file_atomic.h>

static const char seg_magic[8] = "SSPOOL1\n";
enum {
	FRAME_MAGIC = 0x314d5246 /* FRM1 */,
	ATTRIBUTES_MAGIC = 0x324d5246 /* FRM2 */,
	SEAL_MAGIC = 0x31444e45 /* END1 */,
	READ_AHEAD = 64 << 10
};

static void put32(uint8_t *to, uint32_t v)
{
	v = htole32(v);
	memcpy(to, &v, sizeof v);
}

static void put64(uint8_t *to, uint64_t v)
{
	v = htole64(v);
	memcpy(to, &v, sizeof v);
}

static uint32_t get32(const uint8_t *from)
{
	uint32_t v;
	memcpy(&v, from, sizeof v);
	return le32toh(v);
}

static uint64_t get64(const uint8_t *from)
{
	uint64_t v;
	memcpy(&v, from, sizeof v);
	return le64toh(v);
}

/* ---- segments ---- */

void seg_header_write(const struct seg_header *h, uint8_t out[SEG_HEADER])
{
	memset(out, 0, SEG_HEADER);
	memcpy(out, seg_magic, sizeof seg_magic);
	memcpy(out + 8, h->epoch, sizeof h->epoch);
	put64(out + 24, h->ordinal);
	put64(out + 32, h->first_seq);
	put64(out + 40, h->time_ns);
	put32(out + 60, ss_crc32c(0, out, 60));
}

bool seg_header_read(uint8_t in[SEG_HEADER], struct seg_header *h)
{
	if (!ss_crc32c_mend(0, in, 60, get32(in + 60)) || memcmp(in, seg_magic, sizeof seg_magic) != 0)
		return false;
	memcpy(h->epoch, in + 8, sizeof h->epoch);
	h->ordinal = get64(in + 24);
	h->first_seq = get64(in + 32);
	h->time_ns = get64(in + 40);
	return true;
}

void seg_name(uint64_t ordinal, char out[SEG_NAME])
{
	snprintf(out, SEG_NAME, "%016" PRIx64 ".seg", ordinal);
}

bool seg_name_parse(const char *name, uint64_t *ordinal)
{
	char again[SEG_NAME];
	uint64_t n;

	if (sscanf(name, "%16" SCNx64, &n) != 1)
		return false;
	seg_name(n, again);
	if (strcmp(name, again) != 0)
		return false;
	*ordinal = n;
	return true;
}

/* ---- frames: u32 magic, len; u64 first_seq; u32 count, meta_len; u64 time_ns, place; u32 crc of these, crc
 * of the rest up to the records ---- */

/* Where the snapshot begins: behind the attributes. */
static size_t snapshot_at(const uint8_t *frame, const struct frame *f)
{
	if (!f->attributes || f->meta_len < 8)
		return 0;
	const uint64_t len = get64(frame + FRAME_HEADER);
	return len <= f->meta_len ? frame_attributes_size((size_t)len) : SIZE_MAX;
}

void frame_set_attributes(uint8_t *frame, const struct ss_attribute_writer *w)
{
	const size_t len = ss_attribute_writer_size(w);
	uint8_t *to = frame + FRAME_HEADER;

	if (!len)
		return;
	memset(to, 0, frame_attributes_size(len));
	put64(to, len);
	ss_attribute_writer_put(w, to + 8);
}

void frame_set_snapshot(uint8_t *frame, const struct frame *f, const void *snapshot, size_t len)
{
	uint8_t *to = frame + FRAME_HEADER + f->meta_len - frame_snapshot_size(len);

	if (!len)
		return;
	memset(to, 0, frame_snapshot_size(len));
	put64(to, len);
	memcpy(to + 8, snapshot, len);
}

static uint8_t *index_of(const uint8_t *frame, const struct frame *f, uint32_t i)
{
	return (uint8_t *)frame + FRAME_HEADER + f->meta_len + (size_t)i * FRAME_INDEX;
}

void frame_set_record(uint8_t *frame, const struct frame *f, uint32_t i, const struct ss_event *e)
{
	uint8_t *entry = index_of(frame, f, i);

	put32(entry, e->len);
	put32(entry + 4, ss_crc32c(0, e->data, e->len));
	put64(entry + 8, e->time_ns);
}

static uint32_t header_crc(const uint8_t *in, const uint8_t epoch[16])
{
	return ss_crc32c(ss_crc32c(0, epoch, 16), in, 40);
}

static size_t index_end(const struct frame *f)
{
	return FRAME_HEADER + (size_t)f->meta_len + (size_t)f->count * FRAME_INDEX;
}

void frame_finish(uint8_t *frame, const struct frame *f, const uint8_t epoch[16], uint64_t ordinal,
		  uint64_t offset)
{
	put32(frame, f->seal ? SEAL_MAGIC : f->attributes ? ATTRIBUTES_MAGIC : FRAME_MAGIC);
	put32(frame + 4, f->len);
	put64(frame + 8, f->first_seq);
	put32(frame + 16, f->count);
	put32(frame + 20, f->meta_len);
	put64(frame + 24, f->time_ns);
	put64(frame + 32, ordinal << 32 | offset);
	put32(frame + 40, header_crc(frame, epoch));
	put32(frame + 44, ss_crc32c(0, frame + FRAME_HEADER, index_end(f) - FRAME_HEADER));
}

static bool is_magic(uint32_t magic)
{
	return magic == FRAME_MAGIC || magic == ATTRIBUTES_MAGIC || magic == SEAL_MAGIC;
}

/* Of the bytes of a header that are the same in all frames at this place, do so many differ that mending is
 * in vain? This also keeps apart what an older life of the file left, of which all checksums are right. */
static bool is_elsewhere(const uint8_t in[FRAME_HEADER], uint64_t place)
{
	uint32_t magic = get32(in);
	uint64_t other = get64(in + 32) ^ place;
	int wrong = !is_magic(magic);

	while (other && !(other & 0xff))
		other >>= 8;
	return wrong + (other != 0) > 1 || other > 0xff;
}

bool frame_read(const uint8_t in[FRAME_HEADER], const uint8_t epoch[16], uint64_t ordinal, uint64_t offset,
		struct frame *f)
{
	uint64_t place = ordinal << 32 | offset;
	uint8_t head[FRAME_HEADER];
	bool repaired = false;

	if (is_elsewhere(in, place))
		return false;
	memcpy(head, in, sizeof head);
	if (get32(head + 40) != header_crc(head, epoch)) {
		repaired = ss_crc32c_mend(ss_crc32c(0, epoch, 16), head, 40, get32(head + 40));
		if (!repaired)
			return false;
	}
	uint32_t magic = get32(head);
	if (!is_magic(magic) || get64(head + 32) != place)
		return false;
	*f = (struct frame){.len = get32(head + 4),
			    .count = get32(head + 16),
			    .meta_len = get32(head + 20),
			    .first_seq = get64(head + 8),
			    .time_ns = get64(head + 24),
			    .seal = magic == SEAL_MAGIC,
			    .attributes = magic == ATTRIBUTES_MAGIC,
			    .repaired = repaired};
	return f->len % 8 == 0 && f->len <= SEG_MAX && index_end(f) <= f->len;
}

static bool are_attributes_sound(const uint8_t *frame, const struct frame *f)
{
	struct ss_attribute_block ignored;

	if (!f->attributes)
		return true;
	return f->meta_len >= 8 && snapshot_at(frame, f) <= f->meta_len &&
	       ss_attribute_block_read(frame + FRAME_HEADER + 8, (size_t)get64(frame + FRAME_HEADER),
				       f->count, &ignored) == 0;
}

bool frame_repair_index(uint8_t *frame, struct frame *f)
{
	size_t end = index_end(f), len;
	uint64_t sum = end;

	if (get32(frame + 44) != ss_crc32c(0, frame + FRAME_HEADER, end - FRAME_HEADER)) {
		f->repaired = true;
		if (!ss_crc32c_mend(0, frame + FRAME_HEADER, end - FRAME_HEADER, get32(frame + 44)))
			return false;
	}
	for (uint32_t i = 0; i < f->count; i++)
		sum += get32(index_of(frame, f, i));
	if (((sum + 7) & ~UINT64_C(7)) != f->len || !are_attributes_sound(frame, f))
		return false;
	return f->meta_len == snapshot_at(frame, f) || frame_snapshot(frame, f, &len);
}

const uint8_t *frame_snapshot(const uint8_t *frame, const struct frame *f, size_t *len)
{
	const size_t from = snapshot_at(frame, f), meta_len = from <= f->meta_len ? f->meta_len - from : 0;
	const uint8_t *at = frame + FRAME_HEADER + (meta_len ? from : 0);
	uint64_t n = meta_len > 8 ? get64(at) : 0;

	if (!n || n > meta_len - 8 || frame_snapshot_size((size_t)n) != meta_len)
		return NULL;
	*len = (size_t)n;
	return at + 8;
}

bool frame_next(const uint8_t *frame, const struct frame *f, struct frame_walk *w, struct ss_event *e)
{
	if (w->i >= f->count)
		return false;
	const uint8_t *entry = index_of(frame, f, w->i);
	*e = (struct ss_event){.data = frame + index_end(f) + w->at,
			       .len = get32(entry),
			       .time_ns = get64(entry + 8),
			       .seq = f->first_seq + w->i};
	w->at += e->len;
	w->i++;
	return true;
}

const uint8_t *frame_attributes(const uint8_t *frame, const struct frame *f, struct frame_walk *w,
				size_t *len)
{
	struct ss_attribute_block b;

	*len = 0;
	if (!f->attributes)
		return NULL;
	if (!frame_same_attributes(w)) {
		ss_attribute_block_open(frame + FRAME_HEADER + 8, &b);
		while (w->run_end < w->i && w->run < b.n_runs)
			w->run_end += ss_attribute_block_run(&b, w->run++, &w->set);
		if (w->set)
			w->set_at = (size_t)(ss_attribute_block_set(&b, w->set, &w->set_len) - frame);
	}
	*len = w->set ? w->set_len : 0;
	return w->set ? frame + w->set_at : NULL;
}

bool frame_record_ok(const uint8_t *frame, const struct frame *f, uint32_t i, const struct ss_event *e)
{
	return get32(index_of(frame, f, i) + 4) == ss_crc32c(0, e->data, e->len);
}

bool frame_record_near(const uint8_t *frame, const struct frame *f, uint32_t i, const struct ss_event *e)
{
	uint32_t sum = get32(index_of(frame, f, i) + 4);
	uint8_t *copy = malloc((size_t)e->len + 1);

	if (!copy)
		return false;
	memcpy(copy, e->data, e->len);
	bool near = ss_crc32c_mend(0, copy, e->len, sum);
	free(copy);
	return near;
}

/* ---- reading ---- */

void seg_reader_init(struct seg_reader *r, int fd, const uint8_t epoch[16], uint64_t ordinal, uint64_t end)
{
	*r = (struct seg_reader){.fd = fd, .ordinal = ordinal, .at = SEG_HEADER, .end = end};
	memcpy(r->epoch, epoch, sizeof r->epoch);
}

void seg_reader_done(struct seg_reader *r)
{
	if (r->fd >= 0)
		close(r->fd);
	free(r->buf);
	*r = (struct seg_reader){.fd = -1};
}

/* Make need bytes at offset at available: 1, 0 if the file (or what may be read of it) ends before, -errno.
 */
static int load(struct seg_reader *r, uint64_t at, size_t need)
{
	if (at >= r->buf_at && at + need <= r->buf_at + r->len)
		return 1;
	if (at + need > r->end)
		return 0;
	size_t want = need > READ_AHEAD ? need : READ_AHEAD;
	if (want > r->end - at)
		want = (size_t)(r->end - at);
	if (want > r->allocated) {
		uint8_t *buf = realloc(r->buf, want);
		if (!buf)
			return -ENOMEM;
		r->buf = buf;
		r->allocated = want;
	}
	r->len = 0;
	r->buf_at = at;
	ssize_t n = ss_pread_all(r->fd, r->buf, want, (off_t)at);
	if (n < 0)
		return (int)n;
	r->len = (size_t)n;
	return r->len >= need;
}

/* Where the next good header is, at or behind at. */
static int find_header(struct seg_reader *r, uint64_t *at, struct frame *out)
{
	int rc;

	for (; (rc = load(r, *at, FRAME_HEADER)) == 1; *at += 8)
		if (frame_read(r->buf + (*at - r->buf_at), r->epoch, r->ordinal, *at, out) &&
		    *at + out->len <= r->end)
			return 1;
	return rc;
}

int seg_reader_next(struct seg_reader *r, struct frame *out, uint8_t **frame)
{
	uint64_t at = r->at;
	int rc = find_header(r, &at, out);

	if (rc == 1)
		rc = load(r, at, out->len);
	if (rc != 1)
		return rc;
	r->skipped += at - r->at;
	r->at = at + out->len;
	*frame = r->buf + (at - r->buf_at);
	return 1;
}
