/* SPDX-License-Identifier: MIT */
/* control_watch - see control_watch.h. */
#include "core/flow/watch/control_watch.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>
#include "core/admin/clock.h"
#include "core/admin/log.h"
#include "core/flow/crash.h"
#include "core/flow/loop.h"

/* There is one control thread, so there is one of these. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	bool runs, ends;
	unsigned depth; /* of the control thread alone */
	uint64_t limit_ns, since_ns;
	void (*give_up)(void);
	const char *component, *callback; /* component NULL: in none */
	const struct loop *loop;
	const char *told; /* the component that was named */
} watch = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* [lock] */
static void tell(uint64_t waited_ns)
{
	const unsigned seconds = (unsigned)(waited_ns / 1000000000u);
	struct culprit at = {watch.component, watch.callback};

	/* what it waits for may be another component of that loop */
	if (watch.loop && loop_culprit(watch.loop).component)
		at = loop_culprit(watch.loop);
	watch.told = at.component;
	log_printf(SS_LOG_ERROR, at.component,
		   "Component does not return from a callback callback=%s seconds=%u", at.callback, seconds);
}

/* [lock] When there is something to do next; 0: never. */
static uint64_t find_due(void)
{
	if (!watch.component || (watch.told && !watch.give_up))
		return 0;
	return watch.since_ns + (watch.told ? 2 : 1) * watch.limit_ns;
}

static void *watch_main(void *arg)
{
	(void)arg;
	pthread_setname_np(pthread_self(), "control-watch");
	crash_watch_thread();
	pthread_mutex_lock(&watch.lock);
	while (!watch.ends) {
		const uint64_t due = find_due(), now = clock_now();
		const struct timespec until = {.tv_sec = (time_t)(due / 1000000000u),
					       .tv_nsec = (long)(due % 1000000000u)};
		if (!due)
			pthread_cond_wait(&watch.changed, &watch.lock);
		else if (now < due)
			pthread_cond_timedwait(&watch.changed, &watch.lock, &until);
		else if (watch.told)
			watch.give_up();
		else
			tell(now - watch.since_ns);
	}
	pthread_mutex_unlock(&watch.lock);
	return NULL;
}

void control_watch_begin(uint64_t limit_ns, void (*give_up)(void))
{
	pthread_condattr_t attr;
	sigset_t all, old;

	if (watch.depth++ || !limit_ns)
		return;
	watch.limit_ns = limit_ns;
	watch.give_up = give_up;
	watch.ends = false;
	watch.component = watch.told = NULL;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&watch.changed, &attr);
	pthread_condattr_destroy(&attr);
	sigfillset(&all);
	crash_unblock(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	/* without a thread nobody watches, and all else goes on */
	watch.runs = pthread_create(&watch.thread, NULL, watch_main, NULL) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!watch.runs)
		pthread_cond_destroy(&watch.changed);
}

void control_watch_end(void)
{
	if (--watch.depth || !watch.runs)
		return;
	pthread_mutex_lock(&watch.lock);
	watch.ends = true;
	pthread_cond_signal(&watch.changed);
	pthread_mutex_unlock(&watch.lock);
	pthread_join(watch.thread, NULL);
	pthread_cond_destroy(&watch.changed);
	watch.runs = false;
}

void control_watch_enter(const char *component, const char *callback, const struct loop *loop)
{
	if (!watch.runs)
		return;
	pthread_mutex_lock(&watch.lock);
	watch.component = component;
	watch.callback = callback;
	watch.loop = loop;
	watch.since_ns = clock_now();
	pthread_cond_signal(&watch.changed);
	pthread_mutex_unlock(&watch.lock);
}

void control_watch_leave(void)
{
	if (!watch.runs)
		return;
	pthread_mutex_lock(&watch.lock);
	if (watch.told)
		log_printf(SS_LOG_WARN, watch.told, "Component has returned from its callback");
	watch.component = watch.told = NULL;
	pthread_mutex_unlock(&watch.lock);
}
