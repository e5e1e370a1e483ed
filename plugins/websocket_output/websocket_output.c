/* SPDX-License-Identifier: MIT */
/*
 * websocket_output - a sink that sends events to WebSocket peers: by the link protocol out of a log that
 * keeps them until they are acknowledged, or plain, one event per message, at most once.  It listens or
 * dials.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/ext/fields.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>
#include "output.h"

static const char *const formats[] = {"raw", "envelope", NULL};
static const char *const overflows[] = {"auto", "block", "drop_oldest", NULL};
static const char *const reasons[] = {"no_consumer", "lost", NULL};

#define SPOOL_SCHEMA                                                                                         \
	"{\"type\":\"object\",\"required\":[\"path\"],\"additionalProperties\":false,\"properties\":{"       \
	"\"path\":{\"type\":\"string\"},\"max_bytes\":{\"type\":[\"string\",\"integer\"]},"                  \
	"\"max_age\":{\"type\":\"string\"},\"forget_after\":{\"type\":\"string\"},\"overflow\":{\"enum\":["  \
	"\"block\",\"drop_oldest\"]},"                                                                       \
	"\"sync\":{\"enum\":[\"always\",\"relaxed\"]}}}"

#define OPT(...) SS_OPT(struct output_conf, __VA_ARGS__)
static const struct ss_option options[] = {
	ENDPOINT_OPTIONS(struct output_conf, "8080"),
	OPT(spool, SS_OPT_JSON, NULL,
	    "keep events on disk until they are acknowledged: {\"path\", \"max_bytes\" (1GiB), \"max_age\", "
	    "\"forget_after\": forget consumers that were away for so long, \"overflow\": block|drop_oldest, "
	    "\"sync\": always|relaxed}",
	    .schema = SPOOL_SCHEMA),
	OPT(buffer, SS_OPT_BYTES, "64MiB", "without a spool: memory for events that are not acknowledged",
	    .min = 65536, .max = INT64_C(1) << 40, .flags = SS_OPT_LIVE),
	OPT(overflow, SS_OPT_ENUM, "auto",
	    "when the buffer or spool is full: block the input, or drop the oldest events; auto blocks only "
	    "with a spool",
	    .choices = overflows),
	OPT(max_frame, SS_OPT_BYTES, "256KiB", "longest message sent on a link", .min = 4096,
	    .max = 64 << 20),
	OPT(max_rate, SS_OPT_BYTES, "0",
	    "bytes per second that links are sent, all of them together; 0 = no limit", .min = 0,
	    .max = INT64_C(1) << 40, .flags = SS_OPT_LIVE),
	OPT(burst, SS_OPT_BYTES, "0",
	    "bytes that max_rate lets through at once after a pause; 0 = a tenth of a second's worth",
	    .min = 0, .max = INT64_C(1) << 40, .flags = SS_OPT_LIVE),
	OPT(rate_group, SS_OPT_STRING, NULL,
	    "share max_rate with all outputs of this host that name the same group, with the same max_rate "
	    "and burst",
	    .flags = SS_OPT_LIVE),
	OPT(priority, SS_OPT_INT, "0",
	    "in its rate_group: the output with the highest priority that has something to send goes first",
	    .min = 0, .max = 7, .flags = SS_OPT_LIVE),
	OPT(links, SS_OPT_BOOL, "true",
	    "serve links; without them nothing is kept for consumers, and events go to plain peers only",
	    .flags = 0),
	OPT(stream, SS_OPT_STRING, NULL,
	    "dialing: name of this stream, for a receiver that takes several of this sender; the component's "
	    "id if not set",
	    .flags = 0),
	OPT(max_consumers, SS_OPT_INT, "128",
	    "consumers whose events are kept; where TLS checks client certificates, names without one get at "
	    "most half of them",
	    .min = 1, .max = SENDLOG_CONSUMERS_MAX, .flags = SS_OPT_LIVE),
	OPT(plain, SS_OPT_BOOL, "true", "serve peers without the link protocol", .flags = 0),
	OPT(format, SS_OPT_ENUM, "raw", "plain messages: the event as it is, or in a JSON envelope",
	    .choices = formats),
	OPT(attributes, SS_OPT_BOOL, "true",
	    "pass on the attributes of events: on links to receivers that ask for them, and in envelopes",
	    .flags = 0),
	OPT(backlog, SS_OPT_BYTES, "1MiB", "disconnect a plain peer that is further behind than this",
	    .min = 16384, .max = INT64_C(1) << 32, .flags = SS_OPT_LIVE),
	OPT(gather, SS_OPT_DURATION, "100ms",
	    "longest time that messages to plain peers wait to be written together; 0 = each by itself",
	    .min = 0, .max = INT64_C(10000000000), .flags = SS_OPT_LIVE),
};

#define LOST(why)                                                                                            \
	{                                                                                                    \
		.name = "semstreams_spool_lost_events_total",                                                \
		.help = "Events dropped from the spool or buffer before every consumer acknowledged them.",  \
		.label = "reason=\"" why "\"", .kind = SS_METRIC_COUNTER                                     \
	}
#define COUNTER(n, text) PEER_METRIC(n, text, SS_METRIC_COUNTER)
#define GAUGE(n, text)   PEER_METRIC(n, text, SS_METRIC_GAUGE)
static const struct ss_metric metrics[] = {
	PEER_METRICS,
	[METRIC_UNACKED] =
		GAUGE("semstreams_link_unacked_events", "Events not acknowledged by every consumer."),
	[METRIC_LOG_BYTES] = GAUGE("semstreams_spool_bytes", "Size of the events kept for consumers."),
	[METRIC_LOG_AGE] = GAUGE("semstreams_spool_oldest_age_seconds", "Age of the oldest event kept."),
	[METRIC_LOG_CORRUPT] =
		GAUGE("semstreams_spool_corrupt_events", "Events skipped because their checksum was wrong."),
	[METRIC_LOG_USED] =
		GAUGE("semstreams_spool_used_bytes",
		      "Part of semstreams_spool_limit_bytes that is in use; a spool counts whole segments."),
	[METRIC_LOG_LIMIT] =
		GAUGE("semstreams_spool_limit_bytes", "Bytes at which the spool or buffer is full."),
	[METRIC_LOG_UNSYNCED] = GAUGE("semstreams_spool_oldest_unsynced_seconds",
				      "How long the oldest event has been waiting for the spool's disk."),
	[METRIC_LOST_FULL] = LOST("full"),
	[METRIC_LOST_AGE] = LOST("age"),
	[METRIC_LOST_CORRUPT] = LOST("corrupt"),
	[METRIC_RENEWALS] = COUNTER("semstreams_spool_renewals_total", "Times the log got a new epoch."),
	[METRIC_FORGOTTEN] =
		COUNTER("semstreams_link_forgotten_total", "Consumers forgotten after forget_after."),
	[METRIC_REFUSED] =
		COUNTER("semstreams_link_refused_total",
			"Consumers refused: a name that needs a certificate, or no room (max_consumers)."),
	[METRIC_SENT_BYTES] = COUNTER("semstreams_ws_sent_bytes_total", "Bytes of messages sent."),
	[METRIC_RATE_WAITS] = COUNTER("semstreams_link_rate_waits_total",
				      "Times that events waited because max_rate was used up."),
	[METRIC_NOT_ENVELOPED] = COUNTER("semstreams_ws_not_enveloped_total",
					 "Events that no envelope can hold, neither JSON nor UTF-8."),
	[METRIC_SLOW] =
		COUNTER("semstreams_ws_slow_peers_total", "Plain peers disconnected because they were slow."),
};

/* ---- batches in the log ---- */

