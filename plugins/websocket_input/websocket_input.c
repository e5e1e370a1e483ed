/* SPDX-License-Identifier: MIT */
/*
 * websocket_input - a source of events from WebSocket peers: by the link protocol (acknowledged, resumable),
 * or plain, one event a message.  It dials or listens.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/fields.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>
#include "input.h"

static const char *const formats[] = {"raw", "envelope", NULL};
static const char *const reasons[] = {"not_an_envelope", "no_memory", "empty", NULL};

#define OPT(...) SS_OPT(struct input_conf, __VA_ARGS__)
static const struct ss_option options[] = {
	ENDPOINT_OPTIONS(struct input_conf, "8081"),
	OPT(stream, SS_OPT_STRING, NULL, "name of the stream asked for; the component's id if not set",
	    .flags = 0),
	OPT(consumer, SS_OPT_STRING, NULL,
	    "who we are to a sender that does not see a certificate; the component's id if not set",
	    .flags = 0),
	OPT(window_records, SS_OPT_INT, "65536", "events a sender may be ahead of what is durable here",
	    .min = 64, .max = 1 << 24),
	OPT(window_bytes, SS_OPT_BYTES, "16MiB", "bytes a sender may be ahead of what is durable here",
	    .min = 65536, .max = INT64_C(1) << 32),
	OPT(plain, SS_OPT_BOOL, "true",
	    "take peers without the link protocol: one event a message, at most once", .flags = 0),
	OPT(format, SS_OPT_ENUM, "raw",
	    "plain messages: raw events, or JSON envelopes with the event in \"payload\", answered by an ack",
	    .choices = formats),
};

#define COUNTER(n, text)                                                                                     \
	{                                                                                                    \
		.name = n, .help = text, .kind = SS_METRIC_COUNTER                                           \
	}
#define GAUGE(n, text)                                                                                       \
	{                                                                                                    \
		.name = n, .help = text, .kind = SS_METRIC_GAUGE                                             \
	}
static const struct ss_metric metrics[] = {
	[METRIC_CONNECTIONS] = GAUGE("semstreams_ws_connections", "WebSocket connections open now."),
	[METRIC_CONNECTED] = COUNTER("semstreams_ws_connected_total", "WebSocket connections made."),
	[METRIC_FAILED] = COUNTER("semstreams_ws_failed_total", "Dials and handshakes that failed."),
	[METRIC_LINK_UP] = GAUGE("semstreams_link_up", "1 while a link is up."),
	[METRIC_UNACKED] =
		GAUGE("semstreams_link_unacked_events", "Events received that are not durable yet."),
	[METRIC_RTT] = GAUGE("semstreams_link_rtt_microseconds", "Last round-trip time of a ping."),
	[METRIC_DUPLICATES] =
		COUNTER("semstreams_link_duplicates_total", "Events that came again and were left out."),
	[METRIC_LOST] = COUNTER("semstreams_link_lost_total", "Events a sender reported as lost."),
	[METRIC_RESTARTS] =
		COUNTER("semstreams_link_restarts_total", "Times the sender came with another log."),
	[METRIC_RECEIVED_BYTES] =
		COUNTER("semstreams_ws_received_bytes_total", "Bytes of messages received."),
	[METRIC_BAD_MESSAGES] =
		COUNTER("semstreams_ws_bad_messages_total", "Messages that break the protocol."),
	[METRIC_CLOSES] = CLOSE_METRICS,
};

/* ---- what the endpoint tells ---- */

/* A link goes on while what follows is full: its window limits what is on the way, and the signs of life that
 * come behind the data are heard. */
static bool stands_still(const struct input *in, const struct peer *p)
{
	return in->ending || (in->paused && !p->link);
}

static int on_opened(void *arg, struct ws_conn *conn, const char *subprotocol, const char *peer, void **user)
{
	struct input *in = arg;
	bool link = strcmp(subprotocol, LINK_SUBPROTOCOL) == 0;

	if (!link && !in->conf->plain)
		return 1002;
	struct peer *p = malloc(sizeof *p);
	if (!p)
		return 1013;
	*p = (struct peer){.conn = conn, .link = link, .next = in->peers, .back = &in->peers};
	if (p->next)
		p->next->back = &p->next;
	in->peers = p;
	*user = p;
	in->host->metric_add(in->host, METRIC_CONNECTIONS, 1);
	in->host->metric_add(in->host, METRIC_CONNECTED, 1);
	ss_log(in->host, SS_LOG_INFO, "Connected mode=%s peer=%s", link ? "link" : "plain",
	       peer ? peer : "-");
	ws_pause(conn, stands_still(in, p));
	return link ? link_in_open(in, conn) : 0;
}

static void on_message(void *arg, struct ws_conn *conn, void *user, bool binary, const uint8_t *data,
		       size_t len)
{
	struct input *in = arg;

	in->host->metric_add(in->host, METRIC_RECEIVED_BYTES, (int64_t)len);
	if (((const struct peer *)user)->link)
		link_in_message(in, conn, binary, data, len);
	else
		plain_in_message(in, conn, binary, data, len);
}

static void on_writable(void *arg, struct ws_conn *conn, void *user)
{
	(void)arg;
	(void)conn;
	(void)user;
}

