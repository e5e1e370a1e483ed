/* SPDX-License-Identifier: MIT */
#include "core/flow/reload/transition.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/config/rates.h"
#include "core/flow/pipeline.h"
#include "core/flow/placement.h"
#include "core/flow/positions.h"
#include "core/flow/reload/standstill.h"
#include "core/flow/reload/wiring_change.h"
#include "core/flow/watch/watchdog.h"

#define STOP_NS UINT64_C(5000000000)
#define STEP_NS UINT64_C(1000000) /* between two looks at those who drain */

struct transition {
	struct pipeline *p;
	const struct config *config;
	const struct transition_hooks *hooks;
	struct transition_result *result;
	struct wiring_change wiring;
	struct component **leaving; /* in the order data takes */
	size_t n_leaving;
	/* The next tables of the pipeline, and of its workers. */
	struct component **components, **order;
	struct component ***members;
	size_t n_members;
};

/* ---- before anything changes ---- */

static int create_all(struct transition *t, struct diag *diag)
{
	int rc = 0;

	for (size_t i = 0; i < t->config->n_components; i++) {
		struct change *c = &t->wiring.changes[t->wiring.n++];
		c->cc = &t->config->components[i];
		c->fresh = calloc(1, sizeof *c->fresh);
		if (!c->fresh)
			return -ENOMEM;
		int err = component_create(c->fresh, t->config, c->cc, t->p->health, t->p->tls, diag);
		if (err == -ENOMEM)
			return err;
		rc = err ? -EINVAL : rc;
	}
	return rc;
}

static bool is_leaving(const struct transition *t, const struct component *c)
{
	for (size_t i = 0; i < t->wiring.n; i++)
		if (t->wiring.changes[i].now == c)
			return t->wiring.changes[i].kind == CHANGE_REPLACE;
	return true;
}

static struct change *change_of(struct transition *t, const struct component *now)
{
	for (size_t i = 0; i < t->wiring.n; i++)
		if (t->wiring.changes[i].now == now)
			return &t->wiring.changes[i];
	return NULL;
}

static void count(struct transition *t)
{
	struct transition_result *r = t->result;

	for (size_t i = 0; i < t->wiring.n; i++) {
		const enum change_kind kind = t->wiring.changes[i].kind;
		r->kept += kind == CHANGE_NONE;
		r->changed += kind == CHANGE_IN_PLACE;
		r->replaced += kind == CHANGE_REPLACE;
		r->added += kind == CHANGE_ADD;
	}
	r->removed = t->p->n_components - r->kept - r->changed - r->replaced;
}

/* A component comes after all that it reads from. */
static void put_in_order(struct transition *t, size_t i, bool *seen, size_t *n)
{
	const struct change *c = &t->wiring.changes[i];

	if (seen[i])
		return;
	seen[i] = true;
	for (size_t k = 0; k < c->cc->n_inputs; k++)
		put_in_order(t, c->cc->inputs[k].from, seen, n);
	t->order[(*n)++] = change_target(c);
}

static int make_tables(struct transition *t)
{
	const size_t n = t->wiring.n;
	bool *seen = calloc(n + 1, sizeof *seen);
	size_t ordered = 0;

	t->components = calloc(n + 1, sizeof(*t->components));
	t->order = calloc(n + 1, sizeof(*t->order));
	t->leaving = calloc(t->p->n_components + 1, sizeof(*t->leaving));
	if (!seen || !t->components || !t->order || !t->leaving || positions_reserve(t->p->positions, n)) {
		free(seen);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		t->components[i] = change_target(&t->wiring.changes[i]);
		put_in_order(t, i, seen, &ordered);
	}
	free(seen);
	for (size_t i = 0; i < t->p->n_components; i++)
		if (is_leaving(t, t->p->order[i]))
			t->leaving[t->n_leaving++] = t->p->order[i];
	return 0;
}

