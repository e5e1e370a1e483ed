/* SPDX-License-Identifier: MIT */
/*
 * streams - how far one checkpointer has come in each resumable stream, per input, source and stream of the
 * source: which events it has already, and the snapshot it saves with its data.  Pure memory, of one thread.
 * There may be thousands: no batch looks at more than its own.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <semstreams/plugin.h>

enum {
	STREAM_SOURCE_MAX = 64, /* bytes of a source's id, NUL included */
	STREAM_ID = sizeof((struct ss_position *)0)->stream
};

struct streams;

struct stream {
	uint32_t port;
	char source[STREAM_SOURCE_MAX];
	uint8_t id[STREAM_ID];      /* among those of the source */
	struct ss_position taken;   /* newest event accepted; seq 0: none of this epoch */
	struct ss_position covered; /* newest event given to streams_cover */
	uint64_t seen;              /* newest event offered */
	bool broken;                /* events failed: until the source goes back, what follows fails, too */

	/* of the table, and of its log */
	struct streams *of;
	uint32_t hash;
	uint32_t used;                /* when it moved last, in minutes since 1970 */
	uint32_t number;              /* in the log; 0: it is not there */
	bool is_changed;              /* since it was saved */
	bool renewed;                 /* the epoch is another, too */
	TAILQ_ENTRY(stream) by_use;   /* the one unseen for longest first */
	LIST_ENTRY(stream) by_change; /* of those that are changed */
};

enum stream_retired { STREAM_RETIRED_LIMIT, STREAM_RETIRED_AGE, STREAM_RETIRED_REASONS };

struct streams_limits {
	uint32_t max;    /* streams, at least 2; 0 = no limit: for one more, that unseen for longest goes */
	uint32_t forget; /* minutes after which one that was not seen goes; 0 = never */
	/* NULL: nobody wants to know.  The stream is about to be freed. */
	void (*retired)(void *arg, const struct stream *, enum stream_retired);
	void *arg;
};

/* covers: its snapshots are of what is covered, not of what is accepted.  NULL: out of memory. */
struct streams *streams_new(bool covers);
void streams_free(struct streams *); /* NULL is allowed */
void streams_set_limits(struct streams *, const struct streams_limits *);
/* What is used from now on was used at this minute. */
void streams_clock(struct streams *, uint32_t now);
uint32_t streams_count(const struct streams *);
/* A stream of a source through an input, made if it is new; NULL: out of memory, or the source's id is too
 * long.  Others stay where they are but for the one unseen for longest. */
struct stream *streams_get(struct streams *, uint32_t port, const char *source, const uint8_t id[STREAM_ID]);
/* The same, but NULL if it is new. */
struct stream *streams_find(struct streams *, uint32_t port, const char *source, const uint8_t id[STREAM_ID]);
/* The streams one after the other, the one unseen for longest first; after NULL the first, NULL at the end.
 */
struct stream *streams_next(const struct streams *, const struct stream *);
/* A copy of what was accepted, without limits; NULL: out of memory. */
struct streams *streams_copy(const struct streams *);
/* Retire those that were not seen for too long. */
void streams_forget(struct streams *);

/*
 * A batch of the stream, at a position, is about to be offered.  The number of its events that are not there
 * yet; -ESTALE: events before it failed and have not come again, so it must fail as well.
 */
int64_t stream_offer(struct stream *, const struct ss_position *, const struct ss_batch *);
/* Is this event there already?  After stream_offer of its batch. */
static inline bool stream_has(const struct stream *s, const struct ss_event *e)
{
	return e->seq && e->seq <= s->taken.seq;
}
/* How far a batch at a position goes: its newest event. */
struct ss_position stream_end(const struct ss_position *, const struct ss_batch *);
/* A batch that ends there was accepted. */
void stream_accept(struct stream *, const struct ss_position *end);
/* A batch failed, before or after it was accepted. */
void stream_fail(struct stream *, const struct ss_position *, const struct ss_batch *);
/* Where events had failed before another took over: they come again before those that follow them. */
void stream_break(struct stream *, const struct stream *before);
/* The batch belongs to what the next snapshot covers. */
void stream_cover(struct stream *, const struct ss_position *, const struct ss_batch *);

/* ---- snapshots ---- */

/* What a snapshot says of the stream; seq 0: nothing. */
const struct ss_position *stream_position(const struct stream *);
/* A snapshot: the bytes it takes, written if they fit into size. */
int64_t streams_save(const struct streams *, void *buf, size_t size);
/* Set what is accepted and covered to a snapshot; with covered_only, only that.  0; -EINVAL: it is none, and
 * nothing was changed; -ENOMEM. */
int streams_load(struct streams *, const void *snapshot, size_t size, bool covered_only);
/* The next snapshot of what is covered is to be empty. */
void streams_uncover(struct streams *);

/* ---- for the log (stream_log.h) ---- */

/* One stream as it was saved. */
struct stream_saved {
	uint32_t port, used, number;
	char source[STREAM_SOURCE_MAX];
	struct ss_position at;
};
/* Set a stream to it; 0 or -ENOMEM. */
int streams_put(struct streams *, const struct stream_saved *, bool covered_only);
/* One that changed since it was saved; NULL: there is none. */
struct stream *streams_changed(const struct streams *);
void stream_is_saved(struct stream *);
