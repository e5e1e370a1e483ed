/* SPDX-License-Identifier: MIT */
/* responder_http - answers http-01: a token's key authorization at its path, 404 elsewhere.  In the loop's
 * thread. */
#include "responder_impl.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include "responder_proto.h"

struct http_conn {
	struct conn base;
	size_t have;          /* bytes of the request */
	size_t to_send, sent; /* of the answer; none: still reading */
	char in[RESPONDER_REQUEST_MAX], out[RESPONDER_REPLY_MAX];
};

static int open_conn(struct conn *base, int fd)
{
	(void)base;
	(void)fd;
	return 0;
}

static void close_conn(struct conn *base)
{
	(void)base;
}

static struct answer *find(const struct responder *r, const struct responder_request *request)
{
	for (struct answer *a = r->answers; a; a = a->next)
		if (strlen(a->token) == request->token_len &&
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
	if (a)
		c->base.answer = answer_ref(a);
	else if (status == 200)
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

int responder_http_new(const struct responder_options *o, struct responder **out)
{
	static const struct responder_kind kind = {
		.conn_size = sizeof(struct http_conn),
		.ca_port = 80,
		.by_token = true,
		.open = open_conn,
		.step = step,
		.close = close_conn,
	};

	return responder_new(&kind, o, out);
}
