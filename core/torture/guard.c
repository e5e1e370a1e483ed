/* SPDX-License-Identifier: MIT */
#include "core/torture/guard.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/ext/fields.h>
#include <semstreams/ext/tls-provider.h>
#include "core/fields/fields.h"
#include "core/flow/services/attributes.h"
#include "core/torture/allocation.h"
#include "core/torture/ledger.h"
#include "core/torture/lot.h"
#include "core/torture/watched.h"

#define START_NS UINT64_C(1000000000000)
#define OUTSIDE  "a thread of its own"

/* ---- entering the plugin ---- */

void guard_enter(struct guard *g, const char *callback)
{
	(void)g;
	atomic_store(&ledger()->callback, callback);
	atomic_store(&ledger()->since_ns, ledger_now());
	watched_mark(callback);
	allocation_window(true);
}

void guard_leave(struct guard *g)
{
	allocation_window(false);
	atomic_store(&ledger()->since_ns, 0);
	if (g->examines)
		process_examine();
}

bool guard_is_inst(struct guard *g, const char *function)
{
	if (pthread_equal(g->thread, pthread_self()))
		return true;
	ledger_add(RULE_EMIT_WRONG_THREAD, OUTSIDE, "%s() was called from a thread that is not the loop's",
		   function);
	return false;
}

static struct guard *of(const struct ss_host *host)
{
	return host->impl;
}

/* ---- batches ---- */

static struct ss_batch *host_batch_new(const struct ss_host *host, struct ss_batch *parent, uint32_t rows,
				       size_t bytes)
{
	struct guard *g = of(host);

	if (!guard_is_inst(g, "batch_new") || allocation_refused())
		return NULL;
	struct lot *p = parent ? lot_find(g, parent) : NULL;
	if (parent && (!p || p->gone)) {
		ledger_add(RULE_BATCH_KEPT, NULL, "batch_new() was given a parent that is no batch any more");
		return NULL;
	}
	pthread_mutex_lock(&g->lock);
	struct lot *l = lot_new(g, p, rows, bytes);
	pthread_mutex_unlock(&g->lock);
	return l->pub;
}

static void host_batch_ref(struct ss_batch *b)
{
	struct guard *g;
	struct lot *l = lot_find_any(b, &g);

	if (!l || l->gone) {
		ledger_add(RULE_BATCH_KEPT, NULL, "batch_ref() was called for a batch that %s",
			   l ? "has been given back" : "the host did not make");
		return;
	}
	pthread_mutex_lock(&g->lock);
	l->refs++;
	pthread_mutex_unlock(&g->lock);
}

static void host_batch_unref(struct ss_batch *b)
{
	struct guard *g;
	struct lot *l = b ? lot_find_any(b, &g) : NULL;

	if (!b)
		return;
	if (!l || l->gone) {
		ledger_add(RULE_BATCH_RELEASED_TWICE, NULL, "batch_unref() was called for a batch that %s",
			   l ? "nobody holds any more" : "the host did not make");
		return;
	}
	pthread_mutex_lock(&g->lock);
	if (l->is_input && l->refs == 1 && !l->finished)
		ledger_add(RULE_BATCH_RELEASED_TWICE, NULL,
			   "batch_unref() was called for the host's own reference to a batch");
	else
		lot_release(l);
	pthread_mutex_unlock(&g->lock);
}

/* ---- emit ---- */

uint64_t guard_mix(uint64_t sum, const void *data, size_t len)
{
	const uint8_t *at = data;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ at[i]) * 0x100000001b3U;
	return sum;
}

static bool is_inside(const struct lot *l, const struct ss_event *e)
{
	for (; l; l = l->parent) {
		uintptr_t at = (uintptr_t)e->data, from = (uintptr_t)l->pub->data;
		if (l->pub->data && at >= from && at - from <= l->pub->size &&
		    e->len <= l->pub->size - (at - from))
			return true;
	}
	return e->len == 0;
}

