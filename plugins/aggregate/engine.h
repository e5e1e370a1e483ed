/* SPDX-License-Identifier: MIT */
/*
 * engine - from events to results: which windows an event belongs to, when a window is over, what its groups
 * compute.  Whether an event is late and when a window closes is decided event by event, so it does not
 * depend on how they are batched.  Time is that of the events; the clock matters only where inputs are idle.
 * On the instance's loop.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/base/event_fault.h>
#include <semstreams/ext/fields.h>
#include "groups.h"
#include "panes.h"
#include "plan.h"

#define INPUTS_MAX 64 /* inputs beyond share the last one */
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

/* The time of one input. */
struct engine_input {
	int64_t newest; /* time of the newest event, NEVER: none yet */
	uint64_t heard; /* monotonic ns of the last event, 0: none since the start */
	bool resumable; /* a link that may be down: never idle by default */
};

struct engine_count {
	uint64_t dropped[ENGINE_DROPS];
	uint64_t wrong_type, no_memory, evicted, overflowed, results;
};

struct engine {
	struct plan *plan;
	struct groups *groups;
	struct groups *merged; /* sliding: one window, merged from its panes */
	struct ss_iface fields;
	struct ss_field *values;
	struct ss_number *numbers;
	struct ss_strbuf key, line;
	struct ss_strbuf span; /* formatted times of the window shown */
	struct span shown;

	struct engine_input inputs[INPUTS_MAX];
	uint32_t n_inputs; /* inputs that had events */
	int64_t watermark; /* events before it are late; NEVER: none yet */
	uint64_t order;    /* events so far */

	struct panes panes; /* windows that are open */
	int64_t next_end;   /* sliding: of the next window to be reported, NEVER: none */

	/* what is being reported */
	uint32_t closing, last_closing; /* windows that are over, linked by window.next */
	uint32_t sliding;               /* window in merged, 0: none */
	bool sliding_partial;
	struct ss_strbuf whole; /* OUTPUT_WINDOW: the result so far, and its next group, 0: none */
	uint32_t whole_next;
	uint32_t early; /* next group to be reported early, 0: none */

	struct engine_count count;
	const struct ss_batch *batch; /* of the event that is being taken, and what its reader said */
	const struct ss_event *event;
	int error;
	size_t where;
	/* What is wrong with the first event dropped for each reason since whoever reports them emptied it.
	 */
	char faults[ENGINE_DROPS][SS_EVENT_FAULT_SIZE];
	/* Called with a finished result, or (late) with a late event, unchanged. */
	void (*result)(void *arg, bool late, const char *json, size_t len);
	/* Called with an event at hand that is dropped, and is not late; NULL: never. */
	void (*refuse)(void *arg, enum engine_drop why);
	void *arg;
};

/* 0, -ENOMEM. */
int engine_new(struct plan *, const struct ss_iface *fields, struct engine **out);
void engine_free(struct engine *);

struct engine_input *engine_input(struct engine *, uint32_t input);
/* One event of a batch.  true: it is in a group now; false: it was dropped and counted. */
bool engine_event(struct engine *, uint32_t input, const struct ss_batch *, const struct ss_event *,
		  uint64_t now);
/* Time passes: now is monotonic ns. */
void engine_tick(struct engine *, uint64_t now);
/* Report up to n groups of windows that are over, or of those to be reported early; true: no more to do. */
bool engine_close_step(struct engine *, uint32_t n);
/* Have engine_close_step() report what open windows hold so far: "final": false. */
void engine_early(struct engine *);
/* Report all windows; open ones with "partial": true. */
void engine_flush(struct engine *);
/* Bytes that all groups and windows take. */
size_t engine_memory(const struct engine *);

/* Save and load the engine's own numbers; load groups one by one, then call engine_loaded().  -EINVAL,
 * -ENOMEM.  A sliding window that is being reported is reported to its end first: its events are in no pane
 * any more. */
void engine_save(struct engine *, struct ss_strbuf *);
int engine_load(struct engine *, struct ss_unpack *);
int engine_load_group(struct engine *, const struct saved_group *);
void engine_loaded(struct engine *);
