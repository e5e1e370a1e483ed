/* SPDX-License-Identifier: MIT */
/*
 * nats_input - a source of the messages of a JetStream stream: asked for by a pull consumer, and acknowledged
 * once they are durable downstream.
 */
#include <stdlib.h>
#include <string.h>
#include "plugins/nats_input/nats_input.h"

#define LEAVE_NS UINT64_C(1000000000) /* the longest time to take leave */

/* ---- connection ---- */

static void on_connected(void *arg)
{
	struct input *in = arg;

	in->connection++;
	consumer_find(in);
}

static void on_disconnected(void *arg, const char *why)
{
	struct input *in = arg;
	char text[256];

	consumer_leave(in);
	input_leave(in);
	snprintf(text, sizeof text, "no connection to NATS: %.200s", why);
	consumer_trouble(in, -1, text); /* the connection has logged it */
}

static void on_message(void *arg, const char *token, natsMsg *msg)
{
	struct input *in = arg;

	if (!token) {
		delivery_message(in, msg);
		return;
	}
	pull_status(in, token, msg);
	natsMsg_Destroy(msg);
}

static void on_batch_end(void *arg)
{
	struct input *in = arg;

	delivery_emit(in);
	pull_more(in);
}

static const struct nats_handlers handlers = {.connected = on_connected,
					      .disconnected = on_disconnected,
					      .message = on_message,
					      .batch_end = on_batch_end};

/* ---- life ---- */

static void input_destroy(void *self)
{
	struct input *in = self;

	if (!in)
		return;
	delivery_done(in);
	nats_conn_free(in->conn);
	free(in->heard);
	free(in);
}

/* Names of streams and durables, which are parts of subjects. */
static int check_name(const struct ss_host *host, const char *pointer, const char *name)
{
	const size_t len = strlen(name);

	for (const char *c = name; *c; c++)
		if ((unsigned char)*c <= ' ' || strchr(".*>/\\", *c) || *c == 0x7f)
			return ss_config_error(host, pointer,
					       "must be a name without blanks and without any of . * > / \\");
	if (len == 0 || len > 200)
		return ss_config_error(host, pointer, "must have 1 to 200 bytes");
	return 0;
}

static int check(const struct ss_host *host, const struct input_conf *conf)
{
	int rc = check_name(host, "/stream", conf->stream);

	if (check_name(host, "/durable", conf->durable) < 0)
		rc = -EINVAL;
	if (conf->filter && (!*conf->filter || strpbrk(conf->filter, " \t\r\n")))
		rc = ss_config_error(host, "/filter",
				     "must be a subject, such as \"events.>\", without blanks");
	return rc;
}

static int32_t input_create(const struct ss_host *host, const void *conf, void **self)
{
	struct input *in = calloc(1, sizeof *in);

	if (!in)
		return -ENOMEM;
	in->host = host;
	in->conf = conf;
	in->settings = (struct nats_settings)NATS_SETTINGS(in->conf);
	in->got.value_size = sizeof(struct got);
	in->flights.value_size = sizeof(struct flight);
	in->heard = in->conf->trust_origin ? calloc(2, sizeof *in->heard) : NULL;
	int rc = in->conf->trust_origin && !in->heard ? -ENOMEM : check(host, in->conf);
	const int other = nats_conn_new(&in->conn, host, &in->settings, &handlers, in);
	if (rc == 0)
		rc = other;
	if (rc == 0)
		rc = host->query(host, SS_LOOP, sizeof(struct ss_loop), &in->loop);
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

	consumer_look_after(in);
	pull_more(in);
}

static void on_extend(void *arg)
{
	delivery_extend(arg);
}

