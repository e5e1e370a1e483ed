/* SPDX-License-Identifier: MIT */
/* link_out - the sending end of a link: records from the log as far as the peer's window goes. */
#include <string.h>
#include "output.h"

/* Once in so long: a consumer that tells lies must not keep the others from their records. */
#define RENEW_NS UINT64_C(10000000000)

static void act(struct peer *p, const struct link_action *a);

/* The connection may live on for a while; nothing more is told on it. */
static void end(struct peer *p, int code, const char *why)
{
	p->session.state = LINK_CLOSED;
	ws_close(p->conn, code, why);
}

static bool try_control(struct peer *p, const struct link_control *c)
{
	uint8_t buf[WS_PRE + LINK_CONTROL_MAX];
	size_t len = link_control_write(c, (char *)buf + WS_PRE);

	return ws_send(p->conn, false, buf, len) == 0;
}

/* In order; what does not fit is few: data is not sent before it. */
static void send_control(struct peer *p, const struct link_control *c)
{
	if (p->n_waiting == 0 && try_control(p, c))
		return;
	if (p->n_waiting < sizeof p->waiting / sizeof p->waiting[0])
		p->waiting[p->n_waiting++] = *c;
	else if (c->type != LINK_HB)
		end(p, 1011, "cannot keep up");
	ws_want_write(p->conn);
}

static bool send_waiting(struct peer *p)
{
	while (p->n_waiting && try_control(p, &p->waiting[0]))
		memmove(p->waiting, p->waiting + 1, --p->n_waiting * sizeof p->waiting[0]);
	return p->n_waiting == 0;
}

static void tell_lost(struct peer *p, uint64_t to, const char *reason)
{
	struct link_action a;

	link_sender_lost(&p->session, to, reason, &a);
	if (!(a.todo & LINK_DO_SEND))
		return;
	p->out->host->metric_add(p->out->host, METRIC_LOST, (int64_t)(a.control.to - a.control.from + 1));
	send_control(p, &a.control);
	p->next_seq = p->session.sent + 1;
}

void link_out_open(struct peer *p)
{
	link_sender_start(&p->session, p->out->loop->now(p->out->loop_self));
}

static void view(struct output *out, const char *consumer, const struct link_control *hello,
		 struct link_log_view *v)
{
	memcpy(v->epoch, sendlog_epoch(out->log), sizeof v->epoch);
	v->first = sendlog_first(out->log);
	v->next = sendlog_committed(out->log) + 1;
	v->cursor = sendlog_cursor(out->log, consumer);
	v->known = sendlog_knows(out->log, consumer);
	v->past = hello->has_resume ? sendlog_past(out->log, hello->resume.epoch) : 0;
}

/* Newest session of a consumer wins. */
static void replace_others(struct peer *p)
{
	for (struct peer *o = p->out->peers; o; o = o->next) {
		if (o != p && o->link && o->session.state == LINK_LIVE_STATE &&
		    strcmp(o->session.consumer, p->session.consumer) == 0)
			end(o, LINK_REPLACED, "a newer connection of the same consumer");
	}
}

static void go_live(struct peer *p)
{
	struct output *out = p->out;

	replace_others(p);
	out->known = true;
	p->next_seq = p->session.sent + 1;
	out->host->metric_add(out->host, METRIC_LINK_UP, 1);
	ss_log(out->host, SS_LOG_INFO, "Link up consumer=%s next=%llu", p->session.consumer,
	       (unsigned long long)p->next_seq);
}

/*
 * The consumer has more than there is: what is appended from now on is not what it has under those numbers.
 * The others connect again and learn the new epoch when what they have is acknowledged.
 */
static void renew(struct peer *p)
{
	struct output *out = p->out;
	uint64_t now = out->loop->now(out->loop_self);
	struct link_action a;

	if (out->renewed_ns && now - out->renewed_ns < RENEW_NS)
		return;
	out->renewed_ns = now;
	int rc = sendlog_renew(out->log);
	ss_log(out->host, SS_LOG_ERROR,
	       "The log was set back to an older state, a consumer has more of it: %s consumer=%s",
	       rc < 0 ? strerror(-rc)
		      : "from now on it has a new epoch; what consumers have not acknowledged may come twice",
	       p->session.consumer);
	if (rc < 0)
		return;
	out->host->metric_add(out->host, METRIC_RENEWALS, 1);
	for (struct peer *o = out->peers; o; o = o->next) {
		if (o == p || !o->link || o->session.state != LINK_LIVE_STATE)
			continue;
		link_sender_bye(&o->session, now, 0, "the log has a new epoch", &a);
		act(o, &a);
	}
}

