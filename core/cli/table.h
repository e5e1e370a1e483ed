/* SPDX-License-Identifier: MIT */
/* table - text in aligned columns, for people.  Used by one thread. */
#pragma once
#include <stddef.h>
#include <stdio.h>

#define TABLE_COLUMNS 8

struct table {
	size_t columns; /* at most TABLE_COLUMNS; set by the owner */
	char **cells;   /* row by row; NULL = out of memory */
	size_t n;
	size_t widths[TABLE_COLUMNS];
};

/* The next cell. */
void table_add(struct table *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Print with indent blanks before each row; the last column is not filled up. */
void table_print(const struct table *, unsigned indent, FILE *);
void table_done(struct table *);
