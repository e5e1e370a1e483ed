/* SPDX-License-Identifier: MIT */
/*
 * ws_frames - frames of WebSocket as either end takes them (RFC 6455 section 5), strictly: they are found in
 * what was received, in place; and what a close frame says (section 7.4).  Pure.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WS_CONTINUED = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };
#define WS_HEADER_MAX  14
#define WS_CONTROL_MAX 125

/* What is known between two frames; all zero but max_message and masked to begin with. */
struct ws_frames {
	size_t max_message;
	bool masked;   /* they are a client's, and have to be */
	int opcode;    /* of the message whose fragments come: WS_TEXT or WS_BINARY, 0 = none */
	size_t so_far; /* its bytes */
};

struct ws_frame {
	int opcode; /* of the message: never WS_CONTINUED */
	bool final;
	const uint8_t *mask; /* the payload's, of 4 bytes; NULL: none */
	const uint8_t *payload;
	size_t len;
};

/*
 * The frame at the beginning of data.  1: *out is it, *size its length with the header.  0: there is more of
 * it to come, *size is how much has to be there before another look is of use, never more than WS_HEADER_MAX
 * + max_message.  Else the close code, negative, for a breach, which is told before its payload is there; why
 * is for the peer.
 */
int ws_frames_next(struct ws_frames *, const uint8_t *data, size_t len, struct ws_frame *out, size_t *size,
		   const char **why);
/* Write the header of a final frame without a mask for a payload of len bytes: its length, at most 10. */
size_t ws_frame_header(uint8_t *to, int opcode, size_t len);
/* Take the mask off or put it on. */
void ws_frames_mask(uint8_t *payload, size_t len, const uint8_t mask[4]);

#define WS_NO_STATUS 1005 /* a close frame without a code */
/* May this code stand in a close frame? */
bool ws_close_code_valid(int code);
/* The code in a close frame's payload, or the one to answer a broken one with, negative. */
int ws_close_code(const uint8_t *payload, size_t len);
#define WS_CLOSE_MAX (2 + 4 + WS_CONTROL_MAX)
/* Write a close frame: its length, at most WS_CLOSE_MAX, for which there must be room.  mask: of a client,
 * else NULL. */
size_t ws_close_frame(uint8_t *to, const uint8_t *mask, int code, const char *reason);
