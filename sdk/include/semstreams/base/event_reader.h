/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/event_reader.h - what a plugin looks up in each event, by paths that were collected while
 * its options were read (paths.h): fields of the payload, and attributes ("@origin"), which no payload can
 * forge.  An event is parsed once for all of them, and not at all if no path needs it.  Tags and rules are
 * those of semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_EVENT_READER_H
#define SEMSTREAMS_BASE_EVENT_READER_H

#include <stdbool.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/base/paths.h>
#include <semstreams/ext/fields.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An instance's; zeroed to begin with.  Its members are private. */
struct ss_event_reader {
	struct ss_iface fields;
	struct ss_reader *payload; /* NULL: no path needs it */
	uint32_t n, n_payload;     /* paths; those of the payload */
	int8_t *which;             /* by path: SS_ATTR_..., or -1; NULL: all are of the payload */
	char *texts;               /* of the attributes of one event, where they need escapes */
};

/*
 * [ctl] In create: compile the paths, whose indexes are those of the values that ss_event_read() gives.  If
 * one is an attribute, the host is told that this instance wants attributes.  0; -EINVAL after reporting each
 * one that is not a path, or no attribute; -ENOMEM.
 */
int ss_event_reader_init(struct ss_event_reader *, const struct ss_paths *, const struct ss_host *,
			 const struct ss_iface *fields);
/* [ctl] Free what it has; zeroed again. */
void ss_event_reader_done(struct ss_event_reader *);
/*
 * [inst] The values of all paths in one event of the batch: out has room for as many as there are paths.
 * They are valid as long as the batch, those of attributes until the next call.  An attribute is a string,
 * @received a number, ms since 1970; one that the event does not have is missing.  0; -EINVAL, -ELOOP as
 * read() of SS_FIELDS, and *where.
 */
int32_t ss_event_read(struct ss_event_reader *, const struct ss_batch *, const struct ss_event *,
		      struct ss_field *out, size_t *where);
/* [any] Is there anything to be read? */
static inline bool ss_event_reader_used(const struct ss_event_reader *r)
{
	return r->n > 0;
}

#ifdef __cplusplus
}
#endif
#endif
