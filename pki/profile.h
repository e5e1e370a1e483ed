/* SPDX-License-Identifier: MIT */
/* profile - the five kinds of certificates, and what each may do.  Pure. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct profile {
	const char *name;
	const char *key_type;
	int64_t life_s;
	unsigned key_usage; /* GNUTLS_KEY_... */
	bool ca;
	int path_len;        /* of a CA: how many CAs may follow below it */
	bool server, client; /* purposes */
};

/* NULL-ended. */
extern const struct profile *const profiles[];
extern const struct profile profile_root, profile_intermediate, profile_sub_ca, profile_service,
	profile_device;