static int hold(struct output *out, struct ss_batch *b, uint64_t first_seq, uint64_t last_seq)
{
	struct held *h = ss_ring_push(&out->held);

	if (!h)
		return -ENOMEM;
	*h = (struct held){b, first_seq, last_seq};
	return 0;
}

static void finish_held(struct output *out, uint64_t seq, int32_t status)
{
	for (const struct held *h; (h = ss_ring_first(&out->held)) && h->last_seq <= seq;) {
		struct ss_batch *b = h->batch;
		ss_ring_shift(&out->held);
		out->host->done(out->host, b, status);
	}
}

/* What the memory let go of before everybody had it.  Of a batch that every consumer has in part, that part
 * counts as delivered. */
static void drop_held(struct output *out, uint64_t seq, uint32_t reason)
{
	uint64_t acked = sendlog_all_acked(out->log);

	for (const struct held *h; (h = ss_ring_first(&out->held)) && h->last_seq <= seq;) {
		uint64_t last = h->last_seq, had = acked < h->first_seq ? h->first_seq - 1 : acked;
		out->host->drop(out->host, reason, last > had ? last - had : 0);
		finish_held(out, last, had >= h->first_seq ? SS_DELIVERED : SS_DROPPED);
	}
}

/* With a spool a batch is safe when it is committed, in memory when every consumer has it. */
void output_settle(struct output *out)
{
	if (out->log_options.path) {
		finish_held(out, sendlog_committed(out->log), SS_DELIVERED);
	} else {
		finish_held(out, sendlog_all_acked(out->log), SS_DELIVERED);
		drop_held(out, sendlog_first(out->log) - 1, out->known ? REASON_LOST : REASON_NO_CONSUMER);
	}
	if (out->draining && ss_ring_count(&out->held) == 0)
		out->host->drained(out->host);
}

