/* SPDX-License-Identifier: MIT */
/* names - see names.h. */
#include "names.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <semstreams/base/utf8.h>

enum {
	DNS_MAX = 253,
	LABEL_MAX = 63,
};

size_t name_address(const char *name, unsigned char raw[16])
{
	if (inet_pton(AF_INET, name, raw) == 1)
		return 4;
	return inet_pton(AF_INET6, name, raw) == 1 ? 16 : 0;
}

bool name_same(const char *a, const char *b)
{
	unsigned char raw_a[16], raw_b[16];
	size_t n = name_address(a, raw_a);
	return strcasecmp(a, b) == 0 || (n && name_address(b, raw_b) == n && memcmp(raw_a, raw_b, n) == 0);
}

bool name_is_dns(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
	if (strlen(name) > DNS_MAX)
		return false;
	if (name[0] == '*' && name[1] == '.')
		name += 2;
	for (;;) {
		size_t len = strspn(name, letters);
		if (len == 0 || len > LABEL_MAX || name[0] == '-' || name[len - 1] == '-' ||
		    (name[len] && name[len] != '.'))
			return false;
		if (!name[len])
			return true;
		name += len + 1;
	}
}

int name_for_sni(const char *name, char *out, size_t size)
{
	unsigned char raw[16];
	char nibbles[16 * 4 + 1], *to = nibbles;
	size_t n = name_address(name, raw);
	int len;
	if (n == 4) {
		len = snprintf(out, size, "%u.%u.%u.%u.in-addr.arpa", raw[3], raw[2], raw[1], raw[0]);
	} else if (n == 16) {
		while (n-- > 0)
			to += sprintf(to, "%x.%x.", raw[n] & 15u, raw[n] >> 4);
		len = snprintf(out, size, "%sip6.arpa", nibbles);
	} else if (name_is_dns(name)) {
		len = snprintf(out, size, "%s", name);
	} else {
		return -EINVAL;
	}
	return len >= 0 && (size_t)len < size ? 0 : -EINVAL;
}

static bool is_harmless(uint32_t c)
{
	static const struct {
		uint32_t from, to;
	} bad[] = {
		{0, 0x1f},        {0x7f, 0x9f},     {0xad, 0xad},        {0x61c, 0x61c},   {0x180e, 0x180e},
		{0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},    {0xfe00, 0xfe0f}, {0xfeff, 0xfeff},
		{0xfff0, 0xffff}, {0xe000, 0xf8ff}, {0xe0000, 0x10ffff},
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (c >= bad[i].from && c <= bad[i].to)
			return false;
	return true;
}

void name_harmless(const char *text, size_t len, char *out, size_t size)
{
	while (len > 0 && size > 1) {
		uint32_t c;
		size_t n = ss_utf8_next(text, len, &c);
		bool good = n > 0 && is_harmless(c);
		size_t put = good ? n : 1;
		if (put >= size)
			break;
		memcpy(out, good ? text : "?", put);
		n += n == 0;
		out += put;
		size -= put;
		text += n;
		len -= n;
	}
	if (size)
		*out = 0;
}
