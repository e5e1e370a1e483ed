/* SPDX-License-Identifier: MIT */
/*
 * ws_target - events as messages to a websocket_input, from a plain peer.  Such a peer gets no
 * acknowledgements, but who answers the close frame has read all before it: a run of events is a connection,
 * and has arrived when its end is answered.  The transport finds here what a host gives it: a loop, a log, an
 * identity.
 */
#include "target.h"

#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/plugin.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/utf8.h>
#include <semstreams/ext/loop-libev.h>
#include <semstreams/ext/tls.h>
#include "plugins/websocket/transport/ws.h"
#include "plugins/websocket/transport/ws_url.h"

enum { PEM_MAX = 1 << 20, NORMAL = 1000, NO_STATUS = 1005, TOO_BIG = 1009 };
#define TURN 0.1 /* seconds after which a wait looks at the clock and for signals */

struct ws_target {
	struct target target; /* first */
	struct target_options options;
	struct ss_host host;
	struct ss_loop_libev libev;
	struct ev_loop *loop;
	struct ev_timer turn;
	bool identified; /* there are files for TLS */
	struct ss_tls tls;
	struct ss_tls_material material;
	char *chain, *key, *ca;
	struct ws *ws;        /* NULL: nothing is in doubt */
	struct ws_conn *conn; /* open */
	bool failed;          /* to connect */
	bool closed, answered;
	int code; /* of the receiver's close frame, 0: none came */
};

/* ---- TLS, of which there is one generation ---- */

static int32_t tls_enabled(void *self, uint32_t role)
{
	return role == SS_TLS_CLIENT && ((struct ws_target *)self)->identified;
}

static const struct ss_tls_material *tls_acquire(void *self, uint32_t role)
{
	return tls_enabled(self, role) ? &((struct ws_target *)self)->material : NULL;
}

static void tls_release(void *self, const struct ss_tls_material *m)
{
	(void)self, (void)m;
}

static int32_t tls_watch(void *self, void (*changed)(void *), void *arg)
{
	(void)self, (void)changed, (void)arg;
	return 0;
}

static void tls_unwatch(void *self)
{
	(void)self;
}

static void tls_count_failure(void *self, uint32_t role, int32_t fail)
{
	(void)self, (void)role, (void)fail;
}

/* OpenSSL has verified the chain, and looked for the host among the names. */
static int32_t tls_check_peer(void *self, uint32_t role, const struct ss_der *chain, uint32_t n,
			      int32_t error, const char *host, char *name, size_t name_size, int32_t *fail,
			      char *why, size_t why_size)
{
	static const char *const words[SS_TLS_FAILS] = {
		[SS_TLS_FAIL_NO_CERT] = "it shows none",
		[SS_TLS_FAIL_UNKNOWN_CA] = "it is by a CA that is not trusted here; is its root in --ca?",
		[SS_TLS_FAIL_EXPIRED] = "it has expired",
		[SS_TLS_FAIL_NOT_YET_VALID] = "it is not valid yet; compare the clocks",
		[SS_TLS_FAIL_PURPOSE] = "it is not for servers",
		[SS_TLS_FAIL_NAME] = "it is not for that name; correct --to",
	};
	(void)self, (void)role, (void)chain, (void)n;

	snprintf(name, name_size, "%s", host ? host : "");
	if (error < 0)
		return 0;
	*fail = error;
	snprintf(why, why_size, "certificate of %s refused: %s", host ? host : "the peer",
		 error < SS_TLS_FAILS && words[error] ? words[error] : "it cannot be verified");
	return -EACCES;
}

/* A file of PEM that an option names; NULL is none. */
static int read_pem(const char *option, const char *path, char **out)
{
	const char *name;
	size_t len = 0;
	int dir = path ? ss_open_folder_of(path, &name) : -1;
	int rc = !path ? 0 : dir < 0 ? dir : ss_file_read(dir, name, PEM_MAX, out, &len, NULL);

	if (dir >= 0)
		close(dir);
	if (rc < 0)
		fprintf(stderr, "semstreams replay: cannot read %s %s: %s\n", option, path, strerror(-rc));
	return rc < 0 ? rc : 0;
}

