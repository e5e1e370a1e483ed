/* SPDX-License-Identifier: MIT */
/*
 * commit - the record beside a component's files: how much of them is committed, and which events that is.
 *
 * It has two slots, written in turn, each with a number and a checksum; the newest that is whole counts.  So
 * a slot may be torn by a power cut and the other still stands, and a commit is one write and one fdatasync
 * to blocks that are there already: no temporary file, no rename, no directory to sync.  Used in the
 * instance's loop; the syncer's thread does the writing.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "path.h"
#include "streams.h"
#include "syncer.h"

/* What a record says. */
struct commit_record {
	uint64_t number;
	int slot;  /* where it stands */
	bool cuts; /* what lies in the file behind length is not committed; else nothing is to be cut */
	char rel[REL_MAX];
	uint64_t inode, born_ns, length;
	struct streams streams; /* only their safe positions */
};

struct commit {
	int fd, dirfd;
	bool entry_dirty; /* its directory entry is not known to be on disk */
	uint64_t number;  /* the highest there is */
	int slot;         /* where the next write goes: never over what counts */
	uint8_t *bytes;   /* of the write under way */
};

/* The file name for a component, below the prefix. */
void commit_name(const char *id, char name[256]);

/*
 * Open the record of a component, locked, made if create says so.  found[0..*n) is what it says, the newest
 * first (release with commit_forget); *damaged: there was something that cannot be read.  0, -ENOENT, or
 * -errno with the reason in why.
 */
int commit_open(struct commit **, const struct path *, const char *id, bool create,
		struct commit_record found[2], int *n, bool *damaged, char why[WHY_MAX]);
/* NULL is allowed. */
void commit_close(struct commit *);
/* Done with what commit_open found. */
void commit_forget(struct commit_record found[2], int n);
/* found[i] is what counts: the next write spares it. */
void commit_choose(struct commit *, const struct commit_record *);
/* Delete it, durably: 0 or -errno. */
int commit_remove(struct commit *, const char *id);

/* Have a job write the record after its files are synced; of the streams the syncing positions.  Only one at
 * a time. */
void commit_add_to_job(struct commit *, const struct commit_record *, const struct streams *,
		       struct sync_job *);
/* That job is done: was it written? */
void commit_written(struct commit *, bool ok);
