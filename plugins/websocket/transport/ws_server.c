/* SPDX-License-Identifier: MIT */
/*
 * ws_server - a listener.  The sockets are our own and accepted connections are handed to libwebsockets, so
 * that a port in use is told as such and too many clients at once wait before anything is spent on them.
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
#include <sys/ioctl.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include <semstreams/base/host_name.h>
#include <semstreams/ext/handover.h>
#include <semstreams/ext/tls.h>

#define ACCEPT_AT_ONCE 64
#define PLAIN_AT_ONCE  64
#define TLS_AT_ONCE    4 /* in a turn of the loop: each is milliseconds of computing, and others wait */
#define BACKLOG        4096
#define YOUNG_NS       (SECOND / 20) /* a handshake that takes longer waits for its peer */
#define OLDER_TIMES    4             /* all that are not finished, of those that may be young */
#define OLD_NS         (4 * SECOND)
#define PATIENCE_NS    SECOND /* with one that does not go on, where there is no place for another */
#define DISPLACE_NS    SECOND
#define PACE_NS        (SECOND / 100)
#define LINGER_MAX     16 /* at once; others are closed as they are */
#define LINGER_NS      SECOND
#define LINGER_BYTES   (64u << 10)
#define REPORT_NS      (10 * SECOND)

static void pace(struct ws *, uint64_t ns);
static void accept_again(struct ws *);

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

/* ---- refusals ---- */

void ws_refused(struct ws *ws, enum ws_refusal reason)
{
	ws->refusals[reason].n++;
	ws->events.refused(ws->arg, reason, 1);
}

/* One line for many of them. */
static void report_refusals(struct ws *ws, uint64_t now)
{
	for (int i = 0; i < WS_REFUSALS; i++) {
		struct ws_refusals *r = &ws->refusals[i];
		if (!r->n || (r->told_ns && now - r->told_ns < REPORT_NS))
			continue;
		if (i == WS_REFUSED_FULL)
			ws_failed_n(ws, 0,
				    "%u connections refused: %u clients are connected already (max_clients)",
				    r->n, ws->limits.max_clients);
		else
			ws_failed_n(ws, 0,
				    "%u connections did not finish their handshake and gave way to newer "
				    "ones (max_handshakes %u, max_address_handshakes %u)",
				    r->n, ws->limits.max_handshakes, ws->limits.max_address_handshakes);
		r->n = 0;
		r->told_ns = now;
	}
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
	pace(ws, 0);
}

static void add_half(struct ws_conn *c)
{
	struct ws *ws = c->ws;
	c->half = true;
	c->born_ns = ws_now();
	c->half_older = ws->half_newest;
	*(c->half_older ? &c->half_older->half_newer : &ws->half_oldest) = c;
	ws->half_newest = c;
	ws->n_half++;
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
	ws_refused(ws, WS_REFUSED_HANDSHAKE);
}

/* Is it the peer that keeps it waiting?  What lies unread is not the peer's fault, for a while. */
static bool stalled(const struct ws_conn *c, uint64_t now)
{
	int unread = 0;
	return now - c->born_ns >= OLD_NS ||
	       (c->wsi && ioctl(lws_get_socket_fd(c->wsi), FIONREAD, &unread) == 0 && unread == 0);
}

static uint64_t young_ns(const struct ws *ws)
{
	return ws->tls ? YOUNG_NS : 0;
}

/* The oldest that does not go on. */
static struct ws_conn *oldest_stalled(const struct ws *ws, const char *address)
{
	uint64_t now = ws_now();
	uint64_t patience = ws->tls ? ws->patience_ns : 0;
	for (struct ws_conn *h = ws->half_oldest; h && now - h->born_ns >= patience; h = h->half_newer)
		if ((!address || strcmp(h->address, address) == 0) && stalled(h, now))
			return h;
	return NULL;
}

/*
 * May one more begin, where most may?  Only those that are young count, as the others cost no more than
 * memory, and so do all without TLS; of all there are some times as many, and then the oldest gives way.  Of
 * one address, unless it is NULL.  Each that had to give way makes the patience with the next shorter, each
 * that finishes longer: of many that come back at once all may be slow, and where many stand still they keep
 * nobody waiting.
 */
static bool make_place(struct ws *ws, uint32_t most, const char *address)
{
	uint64_t now = ws_now();
	uint32_t young = 0, all = 0;
	for (const struct ws_conn *h = most ? ws->half_newest : NULL; h; h = h->half_older) {
		bool same = !address || strcmp(h->address, address) == 0;
		all += same;
		young += same && now - h->born_ns < young_ns(ws);
	}
	if (!most || (young < most && all < OLDER_TIMES * most))
		return true;
	struct ws_conn *oldest = young < most ? oldest_stalled(ws, address) : NULL;
	if (!oldest)
		return false;
	evict(oldest);
	ws->patience_ns -= ws->patience_ns / 16;
	if (ws->patience_ns < YOUNG_NS)
		ws->patience_ns = YOUNG_NS;
	return true;
}

