/* SPDX-License-Identifier: MIT */
/* units - durations, sizes and integers as people write them.  Pure. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* "1h30m", "500ms", "2.5s", "7d"; units ns us ms s m h d, no sign, no blanks.  0, -EINVAL, -ERANGE (over 2^63 ns). */
int parse_duration(const char *text, int64_t *ns);
/* "64MiB", "10kB", "512"; units B kB MB GB TB KiB MiB GiB TiB.  0, -EINVAL, -ERANGE. */
int parse_size(const char *text, int64_t *bytes);
/* Shortest exact form, as parse_duration takes it; returns buf. */
const char *format_duration(int64_t ns, char *buf, size_t size);
const char *format_size(int64_t bytes, char *buf, size_t size);
