/* SPDX-License-Identifier: MIT */
/*
 * set_clock - a clock that is set: clock_gettime(), gettimeofday() and time() of the whole process, plugins
 * and libraries included, since the program's own functions of these names stand before those of the C
 * library. CPU clocks stay as they are.  Any thread may read; one thread sets.
 */
#pragma once
#include <stdint.h>

/* All clocks stand from now on, the wall clock at that time, in ns since 1970. */
void set_clock_stop(uint64_t wall_ns);
/* Put all clocks forward. */
void set_clock_advance(uint64_t ns);
/* All clocks go again, from where they stand. */
void set_clock_go(void);
/* CLOCK_MONOTONIC as the kernel has it, ns. */
uint64_t set_clock_real(void);
