/* SPDX-License-Identifier: MIT */
/* functions - the configured functions: reading them from the configuration, and their states in a
 * group; see function.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <semstreams/ext/fields.h>
#include "functions.h"
#include "json.h"

static const struct function_type *const *const families[] = {functions_numbers, functions_values};

/* ---- compiling ---- */

#define NAMES_MAX 40

static uint32_t type_names(const char *names[NAMES_MAX])
{
	uint32_t n = 0;

	for (size_t i = 0; i < sizeof families / sizeof *families; i++)
		for (const struct function_type *const *t = families[i]; *t && n + 1 < NAMES_MAX; t++)
			names[n++] = (*t)->name;
	names[n] = NULL;
	return n;
}

static const struct function_type *find_type(const char *name)
{
	static const struct {
		const char *other, *name;
	} also[] = {{"avg", "mean"},    {"average", "mean"},           {"minimum", "min"},
		    {"maximum", "max"}, {"percentile", "percentiles"}, {"quantiles", "percentiles"},
		    {"top_k", "top"}};

	for (size_t i = 0; i < sizeof also / sizeof *also; i++)
		if (strcmp(name, also[i].other) == 0)
			name = also[i].name;
	for (size_t i = 0; i < sizeof families / sizeof *families; i++)
		for (const struct function_type *const *t = families[i]; *t; t++)
			if (strcmp(name, (*t)->name) == 0)
				return *t;
	return NULL;
}

static void unknown_type(struct ss_json_option *spec, const char *key, const char *name)
{
	const char *names[NAMES_MAX];
	char list[512] = "";
	uint32_t n = type_names(names);
	const char *near = ss_json_nearest(name, names);

	for (uint32_t i = 0, len = 0; i < n && len < sizeof list; i++)
		len += (uint32_t)snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", names[i]);
	ss_json_error(spec, key, "unknown function \"%.40s\"%s%s%s (known: %s)", name,
		      near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "", list);
}

/* "p99.9(value)" is percentiles with one p, "median(value)" with 50. */
static json_t *short_percentile(const char *name, size_t len)
{
	if (len == 6 && memcmp(name, "median", 6) == 0)
		return json_integer(50);
	if (len < 2 || name[0] != 'p' || name[1] < '0' || name[1] > '9')
		return NULL;
	return json_loadb(name + 1, len - 1, JSON_DECODE_ANY, NULL);
}

/* "fn" or "fn(field)" as the object it stands for; NULL after an error or if out of memory. */
static json_t *expand_short(const char *text, struct ss_json_option *spec)
{
	const char *open = strchr(text, '(');
	size_t len = open ? (size_t)(open - text) : strlen(text), whole = strlen(text);

	if (len == 0 || (open && (text[whole - 1] != ')' || whole - len < 3))) {
		ss_json_error(spec, NULL,
			      "\"%.60s\" is not a function; write \"count\", \"mean(field)\" or an object",
			      text);
		return NULL;
	}
	json_t *object = json_object(), *p = short_percentile(text, len);
	if (p) {
		json_object_set_new(object, "fn", json_string("percentiles"));
		json_object_set_new(object, "p", p);
	} else {
		json_object_set_new(object, "fn", json_stringn(text, len));
	}
	if (open)
		json_object_set_new(object, "field", json_stringn(open + 1, whole - len - 2));
	if (!object)
		spec->err = -ENOMEM;
	return object;
}

static void compile_field(struct function *f, json_t *json, struct ss_json_option *spec,
			  struct ss_paths *paths)
{
	json_t *field = json_object_get(json, "field");

	f->field = -1;
	if (field && !json_is_string(field)) {
		ss_json_error(spec, "field", "must be a string, the path of a field, found %s",
			      ss_json_type(field));
	} else if (field) {
		f->field = ss_paths_add(paths, spec->at, "field", json_string_value(field));
		if (f->field < 0)
			spec->err = -ENOMEM;
	} else if (f->type->needs_field) {
		ss_json_error(spec, NULL, "%s needs a field: \"%s(field)\"", f->type->name, f->type->name);
	}
}

