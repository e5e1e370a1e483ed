/* SPDX-License-Identifier: MIT */
/* describe - component types with their options, metrics and outputs: for people, as Markdown or JSON.  Pure.
 */
#pragma once
#include <stdio.h>
#include <semstreams/plugin.h>

struct loader;

enum describe_form {
	DESCRIBE_TEXT,
	DESCRIBE_JSON,
	/* The generated parts of a type's page: options, metrics and drop reasons, each between its marker
	 * and
	 * "<!-- end -->".  docs/tables.test puts them into the page. */
	DESCRIBE_MARKDOWN,
};

/* All types that are loaded, as text or JSON; 0, -ENOMEM. */
int describe_list(const struct loader *, enum describe_form, FILE *);
/* Everything about one type; file = where it is from.  0, -ENOMEM. */
int describe_type(const struct ss_component *, const char *file, enum describe_form, FILE *);
