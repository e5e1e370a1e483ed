/* SPDX-License-Identifier: MIT */
/* condition - compile conditions from JSON; see condition.h.  Control thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "operators.h"

/* Index of the path that stands in the member key; 0 after an error. */
static int add_path(struct compiler *k, const char *key, const char *text)
{
	int path = ss_paths_add(k->paths, k->spec->at, key, text);

	if (path >= 0)
		return path;
	k->spec->err = -ENOMEM;
	return 0;
}

/* "path" is another word for "field", in which "$.a.b" stands for "a.b". */
static int leaf_path(struct compiler *k, json_t *json)
{
	const bool foreign = json_object_get(json, "path");
	const char *key = foreign ? "path" : "field";
	json_t *field = json_object_get(json, key);
	const char *text = json_string_value(field);
	struct ss_json_option *s = k->spec;

	if (foreign && json_object_get(json, "field"))
		ss_json_error(s, key, "is another word for \"field\"; one of them is enough");
	if (!field)
		ss_json_error(s, NULL, "\"field\" is missing");
	else if (!text)
		ss_json_error(s, key, "must be a string, found %s", ss_json_type(field));
	else if (strlen(text) != json_string_length(field))
		ss_json_error(s, key, "must not hold a NUL");
	else if (!foreign || strncmp(text, "$.", 2) != 0)
		return add_path(k, key, text);
	else if (strpbrk(text, "[]*"))
		ss_json_error(s, key, "only names can follow \"$\", and indices as in \"$.list.0\"");
	else
		return add_path(k, key, text + 2);
	return 0;
}

static const char *const node_keys[] = {"and", "or", "not", NULL};
static const char *const leaf_keys[] = {"field", "op", "value", "ignore_case", "path", "operator", NULL};

static int16_t compile_leaf(struct compiler *k, json_t *json, int16_t yes, int16_t no)
{
	const bool foreign = json_object_get(json, "operator");
	const char *key = foreign ? "operator" : "op";
	json_t *op = json_object_get(json, key);

	ss_json_keys(k->spec, json, leaf_keys);
	if (foreign && json_object_get(json, "op"))
		ss_json_error(k->spec, key, "is another word for \"op\"; one of them is enough");
	int path = leaf_path(k, json);
	if (!json_is_string(op)) {
		ss_json_error(k->spec, op ? key : NULL, op ? "must be a string" : "\"op\" is missing");
		return no;
	}
	k->value_key = "value";
	return add_op(k, path, find_op(k, key, json_string_value(op)), json_object_get(json, "value"),
		      json_object_get(json, "ignore_case"), yes, no);
}

/* Criteria: {"value": {"gt": 20, "lte": 80}, "status": {"equals": "ok"}}, all of which must hold. */
static bool is_criteria(json_t *json)
{
	static const char *const words[] = {"field", "path", "op", "operator"};
	const char *key;
	json_t *value;

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if ((value = json_object_get(json, words[i])) && !json_is_object(value))
			return false;
	json_object_foreach(json, key, value)
	{
		if (json_is_object(value))
			return true;
	}
	return false;
}

/* A condition where operators are wanted? */
static bool is_condition(json_t *json)
{
	static const char *const words[] = {"field", "path", "op", "operator", "and", "or", "not"};

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (json_object_get(json, words[i]))
			return true;
	return false;
}

/* The operators of one field from iter on, the last first. */
static int16_t compile_operators(struct compiler *k, int path, json_t *operators, void *iter, int16_t yes,
				 int16_t no)
{
	if (!iter)
		return yes;
	yes = compile_operators(k, path, operators, json_object_iter_next(operators, iter), yes, no);
	k->value_key = json_object_iter_key(iter);
	return add_op(k, path, find_op(k, k->value_key, k->value_key), json_object_iter_value(iter), NULL,
		      yes, no);
}

/* The fields from iter on, the last first. */
static int16_t compile_criteria(struct compiler *k, json_t *json, void *iter, int16_t yes, int16_t no)
{
	if (!iter)
		return yes;
	yes = compile_criteria(k, json, json_object_iter_next(json, iter), yes, no);
	const char *field = json_object_iter_key(iter);
	json_t *operators = json_object_iter_value(iter);
	size_t n = json_object_size(operators);
	if (is_condition(operators)) {
		const char *near = ss_json_nearest(field, node_keys);
		ss_json_error(k->spec, field, "unknown key; %s%s%s", near ? "did you mean \"" : "",
			      near ? near : "it holds a condition, as only \"not\" does", near ? "\"?" : "");
		return no;
	}
	if (n == 0 || n > CONDITION_MAX) {
		ss_json_error(k->spec, field, "must give 1 to %d operators, such as {\"gt\": 20}",
			      CONDITION_MAX);
		return no;
	}
	int path = add_path(k, field, field);
	size_t before = ss_json_enter(k->spec, field);
	int16_t entry = compile_operators(k, path, operators, json_object_iter(operators), yes, no);
	ss_json_leave(k->spec, before);
	return entry;
}

static int16_t compile(struct compiler *k, json_t *json, int16_t yes, int16_t no);

/*
 * Each test needs to know where to go next, so the last is compiled first: of "and" the next child is where a
 * child that holds leads to, of "or" where one that does not.
 */
