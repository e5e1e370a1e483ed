/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/two_slot.h - a small record that is replaced durably by one write and one fdatasync() to
 * blocks that are there already: no temporary file, no rename, and it works on a full disk.  The file has two
 * slots, written in turn, each with a generation and checksums; the newest that is whole counts.
 *
 * A slot that is damaged may be a write that a power cut stopped, of which nobody was told, or a finished one
 * that the disk spoilt later.  The head of a slot stands in it twice, so that its generation is known
 * whatever one bit says. If the damaged slot may be newer than the one that counts, the caller is told: what
 * it undoes for a record that is too old may have been promised to somebody.  After a clean end both slots
 * have the same content: then one of them may be spoilt and nothing is in doubt.
 *
 * One thread at a time; a job's thread may write while the owner leaves the struct alone.  Tags and rules are
 * those of semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_TWO_SLOT_H
#define SEMSTREAMS_BASE_TWO_SLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { SS_SLOT_HEAD = 64 }; /* bytes of a slot that are not the caller's */

/* A file of two slots, open. */
struct ss_two_slot {
	int fd;              /* the caller's, open for reading and writing, not for appending */
	char magic[8];       /* kind and version of the record */
	uint32_t slot_size;  /* with its head */
	uint32_t next;       /* slot that is written next, 0 or 1: never the one that counts */
	uint64_t generation; /* the highest there is, also in a damaged slot */
	uint8_t *slot;       /* memory of one slot, owned: ss_two_slot_close() frees it */
};

/* How a slot was found. */
enum ss_slot_state {
	SS_SLOT_EMPTY,  /* nothing was ever written there */
	SS_SLOT_WHOLE,  /* it has a record */
	SS_SLOT_DAMAGED /* something is there that cannot be read */
};

/* One slot as it was found. */
struct ss_slot {
	enum ss_slot_state state; /* what it is */
	uint64_t generation;      /* damaged: 0 if it is not known */
	uint8_t *bytes;           /* the content of a whole slot; ss_two_slot_found_done() frees it */
	size_t len;               /* bytes of it */
};

/* What a file had. */
struct ss_two_slot_found {
	struct ss_slot slots[2]; /* the one that counts first; then the other */
	int n;                   /* whole slots: 0, 1 or 2 */
	bool doubt;              /* the other slot is damaged or gone, and was or may have been newer */
};

/*
 * [any] Read both slots; the next write spares the one that counts.  magic names the kind and version of
 * record; a slot with another magic is damaged.  The caller frees *found with ss_two_slot_found_done() and
 * calls ss_two_slot_close(). 0, also for an empty file; -ENOMEM; -errno of read().
 */
int ss_two_slot_open(struct ss_two_slot *, int fd, const char magic[8], uint32_t slot_size,
		     struct ss_two_slot_found *found);
/* [any] The caller finds the content of slots[0] wrong and goes by slots[1]: the next write spares that one.
 */
void ss_two_slot_use_other(struct ss_two_slot *);
/* [any] Free the contents. */
void ss_two_slot_found_done(struct ss_two_slot_found *);
/* [any] Take the blocks of both slots, len bytes of content each, so that a full disk does not stop later
 * writes; for a new file.  0 or -errno. */
int ss_two_slot_reserve(struct ss_two_slot *, size_t len);
/* [any] Replace the record: write and fdatasync().  0; -EMSGSIZE: larger than a slot; -errno: then the old
 * record counts, and the same slot is written next time. */
int ss_two_slot_write(struct ss_two_slot *, const void *bytes, size_t len);
/* [any] The same to both slots, one after the other: the last write of a clean end.  0, -EMSGSIZE or -errno
 * as ss_two_slot_write(). */
int ss_two_slot_write_both(struct ss_two_slot *, const void *bytes, size_t len);
/* [any] Free the memory; fd stays the caller's. */
void ss_two_slot_close(struct ss_two_slot *);

#ifdef __cplusplus
}
#endif
#endif
