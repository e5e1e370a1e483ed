/* SPDX-License-Identifier: MIT */
#include <semstreams/base/host_name.h>

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

int ss_host_name_read(const char *text, size_t len, struct ss_host_name *out)
{
	bool brackets = len >= 2 && text[0] == '[' && text[len - 1] == ']';

	*out = (struct ss_host_name){.address_len = 0};
	if (brackets) {
		text++;
		len -= 2;
	} else if (len > 1 && text[len - 1] == '.') {
		len--;
	}
	if (len == 0 || len > SS_HOST_NAME_MAX || memchr(text, '\0', len))
		return -EINVAL;
	memcpy(out->text, text, len);
	if (inet_pton(AF_INET6, out->text, out->address) == 1)
		out->address_len = 16;
	else if (brackets)
		return -EINVAL;
	else if (inet_pton(AF_INET, out->text, out->address) == 1)
		out->address_len = 4;
	return 0;
}

/* Whatever the locale. */
static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool ss_host_name_same(const struct ss_host_name *a, const struct ss_host_name *b)
{
	size_t i = 0;

	if (a->address_len || b->address_len)
		return a->address_len == b->address_len &&
		       memcmp(a->address, b->address, a->address_len) == 0;
	while (a->text[i] && lower(a->text[i]) == lower(b->text[i]))
		i++;
	return a->text[i] == b->text[i];
}
