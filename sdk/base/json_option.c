/* SPDX-License-Identifier: MIT */
/* spec - reading JSON-valued options; see spec.h.  Control thread. */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
#include <semstreams/base/json_option.h>

#define WORD_MAX 32 /* longer words are near nothing we know */

json_t *spec_parse(struct spec *s, const char *option, const char *text)
{
	json_error_t e;
	json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);

	if (!json)
		spec_error(s, option, "cannot be read: %s", e.text);
	return json;
}

/* Append "/" and key, escaped as RFC 6901 wants it; what does not fit is cut. */
static size_t append_key(struct spec *s, const char *key)
{
	size_t before = s->len;

	if (s->len + 2 < sizeof s->at)
		s->at[s->len++] = '/';
	for (; *key && s->len + 3 < sizeof s->at; key++) {
		if (*key == '~' || *key == '/') {
			s->at[s->len++] = '~';
			s->at[s->len++] = *key == '~' ? '0' : '1';
		} else {
			s->at[s->len++] = *key;
		}
	}
	s->at[s->len] = '\0';
	return before;
}

size_t spec_enter(struct spec *s, const char *key)
{
	return append_key(s, key);
}

size_t spec_enter_index(struct spec *s, size_t index)
{
	char text[24];

	snprintf(text, sizeof text, "%zu", index);
	return append_key(s, text);
}

void spec_leave(struct spec *s, size_t len)
{
	s->len = len;
	s->at[len] = '\0';
}

void spec_error(struct spec *s, const char *key, const char *fmt, ...)
{
	size_t before = key ? spec_enter(s, key) : s->len;
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	s->host->config_error(s->host, s->at, text);
	spec_leave(s, before);
	if (!s->err)
		s->err = -EINVAL;
}

/* Edit distance with swaps of neighbours counted as one. */
static unsigned distance(const char *a, const char *b)
{
	unsigned rows[3][WORD_MAX + 1];
	size_t na = strlen(a), nb = strlen(b);

	if (na > WORD_MAX || nb > WORD_MAX)
		return UINT32_MAX;
	for (size_t j = 0; j <= nb; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned *row = rows[i % 3], *above = rows[(i - 1) % 3];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);

			if (above[j] + 1 < best)
				best = above[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    rows[(i - 2) % 3][j - 2] + 1 < best)
				best = rows[(i - 2) % 3][j - 2] + 1;
			row[j] = best;
		}
	}
	return rows[na % 3][nb];
}

const char *spec_nearest(const char *word, const char *const *known)
{
	const char *best = NULL;
	unsigned least = 1 + (unsigned)(strlen(word) / 3);

	for (; *known; known++) {
		unsigned d = distance(word, *known);

		if (d <= least && (!best || d < least)) {
			best = *known;
			least = d;
		}
	}
	return best;
}

void spec_keys(struct spec *s, json_t *object, const char *const *known)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		const char *const *k = known;

		while (*k && strcmp(*k, key) != 0)
			k++;
		if (*k)
			continue;
		const char *near = spec_nearest(key, known);
		spec_error(s, key, "unknown key%s%s%s", near ? "; did you mean \"" : "", near ? near : "",
			   near ? "\"?" : "");
	}
}

bool spec_duration_or_zero(struct spec *s, json_t *object, const char *key, uint64_t *ns)
{
	json_t *value = json_object_get(object, key);
	int64_t parsed;

	if (!value)
		return false;
	if (!json_is_string(value)) {
		spec_error(s, key, "expected a duration such as \"10s\", found %s", spec_type(value));
		return false;
	}
	int32_t r = ss_parse_duration(json_string_value(value), &parsed);
	if (r < 0) {
		spec_error(s, key,
			   r == -ERANGE ? "the duration \"%.40s\" is too long"
					: "\"%.40s\" is no duration; write \"500ms\", \"10s\" or \"1h30m\"",
			   json_string_value(value));
		return false;
	}
	*ns = (uint64_t)parsed;
	return true;
}

bool spec_duration(struct spec *s, json_t *object, const char *key, uint64_t *ns)
{
	uint64_t parsed;

	if (!spec_duration_or_zero(s, object, key, &parsed))
		return false;
	if (parsed == 0) {
		spec_error(s, key, "\"%.40s\" is no duration; write \"500ms\", \"10s\" or \"1h30m\"",
			   json_string_value(json_object_get(object, key)));
		return false;
	}
	*ns = parsed;
	return true;
}

const char *spec_type(const json_t *json)
{
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	default:
		return "null";
	}
}
