/* SPDX-License-Identifier: MIT */
#include "core/flow/component.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/fields.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/loop-libev.h>
#include <semstreams/ext/positions.h>
#include <semstreams/ext/tls.h>
#include <semstreams/ext/tls-provider.h>
#include "core/flow/batch.h"
#include "core/config/diag.h"
#include "core/fields/fields.h"
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/flow/positions.h"
#include "core/flow/streams.h"

static struct component *of(const struct ss_host *host)
{
	return host->impl;
}

/* ---- struct ss_host ---- */

static void host_log(const struct ss_host *host, int32_t level, const char *text)
{
	log_text(level, host->id, text);
}

static void host_config_error(const struct ss_host *host, const char *pointer, const char *text)
{
	struct component *c = of(host);

	if (c->diag)
		config_component_error(c->config, c->config_component, c->diag, pointer, text);
	else
		log_printf(SS_LOG_ERROR, c->id, "Configuration error reported after create pointer=%s",
			   pointer);
}

static int32_t host_claim(const struct ss_host *host, const char *pointer, const char *resource)
{
	struct component *c = of(host);

	return c->diag ? config_claim(c->config, c->config_component, c->diag, pointer, resource) : -EINVAL;
}

static struct ss_batch *host_batch_new(const struct ss_host *host, struct ss_batch *parent, uint32_t rows,
				       size_t bytes)
{
	return batch_new(of(host)->pool, parent, rows, bytes);
}

/* n events leave the component other than by the end of a batch: those of kept batches are held no more. */
static void account_left(struct component *c, uint64_t n)
{
	uint64_t of_held = n < c->books.held ? n : c->books.held;

	c->books.held -= of_held;
	c->credit += of_held;
	c->books.created += n - of_held;
}

/* Events of a processor's own, as results are: they stand for none it was given. */
static bool is_made_here(const struct component *c, const struct ss_batch *batch)
{
	const struct batch *b = (const struct batch *)batch;

	return b->pool == c->pool && !b->parent;
}

/* [any] The fence comes before the loop is read: what was put down before this call is seen either by the
 * loop that is woken or by the one that the component has moved to. */
void component_wake(struct component *c)
{
	atomic_thread_fence(memory_order_seq_cst);
	struct loop *l = atomic_load_explicit(&c->loop, memory_order_relaxed);
	if (l)
		loop_wake(l);
}

/* On one loop the other one is looked at before the loop sleeps. */
static void wake_neighbour(const struct component *c, struct component *other)
{
	if (atomic_load_explicit(&other->loop, memory_order_relaxed) !=
	    atomic_load_explicit(&c->loop, memory_order_relaxed))
		component_wake(other);
}

static void account_emitted(struct component *c, const struct ss_batch *b, bool connected)
{
	if (c->desc->kind == SS_KIND_SOURCE) {
		c->books.in += b->count;
		if (connected)
			c->books.out += b->count;
		else
			c->books.dropped[DROP_UNCONNECTED] += b->count;
	} else if (connected && is_made_here(c, b)) {
		c->books.out += b->count;
		c->books.created += b->count;
	} else if (connected) {
		c->books.out += b->count;
		account_left(c, b->count);
	} /* else: not counted as out, so the end of its input batch finds it filtered */
}

static void host_emit(const struct ss_host *host, uint32_t port, struct ss_batch *b)
{
	struct component *c = of(host);

	c->touched = true;
	if (port >= c->n_ports || b->count == 0)
		return;

	struct port *p = &c->ports[port];
	account_emitted(c, b, p->n > 0);
	if (p->n == 0)
		return;

	b = batch_seal(c->pool, b);
	for (size_t i = 0; i < p->n; i++) {
		struct edge *e = p->edges[i];
		bool news = queue_offer(e->queue, b);
		c->stuck |= queue_stuck(e->queue);
		if (news)
			wake_neighbour(c, e->to);
	}
	batch_unref(b);
}

static void host_drop(const struct ss_host *host, uint32_t reason, uint64_t n)
{
	struct component *c = of(host);

	c->touched = true;
	c->books.dropped[reason < REASONS_MAX ? reason : DROP_ERROR] += n;
	if (c->desc->kind == SS_KIND_SOURCE)
		c->books.in += n;
	else
		account_left(c, n);
}

