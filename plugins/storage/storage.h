/* SPDX-License-Identifier: MIT */
/*
 * storage - one instance of the sink.  Batches are kept in a ring from process() until their lines are as
 * durable as configured:
 *
 *   head ... written, wait for a sync ... | flushed ... gathered ... | next ... untouched ... | tail
 *
 * storage.c is what the host calls; writer.c moves batches through the ring.  Everything runs in the
 * instance's loop, but for a sync in its job's thread.  Offsets (written, boundary, synced, end) count bytes
 * of lines since start, over all files; a sync covers whole batches only.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>
#include <semstreams/base/job.h>
#include <semstreams/base/ring.h>
#include <semstreams/base/strbuf.h>
#include "commit.h"
#include "conf.h"
#include "lines.h"
#include "path.h"
#include "retain.h"
#include "segment.h"

/* A batch in our hands. */
struct kept {
	struct ss_batch *batch;
	uint64_t end;      /* offset behind its last line, once all of it is gathered */
	uint64_t bytes;    /* memory it holds */
	uint64_t since_ns; /* loop time when it came */
	uint32_t port;
	uint32_t row;    /* the next to gather */
	bool counted;    /* its drops are; it may be gathered twice */
	bool positioned; /* it is part of a resumable stream */
	struct lines_dropped dropped;
};

enum { SYNC_FILES = 16, CLOSING_MAX = SYNC_FILES - 2 };

/* What a sync does, in its job's thread: the files, then the record. */
struct sync {
	int n;
	struct {
		int fd;
		int dirfd; /* directory to sync as well, -1 = none */
	} files[SYNC_FILES];
	struct commit *commit; /* NULL: no record is written */
	const struct ss_strbuf *record;
	const struct ss_positions *positions; /* the host's, of which the record has this snapshot */
	void *positions_self;
	const struct ss_strbuf *snapshot;
	int result;         /* 0 or -errno of the first that failed */
	bool record_failed; /* that was the record: the files are synced */
};

struct storage {
	const struct ss_host *host;
	const struct storage_conf *conf;
	const struct ss_loop *loop;
	void *loop_self;
	struct path path;
	mode_t mode;

	struct ss_ring ring; /* of struct kept */
	uint64_t flushed, next;
	uint64_t kept_bytes;         /* memory of the batches in the ring */
	struct ss_batch *in_process; /* the batch process() was called with */
	bool busy;                   /* process() refused one */

	struct lines lines;
	struct segment *seg;                /* the file we append to; NULL = opened with the next line */
	time_t from, until;                 /* the wall clock hour its name was made for */
	uint64_t no_rotate_before_ns;       /* loop time */
	uint64_t written, boundary, synced; /* boundary: end of the newest batch that is written as a whole */

	struct ss_job *job;
	struct sync sync;                     /* the job's while syncing */
	bool syncing;                         /* a sync was started and its end was not handled */
	bool stalled;                         /* it takes too long, and that was reported */
	uint64_t sync_upto;                   /* synced, when the sync is done */
	uint64_t commit_ns, pace_ns;          /* loop time when the last sync was begun, time to the next */
	struct segment *closing[CLOSING_MAX]; /* full files that are not synced yet */
	int n_closing;

	bool down; /* writes or syncs fail: nothing is taken until they work */
	int down_errno;
	uint64_t down_since_ns, retry_ns;
	bool rewrite; /* a sync failed: what was not synced must be written again */

	const struct ss_positions *positions; /* NULL: no positions are saved */
	void *positions_self;
	struct commit *commit;      /* NULL: there is no record, and no need of one so far */
	struct ss_strbuf record;    /* its bytes, as last written */
	struct ss_strbuf snapshot;  /* of positions, in the sync under way */
	struct ss_strbuf committed; /* of positions, in the record that counts */
	bool record_whole;          /* record holds what the last write of it made durable */
	bool positioned;            /* a batch with a position has come */
	bool record_cuts;           /* what the record says */
	bool moving, moving_cuts;   /* the record is being moved to another file, or to cut from now on */
	bool recommit;              /* the record could not be written: no sync before the next try */
	bool waiting;               /* nothing is gathered until a sync has ended */
	bool check_due;             /* then the current file is checked */

	struct retain *retain;
	uint32_t retry_timer, check_timer, interval_timer, commit_timer;
	uint32_t checks;
	bool draining;
};

/* ---- writer.c: from batches to durable lines ---- */

/* In start, after the record was read: the first file, if it can be opened.  0 or -errno, logged. */
int writer_open_first(struct storage *);
/* End the sync under way, report what is not durable as failed, close all files. */
void writer_stop(struct storage *);
/* Gather and write what is in the ring; what fills no buffer stays for writer_flush.  False: writing is
 * suspended. */
bool writer_pump(struct storage *);
/* Write what is gathered. */
bool writer_flush(struct storage *);
/* Start a sync if there is something to sync and none under way; the same, but not before its time. */
void writer_sync(struct storage *);
void writer_commit(struct storage *);
/* In the loop: handle the end of a sync, if one ended. */
void writer_on_synced(void *storage);
/* Check the current file: was it moved, is it another hour, is it too old? */
void writer_check_file(struct storage *);
/* Does a sync take too long? */
void writer_check_stall(struct storage *);
/* Try again what failed; a timer. */
void writer_on_retry(void *storage);
bool writer_is_drained(const struct storage *);
/* Is there room for input again; is all drained? */
void writer_notify_host(struct storage *);
