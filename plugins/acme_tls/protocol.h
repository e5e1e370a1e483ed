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
