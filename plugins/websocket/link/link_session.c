/* SPDX-License-Identifier: MIT */
/*
 * link_session - see the header: what both ends share (the verdict of a state table, closing, heartbeats and
 * goodbyes), then the sender, which has the log, then the receiver, which acknowledges what is durable.
 * [inst]
 */
#include <stdio.h>
#include <string.h>
#include "link_session.h"

/* May a message come in a state: what the state tables say. */
enum link_verdict { LINK_BAD = 0, LINK_SKIP, LINK_TAKE };

void link_close(enum link_state *state, int code, const char *why, struct link_action *out)
{
	*state = LINK_CLOSED;
	out->todo |= LINK_DO_CLOSE;
	out->code = code;
	out->why = why;
}

static enum link_verdict link_judge(enum link_state *state, const uint8_t table[LINK_STATES][LINK_COLUMNS],
				    int column, struct link_action *out)
{
	static const char *const why[LINK_COLUMNS] = {
		[0] = "data at the wrong time",
		[LINK_HELLO] = "\"hello\" at the wrong time",
		[LINK_WELCOME] = "\"welcome\" at the wrong time",
		[LINK_ACK] = "\"ack\" at the wrong time",
		[LINK_LOST] = "\"lost\" at the wrong time",
		[LINK_NACK] = "\"nack\" at the wrong time",
		[LINK_HB] = "\"hb\" at the wrong time",
		[LINK_BYE] = "\"bye\" at the wrong time",
	};
	enum link_verdict verdict = table[*state][column];
	if (verdict == LINK_BAD)
		link_close(state, LINK_BAD_FRAME, why[column], out);
	return verdict;
}

static void link_beat(struct link_pulse *pulse, uint64_t heartbeat_ns)
{
	pulse->heartbeat_ns = heartbeat_ns;
	pulse->next_hb_ns = 0;
	pulse->deadline_ns = 0;
	pulse->heard = true;
}

static bool link_silent(struct link_pulse *pulse, uint64_t now_ns)
{
	if (pulse->heard)
		pulse->heard_ns = now_ns;
	pulse->heard = false;
	return now_ns - pulse->heard_ns >= pulse->heartbeat_ns / 4 * 9;
}

static bool link_heartbeat_due(struct link_pulse *pulse, uint64_t now_ns)
{
	bool due = pulse->next_hb_ns && now_ns >= pulse->next_hb_ns;
	if (due || !pulse->next_hb_ns)
		pulse->next_hb_ns = now_ns + pulse->heartbeat_ns;
	return due;
}

static void link_leave(enum link_state *state, struct link_pulse *pulse, uint64_t now_ns, uint64_t retry_ms,
		       const char *reason, struct link_action *out)
{
	*state = LINK_LEAVING;
	pulse->deadline_ns = now_ns + LINK_LEAVE_NS;
	out->todo |= LINK_DO_SEND;
	out->control.type = LINK_BYE;
	out->control.retry_ms = retry_ms;
	snprintf(out->control.reason, sizeof out->control.reason, "%s", reason);
}

/* ---- the sender ---- */

/* clang-format off */
static const uint8_t sender_table[LINK_STATES][LINK_COLUMNS] = {
	[LINK_WAIT_HELLO] = {[LINK_HELLO] = LINK_TAKE, [LINK_BYE] = LINK_TAKE},
	[LINK_LIVE_STATE] = {[LINK_ACK] = LINK_TAKE, [LINK_NACK] = LINK_TAKE, [LINK_HB] = LINK_SKIP, [LINK_BYE] = LINK_TAKE},
	/* a HELLO may have crossed the BYE */
	[LINK_LEAVING] = {[LINK_HELLO] = LINK_SKIP, [LINK_ACK] = LINK_TAKE, [LINK_NACK] = LINK_TAKE, [LINK_HB] = LINK_SKIP,
	                  [LINK_BYE] = LINK_TAKE},
	[LINK_CLOSED] = {LINK_SKIP, [LINK_HELLO] = LINK_SKIP, [LINK_WELCOME] = LINK_SKIP, [LINK_ACK] = LINK_SKIP,
	                 [LINK_LOST] = LINK_SKIP, [LINK_NACK] = LINK_SKIP, [LINK_HB] = LINK_SKIP, [LINK_BYE] = LINK_SKIP},
};
/* clang-format on */

