/* SPDX-License-Identifier: MIT */
/* spec - reading JSON-valued options: where an error lies, unknown keys, the nearest known word.  Control
 * thread. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/plugin.h>

/* Place in the component's config and the first error; one per create(). */
struct spec {
	const struct ss_host *host;
	char at[640]; /* JSON pointer of where we are, below "config" */
	size_t len;
	int err; /* 0, -EINVAL once something was reported, -ENOMEM */
};

/* Parse an option's text; NULL after an error was reported.  The caller json_decref()s. */
json_t *spec_parse(struct spec *, const char *option, const char *text);
/* Go below the current place; returns what spec_leave wants. */
size_t spec_enter(struct spec *, const char *key);
size_t spec_enter_index(struct spec *, size_t index);
void spec_leave(struct spec *, size_t len);
/* Report an error at the current place, or at its member key unless that is NULL. */
void spec_error(struct spec *, const char *key, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Report every member of object that is not in the NULL-ended list. */
void spec_keys(struct spec *, json_t *object, const char *const *known);
/* The word of a NULL-ended list that is closest to word, NULL if none is close. */
const char *spec_nearest(const char *word, const char *const *known);
/* A string member holding a duration such as "1m30s"; false if it is absent or was reported as wrong. */
bool spec_duration(struct spec *, json_t *object, const char *key, uint64_t *ns);
/* The same, but it may be "0s". */
bool spec_duration_or_zero(struct spec *, json_t *object, const char *key, uint64_t *ns);
/* "a string", "a number", ... */
const char *spec_type(const json_t *);
