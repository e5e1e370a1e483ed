/* SPDX-License-Identifier: MIT */
#include "ws_retry.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define DAY 86400

/* The names of months and days are English whatever the locale, so strptime() is no help. */
static int month_of(const char *name)
{
	static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

	for (int i = 0; i < 12; i++)
		if (strncmp(names + 3 * i, name, 3) == 0)
			return i;
	return -1;
}

/* The three forms of RFC 9110, 5.6.7; fields have no sign, and nothing may follow. */
static bool read_fields(const char *text, struct tm *tm, char month[4])
{
	static const char *const forms[] = {"%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n",
					    "%*9[A-Za-z], %2d-%3[A-Za-z]-%2d %2d:%2d:%2d GMT%n"};
	int end = 0;

	for (int i = 0; i < 2; i++) {
		if (sscanf(text, forms[i], &tm->tm_mday, month, &tm->tm_year, &tm->tm_hour, &tm->tm_min,
			   &tm->tm_sec, &end) == 6 &&
		    end && !text[end]) {
			tm->tm_year += i == 0 ? -1900 : tm->tm_year < 70 ? 100 : 0;
			return true;
		}
	}
	if (sscanf(text, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d%n", month, &tm->tm_mday, &tm->tm_hour,
		   &tm->tm_min, &tm->tm_sec, &tm->tm_year, &end) != 6 ||
	    !end || text[end])
		return false;
	tm->tm_year -= 1900;
	return true;
}

static bool read_date(const char *text, time_t *when)
{
	struct tm tm = {0};
	char month[4] = "";

	if (strpbrk(text, "+\t\r\n") || strstr(text, " -") || strstr(text, ":-") ||
	    !read_fields(text, &tm, month))
		return false;
	tm.tm_mon = month_of(month);
	if (tm.tm_mon < 0 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour < 0 || tm.tm_hour > 23 ||
	    tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60 || tm.tm_year < 70)
		return false;
	*when = timegm(&tm);
	return true;
}

uint64_t ws_retry_seconds(const char *retry_after, const char *date, time_t now)
{
	time_t then, base = now;

	if (retry_after[0] && !retry_after[strspn(retry_after, "0123456789")]) {
		uint64_t seconds = 0;
		for (const char *p = retry_after; *p && seconds < DAY; p++)
			seconds = 10 * seconds + (uint64_t)(*p - '0');
		return seconds < DAY ? seconds : DAY;
	}
	if (!read_date(retry_after, &then))
		return 0;
	if (date)
		(void)read_date(date, &base);
	return then <= base ? 0 : then - base < DAY ? (uint64_t)(then - base) : DAY;
}
