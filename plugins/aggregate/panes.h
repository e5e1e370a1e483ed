/* SPDX-License-Identifier: MIT */
/*
 * panes - the windows that are open, by time: of tumbling and sliding windows the panes in the order of their
 * start, of sessions a heap by their end.  On the instance's loop.
 */
#pragma once
#include <stdint.h>
#include "groups.h"
#include "plan.h"

/* Tumbling, sliding: a pane, at its start.  Session: a window, at its end as of the last time it was sorted.
 */
struct pane {
	int64_t at;
	uint32_t window;
};

struct panes {
	const struct plan *plan;
	struct groups *groups;
	struct pane *v;
	uint32_t first, n, room; /* n panes from first on; sessions: first is 0 */
};

static inline struct pane *panes_at(const struct panes *p, uint32_t i)
{
	return &p->v[p->first + i];
}
/* How many panes start earlier; those that start then or later follow. */
uint32_t panes_before(const struct panes *, int64_t start_ns);
/* The window of the pane with this start, 0: none. */
uint32_t panes_find(const struct panes *, int64_t start_ns);
/* A new pane, or a new session: its window, 0: out of memory. */
uint32_t panes_open(struct panes *, int64_t start_ns);
uint32_t panes_open_session(struct panes *, int64_t start_ns, int64_t end_ns);
/* The open window that ends first; 0: there is none. */
uint32_t panes_oldest(struct panes *);
/* The window is open no more; its groups stay. */
void panes_close(struct panes *, uint32_t window);
/* The same, and the window is removed with its groups. */
void panes_forget(struct panes *, uint32_t window);
