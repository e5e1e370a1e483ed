/* SPDX-License-Identifier: MIT */
/*
 * stream_log - the positions of more streams than a snapshot should hold: files beside a checkpointer's data,
 * to which each snapshot appends what changed since the one before, so that thousands of streams cost nothing
 * where ten moved.  The snapshot then says which file, how much of it counts and its checksum; up to
 * STREAM_LOG_INLINE streams there is no file and it holds the positions itself.
 *
 * A file whose greater part is out of date is replaced by a new one with the next number; the old one goes
 * when STREAM_LOG_SETTLED snapshots of the new one have been committed, so that whatever counts after a
 * crash, or when the newest record of a checkpointer cannot be read, has its file.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/flow/streams.h"

enum {
	STREAM_LOG_INLINE = 32,
	STREAM_LOG_SETTLED = 3,
	STREAM_LOG_SNAPSHOT = 24,    /* bytes of a snapshot that refers to a file */
	STREAM_LOG_SLACK = 64 << 10, /* bytes out of date that are no reason to begin a new file */
};

struct stream_log;

/* Files path.1, path.2 and so on; none is touched.  NULL: out of memory. */
struct stream_log *stream_log_new(const char *path);
void stream_log_free(struct stream_log *); /* NULL is allowed */

/* In the thread of the streams; NULL for a log: snapshots are inline, however many streams there are. */

/* As streams_save(); what is appended is in memory until stream_log_sync(). */
int64_t stream_log_save(struct stream_log *, struct streams *, void *buf, size_t size);
/* As streams_load(); -EBADMSG: the file is damaged, too short or gone; or another errno of reading it.  While
 * no stream_log_sync() is under way. */
int stream_log_load(struct stream_log *, struct streams *, const void *snapshot, size_t size,
		    bool covered_only);
/* The next snapshot has nothing to do with those before it. */
void stream_log_restart(struct stream_log *);

/* In any thread, one at a time. */

/* Write what the snapshot refers to; durable: and sync it.  0 or -errno: then nothing may be committed that
 * has this snapshot, and the next call writes it again. */
int stream_log_sync(struct stream_log *, const void *snapshot, size_t size, bool durable);
/* The snapshot is committed, so that those before it are not needed any more. */
void stream_log_committed(struct stream_log *, const void *snapshot, size_t size);

/* ---- the bytes of a file; pure ---- */

/* The streams in it, in an array the caller frees, the one unseen for longest first.  0; -EBADMSG; -ENOMEM.
 */
int stream_log_read(const void *bytes, size_t len, struct stream_saved **out, uint32_t *n);
