/* SPDX-License-Identifier: MIT */
/*
 * ws_client - a dialer: keeps one connection up, trying again after random pauses that grow.  Names are
 * looked up in a thread of their own, because libwebsockets would stop the loop for it.
 */
#include "ws_internal.h"
#include "ws_retry.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/tls.h>
#include <semstreams/base/job.h>
#include <semstreams/base/url.h>

#define BUSY_NS (5 * SECOND) /* after a close that says to come later, not when */

/* Owned by the loop and by the thread; the last frees it. */
struct ws_resolver {
	pthread_mutex_t lock;
	struct ev_loop *loop; /* NULL: nobody waits any more */
	struct ev_async *wake;
	char host[WS_URL_HOST_MAX + 1];
	bool done;
	int error; /* EAI_... */
	struct sockaddr_storage addresses[WS_ADDRESSES];
	uint32_t n;
	int owners;
};

static void dial(struct ws *ws);

/* ---- pauses ---- */

static uint64_t random_below(uint64_t limit)
{
	uint64_t r = 0;
	if (limit == 0 || getrandom(&r, sizeof r, 0) != sizeof r)
		return limit / 2;
	return r % limit;
}

static void start_timer(struct ws *ws, uint64_t ns)
{
	struct ws_dial *d = ws->dial;
	ev_timer_stop(ws->loop, &d->timer);
	ev_now_update(ws->loop);
	ev_timer_set(&d->timer, (double)ns / 1e9, 0);
	ev_timer_start(ws->loop, &d->timer);
}

/* A hint is a lower limit, and all to whom it was given come spread over as much time again. */
static uint64_t spread(uint64_t hint_ns)
{
	return hint_ns ? hint_ns + random_below(hint_ns) : 0;
}

/* Full jitter: anything up to a limit that doubles with each failure; a peer's hint goes first, once. */
static void dial_later(struct ws *ws)
{
	struct ws_dial *d = ws->dial;
	if (ws->stopping)
		return;
	uint64_t now = ws_now(), limit = d->retry_min_ns;
	for (uint32_t i = 0; i < d->attempt && limit < d->retry_max_ns; i++)
		limit *= 2;
	if (limit > d->retry_max_ns)
		limit = d->retry_max_ns;
	uint64_t wait = random_below(limit + 1);
	if (d->hinted)
		wait = d->not_before_ns > now ? d->not_before_ns - now : 0;
	d->hinted = false;
	if (d->attempt < UINT32_MAX)
		d->attempt++;
	start_timer(ws, wait);
}

void ws_retry_after(struct ws *ws, uint64_t delay_ns)
{
	struct ws_dial *d = ws->dial;
	if (!d || ws->stopping)
		return;
	delay_ns = spread(delay_ns);
	d->hinted = true;
	d->not_before_ns = ws_now() + delay_ns;
	if (!d->conn && !d->resolver && ev_is_active(&d->timer)) {
		d->hinted = false;
		start_timer(ws, delay_ns);
	}
}

static void dial_failed(struct ws *ws, const char *why)
{
	ws_failed(ws, "%s", why);
	dial_later(ws);
}

/* ---- names ---- */

static void resolver_release(struct ws_resolver *r)
{
	pthread_mutex_lock(&r->lock);
	int left = --r->owners;
	pthread_mutex_unlock(&r->lock);
	if (left)
		return;
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* A dot at the end keeps the DNS from adding domains, but /etc/hosts does not have it. */
static int look_up(const char *host, struct addrinfo **list)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	char bare[WS_URL_HOST_MAX + 1];
	size_t len = strlen(host);

	int error = getaddrinfo(host, NULL, &hints, list);
	if (error != EAI_NONAME || len < 2 || len > WS_URL_HOST_MAX || host[len - 1] != '.')
		return error;
	memcpy(bare, host, len - 1);
	bare[len - 1] = '\0';
	return getaddrinfo(bare, NULL, &hints, list);
}

