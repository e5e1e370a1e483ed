/* SPDX-License-Identifier: MIT */
/* condition - compile conditions from JSON; see condition.h.  Control thread. */
#include "condition.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct compiler {
	struct conditions *c;
	struct ss_json_option *option; /* where an error lies */
	struct ss_paths *paths;
	const char *value_key; /* the member of the present place that holds the value */
	int depth;
	bool too_many; /* already reported */
};

/* ---- operators ---- */

/* Bits of the value types an operator takes. */
enum { TAKES_NUMBER = 1, TAKES_STRING = 2, TAKES_BOOL = 4, TAKES_NULL = 8, TAKES_LIST = 16 };
#define TAKES_SCALAR (TAKES_NUMBER | TAKES_STRING | TAKES_BOOL | TAKES_NULL)

struct op {
	const char *name, *symbol, *word; /* three spellings; NULL = none */
	uint8_t kind;                     /* TEST_STRING stands for any comparison */
	uint8_t accept;
	uint8_t takes;
	bool invert;
	bool folds; /* ignore_case makes sense */
};

static const struct op ops[] = {
	{"eq", "==", "equals", TEST_STRING, CMP_EQUAL, TAKES_SCALAR, false, true},
	{"ne", "!=", "not_equals", TEST_STRING, CMP_LESS | CMP_MORE, TAKES_SCALAR, true, true},
	{"gt", ">", NULL, TEST_STRING, CMP_MORE, TAKES_NUMBER | TAKES_STRING, false, false},
	{"gte", ">=", NULL, TEST_STRING, CMP_MORE | CMP_EQUAL, TAKES_NUMBER | TAKES_STRING, false, false},
	{"lt", "<", NULL, TEST_STRING, CMP_LESS, TAKES_NUMBER | TAKES_STRING, false, false},
	{"lte", "<=", NULL, TEST_STRING, CMP_LESS | CMP_EQUAL, TAKES_NUMBER | TAKES_STRING, false, false},
	{"contains", NULL, NULL, TEST_CONTAINS, CMP_EQUAL, TAKES_SCALAR, false, true},
	{"array_contains", NULL, NULL, TEST_ARRAY_CONTAINS, CMP_EQUAL, TAKES_SCALAR, false, true},
	{"starts_with", NULL, NULL, TEST_STARTS, 0, TAKES_STRING, false, true},
	{"ends_with", NULL, NULL, TEST_ENDS, 0, TAKES_STRING, false, true},
	{"regex", NULL, NULL, TEST_REGEX, 0, TAKES_STRING, false, true},
	{"in", NULL, NULL, TEST_IN, 0, TAKES_LIST, false, true},
	{"not_in", NULL, NULL, TEST_IN, 0, TAKES_LIST, true, true},
	{"between", NULL, NULL, TEST_BETWEEN, 0, TAKES_LIST, false, false},
	{"length_eq", NULL, NULL, TEST_LENGTH, CMP_EQUAL, TAKES_NUMBER, false, false},
	{"length_ne", NULL, NULL, TEST_LENGTH, CMP_LESS | CMP_MORE, TAKES_NUMBER, false, false},
	{"length_gt", NULL, NULL, TEST_LENGTH, CMP_MORE, TAKES_NUMBER, false, false},
	{"length_gte", NULL, NULL, TEST_LENGTH, CMP_MORE | CMP_EQUAL, TAKES_NUMBER, false, false},
	{"length_lt", NULL, NULL, TEST_LENGTH, CMP_LESS, TAKES_NUMBER, false, false},
	{"length_lte", NULL, NULL, TEST_LENGTH, CMP_LESS | CMP_EQUAL, TAKES_NUMBER, false, false},
	{"exists", NULL, NULL, TEST_EXISTS, 0, TAKES_BOOL, false, false},
};
#define N_OPS (sizeof ops / sizeof *ops)

/* By the name that stands in the member key; NULL after an error. */
static const struct op *find_op(struct compiler *k, const char *key, const char *name)
{
	const char *names[N_OPS + 1] = {NULL};
	char all[320] = "";
	size_t len = 0;

	for (size_t i = 0; i < N_OPS; i++) {
		if (strcmp(name, ops[i].name) == 0 || (ops[i].symbol && strcmp(name, ops[i].symbol) == 0) ||
		    (ops[i].word && strcmp(name, ops[i].word) == 0))
			return &ops[i];
		names[i] = ops[i].name;
		len += (size_t)snprintf(all + len, sizeof all - len, "%s%s", i ? ", " : "", ops[i].name);
	}
	const char *near = ss_json_nearest(name, names);
	ss_json_error(k->option, key, "unknown operator \"%.40s\"%s%s%s; known are %s", name,
		      near ? " (did you mean \"" : "", near ? near : "", near ? "\"?)" : "", all);
	return NULL;
}

