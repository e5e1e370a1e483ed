/* SPDX-License-Identifier: MIT */
#include "core/redaction.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/attributes.h>

enum { FIELDS_MAX = 64, SEGMENTS_MAX = 32 };

struct field {
	char *text; /* an attribute, or a name that may have dots in it */
	char *segments[SEGMENTS_MAX];
	size_t n;
};

struct redaction {
	struct field fields[FIELDS_MAX];
	size_t n;
	bool members; /* not only attributes */
};

/* ---- which ---- */

/* "~1" is '/' and "~0" is '~' in a pointer. */
static void unescape(char *segment)
{
	char *to = segment;

	for (const char *from = segment; *from; from++) {
		const bool escape = *from == '~' && (from[1] == '0' || from[1] == '1');
		*to++ = !escape ? *from : from[1] == '1' ? '/' : '~';
		from += escape;
	}
	*to = '\0';
}

static int split(struct field *f)
{
	const bool pointer = f->text[0] == '/';
	const char *p = f->text + pointer;

	for (;;) {
		const size_t len = strcspn(p, pointer ? "/" : ".");
		if ((!pointer && len == 0) || f->n == SEGMENTS_MAX)
			return -EINVAL;
		char *segment = strndup(p, len);
		if (!segment)
			return -ENOMEM;
		if (pointer)
			unescape(segment);
		f->segments[f->n++] = segment;
		if (!p[len])
			return 0;
		p += len + 1;
	}
}

static int add(struct redaction *r, const json_t *field)
{
	const char *text = json_string_value(field);
	struct field *f = &r->fields[r->n];

	if (!text || !*text || strlen(text) != json_string_length(field))
		return -EINVAL;
	f->text = strdup(text);
	if (!f->text)
		return -ENOMEM;
	r->n++;
	if (*text == '@')
		return ss_attribute_index(text) < 0 ? -EINVAL : 0;
	r->members = true;
	return split(f);
}

int redaction_new(const json_t *fields, char why[512], struct redaction **out)
{
	struct redaction *r = calloc(1, sizeof *r);
	const json_t *field = NULL;
	size_t i;
	int rc = r ? 0 : -ENOMEM;

	if (rc == 0 && (!json_is_array(fields) || json_array_size(fields) > FIELDS_MAX))
		rc = -EINVAL;
	json_array_foreach(fields, i, field)
	{
		if (rc)
			break;
		rc = add(r, field);
	}
	if (rc == 0) {
		*out = r;
		return 0;
	}
	if (rc == -ENOMEM)
		snprintf(why, 512, "%s", strerror(ENOMEM));
	else
		snprintf(why, 512,
			 "what is redacted is a list of at most %d names or paths of members, or attributes",
			 FIELDS_MAX);
	redaction_free(r);
	return rc;
}

void redaction_free(struct redaction *r)
{
	for (size_t i = 0; r && i < r->n; i++) {
		for (size_t k = 0; k < r->fields[i].n; k++)
			free(r->fields[i].segments[k]);
		free(r->fields[i].text);
	}
	free(r);
}

bool redaction_hides(const struct redaction *r, const char *attribute)
{
	for (size_t i = 0; r && i < r->n; i++)
		if (strcmp(r->fields[i].text, attribute) == 0)
			return true;
	return false;
}

/* ---- where ---- */

/* A value on the way from the top. */
struct frame {
	const struct frame *up;
	const char *name;
	size_t len;
	bool index; /* of an item of a list */
};

static bool is_named(const struct frame *f, const char *name)
{
	return strlen(name) == f->len && memcmp(name, f->name, f->len) == 0;
}

static bool ends_like(const struct frame *f, const struct field *field)
{
	size_t n = field->n;

	if (!f->index && field->n && is_named(f, field->text))
		return true;
	if (n == 0 || !is_named(f, field->segments[n - 1]))
		return false;
	for (f = f->up, n--; n > 0; f = f->up) {
		if (!f)
			return false;
		if (is_named(f, field->segments[n - 1]))
			n--;
		else if (!f->index)
			return false;
	}
	return true;
}