/* ---- where the new ones live ---- */

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static struct worker *home_beside(struct transition *t, size_t i)
{
	const size_t head = placement_head(t->config, i);

	for (size_t k = 0; k < t->wiring.n; k++)
		if (k != i && t->wiring.changes[k].home && placement_head(t->config, k) == head)
			return t->wiring.changes[k].home;
	return NULL;
}

/* A successor moves in where the old one lived, one that is added beside those of its chain. */
static int find_homes(struct transition *t)
{
	int rc = 0;

	for (size_t i = 0; i < t->wiring.n; i++) {
		struct change *c = &t->wiring.changes[i];
		if (c->now && same_text(c->now->config_component->worker, c->cc->worker))
			c->home = c->now->worker;
	}
	for (size_t i = 0; rc == 0 && i < t->wiring.n; i++) {
		struct change *c = &t->wiring.changes[i];
		if (!c->home)
			c->home = home_beside(t, i);
		if (!c->home)
			rc = pipeline_add_worker(t->p, placement_name(t->config, i), &c->home);
	}
	t->n_members = t->p->n_workers;
	t->members = calloc(t->n_members + 1, sizeof(*t->members));
	if (!t->members)
		return -ENOMEM;
	for (size_t i = 0; rc == 0 && i < t->n_members; i++) {
		t->members[i] = calloc(t->wiring.n + 2, sizeof(**t->members));
		rc = t->members[i] ? 0 : -ENOMEM;
	}
	return rc;
}

/* ---- those who leave ---- */

/* It never ran: those behind it need not wait. */
static void close_outputs(const struct component *c)
{
	for (size_t k = 0; k < c->n_ports; k++) {
		for (size_t i = 0; i < c->ports[k].n; i++) {
			const struct edge *e = c->ports[k].edges[i];
			if (e->continues)
				continue;
			queue_close(e->queue);
			component_wake(e->to);
		}
	}
}

/* In its loop, which takes what is left: 1 if it drains, 0 if it never ran. */
static int begin_to_end(void *arg)
{
	struct component *c = arg;

	if (c->state == COMPONENT_CREATED) {
		close_outputs(c);
		return 0;
	}
	atomic_store_explicit(&c->drain_wanted, true, memory_order_release);
	return 1;
}

/* The same for one with a successor, which takes what is left in their queues. */
static int begin_to_leave(void *arg)
{
	struct component *c = arg;

	c->leaving = c->state != COMPONENT_CREATED;
	return begin_to_end(arg);
}

static int call_stop(void *arg)
{
	component_stop(arg);
	return 0;
}

static bool wait_on(const struct transition *t, uint64_t until_ns)
{
	if (clock_now() >= until_ns || t->hooks->hurry(t->hooks->arg))
		return false;
	t->hooks->wait(t->hooks->arg, STEP_NS);
	return true;
}

static int retire(struct transition *t, struct component *c)
{
	const struct change *change = change_of(t, c);
	const uint64_t until_ns = clock_now() + t->hooks->drain_ns;

	c->heir = change ? change->fresh : NULL;
	int rc = loop_call(c->loop, change ? begin_to_leave : begin_to_end, c, STOP_NS);
	if (rc == 1) {
		component_wake(c);
		while (!atomic_load_explicit(&c->closed, memory_order_acquire) && wait_on(t, until_ns))
			;
		if (!atomic_load_explicit(&c->closed, memory_order_acquire))
			log_printf(SS_LOG_WARN, c->id,
				   "Component has not drained within the time of a reload, what it holds is "
				   "dropped");
	}
	if (rc >= 0)
		rc = loop_call(c->loop, call_stop, c, STOP_NS);
	if (rc < 0) {
		const struct culprit at = loop_culprit(c->loop);
		log_printf(SS_LOG_ERROR, at.component ? at.component : c->id,
			   "Component hangs and cannot be stopped callback=%s error=\"%s\"", at.callback,
			   strerror(-rc));
	}
	return rc < 0 ? -EIO : 0;
}

