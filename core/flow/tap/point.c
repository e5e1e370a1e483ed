/* SPDX-License-Identifier: MIT */
#include "core/flow/tap/point.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <semstreams/base/nearest.h>
#include "core/flow/pipeline.h"

struct component *point_component(const struct pipeline *p, const char *name, size_t len, char why[512])
{
	const char *known[CONFIG_MAX_COMPONENTS];
	char id[CONFIG_MAX_ID + 1];

	for (size_t i = 0; i < p->n_components; i++) {
		known[i] = p->components[i]->id;
		if (strlen(known[i]) == len && memcmp(known[i], name, len) == 0)
			return p->components[i];
	}
	snprintf(id, sizeof id, "%.*s", (int)len, name);
	const char *nearest = ss_nearest(id, known, p->n_components);
	snprintf(why, 512, "there is no component \"%s\"%s%s%s", id, nearest ? " (did you mean \"" : "",
		 nearest ? nearest : "", nearest ? "\"?)" : "");
	return NULL;
}

static int find_output(struct component *c, const char *output, struct point *point, char why[512])
{
	uint32_t port = 0;

	while (*output && port < c->n_ports &&
	       strcmp(c->desc->outputs ? c->desc->outputs[port] : "", output) != 0)
		port++;
	if (port >= c->n_ports) {
		snprintf(why, 512, "\"%s\" has no output%s%.200s%s", c->id,
			 *output ? " \"" : "; did you mean \"", *output ? output : c->id,
			 *output ? "\"" : ":in\"?");
		return -ENOENT;
	}
	*point = (struct point){c, port};
	return 0;
}

int point_find(const struct pipeline *p, const char *text, struct point *point, char why[512])
{
	const size_t len = strcspn(text, ".:");
	struct component *c = point_component(p, text, len, why);

	if (!c)
		return -ENOENT;
	if (text[len] != ':')
		return find_output(c, text[len] ? text + len + 1 : "", point, why);
	if (strcmp(text + len, ":in") != 0) {
		snprintf(why, 512,
			 "\"%.200s\" is no point of the pipeline; it is \"ID\", \"ID.OUTPUT\" or \"ID:in\"",
			 text);
		return -EINVAL;
	}
	if (!c->n_inputs) {
		snprintf(why, 512, "\"%s\" has no input", c->id);
		return -EINVAL;
	}
	*point = (struct point){c, TAP_INPUT};
	return 0;
}
