/* SPDX-License-Identifier: MIT */
/*
 * streams - how far an instance has come in each resumable stream, per input and source.  Pure memory.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/plugin.h>

enum {
	SOURCE_MAX = 64,           /* bytes of a source's id, NUL included */
	STREAMS_BYTES_MAX = 60000, /* of all streams as they stand in a record */
	STREAM_BYTES_MAX = SOURCE_MAX + 32
};

struct stream {
	uint32_t port;
	char source[SOURCE_MAX];
	/* newest event: taken in, in a file, in the sync under way, committed; seq 0 = none */
	struct ss_position taken, written, syncing, safe;
};

struct streams {
	struct stream *all;
	int n, room;
};

void streams_done(struct streams *);
/* The index of a stream, made if it is new; -ENOMEM, -E2BIG: no record could hold it. */
int streams_of(struct streams *, uint32_t port, const char *source);
/* A batch up to at is in a file. */
void stream_write(struct stream *, const struct ss_position *at);
/* What is written is to be synced; the sync has worked; it has not, and what was written is gone. */
void streams_start_sync(struct streams *);
void streams_end_sync(struct streams *);
void streams_rewind(struct streams *);
