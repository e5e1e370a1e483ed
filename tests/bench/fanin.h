/* SPDX-License-Identifier: MIT */
/*
 * fanin - what the parts of the load program share: many edges in one process and one thread, each a dialing
 * sender with a name, a connection, the link protocol and a log of its own.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ev.h>
#include <openssl/ssl.h>
#include <semstreams/ext/fields.h>
#include "plugins/websocket/link/link_session.h"
#include "plugins/websocket/transport/ws_frames.h"

enum { NAME_SIZE = 16, CODES = 32, BUCKETS = 40 * 8 };
#define MS  UINT64_C(1000000)
#define SEC UINT64_C(1000000000)

/* What an edge does; all but the first are hostile. */
enum edge_kind {
	GOOD,
	FLOOD,  /* sends far beyond its window, again and again */
	DEAF,   /* sends pings without end and never reads */
	STALL,  /* half-open: no TLS, or no upgrade after it */
	SILENT, /* a link that neither sends nor answers */
	MUTE,   /* no WELCOME */
	FLAP,   /* cuts off its connection as soon as it is up */
	KINDS
};

/* How an attempt or a connection ended, below the close codes of WebSocket. */
enum { END_DIAL = 1, END_TLS = 2, END_HTTP = 3 };

struct conf {
	const char *address, *path, *ca_cert, *ca_key, *trust;
	uint64_t port, edges, size, hostile, seed;
	double rate;
	uint64_t flush_ms, retry_min_ms, retry_max_ms, retry_stable_ms, spread_ms, heartbeat_ms;
	bool plain, streams;
};

struct totals {
	uint64_t dials, handshakes, lives, messages, bytes, acks;
	uint64_t handshake_first, handshake_last; /* since the last mark */
	uint64_t handshakes_marked;
	struct {
		int code;
		uint64_t n;
	} codes[CODES];
	char why[128];             /* of the last end that was not expected */
	uint64_t latency[BUCKETS]; /* of good edges, since the last time they were told: see latency_of */
};

struct fanin;

enum wire_state { WIRE_CLOSED, WIRE_DIALING, WIRE_TLS, WIRE_UPGRADE, WIRE_OPEN };
struct wire {
	struct ev_io io;
	enum wire_state state;
	int fd, events;
	bool deaf; /* reads nothing any more */
	SSL *ssl;
	struct ws_frames frames;
	uint8_t *in, *out; /* the part of a frame that came; what the kernel did not take */
	size_t in_len, out_len, out_at;
};

struct edge {
	struct wire wire;
	struct fanin *f;
	uint32_t number;
	enum edge_kind kind;
	char name[NAME_SIZE];
	X509 *cert;
	EVP_PKEY *key;
	struct ev_timer due; /* the next event, or the next dial */
	uint64_t phase_ns;   /* its events are so much earlier than those of number 0 */
	/* the log: records after acked up to edge_made(); what is in them follows from their number */
	uint8_t epoch[16];
	uint64_t acked, flooded;
	struct link_sender session;
	bool live, back;    /* back: live since the last mark */
	uint32_t attempt;   /* since it was live for long */
	uint64_t opened_ns; /* of the connection */
	bool hinted;        /* the hub said when to come again */
	uint64_t not_before_ns;
};

struct fanin {
	struct conf conf;
	struct ev_loop *loop;
	SSL_CTX *ctx;
	X509 *ca_cert;
	EVP_PKEY *ca_key;
	struct ss_reader *reader;
	struct edge *edges;
	uint64_t n_good, n_live, n_good_live, n_back;
	uint64_t period_ns, start_ns, stop_ns,
		wall_ns; /* start_ns 0: no events yet; wall clock at the start */
	uint64_t random;
	struct totals totals;
};

uint64_t now_ns(void);
/* From 0 to n - 1; n is not 0. */
uint64_t pick(struct fanin *, uint64_t n);
_Noreturn void die(const char *what);

/* fanin_certs.c */
void certs_open(struct fanin *);
void certs_make(struct fanin *, struct edge *);

/* fanin_wire.c: a connection; it calls edge_opened, edge_message, edge_writable and edge_closed. */
#define WIRE_PRE 14 /* bytes in front of a payload that wire_send may write to */
void wire_open(struct edge *);
/* The payload at buf + WIRE_PRE, which is spoilt. */
void wire_send(struct edge *, int opcode, uint8_t *buf, size_t len);
bool wire_idle(const struct edge *);
/* Closed at once, without edge_closed; a close frame goes first if code is not 0. */
void wire_close(struct edge *, int code);
void wire_deaf(struct edge *);

/* fanin_edge.c */
void edge_init(struct fanin *, uint32_t number);
/* Newest number there is. */
uint64_t edge_made(const struct edge *);
void edge_tick(struct edge *);
/* Events may come from now on: start_ns was set. */
void edge_wake(struct edge *);
void edge_opened(struct edge *);
void edge_message(struct edge *, int opcode, const uint8_t *data, size_t len);
void edge_writable(struct edge *);
/* code: of WebSocket, 1006 if there was none, or END_...; retry_ms: the hub's hint, 0 = none. */
void edge_closed(struct edge *, int code, uint64_t retry_ms, const char *why);
