/* SPDX-License-Identifier: MIT */
/* watchdog - see watchdog.h. */
#include "core/flow/watch/watchdog.h"

#include <stdio.h>
#include <string.h>
#include "core/admin/health.h"
#include "core/admin/log.h"
#include "core/flow/pipeline.h"

enum { OVERDUE_LEAST = 100 }; /* events; fewer are nobody's trouble */

static void answer(void *arg)
{
	struct worker *w = arg;

	atomic_store_explicit(&w->answered_ns, clock_now(), memory_order_relaxed);
}

static void set_watch_health(struct pipeline *p, const char *component,
			     bool (*change)(struct health *, const char *, const char *), const char *reason)
{
	char who[CONFIG_MAX_ID + sizeof " watchdog"];

	snprintf(who, sizeof who, "%s watchdog", component);
	change(p->health, who, reason);
}

static void blame(struct pipeline *p, struct worker *w, unsigned seconds)
{
	const struct culprit at = loop_culprit(&w->loop);
	char why[96];

	if (!at.component) {
		if (!w->silent)
			log_error("Loop does not answer, and is in no component thread=%s seconds=%u",
				  w->loop.name, seconds);
		return;
	}
	if (w->blamed && strcmp(w->blamed, at.component) != 0)
		set_watch_health(p, w->blamed, health_set, NULL);
	if (!w->blamed || strcmp(w->blamed, at.component) != 0)
		log_printf(SS_LOG_ERROR, at.component,
			   "Component does not return from a callback callback=%s seconds=%u", at.callback,
			   seconds);
	w->blamed = at.component;
	snprintf(why, sizeof why, "%s() has not returned for %u s", at.callback, seconds);
	set_watch_health(p, at.component, health_set, why);
}

/* A loop that sleeps is well; one that works is asked for a sign of life. */
static void watch_worker(struct pipeline *p, struct worker *w, uint64_t now)
{
	uint64_t waited = now - w->asked_ns;

	if (atomic_load_explicit(&w->answered_ns, memory_order_relaxed) < w->asked_ns) {
		if (waited >= p->config->watchdog_ns) {
			blame(p, w, (unsigned)(waited / 1000000000u));
			w->silent = true;
		}
		return;
	}
	w->silent = false;
	if (w->blamed) {
		log_printf(SS_LOG_WARN, w->blamed, "Component has returned from its callback");
		set_watch_health(p, w->blamed, health_set, NULL);
		w->blamed = NULL;
	}
	if (!atomic_load_explicit(&w->loop.asleep, memory_order_relaxed) &&
	    loop_post(&w->loop, answer, w) == 0)
		w->asked_ns = now;
}

/* A component that refused a batch and neither takes another nor says why is forgotten by its plugin. */
static void watch_refusal(struct pipeline *p, struct component *c, uint64_t now)
{
	uint64_t since = atomic_load_explicit(&c->busy_since_ns, memory_order_relaxed);
	bool stalls = since && since < now && now - since >= p->config->watchdog_ns &&
		      !atomic_load_explicit(&c->gave_reasons, memory_order_relaxed);
	char why[96];

	if (stalls) {
		unsigned seconds = (unsigned)((now - since) / 1000000000u);
		if (!c->stalls)
			log_printf(SS_LOG_WARN, c->id,
				   "Component takes no input: process() returned SS_BUSY, and input_ready() "
				   "has not "
				   "been called since seconds=%u",
				   seconds);
		snprintf(why, sizeof why, "takes no input for %u s and gives no reason", seconds);
		set_watch_health(p, c->id, health_degrade, why);
	} else if (c->stalls) {
		set_watch_health(p, c->id, health_degrade, NULL);
	}
	c->stalls = stalls;
}

/* ---- batches that are kept for ever ---- */

/* Who waits for peers says by semstreams.peers/1 how they do; who waits for a timer of its own is late only
 * when that has come twice. */
static bool may_keep(const struct component *c)
{
	bool fills = c->list_peers || c->stuck || c->busy || c->state != COMPONENT_STARTED ||
		     atomic_load_explicit(&c->gave_reasons, memory_order_relaxed);

	for (size_t i = 0; !fills && i < c->n_inputs; i++)
		fills = queue_events(c->inputs[i]->queue) > 0;
	return fills;
}

