/* SPDX-License-Identifier: MIT */
/* units - durations, sizes and integers as people write them.  Pure. */
#include "core/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct unit {
	const char *name;
	int64_t factor;
};

static const struct unit time_units[] = {
	/* falling */
	{"d", 86400000000000}, {"h", 3600000000000}, {"m", 60000000000}, {"s", 1000000000},
	{"ms", 1000000},       {"us", 1000},         {"ns", 1},
};
static const struct unit size_units[] = {
	{"TiB", INT64_C(1) << 40}, {"TB", 1000000000000}, {"GiB", 1 << 30},
	{"GB", 1000000000},        {"MiB", 1 << 20},      {"MB", 1000000},
	{"KiB", 1 << 10},          {"kB", 1000},          {"B", 1},
};
#define N_TIME_UNITS (sizeof time_units / sizeof time_units[0])
#define N_SIZE_UNITS (sizeof size_units / sizeof size_units[0])

/* 12 digits behind the point reach below a nanosecond of a day; more are not exact anyway. */
#define FRACTION_DIGITS 12

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

struct number {
	int64_t whole;
	int64_t fraction, scale; /* fraction / scale */
	bool overflow;
};

/* digits [ "." digits ]; moves *at behind it.  0 or -EINVAL. */
static int scan_number(const char **at, struct number *out)
{
	const char *p = *at;
	struct number n = {.scale = 1};

	if (!digit(*p))
		return -EINVAL;
	for (; digit(*p); p++)
		n.overflow |= __builtin_mul_overflow(n.whole, 10, &n.whole) ||
			      __builtin_add_overflow(n.whole, *p - '0', &n.whole);
	if (*p == '.') {
		const char *first = ++p;
		for (; digit(*p); p++) {
			if (p - first >= FRACTION_DIGITS)
				return -EINVAL;
			n.fraction = 10 * n.fraction + (*p - '0');
			n.scale *= 10;
		}
		if (p == first)
			return -EINVAL;
	}
	*at = p;
	*out = n;
	return 0;
}

/* n units.  0, -EINVAL if that is not a whole number, -ERANGE. */
static int multiply(const struct number *n, int64_t factor, int64_t *out)
{
	__extension__ typedef unsigned __int128 u128;
	u128 part = (u128)n->fraction * (u128)factor;
	int64_t whole;

	if (part % (u128)n->scale)
		return -EINVAL;
	if (n->overflow || __builtin_mul_overflow(n->whole, factor, &whole) ||
	    __builtin_add_overflow(whole, (int64_t)(part / (u128)n->scale), out))
		return -ERANGE;
	return 0;
}

static const struct unit *scan_unit(const char **at, const struct unit *units, size_t n)
{
	size_t len = 0;
	while (((*at)[len] | 0x20) >= 'a' && ((*at)[len] | 0x20) <= 'z')
		len++;
	for (size_t i = 0; i < n; i++)
		if (strlen(units[i].name) == len && memcmp(units[i].name, *at, len) == 0) {
			*at += len;
			return &units[i];
		}
	return NULL;
}

int parse_duration(const char *text, int64_t *ns)
{
	const struct unit *last = NULL;
	int64_t sum = 0;
	bool too_long = false;

	if (strcmp(text, "0") == 0) {
		*ns = 0;
		return 0;
	}
	do {
		struct number n;
		if (scan_number(&text, &n))
			return -EINVAL;
		const struct unit *unit = scan_unit(&text, time_units, N_TIME_UNITS);
		if (!unit || (last && unit <= last))
			return -EINVAL;
		last = unit;
		int64_t part = 0;
		int r = multiply(&n, unit->factor, &part);
		if (r == -EINVAL)
			return r;
		too_long |= r == -ERANGE || __builtin_add_overflow(sum, part, &sum);
	} while (*text);
	if (too_long)
		return -ERANGE;
	*ns = sum;
	return 0;
}

int parse_size(const char *text, int64_t *bytes)
{
	struct number n;
	int64_t value, factor = 1;

	if (scan_number(&text, &n))
		return -EINVAL;
	if (*text) {
		const struct unit *unit = scan_unit(&text, size_units, N_SIZE_UNITS);
		if (!unit || *text)
			return -EINVAL;
		factor = unit->factor;
	}
	int r = multiply(&n, factor, &value);
	if (r)
		return r;
	*bytes = value;
	return 0;
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
static const char *format_units(int64_t value, const struct unit *units, size_t n, char *buf, size_t size)
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
