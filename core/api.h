/* SPDX-License-Identifier: MIT */
/*
 * api - the admin ports of a host and what is asked there: /metrics, /readyz, the JSON documents of /api/v1/
 * and the live stream of them.  Control thread.
 */
#pragma once
#include <ev.h>
#include <stddef.h>
#include <stdint.h>
#include "core/admin/admin.h"
#include "core/tls/admin_port.h"

struct config;
struct loader;
struct metrics;
struct pipeline;

#define API_STREAMS_MAX 64

/*
 * Zeroed to begin with; the first four are the owner's, who may change them whenever it is not within a call
 * of this room.  The pages of verbs get `arg`s of this struct, so its owner embeds it as its first member.
 */
struct api {
	struct pipeline *pipeline;
	const struct config *config;
	struct loader *loader;
	struct metrics *metrics;
	/* ours */
	struct ev_loop *ev;
	struct ev_timer tick;
	struct admin_stream *streams[API_STREAMS_MAX];
	size_t n_streams;
	uint64_t log_number; /* of the newest line that was sent */
	struct admin_port port;
	struct admin *socket;
};

/*
 * Open the port and the socket that config has; verbs is a table of pages that act, ended by a NULL path
 * (NULL: none), and is served on both.  0 or -errno, which was logged.
 */
int api_open(struct api *, struct ev_loop *, const struct admin_page *verbs);
/* Where the port is, or the socket if there is no port; "off": neither. */
const char *api_address(const struct api *);
void api_close(struct api *);