/* [inst] The same oldest batch, twice: what is merely slow has finished it by then. */
static void look_at_kept(void *component)
{
	struct component *c = component;
	struct kept_watch *w = &c->kept_watch;
	const uint64_t limit = atomic_load_explicit(&w->limit_ns, memory_order_relaxed),
		       longest = 2 * loop_service_longest_ns(c), now = clock_coarse();
	const uint64_t least = longest > limit ? longest : limit;
	struct kept_since old = {0};

	if (now > least && !may_keep(c))
		old = kept_before(&c->kept, now - least);
	const bool again = old.events >= OVERDUE_LEAST && old.since_ns == w->oldest_ns;
	w->oldest_ns = old.since_ns;
	atomic_store_explicit(&w->batches, again ? old.batches : 0, memory_order_relaxed);
	atomic_store_explicit(&w->since_ns, old.since_ns, memory_order_relaxed);
	atomic_store_explicit(&w->events, again ? old.events : 0, memory_order_relaxed);
	atomic_store_explicit(&w->asked, false, memory_order_release);
}

uint64_t watchdog_overdue(const struct component *c)
{
	return atomic_load_explicit(&c->kept_watch.events, memory_order_relaxed);
}

static void tell_kept(struct pipeline *p, struct component *c, uint64_t events, uint64_t now)
{
	const uint64_t since = atomic_load_explicit(&c->kept_watch.since_ns, memory_order_relaxed);
	const unsigned seconds = since < now ? (unsigned)((now - since) / 1000000000u) : 0;
	char why[128];

	if (!c->kept_watch.told)
		log_printf(SS_LOG_WARN, c->id,
			   "Component keeps batches and does not finish them: process() returned SS_KEPT, "
			   "and done() has not been called since events=%llu batches=%llu seconds=%u",
			   (unsigned long long)events,
			   (unsigned long long)atomic_load_explicit(&c->kept_watch.batches,
								    memory_order_relaxed),
			   seconds);
	snprintf(why, sizeof why, "has kept %llu events for up to %u s and gives no reason",
		 (unsigned long long)events, seconds);
	set_watch_health(p, c->id, health_degrade, why);
}

/* Its loop is only asked while its books say that it holds something. */
static void watch_kept(struct pipeline *p, struct component *c, uint64_t now)
{
	struct kept_watch *w = &c->kept_watch;
	const uint64_t limit = p->config->held_watch_ns;
	uint64_t events = watchdog_overdue(c);
	struct accounts books;

	if (!limit || c->n_inputs == 0)
		return;
	accounts_read(&c->board, &books);
	if (events && books.held < OVERDUE_LEAST) {
		atomic_store_explicit(&w->events, 0, memory_order_relaxed);
		events = 0;
	}
	if (events)
		tell_kept(p, c, events, now);
	else if (w->told && !c->stalls)
		set_watch_health(p, c->id, health_degrade, NULL);
	if (!events && w->told)
		log_printf(SS_LOG_INFO, c->id, "Component has finished what it kept");
	w->told = events > 0;
	if (books.held < OVERDUE_LEAST || now - w->asked_ns < limit / 4 ||
	    atomic_load_explicit(&w->asked, memory_order_acquire))
		return;
	w->asked_ns = now;
	atomic_store_explicit(&w->limit_ns, limit, memory_order_relaxed);
	atomic_store_explicit(&w->asked, true, memory_order_relaxed);
	if (component_post(c, look_at_kept, c))
		atomic_store_explicit(&w->asked, false, memory_order_relaxed);
}

void watchdog_forget(struct health *h, const char *component)
{
	char who[CONFIG_MAX_ID + sizeof " watchdog"];

	snprintf(who, sizeof who, "%s watchdog", component);
	health_set(h, who, NULL);
	health_degrade(h, who, NULL);
}

bool watchdog_look(struct pipeline *p)
{
	uint64_t now = clock_now();
	bool silent = false;

	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < p->n_workers; i++) {
		watch_worker(p, p->workers[i], now);
		silent |= p->workers[i]->silent;
	}
	pthread_mutex_unlock(&p->lock);
	for (size_t i = 0; i < p->n_components; i++) {
		watch_refusal(p, p->components[i], now);
		watch_kept(p, p->components[i], now);
	}
	return silent;
}
