/* SPDX-License-Identifier: MIT */
/* names - see names.h. */
#include "names.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <gnutls/gnutls.h>
#include <semstreams/base/utf8.h>

enum {
	DNS_MAX = 253,
	LABEL_MAX = 63,
};

/* As certificates write it: the forms of URLs are others. */
static int read_bare(const char *name, struct ss_host_name *out)
{
	size_t len = strlen(name);

	return len && name[0] != '[' && name[len - 1] != '.' ? ss_host_name_read(name, len, out) : -EINVAL;
}

size_t name_address(const char *name, unsigned char raw[16])
{
	struct ss_host_name host;

	if (read_bare(name, &host))
		return 0;
	memcpy(raw, host.address, sizeof host.address);
	return host.address_len;
}

bool name_same(const char *a, const char *b)
{
	struct ss_host_name x, y;

	return read_bare(a, &x) == 0 && read_bare(b, &y) == 0 && ss_host_name_same(&x, &y);
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

/* -EINVAL: GnuTLS knows the form that the DNS has of a name in other scripts. */
static int not_ascii(const char *name, char *why, size_t size)
{
	gnutls_datum_t ascii = {0};
	bool known = gnutls_idna_map(name, (unsigned)strlen(name), &ascii, 0) == 0;
	snprintf(why, size, "is not ASCII: write its punycode form%s%.*s", known ? ", " : " (xn--...)",
		 (int)ascii.size, known ? (const char *)ascii.data : "");
	gnutls_free(ascii.data);
	return -EINVAL;
}

int name_read(const char *name, struct ss_host_name *out, char *why, size_t size)
{
	bool ascii = true;
	char four[sizeof out->text];
	for (const char *p = name; *p; p++)
		ascii = ascii && (unsigned char)*p < 0x80;
	if (!ascii)
		return not_ascii(name, why, size);
	int rc = ss_host_name_read(name, strlen(name), out);
	/* an IPv4 address in the form of IPv6 is certified as what it is */
	if (rc == 0 && out->address_len == 16 && strncmp(out->text, "::ffff:", 7) == 0 &&
	    strchr(out->text, '.'))
		return ss_host_name_read(strcpy(four, out->text + 7), strlen(out->text + 7), out);
	if (rc == 0 && (out->address_len || (name_is_dns(out->text) && !ss_host_name_is_numeric(out->text))))
		return 0;
	snprintf(why, size, "%s",
		 rc == 0 && ss_host_name_is_numeric(out->text)
			 ? "is not an IPv4 address, which is four numbers from 0 to 255"
			 : "is neither a DNS name nor an IP address");
	return -EINVAL;
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

void name_harmless(const char *text, size_t len, char *out, size_t size)
{
	while (len > 0 && size > 1) {
		uint32_t c;
		size_t n = ss_utf8_next(text, len, &c);
		bool good = n > 0 && ss_utf8_is_plain(c);
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