static void pump_all(struct output *out)
{
	for (struct output_peer *p = out->peers.n_links ? first_peer(out) : NULL, *next; p; p = next) {
		next = next_peer(p);
		if (p->common.link)
			link_out_pump(p);
	}
	plain_out_flush(out, out->draining);
}

static void on_committed(void *arg, uint64_t seq)
{
	struct output *out = arg;

	(void)seq;
	output_settle(out);
	pump_all(out);
}

static void on_room(void *arg)
{
	struct output *out = arg;

	if (!out->busy)
		return;
	out->busy = false;
	out->host->input_ready(out->host);
}

static void on_lost(void *arg, uint64_t from, uint64_t to, const char *reason)
{
	struct output *out = arg;
	uint32_t metric = strcmp(reason, "full") == 0  ? METRIC_LOST_FULL
			  : strcmp(reason, "age") == 0 ? METRIC_LOST_AGE
						       : METRIC_LOST_CORRUPT;

	out->host->metric_add(out->host, metric, (int64_t)(to - from + 1));
}

static void on_trouble(void *arg, const char *why)
{
	struct output *out = arg;

	if (why)
		ss_log(out->host, SS_LOG_ERROR, "The spool cannot be written: %s", why);
	else
		ss_log(out->host, SS_LOG_INFO, "The spool can be written again");
}

static void on_log_health(void *arg, const char *why)
{
	peers_trouble(&((struct output *)arg)->peers, TROUBLE_STORE, why ? "%s" : NULL, why);
}

static void on_log_degraded(void *arg, const char *why)
{
	peers_trouble(&((struct output *)arg)->peers, TROUBLE_FILLING, why ? "%s" : NULL, why);
}

static void on_forgotten(void *arg, const char *consumer, uint64_t acked)
{
	struct output *out = arg;

	out->host->metric_add(out->host, METRIC_FORGOTTEN, 1);
	ss_log(out->host, SS_LOG_WARN,
	       "Consumer forgotten: it was away for longer than forget_after consumer=%s acked=%llu",
	       consumer, (unsigned long long)acked);
}

/* In the writer's thread. */
static int on_committing(void *arg, const void *snapshot, size_t size)
{
	const struct output *out = arg;

	return out->positions->sync(out->positions_self, snapshot, size, !out->log_options.relaxed);
}

static void on_snapshot_kept(void *arg, const void *snapshot, size_t size)
{
	const struct output *out = arg;

	out->positions->committed(out->positions_self, snapshot, size);
}

