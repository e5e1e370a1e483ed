/* SPDX-License-Identifier: MIT */
/*
 * ws_test - a host on libev, endpoints that write down what happens, and peers that speak by hand from a
 * thread, for the tests of the transport.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <cmocka.h>
#include <ev.h>
#include <pthread.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/loop-libev.h>
#include <semstreams/ext/tls.h>
#include "plugins/websocket/transport/ws.h"

#define MS           1000000ull
#define TEST_TIMEOUT 10.0 /* seconds; far beyond what any step takes */
#ifndef TEST_CONNS
#define TEST_CONNS 16
#endif

/* ---- TLS service ---- */

struct test_tls {
	struct ss_tls api;
	struct ss_tls_material material[2];
	bool enabled[2];
	const char *allowed;           /* the one client name that is welcome, NULL = any */
	int failures[2][SS_TLS_FAILS]; /* counted, by role */
	void (*changed[2])(void *arg);
	void *changed_arg[2];
	int acquired; /* not released yet */
};

struct test_cert {
	const char *cn;
	const char *dns; /* SAN, NULL = none */
	const char *eku; /* "clientAuth", "serverAuth", NULL = none */
	bool ca;
	int from_days, to_days; /* validity, from now */
};
/* PEM of a certificate and its key, signed by issuer (PEM both; NULL = itself); malloced. */
void test_cert(const struct test_cert *, const char *issuer, const char *issuer_key, char **cert, char **key);
void test_tls_init(struct test_tls *);
/* New generation of a role's material. */
void test_tls_set(struct test_tls *, uint32_t role, const char *chain, const char *key, const char *ca,
		  uint32_t flags, uint32_t min_version);
/* The same before the host has told those who watch. */
void test_tls_set_quietly(struct test_tls *, uint32_t role, const char *chain, const char *key,
			  const char *ca, uint32_t flags, uint32_t min_version);

/* ---- host ---- */

struct test_host {
	struct ss_host host; /* first */
	struct ss_loop_libev libev;
	struct ev_loop *loop;
	int touched;
	char log[8192];
};
void test_host_init(struct test_host *);
void test_host_done(struct test_host *);
/* Run the loop until *what is at least value; fails after TEST_TIMEOUT. */
void test_until(struct test_host *, const int *what, int value);
/* Run it for a while in which nothing is expected to happen. */
void test_turns(struct test_host *, double seconds);

/* ---- endpoint ---- */

struct test_end {
	struct test_host *h;
	struct ws *ws;
	struct ws_options options;
	bool echo;
	int refuse; /* what opened returns */
	bool healthy;
	struct ws_conn *conns[TEST_CONNS];
	int n_open, opened, messages, writables, closed, failed;
	int refused[WS_REFUSALS]; /* and in failed */
	int told;                 /* log lines of refusals */
	char subprotocol[64], peer[64], stream[WS_STREAM_MAX + 1];
	bool binary;
	size_t len, total; /* of the last message, of all */
	uint8_t last[256]; /* its beginning */
	int code;          /* of the last close */
	bool by_peer;
	char why[256];     /* of the last close */
	char failure[600]; /* the last */
};
/* With limits that suit tests. */
void test_end_init(struct test_end *, struct test_host *);
/* Listen on 127.0.0.1, or dial. */
void test_listen(struct test_end *);
void test_dial(struct test_end *, const char *fmt, ...);
void test_end_done(struct test_end *);

/* ---- peer by hand ---- */

struct peer {
	int fd;
	SSL *ssl;
	SSL_CTX *ctx;
	uint16_t port;
	void (*run)(struct peer *);
	void *arg;
	char text[16384]; /* what http() read */
	uint8_t data[70000];
	size_t len; /* of the frame read */
	int opcode; /* of the frame read; -1: end */
	int done;   /* set on the loop */
	struct ev_async finished;
	struct ev_loop *loop;
	pthread_t thread;
};
/* Run peer->run in a thread while the loop runs, until it returns. */
void test_peer(struct test_host *, struct peer *, uint16_t port, void (*run)(struct peer *), void *arg);

/* In the thread: */
void peer_connect(struct peer *);
bool peer_tls(struct peer *, SSL_CTX *ctx); /* the result of the handshake */
void peer_close(struct peer *);
void peer_write(struct peer *, const void *, size_t);
/* Up to size bytes; 0 at the end. */
size_t peer_read(struct peer *, void *, size_t);
/* Send a request, read the answer until the end of its headers and what follows at once. */
void peer_http(struct peer *, const char *request);
/* Upgrade; the status code. */
int peer_upgrade(struct peer *, const char *path, const char *headers);
void peer_frame(struct peer *, int first_byte, const void *, size_t);
void peer_read_frame(struct peer *);

/* ---- what most tests begin with ---- */

struct test_pair {
	struct test_host h;
	struct test_end server, client, second; /* on one loop */
	struct peer peer;
};
int test_pair_set_up(void **state);
int test_pair_tear_down(void **state);
/* The client dials url, in which %u is the server's port; both are open then. */
void test_connect(struct test_host *, struct test_end *server, struct test_end *client, const char *url);
/* By hand: the status of the answer. */
int test_upgrade(struct test_pair *, const char *path, const char *headers);
