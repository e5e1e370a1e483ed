/* SPDX-License-Identifier: MIT */
/*
 * loop - a thread that waits: one libev loop, its wake-ups and posts, and the work of the components that
 * live on it.
 *
 * Before it sleeps a loop calls work() until nothing is left to do.  Others wake it only if it sleeps or is
 * about to.
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <ev.h>
#include "core/admin/clock.h"
#include "core/flow/call.h"
#include "core/flow/posts.h"

struct loop {
	struct ev_loop *ev;
	char name[16];           /* the thread's */
	bool (*work)(void *arg); /* true: call again at once */
	void *arg;

	ev_async wake;
	ev_prepare before_sleep;
	ev_check after_sleep;
	ev_idle more; /* active while there is work: polls without waiting */
	_Atomic bool asleep;
	_Atomic uint64_t gather_ns; /* 0 = each event at once */
	bool gathers;
	int turns; /* since the time of the loop turns_at, s */
	double turns_at;

	struct posts posts;
	pthread_t thread;
	bool running, quit;
	bool hangs;                  /* the control thread gave it up */
	_Atomic(struct call *) call; /* what the thread is in; NULL: it does not run */
};

/* 0, -ENOMEM, -EMFILE. */
int loop_init(struct loop *, const char *name, bool (*work)(void *arg), void *arg);
/* The thread has ended. */
void loop_done(struct loop *);
/* Start the thread, with all signals blocked; 0 or -errno. */
int loop_run(struct loop *);
/* End the thread and wait for it; does nothing if it never ran. */
void loop_join(struct loop *);

/* Of a loop that does not answer: the callback that does not return. */
struct culprit {
	const char *component, *callback; /* NULL, "": it is in none */
};
/* [any] */
struct culprit loop_culprit(const struct loop *);

/* [any] Make sure work() is called soon. */
void loop_wake(struct loop *);
/* [any] Events may be up to ns late: when they come often, the loop takes all of such a time at once. */
void loop_gather(struct loop *, uint64_t ns);
/* [any] Run fn(arg) in the loop soon, in the order of the calls; 0 or -ENOMEM. */
int loop_post(struct loop *, void (*fn)(void *arg), void *arg);
/* [any other thread] Run fn(arg) in the loop and wait for its result; -ETIMEDOUT after timeout_ns, then the
 * loop hangs and fn may still be run: arg must stay valid. */
int loop_call(struct loop *, int (*fn)(void *arg), void *arg, uint64_t timeout_ns);
