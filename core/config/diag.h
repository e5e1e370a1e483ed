/* SPDX-License-Identifier: MIT */
/*
 * diag - what is wrong with a configuration: collected, so that all of it is reported at once.
 * Used by one thread.
 */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum diag_level { DIAG_ERROR, DIAG_WARN, DIAG_SKIP /* a check that could not be made */, DIAG_HINT };

#define DIAG_MAX_ITEMS 1000 /* kept; the rest is only counted */
#define DIAG_MAX_TEXT  2048 /* bytes of one string before escaping; longer ones are cut and end in "..." */

/* A place in a text; line and column count from 1, column in bytes; line 0 = the file as a whole. */
struct place {
	unsigned line, column;
};

struct diag_item {
	enum diag_level level;
	char *file; /* may be NULL */
	struct place place;
	char *pointer; /* JSON pointer, "" = the document; NULL = not about a value */
	char *text;
};

struct diag {
	struct diag_item *items;
	size_t n, allocated;
	size_t errors, warnings;
	size_t lost; /* counted, but not kept: too many, or out of memory */
};

void diag_init(struct diag *);
void diag_done(struct diag *);

/* Add an item; all strings are copied, control bytes and bad UTF-8 in them made visible, what is hidden (see
 * core/admin/hidden.h) left out.  Out of memory still counts. */
void diag_add(struct diag *, enum diag_level, const char *file, struct place, const char *pointer,
	      const char *fmt, ...) __attribute__((format(printf, 6, 7)));
void diag_addv(struct diag *, enum diag_level, const char *file, struct place, const char *pointer,
	       const char *fmt, va_list);

/* Print in the order of places: "error file:line:column /pointer  text". */
void diag_print(const struct diag *, FILE *);
