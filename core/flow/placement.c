/* SPDX-License-Identifier: MIT */
/* placement - see placement.h.  Pure. */
#include "core/flow/placement.h"

#include <string.h>

static size_t count_consumers(const struct config *config, size_t from)
{
	size_t n = 0;

	for (size_t i = 0; i < config->n_components; i++)
		for (size_t k = 0; k < config->components[i].n_inputs; k++)
			n += config->components[i].inputs[k].from == from;
	return n;
}

/* Named workers and types that need a loop of their own share none with their neighbours. */
static bool stands_alone(const struct config_component *c)
{
	return c->worker || (c->desc && c->desc->flags & SS_OWN_LOOP);
}

/* Does component i run on the loop of the one that feeds it? */
static bool continues_chain(const struct config *config, size_t i)
{
	const struct config_component *c = &config->components[i];

	return c->n_inputs == 1 && c->inputs[0].limits.overflow == OVERFLOW_BLOCK && !stands_alone(c) &&
	       !stands_alone(&config->components[c->inputs[0].from]) &&
	       count_consumers(config, c->inputs[0].from) == 1;
}

static size_t first_of_worker(const struct config *config, const char *worker)
{
	size_t i = 0;

	while (!config->components[i].worker || strcmp(config->components[i].worker, worker) != 0)
		i++;
	return i;
}

size_t placement_head(const struct config *config, size_t i)
{
	if (config->components[i].worker)
		return first_of_worker(config, config->components[i].worker);
	while (continues_chain(config, i))
		i = config->components[i].inputs[0].from;
	return i;
}

const char *placement_name(const struct config *config, size_t i)
{
	const struct config_component *head = &config->components[placement_head(config, i)];

	return head->worker ? head->worker : head->id;
}
