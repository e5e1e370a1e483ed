/* SPDX-License-Identifier: MIT */
/*
 * nats_output - sink: events into a stream of NATS JetStream, each once, as the one that writes to it; or as
 * one of many, each at least once.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/ext/positions.h>
#include "plugins/nats_output/output.h"

#define TICK_NS UINT64_C(1000000000)
#define POLL_NS (5 * TICK_NS)

void output_trouble(struct output *o, int32_t level, const char *text)
{
	if (strcmp(o->trouble, text) == 0)
		return;
	if (*text)
		ss_log(o->host, level, "NATS: %s", text);
	else
		ss_log(o->host, SS_LOG_INFO, "NATS: events are stored again stream=%s", o->conf->stream);
	snprintf(o->trouble, sizeof o->trouble, "%s", text);
	o->host->set_degraded(o->host, *text ? o->trouble : NULL);
}

/* ---- what the connection tells ---- */

static void on_connected(void *arg)
{
	struct output *o = arg;

	o->host->metric_set(o->host, METRIC_CONNECTED, 1);
	o->state = STATE_ASKING;
	resume_ask(o);
}

static void on_disconnected(void *arg, const char *why)
{
	struct output *o = arg;
	char text[sizeof o->trouble];

	o->host->metric_set(o->host, METRIC_CONNECTED, 0);
	loop_of(o)->cancel(o->loop.self, o->hold);
	o->hold = 0;
	o->state = STATE_AWAY;
	o->polling = false;
	snprintf(text, sizeof text, "no connection: %.240s", why);
	/* said by the connection already */
	if (!o->trouble[0]) {
		snprintf(o->trouble, sizeof o->trouble, "%s", text);
		o->host->set_degraded(o->host, o->trouble);
	}
}

static void on_message(void *arg, const char *token, natsMsg *msg)
{
	publish_answer(arg, token, msg);
}

static void on_batch_end(void *arg)
{
	publish_pump(arg);
}

static const struct nats_handlers handlers = {
	.connected = on_connected,
	.disconnected = on_disconnected,
	.message = on_message,
	.batch_end = on_batch_end,
};

static void on_tick(void *arg)
{
	struct output *o = arg;
	const uint64_t now = now_of(o);

	if (o->state != STATE_SENDING)
		return;
	if (ss_ring_count(&o->sent) && now - o->progress_ns > (uint64_t)o->conf->timeout)
		nats_conn_fail(o->conn, "no acknowledgement in time");
	else if (!o->polling && now - o->asked_ns > POLL_NS)
		resume_ask(o);
}

/* ---- data ---- */

static int32_t process(void *self, uint32_t port, struct ss_batch *batch)
{
	return publish_take(self, port, batch);
}

static void idle(void *self)
{
	publish_pump(self);
}

static int32_t drain(void *self)
{
	struct output *o = self;

	publish_pump(o);
	o->draining = ss_ring_count(&o->kept) > 0;
	return o->draining ? SS_BUSY : 0;
}

/* ---- life cycle ---- */

static void destroy(void *self)
{
	struct output *o = self;

	if (!o)
		return;
	nats_conn_free(o->conn);
	subject_done(&o->subject);
	positions_done(&o->positions);
	ss_ring_done(&o->kept);
	ss_ring_done(&o->sent);
	ss_strbuf_done(&o->index);
	for (size_t i = 0; o->subjects && o->subjects[i]; i++)
		free(o->subjects[i]);
	free(o->subjects);
	free(o);
}

static int check_stream(const struct output *o)
{
	const char *name = o->conf->stream;
	const size_t len = strlen(name);

	if (len == 0 || len > 255 || name[strcspn(name, " \t\r\n.*>/\\")])
		return ss_config_error(
			o->host, "/stream",
			"expected the name of a stream: 1 to 255 bytes without blanks, '.', '*', '>', "
			"'/' and '\\'");
	const char *fault = o->conf->refused_subject ? subject_fault(o->conf->refused_subject) : NULL;
	return fault ? ss_config_error(o->host, "/refused_subject", "%s", fault) : 0;
}

static int want_attributes(const struct output *o)
{
	struct ss_iface attributes;

	if (!o->conf->attributes && !o->subject.by_attributes)
		return 0;
	int rc = o->host->query(o->host, SS_ATTRIBUTES, sizeof(struct ss_attribute_service), &attributes);
	if (rc == 0)
		((const struct ss_attribute_service *)attributes.vtbl)->want(attributes.self);
	return rc;
}

static int prepare(struct output *o)
{
	uint64_t run;
	int rc = o->host->query(o->host, SS_LOOP, sizeof(struct ss_loop), &o->loop);

	if (getrandom(&run, sizeof run, 0) != sizeof run)
		return -EIO;
	snprintf(o->run, sizeof o->run, "%016" PRIx64, run);
	if (rc == 0)
		rc = check_stream(o);
	if (rc == 0)
		rc = subject_parse(&o->subject, o->host, "/subject", o->conf->subject);
	if (rc == 0)
		rc = want_attributes(o);
	if (rc == 0)
		rc = nats_conn_new(&o->conn, o->host, &o->settings, &handlers, o);
	return rc;
}

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct output *o = calloc(1, sizeof *o);

	if (!o)
		return -ENOMEM;
	o->host = host;
	o->conf = conf;
	o->settings = (struct nats_settings)NATS_SETTINGS(o->conf);
	if (o->conf->durability == DURABILITY_DURABLE)
		o->settings.min_version = "2.10 older servers acknowledge before they sync to disk, which is "
					  "not durable: set durability "
					  "to \"relaxed\", or to \"replicated\" for a stream of 3 replicas";
	o->kept.value_size = sizeof(struct kept);
	o->sent.value_size = sizeof(struct sent);
	int rc = prepare(o);
	if (rc != 0) {
		destroy(o);
		return rc;
	}
	*self = o;
	return 0;
}

