/* SPDX-License-Identifier: MIT */
/*
 * responder_http - answers http-01: a token's key authorization at its path, 404 elsewhere.  Requests are
 * hostile bytes.  libmicrohttpd is not used here: it can neither close the oldest connection when there are
 * too many nor limit the time of a whole request, only the time between two bytes.
 */
#include "responder.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include "message.h"

/* ---- requests and replies as bytes.  Pure ---- */

static bool skip(const char **text, const char *what)
{
	size_t n = strlen(what);

	if (strncmp(*text, what, n) != 0)
		return false;
	*text += n;
	return true;
}

/* The line ends in LF or CR LF, which is what keeps each step within it. */
static int read_request_line(const char *method, struct responder_request *out)
{
	size_t method_len = strcspn(method, " \r\n");
	const char *target = method + method_len + 1;

	if (method_len == 0 || method[method_len] != ' ')
		return 400;
	/* two blanks in a row end up in front of the version */
	size_t len = strcspn(target, " \r\n");
	const char *version = target + len + 1;
	if (len == 0 || target[len] != ' ' || !(skip(&version, "HTTP/1.1") || skip(&version, "HTTP/1.0")) ||
	    version[*version == '\r'] != '\n')
		return 400;
	out->head = skip(&method, "HEAD ");
	if (!out->head && !skip(&method, "GET "))
		return 404;
	/* "http://host" in front of a path is allowed to any client (RFC 9112 section 3.2.2) */
	if (strncasecmp(target, "http://", 7) == 0)
		target += 7 + strcspn(target + 7, "/ ");
	size_t token_len = skip(&target, "/.well-known/acme-challenge/") ? strspn(target, BASE64URL) : 0;
	if (token_len == 0 || token_len > RESPONDER_TOKEN_MAX || target[token_len] != ' ')
		return 404;
	out->token = target;
	out->token_len = token_len;
	return 200;
}

int responder_request(const char *data, size_t len, struct responder_request *out)
{
	size_t n = len < RESPONDER_REQUEST_MAX ? len : RESPONDER_REQUEST_MAX, at = 0;

	*out = (struct responder_request){0};
	/* empty lines in front are no request (RFC 9112 section 2.2) */
	while (at < n && (data[at] == '\r' || data[at] == '\n'))
		at++;
	const char *crlf = memmem(data + at, n - at, "\n\r\n", 3), *lf = memmem(data + at, n - at, "\n\n", 2);
	const char *end = crlf && (!lf || crlf < lf) ? crlf : lf;
	if (!end)
		return len < RESPONDER_REQUEST_MAX ? 0 : 431;
	if (memchr(data, 0, (size_t)(end - data)))
		return 400;
	return read_request_line(data + at, out);
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
	size_t have; /* bytes of the request */
	char in[RESPONDER_REQUEST_MAX];
};

static struct answer *find(const struct responder *r, const struct responder_request *request)
{
	for (struct answer *a = r->answers; a; a = a->next)
		if (!a->removed && strlen(a->token) == request->token_len &&
		    memcmp(a->token, request->token, request->token_len) == 0)
			return a;
	return NULL;
}

static enum conn_next step(struct conn *base, int fd)
{
	struct http_conn *c = (struct http_conn *)base;
	struct responder_request request;
	char out[RESPONDER_REPLY_MAX];
	ssize_t n = recv(fd, c->in + c->have, sizeof c->in - c->have, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return CONN_READ;
	if (n <= 0)
		return CONN_CLOSE;
	c->have += (size_t)n;
	int status = responder_request(c->in, c->have, &request);
	if (status == 0)
		return CONN_READ;
	const struct answer *a = base->answer = status == 200 ? find(base->responder, &request) : NULL;
	if (!a && status == 200)
		status = 404;
	const char *body = a               ? a->key_authorization
			   : status == 404 ? "there is no such challenge\n"
					   : "not understood\n";
	int len = responder_reply(status, body, request.head, out);
	/* the first bytes of a connection: a socket's buffer takes them all */
	return len > 0 && send(fd, out, (size_t)len, MSG_NOSIGNAL) == len ? CONN_LINGER : CONN_CLOSE;
}

const struct responder_kind responder_http = {
	.conn_size = sizeof(struct http_conn),
	.ca_port = 80,
	.by_token = true,
	.step = step,
};
