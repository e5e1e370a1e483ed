/* SPDX-License-Identifier: MIT */
#include "core/trial/judge.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/utf8.h>

enum { SHOWN_MAX = 1000, LINES_MAX = 50 };

/* ---- texts ---- */

static bool is_printable(const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)bytes[i] < ' ' || bytes[i] == 0x7f)
			return false;
	return ss_utf8_valid(bytes, len);
}

static void show(struct ss_strbuf *to, const char *bytes, size_t len)
{
	size_t shown = len < SHOWN_MAX ? len : SHOWN_MAX;

	if (is_printable(bytes, shown))
		ss_strbuf_add(to, bytes, shown);
	else
		ss_strbuf_json(to, bytes, shown);
	if (shown < len)
		ss_strbuf_printf(to, "... (%zu bytes)", len);
}

static void show_line(struct ss_strbuf *to, const char *head, const char *bytes, size_t len)
{
	ss_strbuf_text(to, head);
	show(to, bytes, len);
	ss_strbuf_char(to, '\n');
}

static void show_value(struct ss_strbuf *to, const json_t *value)
{
	char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	ss_strbuf_text(to, text ? text : "nothing");
	free(text);
}

/* ---- values ---- */

static bool is_same(const json_t *expected, const json_t *got, bool subset);

static bool is_same_object(const json_t *expected, const json_t *got, bool subset)
{
	const char *key;
	json_t *value;

	if (!subset && json_object_size(expected) != json_object_size(got))
		return false;
	json_object_foreach((json_t *)expected, key,
			    value) if (!is_same(value, json_object_get(got, key), subset)) return false;
	return true;
}

static bool is_same_array(const json_t *expected, const json_t *got, bool subset)
{
	if (json_array_size(expected) != json_array_size(got))
		return false;
	for (size_t i = 0; i < json_array_size(expected); i++)
		if (!is_same(json_array_get(expected, i), json_array_get(got, i), subset))
			return false;
	return true;
}

/* 20 and 20.0 are one number. */
static bool is_same(const json_t *expected, const json_t *got, bool subset)
{
	if (json_is_integer(expected) && json_is_integer(got))
		return json_integer_value(expected) == json_integer_value(got);
	if (json_is_number(expected) && json_is_number(got))
		return json_number_value(expected) == json_number_value(got);
	if (json_is_object(expected) && json_is_object(got))
		return is_same_object(expected, got, subset);
	if (json_is_array(expected) && json_is_array(got))
		return is_same_array(expected, got, subset);
	return json_equal(expected, got);
}

static void explain_member(struct ss_strbuf *to, const char *key, const json_t *expected, const json_t *got)
{
	ss_strbuf_printf(to, "      \"%s\": ", key);
	show_value(to, got);
	ss_strbuf_text(to, ", expected ");
	show_value(to, expected);
	ss_strbuf_char(to, '\n');
}

/* Which members of two objects are to blame. */
static void explain(struct ss_strbuf *to, const json_t *expected, const json_t *got, bool subset)
{
	const char *key;
	json_t *value;

	if (!json_is_object(expected) || !json_is_object(got))
		return;
	json_object_foreach((json_t *)expected, key,
			    value) if (!is_same(value, json_object_get(got, key), subset))
		explain_member(to, key, value, json_object_get(got, key));
	json_object_foreach((json_t *)got, key, value) if (!subset && !json_object_get(expected, key))
		explain_member(to, key, NULL, value);
}

static json_t *parse(const char *bytes, size_t len)
{
	return json_loadb(bytes, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

/* ---- attributes ---- */

static json_t *attribute_value(const struct seen *e, const char *name)
{
	int32_t which = ss_attribute_index(name);

	if (which == SS_ATTR_RECEIVED)
		return json_integer((json_int_t)(e->time_ns / 1000000u));
	struct ss_attribute a = ss_attribute_get(e->attributes, which < 0 ? SS_ATTR_COUNT : (uint32_t)which);
	return a.len ? json_stringn(a.text, a.len) : NULL;
}

static bool judge_attributes(const struct jnode *expected, const struct seen *e, struct ss_strbuf *difference)
{
	bool same = true;

	for (const struct jnode *a = expected->child; a; a = a->next) {
		json_t *want = parse(a->text, a->text_len), *got = attribute_value(e, a->name);
		if (!(json_is_null(want) && !got) && !is_same(want, got, false)) {
			explain_member(difference, a->name, want, got);
			same = false;
		}
		json_decref(want);
		json_decref(got);
	}
	return same;
}

/* ---- events ---- */

static bool is_as_expected(const struct step *step, const char *bytes, size_t len, const struct seen *e)
{
	if (step->form != FORM_JSON)
		return len == e->len && memcmp(bytes, e->bytes, len) == 0;
	json_t *want = parse(bytes, len), *got = parse(e->bytes, e->len);
	bool same = want && got && is_same(want, got, step->subset);
	json_decref(want);
	json_decref(got);
	return same;
}

static void explain_event(const struct step *step, const char *bytes, size_t len, const struct seen *e,
			  struct ss_strbuf *difference)
{
	json_t *want = step->form == FORM_JSON ? parse(bytes, len) : NULL;
	json_t *got = want ? parse(e->bytes, e->len) : NULL;

	explain(difference, want, got, step->subset);
	json_decref(want);
	json_decref(got);
}

static const struct jnode *attributes_of(const struct step *step, size_t i)
{
	const struct jnode *a = step->attributes ? step->attributes->child : NULL;

	while (a && i--)
		a = a->next;
	return a;
}

static bool judge_one(const struct step *step, size_t i, const struct seen *e, struct ss_strbuf *difference)
{
	size_t len = 0;
	char *bytes = script_bytes(step, i, &len);
	const struct jnode *attributes = attributes_of(step, i);
	bool same = bytes && is_as_expected(step, bytes, len, e);

	show_line(difference, same ? "    = " : "    - ", bytes ? bytes : "", len);
	if (!same) {
		show_line(difference, "    + ", e->bytes, e->len);
		if (bytes)
			explain_event(step, bytes, len, e, difference);
	}
	if (attributes)
		same &= judge_attributes(attributes, e, difference);
	free(bytes);
	return same;
}

bool judge(const struct step *step, const struct seen *seen, size_t n, struct ss_strbuf *difference)
{
	size_t most = n > step->n_items ? n : step->n_items;
	bool same = n == step->n_items;

	if (!same)
		ss_strbuf_printf(difference, "    %zu expected (-), %zu came (+)\n", step->n_items, n);
	for (size_t i = 0; i < most && i < LINES_MAX; i++) {
		size_t len = 0;
		char *bytes = i >= n ? script_bytes(step, i, &len) : NULL;
		if (i >= step->n_items)
			show_line(difference, "    + ", seen[i].bytes, seen[i].len);
		else if (i >= n)
			show_line(difference, "    - ", bytes ? bytes : "", len);
		else
			same &= judge_one(step, i, &seen[i], difference);
		free(bytes);
	}
	for (size_t i = LINES_MAX; i < most && i < n && i < step->n_items; i++) {
		struct ss_strbuf unseen = {0};
		same &= judge_one(step, i, &seen[i], &unseen);
		ss_strbuf_done(&unseen);
	}
	if (most > LINES_MAX)
		ss_strbuf_printf(difference, "    ... and %zu more\n", most - LINES_MAX);
	return same;
}
