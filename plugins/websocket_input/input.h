/* SPDX-License-Identifier: MIT */
/* input - what the parts of websocket_input share.  All of it runs on the instance's loop. */
#pragma once
#include <semstreams/base/ring.h>
#include <semstreams/ext/fields.h>
#include <semstreams/ext/loop.h>
#include "plugins/websocket/link/link_session.h"
#include "plugins/websocket/peers.h"
#include "plugins/websocket/transport/endpoint.h"

enum { FORMAT_RAW, FORMAT_ENVELOPE };

struct input_conf {
	struct endpoint_conf endpoint;
	const char *stream, *consumer;
	int64_t window_records, window_bytes;
	int64_t plain, format;
};

enum {
	METRIC_UNACKED = PEER_METRICS_END,
	METRIC_DUPLICATES,
	METRIC_RESTARTS,
	METRIC_RECEIVED_BYTES,
};

/* A batch on its way downstream, in the order received. */
struct flight {
	uint64_t last_seq;
	bool done;
};

/*
 * A sender and its stream, from its first link to the end of the process: epoch, sequences and what is on its
 * way belong to it alone.  A listener knows senders by their verified names, those without one as "": a
 * dialer has one, by its URL.
 */
struct sender {
	struct input *in;
	struct sender *next;
	uint32_t number; /* in the cookies of its batches */
	char name[256];
	struct input_peer *peer; /* its connection, NULL without one */
	struct link_receiver link;
	uint64_t away_ns;        /* for how long it has not been connected */
	bool can_resume, failed; /* failed: something received could not be stored and must come again */
	struct ss_position durable;
	uint8_t stream_id[16];  /* the epoch of its positions: see stream_id() */
	struct ss_ring flights; /* struct flight */
};

struct input_peer {
	struct peer common;    /* first */
	struct sender *sender; /* of a link */
};

struct input {
	const struct ss_host *host;
	const struct input_conf *conf;
	struct endpoint endpoint;
	const struct ss_loop *loop;
	void *loop_self;
	const struct ss_fields *fields;
	void *fields_self;
	struct ss_reader *control, *envelope;
	bool paused, ending;
	uint32_t tick, ack_timer;
	uint64_t ticked_ns;
	struct peers peers;

	struct sender *senders;
	uint32_t n_senders;
	struct ss_position stored; /* what the components downstream had at the start */
	bool has_stored;

	/* plain messages gathered for one batch */
	struct ss_batch *plain;
	size_t plain_used;
};

/* link_in.c */
/* A link's connection is open: 0, or a close code to refuse it with. */
int link_in_open(struct input *, struct input_peer *);
void link_in_message(struct input *, struct input_peer *, bool binary, const uint8_t *data, size_t len);
void link_in_closed(struct input *, struct input_peer *, int code, bool by_peer);
void link_in_acked(struct input *, uint64_t cookie, int32_t status);
void link_in_tick(struct input *);
void link_in_stop(struct input *); /* the last acknowledgement, before the connection is closed */
void link_in_done(struct input *);

/* plain_in.c */
int plain_in_init(struct input *);
void plain_in_message(struct input *, struct ws_conn *, bool binary, const uint8_t *data, size_t len);
void plain_in_flush(struct input *);
void plain_in_done(struct input *);
