/* SPDX-License-Identifier: MIT */
/*
 * resume - where to go on: what the stream is like, whether its last message is ours, and, at first, where
 * all streams of all sources are, read from the messages themselves.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>
#include "plugins/nats/api.h"
#include "plugins/nats_output/output.h"

#define WAIT_FIRST_NS (1000 * UINT64_C(1000000))
#define WAIT_FENCE_NS (10000 * UINT64_C(1000000))
#define WAIT_LAST_NS  (300000 * UINT64_C(1000000))

enum { SCAN_MAX = 8192 /* messages to read back at most */ };

static void on_stream(void *arg, natsMsg *msg);
static void look_at(struct output *o, uint64_t seq);

/* ---- asking ---- */

static void ask(struct output *o, const char *what, const char *body, nats_reply_fn *reply)
{
	char subject[320];

	snprintf(subject, sizeof subject, "$JS.API.%s.%s", what, o->conf->stream);
	o->asked_ns = now_of(o);
	if (nats_conn_request(o->conn, subject, body, strlen(body), reply, o) != 0)
		nats_conn_fail(o->conn, "a request cannot be sent");
}

void resume_ask(struct output *o)
{
	o->polling = o->state == STATE_SENDING;
	o->asked_seq = o->stored_seq;
	ask(o, "STREAM.INFO", "", on_stream);
}

static void on_hold_over(void *arg)
{
	struct output *o = arg;

	o->hold = 0;
	if (o->state != STATE_HELD)
		return;
	o->state = STATE_ASKING;
	resume_ask(o);
}

static void hold(struct output *o, uint64_t first_ns)
{
	uint64_t r = 0;

	o->state = STATE_HELD;
	o->wait_ns = o->wait_ns < first_ns ? first_ns : 2 * o->wait_ns;
	if (o->wait_ns > WAIT_LAST_NS)
		o->wait_ns = WAIT_LAST_NS;
	if (getrandom(&r, sizeof r, 0) != sizeof r)
		r = o->wait_ns;
	loop_of(o)->cancel(o->loop.self, o->hold);
	if (loop_of(o)->timer(o->loop.self, o->wait_ns + r % (o->wait_ns / 4), 0, on_hold_over, o, &o->hold) <
	    0)
		nats_conn_fail(o->conn, "out of memory");
}

void resume_later(struct output *o)
{
	hold(o, WAIT_FIRST_NS);
}

/* An answer that did not come: true if there is nothing to go on with. */
static bool is_missing(struct output *o, const natsMsg *msg)
{
	if (msg)
		return false;
	if (nats_conn_handle(o->conn))
		nats_conn_fail(o->conn,
			       "no answer of JetStream in time; is it enabled, and is there a leader?");
	return true;
}

/* ---- what the stream is like ---- */

static void free_subjects(struct output *o)
{
	for (size_t i = 0; o->subjects && o->subjects[i]; i++)
		free(o->subjects[i]);
	free(o->subjects);
	o->subjects = NULL;
}

static bool take_subjects(struct output *o, const json_t *list)
{
	const size_t n = json_array_size(list);

	free_subjects(o);
	o->subjects = calloc(n + 1, sizeof *o->subjects);
	for (size_t i = 0; o->subjects && i < n; i++) {
		const char *text = json_string_value(json_array_get(list, i));
		o->subjects[i] = strdup(text ? text : "");
		if (!o->subjects[i])
			free_subjects(o);
	}
	return o->subjects != NULL;
}

/* Why the stream does not do what durability says; NULL: it does. */
static const char *durability_fault(const struct output *o, const json_t *info)
{
	const char *storage = api_text(info, "config.storage");
	const bool file = storage && strcmp(storage, "file") == 0;
	/* members that servers from 2.10 on have; older ones sync every two minutes, whatever they are told
	 */
	const json_t *config = json_object_get(info, "config");
	const bool syncs = json_object_get(config, "compression") != NULL;

	if (o->conf->durability == DURABILITY_RELAXED)
		return NULL;
	if (!file)
		return "durability cannot be had, the stream is kept in memory; create it with --storage "
		       "file, or "
		       "set durability to \"relaxed\"";
	if (o->conf->durability == DURABILITY_REPLICATED)
		return api_number(info, "config.num_replicas") >= 3
			       ? NULL
			       : "durability is \"replicated\", but the stream has fewer than 3 replicas; "
				 "create it "
				 "with --replicas 3, or set durability to \"relaxed\"";
	return syncs ? NULL
		     : "durability is \"durable\", but this server acknowledges before it syncs to disk, "
		       "which it "
		       "does every two minutes; set durability to \"relaxed\", or to \"replicated\" for a "
		       "stream "
		       "of 3 replicas";
}

