/* SPDX-License-Identifier: MIT */
/*
 * ws_request - the head of an HTTP request (RFC 9112), strictly, as far as a server of WebSockets has to know
 * it.  Texts point into the head.  Pure.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define WS_HEAD_MAX 8192 /* bytes of a head with its empty line */

enum ws_field {
	WS_FIELD_HOST,
	WS_FIELD_ORIGIN,
	WS_FIELD_KEY,
	WS_FIELD_STREAM, /* of the link protocol */
	WS_FIELD_VERSION,
	WS_FIELD_LENGTH, /* up to here a request has one at most */
	WS_FIELD_CODING,
	WS_FIELD_UPGRADE,
	WS_FIELD_CONNECTION,
	WS_FIELD_PROTOCOL, /* lists, which may go on in fields of the same name */
	WS_FIELDS
};

struct ws_text {
	const char *at; /* NULL: there is none */
	size_t len;
};

struct ws_request {
	struct ws_text method, path;      /* path: of either form of a target, without the query */
	int minor;                        /* of HTTP/1.x */
	bool body;                        /* content follows, or the request says so */
	struct ws_text fields[WS_FIELDS]; /* the first of each name */
	struct ws_text lines;             /* all fields */
};

/*
 * Where the head ends that begins with data: behind its empty line, or behind a byte that no head has.  0:
 * there is more of it to come; *looked, 0 to begin with, is for the next call.
 */
size_t ws_request_end(const char *data, size_t len, size_t *looked);
/* Such a head: 0, or the status to refuse it with; why is for the log and the client. */
int ws_request_parse(const char *head, size_t len, struct ws_request *out, const char **why);
/* Does a list have this element?  Upper and lower case are the same. */
bool ws_request_lists(const struct ws_request *, enum ws_field, const char *name);
bool ws_text_is(struct ws_text, const char *);
/* Do they mean the same path?  Percent-encoded or not is the same, but for a slash (RFC 3986 2.2). */
bool ws_path_is(struct ws_text, const char *);
