/* SPDX-License-Identifier: MIT */
/*
 * consumer - the stream and the durable.  Many readers bind to a durable that is there, or make it.  One
 * reader makes it anew with each connection, from the first message that is not over: JetStream gives what
 * was not acknowledged again in any order, and positions need the order of the stream.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <semstreams/base/crc32c.h>
#include "plugins/nats_input/nats_input.h"

#define SECOND_NS UINT64_C(1000000000)
enum {
	AGAIN_S = 5,   /* at most, until something is looked for again that was not there */
	STABLE_S = 10, /* a connection that was of use for so long counts as good */
	IDLE_WAIT =
		3600 /* seconds after which the server sends to one reader again what it has not heard of */
};

static bool reads_alone(const struct input *in)
{
	return in->conf->readers == READERS_ONE;
}

/* ---- what is wrong ---- */

void consumer_trouble(struct input *in, int level, const char *text)
{
	if (!text && !in->trouble[0])
		return;
	if (text && strcmp(in->trouble, text) == 0)
		return;
	snprintf(in->trouble, sizeof in->trouble, "%s", text ? text : "");
	in->host->set_degraded(in->host, text);
	if (text && level >= 0)
		ss_log(in->host, level, "%s stream=%s durable=%s", text, in->conf->stream, in->conf->durable);
}

static void lost(struct input *in, uint64_t from, uint64_t to)
{
	if (in->conf->filter) /* nobody knows whether they were for this durable */
		return;
	in->host->metric_add(in->host, METRIC_LOST, (int64_t)(to - from + 1));
	ss_log(in->host, SS_LOG_ERROR,
	       "Messages were removed from the stream before they were read; see its limits, and who purges "
	       "it "
	       "from=%" PRIu64 " to=%" PRIu64 " stream=%s",
	       from, to, in->conf->stream);
}

static void on_again(void *arg)
{
	struct input *in = arg;

	in->again = 0;
	if (!in->running && nats_conn_handle(in->conn))
		consumer_find(in);
}

/* What cannot be used now is looked for again. */
static void not_yet(struct input *in, const char *text)
{
	const uint64_t most = (uint64_t)in->conf->retry_max, again = AGAIN_S * SECOND_NS;

	consumer_trouble(in, SS_LOG_ERROR, text);
	if (!in->again)
		(void)loop_of(in)->timer(in->loop.self, most < again ? most : again, 0, on_again, in,
					 &in->again);
}

/* An answer, for json_decref(); NULL: there is none, or it says an error, which is dealt with, unless it is
 * the one that is expected. */
static json_t *answer_of(struct input *in, natsMsg *msg, const char *what, int expected, int *error)
{
	char why[256], text[600];

	*error = -1;
	if (!msg) {
		snprintf(text, sizeof text, "the server has not answered in time: %s", what);
		nats_conn_fail(in->conn, text);
		return NULL;
	}
	json_t *root = api_read(msg, error, why, sizeof why);
	if (*error == 0 || *error == expected)
		return root;
	if (*error == API_NO_STREAM)
		snprintf(text, sizeof text,
			 "There is no stream \"%s\"; it is not made here: nats stream add %s",
			 in->conf->stream, in->conf->stream);
	else
		snprintf(text, sizeof text, "%s failed: %s", what, why);
	json_decref(root);
	in->running = false;
	not_yet(in, text);
	return NULL;
}

static void request(struct input *in, const char *what, const char *durable, const char *body,
		    nats_reply_fn *reply)
{
	char subject[600];

	snprintf(subject, sizeof subject, "$JS.API.%s.%s%s%s", what, in->conf->stream, durable ? "." : "",
		 durable ? durable : "");
	const int rc =
		nats_conn_request(in->conn, subject, body ? body : "", body ? strlen(body) : 0, reply, in);
	if (rc < 0 && rc != -ENOTCONN)
		nats_conn_fail(in->conn, "a request could not be sent");
}

/* ---- making the durable ---- */

/* RFC 3339, which JetStream takes. */
static void put_time(uint64_t ns, char *out, size_t size)
{
	const time_t seconds = (time_t)(ns / SECOND_NS);
	struct tm tm;
	char text[32];

	gmtime_r(&seconds, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, size, "%s.%09" PRIu64 "Z", text, ns % SECOND_NS);
}

/* Where one reader begins: with the first message that is not over.  The newest that was read is read again,
 * to see that it is still the same one. */
