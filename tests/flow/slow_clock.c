/* SPDX-License-Identifier: MIT */
/*
 * slow_clock - a machine that does not keep up, for a program it is preloaded into: the clock that timers go
 * by runs SLOW_CLOCK times slower than that of everybody else.  Every timer, deadline and heartbeat of the
 * program is late by so much; the time of day, and with it certificates and time stamps, stays right.
 * conftest.py preloads it into everything where TEST_SLOW_CLOCK is set.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define SECOND 1000000000LL

static long long start_ns;
static double factor = 1;

static long long ns_of(const struct timespec *t)
{
	return t->tv_sec * SECOND + t->tv_nsec;
}

static void set_ns(struct timespec *t, long long ns)
{
	t->tv_sec = ns / SECOND;
	t->tv_nsec = ns % SECOND;
}

static int real_time(clockid_t id, struct timespec *t)
{
	static int (*real)(clockid_t, struct timespec *);

	if (!real)
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	return real(id, t);
}

__attribute__((constructor)) static void begin(void)
{
	const char *text = getenv("SLOW_CLOCK");
	struct timespec now;

	real_time(CLOCK_MONOTONIC, &now);
	start_ns = ns_of(&now);
	factor = text ? strtod(text, NULL) : 1;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	int rc = real_time(id, t);

	if (rc == 0 && id == CLOCK_MONOTONIC && start_ns)
		set_ns(t, start_ns + (long long)((double)(ns_of(t) - start_ns) / factor));
	return rc;
}

/* The program's condition variables wait by CLOCK_MONOTONIC, and the kernel by its own. */
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
	int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *) =
		(int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))dlsym(
			RTLD_NEXT, "pthread_cond_timedwait");
	struct timespec then;

	set_ns(&then, start_ns + (long long)((double)(ns_of(until) - start_ns) * factor));
	return real(cond, mutex, &then);
}
