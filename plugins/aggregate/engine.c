/* SPDX-License-Identifier: MIT */
/* engine - from an event to its group; see engine.h. */
#include "engine.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/fields.h>
#include "engine_impl.h"

#define CLOCK_IS_SET UINT64_C(1577836800000000000) /* 2020-01-01 */

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
	e->values = calloc(plan->n_paths + 1, sizeof *e->values);
	e->numbers = calloc(plan->n_paths + 1, sizeof *e->numbers);
	if (!e->values || !e->numbers || !text_room(&e->key, 256) ||
	    groups_new(&plan->functions, &e->groups) < 0 ||
	    (plan->kind == WINDOW_SLIDING && groups_new(&plan->functions, &e->merged) < 0)) {
		engine_free(e);
		return -ENOMEM;
	}
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
	free(e->panes);
	text_done(&e->key);
	text_done(&e->line);
	text_done(&e->span);
	text_done(&e->whole);
	free(e);
}

/* ---- reading an event ---- */

static bool drop(struct engine *e, enum engine_drop why)
{
	e->count.dropped[why]++;
	return false;
}

static bool read_fields(struct engine *e, const struct ss_event *event)
{
	const struct ss_fields *vtbl = e->fields.vtbl;
	const struct plan *p = e->plan;

	if (!p->reader)
		return true;
	int rc = vtbl->read(e->fields.self, p->reader, event->data, event->len, e->values, NULL);
	if (rc < 0)
		return drop(e, rc == -ELOOP ? ENGINE_TOO_DEEP : ENGINE_NOT_JSON);
	for (uint32_t i = 0; i < p->n_paths; i++)
		if (p->number_field[i] && e->values[i].type == SS_JSON_NUMBER)
			ss_number_read(&e->fields, &e->values[i], &e->numbers[i]);
	return true;
}

static void add_string(struct engine *e, const struct ss_field *f)
{
	const char *text;
	size_t len;

	if (f->flags & SS_FIELD_ESCAPED) {
		if (ss_scratch_text(&e->plan->functions.scratch, &e->fields, f, &text, &len) < 0)
			e->key.failed = true;
		else
			text_json(&e->key, text, len);
		return;
	}
	char *room = text_room(&e->key, f->len + 2);
	if (!room)
		return;
	room[0] = room[f->len + 1] = '"';
	memcpy(room + 1, f->text, f->len);
	e->key.len += f->len + 2;
}

/* Equal values are one key, however they are written. */
static void add_key(struct engine *e, const struct ss_field *f)
{
	struct ss_number n;

	switch (f->type) {
	case SS_JSON_STRING:
		add_string(e, f);
		break;
	case SS_JSON_MISSING:
		text_bytes(&e->key, "null", 4);
		break;
	case SS_JSON_NUMBER:
		if (f->flags & SS_FIELD_INTEGER) { /* there is one way to write it, but for -0 */
			bool zero = f->text[0] == '-' && f->text[1] == '0';
			text_bytes(&e->key, f->text + zero, f->len - zero);
			break;
		}
		ss_number_read(&e->fields, f, &n);
		if (isfinite(n.d))
			text_double(&e->key, n.d);
		else
			text_bytes(&e->key, f->text, f->len);
		break;
	default:
		text_bytes(&e->key, f->text, f->len);
	}
}

static bool make_key(struct engine *e)
{
	e->key.len = 0;
	for (uint32_t i = 0; i < e->plan->n_group_fields; i++) {
		const struct ss_field *f = &e->values[e->plan->group_fields[i]];
		if (f->len > 6 * KEY_MAX) /* however it is escaped */
			return drop(e, ENGINE_KEY);
		if (i)
			text_bytes(&e->key, ",", 1);
		add_key(e, f);
	}
	if (e->key.failed) {
		e->key.failed = false;
		return drop(e, ENGINE_NO_MEMORY);
	}
	return e->key.len <= KEY_MAX || drop(e, ENGINE_KEY);
}

uint32_t engine_hash(const struct engine *e, const char *key, size_t len)
{
	return (uint32_t)ss_hash_key(e->plan->functions.secret, key, len);
}

/* ---- room ---- */

static bool is_full(const struct engine *e)
{
	const struct conf *conf = e->plan->conf;

	return e->groups->n >= (uint64_t)conf->max_groups ||
	       (conf->max_memory && groups_used(e->groups) >= (uint64_t)conf->max_memory);
}

/* Room that groups take whose windows are over. */
static bool report_some(struct engine *e)
{
	uint32_t n = 16;

	if (!e->closing)
		return false;
	engine_report_step(e, &n);
	return true;
}

/* The oldest group is the first of the window that ends first. */
static void evict_oldest(struct engine *e)
{
	uint32_t window = engine_oldest_window(e);

	if (!window)
		return;
	const struct window *w = &e->groups->windows[window];
	const struct span span = {w->start_ns, w->end_ns};
	uint32_t oldest = w->first;
	engine_print(e, groups_at(e->groups, oldest), &span, SPAN_PARTIAL);
	groups_remove(e->groups, oldest);
	e->count.evicted++;
	if (!e->groups->windows[window].n)
		engine_forget_window(e, window);
}

