/* SPDX-License-Identifier: MIT */
/*
 * segment - one open file of lines: repaired when opened, appended to in whole lines, renamed when it is
 * full. Runs in the instance's loop; the syncer's thread only ever sees the descriptors.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>
#include "path.h"

struct segment {
	int fd, dirfd;
	char *rel;          /* name below the prefix */
	char *path;         /* the whole name, for people and for stat */
	uint64_t size;      /* bytes, all of them whole lines */
	uint64_t synced;    /* of these, safe on disk, and committed if there is a record */
	uint64_t stored;    /* of these, safe on disk although a batch of them may not be whole */
	uint64_t syncing;   /* of these, in the sync that is under way */
	uint64_t opened_ns; /* wall clock: when the file was begun, if the file system knows, else when it was
			       opened */
	off_t cut_to;       /* the file must be cut to this length before the next write; -1 = it is whole */
	bool entry_dirty;   /* its directory entry is not known to be on disk */
	bool in_sync;       /* the one that is under way has its descriptors, or its length */
	bool created;       /* it was not there before */
	bool recorded;      /* the commit record ends this file: what is appended is not committed yet */
	uint32_t number;    /* in the ledger of many files; 0: it is not there */
	uint64_t inode, born_ns; /* who it is; born 0 = the file system does not know */
};

/* Opens rel, made with its directories if it is missing.  An unfinished last line (up to max_tail bytes, the
 * longest we could have left) is moved to rel + ".torn"; *torn is its length.  0, or -errno with the reason
 * in why. */
int segment_open(struct segment **, const struct path *, const char *rel, mode_t mode, uint64_t max_tail,
		 uint64_t *torn, char why[WHY_MAX]);
/*
 * Cut a file that nobody has open to length, durably, if it is the one with this inode and time of birth;
 * *cut is by how much.  0; -ENOENT: there is no such file, or it is another one; -ERANGE: it is shorter; or
 * -errno with the reason in why.
 */
int segment_cut_closed(const struct path *, const char *rel, uint64_t inode, uint64_t born_ns,
		       uint64_t length, uint64_t *cut, char why[WHY_MAX]);
/* NULL is allowed. */
void segment_free(struct segment *);

/* Append iov[0..n), total bytes, which must end with a line's end: all or nothing.  0 or -errno. */
int segment_write(struct segment *, struct iovec *iov, unsigned n, size_t total);

/* The last total bytes that segment_write() took are not to be there; if that cannot be done now, it is
 * before the next write. */
void segment_take_back(struct segment *, size_t total);

/* Forget what is not synced; 0 or -errno. */
int segment_cut_unsynced(const struct path *, struct segment *);

/* Close its descriptors for a while; all of it is stored.  Nothing but the functions that take the path, and
 * segment_free(), may be called then. */
static inline void segment_sleep(struct segment *s)
{
	close(s->fd);
	close(s->dirfd);
	s->fd = s->dirfd = -1;
}
static inline bool segment_is_asleep(const struct segment *s)
{
	return s->fd < 0;
}
/* Open it again; 0, or -errno with the reason in why: -ESTALE: it is gone, or another file. */
int segment_wake(struct segment *, const struct path *, char why[WHY_MAX]);

/* Give the file its closed name; 0 or -errno. */
int segment_stamp(struct segment *, time_t when);

/* Was the file renamed, deleted or replaced? */
bool segment_moved(const struct segment *);
/* Did somebody else change its length?  Adopts the new one. */
bool segment_resized(struct segment *);
