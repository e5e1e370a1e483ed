/* SPDX-License-Identifier: MIT */
/* link_out - the sending end of a link: records from the log as far as the peer's window goes. */
#include <errno.h>
#include <string.h>
#include "output.h"

/* At most once in so long: a consumer that lies must not keep the others from their records. */
#define RENEW_NS UINT64_C(10000000000)

static void act(struct output_peer *p, const struct link_control *hello, const struct link_action *a);

/* The connection may live on for a while; nothing more is sent on it. */
static void end_link(struct output_peer *p, int code, const char *why)
{
	p->session.state = LINK_CLOSED;
	ws_close(p->common.conn, code, why);
}

static bool try_control(struct output_peer *p, const struct link_control *c)
{
	uint8_t buf[WS_PRE + LINK_CONTROL_MAX];
	size_t len = link_control_write(c, (char *)buf + WS_PRE);

	return ws_send(p->common.conn, false, buf, len) == 0;
}

/* In order; what does not fit is few: data is not sent before it. */
static void send_control(struct output_peer *p, const struct link_control *c)
{
	if (p->n_waiting == 0 && try_control(p, c))
		return;
	if (p->n_waiting < sizeof p->waiting / sizeof p->waiting[0])
		p->waiting[p->n_waiting++] = *c;
	else if (c->type != LINK_HB)
		end_link(p, 1011, "cannot keep up");
	ws_want_write(p->common.conn);
}

static bool send_waiting(struct output_peer *p)
{
	while (p->n_waiting && try_control(p, &p->waiting[0]))
		memmove(p->waiting, p->waiting + 1, --p->n_waiting * sizeof p->waiting[0]);
	return p->n_waiting == 0;
}

static void report_lost(struct output_peer *p, uint64_t to, const char *reason)
{
	struct link_action a;

	link_sender_lost(&p->session, to, reason, &a);
	if (!(a.todo & LINK_DO_SEND))
		return;
	p->out->host->metric_add(p->out->host, PEER_LOST, (int64_t)(a.control.to - a.control.from + 1));
	send_control(p, &a.control);
	p->next_seq = p->session.sent + 1;
}

void link_out_open(struct output_peer *p)
{
	link_sender_start(&p->session, p->out->loop->now(p->out->loop_self));
}

/* Newest session of a consumer wins. */
static void replace_others(struct output_peer *p)
{
	for (struct output_peer *o = first_peer(p->out); o; o = next_peer(o)) {
		if (o != p && o->common.link && o->session.state == LINK_LIVE_STATE &&
		    strcmp(o->session.consumer, p->session.consumer) == 0)
			end_link(o, LINK_REPLACED, "a newer connection of the same consumer");
	}
}

static void go_live(struct output_peer *p, const struct link_control *hello, const struct link_action *a)
{
	struct output *out = p->out;
	uint64_t stored = hello->has_resume ? hello->resume.seq : 0;

	replace_others(p);
	out->known = true;
	p->next_seq = p->session.sent + 1;
	peers_live(&out->peers, &p->common);
	if (a->todo & LINK_DO_ELSEWHERE) {
		out->host->metric_add(out->host, PEER_LOST, (int64_t)(a->gap_to - a->gap_from + 1));
		ss_log(out->host, SS_LOG_ERROR,
		       "Events lost: they were acknowledged by the name \"%s\", but the receiver that uses "
		       "it now "
		       "does not have them: two receivers use this name, or its store was restored from an "
		       "older "
		       "copy; give each receiver a name of its own from=%llu to=%llu",
		       p->session.consumer, (unsigned long long)a->gap_from, (unsigned long long)a->gap_to);
		peers_trouble(
			&out->peers, TROUBLE_LOST,
			"events %llu to %llu were lost: two receivers use the name \"%s\", or its store was "
			"restored from an older copy",
			(unsigned long long)a->gap_from, (unsigned long long)a->gap_to, p->session.consumer);
	}
	ss_log(out->host, SS_LOG_INFO, "Link up consumer=%s stored=%llu next=%llu", p->session.consumer,
	       (unsigned long long)stored, (unsigned long long)p->next_seq);
}

