/* SPDX-License-Identifier: MIT */
/* units - see units.h.  Durations and sizes are read by the code that plugins have of the SDK. */
#include <semstreams/base/units.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <semstreams/sugar.h>

static const struct ss_unit time_units[] = {
	/* falling */
	{"d", 86400000000000}, {"h", 3600000000000}, {"m", 60000000000}, {"s", 1000000000},
	{"ms", 1000000},       {"us", 1000},         {"ns", 1},
};
static const struct ss_unit size_units[] = {
	{"TiB", INT64_C(1) << 40}, {"TB", 1000000000000}, {"GiB", 1 << 30},
	{"GB", 1000000000},        {"MiB", 1 << 20},      {"MB", 1000000},
	{"KiB", 1 << 10},          {"kB", 1000},          {"B", 1},
};
#define N_TIME_UNITS (sizeof time_units / sizeof time_units[0])
#define N_SIZE_UNITS (sizeof size_units / sizeof size_units[0])

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

int parse_duration(const char *text, int64_t *ns)
{
	return ss_parse_duration(text, ns);
}

int parse_size(const char *text, int64_t *bytes)
{
	return ss_parse_size(text, bytes);
}

int parse_integer(const char *text, int64_t *out)
{
	bool minus = *text == '-';
	const char *p = text + minus;
	int64_t value = 0;
	bool overflow = false;

	if (!digit(*p) || (*p == '0' && digit(p[1])))
		return -EINVAL;
	for (; digit(*p); p++) {
		int d = *p - '0';
		overflow |= __builtin_mul_overflow(value, 10, &value) ||
			    __builtin_add_overflow(value, minus ? -d : d, &value);
	}
	if (*p)
		return -EINVAL;
	if (overflow)
		return -ERANGE;
	*out = value;
	return 0;
}

/* The first of the units that gives the fewest characters. */
static const char *format_units(int64_t value, const struct ss_unit *units, size_t n, char *buf, size_t size)
{
	char best[32] = "", next[32];
	for (size_t i = 0; i < n; i++) {
		if (value % units[i].factor)
			continue;
		int len =
			snprintf(next, sizeof next, "%" PRId64 "%s", value / units[i].factor, units[i].name);
		if (!*best || (size_t)len < strlen(best))
			memcpy(best, next, sizeof best);
	}
	snprintf(buf, size, "%s", best);
	return buf;
}

const char *format_duration(int64_t ns, char *buf, size_t size)
{
	if (ns == 0) {
		snprintf(buf, size, "0s");
		return buf;
	}
	return format_units(ns, time_units, N_TIME_UNITS, buf, size);
}

const char *format_size(int64_t bytes, char *buf, size_t size)
{
	if (bytes > -1000 && bytes < 1000) {
		snprintf(buf, size, "%" PRId64, bytes);
		return buf;
	}
	return format_units(bytes, size_units, N_SIZE_UNITS, buf, size);
}
