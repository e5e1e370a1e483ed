/* SPDX-License-Identifier: MIT */
/* time_text - times and durations, in seconds, as the log and people read them.  Pure, but for the clocks. */
#pragma once
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <semstreams/base/units.h>

struct time_text {
	char s[40];
};

/* For people, the two largest units: "89d23h"; "0s" for what has passed. */
static inline struct time_text span_text(int64_t seconds)
{
	const int64_t second = 1000000000;
	struct time_text t;
	ss_format_span(seconds < INT64_MAX / second ? seconds * second : INT64_MAX, t.s, sizeof t.s);
	return t;
}
/* The same without days, for the log: "7h45m", "16h", "30s", "2159h". */
static inline struct time_text duration_text(int64_t seconds)
{
	struct time_text t = span_text(seconds);
	int64_t minutes = seconds % 3600 / 60;
	if (seconds >= 86400 && minutes)
		snprintf(t.s, sizeof t.s, "%" PRId64 "h%" PRId64 "m", seconds / 3600, minutes);
	else if (seconds >= 86400)
		snprintf(t.s, sizeof t.s, "%" PRId64 "h", seconds / 3600);
	return t;
}
/* "2025-11-16T10:00:00Z"; "never" for 0. */
static inline struct time_text time_text(int64_t at)
{
	struct time_text t;
	if (at == 0 || !*ss_format_time(at, t.s, sizeof t.s))
		snprintf(t.s, sizeof t.s, "never");
	return t;
}

static inline int64_t wall_now(void)
{
	return (int64_t)time(NULL);
}

static inline uint64_t monotonic_now(void) /* ns */
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