static void *resolve(void *arg)
{
	struct ws_resolver *r = arg;
	struct addrinfo *list = NULL;
	int error = look_up(r->host, &list);
	pthread_mutex_lock(&r->lock);
	for (struct addrinfo *a = list; a && r->n < WS_ADDRESSES; a = a->ai_next)
		memcpy(&r->addresses[r->n++], a->ai_addr, a->ai_addrlen);
	r->error = error;
	r->done = true;
	if (r->loop)
		ev_async_send(r->loop, r->wake);
	pthread_mutex_unlock(&r->lock);
	if (list)
		freeaddrinfo(list);
	resolver_release(r);
	return NULL;
}

static int start_thread(struct ws_resolver *r)
{
	pthread_t thread;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	int rc = ss_thread_start(&thread, &attr, resolve, r);
	pthread_attr_destroy(&attr);
	return rc;
}

static int resolver_start(struct ws *ws)
{
	struct ws_dial *d = ws->dial;
	struct ws_resolver *r = calloc(1, sizeof *r);
	if (!r)
		return -ENOMEM;
	pthread_mutex_init(&r->lock, NULL);
	r->loop = ws->loop;
	r->wake = &d->resolved;
	r->owners = 2;
	snprintf(r->host, sizeof r->host, "%s", d->url.host);
	int rc = start_thread(r);
	if (rc < 0) {
		r->owners = 1;
		resolver_release(r);
		return rc;
	}
	d->resolver = r;
	return 0;
}

static void resolver_abandon(struct ws_dial *d)
{
	struct ws_resolver *r = d->resolver;
	if (!r)
		return;
	d->resolver = NULL;
	pthread_mutex_lock(&r->lock);
	r->loop = NULL;
	pthread_mutex_unlock(&r->lock);
	resolver_release(r);
}

static void on_resolved(struct ev_loop *loop, struct ev_async *async, int revents)
{
	(void)loop, (void)revents;
	struct ws *ws = async->data;
	struct ws_dial *d = ws->dial;
	struct ws_resolver *r = d->resolver;
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	bool done = r->done;
	int error = r->error;
	d->n_addresses = r->n;
	memcpy(d->addresses, r->addresses, sizeof d->addresses);
	pthread_mutex_unlock(&r->lock);
	if (!done)
		return;
	resolver_abandon(d);
	d->at = 0;
	if (ws->stopping)
		return;
	if (d->n_addresses == 0) {
		char why[256];
		snprintf(why, sizeof why, "cannot resolve %s: %s", d->url.host,
			 error ? gai_strerror(error) : "no address");
		dial_failed(ws, why);
		return;
	}
	dial(ws);
}

/* Is the host an address already?  1, 0, or -ENODEV for the zone of an interface that is not there. */
static int take_address(struct ws_dial *d)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&d->addresses[0];
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&d->addresses[0];
	memset(&d->addresses[0], 0, sizeof d->addresses[0]);
	if (inet_pton(AF_INET, d->url.host, &v4->sin_addr) == 1)
		v4->sin_family = AF_INET;
	else if (inet_pton(AF_INET6, d->url.host, &v6->sin6_addr) == 1)
		v6->sin6_family = AF_INET6;
	else
		return 0;
	d->n_addresses = 1;
	d->at = 0;
	if (!d->url.zone[0])
		return 1;
	v6->sin6_scope_id = if_nametoindex(d->url.zone);
	return v6->sin6_scope_id ? 1 : -ENODEV;
}

/* ---- identities ---- */

static void forget_vhost(struct ws_vhost **at)
{
	struct ws_vhost *v = *at;
	*at = v->next;
	if (v->lws)
		lws_vhost_destroy(v->lws);
	ws_tls_ctx_free(v->ctx);
	free(v);
}

/* Old identities nobody uses any more; never called by libwebsockets. */
static void forget_old(struct ws *ws)
{
	struct ws_dial *d = ws->dial;
	for (struct ws_vhost **at = d->vhosts ? &d->vhosts->next : NULL; at && *at;) {
		if ((*at)->conns == 0)
			forget_vhost(at);
		else
			at = &(*at)->next;
	}
}