/* The end of a batch that was in held: what has not left by itself is delivered, filtered or lost. */
static void settle(struct component *c, uint32_t count, int32_t status)
{
	uint64_t paid = count < c->credit ? count : c->credit;
	uint64_t rest = count - paid;

	c->credit -= paid;
	c->books.held -= rest;
	if (status != SS_DELIVERED)
		c->books.dropped[c->stopping ? DROP_SHUTDOWN : DROP_ERROR] += rest;
	else if (c->desc->kind == SS_KIND_SINK)
		c->books.out += rest;
	else
		c->books.filtered += rest;
}

static void end_batch(struct component *c, struct ss_batch *b, int32_t status)
{
	settle(c, b->count, status);
	token_mark(b->token, status);
	batch_unref(b);
}

static void host_done(const struct ss_host *host, struct ss_batch *b, int32_t status)
{
	struct component *c = of(host);

	c->touched = true;
	if (status == SS_FAILED)
		positions_failed(c, b);
	end_batch(c, b, status);
}

static void host_input_ready(const struct ss_host *host)
{
	of(host)->busy = false;
}

static void host_drained(const struct ss_host *host)
{
	struct component *c = of(host);

	if (c->state == COMPONENT_DRAINING)
		c->state = COMPONENT_DRAINED;
}

static int32_t host_track(const struct ss_host *host, struct ss_batch *b, uint64_t cookie,
			  const struct ss_position *position)
{
	struct component *c = of(host);
	/* a position that checkpointers could not use would mislead them */
	struct ss_token *t = token_new(cookie, c->merges ? NULL : position, c->id, component_finish_token, c);

	if (!t)
		return -ENOMEM;
	token_unref(b->token, SS_DELIVERED);
	b->token = t;
	return 0;
}

static int32_t host_position(const struct ss_batch *b, struct ss_position *position, const char **source)
{
	if (!b->token || !b->token->has_position)
		return -ENOENT;
	*position = b->token->position;
	*source = b->token->source;
	return 0;
}

/* Change an entry of /readyz. */
static void report_health(const struct component *c,
			  bool (*change)(struct health *, const char *, const char *), const char *reason)
{
	char who[CONFIG_MAX_ID + sizeof " provider"];

	if (!c->health) /* only checked, or carrying out a command */
		return;
	/* under its own name the host tells whether there is a certificate */
	snprintf(who, sizeof who, "%s%s", c->id, c->tls_roles ? " provider" : "");
	change(c->health, who, reason);
}

static void host_set_health(const struct ss_host *host, const char *reason)
{
	report_health(of(host), health_set, reason);
}

static void host_set_degraded(const struct ss_host *host, const char *reason)
{
	report_health(of(host), health_degrade, reason);
}

static void host_metric_add(const struct ss_host *host, uint32_t metric, int64_t delta)
{
	struct component *c = of(host);

	if (metric < c->desc->n_metrics)
		atomic_fetch_add_explicit(&c->metrics[metric], delta, memory_order_relaxed);
}

static void host_metric_set(const struct ss_host *host, uint32_t metric, int64_t value)
{
	struct component *c = of(host);

	if (metric < c->desc->n_metrics)
		atomic_store_explicit(&c->metrics[metric], value, memory_order_relaxed);
}

static int32_t host_query(const struct ss_host *host, const char *id, uint32_t min_size, struct ss_iface *out)
{
	const struct {
		const char *id;
		const void *vtbl;
		uint32_t size;
	} services[] = {
		{SS_LOOP, &loop_service, sizeof loop_service},
		{SS_LOOP_LIBEV, &loop_libev_service, sizeof loop_libev_service},
		{SS_POSITIONS, &positions_service, sizeof positions_service},
		{SS_FIELDS, &fields_service, sizeof fields_service},
		{SS_TLS, &tls_service, sizeof tls_service},
		{SS_TLS_PUBLISH, &tls_publish_service, sizeof tls_publish_service},
	};

	if (strcmp(id, SS_TLS_PUBLISH) == 0 && !of(host)->tls_roles)
		return -ENOENT;

	for (size_t i = 0; i < sizeof services / sizeof services[0]; i++) {
		if (strcmp(services[i].id, id) != 0)
			continue;
		if (services[i].size < min_size)
			return -ENOTSUP;
		*out = (struct ss_iface){.vtbl = services[i].vtbl, .self = of(host)};
		of(host)->keeps_loop |= services[i].vtbl == &loop_libev_service;
		return 0;
	}
	return -ENOENT;
}

