/* SPDX-License-Identifier: MIT */
/*
 * ws_server - a listener.  The sockets are our own and accepted connections are handed to libwebsockets, so
 * that a port in use is told as such and too many clients are turned away before anything is spent on them.
 * Clients that TLS refuses are left time to hear why.
 */
#include "ws_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/tls.h>

#define ACCEPT_AT_ONCE 64
#define BACKLOG        512
#define LINGER_MAX     16 /* at once; others are closed as they are */
#define LINGER_NS      SECOND
#define LINGER_BYTES   (64u << 10)
#define EVICTED_NS     (10 * SECOND)

static void refused(void *arg, const char *why)
{
	ws_failed(arg, "%s", why);
}

/* Say once that there is a certificate, and whose, when clients can connect. */
static void announce(struct ws *ws)
{
	const struct ss_tls *tls = ws->identity.vtbl;
	if (ws->announced || ws->n_listeners == 0)
		return;
	const struct ss_tls_material *m = tls->acquire(ws->identity.self, SS_TLS_SERVER);
	if (m && m->chain_pem) {
		const char *source = SS_KNOWS(m, struct ss_tls_material, source) ? m->source : NULL;
		ss_log(ws->host, SS_LOG_INFO, "TLS server started with %s certificate port=%u",
		       source ? source : "a", ws->port);
		ws->announced = true;
	}
	tls->release(ws->identity.self, m);
}

/* ---- refused by TLS ---- */

/*
 * A client of TLS 1.3 takes the handshake for done and writes its request before it hears that it is refused.
 * At a closed socket that makes the kernel send a reset, and the client tells of that instead of the alert.
 * So what it sends is read a little longer, through a descriptor of our own: libwebsockets closes its own at
 * once.
 */
struct ws_linger {
	struct ev_io io; /* first */
	struct ws *ws;
	struct ws_linger *next, **link;
	uint64_t deadline_ns;
	size_t bytes;
};

static void linger_end(struct ws_linger *l)
{
	ev_io_stop(l->ws->loop, &l->io);
	close(l->io.fd);
	*l->link = l->next;
	if (l->next)
		l->next->link = l->link;
	l->ws->n_lingering--;
	free(l);
}

/* Read and forget: true if more may come. */
static bool discard(int fd, size_t *bytes)
{
	char buf[4096];
	ssize_t n = 0;
	while (*bytes < LINGER_BYTES && (n = recv(fd, buf, sizeof buf, MSG_DONTWAIT)) > 0)
		*bytes += (size_t)n;
	return *bytes < LINGER_BYTES && n < 0 && (errno == EAGAIN || errno == EINTR);
}

static void on_linger(struct ev_loop *loop, struct ev_io *io, int revents)
{
	(void)loop, (void)revents;
	struct ws_linger *l = (struct ws_linger *)io;
	if (!discard(io->fd, &l->bytes))
		linger_end(l);
}

static void alerted(void *arg, int fd)
{
	struct ws *ws = arg;
	size_t bytes = 0;
	/* also where there is no room to linger, what lies unread at the close would make a reset of it */
	bool more = discard(fd, &bytes);
	shutdown(fd, SHUT_WR);
	if (!more || ws->n_lingering >= LINGER_MAX || ws->stopping)
		return;
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	struct ws_linger *l = own < 0 ? NULL : calloc(1, sizeof *l);
	if (!l) {
		if (own >= 0)
			close(own);
		return;
	}
	*l = (struct ws_linger){.ws = ws,
				.next = ws->lingering,
				.link = &ws->lingering,
				.deadline_ns = ws_now() + LINGER_NS,
				.bytes = bytes};
	if (l->next)
		l->next->link = &l->next;
	ws->lingering = l;
	ws->n_lingering++;
	ev_io_init(&l->io, on_linger, own, EV_READ);
	ev_set_priority(&l->io, WS_IO_PRIORITY);
	ev_io_start(ws->loop, &l->io);
}

static void linger_tick(struct ws *ws, uint64_t now)
{
	for (struct ws_linger *l = ws->lingering, *next; l; l = next) {
		next = l->next;
		if (now >= l->deadline_ns)
			linger_end(l);
	}
}

static void identity_changed(void *arg)
{
	announce(arg);
	ws_recheck(arg);
	ws_touched(arg);
}

