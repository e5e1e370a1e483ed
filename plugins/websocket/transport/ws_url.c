/* SPDX-License-Identifier: MIT */
/* ws_url - see ws_url.h. */
#include "ws_url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <semstreams/base/host_name.h>
#include <semstreams/base/url.h>

static int wrong(const char **why, const char *text)
{
	*why = text;
	return -EINVAL;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
	return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

static bool is_alnum(char c)
{
	return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* ---- the host ---- */

static int check_name(const char *text, size_t len, struct ws_url *u, const char **why)
{
	struct ss_host_name name;

	if (ss_host_name_read(text, len, &name) < 0)
		return wrong(why, "the host has a character that no host name has");
	const char *fault = ss_host_name_fault(&name);
	if (fault)
		return wrong(why, fault);
	memcpy(u->host, text, name.address_len ? strlen(name.text) : len);
	memcpy(u->name, name.text, strlen(name.text));
	return 0;
}

/* What follows the % of an address; RFC 6874 writes the % itself as %25. */
static int take_zone(struct ws_url *u, const char *zone, size_t len, const char **why)
{
	if (len >= 2 && memcmp(zone, "25", 2) == 0) {
		zone += 2;
		len -= 2;
	}
	if (len == 0 || len >= sizeof u->zone)
		return wrong(why, "the zone of the address is no interface name, as in [fe80::1%25eth0]");
	for (size_t i = 0; i < len; i++)
		if (!is_alnum(zone[i]) && !strchr("-._~", zone[i]))
			return wrong(why,
				     "the zone of the address has a character that no interface name has");
	memcpy(u->zone, zone, len);
	return 0;
}

/* The text between the brackets. */
static int take_v6(struct ws_url *u, const char *text, size_t len, const char **why)
{
	const char *percent = memchr(text, '%', len);
	size_t n = percent ? (size_t)(percent - text) : len;
	struct ss_host_name address;
	struct in6_addr v6;
	if (ss_host_name_read(text, n, &address) < 0 || address.address_len != sizeof v6)
		return wrong(why, "what stands in the brackets is no IPv6 address");
	memcpy(&v6, address.address, sizeof v6);
	strcpy(u->host, address.text);
	strcpy(u->name, address.text);
	bool local = IN6_IS_ADDR_LINKLOCAL(&v6);
	if (local && !percent)
		return wrong(why, "a link-local address needs a zone, the interface it is reached by: "
				  "[fe80::1%25eth0]");
	if (!local && percent)
		return wrong(why, "only a link-local address (fe80::) has a zone");
	return percent ? take_zone(u, percent + 1, len - n - 1, why) : 0;
}

static int take_port(struct ws_url *u, const char *text, size_t len, const char **why)
{
	unsigned long port = 0;
	for (size_t i = 0; i < len; i++) {
		if (!is_digit(text[i]))
			return wrong(why, "the port is not a number");
		port = port * 10 + (unsigned long)(text[i] - '0');
		if (port > 65535)
			return wrong(why, "the port is greater than 65535");
	}
	if (len && port == 0)
		return wrong(why, "the port must not be 0");
	if (len)
		u->port = (uint16_t)port;
	return 0;
}

static int take_authority(struct ws_url *u, const char *text, size_t len, const char **why)
{
	if (memchr(text, '@', len))
		return wrong(why, "there must be no user name and password in front of the host");
	bool v6 = len && text[0] == '[';
	const char *end = v6 ? memchr(text, ']', len) : memchr(text, ':', len);
	if (v6 && !end)
		return wrong(why, "the bracket of an IPv6 address is not closed");
	size_t n = end ? (size_t)(end - text) : len;
	const char *rest = v6 ? end + 1 : text + n;
	size_t rest_len = len - (size_t)(rest - text);
	if (n == 0)
		return wrong(why, "the host is missing in front of the port or the path");
	if (rest_len && rest[0] != ':')
		return wrong(why, "behind the bracket of an IPv6 address comes the port or the path");
	if (n > WS_URL_HOST_MAX)
		return wrong(why, "the host is longer than 110 bytes");
	int rc = v6 ? take_v6(u, text + 1, n - 1, why) : check_name(text, n, u, why);
	if (rc < 0)
		return rc;
	return rest_len ? take_port(u, rest + 1, rest_len - 1, why) : 0;
}

/* ---- path and query ---- */

static int take_target(struct ws_url *u, const char *text, const char **why)
{
	size_t len = strlen(text);
	if (memchr(text, '#', len))
		return wrong(why, "the URL of a WebSocket server has no fragment; write # as %23");
	if (len + 1 > WS_URL_TARGET_MAX)
		return wrong(why, "path and query are longer than 1024 bytes");
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text[i] <= ' ' || (unsigned char)text[i] >= 0x7f ||
		    strchr("\"<>\\^`{|}", text[i]))
			return wrong(why,
				     "path or query have a character that must be percent-encoded, as %20");
		if (text[i] == '%' && !(is_hex(text[i + 1]) && is_hex(text[i + 2])))
			return wrong(why, "a % in path or query is not followed by two hexadecimal digits; "
					  "write % itself as %25");
	}
	snprintf(u->target, sizeof u->target, "%s%s", text[0] == '/' ? "" : "/", text);
	return 0;
}