static bool rows_are_good(const struct lot *l)
{
	for (uint32_t i = 0; i < l->pub->count; i++) {
		const struct ss_event *e = &l->pub->events[i];
		if (!e->data && e->len) {
			ledger_add(RULE_EMIT_NULL, NULL, "row %u of %u was emitted with %u bytes at NULL", i,
				   l->pub->count, e->len);
			return false;
		}
		if (!is_inside(l, e) || e->attributes > l->pub->n_attributes) {
			ledger_add(RULE_EMIT_FOREIGN_MEMORY, NULL, "row %u of %u was emitted with %s", i,
				   l->pub->count,
				   is_inside(l, e) ? "attributes that are not attached to its batch"
						   : "data that lie outside the memory of its batch");
			return false;
		}
	}
	return true;
}

static uint32_t n_outputs(const struct ss_component *d)
{
	uint32_t n = 0;

	if (d->kind != SS_KIND_SOURCE && d->kind != SS_KIND_PROCESSOR)
		return 0;
	while (d->outputs && d->outputs[n])
		n++;
	return d->outputs ? n : 1;
}

/* Emitted while process() is at a batch: is it of that batch? */
static void note_use(struct guard *g, const struct lot *l)
{
	const struct lot *root = l;

	while (root->parent && root != g->offered)
		root = root->parent;
	if (root == g->offered) {
		g->used += l->pub->count;
		return;
	}
	const struct ss_batch *in = g->offered->pub;
	for (uint32_t i = 0; i < l->pub->count; i++)
		for (uint32_t k = 0; k < in->count; k++)
			if (in->events[k].len && in->events[k].len == l->pub->events[i].len &&
			    memcmp(in->events[k].data, l->pub->events[i].data, in->events[k].len) == 0) {
				g->used++;
				break;
			}
}

static bool may_emit(struct guard *g, uint32_t port, struct lot *l)
{
	if (!l || l->gone)
		ledger_add(RULE_EMIT_NULL, NULL, "emit() was called with %s",
			   l ? "a batch that has been given back" : "a batch that the host did not make");
	else if (g->phase != GUARD_STARTED && g->phase != GUARD_DRAINING)
		ledger_add(RULE_EMIT_AFTER_STOP, NULL, "%u events were emitted %s", l->pub->count,
			   g->phase < GUARD_STARTED    ? "before start() had returned"
			   : g->phase == GUARD_DRAINED ? "after drain() had ended"
						       : "in or after stop()");
	else if (port >= n_outputs(g->desc))
		ledger_add(RULE_EMIT_UNKNOWN_PORT, NULL, "a batch was emitted to output %u of %u", port,
			   n_outputs(g->desc));
	else if (l->pub->count > l->pub->capacity)
		ledger_add(RULE_EMIT_OVER_CAPACITY, NULL,
			   "%u rows were emitted in a batch that has room for %u", l->pub->count,
			   l->pub->capacity);
	else
		return rows_are_good(l);
	return false;
}

static void host_emit(const struct ss_host *host, uint32_t port, struct ss_batch *b)
{
	struct guard *g = of(host);

	if (!guard_is_inst(g, "emit"))
		return;
	if (!b) {
		ledger_add(RULE_EMIT_NULL, NULL, "emit() was called with NULL");
		return;
	}
	struct lot *l = lot_find(g, b);
	if (!may_emit(g, port, l))
		return;
	if (g->offered)
		note_use(g, l);
	g->emitted += b->count;
	for (uint32_t i = 0; i < b->count; i++)
		g->digest = guard_mix(guard_mix(g->digest, &port, sizeof port), b->events[i].data,
				      b->events[i].len);
	pthread_mutex_lock(&g->lock);
	l->emitted = true;
	l->refs++;
	lot_protect(l);
	const uint32_t n = sizeof g->downstream / sizeof g->downstream[0];
	struct lot *oldest = g->downstream[g->n_downstream % n];
	g->downstream[g->n_downstream++ % n] = l;
	lot_release(oldest);
	pthread_mutex_unlock(&g->lock);
}

/* ---- the end of batches ---- */

