/* SPDX-License-Identifier: MIT */
/*
 * semstreams/ext/https-fault.h - why a request of libcurl to a CA failed, in an operator's words with the
 * remedy.  Not installed.  Any thread.
 */
#pragma once
#include <stddef.h>
#include <curl/curl.h>

struct https_fault {
	CURL *easy;             /* performed, not yet reset */
	CURLcode code;          /* how that ended, not CURLE_OK */
	const char *error_text; /* of CURLOPT_ERRORBUFFER */
	const char *origin;     /* "ca.example:443" */
	const char *url_option,
		*ca_option; /* where an operator says which CA it is, and whom to trust there */
};

/*
 * One sentence into why, and -errno: -EHOSTUNREACH, -ENETUNREACH, -ECONNREFUSED, -ECONNRESET, -ETIMEDOUT: not
 * reached, or broken off; -EKEYREJECTED: whoever answered is not trusted; -EPROTO: it does not speak HTTPS,
 * or refuses in the handshake; -EACCES; -ENOMEM.
 */
int https_fault_explain(const struct https_fault *, char *why, size_t why_size);
