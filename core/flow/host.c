/* SPDX-License-Identifier: MIT */
/*
 * host - struct ss_host: what a plugin can ask of the host, with the books of what it does.  Rules of the
 * plugin ABI that cost nothing to check are always checked, the rest in strict mode; a call that breaks one
 * has no effect, so that the books stay true.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/ext/fields.h>
#include <semstreams/ext/handover.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/loop-libev.h>
#include <semstreams/ext/peers.h>
#include <semstreams/ext/positions.h>
#include <semstreams/ext/rate.h>
#include <semstreams/ext/tls.h>
#include <semstreams/ext/tls-provider.h>
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/config/diag.h"
#include "core/fields/fields.h"
#include "core/flow/batch.h"
#include "core/flow/component.h"
#include "core/flow/positions.h"

static struct component *of(const struct ss_host *host)
{
	return host->impl;
}

void component_misuse(const struct component *c, const char *rule)
{
	log_printf(SS_LOG_ERROR, c->id, "Plugin broke a rule of the plugin interface type=%s rule=\"%s\"",
		   c->desc->type, rule);
}

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

static bool is_inside(const struct ss_batch *memory, const struct ss_event *e)
{
	uintptr_t at = (uintptr_t)e->data, begin = (uintptr_t)memory->data;

	return memory->data && at >= begin && at - begin <= memory->size &&
	       e->len <= memory->size - (at - begin);
}

/* Do the rows lie in the memory of the batch or of its ancestors? */
static bool rows_are_inside(const struct ss_batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++) {
		const struct ss_event *e = &batch->events[i];
		const struct batch *b = (const struct batch *)batch;
		while (b && !is_inside(&b->pub, e))
			b = b->parent;
		if (!b && e->len)
			return false;
	}
	return true;
}

/* Do the rows name attributes that the batch has? */
static bool rows_have_attributes(const struct ss_batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++)
		if (batch->events[i].attributes > batch->n_attributes)
			return false;
	return true;
}

static bool is_own_thread(const struct component *c)
{
	const struct loop *l = c->loop;

	return !l || atomic_load(&l->call) == &call_here;
}

static bool is_misused_batch(const struct component *c, uint32_t port, const struct ss_batch *b)
{
	const char *rule = NULL;

	if (!b)
		rule = "emit() needs a batch";
	else if (port >= c->n_ports)
		rule = "emit() is for outputs that the type has";
	else if (b->count > b->capacity)
		rule = "a batch has no more rows than its capacity";
	else if (c->state >= COMPONENT_CLOSED)
		rule = "nothing is emitted after drain() has ended";
	else if (c->config->strict && !is_own_thread(c))
		rule = "emit() is called in the thread of the instance only";
	else if (c->config->strict && !rows_are_inside(b))
		rule = "rows point into the memory of their batch or of its parents";
	else if (c->config->strict && !rows_have_attributes(b))
		rule = "rows name attributes that are attached to their batch";
	if (rule)
		component_misuse(c, rule);
	return rule != NULL;
}

static void host_emit(const struct ss_host *host, uint32_t port, struct ss_batch *b)
{
	struct component *c = of(host);

	c->touched = true;
	if (is_misused_batch(c, port, b) || b->count == 0)
		return;

	struct port *p = &c->ports[port];
	tap_pass(&c->taps, port, b);
	account_emitted(c, b, p->n > 0);
	if (p->n == 0)
		return;

	b = batch_seal(c->pool, b);
	for (size_t i = 0; i < p->n; i++) {
		struct edge *e = p->edges[i];
		bool news = queue_offer(e->queue, b);
		c->stuck |= queue_stuck(e->queue);
		if (news)
			component_wake_neighbour(c, e->to);
	}
	batch_unref(b);
}

static int32_t host_output_read(const struct ss_host *host, uint32_t port)
{
	const struct component *c = of(host);

	return port < c->n_ports && c->ports[port].n > 0;
}

static void host_drop(const struct ss_host *host, uint32_t reason, uint64_t n)
{
	struct component *c = of(host);

	c->touched = true;
	if (reason >= c->n_reasons)
		component_misuse(c, "drop() is for reasons that the type has");
	if (c->config->strict && c->desc->kind != SS_KIND_SOURCE && n > c->books.held)
		component_misuse(c, "drop() counts events of the batches at hand only");
	c->books.dropped[reason < c->n_reasons ? DROP_OWN + reason : DROP_ERROR] += n;
	if (c->desc->kind == SS_KIND_SOURCE)
		c->books.in += n;
	else
		account_left(c, n);
}

