/* SPDX-License-Identifier: MIT */
/*
 * log - lines on stderr: "2025-11-16T10:00:00Z INFO Message key=value", or JSON.  Thread-safe; the process's only global
 * state.  A line is one write(2).  Equal messages of one component in quick succession are counted and told as one
 * "repeated=N".
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h> /* SS_LOG_... */

void log_setup(int level, bool json);
bool log_enabled(int level);

/*
 * component may be NULL.  The finished text is a message followed by key=value pairs; a value with blanks stands in
 * double quotes with backslash escapes.  Control bytes and bad UTF-8 are escaped by the log.
 */
void log_text(int level, const char *component, const char *text);
void log_printf(int level, const char *component, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define log_error(...) log_printf(SS_LOG_ERROR, NULL, __VA_ARGS__)
#define log_warn(...)  log_printf(SS_LOG_WARN, NULL, __VA_ARGS__)
#define log_info(...)  log_printf(SS_LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...) log_printf(SS_LOG_DEBUG, NULL, __VA_ARGS__)

/* Write s as a log value into buf, quoted where needed and cut to size; returns buf. */
const char *log_value(char *buf, size_t size, const char *s);

/* Tell what was held back as repeated; before exit. */
void log_flush(void);

/* Level by name ("error", "warn", "info", "debug"); -EINVAL. */
int log_level_parse(const char *name);
