/* SPDX-License-Identifier: MIT */
/*
 * ws_internal - what the files of the transport share.  libwebsockets is driven by the rules of its 4.1
 * release: one context per endpoint on the component's loop, own timers, own listening sockets, own limits.
 */
#pragma once
#include <ev.h>
#include <libwebsockets.h>
#include <netinet/in.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include "ws.h"
#include "ws_frames.h"
#include "ws_tls.h"
#include "ws_url.h"

#if defined(LWS_WITH_GNUTLS) || defined(LWS_WITH_MBEDTLS)
#error "needs libwebsockets on OpenSSL: its other TLS backends ignore client certificates and host names"
#endif

#define WS_PROTOCOL    "x"   /* name of the one lws protocol: it never reaches the wire */
#define WS_RX_DIALER   16384 /* bytes read at once; each open connection has a buffer of it */
#define WS_RX_LISTENER 8192
#define WS_EARLY_MAX   (32u << 10) /* bytes of a handshake's last part, and what came with it */
#define WS_TX_MAX      (1u << 20)  /* bytes handed to the kernel at once */
#define WS_REASON_MAX  124         /* of a close frame, with its end */
#define WS_FAILURE_MAX 384         /* of why a dial failed, with its end */
#define WS_LISTENERS   8
/* Of descriptors that may be ready at every turn: libwebsockets does some of its work in an idle watcher of
 * priority 0, which libev runs only when nothing of that priority is pending. */
#define WS_IO_PRIORITY (-1)
#define WS_LEAVING_MAX 64   /* evicted, not gone, so with memory still; newcomers wait then */
#define WS_WAITING_MAX 1024 /* accepted, and waiting for their handshake: see ws_waiting_max() */
#define WS_CLOSING_MAX 64   /* that end; an estimate */
#define WS_GOING_AWAY  1001
#define WS_VANISHED    1006
#define WS_POLICY      1008
#define WS_TRY_LATER   1013
#define WS_ADDRESSES   16
#define WS_SAFETY_S    305 /* libwebsockets' own limits in time, behind those of ws_limits */
#define SECOND         1000000000ull

enum ws_state {
	WS_HANDSHAKE, /* until 101 */
	WS_ANSWERED,  /* has its HTTP answer, is being closed */
	WS_OPEN,
	WS_CLOSING /* a close code is chosen; nothing more is received or sent */
};

struct ws_conn {
	struct ws *ws;
	struct lws *wsi;
	struct ws_conn *next, **link;
	void *user;
	enum ws_state state;
	bool opened; /* the plugin took it: closed must follow */
	bool ping_due, paused, close_sent, killed;
	uint64_t killed_ns;   /* the last order to end it */
	int close_code;       /* chosen here, 0 = none */
	int peer_code;        /* of the peer's close frame, 0 = none */
	uint64_t deadline_ns; /* cut off then, 0 = never */
	uint64_t opened_ns, heard_ns, pinged_ns, rtt_ns;
	bool fin_due; /* the sending half is to be ended when all is written */
	uint8_t *msg; /* fragments of a message so far; before: of a request, and what came with the
			 handshake's end */
	size_t msg_len, msg_size;
	size_t looked;                  /* of the request: see ws_request_end */
	size_t discarded;               /* bytes received after the answer */
	const char *subprotocol;        /* chosen */
	char *peer;                     /* verified certificate name */
	char *stream;                   /* listener: see ws_stream(); only while it opens */
	char *origin;                   /* listener: of the page that opened it; NULL: none did */
	char address[INET6_ADDRSTRLEN]; /* listener: whose it is */
	char reason[WS_FAILURE_MAX];    /* of the close code, ours or the peer's; of a failed dial */
	struct ws_vhost *vhost;         /* dialer */
	bool half;                      /* listener: its handshake is not finished; in the list of those */
	uint64_t born_ns;               /* when it came into that list */
	bool counted;                   /* in n_open */
	bool evicted;                   /* in n_leaving */
	struct ws_conn *half_older, *half_newer;
	int64_t valid_until;          /* wall time, s: then the peer is checked again; 0 = never */
	struct ws_receiver *receiver; /* NULL: libwebsockets receives, or nothing has come yet */
};

TAILQ_HEAD(ws_waiting_list, ws_waiting);

