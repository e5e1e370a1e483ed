/* SPDX-License-Identifier: MIT */
#include <semstreams/base/json_option.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/nearest.h>
#include <semstreams/base/units.h>

json_t *ss_json_parse(struct ss_json_option *s, const char *option, const char *text)
{
	json_error_t e;
	json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);

	if (!json)
		ss_json_error(s, option, "not valid JSON: %s", e.text);
	return json;
}

/* Append "/" and key, escaped as RFC 6901 wants it; what does not fit is cut. */
static size_t append_key(struct ss_json_option *s, const char *key)
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

size_t ss_json_enter(struct ss_json_option *s, const char *key)
{
	return append_key(s, key);
}

size_t ss_json_enter_index(struct ss_json_option *s, size_t index)
{
	char text[24];

	snprintf(text, sizeof text, "%zu", index);
	return append_key(s, text);
}

void ss_json_leave(struct ss_json_option *s, size_t len)
{
	s->len = len;
	s->at[len] = '\0';
}

void ss_json_error(struct ss_json_option *s, const char *key, const char *fmt, ...)
{
	size_t before = key ? ss_json_enter(s, key) : s->len;
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	s->host->config_error(s->host, s->at, text);
	ss_json_leave(s, before);
	if (!s->err)
		s->err = -EINVAL;
}

const char *ss_json_nearest(const char *word, const char *const *known)
{
	size_t n = 0;

	while (known[n])
		n++;
	return ss_nearest(word, known, n);
}

void ss_json_keys(struct ss_json_option *s, json_t *object, const char *const *known)
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
		const char *near = ss_json_nearest(key, known);
		ss_json_error(s, key, "unknown key%s%s%s", near ? "; did you mean \"" : "", near ? near : "",
			      near ? "\"?" : "");
	}
}

static bool read_duration(struct ss_json_option *s, json_t *object, const char *key, bool zero, uint64_t *ns)
{
	json_t *value = json_object_get(object, key);
	int64_t parsed = 0;

	if (!value)
		return false;
	if (!json_is_string(value)) {
		ss_json_error(s, key, "expected a duration such as \"10s\", found %s", ss_json_type(value));
		return false;
	}
	int rc = ss_parse_duration(json_string_value(value), &parsed);
	if (rc == 0 && (parsed > 0 || zero)) {
		*ns = (uint64_t)parsed;
		return true;
	}
	if (rc == -ERANGE)
		ss_json_error(s, key, "the duration \"%.40s\" is too long", json_string_value(value));
	else if (rc == 0)
		ss_json_error(s, key, "the duration must be longer than \"%.40s\"", json_string_value(value));
	else
		ss_json_error(s, key, "\"%.40s\" is not a duration; write it " SS_DURATION_FORM,
			      json_string_value(value));
	return false;
}

bool ss_json_duration(struct ss_json_option *s, json_t *object, const char *key, uint64_t *ns)
{
	return read_duration(s, object, key, false, ns);
}

bool ss_json_duration_or_zero(struct ss_json_option *s, json_t *object, const char *key, uint64_t *ns)
{
	return read_duration(s, object, key, true, ns);
}

bool ss_json_size(struct ss_json_option *s, json_t *object, const char *key, uint64_t min, uint64_t *bytes)
{
	json_t *value = json_object_get(object, key);
	int64_t parsed = json_integer_value(value);
	char least[32];
	int rc = 0;

	if (!value)
		return false;
	if (!json_is_string(value) && !json_is_integer(value)) {
		ss_json_error(s, key, "expected a size such as \"64MiB\", found %s", ss_json_type(value));
		return false;
	}
	if (json_is_string(value))
		rc = ss_parse_size(json_string_value(value), &parsed);
	if (rc == 0 && parsed >= 0 && (uint64_t)parsed >= min) {
		*bytes = (uint64_t)parsed;
		return true;
	}
	if (rc == -ERANGE)
		ss_json_error(s, key, "the size \"%.40s\" is too large", json_string_value(value));
	else if (rc == 0)
		ss_json_error(s, key, "expected a size of at least \"%s\"",
			      ss_format_size((int64_t)min, least, sizeof least));
	else
		ss_json_error(s, key, "\"%.40s\" is not a size; write it " SS_SIZE_FORM,
			      json_string_value(value));
	return false;
}

/* "a", "b" or "c"; cut to size. */
static void list_choices(const char *const *choices, char *out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0; choices[i] && len < size; i++) {
		const char *separator = i == 0 ? "" : choices[i + 1] ? ", " : " or ";
		int n = snprintf(out + len, size - len, "%s\"%s\"", separator, choices[i]);
		len += n > 0 ? (size_t)n : 0;
	}
}

bool ss_json_choice(struct ss_json_option *s, json_t *object, const char *key, const char *const *choices,
		    unsigned *index)
{
	json_t *value = json_object_get(object, key);
	const char *word = json_string_value(value), *near;
	char all[256];

	if (!value)
		return false;
	for (unsigned i = 0; word && choices[i]; i++) {
		if (strcmp(word, choices[i]) == 0) {
			*index = i;
			return true;
		}
	}
	list_choices(choices, all, sizeof all);
	if (!word)
		ss_json_error(s, key, "expected %s, found %s", all, ss_json_type(value));
	else if ((near = ss_json_nearest(word, choices)))
		ss_json_error(s, key, "expected %s, found \"%.40s\"; did you mean \"%s\"?", all, word, near);
	else
		ss_json_error(s, key, "expected %s, found \"%.40s\"", all, word);
	return false;
}

bool ss_json_text(struct ss_json_option *s, json_t *object, const char *key, const char **text)
{
	json_t *value = json_object_get(object, key);

	if (!value)
		return false;
	if (!json_is_string(value) || !*json_string_value(value)) {
		ss_json_error(s, key, "expected a text that is not empty, found %s",
			      json_is_string(value) ? "\"\"" : ss_json_type(value));
		return false;
	}
	*text = json_string_value(value);
	return true;
}

const char *ss_json_type(const json_t *json)
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
