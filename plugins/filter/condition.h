/* SPDX-License-Identifier: MIT */
/*
 * condition - conditions on the fields of an event: compiled once from JSON (condition.c, control thread)
 * into tests that jump to each other, evaluated per event without recursion or allocation (evaluate.c, the
 * instance's loop).
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <semstreams/plugin.h>
#include <semstreams/base/paths.h>
#include <semstreams/base/json_option.h>
#include <semstreams/base/value.h>
#include <semstreams/ext/fields.h>

#define CONDITION_MAX_DEPTH  32
#define CONDITION_MAX        256
#define CONDITION_MAX_VALUES 10000 /* of one in / not_in */

/*
 * How much work one match may be.  PCRE2 limits the steps from one starting point of the string, not their
 * sum, so a string that is not short is tried a few starting points at a time, with a look at the clock in
 * between.
 */
#define REGEX_STEPS(len)  (4096 + 16 * (uint32_t)(len))
#define REGEX_PLAIN_STEPS 10000000 /* literals cannot explode, but there may be many */
#define REGEX_DEPTH_LIMIT 10000
#define REGEX_HEAP_KIB    4096
#define REGEX_SUBJECT_MAX 8192 /* one step can cost the length of the string */
#define REGEX_SHORT       256
#define REGEX_STARTS      64       /* at a time, from 8 on; 4 if the pattern refers back, which costs most */
#define REGEX_CPU_NS      10000000 /* of the thread, so that a busy machine makes no difference */

enum test_kind {
	TEST_EXISTS,
	TEST_TYPE, /* null, true, false: the type is the value */
	TEST_NUMBER,
	TEST_STRING,
	TEST_CONTAINS,
	TEST_ARRAY_CONTAINS,
	TEST_STARTS,
	TEST_ENDS,
	TEST_REGEX,
	TEST_LENGTH, /* characters of a string, elements of an array */
	TEST_IN,
	TEST_BETWEEN /* compiled into two */
};

/* Results of a comparison, as bits that can be accepted together. */
enum { CMP_LESS = 1, CMP_EQUAL = 2, CMP_MORE = 4 };

enum { CONDITION_FALSE = -1, CONDITION_TRUE = -2 }; /* where a jump can end */

/* The values of in / not_in: numbers and strings sorted, so that a search is logarithmic. */
struct value_list {
	struct ss_number *numbers;
	struct text {
		char *bytes;
		size_t len;
	} * strings;
	size_t n_numbers, n_strings;
	bool type[SS_JSON_OBJECT + 1]; /* null, false, true listed */
};

struct test {
	uint8_t kind;    /* enum test_kind */
	uint8_t type;    /* SS_JSON_... of the value */
	uint8_t accept;  /* TEST_NUMBER, TEST_STRING: CMP_... bits */
	bool missing;    /* result if there is no such field */
	bool other;      /* result if the field is of a type that cannot match */
	bool invert;     /* ne, not_in: invert the result of a match */
	bool plain;      /* regex is a case-insensitive literal: cannot explode */
	bool anchored;   /* regex can match at the start only */
	bool refers;     /* regex has back references */
	uint16_t field;  /* index of the path */
	int16_t yes, no; /* next test or CONDITION_... */
	struct ss_number number;
	struct text string;
	struct value_list *list;
	pcre2_code *regex;
};

struct conditions {
	struct test *tests;
	uint32_t n;
	int16_t entry;
	bool any_regex;
	struct ss_iface fields; /* SS_FIELDS */
	pcre2_match_data *match;
	pcre2_match_context *context;
	pcre2_jit_stack *jit_stack;
	struct ss_scratch scratch;
	/* numbers already parsed in this event, by field */
	struct cached {
		uint64_t event;
		struct ss_number number;
	} * cache;
	uint64_t event;
};

/*
 * Compile a condition, or a list of them that all must hold.  Paths go to paths; errors go to option with
 * their place. -EINVAL, -ENOMEM.
 */
int conditions_compile(json_t *where, struct ss_json_option *, struct ss_paths *,
		       const struct ss_iface *fields, struct conditions **out);
void conditions_free(struct conditions *);

/* Do the fields of one event, read by the paths, satisfy them?  1, 0, -E2BIG: a regex gave up, -ENOMEM. */
int conditions_eval(struct conditions *, const struct ss_field *fields);

/* JSON Schema of a condition, or a list of them: a strict mirror of condition.c.  Conditions within a
 * condition are found by $ref. */
