/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/decimal.h - numbers as they are written, of any length, without rounding.  The text is a
 * number by the grammar of JSON; any thread, nothing is allocated.  Tags and rules are those of
 * semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_DECIMAL_H
#define SEMSTREAMS_BASE_DECIMAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A number taken apart: d.ddd * 10^exponent, its digits in the text. */
struct ss_decimal {
	const char *first, *last; /* in the text, valid as long as that: digits that are not 0; NULL: the
				     number is 0, and not negative */
	int64_t exponent;         /* of the first */
	bool negative;            /* below 0 */
};

/* [any] Take a number apart; it points into text. */
void ss_decimal_read(const char *text, size_t len, struct ss_decimal *);
/* [any] -1, 0, 1; exact. */
int ss_decimal_compare(const struct ss_decimal *, const struct ss_decimal *);
/* [any] The digits from first to last without a point, into size bytes.  How many; 0: there are more. */
size_t ss_decimal_digits(const struct ss_decimal *, char *digits, size_t size);

#ifdef __cplusplus
}
#endif
#endif
