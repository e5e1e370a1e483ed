/* SPDX-License-Identifier: MIT */
#include "core/flow/pipeline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/flow/positions.h"
#include "core/flow/providers.h"

/* Depth first from every component to what feeds it: a component comes after all before it. */
static void put_in_order(struct pipeline *p, struct component *c, bool *seen, size_t *n)
{
	size_t i = (size_t)(c - p->components);

	if (seen[i])
		return;
	seen[i] = true;
	for (size_t k = 0; k < c->n_inputs; k++)
		put_in_order(p, c->inputs[k]->from, seen, n);
	p->order[(*n)++] = c;
}

static int sort(struct pipeline *p)
{
	bool *seen = calloc(p->n_components, sizeof *seen);
	size_t n = 0;

	p->order = calloc(p->n_components, sizeof *p->order);
	if (!seen || !p->order) {
		free(seen);
		return -ENOMEM;
	}
	for (size_t i = 0; i < p->n_components; i++)
		put_in_order(p, &p->components[i], seen, &n);
	free(seen);
	p->positions = positions_new(p->components, p->order, p->n_components);
	for (size_t i = 0; i < p->n_components; i++)
		p->components[i].positions = p->positions;
	return p->positions ? 0 : -ENOMEM;
}

static size_t count_outputs(const struct ss_component *desc)
{
	size_t n = 0;

	if (desc->kind == SS_KIND_SINK || desc->kind == SS_KIND_PROVIDER)
		return 0;
	if (!desc->outputs)
		return 1;
	while (desc->outputs[n])
		n++;
	return n;
}

static int connect(struct edge *e, struct component *from, struct component *to,
		   const struct config_input *in)
{
	struct port *port = &from->ports[in->port];
	struct edge **grown = realloc(port->edges, (port->n + 1) * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	port->edges = grown;
	*e = (struct edge){.queue = queue_new(&in->limits), .from = from, .to = to};
	if (!e->queue)
		return -ENOMEM;
	port->edges[port->n++] = e;
	to->inputs[to->n_inputs++] = e;
	return 0;
}

static int wire(struct pipeline *p, const struct config *config)
{
	for (size_t i = 0; i < p->n_components; i++) {
		struct component *c = &p->components[i];
		c->n_ports = count_outputs(c->desc);
		c->ports = calloc(c->n_ports + 1, sizeof *c->ports);
		c->inputs = calloc(config->components[i].n_inputs + 1, sizeof(*c->inputs));
		if (!c->ports || !c->inputs)
			return -ENOMEM;
		p->n_edges += config->components[i].n_inputs;
	}
	p->edges = calloc(p->n_edges + 1, sizeof *p->edges);
	if (!p->edges)
		return -ENOMEM;

	struct edge *e = p->edges;
	for (size_t i = 0; i < p->n_components; i++) {
		const struct config_component *cc = &config->components[i];
		for (size_t k = 0; k < cc->n_inputs; k++) {
			int rc = connect(e++, &p->components[cc->inputs[k].from], &p->components[i],
					 &cc->inputs[k]);
			if (rc)
				return rc;
		}
	}
	return sort(p);
}

int pipeline_create(struct config *config, struct diag *diag, struct pipeline **out)
{
	struct pipeline *p = calloc(1, sizeof *p);

	if (!p)
		return -ENOMEM;
	p->health = health_new();
	int rc = tls_identity_new(config->doc, &config->tls, true, p->health, diag, &p->tls);
	p->components = calloc(config->n_components + 1, sizeof *p->components);
	if (!p->health || !p->components || rc == -ENOMEM) {
		rc = -ENOMEM;
		goto out;
	}
	int provided = providers_create(config, p->health, p->tls, diag, p->providers, &p->n_providers);
	if (provided)
		rc = provided;
	for (size_t i = 0; i < config->n_components; i++) {
		p->n_components++;
		int err = component_create(&p->components[i], config, &config->components[i], p->health,
					   p->tls, diag);
		if (err && rc != -ENOMEM)
			rc = err == -ENOMEM ? -ENOMEM : -EINVAL;
	}
	if (rc == 0)
		rc = wire(p, config);
out:
	if (rc) {
		pipeline_free(p);
		return rc;
	}
	*out = p;
	return 0;
}

/* Has something been found there already?  Then what else is wrong there may only follow from it. */
static bool is_blamed(const struct diag *diag, const char *pointer)
{
	for (size_t i = 0; i < diag->n; i++) {
		const char *p = diag->items[i].pointer;
		if (diag->items[i].level == DIAG_ERROR && p && strncmp(p, pointer, strlen(pointer)) == 0)
			return true;
	}
	return false;
}

void pipeline_check(struct config *config, struct diag *diag)
{
	struct tls_identity *tls = NULL;
	struct component providers[TLS_ROLES];
	size_t n;

	if (tls_identity_new(config->doc, &config->tls, !is_blamed(diag, "/security"), NULL, diag, &tls) ==
	    -ENOMEM)
		return;
	providers_create(config, NULL, tls, diag, providers, &n);
	for (size_t i = 0; i < n; i++) {
		component_destroy(&providers[i]);
		component_free(&providers[i]);
	}
	for (size_t i = 0; i < config->n_components; i++) {
		const struct config_component *cc = &config->components[i];
		struct component c;

		if (!cc->complete)
			continue;
		component_create(&c, config, cc, NULL, tls, diag);
		component_destroy(&c);
		component_free(&c);
	}
	tls_identity_free(tls);
}

void pipeline_free(struct pipeline *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n_components; i++)
		component_destroy(&p->components[i]);
	for (size_t i = 0; i < p->n_providers; i++) {
		component_destroy(&p->providers[i]);
		component_free(&p->providers[i]);
	}
	for (size_t i = 0; i < p->n_edges; i++)
		queue_free(p->edges[i].queue);
	/* all batches have come back by now */
	for (size_t i = 0; i < p->n_components; i++)
		component_free(&p->components[i]);
	for (size_t i = 0; i < p->n_workers; i++)
		free(p->workers[i].members);
	free(p->workers);
	free(p->edges);
	positions_free(p->positions);
	free(p->order);
	free(p->components);
	tls_identity_free(p->tls);
	health_free(p->health);
	free(p);
}

