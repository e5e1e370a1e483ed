/* SPDX-License-Identifier: MIT */
/*
 * tls_keys - the members of "security.tls", said once: tls_config.c knows no others, and the schema is made
 * of them.  What their values mean is tls_config.c's.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define TLS_MAX_KEYS 16 /* of a section */

struct tls_section;
struct tls_key {
	const char *name, *help;
	const char *schema;    /* JSON Schema of the value; NULL: a section */
	const char *otherwise; /* default, as JSON; NULL: none */
	const struct tls_section
		*section; /* NULL with a schema of NULL: an object, whose members are a provider's */
};
struct tls_section {
	const char *help;
	const char *rules; /* JSON Schema of what concerns several members; NULL: none */
	const struct tls_key *keys;
	size_t n;
	bool has_modes; /* settings of modes may stand here, each under the mode's name */
};

extern const struct tls_section tls_security, tls_tls, tls_server, tls_server_mtls, tls_client,
	tls_client_mtls;
