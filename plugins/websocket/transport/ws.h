/* SPDX-License-Identifier: MIT */
/*
 * ws - WebSocket endpoints on a component's loop: a listener or a dialer, plain or TLS, by libwebsockets.
 * Everything of libwebsockets and OpenSSL is behind this header; only ws_tls.c names SSL_.  All functions
 * [inst].
 *
 * libwebsockets does the TLS records, the queue of what the kernel did not take, and a dialer's HTTP upgrade.
 * The rest is done here because its releases up to 5.0 cannot: accepting (refusals and limits before anything
 * is spent), a listener's upgrade (it cuts headers and closes without a word), receiving (it takes frames of
 * clients that are not masked, and parses those of servers byte by byte), UTF-8, verification of peers,
 * timers (they stall on libev), name lookup (it blocks).
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/tls.h>

struct ws;      /* an endpoint */
struct ws_conn; /* one connection of it */

struct ws_limits {
	uint32_t max_clients; /* open connections at once; more are refused */
	/* handshakes that go on at once, in all and of one address: more wait until one is done.  Of those
	 * that do not go on three times as many are kept, then the oldest gives way.  0 = no limit */
	uint32_t max_handshakes, max_address_handshakes;
	size_t max_message;        /* bytes of a received message; longer closes with 1009 */
	uint64_t handshake_ns;     /* TCP accept or connect to HTTP 101 */
	uint64_t ping_ns, dead_ns; /* a ping each; without any frame for dead_ns the peer is dead */
	uint64_t close_ns;         /* for the closing handshake */
};

/* Descriptors that a listener with these limits may have open at once, for connections of any kind. */
uint64_t ws_descriptors(const struct ws_limits *);

struct ws_options {
	/* listener: url NULL */
	const char *bind; /* address, "" = all */
	uint16_t port;    /* 0 = any, see ws_port */
	const char *path; /* the only path that upgrades */
	/* dialer */
	const char *url;                                /* ws[s]://host[:port]/path; NULL = listen */
	uint64_t retry_min_ns, retry_max_ns, stable_ns; /* full jitter; reset after stable_ns open */
	const char *stream; /* said to the listener, see ws_stream(); NULL: nothing */

	/* NULL-ended, in order of preference; a peer without any of them gets "" */
	const char *const *subprotocols;
	/* NULL-ended; a request with an Origin not listed is refused (403).  Not copied: it is there until
	 * the endpoint is freed, or is given another list. */
	const char *const *allowed_origins;
	struct ws_limits limits;
	size_t rx_buffer; /* listener: bytes read at once; 0 = 8 KiB */
	/* NULL: no TLS service; else used if enabled for the role.  wss:// without it trusts the system's
	 * pool.  A client without a certificate, where none is required, is let in without a question to
	 * check_peer. */
	const struct ss_tls *tls;
	void *tls_self;
};

/* Why a listener turns a client away that did nothing wrong. */
enum ws_refusal {
	WS_REFUSED_FULL,      /* max_clients are connected: it was told when to come again */
	WS_REFUSED_HANDSHAKE, /* it did not finish its handshake, and others waited */
	WS_REFUSALS
};

/*
 * None of them may free the endpoint; all else of this header may be called, except in failed, where nothing
 * may.  Each opened that returned 0 has its closed, at the latest in ws_free.
 */
struct ws_events {
	/* The handshake is over.  peer is the verified certificate name, NULL without one; subprotocol "" if
	 * none. Returns 0, or a close code to end it with. */
	int (*opened)(void *arg, struct ws_conn *, const char *subprotocol, const char *peer, void **user);
	/* A whole message. */
	void (*message)(void *arg, struct ws_conn *, void *user, bool binary, const uint8_t *data,
			size_t len);
	/* What was sent has left (mostly) for the kernel: more may be sent. */
	void (*writable)(void *arg, struct ws_conn *, void *user);
	/* Gone; the connection is not to be used any more.  code 1006 if the peer vanished.  Only after
	 * opened returned 0. */
	void (*closed)(void *arg, struct ws_conn *, void *user, int code, bool by_peer, const char *why);
	/* Dials or handshakes failed, n of them, none where they have been counted as refused; why is for the
	 * log. */
	void (*failed)(void *arg, uint32_t n, const char *why);
	/* A listener's: so many clients were refused; failed follows now and then, with the reason. */
	void (*refused)(void *arg, enum ws_refusal, uint32_t n);
	/* GET /health on the listening port: true = 200; writes a JSON object into buf. */
	bool (*health)(void *arg, char *buf, size_t size);
};

/* Start listening or dialling.  0, or -errno with the reason logged. */
int ws_open(const struct ss_host *, const struct ws_options *, const struct ws_events *, void *arg,
	    struct ws **out);
/*
 * Take over other limits but for max_message, other waits before a dial, and another list of origins; the
 * rest of the options is not read.  Connections stay, also where there are more than max_clients now, but for
 * those of pages whose origin is not listed any more.
 */
void ws_reconfigure(struct ws *, const struct ws_options *);
/* Close every connection with code and reason, wait for none; NULL is allowed. */
void ws_close_all(struct ws *, int code, const char *reason);
/* Ends what is still open, sending close frames where they fit. */
void ws_free(struct ws *);
uint16_t ws_port(const struct ws *);
/* A dialer: connect, once this connection is gone, not before delay_ns from now and not after twice that, at
 * once if 0 (a peer's retry hint). */
void ws_retry_after(struct ws *, uint64_t delay_ns);

/* A frame buffer: WS_PRE bytes in front of the payload must be writable. */
#define WS_PRE 16
/* Send one message whose payload is at buf + WS_PRE; buf may be reused at once.  0, -EAGAIN: wait for
 * writable, -EPIPE. */
int ws_send(struct ws_conn *, bool binary, uint8_t *buf, size_t len);
/* A listener only: send bytes that are whole, unmasked frames already, shared by many connections; as
 * ws_send. */
int ws_send_frames(struct ws_conn *, const uint8_t *frames, size_t len);
/* Nothing waits to be written on it. */
bool ws_idle(const struct ws_conn *);
/* Call writable soon. */
void ws_want_write(struct ws_conn *);
/* Stop or go on reading. */
void ws_pause(struct ws_conn *, bool paused);
/* Close with code and reason (cut at 123 bytes); 1006 = at once, without a word.  closed follows. */
void ws_close(struct ws_conn *, int code, const char *reason);
/* In closed: the code of the peer's close frame, also of one that answers ours (then it has read all that
 * was sent before, unless it is another code than ours); 1005: it had none, 0: there was no frame. */
int ws_peer_code(const struct ws_conn *);
/* What this end's stream is called by a client that is about to open (a header of its request): at most
 * WS_STREAM_MAX bytes of UTF-8 without control characters; "" if it does not say.  In opened only. */
#define WS_STREAM_MAX 127
const char *ws_stream(const struct ws_conn *);
/* May a stream be called so? */
bool ws_stream_valid(const char *, size_t len);
/* The peer's address and port, "192.0.2.1:4711" or "[2001:db8::1]:4711"; "" if it is not known (any more). */
#define WS_ADDRESS_MAX 80
void ws_address(const struct ws_conn *, char out[WS_ADDRESS_MAX]);
/* Last round-trip time of a ping, ns; 0 = none yet. */
uint64_t ws_rtt(const struct ws_conn *);
