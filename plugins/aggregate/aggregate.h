/* SPDX-License-Identifier: MIT */
/* aggregate - what the files of the plugin's instance share. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/sugar.h>
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
	bool busy, draining;

	/* with check-points, see keep.c */
	struct checkpoint *checkpoint; /* NULL: none */
	struct stream *streams;
	uint32_t n_streams;
	struct ss_token *
		*tokens; /* of events since the last snapshot began; behind them those of the snapshot */
	uint32_t n_tokens, tokens_room;
	struct ss_token **covered;
	uint32_t n_covered;
	uint64_t held_events;
	enum { KEEP_IDLE, KEEP_SAVING, KEEP_WRITING } keeping;
	bool changed, pressed; /* since the last snapshot; one is wanted soon */
	struct text snapshot;
	size_t groups_at;       /* in it: where the number of groups stands */
	uint64_t snapshot_last; /* the newest result in it */
	uint64_t begun_ns, ended_ns, took_ns;
	uint32_t keep_timer;
	bool trouble;
};

/* Carry on with closing, saving, emitting, a little at a time. */
void aggregate_step(struct aggregate *);

/* keep.c: check-points */
int keep_start(struct aggregate *); /* restores; 0, or -errno after saying why */
void keep_done(struct aggregate *);
/* The stream of a batch, NULL: it has no position.  -ENOMEM. */
int keep_stream(struct aggregate *, uint32_t port, const struct ss_batch *, struct stream **,
		struct ss_position *);
/* The batch is in the groups now: its source is told when they are durable.  -ENOMEM. */
int keep_token(struct aggregate *, struct ss_token *, uint32_t events);
/* Begin or go on; true: more to do at once. */
bool keep_step(struct aggregate *);
/* Everything that was taken in is durable, and every result has left. */
bool keep_is_clean(const struct aggregate *);
