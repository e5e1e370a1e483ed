/* SPDX-License-Identifier: MIT */
/*
 * http_call - what http.c and http_why.c share.
 */
#pragma once
#include <curl/curl.h>
#include "http.h"

#define LINKS_MAX 16 /* Link fields that are kept */

enum field { F_LOCATION, F_NONCE, F_RETRY_AFTER, F_CONTENT_TYPE, F_DATE, F_COUNT };

struct http {
	struct ev_loop *loop;
	CURLM *multi;
	ev_timer timer;
	char *scheme_host_port[3];
	char *user_agent, *ca; /* ca: PEM of all ca_files, NULL: the system's */
	size_t ca_len, max_body;
	long connect_ms, total_ms, min_rate;
	struct http_call *calls;
	struct socket_watch *watches; /* one per socket that curl waits for */
	bool *freed; /* set while a done runs: tells the one who called it that all is gone */
	bool has_skew;
	int64_t skew;
};

struct socket_watch {
	ev_io io;
	struct http *http;
	struct socket_watch *next;
};

struct http_call {
	struct http *http;
	struct http_call *next;
	CURL *easy;
	struct curl_slist *fields_out;
	char *request;
	size_t sent; /* of request */
	char *body;
	size_t len, room, header_bytes;
	char *fields[F_COUNT];
	char *links[LINKS_MAX + 1];
	size_t n_links;
	const char *given_up; /* why a callback of ours refused the reply */
	char error_text[CURL_ERROR_SIZE];
	void (*done)(void *arg, const struct http_reply *);
	void *arg;
};

/* -errno for what went wrong with a call that ended with code, and why. */
int http_why(const struct http_call *, CURLcode code, char *why, size_t why_size);
