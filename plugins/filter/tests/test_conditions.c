/* SPDX-License-Identifier: MIT */
/* filter: operators by type, values, nesting; random conditions against a plain evaluator over Jansson. */
#include <jansson.h>
#include <math.h>
#include "helper_filter.h"

/* ---- tables ------------------------------------------------------------------------------------ */

struct condition_case {
	const char *where, *event;
	bool passes;
};

static void check_cases(const struct condition_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct instance t;

		CREATE(&t, "where", cases[i].where);
		if (passes(&t, cases[i].event) != cases[i].passes)
			fail_msg("%s on %s: not %d", cases[i].where, cases[i].event, cases[i].passes);
		finish(&t);
	}
}
#define CHECK(cases) check_cases(cases, sizeof cases / sizeof *(cases))

/* One value of each type; the last event lacks the field. */
/* clang-format off */
static const char *const typed[] = {
	"{\"f\":5}", "{\"f\":\"5\"}", "{\"f\":true}", "{\"f\":false}", "{\"f\":null}", "{\"f\":[5,\"5\",true,null]}",
	"{\"f\":{\"a\":5}}", "{\"f\":5.0}", "{\"f\":4.5}", "{\"f\":\"\"}", "{}",
};
/* clang-format on */
#define N_TYPED (sizeof typed / sizeof *typed)

