/* SPDX-License-Identifier: MIT */
/* engine_impl - what the files of the engine share. */
#pragma once
#include "engine.h"

#define OVERFLOW_KEY "*" /* no JSON text, so no other key */

enum span_kind { SPAN_FINAL, SPAN_EARLY, SPAN_PARTIAL };

uint32_t engine_hash(const struct engine *, const char *key, size_t len);
/* Groups of one key in different panes lie in different chains; sessions of one key in one. */
static inline uint32_t engine_salt(const struct engine *e, uint32_t window)
{
	return e->plan->kind == WINDOW_SESSION ? 0 : window * 0x9e3779b1u;
}

/* engine_panes.c: the pane that starts there, 0: none; made if need be, 0: out of memory */
uint32_t engine_find_pane(const struct engine *, int64_t start_ns);
uint32_t engine_get_pane(struct engine *, int64_t start_ns);
/* How many panes start before; panes from that one on are engine_pane(). */
uint32_t engine_panes_before(const struct engine *, int64_t start_ns);
static inline struct engine_pane *engine_pane(const struct engine *e, uint32_t i)
{
	return &e->panes[e->first_pane + i];
}
/* The end of the first window that holds the pane. */
int64_t engine_first_end(const struct plan *, int64_t start_ns);
uint32_t engine_open_session(struct engine *, int64_t start_ns, int64_t end_ns);
/* It is not among the panes or sessions any more. */
void engine_take_out(struct engine *, uint32_t window);
/* It has no groups, or they go with it. */
void engine_forget_window(struct engine *, uint32_t window);
/* The open one that ends first; 0: there is none. */
uint32_t engine_oldest_window(struct engine *);

/* engine_windows.c: an input has come further, windows may be over */
void engine_advance(struct engine *, uint64_t now);
/* Report groups of windows that are over, as engine_close_step() does. */
bool engine_report_step(struct engine *, uint32_t *n);

/* engine_print.c */
void engine_print(struct engine *, struct group *, const struct span *, enum span_kind);
/* OUTPUT_WINDOW: up to *n more groups of the window into its result; true: it is complete and handed over. */
bool engine_print_window(struct engine *, struct groups *, uint32_t window, const struct span *,
			 enum span_kind, uint32_t *n);
