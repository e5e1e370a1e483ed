/* SPDX-License-Identifier: MIT */
/*
 * ledger - how much of each of many files is committed: a file beside the commit record, which says what part
 * of it counts.  A commit appends the lengths of the files that have grown, so its cost does not depend on
 * how many there are; when most of it is out of date, another ledger with the next number takes its place.
 * Used in the instance's loop; only ledger_write and ledger_sweep may run in the sync job's thread.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/base/strbuf.h>
#include "path.h"
#include "segment.h"

struct ledger {
	const struct path *path;
	const char *id;
	int fd, dirfd;       /* -1: none is open */
	uint64_t generation; /* number of the file; 0: none yet */
	uint64_t end;        /* bytes of it that count */
	uint32_t numbers;    /* given to files so far */
	uint32_t files;      /* that are in it and not gone */
	bool renew;          /* the next frame begins another file */

	struct ss_strbuf frame; /* the one under way */
	struct ss_strbuf gone;  /* numbers of files for the next one */
	bool renewing;          /* the one under way begins another file */
};

/* One file as a ledger has it. */
struct ledger_file {
	uint64_t inode, born_ns, length;
	char rel[REL_MAX];
};

static inline void ledger_init(struct ledger *l, const struct path *path, const char *id)
{
	*l = (struct ledger){.path = path, .id = id, .fd = -1, .dirfd = -1, .renew = true};
}
void ledger_close(struct ledger *);

/* Begin a frame.  True: it is the first of another file, and all files must be told with ledger_add(). */
bool ledger_begin(struct ledger *);
/* A file that is not there yet, committed to that length; numbers it. */
void ledger_add(struct ledger *, struct segment *, uint64_t length);
/* One that is there. */
void ledger_set(struct ledger *, const struct segment *, uint64_t length);
/* One will not be written to any more, and all of it is committed. */
void ledger_forget(struct ledger *, struct segment *);

/* Where the frame will end, in the ledger of which number. */
static inline uint64_t ledger_frame_end(const struct ledger *l)
{
	return (l->renewing ? 0 : l->end) + l->frame.len;
}
static inline uint64_t ledger_frame_generation(const struct ledger *l)
{
	return l->generation + l->renewing;
}
/* Write the frame durably; 0 or -errno. */
int ledger_write(struct ledger *);
/* The frame counts, or it does not. */
void ledger_end(struct ledger *, bool counts);

/* Call each() for every file of a ledger of that number, up to end bytes of it.  0; -EBADMSG: damaged or not
 * there; -ENOMEM; what each() returned, if that was not 0; or -errno. */
int ledger_read(const struct path *, const char *id, uint64_t generation, uint64_t end,
		int (*each)(void *arg, const struct ledger_file *), void *arg);
/* Of bytes instead of a file: fuzzed. */
int ledger_decode(const uint8_t *bytes, size_t size, uint64_t generation,
		  int (*each)(void *arg, const struct ledger_file *), void *arg);
/* Delete all ledgers of a component but one (0: all), as far as there are any: once the record says so. */
void ledger_sweep(const struct path *, const char *id, uint64_t but);