int ws_server_tls(struct ws *ws, const struct ws_options *options)
{
	ws->identity = (struct ss_iface){.vtbl = options->tls, .self = options->tls_self};
	struct ws_tls_options o = {.host = ws->host,
				   .api = options->tls,
				   .self = options->tls_self,
				   .role = SS_TLS_SERVER,
				   .failed = refused,
				   .alerted = alerted,
				   .changed = identity_changed,
				   .arg = ws};
	return ws_tls_new(&o, &ws->tls);
}

/* ---- connections whose handshake is not finished ---- */

void ws_half_remove(struct ws_conn *c)
{
	struct ws *ws = c->ws;
	if (!c->half)
		return;
	c->half = false;
	*(c->half_older ? &c->half_older->half_newer : &ws->half_oldest) = c->half_newer;
	*(c->half_newer ? &c->half_newer->half_older : &ws->half_newest) = c->half_older;
	ws->n_half--;
}

static void evict(struct ws_conn *c)
{
	struct ws *ws = c->ws;
	ws_half_remove(c);
	if (ws->tls && lws_get_ssl(c->wsi))
		ws_tls_ignore(lws_get_ssl(c->wsi));
	c->state = WS_ANSWERED;
	ws_conn_kill(c);
	c->evicted = true;
	ws->n_leaving++;
	ws->n_evicted++;
}

/* They have no name yet, so whoever opens many of them must not keep others out: the oldest give way. */
static void add_half(struct ws_conn *c)
{
	struct ws *ws = c->ws;
	struct ws_conn *oldest = NULL;
	uint32_t same = 0;
	for (struct ws_conn *h = ws->half_newest; h; h = h->half_older) {
		if (strcmp(h->address, c->address) == 0) {
			same++;
			oldest = h;
		}
	}
	if (ws->limits.max_address_handshakes && same >= ws->limits.max_address_handshakes)
		evict(oldest);
	else if (ws->limits.max_handshakes && ws->n_half >= ws->limits.max_handshakes)
		evict(ws->half_oldest);
	c->half = true;
	c->half_older = ws->half_newest;
	*(c->half_older ? &c->half_older->half_newer : &ws->half_oldest) = c;
	ws->half_newest = c;
	ws->n_half++;
}

/* One line for many of them. */
static void report_evicted(struct ws *ws, uint64_t now)
{
	if (!ws->n_evicted || now - ws->evicted_ns < EVICTED_NS)
		return;
	ws_failed_n(
		ws, ws->n_evicted,
		"%u connections did not finish their handshake and gave way to newer ones (max_handshakes "
		"%u, max_address_handshakes %u)",
		ws->n_evicted, ws->limits.max_handshakes, ws->limits.max_address_handshakes);
	ws->n_evicted = 0;
	ws->evicted_ns = now;
}

/* ---- accepting ---- */

/* The descriptor is libwebsockets' from here on. */
static void adopt(struct ws *ws, int fd, const struct sockaddr_storage *from)
{
	struct ws_conn *c = ws_conn_new(ws);
	if (!c) {
		close(fd);
		return;
	}
	getnameinfo((const struct sockaddr *)from, sizeof *from, c->address, sizeof c->address, NULL, 0,
		    NI_NUMERICHOST);
	add_half(c);
	if (ws->tls)
		ws_tls_refresh(ws->tls);
	lws_adopt_desc_t desc = {.vh = ws->server,
				 .type = LWS_ADOPT_SOCKET | LWS_ADOPT_ALLOW_SSL,
				 .fd.sockfd = fd,
				 .opaque = c};
	ws->birth = c;
	struct lws *wsi = lws_adopt_descriptor_vhost_via_info(&desc);
	if (wsi && ws->birth == c)
		c->wsi = wsi;
	if (!wsi && ws->birth == c)
		ws_conn_free(c);
	ws->birth = NULL;
}

