/* SPDX-License-Identifier: MIT */
/* ws_frames - see ws_frames.h. */
#include "ws_frames.h"

#include <string.h>
#include <semstreams/base/utf8.h>

enum { PROTOCOL_ERROR = 1002, NOT_UTF8 = 1007, TOO_BIG = 1009 };

static int breach(int code, const char *text, const char **why)
{
	*why = text;
	return -code;
}

/* What the first two bytes say, and what came before them. */
static int check_start(const struct ws_frames *f, const uint8_t *p, const char **why)
{
	int opcode = p[0] & 0x0f;

	if (p[0] & 0x70)
		return breach(PROTOCOL_ERROR, "a frame has reserved bits set", why);
	if (!(p[1] & 0x80) == f->masked)
		return breach(PROTOCOL_ERROR,
			      f->masked ? "a client's frame is not masked" : "a server's frame is masked",
			      why);
	if (opcode >= WS_CLOSE) {
		if (opcode > WS_PONG)
			return breach(PROTOCOL_ERROR, "a frame has an unknown opcode", why);
		if (!(p[0] & 0x80) || (p[1] & 0x7f) > WS_CONTROL_MAX)
			return breach(PROTOCOL_ERROR, "a control frame is fragmented or too long", why);
		return 0;
	}
	if (opcode > WS_BINARY)
		return breach(PROTOCOL_ERROR, "a frame has an unknown opcode", why);
	if (opcode == WS_CONTINUED && !f->opcode)
		return breach(PROTOCOL_ERROR, "a continuation without a beginning", why);
	if (opcode != WS_CONTINUED && f->opcode)
		return breach(PROTOCOL_ERROR, "a message begins before the last one ended", why);
	return 0;
}

/* The length, in n bytes behind the first two; it must need as many. */
static int read_length(const uint8_t *p, size_t n, uint64_t *length, const char **why)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v = v << 8 | p[2 + i];
	if (v < (n == 2 ? 126 : 65536) || v >> 63)
		return breach(PROTOCOL_ERROR, "the length of a frame is written wrongly", why);
	*length = v;
	return 0;
}

int ws_frames_next(struct ws_frames *f, const uint8_t *data, size_t len, struct ws_frame *out, size_t *size,
		   const char **why)
{
	*size = 2;
	if (len < 2)
		return 0;
	int rc = check_start(f, data, why);
	uint64_t length = data[1] & 0x7f;
	size_t more = length == 126 ? 2 : length == 127 ? 8 : 0;
	if (rc < 0)
		return rc;
	*size = 2 + more;
	if (len < *size)
		return 0;
	if (more)
		rc = read_length(data, more, &length, why);
	if (rc < 0)
		return rc;
	int opcode = data[0] & 0x0f;
	bool control = opcode >= WS_CLOSE;
	if (!control && length > f->max_message - f->so_far)
		return breach(TOO_BIG, "message too big", why);
	const uint8_t *mask = f->masked ? data + *size : NULL;
	size_t begin = *size + (mask ? 4 : 0);
	*size = begin + (size_t)length;
	if (len < *size)
		return 0;
	*out = (struct ws_frame){.opcode = opcode == WS_CONTINUED ? f->opcode : opcode,
				 .final = data[0] & 0x80,
				 .mask = mask,
				 .payload = data + begin,
				 .len = (size_t)length};
	if (!control) {
		f->opcode = out->final ? 0 : out->opcode;
		f->so_far = out->final ? 0 : f->so_far + out->len;
	}
	return 1;
}

size_t ws_frame_header(uint8_t *to, int opcode, size_t len)
{
	to[0] = (uint8_t)(0x80 | opcode);
	if (len < 126) {
		to[1] = (uint8_t)len;
		return 2;
	}
	size_t n = len < 65536 ? 2 : 8;
	to[1] = n == 2 ? 126 : 127;
	for (size_t i = 0; i < n; i++)
		to[2 + i] = (uint8_t)((uint64_t)len >> 8 * (n - 1 - i));
	return 2 + n;
}

bool ws_close_code_valid(int code)
{
	return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
	       (code >= 3000 && code <= 4999);
}

void ws_frames_mask(uint8_t *payload, size_t len, const uint8_t mask[4])
{
	uint64_t eight, wide;
	size_t i = 0;

	memcpy(&wide, mask, 4);
	memcpy((uint8_t *)&wide + 4, mask, 4);
	for (; len - i >= sizeof eight; i += sizeof eight) {
		memcpy(&eight, payload + i, sizeof eight);
		eight ^= wide;
		memcpy(payload + i, &eight, sizeof eight);
	}
	for (; i < len; i++)
		payload[i] ^= mask[i & 3];
}

int ws_close_code(const uint8_t *payload, size_t len)
{
	if (len == 0)
		return WS_NO_STATUS;
	int code = len >= 2 ? payload[0] << 8 | payload[1] : 0;
	if (!ws_close_code_valid(code))
		return -PROTOCOL_ERROR;
	return ss_utf8_valid(payload + 2, len - 2) ? code : -NOT_UTF8;
}

size_t ws_close_frame(uint8_t *to, const uint8_t *mask, int code, const char *reason)
{
	size_t len = strnlen(reason, WS_CONTROL_MAX - 2), n = code == WS_NO_STATUS ? 0 : 2 + len;
	uint8_t *p = to + 2;

	to[0] = 0x80 | WS_CLOSE;
	to[1] = (uint8_t)((mask ? 0x80 : 0) | n);
	if (mask) {
		memcpy(p, mask, 4);
		p += 4;
	}
	p[0] = (uint8_t)(code >> 8);
	p[1] = (uint8_t)code;
	memcpy(p + 2, reason, len);
	if (mask)
		ws_frames_mask(p, n, mask);
	return (size_t)(p - to) + n;
}
