/* SPDX-License-Identifier: MIT */
/* aggregate - what the files of the plugin's instance share. */
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

#define SOURCE_MAX 64

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
	METRIC_DUPLICATES,
	METRIC_CHECKPOINTS,
	METRIC_CHECKPOINT_ERRORS,
	METRIC_CHECKPOINT_BYTES,
	METRIC_UNSENT
};

/* How far a stream has come, per input. */
struct stream {
	uint32_t port;
	char source[SOURCE_MAX];
	struct ss_position taken;
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
	struct engine_count told; /* what metrics and drop() know of */
	uint32_t tick_timer, early_timer;
	bool stepping; /* a post for what is left to do is on its way */
	bool busy, draining, drained, stopped;
	struct stream *streams;
	uint32_t n_streams;

	/* with checkpoints, see keep.c */
	struct checkpoint *checkpoint; /* NULL: none */
	/* of events that are in no durable checkpoint; the first n_covered are in the one being made */
	struct ss_token **tokens;
	uint32_t n_tokens, n_covered, tokens_room;
	/* since the last snapshot began: */
	uint64_t held_events, held_bytes, first_held_ns, last_held_ns;
	bool changed;
	enum { KEEP_IDLE, KEEP_SAVING, KEEP_WRITING } keeping;
	struct text snapshot[CHECKPOINT_PARTS]; /* everything but the groups; the groups */
	uint64_t snapshot_last, snapshot_gone;  /* outbox_last(), outbox_gone() when it began */
	uint64_t durable_last;                  /* results up to here may leave */
	uint64_t begun_ns, ended_ns, took_ns;
	uint64_t keep_at; /* when keep_timer fires */
	uint32_t keep_timer;
	bool trouble;
};

/* Carry on with closing, saving, emitting, a little at a time. */
void aggregate_step(struct aggregate *);

/* keep.c: checkpoints */
int keep_start(struct aggregate *); /* restores; 0, or -errno after saying why */
void keep_done(struct aggregate *);
/* The stream of a batch, by its position; NULL: it has none.  -ENOMEM. */
int keep_stream(struct aggregate *, uint32_t port, const struct ss_batch *, struct stream **,
		struct ss_position *);
/* The batch goes into the groups: its source is told when they are durable.  -ENOMEM. */
int keep_token(struct aggregate *, const struct ss_batch *);
/* Begin or go on; true: more to do at once. */
bool keep_step(struct aggregate *);
/* Everything that was taken in is durable, and every result has left or is durable for the next time. */
bool keep_is_clean(const struct aggregate *);
/* The last checkpoint before the end, if what is behind has acknowledged results since. */
void keep_last(struct aggregate *);
