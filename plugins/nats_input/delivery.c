/* SPDX-License-Identifier: MIT */
/* delivery - messages become events, and what becomes of those is told to the server. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "plugins/nats_input/nats_input.h"

enum { ANSWER_ROOM = 64, DELAY_STEPS = 6 };
#define DELAY_NS UINT64_C(1000000000) /* before a message that failed comes again; doubled each time */

static bool reads_alone(const struct input *in)
{
	return in->conf->readers == READERS_ONE;
}

/* ---- answers ---- */

static void publish(struct input *in, const char *subject, const char *answer)
{
	natsConnection *nc = nats_conn_handle(in->conn);

	if (nc)
		(void)natsConnection_PublishString(nc, subject, answer);
}

/* Come again, later each time. */
static void give_back(struct input *in, const char *subject)
{
	struct ack_subject at;
	char answer[64];
	uint64_t steps = ack_subject_read(subject, &at) == 0 && at.delivered ? at.delivered - 1 : 0;

	if (steps > DELAY_STEPS)
		steps = DELAY_STEPS;
	snprintf(answer, sizeof answer, "-NAK {\"delay\":%" PRIu64 "}", DELAY_NS << steps);
	publish(in, subject, answer);
}

static void answer_flight(struct input *in, struct flight *f)
{
	const char *end = f->reply.bytes + f->reply.len;

	if (!nats_conn_room(in->conn, f->reply.len + (size_t)f->n * ANSWER_ROOM)) {
		in->owes = true;
		return;
	}
	for (const char *subject = f->reply.bytes; subject && subject < end; subject += strlen(subject) + 1) {
		if (f->failed)
			give_back(in, subject);
		else
			publish(in, subject, "+ACK");
	}
	ss_strbuf_done(&f->reply);
	f->answered = true;
}

/* Flights that are answered leave. */
static void shift_answered(struct input *in)
{
	struct flight *f;

	while ((f = ss_ring_first(&in->flights)) && f->answered)
		ss_ring_shift(&in->flights);
}

/* One reader: those that are over leave in their order; the last of them is acknowledged for all. */
static void settle(struct input *in)
{
	struct ss_strbuf reply = {0};
	struct flight *f;

	while ((f = ss_ring_first(&in->flights)) && f->over) {
		const bool counts = in->flights.head >= in->flights_from;
		if (counts && f->failed)
			break;
		if (counts) {
			in->settled = f->last;
			in->settled_ns = f->last_ns;
		}
		if (counts && f->connection == in->connection) {
			ss_strbuf_done(&reply);
			reply = f->reply;
		} else {
			ss_strbuf_done(&f->reply);
		}
		ss_ring_shift(&in->flights);
	}
	if (reply.len && nats_conn_room(in->conn, reply.len + ANSWER_ROOM))
		publish(in, reply.bytes, "+ACK"); /* else with the next one */
	ss_strbuf_done(&reply);
}

static void on_room(void *arg)
{
	struct input *in = arg;

	delivery_answer(in);
	pull_more(in);
	input_leave(in);
}

void delivery_answer(struct input *in)
{
	if (reads_alone(in) || !nats_conn_handle(in->conn))
		return;
	in->owes = false;
	for (uint64_t i = in->flights.head; i < in->flights.tail && !in->owes; i++) {
		struct flight *f = ss_ring_at(&in->flights, i);
		if (f->over && !f->answered)
			answer_flight(in, f);
	}
	shift_answered(in);
	if (in->owes)
		nats_conn_on_room(in->conn, on_room);
}

void delivery_acked(struct input *in, uint64_t cookie, int32_t status)
{
	if (cookie < in->flights.head || cookie >= in->flights.tail)
		return;
	struct flight *f = ss_ring_at(&in->flights, cookie);
	f->over = true;
	f->failed = status == SS_FAILED;
	in->n_flying -= f->n;
	in->bytes -= f->bytes;
	in->host->metric_set(in->host, METRIC_UNACKED, (int64_t)in->n_flying);
	if (!reads_alone(in)) {
		if (nats_conn_handle(in->conn))
			answer_flight(in, f);
		if (in->owes)
			nats_conn_on_room(in->conn, on_room);
		shift_answered(in);
	} else if (f->failed && cookie >= in->flights_from && !in->failed) {
		in->failed = true; /* all comes again from here, by another connection, after a wait */
		nats_conn_fail(in->conn, "events could not be stored; they are read again");
		return;
	} else {
		settle(in);
	}
	pull_more(in);
	input_leave(in);
}

