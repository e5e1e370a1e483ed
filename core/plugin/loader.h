/* SPDX-License-Identifier: MIT */
/*
 * loader - finds plugins in folders and gives out their component types.  Control thread only; nothing is
 * ever unloaded.
 *
 * A file is opened, checked by its descriptor (regular, owned by root or the running user, not group- or
 * world-writable, a whole ELF object of this machine that names the entry symbol of this major ABI) and only
 * then loaded, RTLD_NOW | RTLD_LOCAL, through that same descriptor, which stays open: the dynamic loader
 * knows the object by its number.  A symbolic link counts as what it points to. Names that do not end in .so
 * are passed over.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <semstreams/plugin.h>

struct loader;

/* A file that was refused. */
struct loader_problem {
	char *file;
	char *text; /* why, in one line, with the remedy where there is one */
};

struct loader *loader_new(void);
void loader_free(struct loader *); /* the objects stay mapped */

/* Search path, in the order of the calls; the first file that has a type wins.  Copied.  A folder that is
 * missing, not a folder, or writable by others becomes a problem. */
int loader_add_path(struct loader *, const char *dir);

/*
 * The descriptor of a type, normalised: a copy in this host's size, callbacks it lacks replaced by ones that
 * do nothing (core/plugin/descriptor.h).  Looks into <type>.so first and into the other files only if that
 * did not have it; a <type>.so that is refused ends the search, as a later one may be another version than
 * was meant. NULL: not found; then *why (may be NULL) says what is wrong with <type>.so where there is one,
 * else NULL; owned by the loader.
 */
const struct ss_component *loader_find(struct loader *, const char *type, const char **why);

/* Check every file without running any of it; problems are collected. */
void loader_check_all(struct loader *);
/* Load every file, for lists and schema. */
void loader_load_all(struct loader *);

/* All types loaded so far, sorted by name; file = where from. */
size_t loader_count(const struct loader *);
const struct ss_component *loader_type(const struct loader *, size_t i, const char **file);

const struct loader_problem *loader_problems(const struct loader *, size_t *n);
