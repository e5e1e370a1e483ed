/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/paths.h - the fields that a plugin looks up in each event: collected while its options are
 * read, equal paths once, then compiled into one reader.  In create(), by one thread.  Tags and rules are
 * those of semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_PATHS_H
#define SEMSTREAMS_BASE_PATHS_H

#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/fields.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One path; its strings are owned by the list. */
struct ss_path {
	char *text;    /* as it is written */
	char *pointer; /* where the configuration names it first, for errors */
};
/* The paths of one instance.  Zeroed to begin with. */
struct ss_paths {
	struct ss_path *v; /* owned: ss_paths_done() frees them */
	uint32_t n;        /* paths */
	uint32_t size;     /* room for so many */
};

/* [ctl] The index of a path, which is added if it is new.  It stands in the configuration at the JSON pointer
 * at, or in its member key unless that is NULL.  -ENOMEM. */
int ss_paths_add(struct ss_paths *, const char *at, const char *key, const char *path);
/*
 * [ctl] A reader of all paths, whose field numbers are their indexes; *out is not set if there are no paths.
 * The caller owns it: fields->free().  0; -EINVAL after reporting each one that is not a path; -ENOMEM.
 */
int ss_paths_compile(const struct ss_paths *, const struct ss_host *, const struct ss_iface *fields,
		     struct ss_reader **out);
/* [ctl] Free the paths. */
void ss_paths_done(struct ss_paths *);

#ifdef __cplusplus
}
#endif
#endif