static bool is_hidden(const struct redaction *r, const struct frame *f)
{
	for (size_t i = 0; i < r->n; i++)
		if (ends_like(f, &r->fields[i]))
			return true;
	return false;
}

/* ---- the text, known to be JSON ---- */

struct walk {
	const struct redaction *redaction;
	const char *p, *end;
	struct ss_strbuf *out;
	bool hides; /* nothing is written */
};

static void put(struct walk *w, const char *bytes, size_t len)
{
	if (!w->hides)
		ss_strbuf_add(w->out, bytes, len);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* What the text goes on with behind blanks; 0: nothing. */
static char next(struct walk *w)
{
	while (w->p < w->end && is_blank(*w->p))
		w->p++;
	return w->p < w->end ? *w->p : '\0';
}

static void take_char(struct walk *w)
{
	if (next(w))
		put(w, w->p++, 1);
}

static void skip_string(struct walk *w)
{
	for (w->p++; w->p < w->end && *w->p != '"'; w->p++)
		w->p += *w->p == '\\';
	w->p = w->p < w->end ? w->p + 1 : w->end;
}

static void take_value(struct walk *w, const struct frame *up);

static void take_named(struct walk *w, const struct frame *f)
{
	static const char hidden[] = "\"<hidden>\"";

	if (w->hides || !is_hidden(w->redaction, f)) {
		take_value(w, f);
		return;
	}
	put(w, hidden, sizeof hidden - 1);
	w->hides = true;
	take_value(w, f);
	w->hides = false;
}

/* One that may be written with escapes. */
static void take_member(struct walk *w, const struct frame *up)
{
	const char *begin = w->p;
	json_t *decoded = NULL;

	skip_string(w);
	struct frame f = {.up = up, .name = begin + 1, .len = (size_t)(w->p - begin) - 2};
	if (memchr(f.name, '\\', f.len)) {
		decoded = json_loadb(begin, f.len + 2, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		f.name = decoded ? json_string_value(decoded) : "";
		f.len = json_string_length(decoded);
	}
	put(w, begin, (size_t)(w->p - begin));
	take_char(w); /* the colon */
	take_named(w, &f);
	json_decref(decoded);
}

static void take_list(struct walk *w, const struct frame *up, bool object)
{
	const char close = object ? '}' : ']';
	char number[24];

	take_char(w);
	for (size_t i = 0; next(w) && next(w) != close; i++) {
		if (i > 0)
			take_char(w); /* the comma */
		struct frame f = {.up = up, .name = number, .index = true};
		f.len = (size_t)snprintf(number, sizeof number, "%zu", i);
		if (object && next(w) == '"')
			take_member(w, up);
		else
			take_named(w, &f);
	}
	take_char(w);
}

static void take_value(struct walk *w, const struct frame *up)
{
	const char first = next(w), *begin = w->p;

	if (first == '{' || first == '[') {
		take_list(w, up, first == '{');
		return;
	}
	if (first == '"')
		skip_string(w);
	else
		while (w->p < w->end && !is_blank(*w->p) && !strchr(",]}", *w->p))
			w->p++;
	put(w, begin, (size_t)(w->p - begin));
}

bool redaction_apply(const struct redaction *r, const char *json, size_t len, struct ss_strbuf *out)
{
	if (!r->members) {
		ss_strbuf_add(out, json, len);
		return true;
	}
	/* Jansson passes over a NUL behind a number */
	json_t *parsed =
		memchr(json, '\0', len)
			? NULL
			: json_loadb(json, len, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL,
				     NULL);
	const bool is_json = parsed != NULL;
	json_decref(parsed);
	struct walk w = {.redaction = r, .p = json, .end = json + len, .out = out};
	if (is_json)
		take_value(&w, NULL);
	return is_json;
}