/* ---- life ---- */

static void fill_host(struct component *c)
{
	c->host = (struct ss_host){
		.struct_size = sizeof c->host,
		.impl = c,
		.id = c->id,
		.log = host_log,
		.config_error = host_config_error,
		.batch_new = host_batch_new,
		.batch_ref = batch_ref,
		.batch_unref = batch_unref,
		.emit = host_emit,
		.drop = host_drop,
		.done = host_done,
		.input_ready = host_input_ready,
		.drained = host_drained,
		.track = host_track,
		.position = host_position,
		.token_ref = token_ref,
		.token_unref = token_unref,
		.set_health = host_set_health,
		.set_degraded = host_set_degraded,
		.claim = host_claim,
		.metric_add = host_metric_add,
		.metric_set = host_metric_set,
		.query = host_query,
	};
}

int component_create(struct component *c, const struct config *config, const struct config_component *cc,
		     struct health *health, struct tls_identity *tls, struct diag *diag)
{
	*c = (struct component){
		.desc = cc->desc,
		.id = cc->id,
		.health = health,
		.tls = tls,
		.tls_roles = cc->tls_roles,
		.diag = diag,
		.config = config,
		.config_component = cc,
	};
	fill_host(c);
	posts_init(&c->posts);
	c->pool = pool_new();
	c->metrics = calloc(c->desc->n_metrics + 1, sizeof *c->metrics);
	if (!c->pool || !c->metrics)
		return -ENOMEM;

	size_t errors = diag->errors;
	void *self = NULL;
	int rc = c->desc->create(&c->host, cc->conf, &self);
	c->diag = NULL;
	if (rc == 0) {
		c->self = self;
		return diag->errors == errors ? 0 : -EINVAL;
	}
	if (diag->errors == errors && cc->n_wrong == 0)
		diag_add(diag, DIAG_ERROR, config->doc->file, cc->node->place, NULL, "component \"%s\": %s",
			 c->id, strerror(rc < 0 ? -rc : rc));
	return rc < 0 ? rc : -EINVAL;
}

void component_destroy(struct component *c)
{
	batch_unref(c->refused);
	c->refused = NULL;
	if (c->self)
		c->desc->destroy(c->self);
	c->self = NULL;
}

void component_free(struct component *c)
{
	struct ss_token *t = atomic_exchange(&c->finished_tokens, NULL);

	posts_done(&c->posts);
	while (t) {
		struct ss_token *next = t->next;
		free(t);
		t = next;
	}
	for (size_t i = 0; i < c->n_ports; i++)
		free(c->ports[i].edges);
	free(c->ports);
	free(c->inputs);
	free(c->metrics);
	streams_free(c->streams);
	pool_free(c->pool);
}

/* One that says nothing is as patient as those behind it, which have started before. */
static void inherit_patience(struct component *c)
{
	uint64_t least = UINT64_MAX;

	if (c->patient)
		return;
	for (size_t p = 0; p < c->n_ports; p++) {
		for (size_t i = 0; i < c->ports[p].n; i++) {
			uint64_t ns = c->ports[p].edges[i]->to->patience_ns;
			least = ns < least ? ns : least;
		}
	}
	c->patience_ns = least == UINT64_MAX ? 0 : least;
}

int component_start(struct component *c)
{
	int rc = c->desc->start(c->self);

	c->touched = true;
	if (rc < 0) {
		c->broken = true;
		return rc;
	}
	c->state = COMPONENT_STARTED;
	inherit_patience(c);
	return 0;
}

/* ---- work ---- */

void component_finish_token(void *component, struct ss_token *t)
{
	struct component *c = component;
	struct ss_token *top = atomic_load_explicit(&c->finished_tokens, memory_order_relaxed);

	do {
		t->next = top;
	} while (!atomic_compare_exchange_weak_explicit(&c->finished_tokens, &top, t, memory_order_release,
							memory_order_relaxed));
	component_wake(c);
}

