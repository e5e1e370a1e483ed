/* SPDX-License-Identifier: MIT */
/* operators - one operator with its value becomes a test, or a few; part of compiling conditions.  Control
 * thread. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "condition.h"

struct compiler {
	struct conditions *c;
	struct ss_json_option *spec; /* where an error lies */
	struct ss_paths *paths;
	const char *value_key; /* the member of the present place that holds the value */
	int depth;
	bool too_many; /* already reported */
};

struct op;

/* By the name that stands in the member key; NULL after an error. */
const struct op *find_op(struct compiler *, const char *key, const char *name);
/*
 * Add the tests of an operator (NULL: none) on the field of a path; yes and no are where they lead to.
 * Returns the first.  ignore_case may be NULL.
 */
int16_t add_op(struct compiler *, int path, const struct op *, json_t *value, json_t *ignore_case,
	       int16_t yes, int16_t no);
void list_free(struct value_list *);
