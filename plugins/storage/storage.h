/* SPDX-License-Identifier: MIT */
/*
 * storage - one instance of the sink.  Batches are kept in a ring from process() until their lines are as
 * durable as configured:
 *
 *   head ... written, wait for a sync ... | flushed ... gathered ... | next ... untouched ... | tail
 *
 * storage.c is what the host calls; writer.c moves batches through the ring, files.c has the files that it
 * writes to, record.c what is committed of them.  Everything runs in the instance's loop, but for a sync in
 * its job's thread.  Offsets (written, boundary, synced, end) count bytes of lines since start, over all
 * files; a commit covers whole batches only.
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
#include "allowance.h"
#include "commit.h"
#include "conf.h"
#include "files.h"
#include "ledger.h"
#include "lines.h"
#include "path.h"
#include "envelope.h"
#include "retain.h"
#include "route.h"
#include "segment.h"

/* A batch in our hands. */
struct kept {
	struct ss_batch *batch;
	struct envelopes *envelopes; /* what is written for its events; NULL: their bytes */
	uint64_t end;                /* offset behind its last line, once all of it is gathered */
	uint64_t bytes;              /* memory it holds */
	uint64_t since_ns;           /* loop time when it came; with sync "relaxed" not asked for */
	uint32_t port;
	uint32_t row;    /* the next to gather */
	uint32_t ready;  /* rows before it have their files open */
	bool counted;    /* its drops are; it may be gathered twice */
	bool positioned; /* it is part of a resumable stream */
	struct lines_dropped dropped;
	uint64_t others; /* went to the file for all that get none of their own */
};

enum sync_kind {
	SYNC_COMMIT, /* all that is written, up to the end of a batch */
	SYNC_STORE,  /* all that is written, without saying that it counts */
	SYNC_NOTE    /* only that more files may be written to */
};

/* What a sync does, in its job's thread: the files, then the ledger, then the record. */
struct sync {
	enum sync_kind kind;
	int n;
	struct sync_file {
		int fd;
		int dirfd; /* directory to sync as well, -1 = none */
	} * files;         /* room for all that are open, and the record */
	struct sync_folder {
		dev_t dev;
		ino_t inode;
		int fd;
	} * folders;           /* room for as many */
	struct ledger *ledger; /* NULL: none is written */
	struct commit *commit; /* NULL: no record is written */
	const struct ss_strbuf *record;
	const struct ss_positions *positions; /* the host's, of which the record has this snapshot */
	void *positions_self;
	const struct ss_strbuf *snapshot; /* NULL: the record has that of the last commit */
	int result;                       /* 0 or -errno of the first that failed */
	bool record_failed;               /* that was the record: the files are synced */
};

struct storage {
	const struct ss_host *host;
	const struct storage_conf *conf;
	const struct ss_loop *loop;
	void *loop_self;
	struct path path;
	struct route route; /* if path is routed */
	mode_t mode;

	struct ss_ring ring; /* of struct kept */
	uint64_t flushed, next;
	uint64_t kept_bytes;         /* memory of the batches in the ring */
	struct ss_batch *in_process; /* the batch process() was called with */
	bool busy;                   /* process() refused one */

	struct lines lines;
	struct files files;
	struct allowance allowance;         /* of many files */
	uint64_t written, boundary, synced; /* boundary: end of the newest batch that is written as a whole */

	struct ss_job *job;
	struct sync sync;            /* the job's while syncing */
	bool syncing;                /* a sync was started and its end was not handled */
	bool stalled;                /* it takes too long, and that was reported */
	uint64_t sync_upto;          /* synced, when the sync is done */
	uint64_t commit_ns, pace_ns; /* loop time when the last sync was begun, time to the next */

	bool down; /* writes or syncs fail: nothing is taken until they work */
	int down_errno;
	uint64_t down_since_ns, retry_ns;
	bool rewrite; /* a sync failed: what was not synced must be written again */

	const struct ss_positions *positions; /* NULL: no positions are saved */
	void *positions_self;
	struct commit *commit;      /* NULL: there is no record, and no need of one so far */
	struct ledger ledger;       /* of many files */
	struct ss_strbuf record;    /* its bytes, as last written */
	struct ss_strbuf snapshot;  /* of positions, in the sync under way */
	struct ss_strbuf committed; /* of positions, in the record that counts */
	bool record_whole;          /* record holds what the last write of it made durable */
	bool positioned;            /* a batch with a position has come */
	uint32_t record_cuts;       /* what the record says: CUTS_... */
	bool moving;                /* the record is being moved to another file, or to say something else */
	uint32_t moving_cuts;       /* that is CUTS_... */
	bool recommit;              /* the record could not be written: no sync before the next try */
	bool record_doubt;          /* nobody knows whether it was */
	bool waiting;               /* nothing is gathered until a sync has ended */
	bool check_due;             /* then the files are checked */

	struct retain *retain;
	uint32_t retry_timer, check_timer, interval_timer, commit_timer;
	uint32_t checks;
	bool draining;
};

/* ---- writer.c: from batches to durable lines ---- */

/* In start, after the record was read: what can be opened before there are lines.  0 or -errno, logged. */
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
/* Start a sync that commits nothing: SYNC_STORE in the middle of a batch, SYNC_NOTE of the files of this pass
 * of preparing.  False: it has not ended yet. */
bool writer_begin(struct storage *, uint32_t kind);
/* All that is written is committed, as far as there is a record; false: not yet, or the disk is in trouble.
 */
bool writer_settle(struct storage *);
/* Something failed, of a file if it is not NULL: take nothing more until it works. */
void writer_suspend(struct storage *, uint32_t metric, const char *what, const struct file *, const char *why,
		    int err);
/* In the loop: handle the end of a sync, if one ended. */
void writer_on_synced(void *storage);
/* Does a sync take too long? */
void writer_check_stall(struct storage *);
/* Try again what failed; a timer. */
void writer_on_retry(void *storage);
bool writer_is_drained(const struct storage *);
/* Is there room for input again; is all drained? */
void writer_notify_host(struct storage *);

/* ---- record.c: what is committed ---- */

/* In start: cut off what is not committed, restore positions.  0 or -errno, logged. */
int record_resume(struct storage *);
/* Forget what there is of it; after a clean end one damaged copy of it leaves nothing in doubt. */
void record_stop(struct storage *);
/* May lines be appended, as far as the record goes?  False: not before a sync that was begun, or the disk is
 * in trouble. */
bool record_follows(struct storage *);
/* What the sync that is about to start has to write besides the files, if anything; and it has ended. */
void record_begin(struct storage *);
void record_end(struct storage *);
/* Have the record say again what was committed last; 0 or -errno. */
int record_restore(struct storage *);
