/* SPDX-License-Identifier: MIT */
/* dialect - see dialect.h. */
#include <errno.h>
#include <string.h>
#include "condition.h"
#include "dialect.h"

/* "$.a.b" is "a.b". */
static json_t *translate_path(json_t *path)
{
	const char *text = json_string_value(path);

	return text && text[0] == '$' && text[1] == '.' ? json_string(text + 2) : json_incref(path);
}

/* {"path", "operator", ...} with the names we use. */
static json_t *rename_keys(json_t *leaf)
{
	json_t *out = json_object(), *value;
	const char *key;

	json_object_foreach(leaf, key, value)
	{
		if (strcmp(key, "path") == 0 && !json_object_get(leaf, "field"))
			json_object_set_new(out, "field", translate_path(value));
		else if (strcmp(key, "operator") == 0 && !json_object_get(leaf, "op"))
			json_object_set(out, "op", value);
		else
			json_object_set(out, key, value);
	}
	return out;
}

/* Are all members objects, as in {"value": {"gt": 20}}? */
static bool is_criteria(json_t *where)
{
	json_t *value;
	const char *key;

	json_object_foreach(where, key, value)
	{
		if (!json_is_object(value) || strcmp(key, "not") == 0)
			return false;
	}
	return json_object_size(where) > 0;
}

static void add_leaf(json_t *list, const char *field, const char *op, json_t *value)
{
	json_t *leaf = json_object();

	json_object_set_new(leaf, "field", json_string(field));
	json_object_set_new(leaf, "op", json_string(op));
	json_object_set(leaf, "value", value);
	json_array_append_new(list, leaf);
}

static json_t *translate_criteria(json_t *where, struct spec *spec)
{
	json_t *list = json_array(), *criteria, *value;
	const char *field, *op;

	json_object_foreach(where, field, criteria)
	{
		if (json_object_size(criteria) == 0)
			spec_error(spec, field, "names no operator; write {\"%.40s\": {\"gt\": 20}}", field);
		json_object_foreach(criteria, op, value) add_leaf(list, field, op, value);
	}
	if (json_array_size(list) == 1) {
		json_t *only = json_incref(json_array_get(list, 0));
		json_decref(list);
		return only;
	}
	json_t *out = json_object();
	json_object_set_new(out, "and", list);
	return out;
}

static json_t *translate(json_t *where, struct spec *spec, int depth);

static json_t *translate_list(json_t *list, struct spec *spec, int depth)
{
	json_t *out = json_array();

	for (size_t i = 0; i < json_array_size(list); i++)
		json_array_append_new(out, translate(json_array_get(list, i), spec, depth));
	return out;
}

/* {"logic": "and" or "or", "conditions": [...]}; without "logic" one of them is enough, as in the rules it
 * comes from. */
static json_t *translate_rule(json_t *rule, struct spec *spec, int depth)
{
	static const char *const known[] = {"logic", "conditions", NULL};
	json_t *logic = json_object_get(rule, "logic"), *out = json_object();
	const char *word = logic ? json_string_value(logic) : "or";

	spec_keys(spec, rule, known);
	if (!word || (strcmp(word, "and") != 0 && strcmp(word, "or") != 0)) {
		spec_error(spec, "logic", "must be \"and\" or \"or\"");
		word = "or";
	}
	json_t *conditions = json_object_get(rule, "conditions");
	json_object_set_new(out, word,
			    json_is_array(conditions) ? translate_list(conditions, spec, depth)
						      : json_incref(conditions));
	return out;
}

/* Deeper than conditions may be nested, things stay as they are: the compiler refuses them. */
static json_t *translate(json_t *where, struct spec *spec, int depth)
{
	static const char *const nodes[] = {"and", "or", "not", NULL};

	if (!json_is_object(where) || depth > CONDITION_MAX_DEPTH + 1)
		return json_incref(where);
	if (json_object_get(where, "conditions"))
		return translate_rule(where, spec, depth + 1);
	for (const char *const *node = nodes; *node; node++) {
		json_t *below = json_object_get(where, *node);
		if (!below)
			continue;
		json_t *out = json_copy(where);
		json_object_set_new(out, *node,
				    json_is_array(below) ? translate_list(below, spec, depth + 1)
							 : translate(below, spec, depth + 1));
		return out;
	}
	if (is_criteria(where))
		return translate_criteria(where, spec);
	return rename_keys(where);
}

json_t *dialect_translate(json_t *where, struct spec *spec)
{
	json_t *out = json_is_array(where) ? translate_list(where, spec, 0) : translate(where, spec, 0);

	if (!out && !spec->err)
		spec->err = -ENOMEM;
	return out;
}
