/* SPDX-License-Identifier: MIT */
/* moment - see moment.h. */
#include "moment.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND INT64_C(1000000000)

const char *const moment_formats[] = {"rfc3339", "s", "ms", "us", "ns", NULL};

/* Days since 1970-01-01 of a date of the Gregorian calendar, and back (Howard Hinnant's "chrono-compatible
 * low-level date algorithms"). */
static int64_t days_of(int64_t y, unsigned m, unsigned d)
{
	y -= m <= 2;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	unsigned of_era = (unsigned)(y - era * 400);
	unsigned of_year = (153 * (m + (m > 2 ? -3u : 9u)) + 2) / 5 + d - 1;
	return era * 146097 + (int64_t)(of_era * 365 + of_era / 4 - of_era / 100 + of_year) - 719468;
}

static void date_of(int64_t days, int *y, unsigned *m, unsigned *d)
{
	days += 719468;
	int64_t era = (days >= 0 ? days : days - 146096) / 146097;
	unsigned of_era = (unsigned)(days - era * 146097);
	unsigned year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	unsigned of_year = of_era - (365 * year + year / 4 - year / 100), p = (5 * of_year + 2) / 153;

	*d = of_year - (153 * p + 2) / 5 + 1;
	*m = p < 10 ? p + 3 : p - 9;
	*y = (int)(year + era * 400 + (*m <= 2));
}

/* ---- reading ---- */

struct cursor {
	const char *at, *end;
};

static bool digits(struct cursor *c, int n, unsigned *out)
{
	if (c->end - c->at < n)
		return false;
	*out = 0;
	for (; n; n--, c->at++) {
		if (*c->at < '0' || *c->at > '9')
			return false;
		*out = *out * 10 + (unsigned)(*c->at - '0');
	}
	return true;
}

static bool sign(struct cursor *c, const char *any, char *found)
{
	if (c->at == c->end || !strchr(any, *c->at) || !*c->at)
		return false;
	*found = *c->at++;
	return true;
}

/* Digits behind a point as a fraction of scale, which is a power of ten; what is finer is cut. */
static int64_t fraction(struct cursor *c, int64_t scale)
{
	int64_t sum = 0;

	for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
		scale /= 10;
		sum += scale * (*c->at - '0');
	}
	return sum;
}

static unsigned days_in(unsigned year, unsigned month)
{
	static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month == 2 && leap ? 29 : days[month - 1];
}

static bool read_offset(struct cursor *c, int64_t *seconds)
{
	unsigned hours, minutes;
	char s;

	*seconds = 0;
	if (!sign(c, "Zz+-", &s))
		return false;
	if (s == 'Z' || s == 'z')
		return true;
	char colon;
	if (!digits(c, 2, &hours) || !sign(c, ":", &colon) || !digits(c, 2, &minutes) || hours > 23 ||
	    minutes > 59)
		return false;
	*seconds = ((int64_t)hours * 60 + minutes) * 60 * (s == '-' ? -1 : 1);
	return true;
}

static bool read_rfc3339(struct cursor c, int64_t *ns)
{
	unsigned year, month, day, hour, minute, second;
	int64_t part = 0, offset;
	char s;

	if (!digits(&c, 4, &year) || !sign(&c, "-", &s) || !digits(&c, 2, &month) || !sign(&c, "-", &s) ||
	    !digits(&c, 2, &day) || !sign(&c, "Tt ", &s) || !digits(&c, 2, &hour) || !sign(&c, ":", &s) ||
	    !digits(&c, 2, &minute) || !sign(&c, ":", &s) || !digits(&c, 2, &second))
		return false;
	if (c.at < c.end && *c.at == '.') {
		const char *point = c.at++;
		part = fraction(&c, SECOND);
		if (c.at == point + 1)
			return false;
	}
	if (!read_offset(&c, &offset) || c.at != c.end)
		return false;
	/* a leap second is the next second's first: what POSIX time does */
	if (year < 1678 || year > 2261 || month < 1 || month > 12 || day < 1 || day > days_in(year, month) ||
	    hour > 23 || minute > 59 || second > 60)
		return false;
	int64_t seconds =
		days_of(year, month, day) * 86400 + (int64_t)hour * 3600 + minute * 60 + second - offset;
	*ns = seconds * SECOND + part;
	return true;
}

/* [-]digits[.digits][e...] units of unit ns each. */
static bool read_number(const struct cursor *whole, int64_t unit, int64_t *ns)
{
	const int64_t limit = INT64_C(9214646400); /* 2262-01-01, s */
	struct cursor c = *whole;
	bool negative = c.at < c.end && *c.at == '-';
	uint64_t units = 0;

	c.at += negative;
	const char *first = c.at;
	for (; c.at < c.end && *c.at >= '0' && *c.at <= '9' && units < UINT64_MAX / 16; c.at++)
		units = units * 10 + (uint64_t)(*c.at - '0');
	if (c.at == first || units > (uint64_t)(limit * (SECOND / unit)))
		return false;
	int64_t sum = (int64_t)units * unit;
	if (c.at < c.end && *c.at == '.') {
		c.at++;
		sum += fraction(&c, unit);
	}
	if (c.at < c.end &&
	    (*c.at == 'e' || *c.at == 'E')) { /* nobody writes a moment so that wants it to the ns */
		char text[64], *end;
		size_t len = (size_t)(whole->end - whole->at);
		if (len >= sizeof text)
			return false;
		memcpy(text, whole->at, len);
		text[len] = '\0';
		double d = strtod(text, &end) * (double)unit;
		if (*end || !(fabs(d) < 9.2e18))
			return false;
		*ns = (int64_t)d;
		return true;
	}
	*ns = negative ? -sum : sum;
	return c.at == c.end;
}

bool moment_read(const struct ss_field *f, enum moment_format format, int64_t *ns)
{
	static const int64_t units[] = {
		[MOMENT_S] = SECOND, [MOMENT_MS] = 1000000, [MOMENT_US] = 1000, [MOMENT_NS] = 1};
	struct cursor c = {f->text, f->text + f->len};

	if (f->type != SS_JSON_STRING && f->type != SS_JSON_NUMBER)
		return false;
	if (format != MOMENT_RFC3339)
		return read_number(&c, units[format], ns);
	return f->type == SS_JSON_STRING && read_rfc3339(c, ns);
}

/* ---- printing ---- */

size_t moment_print(char to[MOMENT_TEXT], int64_t ns)
{
	int64_t part = ns % SECOND, seconds = ns / SECOND;
	if (part < 0) {
		part += SECOND;
		seconds--;
	}
	int64_t of_day = seconds % 86400, days = seconds / 86400;
	if (of_day < 0) {
		of_day += 86400;
		days--;
	}
	int year;
	unsigned month, day;
	date_of(days, &year, &month, &day);
	int n = snprintf(to, MOMENT_TEXT, "%04d-%02u-%02uT%02d:%02d:%02d", year, month, day,
			 (int)(of_day / 3600), (int)(of_day / 60 % 60), (int)(of_day % 60));
	if (part % 1000)
		n += snprintf(to + n, MOMENT_TEXT - (size_t)n, ".%09d", (int)part);
	else if (part % 1000000)
		n += snprintf(to + n, MOMENT_TEXT - (size_t)n, ".%06d", (int)(part / 1000));
	else if (part)
		n += snprintf(to + n, MOMENT_TEXT - (size_t)n, ".%03d", (int)(part / 1000000));
	to[n++] = 'Z';
	to[n] = '\0';
	return (size_t)n;
}
