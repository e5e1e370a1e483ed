/* SPDX-License-Identifier: MIT */
/*
 * responder - what both challenges' responders do alike: connections come, are stepped, time out and go;
 * answers are added and removed; and the plain one, http-01: a token's key authorization at its path, 404
 * elsewhere.  Anybody may call with hostile bytes, so everything is bounded.  In the loop's thread.
 * libmicrohttpd is not used: it can neither close the oldest connection when there are too many nor limit the
 * time of a whole request, only the time between two bytes.
 */
#include "responder.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include "plugins/identity/key.h"

enum {
	BACKLOG = 64,
	CONNS_MAX = 64,
	ACCEPTS_AT_ONCE = 16,
	DISCARD_MAX = 64 * 1024, /* bytes read to no purpose behind the end of an answer */
	KEY_AUTHORIZATION_MAX = 512,
};
static const ev_tstamp step_s = 5;  /* to say what is wanted; to take the answer */
static const ev_tstamp pause_s = 1; /* without file descriptors */

/* ---- answers ---- */

static void free_answer(const struct responder *r, struct answer *a)
{
	if (a->credentials)
		r->kind->unmake(a);
	free(a->name);
	free(a->token);
	free(a->key_authorization);
	free(a);
}

static bool drop_answer(struct responder *r, const char *name, const char *token)
{
	for (struct answer *a = r->answers; a; a = a->next)
		if (!a->removed && strcasecmp(a->name, name) == 0 && strcmp(a->token, token) == 0)
			return a->removed = true;
	return false;
}

static bool has_answers(const struct responder *r)
{
	for (const struct answer *a = r->answers; a; a = a->next)
		if (!a->removed)
			return true;
	return false;
}

/* ---- connections ---- */

static void close_conn(struct conn *c)
{
	struct responder *r = c->responder;
	int fd = c->io.fd;
	ev_io_stop(r->o.loop, &c->io);
	ev_timer_stop(r->o.loop, &c->deadline);
	*(c->prev ? &c->prev->next : &r->oldest) = c->next;
	*(c->next ? &c->next->prev : &r->newest) = c->prev;
	r->n_conns--;
	if (r->kind->close)
		r->kind->close(c);
	close(fd);
	free(c);
}

static void watch(struct conn *c, int events)
{
	struct ev_loop *loop = c->responder->o.loop;
	if (c->io.events == events && ev_is_active(&c->io))
		return;
	ev_io_stop(loop, &c->io);
	ev_io_set(&c->io, c->io.fd, events);
	ev_io_start(loop, &c->io);
}

/* All is said: what the peer still sends is read, since closing on unread bytes resets the connection, and
 * the answer with it. */
static void linger(struct conn *c)
{
	char scrap[4096];
	ssize_t n = recv(c->io.fd, scrap, sizeof scrap, 0);
	if (n > 0)
		c->discarded += (size_t)n;
	if (n == 0 || c->discarded > DISCARD_MAX || (n < 0 && errno != EAGAIN && errno != EINTR))
		close_conn(c);
}

static void enter(struct conn *c, enum conn_next next)
{
	bool was_reading = c->state == CONN_READ;
	c->state = next;
	switch (next) {
	case CONN_CLOSE:
		close_conn(c);
		return;
	case CONN_LINGER:
		shutdown(c->io.fd, SHUT_WR);
		if (was_reading)
			ev_timer_again(c->responder->o.loop, &c->deadline);
		watch(c, EV_READ);
		linger(c);
		return;
	case CONN_WRITE:
		watch(c, EV_WRITE);
		return;
	case CONN_READ:
		watch(c, EV_READ);
	}
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
	struct conn *c = io->data;
	struct responder *r = c->responder;
	(void)events;
	if (c->state == CONN_LINGER) {
		linger(c);
		return;
	}
	enum conn_next next = r->kind->step(c, io->fd);
	/* the owner may remove answers in there, which closes connections without one */
	if (c->answer && !c->told) {
		c->told = true;
		ev_timer_again(loop, &c->deadline);
		if (r->o.asked)
			r->o.asked(r->o.arg, r->kind->by_token ? c->answer->token : c->answer->name, c->peer);
	}
	enter(c, next);
}

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	close_conn(timer->data);
}

