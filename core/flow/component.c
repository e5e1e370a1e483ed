/* SPDX-License-Identifier: MIT */
#include "core/flow/component.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/flow/batch.h"
#include "core/flow/crash.h"
#include "core/flow/watch/control_watch.h"
#include "core/config/diag.h"
#include "core/admin/log.h"
#include "core/flow/positions.h"
#include "core/flow/stream_log.h"

/* ---- for the host's side, too ---- */

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
void component_wake_neighbour(const struct component *c, struct component *other)
{
	if (atomic_load_explicit(&other->loop, memory_order_relaxed) !=
	    atomic_load_explicit(&c->loop, memory_order_relaxed))
		component_wake(other);
}

void component_publish(struct component *c)
{
	accounts_publish(&c->board, &c->books, c->n_reasons);
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

void component_end_batch(struct component *c, struct ss_batch *b, int32_t status)
{
	settle(c, b->count, status);
	token_mark(b->token, status);
	batch_unref(b);
}

/* ---- life ---- */

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

static int call_create(struct component *c, const void *conf, void **self)
{
	control_watch_enter(c->id, "create", NULL);
	call_enter(c->id, "create");
	int rc = c->desc->create(&c->host, conf, self);
	call_leave();
	control_watch_leave();
	if (rc > 0) {
		component_misuse(c, "create() returns 0 or a negative errno");
		rc = -EPROTO;
	}
	return rc;
}

int component_create(struct component *c, const struct config *config, const struct config_component *cc,
		     struct health *health, struct tls_identity *tls, struct diag *diag)
{
	*c = (struct component){
		.desc = cc->desc,
		.own_id = strdup(cc->id),
		.health = health,
		.tls = tls,
		.tls_roles = cc->tls_roles,
		.diag = diag,
		.config = config_ref(config),
		.config_component = cc,
		.n_ports = count_outputs(cc->desc),
	};
	c->id = c->own_id ? c->own_id : "";
	host_fill(c);
	posts_init(&c->posts);
	c->pool = pool_new();
	c->metrics = calloc(c->desc->n_metrics + 1, sizeof *c->metrics);
	if (!c->pool || !c->metrics || !c->own_id)
		return -ENOMEM;

	size_t errors = diag->errors;
	void *self = NULL;
	while (c->desc->reasons && c->desc->reasons[c->n_reasons] && c->n_reasons < REASONS_MAX)
		c->n_reasons++;
	log_component(c->id, cc->type ? cc->type : c->desc->type);
	crash_know((const void *)(uintptr_t)c->desc->create, c->id);
	int rc = call_create(c, cc->conf, &self);
	c->diag = NULL;
	if (rc == 0) {
		c->self = self;
		return diag->errors == errors ? 0 : -EINVAL;
	}
	if (diag->errors == errors && cc->n_wrong == 0)
		diag_add(diag, DIAG_ERROR, config->doc->file, cc->node->place, NULL, "component \"%s\": %s",
			 c->id, strerror(-rc));
	return rc;
}

/* It was neither finished nor given back. */
static void fail(struct component *c, struct ss_batch *b)
{
	if (!b)
		return;
	positions_failed(c, b);
	token_mark(b->token, SS_FAILED);
	batch_unref(b);
}

void component_destroy(struct component *c)
{
	fail(c, c->refused);
	c->refused = NULL;
	control_watch_enter(c->id, "destroy", NULL);
	call_enter(c->id, "destroy");
	if (c->self)
		c->desc->destroy(c->self);
	call_leave();
	control_watch_leave();
	c->self = NULL;
	stream_log_free(c->stream_log);
	c->stream_log = NULL;
	/* what the plugin forgot; the books call it held */
	for (struct ss_batch *b; (b = kept_take(&c->kept));)
		fail(c, b);
}

void component_free(struct component *c)
{
	struct ss_token *t = atomic_exchange(&c->finished_tokens, NULL);

	tap_move_all(&c->taps, NULL);
	posts_done(&c->posts);
	while (t) {
		struct ss_token *next = t->next;
		free(t);
		t = next;
	}
	for (size_t i = 0; c->ports && i < c->n_ports; i++)
		free(c->ports[i].edges);
	free(c->ports);
	free(c->inputs);
	free(c->metrics);
	streams_free(c->streams);
	streams_free(c->restored);
	streams_free(c->inherited);
	stream_log_free(c->stream_log);
	kept_done(&c->kept);
	pool_free(c->pool);
	component_delete(c->settings);
	handover_clear(c);
	free(c->own_id);
	config_free((struct config *)(uintptr_t)c->config);
}

int component_port_of(const struct component *c, const struct component *old, uint32_t port)
{
	const struct edge *before = port < old->n_inputs ? old->inputs[port] : NULL;

	for (size_t i = 0; before && before->continues && i < c->n_inputs; i++)
		if (c->inputs[i]->queue == before->queue)
			return (int)i;
	return -1;
}

void component_succeed(struct component *c, struct component *old)
{
	const int port = old->refused ? component_port_of(c, old, old->refused_port) : -1;

	c->books = old->books;
	c->credit = 0;
	if (!c->handed) { /* it never ran, so it has not taken them */
		c->handed = old->handed;
		old->handed = NULL;
	}
	if (port >= 0) {
		c->refused = old->refused;
		c->refused_port = (uint32_t)port;
		old->refused = NULL;
	}
	/* what the old one could not finish; what it refused is counted anew when it is offered */
	const uint64_t lost = c->books.held - (c->refused ? c->refused->count : 0);
	c->books.held -= lost;
	c->books.dropped[DROP_SHUTDOWN] += lost;
	atomic_store(&c->discarded, atomic_load(&old->discarded));
	c->past_offered = old->past_offered;
	c->past_dropped = old->past_dropped;
	for (size_t i = 0; i < STREAM_RETIRED_REASONS; i++)
		atomic_store(&c->retired[i], atomic_load(&old->retired[i]));
	for (uint32_t i = 0; i < c->desc->n_metrics; i++) {
		const struct ss_metric *m = component_metric_row(c, i);
		if (m->kind == SS_METRIC_COUNTER)
			atomic_store(&c->metrics[i], atomic_load(&old->metrics[i]));
	}
	component_publish(c);
}

void component_delete(struct component *c)
{
	if (c)
		component_free(c);
	free(c);
}

/* A component that says nothing allows the delay that those downstream allow, which have started before. */
void component_inherit_delay(struct component *c)
{
	uint64_t least = UINT64_MAX;

	if (c->has_max_delay)
		return;
	for (size_t p = 0; p < c->n_ports; p++) {
		for (size_t i = 0; i < c->ports[p].n; i++) {
			uint64_t ns = c->ports[p].edges[i]->to->max_delay_ns;
			least = ns < least ? ns : least;
		}
	}
	c->max_delay_ns = least == UINT64_MAX ? 0 : least;
}

int component_start(struct component *c)
{
	call_enter(c->id, "start");
	int rc = c->desc->start(c->self);
	call_leave();

	c->touched = true;
	if (rc > 0)
		component_misuse(c, "start() returns 0 or a negative errno");
	if (rc < 0) {
		c->broken = true;
		return rc;
	}
	c->state = COMPONENT_STARTED;
	handover_clear(c);
	positions_inherit(c);
	component_inherit_delay(c);
	return 0;
}

/* ---- work ---- */

static void report_acked(struct component *c)
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
		call_enter(c->id, "acked");
		c->desc->acked(c->self, oldest->cookie, atomic_load(&oldest->status));
		call_leave();
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
	if (!posts_any(&c->posts))
		return false;
	call_enter(c->id, "post");
	bool any = posts_run(&c->posts);
	call_leave();
	c->touched |= any;
	return any;
}

