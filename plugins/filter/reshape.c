/* SPDX-License-Identifier: MIT */
/* reshape - see reshape.h. */
#include "reshape.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/value.h>
#include <semstreams/ext/attributes.h>

#define NAMES_MAX 256 /* in each of the lists */

struct name {
	char *text;
	size_t len;
	char *to; /* rename: the new name in JSON; set: the whole member */
	size_t to_len;
	int32_t attribute; /* set: its value is this attribute of the event, behind to; -1: it is in to */
};

struct names {
	struct name *v;
	size_t n;
};

struct reshape {
	bool selects;
	struct names select, remove, rename, set;
	size_t grows; /* by how much the members that are set make an event longer */
	struct ss_iface fields;
	struct ss_scratch scratch;
	const struct ss_attributes *attributes; /* of the event at hand */
	uint64_t time_ns;
};

/* "name":value, or only the name and the colon without a value. */
static char *encode_member(const struct ss_json_option *option, const char *name, const json_t *value)
{
	json_t *string = json_string(name);
	char *left = ss_json_dump(option, string), *both = NULL;
	char *right = value ? ss_json_dump(option, value) : strdup("");

	json_decref(string);
	if (!left || !right || asprintf(&both, "%s:%s", left, right) < 0)
		both = NULL;
	free(left);
	free(right);
	return both;
}

static void add(struct names *names, const char *text, char *to, struct ss_json_option *option)
{
	struct name *more = realloc(names->v, (names->n + 1) * sizeof *more);

	if (more)
		names->v = more;
	char *copy = more ? strdup(text) : NULL;
	if (!copy) {
		free(to);
		option->err = -ENOMEM;
		return;
	}
	names->v[names->n++] = (struct name){
		.text = copy, .len = strlen(copy), .to = to, .to_len = to ? strlen(to) : 0, .attribute = -1};
}

static void read_list(json_t *list, const char *key, struct names *out, struct ss_json_option *option)
{
	if (!list)
		return;
	if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > NAMES_MAX) {
		ss_json_error(option, key, "must be a list of 1 to %d names", NAMES_MAX);
		return;
	}
	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *name = json_array_get(list, i);
		if (json_is_string(name) && strlen(json_string_value(name)) != json_string_length(name))
			ss_json_error(option, key, "must not contain a NUL character");
		else if (json_is_string(name))
			add(out, json_string_value(name), NULL, option);
		else
			ss_json_error(option, key, "must list names, found %s", ss_json_type(name));
	}
}

static void read_map(json_t *map, const char *key, bool names_only, struct names *out,
		     struct ss_json_option *option)
{
	const char *name;
	json_t *value;

	if (!map)
		return;
	if (!json_is_object(map) || json_object_size(map) == 0 || json_object_size(map) > NAMES_MAX) {
		ss_json_error(option, key, "must be an object of 1 to %d members", NAMES_MAX);
		return;
	}
	json_object_foreach(map, name, value)
	{
		if (names_only && !json_is_string(value)) {
			ss_json_error(option, key, "must rename \"%.40s\" to a string, found %s", name,
				      ss_json_type(value));
			continue;
		}
		int32_t attribute = names_only || !json_is_string(value)
					    ? -1
					    : ss_attribute_index(json_string_value(value));
		char *to = names_only ? ss_json_dump(option, value)
				      : encode_member(option, name, attribute >= 0 ? NULL : value);
		if (!to) {
			option->err = -ENOMEM;
			continue;
		}
		add(out, name, to, option);
		if (attribute >= 0 && !option->err)
			out->v[out->n - 1].attribute = attribute;
	}
}

/* Members are set to attributes: the host is told. */
static void want_attributes(const struct reshape *r, struct ss_json_option *option)
{
	struct ss_iface service;
	bool any = false;

	for (size_t i = 0; i < r->set.n; i++)
		any |= r->set.v[i].attribute >= 0;
	if (!any)
		return;
	if (option->host->query(option->host, SS_ATTRIBUTES, sizeof(struct ss_attribute_service), &service) <
	    0)
		ss_json_error(option, "set", "this host has no attributes of events");
	else
		((const struct ss_attribute_service *)service.vtbl)->want(service.self);
}

