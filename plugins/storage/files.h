/* SPDX-License-Identifier: MIT */
/*
 * files - the files that lines go to: one, or for a template with attributes many, of which the ones used
 * last are open.  Whoever goes on with a batch calls files_prepare() first: then the files of its next events
 * are open, and known to the record if there is one.  Runs in the instance's loop.
 *
 * What is gathered in one buffer for many files is kept as runs, each of one file; files_write() gives every
 * file its own.  A file is closed to make room for another when all of it is committed.  A batch that goes to
 * more files than may be open is the exception: its files are synced and put to sleep until it is whole.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <time.h>
#include "segment.h"

struct storage;
struct kept;
struct ss_batch;

/* Where the lines of some attributes go. */
struct file {
	TAILQ_ENTRY(file) by_use; /* the one unused for longest first */
	LIST_ENTRY(file) in_bucket;
	uint32_t hash;
	char *pattern;                /* its name, but for the date */
	bool other;                   /* it is for all that may have none of their own */
	struct owner *owner;          /* whom it is counted for, if anybody */
	struct segment *seg;          /* NULL: it is opened with the next line */
	time_t from, until;           /* the wall clock hour its name was made for */
	uint64_t no_rotate_before_ns; /* loop time */
	uint64_t pass;                /* of preparing that needs it */
	uint32_t first_run, last_run; /* of what is gathered for it, if gathered is not 0 */
	size_t gathered;
};

/* Some iovecs of the lines, up to the next run's. */
struct run {
	struct file *file;
	uint32_t first, next; /* next: run of the same file */
};

/* What a set of attributes of the batch at hand leads to. */
struct target {
	uint64_t pass; /* the pass this is of */
	struct file *file;
};

TAILQ_HEAD(file_queue, file);
LIST_HEAD(file_bucket, file);

struct files {
	struct file_queue by_use;
	struct file_bucket *buckets;
	uint32_t mask;
	struct file *only;         /* without attributes there is one */
	uint32_t max_open, n_open; /* segments with descriptors, also full ones */
	uint32_t room;             /* of them in a sync, and what it will have after the sync under way */
	struct sync_room {
		uint32_t n; /* 0: the same */
		struct sync_file *files;
		struct sync_folder *folders;
	} more;
	uint32_t n_asleep;
	struct segment **closing; /* full files that are not synced yet */
	int n_closing, closing_max;
	bool entry_dirty; /* a segment's may be */

	uint64_t pass;
	struct target *targets;
	uint32_t n_targets;
	struct run *runs;
	uint32_t n_runs;
	struct iovec *iov; /* of one file */
};

/* In create; 0 or -ENOMEM.  files_done() may be called in any case. */
int files_init(struct storage *);
void files_done(struct storage *);
/* Other options: as many files open as a fresh instance may have, which gets what there is no use for any
 * more. */
void files_reconfigure(struct storage *, struct storage *fresh);
/* No sync is under way: the next may have more files. */
void files_take_room(struct storage *);
/* In start: the one file, or the folder of many.  0, or -errno with the reason in why. */
int files_open_first(struct storage *, char why[WHY_MAX]);
/* Close all; what is not written is forgotten. */
void files_close(struct storage *);

/* Between two batches or parts of one: have the files for its next events, up to k->ready.  False: that takes
 * a sync, or the disk is in trouble. */
bool files_prepare(struct storage *, struct kept *);
/* Gather some of the events that are ready; as lines_gather. */
int64_t files_gather(struct storage *, struct kept *);
/* Write what is gathered, sealed: all of it, or nothing and -errno, with the file and the reason in what is
 * not NULL. */
int files_write(struct storage *, struct file **failed, char why[WHY_MAX]);
/* Forget what is gathered. */
void files_forget_runs(struct storage *);

/* Check the open files: moved, another hour, too old? */
void files_check(struct storage *);
/* Full files that are synced are closed, and those asleep that are committed forgotten. */
void files_reap(struct storage *);
/* Is an open file not where it was?  Then it is left, unless only that was asked for. */
bool files_leave_moved(struct storage *, bool only_ask);
/* Cut all back to what is synced; 0 or -errno. */
int files_cut_unsynced(struct storage *);
