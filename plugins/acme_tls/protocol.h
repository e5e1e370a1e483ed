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
#include "plugins/identity/obtain_result.h"

#define PROTOCOL_FD       3
#define PROTOCOL_LINE_MAX (1u << 20) /* bytes */
#define PROTOCOL_TEXT_MAX                                                                                    \
	(64u << 20) /* bytes of all answers; an operation is bounded, a broken program is not */

enum acme_challenge { ACME_HTTP_01, ACME_TLS_ALPN_01 };

/* Members of a request or an answer; NULL or 0: there is none of that kind. */
static inline const char *member_text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static inline int64_t member_number(const json_t *object, const char *key)
{
	return (int64_t)json_integer_value(json_object_get(object, key));
}
