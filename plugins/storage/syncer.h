/* SPDX-License-Identifier: MIT */
/*
 * syncer - a thread that makes files durable, so that the loop goes on writing while a disk works.  One job
 * at a time. All functions are called by the loop's thread; only on_done runs in the syncer's.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SYNC_FILES = 16 };

/* Bytes to be written in place and synced once the files are; len 0 = none. */
struct sync_record {
	int fd;
	off_t at;
	const uint8_t *bytes; /* stay until it is done */
	size_t len;
};

struct sync_job {
	int n;
	struct {
		int fd;
		int dirfd; /* directory to sync as well, -1 = none */
	} files[SYNC_FILES];
	struct sync_record record;
	int result;         /* 0 or -errno of the first that failed */
	bool record_failed; /* that was the record: the files are synced */
};

struct syncer;

/* on_done(arg) is called in the syncer's thread after each job.  0 or -errno. */
int syncer_new(struct syncer **, void (*on_done)(void *arg), void *arg);
/* Ends the thread, after the job it has; NULL is allowed.  True if there is a job that was not taken back
 * yet. */
bool syncer_free(struct syncer *, struct sync_job *);
/* There must be no job.  The descriptors stay open until it is done. */
void syncer_start(struct syncer *, const struct sync_job *);
/* Take a finished job back; false if there is none. */
bool syncer_take(struct syncer *, struct sync_job *);
