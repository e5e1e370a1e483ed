/* SPDX-License-Identifier: MIT */
/*
 * link_session - the two ends of a link as state tables, pure: what came in, what is to be done.
 * docs/link-protocol.md section "States" is the same table in words.  Times are of any monotonic clock, ns.
 * [inst]
 */
#pragma once
#include <semstreams/base/ring.h>
#include "link_proto.h"
#include "plugins/spool/sendlog.h"

/* What to do next; several may be set, to be done in the order of their values but for CLOSE, which comes
 * last. */
enum {
	LINK_DO_SEND = 1,  /* send out->control */
	LINK_DO_CLOSE = 2, /* close with out->code, out->why */
	LINK_DO_LIVE = 4,  /* the link is up */
	LINK_DO_ACKED = 8, /* sender: the consumer has everything up to out->seq; with LIVE: make the consumer
			      known */
	LINK_DO_DATA =
		16, /* receiver: take records with seq from out->from on; those before are duplicates */
	LINK_DO_LOST = 32,    /* receiver: out->from..out->to will never come; sender, with LIVE: tell so by
				 link_sender_lost */
	LINK_DO_RESTART = 64, /* receiver: the sender's epoch is another: what was is over, up to out->seq of
				 it was durable */
	LINK_DO_NACK = 128,   /* sender: the consumer refused record out->seq for good; its ACK will come all
				 the same */
	LINK_DO_BYE = 256,    /* the peer goes: the control message has retry_ms and reason */
	LINK_DO_ELSEWHERE = 1024, /* out->gap_from..gap_to of this stream were acknowledged to the sender, but
				     not by this receiver as far as it knows: they are lost to it */
	LINK_DO_RENEW = 512 /* sender: its log was set back, as the consumer has more than it: before that
			     * consumer may come again the log needs a new epoch */
};
/* Wholly written by every call that takes one; what came in must not lie in it. */
struct link_action {
	uint32_t todo;
	struct link_control control;
	int code;
	const char *why;                    /* static */
	uint64_t seq, from, to, duplicates; /* duplicates: count, whether or not DATA is set */
	uint64_t gap_from, gap_to;
};

enum link_state {
	LINK_START,
	LINK_WAIT_HELLO,   /* sender */
	LINK_WAIT_WELCOME, /* receiver */
	LINK_LIVE_STATE,
	LINK_DRAINING, /* receiver: the sender said BYE, the last ACK is to be sent */
	LINK_LEAVING,  /* this end said BYE */
	LINK_CLOSED,
	LINK_STATES
};
enum { LINK_COLUMNS = LINK_BYE + 1 }; /* of the state tables: by enum link_type, 0 for data */

#define LINK_HANDSHAKE_NS 10000000000ull /* for HELLO and WELCOME */
#define LINK_LEAVE_NS     3000000000ull  /* from BYE to the close */
#define LINK_ACK_NS       50000000ull    /* between two ACKs, to begin with */
#define LINK_SHRINK_NS    10000000000ull /* from an ACK with a smaller window until it is all that counts */

/* What both ends need for their clocks. */
struct link_pulse {
	bool heard; /* something came since the last tick; may be set from outside, for parts of messages */
	uint64_t heard_ns, heartbeat_ns, next_hb_ns;
	uint64_t deadline_ns; /* of the handshake or of leaving */
};

/* ---- sender: has the log; one per connection ---- */
struct link_sender {
	enum link_state state;
	char consumer[LINK_NAME_MAX];
	uint64_t acked;                   /* cumulative, by the peer */
	uint64_t sent;                    /* newest sequence sent on this connection */
	uint64_t sent_bytes, acked_bytes; /* of data messages of this connection, headers included */
	uint64_t next;                    /* of the log, for heartbeats: to be kept up by the caller */
	struct link_window window;
	uint64_t max_frame, max_record; /* the smaller of both ends' */
	uint64_t room;   /* what a message can have in any case: max_frame, or the first window */
	bool attributes; /* the receiver takes attributes */
	uint8_t epoch[16];
	struct link_pulse pulse;
};
void link_sender_start(struct link_sender *, uint64_t now_ns);
/* peer: verified certificate name or NULL.  The caller looks the consumer's log view up by the name it gets
 * from link_sender_name after a HELLO was read; "" if there is none, which link_sender_control refuses. */
void link_sender_name(const struct link_control *hello, const char *peer, char name[LINK_NAME_MAX]);
/* The view and what follows it are used for a HELLO only.  After LIVE the first record to send is sent + 1.
 */
void link_sender_control(struct link_sender *, const struct link_control *, const char *peer,
			 const struct sendlog_view *, uint64_t max_frame, uint64_t max_record,
			 uint64_t heartbeat_ms, struct link_action *out);