static const struct sendlog_events log_events = {.committed = on_committed,
						 .room = on_room,
						 .lost = on_lost,
						 .disk_error = on_trouble,
						 .health = on_log_health,
						 .degraded = on_log_degraded,
						 .committing = on_committing,
						 .snapshot_kept = on_snapshot_kept,
						 .forgotten = on_forgotten};

/* ---- connections ---- */

static int on_opened(void *arg, struct ws_conn *conn, const char *subprotocol, const char *peer, void **user)
{
	struct output *out = arg;
	bool link = strcmp(subprotocol, LINK_SUBPROTOCOL) == 0;

	if (!link && !out->conf->plain)
		return 1002;
	struct output_peer *p = calloc(1, link ? sizeof *p : offsetof(struct output_peer, session));
	if (!p)
		return 1013;
	p->out = out;
	p->common.conn = conn;
	p->common.link = link;
	if (peers_add(&out->peers, &p->common, peer) < 0) {
		free(p);
		return 1013;
	}
	*user = p;
	if (link)
		link_out_open(p);
	else
		plain_out_open(p);
	return 0;
}

static void on_message(void *arg, struct ws_conn *conn, void *user, bool binary, const uint8_t *data,
		       size_t len)
{
	struct output_peer *p = user;

	(void)arg;
	(void)conn;
	if (p->common.link)
		link_out_message(p, binary, data, len);
	/* what a plain peer says (acks of the envelope, for one) changes nothing */
}

static void on_writable(void *arg, struct ws_conn *conn, void *user)
{
	struct output_peer *p = user;

	(void)arg;
	(void)conn;
	if (p->common.link)
		link_out_pump(p);
	else
		plain_out_pump(p);
}

static void on_closed(void *arg, struct ws_conn *conn, void *user, int code, bool by_peer, const char *why)
{
	struct output *out = arg;
	struct output_peer *p = user;
	const bool link = p->common.link;

	(void)conn;
	if (link) {
		list_out_parting(p, code, by_peer, why);
		link_out_closed(p, code, by_peer);
	}
	plain_out_close(p);
	peers_remove(&out->peers, &p->common, code, by_peer, link ? p->session.consumer : NULL, why);
	free(p);
}

static void on_failed(void *arg, uint32_t n, const char *why)
{
	peers_failed(&((struct output *)arg)->peers, n, why);
}

static void on_refused(void *arg, enum ws_refusal reason, uint32_t n)
{
	peers_refused(&((struct output *)arg)->peers, reason, n);
}