/*
 * The consumer has more than there is: what is appended from now on is not what it has under those numbers.
 * The others connect again and learn the new epoch when what they have is acknowledged.
 */
static void renew(struct output_peer *p)
{
	struct output *out = p->out;
	uint64_t now = out->loop->now(out->loop_self);
	struct link_action a;

	if (out->renewed_ns && now - out->renewed_ns < RENEW_NS)
		return;
	out->renewed_ns = now;
	int rc = sendlog_renew(out->log);
	ss_log(out->host, SS_LOG_ERROR,
	       "Consumer is ahead of the send log (restored from backup?): %s consumer=%s",
	       rc < 0 ? strerror(-rc)
		      : "the log has a new epoch now; events that are not acknowledged may arrive twice",
	       p->session.consumer);
	if (rc < 0)
		return;
	out->host->metric_add(out->host, METRIC_RENEWALS, 1);
	for (struct output_peer *o = first_peer(out); o; o = next_peer(o)) {
		if (o == p || !o->common.link || o->session.state != LINK_LIVE_STATE)
			continue;
		link_sender_bye(&o->session, now, 0, "the log has a new epoch", &a);
		act(o, NULL, &a);
	}
}

/* hello: with LINK_DO_LIVE only. */
static void act(struct output_peer *p, const struct link_control *hello, const struct link_action *a)
{
	struct output *out = p->out;

	if (a->todo & LINK_DO_SEND)
		send_control(p, &a->control);
	if (a->todo & LINK_DO_LIVE)
		go_live(p, hello, a);
	if (a->todo & LINK_DO_ACKED && sendlog_ack(out->log, p->session.consumer, a->seq) == 0)
		output_settle(out);
	if (a->todo & LINK_DO_LOST)
		report_lost(p, a->to, "retention");
	if (a->todo & LINK_DO_NACK)
		ss_log(out->host, SS_LOG_WARN, "Consumer refused an event consumer=%s seq=%llu",
		       p->session.consumer, (unsigned long long)a->seq);
	if (a->todo & LINK_DO_RENEW)
		renew(p);
	if (a->todo & LINK_DO_CLOSE) {
		ss_log(out->host, a->code == LINK_OK ? SS_LOG_INFO : SS_LOG_WARN,
		       "Closing the link code=%d reason=\"%s\"", a->code, a->why);
		ws_close(p->common.conn, a->code, a->why);
		return;
	}
	if (p->session.state == LINK_LIVE_STATE)
		link_out_pump(p);
}

/*
 * May it have this name?  A name that is used with certificates, or is in the list of allowed ones, belongs
 * to its certificate; and names that anybody can invent get half of the room where some need certificates.
 */
static bool admit_consumer(struct output_peer *p, const char *consumer)
{
	struct output *out = p->out;
	bool verified = p->common.name;
	bool reserved = !verified && endpoint_name_is_reserved(&out->endpoint, consumer);
	int rc = reserved ? -EACCES
			  : sendlog_add_consumer(out->log, consumer, verified,
						 endpoint_verifies(&out->endpoint));

	if (rc == 0)
		return true;
	out->host->metric_add(out->host, METRIC_REFUSED, 1);
	if (rc == -EACCES)
		ss_log(out->host, SS_LOG_WARN,
		       "Consumer refused: this name needs its certificate, and the peer showed none "
		       "consumer=%s",
		       consumer);
	else
		ss_log(out->host, SS_LOG_WARN,
		       "Consumer refused: no room for another name, see max_consumers; forget_after frees "
		       "those "
		       "of consumers that do not return consumer=%s",
		       consumer);
	end_link(p, rc == -EACCES ? LINK_FORBIDDEN : 1013,
		 rc == -EACCES ? "the name needs its certificate" : "no room for another consumer");
	return false;
}