static bool out_of_resources(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void stop_accepting(struct ws_listener *l)
{
	ev_io_stop(l->ws->loop, &l->io);
	l->on = false;
}

/* Those that gave way have memory until libwebsockets has ended them: newcomers wait in the kernel meanwhile.
 */
static void on_accept(struct ev_loop *loop, struct ev_io *io, int revents)
{
	(void)loop, (void)revents;
	struct ws_listener *l = (struct ws_listener *)io;
	struct ws *ws = l->ws;
	for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
		if (ws->n_leaving >= WS_LEAVING_MAX) {
			stop_accepting(l);
			return;
		}
		struct sockaddr_storage from;
		socklen_t len = sizeof from;
		int fd = accept4(io->fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && out_of_resources(errno)) {
			/* the tick tries again: a queue that cannot be emptied would keep the loop busy */
			ws_failed(ws, "cannot accept connections: %s", strerror(errno));
			stop_accepting(l);
			return;
		}
		if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (fd < 0)
			continue;
		if (ws_is_full(ws)) {
			close(fd);
			ws_failed(ws, "connection refused: %u clients are connected already (max_clients)",
				  ws->limits.max_clients);
			continue;
		}
		ws_socket_options(ws, fd);
		adopt(ws, fd, &from);
	}
}

static void accept_again(struct ws *ws)
{
	for (uint32_t i = 0; i < ws->n_listeners; i++) {
		struct ws_listener *l = &ws->listeners[i];
		if (!l->on)
			ev_io_start(ws->loop, &l->io);
		l->on = true;
	}
}

void ws_server_left(struct ws_conn *c)
{
	if (c->evicted && --c->ws->n_leaving < WS_LEAVING_MAX / 2)
		accept_again(c->ws);
}

void ws_server_tick(struct ws *ws)
{
	linger_tick(ws, ws_now());
	report_evicted(ws, ws_now());
	accept_again(ws);
}

void ws_server_stop(struct ws *ws)
{
	for (uint32_t i = 0; i < ws->n_listeners; i++) {
		ev_io_stop(ws->loop, &ws->listeners[i].io);
		close(ws->listeners[i].io.fd);
	}
	ws->n_listeners = 0;
	linger_tick(ws, UINT64_MAX);
}

/* ---- listening ---- */

static uint16_t port_of(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return 0;
	return ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
					      : ((struct sockaddr_in *)&sa)->sin_port);
}

/* A listening socket, or -errno. */
static int listen_on(const struct addrinfo *a, bool all)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a->ai_addr;
	bool mapped = a->ai_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
	int one = 1, only = !all && !mapped;
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if ((a->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) < 0) ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
	    bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
		int error = errno;
		close(fd);
		return -error;
	}
	return fd;
}

static int add_listener(struct ws *ws, const struct addrinfo *a, bool all)
{
	int fd = listen_on(a, all);
	if (fd < 0)
		return fd;
	struct ws_listener *l = &ws->listeners[ws->n_listeners++];
	l->ws = ws;
	l->on = true;
	ev_io_init(&l->io, on_accept, fd, EV_READ);
	ev_set_priority(&l->io, WS_IO_PRIORITY);
	ev_io_start(ws->loop, &l->io);
	ws->port = port_of(fd);
	return 0;
}

/* "" is every address of both families, by one socket if the kernel has IPv6. */
static int listen_all(struct ws *ws, const char *bind_to)
{
	char port[8];
	snprintf(port, sizeof port, "%u", ws->port);
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				 .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *list;
	bool all = !bind_to[0];
	int rc = getaddrinfo(all ? "::" : bind_to, port, &hints, &list);
	if (rc) {
		ss_log(ws->host, SS_LOG_ERROR, "cannot listen on \"%s\": bind must be an IP address",
		       bind_to);
		return -EINVAL;
	}
	rc = add_listener(ws, list, all);
	freeaddrinfo(list);
	if (all && rc == -EAFNOSUPPORT && getaddrinfo("0.0.0.0", port, &hints, &list) == 0) {
		rc = add_listener(ws, list, false);
		freeaddrinfo(list);
	}
	if (rc < 0)
		ss_log(ws->host, SS_LOG_ERROR, "cannot listen on %s%sport %u: %s", bind_to, all ? "" : " ",
		       ws->port, strerror(-rc));
	return rc;
}

int ws_server_open(struct ws *ws)
{
	struct lws_context_creation_info info;
	ws_vhost_info(ws, &info);
	info.port = CONTEXT_PORT_NO_LISTEN_SERVER;
	info.vhost_name = "listener";
	if (ws->tls)
		info.options |= LWS_SERVER_OPTION_CREATE_VHOST_SSL_CTX;
	ws->server = lws_create_vhost(ws->cx, &info);
	if (!ws->server)
		return -EIO; /* the reason has been logged */
	int rc = listen_all(ws, ws->bind);
	if (rc == 0 && ws->tls)
		announce(ws);
	return rc;
}