static void host_done(const struct ss_host *host, struct ss_batch *b, int32_t status)
{
	struct component *c = of(host);

	c->touched = true;
	if (status < SS_DELIVERED || status > SS_FAILED) {
		component_misuse(c, "done() knows SS_DELIVERED, SS_DROPPED and SS_FAILED");
		status = SS_FAILED;
	}
	if (b && b == c->at_hand) {
		c->at_hand = NULL; /* finished before process() returns */
	} else if (!b || !kept_remove(&c->kept, b)) {
		component_misuse(c, "done() is called once for each batch that is kept");
		return;
	}
	if (status == SS_FAILED)
		positions_failed(c, b);
	component_end_batch(c, b, status);
}

static void host_input_ready(const struct ss_host *host)
{
	struct component *c = of(host);

	c->busy = false;
	atomic_store_explicit(&c->busy_since_ns, 0, memory_order_relaxed);
}

static void host_drained(const struct ss_host *host)
{
	struct component *c = of(host);

	if (c->state == COMPONENT_DRAINING)
		c->state = COMPONENT_DRAINED;
}

/* [any] A token of ours is at its end: acked will be called. */
static void finish_token(void *component, struct ss_token *t)
{
	struct component *c = component;
	struct ss_token *top = atomic_load_explicit(&c->finished_tokens, memory_order_relaxed);

	do {
		t->next = top;
	} while (!atomic_compare_exchange_weak_explicit(&c->finished_tokens, &top, t, memory_order_release,
							memory_order_relaxed));
	component_wake(c);
	/* last: with the last token a component that was replaced is gone */
	atomic_fetch_sub_explicit(&c->tokens, 1, memory_order_release);
}

static int32_t host_track(const struct ss_host *host, struct ss_batch *b, uint64_t cookie,
			  const struct ss_position *position)
{
	struct component *c = of(host);
	/* a position that checkpointers could not use would mislead them */
	struct ss_token *t = token_new(cookie, c->merges ? NULL : position, c->id, finish_token, c);

	if (!t)
		return -ENOMEM;
	atomic_fetch_add_explicit(&c->tokens, 1, memory_order_relaxed);
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

/* One of two bits: whether the component says itself why it cannot work. */
static void note_reason(struct component *c, unsigned bit, const char *reason)
{
	if (reason)
		atomic_fetch_or_explicit(&c->gave_reasons, bit, memory_order_relaxed);
	else
		atomic_fetch_and_explicit(&c->gave_reasons, ~bit, memory_order_relaxed);
}

static void host_set_health(const struct ss_host *host, const char *reason)
{
	note_reason(of(host), 1, reason);
	report_health(of(host), health_set, reason);
}

static void host_set_degraded(const struct ss_host *host, const char *reason)
{
	note_reason(of(host), 2, reason);
	report_health(of(host), health_degrade, reason);
}

static void host_metric_add(const struct ss_host *host, uint32_t metric, int64_t delta)
{
	struct component *c = of(host);

	if (metric >= c->desc->n_metrics)
		component_misuse(c, "metric_add() is for metrics that the type has");
	else
		atomic_fetch_add_explicit(&c->metrics[metric], delta, memory_order_relaxed);
}

static void host_metric_set(const struct ss_host *host, uint32_t metric, int64_t value)
{
	struct component *c = of(host);

	if (metric >= c->desc->n_metrics)
		component_misuse(c, "metric_set() is for metrics that the type has");
	else
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
		{SS_ATTRIBUTES, &attribute_service, sizeof attribute_service},
		{SS_HANDOVER, &handover_service, sizeof handover_service},
		{SS_PEERS, &peers_service, sizeof peers_service},
		{SS_RATE, &rate_service, sizeof rate_service},
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

void host_fill(struct component *c)
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
		.metric_add = host_metric_add,
		.metric_set = host_metric_set,
		.query = host_query,
		.claim = host_claim,
		.output_read = host_output_read,
	};
}