/* The vhost of the newest identity; NULL with the reason logged. */
static struct ws_vhost *newest_vhost(struct ws *ws)
{
	struct ws_dial *d = ws->dial;
	struct lws_context_creation_info info;
	if (d->vhosts && !(ws->tls && ws_tls_stale(ws->tls)))
		return d->vhosts;
	struct ws_vhost *v = calloc(1, sizeof *v);
	if (!v)
		return NULL;
	snprintf(v->name, sizeof v->name, "dialer%u", d->n_vhosts++);
	ws_vhost_info(ws, &info);
	info.port = CONTEXT_PORT_NO_LISTEN;
	info.vhost_name = v->name;
	if (ws->tls) {
		v->ctx = ws_tls_client_ctx(ws->tls);
		info.provided_client_ssl_ctx = v->ctx;
	}
	if (!ws->tls || v->ctx)
		v->lws = lws_create_vhost(ws->cx, &info);
	if (!v->lws) {
		ws_tls_ctx_free(v->ctx);
		free(v);
		/* with broken new material the old is better than nothing */
		return d->vhosts;
	}
	v->next = d->vhosts;
	d->vhosts = v;
	return v;
}

static void refused(void *arg, const char *why)
{
	ws_failed(arg, "%s", why);
}

/* The next dial takes it; one that waits after a failure may work with it. */
static void identity_changed(void *arg)
{
	struct ws *ws = arg;
	struct ws_dial *d = ws->dial;
	if (!d->conn && !d->resolver && !d->hinted && ev_is_active(&d->timer))
		start_timer(ws, 0);
	ws_recheck(ws);
	ws_touched(ws);
}

static int open_tls(struct ws *ws, const struct ws_options *options)
{
	struct ws_tls_options o = {.host = ws->host,
				   .role = SS_TLS_CLIENT,
				   .server_name = ws->dial->url.name,
				   .failed = refused,
				   .changed = identity_changed,
				   .arg = ws};
	if (options->tls && options->tls->enabled(options->tls_self, SS_TLS_CLIENT)) {
		o.api = options->tls;
		o.self = options->tls_self;
	}
	return ws_tls_new(&o, &ws->tls);
}

/* ---- dialling ---- */

static char *join(char *const *names)
{
	size_t size = 1;
	for (char *const *p = names; *p; p++)
		size += strlen(*p) + 2;
	char *text = calloc(1, size), *end = text;
	for (char *const *p = names; text && *p; p++)
		end += sprintf(end, "%s%s", p == names ? "" : ", ", *p);
	return text;
}

static void connect_to(struct ws *ws, struct ws_conn *c, const char *address)
{
	struct ws_dial *d = ws->dial;
	char *offered = ws->subprotocols[0] ? join(ws->subprotocols) : NULL;
	static const lws_retry_bo_t no_pings;
	struct lws_client_connect_info info = {
		.context = ws->cx,
		.vhost = c->vhost->lws,
		.address = address,
		.port = d->url.port,
		.path = d->url.target,
		.host = d->url.authority,
		.protocol = offered,
		.local_protocol_name = WS_PROTOCOL,
		.alpn = "http/1.1",
		.opaque_user_data = c,
		.retry_and_idle_policy = &no_pings,
		/* the name is checked by ws_tls */
		.ssl_connection =
			LCCSCF_HTTP_NO_FOLLOW_REDIRECT |
			(d->url.secure ? LCCSCF_USE_SSL | LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK : 0),
	};
	ws->birth = c;
	struct lws *wsi = lws_client_connect_via_info(&info);
	free(offered);
	if (wsi) {
		if (ws->birth == c)
			c->wsi = wsi;
	} else if (ws->birth == c) {
		ws_client_gone(ws, c);
		ws_conn_free(c);
	}
	ws->birth = NULL;
}

