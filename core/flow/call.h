/* SPDX-License-Identifier: MIT */
/*
 * call - which callback of which component a thread is in, so that a watchdog or a crash can name the
 * culprit.  The thread itself writes, others and signal handlers read.
 */
#pragma once
#include <stdatomic.h>

struct call {
	_Atomic(const char *) component; /* NULL: in the host */
	_Atomic(const char *) callback;
};

extern _Thread_local struct call call_here;

static inline void call_enter(const char *component, const char *callback)
{
	atomic_store_explicit(&call_here.callback, callback, memory_order_relaxed);
	atomic_store_explicit(&call_here.component, component, memory_order_relaxed);
}

static inline void call_leave(void)
{
	atomic_store_explicit(&call_here.component, NULL, memory_order_relaxed);
}