static void set_start(struct input *in, json_t *config)
{
	char time[64];
	uint64_t from = in->settled + 1;

	if (in->went_back) {
		put_time(in->settled_ns + 1, time, sizeof time);
		json_object_set_new(config, "deliver_policy",
				    json_string(in->settled_ns ? "by_start_time" : "all"));
		if (in->settled_ns)
			json_object_set_new(config, "opt_start_time", json_string(time));
		return;
	}
	if (in->top.seq && from > in->top.seq)
		from = in->top.seq;
	json_object_set_new(config, "deliver_policy", json_string("by_start_sequence"));
	json_object_set_new(config, "opt_start_seq", json_integer((json_int_t)(from ? from : 1)));
}

static char *make_config(struct input *in)
{
	const struct input_conf *conf = in->conf;
	json_t *config =
		json_pack("{s:s, s:s, s:s, s:i}", "durable_name", conf->durable, "replay_policy", "instant",
			  "ack_policy", reads_alone(in) ? "all" : "explicit", "max_deliver", -1);
	json_t *root = json_pack("{s:s, s:O}", "stream_name", conf->stream, "config", config);

	if (conf->filter)
		json_object_set_new(config, "filter_subject", json_string(conf->filter));
	if (reads_alone(in)) {
		json_object_set_new(config, "ack_wait", json_integer((json_int_t)(IDLE_WAIT * SECOND_NS)));
		json_object_set_new(config, "max_ack_pending", json_integer(-1));
		set_start(in, config);
	} else {
		json_object_set_new(config, "ack_wait", json_integer(conf->ack_wait));
		json_object_set_new(config, "max_ack_pending", json_integer(-1));
		json_object_set_new(config, "deliver_policy",
				    json_string(conf->deliver == DELIVER_NEW ? "new" : "all"));
	}
	char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(config);
	json_decref(root);
	return text;
}

static void run(struct input *in)
{
	if (in->went_back) { /* what comes now is the first of a new epoch */
		in->went_back = false;
		in->top = (struct ack_subject){0};
		in->next = in->settled = 0;
	}
	pull_forget(in);
	in->running = true;
	in->bound = true;
	in->failed = false;
	in->server_waits = false;
	in->consumer_seq = 0;
	in->up_ns = in->heard_ns = input_now(in);
	in->host->metric_set(in->host, METRIC_CONNECTED, 1);
	consumer_trouble(in, -1, NULL);
	ss_log(in->host, SS_LOG_INFO, "Reading stream=%s durable=%s next=%" PRIu64, in->conf->stream,
	       in->conf->durable, reads_alone(in) ? in->next : 0);
	delivery_answer(in);
	pull_more(in);
}

static void on_made(void *arg, natsMsg *msg)
{
	struct input *in = arg;
	int error;

	json_t *root = answer_of(in, msg, "making the durable", 0, &error);
	json_decref(root);
	if (root)
		run(in);
}

static void make(struct input *in)
{
	char *config = make_config(in);

	if (config)
		request(in, "CONSUMER.DURABLE.CREATE", in->conf->durable, config, on_made);
	else
		nats_conn_fail(in->conn, "out of memory");
	free(config);
}

static void on_deleted(void *arg, natsMsg *msg)
{
	struct input *in = arg;
	int error;

	json_t *root = answer_of(in, msg, "deleting the durable", API_NO_CONSUMER, &error);
	json_decref(root);
	if (root)
		make(in);
}

/* ---- the durable as it is ---- */

static const char *fault_of(const struct input *in, const json_t *consumer)
{
	const char *policy = api_text(consumer, "config.ack_policy");
	const char *filter = api_text(consumer, "config.filter_subject");

	if (api_text(consumer, "config.deliver_subject"))
		return "The durable pushes to a subject; make one that is pulled, or name another in durable";
	if (!reads_alone(in) && (!policy || strcmp(policy, "explicit") != 0))
		return "The durable does not take each message's acknowledgement (ack_policy explicit), "
		       "which "
		       "readers: \"many\" needs; name another in durable";
	if (!reads_alone(in) && strcmp(filter ? filter : "", in->conf->filter ? in->conf->filter : "") != 0)
		return "The durable has another filter_subject than the option filter; it is not changed "
		       "here";
	return NULL;
}

/* One reader that has no position begins where the durable was. */
static void begin_at(struct input *in, const json_t *consumer, uint64_t last_seq)
{
	if (consumer)
		in->settled = api_number(consumer, "ack_floor.stream_seq");
	else if (in->conf->deliver == DELIVER_NEW)
		in->settled = last_seq;
	in->next = in->settled + 1;
	in->bound = true;
}

