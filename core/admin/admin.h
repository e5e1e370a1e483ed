/* SPDX-License-Identifier: MIT */
/*
 * admin - the admin port: pages over HTTP/1.1 on the control thread's loop, read with GET, acted on with
 * POST. Bounded: connections, header and body size, time per request, streams.  Refuses foreign Host headers
 * (DNS rebinding) when it listens on loopback, and foreign Origin headers everywhere.
 *
 * Who may act: on a unix socket root, our own user and the socket's group; with TLS who shows a certificate
 * whose name is in the list; nobody else.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <stdio.h>

struct ev_loop;
struct admin;

struct admin_request; /* the arguments behind "?" of one request, and its body */
struct admin_stream;  /* an answer that goes on */

struct admin_page {
	const char *path; /* "/metrics" */
	const char *content_type;
	int (*write)(void *arg, FILE *body); /* returns the HTTP status */
	/* Instead of write, where arguments count; elsewhere they are ignored. */
	int (*answer)(void *arg, const struct admin_request *, FILE *body);
	/* For POST: changes something, by who may do so. */
	int (*act)(void *arg, const struct admin_request *, FILE *body);
	/* Instead of act, for what takes its time: admin_answer() ends it, during the call or later.  The
	 * client waits as long as that takes, the port serves others meanwhile. */
	void (*begin)(void *arg, struct admin_request *);
	/* Instead of write: 200 opens a stream, to be written to from now on; any other status refuses it. */
	int (*open)(void *arg, const struct admin_request *, struct admin_stream *);
	/* The same for POST, on a unix socket only, by who may act; what a refusal has written to the stream
	 * is its text. */
	int (*follow)(void *arg, const struct admin_request *, struct admin_stream *);
};

/* The value of an argument, decoded, valid during the call; NULL: it is not there. */
const char *admin_argument(const struct admin_request *, const char *key);
/* The first argument that is none of these (NULL-ended); NULL: there is none. */
const char *admin_stray_argument(const struct admin_request *, const char *const *known);
/* What was posted, NUL-ended, valid during the call. */
const char *admin_body(const struct admin_request *, size_t *len);

/* What began has come to its end: the status, and a text from malloc that is the port's from now on.  Not
 * within a call of another page; the request is not to be used any more. */
void admin_answer(struct admin_request *, int status, char *body, size_t n);

#define ADMIN_STREAM_MAX (1u << 20) /* bytes that wait for a reader */

/* Append; -ENOBUFS: that much waits already, and nothing was appended. */
int admin_stream_write(struct admin_stream *, const char *bytes, size_t n);
/* No more is to come; closed when all is sent. */
void admin_stream_end(struct admin_stream *);
/* Call closed(of) when the stream is gone, for whatever reason; the stream is not to be used any more. */
void admin_stream_watch(struct admin_stream *, void (*closed)(void *of), void *of);

/* PEM texts. */
struct admin_tls {
	const char *cert, *key;
	const char *ca; /* whose certificates of clients count; NULL: of nobody, and everybody may read */
	const char *const *writers; /* names of clients that may act */
	size_t n_writers;
};

#define ADMIN_TABLES 4

struct admin_settings {
	const char *listen;          /* "host:port", "[v6]:port" or "unix:/path"; port 0 takes a free one */
	const char *group;           /* of a unix socket; NULL: none */
	const struct admin_tls *tls; /* NULL: none; read during the call */
	unsigned max_streams;        /* at once; 0: none */
	const struct admin_page
		*pages[ADMIN_TABLES]; /* tables, each ended by a NULL path; outlive the port */
};

/* 0 or -errno, then why (a text of at most 256 bytes) is filled.  The writers of tls must outlive the port.
 */
int admin_start(struct ev_loop *, const struct admin_settings *, void *arg, char why[256],
		struct admin **out);
/*
 * The same TCP port with other files of TLS, writers as before: connections that come get those, in *out; the
 * ones that are there are served by `old` until they end, but for those whose certificate is of none of the
 * CAs, which end.  The old one is to be stopped when it is idle.  0; -errno, and nothing has changed.
 */
int admin_renew(struct admin *old, const struct admin_tls *, struct admin **out);
/* It has no connections. */
bool admin_is_idle(const struct admin *);
/* Somebody waits for admin_answer(). */
bool admin_owes_answer(const struct admin *);
/* With the port it got. */
const char *admin_address(const struct admin *);
/* Who still waits for admin_answer() gets 503, and nobody else may answer them any more.  NULL is allowed. */
void admin_stop(struct admin *);
