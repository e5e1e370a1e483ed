/* SPDX-License-Identifier: MIT */
/*
 * schema - a JSON Schema (draft 2020-12) of the whole configuration, from the types that are loaded: for
 * editors and other checkers.  Pure.
 */
#pragma once
#include <jansson.h>
#include <semstreams/plugin.h>

struct loader;

/* NULL: out of memory.  The caller's. */
json_t *schema_config(const struct loader *);
/* An option's default as a JSON value, NULL if it has none. */
json_t *schema_default(const struct ss_option *);
