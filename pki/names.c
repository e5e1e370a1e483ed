/* SPDX-License-Identifier: MIT */
/* names - see names.h. */
#include "names.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/utf8.h>

enum { CN_MAX = 64 }; /* characters; RFC 5280, ub-common-name */

bool names_have(const struct names *names, const struct ss_host_name *name)
{
	for (size_t i = 0; i < names->n; i++)
		if (ss_host_name_same(&names->v[i], name))
			return true;
	return false;
}

bool names_same(const struct names *a, const struct names *b)
{
	for (size_t i = 0; i < a->n; i++)
		if (!names_have(b, &a->v[i]))
			return false;
	return a->n == b->n;
}

static int append(struct names *names, const struct ss_host_name *name, struct fault *f)
{
	if (names_have(names, name))
		return 0;
	if (names->n == NAMES_MAX)
		return refuse(f, "there are more than %d names", NAMES_MAX);
	struct ss_host_name *v = realloc(names->v, (names->n + 1) * sizeof *v);
	if (!v)
		return -ENOMEM;
	names->v = v;
	names->v[names->n++] = *name;
	return 0;
}

int names_add(struct names *names, const char *text, bool *was_dns, struct fault *f)
{
	bool dns = strncmp(text, "DNS:", 4) == 0, ip = strncmp(text, "IP:", 3) == 0;
	const char *bare = text + (dns ? 4 : ip ? 3 : 0);
	bool wildcard = strncmp(bare, "*.", 2) == 0;
	struct ss_host_name name;

	if (ss_host_name_read(bare + (wildcard ? 2 : 0), strlen(bare + (wildcard ? 2 : 0)), &name))
		return refuse(f, "\"%s\" is neither a host name nor an address", text);
	const char *why = ss_host_name_fault(&name);
	if (why)
		return refuse(f, "\"%s\": %s", text, why);
	if ((ip && !name.address_len) || (wildcard && name.address_len))
		return refuse(f, "\"%s\": this is no address", text);
	if (wildcard)
		snprintf(name.text, sizeof name.text, "*.%.250s", bare + 2);
	if (was_dns)
		*was_dns = dns && name.address_len;
	return append(names, &name, f);
}

int names_take(struct names *names, unsigned kind, const unsigned char *bytes, size_t len, struct fault *f)
{
	char text[SS_HOST_NAME_MAX + 1], shown[80];

	if (kind == GNUTLS_SAN_IPADDRESS && (len == 4 || len == 16)) {
		if (!inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes, text, sizeof text))
			return refuse(f, "an address among its names cannot be read");
	} else if (kind == GNUTLS_SAN_DNSNAME && len < sizeof text && !memchr(bytes, 0, len)) {
		memcpy(text, bytes, len);
		text[len] = '\0';
	} else {
		return refuse(f, "it has an alternative name that is neither a DNS name nor an address: %s",
			      name_show(bytes, len, shown, sizeof shown));
	}
	if (strchr(text, ':') && kind == GNUTLS_SAN_DNSNAME)
		return refuse(f, "among its DNS names is \"%s\", which is none",
			      name_show(bytes, len, shown, sizeof shown));
	return names_add(names, text, NULL, f);
}

void names_done(struct names *names)
{
	free(names->v);
	*names = (struct names){0};
}

const char *name_fault(const char *cn)
{
	size_t len = strlen(cn), characters = 0, n;
	uint32_t code;

	if (!*cn)
		return "it is empty";
	for (size_t i = 0; i < len; i += n, characters++) {
		n = ss_utf8_next(cn + i, len - i, &code);
		if (n == 0)
			return "it is not UTF-8";
		if (code < 0x20 || code == 0x7f || !ss_utf8_is_plain(code))
			return "it has characters that cannot be seen";
	}
	return characters > CN_MAX ? "it is longer than 64 characters" : NULL;
}

const char *name_show(const void *bytes, size_t len, char *buf, size_t size)
{
	const unsigned char *b = bytes;
	size_t out = 0, n;
	uint32_t code;

	for (size_t i = 0; i < len && out + 5 < size; i += n ? n : 1) {
		n = ss_utf8_next(b + i, len - i, &code);
		bool plain = n && code >= 0x20 && code != 0x7f && ss_utf8_is_plain(code);
		if (plain)
			memcpy(buf + out, b + i, n);
		else
			buf[out] = '?';
		out += plain ? n : 1;
	}
	buf[out] = '\0';
	return buf;
}
