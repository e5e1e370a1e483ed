/* SPDX-License-Identifier: MIT */
/* ws_request - see ws_request.h. */
#include "ws_request.h"

#include <string.h>
#include <strings.h>

static const char *const names[WS_FIELDS] = {
	[WS_FIELD_HOST] = "Host",
	[WS_FIELD_ORIGIN] = "Origin",
	[WS_FIELD_KEY] = "Sec-WebSocket-Key",
	[WS_FIELD_STREAM] = "Semstreams-Stream",
	[WS_FIELD_VERSION] = "Sec-WebSocket-Version",
	[WS_FIELD_LENGTH] = "Content-Length",
	[WS_FIELD_CODING] = "Transfer-Encoding",
	[WS_FIELD_UPGRADE] = "Upgrade",
	[WS_FIELD_CONNECTION] = "Connection",
	[WS_FIELD_PROTOCOL] = "Sec-WebSocket-Protocol",
};

enum { BAD_REQUEST = 400, NOT_THIS_VERSION = 505 };

static int bad(const char **why, const char *text)
{
	*why = text;
	return BAD_REQUEST;
}

static bool is_token(char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* How many bytes are allowed, from the first. */
static size_t span(const char *at, size_t len, bool (*allowed)(char))
{
	size_t n = 0;
	while (n < len && allowed(at[n]))
		n++;
	return n;
}

/* Blanks, printable characters, and bytes beyond ASCII, which mean nothing. */
static bool is_content(char c)
{
	return c == '\t' || ((unsigned char)c >= ' ' && c != 0x7f);
}

static bool equals(struct ws_text t, const char *name)
{
	return strlen(name) == t.len && strncasecmp(t.at, name, t.len) == 0;
}

bool ws_text_is(struct ws_text t, const char *text)
{
	return t.at && strlen(text) == t.len && memcmp(t.at, text, t.len) == 0;
}

/* ---- its end ---- */

/* Empty lines in front of a request are skipped. */
static size_t blank_lines(const char *data, size_t len)
{
	size_t n = 0;
	while (n < len && (data[n] == '\n' || (data[n] == '\r' && n + 1 < len && data[n + 1] == '\n')))
		n++;
	return n;
}

size_t ws_request_end(const char *data, size_t len, size_t *looked)
{
	size_t begin = blank_lines(data, len), i = *looked > begin ? *looked : begin;
	for (; i < len; i++) {
		if (data[i] != '\n' && data[i] != '\r' && !is_content(data[i]))
			return i + 1;
		if (data[i] == '\r' && i + 1 == len)
			break;
		if (data[i] == '\r' && data[i + 1] != '\n')
			return i + 1;
		if (data[i] != '\n')
			continue;
		size_t before = i - (i > begin && data[i - 1] == '\r');
		if (before > begin && data[before - 1] == '\n')
			return i + 1;
	}
	*looked = i;
	return 0;
}

/* ---- its lines ---- */

/* The next line without its end; false: there is none. */
static bool next_line(struct ws_text *rest, struct ws_text *line)
{
	const char *end = memchr(rest->at, '\n', rest->len);
	if (!end)
		return false;
	size_t n = (size_t)(end - rest->at);
	*line = (struct ws_text){.at = rest->at, .len = n - (n && end[-1] == '\r')};
	rest->at += n + 1;
	rest->len -= n + 1;
	return true;
}

static struct ws_text trimmed(const char *at, size_t len)
{
	while (len && (*at == ' ' || *at == '\t')) {
		at++;
		len--;
	}
	while (len && (at[len - 1] == ' ' || at[len - 1] == '\t'))
		len--;
	return (struct ws_text){.at = at, .len = len};
}

/* The field of a line; name is empty if it has none. */
static struct ws_text split(struct ws_text line, struct ws_text *value)
{
	size_t n = span(line.at, line.len, is_token);
	if (n == line.len || line.at[n] != ':')
		return (struct ws_text){.at = line.at};
	*value = trimmed(line.at + n + 1, line.len - n - 1);
	return (struct ws_text){.at = line.at, .len = n};
}

static int take_field(struct ws_request *r, struct ws_text line, const char **why)
{
	struct ws_text value, name = split(line, &value);
	if (name.len == 0)
		return bad(why, "a line of the header is no field");
	for (int i = 0; i < WS_FIELDS; i++) {
		if (!equals(name, names[i]))
			continue;
		if (r->fields[i].at && i <= WS_FIELD_LENGTH)
			return bad(why, "a field of the header stands there twice");
		if (!r->fields[i].at)
			r->fields[i] = value;
	}
	return 0;
}

/* ---- its target ---- */

static bool is_scheme(const char *at, size_t len)
{
	static const char *const schemes[] = {"http", "https", "ws", "wss"};
	for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
		if (equals((struct ws_text){.at = at, .len = len}, schemes[i]))
			return true;
	return false;
}

static bool is_in_name(char c)
{
	return is_token(c) || (c && strchr("(),;=", c));
}

static bool is_in_address(char c)
{
	return is_token(c) || c == ':';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* RFC 9110, section 7.2: a name or an address, and maybe a port. */
static bool is_host(const char *at, size_t len)
{
	size_t n;
	if (len && at[0] == '[') {
		n = 1 + span(at + 1, len - 1, is_in_address);
		if (n == len || at[n++] != ']')
			return false;
	} else {
		n = span(at, len, is_in_name);
	}
	if (n < len && at[n++] != ':')
		return false;
	return n + span(at + n, len - n, is_digit) == len;
}

/* A path, or a URL: proxies write it, and servers have to take it. */
static int take_target(struct ws_request *r, struct ws_text t, const char **why)
{
	const char *colon = memchr(t.at, ':', t.len);
	size_t scheme = colon ? (size_t)(colon - t.at) : 0;
	if (scheme && t.len > scheme + 3 && memcmp(colon, "://", 3) == 0 && is_scheme(t.at, scheme)) {
		const char *host = colon + 3, *end = t.at + t.len;
		const char *p = host;
		while (p < end && *p != '/' && *p != '?')
			p++;
		if (p == host || !is_host(host, (size_t)(p - host)))
			return bad(why, "the URL in the request line has no host");
		t = (struct ws_text){.at = p, .len = (size_t)(end - p)};
		if (!t.len || *t.at == '?')
			t = (struct ws_text){.at = "/", .len = 1};
	} else if (*t.at == '?' || *t.at == '#') {
		return bad(why, "the request line asks for no path, which begins with a slash");
	}
	const char *query = memchr(t.at, '?', t.len);
	r->path = (struct ws_text){.at = t.at, .len = query ? (size_t)(query - t.at) : t.len};
	if (memchr(r->path.at, '#', r->path.len))
		return bad(why, "the request line has a fragment (#), which clients keep to themselves");
	return 0;
}

/* ---- all of it ---- */

static int take_request_line(struct ws_request *r, struct ws_text line, const char **why)
{
	size_t n = span(line.at, line.len, is_token), end;
	r->method = (struct ws_text){.at = line.at, .len = n};
	for (end = n + 1; end < line.len && line.at[end] > ' ' && line.at[end] < 0x7f;)
		end++;
	if (n == 0 || n + 1 >= end || line.at[n] != ' ' || end + 9 != line.len ||
	    memcmp(line.at + end, " HTTP/", 6) != 0 || line.at[end + 7] != '.')
		return bad(why, "what came is no HTTP request");
	const char *version = line.at + end + 6;
	if (version[0] != '1' || version[2] < '0' || version[2] > '9') {
		*why = "the request is of another version than HTTP/1.1";
		return NOT_THIS_VERSION;
	}
	r->minor = version[2] - '0';
	return take_target(r, (struct ws_text){.at = line.at + n + 1, .len = end - n - 1}, why);
}

int ws_request_parse(const char *head, size_t len, struct ws_request *r, const char **why)
{
	size_t blank = blank_lines(head, len);
	struct ws_text rest = {.at = head + blank, .len = len - blank}, line;
	*r = (struct ws_request){0};
	if (rest.len == 0 || rest.at[rest.len - 1] != '\n')
		return bad(why, rest.len && rest.at[0] == 0x16 ? "a TLS handshake came to a port without TLS"
							       : "what came is no HTTP request");
	if (!next_line(&rest, &line))
		return bad(why, "what came is no HTTP request");
	int rc = take_request_line(r, line, why);
	r->lines = rest;
	while (rc == 0 && next_line(&rest, &line) && line.len)
		rc = take_field(r, line, why);
	if (rc)
		return rc;
	struct ws_text host = r->fields[WS_FIELD_HOST], length = r->fields[WS_FIELD_LENGTH];
	r->body = r->fields[WS_FIELD_CODING].at || (length.at && !ws_text_is(length, "0"));
	if (!host.at && r->minor > 0)
		return bad(why, "the request has no Host");
	if (host.at && !is_host(host.at, host.len))
		return bad(why, "the Host of the request is none");
	return 0;
}

/* ---- lists ---- */

/* The next element of a value, which is left with what follows; without text at its end. */
static struct ws_text next_element(struct ws_text *value)
{
	struct ws_text element = {0};
	while (value->len && !element.len) {
		const char *comma = memchr(value->at, ',', value->len);
		size_t n = comma ? (size_t)(comma - value->at) : value->len;
		element = trimmed(value->at, n);
		n += comma != NULL;
		value->at += n;
		value->len -= n;
	}
	return element;
}

bool ws_request_lists(const struct ws_request *r, enum ws_field field, const char *name)
{
	struct ws_text rest = r->lines, line, value, element;
	while (next_line(&rest, &line) && line.len) {
		if (!equals(split(line, &value), names[field]))
			continue;
		while ((element = next_element(&value)).len)
			if (equals(element, name))
				return true;
	}
	return false;
}

/* ---- paths ---- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum { ENCODED_SLASH = 256 };

/* The next byte of a path, decoded. */
static int next_byte(const char **at, const char *end)
{
	const char *p = *at;
	if (*p == '%' && end - p > 2 && hex(p[1]) >= 0 && hex(p[2]) >= 0) {
		int byte = hex(p[1]) << 4 | hex(p[2]);
		*at += 3;
		return byte == '/' ? ENCODED_SLASH : byte;
	}
	*at += 1;
	return (unsigned char)*p;
}

bool ws_path_is(struct ws_text path, const char *want)
{
	const char *p = path.at, *end = p + path.len, *want_end = want + strlen(want);
	while (p < end && want < want_end)
		if (next_byte(&p, end) != next_byte(&want, want_end))
			return false;
	return p == end && want == want_end;
}