/* Try the next address. */
static void dial(struct ws *ws)
{
	struct ws_dial *d = ws->dial;
	char address[INET6_ADDRSTRLEN + 1 + IF_NAMESIZE];
	const struct sockaddr_storage *sa = &d->addresses[d->at];
	if (getnameinfo((const struct sockaddr *)sa,
			sa->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in),
			address, sizeof address, NULL, 0, NI_NUMERICHOST) != 0)
		address[0] = '\0';
	struct ws_vhost *v = newest_vhost(ws);
	struct ws_conn *c = v ? ws_conn_new(ws) : NULL;
	if (!c) {
		dial_failed(ws, v ? "out of memory" : "no TLS identity to connect with");
		return;
	}
	if (ws->tls)
		ws_tls_dialling(ws->tls);
	c->vhost = v;
	v->conns++;
	d->conn = c;
	connect_to(ws, c, address);
}

static void on_dial(struct ev_loop *loop, struct ev_timer *timer, int revents)
{
	(void)loop, (void)revents;
	struct ws *ws = timer->data;
	struct ws_dial *d = ws->dial;
	if (d->conn || d->resolver || ws->stopping)
		return;
	forget_old(ws);
	if (ws->tls && ws_tls_waits(ws->tls)) { /* identity_changed() does not wait so long */
		start_timer(ws, 60 * SECOND);
		return;
	}
	/* the next of several addresses, or all over again */
	int rc = d->at > 0 ? 1 : take_address(d);
	if (rc > 0) {
		dial(ws);
		return;
	}
	if (rc < 0) {
		char why[WS_URL_SHOWN_MAX + 80];
		snprintf(why, sizeof why,
			 "the zone in the url is no network interface of this host: %s url=%s", d->url.zone,
			 d->url.shown);
		dial_failed(ws, why);
		return;
	}
	rc = resolver_start(ws);
	if (rc < 0)
		dial_failed(ws, strerror(-rc));
}

void ws_client_tick(struct ws *ws)
{
	forget_old(ws);
}

/* ---- how it goes ---- */

static const char *known(struct ws *ws, const char *name, size_t len)
{
	for (char **p = ws->subprotocols; *p; p++)
		if (strlen(*p) == len && memcmp(*p, name, len) == 0)
			return *p;
	return NULL;
}

int ws_client_request(struct ws_conn *c, void *at, size_t room)
{
	const char *stream = c->ws->stream;
	unsigned char **next = at;
	if (!stream || !stream[0])
		return 0;
	return lws_add_http_header_by_name(
		       c->wsi, (const unsigned char *)"Semstreams-Stream:", (const unsigned char *)stream,
		       (int)strlen(stream), next, *next + room)
		       ? -1
		       : 0;
}

int ws_client_check(struct ws_conn *c)
{
	struct ws *ws = c->ws;
	char buf[512], why[512];
	int n = lws_hdr_copy(c->wsi, buf, sizeof buf, WSI_TOKEN_PROTOCOL);
	if (lws_hdr_total_length(c->wsi, WSI_TOKEN_PROTOCOL) > 0) {
		c->subprotocol = n > 0 ? known(ws, buf, (size_t)n) : NULL;
		if (!c->subprotocol) {
			c->subprotocol = "";
			ws_client_error(c, "the server chose a subprotocol that was not offered");
			return -1;
		}
	}
	if (!ws->tls)
		return 0;
	if (!lws_get_ssl(c->wsi) ||
	    ws_tls_check(ws->tls, lws_get_ssl(c->wsi), buf, sizeof buf, why, sizeof why) < 0)
		return -1;
	c->peer = buf[0] ? strdup(buf) : NULL;
	return 0;
}

/*
 * What came behind the answer lies in libwebsockets' buffer.  It would parse that by its own rules, so it is
 * taken as if it were the body of an answer that refuses, which may be read here.
 */
