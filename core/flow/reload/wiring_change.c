/* SPDX-License-Identifier: MIT */
#include "core/flow/reload/wiring_change.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/config/difference.h"
#include "core/flow/pipeline.h"
#include "core/flow/positions.h"

/* ---- what becomes of each ---- */

static struct component *find(const struct pipeline *p, const struct config_component *cc)
{
	for (size_t i = 0; i < p->n_components; i++)
		if (strcmp(p->components[i]->id, cc->id) == 0 && p->components[i]->desc == cc->desc)
			return p->components[i];
	return NULL;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Do its inputs keep their numbers?  Others may be added behind them, and the last ones go. */
static bool keeps_inputs(const struct config *config, const struct change *c)
{
	for (size_t i = 0; i < c->now->n_inputs && i < c->cc->n_inputs; i++) {
		const struct config_input *in = &c->cc->inputs[i];
		const struct edge *e = c->now->inputs[i];
		if (e->port != in->port || strcmp(e->from->id, config->components[in->from].id) != 0)
			return false;
	}
	return true;
}

static enum change_kind judge(const struct config *config, const struct change *c)
{
	enum change_kind kind = CHANGE_NONE;

	if (!c->now)
		return CHANGE_ADD;
	if (!same_text(c->now->config_component->worker, c->cc->worker) || !keeps_inputs(config, c))
		return CHANGE_REPLACE;
	for (const struct ss_option *o = NULL; (o = difference_next(c->now->config_component, c->cc, o));) {
		if (!(o->flags & SS_OPT_LIVE) || !c->cc->desc->reconfigure)
			return CHANGE_REPLACE;
		kind = CHANGE_IN_PLACE;
	}
	return kind;
}

/* ---- the tables ---- */

/* The edge there is between two that both stay or are replaced; NULL: none. */
static struct edge *find_edge(struct pipeline *p, const struct component *from, uint32_t port,
			      const struct component *to)
{
	for (size_t i = 0; from && to && i < p->n_edges; i++) {
		struct edge *e = &p->edges[i];
		if (e->from == from && e->to == to && e->port == port && !e->continues)
			return e;
	}
	return NULL;
}

/* Until the exchange, the one who reads is woken as it was before. */
static struct component *reader_now(const struct change *c)
{
	return c->kind == CHANGE_REPLACE ? c->now : change_target(c);
}

static int make_edge(struct pipeline *p, struct wiring_change *w, struct change *to,
		     const struct config_input *in)
{
	const struct change *from = &w->changes[in->from];
	struct edge *old = find_edge(p, from->now, in->port, to->now), *e = &w->edges[w->n_edges];

	*e = (struct edge){.queue = old ? old->queue : queue_new(&in->limits),
			   .from = change_target(from),
			   .to = reader_now(to),
			   .port = in->port};
	if (!e->queue)
		return -ENOMEM;
	if (old)
		old->continues = e->continues = true;
	to->inputs[to->n_inputs++] = e;
	w->n_edges++;
	return 0;
}

static int make_port(struct wiring_change *w, struct change *c, uint32_t number)
{
	struct port *port = &c->ports[number];
	size_t n = 0;

	for (size_t i = 0; i < w->n_edges; i++)
		n += w->edges[i].from == change_target(c) && w->edges[i].port == number;
	port->edges = calloc(n + 1, sizeof(*port->edges));
	if (!port->edges)
		return -ENOMEM;
	for (size_t i = 0; i < w->n_edges; i++)
		if (w->edges[i].from == change_target(c) && w->edges[i].port == number)
			port->edges[port->n++] = &w->edges[i];
	return 0;
}

int wiring_change_prepare(struct pipeline *p, const struct config *config, struct wiring_change *w)
{
	size_t n_edges = 0;
	int rc = 0;

	for (size_t i = 0; i < p->n_edges; i++)
		p->edges[i].continues = false;
	for (size_t i = 0; i < w->n; i++) {
		struct change *c = &w->changes[i];
		c->now = find(p, c->cc);
		c->kind = judge(config, c);
		n_edges += c->cc->n_inputs;
		c->ports = calloc(c->fresh->n_ports + 1, sizeof *c->ports);
		c->inputs = calloc(c->cc->n_inputs + 1, sizeof(*c->inputs));
		if (!c->ports || !c->inputs)
			return -ENOMEM;
	}
	w->edges = calloc(n_edges + 1, sizeof *w->edges);
	if (!w->edges)
		return -ENOMEM;
	for (size_t i = 0; i < w->n && rc == 0; i++)
		for (size_t k = 0; k < w->changes[i].cc->n_inputs && rc == 0; k++)
			rc = make_edge(p, w, &w->changes[i], &w->changes[i].cc->inputs[k]);
	for (size_t i = 0; i < w->n && rc == 0; i++)
		for (uint32_t k = 0; k < w->changes[i].fresh->n_ports && rc == 0; k++)
			rc = make_port(w, &w->changes[i], k);
	return rc;
}

/* ---- putting them in place ---- */

static void exchange_ports(struct change *c)
{
	struct component *target = change_target(c);
	struct port *ports = target->ports;

	target->ports = c->ports;
	c->ports = ports;
}

static bool stays(const struct wiring_change *w, const struct component *c)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->changes[i].kind <= CHANGE_IN_PLACE && w->changes[i].now == c)
			return true;
	return false;
}