static void call_stop(struct component *c)
{
	call_enter(c->id, "stop");
	c->desc->stop(c->self);
	call_leave();
}

void component_stop(struct component *c)
{
	if (c->state == COMPONENT_STOPPED) /* by a reload that could not be carried out */
		return;
	run_posts(c);
	/* after draining, the last acknowledgements are still to be told */
	if (c->state != COMPONENT_CREATED)
		report_acked(c);
	/* also after a failed start: it closes what start had opened by then */
	c->stopping = true;
	if (c->state != COMPONENT_CREATED || c->broken)
		call_stop(c);
	loop_service_clear(c);
	tls_service_clear(c);
	c->state = COMPONENT_STOPPED;
	component_publish(c);
}

void component_end(struct component *c)
{
	run_posts(c);
	component_publish(c);
	/* tokens may still come to their end, in destroy: nobody is there to be woken */
	c->loop = NULL;
}

/* Move what waits for room; tells a source to pause or go on. */
static void move_stuck(struct component *c)
{
	if (c->stuck) {
		c->stuck = false;
		for (size_t p = 0; p < c->n_ports; p++) {
			for (size_t i = 0; i < c->ports[p].n; i++) {
				struct edge *e = c->ports[p].edges[i];
				if (!queue_stuck(e->queue))
					continue;
				if (queue_flush(e->queue))
					component_wake_neighbour(c, e->to);
				c->stuck |= queue_stuck(e->queue);
			}
		}
	}
	if (c->stuck != c->paused && c->desc->kind == SS_KIND_SOURCE &&
	    (c->state == COMPONENT_STARTED || c->state == COMPONENT_DRAINING)) {
		c->paused = c->stuck;
		c->touched = true;
		call_enter(c->id, c->paused ? "pause" : "resume");
		if (c->paused)
			c->desc->pause(c->self);
		else
			c->desc->resume(c->self);
		call_leave();
	}
}