static unsigned takes_bit(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		return TAKES_STRING;
	case JSON_INTEGER:
	case JSON_REAL:
		return TAKES_NUMBER;
	case JSON_TRUE:
	case JSON_FALSE:
		return TAKES_BOOL;
	case JSON_NULL:
		return TAKES_NULL;
	case JSON_ARRAY:
		return TAKES_LIST;
	default:
		return 0;
	}
}

static bool check_value(struct compiler *k, const struct op *op, const json_t *value)
{
	if (!value) {
		if (op->kind != TEST_EXISTS)
			ss_json_error(k->option, NULL, "\"value\" is missing");
		return op->kind == TEST_EXISTS;
	}
	if (takes_bit(value) & op->takes)
		return true;
	ss_json_error(k->option, k->value_key, "\"%s\" takes %s, found %s", op->name,
		      op->takes == TAKES_LIST                      ? "a list of values"
		      : op->takes == TAKES_STRING                  ? "a string"
		      : op->takes == TAKES_BOOL                    ? "true or false"
		      : op->takes == TAKES_NUMBER                  ? "a number"
		      : op->takes == (TAKES_NUMBER | TAKES_STRING) ? "a number or a string"
								   : "a string, a number, a boolean or null",
		      ss_json_type(value));
	return false;
}

static uint8_t field_type(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		return SS_JSON_STRING;
	case JSON_INTEGER:
	case JSON_REAL:
		return SS_JSON_NUMBER;
	case JSON_TRUE:
		return SS_JSON_TRUE;
	case JSON_FALSE:
		return SS_JSON_FALSE;
	default:
		return SS_JSON_NULL;
	}
}

static int copy_text(struct text *t, const json_t *string)
{
	t->len = json_string_length(string);
	t->bytes = malloc(t->len + 1);
	if (!t->bytes)
		return -ENOMEM;
	memcpy(t->bytes, json_string_value(string), t->len + 1);
	return 0;
}

static void compile_regex(struct compiler *k, struct test *t, const char *pattern, size_t len,
			  uint32_t options)
{
	PCRE2_SIZE at;
	uint32_t compiled, references;
	int error;

	options |= PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_USE_OFFSET_LIMIT;
	t->regex = pcre2_compile((PCRE2_SPTR)pattern, len, options, &error, &at, NULL);
	if (!t->regex) {
		char text[160];

		pcre2_get_error_message(error, (PCRE2_UCHAR *)text, sizeof text);
		ss_json_error(k->option, k->value_key,
			      "the regular expression does not compile, byte %zu: %s", (size_t)at + 1, text);
		return;
	}
	pcre2_pattern_info(t->regex, PCRE2_INFO_ALLOPTIONS, &compiled);
	pcre2_pattern_info(t->regex, PCRE2_INFO_BACKREFMAX, &references);
	t->anchored = compiled & PCRE2_ANCHORED;
	t->refers = references > 0;
	/* where it is not to be had, pcre2_match interprets */
	pcre2_jit_compile(t->regex, PCRE2_JIT_COMPLETE);
	k->c->any_regex = true;
}

static int compare_numbers(const void *a, const void *b)
{
	return ss_number_compare(a, b);
}

static int compare_texts(const void *a, const void *b)
{
	const struct text *x = a, *y = b;
	int order = memcmp(x->bytes, y->bytes, x->len < y->len ? x->len : y->len);

	return order ? order : (x->len > y->len) - (x->len < y->len);
}

static void list_free(struct value_list *list)
{
	if (!list)
		return;
	for (size_t i = 0; i < list->n_strings; i++)
		free(list->strings[i].bytes);
	free(list->strings);
	free(list->numbers);
	free(list);
}

/* Any of the listed strings, in whatever case: "(?:a|b\.c)" with everything but letters and digits escaped.
 */
