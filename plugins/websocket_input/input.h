/* SPDX-License-Identifier: MIT */
/* input - what the parts of websocket_input share.  All of it runs on the instance's loop. */
#pragma once
#include <semstreams/ext/fields.h>
#include <semstreams/ext/loop.h>
#include "plugins/websocket/peers.h"
#include "plugins/websocket/transport/endpoint.h"

enum { FORMAT_RAW, FORMAT_ENVELOPE };

struct input_conf {
	struct endpoint_conf endpoint;
	const char *stream, *consumer;
	int64_t window_records, window_bytes;
	int64_t plain, format;
};

struct sender;

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
	bool bad_told; /* of a message that is no envelope */
};

/* plain_in.c */
int plain_in_init(struct input *);
void plain_in_message(struct input *, const struct peer *, bool binary, const uint8_t *data, size_t len);
void plain_in_flush(struct input *);
void plain_in_done(struct input *);
