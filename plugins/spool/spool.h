/* SPDX-License-Identifier: MIT */
/*
 * spool - the log on disk, between its files.  A folder holds segments (segment.h), one spare
 * to be used again, `state` (cursors) and `lock`.  The loop appends, reads and retains; the writer thread
 * alone changes files.
 */
#pragma once
#include <dirent.h>
#include <pthread.h>
#include <semstreams/base/ring.h>
#include <semstreams/base/two_slot.h>
#include "sendlog_private.h"
#include "segment.h"

enum {
	SPOOL_STATE_SLOT = 80 << 10, /* bytes; there are two */
	SPOOL_STATE_MAX = SPOOL_STATE_SLOT - SS_SLOT_HEAD,
	SPOOL_OTHER = 2 * SPOOL_STATE_SLOT + 4096, /* bytes of files that are no segments */
	SPOOL_MIN = 1 << 20,
	SPOOL_READERS = 4,
};

/* Where to begin looking for a sequence. */
struct mark {
	uint64_t seq, offset, time_ns;
	uint64_t last_ns; /* of the newest record before the next mark */
};

struct segment {
	uint64_t ordinal, first_seq, last_seq; /* last < first: empty */
	uint64_t size, used;                   /* bytes of the file; up to the end of the newest frame */
	uint64_t first_ns, last_ns;
	struct mark *marks;
	uint32_t n_marks, marks_allocated;
};

struct cached_frame {
	struct cached_frame *next; /* on its way to the loop */
	struct frame head;
	struct frame_walk hint;
	uint8_t *bytes;
};

struct spool_reader {
	struct seg_reader file;
	uint64_t frame_at; /* the frame to go on with */
	uint64_t next_seq; /* which it has; 0 = free */
};

struct log_spool {
	struct sendlog *log;
	int dir_fd, lock_fd, state_fd;
	struct ss_two_slot state; /* the writer's once it runs */
	uint64_t limit;           /* of segments and spare */
	uint8_t files[16];        /* the epoch in the files: the first the log had */
	uint8_t boot[16];         /* see struct spool_state */
	uint64_t identity;
	uint64_t seg_size;
	size_t frame_max;
	uint64_t largest; /* frame that is sure to find a place */
	pthread_t thread;
	bool running;

	pthread_mutex_t lock;
	pthread_cond_t wake; /* of the writer */
	enum { WRITER_BUSY, WRITER_IDLE, WRITER_PACING } waits;
	bool stop;
	struct log_piece *pending, **pending_end;
	size_t pending_bytes; /* not committed, the writer's included */
	struct segment **segs;
	uint32_t n_segs, segs_allocated;
	uint64_t total; /* bytes of segments and spare */
	uint64_t first, committed;
	bool full, state_dirty;
	uint64_t commit_since; /* when the commit under way began, 0 = none is */
	char disk_error[128];  /* "" = none */
	bool error_is_news, commit_is_news;
	struct log_losses losses;
	struct log_piece *done, **done_end;
	struct cached_frame *fresh, **fresh_end;

	/* writer */
	struct log_piece *work, **work_end;
	uint32_t work_row;                     /* of the first of work: rows before are written */
	struct log_snapshot snapshot;          /* the newest that is written */
	struct ss_attribute_writer attributes; /* of the frame under way */
	int fd;                                /* of the newest segment */
	bool has_spare, sync_dir;
	uint64_t commit_ns, pace_ns, sync_ns, state_ns;

	/* loop */
	struct ss_ring cache; /* of struct cached_frame * */
	size_t cache_bytes;
	struct spool_reader readers[SPOOL_READERS];
	uint32_t next_reader;
};

/* ---- state.c ---- */
/* The names of the segments in the folder, in order: how many, or -errno. */
int spool_names(int dir_fd, struct dirent ***names);
void spool_names_free(struct dirent **, int n);
/* What the file `state` says.  boot and identity: of the machine's start and of the file itself when it was
 * written, so that a copy and a crash of the machine show. */
struct spool_state {
	uint8_t files[16], epoch[16], boot[16];
	uint64_t next, seg_size, identity;
	struct log_past past[SENDLOG_PAST];
	uint32_t n_past;
	struct log_cursor *cursors; /* of SENDLOG_CONSUMERS_MAX */
	uint32_t n_cursors;
};
/* All of it but next; lock held or not running yet. */
void spool_state_fill(const struct log_spool *, struct spool_state *);
bool spool_state_decode(const uint8_t *bytes, size_t len, struct spool_state *);
/* Open the record; *has: it could be read; *doubt: a newer one may be damaged.  0 or -errno. */
int spool_state_open(struct ss_two_slot *, int fd, struct spool_state *, bool *has, bool *doubt);
int spool_state_write(struct ss_two_slot *, const struct spool_state *, bool both);
int spool_recover(struct log_spool *, char why[256]); /* before the writer runs */

/* ---- spool.c ---- */
struct segment *spool_newest(const struct log_spool *);
int spool_push_segment(struct log_spool *, struct segment *); /* lock held or not running yet */
/* A frame is in the segment; last_ns: time of its newest record. */
void spool_mark(struct segment *, const struct frame *, uint64_t offset, uint64_t last_ns,
		uint64_t max_age_ns);
bool spool_removable(const struct log_spool *); /* the oldest segment, by acknowledgement or age */
void spool_segment_free(struct segment *);
void spool_cached_free(struct cached_frame *);
uint64_t spool_clock(void); /* monotonic */

/* ---- writer.c ---- */
void *spool_writer(void *spool);
/* Write a seal behind the newest frame. */
int spool_seal(struct log_spool *, int fd, const struct segment *, uint64_t next_seq);
