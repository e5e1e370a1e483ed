/* SPDX-License-Identifier: MIT */
/*
 * state - checkpoints of an instance: their content, when they are made, and what follows when one is
 * durable. A checkpoint holds, as of one moment between two events: the host's positions of the input, the
 * groups, and the results that are not known to be durable downstream.  So after a crash each event counts
 * once and each result leaves under its old number.  On the instance's loop.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/base/refusal.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>
#include "checkpoint.h"
#include "engine.h"
#include "outbox.h"
#include "plan.h"

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

struct state {
	/* set by the owner */
	const struct ss_host *host;
	const struct ss_loop *loop;
	void *loop_self;
	const struct plan *plan;
	struct engine *engine;
	struct outbox *outbox;
	void (*step)(void *arg); /* continue with everything, state_step() included */
	void *arg;
	const struct ss_refusals *refusals; /* they may be why it is degraded, too; NULL: none */
	bool draining;

	const struct ss_positions *positions; /* NULL: none */
	void *positions_self;
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
	size_t positions_at, positions_len;          /* the host's snapshot in the first part */
	uint64_t snapshot_last, snapshot_gone;       /* the outbox's when it began */
	uint64_t durable_last;                       /* results up to this number may leave */
	uint64_t begun_ns, ended_ns, took_ns;
	uint64_t checkpoint_at_ns; /* when checkpoint_timer fires */
	uint32_t checkpoint_timer;
	bool failing; /* the last checkpoint could not be written */
	bool stalled; /* the present one takes longer than STALL_NS */
};

/* Restore the checkpoint and tell the host about it.  0, or -errno after logging why. */
int state_start(struct state *);
void state_done(struct state *);
/* The batch goes into the groups: its source is notified when they are durable.  -ENOMEM. */
int state_hold(struct state *, const struct ss_batch *);
/* Begin a checkpoint or continue with one; true: there is more to do at once. */
bool state_step(struct state *);
/* Report a checkpoint whose writing takes too long, and its end. */
void state_check_stall(struct state *);
/* All accepted events are durable, and every result has left or is durable for the next start. */
bool state_is_durable(const struct state *);
/* The last checkpoint before the end, if results have been acknowledged since the one before. */
void state_write_last(struct state *);
