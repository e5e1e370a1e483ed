/* SPDX-License-Identifier: MIT */
/* engine_windows - when windows are over, and reporting them a little at a time; see engine.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "engine_impl.h"

/* Of inputs that do not hold anything back.  By the events' own time what is on its way would be late. */
#define IDLE_RECEIVED_NS UINT64_C(1000000000)
#define IDLE_NS          UINT64_C(5000000000)

/* ---- reporting ---- */

/* Up to *n groups of a window that gets no more events; they are gone then.  true: it is empty. */
static bool report(struct engine *e, struct groups *g, uint32_t window, enum span_kind kind, uint32_t *n)
{
	const struct span span = {g->windows[window].start_ns, g->windows[window].end_ns};

	if (e->plan->conf->output == OUTPUT_WINDOW) {
		/* all at once, so that a snapshot has either the groups or the result */
		if (!engine_print_window(e, g, window, &span, kind, n))
			return false;
		while (g->windows[window].first)
			groups_remove(g, g->windows[window].first);
		return true;
	}
	for (uint32_t i; *n && (i = g->windows[window].first); --*n) {
		engine_print(e, groups_at(g, i), &span, kind);
		groups_remove(g, i);
	}
	return !g->windows[window].first;
}

bool engine_report_step(struct engine *e, uint32_t *n)
{
	if (e->sliding &&
	    report(e, e->merged, e->sliding, e->sliding_partial ? SPAN_PARTIAL : SPAN_FINAL, n)) {
		window_free(e->merged, e->sliding);
		e->sliding = 0;
	}
	while (e->closing && report(e, e->groups, e->closing, SPAN_FINAL, n)) {
		uint32_t window = e->closing;
		e->closing = e->groups->windows[window].next;
		window_free(e->groups, window);
	}
	return !e->sliding && !e->closing;
}

static void report_all(struct engine *e)
{
	uint32_t n;

	do
		n = UINT32_MAX;
	while (!engine_report_step(e, &n));
}

static void close_window(struct engine *e, uint32_t window)
{
	struct window *w = &e->groups->windows[window];

	engine_take_out(e, window);
	w->open = false;
	w->next = 0;
	*(e->closing ? &e->groups->windows[e->last_closing].next : &e->closing) = window;
	e->last_closing = window;
}

/* ---- sliding ---- */

static void merge_pane(struct engine *e, uint32_t pane, uint32_t into)
{
	struct groups *g = e->groups, *m = e->merged;

	for (uint32_t i = g->windows[pane].first; i; i = groups_at(g, i)->next) {
		struct group *c = groups_at(g, i);
		uint32_t hash = c->hash ^ engine_salt(e, pane);
		uint32_t to = groups_find(m, hash, into, group_key(c), c->key_len);
		if (!to)
			to = groups_add(m, hash, into, group_key(c), c->key_len);
		if (!to) {
			e->count.no_memory++;
			continue;
		}
		uint8_t *states = group_states(groups_at(m, to));
		size_t before = functions_heap(m->functions, states);
		if (functions_merge(m->functions, states, group_states(c)) < 0)
			e->count.no_memory++;
		m->heap += functions_heap(m->functions, states) - before;
	}
}

/* Put the window that ends at next_end together, let go of panes no later one needs, and find the next. */
static void slide(struct engine *e, bool partial)
{
	const struct plan *p = e->plan;
	const struct span span = {e->next_end - p->size_ns, e->next_end};

	report_all(e); /* there is one at a time */
	uint32_t window = window_new(e->merged, span.start_ns, span.end_ns);
	if (!window)
		e->count.no_memory++;
	for (uint32_t i = engine_panes_before(e, span.start_ns);
	     window && i < e->n_panes && engine_pane(e, i)->at < span.end_ns; i++)
		merge_pane(e, engine_pane(e, i)->window, window);
	if (window && e->merged->windows[window].n) {
		e->sliding = window;
		e->sliding_partial = partial;
	} else if (window) {
		window_free(e->merged, window);
	}
	while (e->n_panes && engine_pane(e, 0)->at < span.start_ns + p->every_ns)
		engine_forget_window(e, engine_pane(e, 0)->window);
	int64_t next = e->n_panes ? engine_first_end(p, engine_pane(e, 0)->at) : NEVER;
	e->next_end = next != NEVER && next < span.end_ns + p->every_ns ? span.end_ns + p->every_ns : next;
}

/* ---- time ---- */

/* 0: any silence means nothing. */
static uint64_t idle_limit(const struct engine *e, const struct engine_input *in)
{
	if (e->plan->idle_ns >= 0)
		return (uint64_t)e->plan->idle_ns;
	return in->resumable ? 0 : e->plan->received ? IDLE_RECEIVED_NS : IDLE_NS;
}

