/* SPDX-License-Identifier: MIT */
/*
 * claims - what components, and the host itself, will take for themselves alone: files and ports.  Two that
 * want the same are an error before anything starts.  Control thread only.
 */
#pragma once
#include <stddef.h>

struct claims;

struct claims *claims_new(void);
void claims_free(struct claims *); /* NULL is allowed */

/*
 * The resource is "tcp:ADDRESS:PORT" or "udp:ADDRESS:PORT", with an empty ADDRESS for all, or any other text,
 * as "file:/data/x".  0; -EEXIST: *owner has claimed it already; -ENOMEM.  Strings are copied, owner lives as
 * long as the claims.
 */
int claims_add(struct claims *, const char *owner, const char *resource, const char **other);