#define CONDITION_SCHEMA                                                                                     \
	"{\"anyOf\":[{\"$ref\":\"#/$defs/condition\"},{\"$ref\":\"#/$defs/list\"}],"                         \
	"\"$defs\":{\"list\":{\"type\":\"array\",\"minItems\":1,"                                            \
	"\"items\":{\"$ref\":\"#/$defs/condition\"}},\"op\":{\"anyOf\":[{\"enum\":[\"gt\","                  \
	"\"gte\",\"lt\",\"lte\",\">\",\">=\",\"<\",\"<=\",\"eq\",\"ne\",\"==\",\"!=\",\"equals\","           \
	"\"not_equals\",\"contains\",\"array_contains\",\"starts_with\",\"ends_with\",\"regex\","            \
	"\"in\",\"not_in\",\"between\",\"length_eq\",\"length_ne\",\"length_gt\",\"length_gte\","            \
	"\"length_lt\",\"length_lte\",\"exists\"]},{\"type\":\"string\","                                    \
	"\"pattern\":\"[$][{]env:\"}]},\"condition\":{\"type\":\"object\",\"minProperties\":1,"              \
	"\"if\":{\"anyOf\":[{\"required\":[\"and\"]},{\"required\":[\"or\"]},"                               \
	"{\"required\":[\"not\"]}]},\"then\":{\"maxProperties\":1,"                                          \
	"\"properties\":{\"and\":{\"$ref\":\"#/$defs/list\"},\"or\":{\"$ref\":\"#/$defs/list\"},"            \
	"\"not\":{\"$ref\":\"#/$defs/condition\"}}},"                                                        \
	"\"else\":{\"if\":{\"anyOf\":[{\"required\":[\"field\"],"                                            \
	"\"properties\":{\"field\":{\"not\":{\"type\":\"object\"}}}},{\"required\":[\"path\"],"              \
	"\"properties\":{\"path\":{\"not\":{\"type\":\"object\"}}}},{\"required\":[\"op\"],"                 \
	"\"properties\":{\"op\":{\"not\":{\"type\":\"object\"}}}},{\"required\":[\"operator\"],"             \
	"\"properties\":{\"operator\":{\"not\":{\"type\":\"object\"}}}}]},"                                  \
	"\"then\":{\"$ref\":\"#/$defs/test\"},\"else\":{\"$ref\":\"#/$defs/criteria\"}}},"                   \
	"\"test\":{\"properties\":{\"field\":{\"type\":\"string\"},"                                         \
	"\"path\":{\"type\":\"string\"},\"op\":{\"$ref\":\"#/$defs/op\"},"                                   \
	"\"operator\":{\"$ref\":\"#/$defs/op\"},\"value\":true,"                                             \
	"\"ignore_case\":{\"type\":\"boolean\"}},\"additionalProperties\":false,"                            \
	"\"allOf\":[{\"oneOf\":[{\"required\":[\"field\"]},{\"required\":[\"path\"]}]},"                     \
	"{\"oneOf\":[{\"required\":[\"op\"]},{\"required\":[\"operator\"]}]},"                               \
	"{\"if\":{\"required\":[\"op\"],\"properties\":{\"op\":{\"enum\":[\"gt\",\"gte\",\"lt\","            \
	"\"lte\",\">\",\">=\",\"<\",\"<=\"]}}},"                                                             \
	"\"then\":{\"properties\":{\"value\":{\"type\":[\"number\",\"string\"],"                             \
	"\"not\":{\"pattern\":\"^-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?$\","                        \
	"\"type\":\"string\"}}},\"required\":[\"value\"]}},{\"if\":{\"required\":[\"op\"],"                  \
	"\"properties\":{\"op\":{\"enum\":[\"eq\",\"ne\",\"==\",\"!=\",\"equals\",\"not_equals\","           \
	"\"contains\",\"array_contains\"]}}},"                                                               \
	"\"then\":{\"properties\":{\"value\":{\"type\":[\"string\",\"number\",\"boolean\","                  \
	"\"null\"]}},\"required\":[\"value\"]}},{\"if\":{\"required\":[\"op\"],"                             \
	"\"properties\":{\"op\":{\"enum\":[\"starts_with\",\"ends_with\",\"regex\"]}}},"                     \
	"\"then\":{\"properties\":{\"value\":{\"type\":\"string\"}},\"required\":[\"value\"]}},"             \
	"{\"if\":{\"required\":[\"op\"],\"properties\":{\"op\":{\"enum\":[\"in\",\"not_in\"]}}},"            \
	"\"then\":{\"properties\":{\"value\":{\"type\":\"array\"}},\"required\":[\"value\"]}},"              \
	"{\"if\":{\"required\":[\"op\"],\"properties\":{\"op\":{\"enum\":[\"between\"]}}},"                  \
	"\"then\":{\"properties\":{\"value\":{\"type\":\"array\",\"minItems\":2,\"maxItems\":2}},"           \
	"\"required\":[\"value\"]}},{\"if\":{\"required\":[\"op\"],"                                         \
	"\"properties\":{\"op\":{\"enum\":[\"length_eq\",\"length_ne\",\"length_gt\","                       \
	"\"length_gte\",\"length_lt\",\"length_lte\"]}}},"                                                   \
	"\"then\":{\"properties\":{\"value\":{\"type\":\"number\"}},\"required\":[\"value\"]}},"             \
	"{\"if\":{\"required\":[\"op\"],\"properties\":{\"op\":{\"enum\":[\"exists\"]}}},"                   \
	"\"then\":{\"properties\":{\"value\":{\"type\":\"boolean\"}}}}]},"                                   \
	"\"criteria\":{\"additionalProperties\":{\"type\":\"object\",\"minProperties\":1,"                   \
	"\"propertyNames\":{\"$ref\":\"#/$defs/op\"}}}}}"
