/* SPDX-License-Identifier: MIT */
/*
 * transition - a running pipeline takes over another configuration.  Components that are the same in both go
 * on as they are; those whose options can change in place do so; the others are replaced: the old one stops
 * taking in and drains, its queues and its books go to the new one.  Control thread only.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/config/config.h"
#include "core/config/diag.h"

struct component;
struct pipeline;

struct transition_hooks {
	/* Time passes while components drain, at most ns: the control thread may do other things, but neither
	 * stop the pipeline nor begin another transition. */
	void (*wait)(void *arg, uint64_t ns);
	/* Drain no longer, the program is to end. */
	bool (*hurry)(void *arg);
	/* A component is about to go for good: its last figures can be read. */
	void (*gone)(void *arg, const struct component *);
	void *arg;
	uint64_t drain_ns; /* for one component; what it holds then is dropped and counted */
};

struct transition_result {
	size_t kept, changed, replaced, added, removed; /* components */
	uint64_t pause_ns; /* the longest time that loops of components waited at once */
};

/*
 * The config, resolved, must be on the heap; the pipeline keeps it as long as it needs it.  What is wrong
 * goes to diag: 0; -EINVAL, -ENOMEM, -ETIMEDOUT: the old configuration still runs, or runs again if a
 * component could not be started; -EIO: it could not be restored, and the program should end.
 */
int transition_run(struct pipeline *, const struct config *, const struct transition_hooks *, struct diag *,
		   struct transition_result *);
