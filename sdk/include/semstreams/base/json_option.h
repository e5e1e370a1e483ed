/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/json_option.h - reading the text of an option of type SS_OPT_JSON: where in the
 * configuration an error lies, unknown keys with the nearest known one, durations and sizes inside.  In
 * create(), by one thread. Needs Jansson: pkg-config semstreams-json.  Tags and rules are those of
 * semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_JSON_OPTION_H
#define SEMSTREAMS_BASE_JSON_OPTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/base/value.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ss_json_numbers; /* where the numbers of an option stand in its text */

/* The present place in the component's configuration, and the first error; one per create(), zeroed but for
 * host and fields, and given to ss_json_done(). */
struct ss_json_option {
	const struct ss_host *host;      /* the instance's, as long as create() */
	const struct ss_iface *fields;   /* the caller's; SS_FIELDS, for ss_json_number(); may be NULL */
	struct ss_json_numbers *numbers; /* private; ss_json_done() frees them */
	char at[640];                    /* JSON pointer of the place, below "config" */
	size_t len;                      /* of at */
	int err; /* 0; -EINVAL once something was reported; -ENOMEM, which the caller sets */
};

/* [ctl] Parse an option's text, which stays where it is as long as its numbers are used; NULL after the error
 * was reported.  The caller owns the result: json_decref().  What is too large for Jansson is a real number
 * of its sign and about its size; ss_json_number() has the true one. */
json_t *ss_json_parse(struct ss_json_option *, const char *option, const char *text);
/* [ctl] Free what ss_json_parse() keeps. */
void ss_json_done(struct ss_json_option *);
/* [ctl] A number of what was parsed last, read like one of an event, its text in the option's: it compares
 * exactly.  One from elsewhere has no text. */
void ss_json_number(const struct ss_json_option *, const json_t *number, struct ss_number *);
/* [ctl] Any value of what was parsed last as compact JSON, its numbers as they stand; malloced, NULL if out
 * of memory. */
char *ss_json_dump(const struct ss_json_option *, const json_t *);
/* [ctl] Go to a member of the present place; returns what ss_json_leave() takes to come back. */
size_t ss_json_enter(struct ss_json_option *, const char *key);
/* [ctl] The same for an element of an array. */
size_t ss_json_enter_index(struct ss_json_option *, size_t index);
/* [ctl] Come back: len is what entering returned. */
void ss_json_leave(struct ss_json_option *, size_t len);
/* [ctl] Report an error at the present place (key NULL) or at its member key. */
void ss_json_error(struct ss_json_option *, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* [ctl] Report every member of object that is not in the NULL-ended list. */
void ss_json_keys(struct ss_json_option *, json_t *object, const char *const *known);
/* [ctl] The word of a NULL-ended list that is closest to word, a pointer into the list; NULL if none is
 * close; see ss_nearest(). */
const char *ss_json_nearest(const char *word, const char *const *known);
/*
 * Members of object: the functions below return false if there is none (nothing is reported) or it was
 * reported as wrong; then the result is as it was.
 */

/* [ctl] A duration such as "1m30s" as nanoseconds, over 0. */
bool ss_json_duration(struct ss_json_option *, json_t *object, const char *key, uint64_t *ns);
/* [ctl] The same, with "0s" allowed. */
bool ss_json_duration_or_zero(struct ss_json_option *, json_t *object, const char *key, uint64_t *ns);
/* [ctl] A size such as "64MiB" or 512 as bytes, at least min. */
bool ss_json_size(struct ss_json_option *, json_t *object, const char *key, uint64_t min, uint64_t *bytes);
/* [ctl] One of a NULL-ended list of words, as its index. */
bool ss_json_choice(struct ss_json_option *, json_t *object, const char *key, const char *const *choices,
		    unsigned *index);
/* [ctl] A string that is not empty, as *text, which object owns. */
bool ss_json_text(struct ss_json_option *, json_t *object, const char *key, const char **text);
/* [any] "a string", "a number", ... for messages; constant. */
const char *ss_json_type(const json_t *);

#ifdef __cplusplus
}
#endif
#endif
