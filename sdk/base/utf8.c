/* SPDX-License-Identifier: MIT */
#include <semstreams/base/utf8.h>

#include <string.h>

size_t ss_utf8_put(uint32_t code, char out[4])
{
	if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		code = 0xfffd;
	if (code < 0x80) {
		out[0] = (char)code;
		return 1;
	}
	size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
	for (size_t i = len - 1; i > 0; i--, code >>= 6)
		out[i] = (char)(0x80 | (code & 0x3f));
	out[0] = (char)((0xf00u >> len & 0xff) | code);
	return len;
}

bool ss_utf8_is_plain(uint32_t code)
{
	static const struct {
		uint32_t from, to;
	} others[] = {
		{0, 0x1f},        {0x7f, 0x9f},     {0xad, 0xad},        {0x61c, 0x61c},   {0x180e, 0x180e},
		{0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},    {0xfe00, 0xfe0f}, {0xfeff, 0xfeff},
		{0xfff0, 0xffff}, {0xe000, 0xf8ff}, {0xe0000, 0x10ffff},
	};
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		if (code >= others[i].from && code <= others[i].to)
			return false;
	return true;
}

/* How many bytes of text are whole characters, all of them well-formed. */
static size_t whole_characters(const uint8_t *text, size_t size)
{
	size_t at = 0, n;
	uint32_t code;

	while (at < size) {
		uint64_t eight;
		if (size - at >= sizeof eight) {
			memcpy(&eight, text + at, sizeof eight);
			if (!(eight & UINT64_C(0x8080808080808080))) {
				at += sizeof eight;
				continue;
			}
		}
		n = ss_utf8_next(text + at, size - at, &code);
		if (n == 0)
			break;
		at += n;
	}
	return at;
}

bool ss_utf8_valid(const void *text, size_t size)
{
	return whole_characters(text, size) == size;
}

/* Can these 1 to 3 bytes, which are no whole character, become one?  Yes if one continuation or another does.
 */
static bool is_beginning(const uint8_t *part, size_t len)
{
	static const uint8_t tails[][3] = {{0x80, 0x80, 0x80}, {0xbf, 0xbf, 0xbf}};
	uint8_t whole[6];
	uint32_t code;

	memcpy(whole, part, len);
	for (size_t i = 0; i < 2; i++) {
		memcpy(whole + len, tails[i], sizeof tails[i]);
		if (ss_utf8_next(whole, sizeof whole, &code) > len)
			return true;
	}
	return false;
}

bool ss_utf8_feed(struct ss_utf8_check *check, const void *text, size_t size)
{
	const uint8_t *at = text;
	uint32_t code;

	while (check->len && size && !check->invalid) {
		check->part[check->len++] = *at++;
		size--;
		if (ss_utf8_next(check->part, check->len, &code))
			check->len = 0;
		else
			check->invalid =
				check->len == sizeof check->part || !is_beginning(check->part, check->len);
	}
	if (check->invalid)
		return false;
	size_t whole = whole_characters(at, size), rest = size - whole;
	check->invalid = rest > 3 || (rest && !is_beginning(at + whole, rest));
	if (!check->invalid && rest) {
		memcpy(check->part, at + whole, rest);
		check->len = (uint8_t)rest;
	}
	return !check->invalid;
}
