/* SPDX-License-Identifier: MIT */
/* admin_origin - whether a request to the admin port is meant for it, and of which site it comes. */
#pragma once
#include <stdbool.h>

struct MHD_Connection;
struct admin_listener;

/* The path of a request target that may be a URL, as proxies write it; NULL if that is another server's. */
const char *admin_path_of(const struct admin_listener *, const char *target);
/* What is wrong with where a request comes from, as an HTTP status with its text; 0: nothing. */
unsigned admin_check_origin(const struct admin_listener *, bool tls, struct MHD_Connection *,
			    const char *version, const char **text);
