/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/utf8.h - UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above
 * U+10FFFF. Pure functions: any thread, nothing allocated.  Tags and rules are those of semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_UTF8_H
#define SEMSTREAMS_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * [any] Decode the character at text, of which size bytes exist.  Returns its length in bytes (1 to 4) and
 * sets *code; returns 0 if there is no well-formed character (then *code is the first byte, if there is one).
 * Bytes are read in order and none behind the first that does not fit: for NUL-terminated text size may be 4.
 */
static inline size_t ss_utf8_next(const void *text, size_t size, uint32_t *code)
{
	const unsigned char *b = (const unsigned char *)text;

	if (size == 0)
		return 0;
	*code = b[0];
	if (b[0] < 0x80)
		return 1;
	size_t len = b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : b[0] < 0xf5 ? 4 : 0;
	if (len == 0 || len > size)
		return 0;
	uint32_t c = b[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((b[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (b[i] & 0x3fu);
	}
	if ((len == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) ||
	    (len == 4 && (c < 0x10000 || c > 0x10ffff)))
		return 0;
	*code = c;
	return len;
}

/* [any] Encode a character into out; returns its length in bytes.  A code that is no character (a surrogate,
 * above U+10FFFF) becomes U+FFFD. */
size_t ss_utf8_put(uint32_t code, char out[4]);

/* [any] May a character that a stranger chose be shown as it is?  Not one that controls a terminal, changes
 * the direction, is invisible, or has no meaning that all agree on. */
bool ss_utf8_is_plain(uint32_t code);

/* [any] Is all of text UTF-8?  Eight bytes at a time where they are ASCII. */
bool ss_utf8_valid(const void *text, size_t size);

/*
 * Text that comes in pieces: zero the struct, feed the pieces in order, ask for the end.  A text is invalid
 * from the first byte that no continuation can mend, not only at its end.
 */
struct ss_utf8_check {
	uint8_t part[4]; /* a character that is not complete yet */
	uint8_t len;     /* of its bytes, 0 to 3 */
	bool invalid;    /* the text so far cannot be the beginning of UTF-8 */
};
/* [any] One thread at a time.  False once the text so far cannot be the beginning of UTF-8. */
bool ss_utf8_feed(struct ss_utf8_check *check, const void *text, size_t size);
/* [any] Is the text complete, with no character cut in two at its end? */
static inline bool ss_utf8_complete(const struct ss_utf8_check *check)
{
	return !check->invalid && check->len == 0;
}

#ifdef __cplusplus
}
#endif
#endif
