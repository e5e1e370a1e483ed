/* SPDX-License-Identifier: MIT */
/*
 * websocket_input - a source of events from WebSocket peers: by the link protocol (acknowledged, resumable),
 * or plain, one event a message.  It dials or listens.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/fields.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>
#include "input.h"

enum {
	SENDER_MEMORY = 8192, /* the least of each that there may be */
	GATHER_NS = 1000000   /* less than a sync of what stores the events takes */
};

static const char *const formats[] = {"raw", "envelope", NULL};
static const char *const reasons[] = {"not_an_envelope", "no_memory", "empty", NULL};

#define OPT(...) SS_OPT(struct input_conf, __VA_ARGS__)
static const struct ss_option options[] = {
	ENDPOINT_OPTIONS(struct input_conf, "8081"),
	OPT(stream, SS_OPT_STRING, NULL, "name of the requested stream; the component's id if not set",
	    .flags = 0),
	OPT(consumer, SS_OPT_STRING, NULL,
	    "name of this receiver for a sender that sees no certificate; the component's id if not set",
	    .flags = 0),
	OPT(window_records, SS_OPT_INT, "65536",
	    "events a sender may send ahead of the last acknowledged one", .min = 64, .max = 1 << 24,
	    .flags = SS_OPT_LIVE),
	OPT(window_bytes, SS_OPT_BYTES, "16MiB",
	    "bytes a sender may send ahead of the last acknowledged event", .min = 65536,
	    .max = INT64_C(1) << 32, .flags = SS_OPT_LIVE),
	OPT(memory, SS_OPT_BYTES, "256MiB",
	    "for events of all senders together that are not durable yet: their windows share it",
	    .min = 262144, .max = INT64_C(1) << 40, .flags = SS_OPT_LIVE),
	OPT(max_senders, SS_OPT_INT, "10000",
	    "listening: senders whose streams are known; those away for longest are forgotten first",
	    .min = 1, .max = 1000000, .flags = SS_OPT_LIVE),
	OPT(max_streams, SS_OPT_INT, "16", "listening: streams of one sender name", .min = 1, .max = 1000000,
	    .flags = SS_OPT_LIVE),
	OPT(trust_origin, SS_OPT_JSON, "[]",
	    "names of certificates of peers that relay: what they say of where their events come from is "
	    "believed",
	    .schema = "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}", .flags = SS_OPT_LIVE),
	OPT(plain, SS_OPT_BOOL, "true",
	    "accept peers without the link protocol: one event per message, at most once", .flags = 0),
	OPT(format, SS_OPT_ENUM, "raw",
	    "plain messages: raw events, or JSON envelopes with the event in \"payload\", answered by an ack",
	    .choices = formats),
};

static const struct ss_metric metrics[] = {
	PEER_METRICS,
	[METRIC_UNACKED] = PEER_METRIC("semstreams_link_unacked_events",
				       "Events received that are not durable yet.", SS_METRIC_GAUGE),
	[METRIC_DUPLICATES] =
		PEER_METRIC("semstreams_link_duplicates_total",
			    "Events that a sender resent and that were left out.", SS_METRIC_COUNTER),
	[METRIC_RESTARTS] =
		PEER_METRIC("semstreams_link_restarts_total",
			    "Times a sender started a new log (epoch changed).", SS_METRIC_COUNTER),
	[METRIC_RECEIVED_BYTES] = PEER_METRIC("semstreams_ws_received_bytes_total",
					      "Bytes of messages received.", SS_METRIC_COUNTER),
	[METRIC_SENDERS] = PEER_METRIC("semstreams_link_senders",
				       "Senders whose streams are known, connected or not.", SS_METRIC_GAUGE),
	[METRIC_FORGOTTEN] = PEER_METRIC(
		"semstreams_link_senders_forgotten_total",
		"Senders forgotten because there was no room for another (max_senders).", SS_METRIC_COUNTER),
	[METRIC_MEMORY] = PEER_METRIC(
		"semstreams_link_memory_bytes",
		"What senders may send, and have sent and is not durable yet, of the option memory.",
		SS_METRIC_GAUGE),
	[METRIC_REFUSED] = PEER_METRIC(
		"semstreams_link_senders_refused_total",
		"Links refused because there was no room for another sender or stream.", SS_METRIC_COUNTER),
	[METRIC_UNTRUSTED] = PEER_METRIC("semstreams_link_untrusted_origins_total",
					 "Events whose sender named an origin and is not in trust_origin.",
					 SS_METRIC_COUNTER),
};