static void compile_alternatives(struct compiler *k, struct test *t)
{
	const struct value_list *list = t->list;
	size_t size = 8, len = 0;

	for (size_t i = 0; i < list->n_strings; i++)
		size += 2 * list->strings[i].len + 1;
	char *pattern = malloc(size);
	if (!pattern) {
		k->option->err = -ENOMEM;
		return;
	}
	len += (size_t)sprintf(pattern, "(?:");
	for (size_t i = 0; i < list->n_strings; i++) {
		if (i)
			pattern[len++] = '|';
		for (size_t j = 0; j < list->strings[i].len; j++) {
			unsigned char byte = (unsigned char)list->strings[i].bytes[j];

			if (byte < 0x80 && ispunct(byte))
				pattern[len++] = '\\';
			pattern[len++] = (char)byte;
		}
	}
	pattern[len++] = ')';
	compile_regex(k, t, pattern, len, PCRE2_CASELESS | PCRE2_ANCHORED | PCRE2_ENDANCHORED);
	t->plain = true;
	free(pattern);
}

static void compile_list(struct compiler *k, struct test *t, json_t *values, bool fold)
{
	size_t n = json_array_size(values), i;
	json_t *value;

	if (n == 0 || n > CONDITION_MAX_VALUES) {
		ss_json_error(k->option, k->value_key, "must list 1 to %d values, found %zu",
			      CONDITION_MAX_VALUES, n);
		return;
	}
	struct value_list *list = t->list = calloc(1, sizeof *list);
	if (!list || !(list->numbers = calloc(n, sizeof *list->numbers)) ||
	    !(list->strings = calloc(n, sizeof *list->strings))) {
		k->option->err = -ENOMEM;
		return;
	}
	size_t at = ss_json_enter(k->option, k->value_key);
	json_array_foreach(values, i, value)
	{
		if (json_is_number(value)) {
			ss_json_number(k->option, value, &list->numbers[list->n_numbers++]);
		} else if (json_is_string(value)) {
			if (copy_text(&list->strings[list->n_strings++], value) < 0)
				k->option->err = -ENOMEM;
		} else if (takes_bit(value) & TAKES_SCALAR) {
			list->type[field_type(value)] = true;
		} else {
			size_t before = ss_json_enter_index(k->option, i);
			ss_json_error(k->option, NULL,
				      "must be a string, a number, a boolean or null, found %s",
				      ss_json_type(value));
			ss_json_leave(k->option, before);
		}
	}
	ss_json_leave(k->option, at);
	if (k->option->err == -ENOMEM)
		return;
	qsort(list->numbers, list->n_numbers, sizeof *list->numbers, compare_numbers);
	qsort(list->strings, list->n_strings, sizeof *list->strings, compare_texts);
	if (fold && list->n_strings)
		compile_alternatives(k, t);
}

/* Is "ignore_case" true?  Reported where the operator cannot ignore case. */
static bool ignores_case(struct compiler *k, const struct op *op, json_t *fold, const json_t *value)
{
	if (!fold)
		return false;
	if (!json_is_boolean(fold)) {
		ss_json_error(k->option, "ignore_case", "must be true or false, found %s",
			      ss_json_type(fold));
		return false;
	}
	if (!json_is_true(fold))
		return false;
	if (op->folds && (json_is_string(value) || json_is_array(value)))
		return true;
	ss_json_error(k->option, "ignore_case",
		      "is only possible with eq, ne, contains, starts_with, ends_with, regex, in and not_in "
		      "on strings");
	return false;
}

/* What makes a literal with ignore_case mean the operator. */
static uint32_t fold_options(const struct op *op)
{
	uint32_t options = PCRE2_CASELESS | PCRE2_LITERAL;

	if (op->kind == TEST_STRING || op->kind == TEST_STARTS)
		options |= PCRE2_ANCHORED;
	if (op->kind == TEST_STRING || op->kind == TEST_ENDS)
		options |= PCRE2_ENDANCHORED;
	return options;
}

/* Would JSON take the text for a number?  Such strings are compared as text, "9" above "20". */
static bool looks_like_number(struct compiler *k, const json_t *value)
{
	const struct ss_fields *fields = k->c->fields.vtbl;
	const struct ss_field f = {.text = json_string_value(value),
				   .len = (uint32_t)json_string_length(value),
				   .type = SS_JSON_NUMBER};
	double number;

	return json_is_string(value) && fields->number(k->c->fields.self, &f, &number) != -EINVAL;
}

static bool is_ordering(const struct op *op)
{
	return op->kind == TEST_STRING && op->accept != CMP_EQUAL && !op->invert;
}