static void report_loss(struct output *o, uint64_t last_seq, bool is_new)
{
	const uint64_t lost = is_new ? o->asked_seq : o->asked_seq - last_seq;

	o->host->metric_add(o->host, METRIC_LOST, (int64_t)lost);
	ss_log(o->host, SS_LOG_ERROR,
	       "%s: messages that were acknowledged are gone, going on behind what is there stream=%s "
	       "lost=%" PRIu64 " last_seq=%" PRIu64,
	       is_new ? "The stream was deleted and created anew"
		      : "The server has lost the end of the stream",
	       o->conf->stream, lost, last_seq);
	o->stored_seq = last_seq;
}

/* What happened to it since it was looked at. */
static void compare(struct output *o, const json_t *info)
{
	const char *created = api_text(info, "created");
	const uint64_t last = api_number(info, "state.last_seq"), first = api_number(info, "state.first_seq");
	const bool seen = o->created[0] != '\0',
		   is_new = seen && strcmp(o->created, created ? created : "") != 0;

	if (seen && o->known && (is_new ? o->asked_seq > 0 : last < o->asked_seq))
		report_loss(o, last, is_new);
	if (seen && !is_new && last && first > last && first != o->first_seq)
		ss_log(o->host, SS_LOG_WARN,
		       "The stream was purged, or all of it has expired stream=%s last_seq=%" PRIu64,
		       o->conf->stream, last);
	snprintf(o->created, sizeof o->created, "%s", created ? created : "");
	o->last_seq = last;
	o->first_seq = first;
}

static void explain_error(struct output *o, int code, const char *why)
{
	char text[400];

	if (code == API_NO_STREAM)
		snprintf(text, sizeof text,
			 "there is no stream \"%.64s\"; create it: nats stream add %.64s --subjects '%.64s' "
			 "--storage file --discard new --dupe-window 2m --defaults",
			 o->conf->stream, o->conf->stream, o->conf->subject);
	else
		snprintf(text, sizeof text, "stream \"%.64s\": %.160s", o->conf->stream, why);
	output_trouble(o, SS_LOG_ERROR, text);
	resume_later(o);
}

/* True: it can be used. */
static bool judge(struct output *o, const json_t *info)
{
	const char *fault = durability_fault(o, info);
	const bool fewer = o->known && api_number(info, "state.last_seq") < o->asked_seq;

	/* a replica that has only just become the leader may have to read what it has */
	o->doubted = fewer && !o->doubted;
	if (o->doubted) {
		resume_later(o);
		return false;
	}
	compare(o, info);
	if (!take_subjects(o, json_object_get(json_object_get(info, "config"), "subjects"))) {
		nats_conn_fail(o->conn, "out of memory");
		return false;
	}
	if (!fault && !o->subjects[0])
		fault = "the stream has no subjects, as it mirrors another one; publish to that";
	if (!fault)
		return true;
	output_trouble(o, SS_LOG_ERROR, fault);
	o->host->set_health(o->host, fault);
	resume_later(o);
	return false;
}

/* ---- another writer ---- */

static void fence(struct output *o)
{
	char text[400];

	o->host->metric_add(o->host, METRIC_FENCED, !o->fenced);
	o->fenced = true;
	o->known = false;
	o->fence_seq = o->last_seq;
	snprintf(text, sizeof text,
		 "another writer publishes to stream \"%.64s\"; events wait until it has stopped for a "
		 "while: a "
		 "stream has one nats_output, or all of them set writers to \"many\"",
		 o->conf->stream);
	output_trouble(o, SS_LOG_ERROR, text);
	hold(o, WAIT_FENCE_NS);
}

static void begin(struct output *o)
{
	if (o->fenced)
		ss_log(o->host, SS_LOG_WARN, "The other writer has stopped, going on behind it stream=%s",
		       o->conf->stream);
	o->fenced = false;
	o->host->set_health(o->host, NULL);
	publish_begin(o, o->last_seq);
}

/* ---- positions, from the last message back ---- */

