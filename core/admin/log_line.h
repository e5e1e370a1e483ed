/* SPDX-License-Identifier: MIT */
/* log_line - one line of the log, made in place: escaping, the two formats, cutting.  Pure; for log.c. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define LINE_SIZE 4096 /* also PIPE_BUF: lines of several processes do not mix in a pipe */

struct line {
	char buf[LINE_SIZE];
	size_t n;
	bool full;   /* nothing more goes in */
	bool quoted; /* inside a string that has to be closed */
	bool json;
	const char *component; /* to stand at the end */
	size_t reserve;        /* bytes for it */
};

struct line_style {
	bool json;
	bool priority; /* start with <N>, the syslog priority */
};

/* Length of the message at the start of text; *pairs is set to where the pairs begin, end if there are none.
 */
size_t line_split(const char *text, const char *end, const char **pairs);

/* Time, level and message; then pairs; then end, with the component (may be NULL, kept until then; in JSON it
 * comes before the pairs), and the mark if the text was cut before. */
void line_begin(struct line *, struct line_style, time_t now, int level, const char *component,
		const char *message, size_t n);
void line_pairs(struct line *, const char *pairs, const char *end);
void line_number(struct line *, const char *key, uint64_t value);
void line_end(struct line *, bool cut);
