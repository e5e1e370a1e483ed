/* SPDX-License-Identifier: MIT */
/* engine_windows - when windows are over: watermark, panes, sessions; see engine.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "engine.h"
#include "engine_impl.h"

#define IDLE_LIVE_NS UINT64_C(1000000000) /* of inputs that do not hold anything back */

/* ---- panes, in order of their start ---- */

/* The first that does not start before start_ns. */
static uint32_t place_of(const struct engine *e, int64_t start_ns)
{
	uint32_t low = 0, high = e->n_panes;

	if (high && e->panes[high - 1].at < start_ns)
		return high;
	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (e->panes[middle].at < start_ns)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint32_t engine_find_pane(const struct engine *e, int64_t start_ns)
{
	if (e->n_panes && e->panes[e->n_panes - 1].at == start_ns)
		return e->panes[e->n_panes - 1].window;
	uint32_t i = place_of(e, start_ns);
	return i < e->n_panes && e->panes[i].at == start_ns ? e->panes[i].window : 0;
}

static bool room_for_pane(struct engine *e)
{
	if (e->n_panes < e->panes_room)
		return true;
	uint32_t room = e->panes_room ? 2 * e->panes_room : 16;
	struct engine_pane *panes = realloc(e->panes, room * sizeof *panes);
	if (!panes)
		return false;
	e->panes = panes;
	e->panes_room = room;
	return true;
}

static int64_t align_down(int64_t ns, int64_t to, int64_t offset)
{
	int64_t in = (ns - offset) % to;

	return ns - in - (in < 0 ? to : 0);
}

/* The end of the first window that is not over and holds the pane. */
static int64_t first_end(const struct engine *e, int64_t start_ns)
{
	const struct plan *p = e->plan;
	int64_t end = align_down(start_ns - p->size_ns, p->every_ns, p->offset_ns) + p->every_ns + p->size_ns;

	if (e->watermark != NEVER && end <= e->watermark)
		end += (e->watermark - end) / p->every_ns * p->every_ns + p->every_ns;
	return end;
}

uint32_t engine_get_pane(struct engine *e, int64_t start_ns)
{
	uint32_t found = engine_find_pane(e, start_ns), i = place_of(e, start_ns);

	if (found)
		return found;
	uint32_t window = room_for_pane(e) ? window_new(e->groups, start_ns, start_ns + e->plan->pane_ns) : 0;
	if (!window)
		return 0;
	memmove(e->panes + i + 1, e->panes + i, (e->n_panes - i) * sizeof *e->panes);
	e->panes[i] = (struct engine_pane){start_ns, window};
	e->n_panes++;
	if (e->plan->kind == WINDOW_SLIDING) {
		int64_t end = first_end(e, start_ns);
		e->next_end = e->next_end == NEVER || end < e->next_end ? end : e->next_end;
	}
	return window;
}

static void remove_pane(struct engine *e, uint32_t i)
{
	e->n_panes--;
	memmove(e->panes + i, e->panes + i + 1, (e->n_panes - i) * sizeof *e->panes);
}

/* ---- sessions, in a heap by their end ---- */

static void swap(struct engine *e, uint32_t a, uint32_t b)
{
	struct engine_pane pane = e->panes[a];

	e->panes[a] = e->panes[b];
	e->panes[b] = pane;
}

static void push(struct engine *e, int64_t end_ns, uint32_t window)
{
	uint32_t i = e->n_panes++;

	e->panes[i] = (struct engine_pane){end_ns, window};
	for (; i && e->panes[(i - 1) / 2].at > e->panes[i].at; i = (i - 1) / 2)
		swap(e, i, (i - 1) / 2);
}

static void pop(struct engine *e)
{
	uint32_t i = 0, least;

	e->panes[0] = e->panes[--e->n_panes];
	for (;; i = least) {
		least = i;
		for (uint32_t child = 2 * i + 1; child <= 2 * i + 2 && child < e->n_panes; child++)
			if (e->panes[child].at < e->panes[least].at)
				least = child;
		if (least == i)
			return;
		swap(e, i, least);
	}
}

uint32_t engine_open_session(struct engine *e, int64_t at_ns)
{
	int64_t end = at_ns + e->plan->size_ns;
	uint32_t window = room_for_pane(e) ? window_new(e->groups, at_ns, end) : 0;

	if (window)
		push(e, end, window);
	return window;
}

/* The session that ends first, with its end as it is now; 0: none.  A session that was prolonged is put where
 * it belongs only here, and one that has gone leaves its entry behind. */
static uint32_t first_session(struct engine *e)
{
	while (e->n_panes) {
		struct engine_pane first = e->panes[0];
		const struct window *w = &e->groups->windows[first.window];
		if (w->open && w->end_ns <= first.at)
			return first.window;
		pop(e);
		if (w->open)
			push(e, w->end_ns, first.window);
	}
	return 0;
}

/* ---- ends ---- */

uint32_t engine_oldest_window(struct engine *e)
{
	if (e->plan->kind == WINDOW_SESSION)
		return first_session(e);
	return e->n_panes ? e->panes[0].window : 0;
}

void engine_forget_window(struct engine *e, uint32_t window)
{
	struct groups *g = e->groups;

	while (g->windows[window].first)
		groups_remove(g, g->windows[window].first);
	if (g->windows[window].open && e->plan->kind != WINDOW_SESSION)
		remove_pane(e, place_of(e, g->windows[window].start_ns));
	window_free(g, window);
}

static void close_window(struct engine *e, uint32_t window)
{
	struct window *w = &e->groups->windows[window];

	w->open = false;
	w->next = 0;
	*(e->closing ? &e->groups->windows[e->last_closing].next : &e->closing) = window;
	e->last_closing = window;
}

bool engine_close_step(struct engine *e, uint32_t n)
{
	struct groups *g = e->groups;

	while (e->closing && n) {
		uint32_t window = e->closing;
		const struct span span = {g->windows[window].start_ns, g->windows[window].end_ns};
		if (e->plan->conf->output == OUTPUT_WINDOW)
			engine_print_window(e, g, window, &span, SPAN_FINAL);
		for (uint32_t i; (i = g->windows[window].first) && n; n--) {
			if (e->plan->conf->output == OUTPUT_GROUP)
				engine_print(e, groups_at(g, i), &span, SPAN_FINAL);
			groups_remove(g, i);
		}
		while (e->plan->conf->output == OUTPUT_WINDOW && g->windows[window].first)
			groups_remove(g, g->windows[window].first); /* reported already */
		if (g->windows[window].first)
			break;
		e->closing = g->windows[window].next;
		window_free(g, window);
	}
	return !e->closing;
}

/* ---- sliding ---- */

static void merge_pane(struct engine *e, uint32_t pane, uint32_t into)
{
	struct groups *g = e->groups, *m = e->merged;

	for (uint32_t i = g->windows[pane].first; i; i = groups_at(g, i)->next) {
		struct group *c = groups_at(g, i);
		uint32_t hash = engine_hash(e, group_key(c), c->key_len);
		uint32_t to = groups_find(m, hash, into, group_key(c), c->key_len);
		if (!to)
			to = groups_add(m, hash, into, group_key(c), c->key_len);
		if (!to || functions_merge(m->functions, group_states(groups_at(m, to)), group_states(c)) < 0)
			e->count.no_memory++;
	}
}

/* Report the window that ends at next_end, let go of panes no later one needs, and find the next. */
static void slide(struct engine *e, enum span_kind kind)
{
	const struct plan *p = e->plan;
	const struct span span = {e->next_end - p->size_ns, e->next_end};
	uint32_t window = window_new(e->merged, span.start_ns, span.end_ns);

	for (uint32_t i = place_of(e, span.start_ns);
	     window && i < e->n_panes && e->panes[i].at < span.end_ns; i++)
		merge_pane(e, e->panes[i].window, window);
	if (window && e->merged->windows[window].n) {
		if (p->conf->output == OUTPUT_WINDOW)
			engine_print_window(e, e->merged, window, &span, kind);
		for (uint32_t i; (i = e->merged->windows[window].first); groups_remove(e->merged, i))
			if (p->conf->output == OUTPUT_GROUP)
				engine_print(e, groups_at(e->merged, i), &span, kind);
	}
	if (window)
		window_free(e->merged, window);
	while (e->n_panes && e->panes[0].at < span.start_ns + p->every_ns)
		engine_forget_window(e, e->panes[0].window);
	e->next_end = span.end_ns + p->every_ns;
	int64_t end = e->n_panes ? first_end(e, e->panes[0].at) : NEVER;
	if (end == NEVER || end > e->next_end)
		e->next_end = end;
}

/* ---- time ---- */

static bool is_idle(const struct engine *e, const struct engine_input *in, uint64_t now)
{
	uint64_t limit =
		e->plan->idle_ns < 0 ? (in->resumable ? 0 : IDLE_LIVE_NS) : (uint64_t)e->plan->idle_ns;

	return limit && now > in->heard && now - in->heard >= limit;
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
			/* its clock goes on */
			int64_t at = in->newest + (int64_t)(now - in->heard);
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

	switch (e->plan->kind) {
	case WINDOW_TUMBLING:
		while (e->n_panes && e->panes[0].at + e->plan->size_ns <= e->watermark) {
			window = e->panes[0].window;
			remove_pane(e, 0);
			close_window(e, window);
		}
		break;
	case WINDOW_SLIDING:
		while (e->next_end != NEVER && e->next_end <= e->watermark)
			slide(e, SPAN_FINAL);
		break;
	case WINDOW_SESSION:
		while ((window = first_session(e)) && e->groups->windows[window].end_ns <= e->watermark) {
			pop(e);
			close_window(e, window);
		}
	}
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
	engine_advance(e, now);
}

/* ---- before their end ---- */

static void report_all(struct engine *e, enum span_kind kind)
{
	struct groups *g = e->groups;

	for (uint32_t w = 1; w <= g->windows_top; w++) {
		const struct span span = {g->windows[w].start_ns, g->windows[w].end_ns};
		if (!g->windows[w].open)
			continue;
		if (e->plan->conf->output == OUTPUT_WINDOW)
			engine_print_window(e, g, w, &span, kind);
		for (uint32_t i = g->windows[w].first; i && e->plan->conf->output == OUTPUT_GROUP;
		     i = groups_at(g, i)->next)
			engine_print(e, groups_at(g, i), &span, kind);
	}
}

void engine_early(struct engine *e)
{
	if (e->plan->kind != WINDOW_SLIDING)
		report_all(e, SPAN_EARLY);
}

void engine_flush(struct engine *e)
{
	struct groups *g = e->groups;

	while (!engine_close_step(e, UINT32_MAX))
		;
	while (e->plan->kind == WINDOW_SLIDING && e->next_end != NEVER)
		slide(e, SPAN_PARTIAL);
	if (e->plan->kind != WINDOW_SLIDING)
		report_all(e, SPAN_PARTIAL);
	for (uint32_t w = 1; w <= g->windows_top; w++)
		if (g->windows[w].open)
			engine_forget_window(e, w);
	e->n_panes = 0;
	e->next_end = NEVER;
}
