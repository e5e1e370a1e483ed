/* SPDX-License-Identifier: MIT */
/*
 * fuzz_segment - what a spool reads from its disk: segments and the state, as they are, or with checksums
 * made right so that what lies behind them is reached.  The first byte says which.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <semstreams/base/crc32c.h>
#include "plugins/spool/spool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RAW = 0, MENDED = 1, STATE = 2, MENDED_STATE = 3, ORDINAL = 7 };
static const uint8_t epoch[16] = "an epoch's bytes";

#define CHECK(cond)                                                                                          \
	do {                                                                                                 \
		if (!(cond))                                                                                 \
			abort();                                                                             \
	} while (0)

static uint32_t get32(const uint8_t *from)
{
	uint32_t v;
	memcpy(&v, from, sizeof v);
	return le32toh(v);
}

static void put32(uint8_t *to, uint32_t v)
{
	v = htole32(v);
	memcpy(to, &v, sizeof v);
}

/* Whatever a frame at this place says of itself, its checksums agree: the parts are as frame_finish has them.
 */
static size_t mend_frame(uint8_t *frame, size_t left, size_t offset)
{
	uint64_t place = htole64((uint64_t)ORDINAL << 32 | offset);
	uint64_t index = FRAME_HEADER + (uint64_t)get32(frame + 20),
		 end = index + (uint64_t)get32(frame + 16) * FRAME_INDEX, at = end;

	memcpy(frame + 32, &place, sizeof place);
	memcpy(frame, frame[0] & 1 ? "END1" : frame[3] == '2' ? "FRM2" : "FRM1", 4);
	if (end <= left) {
		for (; index < end && at <= left; index += FRAME_INDEX) {
			uint32_t len = get32(frame + index);
			if (len <= left - at)
				put32(frame + index + 4, ss_crc32c(0, frame + at, len));
			at += len;
		}
		put32(frame + 44, ss_crc32c(0, frame + FRAME_HEADER, (size_t)end - FRAME_HEADER));
	}
	put32(frame + 40, ss_crc32c(ss_crc32c(0, epoch, sizeof epoch), frame, 40));
	uint32_t len = get32(frame + 4) & ~UINT32_C(7);
	return len < FRAME_HEADER || len > left ? 8 : len;
}

static void mend_segment(uint8_t *file, size_t size)
{
	if (size < SEG_HEADER)
		return;
	put32(file + 60, ss_crc32c(0, file, 60));
	for (size_t at = SEG_HEADER; size - at >= FRAME_HEADER;)
		at += mend_frame(file + at, size - at, at);
}

static void look_at(uint8_t *frame, struct frame *f)
{
	struct frame_walk w = {0};
	struct ss_event e;
	size_t len = 0;
	unsigned sum = 0, good = 0;

	CHECK(f->len >= FRAME_HEADER && f->len % 8 == 0);
	if (!frame_repair_index(frame, f))
		return;
	const uint8_t *snapshot = frame_snapshot(frame, f, &len);
	CHECK((f->attributes || !snapshot == !f->meta_len) &&
	      (!snapshot || snapshot + len <= frame + FRAME_HEADER + f->meta_len));
	for (size_t i = 0; i < len; i++)
		sum += snapshot[i];
	while (frame_next(frame, f, &w, &e)) {
		CHECK(e.data >= frame + FRAME_HEADER && e.data + e.len <= frame + f->len);
		CHECK(e.seq == f->first_seq + w.i - 1);
		const uint8_t *set = frame_attributes(frame, f, &w, &len);
		struct ss_attributes attributes;
		CHECK(!set || (set + len <= frame + FRAME_HEADER + f->meta_len &&
			       ss_attribute_set_read(set, len, &attributes) == 0));
		good += frame_record_ok(frame, f, w.i - 1, &e);
	}
	CHECK(w.i == f->count && good <= f->count);
	CHECK(sum != UINT32_MAX);
}

static void read_segment(int fd, size_t size)
{
	struct seg_reader r;
	struct seg_header h;
	struct frame f;
	uint8_t *frame;
	uint8_t header[SEG_HEADER];
	uint64_t before = SEG_HEADER, frames = 0;
	int rc;

	if (pread(fd, header, sizeof header, 0) == sizeof header)
		seg_header_read(header, &h);
	seg_reader_init(&r, fd, epoch, ORDINAL, size);
	while ((rc = seg_reader_next(&r, &f, &frame)) == 1) {
		CHECK(r.at <= size && r.at - f.len >= before);
		before = r.at;
		frames += f.len;
		look_at(frame, &f);
	}
	CHECK(rc == 0 && frames + r.skipped + SEG_HEADER <= (size > SEG_HEADER ? size : SEG_HEADER));
	seg_reader_done(&r);
}

static struct log_cursor cursors[SENDLOG_CONSUMERS_MAX];

static void check_state(const struct spool_state *st)
{
	CHECK(st->n_cursors <= SENDLOG_CONSUMERS_MAX && st->n_past <= SENDLOG_PAST);
	for (uint32_t i = 0; i < st->n_cursors; i++)
		CHECK(memchr(st->cursors[i].name, '\0', sizeof st->cursors[i].name));
}

static void read_state(int fd)
{
	struct spool_state st = {.cursors = cursors};
	struct ss_two_slot slots;
	bool has, doubt;

	if (spool_state_open(&slots, fd, &st, &has, &doubt) < 0)
		return;
	if (has)
		check_state(&st);
	ss_two_slot_close(&slots);
}

static void read_content(const uint8_t *bytes, size_t len)
{
	struct spool_state st = {.cursors = cursors};

	if (spool_state_decode(bytes, len, &st))
		check_state(&st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t len = size ? size - 1 : 0;
	int how = size ? data[0] % 4 : RAW;
	/* what the fuzzer gives of a state is its beginning: the rest is zero */
	size_t file_len = how >= STATE && len ? (len / SPOOL_STATE_SLOT + 1) * SPOOL_STATE_SLOT : len;
	uint8_t *file = calloc(1, file_len + 1);
	int fd = memfd_create("segment", MFD_CLOEXEC);

	CHECK(file && fd >= 0);
	memcpy(file, data + (size ? 1 : 0), len);
	if (how == MENDED)
		mend_segment(file, file_len);
	else if (how == MENDED_STATE)
		read_content(file, len);
	CHECK(write(fd, file, file_len) == (ssize_t)file_len);
	free(file);
	if (how >= STATE) {
		read_state(fd);
		close(fd);
	} else {
		read_segment(fd, file_len); /* closes it */
	}
	return 0;
}