static void tell_acked(struct component *c)
{
	if (!atomic_load_explicit(&c->finished_tokens, memory_order_relaxed))
		return;

	struct ss_token *t = atomic_exchange_explicit(&c->finished_tokens, NULL, memory_order_acquire);
	struct ss_token *oldest = NULL;
	while (t) {
		struct ss_token *next = t->next;
		t->next = oldest;
		oldest = t;
		t = next;
	}
	while (oldest) {
		struct ss_token *next = oldest->next;
		c->touched = true;
		c->desc->acked(c->self, oldest->cookie, atomic_load(&oldest->status));
		free(oldest);
		oldest = next;
	}
}

int component_post(struct component *c, void (*fn)(void *arg), void *arg)
{
	int rc = posts_add(&c->posts, fn, arg);

	if (rc == 0)
		component_wake(c);
	return rc;
}

static bool run_posts(struct component *c)
{
	bool any = posts_run(&c->posts);

	c->touched |= any;
	return any;
}

void component_stop(struct component *c)
{
	run_posts(c);
	/* after draining, the last acknowledgements are still to be told */
	if (c->state != COMPONENT_CREATED)
		tell_acked(c);
	/* also after a failed start: it closes what start had opened by then */
	c->stopping = true;
	if (c->state != COMPONENT_CREATED || c->broken)
		c->desc->stop(c->self);
	loop_service_clear(c);
	tls_service_clear(c);
	c->state = COMPONENT_STOPPED;
	accounts_publish(&c->board, &c->books);
}

void component_end(struct component *c)
{
	run_posts(c);
	accounts_publish(&c->board, &c->books);
	/* tokens may still come to their end, in destroy: nobody is there to be woken */
	c->loop = NULL;
}

/* Move what waits for room; tells a source to pause or go on. */
static void flush_outputs(struct component *c)
{
	if (c->stuck) {
		c->stuck = false;
		for (size_t p = 0; p < c->n_ports; p++) {
			for (size_t i = 0; i < c->ports[p].n; i++) {
				struct edge *e = c->ports[p].edges[i];
				if (!queue_stuck(e->queue))
					continue;
				if (queue_flush(e->queue))
					wake_neighbour(c, e->to);
				c->stuck |= queue_stuck(e->queue);
			}
		}
	}
	if (c->stuck != c->paused && c->desc->kind == SS_KIND_SOURCE &&
	    (c->state == COMPONENT_STARTED || c->state == COMPONENT_DRAINING)) {
		c->paused = c->stuck;
		c->touched = true;
		if (c->paused)
			c->desc->pause(c->self);
		else
			c->desc->resume(c->self);
	}
}

static struct ss_batch *next_batch(struct component *c, uint32_t *port)
{
	if (c->refused) {
		struct ss_batch *b = c->refused;
		*port = c->refused_port;
		c->refused = NULL;
		/* it is counted anew when it is offered */
		c->books.in -= b->count;
		c->books.held -= b->count;
		return b;
	}
	for (size_t tried = 0; tried < c->n_inputs; tried++) {
		size_t i = c->next_input;
		struct edge *e = c->inputs[i];
		bool room = false;
		struct ss_batch *b = queue_take(e->queue, &room);

		c->next_input = i + 1 < c->n_inputs ? i + 1 : 0;
		if (room) /* on the same loop, too: its turn in this round may be over */
			component_wake(e->from);
		if (b) {
			*port = (uint32_t)i;
			return b;
		}
	}
	return NULL;
}

/* A plugin that removes duplicates itself counts them by a reason of its own. */
static uint32_t duplicate_reason(const struct component *c)
{
	for (uint32_t i = 0; c->desc->reasons && c->desc->reasons[i]; i++)
		if (strcmp(c->desc->reasons[i], "duplicate") == 0)
			return i;
	return DROP_DUPLICATE;
}

/* The part of a batch that a checkpointer does not have yet; NULL: nothing is left to be processed. */
static struct ss_batch *without_duplicates(struct component *c, struct ss_batch *b, uint32_t port)
{
	uint32_t count = b->count;
	int rc = positions_cut(c, port, &b);

	if (rc < 0) {
		end_batch(c, b, SS_FAILED);
		return NULL;
	}
	c->books.dropped[duplicate_reason(c)] += count - b->count;
	c->books.held -= count - b->count;
	if (b->count || !count)
		return b;
	batch_unref(b);
	return NULL;
}