static void compile_one(struct function *f, const char *name, json_t *json, struct ss_json_option *spec,
			struct ss_paths *paths)
{
	json_t *expanded =
		json_is_string(json) ? expand_short(json_string_value(json), spec) : json_incref(json);

	if (!expanded)
		return;
	json_t *fn = json_object_get(expanded, "fn");
	if (!json_is_object(expanded))
		ss_json_error(spec, NULL, "must be a string such as \"mean(value)\" or an object, found %s",
			      ss_json_type(expanded));
	else if (!json_is_string(fn))
		ss_json_error(spec, fn ? "fn" : NULL, "\"fn\" must name a function");
	else if (!(f->type = find_type(json_string_value(fn))))
		unknown_type(spec, json_is_string(json) ? NULL : "fn", json_string_value(fn));
	if (f->type) {
		f->size = f->type->size;
		compile_field(f, expanded, spec, paths);
		if (f->type->compile) {
			f->type->compile(f, expanded, spec);
		} else {
			static const char *const known[] = {"fn", "field", NULL};
			ss_json_keys(spec, expanded, known);
		}
	}
	f->name = strdup(name);
	f->label = print_label(name);
	if (!f->name || !f->label)
		spec->err = -ENOMEM;
	json_decref(expanded);
}

static void place(struct functions *all)
{
	for (uint32_t i = 0; i < all->n; i++) {
		struct function *f = &all->v[i];
		f->offset = all->size;
		all->size += f->size;
		all->any_heap |= f->type->heap != NULL;
	}
}

int functions_compile(json_t *json, struct ss_json_option *spec, struct ss_paths *paths,
		      const struct ss_iface *fields, struct functions *out)
{
	const char *name;
	json_t *value;

	*out = (struct functions){.fields = *fields};
	if (getrandom(out->secret, sizeof out->secret, 0) != sizeof out->secret)
		return -EIO;
	if (!json_is_object(json) || json_object_size(json) == 0 || json_object_size(json) > FUNCTIONS_MAX) {
		ss_json_error(spec, NULL,
			      "must be an object of 1 to %d functions: {\"n\": \"count\", \"mean\": "
			      "\"mean(value)\"}",
			      FUNCTIONS_MAX);
		return spec->err;
	}
	out->v = calloc(json_object_size(json), sizeof *out->v);
	if (!out->v)
		return -ENOMEM;
	json_object_foreach(json, name, value)
	{
		size_t before = ss_json_enter(spec, name);
		compile_one(&out->v[out->n++], name, value, spec, paths);
		ss_json_leave(spec, before);
		if (spec->err == -ENOMEM)
			return -ENOMEM;
	}
	if (!spec->err)
		place(out);
	return spec->err;
}

void functions_done(struct functions *all)
{
	for (uint32_t i = 0; i < all->n; i++) {
		free(all->v[i].name);
		free(all->v[i].label);
		free(all->v[i].values);
		free(all->v[i].bounds);
		free(all->v[i].labels);
	}
	free(all->v);
	free(all->scratch.bytes);
	*all = (struct functions){0};
}

/* ---- a group's states ---- */

static bool is_value(const struct ss_field *f)
{
	return f->type != SS_JSON_MISSING && f->type != SS_JSON_NULL;
}

void functions_add(struct functions *all, uint8_t *states, const struct ss_field *values,
		   const struct ss_number *numbers, int64_t time_ns, uint64_t order,
		   struct functions_skipped *trouble)
{
	struct sample s = {.time_ns = time_ns, .order = order};