static int read_identity(struct ws_target *t)
{
	const struct target_options *o = &t->options;
	int rc = read_pem("--ca", o->ca, &t->ca);

	if (rc == 0)
		rc = read_pem("--cert", o->cert, &t->chain);
	if (rc == 0)
		rc = read_pem("--key", o->key, &t->key);
	t->identified = o->ca || o->cert;
	t->material = (struct ss_tls_material){.struct_size = sizeof t->material,
					       .role = SS_TLS_CLIENT,
					       .generation = 1,
					       .chain_pem = t->chain,
					       .key_pem = t->key,
					       .ca_pem = t->ca,
					       .min_version = 0x0303,
					       .flags = o->ca ? 0 : SS_TLS_SYSTEM_CA,
					       .source = "--cert"};
	t->tls = (struct ss_tls){.struct_size = sizeof t->tls,
				 .enabled = tls_enabled,
				 .acquire = tls_acquire,
				 .release = tls_release,
				 .watch = tls_watch,
				 .unwatch = tls_unwatch,
				 .check_peer = tls_check_peer,
				 .count_failure = tls_count_failure};
	return rc;
}

/* ---- what the transport asks of a host ---- */

/* Why something failed comes by events; what else is an error keeps the transport from beginning. */
static void host_log(const struct ss_host *host, int32_t level, const char *text)
{
	(void)host;
	if (level <= SS_LOG_ERROR)
		fprintf(stderr, "semstreams replay: %s\n", text);
}

static void *host_loop(void *self)
{
	return ((struct ws_target *)self)->loop;
}

static void host_touched(void *self)
{
	(void)self;
}

static int32_t host_query(const struct ss_host *host, const char *id, uint32_t min_size, struct ss_iface *out)
{
	struct ws_target *t = host->impl;

	if (strcmp(id, SS_LOOP_LIBEV) != 0 || min_size > t->libev.struct_size)
		return -ENOENT;
	*out = (struct ss_iface){&t->libev, t};
	return 0;
}

static void on_turn(struct ev_loop *loop, struct ev_timer *timer, int revents)
{
	(void)loop, (void)timer, (void)revents;
}

/* ---- the connection ---- */

static int on_opened(void *arg, struct ws_conn *conn, const char *subprotocol, const char *peer, void **user)
{
	struct ws_target *t = arg;

	(void)subprotocol, (void)peer, (void)user;
	t->conn = conn;
	return 0;
}

/* A listener that speaks as a plain peer answers envelopes; nothing is asked for here. */
static void on_message(void *arg, struct ws_conn *conn, void *user, bool binary, const uint8_t *data,
		       size_t len)
{
	(void)arg, (void)conn, (void)user, (void)binary, (void)data, (void)len;
}

static void on_writable(void *arg, struct ws_conn *conn, void *user)
{
	(void)arg, (void)conn, (void)user;
}

static void on_closed(void *arg, struct ws_conn *conn, void *user, int code, bool by_peer, const char *why)
{
	struct ws_target *t = arg;

	(void)user;
	t->closed = true;
	t->conn = NULL;
	t->code = ws_peer_code(conn);
	t->answered = !by_peer && (t->code == NORMAL || t->code == NO_STATUS);
	if (by_peer)
		snprintf(t->target.why, sizeof t->target.why,
			 "the connection was closed by the receiver, code %d%s%s", code, *why ? ": " : "",
			 why);
}

static void on_failed(void *arg, uint32_t n, const char *why)
{
	struct ws_target *t = arg;

	(void)n;
	t->failed = true;
	snprintf(t->target.why, sizeof t->target.why, "%s", why);
}

static int open_connection(struct ws_target *t)
{
	static const char *const none[] = {NULL};
	static const struct ws_events events = {.opened = on_opened,
						.message = on_message,
						.writable = on_writable,
						.closed = on_closed,
						.failed = on_failed};
	const uint64_t timeout = (uint64_t)t->options.timeout_ns;
	const struct ws_options options = {.url = t->options.url,
					   .retry_min_ns = timeout, /* the first failure is the last */
					   .retry_max_ns = timeout,
					   .stable_ns = timeout,
					   .subprotocols = none,
					   .allowed_origins = none,
					   .limits = {.max_clients = 1,
						      .max_message = 1 << 20,
						      .handshake_ns = timeout,
						      .ping_ns = timeout / 3 + 1,
						      .dead_ns = timeout,
						      .close_ns = timeout},
					   .tls = t->identified ? &t->tls : NULL,
					   .tls_self = t};

	t->failed = t->closed = t->answered = false;
	t->code = 0;
	t->target.why[0] = '\0';
	return ws_open(&t->host, &options, &events, t, &t->ws);
}

static bool is_open(const struct ws_target *t)
{
	return t->conn;
}