static bool is_idle(const struct engine *e, const struct engine_input *in, uint64_t now)
{
	uint64_t limit = idle_limit(e, in);

	return limit && in->heard && now > in->heard && now - in->heard >= limit;
}

/* The moment of an idle input: its clock goes on.  Events that say themselves when they happened may come
 * after a silence as long as others were, so there it goes on that much behind. */
static int64_t goes_on(const struct engine *e, const struct engine_input *in, uint64_t now)
{
	uint64_t silence = now - in->heard - (e->plan->received ? 0 : idle_limit(e, in));
	uint64_t newest = (uint64_t)in->newest, most = MOMENT_MAX - newest;

	return (int64_t)(newest + (silence < most ? silence : most));
}

/* The moment up to which all is there; NEVER: nothing came yet. */
static int64_t horizon(const struct engine *e, uint64_t now)
{
	int64_t slowest = NEVER, idle = NEVER;
	bool active = false;

	for (uint32_t i = 0; i < e->n_inputs; i++) {
		const struct engine_input *in = &e->inputs[i];
		if (in->newest == NEVER)
			continue;
		if (is_idle(e, in, now)) {
			int64_t at = goes_on(e, in, now);
			idle = at > idle ? at : idle;
		} else {
			slowest = !active || in->newest < slowest ? in->newest : slowest;
			active = true;
		}
	}
	int64_t newest = active ? slowest : idle;
	return newest == NEVER ? NEVER : newest - e->plan->lateness_ns;
}

static void close_due(struct engine *e)
{
	uint32_t window;

	if (e->plan->kind == WINDOW_SLIDING) {
		while (e->next_end != NEVER && e->next_end <= e->watermark)
			slide(e, false);
		return;
	}
	while ((window = engine_oldest_window(e)) && e->groups->windows[window].end_ns <= e->watermark)
		close_window(e, window);
}

void engine_advance(struct engine *e, uint64_t now)
{
	int64_t at = horizon(e, now);

	if (at == NEVER || (e->watermark != NEVER && at <= e->watermark))
		return;
	e->watermark = at;
	if (e->n_panes)
		close_due(e);
}

void engine_loaded(struct engine *e)
{
	if (e->watermark != NEVER && e->n_panes)
		close_due(e);
}

void engine_tick(struct engine *e, uint64_t now)
{
	for (uint32_t i = 0; i < e->n_inputs; i++)
		if (!e->inputs[i].heard) /* restored: its silence begins now */
			e->inputs[i].heard = now;
	engine_advance(e, now);
}

/* ---- before their end ---- */

/* Groups by their place in memory: they may come and go between two steps. */
static void early_step(struct engine *e, uint32_t *n)
{
	struct groups *g = e->groups;

	for (; e->early && e->early <= groups_end(g) && *n; e->early++) {
		struct group *c = groups_peek(g, e->early);
		if (!c || !g->windows[c->window].open)
			continue;
		const struct window *w = &g->windows[c->window];
		const struct span span = {w->start_ns, w->end_ns};
		engine_print(e, c, &span, SPAN_EARLY);
		--*n;
	}
	if (e->early > groups_end(g))
		e->early = 0;
}

void engine_early(struct engine *e)
{
	struct groups *g = e->groups;

	if (e->plan->kind == WINDOW_SLIDING)
		return;
	if (e->plan->conf->output == OUTPUT_GROUP) {
		e->early += !e->early; /* else they are still being reported */
		return;
	}
	report_all(e); /* one window is written at a time */
	for (uint32_t w = 1; w <= g->windows_top; w++) {
		const struct span span = {g->windows[w].start_ns, g->windows[w].end_ns};
		uint32_t n = UINT32_MAX;
		if (g->windows[w].open)
			engine_print_window(e, g, w, &span, SPAN_EARLY, &n);
	}
}

bool engine_close_step(struct engine *e, uint32_t n)
{
	bool reported = engine_report_step(e, &n);

	early_step(e, &n);
	return reported && !e->early;
}

void engine_flush(struct engine *e)
{
	uint32_t window;

	e->early = 0;
	while (e->plan->kind == WINDOW_SLIDING && e->next_end != NEVER)
		slide(e, true);
	report_all(e);
	while ((window = engine_oldest_window(e))) {
		uint32_t n = UINT32_MAX;
		report(e, e->groups, window, SPAN_PARTIAL, &n);
		engine_forget_window(e, window);
	}
}

size_t engine_memory(const struct engine *e)
{
	return groups_memory(e->groups) + (e->merged ? groups_memory(e->merged) : 0) +
	       e->panes_room * sizeof *e->panes;
}
