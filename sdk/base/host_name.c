/* SPDX-License-Identifier: MIT */
#include <semstreams/base/host_name.h>

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

enum { DNS_MAX = 253, LABEL_MAX = 63 }; /* bytes; RFC 1035, section 2.3.4, as text */

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

const char *ss_host_name_fault(const struct ss_host_name *h)
{
	size_t label = 0, len = strlen(h->text);

	if (h->address_len)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		char c = h->text[i];
		if ((unsigned char)c >= 0x80)
			return "the host is not ASCII; write its punycode form (xn--...)";
		if (c == '.' && label == 0)
			return "the host has a dot too many";
		label = c == '.' ? 0 : label + 1;
		if (c != '.' && c != '-' && c != '_' && !(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z'))
			return "the host has a character that no host name has; an IPv6 address stands in "
			       "brackets";
		if (label > LABEL_MAX)
			return "a label of the host is longer than 63 bytes";
	}
	if (label == 0)
		return "the host has a dot too many";
	if (len > DNS_MAX)
		return "the host is longer than 253 bytes";
	return ss_host_name_is_numeric(h->text)
		       ? "the host is no IPv4 address; write four numbers from 0 to 255"
		       : NULL;
}

const char *ss_bind_remedy(int error, bool udp)
{
	switch (error) {
	case EADDRINUSE:
		return udp ? "; another program has the port, ss -ulpn names it: end that, or choose "
			     "another port"
			   : "; another program has the port, ss -tlpn names it: end that, or choose "
			     "another port";
	case EACCES:
		return "; a port below 1024 needs CAP_NET_BIND_SERVICE: give it to the service, or choose "
		       "another port";
	case EADDRNOTAVAIL:
		return "; no interface of this machine has that address, ip address shows them: correct "
		       "it, or leave it out";
	default:
		return "";
	}
}

const char *ss_address_fault(const char *text)
{
	char number[INET6_ADDRSTRLEN];
	struct in6_addr v6;
	size_t len = strcspn(text, "%");

	if (len >= sizeof number)
		return "is not a numeric IPv4 or IPv6 address";
	memcpy(number, text, len);
	number[len] = '\0';
	if (!text[len] && inet_pton(AF_INET, number, &v6) == 1)
		return NULL;
	if (inet_pton(AF_INET6, number, &v6) != 1)
		return "is not a numeric IPv4 or IPv6 address";
	if (!IN6_IS_ADDR_LINKLOCAL(&v6))
		return text[len] ? "has a zone, which only a link-local address (fe80::) has" : NULL;
	return text[len] && text[len + 1]
		       ? NULL
		       : "needs a zone, the interface of the link-local address: fe80::1%eth0";
}