static void process_one(struct component *c, struct ss_batch *b, uint32_t port)
{
	c->touched = true;
	c->books.in += b->count;
	c->books.held += b->count;
	if (c->streams && !(b = without_duplicates(c, b, port)))
		return;
	int32_t rc = c->desc->process(c->self, port, b);
	if (rc == SS_BUSY) {
		c->busy = true;
		c->refused = b;
		c->refused_port = port;
	} else if (rc >= 0) {
		positions_accepted(c);
	}
	c->offered = NULL;
	if (rc == SS_KEPT || rc == SS_BUSY)
		return;
	if (rc < 0) {
		char why[160];
		log_printf(SS_LOG_ERROR, c->id, "Batch failed error=%s events=%u",
			   log_value(why, sizeof why, strerror(-rc)), b->count);
		positions_failed(c, b);
	}
	end_batch(c, b, rc < 0 ? SS_FAILED : SS_DELIVERED);
}

static bool inputs_finished(const struct component *c)
{
	if (c->refused)
		return false;
	for (size_t i = 0; i < c->n_inputs; i++) {
		if (!queue_finished(c->inputs[i]->queue))
			return false;
	}
	return c->n_inputs > 0 || atomic_load_explicit(&c->drain_wanted, memory_order_acquire);
}

static void close_outputs(struct component *c)
{
	for (size_t p = 0; p < c->n_ports; p++) {
		for (size_t i = 0; i < c->ports[p].n; i++) {
			struct edge *e = c->ports[p].edges[i];
			queue_close(e->queue);
			wake_neighbour(c, e->to);
		}
	}
}

/* One step of draining; true if that may have made more to do. */
static bool drain(struct component *c)
{
	if (c->state == COMPONENT_STARTED && inputs_finished(c)) {
		c->state = COMPONENT_DRAINING;
		c->touched = true;
		int32_t rc = c->desc->drain(c->self);
		if (rc != SS_BUSY)
			c->state = COMPONENT_DRAINED;
		return true;
	}
	if (c->state == COMPONENT_DRAINED && !c->stuck) {
		c->state = COMPONENT_CLOSED;
		accounts_publish(&c->board, &c->books);
		close_outputs(c);
		atomic_store_explicit(&c->closed, true, memory_order_release);
		if (c->on_closed)
			c->on_closed(c->on_closed_arg);
		return true;
	}
	return false;
}

bool component_work(struct component *c, struct turn *turn)
{
	enum { BATCHES = 16 }; /* then the others on the loop come first */
	bool more = run_posts(c);
	int done = 0;

	if (c->state == COMPONENT_CREATED || c->state == COMPONENT_STOPPED)
		return more;
	tell_acked(c);
	flush_outputs(c);
	while (done < BATCHES && (done == 0 || turn->now < turn->end) && !c->stuck && !c->busy) {
		uint32_t port;
		struct ss_batch *b = next_batch(c, &port);
		if (!b)
			break;
		process_one(c, b, port);
		flush_outputs(c);
		turn->now = clock_coarse();
		done++;
	}
	more |= done == BATCHES || (done > 0 && turn->now >= turn->end) || drain(c);
	if (c->touched)
		accounts_publish(&c->board, &c->books);
	return more;
}

bool component_idle(struct component *c, struct turn *turn)
{
	if (!c->touched)
		return false;
	c->touched = false;
	if (!c->desc->idle || (c->state != COMPONENT_STARTED && c->state != COMPONENT_DRAINING))
		return false;
	c->desc->idle(c->self);
	turn->now = clock_coarse();
	accounts_publish(&c->board, &c->books);
	return true;
}

int64_t component_metric(const struct component *c, uint32_t row)
{
	return atomic_load_explicit(&c->metrics[row], memory_order_relaxed);
}

const char *component_reason(const struct component *c, uint32_t reason)
{
	static const char *const own[] = {"error", "unconnected", "shutdown", "duplicate"};

	if (reason == DROP_DUPLICATE && (!c->streams || duplicate_reason(c) != DROP_DUPLICATE))
		return NULL;
	if (reason >= REASONS_MAX)
		return reason < DROP_REASONS ? own[reason - REASONS_MAX] : NULL;
	for (uint32_t i = 0; c->desc->reasons && c->desc->reasons[i]; i++) {
		if (i == reason)
			return c->desc->reasons[i];
	}
	return NULL;
}
