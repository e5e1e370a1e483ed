/* SPDX-License-Identifier: MIT */
/*
 * ws - an endpoint: its libwebsockets context, its clock and the dispatch of what libwebsockets tells.  On
 * the component's loop.
 */
#include "ws_internal.h"

#include <errno.h>
#include <netdb.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop-libev.h>
#include <semstreams/ext/tls.h>

_Static_assert(WS_PRE >= LWS_PRE, "WS_PRE is too small for libwebsockets");

/* libwebsockets' log has no argument: lines go to the endpoint opened last on this thread. */
static _Thread_local const struct ss_host *log_host;

static void on_lws_log(int level, const char *line)
{
	(void)level;
	if (log_host)
		ss_log(log_host, SS_LOG_DEBUG, "libwebsockets: %.*s", (int)strcspn(line, "\n"), line);
}

uint64_t ws_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

void ws_touched(struct ws *ws)
{
	((const struct ss_loop_libev *)ws->libev.vtbl)->touched(ws->libev.self);
}

void ws_socket_options(const struct ws *ws, int fd)
{
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (ws->limits.dead_ns) {
		/* the kernel gives up on a peer that acknowledges nothing, even while reading is paused */
		unsigned int ms = (unsigned int)(ws->limits.dead_ns / 1000000);
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
	}
}

static void fail(struct ws *ws, uint32_t n, const char *fmt, va_list ap)
{
	char text[640];
	if (ws->freeing)
		return;
	vsnprintf(text, sizeof text, fmt, ap);
	ws->events.failed(ws->arg, n, text);
	ws_touched(ws);
}

void ws_failed(struct ws *ws, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fail(ws, 1, fmt, ap);
	va_end(ap);
}

void ws_failed_n(struct ws *ws, uint32_t n, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fail(ws, n, fmt, ap);
	va_end(ap);
}

/* ---- what libwebsockets tells ---- */

/* A listener's connection is raw to libwebsockets, which does the TLS and the writing. */
static int on_server(struct ws_conn *c, enum lws_callback_reasons reason, void *in, size_t len)
{
	switch (reason) {
	case LWS_CALLBACK_RAW_RX:
		return ws_http_received(c, in, len);
	case LWS_CALLBACK_RAW_WRITEABLE:
		return ws_conn_writable(c);
	case LWS_CALLBACK_RAW_CLOSE:
		ws_http_gone(c);
		ws_conn_closed(c);
		return 0;
	default:
		return 0;
	}
}

static void on_gone(struct ws *ws, struct ws_conn *c)
{
	ws_conn_closed(c);
	if (ws->birth == c)
		ws->birth = NULL;
	if (ws->dial)
		ws_client_gone(ws, c);
	ws_conn_free(c);
}

static int on_connection(struct ws *ws, struct ws_conn *c, enum lws_callback_reasons reason, void *in,
			 size_t len)
{
	switch (reason) {
	case LWS_CALLBACK_ESTABLISHED_CLIENT_HTTP:
		return ws_client_answered(c);
	case LWS_CALLBACK_RECEIVE_CLIENT_HTTP_READ:
		return ws_conn_append(c, in, len, WS_EARLY_MAX) ? 0 : -1;
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		if (c->killed)
			return -1;
		ws_client_established(c);
		return 0;
	case LWS_CALLBACK_CLIENT_RECEIVE:
		ws_conn_received(c, in, len);
		return 0;
	case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
		ws_conn_pong(c, in, len);
		return 0;
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		return ws_conn_peer_close(c, in, len);
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		return ws_conn_writable(c);
	case LWS_CALLBACK_CLIENT_CLOSED:
		ws_conn_closed(c);
		return 0;
	case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
		return ws_client_request(c, in, len);
	case LWS_CALLBACK_CLIENT_FILTER_PRE_ESTABLISH:
		return ws_client_check(c);
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		ws_client_error(c, in);
		return 0;
	case LWS_CALLBACK_WSI_CREATE:
		ws_socket_options(ws, lws_get_socket_fd(c->wsi));
		return 0;
	case LWS_CALLBACK_WSI_DESTROY:
		on_gone(ws, c);
		return 0;
	default:
		return on_server(c, reason, in, len);
	}
}

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	(void)user;
	struct ws *ws;
	struct ws_conn *c;
	switch (reason) {
	case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS:
		ws = lws_context_user(lws_get_context(wsi));
		return ws_tls_furnish(ws->tls, user) < 0;
	case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_CLIENT_VERIFY_CERTS:
	case LWS_CALLBACK_PROTOCOL_INIT:
	case LWS_CALLBACK_PROTOCOL_DESTROY:
	case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
	case LWS_CALLBACK_GET_THREAD_ID:
	case LWS_CALLBACK_ADD_POLL_FD:
	case LWS_CALLBACK_DEL_POLL_FD:
	case LWS_CALLBACK_CHANGE_MODE_POLL_FD:
	case LWS_CALLBACK_LOCK_POLL:
	case LWS_CALLBACK_UNLOCK_POLL:
		return 0; /* not about a connection: wsi may be none */
	default:
		ws = lws_context_user(lws_get_context(wsi));
		c = lws_get_opaque_user_data(wsi);
		if (!c)
			return 0;
		c->wsi = wsi;
		return on_connection(ws, c, reason, in, len);
	}
}