static void act(struct peer *p, const struct link_action *a)
{
	struct output *out = p->out;

	if (a->todo & LINK_DO_SEND)
		send_control(p, &a->control);
	if (a->todo & LINK_DO_LIVE)
		go_live(p);
	if (a->todo & LINK_DO_ACKED && sendlog_ack(out->log, p->session.consumer, a->seq) == 0)
		output_settle(out);
	if (a->todo & LINK_DO_LOST)
		tell_lost(p, a->to, "retention");
	if (a->todo & LINK_DO_NACK)
		ss_log(out->host, SS_LOG_WARN, "A consumer refused an event consumer=%s seq=%llu",
		       p->session.consumer, (unsigned long long)a->seq);
	if (a->todo & LINK_DO_RENEW)
		renew(p);
	if (a->todo & LINK_DO_CLOSE) {
		ss_log(out->host, a->code == LINK_OK ? SS_LOG_INFO : SS_LOG_WARN,
		       "Closing the link code=%d reason=\"%s\"", a->code, a->why);
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
	const char *why = "";

	if (binary) {
		link_sender_data(&p->session, &a);
		act(p, &a);
		return;
	}
	if (link_control_read(out->fields, out->fields_self, out->control, data, len, &c, &why) < 0) {
		out->host->metric_add(out->host, METRIC_BAD_MESSAGES, 1);
		end(p, LINK_BAD_FRAME, why);
		return;
	}
	if (c.type == LINK_HELLO) {
		char consumer[LINK_NAME_MAX];
		link_sender_name(&c, p->name[0] ? p->name : NULL, consumer);
		view(out, consumer, &c, &v);
	}
	link_sender_control(&p->session, &c, p->name[0] ? p->name : NULL, &v, (uint64_t)out->conf->max_frame,
			    (uint64_t)out->conf->max_frame - LINK_DATA_HEADER - LINK_RECORD_HEADER,
			    (uint64_t)out->conf->endpoint.ping_interval / 1000000, &a);
	if (a.todo & LINK_DO_BYE && c.retry_ms)
		ws_retry_after(out->endpoint.ws, c.retry_ms * 1000000);
	act(p, &a);
}

/* ---- data ---- */

struct filling {
	uint8_t *msg;
	size_t len, max;
	uint64_t bytes, max_record; /* of credit; of one record */
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
	if (f->len + need > f->max || f->len + need > f->bytes || e->len > f->max_record) {
		f->oversize = f->count == 0 && (f->len + need > f->max || e->len > f->max_record);
		f->next = f->oversize ? seq : f->next;
		return false;
	}
	if (f->count++ == 0)
		f->first = seq;
	f->len = link_record_write(f->msg, f->len, e);
	f->next = seq + 1;
	return true;
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
		tell_lost(p, sendlog_first(out->log) - 1, "retention");
		return p->n_waiting == 0;
	}
	struct filling f = {.msg = out->frame + WS_PRE,
			    .len = LINK_DATA_HEADER,
			    .max = (size_t)p->session.max_frame,
			    .max_record = p->session.max_record,
			    .bytes = bytes,
			    .max_count = (uint16_t)(records < 65535 ? records : 65535)};
	uint64_t next = sendlog_read(out->log, p->next_seq, f.max_count, add_record, &f);
	if (f.oversize)
		tell_lost(p, f.next, "oversize");
	else if (f.count && f.first > p->next_seq)
		tell_lost(p, f.first - 1, "corrupt");
	else if (!f.count && bytes > f.max_record && next > p->next_seq)
		tell_lost(p, next - 1, "corrupt");
	else if (!f.count)
		return false;
	if (!f.count || f.first > p->next_seq || f.oversize)
		return p->n_waiting == 0;
	link_data_finish(f.msg, f.len, f.count, f.first);
	if (ws_send(p->conn, true, out->frame, f.len) < 0) {
		ws_want_write(p->conn);
		return false;
	}
	link_sender_sent(&p->session, f.next - 1, f.len);
	out->host->metric_add(out->host, METRIC_SENT_BYTES, (int64_t)f.len);
	p->next_seq = f.next;
	return true;
}

void link_out_pump(struct peer *p)
{
	bool live = p->session.state == LINK_LIVE_STATE;

	while (send_waiting(p) && live && ws_idle(p->conn) && send_message(p))
		;
	if (p->n_waiting || (live && !ws_idle(p->conn)))
		ws_want_write(p->conn);
}

/* A receiver that got more than it has durable sees on its own that the log was set back. */
void link_out_closed(struct peer *p, int code, bool by_peer)
{
	if (by_peer && code == LINK_GAP && p->session.state == LINK_LIVE_STATE && !p->session.sent_bytes)
		renew(p);
}

bool link_out_here(void *arg, const char *consumer)
{
	const struct output *out = arg;

	for (const struct peer *p = out->peers; p; p = p->next)
		if (p->link && (p->session.state == LINK_LIVE_STATE || p->session.state == LINK_LEAVING) &&
		    strcmp(p->session.consumer, consumer) == 0)
			return true;
	return false;
}

void link_out_tick(struct peer *p)
{
	struct link_action a = {0};

	p->session.next = sendlog_committed(p->out->log) + 1;
	link_sender_tick(&p->session, p->out->loop->now(p->out->loop_self), &a);
	act(p, &a);
}
