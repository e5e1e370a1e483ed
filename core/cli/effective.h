/* SPDX-License-Identifier: MIT */
/* effective - a configuration as JSON: as it is written, or as it counts, with every default.  No value of a
 * secret is in it, and references (${env:NAME}, {"file": path}) stay references. */
#pragma once
#include <stdbool.h>
#include <jansson.h>

struct config;
struct loader;

/* A new reference; NULL: out of memory.  The config is resolved; defaults: fill in what is not written. */
json_t *effective_config(const struct config *, struct loader *, bool defaults);
