/* SPDX-License-Identifier: MIT */
/* utf8 - is this text UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF)?  Pure. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Bytes (1 to 4) of the well-formed sequence at s, of which n bytes exist; 0 if there is none; *code is its
 * character. */
static inline size_t utf8_next(const char *s, size_t n, uint32_t *code)
{
	const unsigned char *b = (const unsigned char *)s;
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	if (n == 0)
		return 0;
	*code = b[0];
	if (b[0] < 0x80)
		return 1;
	size_t len = b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : b[0] < 0xf5 ? 4 : 0;
	if (len == 0 || len > n)
		return 0;
	uint32_t c = b[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((b[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (b[i] & 0x3fu);
	}
	if (c < least[len] || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
		return 0;
	*code = c;
	return len;
}
