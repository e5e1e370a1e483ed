/* SPDX-License-Identifier: MIT */
/*
 * semstreams/sugar.h - helpers for plugin authors.  Compiled into the plugin: source-level convenience, no
 * ABI, free to change.  Tags and rules are those of semstreams/plugin.h.
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
 * Rows of an option table, in C and, from C++11 on, in C++:
 *	SS_OPT(struct conf, port, SS_OPT_INT, "14550", "UDP port to listen on.", SS_LIMITS(1, 65535))
 * Behind the help come any of SS_LIMITS(min, max), SS_FLAGS(flags), SS_CHOICES(list), SS_SCHEMA(text); in C
 * also members of struct ss_option by name, as .flags = SS_OPT_REQUIRED.  A member of the wrong type, such as
 * int for a number, does not compile.
 */
#ifdef __cplusplus
}

template <typename> struct ss_opt_kind_ {
	static const int value = 0;
};
template <> struct ss_opt_kind_<int64_t> {
	static const int value = 1;
};
template <> struct ss_opt_kind_<const char *> {
	static const int value = 2;
};
template <int kind, int type> constexpr uint32_t ss_opt_offset_(size_t offset)
{
	static_assert(kind == (type == SS_OPT_STRING || type == SS_OPT_JSON ? 2 : 1),
		      "the member of an option must be const char * (strings, JSON) or int64_t (all others)");
	return static_cast<uint32_t>(offset);
}
struct ss_opt_limits_ {
	int64_t min, max;
	constexpr ss_option in(const ss_option &o) const
	{
		return ss_option{o.key,   o.default_text, o.help,     o.choices, o.schema, o.type,
				 o.flags, o.offset,       o.reserved, min,       max};
	}
};
struct ss_opt_flags_ {
	uint32_t flags;
	constexpr ss_option in(const ss_option &o) const
	{
		return ss_option{o.key, o.default_text, o.help,     o.choices, o.schema, o.type,
				 flags, o.offset,       o.reserved, o.min,     o.max};
	}
};
struct ss_opt_choices_ {
	const char *const *choices;
	constexpr ss_option in(const ss_option &o) const
	{
		return ss_option{o.key,   o.default_text, o.help,     choices, o.schema, o.type,
				 o.flags, o.offset,       o.reserved, o.min,   o.max};
	}
};
struct ss_opt_schema_ {
	const char *schema;
	constexpr ss_option in(const ss_option &o) const
	{
		return ss_option{o.key,   o.default_text, o.help,     o.choices, schema, o.type,
				 o.flags, o.offset,       o.reserved, o.min,     o.max};
	}
};
constexpr ss_option ss_opt_with_(const ss_option &o)
{
	return o;
}
template <typename First, typename... Rest>
constexpr ss_option ss_opt_with_(const ss_option &o, First first, Rest... rest)
{
	return ss_opt_with_(first.in(o), rest...);
}
template <typename... Rest>
constexpr ss_option ss_opt_(const char *key, uint32_t type, const char *def, uint32_t offset,
			    const char *help, Rest... rest)
{
	return ss_opt_with_(ss_option{key, def, help, nullptr, nullptr, type, 0, offset, 0, 0, 0}, rest...);
}

#define SS_OPT_OFFSET(conf, member, opt_type)                                                                \
	(ss_opt_offset_<ss_opt_kind_<decltype(static_cast<conf *>(nullptr)->member)>::value, opt_type>(      \
		offsetof(conf, member)))
#define SS_OPT(conf, member, opt_type, def, ...)                                                             \
	(ss_opt_(#member, opt_type, def, SS_OPT_OFFSET(conf, member, opt_type), __VA_ARGS__))
#define SS_LIMITS(lowest, highest) (ss_opt_limits_{lowest, highest})
#define SS_FLAGS(bits)             (ss_opt_flags_{bits})
#define SS_CHOICES(list)           (ss_opt_choices_{list})
#define SS_SCHEMA(text)            (ss_opt_schema_{text})
#else
/* clang-format off */
/* Where a member of the conf struct lies; does not compile where its type is not that of the option. */
#define SS_OPT_OFFSET(conf, member, opt_type)                                                                \
	((uint32_t)(offsetof(conf, member) + 0 * sizeof(struct {                                              \
		_Static_assert(_Generic(((conf *)0)->member, int64_t: 1, const char *: 2, default: 0) ==      \
				       ((opt_type) == SS_OPT_STRING || (opt_type) == SS_OPT_JSON ? 2 : 1),   \
			       "the member of an option must be const char * (strings, JSON) or int64_t "    \
			       "(all others)");                                                              \
		char any;                                                                                     \
	})))
/* clang-format on */
/* A row for the option that is named as its member of the conf struct; def is its default, or NULL. */
#define SS_OPT(conf, member, opt_type, def, ...)                                                             \
	{                                                                                                    \
		.key = #member, .default_text = def, .type = opt_type,                                       \
		.offset = SS_OPT_OFFSET(conf, member, opt_type), .help = __VA_ARGS__                         \
	}
/* The least and the largest value, in the unit of the option's type. */
#define SS_LIMITS(lowest, highest) .min = (lowest), .max = (highest)
/* SS_OPT_REQUIRED and so on, combined by |. */
#define SS_FLAGS(bits)             .flags = (bits)
/* The words of an SS_OPT_ENUM, NULL-terminated. */
#define SS_CHOICES(list)           .choices = (list)
/* The JSON Schema of an SS_OPT_JSON. */
#define SS_SCHEMA(text)            .schema = (text)
#endif

#endif