static void fill_test(struct compiler *k, struct test *t, const struct op *op, json_t *value, bool fold)
{
	t->kind = op->kind;
	t->accept = op->accept;
	t->invert = t->other = op->invert;
	if (op->kind == TEST_EXISTS) {
		t->missing = json_is_false(value);
		return;
	}
	if (op->kind == TEST_IN) {
		compile_list(k, t, value, fold);
		return;
	}
	if (is_ordering(op) && looks_like_number(k, value))
		ss_json_error(k->option, k->value_key,
			      "\"%s\" would be compared as text; to compare numbers write %s without quotes",
			      json_string_value(value), json_string_value(value));
	t->type = field_type(value);
	if (json_is_number(value)) {
		ss_json_number(k->option, value, &t->number);
	} else if (json_is_string(value) && copy_text(&t->string, value) < 0) {
		k->option->err = -ENOMEM;
		return;
	}
	if (op->kind == TEST_STRING && t->type != SS_JSON_STRING)
		t->kind = t->type == SS_JSON_NUMBER ? TEST_NUMBER : TEST_TYPE;
	if (op->kind == TEST_REGEX) {
		compile_regex(k, t, t->string.bytes, t->string.len,
			      PCRE2_NEVER_BACKSLASH_C | (fold ? PCRE2_CASELESS : 0));
	} else if (fold) {
		compile_regex(k, t, t->string.bytes, t->string.len, fold_options(op));
		t->plain = true;
	}
}

static int16_t add_test(struct compiler *k, int path, const struct op *op, json_t *value, bool fold,
			int16_t yes, int16_t no)
{
	if (k->c->n == CONDITION_MAX) {
		if (!k->too_many)
			ss_json_error(k->option, NULL, "more than %d conditions", CONDITION_MAX);
		k->too_many = true;
		return no;
	}
	struct test *t = &k->c->tests[k->c->n];
	*t = (struct test){.field = (uint16_t)path, .yes = yes, .no = no};
	fill_test(k, t, op, value, fold);
	return (int16_t)k->c->n++;
}

static const struct op *op_named(const char *name)
{
	const struct op *op = ops;

	while (strcmp(op->name, name) != 0)
		op++;
	return op;
}

/* [low, high]: at least the one and at most the other. */
static int16_t add_between(struct compiler *k, int path, json_t *value, int16_t yes, int16_t no)
{
	json_t *low = json_array_get(value, 0), *high = json_array_get(value, 1);
	bool numbers = json_is_number(low) && json_is_number(high);

	if (json_array_size(value) != 2 || !(numbers || (json_is_string(low) && json_is_string(high)))) {
		ss_json_error(
			k->option, k->value_key,
			"must be two numbers or two strings: the lowest and the highest value that pass");
		return no;
	}
	int16_t upper = add_test(k, path, op_named("lte"), high, false, yes, no);
	int16_t lower = add_test(k, path, op_named("gte"), low, false, upper, no);
	const struct test *tests = k->c->tests;
	if (!k->too_many && !k->option->err &&
	    (numbers ? compare_numbers(&tests[lower].number, &tests[upper].number)
		     : compare_texts(&tests[lower].string, &tests[upper].string)) > 0)
		ss_json_error(k->option, k->value_key,
			      "nothing would pass: write the lowest value first, then the highest");
	return lower;
}

/* Add the tests of an operator (NULL: none) on the field of a path; yes and no are where they lead to.
 * Returns the first.  fold, "ignore_case", may be NULL. */
static int16_t add_op(struct compiler *k, int path, const struct op *op, json_t *value, json_t *fold,
		      int16_t yes, int16_t no)
{
	if (!op || !check_value(k, op, value))
		return no;
	bool folds = ignores_case(k, op, fold, value);
	if (op->kind == TEST_BETWEEN)
		return add_between(k, path, value, yes, no);
	return add_test(k, path, op, value, folds, yes, no);
}

/* ---- conditions ---- */

/* Index of the path that stands in the member key; 0 after an error. */
static int add_path(struct compiler *k, const char *key, const char *text)
{
	int path = ss_paths_add(k->paths, k->option->at, key, text);

	if (path >= 0)
		return path;
	k->option->err = -ENOMEM;
	return 0;
}

