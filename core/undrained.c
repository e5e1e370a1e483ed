/* SPDX-License-Identifier: MIT */
#include "core/undrained.h"

#include <stdio.h>
#include <string.h>
#include "core/admin/clock.h"
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/flow/pipeline.h"

static const struct component *find_full(const struct component *c)
{
	for (size_t p = 0; p < c->n_ports; p++)
		for (size_t i = 0; i < c->ports[p].n; i++)
			if (queue_stuck(c->ports[p].edges[i]->queue))
				return c->ports[p].edges[i]->to;
	return NULL;
}

static const struct component *find_unfinished(const struct component *c)
{
	for (size_t i = 0; i < c->n_inputs; i++)
		if (!queue_finished(c->inputs[i]->queue))
			return c->inputs[i]->from;
	return NULL;
}

static void find_cause(const struct component *c, uint64_t queued, char *text, size_t size)
{
	const struct component *full = find_full(c), *before = find_unfinished(c);

	if (c->busy)
		snprintf(text, size, "input_ready() after process() has returned SS_BUSY");
	else if (full)
		snprintf(text, size, "room in the queue of %s", full->id);
	else if (c->state == COMPONENT_DRAINING)
		snprintf(text, size, "drained() after drain() has returned SS_BUSY");
	else if (c->n_inputs == 0)
		snprintf(text, size, "drain() to be called");
	else if (before && !queued)
		snprintf(text, size, "the end of %s", before->id);
	else
		snprintf(text, size, "process() to take the rest of its input");
}

/* Of what the component holds or is to take next, the oldest: wall clock, 0 if there is nothing. */
static uint64_t find_oldest(const struct component *c)
{
	uint64_t oldest = kept_oldest_ns(&c->kept);

	if (c->refused && c->refused->count && (!oldest || c->refused->events[0].time_ns < oldest))
		oldest = c->refused->events[0].time_ns;
	for (size_t i = 0; i < c->n_inputs; i++) {
		uint64_t t = queue_oldest_ns(c->inputs[i]->queue);
		oldest = t && (!oldest || t < oldest) ? t : oldest;
	}
	return oldest;
}

/* In the thread of the loop. */
static void tell_one(const struct component *c)
{
	char cause[128], reason[512], shown[560], own[600] = "", waits_for[160], oldest_s[48] = "";
	uint64_t queued = 0, now = clock_wall(), oldest = find_oldest(c);

	for (size_t i = 0; i < c->n_inputs; i++)
		queued += queue_events(c->inputs[i]->queue);
	find_cause(c, queued, cause, sizeof cause);
	if (oldest && oldest <= now)
		snprintf(oldest_s, sizeof oldest_s, " oldest_s=%.1f", (double)(now - oldest) / 1e9);
	if (health_reason(c->health, c->id, reason, sizeof reason))
		snprintf(own, sizeof own, " reason=%s", log_value(shown, sizeof shown, reason));
	log_printf(SS_LOG_WARN, c->id,
		   "Not drained within the shutdown timeout waits_for=%s events_held=%llu "
		   "events_queued=%llu%s%s",
		   log_value(waits_for, sizeof waits_for, cause), (unsigned long long)c->books.held,
		   (unsigned long long)queued, oldest_s, own);
}

static int answer(void *component)
{
	struct component *c = component;

	if (!atomic_exchange(&c->told_undrained, true))
		tell_one(c);
	return 0;
}

void undrained_tell(struct pipeline *p)
{
	const uint64_t answer_ns = 500000000u;
	const struct loop *silent = NULL;

	pthread_mutex_lock(&p->lock);
	p->settled = true; /* no component changes its loop while it is asked */
	pthread_mutex_unlock(&p->lock);
	for (size_t i = 0; i < p->n_components; i++) {
		struct component *c = p->order[i];
		struct loop *l = c->loop;
		if (atomic_load_explicit(&c->closed, memory_order_acquire) || l == silent)
			continue;
		if (loop_call(l, answer, c, answer_ns) == 0 || atomic_exchange(&c->told_undrained, true))
			continue;
		const struct culprit at = loop_culprit(l);
		silent = l; /* the others on it wait for the same */
		log_printf(SS_LOG_WARN, at.component ? at.component : c->id,
			   "Not drained within the shutdown timeout waits_for=\"%s%s to return\"",
			   at.component ? at.callback : "its loop", at.component ? "()" : "");
	}
}