static bool has_room(const struct ws_target *t)
{
	return t->conn && ws_idle(t->conn);
}

static bool is_closed(const struct ws_target *t)
{
	return t->closed;
}

/* Until it is so; then 0. */
static int wait_until(struct ws_target *t, bool (*so)(const struct ws_target *), const char *what)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	const int64_t start = now.tv_sec;
	for (;;) {
		if (so(t))
			return 0;
		if (t->failed || t->closed)
			return t->code == TOO_BIG ? -EMSGSIZE : -ECONNABORTED;
		if (*t->options.interrupted && so != is_closed)
			return -EINTR;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((now.tv_sec - start) * 1000000000 > t->options.timeout_ns + 1000000000) {
			snprintf(t->target.why, sizeof t->target.why,
				 "%s took longer than --timeout: is the receiver's disk slow, or is it held "
				 "up?",
				 what);
			return -ETIMEDOUT;
		}
		ev_run(t->loop, EVRUN_ONCE);
	}
}

static int send_message(struct ws_target *t, const void *event, size_t len)
{
	int rc = t->ws ? 0 : open_connection(t);

	if (rc == 0)
		rc = wait_until(t, t->conn ? has_room : is_open, "sending");
	if (rc < 0)
		return rc;
	uint8_t *buf = malloc(WS_PRE + len + 1);
	if (!buf)
		return -ENOMEM;
	memcpy(buf + WS_PRE, event, len);
	rc = ws_send(t->conn, !ss_utf8_valid(event, len), buf, len);
	free(buf);
	if (rc == 0)
		ev_run(t->loop, EVRUN_NOWAIT); /* what the receiver has to say */
	if (rc == -EPIPE && wait_until(t, is_closed, "the end of the connection") == 0)
		rc = t->code == TOO_BIG ? -EMSGSIZE : -ECONNABORTED;
	return rc;
}

static void disconnect(struct ws_target *t)
{
	ws_free(t->ws);
	t->ws = NULL;
	t->conn = NULL;
}

static int ws_target_send(struct target *target, const void *event, size_t len)
{
	struct ws_target *t = (struct ws_target *)target;
	const int rc = send_message(t, event, len);

	if (rc < 0 && rc != -EINTR)
		disconnect(t);
	return rc;
}

static int ws_target_settle(struct target *target)
{
	struct ws_target *t = (struct ws_target *)target;
	int rc = 0;

	if (!t->ws)
		return 0;
	if (t->conn) {
		ws_close(t->conn, NORMAL, "");
		rc = wait_until(t, is_closed, "the answer to the end of the connection");
	}
	if (rc == 0 && !t->answered) {
		rc = t->code == TOO_BIG ? -EMSGSIZE : -ECONNABORTED;
		if (!t->target.why[0])
			snprintf(t->target.why, sizeof t->target.why,
				 "the receiver did not answer the end of the connection");
	}
	disconnect(t);
	return rc;
}

/* ---- life ---- */

static void ws_target_free(struct target *target)
{
	struct ws_target *t = (struct ws_target *)target;

	ws_free(t->ws);
	if (t->loop) {
		ev_timer_stop(t->loop, &t->turn);
		ev_loop_destroy(t->loop);
	}
	if (t->key)
		explicit_bzero(t->key, strlen(t->key));
	free(t->key);
	free(t->chain);
	free(t->ca);
	free(t);
}

int target_ws(const struct target_options *options, struct target **out)
{
	const char *why;
	struct ws_url url;

	if (ws_url_parse(options->url, &url, &why) < 0) {
		fprintf(stderr, "semstreams replay: --to: %s\n", why);
		return -EINVAL;
	}
	struct ws_target *t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	t->target = (struct target){
		.settles = true, .send = ws_target_send, .settle = ws_target_settle, .free = ws_target_free};
	t->options = *options;
	t->host = (struct ss_host){.struct_size = sizeof t->host,
				   .impl = t,
				   .id = "replay",
				   .log = host_log,
				   .query = host_query};
	t->libev = (struct ss_loop_libev){
		.struct_size = sizeof t->libev, .ev_loop = host_loop, .touched = host_touched};
	t->loop = ev_loop_new(0);
	int rc = t->loop ? read_identity(t) : -ENOMEM;
	if (rc < 0) {
		ws_target_free(&t->target);
		return rc;
	}
	ev_timer_init(&t->turn, on_turn, TURN, TURN);
	ev_timer_start(t->loop, &t->turn);
	*out = &t->target;
	return 0;
}