static void write_peer(const struct sockaddr_storage *address, socklen_t len, char *out, size_t size)
{
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
	if (address->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
		inet_ntop(AF_INET, &six->sin6_addr.s6_addr[12], out, (socklen_t)size);
	else if (getnameinfo((const struct sockaddr *)address, len, out, (socklen_t)size, NULL, 0,
			     NI_NUMERICHOST))
		snprintf(out, size, "unknown");
}

/* Whoever has waited longest without asking, else the oldest. */
static void make_room(struct responder *r)
{
	struct conn *c = r->oldest;
	while (c && c->answer)
		c = c->next;
	close_conn(c ? c : r->oldest);
}

static void add_conn(struct responder *r, int fd, const struct sockaddr_storage *address, socklen_t len)
{
	struct conn *c = calloc(1, r->kind->conn_size);
	int on = 1;
	if (!c || (r->kind->open && r->kind->open(c, fd))) {
		free(c);
		close(fd);
		return;
	}
	c->responder = r;
	c->prev = r->newest;
	*(c->prev ? &c->prev->next : &r->oldest) = c;
	r->newest = c;
	r->n_conns++;
	write_peer(address, len, c->peer, sizeof c->peer);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	ev_io_init(&c->io, on_io, fd, EV_READ);
	c->io.data = c;
	ev_timer_init(&c->deadline, on_deadline, 0, step_s);
	c->deadline.data = c;
	ev_timer_again(r->o.loop, &c->deadline);
	enter(c, CONN_READ);
}

static void on_accept(struct ev_loop *loop, ev_io *io, int events)
{
	struct responder *r = io->data;
	(void)events;
	for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
		struct sockaddr_storage address;
		socklen_t len = sizeof address;
		int fd = accept4(io->fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			if (r->n_conns == CONNS_MAX)
				make_room(r);
			add_conn(r, fd, &address, len);
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM)
			continue; /* that one connection is gone */
		if (r->n_conns) {
			make_room(r);
			continue;
		}
		ev_io_stop(loop, io);
		ev_timer_set(&r->pause, pause_s, 0);
		ev_timer_start(loop, &r->pause);
		return;
	}
}

static void on_pause_over(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct responder *r = timer->data;
	(void)events;
	ev_io_start(loop, &r->listener);
}

/* ---- the port ---- */

static void explain(const struct responder *r, int error, char *why, size_t why_size)
{
	unsigned ca_port = r->kind->ca_port;
	const char *address = r->o.address;
	char place[160];
	snprintf(place, sizeof place, "port %u%s%s", r->o.port, *address ? " of " : "", address);
	if (error == EINVAL)
		snprintf(why, why_size, "challenge_address \"%s\" is not an IPv4 or IPv6 address", address);
	else if (error == EADDRINUSE)
		snprintf(why, why_size,
			 "%s is in use by another program: stop it (ss -ltnp shows which it is), or set "
			 "challenge_port to a port that port %u is forwarded to",
			 place, ca_port);
	else if ((error == EACCES || error == EPERM) && r->o.port < 1024)
		snprintf(why, why_size,
			 "binding %s needs CAP_NET_BIND_SERVICE or root: give it (AmbientCapabilities= in a "
			 "systemd unit), or set challenge_port to a port from 1024 up that port %u is "
			 "forwarded to",
			 place, ca_port);
	else if (error == EADDRNOTAVAIL || error == EAFNOSUPPORT)
		snprintf(why, why_size,
			 "%s cannot be bound, as this machine %s: correct challenge_address, or leave it out "
			 "for all addresses",
			 place,
			 error == EAFNOSUPPORT ? "does not support this kind of address"
					       : "has no such address (ip address lists them)");
	else
		snprintf(why, why_size, "%s cannot be bound: %s", place, strerror(error));
}