void delivery_forget(struct input *in)
{
	in->flights_from = in->flights.tail;
	settle(in);
}

void delivery_extend(struct input *in)
{
	if (reads_alone(in))
		return;
	for (uint64_t i = in->flights.head; i < in->flights.tail; i++) {
		const struct flight *f = ss_ring_at(&in->flights, i);
		const char *end = f->reply.bytes + f->reply.len;
		if (f->over || !nats_conn_room(in->conn, f->reply.len + (size_t)f->n * ANSWER_ROOM))
			continue;
		for (const char *subject = f->reply.bytes; subject && subject < end;
		     subject += strlen(subject) + 1)
			publish(in, subject, "+WPI");
	}
	for (uint64_t i = in->got.head; i < in->got.tail; i++) {
		const struct got *g = ss_ring_at(&in->got, i);
		if (nats_conn_room(in->conn, 512))
			publish(in, natsMsg_GetReply(g->msg), "+WPI");
	}
}

/* ---- messages ---- */

void delivery_message(struct input *in, natsMsg *msg)
{
	struct ack_subject at;

	if (ack_subject_read(natsMsg_GetReply(msg), &at) < 0) {
		natsMsg_Destroy(msg);
		return;
	}
	pull_got(in);
	in->came = true;
	if (at.delivered > 1)
		in->host->metric_add(in->host, METRIC_REDELIVERED, 1);
	if (in->ending && !reads_alone(in))
		publish(in, natsMsg_GetReply(msg), "-NAK"); /* others may have it at once */
	if (in->ending || (reads_alone(in) && !consumer_accept(in, &at))) {
		natsMsg_Destroy(msg);
		return;
	}
	struct got *g = ss_ring_push(&in->got);
	if (!g) {
		natsMsg_Destroy(msg);
		nats_conn_fail(in->conn, "out of memory");
		return;
	}
	*g = (struct got){.msg = msg, .at = at};
	in->bytes += (size_t)natsMsg_GetDataLength(msg);
}

/* The events of messages that were accepted and not emitted come again by another connection. */
void delivery_return(struct input *in)
{
	const struct got *g;

	while ((g = ss_ring_first(&in->got))) {
		if (reads_alone(in) && g->at.seq < in->next)
			in->next = g->at.seq;
		if (!reads_alone(in))
			publish(in, natsMsg_GetReply(g->msg), "-NAK");
		in->bytes -= (size_t)natsMsg_GetDataLength(g->msg);
		natsMsg_Destroy(g->msg);
		ss_ring_shift(&in->got);
	}
}

/* ---- attributes ---- */

static const struct ss_attribute_service *service(const struct input *in)
{
	return in->attributes.vtbl;
}

static void set_text(struct ss_attributes *set, uint32_t which, const char *text)
{
	if (!set->values[which].len)
		set->values[which] = (struct ss_attribute){.text = text, .len = (uint32_t)strlen(text)};
}

/* A set of what is said and, where nothing is, of what this host knows: not who sent it. */
static const struct ss_attributes *make_set(struct input *in, const struct ss_attributes *said)
{
	const struct ss_attributes *set = NULL;
	struct ss_attributes values = {.struct_size = sizeof values};
	char peer[SS_ATTR_NAME_MAX + 16];

	if (said)
		values = *said;
	snprintf(peer, sizeof peer, "unverified:%.200s", in->host->id);
	if (!values.values[SS_ATTR_PEER].len)
		values.flags &= ~(uint32_t)SS_ATTR_PEER_VERIFIED;
	set_text(&values, SS_ATTR_PEER, peer);
	set_text(&values, SS_ATTR_INPUT, in->host->id);
	return service(in)->make(in->attributes.self, &values, &set) == 0 ? set : NULL;
}

static bool same_values(const struct headers *a, const struct headers *b)
{
	bool same = a->values.flags == b->values.flags;

	for (uint32_t i = 0; i < SS_ATTR_COUNT && same; i++) {
		const struct ss_attribute *x = &a->values.values[i], *y = &b->values.values[i];
		same = x->len == y->len && (x->len == 0 || memcmp(x->text, y->text, x->len) == 0);
	}
	return same;
}

