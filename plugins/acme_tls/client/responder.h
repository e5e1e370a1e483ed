/* SPDX-License-Identifier: MIT */
/*
 * responder - answers to a CA's challenges: http-01 (RFC 8555 section 8.3) and tls-alpn-01 (RFC 8737).
 * Listens only while there is something to answer.  On the loop given; never blocks.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ev.h>

struct responder;

struct responder_options {
	struct ev_loop *loop;
	bool alpn;           /* tls-alpn-01, else http-01 */
	const char *address; /* borrowed; "" = all, IPv6 and IPv4 */
	uint16_t port;       /* 80, 443 */
	/* Answered, for the log; may be NULL.  It may add and remove answers, but not free the responder. */
	void (*asked)(void *arg, const char *name_or_token, const char *peer);
	void *arg;
};

/* Nothing is bound yet.  0, -ENOMEM. */
int responder_new(const struct responder_options *, struct responder **out);
/*
 * Answer for this name from now on: http-01 by token, tls-alpn-01 by a certificate for the name that is made
 * here (name: DNS name or address, RFC 8738; token may be NULL).  The same pair again: instead.  Binds with
 * the first.  0; -errno with a sentence that names address, port and remedy in why ("port 80 is in use by
 * another program: ...").
 */
int responder_add(struct responder *, const char *name, const char *token, const char *key_authorization,
		  char *why, size_t why_size);
/* The last: the port is free at once; connections that are being answered live on, 5 s at most. */
void responder_remove(struct responder *, const char *name, const char *token);
/* The port bound, 0 if none: for tests that ask for port 0. */
uint16_t responder_port(const struct responder *);
void responder_free(struct responder *);

/* ---- inside: what both kinds share.  A kind only says what is read and written. */

/* What a challenge is answered with.  One that was removed lives on until the responder is freed: a
 * connection may be using it. */
struct answer {
	struct answer *next;
	bool removed;
	char *name, *token, *key_authorization;
	char sni[256];     /* of tls-alpn-01: what the CA calls the name */
	void *credentials; /* likewise */
};

/* What a connection does next. */
enum conn_next { CONN_READ, CONN_WRITE, CONN_LINGER, CONN_CLOSE };

/* First in the kind's own structure. */
struct conn {
	struct responder *responder;
	struct conn *prev, *next; /* oldest first */
	ev_io io;
	ev_timer deadline;
	enum conn_next state;
	size_t discarded;
	struct answer *answer; /* what it is being answered with; NULL: nothing yet, or nothing to say */
	bool told;
	char peer[64];
};

struct responder_kind {
	size_t conn_size;
	unsigned ca_port; /* which the CA calls */
	bool by_token;
	/* make, unmake, open and close may be NULL */
	int (*make)(struct answer *, char *why, size_t why_size); /* 0, -errno */
	void (*unmake)(struct answer *);
	int (*open)(struct conn *, int fd);            /* 0, -errno; the rest is zeros */
	enum conn_next (*step)(struct conn *, int fd); /* as far as it goes without waiting */
	void (*close)(struct conn *);
};

extern const struct responder_kind responder_http, responder_alpn;

struct responder {
	const struct responder_kind *kind;
	struct responder_options o;
	struct answer *answers; /* newest first */
	ev_io listener;         /* fd -1: not bound */
	ev_timer pause;         /* no file descriptors: accept again later */
	struct conn *oldest, *newest;
	unsigned n_conns;
	uint16_t port;
};

/* ---- pure: the requests of http-01 as bytes */

#define RESPONDER_REQUEST_MAX 8192 /* bytes of request line and fields */
#define RESPONDER_REPLY_MAX   1024 /* bytes of an answer: a token, a thumbprint and the fields fit */

struct responder_request {
	const char *token; /* in the bytes given, of base64url's letters only; NULL: not a challenge's path */
	size_t token_len;
	bool head; /* the answer has no body */
};

/* 0: more bytes are needed; the status to answer with: 200 (if the token is known), 404, 400, 431. */
int responder_request(const char *data, size_t len, struct responder_request *out);
/* The whole answer.  The bytes written; -EINVAL: the body is too long. */
int responder_reply(int status, const char *body, bool head, char out[RESPONDER_REPLY_MAX]);