/* A socket that listens; -EINVAL: not an address; -errno. */
static int listen_at(const char *address, uint16_t port)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				       .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *found;
	char service[8];
	int on = 1, off = 0, rc = 0;
	snprintf(service, sizeof service, "%u", port);
	if (getaddrinfo(address, service, &hints, &found))
		return -EINVAL;
	int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0) {
		/* connections of the last challenge may still be in TIME_WAIT */
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		if (found->ai_family == AF_INET6)
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	}
	if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) || listen(fd, BACKLOG)) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
	}
	freeaddrinfo(found);
	return rc ? rc : fd;
}

/* A socket that listens; -errno with a sentence in why. */
static int listen_socket(const struct responder *r, char *why, size_t why_size)
{
	int fd = listen_at(*r->o.address ? r->o.address : "::", r->o.port);
	if (!*r->o.address && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)) /* no IPv6 here */
		fd = listen_at("0.0.0.0", r->o.port);
	if (fd < 0)
		explain(r, -fd, why, why_size);
	return fd;
}

/* ---- the responder ---- */

int responder_new(const struct responder_options *o, struct responder **out)
{
	struct responder *r = calloc(1, sizeof *r);
	if (!r)
		return -ENOMEM;
	r->kind = o->alpn ? &responder_alpn : &responder_http;
	r->o = *o;
	ev_io_init(&r->listener, on_accept, -1, EV_READ);
	r->listener.data = r;
	ev_timer_init(&r->pause, on_pause_over, 0, 0);
	r->pause.data = r;
	*out = r;
	return 0;
}

static void stop_listening(struct responder *r)
{
	if (r->listener.fd < 0)
		return;
	ev_io_stop(r->o.loop, &r->listener);
	ev_timer_stop(r->o.loop, &r->pause);
	close(r->listener.fd);
	ev_io_set(&r->listener, -1, EV_READ);
	r->port = 0;
}

static int start_listening(struct responder *r, char *why, size_t why_size)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof address;
	if (r->listener.fd >= 0)
		return 0;
	int fd = listen_socket(r, why, why_size);
	if (fd < 0)
		return fd;
	if (getsockname(fd, (struct sockaddr *)&address, &len) == 0)
		r->port = ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
							      : ((struct sockaddr_in *)&address)->sin_port);
	ev_io_set(&r->listener, fd, EV_READ);
	ev_io_start(r->o.loop, &r->listener);
	return 0;
}

int responder_add(struct responder *r, const char *name, const char *token, const char *key_authorization,
		  char *why, size_t why_size)
{
	int rc = -ENOMEM;
	if (strlen(key_authorization) > KEY_AUTHORIZATION_MAX) {
		snprintf(why, why_size, "the key authorization for %s is too long", name);
		return -EINVAL;
	}
	struct answer *a = calloc(1, sizeof *a);
	snprintf(why, why_size, "out of memory");
	if (!a)
		return -ENOMEM;
	a->name = strdup(name);
	a->token = strdup(token ? token : "");
	a->key_authorization = strdup(key_authorization);
	if (!a->name || !a->token || !a->key_authorization)
		goto out;
	rc = r->kind->make ? r->kind->make(a, why, why_size) : 0;
	if (rc == 0)
		rc = start_listening(r, why, why_size);
	if (rc)
		goto out;
	drop_answer(r, name, a->token);
	a->next = r->answers;
	r->answers = a;
	if (why_size)
		*why = 0;
	return 0;
out:
	free_answer(r, a);
	return rc;
}

void responder_remove(struct responder *r, const char *name, const char *token)
{
	if (!drop_answer(r, name, token ? token : "") || has_answers(r))
		return;
	stop_listening(r);
	for (struct conn *c = r->oldest, *next; c; c = next) {
		next = c->next;
		if (!c->answer && c->state != CONN_LINGER)
			close_conn(c);
	}
}

uint16_t responder_port(const struct responder *r)
{
	return r->port;
}

void responder_free(struct responder *r)
{
	if (!r)
		return;
	stop_listening(r);
	while (r->oldest)
		close_conn(r->oldest);
	while (r->answers) {
		struct answer *a = r->answers;
		r->answers = a->next;
		free_answer(r, a);
	}
	free(r);
}

/* ---- http-01: requests and replies as bytes.  Pure ---- */

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
	if (token_len == 0 || token_len > JWS_TOKEN_MAX || target[token_len] != ' ')
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

/* ---- http-01: connections ---- */

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
