/* SPDX-License-Identifier: MIT */
/*
 * responder_http - answers http-01: a token's key authorization at its path, 404 elsewhere.  Requests are
 * hostile bytes.  libmicrohttpd is not used here: it can neither close the oldest connection when there are
 * too many nor limit the time of a whole request, only the time between two bytes.
 */
#include "responder_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

/* ---- requests and replies as bytes.  Pure ---- */

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

/* ---- connections ---- */

struct http_conn {
	struct conn base;
	size_t have;          /* bytes of the request */
	size_t to_send, sent; /* of the answer; none: still reading */
	char in[RESPONDER_REQUEST_MAX], out[RESPONDER_REPLY_MAX];
};

static struct answer *find(const struct responder *r, const struct responder_request *request)
{
	for (struct answer *a = r->answers; a; a = a->next)
		if (!a->removed && strlen(a->token) == request->token_len &&
		    memcmp(a->token, request->token, request->token_len) == 0)
			return a;
	return NULL;
}

/* 0: more bytes are needed */
static int prepare(struct http_conn *c)
{
	struct responder_request request;
	int status = responder_request(c->in, c->have, &request);

	if (status == 0)
		return 0;
	struct answer *a = status == 200 ? find(c->base.responder, &request) : NULL;
	c->base.answer = a;
	if (!a && status == 200)
		status = 404;
	const char *body = a               ? a->key_authorization
			   : status == 404 ? "there is no such challenge\n"
					   : "not understood\n";
	int n = responder_reply(status, body, request.head, c->out);
	if (n < 0)
		return n;
	c->to_send = (size_t)n;
	return 1;
}

static enum conn_next send_out(struct http_conn *c, int fd)
{
	while (c->sent < c->to_send) {
		ssize_t n = send(fd, c->out + c->sent, c->to_send - c->sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? CONN_WRITE : CONN_CLOSE;
		c->sent += (size_t)n;
	}
	return CONN_LINGER;
}

static enum conn_next step(struct conn *base, int fd)
{
	struct http_conn *c = (struct http_conn *)base;

	if (!c->to_send) {
		ssize_t n = recv(fd, c->in + c->have, sizeof c->in - c->have, 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return CONN_READ;
		if (n <= 0)
			return CONN_CLOSE;
		c->have += (size_t)n;
		int rc = prepare(c);
		if (rc <= 0)
			return rc == 0 ? CONN_READ : CONN_CLOSE;
	}
	return send_out(c, fd);
}

const struct responder_kind responder_http = {
	.conn_size = sizeof(struct http_conn),
	.ca_port = 80,
	.by_token = true,
	.step = step,
};