/* What a loop does before it sleeps. */
static bool worker_work(void *arg)
{
	struct worker *w = arg;
	enum { ROUNDS = 8 }; /* then other events of the loop have their turn */

	for (int round = 0; round < ROUNDS; round++) {
		bool more = false;
		for (size_t i = 0; i < w->n; i++)
			more |= component_work(w->members[i]);
		for (size_t i = 0; !more && i < w->n; i++)
			more |= component_idle(w->members[i]);
		if (!more)
			return false;
	}
	return true;
}

/* With room for so many components. */
static int add_worker(struct pipeline *p, const char *name, size_t room, struct worker **out)
{
	struct worker *w = *out = &p->workers[p->n_workers];

	w->members = calloc(room, sizeof(*w->members));
	if (!w->members)
		return -ENOMEM;
	p->n_workers++;
	return loop_init(&w->loop, name, worker_work, w);
}

static void join_worker(struct worker *w, struct component *c)
{
	c->loop = &w->loop;
	w->members[w->n++] = c;
}

static struct worker *find_worker(struct pipeline *p, const char *name, const char **names)
{
	for (size_t i = 0; name && i < p->n_workers; i++) {
		if (names[i] && strcmp(names[i], name) == 0)
			return &p->workers[i];
	}
	return NULL;
}

static int assign_workers(struct pipeline *p)
{
	size_t n = p->n_components + p->n_providers;
	const char **names = calloc(n + 1, sizeof *names);
	int rc = -ENOMEM;

	p->workers = calloc(n + 1, sizeof *p->workers);
	if (!names || !p->workers)
		goto out;
	for (size_t i = 0; i < p->n_providers; i++) {
		struct worker *w;
		rc = add_worker(p, p->providers[i].id, 1, &w);
		if (rc)
			goto out;
		join_worker(w, &p->providers[i]);
	}
	for (size_t i = 0; i < p->n_components; i++) {
		struct component *c = p->order[i];
		const char *name = c->config_component->worker;
		struct worker *w = find_worker(p, name, names);
		if (!w) {
			names[p->n_workers] = name;
			rc = add_worker(p, name ? name : c->id, p->n_components, &w);
			if (rc)
				goto out;
		}
		join_worker(w, c);
	}
	rc = 0;
out:
	free(names);
	return rc;
}

static int call_start(void *arg)
{
	return component_start(arg);
}

static int call_stop(void *arg)
{
	component_stop(arg);
	return 0;
}

static int start_one(struct component *c)
{
	const uint64_t patience_ns = 60ull * 1000000000u;
	int rc = loop_call(c->loop, call_start, c, patience_ns);

	if (rc < 0) {
		char why[160];
		log_printf(SS_LOG_ERROR, c->id, "Component failed to start error=%s",
			   log_value(why, sizeof why, strerror(-rc)));
	}
	return rc < 0 ? rc : 0;
}

