/* SPDX-License-Identifier: MIT */
/*
 * http - HTTPS requests to a CA: libcurl, one at a time in a thread; the loop given runs until the
 * answer is there.  The answers are hostile: sizes, times and places are bounded.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ev.h>

struct http;

/* Strings are borrowed, but for those of ca_files. */
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

struct http_request {
	const char *method; /* "GET", "HEAD", "POST" */
	const char *url;
	const char *body; /* of a POST, as application/jose+json */
	const char *accept;
	uint64_t deadline; /* monotonic ns; total_ns from now counts, too */
};

struct http_reply {
	int error; /* 0: there is an answer; -EINVAL: the URL is refused; else -errno: the request failed */
	char why[320]; /* "connection refused", "certificate signed by unknown authority", ... */
	long status;
	const char *location; /* a whole URL; NULL if absent, as the others */
	const char *nonce, *retry_after, *content_type, *date;
	const char *const *links; /* values of Link fields, NULL-ended */
	const char *body;         /* NUL behind its end; not to be trusted to be text */
	size_t len;
};

int http_new(const struct http_options *, struct http **out, char *why, size_t why_size);
void http_free(struct http *);
/* The reply lives until the next request. */
void http_ask(struct http *, const struct http_request *, struct http_reply *out);
