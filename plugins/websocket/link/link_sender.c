/* SPDX-License-Identifier: MIT */
/*
 * link_sender - the end of a link that has the log: which record comes first for a consumer, how many may
 * follow, what was acknowledged.  [inst]
 */
#include <stdio.h>
#include <string.h>
#include "link_session.h"

/* clang-format off */
static const uint8_t table[LINK_STATES][LINK_COLUMNS] = {
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

/*
 * A consumer with a past in this log goes on behind the newer of what it says it has and what it
 * acknowledged, and is told what retention took from it; one without begins with the oldest there is.  What
 * it has of an earlier epoch counts as far as that epoch went.
 */
static void take_hello(struct link_sender *s, const struct link_control *hello, const char *peer,
		       const struct link_log_view *log, uint64_t max_frame, uint64_t max_record,
		       uint64_t heartbeat_ms, struct link_action *out)
{
	bool ours = hello->has_resume && memcmp(hello->resume.epoch, log->epoch, sizeof log->epoch) == 0;

	link_sender_name(hello, peer, s->consumer);
	if (!*s->consumer) {
		link_fail(&s->state, LINK_FORBIDDEN,
			  "the consumer has no name: neither a certificate nor \"consumer\"", out);
		return;
	}
	if (ours && hello->resume.seq >= log->next) {
		link_fail(&s->state, LINK_GAP,
			  "the receiver has more of this log than the sender: it was set back", out);
		out->todo |= LINK_DO_RENEW;
		return;
	}
	bool past = hello->has_resume && !ours && log->past && log->past < log->next;
	uint64_t has = ours ? hello->resume.seq : past ? least(hello->resume.seq, log->past) : 0;
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
	link_beat(&s->pulse, heartbeat_ms * 1000000);
	welcome(s, first, heartbeat_ms, out);
	if (past) {
		out->control.has_resume = true;
		out->control.resume = hello->resume;
		out->control.resume.seq = log->past;
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
		link_fail(&s->state, LINK_BAD_FRAME, "\"ack\" of what was not sent", out);
		return;
	}
	if (ack->seq < s->acked || ack->bytes < s->acked_bytes) {
		link_fail(&s->state, LINK_BAD_FRAME, "\"ack\" takes back what an earlier one said", out);
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
		link_fail(&s->state, LINK_BAD_FRAME, "\"nack\" of what does not wait for an answer", out);
		return;
	}
	out->todo |= LINK_DO_NACK;
	out->seq = nack->seq;
}

void link_sender_control(struct link_sender *s, const struct link_control *c, const char *peer,
			 const struct link_log_view *log, uint64_t max_frame, uint64_t max_record,
			 uint64_t heartbeat_ms, struct link_action *out)
{
	*out = (struct link_action){0};
	s->pulse.heard = true;
	if (link_judge(&s->state, table, c->type, out) != LINK_TAKE)
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
		link_fail(&s->state, LINK_OK, "the receiver said goodbye", out);
	}
}

void link_sender_data(struct link_sender *s, struct link_action *out)
{
	*out = (struct link_action){0};
	link_judge(&s->state, table, 0, out);
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
		link_fail(&s->state, LINK_TIMEOUT, "no \"hello\" within 10 s", out);
	} else if (s->state == LINK_LEAVING && now_ns >= s->pulse.deadline_ns) {
		link_fail(&s->state, LINK_GOING, "the receiver did not close after \"bye\"", out);
	} else if (s->state == LINK_LIVE_STATE && link_silent(&s->pulse, now_ns)) {
		link_fail(&s->state, LINK_SILENT, "nothing was heard from the receiver for 2.25 heartbeats",
			  out);
	} else if (s->state == LINK_LIVE_STATE && link_heartbeat_due(&s->pulse, now_ns)) {
		out->todo = LINK_DO_SEND;
		out->control.type = LINK_HB;
		out->control.next = s->next;
	}
}
