/* SPDX-License-Identifier: MIT */
/* link_out - the sending end of a link: records from the log as far as the peer's window goes. */
#include <string.h>
#include "output.h"

static void act(struct peer *p, const struct link_action *a);

static void send_control(struct peer *p, const struct link_control *c)
{
	uint8_t buf[WS_PRE + LINK_CONTROL_MAX];
	size_t len = link_control_write(c, (char *)buf + WS_PRE);

	if (ws_send(p->conn, false, buf, len) < 0) {
		p->control = *c;
		p->control_due = true;
		ws_want_write(p->conn);
	}
}

void link_out_open(struct peer *p)
{
	link_sender_start(&p->session, p->out->loop->now(p->out->loop_self));
}

static void view(struct output *out, const char *consumer, struct link_log_view *v)
{
	memcpy(v->epoch, sendlog_epoch(out->log), sizeof v->epoch);
	v->first = sendlog_first(out->log);
	v->next = sendlog_committed(out->log) + 1;
	v->cursor = sendlog_cursor(out->log, consumer);
}

/* Newest session of a consumer wins. */
static void replace_others(struct peer *p)
{
	for (struct peer *o = p->out->peers; o; o = o->next) {
		if (o != p && o->link && o->session.state == LINK_LIVE_STATE &&
		    strcmp(o->session.consumer, p->session.consumer) == 0)
			ws_close(o->conn, LINK_REPLACED, "a newer connection of the same consumer");
	}
}

static void go_live(struct peer *p)
{
	struct output *out = p->out;

	replace_others(p);
	out->known = true;
	p->next_seq = p->session.sent + 1;
	sendlog_ack(out->log, p->session.consumer, p->session.acked);
	out->host->metric_add(out->host, METRIC_LINK_UP, 1);
	ss_log(out->host, SS_LOG_INFO, "Link up consumer=%s next=%llu", p->session.consumer,
	       (unsigned long long)p->next_seq);
}

static void act(struct peer *p, const struct link_action *a)
{
	struct output *out = p->out;

	if (a->todo & LINK_DO_SEND)
		send_control(p, &a->control);
	if (a->todo & LINK_DO_LIVE)
		go_live(p);
	if (a->todo & LINK_DO_LOST)
		link_out_lost(p, a->from, a->to, "retention");
	if (a->todo & LINK_DO_ACKED && sendlog_ack(out->log, p->session.consumer, a->seq) == 0)
		output_settle(out);
	if (a->todo & LINK_DO_CLOSE) {
		ss_log(out->host, SS_LOG_WARN, "Closing the link code=%d reason=\"%s\"", a->code, a->why);
		ws_close(p->conn, a->code, a->why);
		return;
	}
	if (p->session.state == LINK_LIVE_STATE)
		link_out_pump(p);
}

void link_out_message(struct peer *p, bool binary, const uint8_t *data, size_t len)
{
	struct output *out = p->out;
	struct link_action a = {0};
	struct link_control c;
	struct link_log_view v = {0};
	const char *why = "a receiver sends no data", *name = p->session.consumer;
	char consumer[LINK_NAME_MAX];

	if (binary || link_control_read(out->fields, out->fields_self, out->control, data, len, &c, &why) < 0) {
		out->host->metric_add(out->host, METRIC_BAD_MESSAGES, 1);
		ws_close(p->conn, LINK_BAD_FRAME, why);
		return;
	}
	if (c.type == LINK_HELLO) {
		link_sender_name(&c, p->name[0] ? p->name : NULL, consumer);
		name = consumer;
	}
	view(out, name, &v);
	link_sender_control(&p->session, &c, p->name[0] ? p->name : NULL, &v, (uint64_t)out->conf->max_frame,
			    (uint64_t)out->conf->max_frame - LINK_DATA_HEADER - LINK_RECORD_HEADER,
			    (uint64_t)out->conf->endpoint.ping_interval / 1000000, &a);
	act(p, &a);
}

