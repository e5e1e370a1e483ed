/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/strbuf.h - bytes that grow at the end: texts, JSON, records; and reading records back.  A
 * failed allocation is remembered, not reported: append all, then look at failed once.  Any thread, one at a
 * time.  Tags and rules are those of semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_STRBUF_H
#define SEMSTREAMS_BASE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes so far.  Zeroed to begin with. */
struct ss_strbuf {
	char *bytes; /* owned by the buffer; NULL while nothing was appended; there is room for a NUL behind
			len, but none is kept there */
	size_t len;  /* bytes in use */
	size_t size; /* bytes allocated */
	bool failed; /* out of memory: something is missing, and nothing is appended any more */
	bool secret; /* memory is wiped before it is freed; set to begin with */
};

/* [any] Room for len bytes behind the end, which the caller fills and adds to len; valid until the next call;
 * NULL when out of memory. */
char *ss_strbuf_room(struct ss_strbuf *, size_t len);
/* [any] Append bytes. */
void ss_strbuf_add(struct ss_strbuf *, const void *bytes, size_t len);
/* [any] Append a text without its NUL. */
void ss_strbuf_text(struct ss_strbuf *, const char *text);
/* [any] Append one byte. */
void ss_strbuf_char(struct ss_strbuf *, char c);
/* [any] Append what printf() writes. */
void ss_strbuf_printf(struct ss_strbuf *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* [any] Append bytes in base64url without padding (RFC 4648, section 5). */
void ss_strbuf_base64url(struct ss_strbuf *, const void *bytes, size_t len);
/* [any] The bytes of a text in base64url without padding, in the place of what the buffer had.  0; -EINVAL:
 * it has another character, an impossible length, or bits at its end that belong to no byte; -ENOMEM. */
int ss_base64url_read(const char *text, size_t len, struct ss_strbuf *out);
/* [any] Append an integer in decimal. */
void ss_strbuf_int(struct ss_strbuf *, int64_t i);
/* [any] Append a JSON string with its quotes; what is not UTF-8 becomes U+FFFD, control characters (and DEL)
 * \u00XX.
 */
void ss_strbuf_json(struct ss_strbuf *, const char *bytes, size_t len);
/* [any] Append a number of four bytes, little-endian, for records. */
void ss_strbuf_u32(struct ss_strbuf *, uint32_t u);
/* [any] The same of eight bytes. */
void ss_strbuf_u64(struct ss_strbuf *, uint64_t u);
/* [any] The text with a NUL at its end, until the next call; "" when there is none or memory ran out. */
const char *ss_strbuf_cstr(struct ss_strbuf *);
/* [any] The same as memory that the caller frees (and wipes, of a secret), and the buffer is empty again;
 * NULL when out of memory. */
char *ss_strbuf_take(struct ss_strbuf *);
/* [any] Empty, its memory kept for more. */
static inline void ss_strbuf_clear(struct ss_strbuf *b)
{
	b->len = 0;
	b->failed = false;
}
/* [any] Free the memory; the struct is empty, and as secret as before. */
void ss_strbuf_done(struct ss_strbuf *);

/* Reading a record: fails once, when it ends too early, and then gives zeros. */
struct ss_unpack {
	const uint8_t *at;  /* what is read next, in the caller's bytes */
	const uint8_t *end; /* behind the caller's bytes */
	bool failed;        /* the record has ended too early */
};
/* [any] The next len bytes in place, valid as long as the record; NULL if there are not so many. */
const uint8_t *ss_unpack_bytes(struct ss_unpack *, size_t len);
/* [any] The next number of four bytes. */
uint32_t ss_unpack_u32(struct ss_unpack *);
/* [any] The next number of eight bytes. */
uint64_t ss_unpack_u64(struct ss_unpack *);

#ifdef __cplusplus
}
#endif
#endif