void link_out_message(struct output_peer *p, bool binary, const uint8_t *data, size_t len)
{
	struct output *out = p->out;
	const char *name = p->common.name;
	struct link_action a = {0};
	struct link_control c;
	struct sendlog_view v = {0};
	const char *why = "";

	if (binary) {
		link_sender_data(&p->session, &a);
		act(p, NULL, &a);
		return;
	}
	if (link_control_read(out->fields, out->fields_self, out->control, data, len, &c, &why) < 0) {
		out->host->metric_add(out->host, PEER_BAD_MESSAGES, 1);
		end_link(p, LINK_BAD_FRAME, why);
		return;
	}
	if (c.type == LINK_HELLO && p->session.state == LINK_WAIT_HELLO) {
		char consumer[LINK_NAME_MAX];
		link_sender_name(&c, name, consumer);
		v = sendlog_view(out->log, consumer, c.has_resume ? c.resume.epoch : NULL);
		if (consumer[0] && !admit_consumer(p, consumer))
			return;
	}
	link_sender_control(&p->session, &c, name, &v, (uint64_t)out->conf->max_frame,
			    (uint64_t)out->conf->max_frame - LINK_DATA_HEADER - LINK_RECORD_HEADER,
			    (uint64_t)out->conf->endpoint.ping_interval / 1000000, &a);
	if (a.todo & LINK_DO_BYE && c.retry_ms)
		ws_retry_after(out->endpoint.ws, c.retry_ms * 1000000);
	act(p, &c, &a);
}

/* ---- data ---- */

struct filling {
	uint8_t *msg;
	size_t len, max;
	uint64_t bytes, max_record; /* of credit; of one record */
	uint64_t first, next;
	uint64_t quantum; /* what the rate allows at once, but for a single record */
	uint16_t count, max_count;
	bool oversize;
	bool whole;   /* the last record has its attributes */
	size_t block; /* what the attributes of the records so far take behind them */
	struct sendlog *log;
	struct ss_attribute_writer *attributes; /* NULL: the receiver takes none */
	uint64_t room;                          /* for a record with its attributes */
};

static size_t cost_of(const struct filling *f, const uint8_t *set, size_t len)
{
	return f->attributes ? ss_attribute_writer_cost(f->attributes, set, len) : 0;
}

/* The message is complete but for its checksum. */
static void finish(struct filling *f)
{
	if (f->block)
		ss_attribute_writer_put(f->attributes, f->msg + f->len);
	f->len += f->block;
	link_data_finish(f->msg, f->len, f->count, f->first, f->block);
}

static bool add_record(void *arg, uint64_t seq, const struct ss_event *e)
{
	struct filling *f = arg;
	size_t set_len = 0;
	bool again = false, whole = true;
	const uint8_t *set = f->attributes ? sendlog_attributes(f->log, &set_len, &again) : NULL;

	again = again && f->whole; /* they are in the block, then, and in its last run */
	size_t need = LINK_RECORD_HEADER + e->len + (again ? 0 : cost_of(f, set, set_len)),
	       len = f->len + f->block;
	if (!f->count && set_len && len + need > f->room) { /* it fits only without */
		set_len = 0;
		whole = false;
		need = LINK_RECORD_HEADER + e->len;
	}
	if (f->count && (seq != f->next || f->count == f->max_count))
		return false; /* a gap ends a message: its sequences are contiguous */
	if (f->count && len + need > f->quantum)
		return false;
	if (len + need > f->max || len + need > f->bytes || e->len > f->max_record) {
		f->oversize = f->count == 0 && (len + need > f->max || e->len > f->max_record);
		f->next = f->oversize ? seq : f->next;
		return false;
	}
	if (again) {
		ss_attribute_writer_again(f->attributes);
	} else if (f->attributes) {
		if (ss_attribute_writer_add(f->attributes, set, set_len) < 0)
			return false;
		f->block = ss_attribute_writer_size(f->attributes);
	}
	f->whole = whole;
	if (f->count++ == 0)
		f->first = seq;
	f->len = link_record_write(f->msg, f->len, e);
	f->next = seq + 1;
	return true;
}

