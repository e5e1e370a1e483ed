/* SPDX-License-Identifier: MIT */
/*
 * streams - how far one checkpointer has come in each resumable stream, per input, source and stream of the
 * source: which events it has already, and the snapshot it saves with its data.  Pure memory, of one thread.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/plugin.h>

enum {
	STREAM_SOURCE_MAX = 64, /* bytes of a source's id, NUL included */
	STREAM_ID = sizeof((struct ss_position *)0)->stream
};

struct stream {
	uint32_t port;
	char source[STREAM_SOURCE_MAX];
	uint8_t id[STREAM_ID];      /* among those of the source */
	struct ss_position taken;   /* newest event accepted; seq 0: none of this epoch */
	struct ss_position covered; /* newest event given to streams_cover */
	uint64_t seen;              /* newest event offered */
	bool broken;                /* events failed: until the source goes back, what follows fails, too */
};

struct streams;

struct streams *streams_new(void);   /* NULL: out of memory */
void streams_free(struct streams *); /* NULL is allowed */
/* A stream of a source through an input, made if it is new; NULL: out of memory, or the source's id is too
 * long. */
struct stream *streams_get(struct streams *, uint32_t port, const char *source, const uint8_t id[STREAM_ID]);
/* The same, but NULL if it is new. */
struct stream *streams_find(struct streams *, uint32_t port, const char *source, const uint8_t id[STREAM_ID]);
/* The streams one after the other, NULL at the end. */
struct stream *streams_at(const struct streams *, uint32_t i);

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
/* The batch belongs to what the next snapshot covers. */
void stream_cover(struct stream *, const struct ss_position *, const struct ss_batch *);

/* A snapshot of what was accepted, or covered: the bytes it takes, written if they fit into size. */
int64_t streams_save(const struct streams *, bool covered, void *buf, size_t size);
/* Set what is accepted and covered to a snapshot; with covered_only, only that.  0; -EINVAL: it is none, and
 * nothing was changed; -ENOMEM. */
int streams_load(struct streams *, const void *snapshot, size_t size, bool covered_only);
/* The next snapshot of what is covered is to be empty. */
void streams_uncover(struct streams *);