static int32_t input_start(void *self)
{
	struct input *in = self;
	const uint64_t every = (uint64_t)in->conf->timeout, extend = (uint64_t)in->conf->ack_wait / 3;

	if (in->host->query(in->host, SS_POSITIONS, sizeof(struct ss_positions), &in->positions) < 0)
		in->positions.vtbl = NULL;
	int rc = loop_of(in)->timer(in->loop.self, every, every, on_tick, in, &in->tick);
	if (rc == 0 && in->conf->readers == READERS_MANY)
		rc = loop_of(in)->timer(in->loop.self, extend, extend, on_extend, in, &in->extend);
	if (rc == 0)
		rc = nats_conn_start(in->conn);
	if (rc < 0)
		ss_log(in->host, SS_LOG_ERROR, "Cannot start: %s", strerror(-rc));
	return rc;
}

static void input_stop(void *self)
{
	struct input *in = self;

	loop_of(in)->cancel(in->loop.self, in->tick);
	loop_of(in)->cancel(in->loop.self, in->extend);
	loop_of(in)->cancel(in->loop.self, in->again);
	loop_of(in)->cancel(in->loop.self, in->late);
	in->tick = in->extend = in->again = in->late = 0;
	in->leaving = false;
	delivery_answer(in);
	/* the last acknowledgements leave; what has come meanwhile is read, or closing would cut them off */
	natsConnection *nc = nats_conn_handle(in->conn);
	if (nc) {
		natsConnection_ProcessWriteEvent(nc);
		natsConnection_ProcessReadEvent(nc);
	}
	nats_conn_stop(in->conn);
}

static void input_pause(void *self)
{
	((struct input *)self)->paused = true;
}

static void input_resume(void *self)
{
	struct input *in = self;

	in->paused = false;
	if (in->ending)
		return;
	delivery_emit(in);
	pull_more(in);
}

/* ---- the end ---- */

static void leave(struct input *in)
{
	if (!in->leaving)
		return;
	in->leaving = false;
	loop_of(in)->cancel(in->loop.self, in->late);
	in->late = 0;
	in->host->drained(in->host);
}

static void on_late(void *arg)
{
	struct input *in = arg;

	in->late = 0;
	leave(in);
}

/* The server has heard all that was said before it was asked. */
static void on_last_answer(void *arg, natsMsg *msg)
{
	struct input *in = arg;

	(void)msg;
	in->leave_asks = false;
	if (!in->came && in->n_flying == 0 && !in->owes)
		leave(in);
	else if (in->came)
		input_leave(in);
}

void input_leave(struct input *in)
{
	char subject[600];

	if (!in->leaving || in->leave_asks)
		return;
	if (!nats_conn_handle(in->conn)) {
		leave(in);
		return;
	}
	if (in->n_flying || in->owes)
		return;
	in->came = false;
	snprintf(subject, sizeof subject, "$JS.API.CONSUMER.INFO.%s.%s", in->conf->stream, in->conf->durable);
	in->leave_asks = true;
	if (nats_conn_request(in->conn, subject, "", 0, on_last_answer, in) < 0) {
		in->leave_asks = false;
		leave(in);
	}
}

/*
 * What the server has sent already is given back, and what is on its way gets its time to be acknowledged:
 * who closes a connection with something unread cuts off what he has said last.  Those downstream that keep
 * events until they drain themselves are not waited for.
 */
static int32_t input_drain(void *self)
{
	struct input *in = self;

	in->ending = true;
	delivery_return(in);
	if (!in->running || loop_of(in)->timer(in->loop.self, LEAVE_NS, 0, on_late, in, &in->late) < 0)
		return 0;
	in->leaving = true;
	in->came = true;
	input_leave(in);
	return in->leaving ? SS_BUSY : 0;
}

static void input_acked(void *self, uint64_t cookie, int32_t status)
{
	delivery_acked(self, cookie, status);
}

/* ---- descriptor ---- */

static const char *const readers[] = {"one", "many", NULL};
static const char *const delivers[] = {"all", "new", NULL};
static const char *const outputs[] = {"events", "error", NULL};
static const char *const reasons[] = {[REASON_UNDELIVERABLE] = "undeliverable", NULL};

