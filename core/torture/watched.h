/* SPDX-License-Identifier: MIT */
/* watched - one life of a plugin under valgrind, in a program that is started anew. */
#pragma once
#include <stdbool.h>

/* Of the program that is watched: a descriptor, to which the callbacks' names are written. */
#define WATCHED_OPTION "watched-by"

/* In that program: the descriptor; and its next callback, if it is watched. */
bool watched_open(const char *descriptor);
void watched_mark(const char *callback);
/* In the program that watches: run valgrind, and write down what it says.  0 or -errno. */
int watched_by_valgrind(char **argv, const char *file);