/* heard[0] is what the message says, heard[1] what the set that is kept was made of. */
static const struct ss_attributes *said_set(struct input *in, natsMsg *msg, uint64_t *time_ns)
{
	const bool any = headers_read(msg, &in->heard[0]);

	if (in->heard[0].time_ns)
		*time_ns = in->heard[0].time_ns;
	if (!service(in) || !any)
		return in->own;
	if (in->said && same_values(&in->heard[0], &in->heard[1]))
		return in->said;
	service(in)->unref(in->attributes.self, in->said);
	in->said = make_set(in, &in->heard[0].values);
	in->heard[1] = in->heard[0];
	for (uint32_t i = 0; i < SS_ATTR_COUNT; i++)
		if (in->heard[1].values.values[i].len)
			in->heard[1].values.values[i].text = in->heard[1].buf[i];
	return in->said;
}

static void look_who_wants(struct input *in)
{
	struct ss_iface found;

	if (in->attributes.vtbl ||
	    in->host->query(in->host, SS_ATTRIBUTES, sizeof(struct ss_attribute_service), &found) < 0 ||
	    !((const struct ss_attribute_service *)found.vtbl)->wanted(found.self))
		return;
	in->attributes = found;
	in->own = make_set(in, NULL);
}

static uint16_t attach(struct input *in, struct ss_batch *b, const struct ss_attributes *set)
{
	const int32_t at = set ? service(in)->attach(in->attributes.self, b, set) : 0;

	return at > 0 ? (uint16_t)at : 0;
}

/* An event that is given up, on the output for those. */
static uint16_t attach_error(struct input *in, struct ss_batch *b, const struct ss_attributes *set,
			     uint64_t delivered)
{
	struct ss_attributes values = {.struct_size = sizeof values};
	char error[128];

	if (!service(in))
		return 0;
	for (uint32_t i = 0; set && i < SS_ATTR_COUNT; i++)
		values.values[i] = ss_attribute_get(set, i);
	values.flags = set ? set->flags : 0;
	snprintf(error, sizeof error, "undeliverable: it failed %" PRIu64 " times", delivered - 1);
	values.values[SS_ATTR_ERROR] = values.values[SS_ATTR_COMPONENT] = (struct ss_attribute){0};
	set_text(&values, SS_ATTR_ERROR, error);
	set_text(&values, SS_ATTR_COMPONENT, in->host->id);
	const struct ss_attributes *own = NULL;
	if (service(in)->make(in->attributes.self, &values, &own) < 0)
		return 0;
	const uint16_t at = attach(in, b, own);
	service(in)->unref(in->attributes.self, own);
	return at;
}

/* ---- batches ---- */

static bool gives_up(const struct input *in, const struct got *g)
{
	return !reads_alone(in) && in->conf->max_deliver && g->at.delivered > (uint64_t)in->conf->max_deliver;
}

static bool error_is_read(const struct input *in)
{
	return SS_KNOWS(in->host, struct ss_host, output_read) && in->host->output_read &&
	       in->host->output_read(in->host, PORT_ERROR);
}

/* A message that came too often, and nobody keeps such: the server is told to forget it. */
static void drop(struct input *in, const struct got *g)
{
	ss_log(in->host, SS_LOG_ERROR,
	       "A message was given up: it could not be stored, or ended the host, each time it was "
	       "delivered; read "
	       "the output \"error\" to keep such messages seq=%" PRIu64 " delivered=%" PRIu64 " stream=%s",
	       g->at.seq, g->at.delivered, in->conf->stream);
	in->host->drop(in->host, REASON_UNDELIVERABLE, 1);
	publish(in, natsMsg_GetReply(g->msg), "+TERM");
}

static void shift_got(struct input *in)
{
	natsMsg_Destroy(((struct got *)ss_ring_first(&in->got))->msg);
	ss_ring_shift(&in->got);
}

/* How many of those that wait go into one batch, and their bytes: for one output. */
static uint32_t measure(const struct input *in, size_t *bytes, bool *error)
{
	const struct got *g = ss_ring_first(&in->got);
	uint32_t n = 0;

	*error = gives_up(in, g);
	*bytes = 0;
	for (uint64_t i = in->got.head; i < in->got.tail && n < (uint32_t)in->conf->batch; i++, n++) {
		g = ss_ring_at(&in->got, i);
		if (gives_up(in, g) != *error)
			break;
		*bytes += (size_t)natsMsg_GetDataLength(g->msg);
	}
	return n;
}

