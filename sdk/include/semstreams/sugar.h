/* SPDX-License-Identifier: MIT */
/*
 * semstreams/sugar.h - helpers for plugin authors.  Compiled into the plugin: source-level convenience, no
 * ABI, free to change.
 */
#ifndef SEMSTREAMS_SUGAR_H
#define SEMSTREAMS_SUGAR_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/loop.h>

#ifdef __cplusplus
extern "C" {
#endif

/* [any] printf to the log; lines are cut at 1 KiB. */
__attribute__((format(printf, 3, 4))) static inline void ss_log(const struct ss_host *host, int32_t level,
								const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	host->log(host, level, text);
}

/* [ctl] Report a configuration error; returns -EINVAL, so `return ss_config_error(...)` ends create(). */
__attribute__((format(printf, 3, 4))) static inline int32_t
ss_config_error(const struct ss_host *host, const char *pointer, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	host->config_error(host, pointer, text);
	return -EINVAL;
}

/* [inst] Emit the events of batch whose row numbers stand in rows[0..n), in that order; 0 or -ENOMEM. */
static inline int32_t ss_emit_rows(const struct ss_host *host, uint32_t port, struct ss_batch *batch,
				   const uint32_t *rows, uint32_t n)
{
	if (n == 0)
		return 0;
	if (n == batch->count) {
		host->emit(host, port, batch);
		return 0;
	}
	struct ss_batch *part = host->batch_new(host, batch, n, 0);
	if (!part)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		part->events[i] = batch->events[rows[i]];
	part->count = n;
	host->emit(host, port, part);
	host->batch_unref(part);
	return 0;
}

/* [inst] In start: batches may come up to ns late; see struct ss_loop. */
static inline void ss_set_max_delay(const struct ss_loop *loop, void *self, uint64_t ns)
{
	if (SS_KNOWS(loop, struct ss_loop, set_max_delay) && loop->set_max_delay)
		loop->set_max_delay(self, ns);
}

/*
 * [any] Durations and sizes as they stand in configurations, for those inside an SS_OPT_JSON option; the host
 * reads options of type SS_OPT_DURATION and SS_OPT_BYTES the same way.  0, -EINVAL, -ERANGE (over 2^63); *out
 * is set on success only.
 */
struct ss_unit {
	const char *name;
	int64_t factor;
};

/* digits [ "." digits ] unit, in all a whole number; moves *text behind it. */
static inline int32_t ss_parse_amount(const char **text, const struct ss_unit *units, size_t n_units,
				      size_t *unit, int64_t *out)
{
	__extension__ typedef unsigned __int128 wide;
	enum { FRACTION_DIGITS = 12 }; /* of a day they reach below a nanosecond */
	const char *p = *text;
	int64_t whole = 0, fraction = 0, scale = 1;
	size_t digits = 0, len = 0, i = 0;
	int overflow = *p < '0' || *p > '9';

	if (overflow)
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++)
		overflow |= __builtin_mul_overflow(whole, 10, &whole) ||
			    __builtin_add_overflow(whole, *p - '0', &whole);
	if (*p == '.') {
		for (p++; *p >= '0' && *p <= '9' && digits <= FRACTION_DIGITS; p++, digits++) {
			fraction = 10 * fraction + (*p - '0');
			scale *= 10;
		}
		if (digits == 0 || digits > FRACTION_DIGITS)
			return -EINVAL;
	}
	while ((p[len] | 0x20) >= 'a' && (p[len] | 0x20) <= 'z')
		len++;
	while (i < n_units && (strlen(units[i].name) != len || memcmp(units[i].name, p, len) != 0))
		i++;
	if (i == n_units)
		return -EINVAL;
	wide part = (wide)fraction * (wide)units[i].factor;
	if (part % (wide)scale)
		return -EINVAL;
	*text = p + len;
	*unit = i;
	if (overflow || __builtin_mul_overflow(whole, units[i].factor, &whole) ||
	    __builtin_add_overflow(whole, (int64_t)(part / (wide)scale), &whole))
		return -ERANGE;
	*out = whole;
	return 0;
}

/* "1h30m", "500ms", "2.5s", "7d", "0": units ns us ms s m h d in falling order, no sign, no blanks. */
static inline int32_t ss_parse_duration(const char *text, int64_t *ns)
{
	static const struct ss_unit units[] = {
		{"d", 86400000000000}, {"h", 3600000000000}, {"m", 60000000000}, {"s", 1000000000},
		{"ms", 1000000},       {"us", 1000},         {"ns", 1}};
	const size_t n = sizeof units / sizeof units[0];
	size_t unit = 0, least = 0; /* units before it may not come any more */
	int64_t part = 0, sum = 0;
	int too_long = 0;

	if (strcmp(text, "0") == 0) {
		*ns = 0;
		return 0;
	}
	do {
		int32_t r = ss_parse_amount(&text, units, n, &unit, &part);
		if (r == -EINVAL || unit < least)
			return -EINVAL;
		too_long |= r == -ERANGE || __builtin_add_overflow(sum, part, &sum);
		least = unit + 1;
	} while (*text);
	if (too_long)
		return -ERANGE;
	*ns = sum;
	return 0;
}

/* "64MiB", "10kB", "1.5GiB", "512": units B kB MB GB TB KiB MiB GiB TiB. */
static inline int32_t ss_parse_size(const char *text, int64_t *bytes)
{
	static const struct ss_unit units[] = {{"", 1},
					       {"B", 1},
					       {"kB", 1000},
					       {"MB", 1000000},
					       {"GB", 1000000000},
					       {"TB", 1000000000000},
					       {"KiB", INT64_C(1) << 10},
					       {"MiB", INT64_C(1) << 20},
					       {"GiB", INT64_C(1) << 30},
					       {"TiB", INT64_C(1) << 40}};
	size_t unit = 0;
	int64_t value = 0;
	int32_t r = ss_parse_amount(&text, units, sizeof units / sizeof units[0], &unit, &value);

	if (r == -EINVAL || *text)
		return -EINVAL;
	if (r == 0)
		*bytes = value;
	return r;
}

/* Rows of an option table: SS_OPT(struct conf, port, SS_OPT_INT, "14550", "UDP port to listen on", .min = 1,
 * .max = 65535) */
#define SS_OPT(conf, member, opt_type, def, text, ...)                                                       \
	{                                                                                                    \
		.key = #member, .default_text = def, .help = text, .type = opt_type,                         \
		.offset = (uint32_t)offsetof(conf, member), __VA_ARGS__                                      \
	}

#ifdef __cplusplus
}
#endif
#endif
