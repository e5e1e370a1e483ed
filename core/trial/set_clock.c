/* SPDX-License-Identifier: MIT */
#include "core/trial/set_clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000u

/* What is added to the kernel's clocks; while they stand, to what they were when they were stopped. */
static struct {
	_Atomic uint64_t wall, monotonic; /* ns; modulo 2^64, so that they may be negative */
	_Atomic uint64_t stopped_at;      /* CLOCK_MONOTONIC of the kernel; 0: they go */
	_Atomic uint64_t wall_at;         /* CLOCK_REALTIME of the kernel at that time */
} set;

static uint64_t kernel(clockid_t id)
{
	struct timespec t = {0};

	syscall(SYS_clock_gettime, id, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

uint64_t set_clock_real(void)
{
	return kernel(CLOCK_MONOTONIC);
}

static uint64_t wall(void)
{
	uint64_t at = atomic_load(&set.stopped_at) ? atomic_load(&set.wall_at) : kernel(CLOCK_REALTIME);

	return at + atomic_load(&set.wall);
}

static uint64_t monotonic(void)
{
	uint64_t stopped = atomic_load(&set.stopped_at);

	return (stopped ? stopped : kernel(CLOCK_MONOTONIC)) + atomic_load(&set.monotonic);
}

void set_clock_stop(uint64_t wall_ns)
{
	atomic_store(&set.wall_at, kernel(CLOCK_REALTIME));
	atomic_store(&set.stopped_at, kernel(CLOCK_MONOTONIC));
	atomic_store(&set.wall, wall_ns - atomic_load(&set.wall_at));
}

void set_clock_advance(uint64_t ns)
{
	atomic_fetch_add(&set.wall, ns);
	atomic_fetch_add(&set.monotonic, ns);
}

void set_clock_go(void)
{
	uint64_t stopped = atomic_load(&set.stopped_at);

	if (!stopped)
		return;
	atomic_fetch_sub(&set.monotonic, kernel(CLOCK_MONOTONIC) - stopped);
	atomic_fetch_sub(&set.wall, kernel(CLOCK_REALTIME) - atomic_load(&set.wall_at));
	atomic_store(&set.stopped_at, 0);
}

/* ---- instead of the C library's ---- */

#define INSTEAD __attribute__((visibility("default")))

static bool is_set(clockid_t id, uint64_t *ns)
{
	switch (id) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
	case CLOCK_TAI:
		*ns = wall();
		return true;
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_COARSE:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_BOOTTIME:
		*ns = monotonic();
		return true;
	default:
		return false;
	}
}

INSTEAD int clock_gettime(clockid_t id, struct timespec *t)
{
	uint64_t ns;

	if (!is_set(id, &ns))
		return (int)syscall(SYS_clock_gettime, id, t);
	*t = (struct timespec){.tv_sec = (time_t)(ns / SECOND), .tv_nsec = (long)(ns % SECOND)};
	return 0;
}

INSTEAD int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
	uint64_t ns = wall();

	(void)zone;
	*t = (struct timeval){.tv_sec = (time_t)(ns / SECOND), .tv_usec = (suseconds_t)(ns % SECOND / 1000)};
	return 0;
}

INSTEAD time_t time(time_t *t)
{
	time_t now = (time_t)(wall() / SECOND);

	if (t)
		*t = now;
	return now;
}
