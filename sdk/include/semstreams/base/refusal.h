/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/refusal.h - events that a processor refuses, on their way to an output of their own: their
 * bytes as they came, and the attributes @error (why) and @component (who) beside those they have.  Nothing
 * is paid for events that are not refused, nor where nothing reads the output.  Tags and rules are those of
 * semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_REFUSAL_H
#define SEMSTREAMS_BASE_REFUSAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/attributes.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One event that is refused.  Its members are private. */
struct ss_refusal {
	const struct ss_event *event; /* of the batch at hand */
	const struct ss_attributes *set;
};

/* The refusals of an instance, used on its loop; zeroed to begin with.  Its members are private. */
struct ss_refusals {
	const struct ss_host *host;
	struct ss_iface attributes;
	uint32_t port;
	struct ss_refusal *rows;
	uint32_t n, capacity;
};

/* [ctl] In create: prepare; port is the output. */
void ss_refusals_init(struct ss_refusals *, const struct ss_host *, uint32_t port);
/* [ctl] Free what it has. */
void ss_refusals_done(struct ss_refusals *);
/* [inst] Forget those of a batch that came to nothing. */
void ss_refusals_clear(struct ss_refusals *);
/* [inst] Does anything read the output? */
bool ss_refusals_used(const struct ss_refusals *);
/*
 * [inst] One more event of the batch that process() has at hand.  reason is one word, as in the type's drop
 * reasons; error and where as in ss_event_fault().  0; -ENOMEM: it is not among them, and to be dropped.
 */
int ss_refusals_add(struct ss_refusals *, const struct ss_batch *, const struct ss_event *,
		    const char *reason, int32_t error, size_t where);
/* [inst] Emit those of this batch, in their order; how many.  -ENOMEM: none of them, *lost says how many that
 * were; they are to be dropped. */
int64_t ss_refusals_emit(struct ss_refusals *, struct ss_batch *, uint32_t *lost);

#ifdef __cplusplus
}
#endif
#endif