/*
 * Duplicates are removed as long as it runs.  What was stored before is in the stream, which may be out of
 * reach at the start; so no snapshot is given back, sources begin with the oldest events that they have, and
 * what is stored already is left out here.
 */
static void be_checkpointer(const struct output *o)
{
	struct ss_iface positions;

	if (o->host->query(o->host, SS_POSITIONS, sizeof(struct ss_positions), &positions) == 0)
		((const struct ss_positions *)positions.vtbl)->checkpointer(positions.self, SS_COVER_GIVEN);
}

static int32_t start(void *self)
{
	struct output *o = self;

	be_checkpointer(o);
	int rc = loop_of(o)->timer(o->loop.self, TICK_NS, TICK_NS, on_tick, o, &o->tick);
	if (rc == 0)
		rc = nats_conn_start(o->conn);
	if (rc != 0)
		ss_log(o->host, SS_LOG_ERROR, "NATS output cannot start error=%s", strerror(-rc));
	return rc;
}

static void stop(void *self)
{
	struct output *o = self;

	loop_of(o)->cancel(o->loop.self, o->tick);
	loop_of(o)->cancel(o->loop.self, o->hold);
	o->tick = o->hold = 0;
	nats_conn_stop(o->conn);
	o->state = STATE_AWAY;
	publish_stop(o);
}

/* ---- descriptor ---- */

static const char *const writers[] = {"one", "many", NULL};
static const char *const durabilities[] = {"durable", "replicated", "relaxed", NULL};

static const struct ss_option options[] = {
	NATS_OPTIONS(struct output_conf),
	SS_OPT(struct output_conf, stream, SS_OPT_STRING, NULL, "name of the stream, which has to exist",
	       .flags = SS_OPT_REQUIRED),
	SS_OPT(struct output_conf, subject, SS_OPT_STRING, NULL,
	       "subject of each event, one of the stream's: {component}, {peer}, {origin}, {input} and "
	       "{address}, "
	       "and fields of the payload by their JSON pointer, as {/sensor/id}, are replaced",
	       .flags = SS_OPT_REQUIRED),
	SS_OPT(struct output_conf, refused_subject, SS_OPT_STRING, NULL,
	       "publish events for which there is no subject to this one, another of the stream's, instead "
	       "of "
	       "dropping them"),
	SS_OPT(struct output_conf, writers, SS_OPT_ENUM, "one",
	       "whether this is the one that writes to the stream, and stores each event once, or one of "
	       "many, "
	       "which store each at least once",
	       .choices = writers),
	SS_OPT(struct output_conf, durability, SS_OPT_ENUM, "durable",
	       "what an acknowledged event has to survive: the loss of power (durable), that of one server "
	       "of "
	       "three (replicated), or the end of the server's process (relaxed)",
	       .choices = durabilities),
	SS_OPT(struct output_conf, max_pending, SS_OPT_INT, "4096",
	       "events that are published and not yet acknowledged, at most", .min = 1, .max = 65536),
	SS_OPT(struct output_conf, max_pending_bytes, SS_OPT_BYTES, "16MiB",
	       "memory of events that are not yet acknowledged; when it is used up, input pauses",
	       .min = 65536, .max = INT64_C(1) << 36),
	SS_OPT(struct output_conf, attributes, SS_OPT_BOOL, "true",
	       "pass on attributes of events, and when they were received, in headers"),
};

#define COUNTER(metric, text)                                                                                \
	{                                                                                                    \
		.name = metric, .help = text, .kind = SS_METRIC_COUNTER                                      \
	}

static const struct ss_metric metrics[] = {
	[METRIC_STORED] = COUNTER("semstreams_nats_stored_total", "Events that the stream has acknowledged."),
	[METRIC_RESENT] = COUNTER("semstreams_nats_resent_total",
				  "Events published again, as it was not known whether they were stored."),
	[METRIC_LOST] = COUNTER("semstreams_nats_lost_total",
				"Messages that were acknowledged and that the server has lost."),
	[METRIC_FENCED] =
		COUNTER("semstreams_nats_fenced_total", "Times that another writer was found in the stream."),
	[METRIC_FORGOTTEN] = COUNTER("semstreams_nats_forgotten_positions_total",
				     "Positions of streams of sources given up for those of others."),
	[METRIC_CONNECTED] = {.name = "semstreams_nats_connected",
			      .help = "1 while there is a connection to a server.",
			      .kind = SS_METRIC_GAUGE},
	[METRIC_PENDING] = {.name = "semstreams_nats_pending",
			    .help = "Events that are published and not yet acknowledged.",
			    .kind = SS_METRIC_GAUGE},
};

static const char *const reasons[] = {
	[REASON_DUPLICATE] = "stored_before",
	[REASON_TOO_LONG] = "too_long",
	[REASON_SUBJECT] = "no_subject",
	NULL,
};

static const struct ss_component nats_output = {
	.struct_size = sizeof nats_output,
	.kind = SS_KIND_SINK,
	.type = "nats_output",
	.version = "1.0",
	.summary = "Stores events in a stream of NATS JetStream.",
	.license = "MIT",
	.flags = SS_TELLS_PATHS,
	.options = options,
	.option_size = sizeof options[0],
	.n_options = sizeof options / sizeof options[0],
	.metrics = metrics,
	.metric_size = sizeof metrics[0],
	.n_metrics = sizeof metrics / sizeof metrics[0],
	.reasons = reasons,
	.conf_size = sizeof(struct output_conf),
	.create = create,
	.destroy = destroy,
	.start = start,
	.stop = stop,
	.process = process,
	.drain = drain,
	.idle = idle,
};
SS_REGISTER(&nats_output);
