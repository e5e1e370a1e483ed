/* SPDX-License-Identifier: MIT */
/*
 * position - where each stream of each source is: what of it was sent to NATS, and what is known to be
 * stored. Messages say it in two headers, so that the stream itself gives it back: Semstreams-Position, of
 * the event that is in the message, and now and then Semstreams-Index, of all streams.  A position is five
 * words with blanks between them: port, source, stream, epoch, sequence; an index is several of them, or "-".
 * One thread.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/plugin.h>

#define POSITION_HEADER "Semstreams-Position"
#define INDEX_HEADER    "Semstreams-Index"

enum {
	POSITIONS_MAX = 320,      /* streams; with the longest ids an index fits into the 64 KiB of headers */
	POSITION_TEXT_MAX = 400,  /* bytes of one, NUL included */
	POSITION_SOURCE_MAX = 63, /* bytes of a source's id as it is written; longer ones have no position */
	INDEX_TEXT_MAX = 48 * 1024
};

/* How far a stream is. */
struct mark {
	uint8_t epoch[16];
	uint64_t seq;
};

/* One stream. */
struct place {
	uint32_t port;
	uint32_t holders; /* batches that need it */
	char source[POSITION_SOURCE_MAX + 1];
	uint8_t stream[16];
	struct mark sent, stored;
	uint64_t used;  /* grows; the place that was used longest ago gives way */
	uint32_t round; /* of positions_restore() */
};

struct positions {
	struct place *places[POSITIONS_MAX];
	size_t n;
	uint64_t clock, forgotten;
	uint32_t round;
};

void positions_done(struct positions *);
/* The place of a stream, made if need be; NULL: it can have none. */
struct place *positions_place(struct positions *, uint32_t port, const char *source,
			      const uint8_t stream[16]);
/* Was this event of the epoch sent already? */
bool place_has(const struct place *, const uint8_t epoch[16], uint64_t seq);
/* What was sent and is not known to be stored is to be sent again. */
void positions_rewind(struct positions *);
/* Read messages from the newest to older ones: begin, then the headers of each. */
void positions_restore_begin(struct positions *);
/* Of the text of either header; what a newer message said of a stream stays.  False: it is none. */
bool positions_restore(struct positions *, const char *text);

/* The text of a header. */
void position_write(const struct place *, const uint8_t epoch[16], uint64_t seq, char out[POSITION_TEXT_MAX]);
/* Of what was sent of all streams, those last that were used longest ago and may be left out. */
void positions_write(const struct positions *, struct ss_strbuf *out);
