/* SPDX-License-Identifier: MIT */
#include "core/report.h"

#include <stdio.h>
#include <string.h>
#include "core/admin/log.h"
#include "core/flow/pipeline.h"
#include "core/flow/watch/watchdog.h"

static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_acquire);
}

/* What the component has taken is read before what its queues were given: held is never negative. */
void report_totals(const struct component *c, struct totals *t)
{
	struct accounts a;

	accounts_read(&c->board, &a);
	*t = (struct totals){.created = a.created, .out = a.out, .filtered = a.filtered, .held = a.held};
	memcpy(t->dropped, a.dropped, sizeof t->dropped);
	t->dropped[DROP_SHUTDOWN] += load(&c->discarded);
	if (c->desc->kind == SS_KIND_SOURCE) {
		t->in = a.in;
	} else {
		t->queue_full = c->past_dropped;
		t->in = c->past_offered;
		for (size_t i = 0; i < c->n_inputs; i++) {
			t->queue_full += load(&c->inputs[i]->queue->dropped_events);
			t->in += load(&c->inputs[i]->queue->offered_events);
		}
		t->held += t->in - t->queue_full - load(&c->discarded) - a.in;
	}
	t->dropped_all = t->queue_full;
	for (uint32_t i = 0; i < DROP_REASONS; i++)
		t->dropped_all += t->dropped[i];
}

static void collect_dropped(struct metrics_page *page, const struct component *c, const struct totals *t,
			    const char *component)
{
	char labels[256];

	for (uint32_t i = 0; i < DROP_REASONS; i++) {
		const char *reason = component_reason(c, i);
		if (!reason || (i == DROP_UNCONNECTED && c->desc->kind != SS_KIND_SOURCE))
			continue;
		snprintf(labels, sizeof labels, "%s", component);
		metrics_label(labels, sizeof labels, "reason", reason);
		metrics_host(page, METRIC_EVENTS_DROPPED, labels, (int64_t)t->dropped[i]);
	}
	if (c->n_inputs) {
		snprintf(labels, sizeof labels, "%s", component);
		metrics_label(labels, sizeof labels, "reason", "queue_full");
		metrics_host(page, METRIC_EVENTS_DROPPED, labels, (int64_t)t->queue_full);
	}
}

/* Of a component that saves positions. */
static void collect_positions(struct metrics_page *page, const struct component *c, const char *component)
{
	static const char *const reasons[STREAM_RETIRED_REASONS] = {
		[STREAM_RETIRED_LIMIT] = "limit", [STREAM_RETIRED_AGE] = "age"};
	char labels[256];

	metrics_host(page, METRIC_POSITIONS, component,
		     (int64_t)atomic_load_explicit(&c->n_streams, memory_order_relaxed));
	for (int i = 0; i < STREAM_RETIRED_REASONS; i++) {
		snprintf(labels, sizeof labels, "%s", component);
		metrics_label(labels, sizeof labels, "reason", reasons[i]);
		metrics_host(page, METRIC_POSITIONS_RETIRED, labels, (int64_t)load(&c->retired[i]));
	}
}

/* The rows of the plugin's table. */
static void collect_own(struct metrics_page *page, const struct component *c)
{
	char component[128] = "", labels[256];

	metrics_label(component, sizeof component, "component", c->id);
	for (uint32_t i = 0; i < c->desc->n_metrics; i++) {
		const struct ss_metric *m = component_metric_row(c, i);
		snprintf(labels, sizeof labels, "%s%s%s", component, m->label ? "," : "",
			 m->label ? m->label : "");
		metrics_sample_int(page, m->name, m->help, m->kind, labels, component_metric(c, i));
	}
}

static void collect_component(struct metrics_page *page, const struct component *c)
{
	char component[128] = "";
	struct totals t;

	metrics_label(component, sizeof component, "component", c->id);
	report_totals(c, &t);
	metrics_host(page, METRIC_EVENTS_IN, component, (int64_t)t.in);
	metrics_host(page, METRIC_EVENTS_OUT, component, (int64_t)t.out);
	metrics_host(page, METRIC_EVENTS_FILTERED, component, (int64_t)t.filtered);
	if (c->desc->kind == SS_KIND_PROCESSOR || t.created)
		metrics_host(page, METRIC_EVENTS_CREATED, component, (int64_t)t.created);
	metrics_host(page, METRIC_EVENTS_HELD, component, (int64_t)t.held);
	if (c->n_inputs)
		metrics_host(page, METRIC_EVENTS_OVERDUE, component, (int64_t)watchdog_overdue(c));
	collect_dropped(page, c, &t, component);
	if (c->checkpointer)
		collect_positions(page, c, component);
	collect_own(page, c);
}