static void forget_health(const struct component *c)
{
	health_set(c->health, c->id, NULL);
	health_degrade(c->health, c->id, NULL);
	watchdog_forget(c->health, c->id);
}

static void bury(struct transition *t, struct component *c)
{
	const struct change *change = change_of(t, c);

	component_end(c);
	if (change)
		component_succeed(change->fresh, c);
	component_destroy(c);
	if (change)
		positions_hand_over(c, change->fresh);
	forget_health(c);
	c->heir = NULL;
	c->positions = NULL;
	c->worker = NULL;
	c->next_retired = t->p->retired;
	t->p->retired = c;
}

/* ---- the exchange ---- */

static int stand_still(struct transition *t, struct standstill **out)
{
	return standstill_begin(t->p, 2 * STOP_NS, out);
}

static void go_on(struct transition *t, struct standstill *s)
{
	const uint64_t ns = standstill_end(s);

	if (ns > t->result->pause_ns)
		t->result->pause_ns = ns;
}

static void move_in(struct transition *t)
{
	struct pipeline *p = t->p;

	for (size_t i = 0; i < p->n_workers; i++) {
		struct worker *w = p->workers[i];
		if (w->n && w->members[0]->tls_roles)
			continue;
		struct component **members = w->members;
		w->members = t->members[i];
		t->members[i] = members;
		w->n = 0;
		w->slow = NULL;
		if (w->blamed) /* it has returned, or nobody stood still */
			watchdog_forget(p->health, w->blamed);
		w->blamed = NULL;
	}
	for (size_t i = 0; i < t->wiring.n; i++) {
		const struct change *c = &t->wiring.changes[i];
		if (c->kind > CHANGE_IN_PLACE) {
			c->fresh->worker = c->home;
			atomic_store(&c->fresh->loop, &c->home->loop);
		}
	}
	for (size_t i = 0; i < t->wiring.n; i++) {
		struct worker *w = p->order[i]->worker;
		w->members[w->n++] = p->order[i];
	}
}

/* What depends on the graph as a whole. */
static void rewire_services(struct transition *t)
{
	struct pipeline *p = t->p;

	for (size_t i = 0; i < p->n_components; i++)
		p->components[i]->positions = p->positions;
	attributes_settle(p->order, p->n_components);
	positions_rewire(p->positions, p->order, p->n_components);
}

static void exchange(struct transition *t)
{
	struct pipeline *p = t->p;
	struct component **components = p->components, **order = p->order;

	wiring_change_commit(p, &t->wiring);
	for (size_t i = 0; i < t->wiring.n; i++) {
		struct change *c = &t->wiring.changes[i];
		change_target(c)->index = i;
		/* limits of bytes per second are shared by the components of one configuration */
		if (c->now && c->now->rate && c->fresh->rate)
			rate_succeed(c->fresh->rate, c->now->rate, clock_now());
		if (c->kind <= CHANGE_IN_PLACE)
			c->now->rate = c->fresh->rate;
		if (c->kind == CHANGE_IN_PLACE)
			c->now->wants_attributes |= c->fresh->wants_attributes;
		if (c->kind == CHANGE_REPLACE)
			tap_move_all(&c->now->taps, &c->fresh->taps);
	}
	p->components = t->components;
	p->order = t->order;
	p->n_components = t->wiring.n;
	t->components = components;
	t->order = order;
	move_in(t);
	rewire_services(t);
}

/* ---- the new ones ---- */

static int start_fresh(struct transition *t, struct diag *diag)
{
	int rc = 0;

	for (size_t i = t->wiring.n; i-- > 0 && rc == 0;) {
		struct component *c = t->p->order[i];
		if (change_of(t, c) && change_of(t, c)->kind <= CHANGE_IN_PLACE)
			continue;
		rc = pipeline_start_one(c);
		if (rc)
			jdoc_report(t->config->doc, diag, DIAG_ERROR, c->config_component->node, J_VALUE,
				    "\"%s\" cannot be started: %s; the log says more", c->id, strerror(-rc));
	}
	return rc;
}

