/* SPDX-License-Identifier: MIT */
/*
 * standstill - all loops with components wait, so that the control thread may change what they share: who is
 * wired to whom, who lives where.  Loops of providers go on.  Control thread only.
 */
#pragma once
#include <stdint.h>

struct pipeline;
struct standstill;

/* Ask all loops to wait.  0: they do; -ETIMEDOUT: one does not come, its component is named in the log, and
 * the others go on; -ENOMEM. */
int standstill_begin(struct pipeline *, uint64_t timeout_ns, struct standstill **out);
/* They go on; how many ns the first one waited. */
uint64_t standstill_end(struct standstill *);
