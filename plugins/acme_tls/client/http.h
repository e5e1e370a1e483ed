/* SPDX-License-Identifier: MIT */
/*
 * http - HTTPS requests to a CA: libcurl's multi interface on libev, so nothing waits.  What comes back is
 * hostile: sizes, times and places are bounded.  On the loop given.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ev.h>

struct http;
struct http_call;

struct http_options {
	struct ev_loop *loop;
	const char *user_agent;
	const char *const *ca_files; /* trusted instead of the system's pool; n = 0: the system's pool */
	size_t n_ca_files;
	const char *origin; /* directory_url: other hosts and ports are refused, and anything but https */
	uint64_t connect_ns, total_ns; /* deadlines of one request */
	size_t max_body;               /* bytes */
	uint32_t min_rate;             /* bytes/s a reply must keep up, else it is given up */
};

struct http_reply {
	int error;     /* 0: there is an answer; else -errno: it failed as why says */
	char why[256]; /* "connection refused", "certificate signed by unknown authority", ... */
	long status;
	const char *location, *nonce, *retry_after, *content_type, *date; /* NULL if absent */
	const char *const *links; /* values of Link fields, NULL-ended */
	const char *body;         /* NUL behind its end; not to be trusted to be text */
	size_t len;
};

int http_new(const struct http_options *, struct http **out, char *why, size_t why_size);
void http_free(struct http *); /* open calls end without their done */
/* method: "GET", "HEAD", "POST" (body: application/jose+json).  done is called once, later, not from in here;
 * the reply is its for the call.  0, -EINVAL: an url that is refused (with why), -ENOMEM. */
int http_send(struct http *, const char *method, const char *url, const char *body, const char *accept,
	      void (*done)(void *arg, const struct http_reply *), void *arg, struct http_call **call,
	      char *why, size_t why_size);
void http_cancel(struct http_call *); /* NULL is allowed; done is not called */
/* Wall clock of the CA minus ours in seconds, from the last Date field; false if not known. */
bool http_skew(const struct http *, int64_t *seconds);