	for (uint32_t i = 0; i < all->n; i++) {
		const struct function *f = &all->v[i];
		if (f->field >= 0) {
			s.field = &values[f->field];
			s.number = s.field->type == SS_JSON_NUMBER ? &numbers[f->field] : NULL;
			if (!is_value(s.field))
				continue;
			if (f->type->needs_number && !s.number) {
				trouble->wrong_type++;
				continue;
			}
		}
		if (f->type->needs_hash &&
		    ss_value_hash(&all->fields, &all->scratch, s.field, all->secret, s.hash) < 0) {
			trouble->no_memory++;
			continue;
		}
		trouble->no_memory += f->type->add(f, states + f->offset, &s) < 0;
	}
}

int functions_merge(const struct functions *all, uint8_t *states, const uint8_t *others)
{
	int result = 0;

	for (uint32_t i = 0; i < all->n; i++) {
		const struct function *f = &all->v[i];
		int rc = f->type->merge(f, states + f->offset, others + f->offset);
		result = rc < 0 ? rc : result;
	}
	return result;
}

void functions_print(const struct functions *all, const uint8_t *states, const struct span *span,
		     struct ss_strbuf *out)
{
	for (uint32_t i = 0; i < all->n; i++) {
		const struct function *f = &all->v[i];
		if (i)
			ss_strbuf_add(out, ",", 1);
		ss_strbuf_text(out, f->label);
		f->type->print(f, states + f->offset, span, out);
	}
}

size_t functions_heap(const struct functions *all, const uint8_t *states)
{
	size_t sum = 0;

	for (uint32_t i = 0; i < all->n && all->any_heap; i++)
		if (all->v[i].type->heap)
			sum += all->v[i].type->heap(&all->v[i], states + all->v[i].offset);
	return sum;
}

void functions_clear(const struct functions *all, uint8_t *states)
{
	for (uint32_t i = 0; i < all->n && all->any_heap; i++)
		if (all->v[i].type->done)
			all->v[i].type->done(&all->v[i], states + all->v[i].offset);
	memset(states, 0, all->size);
}

/* ---- as bytes ---- */

void functions_save(const struct functions *all, const uint8_t *states, struct ss_strbuf *out)
{
	ss_strbuf_add(out, states, all->size);
	for (uint32_t i = 0; i < all->n && all->any_heap; i++) {
		const struct function *f = &all->v[i];
		if (!f->type->save)
			continue;
		size_t at = out->len;
		ss_strbuf_u64(out, 0);
		f->type->save(f, states + f->offset, out);
		if (out->failed)
			return;
		put_u64(out->bytes + at, out->len - at - 8);
	}
}

static int load_heap(const struct functions *all, uint8_t *states, struct ss_unpack *r)
{
	for (uint32_t i = 0; i < all->n && all->any_heap; i++) {
		const struct function *f = &all->v[i];
		if (!f->type->save)
			continue;
		uint64_t len = ss_unpack_u64(r);
		const uint8_t *bytes = ss_unpack_bytes(r, len);
		int rc = r->failed ? -EINVAL : f->type->load(f, states + f->offset, bytes, len);
		if (rc < 0)
			return rc;
	}
	return r->at == r->end ? 0 : -EINVAL;
}

int functions_load(const struct functions *all, uint8_t *states, const uint8_t *bytes, size_t len)
{
	struct ss_unpack r = {.at = bytes, .end = bytes + len};
	const uint8_t *saved = ss_unpack_bytes(&r, all->size);

	memset(states, 0, all->size);
	if (!saved)
		return -EINVAL;
	memcpy(states, saved, all->size);
	/* pointers in saved states are invalid */
	for (uint32_t i = 0; i < all->n; i++)
		if (all->v[i].type->save)
			memset(states + all->v[i].offset, 0, all->v[i].size);
	int rc = load_heap(all, states, &r);
	for (uint32_t i = 0; i < all->n && rc == 0; i++)
		if (all->v[i].type->is_good &&
		    !all->v[i].type->is_good(&all->v[i], states + all->v[i].offset))
			rc = -EINVAL;
	if (rc < 0)
		functions_clear(all, states);
	return rc;
}