static void on_closed(void *arg, struct ws_conn *conn, void *user, int code, bool by_peer, const char *why)
{
	struct input *in = arg;
	struct peer *p = user;

	if (p->link)
		link_in_closed(in, conn);
	*p->back = p->next;
	if (p->next)
		p->next->back = p->back;
	free(p);
	in->host->metric_add(in->host, METRIC_CONNECTIONS, -1);
	in->host->metric_add(in->host, METRIC_CLOSES + close_row(code), 1);
	ss_log(in->host, code == 1000 || code == 1001 ? SS_LOG_INFO : SS_LOG_WARN,
	       "Connection closed code=%d by=%s reason=\"%s\"", code, by_peer ? "peer" : "us", why);
}

static void on_failed(void *arg, const char *why)
{
	struct input *in = arg;

	in->host->metric_add(in->host, METRIC_FAILED, 1);
	ss_log(in->host, SS_LOG_WARN, "Connection failed: %s", why);
}

static bool on_health(void *arg, char *buf, size_t size)
{
	struct input *in = arg;
	bool well = !in->paused && !in->ending;

	snprintf(buf, size, "{\"status\":\"%s\",\"component\":\"%s\",\"link\":%s}\n",
		 well ? "ok" : "not ready", in->host->id, in->peer ? "true" : "false");
	return well;
}

static const struct ws_events events = {.opened = on_opened,
					.message = on_message,
					.writable = on_writable,
					.closed = on_closed,
					.failed = on_failed,
					.health = on_health};

/* ---- life ---- */

static void input_destroy(void *self)
{
	struct input *in = self;

	if (!in)
		return;
	endpoint_done(&in->endpoint);
	link_in_done(in);
	plain_in_done(in);
	if (in->fields) {
		in->fields->free(in->fields_self, in->control);
		in->fields->free(in->fields_self, in->envelope);
	}
	free(in);
}

static int32_t input_create(const struct ss_host *host, const void *conf, void **self)
{
	struct input *in = calloc(1, sizeof *in);
	struct ss_iface loop, fields;

	if (!in)
		return -ENOMEM;
	in->host = host;
	in->conf = conf;
	int rc = endpoint_check(&in->endpoint, host, &in->conf->endpoint);
	if (rc == 0)
		rc = host->query(host, SS_LOOP, sizeof *in->loop, &loop);
	if (rc == 0)
		rc = host->query(host, SS_FIELDS, sizeof *in->fields, &fields);
	if (rc == 0) {
		in->loop = loop.vtbl;
		in->loop_self = loop.self;
		in->fields = fields.vtbl;
		in->fields_self = fields.self;
		rc = link_control_reader(in->fields, in->fields_self, &in->control);
	}
	if (rc == 0)
		rc = plain_in_init(in);
	if (rc < 0) {
		input_destroy(in);
		return rc;
	}
	*self = in;
	return 0;
}

static void on_tick(void *arg)
{
	struct input *in = arg;

	link_in_tick(in);
	if (in->peer)
		in->host->metric_set(in->host, METRIC_RTT, (int64_t)(ws_rtt(in->peer) / 1000));
}

static int32_t input_start(void *self)
{
	static const char *const subprotocols[] = {LINK_SUBPROTOCOL, NULL};
	struct input *in = self;
	struct ss_iface positions;

	if (in->host->query(in->host, SS_POSITIONS, sizeof(struct ss_positions), &positions) == 0 &&
	    ((const struct ss_positions *)positions.vtbl)->resume(positions.self, &in->durable) == 0)
		in->can_resume = true;
	int rc = in->loop->timer(in->loop_self, 1000000000, 1000000000, on_tick, in, &in->tick);
	if (rc == 0)
		rc = endpoint_open(&in->endpoint, subprotocols, &events, in);
	return rc;
}

static void input_stop(void *self)
{
	struct input *in = self;

	link_in_stop(in);
	endpoint_close(&in->endpoint, 1001, "shutting down");
}

static void set_paused(struct input *in, bool paused)
{
	in->paused = paused;
	for (struct peer *p = in->peers; p; p = p->next)
		ws_pause(p->conn, stands_still(in, p));
}

static void input_pause(void *self)
{
	set_paused(self, true);
}

static void input_resume(void *self)
{
	set_paused(self, false);
}

static int32_t input_drain(void *self)
{
	struct input *in = self;

	in->ending = true;
	set_paused(in, true);
	plain_in_flush(in);
	return 0;
}

static void input_acked(void *self, uint64_t cookie, int32_t status)
{
	link_in_acked(self, cookie, status);
}

static void input_idle(void *self)
{
	plain_in_flush(self);
}

static const struct ss_component websocket_input = {
	.struct_size = sizeof websocket_input,
	.kind = SS_KIND_SOURCE,
	.type = "websocket_input",
	.version = "0.1",
	.summary = "Events from WebSocket peers: reliable links, or one event a message.",
	.license = "MIT",
	.options = options,
	.option_size = sizeof options[0],
	.n_options = sizeof options / sizeof options[0],
	.metrics = metrics,
	.metric_size = sizeof metrics[0],
	.n_metrics = sizeof metrics / sizeof metrics[0],
	.reasons = reasons,
	.conf_size = sizeof(struct input_conf),
	.create = input_create,
	.destroy = input_destroy,
	.start = input_start,
	.stop = input_stop,
	.process = NULL,
	.pause = input_pause,
	.resume = input_resume,
	.drain = input_drain,
	.acked = input_acked,
	.idle = input_idle,
	.flags = SS_OWN_LOOP, /* TLS handshakes compute for milliseconds */
};
SS_REGISTER(&websocket_input);
