/* SPDX-License-Identifier: MIT */
#include <semstreams/base/host_name.h>

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

/* Whatever the locale. */
static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

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
	for (size_t i = 0; i < len; i++)
		out->text[i] = lower(text[i]);
	if (inet_pton(AF_INET6, out->text, out->address) == 1)
		out->address_len = 16;
	else if (brackets)
		return -EINVAL;
	else if (inet_pton(AF_INET, out->text, out->address) == 1)
		out->address_len = 4;
	if (out->address_len)
		inet_ntop(out->address_len == 4 ? AF_INET : AF_INET6, out->address, out->text,
			  sizeof out->text);
	return 0;
}

bool ss_host_name_same(const struct ss_host_name *a, const struct ss_host_name *b)
{
	return a->address_len == b->address_len && strcmp(a->text, b->text) == 0;
}

bool ss_host_name_is_numeric(const char *text)
{
	size_t len = strlen(text);
	if (len && text[len - 1] == '.')
		len--;
	size_t at = len;
	while (at && text[at - 1] != '.')
		at--;
	if (len - at > 2 && text[at] == '0' && (text[at + 1] | 0x20) == 'x')
		return true;
	return len > at && at + strspn(text + at, "0123456789") >= len;
}
