/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/event_fault.h - what is wrong with an event, as "key=value" pairs behind a message of the
 * log: for the first such event of a batch, not for each.  Tags and rules are those of semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_EVENT_FAULT_H
#define SEMSTREAMS_BASE_EVENT_FAULT_H

#include <stddef.h>
#include <semstreams/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of a text, at most. */
#define SS_EVENT_FAULT_SIZE 1024

/*
 * [any] error and where come from read() of SS_FIELDS: " offset=3 reason=\"...\" start=\"...\"", where start
 * has the first bytes, and near those at the offset, if that is further on.  Other errors: start alone.  With
 * the event's batch, not NULL, " sender=\"...\"" is in front, if attributes tell: the peer's name, else its
 * address.
 */
void ss_event_fault(const struct ss_batch *, const struct ss_event *, int32_t error, size_t where,
		    char text[SS_EVENT_FAULT_SIZE]);
/* [any] Only why, in words for people: "a NUL byte at byte 3", "nested more than 64 levels deep at byte 80",
 * or "" where the error is another. */
void ss_event_fault_reason(const struct ss_event *, int32_t error, size_t where, char *text, size_t size);
/* [inst] Whom a batch with such events came from: " source=ID", or "" where nobody knows.  From now on this
 * instance wants attributes, so that further faults name their sender; until then nothing is paid for it. */
void ss_batch_source(const struct ss_host *, const struct ss_batch *, char text[SS_EVENT_FAULT_SIZE]);

#ifdef __cplusplus
}
#endif
#endif
