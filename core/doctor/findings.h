/* SPDX-License-Identifier: MIT */
/* findings - what an examination has found, and how to mend it.  Used by one thread at a time. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum finding_level { FINDING_OK, FINDING_WARNING, FINDING_PROBLEM };

struct finding {
	enum finding_level level;
	const char *check;    /* a constant: "clock", "port", "dns", ... */
	char *subject, *text; /* what was examined, and what is so */
	char *remedy;         /* what to do; NULL: nothing */
};

/* Zeroed to begin with. */
struct findings {
	struct finding *rows;
	size_t n, problems, warnings;
	bool failed; /* out of memory: something is missing */
};

/* Add one; all but check is copied, control bytes shown as '?'.  remedy NULL: nothing is to be done. */
void findings_add(struct findings *, enum finding_level, const char *check, const char *subject,
		  const char *remedy, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* All rows of from to the end of to. */
void findings_move(struct findings *to, struct findings *from);
/* For people, or as a JSON document: {"ok": ..., "findings": [{"level", "check", "subject", "text",
 * "remedy"}]}.  0, -ENOMEM. */
int findings_print(const struct findings *, bool json, FILE *);
void findings_done(struct findings *);
