/* SPDX-License-Identifier: MIT */
/* helper_disk - the world the plugin sees: the clock, the disk's room and its syncs are in the test's hand.
 */
#pragma once
#include <pthread.h>
#include <sys/types.h>
#include "helper_storage.h"

extern struct world {
	time_t now;      /* 0 = the real clock */
	long room;       /* bytes that can still be written; -1 = any number */
	int write_errno; /* when there is no room */
	int writes;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int sync_errno;    /* of the next syncs */
	int failing_syncs; /* how many of them fail */
	off_t lost_from;   /* and lose what lies behind this offset, as a disk does */
	bool hold_syncs;
	bool one_owner; /* like CIFS: mode and time of a file cannot be set */
	int syncs_waiting, syncs;
} world;

void hold_syncs(bool hold);
void await_held_sync(void);

int push_batch(struct fixture *, struct ss_batch *);
int push(struct fixture *, const char *text);
/* One event of n bytes, all c but for the breaks. */
int push_long(struct fixture *, char c, size_t n, size_t break_every);
