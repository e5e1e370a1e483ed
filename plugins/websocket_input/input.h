/* SPDX-License-Identifier: MIT */
/* input - what the parts of websocket_input share.  All of it runs on the instance's loop. */
#pragma once
#include <semstreams/ext/fields.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>
#include "plugins/websocket/peers.h"
#include "plugins/websocket/transport/endpoint.h"
#include "provenance.h"
#include "senders.h"

enum { FORMAT_RAW, FORMAT_ENVELOPE };

struct input_conf {
	struct endpoint_conf endpoint;
	const char *stream, *consumer, *trust_origin;
	int64_t window_records, window_bytes, memory;
	int64_t max_senders, max_streams;
	int64_t plain, format;
};

enum {
	METRIC_UNACKED = PEER_METRICS_END,
	METRIC_DUPLICATES,
	METRIC_RESTARTS,
	METRIC_RECEIVED_BYTES,
	METRIC_SENDERS,
	METRIC_FORGOTTEN,
	METRIC_REFUSED,
	METRIC_UNTRUSTED,
	METRIC_MEMORY,
};

struct input_peer {
	struct peer common;    /* first */
	struct sender *sender; /* of a link; NULL: a newer one took over */
	struct provenance_peer provenance;
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

	struct provenance provenance;
	struct senders senders;
	uint64_t unacked;       /* events of all senders */
	uint64_t memory, extra; /* bytes that senders have or may send; of these, from the pool */
	uint32_t n_owed;        /* senders that are owed an acknowledgement */
	const struct ss_positions *positions; /* NULL: the host has none */
	void *positions_self;
	struct ss_ring forgotten; /* uint64_t: the streams of senders that were forgotten, oldest first */

	/* plain messages gathered for one batch */
	struct ss_batch *plain;
	size_t plain_used;
	bool bad_told; /* of a message that is no envelope */
};

/* link_in.c */
int link_in_open(struct input *, struct input_peer *, const char *stream);
void link_in_message(struct input *, struct input_peer *, bool binary, const uint8_t *data, size_t len);
void link_in_closed(struct input *, struct input_peer *, int code, bool by_peer, const char *why);
void link_in_acked(struct input *, uint64_t cookie, int32_t status);
void link_in_tick(struct input *); /* what is due by now */
/* Options are others now, and the limits of senders set by them. */
void link_in_reconfigured(struct input *);
/* The last acknowledgement, before connections are closed. */
void link_in_stop(struct input *);
/* Of the senders that were connected the one that has been away for longest; NULL: none is. */
const struct sender *link_in_longest_away(const struct input *);
const char *link_in_name(const struct sender *); /* for people */

/* memory.c: windows */
uint64_t memory_first_window(const struct input *);          /* of one that connects */
void memory_count(struct sender *);                          /* what it has or may send has changed */
void memory_share(struct sender *, uint64_t now_ns);         /* its window, before it is told the next time */
uint64_t memory_due(const struct sender *, uint64_t now_ns); /* when to look again */

/* list_in.c: for the page of peers. */
void list_in(void *input, const struct ss_peer_rows *);

/* plain_in.c */
int plain_in_init(struct input *);
void plain_in_message(struct input *, const struct input_peer *, bool binary, const uint8_t *data,
		      size_t len);
void plain_in_flush(struct input *);
void plain_in_done(struct input *);