/* ---- connections ---- */

/* A link goes on while downstream is full: its window limits what is on the way, and the signs of life that
 * follow the data are heard. */
static bool stands_still(const struct input *in, const struct peer *p)
{
	return in->ending || (in->paused && !p->link);
}

static int on_opened(void *arg, struct ws_conn *conn, const char *subprotocol, const char *peer, void **user)
{
	struct input *in = arg;
	bool link = strcmp(subprotocol, LINK_SUBPROTOCOL) == 0;
	char address[WS_ADDRESS_MAX];

	if (!link && !in->conf->plain)
		return 1002;
	struct input_peer *p = malloc(sizeof *p);
	if (!p)
		return 1013;
	*p = (struct input_peer){.common = {.conn = conn, .link = link}};
	ws_address(conn, address);
	int rc = provenance_open(in, &p->provenance, address, peer);
	if (rc == 0)
		rc = peers_add(&in->peers, &p->common, peer);
	if (rc < 0) {
		ss_log(in->host, SS_LOG_ERROR, "Peer refused: %s peer=%s", strerror(-rc), peer ? peer : "-");
		provenance_close(in, &p->provenance);
		free(p);
		return 1013;
	}
	*user = p;
	ws_pause(conn, stands_still(in, &p->common));
	int code = link ? link_in_open(in, p, ws_stream(conn)) : 0;
	if (code)
		ws_close(conn, code, "no room for another sender");
	return 0;
}

static void on_message(void *arg, struct ws_conn *conn, void *user, bool binary, const uint8_t *data,
		       size_t len)
{
	struct input *in = arg;
	struct input_peer *p = user;

	(void)conn;
	in->host->metric_add(in->host, METRIC_RECEIVED_BYTES, (int64_t)len);
	if (p->common.link)
		link_in_message(in, p, binary, data, len);
	else
		plain_in_message(in, p, binary, data, len);
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
	struct input_peer *p = user;

	(void)conn;
	if (p->common.link)
		link_in_closed(in, p, code, by_peer, why);
	peers_remove(&in->peers, &p->common, code, by_peer, NULL, why);
	provenance_close(in, &p->provenance);
	free(p);
}

static void on_failed(void *arg, uint32_t n, const char *why)
{
	peers_failed(&((struct input *)arg)->peers, n, why);
}

static void on_refused(void *arg, enum ws_refusal reason, uint32_t n)
{
	peers_refused(&((struct input *)arg)->peers, reason, n);
}

static bool on_health(void *arg, char *buf, size_t size)
{
	struct input *in = arg;
	bool well = !in->paused && !in->ending;

	snprintf(buf, size, "{\"status\":\"%s\",\"component\":\"%s\",\"link\":%s}\n",
		 well ? "ok" : "not ready", in->host->id, in->peers.n_live ? "true" : "false");
	return well;
}

static const struct ws_events events = {.opened = on_opened,
					.message = on_message,
					.writable = on_writable,
					.closed = on_closed,
					.failed = on_failed,
					.refused = on_refused,
					.health = on_health};

/* ---- life ---- */

static void input_destroy(void *self)
{
	struct input *in = self;

	if (!in)
		return;
	endpoint_done(&in->endpoint);
	senders_done(&in->senders);
	ss_ring_done(&in->forgotten);
	plain_in_done(in);
	provenance_destroy(in);
	if (in->fields) {
		in->fields->free(in->fields_self, in->control);
		in->fields->free(in->fields_self, in->envelope);
	}
	free(in);
}

