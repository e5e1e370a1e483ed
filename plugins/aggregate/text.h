/* SPDX-License-Identifier: MIT */
/* text - bytes that grow at the end: results as JSON, checkpoints.  A failed allocation is remembered, not
 * reported. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
	char *bytes; /* no NUL behind its end */
	size_t len, size;
	bool failed; /* out of memory: something is missing */
};

/* Room for len bytes behind the end, to be filled by the caller, who adds them to len; NULL if out of memory.
 */
char *text_room(struct text *, size_t len);
void text_bytes(struct text *, const void *bytes, size_t len);
void text_string(struct text *, const char *);
/* A JSON string with its quotes; what is not UTF-8 becomes U+FFFD. */
void text_json(struct text *, const char *bytes, size_t len);
void text_int(struct text *, int64_t);
/* The shortest digits that read back as the same double; null if it is not finite. */
void text_double(struct text *, double);
/* Numbers in checkpoints: little-endian. */
void text_u64(struct text *, uint64_t);
void text_done(struct text *);
/* "name": with its quotes and colon, malloced; NULL if out of memory. */
char *text_label(const char *name);

/* Reading back what was written: fails once, then gives zeros. */
struct reading {
	const uint8_t *at, *end;
	bool failed;
};
uint64_t reading_u64(struct reading *);
const uint8_t *reading_bytes(struct reading *, size_t len); /* NULL if there are not so many */