static bool on_health(void *arg, char *buf, size_t size)
{
	struct output *out = arg;
	const char *why = out->peers.trouble[TROUBLE_STORE];
	bool well = !why[0] && !out->draining;
	struct ss_strbuf reason = {0};

	if (!well) {
		why = why[0] ? why : "shutting down";
		ss_strbuf_text(&reason, ",\"reason\":");
		ss_strbuf_json(&reason, why, strlen(why));
	}
	snprintf(buf, size, "{\"status\":\"%s\",\"component\":\"%s\"%s,\"links\":%u,\"subscribers\":%u}\n",
		 well ? "ok" : "not ready", out->host->id, ss_strbuf_cstr(&reason), out->peers.n_links,
		 out->peers.n_plain);
	ss_strbuf_done(&reason);
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

static void output_destroy(void *self)
{
	struct output *out = self;

	if (!out)
		return;
	endpoint_done(&out->endpoint);
	plain_out_done(out);
	list_out_done(out);
	sendlog_close(out->log);
	if (out->fields) {
		out->fields->free(out->fields_self, out->control);
		out->fields->free(out->fields_self, out->any);
	}
	free(out->spool_path);
	ss_ring_done(&out->held);
	free(out->snapshot);
	ss_attribute_writer_done(&out->attributes);
	free(out->frame);
	free(out);
}

static int find_services(struct output *out)
{
	static const char *const whole[] = {""};
	struct ss_iface loop, fields;
	uint32_t bad;

	int rc = out->host->query(out->host, SS_LOOP, sizeof *out->loop, &loop);
	if (rc == 0)
		rc = out->host->query(out->host, SS_FIELDS, sizeof *out->fields, &fields);
	if (rc)
		return rc;
	out->loop = loop.vtbl;
	out->loop_self = loop.self;
	out->fields = fields.vtbl;
	out->fields_self = fields.self;
	rc = link_control_reader(out->fields, out->fields_self, &out->control);
	return rc ? rc : out->fields->compile(out->fields_self, whole, 1, &out->any, &bad);
}

/* What concerns events that wait for links; all that is wrong is told at once. */
static int check_options(struct output *out)
{
	const struct output_conf *conf = out->conf;
	int rc = 0;

	out->log_options = (struct sendlog_options){.max_bytes = (uint64_t)conf->buffer,
						    .max_consumers = (uint32_t)conf->max_consumers,
						    .drop_oldest = conf->overflow != OVERFLOW_BLOCK};
	if (!conf->links && !conf->plain)
		rc = ss_config_error(out->host, "/links",
				     "one of links and plain must be true: nobody is served");
	if (conf->stream && !ws_stream_valid(conf->stream, strlen(conf->stream)))
		rc = ss_config_error(out->host, "/stream",
				     "the name of a stream has at most %d bytes, none of them a control "
				     "character",
				     WS_STREAM_MAX);
	if (!conf->spool)
		return rc;
	if (!conf->links)
		rc = ss_config_error(out->host, "/spool",
				     "a spool keeps events for links, and links is false");
	out->log_options.max_bytes = UINT64_C(1) << 30;
	out->log_options.drop_oldest = conf->overflow == OVERFLOW_DROP_OLDEST;
	int bad = output_read_spool(out);
	return bad ? bad : rc;
}

/* Attributes are for links, and for envelopes. */
static void want_attributes(const struct output *out)
{
	const struct output_conf *conf = out->conf;
	struct ss_iface service;

	if (conf->attributes && (conf->links || (conf->plain && conf->format == FORMAT_ENVELOPE)) &&
	    out->host->query(out->host, SS_ATTRIBUTES, sizeof(struct ss_attribute_service), &service) == 0)
		((const struct ss_attribute_service *)service.vtbl)->want(service.self);
}

static int32_t output_create(const struct ss_host *host, const void *conf, void **self)
{
	struct output *out = calloc(1, sizeof *out);

	if (!out)
		return -ENOMEM;
	out->host = host;
	out->conf = conf;
	out->held.value_size = sizeof(struct held);
	peers_init(&out->peers, host, &out->conf->endpoint);
	peers_offer(&out->peers, list_out, out);
	int rc = endpoint_check(&out->endpoint, host, &out->conf->endpoint), bad;
	if (rc != -ENOMEM && (bad = check_options(out)) != 0)
		rc = bad;
	if (rc != -ENOMEM && (bad = rate_join(out)) != 0)
		rc = bad;
	if (rc == 0)
		rc = find_services(out);
	if (rc == 0 && !(out->frame = malloc(WS_PRE + (size_t)out->conf->max_frame)))
		rc = -ENOMEM;
	if (rc < 0) {
		output_destroy(out);
		return rc;
	}
	want_attributes(out);
	*self = out;
	return 0;
}

static void set_gauges(struct output *out, const struct sendlog_figures *log)
{
	const struct ss_host *h = out->host;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	uint64_t wall = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	h->metric_set(h, METRIC_LOG_BYTES, (int64_t)log->bytes);
	h->metric_set(h, METRIC_LOG_UNSYNCED, (int64_t)(log->committing_ns / 1000000000u));
	h->metric_set(h, METRIC_LOG_AGE,
		      log->oldest_ns && wall > log->oldest_ns
			      ? (int64_t)((wall - log->oldest_ns) / 1000000000u)
			      : 0);
	h->metric_set(h, METRIC_LOG_CORRUPT, (int64_t)log->corrupt);
	h->metric_set(h, METRIC_LOG_USED, (int64_t)log->used);
	h->metric_set(h, METRIC_LOG_LIMIT, (int64_t)log->limit);
	h->metric_set(h, METRIC_UNACKED, (int64_t)(sendlog_next(out->log) - 1 - sendlog_all_acked(out->log)));
}

static void on_tick(void *arg)
{
	struct output *out = arg;

	for (struct output_peer *p = first_peer(out), *next; p; p = next) {
		next = next_peer(p);
		if (p->common.link)
			link_out_tick(p);
	}
	uint64_t passed = out->loop->now(out->loop_self) - out->ticked_ns;
	out->ticked_ns += passed;
	/* more than a few ticks: we were stopped, which is not the consumers' absence */
	sendlog_check_consumers(out->log, passed < 5000000000 ? passed : 1000000000, link_out_here, out);
	const struct sendlog_figures log = sendlog_figures(out->log);
	peers_tick(&out->peers, passed, log.away, log.away_ns);
	set_gauges(out, &log);
}

/* A spool is a checkpointer: the host removes what the snapshot says is there already. */
static int restore_positions(struct output *out)
{
	struct ss_iface positions;
	char path[PATH_MAX];
	size_t size;

	if (!out->log_options.path ||
	    out->host->query(out->host, SS_POSITIONS, sizeof(struct ss_positions), &positions) < 0)
		return 0;
	out->positions = positions.vtbl;
	out->positions_self = positions.self;
	out->positions->checkpointer(out->positions_self, SS_COVER_ACCEPTED);
	const void *snapshot = sendlog_snapshot(out->log, &size);
	int rc = snprintf(path, sizeof path, "%s/positions", out->log_options.path) < (int)sizeof path
			 ? out->positions->keep(out->positions_self, path)
			 : -ENAMETOOLONG;
	if (rc == 0 && snapshot)
		rc = out->positions->restore(out->positions_self, snapshot, size);
	if (rc == -EBADMSG) {
		ss_log(out->host, SS_LOG_ERROR,
		       "The positions beside the spool are damaged or gone: what senders send again may be "
		       "kept twice path=%s",
		       path);
		rc = 0;
	}
	if (rc < 0)
		ss_log(out->host, SS_LOG_ERROR, "Cannot restore the positions in the spool: %s",
		       strerror(-rc));
	return rc;
}

static int32_t output_start(void *self)
{
	static const char *const subprotocols[] = {LINK_SUBPROTOCOL, NULL};
	struct output *out = self;
	char why[256];

	int rc = sendlog_open(out->host, &out->log_options, &log_events, out, why, &out->log);
	if (rc < 0) {
		ss_log(out->host, SS_LOG_ERROR, "Cannot open the spool: %s", why);
		return rc;
	}
	const char *why_renewed = sendlog_figures(out->log).why_renewed;
	if (why_renewed) {
		ss_log(out->host, SS_LOG_WARN, "The spool gets a new epoch: %s", why_renewed);
		out->host->metric_add(out->host, METRIC_RENEWALS, 1);
	}
	rc = restore_positions(out);
	if (rc < 0)
		return rc;
	out->ticked_ns = out->loop->now(out->loop_self);
	rc = out->loop->timer(out->loop_self, 1000000000, 1000000000, on_tick, out, &out->tick);
	out->endpoint.stream = out->conf->stream ? out->conf->stream : out->host->id;
	out->endpoint.rx_buffer = 2048; /* what comes in are acknowledgements */
	if (rc == 0)
		rc = endpoint_open(&out->endpoint, out->conf->links ? subprotocols : subprotocols + 1,
				   &events, out);
	return rc;
}

static void output_stop(void *self)
{
	struct output *out = self;

	endpoint_close(&out->endpoint, 1001, "shutting down");
	sendlog_close(out->log);
	out->log = NULL;
}

/* The host's positions with this batch, into out->snapshot; its size, 0: there is nothing to save. */
static int64_t take_snapshot(struct output *out)
{
	int64_t size = out->positions->snapshot(out->positions_self, out->snapshot, out->snapshot_allocated);

	if (size <= 0 || (size_t)size <= out->snapshot_allocated)
		return size;
	uint8_t *more = realloc(out->snapshot, (size_t)size * 2);
	if (!more)
		return -ENOMEM;
	out->snapshot = more;
	out->snapshot_allocated = (size_t)size * 2;
	return out->positions->snapshot(out->positions_self, out->snapshot, out->snapshot_allocated);
}

static int append(struct output *out, struct ss_batch *b)
{
	struct ss_position position;
	const char *source;
	bool resumable = out->positions && out->host->position(b, &position, &source) == 0;

	int rc = sendlog_admit(out->log, b, resumable);
	int64_t size = rc == 0 && resumable ? take_snapshot(out) : 0;
	if (rc < 0 || size < 0)
		return rc < 0 ? rc : (int)size;
	return sendlog_append(out->log, b, out->snapshot, (size_t)size);
}

static int32_t output_process(void *self, uint32_t port, struct ss_batch *b)
{
	struct output *out = self;
	const uint64_t first_seq = sendlog_next(out->log);

	(void)port;
	if (out->conf->links) {
		int rc = append(out, b);
		if (rc == -EAGAIN)
			out->busy = true;
		if (rc < 0)
			return rc == -EAGAIN ? SS_BUSY : rc;
	}
	if (out->peers.n_plain && plain_out_frame(out, b) < 0)
		ss_log(out->host, SS_LOG_WARN, "Out of memory for plain subscribers");
	if (!out->conf->links && !out->peers.n_plain) {
		out->host->drop(out->host, REASON_NO_CONSUMER, b->count);
		return SS_DONE;
	}
	/* without a spool, and as long as nobody asked for a link, having sent it to subscribers is all there
	 * is to do */
	if (!out->conf->links || (out->peers.n_plain && !out->known && !out->log_options.path))
		return SS_DONE;
	int rc = hold(out, b, first_seq, sendlog_next(out->log) - 1);
	return rc < 0 ? rc : SS_KEPT;
}

static void output_idle(void *self)
{
	struct output *out = self;

	if (!out->log)
		return;
	output_settle(out);
	pump_all(out);
}

static int32_t output_drain(void *self)
{
	struct output *out = self;

	out->draining = true;
	pump_all(out);
	output_settle(out);
	if (ss_ring_count(&out->held) && !out->log_options.path && out->peers.n_links == 0) {
		/* nobody is there to take it, and memory keeps nothing beyond the end */
		drop_held(out, UINT64_MAX, REASON_NO_CONSUMER);
	}
	return ss_ring_count(&out->held) ? SS_BUSY : 0;
}

static void output_reconfigure(void *self, void *fresh)
{
	struct output *out = self, *other = fresh;

	out->conf = other->conf;
	out->peers.conf = &out->conf->endpoint;
	endpoint_reconfigure(&out->endpoint, &other->endpoint);
	out->log_options.max_bytes = other->log_options.max_bytes;
	out->log_options.max_consumers = other->log_options.max_consumers;
	if (out->log)
		sendlog_limit(out->log, &out->log_options);
	rate_reconfigured(out);
	if (out->gathering)
		plain_out_flush(out, true);
}

static const struct ss_component websocket_output = {
	.struct_size = sizeof websocket_output,
	.kind = SS_KIND_SINK,
	.type = "websocket_output",
	.version = "0.1",
	.summary = "Sends events to WebSocket peers: reliable links, or one event per message.",
	.license = "MIT",
	.options = options,
	.option_size = sizeof options[0],
	.n_options = sizeof options / sizeof options[0],
	.metrics = metrics,
	.metric_size = sizeof metrics[0],
	.n_metrics = sizeof metrics / sizeof metrics[0],
	.reasons = reasons,
	.conf_size = sizeof(struct output_conf),
	.create = output_create,
	.destroy = output_destroy,
	.start = output_start,
	.stop = output_stop,
	.process = output_process,
	.drain = output_drain,
	.idle = output_idle,
	.reconfigure = output_reconfigure,
	.flags = SS_OWN_LOOP | SS_TELLS_PATHS, /* TLS handshakes compute for milliseconds */
};
SS_REGISTER(&websocket_output);
