/* SPDX-License-Identifier: MIT */
#include "core/flow/loop.h"
#include "core/flow/crash.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

_Thread_local struct call call_here;

static void on_wake(struct ev_loop *ev, ev_async *w, int events)
{
	(void)events;
	struct loop *l = w->data;

	posts_run(&l->posts);
	if (l->quit)
		ev_break(ev, EVBREAK_ALL);
}

/*
 * The last step before polling.  Work may come in from other threads all the time: asleep is set first and
 * the work looked at once more behind a full fence, so a producer either is seen here or sees asleep.
 */
static void on_before_sleep(struct ev_loop *ev, ev_prepare *w, int events)
{
	(void)events;
	struct loop *l = w->data;
	bool more = l->work(l->arg);

	if (!more) {
		atomic_store_explicit(&l->asleep, true, memory_order_relaxed);
		atomic_thread_fence(memory_order_seq_cst);
		more = l->work(l->arg);
	}
	if (more) {
		atomic_store_explicit(&l->asleep, false, memory_order_relaxed);
		ev_idle_start(ev, &l->more);
	} else {
		ev_idle_stop(ev, &l->more);
	}
}

/*
 * With a gap between polls more is found at each: fewer wake-ups, system calls and cold caches for the same
 * work.  It begins when turns come more than twice as often as the gap allows, and ends when they come less
 * than half as often.
 */
static void count_turn(struct loop *l, double gap)
{
	enum { TURNS = 64 };
	double now = ev_now(l->ev), took = now - l->turns_at;

	if (++l->turns < TURNS)
		return;
	l->turns = 0;
	l->turns_at = now;
	bool gathers = l->gathers ? took < TURNS * gap * 2 : took < TURNS * gap / 2;
	if (gathers != l->gathers)
		ev_set_io_collect_interval(l->ev, gathers ? gap : 0.);
	l->gathers = gathers;
}

static void on_after_sleep(struct ev_loop *ev, ev_check *w, int events)
{
	(void)ev;
	(void)events;
	struct loop *l = w->data;

	atomic_store_explicit(&l->asleep, false, memory_order_relaxed);
	uint64_t gather = atomic_load_explicit(&l->gather_ns, memory_order_relaxed);
	if (gather)
		count_turn(l, (double)gather / 1e9);
}

static void on_more(struct ev_loop *ev, ev_idle *w, int events)
{
	/* its being active is all that matters */
	(void)ev;
	(void)w;
	(void)events;
}

int loop_init(struct loop *l, const char *name, bool (*work)(void *arg), void *arg)
{
	*l = (struct loop){.work = work, .arg = arg};
	l->ev = ev_loop_new(EVFLAG_NOENV);
	if (!l->ev)
		return errno == EMFILE ? -EMFILE : -ENOMEM;
	snprintf(l->name, sizeof l->name, "%s", name);
	posts_init(&l->posts);

	ev_async_init(&l->wake, on_wake);
	ev_prepare_init(&l->before_sleep, on_before_sleep);
	ev_check_init(&l->after_sleep, on_after_sleep);
	ev_idle_init(&l->more, on_more);
	l->wake.data = l->before_sleep.data = l->after_sleep.data = l;
	ev_async_start(l->ev, &l->wake);
	ev_prepare_start(l->ev, &l->before_sleep);
	ev_check_start(l->ev, &l->after_sleep);
	return 0;
}

void loop_done(struct loop *l)
{
	if (!l->ev)
		return;
	ev_loop_destroy(l->ev);
	posts_done(&l->posts);
	l->ev = NULL;
}

static void *thread_main(void *arg)
{
	struct loop *l = arg;

	/* of itself, as the name of another thread is a file, which a sandbox has not */
	pthread_setname_np(pthread_self(), l->name);
	crash_watch_thread();
	atomic_store(&l->call, &call_here);
	while (!l->quit)
		ev_run(l->ev, 0);
	atomic_store(&l->call, NULL);
	return NULL;
}

int loop_run(struct loop *l)
{
	sigset_t all, old;

	sigfillset(&all);
	crash_unblock(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = -pthread_create(&l->thread, NULL, thread_main, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return rc;
	l->running = true;
	return 0;
}

static void quit(void *arg)
{
	struct loop *l = arg;

	l->quit = true;
}

void loop_join(struct loop *l)
{
	if (!l->running)
		return;
	/* without memory for a post the thread is left alone: the process is ending */
	if (loop_post(l, quit, l) == 0)
		pthread_join(l->thread, NULL);
	l->running = false;
}

struct culprit loop_culprit(const struct loop *l)
{
	const struct call *in = atomic_load(&l->call);
	const char *component = in ? atomic_load_explicit(&in->component, memory_order_relaxed) : NULL;

	return (struct culprit){component,
				component ? atomic_load_explicit(&in->callback, memory_order_relaxed) : ""};
}

void loop_wake(struct loop *l)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&l->asleep, memory_order_relaxed) &&
	    atomic_exchange_explicit(&l->asleep, false, memory_order_relaxed))
		ev_async_send(l->ev, &l->wake);
}

void loop_gather(struct loop *l, uint64_t ns)
{
	atomic_store_explicit(&l->gather_ns, ns, memory_order_relaxed);
}

int loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
	int rc = posts_add(&l->posts, fn, arg);

	if (rc == 0)
		ev_async_send(l->ev, &l->wake);
	return rc;
}

/* Lives until both sides have let go, since the caller may give up first. */
struct loop_call {
	int (*fn)(void *arg);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool finished;
	int result;
	_Atomic int holders;
};

static void call_release(struct loop_call *c)
{
	if (atomic_fetch_sub(&c->holders, 1) != 1)
		return;
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void run_call(void *arg)
{
	struct loop_call *c = arg;
	int result = c->fn(c->arg);

	pthread_mutex_lock(&c->lock);
	c->finished = true;
	c->result = result;
	pthread_cond_signal(&c->changed);
	pthread_mutex_unlock(&c->lock);
	call_release(c);
}

int loop_call(struct loop *l, int (*fn)(void *arg), void *arg, uint64_t timeout_ns)
{
	struct loop_call *c = malloc(sizeof *c);
	uint64_t deadline = clock_now() + timeout_ns;
	struct timespec until = {.tv_sec = (time_t)(deadline / 1000000000u),
				 .tv_nsec = (long)(deadline % 1000000000u)};
	pthread_condattr_t attr;

	if (!c)
		return -ENOMEM;
	*c = (struct loop_call){.fn = fn, .arg = arg};
	atomic_init(&c->holders, 2);
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &attr);
	pthread_condattr_destroy(&attr);

	int rc = loop_post(l, run_call, c);
	if (rc) {
		atomic_store(&c->holders, 1);
		call_release(c);
		return rc;
	}
	pthread_mutex_lock(&c->lock);
	while (!c->finished && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&c->changed, &c->lock, &until);
	rc = c->finished ? c->result : -ETIMEDOUT;
	pthread_mutex_unlock(&c->lock);
	call_release(c);
	return rc;
}