/* "path" is another word for "field", in which "$.a.b" stands for "a.b". */
static int leaf_path(struct compiler *k, json_t *json)
{
	const bool foreign = json_object_get(json, "path");
	const char *key = foreign ? "path" : "field";
	json_t *field = json_object_get(json, key);
	const char *text = json_string_value(field);
	struct ss_json_option *s = k->option;

	if (foreign && json_object_get(json, "field"))
		ss_json_error(s, key, "means the same as \"field\"; give only one of them");
	if (!field)
		ss_json_error(s, NULL, "\"field\" is missing");
	else if (!text)
		ss_json_error(s, key, "must be a string, found %s", ss_json_type(field));
	else if (strlen(text) != json_string_length(field))
		ss_json_error(s, key, "must not contain a NUL character");
	else if (!foreign || strncmp(text, "$.", 2) != 0)
		return add_path(k, key, text);
	else if (strpbrk(text, "[]*"))
		ss_json_error(s, key, "only names and indices may follow \"$\", as in \"$.list.0\"");
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

	ss_json_keys(k->option, json, leaf_keys);
	if (foreign && json_object_get(json, "op"))
		ss_json_error(k->option, key, "means the same as \"op\"; give only one of them");
	int path = leaf_path(k, json);
	if (!json_is_string(op)) {
		ss_json_error(k->option, op ? key : NULL, op ? "must be a string" : "\"op\" is missing");
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
		ss_json_error(k->option, field, "unknown key; %s%s%s", near ? "did you mean \"" : "",
			      near ? near : "only \"not\" can contain a condition", near ? "\"?" : "");
		return no;
	}
	if (n == 0 || n > CONDITION_MAX) {
		ss_json_error(k->option, field, "must have 1 to %d operators, such as {\"gt\": 20}",
			      CONDITION_MAX);
		return no;
	}
	int path = add_path(k, field, field);
	size_t before = ss_json_enter(k->option, field);
	int16_t entry = compile_operators(k, path, operators, json_object_iter(operators), yes, no);
	ss_json_leave(k->option, before);
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
		ss_json_error(k->option, NULL, "must be a list of at least one condition");
		return no;
	}
	for (size_t i = json_array_size(list); i-- > 0;) {
		size_t before = ss_json_enter_index(k->option, i);

		next = all ? compile(k, json_array_get(list, i), next, no)
			   : compile(k, json_array_get(list, i), yes, next);
		ss_json_leave(k->option, before);
	}
	return next;
}

/* Below a member that holds conditions; false if that is too deep. */
static bool descend(struct compiler *k, const char *key, size_t *before)
{
	if (k->depth == CONDITION_MAX_DEPTH) {
		ss_json_error(k->option, key, "conditions are nested more than %d levels deep",
			      CONDITION_MAX_DEPTH);
		return false;
	}
	k->depth++;
	*before = ss_json_enter(k->option, key);
	return true;
}

static void ascend(struct compiler *k, size_t before)
{
	ss_json_leave(k->option, before);
	k->depth--;
}

static int16_t compile_node(struct compiler *k, json_t *json, const char *key, int16_t yes, int16_t no)
{
	json_t *below = json_object_get(json, key);
	int16_t entry;
	size_t before;

	if (json_object_size(json) > 1) {
		ss_json_error(k->option, key, "must be the only key of its condition");
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

	ss_json_keys(k->option, json, known);
	if (!word || (strcmp(word, "and") != 0 && strcmp(word, "or") != 0)) {
		ss_json_error(k->option, "logic", "must be \"and\" or \"or\"");
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
		ss_json_error(k->option, NULL,
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
		ss_json_error(k->option, NULL, "more than %d conditions", CONDITION_MAX);
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

int conditions_compile(json_t *where, struct ss_json_option *option, struct ss_paths *paths,
		       const struct ss_iface *fields, struct conditions **out)
{
	struct conditions *c = calloc(1, sizeof *c);
	struct compiler k = {.c = c, .option = option, .paths = paths};

	if (!c || !(c->tests = calloc(CONDITION_MAX, sizeof *c->tests)))
		goto no_memory;
	c->fields = *fields;
	c->entry = json_is_array(where) ? compile_list_of(&k, where, true, CONDITION_TRUE, CONDITION_FALSE)
					: compile(&k, where, CONDITION_TRUE, CONDITION_FALSE);
	if (option->err)
		goto fail;
	c->cache = calloc(paths->n, sizeof *c->cache);
	if (!c->cache || (c->any_regex && prepare_regex(c) < 0))
		goto no_memory;
	*out = c;
	return 0;
no_memory:
	option->err = -ENOMEM;
fail:
	conditions_free(c);
	return option->err;
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
