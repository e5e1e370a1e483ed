/* SPDX-License-Identifier: MIT */
/* semstreams/ext/handover.h - sockets that outlive the instance that opened them, when another one takes its
 * place.  Tags and rules are those of semstreams/plugin.h. */
#ifndef SEMSTREAMS_EXT_HANDOVER_H
#define SEMSTREAMS_EXT_HANDOVER_H

#include <semstreams/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * When the configuration is read again, an instance whose options have changed is drained and stopped, and
 * then another one is started.  A port that both listen on need not be closed in between: what comes
 * meanwhile waits in the kernel, and nobody is refused.  Names are those of claim() in struct ss_host, which
 * both have claimed.
 */
#define SS_HANDOVER "semstreams.handover/1"

/* What the host has under SS_HANDOVER. */
struct ss_handover {
	uint32_t struct_size;
	uint32_t reserved; /* 0 */
	/* [inst] In drain() and stop(): is there a successor that has claimed it?  1, 0. */
	int32_t (*wanted)(void *self, const char *name);
	/* [inst] In drain() and stop(): leave a descriptor to the successor.  0: it is the host's now;
	 * -ENOENT: nobody wants it, -ENOMEM: it is still the caller's.  Several of one name come out in the
	 * order they went in. */
	int32_t (*give)(void *self, const char *name, int32_t fd);
	/* [inst] In start(): a descriptor that was left under that name, the caller's from now on; -ENOENT.
	 * The options of the socket are as the other instance had set them. */
	int32_t (*take)(void *self, const char *name);
	/* [inst] As give(), with a number for the successor: of a socket, say, how many of its drops are
	 * counted already.  0, -ENOENT, -ENOMEM as give().  Younger than the rest: see SS_KNOWS. */
	int32_t (*give_noted)(void *self, const char *name, int32_t fd, uint64_t note);
	/* [inst] As take(), with that number in *note; 0 if it was left without one.  A descriptor, or
	 * -ENOENT. Younger than the rest: see SS_KNOWS. */
	int32_t (*take_noted)(void *self, const char *name, uint64_t *note);
};

#ifdef __cplusplus
}
#endif
#endif
