/* SPDX-License-Identifier: MIT */
/* clock - the two clocks the host reads.  Any thread. */
#pragma once
#include <stdint.h>
#include <time.h>

static inline uint64_t clock_read_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* CLOCK_MONOTONIC, ns. */
static inline uint64_t clock_now(void)
{
	return clock_read_ns(CLOCK_MONOTONIC);
}

/* CLOCK_MONOTONIC as of the last tick of the kernel, a few ms ago: for a fraction of the cost. */
static inline uint64_t clock_coarse(void)
{
	return clock_read_ns(CLOCK_MONOTONIC_COARSE);
}

/* CLOCK_REALTIME, ns. */
static inline uint64_t clock_wall(void)
{
	return clock_read_ns(CLOCK_REALTIME);
}
