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
#include <semstreams/sugar.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * What becomes of refused events that nothing reads.  All are counted as dropped by their reason; the others
 * than SS_ERRORS_DROP are also logged, and with SS_ERRORS_DEGRADE the component is degraded until none has
 * come for five minutes.
 */
enum { SS_ERRORS_COUNT, SS_ERRORS_DROP, SS_ERRORS_DEGRADE };
/* By name, NULL-terminated. */
extern const char *const ss_errors_choices[];
/* The row of the option "errors", as SS_OPT(): member is an int64_t of the conf struct, more are flags. */
#define SS_OPT_ERRORS(conf, member, more)                                                                    \
	SS_OPT(conf, member, SS_OPT_ENUM, "count",                                                           \
	       "What becomes of refused events where nothing reads the output error: counted and logged, "   \
	       "dropped without a word in the log, or the component is also degraded while they come.",      \
	       .choices = ss_errors_choices, .flags = SS_OPT_REFUSALS | (more))

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
	struct ss_iface loop;
	uint32_t timer;
	uint64_t dropped_ns;
	char trouble[192];
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

/*
 * [inst] Some were refused for this reason and are dropped, as drop() is told: what the option "errors" says
 * is done.  True if it is to be said in the log.
 */
bool ss_refusals_dropped(struct ss_refusals *, int64_t errors, const char *reason);
/* [inst] Why the component is degraded by them; NULL: it is not.  For a component that is degraded for other
 * reasons, too.  The text is in the struct, valid until the instance is called again. */
const char *ss_refusals_trouble(const struct ss_refusals *);

#ifdef __cplusplus
}
#endif
#endif
