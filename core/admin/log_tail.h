/* SPDX-License-Identifier: MIT */
/* log_tail - the last lines of the log, in memory, for those who come later.  Thread-safe; global state of
 * the process. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct ss_strbuf;

/* Keep a line, a JSON object; the oldest ones make room. */
void log_tail_add(const char *line, size_t n);
/*
 * Append the lines behind number `after`, comma-separated, at most the newest `most`, each with its "number";
 * the number of the newest of all lines.
 */
uint64_t log_tail_print(uint64_t after, size_t most, struct ss_strbuf *);
