/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/units.h - durations, sizes, integers and times as people write and read them.  Pure
 * functions: any thread, nothing allocated.  The host reads options of type SS_OPT_DURATION, SS_OPT_BYTES and
 * SS_OPT_INT with the same functions.  Those that parse set their result on success only.  Tags and rules are
 * those of semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_UNITS_H
#define SEMSTREAMS_BASE_UNITS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How durations are written, for messages. */
#define SS_DURATION_FORM "like \"500ms\", \"1h30m\" or \"7d\" (units ns us ms s m h d)"
/* How sizes are written, for messages. */
#define SS_SIZE_FORM "like \"64MiB\" or 512 (units B kB MB GB TB KiB MiB GiB TiB)"

/*
 * [any] "1h30m", "500ms", "2.5s", "7d", "0" as nanoseconds: units ns us ms s m h d in falling order, no sign,
 * no blanks, exact to the nanosecond.  0; -EINVAL; -ERANGE: over 2^63 ns.
 */
int ss_parse_duration(const char *text, int64_t *ns);
/* [any] "64MiB", "10kB", "1.5GiB", "512" as bytes: units B kB MB GB TB KiB MiB GiB TiB, whole bytes.  0;
 * -EINVAL; -ERANGE: over 2^63. */
int ss_parse_size(const char *text, int64_t *bytes);
/* [any] "-7", "0", "14550": an integer as JSON has it.  0; -EINVAL; -ERANGE: does not fit. */
int ss_parse_integer(const char *text, int64_t *out);

/* [any] The shortest exact form with one unit, which ss_parse_duration() takes again ("90m", "2500ms"); cut
 * to size, 32 bytes are enough.  Returns buf. */
const char *ss_format_duration(int64_t ns, char *buf, size_t size);
/* [any] The same of a size, for ss_parse_size() ("64MiB").  Returns buf. */
const char *ss_format_size(int64_t bytes, char *buf, size_t size);
/* [any] For people, a duration in its two largest units, cut, not rounded: "89d23h", "7h45m", "30s"; under a
 * second "250ms", "0s".  24 bytes are enough.  Returns buf. */
const char *ss_format_span(int64_t ns, char *buf, size_t size);
/* [any] For people, a size of about three digits: "1.46GiB", "32KiB", "512B".  24 bytes are enough.  Returns
 * buf. */
const char *ss_format_about(uint64_t bytes, char *buf, size_t size);
/* [any] Seconds since 1970 as "2025-11-16T10:00:00Z", 24 bytes are enough.  Returns buf. */
const char *ss_format_time(int64_t seconds, char *buf, size_t size);

#ifdef __cplusplus
}
#endif
#endif