static void add_event(struct input *in, struct ss_batch *b, size_t *at, const struct got *g, bool error)
{
	const size_t len = (size_t)natsMsg_GetDataLength(g->msg);
	uint64_t time_ns = g->at.time_ns;
	const struct ss_attributes *set = in->conf->trust_origin ? said_set(in, g->msg, &time_ns) : in->own;

	if (len)
		memcpy(b->data + *at, natsMsg_GetData(g->msg), len);
	b->events[b->count++] = (struct ss_event){
		.data = b->data + *at,
		.len = (uint32_t)len,
		.attributes = error ? attach_error(in, b, set, g->at.delivered) : attach(in, b, set),
		.time_ns = time_ns,
		.seq = reads_alone(in) ? g->at.seq : 0};
	*at += len;
}

static int track(struct input *in, struct ss_batch *b, struct flight *f, uint64_t number)
{
	struct ss_position at = {.seq = f->last};

	memcpy(at.epoch, in->stream.epoch, sizeof at.epoch);
	return in->host->track(in->host, b, number, reads_alone(in) ? &at : NULL);
}

/* Emit the first n of those that wait. */
static int emit(struct input *in, uint32_t n, size_t bytes, bool error)
{
	struct ss_batch *b = in->host->batch_new(in->host, NULL, n, bytes ? bytes : 1);
	const uint64_t number = in->flights.tail;
	struct flight *f = b ? ss_ring_push(&in->flights) : NULL;
	size_t at = 0;
	int rc = f ? 0 : -ENOMEM;

	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		const struct got *g = ss_ring_at(&in->got, in->got.head + i);
		const char *reply = natsMsg_GetReply(g->msg);
		add_event(in, b, &at, g, error);
		if (!reads_alone(in) || i + 1 == n)
			ss_strbuf_add(&f->reply, reply, strlen(reply) + 1);
		if (i == 0)
			f->first = g->at.seq;
		f->last = g->at.seq;
		f->last_ns = g->at.time_ns;
	}
	if (rc == 0) {
		f->n = n;
		f->bytes = bytes;
		f->connection = in->connection;
		rc = f->reply.failed ? -ENOMEM : track(in, b, f, number);
		if (rc < 0) {
			ss_strbuf_done(&f->reply);
			ss_ring_pop(&in->flights);
		}
	}
	if (rc == 0) {
		if (f->last > in->top.seq)
			in->top = ((const struct got *)ss_ring_at(&in->got, in->got.head + n - 1))->at;
		in->n_flying += n;
		in->host->metric_add(in->host, METRIC_MESSAGES, n);
		in->host->metric_add(in->host, METRIC_BYTES, (int64_t)bytes);
		in->host->metric_set(in->host, METRIC_UNACKED, (int64_t)in->n_flying);
		for (uint32_t i = 0; i < n; i++)
			shift_got(in);
		in->host->emit(in->host, error ? PORT_ERROR : PORT_EVENTS, b);
	}
	in->host->batch_unref(b);
	return rc;
}

void delivery_emit(struct input *in)
{
	look_who_wants(in);
	while (!in->paused && !in->failed && ss_ring_count(&in->got)) {
		bool error;
		size_t bytes;
		const uint32_t n = measure(in, &bytes, &error);
		if (error && !error_is_read(in)) {
			in->bytes -=
				(size_t)natsMsg_GetDataLength(((struct got *)ss_ring_first(&in->got))->msg);
			drop(in, ss_ring_first(&in->got));
			shift_got(in);
		} else if (emit(in, n, bytes, error) < 0) {
			nats_conn_fail(in->conn, "out of memory");
			return;
		}
	}
}

void delivery_done(struct input *in)
{
	struct flight *f;

	while (ss_ring_first(&in->got))
		shift_got(in);
	for (; (f = ss_ring_first(&in->flights)); ss_ring_shift(&in->flights))
		ss_strbuf_done(&f->reply);
	ss_ring_done(&in->got);
	ss_ring_done(&in->flights);
	if (in->attributes.vtbl) {
		service(in)->unref(in->attributes.self, in->own);
		service(in)->unref(in->attributes.self, in->said);
	}
}
