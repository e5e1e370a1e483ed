/* SPDX-License-Identifier: MIT */
/* judge - what was expected beside what came, and the difference in words.  Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/base/strbuf.h>
#include "core/trial/script.h"

/* One event, or a line of a file. */
struct seen {
	const char *bytes;
	size_t len;
	const struct ss_attributes *attributes; /* NULL: none */
	uint64_t time_ns;                       /* 0: unknown */
};

/* Is it all as the step expects?  What differs is appended to `difference`, a line each. */
bool judge(const struct step *, const struct seen *, size_t n, struct ss_strbuf *difference);
