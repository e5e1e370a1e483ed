/* SPDX-License-Identifier: MIT */
/*
 * output - what the files of nats_output share.  All of it runs on the component's loop.
 *
 * Batches are kept until all their events are stored.  Each event that is published gets a number, for good,
 * by which its acknowledgement is known and by which it is sent again.  A sole writer's messages form a
 * chain: each names the sequence and the id of the one before it, so that the server stores a message only if
 * it has stored all before it.  So what the last message of the stream is tells which of those under way it
 * has.
 */
#pragma once
#include <semstreams/base/ring.h>
#include <semstreams/ext/loop.h>
#include <semstreams/sugar.h>
#include "plugins/nats/connection.h"
#include "plugins/nats_output/position.h"
#include "plugins/nats_output/subject.h"

enum { WRITERS_ONE, WRITERS_MANY };
enum { DURABILITY_DURABLE, DURABILITY_REPLICATED, DURABILITY_RELAXED };
enum { REASON_DUPLICATE, REASON_TOO_LONG, REASON_SUBJECT };
enum {
	METRIC_STORED,
	METRIC_RESENT,
	METRIC_LOST,
	METRIC_FENCED,
	METRIC_FORGOTTEN,
	METRIC_CONNECTED,
	METRIC_PENDING
};

struct output_conf {
	NATS_MEMBERS;
	const char *stream, *subject, *refused_subject;
	int64_t writers, durability, max_pending, max_pending_bytes, attributes;
};

/* A batch that is kept. */
struct kept {
	struct ss_batch *batch;
	uint64_t bytes;
	uint32_t port;
	uint32_t next;       /* row to publish next */
	uint32_t pending;    /* rows that are published and not known to be stored */
	uint32_t refused;    /* rows that are dropped for good */
	struct place *place; /* of its stream; NULL: it has none */
	uint8_t epoch[16];
	uint64_t id[2]; /* what stands for its stream in ids of messages of many writers */
};

/* An event that is published. */
struct sent {
	uint64_t batch; /* number in the ring */
	uint32_t row;
	bool over; /* stored, or refused for good */
};

enum state {
	STATE_AWAY,    /* no connection */
	STATE_ASKING,  /* what the stream is like, and its last message */
	STATE_READING, /* messages from the last one back, until one says where all streams are */
	STATE_SENDING,
	STATE_HELD /* until a timer asks again */
};

struct output {
	const struct ss_host *host;
	const struct output_conf *conf;
	struct nats_settings settings;
	struct ss_iface loop;
	struct nats_conn *conn;
	struct subject subject;
	struct positions positions;

	struct ss_ring kept, sent; /* of struct kept, struct sent; their numbers stay */
	uint64_t batch;            /* number of the batch to publish from */
	uint64_t again;            /* number of the event to be sent again next; sent.tail: none */
	uint64_t kept_bytes;
	bool busy, draining;

	enum state state;
	char run[17];        /* this instance, in hex */
	uint64_t sync;       /* grows each time that sending begins */
	uint64_t stored_seq; /* sequence of the last message that is ours and stored, or where we began */
	uint64_t sent_seq;   /* sequence that the last one sent gets */
	char last_id[64];    /* of the message sent last since sending began; "": none */
	bool known;          /* positions were read back */
	uint64_t scan_seq;   /* message that is read */
	unsigned scan_left;
	unsigned since_index; /* messages */
	struct ss_strbuf index;

	char **subjects; /* of the stream, NULL-ended */
	char created[40];
	uint64_t last_seq, first_seq; /* as the server told last */
	uint64_t asked_seq;           /* stored_seq when it was asked */
	bool doubted;                 /* the server seemed to have lost messages, and is asked again */
	bool polling;                 /* an answer about the stream is awaited while sending */

	bool fenced;
	uint64_t fence_seq;  /* the stream's last sequence when it was looked at */
	uint64_t wait_ns;    /* the last wait */
	uint32_t hold, tick; /* timers */
	uint64_t progress_ns, asked_ns;
	char trouble[400];
};

static inline const struct ss_loop *loop_of(const struct output *o)
{
	return o->loop.vtbl;
}

static inline uint64_t now_of(const struct output *o)
{
	return loop_of(o)->now(o->loop.self);
}

/* ---- nats_output.c ---- */

/* Say once, and for as long as it lasts, what keeps it from storing; "": nothing any more. */
void output_trouble(struct output *o, int32_t level, const char *text);

/* ---- publish.c ---- */

int32_t publish_take(struct output *, uint32_t port, struct ss_batch *);
/* Send what may be sent. */
void publish_pump(struct output *);
/* Everything up to this number is stored, or in question no more. */
void publish_stored(struct output *, uint64_t number);
/* Begin behind the stream's last message, with the oldest event that is not known to be stored. */
void publish_begin(struct output *, uint64_t last_seq);
/* An acknowledgement, or a refusal; takes over the message. */
void publish_answer(struct output *, const char *token, natsMsg *);
/* Give back all that is kept. */
void publish_stop(struct output *);
/* The number in the id of a message of this instance; false: it is not ours. */
bool publish_is_ours(const struct output *, const char *id, uint64_t *number);

/* ---- resume.c ---- */

/* Ask about the stream, and go on from there. */
void resume_ask(struct output *);
/* The same after a wait, which grows until sending begins. */
void resume_later(struct output *);
