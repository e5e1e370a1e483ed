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