int ws_client_answered(struct ws_conn *c)
{
	size_t before;
	if (LWS_LIBRARY_VERSION_MAJOR >= 5 || lws_http_client_http_response(c->wsi) != 101)
		return 0;
	if (lws_hdr_total_length(c->wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0 ||
	    lws_hdr_total_length(c->wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0) {
		ws_client_error(c, "the server's answer claims to have a body");
		return -1;
	}
	do {
		char *buf = NULL;
		int len = 0;
		before = c->msg_len;
		if (lws_service_adjust_timeout(c->ws->cx, 1, 0) == 0 &&
		    lws_http_client_read(c->wsi, &buf, &len) < 0)
			return -1;
	} while (c->msg_len > before);
	return 0;
}

void ws_client_established(struct ws_conn *c)
{
	uint8_t *early = c->msg;
	size_t len = c->msg_len;
	c->msg = NULL;
	c->msg_len = c->msg_size = 0;
	ws_conn_opened(c, early, len);
	free(early);
}

void ws_client_opened(struct ws_conn *c)
{
	c->ws->dial->at = 0;
	c->ws->dial->hinted = false;
}

/* Nobody but the operator may send a connection elsewhere: the target is named, not followed. */
static void name_redirection(struct ws_conn *c, unsigned int status)
{
	char location[2048], shown[WS_URL_SHOWN_MAX];
	int n = lws_hdr_copy(c->wsi, location, sizeof location, WSI_TOKEN_HTTP_LOCATION);
	if (n > 0)
		ws_url_target_shown(&c->ws->dial->url, location, shown, sizeof shown);
	snprintf(c->reason, sizeof c->reason, "the server answers %u, go to %s: set url to it if it is right",
		 status,
		 n > 0 ? shown
		 : lws_hdr_total_length(c->wsi, WSI_TOKEN_HTTP_LOCATION) > 0
			 ? "a place too long to show"
			 : "another place it does not name");
}

/* Those that come with another place; 304 and the like do not. */
static bool is_redirection(unsigned int status)
{
	return (status >= 300 && status <= 303) || status == 307 || status == 308;
}

/* What a server that is too busy says, in seconds. */
static uint64_t retry_after_s(struct ws_conn *c)
{
	char text[WS_RETRY_TEXT], date[WS_RETRY_TEXT];

	if (lws_hdr_copy(c->wsi, text, sizeof text, WSI_TOKEN_HTTP_RETRY_AFTER) <= 0)
		return 0;
	int n = lws_hdr_copy(c->wsi, date, sizeof date, WSI_TOKEN_HTTP_DATE);
	return ws_retry_seconds(text, n > 0 ? date : NULL, time(NULL));
}

static void turned_away(struct ws_conn *c, unsigned int status)
{
	uint64_t seconds = retry_after_s(c);
	snprintf(c->reason, sizeof c->reason, "the server answers %u instead of upgrading", status);
	if (!seconds)
		return;
	size_t n = strlen(c->reason);
	snprintf(c->reason + n, sizeof c->reason - n, ", and asks to come again after %llu s",
		 (unsigned long long)seconds);
	ws_retry_after(c->ws, seconds * SECOND);
}

void ws_client_error(struct ws_conn *c, const char *what)
{
	if (c->reason[0] || c->state != WS_HANDSHAKE)
		return;
	unsigned int status = c->wsi ? lws_http_client_http_response(c->wsi) : 0;
	if (is_redirection(status))
		name_redirection(c, status);
	else if (status == 503 || status == 429)
		turned_away(c, status);
	else if (status && status != 101)
		snprintf(c->reason, sizeof c->reason, "the server answers %u instead of upgrading", status);
	else if (what && strcmp(what, "Unable to connect") == 0)
		snprintf(c->reason, sizeof c->reason,
			 "connection refused, or no way there: nothing listens at that port, or a firewall "
			 "refuses; start the peer, or correct url");
	else
		snprintf(c->reason, sizeof c->reason, "%s", what ? what : "connection failed");
}

void ws_client_gone(struct ws *ws, const struct ws_conn *c)
{
	struct ws_dial *d = ws->dial;
	if (c->vhost)
		c->vhost->conns--;
	if (d->conn != c)
		return;
	d->conn = NULL;
	if (ws->freeing || ws->stopping)
		return;
	if (c->opened_ns) {
		if (ws_now() - c->opened_ns >= d->stable_ns)
			d->attempt = 0;
		if (c->peer_code == WS_TRY_LATER && !d->hinted)
			ws_retry_after(ws, BUSY_NS < d->retry_max_ns ? BUSY_NS : d->retry_max_ns);
		dial_later(ws);
		return;
	}
	const char *tls = ws->tls ? ws_tls_why(ws->tls) : "";
	char address[INET6_ADDRSTRLEN + 1 + IF_NAMESIZE] = "?", why[1024];
	getnameinfo((const struct sockaddr *)&d->addresses[d->at], sizeof d->addresses[0], address,
		    sizeof address, NULL, 0, NI_NUMERICHOST);
	snprintf(why, sizeof why, "%s url=%s peer=%s",
		 tls[0]         ? tls
		 : c->reason[0] ? c->reason
				: "connection failed",
		 d->url.shown, address);
	if (++d->at < d->n_addresses && !d->hinted) {
		ws_failed(ws, "%s", why);
		start_timer(ws, 0);
		return;
	}
	d->at = 0;
	dial_failed(ws, why);
}

/* ---- life ---- */

static void take_waits(struct ws_dial *d, const struct ws_options *options)
{
	d->retry_min_ns = options->retry_min_ns ? options->retry_min_ns : SECOND / 2;
	d->retry_max_ns = options->retry_max_ns > d->retry_min_ns ? options->retry_max_ns : d->retry_min_ns;
	d->stable_ns = options->stable_ns;
}

/* A wait that is longer than it would be now ends sooner, unless the peer asked for it. */
void ws_client_reconfigure(struct ws *ws, const struct ws_options *options)
{
	struct ws_dial *d = ws->dial;
	take_waits(d, options);
	if (d->conn || d->resolver || !ev_is_active(&d->timer) || ws_now() < d->not_before_ns ||
	    ev_timer_remaining(ws->loop, &d->timer) * 1e9 <= (double)d->retry_max_ns)
		return;
	start_timer(ws, random_below(d->retry_max_ns + 1));
}

int ws_client_open(struct ws *ws, const struct ws_options *options)
{
	struct ws_dial *d = ws->dial = calloc(1, sizeof *d);
	if (!d)
		return -ENOMEM;
	take_waits(d, options);
	ev_timer_init(&d->timer, on_dial, 0, 0);
	d->timer.data = ws;
	ev_async_init(&d->resolved, on_resolved);
	d->resolved.data = ws;
	ev_async_start(ws->loop, &d->resolved);
	const char *why;
	int rc = ws_url_parse(options->url, &d->url, &why);
	if (rc < 0) {
		ss_log(ws->host, SS_LOG_ERROR, "cannot connect, the url is wrong: %s", why);
		return rc;
	}
	ws->port = d->url.port;
	rc = d->url.secure ? open_tls(ws, options) : 0;
	if (rc == 0)
		start_timer(ws, 0);
	return rc;
}

void ws_client_stop(struct ws *ws)
{
	ev_timer_stop(ws->loop, &ws->dial->timer);
	resolver_abandon(ws->dial);
}

void ws_client_free(struct ws *ws)
{
	struct ws_dial *d = ws->dial;
	if (!d)
		return;
	ev_timer_stop(ws->loop, &d->timer);
	ev_async_stop(ws->loop, &d->resolved);
	resolver_abandon(d);
	while (d->vhosts) {
		d->vhosts->lws = NULL; /* went with its context */
		forget_vhost(&d->vhosts);
	}
	free(d);
	ws->dial = NULL;
}
