/* SPDX-License-Identifier: MIT */
/* timestamp - see timestamp.h. */
#include "timestamp.h"

#include <string.h>
#include <semstreams/ext/fields.h>

#define SECOND INT64_C(1000000000)

const char *const timestamp_formats[] = {"rfc3339", "s", "ms", "us", "ns", NULL};

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
	if (year < 1684 || year > 2255 || month < 1 || month > 12 || day < 1 || day > days_in(year, month) ||
	    hour > 23 || minute > 59 || second > 60)
		return false;
	int64_t seconds =
		days_of(year, month, day) * 86400 + (int64_t)hour * 3600 + minute * 60 + second - offset;
	*ns = seconds * SECOND + part;
	return true;
}

/* [-]digits[.digits][e[+-]digits]; where its parts are. */
struct decimal {
	bool negative;
	const char *whole, *fraction;
	int n_whole, n_fraction, exponent;
};

static int run_of_digits(struct cursor *c)
{
	const char *first = c->at;

	while (c->at < c->end && *c->at >= '0' && *c->at <= '9' && c->at - first < 100000)
		c->at++;
	return (int)(c->at - first);
}

static bool read_decimal(struct cursor c, struct decimal *d)
{
	char s = '+';

	*d = (struct decimal){.negative = sign(&c, "-", &s), .whole = c.at};
	d->n_whole = run_of_digits(&c);
	if (d->n_whole && sign(&c, ".", &s)) {
		d->fraction = c.at;
		d->n_fraction = run_of_digits(&c);
		if (!d->n_fraction)
			return false;
	}
	if (d->n_whole && sign(&c, "eE", &s)) {
		s = '+';
		sign(&c, "+-", &s);
		const char *digit = c.at;
		if (!run_of_digits(&c))
			return false;
		for (; digit < c.at; digit++)
			d->exponent = d->exponent < 100000 ? 10 * d->exponent + (*digit - '0') : 1000000;
		d->exponent = s == '-' ? -d->exponent : d->exponent;
	}
	return d->n_whole && c.at == c.end;
}

/* Units of 10^power ns; what is finer than 1 ns is cut. */
static bool read_number(const struct cursor *c, int power, int64_t *ns)
{
	struct decimal d;
	int64_t sum = 0;

	if (!read_decimal(*c, &d))
		return false;
	int digits = d.n_whole + d.exponent + power, all = d.n_whole + d.n_fraction;
	for (int i = 0; i < digits; i++) {
		int digit = i < d.n_whole ? d.whole[i] - '0' : i < all ? d.fraction[i - d.n_whole] - '0' : 0;
		if (sum == 0 && i >= all)
			break; /* 0e99 */
		if (sum > TIMESTAMP_MAX / 10)
			return false;
		sum = 10 * sum + digit;
	}
	*ns = d.negative ? -sum : sum;
	return true;
}

bool timestamp_read(const struct ss_field *f, enum timestamp_format format, int64_t *ns)
{
	static const int powers[] = {
		[TIMESTAMP_S] = 9, [TIMESTAMP_MS] = 6, [TIMESTAMP_US] = 3, [TIMESTAMP_NS] = 0};
	struct cursor c = {f->text, f->text + f->len};
	bool text = f->type == SS_JSON_STRING;

	if (!text && (f->type != SS_JSON_NUMBER || format == TIMESTAMP_RFC3339))
		return false;
	if (format == TIMESTAMP_RFC3339 ? !read_rfc3339(c, ns) : !read_number(&c, powers[format], ns))
		return false;
	return timestamp_in_range(*ns);
}

/* ---- printing ---- */

static char *put_digits(char *to, int n, unsigned value)
{
	for (int i = n - 1; i >= 0; i--, value /= 10)
		to[i] = (char)('0' + value % 10);
	return to + n;
}

size_t timestamp_print(char to[TIMESTAMP_TEXT], int64_t ns)
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
	char *p = to;
	date_of(days, &year, &month, &day);
	const struct {
		char before;
		int digits;
		unsigned value;
	} parts[] = {{0, 4, (unsigned)year},
		     {'-', 2, month},
		     {'-', 2, day},
		     {'T', 2, (unsigned)(of_day / 3600)},
		     {':', 2, (unsigned)(of_day / 60 % 60)},
		     {':', 2, (unsigned)(of_day % 60)}};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		if (parts[i].before)
			*p++ = parts[i].before;
		p = put_digits(p, parts[i].digits, parts[i].value);
	}
	if (part) {
		*p++ = '.';
		p = part % 1000      ? put_digits(p, 9, (unsigned)part)
		    : part % 1000000 ? put_digits(p, 6, (unsigned)(part / 1000))
				     : put_digits(p, 3, (unsigned)(part / 1000000));
	}
	*p++ = 'Z';
	*p = '\0';
	return (size_t)(p - to);
}
