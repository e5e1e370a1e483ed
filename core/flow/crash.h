/* SPDX-License-Identifier: MIT */
/*
 * crash - last words: when a signal, an uncaught exception or exit() in a plugin ends the process, one line
 * of the log names the component and the callback, or the thread and whose it is.
 */
#pragma once
#include <signal.h>
#include <stdbool.h>

/* [ctl] From now on, once; json: the format of the line.  Signals that somebody else handles stay his. */
void crash_watch(bool json);
/* [ctl] Ending is as it should be from now on. */
void crash_unwatch(void);
/* [ctl] The component's plugin has that code: a thread of its own that crashes is named by it, and by the
 * component if the plugin has no other one. */
void crash_know(const void *code, const char *component);
/* In each thread that enters components: overflow of its stack is told, too. */
void crash_watch_thread(void);
/* Take out of a set what must never be blocked: the kernel would end the process without a word. */
void crash_unblock(sigset_t *);
