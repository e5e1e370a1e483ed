/* SPDX-License-Identifier: MIT */
/*
 * admin - the admin port: GET and HEAD of a few pages over HTTP/1.1, on the control thread's loop.
 * Bounded: connections, header size and time per request.  Refuses foreign Host headers (DNS rebinding) when
 * it listens on loopback.
 */
#pragma once
#include <stdint.h>
#include <stdio.h>

struct ev_loop;
struct admin;

struct admin_request; /* the arguments behind "?" of one request */

struct admin_page {
	const char *path; /* "/metrics" */
	const char *content_type;
	int (*write)(void *arg, FILE *body); /* returns the HTTP status */
	/* Instead of write, where arguments count; elsewhere they are ignored. */
	int (*answer)(void *arg, const struct admin_request *, FILE *body);
};

/* The value of an argument, decoded, valid during the call; NULL: it is not there. */
const char *admin_argument(const struct admin_request *, const char *key);
/* The first argument that is none of these (NULL-ended); NULL: there is none. */
const char *admin_stray_argument(const struct admin_request *, const char *const *known);

/*
 * listen is "host:port", "[v6]:port" or "unix:/path"; port 0 takes a free one, told by admin_address.  pages
 * end with a NULL path and must outlive the port.  0 or -errno, then *why (static or malloc-free text of at
 * most 256 bytes) is filled.
 */
int admin_start(struct ev_loop *, const char *listen, const struct admin_page *pages, void *arg,
		char why[256], struct admin **out);
const char *admin_address(const struct admin *);
void admin_stop(struct admin *); /* NULL is allowed */
