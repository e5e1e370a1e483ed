/* SPDX-License-Identifier: MIT */
/*
 * checkpoint - a file that is complete or absent whatever crashes, written by a thread of its own, with a
 * checksum.  One process and instance at a time has it.  Its content is the caller's.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/base/strbuf.h>

#define CHECKPOINT_PARTS 2

struct checkpoint;

/* Claim the file.  done(arg) is called in the writer's thread when a write ends.  0; -EBUSY: another process
 * or instance has it; -ENOMEM; -errno: such a file cannot be made there. */
int checkpoint_new(const char *path, void (*done)(void *arg), void *arg, struct checkpoint **out);
/* Waits for a write under way. */
void checkpoint_free(struct checkpoint *);
/* Write these parts one after the other; they are the writer's until checkpoint_take() has returned true.
 * No other write may be under way. */
void checkpoint_write(struct checkpoint *, const struct ss_strbuf parts[CHECKPOINT_PARTS]);
/* Before each write prepare(arg) is called in the writer's thread, which fails with it; after one that worked
 * finish(arg). */
void checkpoint_around(struct checkpoint *, int (*prepare)(void *arg), void (*finish)(void *arg), void *arg);
/* Has the write ended?  With wait: waits until it has; false if there is none.  Then *rc is 0 or -errno, and
 * *step is what failed. */
bool checkpoint_take(struct checkpoint *, bool wait, int *rc, const char **step);
/* For how long the write has been running; 0: none is. */
uint64_t checkpoint_running_ns(const struct checkpoint *);
/* The content of a file, malloced.  0; -ENOENT; -EINVAL: it is damaged; -EPROTONOSUPPORT: another version of
 * semstreams wrote it in a format of its own; -errno. */
int checkpoint_read(const char *path, uint8_t **bytes, size_t *len);
