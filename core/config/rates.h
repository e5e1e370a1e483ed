/* SPDX-License-Identifier: MIT */
/*
 * rates - limits on how many bytes a second instances send.  Each instance has a limit of its own, or shares
 * one with the others of its group: then the most urgent that has something to send goes first, and equals
 * take turns. rates_join() is for the control thread; members then ask from their loops.
 */
#pragma once
#include <stdint.h>

struct rates;
struct rate_member;

struct rates *rates_new(void);   /* NULL: out of memory */
void rates_free(struct rates *); /* with all members; NULL is allowed */

struct rate_limit {
	const char *owner; /* id of the component, valid as long as the rates */
	const char *group; /* NULL: a limit of its own */
	uint64_t rate;     /* bytes per second, from 1 */
	uint64_t burst;    /* bytes that may go at once after a pause; 0: a tenth of a second's worth */
	uint32_t priority; /* in the group; the highest goes first */
};

/* 0; -EEXIST: *other has given its group another rate or burst; -ENOMEM. */
int rates_join(struct rates *, const struct rate_limit *, struct rate_member **out, const char **other);

/* Its limit takes the place of the other's: what was sent beyond that one, or used up of its burst, is owed.
 * Nobody asks meanwhile. */
void rate_succeed(struct rate_member *, struct rate_member *before, uint64_t now_ns);

/*
 * May the member, which has something to send, send now?  0: yes, *most bytes or one record, whichever is
 * more, and then it calls rate_spend().  Else how many ns later it is worth asking again.
 */
uint64_t rate_ask(struct rate_member *, uint64_t now_ns, uint64_t *most);
void rate_spend(struct rate_member *, uint64_t now_ns, uint64_t bytes);
/* It has nothing to send any more: those that are less urgent need not wait for it. */
void rate_rest(struct rate_member *);
