/* SPDX-License-Identifier: MIT */
/*
 * undrained - what keeps components from closing when the pipeline is to end.  Control thread.
 */
#pragma once

struct pipeline;

/* When the time for draining is over: say in the log what each component that has not closed waits for, and
 * what it still holds. */
void undrained_tell(struct pipeline *);
