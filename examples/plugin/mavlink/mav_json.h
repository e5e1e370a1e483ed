/* SPDX-License-Identifier: MIT */
/*
 * mav_json - MAVLink frames as JSON and back, so that the bytes come back the same:
 *	{"sysid":1,"compid":1,"msgid":30,"name":"ATTITUDE","seq":7,"version":2,"fields":{"roll":0.5,...}}
 * README.md says what else there may be.  Nothing is allocated per frame but what the text needs.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/ext/fields.h>
#include "frame.h"

/* Append a frame; verified: its signature was. */
void mav_json_write(struct ss_strbuf *, const struct mav_frame *, bool verified);

/* Reads the messages that are allowed; zeroed to begin with. */
struct mav_json {
	struct ss_iface fields;
	struct ss_reader *head;
	struct ss_reader **bodies; /* by place in the dialect; NULL: not allowed */
	struct ss_field *found;    /* of one event, room for the largest message */
	size_t room;
};

/* 0 or -ENOMEM. */
int mav_json_init(struct mav_json *, const struct ss_iface *fields);
int mav_json_allow(struct mav_json *, const struct mav_message *);
void mav_json_done(struct mav_json *);

/* A frame and the bytes that it points to. */
struct mav_parsed {
	struct mav_frame frame; /* bytes and len are not set */
	bool has_seq;           /* else the sender is to choose one */
	uint8_t payload[255];
	uint8_t signature[MAV_SIGNATURE_LEN];
};
enum mav_fault mav_json_read(struct mav_json *, const void *text, size_t len, struct mav_parsed *);