/* Sends one message; false: nothing to send or no way to send it now. */
static bool send_message(struct output_peer *p)
{
	struct output *out = p->out;
	uint64_t records, bytes;

	link_sender_credit(&p->session, &records, &bytes);
	if (records == 0 || p->next_seq > sendlog_committed(out->log))
		return false;
	if (p->next_seq < sendlog_first(out->log)) {
		report_lost(p, sendlog_first(out->log) - 1, "retention");
		return p->n_waiting == 0;
	}
	uint64_t quantum = UINT64_MAX;
	if (!rate_allows(p, &quantum))
		return false;
	struct filling f = {.msg = out->frame + WS_PRE,
			    .len = LINK_DATA_HEADER,
			    .max = (size_t)p->session.max_frame,
			    .max_record = p->session.max_record,
			    .bytes = bytes,
			    .quantum = quantum,
			    .log = out->log,
			    .attributes =
				    p->session.attributes && out->conf->attributes ? &out->attributes : NULL,
			    .room = p->session.room,
			    .max_count = (uint16_t)(records < 65535 ? records : 65535)};
	ss_attribute_writer_clear(&out->attributes);
	uint64_t next = sendlog_read(out->log, p->next_seq, f.max_count, add_record, &f);
	if (f.oversize)
		report_lost(p, f.next, "oversize");
	else if (f.count && f.first > p->next_seq)
		report_lost(p, f.first - 1, "corrupt");
	else if (!f.count && bytes > f.max_record && next > p->next_seq)
		report_lost(p, next - 1, "corrupt");
	else if (!f.count) {
		link_sender_stalled(&p->session);
		return false;
	}
	if (!f.count || f.first > p->next_seq || f.oversize)
		return p->n_waiting == 0;
	finish(&f);
	if (ws_send(p->common.conn, true, out->frame, f.len) < 0) {
		ws_want_write(p->common.conn);
		return false;
	}
	link_sender_sent(&p->session, f.next - 1, f.len);
	peer_meter_add(&p->meter, out->loop->now(out->loop_self), f.count);
	out->host->metric_add(out->host, METRIC_SENT_BYTES, (int64_t)f.len);
	p->next_seq = f.next;
	rate_sent(p, f.len);
	return true;
}

void link_out_pump(struct output_peer *p)
{
	bool live = p->session.state == LINK_LIVE_STATE, more = false;

	while (send_waiting(p) && live && ws_idle(p->common.conn) && (more = send_message(p)) &&
	       !p->out->rate)
		;
	/* with a rate each peer sends one message in turn */
	if (p->n_waiting || (live && (more || !ws_idle(p->common.conn))))
		ws_want_write(p->common.conn);
	else
		rate_rest(p->out);
}

/* A receiver that got more than it has durable sees on its own that the log was set back. */
void link_out_closed(struct output_peer *p, int code, bool by_peer)
{
	struct output *out = p->out;

	if (by_peer && code == LINK_GAP && p->session.state == LINK_LIVE_STATE && !p->session.sent_bytes)
		renew(p);
	if (by_peer && code == LINK_REPLACED && out->peers.dials) {
		ss_log(out->host, SS_LOG_ERROR,
		       "Another sender with the same certificate name took over the link; give each sender a "
		       "name of its own");
		ws_retry_after(out->endpoint.ws, peers_replaced(&out->peers));
	} else if (p->common.live) {
		out->peers.replaced = 0;
	}
}

bool link_out_here(void *arg, const char *consumer)
{
	const struct output *out = arg;

	for (const struct output_peer *p = first_peer(out); p; p = next_peer(p))
		if (p->common.link &&
		    (p->session.state == LINK_LIVE_STATE || p->session.state == LINK_LEAVING) &&
		    strcmp(p->session.consumer, consumer) == 0)
			return true;
	return false;
}

void link_out_tick(struct output_peer *p)
{
	struct link_action a = {0};

	p->session.next = sendlog_committed(p->out->log) + 1;
	link_sender_tick(&p->session, p->out->loop->now(p->out->loop_self), &a);
	act(p, NULL, &a);
}
