/* SPDX-License-Identifier: MIT */
/* input - what the parts of websocket_input share.  All of it runs on the instance's loop. */
#pragma once
#include "plugins/websocket/transport/close_metrics.h"

#include <semstreams/ext/fields.h>
#include <semstreams/ext/loop.h>
#include "plugins/websocket/transport/endpoint.h"
#include "plugins/websocket/link/link_session.h"

enum { FORMAT_RAW, FORMAT_ENVELOPE };

struct input_conf {
	struct endpoint_conf endpoint;
	const char *stream, *consumer;
	int64_t window_records, window_bytes;
	int64_t plain, format;
};

enum {
	METRIC_CONNECTIONS,
	METRIC_CONNECTED,
	METRIC_FAILED,
	METRIC_LINK_UP,
	METRIC_UNACKED,
	METRIC_RTT,
	METRIC_DUPLICATES,
	METRIC_LOST,
	METRIC_RESTARTS,
	METRIC_RECEIVED_BYTES,
	METRIC_BAD_MESSAGES,
	METRIC_CLOSES
};

/* A batch on its way, in the order received. */
struct flight {
	uint64_t last_seq;
	bool done;
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
	struct peer *peers;

	/* the link: one sender at a time */
	struct ws_conn *peer;
	struct link_receiver link;
	bool can_resume, failed; /* failed: something received could not be kept and must come again */
	struct ss_position durable;
	struct flight *flights; /* a ring; its cookies count from first_cookie */
	size_t first, n, allocated;
	uint64_t first_cookie;

	/* plain messages gathered for one batch */
	struct ss_batch *plain;
	size_t plain_used;
};

/* One connection; in a list, so that all of them can be paused. */
struct peer {
	struct ws_conn *conn;
	bool link;
	struct peer *next, **back;
};

/* link_in.c */
int link_in_open(struct input *, struct ws_conn *);
void link_in_message(struct input *, struct ws_conn *, bool binary, const uint8_t *data, size_t len);
void link_in_closed(struct input *, struct ws_conn *);
void link_in_acked(struct input *, uint64_t cookie, int32_t status);
void link_in_tick(struct input *);
void link_in_stop(struct input *); /* the last acknowledgement, before the connection is closed */
void link_in_done(struct input *);

/* plain_in.c */
int plain_in_init(struct input *);
void plain_in_message(struct input *, struct ws_conn *, bool binary, const uint8_t *data, size_t len);
void plain_in_flush(struct input *);
void plain_in_done(struct input *);