/* A new group for the key in e->key, or what stands for it when there is no room. */
static uint32_t add_group(struct engine *e, uint32_t hash, uint32_t window)
{
	static const char overflow[] = OVERFLOW_KEY;

	if (is_full(e) && e->plan->conf->when_full == FULL_OVERFLOW) {
		uint32_t all = engine_hash(e, overflow, 1) ^ engine_salt(e, window);
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

/* Groups grow: sketches, long values. */
static void hold_memory(struct engine *e)
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
	struct functions_trouble trouble = {0};
	struct group *c = groups_at(e->groups, group);
	struct functions *f = &e->plan->functions;

	groups_touch(e->groups, group);
	size_t before = functions_heap(f, group_states(c));
	functions_add(f, group_states(c), e->values, e->numbers, at, e->order, &trouble);
	e->groups->heap += functions_heap(f, group_states(c)) - before;
	e->count.wrong_type += trouble.wrong_type;
	e->count.no_memory += trouble.no_memory;
	return true;
}

static bool into_pane(struct engine *e, int64_t at)
{
	int64_t start = plan_pane(e->plan, at);
	uint32_t hash = engine_hash(e, e->key.bytes, e->key.len);
	uint32_t window = engine_find_pane(e, start);
	uint32_t group = window ? groups_find(e->groups, hash ^ engine_salt(e, window), window, e->key.bytes,
					      e->key.len)
				: 0;

	if (group)
		return put(e, group, at);
	make_room(e); /* may close a window that had one group */
	window = engine_get_pane(e, start);
	group = window ? add_group(e, hash ^ engine_salt(e, window), window) : 0;
	if (!group) {
		if (window && !e->groups->windows[window].n)
			engine_forget_window(e, window);
		return drop(e, ENGINE_NO_MEMORY);
	}
	return put(e, group, at);
}

/* ---- sessions ---- */

/* One session takes over what another of the same key holds. */
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
	engine_forget_window(e, gone);
}

/* The earliest: which one takes over the other must not depend on where they lie in memory. */
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
	uint32_t window = engine_open_session(e, at, at + e->plan->size_ns);
	uint32_t group = window ? add_group(e, hash, window) : 0;

	if (window && !group)
		engine_forget_window(e, window);
	return group;
}

static bool into_session(struct engine *e, int64_t at)
{
	uint32_t hash = engine_hash(e, e->key.bytes, e->key.len);
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
	other = find_session(e, hash, at, group); /* the one behind: there is room for no third */
	if (other)
		join_sessions(e, group, other);
	return true;
}

/* ---- an event ---- */

/* The end of the last window an event of that moment belongs to. */
static int64_t last_end(const struct plan *p, int64_t at)
{
	int64_t in = (at - p->offset_ns) % p->every_ns;

	return at - in - (in < 0 ? p->every_ns : 0) + p->size_ns;
}

struct engine_input *engine_input(struct engine *e, uint32_t input)
{
	input = input < INPUTS_MAX ? input : INPUTS_MAX - 1;
	if (input >= e->n_inputs)
		e->n_inputs = input + 1;
	return &e->inputs[input];
}

/* When it happened; false: it was dropped. */
static bool read_time(struct engine *e, const struct ss_event *event, int64_t *at)
{
	const struct plan *p = e->plan;
	bool received = event->time_ns <= MOMENT_MAX;

	*at = (int64_t)event->time_ns;
	if (p->time_field < 0)
		return received || drop(e, ENGINE_NO_TIME);
	if (!moment_read(&e->values[p->time_field], p->time_format, at))
		return drop(e, ENGINE_NO_TIME);
	/* a clock that was not set yet says nothing */
	if (p->ahead_ns && event->time_ns > CLOCK_IS_SET && received &&
	    *at - (int64_t)event->time_ns > p->ahead_ns)
		return drop(e, ENGINE_AHEAD);
	return true;
}

bool engine_event(struct engine *e, uint32_t input, const struct ss_event *event, uint64_t now)
{
	const struct plan *p = e->plan;
	uint64_t late = e->count.dropped[ENGINE_LATE];
	int64_t at;
	bool taken;

	e->order++;
	if (!read_fields(e, event) || !read_time(e, event, &at) || !make_key(e))
		return false;
	struct engine_input *in = engine_input(e, input);
	in->heard = now;
	if (at > in->newest) { /* no window it is in ends by that, and those that do make room */
		in->newest = at;
		engine_advance(e, now);
	}
	if (p->received && at < e->watermark)
		at = e->watermark; /* it waited somewhere, or the clock was set back */
	if (p->kind == WINDOW_SESSION)
		taken = into_session(e, at);
	else if (e->watermark != NEVER && last_end(p, at) <= e->watermark)
		taken = drop(e, ENGINE_LATE);
	else
		taken = into_pane(e, at);
	if (p->emit_late && e->count.dropped[ENGINE_LATE] != late)
		e->result(e->arg, true, (const char *)event->data, event->len);
	if (p->conf->max_memory)
		hold_memory(e);
	return taken;
}