/* A listener for few has not so many at its door; more wait in the kernel. */
static inline uint32_t ws_waiting_max(const struct ws_limits *limits)
{
	return limits->max_clients < WS_WAITING_MAX - 64 ? limits->max_clients + 64 : WS_WAITING_MAX;
}

/* Of one reason. */
struct ws_refusals {
	uint32_t n;       /* not in the log yet */
	uint64_t told_ns; /* 0: never */
};

struct ws_listener {
	struct ev_io io; /* first */
	struct ws *ws;
	bool on;
};

/* A dialer has one per generation of its TLS identity; an old one goes with its last connection. */
struct ws_vhost {
	struct ws_vhost *next;
	struct lws_vhost *lws;
	void *ctx; /* SSL_CTX */
	char name[32];
	uint32_t conns;
};

struct ws_resolver; /* a name being looked up, in a thread of its own */

struct ws_dial {
	struct ws_url url;
	struct ev_timer timer;
	struct ev_async resolved;
	struct ws_resolver *resolver;
	struct sockaddr_storage addresses[WS_ADDRESSES];
	uint32_t n_addresses, at;
	uint64_t retry_min_ns, retry_max_ns, stable_ns;
	uint32_t attempt;       /* failures in a row */
	uint64_t not_before_ns; /* the peer's hint */
	bool hinted;
	struct ws_conn *conn;    /* the one being made or open */
	struct ws_vhost *vhosts; /* newest first */
	uint32_t n_vhosts;
};

struct ws {
	const struct ss_host *host;
	struct ss_iface libev;
	struct ev_loop *loop;
	struct ws_events events;
	void *arg;
	struct ws_limits limits;
	char *bind, *path, *stream;
	size_t rx_buffer;
	uint8_t *spare;             /* NULL, or of rx_buffer bytes: for the next connection that receives */
	char **subprotocols;        /* NULL-ended */
	const char *const *origins; /* NULL: none */
	uint16_t port;
	struct ws_tls *tls;       /* NULL: plain */
	struct ss_iface identity; /* a TLS listener's: struct ss_tls */
	bool announced;           /* that it has a certificate */

	struct lws_context *cx;
	struct lws_protocols protocols[2];
	struct ev_timer tick;
	struct ws_conn *conns;
	struct ws_conn *birth; /* handed to lws, which has not returned yet */
	uint32_t n_open;       /* connections whose handshake is over */
	uint32_t n_half;       /* those in the list from half_oldest to half_newest */
	struct ws_conn *half_oldest, *half_newest;
	uint32_t n_leaving;             /* those that gave way and have not gone yet */
	struct ws_waiting_list waiting; /* newest first */
	uint32_t n_waiting;
	uint64_t patience_ns;  /* with a handshake that does not go on, while others wait */
	struct ev_timer pace;  /* until those that wait are looked at */
	unsigned int turn;     /* of the loop */
	unsigned int started;  /* handshakes, in that turn */
	uint32_t n_turned_off; /* clients that were told when to come again */
	struct ws_refusals refusals[WS_REFUSALS];
	bool stopping, freeing;

	struct lws_vhost *server;
	const struct ss_handover *handover; /* NULL: this host has none */
	void *handover_self;
	uint16_t claimed_port; /* of the configuration; 0: any */
	struct ws_listener listeners[WS_LISTENERS];
	uint32_t n_listeners;
	struct ws_linger *lingering; /* refused, may still be sending */
	uint32_t n_lingering;

	struct ws_dial *dial; /* NULL: a listener */
};

uint64_t ws_now(void);
/* After a callback of the plugin's. */
void ws_touched(struct ws *);
__attribute__((format(printf, 2, 3))) void ws_failed(struct ws *, const char *fmt, ...);
__attribute__((format(printf, 3, 4))) void ws_failed_n(struct ws *, uint32_t n, const char *fmt, ...);
void ws_socket_options(const struct ws *, int fd);
/* Common to every vhost. */
void ws_vhost_info(struct ws *, struct lws_context_creation_info *);

