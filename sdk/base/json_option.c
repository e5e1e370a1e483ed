/* SPDX-License-Identifier: MIT */
#include <semstreams/base/json_option.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/decimal.h>
#include <semstreams/base/nearest.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/base/units.h>

/* ---- numbers as they are written ---- */

struct written {
	const json_t *value;
	const char *text;
	size_t len;
};

struct ss_json_numbers {
	size_t n;
	struct written v[];
};

/* To the next number of a text in JSON, *end behind it; NULL: there is none. */
static const char *next_number(const char *p, const char **end)
{
	for (; *p && *p != '-' && !(*p >= '0' && *p <= '9'); p++) {
		if (*p != '"')
			continue;
		for (p++; *p && *p != '"'; p++)
			p += *p == '\\' && p[1];
		if (!*p)
			return NULL;
	}
	*end = p + strspn(p, "0123456789+-.eE");
	return *p ? p : NULL;
}

/* Jansson refuses integers beyond 64 bits and reals beyond a double: something in as many bytes that it takes
 * for a real number. */
static void fit_number(char *text, size_t len)
{
	static const char large[] = "9e307";
	const bool whole = strcspn(text, ".eE") >= len;
	struct ss_decimal d;

	ss_decimal_read(text, len, &d);
	if (!d.first || (whole ? d.exponent < 18 : d.exponent < 308))
		return;
	if (d.exponent >= 308) {
		memset(text, ' ', len);
		text[0] = '-';
		memcpy(text + d.negative, large, sizeof large - 1);
	} else {
		errno = 0;
		strtoll(text, NULL, 10);
		if (errno)
			memcpy(text + len - 2, "e2", 2);
	}
}

/* The numbers of a text, and a copy of it that Jansson can read; -ENOMEM. */
static int find_numbers(const char *text, struct ss_json_numbers **out, char **copy)
{
	const char *end = NULL;
	size_t n = 0;

	for (const char *p = next_number(text, &end); p; p = next_number(end, &end))
		n++;
	struct ss_json_numbers *numbers = malloc(sizeof *numbers + n * sizeof *numbers->v);
	*copy = strdup(text);
	if (!numbers || !*copy) {
		free(numbers);
		free(*copy);
		return -ENOMEM;
	}
	numbers->n = n;
	n = 0;
	for (const char *p = next_number(text, &end); p; p = next_number(end, &end)) {
		numbers->v[n++] = (struct written){.text = p, .len = (size_t)(end - p)};
		fit_number(*copy + (p - text), (size_t)(end - p));
	}
	*out = numbers;
	return 0;
}

/* Jansson keeps members in the order in which they stand. */
static void name_numbers(struct ss_json_numbers *numbers, size_t *n, json_t *json)
{
	const char *key;
	json_t *value;
	size_t i;

	if (json_is_number(json) && *n < numbers->n)
		numbers->v[(*n)++].value = json;
	json_array_foreach(json, i, value) name_numbers(numbers, n, value);
	if (json_is_object(json))
		json_object_foreach(json, key, value) name_numbers(numbers, n, value);
}

static int by_value(const void *a, const void *b)
{
	const uintptr_t x = (uintptr_t)((const struct written *)a)->value,
			y = (uintptr_t)((const struct written *)b)->value;

	return (x > y) - (x < y);
}

static const struct written *find_written(const struct ss_json_option *s, const json_t *value)
{
	const struct written key = {.value = value};

	return s->numbers ? bsearch(&key, s->numbers->v, s->numbers->n, sizeof key, by_value) : NULL;
}

json_t *ss_json_parse(struct ss_json_option *s, const char *option, const char *text)
{
	json_error_t e;
	char *copy = NULL;
	size_t n = 0;

	ss_json_done(s);
	if (find_numbers(text, &s->numbers, &copy) < 0) {
		s->err = -ENOMEM;
		return NULL;
	}
	json_t *json = json_loads(copy, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
	free(copy);
	if (!json) {
		ss_json_done(s);
		ss_json_error(s, option, "not valid JSON: %s", e.text);
		return NULL;
	}
	name_numbers(s->numbers, &n, json);
	qsort(s->numbers->v, s->numbers->n, sizeof *s->numbers->v, by_value);
	return json;
}

void ss_json_done(struct ss_json_option *s)
{
	free(s->numbers);
	s->numbers = NULL;
}

void ss_json_number(const struct ss_json_option *s, const json_t *number, struct ss_number *out)
{
	const struct written *w = find_written(s, number);

	if (w && s->fields) {
		const bool whole = strcspn(w->text, ".eE") >= w->len;
		const struct ss_field f = {.text = w->text,
					   .len = (uint32_t)w->len,
					   .type = SS_JSON_NUMBER,
					   .flags = whole ? SS_FIELD_INTEGER : 0};
		ss_number_read(s->fields, &f, out);
		return;
	}
	*out = (struct ss_number){.integer = json_is_integer(number),
				  .i = json_integer_value(number),
				  .d = json_number_value(number)};
}

static void dump_string(struct ss_strbuf *to, const json_t *string)
{
	char *text = json_dumps(string, JSON_ENCODE_ANY);

	to->failed = to->failed || !text;
	ss_strbuf_text(to, text ? text : "");
	free(text);
}

static void dump(const struct ss_json_option *s, struct ss_strbuf *to, const json_t *json)
{
	const struct written *w = json_is_number(json) ? find_written(s, json) : NULL;
	const char *separator = "";
	json_t *value;
	size_t i;

	if (json_is_array(json)) {
		ss_strbuf_char(to, '[');
		json_array_foreach(json, i, value)
		{
			ss_strbuf_text(to, i ? "," : "");
			dump(s, to, value);
		}
		ss_strbuf_char(to, ']');
	} else if (json_is_object(json)) {
		json_t *object = (json_t *)(uintptr_t)json; /* to iterate takes one that is not const */
		ss_strbuf_char(to, '{');
		for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
			json_t *name = json_string(json_object_iter_key(at));
			ss_strbuf_text(to, separator);
			dump_string(to, name);
			ss_strbuf_char(to, ':');
			dump(s, to, json_object_iter_value(at));
			json_decref(name);
			separator = ",";
		}
		ss_strbuf_char(to, '}');
	} else if (w) {
		ss_strbuf_add(to, w->text, w->len);
	} else {
		dump_string(to, json);
	}
}

char *ss_json_dump(const struct ss_json_option *s, const json_t *json)
{
	struct ss_strbuf text = {0};

	dump(s, &text, json);
	return ss_strbuf_take(&text);
}

/* ---- places and errors ---- */

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
