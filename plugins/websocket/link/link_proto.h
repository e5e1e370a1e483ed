/* SPDX-License-Identifier: MIT */
/*
 * link_proto - messages of the link protocol "semstreams.link.v1", as docs/link-protocol.md has them: reading
 * and writing, without I/O or allocation.  Control messages are JSON in text messages, data goes in binary
 * messages; integers there are big-endian.  Any thread.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/base/attribute_block.h>
#include <semstreams/ext/fields.h>

#define LINK_SUBPROTOCOL "semstreams.link.v1"
#define LINK_NAME_MAX    128
#define LINK_CONTROL_MAX 4096 /* bytes of a control message */
#define LINK_SEQ_MAX                                                                                         \
	9007199254740991ull      /* 2^53 - 1: the greatest number of the protocol, exact in any JSON reader */
#define LINK_SIZE_MAX 0x7fffffff /* of max_frame and max_record */

enum link_type { LINK_HELLO = 1, LINK_WELCOME, LINK_ACK, LINK_LOST, LINK_NACK, LINK_HB, LINK_BYE };
enum {
	LINK_OK = 1000,
	LINK_GOING = 1001,
	LINK_TIMEOUT = 1002,
	LINK_TOO_BIG = 1009,
	LINK_BAD_FRAME = 4400,
	LINK_GAP = 4401,
	LINK_CREDIT = 4402,
	LINK_FORBIDDEN = 4403,
	LINK_SILENT = 4408,
	LINK_REPLACED = 4409,
	LINK_RECORD_TOO_BIG = 4413
};

struct link_window {
	uint64_t records, bytes;
};

/* One control message; which members mean anything depends on the type. */
struct link_control {
	enum link_type type;
	char stream[LINK_NAME_MAX], consumer[LINK_NAME_MAX]; /* hello */
	bool has_resume;
	struct ss_position resume; /* hello; welcome: the epoch of hello's goes on in this one, and records
				    * up to seq have the same number in both */
	uint64_t received; /* hello: newest sequence of resume.epoch that this process has received; 0 = none
			    */
	uint64_t attributes;            /* hello: the receiver takes attributes of events; 0: it does not */
	struct link_window window;      /* hello, ack */
	uint64_t max_frame, max_record; /* hello, welcome */
	uint8_t epoch[16];              /* welcome */
	uint64_t first, next;           /* welcome: what the sender has; hb: next */
	uint64_t seq;                   /* ack, nack, hb of a receiver */
	uint64_t bytes;        /* ack: of the data messages of this connection that seq covers wholly */
	uint64_t from, to;     /* lost */
	char reason[64];       /* lost, bye, nack's code */
	uint64_t heartbeat_ms; /* welcome */
	uint64_t retry_ms;     /* bye */
	uint64_t time_ms;      /* sender's wall clock, ms since 1970; 0 = absent */
};

/* Parse a control message; unknown members are ignored.  0, or -EINVAL with *why (static) filled: close with
 * 4400. */
int link_control_read(const struct ss_fields *, void *fields_self, const struct ss_reader *,
		      const uint8_t *text, size_t len, struct link_control *out, const char **why);
/* The reader link_control_read wants; -ENOMEM. */
int link_control_reader(const struct ss_fields *, void *fields_self, struct ss_reader **out);
/* Write one into buf; its length.  Strings are escaped; bytes that are not UTF-8 become U+FFFD. */
size_t link_control_write(const struct link_control *, char buf[LINK_CONTROL_MAX]);

/* Data message: header of LINK_DATA_HEADER bytes, then count records of u32 length and bytes, then, with
 * LINK_DATA_ATTRIBUTES, a block of their attributes; crc32c over all behind the header. */
#define LINK_DATA_HEADER     20
#define LINK_DATA_ATTRIBUTES 2 /* flag */
struct link_data {
	uint16_t count;
	uint64_t first_seq;
	const uint8_t *records; /* payload */
	size_t len;             /* of it: the message is LINK_DATA_HEADER longer */
	size_t records_len;     /* of the records in it */
	bool has_attributes;
	struct ss_attribute_block attributes;
};
/* Check a data message wholly (lengths, crc); 0, or with *why filled -EINVAL (close with 4400) or -EMSGSIZE
 * (a record is longer than max_record: 4413). */
int link_data_read(const uint8_t *msg, size_t len, uint64_t max_record, struct link_data *out,
		   const char **why);
/* The next record of a checked message; *at starts as records. */
const uint8_t *link_record_next(const uint8_t **at, uint32_t *len, uint64_t *time_ns);
/* Append a record to a message under construction at buf, at bytes long so far (LINK_DATA_HEADER to begin
 * with); new length. There must be room for LINK_RECORD_HEADER + len. */
size_t link_record_write(uint8_t *buf, size_t at, const struct ss_event *);
#define LINK_RECORD_HEADER 12 /* u32 length, u64 time_ns */
/* Fill in the header of a finished message of len bytes; attributes: of which their block is a part. */
void link_data_finish(uint8_t *buf, size_t len, uint16_t count, uint64_t first_seq, bool attributes);
