/* SPDX-License-Identifier: MIT */
/*
 * test_verdict - what many conditions say of a document, by the filter and computed from what Jansson
 * parsed, for tests and fuzzing; a difference ends the program.
 */
#pragma once
#include "plugins/filter/condition.h"

#include <semstreams/ext/fields.h>
#include <semstreams/test-host.h>
#include "sdk/test-host/tests/json_jansson.h"

static const struct fields_path verdict_paths[] = {
	{.text = "", .n = 0},
	{.text = "a", .name = {"a"}, .n = 1},
	{.text = "a.b", .name = {"a", "b"}, .n = 2},
	{.text = "/a/0", .name = {"a", "0"}, .n = 2},
	{.text = "0", .name = {"0"}, .n = 1},
	{.text = "/", .name = {""}, .n = 1},
};

static const struct {
	const char *op, *value;
	bool fold;
} verdict_ops[] = {
	{"exists", "true", false},
	{"exists", "false", false},
	{"eq", "null", false},
	{"eq", "true", false},
	{"eq", "false", false},
	{"eq", "0", false},
	{"eq", "1", false},
	{"eq", "9007199254740993", false},
	{"eq", "0.5", false},
	{"eq", "1e20", false},
	{"eq", "\"\"", false},
	{"eq", "\"a\"", false},
	{"eq", "\"a\"", true},
	{"eq", "\"\\u0000\"", false},
	{"eq", "\"\\ud83d\\ude00\"", false},
	{"ne", "null", false},
	{"ne", "1", false},
	{"ne", "\"a\"", false},
	{"gt", "0", false},
	{"gt", "9007199254740992.0", false},
	{"gt", "\"a\"", false},
	{"gte", "1", false},
	{"gte", "\"\\u00e9\"", false},
	{"lt", "0", false},
	{"lt", "1e300", false},
	{"lte", "0.5", false},
	{"lte", "\"a\"", false},
	{"in", "[1,\"a\",null,0.5,\"\"]", false},
	{"in", "[\"a\",\"b c\"]", true},
	{"in", "[-1,9223372036854775807,true]", false},
	{"not_in", "[1,\"a\",null]", false},
	{"between", "[0,10]", false},
	{"between", "[\"a\",\"c\"]", false},
	{"contains", "\"a\"", false},
	{"contains", "\"\"", false},
	{"contains", "1", false},
	{"contains", "null", false},
	{"array_contains", "\"a\"", false},
	{"array_contains", "0", false},
	{"array_contains", "0.5", false},
	{"array_contains", "9007199254740993", false},
	{"array_contains", "false", false},
	{"starts_with", "\"a\"", false},
	{"starts_with", "\"\\n\"", false},
	{"ends_with", "\"a\"", false},
	{"ends_with", "\"a\"", true},
	{"length_eq", "0", false},
	{"length_eq", "1", false},
	{"length_ne", "2", false},
	{"length_gt", "1.5", false},
	{"length_gte", "3", false},
	{"length_lt", "2", false},
	{"length_lte", "1", false},
};
enum {
	VERDICT_PATHS = sizeof verdict_paths / sizeof *verdict_paths,
	VERDICT_OPS = sizeof verdict_ops / sizeof *verdict_ops,
	VERDICTS = VERDICT_PATHS * VERDICT_OPS
};

/* ---- from what Jansson parsed ---- */

/* Below 0, 0, above 0; 99: cannot be compared. */
static inline int verdict_order(const json_t *a, const json_t *b)
{
	if (json_is_integer(a) && json_is_integer(b)) {
		const json_int_t x = json_integer_value(a), y = json_integer_value(b);
		return (x > y) - (x < y);
	}
	if (json_is_number(a) && json_is_number(b)) {
		const double x = json_number_value(a), y = json_number_value(b);
		return (x > y) - (x < y);
	}
	if (json_is_string(a) && json_is_string(b)) {
		const size_t n = json_string_length(a), m = json_string_length(b);
		const int order = memcmp(json_string_value(a), json_string_value(b), n < m ? n : m);
		return order ? (order > 0) - (order < 0) : (n > m) - (n < m);
	}
	return json_typeof(a) == json_typeof(b) && !json_is_array(a) && !json_is_object(a) ? 0 : 99;
}

