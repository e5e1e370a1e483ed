/* SPDX-License-Identifier: MIT */
/*
 * segment - the files of a spool: segments of frames, one frame per commit, each record with a CRC-32C of its
 * own.  Encoding, checking and walking; no thread, no policy.  Numbers are little-endian.
 *
 * Why a format of our own: beside it in one run (tests/bench/spool_bench.c), SQLite in WAL mode took 3 to 6
 * times the CPU for the same group commits.  LMDB did not lose on speed, but did not open any more after 7 of
 * 300 single bit flips, and could not delete what was acknowledged on a full disk.
 */
#pragma once
#include <stdbool.h>
#include <semstreams/plugin.h>
#include <semstreams/base/attribute_block.h>

/*
 * Segment: header, frames, then a seal behind the newest frame, then whatever was there before.
 * Frame: header, the attributes of the events, if any, the snapshot that the owner gave with them, if any, an
 * index entry per record, the records; padded to 8 bytes.
 * A frame's checksum covers the log's epoch and its place, so that neither an older life of a recycled file
 * nor a record that looks like a frame can pass for one.  The seal tells a frame that was damaged later from
 * one that was never finished.  A wrong bit, and in most cases a wrong byte, in a header or an index is
 * repaired by its checksum in what was read (the file stays as it is): so only the record in which it lies
 * can be lost to it.
 */
enum {
	SEG_HEADER = 64,
	FRAME_HEADER = 48,
	FRAME_INDEX = 16,
	SEG_MAX = 1 << 30, /* bytes of a segment: places have 32 bits */
};

struct seg_header {
	uint8_t epoch[16];
	uint64_t ordinal, first_seq, time_ns;
};

struct frame {
	uint32_t len, count, meta_len; /* len: all of it; meta: attributes and snapshot */
	uint64_t first_seq, time_ns;   /* of the first record */
	bool seal;                     /* count 0: the next sequence is first_seq */
	bool attributes;               /* the meta begins with a block of them */
	bool repaired;                 /* a damaged byte in its header or index was repaired */
};

static inline size_t seg_align(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

/* What a snapshot takes in a frame; 0 bytes: there is none. */
static inline size_t frame_snapshot_size(size_t len)
{
	return len ? seg_align(8 + len) : 0;
}

/* The same of a block of attributes. */
static inline size_t frame_attributes_size(size_t len)
{
	return len ? seg_align(8 + len) : 0;
}

static inline size_t frame_size(uint32_t count, size_t meta, size_t payload)
{
	return seg_align(FRAME_HEADER + meta + (size_t)count * FRAME_INDEX + payload);
}

void seg_header_write(const struct seg_header *, uint8_t out[SEG_HEADER]);
bool seg_header_read(uint8_t in[SEG_HEADER], struct seg_header *); /* mends in */
/* Of a frame whose meta_len ends with frame_snapshot_size(len); does nothing if len is 0. */
void frame_set_snapshot(uint8_t *frame, const struct frame *, const void *snapshot, size_t len);
/* Of a frame whose meta_len begins with frame_attributes_size(); does nothing if there are none. */
void frame_set_attributes(uint8_t *frame, const struct ss_attribute_writer *);

/* Fill in the index entry of record i, whose bytes are at data. */
void frame_set_record(uint8_t *frame, const struct frame *, uint32_t i, const struct ss_event *);
/* Header and checksums, when all else is in place.  place: offset in segment ordinal. */
void frame_finish(uint8_t *frame, const struct frame *, const uint8_t epoch[16], uint64_t ordinal,
		  uint64_t offset);
/* A header at in, good for this place?  The rest of the frame is not looked at. */
bool frame_read(const uint8_t in[FRAME_HEADER], const uint8_t epoch[16], uint64_t ordinal, uint64_t offset,
		struct frame *);
/* Are snapshot and index sound, if need be after mending them, and is everything inside the frame? */
bool frame_repair_index(uint8_t *frame, struct frame *);
/* The snapshot in it; NULL if there is none. */
const uint8_t *frame_snapshot(const uint8_t *frame, const struct frame *, size_t *len);

/* Walk over records: begin with a zeroed one. */
struct frame_walk {
	uint32_t i;
	size_t at; /* of record i in the records */
	/* of the attributes: the runs before this one, up to which record, with which set, which lies there
	 * in the frame */
	uint32_t run, set;
	uint64_t run_end;
	size_t set_at, set_len;
};
/* Record w->i, unchecked; moves on.  false: no more. */
bool frame_next(const uint8_t *frame, const struct frame *, struct frame_walk *w, struct ss_event *);
/* The attributes of the record that frame_next gave last with this walk, in an index that is sound; *len 0:
 * none. */
const uint8_t *frame_attributes(const uint8_t *frame, const struct frame *, struct frame_walk *, size_t *len);
/* Will it say the same again as for the record before? */
static inline bool frame_same_attributes(const struct frame_walk *w)
{
	return w->run_end >= w->i;
}
bool frame_record_ok(const uint8_t *frame, const struct frame *, uint32_t i, const struct ss_event *);
/* Of a record that is not: is just a bit or byte of it wrong, as on a bad disk, rather than all that was not
 * written? */
bool frame_record_near(const uint8_t *frame, const struct frame *, uint32_t i, const struct ss_event *);

/* ---- walking a file ---- */

struct seg_reader {
	int fd; /* -1 = none; the reader's */
	uint8_t epoch[16];
	uint64_t ordinal, at, end; /* end: look no further */
	uint8_t *buf;
	size_t allocated, len;
	uint64_t buf_at;  /* where buf lies in the file */
	uint64_t skipped; /* bytes that were no frame */
};
void seg_reader_init(struct seg_reader *, int fd, const uint8_t epoch[16], uint64_t ordinal, uint64_t end);
void seg_reader_done(struct seg_reader *);
/*
 * The next frame at or behind r->at whose header is good: 1, with *frame (valid until the next call) and what
 * it says; r->at is then behind it, its offset is r->at - out->len.  0: none (r->at where the last one
 * ended).  -errno.
 */
int seg_reader_next(struct seg_reader *, struct frame *out, uint8_t **frame);

/* Name of a segment. */
enum { SEG_NAME = 24 };
void seg_name(uint64_t ordinal, char out[SEG_NAME]);
/* Is it one?  Its number. */
bool seg_name_parse(const char *name, uint64_t *ordinal);