/* ---- data ---- */

struct filling {
	uint8_t *msg;
	size_t len, max;
	uint64_t bytes;    /* of credit */
	uint64_t first, next;
	uint16_t count, max_count;
	bool oversize;
};

static bool add_record(void *arg, uint64_t seq, const struct ss_event *e)
{
	struct filling *f = arg;
	size_t need = LINK_RECORD_HEADER + e->len;

	if (f->count && (seq != f->next || f->count == f->max_count))
		return false; /* a gap ends a message: its sequences are contiguous */
	if (f->len + need > f->max || f->len - LINK_DATA_HEADER + need > f->bytes) {
		f->oversize = f->count == 0 && f->len + need > f->max;
		f->next = f->oversize ? seq : f->next;
		return false;
	}
	if (f->count++ == 0)
		f->first = seq;
	f->len = link_record_write(f->msg, f->len, e);
	f->next = seq + 1;
	return true;
}

void link_out_lost(struct peer *p, uint64_t from, uint64_t to, const char *reason)
{
	struct link_control c = {.type = LINK_LOST, .from = from, .to = to};

	snprintf(c.reason, sizeof c.reason, "%s", reason);
	p->out->host->metric_add(p->out->host, METRIC_LOST, (int64_t)(to - from + 1));
	send_control(p, &c);
	link_sender_sent(&p->session, to, 0);
	p->next_seq = to + 1;
}

/* Sends one message; false: nothing to send or no way to send it now. */
static bool send_message(struct peer *p)
{
	struct output *out = p->out;
	uint64_t records, bytes;

	link_sender_credit(&p->session, &records, &bytes);
	if (records == 0 || p->next_seq > sendlog_committed(out->log))
		return false;
	if (p->next_seq < sendlog_first(out->log)) {
		link_out_lost(p, p->next_seq, sendlog_first(out->log) - 1, "retention");
		return !p->control_due;
	}
	uint64_t max = (uint64_t)out->conf->max_frame < p->session.max_frame ? (uint64_t)out->conf->max_frame
									      : p->session.max_frame;
	struct filling f = {.msg = out->frame + WS_PRE, .len = LINK_DATA_HEADER, .max = max, .bytes = bytes,
			    .max_count = (uint16_t)(records < 65535 ? records : 65535)};
	uint64_t next = sendlog_read(out->log, p->next_seq, f.max_count, add_record, &f);
	if (f.oversize) {
		link_out_lost(p, p->next_seq, f.next, "oversize");
		return !p->control_due;
	}
	if (f.count == 0) {
		if (next > p->next_seq && next <= sendlog_committed(out->log) + 1 && bytes > 0)
			link_out_lost(p, p->next_seq, next - 1, "corrupt");
		return false;
	}
	if (f.first > p->next_seq) {
		link_out_lost(p, p->next_seq, f.first - 1, "corrupt");
		return !p->control_due;
	}
	link_data_finish(f.msg, f.len, f.count, f.first);
	if (ws_send(p->conn, true, out->frame, f.len) < 0) {
		ws_want_write(p->conn);
		return false;
	}
	link_sender_sent(&p->session, f.next - 1, f.len - LINK_DATA_HEADER);
	out->host->metric_add(out->host, METRIC_SENT_BYTES, (int64_t)f.len);
	p->next_seq = f.next;
	return true;
}

void link_out_pump(struct peer *p)
{
	if (p->control_due) {
		struct link_control c = p->control;
		p->control_due = false;
		send_control(p, &c);
	}
	while (p->session.state == LINK_LIVE_STATE && !p->control_due && ws_idle(p->conn) && send_message(p))
		;
	if (p->session.state == LINK_LIVE_STATE && !ws_idle(p->conn))
		ws_want_write(p->conn);
}

void link_out_tick(struct peer *p)
{
	struct link_action a = {0};

	link_sender_tick(&p->session, p->out->loop->now(p->out->loop_self), &a);
	act(p, &a);
}
