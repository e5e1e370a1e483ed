/* SPDX-License-Identifier: MIT */
/*
 * engine - events in, results out: which windows an event belongs to, when a window is over, what its groups
 * say.  Whether an event is late and when a window closes is decided event by event, so it does not depend on
 * how they are batched.  Time is that of the events; the clock matters only where inputs are idle.  On the
 * instance's loop.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/ext/fields.h>
#include "groups.h"
#include "panes.h"
#include "plan.h"

#define INPUTS_MAX 64 /* further ones share the last */
#define NEVER      INT64_MIN

enum engine_drop {
	ENGINE_NOT_JSON,
	ENGINE_TOO_DEEP,
	ENGINE_NO_TIME,
	ENGINE_KEY,
	ENGINE_NO_MEMORY,
	ENGINE_LATE,
	ENGINE_AHEAD,
	ENGINE_DROPS
};

/* One input as far as time goes. */
struct engine_input {
	int64_t newest; /* moment of an event, NEVER: none yet */
	uint64_t heard; /* monotonic ns, 0: not in this life */
	bool resumable; /* it holds back what it could not send, so silence means nothing */
};

struct engine_count {
	uint64_t dropped[ENGINE_DROPS];
	uint64_t wrong_type, no_memory, evicted, overflowed, results;
};

struct engine {
	struct plan *plan;
	struct groups *groups;
	struct groups *merged; /* sliding: one window put together of its panes */
	struct ss_iface fields;
	struct ss_field *values;
	struct ss_number *numbers;
	struct ss_strbuf key, line;
	struct ss_strbuf span; /* as it is printed, of the moments in shown */
	struct span shown;

	struct engine_input inputs[INPUTS_MAX];
	uint32_t n_inputs; /* as many as were heard of */
	int64_t watermark; /* no event before it is expected any more; NEVER: none yet */
	uint64_t order;    /* events so far */

	struct panes panes; /* windows that are open */
	int64_t next_end;   /* sliding: of the next window to be reported, NEVER: none */

	/* what is being reported */
	uint32_t closing, last_closing; /* windows that are over, linked by window.next */
	uint32_t sliding;               /* window in merged, 0: none */
	bool sliding_partial;
	struct ss_strbuf whole; /* OUTPUT_WINDOW: the result so far, and the group it goes on with, 0: none */
	uint32_t whole_next;
	uint32_t early; /* group it goes on with, 0: none */

	struct engine_count count;
	/* A finished result; late: an event that came too late, as it was. */
	void (*result)(void *arg, bool late, const char *json, size_t len);
	void *arg;
};

/* 0, -ENOMEM. */
int engine_new(struct plan *, const struct ss_iface *fields, struct engine **out);
void engine_free(struct engine *);

struct engine_input *engine_input(struct engine *, uint32_t input);
/* One event.  true: it is in a group now; false: it was dropped and counted. */
bool engine_event(struct engine *, uint32_t input, const struct ss_event *, uint64_t now);
/* Time passes: now is monotonic ns. */
void engine_tick(struct engine *, uint64_t now);
/* Report up to n groups of windows that are over, or of those to be reported early; true: no more to do. */
bool engine_close_step(struct engine *, uint32_t n);
/* Have engine_close_step() report what open windows hold so far: "final": false. */
void engine_early(struct engine *);
/* All windows, over or not; those that are not say "partial": true. */
void engine_flush(struct engine *);
/* Bytes of all groups and what goes with them. */
size_t engine_memory(const struct engine *);

/* The engine's own numbers, and groups one by one, into a checkpoint and back: -EINVAL, -ENOMEM.  A sliding
 * window that is being reported is reported to its end first: its events are in no pane any more. */
void engine_save(struct engine *, struct ss_strbuf *);
int engine_load(struct engine *, struct ss_unpack *);
int engine_load_group(struct engine *, const struct saved_group *);
void engine_loaded(struct engine *); /* after the last */
