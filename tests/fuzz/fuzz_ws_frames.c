/* SPDX-License-Identifier: MIT */
/*
 * fuzz_ws_frames - the bytes a server or a client sends after the handshake, found whole and in pieces: both
 * ways must find the same.  The first byte is the size of a message at most and how the rest is cut.
 */
#include <stdlib.h>
#include <string.h>
#include "plugins/websocket/transport/ws_frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

struct found {
	size_t at;    /* behind the newest frame */
	int end;      /* 0: more has to come; else the breach */
	uint64_t sum; /* of all that was found */
};

static void note(struct found *f, const struct ws_frame *frame)
{
	f->sum = f->sum * 31 + (uint64_t)frame->opcode * 2 + frame->final;
	f->sum = f->sum * 31 + frame->len;
	for (size_t i = 0; i < frame->len; i++)
		f->sum = f->sum * 31 + frame->payload[i];
}

/* Up to step more bytes are there each time. */
static struct found find(const uint8_t *data, size_t size, size_t max, size_t step, bool masked)
{
	struct ws_frames frames = {.max_message = max, .masked = masked};
	struct found f = {0};
	size_t have = 0, need = 0;
	while (!f.end) {
		struct ws_frame frame;
		const char *why = NULL;
		size_t n = 0;
		if (have - f.at < need || have == f.at) {
			if (have == size)
				break;
			have += step < size - have ? step : size - have;
			continue;
		}
		int rc = ws_frames_next(&frames, data + f.at, have - f.at, &frame, &n, &why);
		must(frames.so_far <= max);
		if (rc < 0) {
			must(why && (rc == -1002 || rc == -1009));
			f.end = rc;
			break;
		}
		must(n >= 2 && n <= WS_HEADER_MAX + (max > WS_CONTROL_MAX ? max : WS_CONTROL_MAX));
		need = rc == 0 ? n : 0;
		if (rc == 0) {
			must(n > have - f.at);
			continue;
		}
		must(n <= have - f.at && frame.payload >= data + f.at &&
		     frame.payload + frame.len == data + f.at + n);
		must((frame.mask != NULL) == masked);
		must(frame.opcode != WS_CONTINUED && (frame.opcode < WS_CLOSE || frame.final));
		note(&f, &frame);
		f.at += n;
	}
	return f;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	size_t max = (size_t)1 << (data[0] & 15);
	for (int masked = 0; masked < 2; masked++) {
		struct found whole = find(data + 1, size - 1, max, size, masked);
		struct found pieces = find(data + 1, size - 1, max, 1u + (data[0] >> 4), masked);
		must(whole.at == pieces.at && whole.end == pieces.end && whole.sum == pieces.sum);
	}
	ws_close_code(data + 1, size - 1);
	return 0;
}