static void end_scan(struct output *o, bool found)
{
	if (!found && o->last_seq)
		ss_log(o->host, SS_LOG_WARN,
		       "No message of the stream says how far its sources are: what they send again is "
		       "stored again "
		       "stream=%s last_seq=%" PRIu64,
		       o->conf->stream, o->last_seq);
	o->known = true;
	begin(o);
}

static void on_scanned(void *arg, natsMsg *msg)
{
	struct output *o = arg;
	char why[256], *value;
	bool found = false;
	int code;

	if (is_missing(o, msg) || o->state != STATE_READING)
		return;
	json_t *answer = api_read(msg, &code, why, sizeof why);
	char *headers = code == 0 ? api_headers(answer) : NULL;
	if ((value = api_header(headers, POSITION_HEADER)))
		(void)positions_restore(&o->positions, value);
	free(value);
	if ((value = api_header(headers, INDEX_HEADER)))
		found = positions_restore(&o->positions, value);
	free(value);
	free(headers);
	json_decref(answer);
	if (code != 0 && code != API_NO_MESSAGE)
		nats_conn_fail(o->conn, why);
	else if (found || o->scan_seq <= 1 || o->scan_seq <= o->first_seq || --o->scan_left == 0)
		end_scan(o, found);
	else
		look_at(o, o->scan_seq - 1);
}

/* ---- is the last message ours? ---- */

static void on_last(void *arg, natsMsg *msg)
{
	struct output *o = arg;
	char why[256];
	uint64_t number = 0;
	int code;

	if (is_missing(o, msg) || o->state != STATE_ASKING)
		return;
	json_t *answer = api_read(msg, &code, why, sizeof why);
	char *headers = code == 0 ? api_headers(answer) : NULL;
	char *id = api_header(headers, "Nats-Msg-Id");
	const bool ours = id && publish_is_ours(o, id, &number);
	free(id);
	free(headers);
	json_decref(answer);
	if (code != 0 && code != API_NO_MESSAGE) {
		nats_conn_fail(o->conn, why);
	} else if (ours) {
		publish_stored(o, number);
		o->stored_seq = o->scan_seq;
		if (o->scan_seq == o->last_seq)
			begin(o);
		else
			look_at(o, o->scan_seq + 1);
	} else if (code == API_NO_MESSAGE && o->scan_seq == o->last_seq && o->last_seq <= o->sent_seq) {
		/* removed meanwhile; as many were stored as were under way */
		publish_stored(o, o->sent.head + (o->last_seq - o->stored_seq) - 1);
		begin(o);
	} else if (o->scan_seq == o->last_seq && o->last_seq > o->stored_seq + 1) {
		look_at(o, o->stored_seq + 1); /* which of ours are in front of it? */
	} else {
		fence(o);
	}
}

static void look_at(struct output *o, uint64_t seq)
{
	char body[48];

	o->scan_seq = seq;
	snprintf(body, sizeof body, "{\"seq\":%" PRIu64 "}", seq);
	ask(o, "STREAM.MSG.GET", body, o->state == STATE_READING ? on_scanned : on_last);
}

/* The stream is as it should be: go on. */
static void go_on(struct output *o)
{
	if (o->conf->writers == WRITERS_MANY) {
		o->known = true;
		begin(o);
	} else if (o->fenced && o->last_seq != o->fence_seq) {
		fence(o);
	} else if (o->known && o->last_seq == o->stored_seq) {
		begin(o);
	} else if (o->known) {
		look_at(o, o->last_seq);
	} else if (o->last_seq == 0) {
		end_scan(o, true);
	} else {
		o->state = STATE_READING;
		o->scan_left = SCAN_MAX;
		positions_restore_begin(&o->positions);
		look_at(o, o->last_seq);
	}
}

static void on_stream(void *arg, natsMsg *msg)
{
	struct output *o = arg;
	const bool polled = o->polling && o->state == STATE_SENDING;
	char why[256];
	int code;

	o->polling = false;
	if (is_missing(o, msg) || (o->state != STATE_ASKING && !polled))
		return;
	json_t *info = api_read(msg, &code, why, sizeof why);
	if (code != 0)
		explain_error(o, code, why);
	else if (judge(o, info) && !polled)
		go_on(o);
	/* while nothing is under way, whatever came to the stream is not ours */
	else if (polled && o->state == STATE_SENDING && o->conf->writers == WRITERS_ONE &&
		 !ss_ring_count(&o->sent) && o->last_seq != o->stored_seq) {
		o->state = STATE_ASKING;
		look_at(o, o->last_seq);
	}
	json_decref(info);
}