static void host_drop(const struct ss_host *host, uint32_t reason, uint64_t n)
{
	struct guard *g = of(host);
	uint32_t reasons = 0;

	if (!guard_is_inst(g, "drop"))
		return;
	while (g->desc->reasons && g->desc->reasons[reasons])
		reasons++;
	if (reason >= reasons) {
		ledger_add(RULE_DROP_UNKNOWN, NULL, "drop() was called with reason %u of %u", reason,
			   reasons);
		return;
	}
	const uint64_t given = g->accepted + (g->offered ? g->offered->pub->count : 0);
	g->dropped += n;
	g->digest = guard_mix(guard_mix(g->digest, &reason, sizeof reason), &n, sizeof n);
	if (g->desc->kind != SS_KIND_SOURCE && g->dropped > given) {
		ledger_add(RULE_DROP_UNKNOWN, NULL,
			   "drop() has counted %llu events as lost, of %llu that process() was given",
			   (unsigned long long)g->dropped, (unsigned long long)given);
		g->dropped = 0;
	}
	if (g->offered && g->held == 0)
		g->used += n;
}

static void host_done(const struct ss_host *host, struct ss_batch *b, int32_t status)
{
	struct guard *g = of(host);

	if (!guard_is_inst(g, "done"))
		return;
	struct lot *l = lot_find(g, b);
	if (l && l->finished) {
		ledger_add(RULE_DONE_TWICE, NULL, "done() was called for a batch that was finished already");
		return;
	}
	if (!l || !l->is_input || (!l->kept && l != g->offered)) {
		ledger_add(RULE_DONE_UNASKED, NULL, "done() was called for %s",
			   !l             ? "what is no batch of the host's"
			   : !l->is_input ? "a batch of the plugin's own"
					  : "a batch that was refused");
		return;
	}
	if (status < SS_DELIVERED || status > SS_FAILED) {
		ledger_add(RULE_RETURN_UNKNOWN, NULL, "done() was called with status %d", status);
		status = SS_FAILED;
	}
	g->digest = guard_mix(g->digest, &status, sizeof status);
	g->finished += l->pub->count;
	l->finished = true;
	pthread_mutex_lock(&g->lock);
	if (l->pub->token)
		l->pub->token->worst = status > l->pub->token->worst ? status : l->pub->token->worst;
	if (l->kept) {
		l->kept = false;
		g->held--;
		lot_release(l);
	}
	pthread_mutex_unlock(&g->lock);
}

static void host_input_ready(const struct ss_host *host)
{
	struct guard *g = of(host);

	if (guard_is_inst(g, "input_ready"))
		g->is_ready = true;
}

static void host_drained(const struct ss_host *host)
{
	struct guard *g = of(host);

	if (guard_is_inst(g, "drained"))
		g->is_drained = true;
}

/* ---- tokens ---- */

static int32_t host_track(const struct ss_host *host, struct ss_batch *b, uint64_t cookie,
			  const struct ss_position *position)
{
	struct guard *g = of(host);

	if (!guard_is_inst(g, "track"))
		return -EINVAL;
	const struct lot *l = lot_find(g, b);
	if (g->desc->kind != SS_KIND_SOURCE || !l || l->gone || l->emitted || b->token) {
		ledger_add(RULE_TRACK_MISUSED, NULL, "track() was called %s",
			   g->desc->kind != SS_KIND_SOURCE ? "by a component that is no source"
			   : !l || l->gone                 ? "for what is no batch"
			   : l->emitted                    ? "after emit()"
							   : "twice for a batch");
		return -EINVAL;
	}
	if (allocation_refused())
		return -ENOMEM;
	struct ss_token *t = token_new(g);
	t->cookie = cookie;
	t->of_source = true;
	t->has_position = position != NULL;
	if (position)
		t->position = *position;
	b->token = t;
	return 0;
}

static int32_t host_position(const struct ss_batch *b, struct ss_position *position, const char **source)
{
	if (!b->token || !b->token->has_position)
		return -ENOENT;
	*position = b->token->position;
	*source = "source";
	return 0;
}

static void host_token_ref(struct ss_token *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->guard->lock);
	t->refs++;
	pthread_mutex_unlock(&t->guard->lock);
}

static void host_token_unref(struct ss_token *t, int32_t status)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->guard->lock);
	token_drop(t, status);
	pthread_mutex_unlock(&t->guard->lock);
}

