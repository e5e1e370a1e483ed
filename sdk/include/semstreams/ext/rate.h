/* SPDX-License-Identifier: MIT */
/* semstreams/ext/rate.h - limits on how many bytes a second an instance sends, alone or together with others.
 * Tags and rules are those of semstreams/plugin.h. */
#ifndef SEMSTREAMS_EXT_RATE_H
#define SEMSTREAMS_EXT_RATE_H

#include <semstreams/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * An instance that shares a line with others joins in create and asks before each message; the host counts.
 * Instances that name the same group share one limit: of those that have something to send the one with the
 * highest priority goes first, and equals take turns, whatever threads they run in.  The limit holds over
 * time; what goes at once is bounded by the burst, or is one message that is longer than it.
 */
#define SS_RATE "semstreams.rate/1"

/* A limit that an instance joins. */
struct ss_rate_limit {
	uint32_t struct_size;
	uint32_t priority; /* in the group; the highest goes first */
	const char *group; /* copied; NULL: a limit of its own */
	uint64_t rate;     /* bytes per second, from 1 */
	uint64_t burst;    /* bytes that may go at once after a pause; 0: a tenth of a second's worth */
};

/* What the host has under SS_RATE. */
struct ss_rate {
	uint32_t struct_size, reserved;
	/* [ctl] In create, once: limit this instance.  0; -EEXIST: another instance gave the group another
	 * rate or burst, and *other is its id, valid during create; -EINVAL: a rate of 0, or it has joined
	 * already; -ENOMEM. */
	int32_t (*join)(void *self, const struct ss_rate_limit *, const char **other);
	/* [inst] There is something to send.  0: send it now, *most bytes of it or one record, whichever is
	 * more, and call spend().  Else how many ns later to ask again.  Without join() always 0, and *most
	 * is UINT64_MAX. */
	uint64_t (*ask)(void *self, uint64_t *most);
	/* [inst] So many bytes were sent. */
	void (*spend)(void *self, uint64_t bytes);
	/* [inst] After ask() has said to wait: there is nothing to send any more. */
	void (*rest)(void *self);
};

#ifdef __cplusplus
}
#endif
#endif
