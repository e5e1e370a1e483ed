/* SPDX-License-Identifier: MIT */
/* time_text - times and durations as the log and people read them.  Pure, but for wall_now(). */
#pragma once
#include <stdint.h>
#include <time.h>

struct time_text {
	char s[40];
};

/* "7h45m", "16h", "30s", "2159h": the two largest units, cut, not rounded; "0s" for what has passed. */
struct time_text duration_text(int64_t seconds);
/* The same with days, for people: "89d23h". */
struct time_text span_text(int64_t seconds);
/* "2025-11-16T10:00:00Z"; "never" for 0. */
struct time_text time_text(int64_t t);

static inline int64_t wall_now(void)
{
	return (int64_t)time(NULL);
}
