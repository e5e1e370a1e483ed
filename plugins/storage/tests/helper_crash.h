/* SPDX-License-Identifier: MIT */
/* helper_crash - the world the plugin sees: syncs and writes can be made to fail, and the process to die, at
 * any step; and batches of sources that can resume. */
#pragma once
#include <sys/types.h>
#include "helper_storage.h"

extern struct world {
	_Atomic int steps, die_at; /* at this step the process is gone; 0 = never */
	_Atomic int data_syncs, record_syncs, folder_syncs;
	_Atomic int fail_data, fail_record, fail_ledger; /* how many of the next syncs fail */
	_Atomic long room;      /* bytes that can still be written to new blocks; -1 = any number */
	_Atomic int hold;       /* syncs of data wait */
	_Atomic int fail_write; /* the so-manieth next write of lines fails; 0 = none, -1 = all */
	_Atomic time_t later;   /* seconds that the clock is ahead */
} world;

/* Events first.. of a source: "a1", "a2", ...; without a source they have no position. */
struct ss_batch *batch(struct fixture *, const char *source, uint8_t epoch, uint64_t first, uint32_t n);
int push(struct fixture *, const char *source, uint64_t first, uint32_t n);
/* Let scene run in a process that is killed at its end, or at a step of it. */
void crash_after(struct fixture *, void (*scene)(struct fixture *));
/* All data files of the folder, in order of their names, the current one last; malloced. */
char *all_data(const struct fixture *);