static void free_names(struct names *names)
{
	for (size_t i = 0; i < names->n; i++) {
		free(names->v[i].text);
		free(names->v[i].to);
	}
	free(names->v);
}

void reshape_free(struct reshape *r)
{
	if (!r)
		return;
	free_names(&r->select);
	free_names(&r->remove);
	free_names(&r->rename);
	free_names(&r->set);
	free(r->scratch.bytes);
	free(r);
}

int reshape_compile(json_t *json, struct ss_json_option *option, const struct ss_iface *fields,
		    struct reshape **out)
{
	static const char *const known[] = {"select", "remove", "rename", "set", NULL};
	struct reshape *r = calloc(1, sizeof *r);

	if (!r) {
		option->err = -ENOMEM;
		return -ENOMEM;
	}
	r->fields = *fields;
	if (!json_is_object(json) || json_object_size(json) == 0) {
		ss_json_error(option, NULL,
			      "must be an object with \"select\", \"remove\", \"rename\" or \"set\"");
	} else {
		ss_json_keys(option, json, known);
		r->selects = json_object_get(json, "select") != NULL;
		read_list(json_object_get(json, "select"), "select", &r->select, option);
		read_list(json_object_get(json, "remove"), "remove", &r->remove, option);
		read_map(json_object_get(json, "rename"), "rename", true, &r->rename, option);
		read_map(json_object_get(json, "set"), "set", false, &r->set, option);
		want_attributes(r, option);
	}
	for (size_t i = 0; i < r->rename.n; i++) {
		const char *new_name = json_string_value(
			json_object_get(json_object_get(json, "rename"), r->rename.v[i].text));
		if (new_name && json_object_get(json_object_get(json, "set"), new_name))
			ss_json_error(option, "set", "\"%.40s\" is also the new name of \"%.40s\"", new_name,
				      r->rename.v[i].text);
		for (size_t j = 0; j < i; j++)
			if (strcmp(r->rename.v[i].to, r->rename.v[j].to) == 0)
				ss_json_error(option, "rename",
					      "\"%.40s\" and \"%.40s\" are renamed to the same name",
					      r->rename.v[j].text, r->rename.v[i].text);
	}
	for (size_t i = 0; i < r->set.n; i++)
		r->grows += r->set.v[i].to_len + 1;
	if (option->err)
		reshape_free(r);
	else
		*out = r;
	return option->err;
}

/* ---- one event ---- */

/* The most bytes the attributes take that are set, with quotes and escapes. */
static size_t attributes_size(const struct reshape *r, const struct ss_attributes *set)
{
	size_t size = 0;

	for (size_t i = 0; i < r->set.n; i++)
		if (r->set.v[i].attribute >= 0)
			size += 24 + 2 * (size_t)ss_attribute_get(set, (uint32_t)r->set.v[i].attribute).len;
	return size;
}

/* A name may come again and again, each time in quotes, with a colon, a value and a comma or brace. */
size_t reshape_size(const struct reshape *r, const struct ss_batch *batch, const struct ss_event *e)
{
	size_t most = 0, len = e->len;

	for (size_t i = 0; i < r->rename.n; i++) {
		const struct name *name = &r->rename.v[i];
		const size_t old_len = name->len + 2;
		const size_t grows =
			name->to_len > old_len ? (name->to_len - old_len) * len / (old_len + 3) + 1 : 0;
		most = grows > most ? grows : most;
	}
	return len + most + r->grows + 2 + attributes_size(r, ss_attributes_of(batch, e));
}

static const char *skip_blanks(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
		p++;
	return p;
}

/* From an opening quote to behind the closing one; NULL: there is none. */
static const char *skip_string(const char *p, const char *end, bool *escaped)
{
	for (p++; p < end && *p != '"'; p++) {
		if (*p == '\\') {
			*escaped = true;
			p++;
		}
	}
	return p < end ? p + 1 : NULL;
}

/* To the comma or brace behind a value; NULL: there is none. */
static const char *skip_value(const char *p, const char *end)
{
	bool escaped;
	int depth = 0;

	while (p && p < end && (depth || (*p != ',' && *p != '}'))) {
		if (*p == '"') {
			p = skip_string(p, end, &escaped);
			continue;
		}
		depth += (*p == '[' || *p == '{') - (*p == ']' || *p == '}');
		p++;
	}
	return p && p < end ? p : NULL;
}

