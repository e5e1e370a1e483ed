/* SPDX-License-Identifier: MIT */
/* ws_retry - when a server that is too busy asks to come again (RFC 9110, 10.2.3).  Pure. */
#pragma once
#include <stdint.h>
#include <time.h>

enum {
	WS_RETRY_TEXT = 48 /* bytes of a field that says something, NUL included */
};

/* Seconds that a Retry-After asks to wait, at most a day: a number, or a date, of which the server's own Date
 * is taken off (our clock may be another), or now if that is NULL or none.  0: none, or it is in the past. */
uint64_t ws_retry_seconds(const char *retry_after, const char *date, time_t now);
