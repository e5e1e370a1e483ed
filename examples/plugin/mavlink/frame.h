/* SPDX-License-Identifier: MIT */
/* frame - MAVLink 1 and 2 on the wire, without I/O. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "dialect.h"

#define MAV_SIGNATURE_LEN 13
#define MAV_FRAME_MAX     (10 + 255 + 2 + MAV_SIGNATURE_LEN)
#define MAV_SIGNED        0x01 /* the one incompatibility flag there is */
/* SETUP_SIGNING: has the key for signatures in it, so it goes from hand to hand only. */
#define MAV_SECRET_ID 256

/* Why a frame, or what should be one, is refused; in the order of the component's drop reasons. */
enum mav_fault {
	MAV_NO_FRAME,
	MAV_TRUNCATED,
	MAV_BAD_CRC,
	MAV_BAD_LENGTH,
	MAV_UNKNOWN_MESSAGE,
	MAV_INCOMPATIBLE,
	MAV_UNSIGNED,
	MAV_BAD_SIGNATURE,
	MAV_OLD_TIMESTAMP,
	MAV_TOO_MANY_STREAMS,
	MAV_NOT_JSON,
	MAV_BAD_FIELD,
	MAV_NOT_ALLOWED, /* of a frame: it has a secret, and is to be shown to nobody */
	MAV_NO_MEMORY,
	MAV_FAULTS,
	MAV_FINE = MAV_FAULTS
};

struct mav_frame {
	uint8_t version; /* 1 or 2 */
	uint8_t compat_flags, seq, sysid, compid;
	const struct mav_message *message;
	const uint8_t *payload;
	uint8_t payload_len;
	const uint8_t *signature; /* MAV_SIGNATURE_LEN bytes; NULL: it is not signed */
	const uint8_t *bytes;     /* all of it */
	size_t len;
};

/* Read what the data, which is not empty, begins with: *used bytes of it, at least one, are a frame or what
 * is refused for the reason returned.  The frame points into the data. */
enum mav_fault mav_frame_read(const uint8_t *data, size_t len, struct mav_frame *out, size_t *used);
/* Write a frame whose bytes and len are not set; room for MAV_FRAME_MAX bytes.  How many they are. */
size_t mav_frame_write(const struct mav_frame *, uint8_t *out);
/* The length of a payload as MAVLink says it is to be sent: without the zeros at its end in version 2,
 * without extensions in version 1. */
uint8_t mav_frame_payload_len(const struct mav_message *, uint8_t version, const uint8_t *payload);