void link_sender_start(struct link_sender *s, uint64_t now_ns)
{
	*s = (struct link_sender){.state = LINK_WAIT_HELLO, .pulse.deadline_ns = now_ns + LINK_HANDSHAKE_NS};
}

void link_sender_name(const struct link_control *hello, const char *peer, char name[LINK_NAME_MAX])
{
	const char *from = peer && *peer ? peer : hello->consumer;
	size_t len = strnlen(from, LINK_NAME_MAX);
	if (len == LINK_NAME_MAX) /* a part of a name is another's name */
		len = 0;
	memcpy(name, from, len);
	name[len] = '\0';
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void welcome(const struct link_sender *s, uint64_t first, uint64_t heartbeat_ms,
		    struct link_action *out)
{
	out->todo |= LINK_DO_SEND | LINK_DO_LIVE | LINK_DO_ACKED;
	out->control.type = LINK_WELCOME;
	memcpy(out->control.epoch, s->epoch, sizeof s->epoch);
	out->control.first = first;
	out->control.next = s->next;
	out->control.max_frame = s->max_frame;
	out->control.max_record = s->max_record;
	out->control.heartbeat_ms = heartbeat_ms;
	out->seq = first - 1;
}

static uint64_t greatest(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/*
 * A consumer with a past in this log goes on behind the newer of what it says it has and what it
 * acknowledged, and is told what retention took from it; one without begins with the oldest there is.  What
 * it has of an earlier epoch counts as far as that epoch went.
 */
static void take_hello(struct link_sender *s, const struct link_control *hello, const char *peer,
		       const struct sendlog_view *log, uint64_t max_frame, uint64_t max_record,
		       uint64_t heartbeat_ms, struct link_action *out)
{
	bool ours = hello->has_resume && memcmp(hello->resume.epoch, log->epoch, sizeof log->epoch) == 0;

	link_sender_name(hello, peer, s->consumer);
	if (!*s->consumer) {
		link_close(&s->state, LINK_FORBIDDEN,
			   "the consumer has no name: neither a certificate nor \"consumer\"", out);
		return;
	}
	if (ours && hello->resume.seq >= log->next) {
		link_close(&s->state, LINK_GAP,
			   "the receiver has more of this log than the sender: it was set back", out);
		out->todo |= LINK_DO_RENEW;
		return;
	}
	bool past = hello->has_resume && !ours && log->past && log->past < log->next;
	uint64_t has = ours ? hello->resume.seq : past ? least(hello->resume.seq, log->past) : 0;
	uint64_t received = greatest(hello->resume.seq, hello->received);
	if (past)
		received = least(received, log->past);
	if (has < log->cursor)
		has = log->cursor;
	uint64_t first = ours || past || log->cursor || log->known ? least(has + 1, log->next) : log->first;

	memcpy(s->epoch, log->epoch, sizeof s->epoch);
	s->state = LINK_LIVE_STATE;
	s->acked = s->sent = first - 1;
	s->next = log->next;
	s->window = hello->window;
	s->max_frame = least(max_frame, hello->max_frame);
	s->max_record = least(max_record, hello->max_record);
	s->room = least(s->max_frame, hello->window.bytes);
	s->attributes = hello->attributes > 0;
	link_beat(&s->pulse, heartbeat_ms * 1000000);
	welcome(s, first, heartbeat_ms, out);
	if (past) {
		out->control.has_resume = true;
		out->control.resume = hello->resume;
		out->control.resume.seq = log->past;
	} else if (!hello->has_resume && log->newest_past.seq && log->newest_past.seq < log->next) {
		/* it may know its past by something it does not tell */
		out->control.has_resume = true;
		out->control.resume = log->newest_past;
	}
	if ((ours || past) && received + 1 < first) {
		out->todo |= LINK_DO_ELSEWHERE;
		out->gap_from = received + 1;
		out->gap_to = first - 1;
	}
	if (first < log->first) {
		out->todo |= LINK_DO_LOST;
		out->from = first;
		out->to = log->first - 1;
	}
}

static void take_ack(struct link_sender *s, const struct link_control *ack, struct link_action *out)
{
	if (ack->seq > s->sent || ack->bytes > s->sent_bytes) {
		link_close(&s->state, LINK_BAD_FRAME, "\"ack\" of what was not sent", out);
		return;
	}
	if (ack->seq < s->acked || ack->bytes < s->acked_bytes) {
		link_close(&s->state, LINK_BAD_FRAME, "\"ack\" takes back what an earlier one said", out);
		return;
	}
	if (ack->seq > s->acked) {
		out->todo |= LINK_DO_ACKED;
		out->seq = ack->seq;
	}
	s->acked = ack->seq;
	s->acked_bytes = ack->bytes;
	s->window = ack->window;
}

static void take_nack(struct link_sender *s, const struct link_control *nack, struct link_action *out)
{
	if (nack->seq <= s->acked || nack->seq > s->sent) {
		link_close(&s->state, LINK_BAD_FRAME, "\"nack\" of what does not wait for an answer", out);
		return;
	}
	out->todo |= LINK_DO_NACK;
	out->seq = nack->seq;
}

void link_sender_control(struct link_sender *s, const struct link_control *c, const char *peer,
			 const struct sendlog_view *log, uint64_t max_frame, uint64_t max_record,
			 uint64_t heartbeat_ms, struct link_action *out)
{
	*out = (struct link_action){0};
	s->pulse.heard = true;
	if (link_judge(&s->state, sender_table, c->type, out) != LINK_TAKE)
		return;
	switch (c->type) {
	case LINK_HELLO:
		take_hello(s, c, peer, log, max_frame, max_record, heartbeat_ms, out);
		break;
	case LINK_ACK:
		take_ack(s, c, out);
		break;
	case LINK_NACK:
		take_nack(s, c, out);
		break;
	default: /* BYE: its last ACK came before it */
		out->todo |= LINK_DO_BYE;
		link_close(&s->state, LINK_OK, "the receiver said goodbye", out);
	}
}

void link_sender_data(struct link_sender *s, struct link_action *out)
{
	*out = (struct link_action){0};
	link_judge(&s->state, sender_table, 0, out);
}

void link_sender_credit(const struct link_sender *s, uint64_t *records, uint64_t *bytes)
{
	uint64_t last = s->acked + s->window.records, most = s->acked_bytes + s->window.bytes;
	bool live = s->state == LINK_LIVE_STATE;
	*records = live && last > s->sent ? last - s->sent : 0;
	*bytes = live && most > s->sent_bytes ? most - s->sent_bytes : 0;
}

void link_sender_sent(struct link_sender *s, uint64_t last_seq, size_t bytes)
{
	s->sent = last_seq;
	s->sent_bytes += bytes;
	if (s->next <= last_seq)
		s->next = last_seq + 1;
}

void link_sender_stalled(struct link_sender *s)
{
	if (s->state == LINK_LIVE_STATE && s->sent_bytes == s->acked_bytes)
		s->pulse.next_hb_ns = 1;
}

void link_sender_lost(struct link_sender *s, uint64_t to, const char *reason, struct link_action *out)
{
	*out = (struct link_action){0};
	if (s->state != LINK_LIVE_STATE || to <= s->sent)
		return;
	out->todo = LINK_DO_SEND;
	out->control.type = LINK_LOST;
	out->control.from = s->sent + 1;
	out->control.to = to;
	snprintf(out->control.reason, sizeof out->control.reason, "%s", reason);
	link_sender_sent(s, to, 0);
}

void link_sender_bye(struct link_sender *s, uint64_t now_ns, uint64_t retry_ms, const char *reason,
		     struct link_action *out)
{
	*out = (struct link_action){0};
	if (s->state == LINK_LIVE_STATE || s->state == LINK_WAIT_HELLO)
		link_leave(&s->state, &s->pulse, now_ns, retry_ms, reason, out);
}

void link_sender_tick(struct link_sender *s, uint64_t now_ns, struct link_action *out)
{
	*out = (struct link_action){0};
	if (s->state == LINK_WAIT_HELLO && now_ns >= s->pulse.deadline_ns) {
		link_close(&s->state, LINK_TIMEOUT, "no \"hello\" within 10 s", out);
	} else if (s->state == LINK_LEAVING && now_ns >= s->pulse.deadline_ns) {
		link_close(&s->state, LINK_GOING, "the receiver did not close after \"bye\"", out);
	} else if (s->state == LINK_LIVE_STATE && link_silent(&s->pulse, now_ns)) {
		link_close(&s->state, LINK_SILENT, "nothing was heard from the receiver for 2.25 heartbeats",
			   out);
	} else if (s->state == LINK_LIVE_STATE && link_heartbeat_due(&s->pulse, now_ns)) {
		out->todo = LINK_DO_SEND;
		out->control.type = LINK_HB;
		out->control.next = s->next;
	}
}

/* ---- the receiver ---- */

/* clang-format off */
static const uint8_t receiver_table[LINK_STATES][LINK_COLUMNS] = {
	[LINK_WAIT_WELCOME] = {[LINK_WELCOME] = LINK_TAKE, [LINK_BYE] = LINK_TAKE},
	[LINK_LIVE_STATE] = {LINK_TAKE, [LINK_LOST] = LINK_TAKE, [LINK_HB] = LINK_SKIP, [LINK_BYE] = LINK_TAKE},
	[LINK_DRAINING] = {[LINK_HB] = LINK_SKIP},
	/* what crossed the BYE comes again on the next connection */
	[LINK_LEAVING] = {LINK_SKIP, [LINK_WELCOME] = LINK_SKIP, [LINK_LOST] = LINK_SKIP, [LINK_HB] = LINK_SKIP,
	                  [LINK_BYE] = LINK_TAKE},
	[LINK_CLOSED] = {LINK_SKIP, [LINK_HELLO] = LINK_SKIP, [LINK_WELCOME] = LINK_SKIP, [LINK_ACK] = LINK_SKIP,
	                 [LINK_LOST] = LINK_SKIP, [LINK_NACK] = LINK_SKIP, [LINK_HB] = LINK_SKIP, [LINK_BYE] = LINK_SKIP},
};
/* clang-format on */

/* ---- what is not durable yet ---- */

/* Where there is no room for a mark the newest stands for its data and the new: what it holds is released
 * later, never too early. */
static void mark(struct link_receiver *r, uint64_t last)
{
	struct link_mark *older =
		r->newest.last && ss_ring_count(&r->marks) < LINK_MARKS - 1 ? ss_ring_push(&r->marks) : NULL;
	if (older)
		*older = r->newest;
	r->newest = (struct link_mark){.last = last, .bytes = r->got_bytes};
}

/* What is lost counts as durable once everything before it is. */
static void settle(struct link_receiver *r)
{
	const struct link_mark *m;

	if (r->durable >= r->taken)
		r->durable = r->got;
	while ((m = ss_ring_first(&r->marks)) && m->last <= r->durable) {
		r->durable_bytes = m->bytes;
		ss_ring_shift(&r->marks);
	}
	if (!m && r->newest.last && r->newest.last <= r->durable) {
		r->durable_bytes = r->newest.bytes;
		r->newest.last = 0;
	}
}

void link_receiver_durable(struct link_receiver *r, uint64_t seq)
{
	if (seq > r->durable)
		r->durable = seq;
	settle(r);
}

/* ---- what comes in ---- */

void link_receiver_done(struct link_receiver *r)
{
	ss_ring_done(&r->marks);
	*r = (struct link_receiver){0};
}

/* What an earlier process stored of the stream. */
static void restore(struct link_receiver *r, const struct ss_position *stored)
{
	r->has_epoch = r->restored = true;
	memcpy(r->epoch, stored->epoch, sizeof r->epoch);
	r->got = r->taken = r->durable = stored->seq;
}

void link_receiver_start(struct link_receiver *r, const char *stream, const char *consumer,
			 const struct ss_position *resume, const struct link_window *window,
			 uint64_t max_frame, uint64_t max_record, uint64_t now_ns, struct link_action *out)
{
	const uint64_t overhead = LINK_DATA_HEADER + LINK_RECORD_HEADER;
	struct link_receiver old = *r;

	*out = (struct link_action){0};
	link_receiver_done(r);
	*r = (struct link_receiver){.state = LINK_WAIT_WELCOME,
				    .window = *window,
				    .max_frame = max_frame,
				    .max_record = max_record,
				    .ack_ns = LINK_ACK_NS,
				    .marks.value_size = sizeof(struct link_mark)};
	if (old.has_epoch) { /* never older than what the store has */
		r->has_epoch = true;
		memcpy(r->epoch, old.epoch, sizeof r->epoch);
		r->got = old.got;
		r->taken = old.taken;
		r->durable = old.durable;
		r->restored = old.restored;
	} else if (resume) {
		restore(r, resume);
	}
	r->pulse.deadline_ns = now_ns + LINK_HANDSHAKE_NS;
	if (!window->records || !window->bytes || max_frame < max_record + overhead) {
		link_close(&r->state, LINK_OK,
			   "there is no window, or max_frame is too small for one record of max_record", out);
		return;
	}

	struct link_control *hello = &out->control;
	out->todo = LINK_DO_SEND;
	hello->type = LINK_HELLO;
	snprintf(hello->stream, sizeof hello->stream, "%s", stream ? stream : "");
	snprintf(hello->consumer, sizeof hello->consumer, "%s", consumer ? consumer : "");
	hello->has_resume = r->has_epoch;
	memcpy(hello->resume.epoch, r->epoch, sizeof r->epoch);
	hello->resume.seq = r->durable;
	hello->received = r->restored ? 0 : r->got;
	hello->window = *window;
	hello->max_frame = max_frame;
	hello->max_record = max_record;
}

/* Less than was granted before counts when the sender must have heard of it. */
static void grant_bytes(struct link_receiver *r, uint64_t limit, uint64_t now_ns)
{
	r->told_bytes = limit;
	if (limit >= r->granted_bytes) {
		r->granted_bytes = limit;
		r->shrink_ns = 0;
	} else if (!r->shrink_ns) {
		r->shrink_ns = now_ns + LINK_SHRINK_NS;
		r->shrink_bytes = limit;
	} else {
		r->shrink_bytes = greatest(r->shrink_bytes, limit);
	}
}

static void shrink(struct link_receiver *r, uint64_t now_ns)
{
	if (!r->shrink_ns || now_ns < r->shrink_ns)
		return;
	r->shrink_ns = 0;
	r->granted_bytes = greatest(r->shrink_bytes, r->got_bytes);
	grant_bytes(r, r->told_bytes, now_ns);
}

uint64_t link_receiver_open(const struct link_receiver *r)
{
	if (r->state == LINK_WAIT_WELCOME)
		return r->window.bytes;
	if (r->state != LINK_LIVE_STATE)
		return 0;
	return r->granted_bytes - r->got_bytes;
}

static void grant(struct link_receiver *r, uint64_t acked, uint64_t acked_bytes, uint64_t now_ns)
{
	r->ack_sent = acked;
	r->ack_bytes = acked_bytes;
	if (r->granted_records < acked + r->window.records)
		r->granted_records = acked + r->window.records;
	grant_bytes(r, acked_bytes + r->window.bytes, now_ns);
}

static void take_welcome(struct link_receiver *r, const struct link_control *c, struct link_action *out)
{
	bool same = r->has_epoch && memcmp(r->epoch, c->epoch, sizeof r->epoch) == 0;
	/* a new name for what is known; beyond where the old one ended the same numbers are other records */
	bool goes_on = r->has_epoch && c->has_resume && r->got <= c->resume.seq &&
		       memcmp(r->epoch, c->resume.epoch, sizeof r->epoch) == 0;

	if (c->max_frame > r->max_frame || c->max_record > r->max_record) {
		link_close(&r->state, LINK_BAD_FRAME, "\"welcome\" with limits above those of \"hello\"",
			   out);
		return;
	}
	if (same && r->got >= c->next) {
		link_close(&r->state, LINK_GAP,
			   "the sender has less of its log than was received: it was set back", out);
		return;
	}
	if (!same && !goes_on) {
		if (r->has_epoch) {
			out->todo |= LINK_DO_RESTART;
			out->seq = r->durable;
		}
		r->got = r->taken = r->durable = 0;
		r->restored = false;
	} else if (r->got < c->first - 1) {
		/* this receiver acknowledges nothing that it does not count as received */
		out->todo |= LINK_DO_ELSEWHERE;
		out->gap_from = r->got + 1;
		out->gap_to = c->first - 1;
	}
	r->has_epoch = true;
	memcpy(r->epoch, c->epoch, sizeof r->epoch);
	/* what lies before first is not meant for this consumer, or lost */
	if (r->got < c->first - 1)
		r->got = c->first - 1;
	if (r->durable < c->first - 1)
		r->durable = c->first - 1;
	r->seen = c->first - 1;
	r->max_frame = c->max_frame;
	r->max_record = c->max_record;
	r->state = LINK_LIVE_STATE;
	link_beat(&r->pulse, c->heartbeat_ms * 1000000);
	grant(r, c->first - 1, 0, 0);
	out->todo |= LINK_DO_LIVE;
}

static void take_lost(struct link_receiver *r, const struct link_control *c, struct link_action *out)
{
	if (c->from > r->got + 1) {
		link_close(&r->state, LINK_GAP, "\"lost\" leaves out sequences", out);
		return;
	}
	if (r->seen < c->to)
		r->seen = c->to;
	if (c->to <= r->got)
		return;
	out->todo |= LINK_DO_LOST;
	out->from = r->got + 1;
	out->to = c->to;
	r->got = c->to;
	settle(r);
}

void link_receiver_control(struct link_receiver *r, const struct link_control *c, struct link_action *out)
{
	*out = (struct link_action){0};
	r->pulse.heard = true;
	if (link_judge(&r->state, receiver_table, c->type, out) != LINK_TAKE)
		return;
	if (c->type == LINK_WELCOME) {
		take_welcome(r, c, out);
	} else if (c->type == LINK_LOST) {
		take_lost(r, c, out);
	} else {
		out->todo |= LINK_DO_BYE;
		if (r->state == LINK_LIVE_STATE)
			r->state = LINK_DRAINING; /* the deadline is set by the next tick */
		else
			link_close(&r->state, LINK_OK, "the sender said goodbye", out);
	}
}

void link_receiver_data(struct link_receiver *r, const struct link_data *d, struct link_action *out)
{
	uint64_t last = d->first_seq + d->count - 1, bytes = d->len + LINK_DATA_HEADER;

	*out = (struct link_action){0};
	r->pulse.heard = true;
	if (link_judge(&r->state, receiver_table, 0, out) != LINK_TAKE)
		return;
	if (bytes > r->max_frame) {
		link_close(&r->state, LINK_TOO_BIG, "data message longer than \"max_frame\"", out);
		return;
	}
	if (d->first_seq > r->got + 1) {
		link_close(&r->state, LINK_GAP, "data message leaves out sequences", out);
		return;
	}
	if (last > r->granted_records || r->got_bytes + bytes > r->granted_bytes) {
		link_close(&r->state, LINK_CREDIT, "data message beyond the window", out);
		return;
	}
	out->from = d->first_seq;
	if (out->from <= r->got) {
		out->duplicates = (last < r->got ? last : r->got) - d->first_seq + 1;
		out->from += out->duplicates;
	}
	if (last > r->got) {
		out->todo |= LINK_DO_DATA;
		r->got = r->taken = last;
		r->restored = false;
	}
	if (r->seen < last)
		r->seen = last;
	r->got_bytes += bytes;
	mark(r, last);
	settle(r);
}

/* ---- time ---- */

/* What is on its way from an earlier connection is acknowledged when it has come again. */
static uint64_t acknowledgeable(const struct link_receiver *r)
{
	return r->durable < r->seen ? r->durable : r->seen;
}

static bool unacknowledged(const struct link_receiver *r)
{
	return acknowledgeable(r) > r->ack_sent || r->durable_bytes > r->ack_bytes;
}

static void acknowledge(struct link_receiver *r, uint64_t now_ns, struct link_action *out)
{
	r->next_ack_ns = now_ns + r->ack_ns;
	r->tell_window = false;
	grant(r, acknowledgeable(r), r->durable_bytes, now_ns);
	out->todo |= LINK_DO_SEND;
	out->control.type = LINK_ACK;
	out->control.seq = r->ack_sent;
	out->control.bytes = r->durable_bytes;
	out->control.window = r->window;
}

static bool ack_due(const struct link_receiver *r, uint64_t now_ns)
{
	if (r->tell_window)
		return true;
	return unacknowledged(r) &&
	       (now_ns >= r->next_ack_ns || acknowledgeable(r) - r->ack_sent >= (r->window.records + 1) / 2 ||
		r->durable_bytes - r->ack_bytes >= r->window.bytes / 2);
}

void link_receiver_bye(struct link_receiver *r, uint64_t now_ns, uint64_t retry_ms, const char *reason,
		       struct link_action *out)
{
	*out = (struct link_action){0};
	if (r->state == LINK_LIVE_STATE && unacknowledged(r))
		acknowledge(r, now_ns, out);
	else if (r->state == LINK_LIVE_STATE || r->state == LINK_WAIT_WELCOME)
		link_leave(&r->state, &r->pulse, now_ns, retry_ms, reason, out);
}

static void drain(struct link_receiver *r, uint64_t now_ns, struct link_action *out)
{
	if (!r->pulse.deadline_ns)
		r->pulse.deadline_ns = now_ns + LINK_LEAVE_NS;
	if (unacknowledged(r))
		acknowledge(r, now_ns, out);
	if (acknowledgeable(r) == r->seen || now_ns >= r->pulse.deadline_ns)
		link_close(&r->state, LINK_OK, "the sender said goodbye", out);
}

static void live(struct link_receiver *r, uint64_t now_ns, struct link_action *out)
{
	shrink(r, now_ns);
	if (link_silent(&r->pulse, now_ns)) {
		link_close(&r->state, LINK_SILENT, "nothing was heard from the sender for 2.25 heartbeats",
			   out);
	} else if (ack_due(r, now_ns)) {
		acknowledge(r, now_ns, out);
	} else if (link_heartbeat_due(&r->pulse, now_ns)) {
		out->todo |= LINK_DO_SEND;
		out->control.type = LINK_HB;
		out->control.seq = acknowledgeable(r);
	}
}

void link_receiver_tick(struct link_receiver *r, uint64_t now_ns, struct link_action *out)
{
	*out = (struct link_action){0};
	if (r->state == LINK_LIVE_STATE)
		live(r, now_ns, out);
	else if (r->state == LINK_DRAINING)
		drain(r, now_ns, out);
	else if (r->state == LINK_WAIT_WELCOME && now_ns >= r->pulse.deadline_ns)
		link_close(&r->state, LINK_TIMEOUT, "no \"welcome\" within 10 s", out);
	else if (r->state == LINK_LEAVING && now_ns >= r->pulse.deadline_ns)
		link_close(&r->state, LINK_GOING, "the sender did not close after \"bye\"", out);
}

bool link_receiver_owes(const struct link_receiver *r)
{
	return (r->state == LINK_LIVE_STATE || r->state == LINK_DRAINING) && unacknowledged(r);
}

static uint64_t live_due(const struct link_receiver *r)
{
	uint64_t due = least(r->pulse.next_hb_ns, r->pulse.heard_ns + r->pulse.heartbeat_ns / 4 * 9);

	if (r->shrink_ns)
		due = least(due, r->shrink_ns);
	return unacknowledged(r) ? least(due, r->next_ack_ns) : due;
}

uint64_t link_receiver_due(const struct link_receiver *r)
{
	switch (r->state) {
	case LINK_WAIT_WELCOME:
	case LINK_DRAINING:
	case LINK_LEAVING:
		return r->pulse.deadline_ns;
	case LINK_LIVE_STATE:
		return live_due(r);
	default:
		return UINT64_MAX;
	}
}