/* ws_conn.c */
struct ws_conn *ws_conn_new(struct ws *);
void ws_conn_free(struct ws_conn *);
/* data: what has been read behind its handshake. */
void ws_conn_opened(struct ws_conn *, const uint8_t *data, size_t len);
void ws_conn_received(struct ws_conn *, const uint8_t *data, size_t len);
void ws_conn_pong(struct ws_conn *, const uint8_t *data, size_t len);
int ws_conn_peer_close(struct ws_conn *, const uint8_t *data, size_t len);
int ws_conn_writable(struct ws_conn *);
void ws_conn_closed(struct ws_conn *);
/* Put bytes behind those in msg, up to limit of them: false if that is not possible. */
bool ws_conn_append(struct ws_conn *, const uint8_t *data, size_t len, size_t limit);
/* Say that nothing more comes, when all that was written has left; the peer may still be sending. */
void ws_conn_fin(struct ws_conn *);
/* Limits, or the list of origins, are others now. */
void ws_conn_reconfigured(struct ws_conn *, bool dies_sooner);
/* End it without ceremony, soon. */
void ws_conn_kill(struct ws_conn *);
void ws_conn_tick(struct ws_conn *, uint64_t now);
/* A part of a message was received, binary as its first is. */
void ws_conn_part(struct ws_conn *, bool binary, bool final, const uint8_t *data, size_t len);
/* Send one frame of a payload that has LWS_PRE bytes in front: below 0 if the connection is broken. */
int ws_conn_write_frame(struct ws_conn *, int opcode, uint8_t *payload, size_t len);
/* Leaving: send the close frame at once if it fits. */
void ws_conn_last_word(struct ws_conn *);

/* After trust or the list of allowed names changed: end the connections of peers that are refused now. */
void ws_recheck(struct ws *);
/* As many clients as may be are connected. */
static inline bool ws_is_full(const struct ws *ws)
{
	return ws->n_open >= ws->limits.max_clients;
}

/* ws_receiver.c */
/*
 * Receive on a connection that is open now, beginning with bytes that have been read already.  0, also where
 * a dialer without such bytes leaves it to libwebsockets; or -errno.
 */
int ws_receiver_start(struct ws_conn *, const uint8_t *data, size_t len);
void ws_receiver_pause(struct ws_receiver *, bool paused);
/* Answer the newest ping, now or when something can be sent: -1 if the connection is broken. */
int ws_receiver_pong(struct ws_receiver *);
void ws_receiver_stop(struct ws_receiver *);
void ws_receiver_free(struct ws_receiver *);

/* ws_server.c */
int ws_server_tls(struct ws *, const struct ws_options *);
int ws_server_open(struct ws *);
void ws_server_stop(struct ws *);
void ws_server_tick(struct ws *);
/* It is gone. */
void ws_server_left(struct ws_conn *);
/* A client was turned away: counted at once, logged now and then. */
void ws_refused(struct ws *, enum ws_refusal);
/* The connection's handshake is over, or it is about to go; harmless if it is not in the list. */
void ws_half_finished(struct ws_conn *);
void ws_half_remove(struct ws_conn *);

/* ws_client.c */
int ws_client_open(struct ws *, const struct ws_options *);
void ws_client_reconfigure(struct ws *, const struct ws_options *);
void ws_client_stop(struct ws *);
void ws_client_free(struct ws *);
void ws_client_tick(struct ws *);
/* Add to the request, whose next byte and room are given as libwebsockets gives them: 0, or -1. */
int ws_client_request(struct ws_conn *, void *at, size_t room);
/* The handshake's answer is there: 0, or -1 to give up. */
int ws_client_check(struct ws_conn *);
/* The answer is read, and not judged yet: 0, or -1 to give up. */
int ws_client_answered(struct ws_conn *);
void ws_client_established(struct ws_conn *);
void ws_client_opened(struct ws_conn *);
/* lws says it failed. */
void ws_client_error(struct ws_conn *, const char *what);
/* The connection is gone, opened or not; told by what it was. */
void ws_client_gone(struct ws *, const struct ws_conn *);

/* ws_http.c */
/* What a listener receives before a connection is open: -1, to hang up. */
int ws_http_received(struct ws_conn *, const uint8_t *data, size_t len);
/* May a page of this origin connect? */
bool ws_origin_allowed(const struct ws *, const char *origin, size_t len);
/* It ends without an answer: told if a request had begun. */
void ws_http_gone(struct ws_conn *);