static inline void flush_outputs(struct component *c)
{
	if (c->stuck || c->paused)
		move_stuck(c);
}

/* Who leaves takes no more from queues that its successor goes on with. */
static bool is_left_behind(const struct component *c, size_t input)
{
	return c->leaving && c->inputs[input]->continues;
}

static struct ss_batch *next_batch(struct component *c, uint32_t *port)
{
	if (c->refused && !is_left_behind(c, c->refused_port)) {
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

		c->next_input = i + 1 < c->n_inputs ? i + 1 : 0;
		if (is_left_behind(c, i))
			continue;
		struct ss_batch *b = queue_take(e->queue, &room);
		if (room) /* on the same loop, too: its turn in this round may be over */
			component_wake(e->from);
		if (b) {
			tap_pass(&c->taps, TAP_INPUT, b);
			*port = (uint32_t)i;
			return b;
		}
	}
	return NULL;
}

/* The part of a batch that a checkpointer does not have yet; NULL: nothing is left to be processed. */
static struct ss_batch *without_duplicates(struct component *c, struct ss_batch *b, uint32_t port)
{
	uint32_t count = b->count;
	int rc = positions_cut(c, port, &b);

	if (rc < 0) {
		component_end_batch(c, b, SS_FAILED);
		return NULL;
	}
	c->books.dropped[DROP_DUPLICATE] += count - b->count;
	c->books.held -= count - b->count;
	if (b->count || !count)
		return b;
	batch_unref(b);
	return NULL;
}

/* The plugin refused the batch: it is offered again. */
static void refuse(struct component *c, struct ss_batch *b, uint32_t port)
{
	c->busy = true;
	atomic_store_explicit(&c->busy_since_ns, clock_now(), memory_order_relaxed);
	c->refused = b;
	c->refused_port = port;
}

static void finish_processed(struct component *c, struct ss_batch *b, int32_t rc)
{
	if (rc < 0) {
		char why[160];
		log_printf(SS_LOG_ERROR, c->id, "Batch failed error=%s events=%u",
			   log_value(why, sizeof why, strerror(-rc)), b->count);
		positions_failed(c, b);
	}
	component_end_batch(c, b, rc < 0 ? SS_FAILED : SS_DELIVERED);
}

static void process_one(struct component *c, struct ss_batch *b, uint32_t port, uint64_t now)
{
	c->touched = true;
	c->books.in += b->count;
	c->books.held += b->count;
	if (c->streams && !(b = without_duplicates(c, b, port)))
		return;
	int32_t rc = kept_reserve(&c->kept);
	c->at_hand = b;
	if (rc == 0) {
		call_enter(c->id, "process");
		rc = c->desc->process(c->self, port, b);
		call_leave();
	}
	bool finished = c->at_hand == NULL;
	c->at_hand = NULL;
	if (rc > SS_BUSY || (finished && rc != SS_KEPT)) {
		component_misuse(c, finished ? "process() keeps a batch that done() was called for"
					     : "process() returns SS_DONE, SS_KEPT, SS_BUSY or an error");
		rc = finished ? SS_KEPT : -EPROTO;
	}
	if (rc >= 0 && rc != SS_BUSY)
		positions_accepted(c);
	c->offered = NULL;
	if (rc == SS_KEPT && !finished)
		kept_add(&c->kept, b, now);
	else if (rc == SS_BUSY)
		refuse(c, b, port);
	else if (!finished)
		finish_processed(c, b, rc);
}