static void on_consumer(void *arg, natsMsg *msg)
{
	struct input *in = arg;
	int error;

	json_t *root = answer_of(in, msg, "asking for the durable", API_NO_CONSUMER, &error);
	if (!root)
		return;
	const json_t *found = error ? NULL : root;
	const char *fault = found ? fault_of(in, found) : NULL;
	if (fault) {
		not_yet(in, fault);
	} else if (reads_alone(in)) {
		if (!in->bound)
			begin_at(in, found, in->last_seq);
		request(in, "CONSUMER.DELETE", in->conf->durable, NULL, on_deleted);
	} else if (found) {
		run(in);
	} else {
		if (in->bound)
			ss_log(in->host, SS_LOG_WARN,
			       "The durable is gone and is made anew; what it still had to give comes again "
			       "as the "
			       "option deliver says stream=%s durable=%s",
			       in->conf->stream, in->conf->durable);
		make(in);
	}
	json_decref(root);
}

/* ---- the stream ---- */

/* When it was made and what its name is; the last bytes tell apart the times it went back. */
static void set_epoch(const struct input *in, const char *created, uint8_t epoch[16])
{
	const uint32_t parts[4] = {ss_crc32c(0, created, strlen(created)),
				   ss_crc32c(1, created, strlen(created)),
				   ss_crc32c(0, in->conf->stream, strlen(in->conf->stream)), 0};

	for (size_t i = 0; i < 16; i++)
		epoch[i] = (uint8_t)(parts[i / 4] >> (24 - 8 * (i % 4)));
}

static void begin_epoch_anew(struct input *in)
{
	for (size_t i = 16; i-- > 12 && ++in->stream.epoch[i] == 0;) {
	}
	delivery_forget(in);
	in->went_back = true;
}

/* The server has lost what was read already: it gives the same numbers to other messages. */
static void go_back(struct input *in, uint64_t from, uint64_t last)
{
	ss_log(in->host, SS_LOG_ERROR,
	       "The stream went back: the server lost messages that it had stored and that were read here "
	       "already%s "
	       "read=%" PRIu64 " last=%" PRIu64 " stream=%s",
	       in->settled_ns ? "; what was stored since then is read"
			      : "; since when is not known, so all it has is read again, and comes twice",
	       from, last, in->conf->stream);
	in->host->metric_add(in->host, METRIC_LOST, last < from ? (int64_t)(from - last) : 1);
	begin_epoch_anew(in);
}

static void recreated(struct input *in)
{
	ss_log(in->host, SS_LOG_WARN,
	       "The stream was deleted and made anew; it is read from its beginning stream=%s",
	       in->conf->stream);
	delivery_forget(in);
	in->top = (struct ack_subject){0};
	in->settled = 0;
	in->next = 1;
	in->removed_to = in->lost_to = 0;
	in->went_back = false;
}

/* What all who keep events have of this stream. */
static void resume(struct input *in)
{
	const struct ss_positions *positions = in->positions.vtbl;
	struct ss_position at;
	const uint8_t whole[16] = {0};

	if (!positions || positions->resume(in->positions.self, whole, &at) < 0)
		return;
	in->bound = true;
	if (memcmp(at.epoch, in->stream.epoch, 12) != 0) {
		recreated(in);
		return;
	}
	memcpy(in->stream.epoch, at.epoch, sizeof at.epoch);
	in->settled = at.seq;
	in->next = at.seq + 1;
}

static void identify(struct input *in, const char *created)
{
	uint8_t epoch[16];

	set_epoch(in, created, epoch);
	if (in->stream.known && memcmp(in->stream.epoch, epoch, 12) == 0)
		return;
	const bool first = !in->stream.known;
	memcpy(in->stream.epoch, epoch, sizeof epoch);
	in->stream.known = true;
	if (first && reads_alone(in))
		resume(in);
	else if (!first)
		recreated(in);
}

/* One reader: has it what is to be read next? */
static void check_range(struct input *in)
{
	const uint64_t read = in->top.seq > in->settled ? in->top.seq : in->settled;
	const uint64_t first = in->first_seq, last = in->last_seq;

	if (in->went_back || !in->bound)
		return;
	if (last < read) {
		go_back(in, read, last);
	} else if (first > in->next) {
		lost(in, in->next, first - 1);
		in->next = first;
	}
	in->removed_to = 0;
}

