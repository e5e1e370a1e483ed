/* SPDX-License-Identifier: MIT */
/* verdicts - what the cases came to, for people, as TAP, or as JUnit's XML.  One thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum verdicts_form { VERDICTS_TEXT, VERDICTS_TAP };

struct verdict {
	char *file, *name, *text;
	bool passed;
	uint64_t took_ns;
};

struct verdicts {
	enum verdicts_form form;
	struct verdict *v;
	size_t n, failed;
};

/* Keep it and print it to standard output; file and name are copied, text (may be NULL) is taken over.  0,
 * -ENOMEM. */
int verdicts_add(struct verdicts *, const char *file, const char *name, bool passed, uint64_t took_ns,
		 char *text);
/* The last lines to standard output. */
void verdicts_end(const struct verdicts *);
/* All of them as JUnit's XML, complete or absent: 0, -errno. */
int verdicts_junit(const struct verdicts *, const char *file);
void verdicts_free(struct verdicts *);
