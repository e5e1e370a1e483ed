/* SPDX-License-Identifier: MIT */
/*
 * claims - files and ports that components, and the host itself, take for themselves alone.
 * Control thread only.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct claims;

struct claims *claims_new(void); /* NULL: out of memory */
void claims_free(struct claims *);

/*
 * The resource is "tcp:ADDRESS:PORT" or "udp:ADDRESS:PORT", with an empty ADDRESS for all of both families,
 * or any other text, as "file:/data/x".  The owner is a component's id, or NULL for the host.  0; -EEXIST:
 * *other, with what may be the same, has come first; -ENOMEM.
 */
int claims_add(struct claims *, const char *owner, const char *resource, const char **other);
/* Has it claimed the resource, by exactly this name? */
bool claims_has(const struct claims *, const char *owner, const char *resource);
bool claims_is_port(const char *resource);
/* "reads:PATH", "writes:PATH", "capability:NAME" and "reaches:URL" are what the owner needs, and others may
 * need, too. */
bool claims_is_need(const char *resource);
/* The resources in the order they came, from 0; NULL behind the last one.  *owner (NULL is allowed): whose.
 */
const char *claims_at(const struct claims *, size_t i, const char **owner);
/* So many descriptors more; returns how many files and sockets all want to have open at once. */
uint64_t claims_descriptors(struct claims *, uint64_t more);
