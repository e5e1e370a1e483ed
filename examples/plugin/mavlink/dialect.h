/* SPDX-License-Identifier: MIT */
/* dialect - the messages that are known: tables that dialect.py makes from a dialect's definitions. */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum mav_type {
	MAV_CHAR,
	MAV_INT8,
	MAV_UINT8,
	MAV_INT16,
	MAV_UINT16,
	MAV_INT32,
	MAV_UINT32,
	MAV_INT64,
	MAV_UINT64,
	MAV_FLOAT,
	MAV_DOUBLE
};

struct mav_field {
	const char *name;
	uint8_t type;   /* MAV_... */
	uint8_t size;   /* bytes, of an element */
	uint8_t count;  /* elements of an array; 0: it is none */
	uint8_t offset; /* in the payload */
};

struct mav_message {
	uint32_t id;
	const char *name;
	uint8_t crc_extra;        /* stands for names and types of the fields in a frame's checksum */
	uint8_t minimum, maximum; /* bytes of payload without and with extensions */
	uint8_t n_fields;
	const struct mav_field *fields; /* as declared; extensions last */
};

struct mav_dialect {
	const struct mav_message *messages; /* by id */
	size_t n;
};

extern const struct mav_dialect mav_dialect;

/* NULL: the dialect has none. */
const struct mav_message *mav_message_by_id(uint32_t id);
const struct mav_message *mav_message_by_name(const char *name, size_t len);
