/* SPDX-License-Identifier: MIT */
/* closes - one metric row for each close code that means something here; a peer cannot add any. */
#pragma once
#include <stdint.h>
#include <semstreams/plugin.h>

#define CLOSE_CODES(X)                                                                                       \
	X(1000)                                                                                              \
	X(1001)                                                                                              \
	X(1002) X(1003) X(1006) X(1007) X(1008) X(1009) X(1011) X(1013) X(4400) X(4401) X(4402) X(4403)      \
		X(4409) X(4413)

#define CLOSE_METRIC(text)                                                                                   \
	{                                                                                                    \
		.name = "semstreams_ws_close_total", .help = "Connections closed, by close code.",           \
		.label = "code=\"" text "\"", .kind = SS_METRIC_COUNTER                                      \
	}
#define CLOSE_ROW(code) CLOSE_METRIC(#code),
/* Rows for a metric table, at its end. */
#define CLOSE_METRICS CLOSE_CODES(CLOSE_ROW) CLOSE_METRIC("other")

/* Row of a code, counted from the first of CLOSE_METRICS. */
static inline uint32_t close_row(int code)
{
#define CLOSE_NUMBER(c) c,
	static const int codes[] = {CLOSE_CODES(CLOSE_NUMBER)};
	const uint32_t n = sizeof codes / sizeof codes[0];
	uint32_t i = 0;

	while (i < n && codes[i] != code)
		i++;
	return i;
}