static int limit_senders(struct input *in)
{
	in->senders.max = in->peers.dials ? 1 : (uint32_t)in->conf->max_senders;
	if (in->conf->memory / SENDER_MEMORY >= in->senders.max)
		return 0;
	return ss_config_error(in->host, "/memory", "must be at least 8KiB for each of max_senders (%u)",
			       in->senders.max);
}

static int32_t input_create(const struct ss_host *host, const void *conf, void **self)
{
	struct input *in = calloc(1, sizeof *in);
	struct ss_iface loop, fields;

	if (!in)
		return -ENOMEM;
	in->host = host;
	in->conf = conf;
	peers_init(&in->peers, host, &in->conf->endpoint);
	peers_offer(&in->peers, list_in, in);
	int rc = endpoint_check(&in->endpoint, host, &in->conf->endpoint);
	if (rc == 0)
		rc = limit_senders(in);
	if (rc == 0)
		rc = provenance_create(in);
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
	uint64_t now = in->loop->now(in->loop_self);

	link_in_tick(in);
	in->host->metric_set(in->host, METRIC_MEMORY, (int64_t)in->memory);
	const struct sender *longest = link_in_longest_away(in);
	peers_tick(&in->peers, now - in->ticked_ns, longest ? link_in_name(longest) : NULL,
		   longest ? now - longest->left_ns : 0);
	in->ticked_ns = now;
}

static void limit_streams(struct input *in)
{
	in->senders.max_streams = (uint32_t)in->conf->max_streams;
	/* where no certificate is asked for, all senders share the name that is none */
	in->senders.max_unnamed =
		endpoint_verifies(&in->endpoint) ? in->senders.max_streams : in->senders.max;
}

static int start_senders(struct input *in)
{
	limit_streams(in);
	in->forgotten.value_size = sizeof(uint64_t);
	return senders_init(&in->senders, in->ticked_ns);
}

static int32_t input_start(void *self)
{
	static const char *const subprotocols[] = {LINK_SUBPROTOCOL, NULL};
	struct input *in = self;
	struct ss_iface positions;

	if (in->host->query(in->host, SS_POSITIONS, sizeof(struct ss_positions), &positions) == 0) {
		in->positions = positions.vtbl;
		in->positions_self = positions.self;
	}
	provenance_start(in);
	in->ticked_ns = in->loop->now(in->loop_self);
	int rc = start_senders(in);
	if (rc == 0)
		rc = in->loop->timer(in->loop_self, 1000000000, 1000000000, on_tick, in, &in->tick);
	/* of many senders each has little at a time: a turn for each would cost more than what it brings */
	if (rc == 0 && !in->endpoint.conf->url)
		ss_set_max_delay(in->loop, in->loop_self, GATHER_NS);
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
	for (struct peer *p = in->peers.first; p; p = p->next)
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

static void input_reconfigure(void *self, void *fresh)
{
	struct input *in = self, *other = fresh;

	in->conf = other->conf;
	in->peers.conf = &in->conf->endpoint;
	endpoint_reconfigure(&in->endpoint, &other->endpoint);
	provenance_reconfigure(in, other);
	in->senders.max = other->senders.max;
	limit_streams(in);
	link_in_reconfigured(in);
}

/* A message of a plain peer, or an event that a link brought. */
static int32_t input_inject(void *self, const struct ss_message *m)
{
	struct input_peer from = {.common = {.name = m->peer}};
	struct input *in = self;

	if (!in->provenance.service)
		provenance_start(in);
	int rc = provenance_open(in, &from.provenance, m->address ? m->address : "127.0.0.1:9", m->peer);
	if (rc == 0)
		plain_in_message(in, &from, false, m->data, m->len);
	provenance_close(in, &from.provenance);
	return rc;
}

static const struct ss_component websocket_input = {
	.struct_size = sizeof websocket_input,
	.kind = SS_KIND_SOURCE,
	.type = "websocket_input",
	.version = "0.1",
	.summary = "Receives events from WebSocket peers: reliable links, or one event per message.",
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
	.inject = input_inject,
	.reconfigure = input_reconfigure,
	.flags = SS_OWN_LOOP | SS_TELLS_PATHS, /* TLS handshakes compute for milliseconds */
};
SS_REGISTER(&websocket_input);
