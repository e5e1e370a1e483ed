/* SPDX-License-Identifier: MIT */
/*
 * envelope - a line of JSON that holds an event whatever its bytes are, with its attributes:
 *	{"received":"2026-01-05T08:12:44.123Z","attributes":{"error":"...","component":"hot"},"text":"..."}
 * where bytes that are not UTF-8 are "base64" instead of "text".  Pure memory, no I/O.
 */
#pragma once
#include <semstreams/plugin.h>
#include <semstreams/base/strbuf.h>

/* The lines of a batch, as rows like its own. */
struct envelopes {
	struct ss_strbuf text;
	struct ss_event rows[];
};

/* NULL: out of memory. */
struct envelopes *envelopes_new(const struct ss_batch *);
void envelopes_free(struct envelopes *);
