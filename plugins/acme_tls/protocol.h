/* SPDX-License-Identifier: MIT */
/*
 * protocol - between the plugin and semstreams-acme, the program that talks to a CA: one process for each
 * operation, one JSON text a line over the socket that the program has as PROTOCOL_FD.
 *
 * Request, one:  {"operation": "issue|revoke|rollover|deactivate|ari", "storage_path", "directory_url", ...}
 * Answers:       {"log": TEXT, "level": N}, {"counted": REQUEST}, and at the end {"result": {"fail": N,
 * "why", "permanent", "retry_after", "chain", "key", "ari_start", "ari_end", "ari_url"}}
 *
 * The program works under the lock of whoever started it, and ends when the socket is closed.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include "x509.h"

#define PROTOCOL_FD       3
#define PROTOCOL_LINE_MAX (1u << 20) /* bytes */
#define PROTOCOL_TEXT_MAX                                                                                    \
	(64u << 20) /* bytes of all answers; an operation is bounded, a broken program is not */

enum acme_challenge { ACME_HTTP_01, ACME_TLS_ALPN_01 };

enum acme_fail {
	ACME_OK = 0,
	ACME_UNREACHABLE,      /* "failed to connect to ACME server" */
	ACME_ACCOUNT,          /* "account registration failed" */
	ACME_CHALLENGE_FAILED, /* "HTTP-01 challenge failed" / "challenge validation failed" */
	ACME_RATE_LIMITED,
	ACME_REFUSED, /* the CA says no: a problem document */
	ACME_BROKEN,  /* the CA's answer makes no sense */
	ACME_STORAGE, /* storage_path cannot be read or written */
	ACME_TIMEOUT,
	ACME_LOCAL /* of this machine: port in use, out of memory, ... */
};

/* How an operation ended.  In the program all texts are borrowed. */
struct operation_result {
	enum acme_fail fail;
	char why[640];       /* one sentence in the operator's words, with the remedy where one is known */
	bool permanent;      /* will not get better by itself: try rarely */
	int64_t retry_after; /* seconds that the CA asks to wait, 0: none; at most a day */
	/* issue: for the names and the key; NULL after a failure */
	struct chain_info chain;
	char *key_pem;
	/* ari: the window, and the CA's page about it (may be NULL) */
	int64_t ari_start, ari_end;
	char *ari_url;
};

/* Members of a request or an answer; NULL or 0: there is none of that kind. */
static inline const char *member_text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static inline int64_t member_number(const json_t *object, const char *key)
{
	return (int64_t)json_integer_value(json_object_get(object, key));
}
