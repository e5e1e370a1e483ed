/* SPDX-License-Identifier: MIT */
/* aggregate - what the plugin's instance and its checkpoints share. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>
#include "checkpoint.h"
#include "engine.h"
#include "outbox.h"
#include "plan.h"

enum { PORT_RESULT, PORT_LATE };

enum {
	METRIC_RESULTS,
	METRIC_GROUPS,
	METRIC_MEMORY,
	METRIC_LATE,
	METRIC_EVICTED,
	METRIC_OVERFLOWED,
	METRIC_WRONG_TYPE,
	METRIC_NO_MEMORY,
	METRIC_CHECKPOINTS,
	METRIC_CHECKPOINT_ERRORS,
	METRIC_CHECKPOINT_BYTES,
	METRIC_CHECKPOINT_STALLS,
	METRIC_OLDEST_UNSAVED,
	METRIC_UNSENT
};

struct aggregate {
	const struct ss_host *host;
	const struct conf *conf;
	struct ss_iface fields;
	const struct ss_loop *loop;
	void *loop_self;
	const struct ss_positions *positions; /* NULL: none */
	void *positions_self;
	struct plan plan;
	struct engine *engine;
	struct outbox *outbox;
	struct engine_count reported;     /* as far as metrics and drop() know */
	char source[SS_EVENT_FAULT_SIZE]; /* of the newest batch, for the log */
	uint32_t tick_timer, early_timer;
	bool stepping; /* a post for the rest of the work is on its way */
	bool busy, draining, drained, stopped;

	/* with checkpoints, see state.c */
	struct checkpoint *checkpoint; /* NULL: none */
	/* of events that are in no durable checkpoint; the first n_covered are in the one being made */
	struct ss_token **tokens;
	uint32_t n_tokens, n_covered, tokens_room;
	/* events since the last snapshot began */
	uint64_t new_events, new_bytes, first_new_ns, last_new_ns;
	uint64_t covered_since_ns; /* when the first event came that the present snapshot adds; 0: none */
	bool changed;
	enum { PHASE_IDLE, PHASE_GATHERING, PHASE_WRITING } phase;
	struct ss_strbuf snapshot[CHECKPOINT_PARTS]; /* everything but the groups; the groups */
	uint64_t snapshot_last, snapshot_gone;       /* outbox_last(), outbox_gone() when it began */
	uint64_t durable_last;                       /* results up to this number may leave */
	uint64_t begun_ns, ended_ns, took_ns;
	uint64_t checkpoint_at_ns; /* when checkpoint_timer fires */
	uint32_t checkpoint_timer;
	bool failing; /* the last checkpoint could not be written */
	bool stalled; /* the present one takes longer than STALL_NS */
};

/* Continue with closing windows, saving and emitting, a little at a time. */
void aggregate_step(struct aggregate *);

/* Restore the checkpoint and tell the host about it.  0, or -errno after logging why. */
int state_start(struct aggregate *);
void state_done(struct aggregate *);
/* The batch goes into the groups: its source is notified when they are durable.  -ENOMEM. */
int state_hold(struct aggregate *, const struct ss_batch *);
/* Begin a checkpoint or continue with one; true: there is more to do at once. */
bool state_step(struct aggregate *);
/* Report a checkpoint whose writing takes too long, and its end. */
void state_check_stall(struct aggregate *);
/* All accepted events are durable, and every result has left or is durable for the next start. */
bool state_is_durable(const struct aggregate *);
/* The last checkpoint before the end, if results have been acknowledged since the one before. */
void state_write_last(struct aggregate *);