/* A data message came: a receiver's fault. */
void link_sender_data(struct link_sender *, struct link_action *out);
/* How many records may follow now, and bytes of data messages (headers included); 0 unless live. */
void link_sender_credit(const struct link_sender *, uint64_t *records, uint64_t *bytes);
/* A data message of bytes (header included) was sent, its newest record last_seq. */
void link_sender_sent(struct link_sender *, uint64_t last_seq, size_t bytes);
/* The window does not hold the next record, and all is acknowledged: the next tick says so by a heartbeat. */
void link_sender_stalled(struct link_sender *);
/* Records sent + 1 .. to cannot be sent (retention, corrupt, oversize): out has the LOST to send. */
void link_sender_lost(struct link_sender *, uint64_t to, const char *reason, struct link_action *out);
/* Say goodbye: out has the BYE; ACKs are still taken until the receiver closes, at most LINK_LEAVE_NS. */
void link_sender_bye(struct link_sender *, uint64_t now_ns, uint64_t retry_ms, const char *reason,
		     struct link_action *out);
/* Deadlines and heartbeats: to be called at least each second. */
void link_sender_tick(struct link_sender *, uint64_t now_ns, struct link_action *out);

/* ---- receiver: one per stream, all zero to begin with; what it knows of the epoch outlives its connections,
 * so that what is on its way downstream is not taken twice.  link_receiver_done() sets it to zero again: then
 * everything that is not durable is sent again. ---- */
#define LINK_MARKS 256
/* Data messages of this connection: once last is durable, bytes in all may be released. */
struct link_mark {
	uint64_t last, bytes;
};
struct link_receiver {
	enum link_state state;
	bool has_epoch;
	bool restored; /* what it knows is from the store of an earlier process */
	uint8_t epoch[16];
	uint64_t got;     /* newest sequence received (or skipped as LOST) */
	uint64_t taken;   /* newest that was taken as data: between it and got everything is lost */
	uint64_t durable; /* newest sequence acknowledged downstream, all before included */
	uint64_t seen;    /* newest sequence of this connection: more is not acknowledged on it */
	uint64_t ack_sent, ack_bytes; /* of the last ACK on this connection */
	struct link_window window;    /* may be changed from outside: the next ACK tells it */
	bool tell_window;             /* set from outside: at once */
	uint64_t max_frame, max_record;
	uint64_t granted_records,
		granted_bytes;            /* greatest sequence and sum of bytes the sender was ever allowed */
	uint64_t told_bytes;              /* the sum that the newest ACK allows */
	uint64_t shrink_ns, shrink_bytes; /* when granted_bytes becomes less, 0: not; the most that was told
					     since */
	uint64_t got_bytes, durable_bytes; /* of this connection, headers included */
	uint64_t next_ack_ns;
	uint64_t ack_ns; /* between two ACKs, unless half a window is used up; may be changed from outside */
	struct link_pulse pulse;
	struct link_mark newest; /* of the marks; last 0: there are none */
	struct ss_ring marks;    /* struct link_mark: those before it; no memory until there are several */
};
/* Free its memory; it is as at the beginning. */
void link_receiver_done(struct link_receiver *);
/* A new connection.  resume counts only while the receiver knows no epoch itself, as after a start of the
 * process; NULL: from the oldest there is.  out: the HELLO to send, or CLOSE if there is no window or
 * max_frame is too small for max_record. */
void link_receiver_start(struct link_receiver *, const char *stream, const char *consumer,
			 const struct ss_position *resume, const struct link_window *, uint64_t max_frame,
			 uint64_t max_record, uint64_t now_ns, struct link_action *out);
void link_receiver_control(struct link_receiver *, const struct link_control *, struct link_action *out);
/* A data message that link_data_read took. */
void link_receiver_data(struct link_receiver *, const struct link_data *, struct link_action *out);
/* Everything up to seq, of the current epoch, is durable downstream; then tick.  Never call it for batches of
 * an epoch that RESTART ended. */
void link_receiver_durable(struct link_receiver *, uint64_t seq);
/* Say goodbye: out has the last ACK (then call again) or the BYE.  What comes after is not to be taken. */
void link_receiver_bye(struct link_receiver *, uint64_t now_ns, uint64_t retry_ms, const char *reason,
		       struct link_action *out);
/* When an ACK is due (at most every ack_ns, or half a window), a heartbeat or a deadline: out has one of
 * them, so call it again until todo is 0; then when link_receiver_due() says. */
void link_receiver_tick(struct link_receiver *, uint64_t now_ns, struct link_action *out);
/* After a tick: when the next one has something to do if nothing happens until then; UINT64_MAX: never. */
uint64_t link_receiver_due(const struct link_receiver *);
/* Bytes that the sender may send now, or that must be taken as it may not have heard yet that it may not. */
uint64_t link_receiver_open(const struct link_receiver *);
/* Something is durable and not acknowledged yet. */
bool link_receiver_owes(const struct link_receiver *);
/* End the session: *out says to close with code and why (static). */
void link_close(enum link_state *, int code, const char *why, struct link_action *out);
