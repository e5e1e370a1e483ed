/* SPDX-License-Identifier: MIT */
/*
 * path - where a storage component's files lie: templates of names, and opening that never leaves the fixed
 * directory in front of a template's first field.  No state but the parsed template; any thread.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

enum {
	WHY_MAX = 256,  /* bytes of an explanation for people, NUL included */
	REL_MAX = 1024, /* bytes of a rendered name below the prefix, NUL included */
	STAMP_MAX = 32, /* bytes of ".20251116T100000Z.001", NUL included, and room for an extension */
	NAME_LEN_MAX = 255 - STAMP_MAX - 8 /* of one name; leaves room for a stamp and ".zst.tmp" */
};

/*
 * A template split where the fixed part ends: "/data/%Y/{component}.jsonl" has prefix "/data" and pattern
 * "%Y/edge.jsonl".  The pattern holds literals, %Y %m %d %H (UTC), %% and the fields of attributes, as {peer}
 * (route.h); no part of it is "." or "..".
 */
struct path {
	char *prefix;
	char *pattern;
	bool dated;     /* holds a date field: the name changes with time */
	bool routed;    /* holds a field of an attribute: there are many files */
	bool any_owner; /* set by the caller: files of other users are used, too */
};

/* id stands for {component}.  0, -ENOMEM, or -EINVAL with the reason in why. */
int path_parse(struct path *, const char *text, const char *id, char why[WHY_MAX]);
void path_done(struct path *);

/* The name below the prefix of a pattern without fields of attributes, at a time; -ENAMETOOLONG. */
int path_render(const char *pattern, time_t when, char rel[REL_MAX]);

/* Can one part of a pattern (up to '/' or the end) become this name of n bytes, at that time (UTC) or, with
 * NULL, at any? */
bool path_matches(const char *part, const char *name, size_t n, const struct tm *at);

/* Can a whole pattern become this name below the prefix at that time? */
bool path_matches_all(const char *pattern, const char *rel, time_t when);

/* Open the directory that rel lies in, below the prefix, through no symbolic link; create: make what is
 * missing, the prefix with its parents included, mode 0750.  A descriptor, or -errno with the reason in why.
 */
int path_open_dir(const struct path *, const char *rel, bool create, char why[WHY_MAX]);

/* Open one name in a directory: not through a symbolic link, not out of the directory.  A descriptor or
 * -errno. */
int path_open_at(int dirfd, const char *name, int flags, mode_t mode);

/* The last part of rel. */
const char *path_base(const char *rel);

/* Is this owner's file one to write to? */
bool path_owner_ok(const struct path *, uid_t owner);

/* Open a regular file of our own in dirfd for appending and reading, made with mode if it is missing, locked
 * against other writers.  A descriptor, or -errno with the reason in why. */
int path_open_file(const struct path *, int dirfd, const char *name, mode_t mode, bool *created,
		   char why[WHY_MAX]);

/* Rename a file in its directory to name + ".20251116T100000Z" (+ ".001", ... when that is taken, compressed
 * or not); never overwrites.  out gets the new name.  0 or -errno. */
int path_stamp(int dirfd, const char *name, time_t when, char out[REL_MAX]);

/* The length of such a stamp at the start of tail, 0 if there is none. */
size_t path_stamp_len(const char *tail);

/* Extensions that path_stamp takes for other forms of the same file, NULL-ended. */
extern const char *const path_extensions[];
