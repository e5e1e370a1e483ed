/* SPDX-License-Identifier: MIT */
/*
 * storage - one instance of the sink.  Batches are kept in a ring from process() until their lines are as
 * durable as configured:
 *
 *   head ... written, wait for a sync ... | flushed ... gathered ... | next ... untouched ... | tail
 *
 * Everything here runs in the instance's loop.  Offsets (written, boundary, synced, end) count bytes of lines
 * since start, over all files; a sync covers whole batches only.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>
#include "commit.h"
#include "lines.h"
#include "path.h"
#include "retain.h"
#include "segment.h"
#include "streams.h"
#include "syncer.h"

enum { SYNC_ALWAYS, SYNC_INTERVAL, SYNC_RELAXED };
enum { BREAKS_SPACE, BREAKS_ESCAPE };
enum { REASON_EMPTY, REASON_TOO_LONG, REASON_DUPLICATE };
enum {
	METRIC_WRITTEN,
	METRIC_SYNCS,
	METRIC_OPEN_ERRORS,
	METRIC_WRITE_ERRORS,
	METRIC_SYNC_ERRORS,
	METRIC_COMMIT_ERRORS,
	METRIC_ROTATE_ERRORS,
	METRIC_RETAIN_ERRORS,
	METRIC_BLOCKED,
	METRIC_REPAIRED,
	METRIC_CUT,
	METRIC_ROTATIONS,
	METRIC_COMPRESSED,
	METRIC_REMOVED,
};

struct storage_conf {
	const char *path, *mode;
	int64_t sync, sync_interval;
	int64_t rotate_size, rotate_age;
	int64_t retain_files, retain_age, retain_bytes;
	int64_t compress, line_breaks;
	int64_t max_line, write_buffer, max_pending;
};

/* A batch in our hands. */
struct kept {
	struct ss_batch *batch;
	uint64_t end;   /* offset behind its last line, once all of it is gathered */
	uint64_t bytes; /* memory it holds */
	uint32_t row;   /* the next to gather */
	bool counted;   /* its drops are; it may be gathered twice */
	struct lines_dropped dropped;
	int32_t stream;        /* in streams, -1 = it has no position */
	uint32_t duplicates;   /* of its events */
	uint64_t skip;         /* events up to this sequence are there already */
	struct ss_position at; /* its newest event */
};

enum { CLOSING_MAX = SYNC_FILES - 1 };

struct storage {
	const struct ss_host *host;
	const struct storage_conf *conf;
	const struct ss_loop *loop;
	void *loop_self;
	struct path path;
	mode_t mode;

	struct kept *ring;
	uint64_t head, flushed, next, tail, room; /* room is a power of two */
	uint64_t kept_bytes;                      /* memory of the batches in the ring */
	struct ss_batch *in_process;              /* the batch process() was called with */
	bool busy;                                /* process() refused one */

	struct lines lines;
	struct segment *seg;                /* the file we append to; NULL = opened with the next line */
	time_t from, until;                 /* the wall clock hour its name was made for */
	uint64_t no_rotate_before_ns;       /* loop time */
	uint64_t written, boundary, synced; /* boundary: end of the newest batch that is written as a whole */

	struct syncer *syncer;
	bool syncing;                         /* the syncer has a job */
	uint64_t sync_upto;                   /* synced, when that job is done */
	uint64_t commit_ns, pace_ns;          /* loop time when the last job was begun, time to the next */
	struct segment *closing[CLOSING_MAX]; /* full files that are not synced yet */
	int n_closing;

	bool down; /* it cannot write or sync: nothing is taken until it can */
	int down_errno;
	uint64_t down_since_ns, retry_ns;
	bool rewrite; /* a sync failed: what was not synced must be written again */

	/* exactly once: once.c */
	const struct ss_positions *positions; /* NULL: nobody is told, no position is kept */
	void *positions_self;
	struct streams streams;
	struct commit *commit;    /* NULL: there is no record, and no need of one so far */
	bool positioned;          /* a batch with a position has come */
	bool record_cuts;         /* what the record says */
	bool moving, moving_cuts; /* the record is being moved to another file, or to cut from now on */
	bool recommit;            /* the record could not be written: no sync before the next try */
	bool waiting;             /* nothing is gathered until a sync has ended */
	bool look;                /* then the current file is to be looked after */

	struct retain *retain;
	uint32_t retry_timer, check_timer, interval_timer, commit_timer;
	bool draining;
};

/* ---- append.c: from the ring into files ---- */

/* Gather and write what is in the ring; what fills no buffer stays for storage_flush.  False: it is down. */
bool storage_pump(struct storage *);
/* Write what is gathered. */
bool storage_flush(struct storage *);
/* Open the current file if there is none; 0, or -errno with the reason in why. */
int storage_open(struct storage *, char why[WHY_MAX]);
/* Look after the current file: moved away, other hour, too old. */
void storage_check_file(struct storage *);
/* Everything gathered is written and, if there is a record to care for, safe: no record covers two files.
 * False: it is down or waits for a sync. */
bool storage_settle(struct storage *);
/* Done with the current file, which is to be there; the next line opens another.  False: too many are not
 * synced yet. */
bool storage_retire(struct storage *);
/* Once a closed file is synced it is closed for good. */
void storage_reap(struct storage *);

/* ---- once.c: each event once, if it comes from a resumable source ---- */

/* In start, before files are opened: cut what was not committed, tell the host what is there.  0 or -errno,
 * logged. */
int storage_resume(struct storage *);
void storage_forget(struct storage *);
/* The batch has a position: what of it is new? */
void storage_place(struct storage *, uint32_t port, struct kept *);
/* Rows of the batch from k->row on that are new, after passing over those that are not. */
uint32_t storage_fresh_rows(struct kept *);
/* May lines be appended to the current file, as far as the record goes? */
static inline bool storage_is_recorded(const struct storage *s)
{
	return s->positioned ? s->record_cuts && s->seg->recorded : !s->record_cuts;
}
/* Make it so: false, as it takes a sync, or it is down. */
bool storage_move_record(struct storage *);
/* What a sync job has to write, if anything. */
void storage_add_record(struct storage *, struct sync_job *);
/* The job is done, by its own judgement. */
void storage_end_record(struct storage *, const struct sync_job *);

/* ---- durable.c: from written to acknowledged, and back from trouble ---- */

bool storage_needs_sync(const struct storage *);
/* Report what is durable. */
void storage_release(struct storage *);
/* Start a sync if there is something to sync and none under way. */
void storage_start_sync(struct storage *);
/* The same, but not before its time. */
void storage_commit(struct storage *);
/* A sync ended. */
void storage_end_sync(struct storage *, const struct sync_job *);
/* Take the syncer's result if there is one; a post. */
void storage_on_synced(void *storage);
/* Try to get out of trouble; a timer. */
void storage_on_retry(void *storage);
/* It cannot go on: say so, and try again later. */
void storage_fail(struct storage *, uint32_t metric, const char *what, const char *why, int err);
/* Tell the host what has become possible: input, the end of draining. */
void storage_tell_host(struct storage *);
bool storage_is_drained(const struct storage *);