/* The words compared so have no letters that fold to anything but ASCII. */
static inline bool verdict_equal(const json_t *a, const json_t *b, bool fold)
{
	if (!fold || !json_is_string(a) || !json_is_string(b))
		return verdict_order(a, b) == 0;
	return json_string_length(a) == json_string_length(b) &&
	       strncasecmp(json_string_value(a), json_string_value(b), json_string_length(a)) == 0;
}

static inline bool verdict_listed(const json_t *list, const json_t *value, bool fold)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (verdict_equal(json_array_get(list, i), value, fold))
			return true;
	return false;
}

static inline bool verdict_length(const char *op, const json_t *value, const json_t *want)
{
	double length = 0;

	if (!json_is_string(value) && !json_is_array(value))
		return false;
	for (size_t i = 0; i < json_string_length(value); i++)
		length += ((unsigned char)json_string_value(value)[i] & 0xc0) != 0x80;
	length += (double)json_array_size(value);
	const double other = json_number_value(want);
	return strcmp(op, "eq") == 0    ? length == other
	       : strcmp(op, "ne") == 0  ? length != other
	       : strcmp(op, "gt") == 0  ? length > other
	       : strcmp(op, "gte") == 0 ? length >= other
	       : strcmp(op, "lt") == 0  ? length < other
					: length <= other;
}

static inline bool verdict_text(const char *op, const json_t *value, const json_t *want, bool fold)
{
	const char *text = json_string_value(value), *word = json_string_value(want);
	const size_t len = json_string_length(value), n = json_string_length(want);

	if (!text || !word || n > len)
		return false;
	if (strcmp(op, "contains") == 0)
		return memmem(text, len, word, n) != NULL;
	if (strcmp(op, "ends_with") == 0)
		text += len - n;
	return (fold ? strncasecmp(text, word, n) : memcmp(text, word, n)) == 0;
}

static inline bool verdict_of(const char *op, const json_t *value, const json_t *want, bool fold)
{
	if (strcmp(op, "exists") == 0)
		return (value != NULL) == json_is_true(want);
	if (!value)
		return false;
	if (strcmp(op, "eq") == 0)
		return verdict_equal(value, want, fold);
	if (strcmp(op, "ne") == 0)
		return !verdict_equal(value, want, fold);
	if (strcmp(op, "in") == 0)
		return verdict_listed(want, value, fold);
	if (strcmp(op, "not_in") == 0)
		return !verdict_listed(want, value, fold);
	if (strcmp(op, "between") == 0)
		return verdict_of("gte", value, json_array_get(want, 0), false) &&
		       verdict_of("lte", value, json_array_get(want, 1), false);
	if (strcmp(op, "array_contains") == 0 || (strcmp(op, "contains") == 0 && json_is_array(value)))
		return json_is_array(value) && verdict_listed(value, want, fold);
	if (strncmp(op, "length_", 7) == 0)
		return verdict_length(op + 7, value, want);
	if (op[0] != 'g' && op[0] != 'l')
		return verdict_text(op, value, want, fold);
	const int order = verdict_order(value, want);
	return order != 99 && (order == 0 ? strlen(op) == 3 : (order > 0) == (op[0] == 'g'));
}

/* ---- both ---- */

struct verdicts {
	struct ss_host host;
	struct ss_iface fields;
	struct ss_paths paths;
	struct ss_reader *reader;
	struct {
		json_t *json;
		struct conditions *one, *some; /* (this one and another) or not a third */
	} v[VERDICTS];
};

