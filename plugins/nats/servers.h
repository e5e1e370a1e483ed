/* SPDX-License-Identifier: MIT */
/* servers - the option with the URLs of servers, read and checked.  In create(). */
#pragma once
#include <stddef.h>
#include <semstreams/plugin.h>

enum { NATS_SERVERS_MAX = 64 };

/* URLs as libnats takes them, NULL-ended; the caller's, by servers_free().  0; -EINVAL after config_error();
 * -ENOMEM. */
int servers_parse(const struct ss_host *, const char *option, char ***urls);
/* NULL is allowed. */
void servers_free(char **urls);