/* ---- clock ---- */

/*
 * All limits in time are checked here.  It also wakes libwebsockets: on libev its own timers fire only when
 * something else happens.
 */
static void on_tick(struct ev_loop *loop, struct ev_timer *timer, int revents)
{
	(void)loop, (void)revents;
	struct ws *ws = timer->data;
	uint64_t now = ws_now();
	for (struct ws_conn *c = ws->conns; c; c = c->next)
		ws_conn_tick(c, now);
	if (ws->dial)
		ws_client_tick(ws);
	else
		ws_server_tick(ws);
	lws_cancel_service(ws->cx);
}

static void smaller(uint64_t *least, uint64_t limit)
{
	if (limit && limit < *least)
		*least = limit;
}

/* A fourth of the shortest limit, between 10 ms and half a second; in seconds. */
static double tick_every(const struct ws_limits *limits)
{
	uint64_t least = 2 * SECOND;
	smaller(&least, limits->handshake_ns);
	smaller(&least, limits->ping_ns);
	smaller(&least, limits->dead_ns);
	smaller(&least, limits->close_ns);
	least /= 4;
	if (least < SECOND / 100)
		least = SECOND / 100;
	return (double)least / 1e9;
}

/* ---- life ---- */

static int strdup_list(const char *const *from, char ***to)
{
	size_t n = 0;
	while (from && from[n])
		n++;
	*to = calloc(n + 1, sizeof **to);
	for (size_t i = 0; *to && i < n; i++)
		if (!((*to)[i] = strdup(from[i])))
			return -ENOMEM;
	return *to ? 0 : -ENOMEM;
}

static void free_list(char **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

static int take_options(struct ws *ws, const struct ws_options *o)
{
	ws->limits = o->limits;
	ws->port = o->port;
	ws->rx_buffer = o->rx_buffer ? o->rx_buffer : WS_RX_LISTENER;
	ws->bind = strdup(o->bind ? o->bind : "");
	ws->path = strdup(o->path && o->path[0] ? o->path : "/");
	int rc = strdup_list(o->subprotocols, &ws->subprotocols);
	ws->origins = o->allowed_origins;
	if (o->stream && !(ws->stream = strdup(o->stream)))
		rc = -ENOMEM;
	return ws->bind && ws->path ? rc : -ENOMEM;
}

uint64_t ws_descriptors(const struct ws_limits *limits)
{
	uint64_t half = limits->max_handshakes ? limits->max_handshakes : limits->max_clients;
	return limits->max_clients + 4 * half + ws_waiting_max(limits) + WS_LEAVING_MAX + WS_CLOSING_MAX;
}

/* libwebsockets looks descriptors up in a table of RLIMIT_NOFILE entries; the few of a dialer are cheaper to
 * search.  A listener may be allowed more clients later. */
static unsigned int fd_limit(bool dials)
{
	struct rlimit limit;
	if (!dials || getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur <= 16384)
		return 0;
	return 24;
}

static int make_context(struct ws *ws, bool dials)
{
	lws_set_log_level(LLL_ERR | LLL_WARN, on_lws_log);
	log_host = ws->host;
	void *loops[1] = {ws->loop};
	struct lws_context_creation_info info = {
		.foreign_loops = loops,
		.options = LWS_SERVER_OPTION_LIBEV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
		.uid = (uid_t)-1,
		.gid = (gid_t)-1,
		.user = ws,
		.fd_limit_per_thread = fd_limit(dials),
		.max_http_header_data = 8192,
		.max_http_header_pool = 8, /* a dialer's: a listener reads requests itself */
		.pt_serv_buf_size = WS_RX_DIALER + 2048,
		.timeout_secs = WS_SAFETY_S,
	};
	errno = 0;
	ws->cx = lws_create_context(&info);
	if (ws->cx)
		return 0;
	if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
		int rc = -errno;
		ss_log(ws->host, SS_LOG_ERROR,
		       "libwebsockets does not start; see the limits of open files (RLIMIT_NOFILE) and of "
		       "memory "
		       "error=\"%s\"",
		       strerror(-rc));
		return rc;
	}
	ss_log(ws->host, SS_LOG_ERROR,
	       "libwebsockets does not start; its libev plugin may be missing (on Debian: "
	       "libwebsockets-evlib-ev)");
	return -EIO;
}

void ws_vhost_info(struct ws *ws, struct lws_context_creation_info *info)
{
	/* libwebsockets' own pings are off: 0 s */
	static const lws_retry_bo_t no_pings;
	*info = (struct lws_context_creation_info){
		.options = LWS_SERVER_OPTION_LIBEV,
		.protocols = ws->protocols,
		.alpn = "http/1.1",
		.retry_and_idle_policy = &no_pings,
		.http_proxy_address = ":0", /* else $http_proxy is taken */
		.timeout_secs_ah_idle = WS_SAFETY_S,
		.connect_timeout_secs = WS_SAFETY_S,
		.keepalive_timeout = 5,
	};
	if (ws->tls) /* on the vhost only: on a context it breaks the handshakes of other contexts */
		info->options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS;
}

