/* SPDX-License-Identifier: MIT */
/*
 * message - what a CA says (RFC 8555 section 7.1, RFC 9773), taken as hostile: types, counts and lengths are
 * checked.  Pure.
 */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include "plugins/acme_tls/protocol.h"

#define MESSAGE_URL_MAX     2048 /* bytes of an URL */
#define MESSAGE_NAME_MAX    255  /* bytes of an identifier */
#define MESSAGE_LIST_MAX    128  /* identifiers or authorizations of an order */
#define MESSAGE_CHOICES_MAX 32   /* challenges of an authorization */

/* One enum for all objects; MESSAGE_OTHER: a word the RFC does not know. */
enum message_status {
	MESSAGE_PENDING,
	MESSAGE_READY,
	MESSAGE_PROCESSING,
	MESSAGE_VALID,
	MESSAGE_INVALID,
	MESSAGE_DEACTIVATED,
	MESSAGE_EXPIRED,
	MESSAGE_REVOKED,
	MESSAGE_OTHER
};

enum message_kind {
	MESSAGE_NONE,
	MESSAGE_DIRECTORY,
	MESSAGE_ACCOUNT,
	MESSAGE_ORDER,
	MESSAGE_AUTHORIZATION,
	MESSAGE_CHALLENGE, /* by itself, as a POST to it is answered */
	MESSAGE_RENEWAL
};

/*
 * The document, to be released by json_decref().  Lists may be absent, and so may links, but for newNonce,
 * newAccount and newOrder of a directory.  All identifiers have type and value, a renewal information has a
 * window, and the others and all challenges have a status.  0; -EINVAL with what is wrong in why; -ENOMEM.
 */
int message_read(enum message_kind, const char *body, size_t len, json_t **out, char *why, size_t why_size);
enum message_status message_status(const json_t *);
/* The problem document of an order or a challenge; NULL: there is none. */
const json_t *message_error(const json_t *);
/* The window of a renewal information, in seconds since 1970; false: it has none. */
bool message_window(const json_t *, int64_t *start, int64_t *end);

/* Does the directory offer this profile?  All that it offers into out, as "a, b"; "" if there are none. */
bool message_profiles(const json_t *directory, const char *wanted, char *out, size_t size);

/* A Retry-After field: seconds or a date, as seconds from now, 1 s to 1 day; 0: absent or neither. */
int64_t message_retry_after(const char *value, int64_t now);
/* An HTTP date; false: it is none. */
bool message_http_date(const char *text, int64_t *seconds);
/* RFC 3339, "2025-11-16T10:00:00Z"; false: it is none. */
bool message_time(const char *text, int64_t *seconds);
/* The target of a Link field if its relation is rel, into out; false: it is another one or malformed. */
bool message_link(const char *field, const char *rel, char *out, size_t size);
/* printf behind the text in out, cut at size. */
void append(char *out, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
void append_list(char *out, size_t size, const char *format, va_list) __attribute__((format(printf, 3, 0)));
/* Foreign text made harmless for the value of a field in a log, cut at size: quotes become apostrophes. */
void message_text(const char *in, char *out, size_t size);

/* ---- URLs of a CA, by libcurl's parser */

/* An URL of at most MESSAGE_URL_MAX visible ASCII characters; where it leads is not looked at. */
bool message_url_ok(const char *url);
#define URL_ORIGIN 300
/* Host and port in one form, "ca.example:443".  NULL; for a URL that no CA needs the reason, which follows
 * the URL in a sentence. */
const char *url_origin(const char *url, char out[URL_ORIGIN]);
/* Is it at the origin of directory_url?  0; -EINVAL with the reason as of url_origin(). */
int url_check(const char *directory_url, const char *url, char *why, size_t why_size);
/* The same place, however its origin is written (RFC 3986 section 6.2.3). */
bool url_same(const char *a, const char *b);
/* A reference as a whole URL, seen from base; what cannot be resolved is left as it is, cut to fit. */
void url_resolve(const char *base, const char *reference, char *out, size_t size);

/* ---- problem documents (RFC 7807, RFC 8555 section 6.7): what kind, whether trying again helps, and in
 * words an operator can act on */

#define PROBLEM_SUBS 8 /* told in words */
#define PROBLEM_TYPE 40
#define PROBLEM_TEXT 640

struct problem {
	long status;             /* of HTTP, 0: not known */
	char type[PROBLEM_TYPE]; /* the word after the ACME namespace, or the end of a foreign type; "" none
				  */
	bool permanent;          /* it will not get better by itself */
	char text[PROBLEM_TEXT]; /* one sentence: what it means, what the CA says, for which names */
};

/* From a reply; anything that is no problem document is one without type. */
void problem_read(const char *body, size_t len, long status, struct problem *out);
/* From an error member of an order or challenge; NULL is allowed. */
void problem_from(const json_t *, long status, struct problem *out);
bool problem_is(const struct problem *, const char *type);
