/* SPDX-License-Identifier: MIT */
/* lint - what can be seen of a plugin without running it: its symbols, and the tables of its descriptors. */
#pragma once
#include <stdbool.h>
#include <semstreams/plugin.h>

/* What the object exports, and what it needs and nobody has; object: of dlopen(). */
void lint_symbols(const char *file, void *object);
/* false: no host can use the entry. */
bool lint_entry(const struct ss_entry *);
/* false: no host can use the component; else *out is what a host makes of it, for descriptor_free(). */
bool lint_component(const struct ss_component *, struct ss_component **out);