static int start_components(struct pipeline *p)
{
	int rc = 0;

	for (size_t i = 0; i < p->n_providers && rc == 0; i++)
		rc = start_one(&p->providers[i]);
	for (size_t i = p->n_components; i-- > 0 && rc == 0;)
		rc = start_one(p->order[i]);
	return rc;
}

/* A loop may be late if nobody on it minds. */
static void set_patience(struct pipeline *p)
{
	for (size_t i = 0; i < p->n_workers; i++) {
		struct worker *w = &p->workers[i];
		uint64_t least = w->n ? w->members[0]->patience_ns : 0;
		for (size_t k = 1; k < w->n; k++)
			least = w->members[k]->patience_ns < least ? w->members[k]->patience_ns : least;
		loop_gather(&w->loop, least);
	}
}

int pipeline_start(struct pipeline *p)
{
	int rc = assign_workers(p);

	for (size_t i = 0; rc == 0 && i < p->n_workers; i++)
		rc = loop_run(&p->workers[i].loop);
	if (rc)
		log_error("Cannot start the threads error=%s", strerror(-rc));
	else
		rc = start_components(p);
	if (rc)
		pipeline_stop(p, 5000000000u);
	else
		set_patience(p);
	return rc;
}

void pipeline_drain(struct pipeline *p, void (*on_closed)(void *arg), void *arg)
{
	for (size_t i = 0; i < p->n_components; i++) {
		struct component *c = &p->components[i];
		c->on_closed = on_closed;
		c->on_closed_arg = arg;
	}
	for (size_t i = 0; i < p->n_components; i++)
		atomic_store_explicit(&p->components[i].drain_wanted, true, memory_order_release);
	for (size_t i = 0; i < p->n_workers; i++)
		loop_wake(&p->workers[i].loop);
}

bool pipeline_drained(const struct pipeline *p)
{
	for (size_t i = 0; i < p->n_components; i++) {
		if (!atomic_load_explicit(&p->components[i].closed, memory_order_acquire))
			return false;
	}
	return true;
}

/* 0 or -ETIMEDOUT. */
static int stop_one(struct component *c, uint64_t timeout_ns)
{
	if (!c->loop || !c->loop->running || loop_call(c->loop, call_stop, c, timeout_ns) != -ETIMEDOUT)
		return 0;
	log_printf(SS_LOG_ERROR, c->id, "Component hangs and cannot be stopped");
	return -ETIMEDOUT;
}

int pipeline_stop(struct pipeline *p, uint64_t timeout_ns)
{
	int rc = 0;

	for (size_t i = 0; p->order && i < p->n_components && rc == 0; i++)
		rc = stop_one(p->order[i], timeout_ns);
	for (size_t i = 0; i < p->n_providers && rc == 0; i++)
		rc = stop_one(&p->providers[i], timeout_ns);
	if (rc)
		return rc;
	for (size_t i = 0; i < p->n_workers; i++)
		loop_join(&p->workers[i].loop);
	/* posts may have run after stop */
	for (size_t i = 0; i < p->n_components; i++)
		accounts_publish(&p->components[i].board, &p->components[i].books);
	for (size_t i = 0; i < p->n_edges; i++) {
		struct component *to = p->edges[i].to;
		atomic_fetch_add(&to->discarded, queue_discard(p->edges[i].queue));
	}
	/* tokens may still come to their end, in destroy: nobody is there to be woken */
	for (size_t i = 0; i < p->n_components; i++)
		p->components[i].loop = NULL;
	for (size_t i = 0; i < p->n_providers; i++)
		p->providers[i].loop = NULL;
	for (size_t i = 0; i < p->n_workers; i++)
		loop_done(&p->workers[i].loop);
	return 0;
}

static void answer(void *arg)
{
	struct worker *w = arg;

	atomic_store_explicit(&w->answered_ns, clock_now(), memory_order_relaxed);
}

void pipeline_ping(struct pipeline *p)
{
	const uint64_t patience_ns = 30ull * 1000000000u;
	uint64_t now = clock_now();

	for (size_t i = 0; i < p->n_workers; i++) {
		struct worker *w = &p->workers[i];
		char who[sizeof w->loop.name + 8], why[64];

		snprintf(who, sizeof who, "worker %s", w->loop.name);
		if (atomic_load_explicit(&w->answered_ns, memory_order_relaxed) >= w->asked_ns) {
			health_set(p->health, who, NULL);
			w->asked_ns = now;
			loop_post(&w->loop, answer, w);
		} else if (now - w->asked_ns > patience_ns) {
			snprintf(why, sizeof why, "no sign of life for %llu s",
				 (unsigned long long)((now - w->asked_ns) / 1000000000u));
			health_set(p->health, who, why);
		}
	}
}
