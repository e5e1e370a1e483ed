/* SPDX-License-Identifier: MIT */
/* engine - see engine.h. */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/fields.h>
#include "key.h"

#define CLOCK_IS_SET UINT64_C(1577836800000000000) /* 2020-01-01 */
#define WHOLE_MAX    (1u << 20) /* bytes of memory that stay allocated for the next window's result */
/* An input without events for so long is idle, unless it is resumable.  With times from the events, events on
 * their way would then be late, so that limit is longer. */
#define IDLE_RECEIVED_NS UINT64_C(1000000000)
#define IDLE_NS          UINT64_C(5000000000)

enum span_kind { SPAN_FINAL, SPAN_EARLY, SPAN_PARTIAL };

/* ---- making ---- */

int engine_new(struct plan *plan, const struct ss_iface *fields, struct engine **out)
{
	struct engine *e = calloc(1, sizeof *e);

	if (!e)
		return -ENOMEM;
	e->plan = plan;
	e->fields = *fields;
	e->watermark = e->next_end = NEVER;
	for (int i = 0; i < INPUTS_MAX; i++)
		e->inputs[i].newest = NEVER;
	e->panes.plan = plan;
	e->values = calloc(plan->n_paths + 1, sizeof *e->values);
	e->numbers = calloc(plan->n_paths + 1, sizeof *e->numbers);
	if (!e->values || !e->numbers || !ss_strbuf_room(&e->key, 256) ||
	    groups_new(&plan->functions, &e->groups) < 0 ||
	    (plan->kind == WINDOW_SLIDING && groups_new(&plan->functions, &e->merged) < 0)) {
		engine_free(e);
		return -ENOMEM;
	}
	e->panes.groups = e->groups;
	*out = e;
	return 0;
}

void engine_free(struct engine *e)
{
	if (!e)
		return;
	groups_free(e->groups);
	groups_free(e->merged);
	free(e->values);
	free(e->numbers);
	free(e->panes.v);
	ss_strbuf_done(&e->key);
	ss_strbuf_done(&e->line);
	ss_strbuf_done(&e->span);
	ss_strbuf_done(&e->whole);
	free(e);
}

static uint32_t key_hash(const struct engine *e, const char *key, size_t len)
{
	return (uint32_t)ss_hash_key(e->plan->functions.secret, key, len);
}

/* Groups of one key in different panes lie in different chains; sessions of one key in one. */
static uint32_t salt(const struct engine *e, uint32_t window)
{
	return e->plan->kind == WINDOW_SESSION ? 0 : window * 0x9e3779b1u;
}

/* ---- results ---- */

/* The window's times are formatted once for all its groups. */
static void print_span(struct engine *e, const struct span *span, struct ss_strbuf *out)
{
	struct ss_strbuf *t = &e->span;
	char text[TIMESTAMP_TEXT];

	if (!t->len || span->start_ns != e->shown.start_ns || span->end_ns != e->shown.end_ns) {
		t->len = 0;
		ss_strbuf_text(t, "{\"window_start\":\"");
		ss_strbuf_add(t, text, timestamp_print(text, span->start_ns));
		ss_strbuf_text(t, "\",\"window_end\":\"");
		ss_strbuf_add(t, text, timestamp_print(text, span->end_ns));
		ss_strbuf_text(t, "\",");
		e->shown = *span;
	}
	ss_strbuf_add(out, t->bytes, t->len);
	if (t->failed) {
		out->failed = true;
		ss_strbuf_clear(t);
	}
}

static void print_kind(const struct engine *e, struct ss_strbuf *out, enum span_kind kind)
{
	if (e->plan->conf->early_ns)
		ss_strbuf_text(out, kind == SPAN_EARLY ? ",\"final\":false" : ",\"final\":true");
	ss_strbuf_text(out, kind == SPAN_PARTIAL ? ",\"partial\":true}" : "}");
}

static void hand_over(struct engine *e, struct ss_strbuf *out)
{
	if (out->failed) {
		out->failed = false;
		e->count.no_memory++;
	} else {
		e->count.results++;
		e->result(e->arg, false, out->bytes, out->len);
	}
	out->len = 0;
}

static void print_group(struct engine *e, struct group *c, const struct span *span, struct ss_strbuf *out)
{
	key_print(e->plan, group_key(c), c->key_len, out);
	functions_print(&e->plan->functions, group_states(c), span, out);
}

