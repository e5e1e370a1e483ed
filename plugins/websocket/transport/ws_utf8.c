/* SPDX-License-Identifier: MIT */
/*
 * ws_utf8 - is this UTF-8 (RFC 3629)?  Pure.
 */
#include "ws_internal.h"

#include <string.h>

/* Bytes of the character at p, 0 if it is none. */
static size_t character(const uint8_t *p, size_t len)
{
	uint8_t c = p[0], low = 0x80, high = 0xbf;
	size_t n;
	if (c < 0x80)
		return 1;
	if (c >= 0xc2 && c <= 0xdf) {
		n = 2;
	} else if (c >= 0xe0 && c <= 0xef) {
		n = 3;
		if (c == 0xe0)
			low = 0xa0; /* overlong */
		if (c == 0xed)
			high = 0x9f; /* surrogates */
	} else if (c >= 0xf0 && c <= 0xf4) {
		n = 4;
		if (c == 0xf0)
			low = 0x90;
		if (c == 0xf4)
			high = 0x8f; /* beyond U+10FFFF */
	} else {
		return 0;
	}
	if (len < n || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	return n;
}

bool ws_utf8_valid(const uint8_t *p, size_t len)
{
	while (len > 0) {
		uint64_t eight;
		if (len >= sizeof eight) {
			memcpy(&eight, p, sizeof eight);
			if (!(eight & 0x8080808080808080u)) {
				p += sizeof eight;
				len -= sizeof eight;
				continue;
			}
		}
		size_t n = character(p, len);
		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}
