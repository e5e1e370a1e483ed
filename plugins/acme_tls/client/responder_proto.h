/* SPDX-License-Identifier: MIT */
/*
 * responder_proto - the requests of http-01 as bytes: what is asked for, and what is answered.  Pure.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define RESPONDER_REQUEST_MAX 8192 /* bytes of request line and fields */
#define RESPONDER_TOKEN_MAX   256
#define RESPONDER_REPLY_MAX   1024 /* bytes of an answer: a token, a thumbprint and the fields fit */

struct responder_request {
	const char *token; /* in the bytes given, of base64url's letters only; NULL: not a challenge's path */
	size_t token_len;
	bool head; /* the answer has no body */
};

/* 0: more bytes are needed; the status to answer with: 200 (if the token is known), 404, 400, 431. */
int responder_request(const char *data, size_t len, struct responder_request *out);
/* The whole answer.  The bytes written; -EINVAL: the body is too long. */
int responder_reply(int status, const char *body, bool head, char out[RESPONDER_REPLY_MAX]);
