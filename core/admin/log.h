/* SPDX-License-Identifier: MIT */
/*
 * log - lines on stderr: "2025-11-16T10:00:00.000Z INFO Message key=value component=id", or one JSON object
 * per line.  Thread-safe; global state of the process.
 *
 * A line is one write(2) of at most 4096 bytes; what is cut ends in cut=true.  The same message (level,
 * component and text before the pairs) is written five times in 10 s; what comes more often is counted and
 * reported as one line with repeated=N when the 10 s are over.  A reader of stderr that stands still costs
 * 0.2 s once and then lines, which are counted too; it never blocks a thread.  When stderr is the systemd
 * journal, lines start with their priority, as in <6>, or go to it as entries with a field for each pair
 * (log_use_journal).  What is hidden (core/admin/hidden.h) is left out.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h> /* SS_LOG_... */

void log_setup(int level, bool json);
/* After that: entries for the journal instead of lines, if stderr is the journal.  What it does not take goes
 * to stderr. */
void log_use_journal(void);
/* Of which type a component is, for entries about it. */
void log_component(const char *component, const char *type);
bool log_enabled(int level);
/* The least important messages that are written from now on. */
void log_set_level(int level);
const char *log_level_name(void);

/*
 * component may be NULL.  The finished text is a message followed by key=value pairs, keys [a-z_][a-z0-9_.]*.
 * A value runs to the next key; in double quotes with backslash escapes it may hold anything.  The log puts
 * quotes around values that need them.  Control bytes,
 * bad UTF-8 and characters that change the direction of text are escaped by the log.  In JSON, bare decimal
 * numbers become numbers, bare true and false booleans, all else strings; the keys of the line itself (time,
 * level, message, component) get a '_' in front when a pair has one of them.
 */
void log_text(int level, const char *component, const char *text);
void log_printf(int level, const char *component, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define log_error(...) log_printf(SS_LOG_ERROR, NULL, __VA_ARGS__)
#define log_warn(...)  log_printf(SS_LOG_WARN, NULL, __VA_ARGS__)
#define log_info(...)  log_printf(SS_LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...) log_printf(SS_LOG_DEBUG, NULL, __VA_ARGS__)

/* Write s as a log value into buf, quoted where needed and cut to size (ending in "..."); returns buf. */
const char *log_value(char *buf, size_t size, const char *s);

/* Report repetitions whose 10 s are over.  Every line does so; call this now and then for when none comes. */
void log_tick(void);
/* Report all repetitions that were held back; before exit. */
void log_flush(void);

/* Level by name ("error", "warn", "info", "debug"); -EINVAL. */
int log_level_parse(const char *name);
