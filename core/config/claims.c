/* SPDX-License-Identifier: MIT */
#include "core/config/claims.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct claim {
	char *owner, *resource; /* owner NULL: the host */
};

struct claims {
	uint64_t descriptors;
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

/* ---- addresses ---- */

enum { BOTH_FAMILIES = 0, NO_NUMBER = -1 };

struct address {
	int family;
	bool any; /* all of the family */
	unsigned char raw[16];
	char interface[32]; /* of a link-local one */
};

static void read_address(const char *text, size_t len, struct address *out)
{
	static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff}, none[16];
	char number[INET6_ADDRSTRLEN];
	size_t digits = strcspn(text, "%");

	*out = (struct address){.family = len ? NO_NUMBER : BOTH_FAMILIES};
	digits = digits < len ? digits : len;
	if (len == 0 || digits >= sizeof number || len - digits >= sizeof out->interface)
		return;
	memcpy(out->interface, text + digits, len - digits);
	memcpy(number, text, digits);
	number[digits] = '\0';
	if (inet_pton(AF_INET, number, out->raw) == 1)
		out->family = AF_INET;
	else if (inet_pton(AF_INET6, number, out->raw) == 1)
		out->family = AF_INET6;
	if (out->family == AF_INET6 && memcmp(out->raw, mapped, sizeof mapped) == 0) {
		out->family = AF_INET;
		memmove(out->raw, out->raw + 12, 4);
		memset(out->raw + 4, 0, 12);
	}
	out->any = memcmp(out->raw, none, sizeof none) == 0;
}

static bool overlap(const struct address *a, const struct address *b)
{
	if (a->family == BOTH_FAMILIES || b->family == BOTH_FAMILIES)
		return true;
	if (a->family == NO_NUMBER || a->family != b->family)
		return false;
	return a->any || b->any ||
	       (memcmp(a->raw, b->raw, sizeof a->raw) == 0 && strcmp(a->interface, b->interface) == 0);
}

/* ---- claims ---- */

bool claims_is_port(const char *resource)
{
	return (strncmp(resource, "tcp:", 4) == 0 || strncmp(resource, "udp:", 4) == 0) &&
	       strrchr(resource, ':') > resource + 3;
}

bool claims_is_need(const char *resource)
{
	return strncmp(resource, "reads:", 6) == 0 || strncmp(resource, "writes:", 7) == 0 ||
	       strncmp(resource, "capability:", 11) == 0 || strncmp(resource, "reaches:", 8) == 0;
}

const char *claims_at(const struct claims *c, size_t i, const char **owner)
{
	if (i >= c->n)
		return NULL;
	if (owner)
		*owner = c->rows[i].owner;
	return c->rows[i].resource;
}

static bool collide(const char *a, const char *b)
{
	const char *port_a = strrchr(a, ':'), *port_b = strrchr(b, ':');
	struct address x, y;

	if (strcmp(a, b) == 0)
		return true;
	if (!claims_is_port(a) || !claims_is_port(b) || strncmp(a, b, 4) != 0 || strcmp(port_a, port_b) != 0)
		return false;
	read_address(a + 4, (size_t)(port_a - a - 4), &x);
	read_address(b + 4, (size_t)(port_b - b - 4), &y);
	return overlap(&x, &y);
}

static bool is_same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

int claims_add(struct claims *c, const char *owner, const char *resource, const char **other)
{
	for (size_t i = 0; i < c->n; i++) {
		if (claims_is_need(resource) || !collide(c->rows[i].resource, resource) ||
		    is_same(c->rows[i].owner, owner))
			continue;
		*other = c->rows[i].owner;
		return -EEXIST;
	}
	struct claim *grown = reallocarray(c->rows, c->n + 1, sizeof *grown);
	if (!grown)
		return -ENOMEM;
	c->rows = grown;
	struct claim *row = &c->rows[c->n];
	*row = (struct claim){.owner = owner ? strdup(owner) : NULL, .resource = strdup(resource)};
	if (row->resource && (row->owner || !owner)) {
		c->n++;
		return 0;
	}
	free(row->owner);
	free(row->resource);
	return -ENOMEM;
}

bool claims_has(const struct claims *c, const char *owner, const char *resource)
{
	for (size_t i = 0; i < c->n; i++)
		if (is_same(c->rows[i].owner, owner) && strcmp(c->rows[i].resource, resource) == 0)
			return true;
	return false;
}

uint64_t claims_descriptors(struct claims *c, uint64_t more)
{
	return c->descriptors += more;
}
