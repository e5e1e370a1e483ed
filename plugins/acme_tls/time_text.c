/* SPDX-License-Identifier: MIT */
/* time_text - times and durations as the log and people read them.  Pure. */
#include "time_text.h"

#include <inttypes.h>
#include <stdio.h>

struct scale {
	int64_t from, high, low;
	const char *high_unit, *low_unit;
};

static struct time_text show(int64_t seconds, const struct scale *scales, size_t n)
{
	struct time_text t = {"0s"};
	for (size_t i = 0; i < n; i++) {
		if (seconds < scales[i].from)
			continue;
		int64_t high = seconds / scales[i].high, low = seconds % scales[i].high / scales[i].low;
		if (low)
			snprintf(t.s, sizeof t.s, "%" PRId64 "%s%" PRId64 "%s", high, scales[i].high_unit,
				 low, scales[i].low_unit);
		else
			snprintf(t.s, sizeof t.s, "%" PRId64 "%s", high, scales[i].high_unit);
		return t;
	}
	return t;
}

static const struct scale scales[] = {
	{172800, 86400, 3600, "d", "h"},
	{3600, 3600, 60, "h", "m"},
	{60, 60, 1, "m", "s"},
	{1, 1, 1, "s", ""},
};
#define N_SCALES (sizeof scales / sizeof *scales)

struct time_text duration_text(int64_t seconds)
{
	return show(seconds, scales + 1, N_SCALES - 1);
}

struct time_text span_text(int64_t seconds)
{
	return show(seconds, scales, N_SCALES);
}

struct time_text time_text(int64_t at)
{
	struct time_text t = {"never"};
	time_t when = (time_t)at;
	struct tm tm;
	if (at != 0 && gmtime_r(&when, &tm))
		strftime(t.s, sizeof t.s, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return t;
}