/* Every operator against every type: a row per condition, a column per event of typed[]. */
static void test_operators_by_type(void **state)
{
	static const struct {
		const char *where, *result;
	} rows[] = {
		/*                                 5 "5" T F N [] {} 5. 4.5 "" missing */
		{COND("eq", "5"), "10000001000"},
		{COND("eq", "\"5\""), "01000000000"},
		{COND("eq", "true"), "00100000000"},
		{COND("eq", "false"), "00010000000"},
		{COND("eq", "null"), "00001000000"},
		{COND("eq", "5.0"), "10000001000"},
		{COND("eq", "\"\""), "00000000010"},
		{COND("ne", "5"), "01111110110"},
		{COND("ne", "\"5\""), "10111111110"},
		{COND("ne", "true"), "11011111110"},
		{COND("ne", "null"), "11110111110"},
		{COND("gt", "4"), "10000001100"},
		{COND("gt", "5"), "00000000000"},
		{COND("gte", "5"), "10000001000"},
		{COND("lt", "5"), "00000000100"},
		{COND("lte", "5"), "10000001100"},
		{COND("lte", "-1e300"), "00000000000"},
		{COND("gt", "\"4x\""), "01000000000"},
		{COND("gte", "\"05\""), "01000000000"},
		{COND("lt", "\"6x\""), "01000000010"},
		{COND("lte", "\"\""), "00000000010"},
		{COND("contains", "5"), "00000100000"},
		{COND("contains", "\"5\""), "01000100000"},
		{COND("contains", "true"), "00000100000"},
		{COND("contains", "false"), "00000000000"},
		{COND("contains", "null"), "00000100000"},
		{COND("contains", "\"\""), "01000000010"},
		{COND("starts_with", "\"5\""), "01000000000"},
		{COND("starts_with", "\"\""), "01000000010"},
		{COND("ends_with", "\"5\""), "01000000000"},
		{COND("regex", "\"^[0-9]\""), "01000000000"},
		{COND("in", "[5]"), "10000001000"},
		{COND("in", "[4.5,\"5\",null]"), "01001000100"},
		{COND("in", "[true,false]"), "00110000000"},
		{COND("not_in", "[5]"), "01111110110"},
		{COND("not_in", "[4.5,\"5\",null]"), "10110111010"},
		{EXISTS, "11111111110"},
		{COND("exists", "true"), "11111111110"},
		{COND("exists", "false"), "00000000001"},
		{FOLD("eq", "\"5\""), "01000000000"},
		{FOLD("ne", "\"5\""), "10111111110"},
		{FOLD("contains", "\"5\""), "01000100000"},
		{FOLD("not_in", "[\"5\"]"), "10111111110"},
		{"{\"not\":" COND("eq", "5") "}", "01111110111"},
		{"{\"not\":" COND("ne", "5") "}", "10000001001"},
		{"{\"not\":" EXISTS "}", "00000000001"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char passed[N_TYPED + 1];
		struct instance t;

		CREATE(&t, "where", rows[i].where);
		run(&t, typed, NULL, N_TYPED, passed);
		if (strcmp(passed, rows[i].result) != 0)
			fail_msg("%s: %s, not %s", rows[i].where, passed, rows[i].result);
		finish(&t);
	}
}

static void test_spellings(void **state)
{
	static const struct condition_case cases[] = {
		{COND("==", "5"), "{\"f\":5}", true},     {COND("!=", "5"), "{\"f\":5}", false},
		{COND(">", "5"), "{\"f\":6}", true},      {COND(">=", "5"), "{\"f\":5}", true},
		{COND("<", "5"), "{\"f\":5}", false},     {COND("<=", "5"), "{\"f\":5}", true},
		{COND("equals", "5"), "{\"f\":5}", true}, {COND("not_equals", "5"), "{\"f\":5}", false},
	};

	(void)state;
	CHECK(cases);
}

static void test_numbers(void **state)
{
	static const struct condition_case cases[] = {
		/* integers are exact beyond what a double holds */
		{COND("eq", "9007199254740993"), "{\"f\":9007199254740993}", true},
		{COND("eq", "9007199254740993"), "{\"f\":9007199254740992}", false},
		{COND("gt", "9007199254740992"), "{\"f\":9007199254740993}", true},
		{COND("in", "[1,9007199254740993]"), "{\"f\":9007199254740992}", false},
		{COND("in", "[1,9007199254740993]"), "{\"f\":9007199254740993}", true},
		{COND("contains", "9007199254740993"), "{\"f\":[9007199254740992]}", false},
		{COND("contains", "9007199254740993"), "{\"f\":[1,{\"f\":[2]},9007199254740993]}", true},
		{COND("lt", "9223372036854775807"), "{\"f\":9223372036854775806}", true},
		{COND("gte", "-9223372036854775808"), "{\"f\":-9223372036854775808}", true},
		{COND("gt", "-9223372036854775808"), "{\"f\":-9223372036854775807}", true},
		{COND("gt", "9223372036854775807"), "{\"f\":9223372036854775808}", true},
		{COND("gt", "9223372036854775807"), "{\"f\":18446744073709551616}", true},
		/* and so are those beyond int64, however they are written */
		{COND("eq", "18446744073709551615"), "{\"f\":18446744073709551615}", true},
		{COND("eq", "18446744073709551615"), "{\"f\":18446744073709551614}", false},
		{COND("eq", "18446744073709551615"), "{\"f\":18446744073709551616}", false},
		{COND("eq", "18446744073709551615"), "{\"f\":18446744073709551615.0}", true},
		{COND("eq", "18446744073709551615"), "{\"f\":1.8446744073709551615e+19}", true},
		{COND("eq", "18446744073709551615.0"), "{\"f\":18446744073709551614}", false},
		{COND("ne", "18446744073709551615"), "{\"f\":18446744073709551614}", true},
		{COND("gt", "18446744073709551614"), "{\"f\":18446744073709551615}", true},
		{COND("lt", "18446744073709551615"), "{\"f\":18446744073709551615}", false},
		{COND("lte", "-9223372036854775809"), "{\"f\":-9223372036854775808}", false},
		{COND("eq", "-9223372036854775809"), "{\"f\":-9223372036854775809}", true},
		{COND("in", "[18446744073709551615,1e400,5]"), "{\"f\":18446744073709551614}", false},
		{COND("in", "[18446744073709551615,1e400,5]"), "{\"f\":18446744073709551615}", true},
		{COND("in", "[18446744073709551615,1e400,5]"), "{\"f\":10e399}", true},
		{COND("not_in", "[18446744073709551615]"), "{\"f\":18446744073709551614}", true},
		{COND("between", "[18446744073709551614,18446744073709551615]"),
		 "{\"f\":18446744073709551616}", false},
		{COND("between", "[18446744073709551614,18446744073709551615]"),
		 "{\"f\":18446744073709551615}", true},
		{COND("contains", "18446744073709551615"), "{\"f\":[18446744073709551614]}", false},
		{COND("contains", "18446744073709551615"), "{\"f\":[2,18446744073709551615]}", true},
		{COND("length_lt", "18446744073709551615"), "{\"f\":\"abc\"}", true},
		{COND("eq", "1e400"), "{\"f\":1e400}", true},
		{COND("eq", "1e400"), "{\"f\":1e401}", false},
		{COND("gt", "1e400"), "{\"f\":1e401}", true},
		{COND("gt", "1e400"), "{\"f\":1e308}", false},
		{COND("lt", "-1e400"), "{\"f\":-2e400}", true},
		{COND("eq", "9007199254740992.0"), "{\"f\":9007199254740993}", false},
		/* smaller ones with fractions: as doubles */
		{COND("eq", "1.10"), "{\"f\":1.1}", true},
		{COND("gte", "0.1"), "{\"f\":0.1}", true},
		{COND("gt", "0.1"), "{\"f\":0.100}", false},
		{COND("eq", "1"), "{\"f\":1.0}", true},
		{COND("eq", "1000000"), "{\"f\":1e6}", true},
		{COND("eq", "0"), "{\"f\":-0.0}", true},
		{COND("eq", "0.1"), "{\"f\":0.10000000000000001}", true},
		{COND("gt", "1e308"), "{\"f\":1e999}", true},
		{COND("lt", "-1e308"), "{\"f\":-1e999}", true},
		{COND("gt", "20"), "{\"f\":20.000000001}", true},
		{COND("in", "[1.5,7,3]"), "{\"f\":7.0}", true},
		{COND("in", "[1.5,7,3]"), "{\"f\":15e-1}", true},
		{COND("in", "[1.5,7,3]"), "{\"f\":2}", false},
	};

	(void)state;
	CHECK(cases);
}

static void test_strings(void **state)
{
	static const struct condition_case cases[] = {
		{COND("eq", "\"abc\""), "{\"f\":\"abc\"}", true},
		{COND("eq", "\"abc\""), "{\"f\":\"abcd\"}", false},
		{COND("eq", "\"abc\""), "{\"f\":\"\\u0061b\\u0063\"}", true},
		{COND("eq", "\"\\u0061bc\""), "{\"f\":\"abc\"}", true},
		{COND("eq", "\"a\\nb\\\"\""), "{\"f\":\"a\\u000ab\\\"\"}", true},
		{COND("eq", "\"a\\nb\""), "{\"f\":\"a\\\\nb\"}", false},
		{COND("eq", "\"\\ud83d\\ude00\""), "{\"f\":\"\xf0\x9f\x98\x80\"}", true},
		{COND("ne", "\"\\u00e9\""), "{\"f\":\"\xc3\xa9\"}", false},
		{COND("eq", "\"a\\u0000b\""), "{\"f\":\"a\\u0000b\"}", true},
		{COND("eq", "\"a\\u0000b\""), "{\"f\":\"a\\u0000c\"}", false},
		{COND("gt", "\"a\""), "{\"f\":\"aa\"}", true},
		{COND("gt", "\"z\""), "{\"f\":\"\xc3\xa9\"}", true},
		{COND("lt", "\"2025-11-16T10:00:00Z\""), "{\"f\":\"2025-11-16T09:59:59Z\"}", true},
		{COND("contains", "\"b/c\""), "{\"f\":\"a b\\/c d\"}", true},
		{COND("contains", "\"bcd\""), "{\"f\":\"abc\"}", false},
		{COND("starts_with", "\"ab\""), "{\"f\":\"\\u0061b\"}", true},
		{COND("starts_with", "\"abc\""), "{\"f\":\"ab\"}", false},
		{COND("ends_with", "\"bc\""), "{\"f\":\"abc\"}", true},
		{COND("ends_with", "\"abcd\""), "{\"f\":\"bcd\"}", false},
		{COND("in", "[\"b\",\"ab\",\"a\"]"), "{\"f\":\"ab\"}", true},
		{COND("in", "[\"b\",\"ab\",\"a\"]"), "{\"f\":\"\\u0061\"}", true},
		{COND("in", "[\"b\",\"ab\",\"a\"]"), "{\"f\":\"abc\"}", false},
		{COND("contains", "\"x]\""), "{\"f\":[ \"a\\\"]\" , [\"x]\"], {\"k\":\"]\"}, \"\\u0078]\" ]}",
		 true},
		{COND("contains", "\"x]\""), "{\"f\":[ \"a\\\"]\" , [\"x]\"], {\"x]\":\"x]\"} ]}", false},
		{COND("contains", "true"), "{\"f\":[\"true\",true]}", true},
		{COND("contains", "\"a\""), "{\"f\":[]}", false},
		{COND("contains", "1"), "{\"f\":[ 1.0e0 ]}", true},
	};

	(void)state;
	CHECK(cases);
}

static void test_regex_and_case(void **state)
{
	static const struct condition_case cases[] = {
		{COND("regex", "\"^a.c$\""),
		 "{\"f\":\"a\xc3\xa9"
		 "c\"}",
		 true}, /* one character, two bytes */
		{COND("regex", "\"b\""), "{\"f\":\"abc\"}", true},
		{COND("regex", "\"^b\""), "{\"f\":\"abc\"}", false},
		{COND("regex", "\"^\\\\d+(?:ms|s)$\""), "{\"f\":\"15ms\"}", true},
		{COND("regex", "\"^a$\""), "{\"f\":\"\\u0061\"}", true},
		{COND("regex", "\"\""), "{\"f\":\"\"}", true},
		{COND("regex", "\"(a)(b)(c)\""), "{\"f\":\"abc\"}", true},
		{FOLD("regex", "\"^ABC$\""), "{\"f\":\"aBc\"}", true},
		{FOLD("eq", "\"abc\""), "{\"f\":\"ABC\"}", true},
		{FOLD("eq", "\"abc\""), "{\"f\":\"ABCD\"}", false},
		{FOLD("eq", "\"abc\""), "{\"f\":\"xABC\"}", false},
		{FOLD("eq", "\"abc\""), "{\"f\":\"abc\\n\"}", false},
		{FOLD("eq", "\"a.c\""), "{\"f\":\"abc\"}", false},
		{FOLD("eq", "\"\xc3\x84pfel\""), "{\"f\":\"\xc3\xa4PFEL\"}", true},
		{FOLD("ne", "\"abc\""), "{\"f\":\"ABC\"}", false},
		{FOLD("contains", "\"Error\""), "{\"f\":\"an ERROR here\"}", true},
		{FOLD("contains", "\"Error\""), "{\"f\":[\"an ERROR here\"]}", false},
		{FOLD("contains", "\"Error\""), "{\"f\":[\"x\",\"ERROR\"]}", true},
		{FOLD("starts_with", "\"ab\""), "{\"f\":\"ABc\"}", true},
		{FOLD("starts_with", "\"ab\""), "{\"f\":\"cAB\"}", false},
		{FOLD("ends_with", "\"ab\""), "{\"f\":\"ABcAB\"}", true},
		{FOLD("ends_with", "\"ab\""), "{\"f\":\"ABc\"}", false},
		{FOLD("in", "[\"x\",\"A.b|c\",7]"), "{\"f\":\"a.B|C\"}", true},
		{FOLD("in", "[\"x\",\"A.b|c\",7]"), "{\"f\":\"axB|C\"}", false},
		{FOLD("in", "[\"x\",\"A.b|c\",7]"), "{\"f\":\"C\"}", false},
		{FOLD("in", "[\"x\",\"A.b|c\",7]"), "{\"f\":7}", true},
		{FOLD("in", "[\"\\\\E|y\",\"# (\"]"), "{\"f\":\"# (\"}", true},
		{FOLD("in", "[\"\\\\E|y\",\"# (\"]"), "{\"f\":\"Y\"}", false},
	};

	(void)state;
	CHECK(cases);
}

static void test_nesting(void **state)
{
#define A1 "{\"field\":\"a\",\"op\":\"eq\",\"value\":1}"
#define B1 "{\"field\":\"/b/c\",\"op\":\"eq\",\"value\":1}"
#define C1 "{\"field\":\"l.1\",\"op\":\"eq\",\"value\":1}"
	static const struct condition_case cases[] = {
		{"[" A1 "," B1 "]", "{\"a\":1,\"b\":{\"c\":1}}", true},
		{"[" A1 "," B1 "]", "{\"a\":1,\"b\":{\"c\":2}}", false},
		{"{\"and\":[" A1 "," B1 "," C1 "]}", "{\"a\":1,\"b\":{\"c\":1},\"l\":[0,1]}", true},
		{"{\"and\":[" A1 "," B1 "," C1 "]}", "{\"a\":1,\"b\":{\"c\":1},\"l\":[1,0]}", false},
		{"{\"or\":[" A1 "," B1 "," C1 "]}", "{\"l\":[0,1]}", true},
		{"{\"or\":[" A1 "," B1 "," C1 "]}", "{\"l\":[1]}", false},
		{"{\"not\":{\"or\":[" A1 "," B1 "]}}", "{}", true},
		{"{\"not\":{\"or\":[" A1 "," B1 "]}}", "{\"a\":1}", false},
		{"{\"or\":[{\"and\":[" A1 "," B1 "]},{\"not\":" C1 "}]}", "{\"l\":[0,1]}", false},
		{"{\"or\":[{\"and\":[" A1 "," B1 "]},{\"not\":" C1 "}]}",
		 "{\"a\":1,\"b\":{\"c\":1},\"l\":[0,1]}", true},
		{"{\"not\":{\"not\":" A1 "}}", "{\"a\":1}", true},
		{"{\"field\":\"\",\"op\":\"eq\",\"value\":5}", "5", true}, /* the whole document */
	};
	char deep[1024] = "";
	struct instance t;

	(void)state;
	CHECK(cases);
	for (int i = 0; i < 32; i++)
		strcat(deep, "{\"not\":");
	strcat(deep, A1);
	for (int i = 0; i < 32; i++)
		strcat(deep, "}");
	CREATE(&t, "where", deep);
	assert_true(passes(&t, "{\"a\":1}"));
	assert_false(passes(&t, "{\"a\":2}"));
	finish(&t);
}

/* ---- random conditions against a plain evaluator ----------------------------------------------- */

static int pick(int n)
{
	return rand() % n;
}

static const char *const words[] = {"",     "a",    "A",  "ab",       "Ab",
				    "abc",  "b",    "bc", "5",        "a\nb",
				    "a\"b", "\\n",  "/",  "\xc3\xa9", "a\xf0\x9f\x98\x80",
				    "true", "null", ".*", "a|b",      "\t"};
static const json_int_t integers[] = {0,         1,         -1, 5, 20, 9007199254740992, 9007199254740993,
				      INT64_MAX, INT64_MIN, 255};
static const double reals[] = {0.0,         1.0, -1.0, 0.5, 5.0, 20.25, 1e300, -1e-7, 9007199254740992.0,
			       4.9999999999};
static const char *const field_paths[] = {"a", "b", "o.x", "/o/y", "l.0", "/l/2", "l", "o", "none", "a.b"};
static const char *const patterns[] = {"^a", "b+", "[0-9]$", "a.b", "^$", "(a|b)c?", "\\\\", "^\\w+$"};
#define ANY(list) list[pick(sizeof list / sizeof *(list))]

static json_t *random_scalar(void)
{
	switch (pick(6)) {
	case 0:
	case 1:
		return json_string(ANY(words));
	case 2:
		return json_integer(ANY(integers));
	case 3:
		return json_real(ANY(reals));
	case 4:
		return json_boolean(pick(2));
	default:
		return json_null();
	}
}

static json_t *random_value(int depth)
{
	int kind = depth < 3 ? pick(8) : 7;
	json_t *value;

	if (kind > 1)
		return random_scalar();
	value = kind ? json_array() : json_object();
	for (int i = pick(5); i > 0; i--) {
		if (kind)
			json_array_append_new(value, random_value(depth + 1));
		else
			json_object_set_new(value, pick(2) ? "x" : "y", random_value(depth + 1));
	}
	return value;
}

static json_t *random_event(void)
{
	static const char *const names[] = {"a", "b", "o", "l", "z\"\n"};
	json_t *event = json_object();

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (pick(5))
			json_object_set_new(event, names[i], random_value(0));
	return event;
}

static json_t *random_leaf(void)
{
	static const char *const scalar_ops[] = {"eq", "ne", "contains"},
				 *const order_ops[] = {"gt", "gte", "lt", "lte"},
				 *const text_ops[] = {"starts_with", "ends_with"},
				 *const list_ops[] = {"in", "not_in"};
	json_t *leaf = json_pack("{s:s}", "field", ANY(field_paths)), *value;
	const char *op;
	bool may_fold = true;

	switch (pick(6)) {
	case 0:
	case 1:
		op = ANY(scalar_ops);
		value = random_scalar();
		may_fold = json_is_string(value);
		break;
	case 2:
		op = ANY(order_ops);
		value = pick(2)   ? json_string(ANY(words))
			: pick(2) ? json_integer(ANY(integers))
				  : json_real(ANY(reals));
		if (json_is_string(value) && strcmp(json_string_value(value), "5") == 0)
			json_string_set(value, "5x"); /* a number in quotes is refused */
		may_fold = false;
		break;
	case 3:
		op = ANY(text_ops);
		value = json_string(ANY(words));
		break;
	case 4:
		op = ANY(list_ops);
		value = json_array();
		for (int i = 1 + pick(6); i > 0; i--)
			json_array_append_new(value, random_scalar());
		break;
	default:
		op = pick(2) ? "regex" : "exists";
		value = *op == 'r' ? json_string(ANY(patterns)) : json_boolean(pick(2));
		may_fold = *op == 'r';
	}
	json_object_set_new(leaf, "op", json_string(op));
	json_object_set_new(leaf, "value", value);
	if (may_fold && pick(3) == 0)
		json_object_set_new(leaf, "ignore_case", json_true());
	return leaf;
}

static json_t *random_condition(int depth)
{
	int kind = depth < 4 ? pick(6) : 5;
	json_t *list;

	if (kind > 2)
		return random_leaf();
	if (kind == 2)
		return json_pack("{s:o}", "not", random_condition(depth + 1));
	list = json_array();
	for (int i = 1 + pick(4); i > 0; i--)
		json_array_append_new(list, random_condition(depth + 1));
	return json_pack("{s:o}", kind ? "or" : "and", list);
}

static json_t *ref_lookup(json_t *event, const char *path)
{
	char names[32], *save, *name;

	strcpy(names, path);
	for (name = strtok_r(names, "./", &save); name && event; name = strtok_r(NULL, "./", &save))
		event = json_is_array(event) && *name >= '0' && *name <= '9'
				? json_array_get(event, (size_t)atoi(name))
				: json_object_get(event, name);
	return event;
}

/* As it is written: its first 64 bits at least. */
static long double written(json_t *number)
{
	char *text = json_dumps(number, JSON_ENCODE_ANY);
	const long double value = strtold(text, NULL);

	free(text);
	return value;
}

/* Below 0, 0, above 0; 99: cannot be compared. */
static int ref_order(json_t *a, json_t *b, bool fold)
{
	if (json_is_integer(a) && json_is_integer(b))
		return (json_integer_value(a) > json_integer_value(b)) -
		       (json_integer_value(a) < json_integer_value(b));
	if (json_is_number(a) && json_is_number(b)) {
		if (fabs(json_number_value(a)) >= 0x1p53)
			return (written(a) > written(b)) - (written(a) < written(b));
		return (json_number_value(a) > json_number_value(b)) -
		       (json_number_value(a) < json_number_value(b));
	}
	if (json_is_string(a) && json_is_string(b)) {
		int order = fold ? strcasecmp(json_string_value(a), json_string_value(b))
				 : strcmp(json_string_value(a), json_string_value(b));
		return (order > 0) - (order < 0);
	}
	return json_typeof(a) == json_typeof(b) && !json_is_array(a) && !json_is_object(a) ? 0 : 99;
}

static bool ref_equal(json_t *a, json_t *b, bool fold)
{
	return ref_order(a, b, fold) == 0;
}

static bool ref_listed(json_t *list, json_t *value, bool fold)
{
	size_t i;
	json_t *item;

	json_array_foreach(list, i, item)
	{
		if (ref_equal(item, value, fold))
			return true;
	}
	return false;
}

static bool ref_regex(const char *pattern, const char *text, bool fold)
{
	size_t n = strlen(text);
	char low[64], plain[64];

	for (size_t i = 0; i <= n; i++) {
		plain[i] = text[i];
		low[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32 : text[i]);
	}
	const char *s = fold ? low : plain;
	if (strcmp(pattern, "^a") == 0)
		return s[0] == 'a';
	if (strcmp(pattern, "b+") == 0)
		return strchr(s, 'b') != NULL;
	if (strcmp(pattern, "[0-9]$") == 0)
		return n > 0 && s[n - 1] >= '0' && s[n - 1] <= '9';
	if (strcmp(pattern, "a.b") == 0) { /* . is no line feed */
		for (const char *p = s; *p; p++)
			if (p[0] == 'a' && p[1] && p[1] != '\n' && p[2] == 'b')
				return true;
		return false;
	}
	if (strcmp(pattern, "^$") == 0)
		return n == 0;
	if (strcmp(pattern, "(a|b)c?") == 0)
		return strpbrk(s, "ab") != NULL;
	if (strcmp(pattern, "\\\\") == 0)
		return strchr(s, '\\') != NULL;
	return n > 0 && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == n;
}

static bool ref_text(const char *op, json_t *value, json_t *want, bool fold)
{
	const char *text = json_string_value(value), *w = json_string_value(want);

	if (!text || !w)
		return false;
	if (strcmp(op, "regex") == 0)
		return ref_regex(w, text, fold);
	if (strcmp(op, "contains") == 0)
		return (fold ? strcasestr(text, w) : strstr(text, w)) != NULL;
	if (strcmp(op, "starts_with") == 0)
		return (fold ? strncasecmp(text, w, strlen(w)) : strncmp(text, w, strlen(w))) == 0;
	if (strlen(text) < strlen(w))
		return false;
	text += strlen(text) - strlen(w);
	return (fold ? strcasecmp(text, w) : strcmp(text, w)) == 0;
}

static bool ref_leaf(json_t *leaf, json_t *event)
{
	const char *op = json_string_value(json_object_get(leaf, "op"));
	json_t *want = json_object_get(leaf, "value");
	json_t *value = ref_lookup(event, json_string_value(json_object_get(leaf, "field")));
	bool fold = json_is_true(json_object_get(leaf, "ignore_case"));

	if (strcmp(op, "exists") == 0)
		return (value != NULL) == json_is_true(want);
	if (!value)
		return false;
	if (strcmp(op, "eq") == 0)
		return ref_equal(value, want, fold);
	if (strcmp(op, "ne") == 0)
		return !ref_equal(value, want, fold);
	if (strcmp(op, "in") == 0)
		return ref_listed(want, value, fold);
	if (strcmp(op, "not_in") == 0)
		return !ref_listed(want, value, fold);
	if (strcmp(op, "contains") == 0 && json_is_array(value))
		return ref_listed(value, want, fold);
	if (op[0] != 'g' && op[0] != 'l')
		return ref_text(op, value, want, fold);
	int order = ref_order(value, want, false);
	if (order == 99 || (order == 0 && !strstr(op, "te")))
		return false;
	return order == 0 || (order > 0) == (op[0] == 'g');
}

static bool ref_eval(json_t *condition, json_t *event)
{
	json_t *list = json_object_get(condition, "and"), *item;
	bool all = list != NULL;
	size_t i;

	if (json_object_get(condition, "not"))
		return !ref_eval(json_object_get(condition, "not"), event);
	if (!list && !(list = json_object_get(condition, "or")))
		return ref_leaf(condition, event);
	json_array_foreach(list, i, item)
	{
		if (ref_eval(item, event) != all)
			return !all;
	}
	return all;
}

static void check_random(unsigned seed)
{
	enum { EVENTS = 40 };
	json_t *where, *events[EVENTS];
	char *texts[EVENTS], *text, passed[EVENTS + 1];
	struct instance t;

	srand(seed);
	where = random_condition(0);
	text = json_dumps(where, pick(2) ? JSON_ENSURE_ASCII : 0);
	CREATE(&t, "where", text);
	for (int i = 0; i < EVENTS; i++) {
		events[i] = random_event();
		texts[i] = json_dumps(events[i], (pick(2) ? JSON_ENSURE_ASCII : 0) |
							 (pick(2) ? JSON_COMPACT : JSON_INDENT(pick(4))) |
							 (pick(4) ? 0 : JSON_ESCAPE_SLASH));
	}
	run(&t, (const char *const *)texts, NULL, EVENTS, passed);
	for (int i = 0; i < EVENTS; i++) {
		if ((passed[i] == '1') != ref_eval(where, events[i]))
			fail_msg("seed %u: %s on %s: not %c", seed, text, texts[i], passed[i]);
		json_decref(events[i]);
		free(texts[i]);
	}
	finish(&t);
	json_decref(where);
	free(text);
}

static void test_random(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 3000; seed++)
		check_random(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_operators_by_type),
		cmocka_unit_test(test_spellings),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_regex_and_case),
		cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_random),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