void guard_tell_acked(struct guard *g, struct ss_token *t)
{
	guard_enter(g, "acked");
	g->desc->acked(g->self, t->cookie, t->worst);
	guard_leave(g);
}

/* ---- the rest of the host ---- */

static void keep_error(struct guard *g, const char *where, const char *text)
{
	pthread_mutex_lock(&g->lock);
	snprintf(g->error, sizeof g->error, "%s%s%s", where, *where ? ": " : "", text);
	pthread_mutex_unlock(&g->lock);
}

static void host_log(const struct ss_host *host, int32_t level, const char *text)
{
	if (level <= SS_LOG_ERROR)
		keep_error(of(host), "", text);
}

static void host_config_error(const struct ss_host *host, const char *pointer, const char *text)
{
	keep_error(of(host), pointer, text);
}

static void host_set_reason(const struct ss_host *host, const char *reason)
{
	(void)reason;
	guard_is_inst(of(host), "set_health");
}

static void host_metric(const struct ss_host *host, uint32_t metric, int64_t value)
{
	(void)value;
	if (metric >= of(host)->desc->n_metrics)
		ledger_add(RULE_METRIC_NAME, NULL, "metric %u of %u was counted", metric,
			   of(host)->desc->n_metrics);
}

static int32_t host_claim(const struct ss_host *host, const char *pointer, const char *resource)
{
	(void)host, (void)pointer, (void)resource;
	return 0;
}

static int32_t host_output_read(const struct ss_host *host, uint32_t port)
{
	return port < n_outputs(of(host)->desc);
}

static void attributes_want(void *self)
{
	(void)self;
}

static int32_t attributes_wanted(void *self)
{
	return guard_is_inst(self, "wanted");
}

static int32_t attributes_make_set(void *self, const struct ss_attributes *values,
				   const struct ss_attributes **out)
{
	(void)self;
	return allocation_refused() ? -ENOMEM : attributes_make(values, out);
}

static void attributes_ref_set(void *self, const struct ss_attributes *set)
{
	(void)self;
	attributes_ref(set);
}

static void attributes_unref_set(void *self, const struct ss_attributes *set)
{
	(void)self;
	attributes_unref(set);
}

static int32_t attributes_attach_set(void *self, struct ss_batch *b, const struct ss_attributes *set)
{
	struct lot *l = guard_is_inst(self, "attach") ? lot_find(self, b) : NULL;

	return !l || l->gone || l->emitted ? -EINVAL : attributes_attach(b, &l->attributes, set);
}

static const struct ss_attribute_service attribute_service = {
	.struct_size = sizeof attribute_service,
	.want = attributes_want,
	.wanted = attributes_wanted,
	.make = attributes_make_set,
	.ref = attributes_ref_set,
	.unref = attributes_unref_set,
	.attach = attributes_attach_set,
};

/* A provider's certificates are taken as they are. */
static int32_t tls_publish(void *self, const char *source, const char *chain_pem, const char *key_pem,
			   char *why, size_t why_size)
{
	(void)source, (void)chain_pem, (void)key_pem, (void)why, (void)why_size;
	return guard_is_inst(self, "publish") ? 0 : -EINVAL;
}

static int32_t tls_publish_signer(void *self, const char *source, const char *chain_pem,
				  const struct ss_tls_signer *signer, char *why, size_t why_size)
{
	(void)source, (void)chain_pem, (void)signer, (void)why, (void)why_size;
	return guard_is_inst(self, "publish_signer") ? 0 : -EINVAL;
}

static void tls_unavailable(void *self, const char *reason)
{
	(void)reason;
	guard_is_inst(self, "unavailable");
}

static const char *const *tls_ca_files(void *self)
{
	static const char *const none[] = {NULL};

	(void)self;
	return none;
}

static const struct ss_tls_publish tls_publish_service = {
	.struct_size = sizeof tls_publish_service,
	.publish_signer = tls_publish_signer,
	.publish = tls_publish,
	.unavailable = tls_unavailable,
	.ca_files = tls_ca_files,
};

