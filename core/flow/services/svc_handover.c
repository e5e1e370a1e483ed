/* SPDX-License-Identifier: MIT */
/* svc_handover - the service "semstreams.handover/1": descriptors on their way to a successor. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/ext/handover.h>
#include "core/config/claims.h"
#include "core/flow/component.h"

struct handed {
	struct handed *next;
	int fd;
	uint64_t note;
	char name[];
};

static int32_t wanted(void *self, const char *name)
{
	const struct component *c = self;

	return c->heir && claims_has(c->heir->config->claims, c->heir->id, name);
}

static int32_t give_noted(void *self, const char *name, int32_t fd, uint64_t note)
{
	struct component *c = self;

	if (!wanted(self, name))
		return -ENOENT;
	struct handed *h = malloc(sizeof *h + strlen(name) + 1);
	if (!h)
		return -ENOMEM;
	h->fd = fd;
	h->note = note;
	h->next = NULL;
	strcpy(h->name, name);
	struct handed **last = &c->heir->handed;
	while (*last)
		last = &(*last)->next;
	*last = h;
	return 0;
}

static int32_t give(void *self, const char *name, int32_t fd)
{
	return give_noted(self, name, fd, 0);
}

static int32_t take_noted(void *self, const char *name, uint64_t *note)
{
	struct component *c = self;

	for (struct handed **at = &c->handed, *h; (h = *at); at = &h->next) {
		if (strcmp(h->name, name) != 0)
			continue;
		const int fd = h->fd;
		*note = h->note;
		*at = h->next;
		free(h);
		return fd;
	}
	return -ENOENT;
}

static int32_t take(void *self, const char *name)
{
	uint64_t note;

	return take_noted(self, name, &note);
}

void handover_clear(struct component *c)
{
	for (struct handed *h = c->handed, *next; h; h = next) {
		next = h->next;
		close(h->fd);
		free(h);
	}
	c->handed = NULL;
}

const struct ss_handover handover_service = {
	.struct_size = sizeof(struct ss_handover),
	.wanted = wanted,
	.give = give,
	.take = take,
	.give_noted = give_noted,
	.take_noted = take_noted,
};
