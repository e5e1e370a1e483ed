/* SPDX-License-Identifier: MIT */
/* api - answers of JetStream's API, which are JSON.  Pure; any thread. */
#pragma once
#include <jansson.h>
#include <stddef.h>
#include <nats/nats.h>

/* Codes of errors that are told apart ("err_code"). */
enum {
	API_NO_JETSTREAM = 10039, /* not enabled for the account */
	API_NO_JETSTREAM_HERE = 10076,
	API_NO_CONSUMER = 10014,
	API_NO_MESSAGE = 10037,
	API_NO_STREAM = 10059,
	API_WRONG_LAST_ID = 10070,
	API_WRONG_LAST_SEQUENCE = 10071,
	API_STORE_FAILED = 10077, /* the stream is full */
	API_TOO_LONG = 10054,
	API_HEADER_TOO_LONG = 10097,
	API_NO_RESOURCES = 10023,
	API_NO_STORAGE = 10047
};

/* Parse an answer: its document, which the caller owns, or NULL.  *error: 0, the code of the error that it
 * tells, or -1: it is no answer; then why (of size bytes) says what it is. */
json_t *api_read(natsMsg *, int *error, char *why, size_t size);

/* A number of an object, by a path such as "state.last_seq"; 0 if there is none. */
uint64_t api_number(const json_t *, const char *path);
/* A string in the same way; NULL. */
const char *api_text(const json_t *, const char *path);

/* The headers of a message that STREAM.MSG.GET has got, as a text; malloced; NULL: it has none. */
char *api_headers(const json_t *answer);
/* The value of a header in such a text, which may be NULL; malloced; NULL: there is none. */
char *api_header(const char *headers, const char *name);
