/* SPDX-License-Identifier: MIT */
#include "core/flow/pipeline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/flow/placement.h"
#include "core/flow/positions.h"
#include "core/flow/providers.h"
#include "core/flow/watch/control_watch.h"

/* Depth first from every component to what feeds it: a component comes after all before it. */
static void put_in_order(struct pipeline *p, struct component *c, bool *seen, size_t *n)
{
	size_t i = c->index;

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
		put_in_order(p, p->components[i], seen, &n);
	free(seen);
	attributes_settle(p->order, p->n_components);
	p->positions = positions_new(p->order, p->n_components);
	for (size_t i = 0; i < p->n_components; i++)
		p->components[i]->positions = p->positions;
	return p->positions ? 0 : -ENOMEM;
}

static int connect(struct edge *e, struct component *from, struct component *to,
		   const struct config_input *in)
{
	struct port *port = &from->ports[in->port];
	struct edge **grown = realloc(port->edges, (port->n + 1) * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	port->edges = grown;
	*e = (struct edge){.queue = queue_new(&in->limits), .from = from, .to = to, .port = in->port};
	if (!e->queue)
		return -ENOMEM;
	port->edges[port->n++] = e;
	to->inputs[to->n_inputs++] = e;
	return 0;
}

static int wire(struct pipeline *p, const struct config *config)
{
	for (size_t i = 0; i < p->n_components; i++) {
		struct component *c = p->components[i];
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
			int rc = connect(e++, p->components[cc->inputs[k].from], p->components[i],
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
	p->config = config_ref(config);
	p->tls_config = config_ref(config);
	pthread_mutex_init(&p->lock, NULL);
	p->health = health_new();
	int rc = tls_identity_new(config->doc, &config->tls, true, p->health, diag, &p->tls);
	p->components = calloc(config->n_components + 1, sizeof(*p->components));
	if (!p->health || !p->components || rc == -ENOMEM) {
		rc = -ENOMEM;
		goto out;
	}
	int provided = providers_create(config, p->health, p->tls, diag, p->providers, &p->n_providers);
	if (provided)
		rc = provided;
	for (size_t i = 0; i < config->n_components; i++) {
		struct component *c = p->components[i] = calloc(1, sizeof *c);
		int err = c ? component_create(c, config, &config->components[i], p->health, p->tls, diag)
			    : -ENOMEM;
		if (!c)
			break;
		c->index = p->n_components++;
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

		if (!cc->testable)
			continue;
		component_create(&c, config, cc, NULL, tls, diag);
		component_destroy(&c);
		component_free(&c);
	}
	tls_identity_free(tls);
}

static void worker_free(struct worker *w)
{
	if (w)
		free(w->members);
	free(w);
}

/* Not while anything may still come back to it: batches to its pool, tokens to their end. */
static bool is_done_with(const struct component *c)
{
	return atomic_load_explicit(&c->tokens, memory_order_acquire) == 0 && pool_outstanding(c->pool) == 0;
}

void pipeline_reap(struct pipeline *p)
{
	for (struct component **at = &p->retired, *c; (c = *at);) {
		if (is_done_with(c)) {
			*at = c->next_retired;
			component_delete(c);
		} else {
			at = &c->next_retired;
		}
	}
}

void pipeline_free(struct pipeline *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n_components; i++)
		component_destroy(p->components[i]);
	for (size_t i = 0; i < p->n_providers; i++) {
		component_destroy(&p->providers[i]);
		component_free(&p->providers[i]);
	}
	for (size_t i = 0; i < p->n_edges; i++)
		queue_free(p->edges[i].queue);
	/* all batches have come back by now */
	for (size_t i = 0; i < p->n_components; i++)
		component_delete(p->components[i]);
	for (size_t i = 0; i < p->n_workers; i++)
		worker_free(p->workers[i]);
	free(p->workers);
	free(p->edges);
	pipeline_reap(p);
	config_free((struct config *)(uintptr_t)p->config);
	positions_free(p->positions);
	free(p->order);
	free(p->components);
	tls_identity_free(p->tls);
	config_free((struct config *)(uintptr_t)p->tls_config);
	health_free(p->health);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* ---- workers ---- */

static bool worker_work(void *arg);

/* [lock] With room for so many components; it does not run yet. */
static int add_worker(struct pipeline *p, const char *name, size_t room, struct worker **out)
{
	struct worker **grown = reallocarray(p->workers, p->n_workers + 1, sizeof(*grown));
	struct worker *w = calloc(1, sizeof *w);
	int rc = -ENOMEM;

	if (grown)
		p->workers = grown;
	if (w && (w->members = calloc(room + 1, sizeof(*w->members))))
		rc = grown ? loop_init(&w->loop, name, worker_work, w) : -ENOMEM;
	if (rc) {
		worker_free(w);
		return rc;
	}
	w->pipeline = p;
	p->workers[p->n_workers++] = *out = w;
	return 0;
}

/* [lock] It does not run. */
static void drop_worker(struct pipeline *p, struct worker *w)
{
	size_t i = 0;

	while (p->workers[i] != w)
		i++;
	p->n_workers--;
	for (; i < p->n_workers; i++)
		p->workers[i] = p->workers[i + 1];
	loop_done(&w->loop);
	worker_free(w);
}

static void join_worker(struct worker *w, struct component *c)
{
	c->worker = w;
	c->loop = &w->loop;
	w->members[w->n++] = c;
}

static void leave_worker(struct worker *w, const struct component *c)
{
	size_t i = 0;

	while (w->members[i] != c)
		i++;
	w->n--;
	for (; i < w->n; i++)
		w->members[i] = w->members[i + 1];
}

/* A loop may be as late as each component on it allows. */
static void set_max_delay(struct worker *w)
{
	uint64_t least = w->n ? w->members[0]->max_delay_ns : 0;

	for (size_t i = 1; i < w->n; i++)
		least = w->members[i]->max_delay_ns < least ? w->members[i]->max_delay_ns : least;
	loop_gather(&w->loop, least);
}

/*
 * In the thread of w: give one of its components a loop of its own, for good.  Nobody else knows that loop
 * until it runs, so its watches can be started from here.
 */
static int move_to_own_loop(struct worker *w, struct component *c)
{
	struct pipeline *p = w->pipeline;
	struct worker *own;
	int rc = -ESHUTDOWN;

	pthread_mutex_lock(&p->lock);
	if (!p->settled)
		rc = add_worker(p, c->id, 1, &own);
	if (rc == 0) {
		own->members[own->n++] = c;
		c->worker = own;
		set_max_delay(own);
		loop_service_move(c, &own->loop);
		rc = loop_run(&own->loop);
		if (rc) {
			loop_service_move(c, &w->loop);
			c->worker = w;
			drop_worker(p, own);
		}
	}
	if (rc == 0) {
		leave_worker(w, c);
		set_max_delay(w);
	}
	pthread_mutex_unlock(&p->lock);
	return rc;
}

/*
 * A component that turns out to hold up its loop again and again, by waiting for a disk or by computing,
 * gets a loop of its own: else a source on the same loop cannot read its socket meanwhile.
 */
static void watch_for_slowness(struct worker *w, struct component *c, uint64_t took_ns, uint64_t now_ns)
{
	const uint64_t window_ns = 2000000000, limit_ns = 200000000;

	if (w->n == 1 || c->keeps_loop || c->config_component->worker)
		return;
	if (now_ns - c->slow_since_ns > window_ns) {
		c->slow_since_ns = now_ns;
		c->slow_ns = 0;
	}
	c->slow_ns += took_ns;
	if (c->slow_ns >= limit_ns)
		w->slow = c;
}

static void separate_slow(struct worker *w)
{
	struct component *c = w->slow;
	unsigned slow_ms = (unsigned)(c->slow_ns / 1000000);

	w->slow = NULL;
	int rc = move_to_own_loop(w, c);
	if (rc == 0)
		log_printf(SS_LOG_INFO, c->id,
			   "Component is slow and runs on a loop of its own now busy_ms=%u", slow_ms);
	else if (rc != -ESHUTDOWN)
		log_printf(SS_LOG_WARN, c->id,
			   "Component is slow, but cannot get a loop of its own error=\"%s\"", strerror(-rc));
	c->keeps_loop = c->keeps_loop || (rc && rc != -ESHUTDOWN);
}

static bool call_member(struct worker *w, size_t i, bool (*fn)(struct component *, struct turn *),
			struct turn *turn)
{
	const uint64_t slow_ns = 20000000;
	uint64_t before = turn->now;
	bool more = fn(w->members[i], turn);

	if (turn->now - before >= slow_ns)
		watch_for_slowness(w, w->members[i], turn->now - before, turn->now);
	return more;
}

/* Is there anything for work_round()? */
static bool has_work(const struct worker *w)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->members[i]->touched || component_has_work(w->members[i]))
			return true;
	return false;
}

/* Call each member once that has something to do; true if there may be more.  What comes of being idle is
 * found by the last look before the loop sleeps.  Books are published before the next member is called, as
 * that may block. */
static bool work_round(struct worker *w, struct turn *turn)
{
	bool more = false, told = false;

	for (size_t i = 0; i < w->n; i++)
		if (component_has_work(w->members[i]))
			more |= call_member(w, i, component_work, turn);
		else if (w->members[i]->touched)
			component_publish(w->members[i]);
	for (size_t i = 0; !more && i < w->n; i++)
		if (w->members[i]->touched)
			told |= call_member(w, i, component_idle, turn);
	return more || (told && atomic_load_explicit(&w->loop.asleep, memory_order_relaxed));
}

/* What a loop does before it sleeps: for a while, then timers, descriptors and posts come first. */
static bool worker_work(void *arg)
{
	enum { ROUNDS = 8 };
	const uint64_t turn_ns = 5000000;
	struct worker *w = arg;

	if (!has_work(w) && !w->slow)
		return false;
	struct turn turn = {.now = clock_coarse()};
	bool more = true;
	turn.end = turn.now + turn_ns;
	for (int round = 0; more && round < ROUNDS && turn.now < turn.end; round++)
		more = work_round(w, &turn);
	if (w->slow) {
		separate_slow(w);
		more = true;
	}
	return more;
}

static int assign_workers(struct pipeline *p)
{
	struct worker **by_head = calloc(p->n_components + 1, sizeof(*by_head)), *w;
	int rc = 0;

	if (!by_head)
		rc = -ENOMEM;
	for (size_t i = 0; rc == 0 && i < p->n_providers; i++) {
		rc = add_worker(p, p->providers[i].id, 1, &w);
		if (rc == 0)
			join_worker(w, &p->providers[i]);
	}
	for (size_t i = 0; rc == 0 && i < p->n_components; i++) {
		struct component *c = p->order[i];
		size_t at = c->index, head = placement_head(p->config, at);
		const char *name = placement_name(p->config, at);
		if (!by_head[head])
			rc = add_worker(p, name, p->n_components, &by_head[head]);
		if (rc)
			break;
		join_worker(by_head[head], c);
		log_printf(SS_LOG_DEBUG, c->id, "Component placed loop=%s", name);
	}
	free(by_head);
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

int pipeline_start_one(struct component *c)
{
	const uint64_t start_timeout_ns = 60ull * 1000000000u;

	control_watch_enter(c->id, "start", c->loop);
	int rc = loop_call(c->loop, call_start, c, start_timeout_ns);
	control_watch_leave();
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
		rc = pipeline_start_one(&p->providers[i]);
	for (size_t i = p->n_components; i-- > 0 && rc == 0;)
		rc = pipeline_start_one(p->order[i]);
	return rc;
}

void pipeline_settle(struct pipeline *p, bool settled)
{
	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; !settled && i < p->n_workers; i++)
		set_max_delay(p->workers[i]);
	p->settled = settled;
	pthread_mutex_unlock(&p->lock);
}

int pipeline_add_worker(struct pipeline *p, const char *name, struct worker **out)
{
	pthread_mutex_lock(&p->lock);
	int rc = add_worker(p, name, 0, out);
	if (rc == 0) {
		rc = loop_run(&(*out)->loop);
		if (rc)
			drop_worker(p, *out);
	}
	pthread_mutex_unlock(&p->lock);
	return rc;
}

void pipeline_drop_workers(struct pipeline *p)
{
	for (size_t i = p->n_workers; i-- > 0;) {
		struct worker *w = p->workers[i];
		if (w->n)
			continue;
		loop_join(&w->loop);
		pthread_mutex_lock(&p->lock);
		drop_worker(p, w);
		pthread_mutex_unlock(&p->lock);
	}
}

int pipeline_start(struct pipeline *p)
{
	int rc = assign_workers(p);

	for (size_t i = 0; rc == 0 && i < p->n_workers; i++)
		rc = loop_run(&p->workers[i]->loop);
	if (rc)
		log_error("Cannot start the threads error=%s", strerror(-rc));
	else
		rc = start_components(p);
	if (rc)
		pipeline_stop(p, 5000000000u);
	else
		pipeline_settle(p, false);
	return rc;
}

void pipeline_drain(struct pipeline *p, void (*on_closed)(void *arg), void *arg)
{
	for (size_t i = 0; i < p->n_components; i++) {
		struct component *c = p->components[i];
		c->on_closed = on_closed;
		c->on_closed_arg = arg;
	}
	for (size_t i = 0; i < p->n_components; i++)
		atomic_store_explicit(&p->components[i]->drain_wanted, true, memory_order_release);
	for (size_t i = 0; i < p->n_components; i++)
		component_wake(p->components[i]);
}

bool pipeline_drained(const struct pipeline *p)
{
	for (size_t i = 0; i < p->n_components; i++) {
		if (!atomic_load_explicit(&p->components[i]->closed, memory_order_acquire))
			return false;
	}
	return true;
}

int pipeline_stop_one(struct component *c, uint64_t timeout_ns)
{
	struct loop *l = c->loop;

	if (!l || !l->running)
		return 0;
	/* one wait for each loop: the others on it hang as well */
	if (loop_call(l, call_stop, c, l->hangs ? 0 : timeout_ns) != -ETIMEDOUT)
		return 0;
	const struct culprit at = loop_culprit(l);
	if (!l->hangs)
		log_printf(SS_LOG_ERROR, at.component ? at.component : c->id,
			   "Component hangs and cannot be stopped callback=%s", at.callback);
	l->hangs = true;
	return -ETIMEDOUT;
}

/* Those that hang keep no other from stopping. */
static int stop_components(struct pipeline *p, uint64_t timeout_ns)
{
	int rc = 0, hangs;

	for (size_t i = 0; p->order && i < p->n_components; i++) {
		hangs = pipeline_stop_one(p->order[i], timeout_ns);
		rc = hangs ? hangs : rc;
	}
	for (size_t i = 0; i < p->n_providers; i++) {
		hangs = pipeline_stop_one(&p->providers[i], timeout_ns);
		rc = hangs ? hangs : rc;
	}
	return rc;
}

int pipeline_stop(struct pipeline *p, uint64_t timeout_ns)
{
	pthread_mutex_lock(&p->lock);
	p->settled = true;
	pthread_mutex_unlock(&p->lock);
	int rc = stop_components(p, timeout_ns);
	if (rc)
		return rc;
	for (size_t i = 0; i < p->n_workers; i++)
		loop_join(&p->workers[i]->loop);
	for (size_t i = 0; i < p->n_components; i++)
		component_end(p->components[i]);
	for (size_t i = 0; i < p->n_providers; i++)
		component_end(&p->providers[i]);
	for (size_t i = 0; i < p->n_edges; i++) {
		struct component *to = p->edges[i].to;
		atomic_fetch_add(&to->discarded, queue_discard(p->edges[i].queue));
	}
	for (size_t i = 0; i < p->n_workers; i++)
		loop_done(&p->workers[i]->loop);
	return 0;
}