/* As the Host and the Origin field have it. */
static void write_authority(struct ws_url *u, uint16_t standard)
{
	bool v6 = strchr(u->host, ':');
	char port[8] = "";
	if (u->port != standard)
		snprintf(port, sizeof port, ":%u", u->port);
	snprintf(u->authority, sizeof u->authority, "%s%s%s%s", v6 ? "[" : "", u->name, v6 ? "]" : "", port);
}

int ws_url_parse(const char *text, struct ws_url *u, const char **why)
{
	*u = (struct ws_url){.secure = strncasecmp(text, "wss://", 6) == 0};
	if (!u->secure && strncasecmp(text, "ws://", 5) != 0)
		return wrong(why, "expected ws://host[:port]/path or wss://...");
	const char *authority = text + (u->secure ? 6 : 5);
	size_t len = strcspn(authority, "/?#");
	const uint16_t standard = u->secure ? 443 : 80;
	u->port = standard;
	int rc = take_authority(u, authority, len, why);
	if (rc == 0)
		rc = take_target(u, authority + len, why);
	if (rc < 0)
		return rc;
	write_authority(u, standard);
	ss_url_redact(text, u->shown, sizeof u->shown);
	return 0;
}

/* The scheme's length if the text begins with one (RFC 3986, 3.1), else 0. */
static size_t scheme_length(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");

	return isalpha((unsigned char)text[0]) && text[n] == ':' ? n : 0;
}

void ws_url_target_shown(const struct ws_url *from, const char *location, char *out, size_t size)
{
	static const struct {
		const char *web, *socket;
	} schemes[] = {{"http:", "ws:"}, {"https:", "wss:"}};
	const char *scheme = from->secure ? "wss:" : "ws:", *rest = location;
	char whole[4096] = "";
	size_t folder = 0;
	int len;

	if (scheme_length(location)) {
		scheme = "";
		for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
			size_t n = strlen(schemes[i].web);
			if (strncasecmp(location, schemes[i].web, n) == 0) {
				scheme = schemes[i].socket;
				rest = location + n;
			}
		}
		len = snprintf(whole, sizeof whole, "%s%s", scheme, rest);
	} else if (location[0] == '/' && location[1] == '/') {
		len = snprintf(whole, sizeof whole, "%s%s", scheme, location);
	} else {
		for (size_t i = 0, n = strcspn(from->target, "?"); location[0] != '/' && i < n; i++)
			folder = from->target[i] == '/' ? i + 1 : folder;
		len = snprintf(whole, sizeof whole, "%s//%s%.*s%s", scheme, from->authority, (int)folder,
			       from->target, location);
	}
	/* cut, it might end before the @ that shows what is secret */
	ss_url_redact(len > 0 && (size_t)len < sizeof whole ? whole : "", out, size);
}

/* ---- origins ---- */

int ws_origin_parse(const char *text, char **out, const char **why)
{
	char scheme[32];
	struct ws_url u = {.port = 0};
	size_t n = strcspn(text, ":");
	if (n == 0 || n >= sizeof scheme || strncmp(text + n, "://", 3) != 0)
		return wrong(why, "it must begin with a scheme, as https://");
	for (size_t i = 0; i <= n; i++)
		scheme[i] = i < n ? (char)tolower((unsigned char)text[i]) : '\0';
	const char *authority = text + n + 3;
	size_t len = strcspn(authority, "/?#");
	const char *rest = authority + len;
	if (rest[0] && strcmp(rest, "/") != 0)
		return wrong(why, "it ends behind host and port");
	bool https = strcmp(scheme, "https") == 0;
	if (!https && strcmp(scheme, "http") != 0) { /* of extensions and the like: no host as others */
		if (len == 0)
			return wrong(why, "the host is missing");
		return asprintf(out, "%s://%.*s", scheme, (int)len, authority) < 0 ? -ENOMEM : 0;
	}
	u.port = https ? 443 : 80;
	int rc = take_authority(&u, authority, len, why);
	if (rc < 0)
		return rc;
	if (u.zone[0])
		return wrong(why, "its address has no zone");
	write_authority(&u, https ? 443 : 80);
	return asprintf(out, "%s://%s", scheme, u.authority) < 0 ? -ENOMEM : 0;
}