int ws_open(const struct ss_host *host, const struct ws_options *options, const struct ws_events *events,
	    void *arg, struct ws **out)
{
	struct ws *ws = calloc(1, sizeof *ws);
	if (!ws)
		return -ENOMEM;
	ws->host = host;
	ws->events = *events;
	ws->arg = arg;
	TAILQ_INIT(&ws->waiting);
	ws->protocols[0] = (struct lws_protocols){.name = WS_PROTOCOL,
						  .callback = on_lws,
						  .rx_buffer_size = WS_RX_DIALER,
						  .tx_packet_size = WS_TX_MAX};
	int rc = host->query(host, SS_LOOP_LIBEV, sizeof(struct ss_loop_libev), &ws->libev);
	if (rc == 0) {
		ws->loop = ((const struct ss_loop_libev *)ws->libev.vtbl)->ev_loop(ws->libev.self);
		rc = take_options(ws, options);
	}
	if (rc < 0)
		ss_log(host, SS_LOG_ERROR, "WebSocket endpoint: %s", strerror(-rc));
	else
		rc = make_context(ws, options->url);
	if (rc == 0)
		rc = options->url ? ws_client_open(ws, options) : 0;
	if (rc == 0 && !options->url && options->tls &&
	    options->tls->enabled(options->tls_self, SS_TLS_SERVER))
		rc = ws_server_tls(ws, options);
	if (rc == 0 && !options->url)
		rc = ws_server_open(ws);
	if (rc < 0) {
		ws_free(ws);
		return rc;
	}
	double every = tick_every(&ws->limits);
	ev_timer_init(&ws->tick, on_tick, every, every);
	ws->tick.data = ws;
	ev_timer_start(ws->loop, &ws->tick);
	*out = ws;
	return 0;
}

void ws_reconfigure(struct ws *ws, const struct ws_options *options)
{
	const bool dies_sooner = options->limits.dead_ns < ws->limits.dead_ns;
	const size_t max_message = ws->limits.max_message;
	ws->limits = options->limits;
	ws->limits.max_message = max_message;
	ws->origins = options->allowed_origins;
	if (ws->dial)
		ws_client_reconfigure(ws, options);
	for (struct ws_conn *c = ws->conns; c; c = c->next)
		ws_conn_reconfigured(c, dies_sooner);
	ws->tick.repeat = tick_every(&ws->limits);
	ev_timer_again(ws->loop, &ws->tick);
}

void ws_close_all(struct ws *ws, int code, const char *reason)
{
	if (!ws)
		return;
	ws->stopping = true;
	if (ws->dial)
		ws_client_stop(ws);
	else
		ws_server_stop(ws);
	for (struct ws_conn *c = ws->conns; c; c = c->next) {
		if (c->state == WS_OPEN)
			ws_close(c, code, reason);
		else if (c->state != WS_CLOSING)
			ws_conn_kill(c);
	}
}

void ws_free(struct ws *ws)
{
	if (!ws)
		return;
	ws_close_all(ws, WS_GOING_AWAY, "shutting down");
	ws->freeing = true;
	for (struct ws_conn *c = ws->conns; c; c = c->next)
		ws_conn_last_word(c);
	if (ev_is_active(&ws->tick))
		ev_timer_stop(ws->loop, &ws->tick);
	if (ws->cx)
		lws_context_destroy(ws->cx); /* ends every connection */
	while (ws->conns) {
		ws_conn_closed(ws->conns);
		ws_conn_free(ws->conns);
	}
	ws_client_free(ws);
	ws_tls_free(ws->tls);
	if (log_host == ws->host)
		log_host = NULL;
	free_list(ws->subprotocols);
	free(ws->spare);
	free(ws->bind);
	free(ws->path);
	free(ws->stream);
	free(ws);
}

uint16_t ws_port(const struct ws *ws)
{
	return ws->port;
}

void ws_address(const struct ws_conn *c, char out[WS_ADDRESS_MAX])
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	char address[INET6_ADDRSTRLEN + 1 + IF_NAMESIZE], port[8];
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&sa;

	out[0] = '\0';
	if (!c->wsi || getpeername(lws_get_socket_fd(c->wsi), (struct sockaddr *)&sa, &len) < 0 ||
	    getnameinfo((struct sockaddr *)&sa, len, address, sizeof address, port, sizeof port,
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return;
	/* an IPv4 peer at a socket for both looks the same as at one for IPv4 */
	const bool mapped = sa.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
	const char *text = mapped ? strrchr(address, ':') + 1 : address;
	snprintf(out, WS_ADDRESS_MAX, strchr(text, ':') ? "[%s]:%s" : "%s:%s", text, port);
}