void wiring_change_producers(struct pipeline *p, struct wiring_change *w)
{
	for (size_t i = 0; i < w->n; i++) {
		if (w->changes[i].kind > CHANGE_IN_PLACE)
			continue;
		w->changes[i].now->staying = true;
		exchange_ports(&w->changes[i]);
	}
	for (size_t i = 0; i < p->n_edges; i++) {
		const struct edge *e = &p->edges[i];
		if (!e->continues && stays(w, e->from)) {
			queue_close(e->queue);
			component_wake(e->to);
		}
	}
}

bool wiring_change_settled(const struct pipeline *p, const struct wiring_change *w)
{
	for (size_t i = 0; i < p->n_edges; i++) {
		const struct edge *e = &p->edges[i];
		if (e->continues || !stays(w, e->to))
			continue;
		/* or its last batch was refused, and will be offered again by that input */
		if (!queue_finished(e->queue) || atomic_load(&e->to->busy_since_ns))
			return false;
	}
	return true;
}

/* A queue that nobody writes to or reads from any more; its reader's books go on. */
static void end_queue(const struct edge *e)
{
	struct queue *q = e->queue;

	atomic_fetch_add(&e->to->discarded, queue_discard(q));
	e->to->past_offered += atomic_load(&q->offered_events);
	e->to->past_dropped += atomic_load(&q->dropped_events);
	queue_free(q);
}

static void exchange_inputs(struct change *c)
{
	struct component *target = change_target(c);
	struct edge **inputs = target->inputs;
	size_t n = target->n_inputs;

	target->inputs = c->inputs;
	target->n_inputs = c->n_inputs;
	target->next_input = 0;
	c->inputs = inputs;
	c->n_inputs = n;
}

/* What it refused came by an input that is no more. */
static void fail_refused(struct component *c)
{
	if (!c->refused || c->inputs[c->refused_port]->continues)
		return;
	positions_failed(c, c->refused);
	component_end_batch(c, c->refused, SS_FAILED);
	c->refused = NULL;
}

static void look_for_stuck(struct component *c)
{
	for (size_t k = 0; k < c->n_ports; k++)
		for (size_t i = 0; i < c->ports[k].n; i++)
			c->stuck |= queue_stuck(c->ports[k].edges[i]->queue);
}

void wiring_change_commit(struct pipeline *p, struct wiring_change *w)
{
	struct edge *edges = p->edges;
	const size_t n_edges = p->n_edges;

	for (size_t i = 0; i < n_edges; i++)
		if (!edges[i].continues)
			end_queue(&edges[i]);
	for (size_t i = 0; i < w->n_edges; i++) {
		struct edge *e = &w->edges[i];
		for (size_t k = 0; k < w->n; k++)
			if (e->to == reader_now(&w->changes[k])) {
				e->to = change_target(&w->changes[k]);
				break;
			}
		e->continues = false;
	}
	for (size_t i = 0; i < w->n; i++) {
		struct change *c = &w->changes[i];
		if (c->kind > CHANGE_IN_PLACE)
			exchange_ports(c);
		else
			fail_refused(c->now);
		change_target(c)->staying = false;
		exchange_inputs(c);
		look_for_stuck(change_target(c));
		for (size_t k = 0; k < c->cc->n_inputs; k++)
			queue_limit(change_target(c)->inputs[k]->queue, &c->cc->inputs[k].limits);
	}
	p->edges = w->edges;
	p->n_edges = w->n_edges;
	w->edges = edges;
	w->n_edges = 0; /* their queues are elsewhere, or gone */
}

void wiring_change_done(struct pipeline *p, struct wiring_change *w)
{
	for (size_t i = 0; i < p->n_edges; i++)
		p->edges[i].continues = false;
	for (size_t i = 0; i < w->n; i++) {
		struct change *c = &w->changes[i];
		const struct component *of = c->fresh ? c->fresh : c->now;
		const size_t n_ports = of ? of->n_ports : 0;
		for (size_t k = 0; c->ports && k < n_ports; k++)
			free(c->ports[k].edges);
		free(c->ports);
		free(c->inputs);
	}
	/* only if nothing was put in place */
	for (size_t i = 0; i < w->n_edges; i++)
		if (!w->edges[i].continues)
			queue_free(w->edges[i].queue);
	free(w->edges);
}