struct reconfiguring {
	struct component *now, *fresh;
};

static int call_reconfigure(void *arg)
{
	const struct reconfiguring *r = arg;

	call_enter(r->now->id, "reconfigure");
	r->now->desc->reconfigure(r->now->self, r->fresh->self);
	call_leave();
	r->now->touched = true;
	return 0;
}

/* Afterwards it lives by the conf of the new configuration. */
static int reconfigure(struct change *c)
{
	struct reconfiguring *r = malloc(sizeof *r);

	if (!r)
		return -ENOMEM;
	*r = (struct reconfiguring){.now = c->now, .fresh = c->fresh};
	int rc = loop_call(c->now->loop, call_reconfigure, r, 12 * STOP_NS);
	if (rc < 0)
		return rc; /* if it hangs, it may still need r */
	const struct config *before = c->now->config;
	struct component *settings = c->now->settings;
	c->now->config = config_ref(c->fresh->config);
	c->now->config_component = c->fresh->config_component;
	component_destroy(c->fresh); /* with what the instance had until now */
	c->now->settings = c->fresh;
	c->fresh = NULL;
	component_delete(settings);
	config_free((struct config *)(uintptr_t)before);
	component_wake(c->now);
	free(r);
	return 0;
}

static int reconfigure_all(struct transition *t)
{
	int rc = 0;

	for (size_t i = 0; i < t->wiring.n && rc == 0; i++)
		if (t->wiring.changes[i].kind == CHANGE_IN_PLACE)
			rc = reconfigure(&t->wiring.changes[i]);
	return rc;
}

/* ---- the whole ---- */

static int prepare(struct transition *t, struct diag *diag)
{
	t->wiring.changes = calloc(t->config->n_components + 1, sizeof *t->wiring.changes);
	if (!t->wiring.changes)
		return -ENOMEM;
	int rc = create_all(t, diag);
	if (rc == 0)
		rc = wiring_change_prepare(t->p, t->config, &t->wiring);
	if (rc == 0)
		rc = make_tables(t);
	if (rc == 0)
		rc = find_homes(t);
	return rc;
}

/* From here on there is no way back but by another transition.  0 or -EIO. */
static int carry_out(struct transition *t)
{
	const uint64_t until_ns = clock_now() + t->hooks->drain_ns;
	struct standstill *still;
	int rc = 0;

	for (size_t i = 0; i < t->n_leaving && rc == 0; i++)
		rc = retire(t, t->leaving[i]);
	while (rc == 0 && !wiring_change_settled(t->p, &t->wiring) && wait_on(t, until_ns))
		;
	for (size_t i = 0; i < t->n_leaving && rc == 0; i++)
		if (!change_of(t, t->leaving[i]))
			t->hooks->gone(t->hooks->arg, t->leaving[i]);
	if (rc || stand_still(t, &still))
		return -EIO;
	exchange(t);
	go_on(t, still);
	for (size_t i = 0; i < t->n_leaving; i++)
		bury(t, t->leaving[i]);
	config_free((struct config *)(uintptr_t)t->p->config);
	t->p->config = config_ref(t->config);
	return 0;
}

static bool feeds(const struct component *from, uint32_t port, const struct edge *e)
{
	bool found = false;

	for (size_t i = 0; port < from->n_ports && i < from->ports[port].n; i++)
		found |= from->ports[port].edges[i] == e;
	return found;
}

/* Does what the configuration has as input number k of component i get from one end to the other? */
static bool is_attached(const struct pipeline *p, size_t i, size_t k)
{
	const struct config_input *in = &p->config->components[i].inputs[k];
	const struct component *to = p->components[i], *from = p->components[in->from];
	const struct edge *e = k < to->n_inputs ? to->inputs[k] : NULL;

	return e && e->queue && e->from == from && e->to == to && e->port == in->port &&
	       feeds(from, in->port, e);
}

