/* SPDX-License-Identifier: MIT */
/* units - durations, sizes and integers as people write them.  Pure. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* How they are written, for messages. */
#define DURATION_FORM "like \"500ms\", \"1h30m\" or \"7d\" (units ns us ms s m h d)"
#define SIZE_FORM     "like \"64MiB\" or 512 (units B kB MB GB TB KiB MiB GiB TiB)"

/*
 * "1h30m", "500ms", "2.5s", "7d", "0"; units ns us ms s m h d in falling order, no sign, no blanks; exact to
 * the nanosecond or -EINVAL.  0, -EINVAL, -ERANGE (over 2^63 ns).
 */
int parse_duration(const char *text, int64_t *ns);
/* "64MiB", "10kB", "1.5GiB", "512"; units B kB MB GB TB KiB MiB GiB TiB; whole bytes.  0, -EINVAL, -ERANGE.
 */
int parse_size(const char *text, int64_t *bytes);
/* "-7", "0", "14550": JSON's integers.  0, -EINVAL, -ERANGE. */
int parse_integer(const char *text, int64_t *out);
/* Shortest exact form with one unit, as parse_duration takes it ("90m", "2500ms"); returns buf. */
const char *format_duration(int64_t ns, char *buf, size_t size);
const char *format_size(int64_t bytes, char *buf, size_t size);
