/* SPDX-License-Identifier: MIT */
#include "core/flow/tap/sieve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/config/diag.h"
#include "core/flow/component.h"

#define ID "admin-tap"

struct sieve {
	struct config *config;
	struct component component, ends; /* both edges end there */
	struct edge in, out;
};

/* What it has to say of events is said to nobody: it is not of the pipeline. */
static void say_nothing(const struct ss_host *host, int32_t level, const char *text)
{
	(void)host;
	(void)level;
	(void)text;
}

static int wire(struct sieve *s)
{
	const struct queue_limits limits = {.events = QUEUE_EVENTS_DEFAULT, .bytes = QUEUE_BYTES_DEFAULT};
	struct component *c = &s->component;

	s->in = (struct edge){.queue = queue_new(&limits), .from = &s->ends, .to = c};
	s->out = (struct edge){.queue = queue_new(&limits), .from = c, .to = &s->ends};
	c->ports = calloc(c->n_ports + 1, sizeof *c->ports);
	c->inputs = calloc(1, sizeof(*c->inputs));
	if (!s->in.queue || !s->out.queue || !c->ports || !c->inputs)
		return -ENOMEM;
	c->ports[0].edges = calloc(1, sizeof(*c->ports[0].edges));
	if (!c->ports[0].edges)
		return -ENOMEM;
	c->ports[0].edges[c->ports[0].n++] = &s->out;
	c->inputs[c->n_inputs++] = &s->in;
	return 0;
}

static int create(struct sieve *s, struct loader *loader, const char *where, struct diag *diag)
{
	char *text = NULL;

	const int len = asprintf(&text,
				 "{\"components\":[{\"id\":\"" ID "\",\"type\":\"filter\","
				 "\"inputs\":[],\"config\":{\"where\":%s}}]}",
				 where);
	if (len < 0)
		return -ENOMEM;
	int rc = config_parse("where", text, (size_t)len, diag, &s->config);
	free(text);
	if (rc == 0)
		rc = config_resolve(s->config, loader, diag);
	if (rc == 0)
		rc = component_create(&s->component, s->config, &s->config->components[0], NULL, NULL, diag);
	if (rc)
		return rc;
	s->component.host.log = say_nothing;
	rc = wire(s);
	return rc ? rc : component_start(&s->component);
}

static void tell(const struct diag *diag, int rc, char why[512])
{
	snprintf(why, 512, "%s", strerror(-rc));
	for (size_t i = diag->n; i-- > 0;)
		if (diag->items[i].level == DIAG_ERROR)
			snprintf(why, 512, "the condition cannot be used: %.450s", diag->items[i].text);
}

int sieve_new(struct loader *loader, const char *where, char why[512], struct sieve **out)
{
	struct sieve *s = calloc(1, sizeof *s);
	struct diag diag;

	if (!s) {
		snprintf(why, 512, "%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	diag_init(&diag);
	int rc = create(s, loader, where, &diag);
	if (rc)
		tell(&diag, rc, why);
	diag_done(&diag);
	if (rc) {
		sieve_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void sieve_free(struct sieve *s)
{
	if (!s)
		return;
	if (s->component.desc) {
		component_stop(&s->component);
		component_destroy(&s->component);
	}
	queue_free(s->in.queue);
	queue_free(s->out.queue);
	if (s->component.desc)
		component_free(&s->component);
	config_free(s->config);
	free(s);
}

void sieve_put(struct sieve *s, struct ss_batch *b)
{
	struct turn turn = {.now = 0, .end = UINT64_MAX};

	queue_offer(s->in.queue, b);
	while (component_work(&s->component, &turn))
		;
}

struct ss_batch *sieve_take(struct sieve *s)
{
	bool room;

	return queue_take(s->out.queue, &room);
}