static int16_t compile_list_of(struct compiler *k, json_t *list, bool all, int16_t yes, int16_t no)
{
	int16_t next = all ? yes : no;

	if (!json_is_array(list) || json_array_size(list) == 0) {
		ss_json_error(k->spec, NULL, "must be a list of at least one condition");
		return no;
	}
	for (size_t i = json_array_size(list); i-- > 0;) {
		size_t before = ss_json_enter_index(k->spec, i);

		next = all ? compile(k, json_array_get(list, i), next, no)
			   : compile(k, json_array_get(list, i), yes, next);
		ss_json_leave(k->spec, before);
	}
	return next;
}

/* Below a member that holds conditions; false if that is too deep. */
static bool descend(struct compiler *k, const char *key, size_t *before)
{
	if (k->depth == CONDITION_MAX_DEPTH) {
		ss_json_error(k->spec, key, "conditions are nested deeper than %d", CONDITION_MAX_DEPTH);
		return false;
	}
	k->depth++;
	*before = ss_json_enter(k->spec, key);
	return true;
}

static void ascend(struct compiler *k, size_t before)
{
	ss_json_leave(k->spec, before);
	k->depth--;
}

static int16_t compile_node(struct compiler *k, json_t *json, const char *key, int16_t yes, int16_t no)
{
	json_t *below = json_object_get(json, key);
	int16_t entry;
	size_t before;

	if (json_object_size(json) > 1) {
		ss_json_error(k->spec, key, "must be the only key of its condition");
		return no;
	}
	if (!descend(k, key, &before))
		return no;
	if (strcmp(key, "not") == 0)
		entry = compile(k, below, no, yes);
	else
		entry = compile_list_of(k, below, strcmp(key, "and") == 0, yes, no);
	ascend(k, before);
	return entry;
}

/* {"logic": "and" or "or", "conditions": [...]}; without "logic" one of them is enough. */
static int16_t compile_rule(struct compiler *k, json_t *json, int16_t yes, int16_t no)
{
	static const char *const known[] = {"logic", "conditions", NULL};
	json_t *logic = json_object_get(json, "logic");
	const char *word = logic ? json_string_value(logic) : "or";
	size_t before;

	ss_json_keys(k->spec, json, known);
	if (!word || (strcmp(word, "and") != 0 && strcmp(word, "or") != 0)) {
		ss_json_error(k->spec, "logic", "must be \"and\" or \"or\"");
		word = "or";
	}
	if (!descend(k, "conditions", &before))
		return no;
	int16_t entry =
		compile_list_of(k, json_object_get(json, "conditions"), strcmp(word, "and") == 0, yes, no);
	ascend(k, before);
	return entry;
}

/* Add the tests of a condition; yes and no are where they lead to.  Returns the first. */
static int16_t compile(struct compiler *k, json_t *json, int16_t yes, int16_t no)
{
	if (!json_is_object(json)) {
		ss_json_error(k->spec, NULL,
			      "a condition is an object such as {\"field\": \"value\", \"op\": \"gt\", "
			      "\"value\": 20}, found %s",
			      ss_json_type(json));
		return no;
	}
	if (json_object_get(json, "conditions") && !json_is_object(json_object_get(json, "conditions")))
		return compile_rule(k, json, yes, no);
	for (const char *const *key = node_keys; *key; key++)
		if (json_object_get(json, *key))
			return compile_node(k, json, *key, yes, no);
	if (is_criteria(json)) {
		if (json_object_size(json) <= CONDITION_MAX)
			return compile_criteria(k, json, json_object_iter(json), yes, no);
		ss_json_error(k->spec, NULL, "more than %d conditions", CONDITION_MAX);
		return no;
	}
	return compile_leaf(k, json, yes, no);
}

static int prepare_regex(struct conditions *c)
{
	c->match = pcre2_match_data_create(1, NULL);
	c->context = pcre2_match_context_create(NULL);
	if (!c->match || !c->context)
		return -ENOMEM;
	pcre2_set_depth_limit(c->context, REGEX_DEPTH_LIMIT);
	pcre2_set_heap_limit(c->context, REGEX_HEAP_KIB);
	c->jit_stack = pcre2_jit_stack_create(32 << 10, 1 << 20, NULL);
	if (c->jit_stack)
		pcre2_jit_stack_assign(c->context, NULL, c->jit_stack);
	return 0;
}

int conditions_compile(json_t *where, struct ss_json_option *spec, struct ss_paths *paths,
		       const struct ss_iface *fields, struct conditions **out)
{
	struct conditions *c = calloc(1, sizeof *c);
	struct compiler k = {.c = c, .spec = spec, .paths = paths};

	if (!c || !(c->tests = calloc(CONDITION_MAX, sizeof *c->tests)))
		goto no_memory;
	c->fields = *fields;
	c->entry = json_is_array(where) ? compile_list_of(&k, where, true, CONDITION_TRUE, CONDITION_FALSE)
					: compile(&k, where, CONDITION_TRUE, CONDITION_FALSE);
	if (spec->err)
		goto fail;
	c->cache = calloc(paths->n, sizeof *c->cache);
	if (!c->cache || (c->any_regex && prepare_regex(c) < 0))
		goto no_memory;
	*out = c;
	return 0;
no_memory:
	spec->err = -ENOMEM;
fail:
	conditions_free(c);
	return spec->err;
}

void conditions_free(struct conditions *c)
{
	if (!c)
		return;
	for (uint32_t i = 0; i < c->n; i++) {
		free(c->tests[i].string.bytes);
		pcre2_code_free(c->tests[i].regex);
		list_free(c->tests[i].list);
	}
	pcre2_match_data_free(c->match);
	pcre2_match_context_free(c->context);
	pcre2_jit_stack_free(c->jit_stack);
	free(c->tests);
	free(c->scratch.bytes);
	free(c->cache);
	free(c);
}