void ws_half_finished(struct ws_conn *c)
{
	struct ws *ws = c->ws;
	if (!c->half)
		return;
	ws_half_remove(c);
	ws->patience_ns = 2 * ws->patience_ns < PATIENCE_NS ? 2 * ws->patience_ns : PATIENCE_NS;
}

/* ---- accepting ---- */

/* The descriptor is libwebsockets' from here on. */
static void adopt(struct ws *ws, int fd, const char *address)
{
	struct ws_conn *c = ws_conn_new(ws);
	if (!c) {
		close(fd);
		return;
	}
	snprintf(c->address, sizeof c->address, "%s", address);
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

static void stop_accepting(struct ws_listener *l)
{
	ev_io_stop(l->ws->loop, &l->io);
	l->on = false;
}

/* ---- accepted, and waiting for their handshake ---- */

/*
 * Handshakes cost more than all else that a peer can ask for, so few are made at a time, and the other
 * connections have their turn between them.  Whoever comes meanwhile waits here: the newest is served first,
 * as of many that come at once without meaning well the newest is as likely as any to be the one that does,
 * and waits for the shortest time.
 */
struct ws_waiting {
	TAILQ_ENTRY(ws_waiting) at;
	int fd;
	uint64_t since_ns;
	char address[INET6_ADDRSTRLEN];
};

static void forget_waiting(struct ws *ws, struct ws_waiting *w, bool refused)
{
	TAILQ_REMOVE(&ws->waiting, w, at);
	ws->n_waiting--;
	if (refused) {
		close(w->fd);
		ws_refused(ws, WS_REFUSED_HANDSHAKE);
	}
	free(w);
}

static bool may_start(struct ws *ws)
{
	unsigned int turn = ev_iteration(ws->loop);
	if (ws->turn != turn)
		ws->started = 0;
	ws->turn = turn;
	return ws->n_leaving < WS_LEAVING_MAX && ws->started < (ws->tls ? TLS_AT_ONCE : PLAIN_AT_ONCE);
}

enum { BUSY_ADDRESSES = 16 };
/* Addresses that have as many handshakes as they may, found in one pass. */
struct busy {
	const char *address[BUSY_ADDRESSES];
	unsigned int n;
};

static bool address_has_room(struct ws *ws, const char *address, struct busy *busy)
{
	for (unsigned int i = 0; i < busy->n; i++)
		if (strcmp(busy->address[i], address) == 0)
			return false;
	if (make_place(ws, ws->limits.max_address_handshakes, address))
		return true;
	if (busy->n < BUSY_ADDRESSES)
		busy->address[busy->n++] = address;
	return false;
}

static void start_waiting(struct ws *ws)
{
	struct busy busy = {.n = 0};
	struct ws_waiting *w = TAILQ_FIRST(&ws->waiting), *next;
	for (; w && busy.n < BUSY_ADDRESSES && may_start(ws); w = next) {
		next = TAILQ_NEXT(w, at);
		if (!address_has_room(ws, w->address, &busy))
			continue;
		if (!make_place(ws, ws->limits.max_handshakes, NULL))
			break;
		int fd = w->fd;
		char address[INET6_ADDRSTRLEN];
		memcpy(address, w->address, sizeof address);
		forget_waiting(ws, w, false);
		ws->started++;
		adopt(ws, fd, address);
	}
	/* ws_server_left() does not wait so long */
	pace(ws, may_start(ws) || ws->n_leaving >= WS_LEAVING_MAX ? PACE_NS : 0);
}

static void on_pace(struct ev_loop *loop, struct ev_timer *timer, int revents)
{
	(void)loop, (void)revents;
	struct ws *ws = timer->data;
	start_waiting(ws);
	if (ws->n_waiting < ws_waiting_max(&ws->limits))
		accept_again(ws);
}

/* Look again at those that wait, soon or in this time. */
static void pace(struct ws *ws, uint64_t ns)
{
	if (ws->stopping || !ws->n_waiting)
		return;
	ev_timer_stop(ws->loop, &ws->pace);
	ev_timer_set(&ws->pace, (double)ns / 1e9, 0);
	ev_timer_start(ws->loop, &ws->pace);
}

/* Where there is no room the one that has waited for longest goes, if that was long enough to be served. */
static bool waiting_room(struct ws *ws)
{
	struct ws_waiting *oldest = TAILQ_LAST(&ws->waiting, ws_waiting_list);
	if (ws->n_waiting < ws_waiting_max(&ws->limits))
		return true;
	if (ws_now() - oldest->since_ns < DISPLACE_NS)
		return false;
	forget_waiting(ws, oldest, true);
	return true;
}

static void wait_for_turn(struct ws *ws, int fd, const struct sockaddr_storage *from)
{
	struct ws_waiting *w = malloc(sizeof *w);
	if (!w) {
		close(fd);
		return;
	}
	*w = (struct ws_waiting){.fd = fd, .since_ns = ws_now()};
	getnameinfo((const struct sockaddr *)from, sizeof *from, w->address, sizeof w->address, NULL, 0,
		    NI_NUMERICHOST);
	TAILQ_INSERT_HEAD(&ws->waiting, w, at);
	ws->n_waiting++;
}

/* Who has waited for as long as a handshake may take has gone, or soon will. */
static void waiting_tick(struct ws *ws, uint64_t now)
{
	struct ws_waiting *w;
	uint64_t most = ws->limits.handshake_ns;
	while ((w = TAILQ_LAST(&ws->waiting, ws_waiting_list)) && most && now - w->since_ns >= most)
		forget_waiting(ws, w, true);
}

static bool out_of_resources(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* Those that gave way have memory until libwebsockets has ended them: newcomers wait meanwhile. */
static void on_accept(struct ev_loop *loop, struct ev_io *io, int revents)
{
	(void)loop, (void)revents;
	struct ws_listener *l = (struct ws_listener *)io;
	struct ws *ws = l->ws;
	for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
		if (!waiting_room(ws)) {
			stop_accepting(l);
			break;
		}
		struct sockaddr_storage from;
		socklen_t len = sizeof from;
		int fd = accept4(io->fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && out_of_resources(errno)) {
			/* the tick tries again: a queue that cannot be emptied would keep the loop busy */
			ws_failed(ws, "cannot accept connections: %s", strerror(errno));
			stop_accepting(l);
			break;
		}
		if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (fd < 0)
			continue;
		ws_socket_options(ws, fd);
		wait_for_turn(ws, fd, &from);
	}
	start_waiting(ws);
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
		pace(c->ws, 0);
}

void ws_server_tick(struct ws *ws)
{
	uint64_t now = ws_now();
	linger_tick(ws, now);
	waiting_tick(ws, now);
	report_refusals(ws, now);
	accept_again(ws);
}

/* The name of the port as claimed; false: the kernel chose it. */
static bool name_listener(const struct ws *ws, char *name, size_t size)
{
	snprintf(name, size, "tcp:%s:%u", ws->bind, ws->claimed_port);
	return ws->handover && ws->claimed_port != 0;
}

/* To an instance that listens there next, with who waits to be accepted. */
static bool leave_listener(const struct ws *ws, int fd)
{
	char name[128];
	return name_listener(ws, name, sizeof name) && ws->handover->give(ws->handover_self, name, fd) == 0;
}

static int take_listener(const struct ws *ws)
{
	char name[128];
	return name_listener(ws, name, sizeof name) ? ws->handover->take(ws->handover_self, name) : -ENOENT;
}

void ws_server_stop(struct ws *ws)
{
	for (uint32_t i = 0; i < ws->n_listeners; i++) {
		ev_io_stop(ws->loop, &ws->listeners[i].io);
		if (!leave_listener(ws, ws->listeners[i].io.fd))
			close(ws->listeners[i].io.fd);
	}
	ws->n_listeners = 0;
	ev_timer_stop(ws->loop, &ws->pace);
	while (!TAILQ_EMPTY(&ws->waiting)) {
		close(TAILQ_FIRST(&ws->waiting)->fd);
		forget_waiting(ws, TAILQ_FIRST(&ws->waiting), false);
	}
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
	int fd = take_listener(ws);
	if (fd < 0)
		fd = listen_on(a, all);
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
		ss_log(ws->host, SS_LOG_ERROR, "cannot listen on %s%sport %u: %s%s", bind_to, all ? "" : " ",
		       ws->port, strerror(-rc), ss_bind_remedy(-rc, false));
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
	ev_timer_init(&ws->pace, on_pace, 0, 0);
	ev_set_priority(&ws->pace, WS_IO_PRIORITY);
	ws->pace.data = ws;
	ws->patience_ns = PATIENCE_NS;
	struct ss_iface handover;
	if (ws->host->query(ws->host, SS_HANDOVER, sizeof(struct ss_handover), &handover) == 0) {
		ws->handover = handover.vtbl;
		ws->handover_self = handover.self;
	}
	ws->claimed_port = ws->port;
	int rc = listen_all(ws, ws->bind);
	if (rc == 0 && ws->tls)
		announce(ws);
	return rc;
}