static bool inputs_finished(const struct component *c)
{
	if (c->staying || (c->refused && !is_left_behind(c, c->refused_port)))
		return false;
	for (size_t i = 0; i < c->n_inputs; i++) {
		if (!is_left_behind(c, i) && !queue_finished(c->inputs[i]->queue))
			return false;
	}
	return c->leaving || c->n_inputs > 0 || atomic_load_explicit(&c->drain_wanted, memory_order_acquire);
}

static void close_outputs(struct component *c)
{
	for (size_t p = 0; p < c->n_ports; p++) {
		for (size_t i = 0; i < c->ports[p].n; i++) {
			struct edge *e = c->ports[p].edges[i];
			if (e->continues)
				continue;
			queue_close(e->queue);
			component_wake_neighbour(c, e->to);
		}
	}
}

static void note_failed_drain(const struct component *c, int32_t rc)
{
	char why[160];

	if (rc < 0)
		log_printf(SS_LOG_ERROR, c->id, "Component failed to drain error=%s",
			   log_value(why, sizeof why, strerror(-rc)));
	else
		component_misuse(c, "drain() returns 0 when nothing is kept any more");
}

/* One step of draining; true if that may have made more to do. */
static bool drain(struct component *c)
{
	if (c->state == COMPONENT_STARTED && inputs_finished(c)) {
		c->state = COMPONENT_DRAINING;
		c->touched = true;
		call_enter(c->id, "drain");
		int32_t rc = c->desc->drain(c->self);
		call_leave();
		if (rc > 0 && rc != SS_BUSY)
			component_misuse(c, "drain() returns 0, SS_BUSY or an error");
		if (rc != SS_BUSY)
			c->state = COMPONENT_DRAINED;
		if (rc < 0 || (rc != SS_BUSY && c->kept.n))
			note_failed_drain(c, rc);
		return true;
	}
	if (c->state == COMPONENT_DRAINED && (!c->stuck || c->leaving)) {
		c->state = COMPONENT_CLOSED;
		component_publish(c);
		c->stuck = false; /* what waits is the consumers' now, or the successor's */
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
	report_acked(c);
	flush_outputs(c);
	while (done < BATCHES && (done == 0 || turn->now < turn->end) && !c->stuck && !c->busy) {
		uint32_t port;
		struct ss_batch *b = next_batch(c, &port);
		if (!b)
			break;
		process_one(c, b, port, turn->now);
		flush_outputs(c);
		turn->now = clock_coarse();
		done++;
	}
	more |= done == BATCHES || (done > 0 && turn->now >= turn->end) || drain(c);
	if (c->touched)
		component_publish(c);
	return more;
}

bool component_idle(struct component *c, struct turn *turn)
{
	bool tell = c->touched && c->desc->idle &&
		    (c->state == COMPONENT_STARTED || c->state == COMPONENT_DRAINING);

	if (tell) {
		call_enter(c->id, "idle");
		c->desc->idle(c->self);
		call_leave();
		turn->now = clock_coarse();
		component_publish(c);
	}
	c->touched = false; /* also by what idle() did itself */
	return tell;
}

const struct ss_metric *component_metric_row(const struct component *c, uint32_t row)
{
	return (const struct ss_metric *)(const void *)((const char *)c->desc->metrics +
							(size_t)row * c->desc->metric_size);
}

int64_t component_metric(const struct component *c, uint32_t row)
{
	return atomic_load_explicit(&c->metrics[row], memory_order_relaxed);
}

const char *component_reason(const struct component *c, uint32_t reason)
{
	static const char *const own[] = {"error", "unconnected", "shutdown", "duplicate"};

	if (reason == DROP_DUPLICATE && !c->streams)
		return NULL;
	if (reason < DROP_OWN)
		return own[reason];
	return reason - DROP_OWN < c->n_reasons ? c->desc->reasons[reason - DROP_OWN] : NULL;
}
