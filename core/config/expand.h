/* SPDX-License-Identifier: MIT */
/*
 * expand - what the strings of a configuration stand for: ${env:NAME} is a variable of the environment, $${ a
 * plain ${, and {"file": path} in place of a string the content of a file.  {"credential": name} is the
 * content of a file in $CREDENTIALS_DIRECTORY or, where a path is expected, its path.  Control thread only.
 *
 * A file is at most 64 KiB; one newline at its end does not count.  Values must be UTF-8 without NUL.
 * Messages name the variable or file, never its value.
 */
#pragma once
#include <stdbool.h>
#include "core/config/jdoc.h"

#define EXPAND_MAX_FILE (64u << 10)

/* Is this a string, {"file": path} or {"credential": name}? */
bool expand_is_text(const struct jnode *);
/* Is this a string, expanded or not, with a variable in it?  Then a number or a boolean may be written so. */
bool expand_is_variable(const struct jnode *);
/* The value of such a node, malloced.  0, or -EINVAL or -ENOMEM, both reported. */
int expand_text(const struct jdoc *, const struct jnode *, struct diag *, char **out);

/* The same of a secret: a file that others may read is warned about. */
int expand_secret(const struct jdoc *, const struct jnode *, struct diag *, char **out);

/* Of a path: a credential stands for its file. */
int expand_path_text(const struct jdoc *, const struct jnode *, struct diag *, char **out);
/* Make a credential, or those in an array, the path of its file. */
int expand_paths(const struct jdoc *, struct jnode *, struct diag *);

/* A path as the document means it: relative to the document's folder.  Malloced; NULL if out of memory. */
char *expand_path(const struct jdoc *, const char *path);

/* Make each such node at or below this one a plain string with its value.  0, or -EINVAL or -ENOMEM, both
 * reported. */
int expand_tree(const struct jdoc *, struct jnode *, struct diag *);

/*
 * A value as JSON text, ${env:NAME} expanded in its strings but not in names; {"file": ...} stays as it is,
 * it may be an object of the reader's own.  Malloced.  0, -EINVAL (reported), -ENOMEM.
 */
int expand_json(const struct jdoc *, const struct jnode *, struct diag *, char **out);
