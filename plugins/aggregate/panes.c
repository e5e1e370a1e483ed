/* SPDX-License-Identifier: MIT */
/* panes - see panes.h. */
#include "panes.h"

#include <stdlib.h>
#include <string.h>

static bool room_for_pane(struct panes *p)
{
	if (p->first + p->n < p->room)
		return true;
	if (p->first > p->n) { /* at least as many were closed as are moved */
		memmove(p->v, panes_at(p, 0), p->n * sizeof *p->v);
		p->first = 0;
		return true;
	}
	uint32_t room = p->room ? 2 * p->room : 16;
	struct pane *panes = realloc(p->v, room * sizeof *panes);
	if (!panes)
		return false;
	p->v = panes;
	p->room = room;
	return true;
}

/* ---- panes ---- */

uint32_t panes_before(const struct panes *p, int64_t start_ns)
{
	uint32_t low = 0, high = p->n;

	if (high && panes_at(p, high - 1)->at < start_ns)
		return high;
	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (panes_at(p, middle)->at < start_ns)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint32_t panes_find(const struct panes *p, int64_t start_ns)
{
	if (p->n && panes_at(p, p->n - 1)->at == start_ns)
		return panes_at(p, p->n - 1)->window;
	uint32_t i = panes_before(p, start_ns);
	return i < p->n && panes_at(p, i)->at == start_ns ? panes_at(p, i)->window : 0;
}

uint32_t panes_open(struct panes *p, int64_t start_ns)
{
	uint32_t window = room_for_pane(p) ? window_new(p->groups, start_ns, start_ns + p->plan->pane_ns) : 0;
	if (!window)
		return 0;
	uint32_t i = panes_before(p, start_ns);
	struct pane *place = panes_at(p, i);
	memmove(place + 1, place, (p->n - i) * sizeof *place);
	*place = (struct pane){start_ns, window};
	p->n++;
	return window;
}

static void close_pane(struct panes *p, int64_t start_ns)
{
	uint32_t i = panes_before(p, start_ns);

	p->n--;
	if (i == 0) {
		p->first = p->n ? p->first + 1 : 0;
		return;
	}
	memmove(panes_at(p, i), panes_at(p, i + 1), (p->n - i) * sizeof *p->v);
}

/* ---- sessions: window.place is the index of a window in the heap, from 1 ---- */

static void place_session(struct panes *p, uint32_t i, struct pane pane)
{
	p->v[i] = pane;
	p->groups->windows[pane.window].place = i + 1;
}

static void sift(struct panes *p, uint32_t i, struct pane pane)
{
	for (; i && p->v[(i - 1) / 2].at > pane.at; i = (i - 1) / 2)
		place_session(p, i, p->v[(i - 1) / 2]);
	for (;;) {
		uint32_t least = 2 * i + 1;
		if (least + 1 < p->n && p->v[least + 1].at < p->v[least].at)
			least++;
		if (least >= p->n || p->v[least].at >= pane.at)
			break;
		place_session(p, i, p->v[least]);
		i = least;
	}
	place_session(p, i, pane);
}

uint32_t panes_open_session(struct panes *p, int64_t start_ns, int64_t end_ns)
{
	uint32_t window = room_for_pane(p) ? window_new(p->groups, start_ns, end_ns) : 0;

	if (window) {
		uint32_t last = p->n++;
		sift(p, last, (struct pane){end_ns, window});
	}
	return window;
}

static void close_session(struct panes *p, uint32_t window)
{
	uint32_t i = p->groups->windows[window].place - 1;

	p->groups->windows[window].place = 0;
	p->n--;
	if (i < p->n)
		sift(p, i, p->v[p->n]);
}

/* A session that was prolonged is sorted in here only, when it is needed. */
static uint32_t first_session(struct panes *p)
{
	while (p->n) {
		struct pane first = p->v[0];
		int64_t end = p->groups->windows[first.window].end_ns;
		if (end <= first.at)
			return first.window;
		first.at = end;
		sift(p, 0, first);
	}
	return 0;
}

/* ---- both ---- */

void panes_close(struct panes *p, uint32_t window)
{
	if (p->plan->kind == WINDOW_SESSION)
		close_session(p, window);
	else
		close_pane(p, p->groups->windows[window].start_ns);
}

void panes_forget(struct panes *p, uint32_t window)
{
	struct groups *g = p->groups;

	while (g->windows[window].first)
		groups_remove(g, g->windows[window].first);
	panes_close(p, window);
	window_free(g, window);
}

uint32_t panes_oldest(struct panes *p)
{
	if (p->plan->kind == WINDOW_SESSION)
		return first_session(p);
	return p->n ? panes_at(p, 0)->window : 0;
}
