/* SPDX-License-Identifier: MIT */
/* semstreams/base/nearest.h - the known word that somebody who mistyped may have meant.  Pure.
 * Tags and rules are those of semstreams/plugin.h. */
#ifndef SEMSTREAMS_BASE_NEAREST_H
#define SEMSTREAMS_BASE_NEAREST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * [any] The word of known[0..n) closest to word: by insertions, deletions, replacements and swaps of
 * neighbours, at most one for each three characters (one for shorter words); case and "-" for "_" do not
 * count.  The first of equals; NULL if none is close, or word is empty or longer than 64 bytes.  Returns one
 * of known's pointers.
 */
const char *ss_nearest(const char *word, const char *const *known, size_t n);

#ifdef __cplusplus
}
#endif
#endif
