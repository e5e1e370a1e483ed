/* SPDX-License-Identifier: MIT */
/* link_in - the receiving end of a link: records into tracked batches, acknowledged once they are durable
 * downstream. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "input.h"

/* What fits a frame and the window. */
static uint64_t max_record(const struct input *in)
{
	uint64_t most = (uint64_t)in->conf->endpoint.max_message;

	if (most > (uint64_t)in->conf->window_bytes)
		most = (uint64_t)in->conf->window_bytes;
	return most - LINK_DATA_HEADER - LINK_RECORD_HEADER;
}

static void act(struct input *in, struct ws_conn *conn, const struct link_action *a)
{
	if (a->todo & LINK_DO_SEND) {
		uint8_t buf[WS_PRE + LINK_CONTROL_MAX];
		size_t len = link_control_write(&a->control, (char *)buf + WS_PRE);
		/* a control message that does not fit now is made anew at the next tick */
		ws_send(conn, false, buf, len);
	}
	if (a->todo & LINK_DO_CLOSE) {
		ss_log(in->host, a->code == LINK_OK ? SS_LOG_INFO : SS_LOG_WARN,
		       "Closing the link code=%d reason=\"%s\"", a->code, a->why);
		ws_close(conn, a->code, a->why);
	}
}

/* What is on its way is told by nobody any more. */
static void forget_flights(struct input *in)
{
	in->first_cookie += in->n;
	in->n = 0;
}

int link_in_open(struct input *in, struct ws_conn *conn)
{
	const struct link_window window = {(uint64_t)in->conf->window_records,
					   (uint64_t)in->conf->window_bytes};
	const uint64_t max_frame = (uint64_t)in->conf->endpoint.max_message;
	struct link_action a = {0};

	if (in->peer)
		ws_close(in->peer, LINK_REPLACED, "another sender has taken over");
	if (in->failed) {
		/* all that is not durable comes again */
		in->link = (struct link_receiver){0};
		forget_flights(in);
	}
	in->failed = false;
	in->peer = conn;
	link_receiver_start(&in->link, in->conf->stream ? in->conf->stream : in->host->id,
			    in->conf->consumer ? in->conf->consumer : in->host->id,
			    in->can_resume ? &in->durable : NULL, &window, max_frame, max_record(in),
			    in->loop->now(in->loop_self), &a);
	act(in, conn, &a);
	return 0;
}

/* ---- records ---- */

static struct flight *add_flight(struct input *in, uint64_t last_seq)
{
	if (in->n == in->allocated) {
		size_t more = in->allocated ? in->allocated * 2 : 64;
		struct flight *ring = malloc(more * sizeof *ring);
		if (!ring)
			return NULL;
		for (size_t i = 0; i < in->n; i++)
			ring[i] = in->flights[(in->first + i) % in->allocated];
		free(in->flights);
		in->flights = ring;
		in->first = 0;
		in->allocated = more;
	}
	struct flight *f = &in->flights[(in->first + in->n++) % in->allocated];
	*f = (struct flight){.last_seq = last_seq};
	return f;
}

static struct ss_batch *copy_records(struct input *in, const struct link_data *d, uint64_t from)
{
	uint64_t seq = d->first_seq;
	struct ss_batch *b = in->host->batch_new(in->host, NULL, d->count, d->len ? d->len : 1);
	if (!b)
		return NULL;

	memcpy(b->data, d->records, d->len);
	const uint8_t *at = b->data;
	for (uint16_t i = 0; i < d->count; i++, seq++) {
		uint64_t time_ns;
		uint32_t len;
		const uint8_t *record = link_record_next(&at, &len, &time_ns);
		if (seq >= from)
			b->events[b->count++] =
				(struct ss_event){.data = record, .len = len, .time_ns = time_ns, .seq = seq};
	}
	return b;
}

static int deliver(struct input *in, const struct link_data *d, uint64_t from)
{
	struct ss_position at = {.seq = d->first_seq + d->count - 1};
	struct ss_batch *b = copy_records(in, d, from);
	int rc = -ENOMEM;

	if (!b)
		return rc;
	memcpy(at.epoch, in->link.epoch, sizeof at.epoch);
	uint64_t cookie = in->first_cookie + in->n;
	if (add_flight(in, at.seq)) {
		rc = in->host->track(in->host, b, cookie, &at);
		if (rc == 0) {
			in->host->emit(in->host, 0, b);
		} else {
			in->n--;
		}
	}
	in->host->batch_unref(b);
	return rc;
}