/* Other services are not there, as in a host that was built without them. */
static int32_t host_query(const struct ss_host *host, const char *id, uint32_t min_size, struct ss_iface *out)
{
	struct guard *g = of(host);
	const struct {
		const char *id;
		struct ss_iface iface;
		uint32_t size;
	} services[] = {
		{SS_ATTRIBUTES, {&attribute_service, g}, sizeof attribute_service},
		{SS_FIELDS, {&fields_service, NULL}, fields_service.struct_size},
		{SS_LOOP, {&guard_loop, g}, guard_loop.struct_size},
		{SS_LOOP_LIBEV, {&guard_loop_libev, g}, guard_loop_libev.struct_size},
		{SS_POSITIONS, {&guard_positions, g}, guard_positions.struct_size},
		{SS_TLS_PUBLISH,
		 {&tls_publish_service, g},
		 g->desc->kind == SS_KIND_PROVIDER ? tls_publish_service.struct_size : 0},
	};

	for (size_t i = 0; i < sizeof services / sizeof services[0]; i++) {
		if (strcmp(id, services[i].id) != 0)
			continue;
		if (services[i].size == 0)
			return -ENOENT;
		if (services[i].size < min_size)
			return -ENOTSUP;
		*out = services[i].iface;
		return 0;
	}
	return -ENOENT;
}

void guard_init(struct guard *g, const struct ss_component *desc)
{
	*g = (struct guard){
		.host = {.struct_size = sizeof g->host,
			 .impl = g,
			 .id = "checked",
			 .log = host_log,
			 .config_error = host_config_error,
			 .batch_new = host_batch_new,
			 .batch_ref = host_batch_ref,
			 .batch_unref = host_batch_unref,
			 .emit = host_emit,
			 .drop = host_drop,
			 .done = host_done,
			 .input_ready = host_input_ready,
			 .drained = host_drained,
			 .track = host_track,
			 .position = host_position,
			 .token_ref = host_token_ref,
			 .token_unref = host_token_unref,
			 .set_health = host_set_reason,
			 .set_degraded = host_set_reason,
			 .claim = host_claim,
			 .metric_add = host_metric,
			 .metric_set = host_metric,
			 .query = host_query,
			 .output_read = host_output_read},
		.desc = desc,
		.thread = pthread_self(),
		.now_ns = START_NS,
	};
	g->last_post = &g->posts;
	pthread_mutex_init(&g->lock, NULL);
	pthread_mutex_init(&g->post_lock, NULL);
	g->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (g->wake < 0)
		guard_fatal("no descriptor for the loop");
	lots_begin(g);
}

/* ---- the end ---- */

/* What is still held by the plugin. */
static void report_leaks(struct guard *g)
{
	uint32_t batches = 0, tokens = 0;
	const char *made_in = "";

	for (const struct lot *l = g->lots; l; l = l->next) {
		if (l->gone || l->refs <= 0)
			continue;
		if (l->kept && l->refs == 1 && !g->was_drained) { /* the host fails it */
			if (l->pub->token)
				l->pub->token->refs--;
			continue;
		}
		batches++;
		made_in = l->is_input ? "process" : l->made_in;
	}
	for (const struct ss_token *t = g->tokens; t; t = t->next)
		tokens += t->refs > 0;
	if (batches)
		ledger_add(RULE_BATCH_LEAK, made_in,
			   "%u batch%s not been given back when destroy() had returned", batches,
			   batches == 1 ? " had" : "es had");
	else if (tokens)
		ledger_add(RULE_TOKEN_LEAK, "process",
			   "%u token%s not been given back when destroy() had returned", tokens,
			   tokens == 1 ? " had" : "s had");
}

void guard_done(struct guard *g)
{
	const uint32_t n = sizeof g->downstream / sizeof g->downstream[0];

	for (uint32_t i = 0; i < n; i++)
		lot_release(g->downstream[i]);
	guard_run_posts(g, false);
	report_leaks(g);
	lots_end(g);
	guard_positions_done(g);
	guard_end_libev(g);
	close(g->wake);
	pthread_mutex_destroy(&g->post_lock);
	pthread_mutex_destroy(&g->lock);
}
