/* SPDX-License-Identifier: MIT */
/* claims - see claims.h. */
#include "core/config/claims.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct claim {
	char *owner, *resource;
};

struct claims {
	struct claim *rows;
	size_t n;
};

struct claims *claims_new(void)
{
	return calloc(1, sizeof(struct claims));
}

void claims_free(struct claims *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n; i++) {
		free(c->rows[i].owner);
		free(c->rows[i].resource);
	}
	free(c->rows);
	free(c);
}

/* Does the address stand for all? */
static bool is_any(const char *address, size_t len)
{
	static const char *const any[] = {"", "*", "0.0.0.0", "::", "[::]"};

	for (size_t i = 0; i < sizeof any / sizeof any[0]; i++)
		if (strlen(any[i]) == len && memcmp(any[i], address, len) == 0)
			return true;
	return false;
}

static bool is_port(const char *resource)
{
	return strncmp(resource, "tcp:", 4) == 0 || strncmp(resource, "udp:", 4) == 0;
}

static bool collide(const char *a, const char *b)
{
	const char *port_a = strrchr(a, ':'), *port_b = strrchr(b, ':');

	if (strcmp(a, b) == 0)
		return true;
	return is_port(a) && strncmp(a, b, 4) == 0 && port_a > a + 3 && port_b > b + 3 &&
	       strcmp(port_a, port_b) == 0 &&
	       (is_any(a + 4, (size_t)(port_a - a - 4)) || is_any(b + 4, (size_t)(port_b - b - 4)));
}

int claims_add(struct claims *c, const char *owner, const char *resource, const char **other)
{
	for (size_t i = 0; i < c->n; i++) {
		if (!collide(c->rows[i].resource, resource))
			continue;
		if (strcmp(c->rows[i].owner, owner) == 0)
			return 0;
		*other = c->rows[i].owner;
		return -EEXIST;
	}
	struct claim *grown = reallocarray(c->rows, c->n + 1, sizeof *grown);
	if (!grown)
		return -ENOMEM;
	c->rows = grown;
	struct claim *row = &c->rows[c->n];
	row->owner = strdup(owner);
	row->resource = strdup(resource);
	if (row->owner && row->resource) {
		c->n++;
		return 0;
	}
	free(row->owner);
	free(row->resource);
	return -ENOMEM;
}
