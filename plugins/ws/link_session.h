/* SPDX-License-Identifier: MIT */
/*
 * link_session - the two ends of a link as state tables, pure: what came in, what is to be done.  docs/link-protocol.md
 * section "States" is the same table in words.
 */
#pragma once
#include "link_proto.h"

/* What to do next; several may be set. */
enum {
	LINK_DO_SEND = 1,    /* send out->control */
	LINK_DO_CLOSE = 2,   /* close with out->code, out->why */
	LINK_DO_LIVE = 4,    /* the link is up */
	LINK_DO_ACKED = 8,   /* sender: the consumer has everything up to out->seq */
	LINK_DO_DATA = 16,   /* receiver: take records with seq from out->from on; those before are duplicates (out->duplicates) */
	LINK_DO_LOST = 32,   /* receiver: out->from..out->to will never come */
	LINK_DO_RESTART = 64 /* receiver: the sender's epoch is another: what was is over */
};
struct link_action {
	uint32_t todo;
	struct link_control control;
	int code;
	const char *why;
	uint64_t seq, from, to, duplicates;
};

enum link_state { LINK_START, LINK_WAIT_HELLO, LINK_WAIT_WELCOME, LINK_LIVE_STATE, LINK_DRAINING, LINK_CLOSED };

/* ---- sender: has the log ---- */
struct link_sender {
	enum link_state state;
	char consumer[LINK_NAME_MAX];
	uint64_t acked;         /* cumulative, by the peer */
	uint64_t sent;          /* newest sequence sent on this connection */
	uint64_t sent_bytes, acked_bytes_base; /* for the window in bytes */
	struct link_window window;
	uint64_t max_frame, max_record;
	uint8_t epoch[16];
	uint64_t hello_deadline_ns;
};
struct link_log_view { /* what the log has for this consumer */
	uint8_t epoch[16];
	uint64_t first, next; /* next sequence to be given out by the log; first == next: empty */
	uint64_t cursor;      /* acknowledged by this consumer before, 0 = never */
};
void link_sender_start(struct link_sender *, uint64_t now_ns);
/* peer: verified certificate name or NULL.  The caller looks the consumer's log view up by the name it gets from
 * link_sender_name after a HELLO was read. */
void link_sender_name(const struct link_control *hello, const char *peer, char name[LINK_NAME_MAX]);
void link_sender_control(struct link_sender *, const struct link_control *, const char *peer, const struct link_log_view *,
                         uint64_t max_frame, uint64_t max_record, uint64_t heartbeat_ms, struct link_action *out);
/* How many records may follow now, and bytes. */
void link_sender_credit(const struct link_sender *, uint64_t *records, uint64_t *bytes);
void link_sender_sent(struct link_sender *, uint64_t last_seq, size_t bytes);
void link_sender_tick(struct link_sender *, uint64_t now_ns, struct link_action *out);

/* ---- receiver ---- */
struct link_receiver {
	enum link_state state;
	bool has_epoch;
	uint8_t epoch[16];
	uint64_t got;      /* newest sequence received (or skipped as LOST) */
	uint64_t durable;  /* newest sequence acknowledged downstream, all before included */
	uint64_t ack_sent;
	struct link_window window;
	uint64_t granted_records, used_bytes;
	uint64_t welcome_deadline_ns, next_ack_ns;
	uint64_t heartbeat_ns;
};
/* resume may be NULL: from the oldest there is.  out: the HELLO to send. */
void link_receiver_start(struct link_receiver *, const char *stream, const char *consumer, const struct ss_position *resume,
                         const struct link_window *, uint64_t max_frame, uint64_t max_record, uint64_t now_ns,
                         struct link_action *out);
void link_receiver_control(struct link_receiver *, const struct link_control *, struct link_action *out);
void link_receiver_data(struct link_receiver *, const struct link_data *, struct link_action *out);
/* Everything up to seq is durable downstream. */
void link_receiver_durable(struct link_receiver *, uint64_t seq);
/* When an ACK is due (at most every 50 ms, or half a window): out has it. */
void link_receiver_tick(struct link_receiver *, uint64_t now_ns, struct link_action *out);
