/* SPDX-License-Identifier: MIT */
/*
 * semstreams/ext/https.h - what all requests of libcurl to a CA have in common: whom to trust, nothing but
 * HTTP/1.1 over TLS 1.2 or later, no redirects, a bounded reply; and why a request failed, in an operator's
 * words with the remedy.  Not installed.  Any thread, one at a time.
 *
 * What differs from CA to CA, as deadlines and how long a connection is kept, the caller sets on easy itself.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <curl/curl.h>
#include <semstreams/base/strbuf.h>

#define HTTPS_CA_FILE_MAX (4 << 20) /* bytes of a file of trusted certificates */

/* The first part is the caller's, whose strings are borrowed; all of it begins as zeros. */
struct https {
	CURL *easy; /* new or reset before https_begin() */
	const char *user_agent;
	const char *origin; /* "ca.example:443" */
	const char *url_option,
		*ca_option; /* where an operator says which CA it is, and whom to trust there */
	size_t max_body;    /* bytes of a reply */

	struct ss_strbuf ca;   /* trusted certificates in PEM; none: the system's pool */
	struct ss_strbuf body; /* of the reply */
	size_t header_bytes;
	const char *given_up; /* why a reply was refused here; NULL: it was not */
	char error_text[CURL_ERROR_SIZE];
};

/* Trust what is in this file, too, and no longer the system's pool.  0; -errno of ss_file_read(), -ENOMEM. */
int https_trust(struct https *, const char *path);
/* Forget the last reply and set up easy for a request, but for what is the caller's. */
void https_begin(struct https *);
/* One more field of a header, false: out of memory. */
bool https_add_field(struct curl_slist **fields, const char *field);
/*
 * Why a request ended like this, not CURLE_OK: one sentence into why, and -errno: -EHOSTUNREACH,
 * -ENETUNREACH, -ECONNREFUSED, -ECONNRESET, -ETIMEDOUT: not reached, or broken off; -EKEYREJECTED: whoever
 * answered is not trusted; -EPROTO: it does not speak HTTPS, or refuses in the handshake; -EMSGSIZE: the
 * reply is too large; -EACCES; -ENOMEM.
 */
int https_explain(const struct https *, CURLcode, char *why, size_t why_size);
/* Frees what is inside, but for easy. */
void https_done(struct https *);
