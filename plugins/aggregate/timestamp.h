/* SPDX-License-Identifier: MIT */
/* timestamp - times as events and results write them, in ns since 1970-01-01T00:00:00Z.  Pure functions. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/fields.h>

enum timestamp_format { TIMESTAMP_RFC3339, TIMESTAMP_S, TIMESTAMP_MS, TIMESTAMP_US, TIMESTAMP_NS };
extern const char *const timestamp_formats[]; /* "rfc3339", "s", "ms", "us", "ns"; NULL-ended */

/* Accepted: 1684-10-19 to 2255-03-14; that leaves room for the longest windows in 64 bits. */
#define TIMESTAMP_MAX INT64_C(9000000000000000000)
static inline bool timestamp_in_range(int64_t ns)
{
	return ns >= -TIMESTAMP_MAX && ns <= TIMESTAMP_MAX;
}

/* The same for the start or end of a window with such a time in it. */
static inline bool timestamp_in_window(int64_t ns)
{
	const int64_t most = TIMESTAMP_MAX + INT64_C(70000000000000000);

	return ns >= -most && ns <= most;
}

/* The time in a field: RFC 3339 text (any offset, any number of digits after the second; those beyond ns are
 * cut), or a number of units, which may have a fraction or an exponent and may stand in a string.  Exact.
 * false: not a time, or out of range. */
bool timestamp_read(const struct ss_field *, enum timestamp_format, int64_t *ns);

#define TIMESTAMP_TEXT 36
/* "2025-11-16T10:00:00Z", with 3, 6 or 9 digits of a second where they are needed; its length. */
size_t timestamp_print(char to[TIMESTAMP_TEXT], int64_t ns);
