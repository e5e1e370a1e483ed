/* SPDX-License-Identifier: MIT */
/*
 * link_session - what both ends of a link share: the verdict of a state table, closing, heartbeats and
 * goodbyes.  [inst]
 */
#include <stdio.h>
#include "link_session.h"

void link_fail(enum link_state *state, int code, const char *why, struct link_action *out)
{
	*state = LINK_CLOSED;
	out->todo |= LINK_DO_CLOSE;
	out->code = code;
	out->why = why;
}

enum link_verdict link_judge(enum link_state *state, const uint8_t table[LINK_STATES][LINK_COLUMNS],
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
		link_fail(state, LINK_BAD_FRAME, why[column], out);
	return verdict;
}

void link_beat(struct link_pulse *pulse, uint64_t heartbeat_ns)
{
	pulse->heartbeat_ns = heartbeat_ns;
	pulse->next_hb_ns = 0;
	pulse->deadline_ns = 0;
	pulse->heard = true;
}

bool link_silent(struct link_pulse *pulse, uint64_t now_ns)
{
	if (pulse->heard)
		pulse->heard_ns = now_ns;
	pulse->heard = false;
	return now_ns - pulse->heard_ns >= pulse->heartbeat_ns / 4 * 9;
}

bool link_heartbeat_due(struct link_pulse *pulse, uint64_t now_ns)
{
	bool due = pulse->next_hb_ns && now_ns >= pulse->next_hb_ns;
	if (due || !pulse->next_hb_ns)
		pulse->next_hb_ns = now_ns + pulse->heartbeat_ns;
	return due;
}

void link_leave(enum link_state *state, struct link_pulse *pulse, uint64_t now_ns, uint64_t retry_ms,
		const char *reason, struct link_action *out)
{
	*state = LINK_LEAVING;
	pulse->deadline_ns = now_ns + LINK_LEAVE_NS;
	out->todo |= LINK_DO_SEND;
	out->control.type = LINK_BYE;
	out->control.retry_ms = retry_ms;
	snprintf(out->control.reason, sizeof out->control.reason, "%s", reason);
}
