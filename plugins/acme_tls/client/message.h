/* SPDX-License-Identifier: MIT */
/*
 * message - what a CA says (RFC 8555 section 7.1, RFC 9773), taken as hostile: types, counts and lengths are
 * checked.  Pure. Strings point into the document `json`, which lives until message_done().
 */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_t;

#define BASE64URL           "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
#define MESSAGE_URL_MAX     2048 /* bytes of an URL */
#define MESSAGE_NAME_MAX    255  /* bytes of an identifier */
#define MESSAGE_TOKEN_MAX   256  /* bytes of a token */
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

struct message_identifier {
	const char *type, *value;
};

struct message_challenge {
	const char *type, *url, *token; /* url and token may be NULL in types that are not ours */
	enum message_status status;
	const struct json_t *error;
};

/* What is not in a document of the kind that was read is zero. */
struct message {
	struct json_t *json;
	/* directory */
	const char *new_nonce, *new_account, *new_order;
	const char *revoke_cert, *key_change, *renewal_info; /* NULL: not offered */
	const struct json_t *profiles;                       /* NULL: none */
	bool eab_required;
	/* account, order, authorization */
	enum message_status status;
	const char *status_word;
	/* order; an authorization has one identifier */
	size_t n_identifiers, n_authorizations;
	struct message_identifier identifiers[MESSAGE_LIST_MAX];
	const char *authorizations[MESSAGE_LIST_MAX];
	const char *finalize, *certificate; /* NULL: absent */
	const struct json_t *error;         /* a problem document, NULL: none */
	/* authorization; a challenge is alone */
	size_t n_challenges;
	struct message_challenge challenges[MESSAGE_CHOICES_MAX];
	/* renewal information */
	int64_t start, end; /* seconds since 1970 */
	const char *explanation;
};

/* 0; -EINVAL with what is wrong in why; -ENOMEM.  *out is then as after message_done(). */
int message_read(enum message_kind, const char *body, size_t len, struct message *out, char *why,
		 size_t why_size);
/* All of it is gone; it may be already. */
void message_done(struct message *);

/* Does the directory offer this profile?  All that it offers into out, as "a, b"; "" if there are none. */
bool message_profiles(const struct message *, const char *wanted, char *out, size_t size);

/* A Retry-After field: seconds or a date, as seconds from now, 1 s to 1 day; 0: absent or neither. */
int64_t message_retry_after(const char *value, int64_t now);
/* An HTTP date; false: it is none. */
bool message_http_date(const char *text, int64_t *seconds);
/* RFC 3339, "2025-11-16T10:00:00Z"; false: it is none. */
bool message_time(const char *text, int64_t *seconds);
/* Letters, digits, "-" and "_", 1 to MESSAGE_TOKEN_MAX. */
bool message_token_ok(const char *token);
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
/* Host and port, "ca.example:443".  -EINVAL for a URL that no CA needs, with the reason, which follows the
 * URL in a sentence; -ENOMEM. */
int url_origin(const char *url, char *out, size_t size, char *why, size_t why_size);
/* 0 if it is at the origin of directory_url, else as url_origin(). */
int url_check(const char *directory_url, const char *url, char *why, size_t why_size);
/* The same but for a default port that one of them names (RFC 3986 section 6.2.3). */
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
void problem_from(const struct json_t *, long status, struct problem *out);
bool problem_is(const struct problem *, const char *type);
