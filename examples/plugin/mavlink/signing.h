/* SPDX-License-Identifier: MIT */
/* signing - signatures of MAVLink 2: who has the key, and whether a frame is a new one.  No I/O, no clock. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "frame.h"

#define MAV_KEY_LEN 32

struct mav_stream {
	uint32_t who;  /* sysid, compid and link */
	uint64_t last; /* timestamp: units of 10 us since 2015 */
};

/* What one instance knows; zeroed to begin with. */
struct mav_signing {
	uint8_t key[MAV_KEY_LEN];
	struct mav_stream *streams;
	uint32_t n, max, at; /* at: the one used last */
	uint64_t newest;     /* timestamp of all */
};

/* Room for max streams.  0 or -ENOMEM. */
int mav_signing_init(struct mav_signing *, const uint8_t key[MAV_KEY_LEN], uint32_t max);
void mav_signing_done(struct mav_signing *);
/* Is a signed frame of the key's, and newer than all of its stream before?  now_ns: wall clock, ns since
 * 1970. */
enum mav_fault mav_signing_check(struct mav_signing *, const struct mav_frame *, uint64_t now_ns);
/* Is it of the key's? */
bool mav_signing_is_genuine(const struct mav_signing *, const struct mav_frame *);
/* Sign a frame that mav_frame_write() wrote with a signature of anything; by a timestamp that is newer than
 * all before. */
void mav_signing_sign(struct mav_signing *, uint8_t *bytes, size_t len, uint8_t link, uint64_t now_ns);
