/* SPDX-License-Identifier: MIT */
/* engine_print - groups as JSON, and the engine's own state in a check-point; see engine.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "engine.h"
#include "engine_impl.h"

/* ---- results ---- */

static void print_moment(struct text *out, const char *name, int64_t ns)
{
	char moment[MOMENT_TEXT];
	size_t len = moment_print(moment, ns);

	text_string(out, "\"");
	text_string(out, name);
	text_string(out, "\":\"");
	text_bytes(out, moment, len);
	text_string(out, "\"");
}

static void print_span(struct text *out, const struct span *span)
{
	print_moment(out, "window_start", span->start_ns);
	text_string(out, ",");
	print_moment(out, "window_end", span->end_ns);
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
	const char *key = group_key(c);
	size_t left = c->key_len;
	bool overflow = left == 1 && key[0] == OVERFLOW_KEY[0];

	for (uint32_t i = 0; i < e->plan->n_group_fields; i++) {
		size_t len = value_length(key, left);
		text_json(out, e->plan->group_names[i], strlen(e->plan->group_names[i]));
		text_string(out, ":");
		if (overflow) {
			text_string(out, "null,");
			continue;
		}
		text_bytes(out, key, len);
		text_string(out, ",");
		key += len;
		left -= len;
		if (left) { /* the comma */
			key++;
			left--;
		}
	}
	if (overflow)
		text_string(out, "\"overflow\":true,");
}

static void print_kind(const struct engine *e, struct text *out, enum span_kind kind)
{
	if (e->plan->conf->early_ns)
		text_string(out, kind == SPAN_EARLY ? ",\"final\":false" : ",\"final\":true");
	if (kind == SPAN_PARTIAL)
		text_string(out, ",\"partial\":true");
}

static void hand_over(struct engine *e)
{
	if (e->line.failed) {
		e->line.failed = false;
		e->count.no_memory++;
	} else {
		e->count.results++;
		e->result(e->arg, false, e->line.bytes, e->line.len);
	}
}

static void print_group(struct engine *e, struct group *c, const struct span *span, struct text *out)
{
	print_key(e, c, out);
	functions_print(&e->plan->functions, group_states(c), span, out);
}

void engine_print(struct engine *e, struct group *c, const struct span *span, enum span_kind kind)
{
	e->line.len = 0;
	text_string(&e->line, "{");
	print_span(&e->line, span);
	text_string(&e->line, ",");
	print_group(e, c, span, &e->line);
	print_kind(e, &e->line, kind);
	text_string(&e->line, "}");
	hand_over(e);
}

void engine_print_window(struct engine *e, struct groups *g, uint32_t window, const struct span *span,
			 enum span_kind kind)
{
	e->line.len = 0;
	text_string(&e->line, "{");
	print_span(&e->line, span);
	text_string(&e->line, ",\"groups\":[");
	for (uint32_t i = g->windows[window].first; i; i = groups_at(g, i)->next) {
		text_string(&e->line, i == g->windows[window].first ? "{" : ",{");
		print_group(e, groups_at(g, i), span, &e->line);
		text_string(&e->line, "}");
	}
	text_string(&e->line, "]");
	print_kind(e, &e->line, kind);
	text_string(&e->line, "}");
	hand_over(e);
}

/* ---- check-points ---- */

void engine_save(const struct engine *e, struct text *out)
{
	text_u64(out, (uint64_t)e->watermark);
	text_u64(out, e->order);
	text_u64(out, e->plan->functions.secret[0]);
	text_u64(out, e->plan->functions.secret[1]);
	text_u64(out, e->n_inputs);
	for (uint32_t i = 0; i < e->n_inputs; i++)
		text_u64(out, (uint64_t)e->inputs[i].newest);
}

int engine_load(struct engine *e, struct reading *r)
{
	e->watermark = (int64_t)reading_u64(r);
	e->order = reading_u64(r);
	e->plan->functions.secret[0] = reading_u64(r);
	e->plan->functions.secret[1] = reading_u64(r);
	uint64_t n = reading_u64(r);
	if (r->failed || n > INPUTS_MAX)
		return -EINVAL;
	e->n_inputs = (uint32_t)n;
	for (uint32_t i = 0; i < n; i++)
		e->inputs[i].newest = (int64_t)reading_u64(r);
	return r->failed ? -EINVAL : 0;
}

int engine_load_group(struct engine *e, const struct saved_group *s)
{
	bool session = e->plan->kind == WINDOW_SESSION;
	uint32_t window = session ? engine_open_session(e, s->start_ns) : engine_get_pane(e, s->start_ns);

	if (!window)
		return -ENOMEM;
	if (session)
		e->groups->windows[window].end_ns = s->end_ns;
	uint32_t hash = engine_hash(e, s->key, s->key_len) ^ engine_salt(e, window);
	uint32_t group = groups_add(e->groups, hash, window, s->key, s->key_len);
	if (!group)
		return -ENOMEM;
	int rc = functions_load(&e->plan->functions, group_states(groups_at(e->groups, group)), s->states,
				s->states_len);
	if (rc == 0)
		e->groups->heap +=
			functions_heap(&e->plan->functions, group_states(groups_at(e->groups, group)));
	return rc;
}