#define OPT(...) SS_OPT(struct input_conf, __VA_ARGS__)
static const struct ss_option options[] = {
	NATS_OPTIONS(struct input_conf),
	OPT(stream, SS_OPT_STRING, NULL, "name of the stream, which must be there", .flags = SS_OPT_REQUIRED),
	OPT(durable, SS_OPT_STRING, NULL, "name of the durable consumer, which is made if it is not there",
	    .flags = SS_OPT_REQUIRED),
	OPT(readers, SS_OPT_ENUM, "one",
	    "one: only this component reads with the durable, in order, and each event is stored once; many: "
	    "several hosts share the messages of the durable, each at least once",
	    .choices = readers),
	OPT(filter, SS_OPT_STRING, NULL, "only messages of this subject, which may have wildcards",
	    .flags = 0),
	OPT(deliver, SS_OPT_ENUM, "all",
	    "where a durable begins that was not there: all messages of the stream, or only new ones",
	    .choices = delivers),
	OPT(batch, SS_OPT_INT, "512", "messages to ask for at a time", .min = 1, .max = 65536),
	OPT(max_pending, SS_OPT_INT, "8192", "messages at most that are here and not durable downstream yet",
	    .min = 1, .max = 1 << 20),
	OPT(memory, SS_OPT_BYTES, "64MiB",
	    "bytes of these messages at most; one message may have a quarter of it", .min = 1 << 16,
	    .max = INT64_C(1) << 40),
	OPT(max_deliver, SS_OPT_INT, "10",
	    "readers many: a message that came so often is given up, 0 = never: it goes to the output error, "
	    "or is "
	    "dropped where nothing reads that",
	    .min = 0, .max = 1000000),
	OPT(ack_wait, SS_OPT_DURATION, "30s",
	    "readers many: when a host has not been heard of for so long, others get its messages; taken "
	    "when the "
	    "durable is made",
	    .min = INT64_C(1000000000), .max = INT64_C(86400000000000)),
	OPT(trust_origin, SS_OPT_BOOL, "false",
	    "believe the attributes in headers of messages: all who may publish to the stream can then name "
	    "any "
	    "origin",
	    .flags = 0),
};

static const struct ss_metric metrics[] = {
	[METRIC_MESSAGES] = {.name = "semstreams_nats_received_messages_total",
			     .help = "Messages of the stream that were emitted as events.",
			     .kind = SS_METRIC_COUNTER},
	[METRIC_BYTES] = {.name = "semstreams_nats_received_bytes_total",
			  .help = "Payload bytes of these messages.",
			  .kind = SS_METRIC_COUNTER},
	[METRIC_REDELIVERED] = {.name = "semstreams_nats_redelivered_total",
				.help = "Messages that came again.",
				.kind = SS_METRIC_COUNTER},
	[METRIC_LOST] =
		{.name = "semstreams_nats_lost_total",
		 .help = "Messages that were removed from the stream before they were read, or that the "
			 "servers lost.",
		 .kind = SS_METRIC_COUNTER},
	[METRIC_PENDING] = {.name = "semstreams_nats_pending_messages",
			    .help = "Messages of the stream that the durable has not sent to anybody yet.",
			    .kind = SS_METRIC_GAUGE},
	[METRIC_UNACKED] = {.name = "semstreams_nats_unacked_messages",
			    .help = "Messages that are here and not durable downstream yet.",
			    .kind = SS_METRIC_GAUGE},
	[METRIC_CONNECTED] = {.name = "semstreams_nats_reading",
			      .help = "1 while connected and reading, else 0.",
			      .kind = SS_METRIC_GAUGE},
};

static const struct ss_component nats_input = {
	.struct_size = sizeof nats_input,
	.kind = SS_KIND_SOURCE,
	.type = "nats_input",
	.version = "0.1",
	.summary = "Reads a stream of NATS JetStream, alone and in order, or together with other hosts.",
	.license = "MIT",
	.options = options,
	.option_size = sizeof options[0],
	.n_options = sizeof options / sizeof options[0],
	.metrics = metrics,
	.metric_size = sizeof metrics[0],
	.n_metrics = sizeof metrics / sizeof metrics[0],
	.outputs = outputs,
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
	.flags = SS_TELLS_PATHS,
};
SS_REGISTER(&nats_input);
