/* SPDX-License-Identifier: MIT */
#include <semstreams/base/units.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

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
	{"TiB", INT64_C(1) << 40},
	{"TB", 1000000000000},
	{"GiB", 1 << 30},
	{"GB", 1000000000},
	{"MiB", 1 << 20},
	{"MB", 1000000},
	{"KiB", 1 << 10},
	{"kB", 1000},
	{"B", 1},
	{"", 1},
};
#define N_TIME_UNITS (sizeof time_units / sizeof time_units[0])
#define N_SIZE_UNITS (sizeof size_units / sizeof size_units[0])

enum { FRACTION_DIGITS = 12 }; /* of a day they reach below a nanosecond */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* ---- parsing ---- */

/* Digits behind a point as numerator / denominator in lowest terms. */
static int parse_fraction(const char **text, int64_t *numerator, int64_t *denominator)
{
	const char *p = *text;
	int64_t a = 0, b = 1;

	for (; is_digit(*p); p++) {
		if (p - *text == FRACTION_DIGITS)
			return -EINVAL;
		a = 10 * a + (*p - '0');
		b *= 10;
	}
	if (p == *text)
		return -EINVAL;
	int64_t common = b;
	for (int64_t rest = a; rest;) {
		int64_t next = common % rest;
		common = rest;
		rest = next;
	}
	*text = p;
	*numerator = a / common;
	*denominator = b / common;
	return 0;
}

/* digits [ "." digits ] unit, in all a whole number; moves *text behind it. */
static int parse_amount(const char **text, const struct unit *units, size_t n, size_t *unit, int64_t *out)
{
	const char *p = *text;
	int64_t whole = 0, numerator = 0, denominator = 1;
	bool overflow = false;
	size_t len = 0, i = 0;

	if (!is_digit(*p))
		return -EINVAL;
	for (; is_digit(*p); p++)
		overflow |= __builtin_mul_overflow(whole, 10, &whole) ||
			    __builtin_add_overflow(whole, *p - '0', &whole);
	if (*p == '.' && (p++, parse_fraction(&p, &numerator, &denominator)) < 0)
		return -EINVAL;
	while ((p[len] | 0x20) >= 'a' && (p[len] | 0x20) <= 'z')
		len++;
	while (i < n && (strlen(units[i].name) != len || memcmp(units[i].name, p, len) != 0))
		i++;
	if (i == n || units[i].factor % denominator)
		return -EINVAL;
	*text = p + len;
	*unit = i;
	if (overflow || __builtin_mul_overflow(whole, units[i].factor, &whole) ||
	    __builtin_add_overflow(whole, units[i].factor / denominator * numerator, &whole))
		return -ERANGE;
	*out = whole;
	return 0;
}

int ss_parse_duration(const char *text, int64_t *ns)
{
	size_t unit = 0, least = 0; /* units before it may not come any more */
	int64_t part = 0, sum = 0;
	bool too_long = false;

	if (strcmp(text, "0") == 0) {
		*ns = 0;
		return 0;
	}
	do {
		int rc = parse_amount(&text, time_units, N_TIME_UNITS, &unit, &part);
		if (rc == -EINVAL || unit < least)
			return -EINVAL;
		too_long |= rc == -ERANGE || __builtin_add_overflow(sum, part, &sum);
		least = unit + 1;
	} while (*text);
	if (too_long)
		return -ERANGE;
	*ns = sum;
	return 0;
}

int ss_parse_size(const char *text, int64_t *bytes)
{
	size_t unit = 0;
	int64_t value = 0;
	int rc = parse_amount(&text, size_units, N_SIZE_UNITS, &unit, &value);

	if (rc == -EINVAL || *text)
		return -EINVAL;
	if (rc == 0)
		*bytes = value;
	return rc;
}

int ss_parse_integer(const char *text, int64_t *out)
{
	bool minus = *text == '-';
	const char *p = text + minus;
	int64_t value = 0;
	bool overflow = false;

	if (!is_digit(*p) || (*p == '0' && is_digit(p[1])))
		return -EINVAL;
	for (; is_digit(*p); p++) {
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

/* ---- formatting ---- */

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

const char *ss_format_duration(int64_t ns, char *buf, size_t size)
{
	if (ns == 0) {
		snprintf(buf, size, "0s");
		return buf;
	}
	return format_units(ns, time_units, N_TIME_UNITS, buf, size);
}

const char *ss_format_size(int64_t bytes, char *buf, size_t size)
{
	if (bytes > -1000 && bytes < 1000) {
		snprintf(buf, size, "%" PRId64, bytes);
		return buf;
	}
	return format_units(bytes, size_units, N_SIZE_UNITS - 1, buf, size); /* always with a unit */
}

const char *ss_format_span(int64_t ns, char *buf, size_t size)
{
	size_t i = 0;

	if (ns < 1000000) {
		snprintf(buf, size, "0s");
		return buf;
	}
	while (ns < time_units[i].factor)
		i++;
	const struct unit *high = &time_units[i], *low = high + 1;
	int64_t rest = ns % high->factor / low->factor;
	int len = snprintf(buf, size, "%" PRId64 "%s", ns / high->factor, high->name);
	if (rest && high->factor > time_units[3].factor && (size_t)len < size)
		snprintf(buf + len, size - (size_t)len, "%" PRId64 "%s", rest, low->name);
	return buf;
}

const char *ss_format_about(uint64_t bytes, char *buf, size_t size)
{
	static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned unit = 0;

	while (unit < 6 && bytes >> 10 * unit >= 1000)
		unit++;
	uint64_t whole = bytes >> 10 * unit;
	unsigned rest = unit ? (unsigned)((bytes >> (10 * unit - 10) & 1023) * 100 / 1024) : 0;
	if (rest == 0 || whole >= 100)
		snprintf(buf, size, "%" PRIu64 "%s", whole, names[unit]);
	else if (whole >= 10)
		snprintf(buf, size, "%" PRIu64 ".%u%s", whole, rest / 10, names[unit]);
	else
		snprintf(buf, size, "%" PRIu64 ".%02u%s", whole, rest, names[unit]);
	return buf;
}

const char *ss_format_time(int64_t seconds, char *buf, size_t size)
{
	time_t when = (time_t)seconds;
	struct tm tm;

	if (size && (!gmtime_r(&when, &tm) || strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0))
		buf[0] = '\0';
	return buf;
}
