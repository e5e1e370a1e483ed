/* SPDX-License-Identifier: MIT */
/*
 * json_jansson - compares a field reader with Jansson on one document, for tests and fuzzing; a
 * difference that is not expected ends the program.
 */
#pragma once
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include <semstreams/ext/fields.h>

struct fields_path {
	char text[200];      /* as it is compiled */
	const char *name[8]; /* what it means */
	unsigned n;
};

static inline void differ(const char *what, const char *json, size_t len)
{
	fprintf(stderr, "%s:\n", what);
	fwrite(json, 1, len, stderr);
	fputc('\n', stderr);
	abort();
}

static inline json_t *jansson_parse(const char *json, size_t len, json_error_t *error)
{
	return json_loadb(json, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, error);
}

/* What Jansson refuses although RFC 8259 allows it. */
static inline bool jansson_is_strict(const json_error_t *error)
{
	return json_error_code(error) ==
		       json_error_numeric_overflow || /* integer beyond 64 bits, real beyond double */
	       json_error_code(error) == json_error_null_byte_in_key || /* "\u0000" in a name */
	       strncmp(error->text, "invalid Unicode '\\u", 19) == 0;   /* a lone surrogate */
}

/* A zero byte right behind a number, true, false or null is nothing to Jansson. */
static inline bool jansson_passes_over(const char *json, size_t len, size_t where)
{
	return where > 0 && where < len && json[where] == '\0' && memchr("0123456789el", json[where - 1], 12);
}

static inline const json_t *jansson_at(const json_t *value, const struct fields_path *path)
{
	for (unsigned i = 0; i < path->n && value; i++) {
		const char *name = path->name[i];
		char *end;
		if (json_is_object(value)) {
			value = json_object_get(value, name);
		} else if (json_is_array(value)) {
			const bool is_index =
				*name >= '0' && *name <= '9' && (*name != '0' || name[1] == '\0');
			const unsigned long long index = is_index ? strtoull(name, &end, 10) : 0;
			value = is_index && *end == '\0' ? json_array_get(value, (size_t)index) : NULL;
		} else {
			value = NULL;
		}
	}
	return value;
}

static inline bool same_value(const struct ss_fields *fields, const struct ss_field *f, const json_t *value)
{
	double real;
	int64_t integer;

	if (!value)
		return f->type == SS_JSON_MISSING && f->len == 0 && !f->text;
	switch (json_typeof(value)) {
	case JSON_NULL:
		return f->type == SS_JSON_NULL && f->len == 4;
	case JSON_FALSE:
		return f->type == SS_JSON_FALSE && f->len == 5;
	case JSON_TRUE:
		return f->type == SS_JSON_TRUE && f->len == 4;
	case JSON_INTEGER:
		return f->type == SS_JSON_NUMBER && f->flags == SS_FIELD_INTEGER &&
		       fields->integer(NULL, f, &integer) == 0 && integer == json_integer_value(value);
	case JSON_REAL:
		return f->type == SS_JSON_NUMBER && f->flags == 0 && fields->number(NULL, f, &real) == 0 &&
		       real == json_real_value(value);
	case JSON_STRING: {
		const size_t len = json_string_length(value);
		char *text = malloc(len + 1);
		const bool same =
			f->type == SS_JSON_STRING && text &&
			fields->unescape(NULL, f, text, len) == (int64_t)len &&
			memcmp(text, json_string_value(value), len) == 0 &&
			((f->flags & SS_FIELD_ESCAPED) != 0) == (memchr(f->text, '\\', f->len) != NULL);
		free(text);
		return same;
	}
	case JSON_ARRAY:
	case JSON_OBJECT:
		if (f->type == (json_is_array(value) ? SS_JSON_ARRAY : SS_JSON_OBJECT)) {
			json_t *again = jansson_parse(f->text, f->len, NULL);
			const bool same = again && json_equal(again, value);
			json_decref(again);
			return same;
		}
		return false;
	}
	return false;
}

/* Read the document with a reader of these paths and compare; true if it is a JSON text for both. */
static inline bool compare_with_jansson(const struct ss_fields *fields, const struct ss_reader *reader,
					const struct fields_path *paths, unsigned n, const char *json,
					size_t len, unsigned *found)
{
	struct ss_field out[16];
	json_error_t error;
	size_t where = SIZE_MAX;
	const int rc = fields->read(NULL, reader, json, len, out, &where);
	json_t *root = jansson_parse(json, len, &error);

	if (rc == 0 && !root && !jansson_is_strict(&error))
		differ("accepted, but not by Jansson", json, len);
	if (rc == -EINVAL && root && !jansson_passes_over(json, len, where))
		differ("refused, but not by Jansson", json, len);
	if (rc && rc != -EINVAL && rc != -ELOOP) /* deeper than 64: Jansson goes on to 2048 */
		differ("neither right nor wrong", json, len);
	if (rc && where > len)
		differ("wrong behind the end", json, len);
	if (rc == -EINVAL) {
		/* everything before the wrong byte was right */
		size_t again = SIZE_MAX;
		const int before = fields->read(NULL, reader, json, where, out, &again);
		if (before && (before != -EINVAL || again != where))
			differ("not the first wrong byte", json, len);
	}
	for (unsigned i = 0; rc == 0 && root && i < n; i++) {
		const json_t *value = jansson_at(root, &paths[i]);
		if (!same_value(fields, &out[i], value))
			differ(paths[i].text, json, len);
		if (found)
			*found += value != NULL;
	}
	json_decref(root);
	return rc == 0 && root;
}