static void on_stream(void *arg, natsMsg *msg)
{
	struct input *in = arg;
	int error;

	json_t *root = answer_of(in, msg, "asking for the stream", 0, &error);
	if (!root)
		return;
	const char *created = api_text(root, "created"), *retention = api_text(root, "config.retention");

	in->last_seq = api_number(root, "state.last_seq");
	in->first_seq = api_number(root, "state.first_seq");
	identify(in, created ? created : "");
	if (reads_alone(in) && retention && strcmp(retention, "limits") != 0) {
		not_yet(in, "The stream removes what was read (its retention is not \"limits\"), so it can "
			    "be read "
			    "in order by no durable that is made anew; set readers to \"many\"");
	} else {
		if (reads_alone(in))
			check_range(in);
		request(in, "CONSUMER.INFO", in->conf->durable, NULL, on_consumer);
	}
	json_decref(root);
}

void consumer_find(struct input *in)
{
	if (in->failed) {
		delivery_forget(in);
		in->next = in->settled + 1;
	}
	request(in, "STREAM.INFO", NULL, NULL, on_stream);
}

void consumer_leave(struct input *in)
{
	in->running = false;
	loop_of(in)->cancel(in->loop.self, in->again);
	in->again = 0;
	in->host->metric_set(in->host, METRIC_CONNECTED, 0);
	pull_forget(in);
	delivery_return(in);
}

/* ---- while it runs ---- */

static void on_consumer_again(void *arg, natsMsg *msg)
{
	struct input *in = arg;
	int error;

	json_t *root = answer_of(in, msg, "asking for the durable", API_NO_CONSUMER, &error);
	if (!root)
		return;
	if (error && in->running)
		nats_conn_fail(in->conn, "the durable was deleted by somebody else");
	const uint64_t delivered = api_number(root, "delivered.stream_seq");
	const uint64_t told = delivered > in->lost_to ? delivered : in->lost_to;
	if (!error)
		in->host->metric_set(in->host, METRIC_PENDING, (int64_t)api_number(root, "num_pending"));
	if (!error && !reads_alone(in) && told && in->first_seq > told + 1) {
		lost(in, told + 1, in->first_seq - 1);
		in->lost_to = in->first_seq - 1;
	}
	json_decref(root);
}

static void on_stream_again(void *arg, natsMsg *msg)
{
	struct input *in = arg;
	int error;

	json_t *root = answer_of(in, msg, "asking for the stream", 0, &error);
	if (!root)
		return;
	const char *created = api_text(root, "created");
	uint8_t epoch[16];

	set_epoch(in, created ? created : "", epoch);
	in->first_seq = api_number(root, "state.first_seq");
	if (memcmp(epoch, in->stream.epoch, 12) != 0) {
		nats_conn_fail(in->conn, "the stream was deleted and made anew");
	} else if (reads_alone(in) && in->first_seq > in->next) {
		/* messages may be on their way here that were removed after they had been sent */
		if (in->removed_to > in->next) {
			lost(in, in->next, in->removed_to - 1);
			in->next = in->removed_to;
		}
		in->removed_to = in->first_seq;
	}
	json_decref(root);
	if (in->running)
		request(in, "CONSUMER.INFO", in->conf->durable, NULL, on_consumer_again);
}

void consumer_look_after(struct input *in)
{
	const uint64_t now = input_now(in);

	if (!in->running)
		return;
	in->server_waits = false;
	if (pull_left(in) && now - in->heard_ns > 2 * (uint64_t)in->conf->timeout) {
		nats_conn_fail(in->conn, "the server has sent neither messages nor heartbeats");
		return;
	}
	if (now - in->up_ns > STABLE_S * SECOND_NS)
		nats_conn_good(in->conn);
	request(in, "STREAM.INFO", NULL, NULL, on_stream_again);
}

/* The newest message that was read has come again; it must be the same one. */
static bool is_another(const struct input *in, const struct ack_subject *at)
{
	return in->top.seq == at->seq && in->top.time_ns != at->time_ns;
}

bool consumer_accept(struct input *in, const struct ack_subject *at)
{
	if (is_another(in, at)) {
		go_back(in, in->top.seq, at->seq);
		nats_conn_fail(in->conn, "the stream went back");
		return false;
	}
	if (at->consumer_seq != in->consumer_seq + 1) {
		consumer_trouble(
			in, SS_LOG_ERROR,
			"Another host reads with this durable, and gets messages that are missing here; "
			"give each a durable of its own, or set readers to \"many\" everywhere");
		nats_conn_fail(in->conn, "another host reads with this durable");
		return false;
	}
	in->consumer_seq = at->consumer_seq;
	if (at->seq < in->next)
		return false;
	if (in->removed_to > in->next && at->seq >= in->removed_to)
		lost(in, in->next, in->removed_to - 1);
	in->removed_to = 0;
	in->next = at->seq + 1;
	return true;
}