static void print_result(struct engine *e, struct group *c, const struct span *span, enum span_kind kind)
{
	bool alone = e->plan->conf->output == OUTPUT_GROUP;

	print_span(e, span, &e->line);
	if (!alone)
		ss_strbuf_text(&e->line, "\"groups\":[{");
	print_group(e, c, span, &e->line);
	if (!alone)
		ss_strbuf_text(&e->line, "}]");
	print_kind(e, &e->line, kind);
	hand_over(e, &e->line);
}

static bool print_window(struct engine *e, struct groups *g, uint32_t window, const struct span *span,
			 enum span_kind kind, uint32_t *n)
{
	struct ss_strbuf *out = &e->whole;
	uint32_t next = e->whole_next;

	if (!next) {
		next = g->windows[window].first;
		out->len = 0;
		print_span(e, span, out);
		ss_strbuf_text(out, "\"groups\":[");
	}
	for (; next && *n; --*n, next = groups_at(g, next)->next) {
		ss_strbuf_text(out, next == g->windows[window].first ? "{" : ",{");
		print_group(e, groups_at(g, next), span, out);
		ss_strbuf_text(out, "}");
	}
	e->whole_next = next;
	if (next)
		return false;
	ss_strbuf_text(out, "]");
	print_kind(e, out, kind);
	hand_over(e, out);
	if (out->size > WHOLE_MAX)
		ss_strbuf_done(out);
	return true;
}

/* ---- reporting ---- */

/* Report and remove up to *n groups of a window that gets no more events.  true: the window is empty. */
static bool report(struct engine *e, struct groups *g, uint32_t window, enum span_kind kind, uint32_t *n)
{
	const struct span span = {g->windows[window].start_ns, g->windows[window].end_ns};

	if (e->plan->conf->output == OUTPUT_WINDOW) {
		/* all at once, so that a snapshot has either the groups or the result */
		if (!print_window(e, g, window, &span, kind, n))
			return false;
		while (g->windows[window].first)
			groups_remove(g, g->windows[window].first);
		return true;
	}
	for (uint32_t i; *n && (i = g->windows[window].first); --*n) {
		print_result(e, groups_at(g, i), &span, kind);
		groups_remove(g, i);
	}
	return !g->windows[window].first;
}

static bool report_step(struct engine *e, uint32_t *n)
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
	while (!report_step(e, &n));
}

