/* SPDX-License-Identifier: MIT */
/* describe - component types with their options, metrics and outputs: for people, as Markdown or JSON.  Pure.
 */
#pragma once
#include <jansson.h>
#include <stdio.h>
#include <semstreams/plugin.h>

struct loader;

/* All types that are loaded, a line each. */
void describe_list(const struct loader *, FILE *);
/* Everything about one type; file = where it is from. */
void describe_type(const struct ss_component *, const char *file, FILE *);

/* The generated parts of the type's page: options, metrics and drop reasons, each between its marker and
 * "<!-- end -->".  docs/tables.test puts them into the page. */
void describe_markdown(const struct ss_component *, FILE *);

/* The same as JSON: [{...}, ...] and {...}; the caller's, NULL: out of memory. */
json_t *describe_list_json(const struct loader *);
json_t *describe_type_json(const struct ss_component *, const char *file);