static const struct name *find(const struct names *names, const char *text, size_t len)
{
	for (size_t i = 0; i < names->n; i++)
		if (names->v[i].len == len && memcmp(names->v[i].text, text, len) == 0)
			return &names->v[i];
	return NULL;
}

/* One member: begin at its name's quote, end behind its value.  Where it is written to, or where it was;
 * NULL: out of memory. */
static char *member(struct reshape *r, const char *begin, const char *name_end, bool escaped, const char *end,
		    char *to, const char *start)
{
	struct ss_field f = {.text = begin + 1,
			     .len = (uint32_t)(name_end - begin - 2),
			     .type = SS_JSON_STRING,
			     .flags = escaped ? SS_FIELD_ESCAPED : 0};
	const char *name;
	size_t len;

	if (ss_scratch_text(&r->scratch, &r->fields, &f, &name, &len) < 0)
		return NULL;
	if ((r->selects && !find(&r->select, name, len)) || find(&r->remove, name, len))
		return to;
	const struct name *other = find(&r->rename, name, len);
	if (find(&r->set, name, len) && !other)
		return to; /* comes last, with another value */
	if (to > start)
		*to++ = ',';
	if (other) {
		memcpy(to, other->to, other->to_len);
		to += other->to_len;
		begin = name_end;
	}
	while (end > begin && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\n' || end[-1] == '\r'))
		end--;
	memcpy(to, begin, (size_t)(end - begin));
	return to + (end - begin);
}

/* The value of an attribute; it has no control characters. */
static char *put_attribute(const struct reshape *r, int32_t which, char *to)
{
	const struct ss_attribute a = ss_attribute_get(r->attributes, (uint32_t)which);

	if (which == SS_ATTR_RECEIVED)
		return to + sprintf(to, "%" PRIu64, r->time_ns / 1000000);
	if (!a.text) {
		memcpy(to, "null", 4);
		return to + 4;
	}
	*to++ = '"';
	for (uint32_t i = 0; i < a.len; i++) {
		if (a.text[i] == '"' || a.text[i] == '\\')
			*to++ = '\\';
		*to++ = a.text[i];
	}
	*to++ = '"';
	return to;
}

static char *put_set(const struct reshape *r, char *to, const char *start)
{
	for (size_t i = 0; i < r->set.n; i++) {
		if (to > start)
			*to++ = ',';
		memcpy(to, r->set.v[i].to, r->set.v[i].to_len);
		to += r->set.v[i].to_len;
		if (r->set.v[i].attribute >= 0)
			to = put_attribute(r, r->set.v[i].attribute, to);
	}
	return to;
}

/* The object that begins at p; NULL: out of memory. */
static char *reshape_object(struct reshape *r, const char *p, const char *end, char *to)
{
	char *start = to + 1;

	*to++ = '{';
	p = skip_blanks(p + 1, end);
	while (p < end && *p == '"') {
		bool escaped = false;
		const char *name_end = skip_string(p, end, &escaped);
		const char *colon = name_end ? skip_blanks(name_end, end) : end;
		const char *value_end = colon < end && *colon == ':' ? skip_value(colon + 1, end) : NULL;
		if (!value_end)
			return NULL;
		to = member(r, p, name_end, escaped, value_end, to, start);
		if (!to)
			return NULL;
		p = *value_end == ',' ? skip_blanks(value_end + 1, end) : value_end;
	}
	if (p >= end || *p != '}' || skip_blanks(p + 1, end) != end)
		return NULL;
	to = put_set(r, to, start);
	*to++ = '}';
	return to;
}

int64_t reshape_event(struct reshape *r, const struct ss_batch *batch, const struct ss_event *e, char *out)
{
	const char *json = (const char *)e->data, *end = json + e->len, *p = skip_blanks(json, end);

	r->attributes = ss_attributes_of(batch, e);
	r->time_ns = e->time_ns;
	if (p < end && *p == '{') {
		char *to = reshape_object(r, p, end, out);

		return to ? to - out : -ENOMEM;
	}
	memcpy(out, json, e->len);
	return e->len;
}