static inline void verdict_error(const struct ss_host *host, const char *pointer, const char *text)
{
	(void)host;
	fprintf(stderr, "%s: %s\n", pointer, text);
	abort();
}

static inline void verdicts_compile(struct verdicts *v, json_t *where, struct conditions **out)
{
	struct ss_json_option option = {.host = &v->host};

	if (!where || conditions_compile(where, &option, &v->paths, &v->fields, out) < 0)
		abort();
}

static inline unsigned verdict_second(unsigned i)
{
	return (i * 7 + 3) % VERDICTS;
}

static inline unsigned verdict_third(unsigned i)
{
	return (i * 11 + 5) % VERDICTS;
}

static inline struct verdicts *verdicts_new(void)
{
	struct verdicts *v = calloc(1, sizeof *v);

	if (!v)
		abort();
	v->host.config_error = verdict_error;
	v->fields.vtbl = ss_test_host_fields();
	for (unsigned i = 0; i < VERDICTS; i++) {
		const unsigned op = i % VERDICT_OPS;
		v->v[i].json =
			json_pack("{s:s,s:s,s:o}", "field", verdict_paths[i / VERDICT_OPS].text, "op",
				  verdict_ops[op].op, "value",
				  json_loads(verdict_ops[op].value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL));
		if (verdict_ops[op].fold)
			json_object_set_new(v->v[i].json, "ignore_case", json_true());
		verdicts_compile(v, v->v[i].json, &v->v[i].one);
	}
	for (unsigned i = 0; i < VERDICTS; i++) {
		json_t *where = json_pack("{s:[{s:[O,O]},{s:O}]}", "or", "and", v->v[i].json,
					  v->v[verdict_second(i)].json, "not", v->v[verdict_third(i)].json);
		verdicts_compile(v, where, &v->v[i].some);
		json_decref(where);
	}
	if (ss_paths_compile(&v->paths, &v->host, &v->fields, &v->reader) < 0)
		abort();
	return v;
}

static inline void verdicts_free(struct verdicts *v)
{
	for (unsigned i = 0; i < VERDICTS; i++) {
		json_decref(v->v[i].json);
		conditions_free(v->v[i].one);
		conditions_free(v->v[i].some);
	}
	ss_paths_done(&v->paths);
	ss_test_host_fields()->free(NULL, v->reader);
	free(v);
}

static inline void verdict_differs(const struct verdicts *v, unsigned i, int ours, const char *json,
				   size_t len)
{
	char *condition = json_dumps(v->v[i].json, 0);

	fprintf(stderr, "%s: the filter says %d of\n", condition, ours);
	free(condition);
	differ("", json, len);
}

/* All conditions on one document; how many hold, -1 if one of the parsers refuses it. */
static inline int verdicts_compare(struct verdicts *v, const char *json, size_t len)
{
	struct ss_field out[VERDICT_PATHS];
	bool holds[VERDICTS];
	int n = 0;

	if (ss_test_host_fields()->read(NULL, v->reader, json, len, out, NULL) < 0)
		return -1;
	json_t *root = jansson_parse(json, len, NULL);
	if (!root)
		return -1;
	for (unsigned i = 0; i < VERDICTS; i++) {
		const json_t *value = jansson_at(root, &verdict_paths[i / VERDICT_OPS]);
		const unsigned op = i % VERDICT_OPS;
		const int ours = conditions_eval(v->v[i].one, out);
		holds[i] = verdict_of(verdict_ops[op].op, value, json_object_get(v->v[i].json, "value"),
				      verdict_ops[op].fold);
		if (ours != holds[i])
			verdict_differs(v, i, ours, json, len);
		n += holds[i];
	}
	for (unsigned i = 0; i < VERDICTS; i++) {
		const int ours = conditions_eval(v->v[i].some, out);
		if (ours != ((holds[i] && holds[verdict_second(i)]) || !holds[verdict_third(i)]))
			verdict_differs(v, i, ours, json, len);
	}
	json_decref(root);
	return n;
}
