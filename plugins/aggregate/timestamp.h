/* SPDX-License-Identifier: MIT */
/* moment - points in time as events tell them and results show them, in ns since 1970-01-01T00:00:00Z.  Pure.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/fields.h>

enum moment_format { MOMENT_RFC3339, MOMENT_S, MOMENT_MS, MOMENT_US, MOMENT_NS };
extern const char *const moment_formats[]; /* "rfc3339", "s", "ms", "us", "ns"; NULL-ended */

/* What is taken: 1684-10-19 to 2255-03-14; beyond, there is room for the longest windows in 64 bits. */
#define MOMENT_MAX INT64_C(9000000000000000000)
static inline bool moment_is_good(int64_t ns)
{
	return ns >= -MOMENT_MAX && ns <= MOMENT_MAX;
}

/* Or the start or end of a window that holds such a moment. */
static inline bool moment_is_near(int64_t ns)
{
	const int64_t most = MOMENT_MAX + INT64_C(70000000000000000);

	return ns >= -most && ns <= most;
}

/* A field's moment: RFC 3339 text (any offset, any number of digits behind the second; those beyond ns are
 * cut), or a number of units, which may have a fraction or an exponent and may stand in a string.  Exact.
 * false: it is none, or out of range. */
bool moment_read(const struct ss_field *, enum moment_format, int64_t *ns);

#define MOMENT_TEXT 36
/* "2025-11-16T10:00:00Z", with 3, 6 or 9 digits of a second where they are needed; its length. */
size_t moment_print(char to[MOMENT_TEXT], int64_t ns);
