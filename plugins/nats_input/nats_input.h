/* SPDX-License-Identifier: MIT */
/* nats_input - what the files of this plugin share.  All of it is on the instance's loop. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <semstreams/base/ring.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>
#include <semstreams/sugar.h>
#include "plugins/nats/api.h"
#include "plugins/nats/connection.h"
#include "plugins/nats/headers.h"
#include "plugins/nats_input/ack_subject.h"

enum { READERS_ONE, READERS_MANY };
enum { DELIVER_ALL, DELIVER_NEW };
enum { PORT_EVENTS, PORT_ERROR };
enum { REASON_UNDELIVERABLE };
enum {
	METRIC_MESSAGES,
	METRIC_BYTES,
	METRIC_REDELIVERED,
	METRIC_LOST,
	METRIC_PENDING,
	METRIC_UNACKED,
	METRIC_CONNECTED,
	METRICS
};

struct input_conf {
	NATS_MEMBERS;
	const char *stream, *durable, *filter;
	int64_t readers, deliver, batch, max_pending, memory, max_deliver, ack_wait, trust_origin;
};

/* A message that waits to be emitted with those that came together with it. */
struct got {
	natsMsg *msg;
	struct ack_subject at;
};

/* A batch on its way. */
struct flight {
	uint64_t first, last;   /* sequences */
	uint64_t last_ns;       /* when the stream stored the last one */
	uint64_t connection;    /* by which it came */
	size_t bytes;           /* of messages */
	uint32_t n;             /* messages */
	bool over, failed;      /* it came back; with what */
	bool answered;          /* to the server, or never to be */
	struct ss_strbuf reply; /* subjects, each with its NUL; of one reader only that of the last message */
};

struct pull {
	uint64_t id; /* 0: none */
	uint32_t left;
};
enum { PULLS = 2 };

/* What is known of the stream.  It is the same as long as its epoch is. */
struct identity {
	bool known;
	uint8_t epoch[16]; /* time of creation, digest of the name, and a number that grows when it went back
			    */
};

struct input {
	const struct ss_host *host;
	const struct input_conf *conf;
	struct nats_settings settings;
	struct nats_conn *conn;
	struct ss_iface loop, positions, attributes;
	bool paused, ending;
	uint32_t tick, extend, again, late; /* timers */
	bool leaving;                       /* the host waits for drained() */
	bool leave_asks;                    /* an answer is awaited, behind which nothing is on the way */
	bool came;                          /* a message, since that was asked for */

	/* consumer.c */
	bool running;        /* the consumer is there, so messages are asked for */
	bool bound;          /* once at least */
	uint64_t connection; /* their number */
	uint64_t up_ns;      /* since when it runs */
	struct identity stream;
	bool went_back;         /* the server lost messages that were read: their numbers are given again */
	uint64_t settled;       /* one reader: up to here all is over */
	uint64_t settled_ns;    /* when the stream stored that one; 0: unknown */
	uint64_t next;          /* one reader: the next sequence to emit, at least */
	uint64_t consumer_seq;  /* one reader: of the last message */
	struct ack_subject top; /* the newest message that was emitted; seq 0: none */
	uint64_t removed_to;    /* one reader: the stream's first sequence, if that is after next */
	uint64_t lost_to;       /* many readers: what was removed is told of up to here */
	uint64_t first_seq, last_seq; /* of the stream, when it was asked last */
	char trouble[256];            /* what is wrong, as told; "": nothing */

	/* pull.c */
	struct pull pulls[PULLS];
	uint64_t last_pull, heard_ns;
	bool too_long;     /* a message is longer than the memory that is free */
	bool server_waits; /* it said so: no pull before the next tick */

	/* delivery.c */
	struct ss_ring got, flights;
	uint64_t flights_from; /* one reader: those before this number do not count any more */
	uint64_t n_flying;     /* messages of flights that are not over */
	size_t bytes;          /* of messages that are not over */
	bool failed;           /* one reader: a batch failed, so all comes again from there */
	bool owes;             /* answers wait for room in the connection */
	const struct ss_attributes *own, *said; /* sets; NULL: none */
	struct headers *heard;                  /* what said was made of */
};

static inline const struct ss_loop *loop_of(const struct input *in)
{
	return in->loop.vtbl;
}

static inline uint64_t input_now(const struct input *in)
{
	return loop_of(in)->now(in->loop.self);
}

/* ---- nats_input.c ---- */

/* While the host drains: something has changed that may have been waited for. */
void input_leave(struct input *);

/* ---- consumer.c ---- */

/* There is a connection: look for the stream and the durable, and read. */
void consumer_find(struct input *);
/* There is none any more. */
void consumer_leave(struct input *);
/* Ask how the stream and the durable are. */
void consumer_look_after(struct input *);
/* One reader: is this message to be emitted?  It takes notice of it; what is wrong may end the connection. */
bool consumer_accept(struct input *, const struct ack_subject *);
/* Say what is wrong, once; NULL: nothing any more. */
void consumer_trouble(struct input *, int level, const char *text);

/* ---- pull.c ---- */

/* Ask for messages, as many as there is room for. */
void pull_more(struct input *);
/* A message that was asked for has come. */
void pull_got(struct input *);
/* The server says something of a pull. */
void pull_status(struct input *, const char *token, natsMsg *);
/* Nothing is asked for. */
void pull_forget(struct input *);
/* How many messages may still come. */
uint64_t pull_left(const struct input *);

/* ---- delivery.c ---- */

/* A message of the stream, which is taken over. */
void delivery_message(struct input *, natsMsg *);
/* Emit what has come. */
void delivery_emit(struct input *);
void delivery_acked(struct input *, uint64_t cookie, int32_t status);
/* Answer what could not be answered before. */
void delivery_answer(struct input *);
/* Tell the server that what it waits for is being worked on. */
void delivery_extend(struct input *);
/* One reader: what is on its way does not count any more. */
void delivery_forget(struct input *);
/* Messages that were not emitted are given back. */
void delivery_return(struct input *);
void delivery_done(struct input *);
