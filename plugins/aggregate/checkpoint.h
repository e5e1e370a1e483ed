/* SPDX-License-Identifier: MIT */
/*
 * checkpoint - a file that is complete or absent, written by a thread of its own: temporary, fsync, rename,
 * fsync of the folder; with a checksum.  What stands in it is the caller's.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "text.h"

struct checkpoint;

/* done(arg) is called in the writer's thread when a job ends.  0, -ENOMEM, -errno. */
int checkpoint_new(const char *path, void (*done)(void *arg), void *arg, struct checkpoint **out);
/* Waits for a job under way. */
void checkpoint_free(struct checkpoint *);
/* Write what text holds; it is the writer's until checkpoint_taken().  None may be under way. */
void checkpoint_write(struct checkpoint *, struct text *);
/* Has the job ended?  Then *rc is 0 or -errno and why says what failed. */
bool checkpoint_taken(struct checkpoint *, int *rc, const char **why);
/* What the file holds, malloced: 0; -ENOENT; -EINVAL: it is damaged; -errno. */
int checkpoint_read(const char *path, uint8_t **bytes, size_t *len);
