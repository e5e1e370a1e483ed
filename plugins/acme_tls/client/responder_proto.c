/* SPDX-License-Identifier: MIT */
/* responder_proto - reads requests of HTTP/1.x as hostile bytes and writes the answers.  Pure, any thread. */
#include "responder_proto.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char *const token_letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

struct span {
	const char *at;
	size_t len;
};

static bool is(struct span s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.at, text, s.len) == 0;
}

/* What is before the first c, which is dropped too; all if there is none. */
static struct span cut(struct span *from, char c)
{
	const char *end = from->len ? memchr(from->at, c, from->len) : NULL;
	struct span got = {from->at, end ? (size_t)(end - from->at) : from->len};
	size_t used = got.len + (end != NULL);

	from->at += used;
	from->len -= used;
	return got;
}

/* A line without its end, CR LF or LF alone. */
static struct span cut_line(struct span *from)
{
	struct span line = cut(from, '\n');

	if (line.len && line.at[line.len - 1] == '\r')
		line.len--;
	return line;
}

/* "http://host" in front of a path is allowed to any client (RFC 9112 section 3.2.2). */
static struct span path_of(struct span target)
{
	static const char scheme[] = "http://";
	const size_t n = sizeof scheme - 1;

	if (target.len <= n || strncasecmp(target.at, scheme, n) != 0)
		return target;
	const char *path = memchr(target.at + n, '/', target.len - n);
	return path ? (struct span){path, target.len - (size_t)(path - target.at)}
		    : (struct span){target.at, 0};
}

static struct span token_of(struct span path)
{
	static const char prefix[] = "/.well-known/acme-challenge/";
	const size_t n = sizeof prefix - 1;
	const struct span none = {NULL, 0};

	if (path.len <= n || path.len > n + RESPONDER_TOKEN_MAX || memcmp(path.at, prefix, n) != 0)
		return none;
	for (size_t i = n; i < path.len; i++)
		if (!path.at[i] || !strchr(token_letters, path.at[i]))
			return none;
	return (struct span){path.at + n, path.len - n};
}

static int read_request_line(struct span line, struct responder_request *out)
{
	struct span method = cut(&line, ' '), target = cut(&line, ' ');

	/* what is left is the version; two blanks in a row end up there too */
	if (method.len == 0 || target.len == 0 || !(is(line, "HTTP/1.1") || is(line, "HTTP/1.0")))
		return 400;
	if (!is(method, "GET") && !is(method, "HEAD"))
		return 404;
	struct span token = token_of(path_of(target));
	out->head = is(method, "HEAD");
	out->token = token.at;
	out->token_len = token.len;
	return token.at ? 200 : 404;
}

int responder_request(const char *data, size_t len, struct responder_request *out)
{
	struct span text = {data, len < RESPONDER_REQUEST_MAX ? len : RESPONDER_REQUEST_MAX},
		    line = {data, 0};
	struct span rest;

	*out = (struct responder_request){0};
	/* empty lines in front are no request (RFC 9112 section 2.2) */
	while (line.len == 0 && memchr(text.at, '\n', text.len))
		line = cut_line(&text);
	bool whole = false;
	for (rest = text; line.len && !whole && rest.len && memchr(rest.at, '\n', rest.len);)
		whole = cut_line(&rest).len == 0;
	if (!whole)
		return len < RESPONDER_REQUEST_MAX ? 0 : 431;
	if (memchr(data, 0, (size_t)(rest.at - data)))
		return 400;
	return read_request_line(line, out);
}

int responder_reply(int status, const char *body, bool head, char out[RESPONDER_REPLY_MAX])
{
	const char *reason = status == 200   ? "OK"
			     : status == 404 ? "Not Found"
			     : status == 431 ? "Request Header Fields Too Large"
					     : "Bad Request";
	int n = snprintf(out, RESPONDER_REPLY_MAX,
			 "HTTP/1.1 %d %s\r\n"
			 "Content-Type: text/plain\r\n"
			 "Content-Length: %zu\r\n"
			 "Cache-Control: no-store\r\n"
			 "X-Content-Type-Options: nosniff\r\n"
			 "Connection: close\r\n"
			 "\r\n"
			 "%s",
			 status, reason, strlen(body), head ? "" : body);

	return n > 0 && n < RESPONDER_REPLY_MAX ? n : -EINVAL;
}
