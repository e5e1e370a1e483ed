/* SPDX-License-Identifier: MIT */
/* engine_print - groups as JSON, and the engine's own state in a checkpoint; see engine.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "engine.h"
#include "engine_impl.h"

#define WHOLE_KEPT (1u << 20) /* bytes of memory for the next window's result */

/* ---- results ---- */

static void print_moment(struct text *out, int64_t ns)
{
	char *room = text_room(out, MOMENT_TEXT);

	if (room)
		out->len += moment_print(room, ns);
}

/* Groups of one window share what is printed of it. */
static void print_span(struct engine *e, const struct span *span, struct text *out)
{
	struct text *t = &e->span;

	if (!t->len || span->start_ns != e->shown.start_ns || span->end_ns != e->shown.end_ns) {
		t->len = 0;
		text_string(t, "{\"window_start\":\"");
		print_moment(t, span->start_ns);
		text_string(t, "\",\"window_end\":\"");
		print_moment(t, span->end_ns);
		text_string(t, "\",");
		e->shown = *span;
	}
	text_bytes(out, t->bytes, t->len);
	if (t->failed) {
		out->failed = true;
		*t = (struct text){.bytes = t->bytes, .size = t->size};
	}
}

/* The length of the JSON value a key goes on with, up to a comma that is not in it. */
static size_t value_length(const char *key, size_t len)
{
	bool quoted = false;
	unsigned depth = 0;
	size_t i;

	for (i = 0; i < len && (quoted || depth || key[i] != ','); i++) {
		if (quoted && key[i] == '\\')
			i++;
		else if (key[i] == '"')
			quoted = !quoted;
		else if (!quoted && (key[i] == '[' || key[i] == '{'))
			depth++;
		else if (!quoted && (key[i] == ']' || key[i] == '}'))
			depth--;
	}
	return i < len ? i : len;
}

static void print_key(const struct engine *e, const struct group *c, struct text *out)
{
	const struct plan *p = e->plan;
	const char *key = group_key(c);
	size_t left = c->key_len;
	bool overflow = left == 1 && key[0] == OVERFLOW_KEY[0];

	for (uint32_t i = 0; i < p->n_group_fields; i++) {
		size_t len = i + 1 == p->n_group_fields ? left : value_length(key, left);
		text_string(out, p->group_labels[i]);
		if (overflow) {
			text_string(out, "null,");
			continue;
		}
		text_bytes(out, key, len);
		text_bytes(out, ",", 1);
		len += len < left; /* the comma */
		key += len;
		left -= len;
	}
	if (overflow)
		text_string(out, "\"overflow\":true,");
}

static void print_kind(const struct engine *e, struct text *out, enum span_kind kind)
{
	if (e->plan->conf->early_ns)
		text_string(out, kind == SPAN_EARLY ? ",\"final\":false" : ",\"final\":true");
	text_string(out, kind == SPAN_PARTIAL ? ",\"partial\":true}" : "}");
}

static void hand_over(struct engine *e, struct text *out)
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

static void print_group(struct engine *e, struct group *c, const struct span *span, struct text *out)
{
	print_key(e, c, out);
	functions_print(&e->plan->functions, group_states(c), span, out);
}

void engine_print(struct engine *e, struct group *c, const struct span *span, enum span_kind kind)
{
	bool alone = e->plan->conf->output == OUTPUT_GROUP;

	print_span(e, span, &e->line);
	if (!alone)
		text_string(&e->line, "\"groups\":[{");
	print_group(e, c, span, &e->line);
	if (!alone)
		text_string(&e->line, "}]");
	print_kind(e, &e->line, kind);
	hand_over(e, &e->line);
}

bool engine_print_window(struct engine *e, struct groups *g, uint32_t window, const struct span *span,
			 enum span_kind kind, uint32_t *n)
{
	struct text *out = &e->whole;
	uint32_t next = e->whole_next;

	if (!next) {
		next = g->windows[window].first;
		out->len = 0;
		print_span(e, span, out);
		text_string(out, "\"groups\":[");
	}
	for (; next && *n; --*n, next = groups_at(g, next)->next) {
		text_string(out, next == g->windows[window].first ? "{" : ",{");
		print_group(e, groups_at(g, next), span, out);
		text_string(out, "}");
	}
	e->whole_next = next;
	if (next)
		return false;
	text_string(out, "]");
	print_kind(e, out, kind);
	hand_over(e, out);
	if (out->size > WHOLE_KEPT)
		text_done(out);
	return true;
}

/* ---- checkpoints ---- */

void engine_save(struct engine *e, struct text *out)
{
	while (e->sliding) {
		uint32_t n = UINT32_MAX;
		engine_report_step(e, &n);
	}
	text_u64(out, (uint64_t)e->watermark);
	text_u64(out, e->order);
	text_u64(out, e->plan->functions.secret[0]);
	text_u64(out, e->plan->functions.secret[1]);
	text_u64(out, e->n_inputs);
	for (uint32_t i = 0; i < e->n_inputs; i++) {
		text_u64(out, (uint64_t)e->inputs[i].newest);
		text_u64(out, e->inputs[i].resumable);
	}
}

static bool is_moment(int64_t ns)
{
	return ns == NEVER || moment_is_good(ns);
}

int engine_load(struct engine *e, struct reading *r)
{
	e->watermark = (int64_t)reading_u64(r);
	e->order = reading_u64(r);
	e->plan->functions.secret[0] = reading_u64(r);
	e->plan->functions.secret[1] = reading_u64(r);
	uint64_t n = reading_u64(r);
	if (r->failed || n > INPUTS_MAX || (e->watermark != NEVER && !moment_is_near(e->watermark)))
		return -EINVAL;
	e->n_inputs = (uint32_t)n;
	for (uint32_t i = 0; i < n; i++) {
		e->inputs[i].newest = (int64_t)reading_u64(r);
		e->inputs[i].resumable = reading_u64(r) != 0;
		if (!is_moment(e->inputs[i].newest))
			return -EINVAL;
	}
	return r->failed ? -EINVAL : 0;
}

/* Can a window be so? */
static bool is_window(const struct plan *p, const struct saved_group *s)
{
	if (!moment_is_near(s->start_ns) || !moment_is_near(s->end_ns) || s->end_ns <= s->start_ns)
		return false;
	return p->kind == WINDOW_SESSION ||
	       (plan_pane(p, s->start_ns) == s->start_ns && s->end_ns == s->start_ns + p->pane_ns);
}

int engine_load_group(struct engine *e, const struct saved_group *s)
{
	if (!is_window(e->plan, s))
		return -EINVAL;
	uint32_t window = e->plan->kind == WINDOW_SESSION ? engine_open_session(e, s->start_ns, s->end_ns)
							  : engine_get_pane(e, s->start_ns);
	if (!window)
		return -ENOMEM;
	uint32_t hash = engine_hash(e, s->key, s->key_len) ^ engine_salt(e, window);
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