static void collect_edge(struct metrics_page *page, const struct edge *e, const char *output)
{
	char labels[256] = "";

	metrics_label(labels, sizeof labels, "from", e->from->id);
	if (output)
		metrics_label(labels, sizeof labels, "output", output);
	metrics_label(labels, sizeof labels, "to", e->to->id);
	metrics_host(page, METRIC_QUEUE_EVENTS, labels, (int64_t)queue_events(e->queue));
	metrics_host(page, METRIC_QUEUE_CAPACITY, labels, (int64_t)e->queue->limits.events);
	metrics_host(page, METRIC_QUEUE_BYTES, labels, (int64_t)queue_bytes(e->queue));
	metrics_host(page, METRIC_QUEUE_CAPACITY_BYTES, labels, (int64_t)e->queue->limits.bytes);
}

void report_collect(void *pipeline, struct metrics_page *page)
{
	const struct pipeline *p = pipeline;

	tls_identity_collect(p->tls, page);
	for (size_t i = 0; i < p->n_providers; i++)
		collect_own(page, &p->providers[i]);
	for (size_t i = 0; i < p->n_components; i++) {
		const struct component *c = p->components[i];
		collect_component(page, c);
		for (size_t port = 0; c->desc->kind != SS_KIND_PROVIDER && port < c->n_ports; port++) {
			for (size_t k = 0; k < c->ports[port].n; k++)
				collect_edge(page, c->ports[port].edges[k],
					     c->desc->outputs ? c->desc->outputs[port] : NULL);
		}
	}
}

static void add_pair(char *line, size_t size, const char *key, uint64_t value)
{
	size_t n = strlen(line);

	snprintf(line + n, size - n, " %s=%llu", key, (unsigned long long)value);
}

/* semstreams_udp_truncated_total -> udp_truncated */
static void add_plugin_metric(char *line, size_t size, const struct ss_metric *m, int64_t value)
{
	const char *name = strncmp(m->name, "semstreams_", 11) == 0 ? m->name + 11 : m->name;
	size_t len = strlen(name);
	char key[64];

	if (m->kind != SS_METRIC_COUNTER || m->label || value == 0)
		return;
	if (len > 6 && strcmp(name + len - 6, "_total") == 0)
		len -= 6;
	snprintf(key, sizeof key, "%.*s", (int)len, name);
	add_pair(line, size, key, (uint64_t)value);
}

/* How many events were lost. */
static uint64_t report_end(const struct component *c)
{
	char line[1024] = "Component stopped";
	struct totals t;

	report_totals(c, &t);
	t.dropped[DROP_SHUTDOWN] += t.held;
	t.dropped_all += t.held;
	add_pair(line, sizeof line, "in", t.in);
	if (t.created)
		add_pair(line, sizeof line, "created", t.created);
	add_pair(line, sizeof line, "out", t.out);
	add_pair(line, sizeof line, "filtered", t.filtered);
	add_pair(line, sizeof line, "dropped", t.dropped_all);
	if (t.queue_full)
		add_pair(line, sizeof line, "dropped_queue_full", t.queue_full);
	for (uint32_t r = 0; r < DROP_REASONS; r++) {
		char key[96];
		if (!t.dropped[r])
			continue;
		const char *reason = component_reason(c, r);
		snprintf(key, sizeof key, "dropped_%s", reason ? reason : "other");
		add_pair(line, sizeof line, key, t.dropped[r]);
	}
	for (uint32_t m = 0; m < c->desc->n_metrics; m++)
		add_plugin_metric(line, sizeof line, component_metric_row(c, m), component_metric(c, m));
	log_text(t.dropped[DROP_SHUTDOWN] ? SS_LOG_WARN : SS_LOG_INFO, c->id, line);
	return t.dropped[DROP_SHUTDOWN];
}

void report_gone(const struct component *c)
{
	report_end(c);
}

uint64_t report_stopped(const struct pipeline *p)
{
	uint64_t lost = 0;

	for (size_t i = 0; i < p->n_components; i++)
		lost += report_end(p->components[i]);
	return lost;
}
