/* SPDX-License-Identifier: MIT */
/*
 * stage - a pipeline that is tried out: all components on one loop, in the caller's thread, under a clock
 * that is set.  Sources open nothing; what is sent to them goes through the plugin's inject().  Processors
 * run, and sinks that use files only (SS_FILES_ONLY); of other sinks one sees what comes to them.  One
 * thread.
 *
 * Functions that return int return 0, or a negative errno with the reason in stage_why().
 */
#pragma once
#include <semstreams/plugin.h>
#include "core/config/config.h"
#include "core/config/diag.h"

struct stage;

/* Create the components; errors of configuration go to diag.  config must outlive the stage. */
int stage_open(struct config *, struct diag *, struct stage **out);
/* Look at what comes out of "ID" or "ID.OUTPUT", or into "ID:in"; before stage_start().  *watch is for
 * stage_take(). */
int stage_watch(struct stage *, const char *point, size_t *watch);
int stage_start(struct stage *);

/* Send to a source as if from outside, else into the first input of a component. */
int stage_send(struct stage *, const char *component, const struct ss_message *);
/* Put the clock forward in steps, so that timers fire one after the other. */
int stage_advance(struct stage *, uint64_t ns);
/* Let everything on its way arrive, and what another thread finishes within so much real time. */
void stage_settle(struct stage *, int wait_ms);
/* The next batch that was seen there; the caller owns the reference.  NULL: none. */
struct ss_batch *stage_take(struct stage *, size_t watch);

/* Drain and stop, with the clock going on.  Once. */
int stage_end(struct stage *);
const char *stage_why(const struct stage *);
