/* SPDX-License-Identifier: MIT */
/*
 * control_watch - names the callback that the control thread waits for, which nobody else could: create,
 * start and destroy.  A thread does, which is there between begin and end only.  Control thread only.
 */
#pragma once
#include <stdint.h>

struct loop;

/* From now on a callback that takes limit_ns (0: no limit) is named in the log, and again when it has
 * returned; give_up (NULL: none) is called in another thread when it has taken twice as long.  May be nested;
 * the outermost counts. */
void control_watch_begin(uint64_t limit_ns, void (*give_up)(void));
void control_watch_end(void);

/* The component's callback is called, in that loop (NULL: in this thread). */
void control_watch_enter(const char *component, const char *callback, const struct loop *);
void control_watch_leave(void);