static void report_detached(const struct pipeline *p, size_t i, size_t k, char *edge, size_t size)
{
	const struct config_input *in = &p->config->components[i].inputs[k];
	const struct component *from = p->components[in->from];
	char name[2 * CONFIG_MAX_ID + 64];

	snprintf(name, sizeof name, "%s%s%s -> %s", from->id, in->port ? "." : "",
		 in->port ? from->desc->outputs[in->port] : "", p->components[i]->id);
	log_error("Events do not get through an edge since the configuration was reloaded; restart the "
		  "program, and report this fault edge=\"%s\"",
		  name);
	if (!*edge)
		snprintf(edge, size, "%s", name);
}

/* An edge that was forgotten would lose events, or hold them up, without a word. */
static void check_edges(const struct pipeline *p)
{
	char first[2 * CONFIG_MAX_ID + 64] = "", text[sizeof first + 128];

	for (size_t i = 0; i < p->n_components; i++)
		for (size_t k = 0; k < p->config->components[i].n_inputs; k++)
			if (!is_attached(p, i, k))
				report_detached(p, i, k, first, sizeof first);
	snprintf(text, sizeof text,
		 "events do not get through %s since the configuration was reloaded; restart it", first);
	health_degrade(p->health, "wiring", *first ? text : NULL);
}

static void finish(struct transition *t)
{
	for (size_t i = t->p->n_components; i-- > 0;)
		component_inherit_delay(t->p->order[i]);
	pipeline_settle(t->p, false);
	pipeline_drop_workers(t->p);
	for (size_t i = 0; i < t->p->n_components; i++)
		component_wake(t->p->components[i]);
	check_edges(t->p);
}

static void done(struct transition *t, bool carried_out)
{
	wiring_change_done(t->p, &t->wiring);
	for (size_t i = 0; i < t->wiring.n; i++) {
		const struct change *c = &t->wiring.changes[i];
		if (carried_out && c->kind > CHANGE_IN_PLACE)
			continue;
		if (c->fresh)
			component_destroy(c->fresh);
		component_delete(c->fresh);
	}
	for (size_t i = 0; t->members && i < t->n_members; i++)
		free(t->members[i]);
	free(t->members);
	free(t->components);
	free(t->order);
	free(t->leaving);
	free(t->wiring.changes);
}

static int run(struct pipeline *p, const struct config *config, const struct transition_hooks *hooks,
	       struct diag *diag, struct transition_result *result, bool *begun)
{
	struct transition t = {.p = p, .config = config, .hooks = hooks, .result = result};
	struct standstill *still;

	*begun = false;
	pipeline_settle(p, true);
	int rc = prepare(&t, diag);
	if (rc == 0)
		rc = stand_still(&t, &still);
	if (rc == 0) {
		count(&t);
		*begun = true;
		wiring_change_producers(p, &t.wiring);
		go_on(&t, still);
		rc = carry_out(&t);
	}
	const bool carried_out = *begun && rc == 0;
	if (carried_out)
		rc = start_fresh(&t, diag);
	if (carried_out && rc == 0 && reconfigure_all(&t))
		rc = -EIO;
	if (rc != -EIO) {
		finish(&t);
		done(&t, carried_out);
	}
	return rc;
}

int transition_run(struct pipeline *p, const struct config *config, const struct transition_hooks *hooks,
		   struct diag *diag, struct transition_result *result)
{
	const struct config *before = config_ref(p->config);
	struct transition_result back = {0};
	struct diag ignored;
	bool begun;

	*result = (struct transition_result){0};
	int rc = run(p, config, hooks, diag, result, &begun);
	if (rc && rc != -EIO && begun) {
		diag_init(&ignored);
		log_warn("A component of the new configuration cannot be started, going back to the old one");
		if (run(p, before, hooks, &ignored, &back, &begun)) {
			log_error("The old configuration could not be restored");
			rc = -EIO;
		}
		diag_done(&ignored);
	}
	config_free((struct config *)(uintptr_t)before);
	return rc;
}