static void on_data(struct input *in, struct ws_conn *conn, const uint8_t *data, size_t len)
{
	struct link_action a = {0};
	struct link_data d;
	const char *why = "";

	int rc = link_data_read(data, len, max_record(in), &d, &why);
	if (rc) {
		in->host->metric_add(in->host, METRIC_BAD_MESSAGES, 1);
		a = (struct link_action){.todo = LINK_DO_CLOSE,
					 .why = why,
					 .code = rc == -EMSGSIZE ? LINK_RECORD_TOO_BIG : LINK_BAD_FRAME};
	} else {
		link_receiver_data(&in->link, &d, &a);
	}
	if (a.duplicates)
		in->host->metric_add(in->host, METRIC_DUPLICATES, (int64_t)a.duplicates);
	if (a.todo & LINK_DO_DATA && deliver(in, &d, a.from) < 0) {
		in->failed = true;
		a = (struct link_action){.todo = LINK_DO_CLOSE, .code = 1011, .why = "out of memory"};
	}
	act(in, conn, &a);
}

static void on_control(struct input *in, struct ws_conn *conn, const uint8_t *data, size_t len)
{
	struct link_action a = {0};
	struct link_control c;
	const char *why = "";

	if (link_control_read(in->fields, in->fields_self, in->control, data, len, &c, &why) < 0) {
		in->host->metric_add(in->host, METRIC_BAD_MESSAGES, 1);
		a = (struct link_action){.todo = LINK_DO_CLOSE, .code = LINK_BAD_FRAME, .why = why};
	} else {
		link_receiver_control(&in->link, &c, &a);
	}
	if (a.todo & LINK_DO_RESTART) {
		ss_log(in->host, SS_LOG_WARN, "The sender begins anew, its log is another one old_last=%llu",
		       (unsigned long long)a.seq);
		in->host->metric_add(in->host, METRIC_RESTARTS, 1);
		forget_flights(in);
	}
	if (a.todo & LINK_DO_LOST) {
		ss_log(in->host, SS_LOG_WARN, "The sender has lost events from=%llu to=%llu",
		       (unsigned long long)a.from, (unsigned long long)a.to);
		in->host->metric_add(in->host, METRIC_LOST, (int64_t)(a.to - a.from + 1));
	}
	if (a.todo & LINK_DO_LIVE) {
		in->can_resume = true;
		memcpy(in->durable.epoch, in->link.epoch, sizeof in->durable.epoch);
		in->durable.seq = in->link.durable;
		in->host->metric_set(in->host, METRIC_LINK_UP, 1);
		ss_log(in->host, SS_LOG_INFO, "Link up next=%llu", (unsigned long long)in->link.got + 1);
	}
	if (a.todo & LINK_DO_BYE && c.retry_ms)
		ws_retry_after(in->endpoint.ws, c.retry_ms * 1000000);
	act(in, conn, &a);
}

void link_in_message(struct input *in, struct ws_conn *conn, bool binary, const uint8_t *data, size_t len)
{
	if (conn != in->peer)
		return; /* replaced, its closing is under way */
	if (binary)
		on_data(in, conn, data, len);
	else
		on_control(in, conn, data, len);
	link_in_tick(in);
}

void link_in_closed(struct input *in, struct ws_conn *conn)
{
	if (conn != in->peer)
		return;
	in->peer = NULL;
	in->host->metric_set(in->host, METRIC_LINK_UP, 0);
}

/* ---- acknowledgements ---- */

static void on_ack_timer(void *arg)
{
	struct input *in = arg;

	in->ack_timer = 0;
	link_in_tick(in);
}

void link_in_tick(struct input *in)
{
	struct link_action a;

	if (!in->peer)
		return;
	do {
		link_receiver_tick(&in->link, in->loop->now(in->loop_self), &a);
		act(in, in->peer, &a);
	} while (a.todo && !(a.todo & LINK_DO_CLOSE));
	in->host->metric_set(in->host, METRIC_UNACKED, (int64_t)(in->link.got - in->link.durable));
	if (in->link.ack_sent < in->link.durable && !in->ack_timer)
		in->loop->timer(in->loop_self, LINK_ACK_NS, 0, on_ack_timer, in, &in->ack_timer);
}

void link_in_acked(struct input *in, uint64_t cookie, int32_t status)
{
	if (cookie < in->first_cookie || cookie - in->first_cookie >= in->n)
		return;
	if (status == SS_FAILED) {
		/* it must come again: nothing behind it is acknowledged, and the link starts over from there
		 */
		in->failed = true;
		if (in->peer)
			ws_close(in->peer, 1011, "events could not be kept");
		return;
	}
	in->flights[(in->first + (cookie - in->first_cookie)) % in->allocated].done = true;
	while (in->n && in->flights[in->first].done) {
		in->durable.seq = in->flights[in->first].last_seq;
		in->first = (in->first + 1) % in->allocated;
		in->first_cookie++;
		in->n--;
	}
	link_receiver_durable(&in->link, in->durable.seq);
	link_in_tick(in);
}

void link_in_stop(struct input *in)
{
	struct link_action a;

	if (!in->peer)
		return;
	/* the first answer is an ACK, if one is due: what the sender does not know it may count as lost */
	link_receiver_bye(&in->link, in->loop->now(in->loop_self), 0, "shutting down", &a);
	act(in, in->peer, &a);
}

void link_in_done(struct input *in)
{
	free(in->flights);
	in->flights = NULL;
	in->n = in->allocated = 0;
}