static void close_window(struct engine *e, uint32_t window)
{
	struct window *w = &e->groups->windows[window];

	panes_close(&e->panes, window);
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
		uint32_t hash = c->hash ^ salt(e, pane);
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

/* The end of the first window that holds the pane. */
static int64_t first_end(const struct plan *p, int64_t start_ns)
{
	return plan_align(start_ns - p->size_ns, p->every_ns, p->offset_ns) + p->every_ns + p->size_ns;
}

/* Merge the panes of the window that ends at next_end, free panes that no later window needs, find the next
 * end. */
static void slide(struct engine *e, bool partial)
{
	const struct plan *p = e->plan;
	const struct span span = {e->next_end - p->size_ns, e->next_end};

	report_all(e); /* there is room for one merged window */
	uint32_t window = window_new(e->merged, span.start_ns, span.end_ns);
	if (!window)
		e->count.no_memory++;
	for (uint32_t i = panes_before(&e->panes, span.start_ns);
	     window && i < e->panes.n && panes_at(&e->panes, i)->at < span.end_ns; i++)
		merge_pane(e, panes_at(&e->panes, i)->window, window);
	if (window && e->merged->windows[window].n) {
		e->sliding = window;
		e->sliding_partial = partial;
	} else if (window) {
		window_free(e->merged, window);
	}
	while (e->panes.n && panes_at(&e->panes, 0)->at < span.start_ns + p->every_ns)
		panes_forget(&e->panes, panes_at(&e->panes, 0)->window);
	int64_t next = e->panes.n ? first_end(p, panes_at(&e->panes, 0)->at) : NEVER;
	e->next_end = next != NEVER && next < span.end_ns + p->every_ns ? span.end_ns + p->every_ns : next;
}

/* ---- time ---- */

/* 0: the input is never idle. */
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

/* The time of an idle input: its newest event's, advanced with the clock.  With times from the events it lags
 * by the idle limit, as events may come after a pause as long as earlier ones. */
static int64_t idle_time(const struct engine *e, const struct engine_input *in, uint64_t now)
{
	uint64_t silence = now - in->heard - (e->plan->received ? 0 : idle_limit(e, in));
	uint64_t newest = (uint64_t)in->newest, most = TIMESTAMP_MAX - newest;

	return (int64_t)(newest + (silence < most ? silence : most));
}

/* The time up to which all events have arrived; NEVER: there were none yet. */
static int64_t horizon(const struct engine *e, uint64_t now)
{
	int64_t slowest = NEVER, idle = NEVER;
	bool active = false;

	for (uint32_t i = 0; i < e->n_inputs; i++) {
		const struct engine_input *in = &e->inputs[i];
		if (in->newest == NEVER)
			continue;
		if (is_idle(e, in, now)) {
			int64_t at = idle_time(e, in, now);
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
	while ((window = panes_oldest(&e->panes)) && e->groups->windows[window].end_ns <= e->watermark)
		close_window(e, window);
}

static void advance(struct engine *e, uint64_t now)
{
	int64_t at = horizon(e, now);

	if (at == NEVER || (e->watermark != NEVER && at <= e->watermark))
		return;
	e->watermark = at;
	if (e->panes.n)
		close_due(e);
}

void engine_loaded(struct engine *e)
{
	if (e->watermark != NEVER && e->panes.n)
		close_due(e);
}

void engine_tick(struct engine *e, uint64_t now)
{
	for (uint32_t i = 0; i < e->n_inputs; i++)
		if (!e->inputs[i].heard) /* restored: its idle time begins now */
			e->inputs[i].heard = now;
	advance(e, now);
}

/* ---- early results ---- */

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
		print_result(e, c, &span, SPAN_EARLY);
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
			print_window(e, g, w, &span, SPAN_EARLY, &n);
	}
}

bool engine_close_step(struct engine *e, uint32_t n)
{
	bool reported = report_step(e, &n);

	early_step(e, &n);
	return reported && !e->early;
}

void engine_flush(struct engine *e)
{
	e->early = 0;
	while (e->plan->kind == WINDOW_SLIDING && e->next_end != NEVER)
		slide(e, true);
	report_all(e);
	for (uint32_t window; (window = panes_oldest(&e->panes));) {
		uint32_t n = UINT32_MAX;
		report(e, e->groups, window, SPAN_PARTIAL, &n);
		panes_forget(&e->panes, window);
	}
}

size_t engine_memory(const struct engine *e)
{
	return groups_memory(e->groups) + (e->merged ? groups_memory(e->merged) : 0) +
	       e->panes.room * sizeof *e->panes.v;
}

/* ---- reading an event ---- */

static bool drop(struct engine *e, enum engine_drop why)
{
	if (why != ENGINE_LATE && !e->faults[why][0])
		ss_event_fault(e->batch, e->event, e->error, e->where, e->faults[why]);
	e->count.dropped[why]++;
	if (e->refuse && why != ENGINE_LATE && why != ENGINE_NO_MEMORY)
		e->refuse(e->arg, why);
	return false;
}

static bool read_fields(struct engine *e, const struct ss_batch *batch, const struct ss_event *event)
{
	struct plan *p = e->plan;

	if (!ss_event_reader_used(&p->reader))
		return true;
	e->error = ss_event_read(&p->reader, batch, event, e->values, &e->where);
	if (e->error < 0)
		return drop(e, e->error == -ELOOP ? ENGINE_TOO_DEEP : ENGINE_NOT_JSON);
	for (uint32_t i = 0; i < p->n_paths; i++)
		if (p->number_field[i] && e->values[i].type == SS_JSON_NUMBER)
			ss_number_read(&e->fields, &e->values[i], &e->numbers[i]);
	return true;
}

static bool make_key(struct engine *e)
{
	int rc = key_build(e->plan, &e->fields, e->values, &e->key);

	return rc == 0 || drop(e, rc == -E2BIG ? ENGINE_KEY : ENGINE_NO_MEMORY);
}

static bool is_full(const struct engine *e)
{
	const uint64_t groups = (uint64_t)e->plan->conf->max_groups,
		       bytes = (uint64_t)e->plan->conf->max_memory;

	return e->groups->n >= groups || (bytes && groups_used(e->groups) >= bytes);
}

/* Make room: report groups of windows that are over. */
static bool report_some(struct engine *e)
{
	uint32_t n = 16;

	if (!e->closing)
		return false;
	report_step(e, &n);
	return true;
}

/* The oldest group is the first of the window that ends first. */
static void evict_oldest(struct engine *e)
{
	uint32_t window = panes_oldest(&e->panes);

	if (!window)
		return;
	const struct window *w = &e->groups->windows[window];
	const struct span span = {w->start_ns, w->end_ns};
	uint32_t oldest = w->first;
	print_result(e, groups_at(e->groups, oldest), &span, SPAN_PARTIAL);
	groups_remove(e->groups, oldest);
	e->count.evicted++;
	if (!e->groups->windows[window].n)
		panes_forget(&e->panes, window);
}

/* A new group for the key in e->key, or the overflow group when there is no room. */
static uint32_t add_group(struct engine *e, uint32_t hash, uint32_t window)
{
	static const char overflow[] = OVERFLOW_KEY;

	if (is_full(e) && e->plan->conf->when_full == FULL_OVERFLOW) {
		uint32_t all = key_hash(e, overflow, 1) ^ salt(e, window);
		uint32_t g = groups_find(e->groups, all, window, overflow, 1);
		e->count.overflowed++;
		return g ? g : groups_add(e->groups, all, window, overflow, 1);
	}
	return groups_add(e->groups, hash, window, e->key.bytes, e->key.len);
}

static void make_room(struct engine *e)
{
	while (is_full(e) && report_some(e))
		;
	while (e->plan->conf->when_full == FULL_OLDEST && e->groups->n && is_full(e))
		evict_oldest(e);
}

/* Existing groups grow, by sketches and long values: evict until the limit holds. */
static void limit_memory(struct engine *e)
{
	const struct conf *conf = e->plan->conf;
	uint64_t limit = (uint64_t)conf->max_memory;

	limit += conf->when_full == FULL_OVERFLOW ? limit / 16 : 0; /* for overflow groups */
	while (groups_used(e->groups) > limit && report_some(e))
		;
	while (groups_used(e->groups) > limit && e->groups->n)
		evict_oldest(e);
}

static bool put(struct engine *e, uint32_t group, int64_t at)
{
	struct functions_skipped skipped = {0};
	struct group *c = groups_at(e->groups, group);
	struct functions *f = &e->plan->functions;

	groups_touch(e->groups, group);
	size_t before = functions_heap(f, group_states(c));
	functions_add(f, group_states(c), e->values, e->numbers, at, e->order, &skipped);
	e->groups->heap += functions_heap(f, group_states(c)) - before;
	e->count.wrong_type += skipped.wrong_type;
	e->count.no_memory += skipped.no_memory;
	return true;
}

/* The first window that holds a new pane may be the next to be reported. */
static void expect(struct engine *e, int64_t start_ns)
{
	const struct plan *p = e->plan;
	int64_t end = first_end(p, start_ns);

	if (e->watermark != NEVER && end <= e->watermark) /* windows that end by then are over */
		end += (e->watermark - end) / p->every_ns * p->every_ns + p->every_ns;
	e->next_end = e->next_end == NEVER || end < e->next_end ? end : e->next_end;
}

static uint32_t get_pane(struct engine *e, int64_t start_ns)
{
	uint32_t window = panes_find(&e->panes, start_ns);

	if (window)
		return window;
	window = panes_open(&e->panes, start_ns);
	if (window && e->plan->kind == WINDOW_SLIDING)
		expect(e, start_ns);
	return window;
}

static bool into_pane(struct engine *e, int64_t at)
{
	int64_t start = plan_pane(e->plan, at);
	uint32_t hash = key_hash(e, e->key.bytes, e->key.len);
	uint32_t window = panes_find(&e->panes, start);
	uint32_t group =
		window ? groups_find(e->groups, hash ^ salt(e, window), window, e->key.bytes, e->key.len) : 0;

	if (group)
		return put(e, group, at);
	make_room(e); /* may close a window that had one group */
	window = get_pane(e, start);
	group = window ? add_group(e, hash ^ salt(e, window), window) : 0;
	if (!group) {
		if (window && !e->groups->windows[window].n)
			panes_forget(&e->panes, window);
		return drop(e, ENGINE_NO_MEMORY);
	}
	return put(e, group, at);
}

/* ---- sessions ---- */

/* Merge another session of the same key into one. */
static void join_sessions(struct engine *e, uint32_t into, uint32_t other)
{
	struct groups *g = e->groups;
	struct group *a = groups_at(g, into), *b = groups_at(g, other);
	struct window *wa = &g->windows[a->window], *wb = &g->windows[b->window];
	uint32_t gone = b->window;

	groups_touch(g, into);
	groups_touch(g, other);
	size_t before = functions_heap(g->functions, group_states(a));
	if (functions_merge(g->functions, group_states(a), group_states(b)) < 0)
		e->count.no_memory++;
	g->heap += functions_heap(g->functions, group_states(a)) - before;
	wa->start_ns = wb->start_ns < wa->start_ns ? wb->start_ns : wa->start_ns;
	wa->end_ns = wb->end_ns > wa->end_ns ? wb->end_ns : wa->end_ns;
	panes_forget(&e->panes, gone);
}

/* The earliest session that the event extends: which of two absorbs the other must not depend on their places
 * in memory. */
static uint32_t find_session(struct engine *e, uint32_t hash, int64_t at, uint32_t not_this)
{
	int64_t gap = e->plan->size_ns, earliest = 0;
	uint32_t i = 0, found = 0;

	while ((i = groups_find_key(e->groups, hash, i, e->key.bytes, e->key.len))) {
		const struct window *w = &e->groups->windows[groups_at(e->groups, i)->window];
		if (i == not_this || !w->open || at >= w->end_ns || at + gap <= w->start_ns)
			continue;
		if (!found || w->start_ns < earliest) {
			found = i;
			earliest = w->start_ns;
		}
	}
	return found;
}

static uint32_t new_session(struct engine *e, uint32_t hash, int64_t at)
{
	make_room(e);
	uint32_t window = panes_open_session(&e->panes, at, at + e->plan->size_ns);
	uint32_t group = window ? add_group(e, hash, window) : 0;

	if (window && !group)
		panes_forget(&e->panes, window);
	return group;
}

static bool into_session(struct engine *e, int64_t at)
{
	uint32_t hash = key_hash(e, e->key.bytes, e->key.len);
	uint32_t group = find_session(e, hash, at, 0), other;
	int64_t end = at + e->plan->size_ns;

	if (!group && e->watermark != NEVER && end <= e->watermark)
		return drop(e, ENGINE_LATE);
	if (!group && !(group = new_session(e, hash, at)))
		return drop(e, ENGINE_NO_MEMORY);
	groups_touch(e->groups, group);
	struct window *w = &e->groups->windows[groups_at(e->groups, group)->window];
	w->start_ns = at < w->start_ns ? at : w->start_ns;
	w->end_ns = end > w->end_ns ? end : w->end_ns;
	put(e, group, at);
	other = find_session(e, hash, at, group); /* the next one: there is no room for a third */
	if (other)
		join_sessions(e, group, other);
	return true;
}

/* ---- an event ---- */

/* The end of the last window that an event of this time belongs to. */
static int64_t last_end(const struct plan *p, int64_t at)
{
	return plan_align(at, p->every_ns, p->offset_ns) + p->size_ns;
}

struct engine_input *engine_input(struct engine *e, uint32_t input)
{
	input = input < INPUTS_MAX ? input : INPUTS_MAX - 1;
	if (input >= e->n_inputs)
		e->n_inputs = input + 1;
	return &e->inputs[input];
}

/* The time of an event; false: the event was dropped. */
static bool read_time(struct engine *e, const struct ss_event *event, int64_t *at)
{
	const struct plan *p = e->plan;
	bool received = event->time_ns <= TIMESTAMP_MAX;

	*at = (int64_t)event->time_ns;
	if (p->time_field < 0)
		return received || drop(e, ENGINE_NO_TIME);
	if (!timestamp_read(&e->values[p->time_field], p->time_format, at))
		return drop(e, ENGINE_NO_TIME);
	/* before this host's clock is set nothing is compared with it */
	if (p->ahead_ns && event->time_ns > CLOCK_IS_SET && received &&
	    *at - (int64_t)event->time_ns > p->ahead_ns)
		return drop(e, ENGINE_AHEAD);
	return true;
}

bool engine_event(struct engine *e, uint32_t input, const struct ss_batch *batch,
		  const struct ss_event *event, uint64_t now)
{
	const struct plan *p = e->plan;
	uint64_t late = e->count.dropped[ENGINE_LATE];
	int64_t at;
	bool taken;

	e->order++;
	e->batch = batch;
	e->event = event;
	if (!read_fields(e, batch, event) || !read_time(e, event, &at) || !make_key(e))
		return false;
	struct engine_input *in = engine_input(e, input);
	in->heard = now;
	if (at > in->newest) { /* first, as windows that close make room; none of the event's own closes */
		in->newest = at;
		advance(e, now);
	}
	if (p->received && at < e->watermark)
		at = e->watermark; /* the event was delayed, or the clock was set back */
	const bool session = p->kind == WINDOW_SESSION;
	if (!session && e->watermark != NEVER && last_end(p, at) <= e->watermark)
		taken = drop(e, ENGINE_LATE);
	else
		taken = session ? into_session(e, at) : into_pane(e, at);
	if (p->emit_late && e->count.dropped[ENGINE_LATE] != late)
		e->result(e->arg, true, (const char *)event->data, event->len);
	if (p->conf->max_memory)
		limit_memory(e);
	return taken;
}

/* ---- checkpoints ---- */

void engine_save(struct engine *e, struct ss_strbuf *out)
{
	while (e->sliding) {
		uint32_t n = UINT32_MAX;
		report_step(e, &n);
	}
	ss_strbuf_u64(out, (uint64_t)e->watermark);
	ss_strbuf_u64(out, e->order);
	ss_strbuf_u64(out, e->plan->functions.secret[0]);
	ss_strbuf_u64(out, e->plan->functions.secret[1]);
	ss_strbuf_u64(out, e->n_inputs);
	for (uint32_t i = 0; i < e->n_inputs; i++) {
		ss_strbuf_u64(out, (uint64_t)e->inputs[i].newest);
		ss_strbuf_u64(out, e->inputs[i].resumable);
	}
}

int engine_load(struct engine *e, struct ss_unpack *r)
{
	e->watermark = (int64_t)ss_unpack_u64(r);
	e->order = ss_unpack_u64(r);
	e->plan->functions.secret[0] = ss_unpack_u64(r);
	e->plan->functions.secret[1] = ss_unpack_u64(r);
	uint64_t n = ss_unpack_u64(r);
	if (r->failed || n > INPUTS_MAX || (e->watermark != NEVER && !timestamp_in_window(e->watermark)))
		return -EINVAL;
	e->n_inputs = (uint32_t)n;
	for (uint32_t i = 0; i < n; i++) {
		e->inputs[i].newest = (int64_t)ss_unpack_u64(r);
		e->inputs[i].resumable = ss_unpack_u64(r) != 0;
		if (e->inputs[i].newest != NEVER && !timestamp_in_range(e->inputs[i].newest))
			return -EINVAL;
	}
	return r->failed ? -EINVAL : 0;
}

/* Is this a window that the plan can have made? */
static bool is_window(const struct plan *p, const struct saved_group *s)
{
	if (!timestamp_in_window(s->start_ns) || !timestamp_in_window(s->end_ns) || s->end_ns <= s->start_ns)
		return false;
	return p->kind == WINDOW_SESSION ||
	       (plan_pane(p, s->start_ns) == s->start_ns && s->end_ns == s->start_ns + p->pane_ns);
}

int engine_load_group(struct engine *e, const struct saved_group *s)
{
	if (!is_window(e->plan, s))
		return -EINVAL;
	uint32_t window = e->plan->kind == WINDOW_SESSION
				  ? panes_open_session(&e->panes, s->start_ns, s->end_ns)
				  : get_pane(e, s->start_ns);
	if (!window)
		return -ENOMEM;
	uint32_t hash = key_hash(e, s->key, s->key_len) ^ salt(e, window);
	uint32_t group = groups_add(e->groups, hash, window, s->key, s->key_len);
	if (!group)
		return -ENOMEM;
	groups_at(e->groups, group)->born = s->born;
	uint8_t *states = group_states(groups_at(e->groups, group));
	int rc = functions_load(&e->plan->functions, states, s->states, s->states_len);
	if (rc == 0)
		e->groups->heap += functions_heap(&e->plan->functions, states);
	return rc;
}
