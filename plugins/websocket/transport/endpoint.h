/* SPDX-License-Identifier: MIT */
/*
 * endpoint - the options both WebSocket plugins share, and what becomes of them.  endpoint_check runs in
 * create, endpoint_open in start, on the instance's loop.
 */
#pragma once
#include <semstreams/sugar.h>
#include <semstreams/ext/tls.h>
#include "ws.h"

/* First member of a plugin's conf. */
struct endpoint_conf {
	const char *bind, *path, *url, *allowed_origins;
	int64_t port;
	int64_t max_clients, max_message, handshake_timeout, ping_interval, dead_after, close_timeout;
	int64_t max_handshakes, max_address_handshakes;
	int64_t retry_min, retry_max, retry_stable, down_after;
};

#define ENDPOINT_OPT(conf, member, opt_type, def, text, ...)                                                 \
	{                                                                                                    \
		.key = #member, .default_text = def, .help = text, .type = opt_type,                         \
		.offset = (uint32_t)offsetof(conf, endpoint.member), __VA_ARGS__                             \
	}
#define ENDPOINT_SECONDS(n) ((int64_t)(n)*1000000000)

/* Rows of the option table of a plugin whose conf has a member `struct endpoint_conf endpoint`. */
#define ENDPOINT_OPTIONS(conf, default_port)                                                                 \
	ENDPOINT_OPT(conf, port, SS_OPT_INT, default_port, "TCP port to listen on, 0 = any", .min = 0,       \
		     .max = 65535),                                                                          \
		ENDPOINT_OPT(conf, bind, SS_OPT_STRING, "", "address to listen on, empty = all",             \
			     .flags = 0),                                                                    \
		ENDPOINT_OPT(conf, path, SS_OPT_STRING, "/", "the only path that upgrades to WebSocket",     \
			     .flags = 0),                                                                    \
		ENDPOINT_OPT(conf, url, SS_OPT_STRING, NULL,                                                 \
			     "dial ws[s]://host[:port]/path instead of listening", .flags = 0),              \
		ENDPOINT_OPT(conf, allowed_origins, SS_OPT_JSON, "[]",                                       \
			     "origins whose browser pages may connect, such as [\"https://hub.example\"]",   \
			     .schema = "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}",               \
			     .flags = SS_OPT_LIVE),                                                          \
		ENDPOINT_OPT(conf, max_clients, SS_OPT_INT, "10000",                                         \
			     "open connections at once; further clients are told to come again later",       \
			     .min = 1, .max = 1000000, .flags = SS_OPT_LIVE),                                \
		ENDPOINT_OPT(conf, max_handshakes, SS_OPT_INT, "64",                                         \
			     "handshakes that go on at once; more clients wait for their turn; of those "    \
			     "that do not go on three times as many are kept, then the oldest gives way",    \
			     .min = 1, .max = 65536, .flags = SS_OPT_LIVE),                                  \
		ENDPOINT_OPT(conf, max_address_handshakes, SS_OPT_INT, "32",                                 \
			     "the same, of one client address", .min = 1, .max = 65536,                      \
			     .flags = SS_OPT_LIVE),                                                          \
		ENDPOINT_OPT(conf, max_message, SS_OPT_BYTES, "1MiB",                                        \
			     "longest message accepted; a longer one closes the connection with code 1009",  \
			     .min = 1024, .max = 256 << 20),                                                 \
		ENDPOINT_OPT(conf, handshake_timeout, SS_OPT_DURATION, "10s",                                \
			     "time from the TCP connection to the end of the WebSocket handshake",           \
			     .min = ENDPOINT_SECONDS(1), .max = ENDPOINT_SECONDS(300),                       \
			     .flags = SS_OPT_LIVE),                                                          \
		ENDPOINT_OPT(conf, ping_interval, SS_OPT_DURATION, "20s", "time between pings to a peer",    \
			     .min = ENDPOINT_SECONDS(1), .max = ENDPOINT_SECONDS(3600),                      \
			     .flags = SS_OPT_LIVE),                                                          \
		ENDPOINT_OPT(conf, dead_after, SS_OPT_DURATION, "45s",                                       \
			     "close the connection when the peer has sent nothing for this long",            \
			     .min = ENDPOINT_SECONDS(2), .max = ENDPOINT_SECONDS(7200),                      \
			     .flags = SS_OPT_LIVE),                                                          \
		ENDPOINT_OPT(conf, close_timeout, SS_OPT_DURATION, "3s", "time for the closing handshake",   \
			     .min = ENDPOINT_SECONDS(1), .max = ENDPOINT_SECONDS(60), .flags = SS_OPT_LIVE), \
		ENDPOINT_OPT(conf, retry_min, SS_OPT_DURATION, "500ms",                                      \
			     "dialing: upper limit of the random wait before the first new attempt",         \
			     .min = 1000000, .max = ENDPOINT_SECONDS(3600), .flags = SS_OPT_LIVE),           \
		ENDPOINT_OPT(conf, retry_max, SS_OPT_DURATION, "30s",                                        \
			     "dialing: upper limit of the random wait after many failures", .min = 1000000,  \
			     .max = ENDPOINT_SECONDS(86400), .flags = SS_OPT_LIVE),                          \
		ENDPOINT_OPT(conf, retry_stable, SS_OPT_DURATION, "60s",                                     \
			     "dialing: a connection that lasted this long resets the wait to retry_min",     \
			     .min = 0, .max = ENDPOINT_SECONDS(86400), .flags = SS_OPT_LIVE),                \
		ENDPOINT_OPT(conf, down_after, SS_OPT_DURATION, "60s",                                       \
			     "report the component as degraded when a link has been down for so long",       \
			     .min = ENDPOINT_SECONDS(1), .max = ENDPOINT_SECONDS(86400),                     \
			     .flags = SS_OPT_LIVE)

struct endpoint {
	const struct ss_host *host;
	const struct endpoint_conf *conf;
	char **origins; /* NULL-ended */
	/* as in struct ws_options; may be set before endpoint_open */
	size_t rx_buffer;
	const char *stream;
	const struct ss_tls *tls;
	void *tls_self;
	struct ws *ws;
};

/* Check what the option table cannot say; errors go to host->config_error.  0, -EINVAL, -ENOMEM. */
int endpoint_check(struct endpoint *, const struct ss_host *, const struct endpoint_conf *);
/* Does a listener check the certificates of clients? */
bool endpoint_verifies(const struct endpoint *);
/* Does the list of allowed names have this one, so that only its certificate may use it? */
bool endpoint_name_is_reserved(const struct endpoint *, const char *name);
/* Listen or dial. */
int endpoint_open(struct endpoint *, const char *const *subprotocols, const struct ws_events *, void *arg);
/* [inst] Take over what fresh, which is checked and not open, has of options with SS_OPT_LIVE; it gets in
 * exchange what has to be freed. */
void endpoint_reconfigure(struct endpoint *, struct endpoint *fresh);
/* Close all connections; further calls are harmless. */
void endpoint_close(struct endpoint *, int code, const char *reason);
void endpoint_done(struct endpoint *);
