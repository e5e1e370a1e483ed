/* SPDX-License-Identifier: MIT */
/*
 * responder - answers to a CA's challenges: http-01 (RFC 8555 section 8.3) and tls-alpn-01 (RFC 8737).
 * Listens only while there is something to answer.  On the loop given; never blocks.
 */
#pragma once
#include <stdbool.h>
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
