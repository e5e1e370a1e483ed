/* SPDX-License-Identifier: MIT */
/*
 * checkpoint - a file that is complete or absent, written by a thread of its own: temporary, fsync, rename,
 * fsync of the folder; with a checksum.  Nobody else can have it open at the same time.  What stands in it is
 * the caller's.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "text.h"

#define CHECKPOINT_PARTS 2

struct checkpoint;

/* done(arg) is called in the writer's thread when a job ends.  0; -EBUSY: another process or instance has it;
 * -ENOMEM; -errno: such a file cannot be made there. */
int checkpoint_new(const char *path, void (*done)(void *arg), void *arg, struct checkpoint **out);
/* Waits for a job under way. */
void checkpoint_free(struct checkpoint *);
/* Write what these texts hold, one behind the other; they are the writer's until checkpoint_taken().  None
 * may be under way. */
void checkpoint_write(struct checkpoint *, const struct text parts[CHECKPOINT_PARTS]);
/* Has the job ended?  Then *rc is 0 or -errno and why says what failed. */
bool checkpoint_taken(struct checkpoint *, int *rc, const char **why);
/* Until the job has ended. */
void checkpoint_wait(struct checkpoint *);
/* What the file holds, malloced: 0; -ENOENT; -EINVAL: it is damaged; -errno. */
int checkpoint_read(const char *path, uint8_t **bytes, size_t *len);
