/* SPDX-License-Identifier: MIT */
#include "frame.h"

#include <stdlib.h>
#include <string.h>

enum { MAGIC_1 = 0xfe, MAGIC_2 = 0xfd, HEAD_1 = 6, HEAD_2 = 10, CRC_LEN = 2 };

/* ---- the dialect ---- */

static int compare_id(const void *key, const void *element)
{
	const uint32_t *id = key;
	const struct mav_message *m = element;

	return *id < m->id ? -1 : *id > m->id;
}

const struct mav_message *mav_message_by_id(uint32_t id)
{
	return bsearch(&id, mav_dialect.messages, mav_dialect.n, sizeof *mav_dialect.messages, compare_id);
}

const struct mav_message *mav_message_by_name(const char *name, size_t len)
{
	for (size_t i = 0; i < mav_dialect.n; i++) {
		const struct mav_message *m = &mav_dialect.messages[i];
		if (strlen(m->name) == len && memcmp(m->name, name, len) == 0)
			return m;
	}
	return NULL;
}

/* ---- the checksum: CRC-16/MCRF4XX ---- */

static uint16_t crc_add(uint16_t crc, uint8_t byte)
{
	uint8_t t = (uint8_t)(byte ^ (crc & 0xff));

	t = (uint8_t)(t ^ (t << 4));
	return (uint16_t)((crc >> 8) ^ (t << 8) ^ (t << 3) ^ (t >> 4));
}

/* Of a frame from behind its first byte to the end of its payload. */
static uint16_t crc_of(const uint8_t *bytes, size_t len, uint8_t extra)
{
	uint16_t crc = 0xffff;

	for (size_t i = 1; i < len; i++)
		crc = crc_add(crc, bytes[i]);
	return crc_add(crc, extra);
}

/* ---- reading ---- */

static bool is_magic(uint8_t byte)
{
	return byte == MAGIC_1 || byte == MAGIC_2;
}

/* Up to where another frame may begin. */
static size_t skip(const uint8_t *data, size_t len, size_t from)
{
	while (from < len && !is_magic(data[from]))
		from++;
	return from;
}

static uint32_t read_head(const uint8_t *d, struct mav_frame *f)
{
	if (d[0] == MAGIC_1) {
		f->version = 1;
		f->seq = d[2];
		f->sysid = d[3];
		f->compid = d[4];
		f->payload = d + HEAD_1;
		return d[5];
	}
	f->version = 2;
	f->compat_flags = d[3];
	f->seq = d[4];
	f->sysid = d[5];
	f->compid = d[6];
	f->payload = d + HEAD_2;
	return (uint32_t)d[7] | (uint32_t)d[8] << 8 | (uint32_t)d[9] << 16;
}

enum mav_fault mav_frame_read(const uint8_t *data, size_t len, struct mav_frame *out, size_t *used)
{
	struct mav_frame f = {.bytes = data};
	size_t head = data[0] == MAGIC_1 ? HEAD_1 : HEAD_2;

	if (!is_magic(data[0])) {
		*used = skip(data, len, 1);
		return MAV_NO_FRAME;
	}
	*used = len;
	if (len < head)
		return MAV_TRUNCATED;
	uint8_t incompat = data[0] == MAGIC_2 ? data[2] : 0;
	size_t body = head + data[1];
	f.payload_len = data[1];
	f.len = body + CRC_LEN + (incompat & MAV_SIGNED ? MAV_SIGNATURE_LEN : 0);
	if (len < f.len)
		return MAV_TRUNCATED;
	*used = skip(data, len, f.len);
	uint32_t id = read_head(data, &f);
	if (id == MAV_SECRET_ID)
		return MAV_NOT_ALLOWED;
	f.message = mav_message_by_id(id);
	if (incompat & ~MAV_SIGNED)
		return MAV_INCOMPATIBLE;
	if (!f.message)
		return MAV_UNKNOWN_MESSAGE;
	if (crc_of(data, body, f.message->crc_extra) != (data[body] | data[body + 1] << 8))
		return MAV_BAD_CRC;
	/* what follows is none of this frame's faults */
	*used = f.len;
	if (f.version == 1 && f.payload_len < f.message->minimum)
		return MAV_BAD_LENGTH;
	if (incompat & MAV_SIGNED)
		f.signature = data + body + CRC_LEN;
	*out = f;
	return MAV_FINE;
}

/* ---- writing ---- */

uint8_t mav_frame_payload_len(const struct mav_message *m, uint8_t version, const uint8_t *payload)
{
	uint8_t len = version == 1 ? m->minimum : m->maximum;

	while (version == 2 && len > 1 && payload[len - 1] == 0)
		len--;
	return len;
}

size_t mav_frame_write(const struct mav_frame *f, uint8_t *out)
{
	uint32_t id = f->message->id;
	size_t n;

	if (f->version == 1) {
		const uint8_t head[HEAD_1] = {MAGIC_1,  f->payload_len, f->seq,
					      f->sysid, f->compid,      (uint8_t)id};
		memcpy(out, head, n = sizeof head);
	} else {
		const uint8_t head[HEAD_2] = {MAGIC_2,
					      f->payload_len,
					      f->signature ? MAV_SIGNED : 0,
					      f->compat_flags,
					      f->seq,
					      f->sysid,
					      f->compid,
					      (uint8_t)id,
					      (uint8_t)(id >> 8),
					      (uint8_t)(id >> 16)};
		memcpy(out, head, n = sizeof head);
	}
	memcpy(out + n, f->payload, f->payload_len);
	n += f->payload_len;
	uint16_t crc = crc_of(out, n, f->message->crc_extra);
	out[n++] = (uint8_t)crc;
	out[n++] = (uint8_t)(crc >> 8);
	if (f->signature) {
		memcpy(out + n, f->signature, MAV_SIGNATURE_LEN);
		n += MAV_SIGNATURE_LEN;
	}
	return n;
}
