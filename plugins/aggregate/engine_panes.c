/* SPDX-License-Identifier: MIT */
/* engine_panes - the windows that are open: panes in order of their start, sessions in a heap by their end;
 * see engine.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "engine_impl.h"

static bool room_for_pane(struct engine *e)
{
	if (e->first_pane + e->n_panes < e->panes_room)
		return true;
	if (e->first_pane > e->n_panes) { /* as many went as are moved */
		memmove(e->panes, engine_pane(e, 0), e->n_panes * sizeof *e->panes);
		e->first_pane = 0;
		return true;
	}
	uint32_t room = e->panes_room ? 2 * e->panes_room : 16;
	struct engine_pane *panes = realloc(e->panes, room * sizeof *panes);
	if (!panes)
		return false;
	e->panes = panes;
	e->panes_room = room;
	return true;
}

/* ---- panes ---- */

uint32_t engine_panes_before(const struct engine *e, int64_t start_ns)
{
	uint32_t low = 0, high = e->n_panes;

	if (high && engine_pane(e, high - 1)->at < start_ns)
		return high;
	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (engine_pane(e, middle)->at < start_ns)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint32_t engine_find_pane(const struct engine *e, int64_t start_ns)
{
	if (e->n_panes && engine_pane(e, e->n_panes - 1)->at == start_ns)
		return engine_pane(e, e->n_panes - 1)->window;
	uint32_t i = engine_panes_before(e, start_ns);
	return i < e->n_panes && engine_pane(e, i)->at == start_ns ? engine_pane(e, i)->window : 0;
}

static int64_t align_down(int64_t ns, int64_t to, int64_t offset)
{
	int64_t in = (ns - offset) % to;

	return ns - in - (in < 0 ? to : 0);
}

int64_t engine_first_end(const struct plan *p, int64_t start_ns)
{
	return align_down(start_ns - p->size_ns, p->every_ns, p->offset_ns) + p->every_ns + p->size_ns;
}

/* A window that ends then may be the next to be reported. */
static void expect(struct engine *e, int64_t start_ns)
{
	const struct plan *p = e->plan;
	int64_t end = engine_first_end(p, start_ns);

	if (e->watermark != NEVER && end <= e->watermark) /* those are over */
		end += (e->watermark - end) / p->every_ns * p->every_ns + p->every_ns;
	e->next_end = e->next_end == NEVER || end < e->next_end ? end : e->next_end;
}

uint32_t engine_get_pane(struct engine *e, int64_t start_ns)
{
	uint32_t found = engine_find_pane(e, start_ns);

	if (found)
		return found;
	uint32_t window = room_for_pane(e) ? window_new(e->groups, start_ns, start_ns + e->plan->pane_ns) : 0;
	if (!window)
		return 0;
	uint32_t i = engine_panes_before(e, start_ns);
	struct engine_pane *place = engine_pane(e, i);
	memmove(place + 1, place, (e->n_panes - i) * sizeof *place);
	*place = (struct engine_pane){start_ns, window};
	e->n_panes++;
	if (e->plan->kind == WINDOW_SLIDING)
		expect(e, start_ns);
	return window;
}

static void take_out_pane(struct engine *e, int64_t start_ns)
{
	uint32_t i = engine_panes_before(e, start_ns);

	e->n_panes--;
	if (i == 0) {
		e->first_pane = e->n_panes ? e->first_pane + 1 : 0;
		return;
	}
	memmove(engine_pane(e, i), engine_pane(e, i + 1), (e->n_panes - i) * sizeof *e->panes);
}

/* ---- sessions: window.place is where one stands in the heap, from 1 ---- */

static void put(struct engine *e, uint32_t i, struct engine_pane pane)
{
	e->panes[i] = pane;
	e->groups->windows[pane.window].place = i + 1;
}

static void sift(struct engine *e, uint32_t i, struct engine_pane pane)
{
	for (; i && e->panes[(i - 1) / 2].at > pane.at; i = (i - 1) / 2)
		put(e, i, e->panes[(i - 1) / 2]);
	for (;;) {
		uint32_t least = 2 * i + 1;
		if (least + 1 < e->n_panes && e->panes[least + 1].at < e->panes[least].at)
			least++;
		if (least >= e->n_panes || e->panes[least].at >= pane.at)
			break;
		put(e, i, e->panes[least]);
		i = least;
	}
	put(e, i, pane);
}

uint32_t engine_open_session(struct engine *e, int64_t start_ns, int64_t end_ns)
{
	uint32_t window = room_for_pane(e) ? window_new(e->groups, start_ns, end_ns) : 0;

	if (window) {
		uint32_t last = e->n_panes++;
		sift(e, last, (struct engine_pane){end_ns, window});
	}
	return window;
}

static void take_out_session(struct engine *e, uint32_t window)
{
	uint32_t i = e->groups->windows[window].place - 1;

	e->groups->windows[window].place = 0;
	e->n_panes--;
	if (i < e->n_panes)
		sift(e, i, e->panes[e->n_panes]);
}

/* One that was prolonged is put where it belongs only here. */
static uint32_t first_session(struct engine *e)
{
	while (e->n_panes) {
		struct engine_pane first = e->panes[0];
		int64_t end = e->groups->windows[first.window].end_ns;
		if (end <= first.at)
			return first.window;
		first.at = end;
		sift(e, 0, first);
	}
	return 0;
}

/* ---- both ---- */

void engine_take_out(struct engine *e, uint32_t window)
{
	if (e->plan->kind == WINDOW_SESSION)
		take_out_session(e, window);
	else
		take_out_pane(e, e->groups->windows[window].start_ns);
}

void engine_forget_window(struct engine *e, uint32_t window)
{
	struct groups *g = e->groups;

	while (g->windows[window].first)
		groups_remove(g, g->windows[window].first);
	engine_take_out(e, window);
	window_free(g, window);
}

uint32_t engine_oldest_window(struct engine *e)
{
	if (e->plan->kind == WINDOW_SESSION)
		return first_session(e);
	return e->n_panes ? engine_pane(e, 0)->window : 0;
}
