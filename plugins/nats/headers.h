/* SPDX-License-Identifier: MIT */
/*
 * headers - what an event carries beside its payload, as headers of a message: Semstreams-Peer and so on, and
 * Semstreams-Received.  In a value '%', blanks, control characters and what is no ASCII are %XX.  Pure; any
 * thread.
 */
#pragma once
#include <nats/nats.h>
#include <semstreams/ext/attributes.h>

enum { NATS_VALUE_MAX = 3 * SS_ATTR_PATH_MAX + 1 }; /* bytes of an encoded value, NUL included */

/* Add those of an event; set may be NULL.  False: out of memory. */
bool headers_add(natsMsg *, const struct ss_attributes *set, uint64_t time_ns);

/* What headers_read() fills in; its texts are in buf. */
struct headers {
	struct ss_attributes values;
	uint64_t time_ns; /* 0: not said */
	char buf[SS_ATTR_COUNT][SS_ATTR_PATH_MAX + 1];
};
/* Those that a message has; what cannot be an attribute is left out.  True if there are any attributes. */
bool headers_read(natsMsg *, struct headers *);

/* One value; false: it does not fit. */
bool headers_encode(const char *text, size_t len, char *out, size_t size);
/* The length, or -1: it is none, or does not fit. */
int headers_decode(const char *value, char *out, size_t size);
