/* SPDX-License-Identifier: MIT */
/*
 * sendlog - what a sender keeps until every consumer has it: a numbered log with a cursor per consumer, in
 * memory or on disk (spool).  On the component's loop; a disk log commits in a thread of its own and tells by
 * a callback on the loop.
 */
#pragma once
#include <stdbool.h>
#include <semstreams/plugin.h>

struct sendlog;

struct sendlog_options {
	const char *path;    /* a folder for the spool; NULL = memory */
	uint64_t max_bytes;  /* of payload and overhead, hard */
	uint64_t max_age_ns; /* 0 = no limit */
	bool drop_oldest;    /* when full: else sendlog_append says -EAGAIN */
	bool relaxed;        /* spool: a batch counts as kept when written, not when synced */
};

/* Called on the loop, never from within sendlog_append or sendlog_ack; only lost(..., "corrupt") comes from
 * within sendlog_read.  They may call everything but sendlog_close.  sendlog_committed and sendlog_first are
 * already as told. */
struct sendlog_events {
	void (*committed)(void *arg, uint64_t seq); /* all up to seq are durable (spool) and may be sent */
	void (*room)(void *arg);                    /* after -EAGAIN: try again */
	void (*lost)(void *arg, uint64_t from, uint64_t to,
		     const char *reason);            /* retention or corruption took records unread */
	void (*trouble)(void *arg, const char *why); /* disk full etc.; NULL: over */
};

/* 0, or -errno with why (a sentence) filled. */
int sendlog_open(const struct ss_host *, const struct sendlog_options *, const struct sendlog_events *,
		 void *arg, char why[256], struct sendlog **out);
void sendlog_close(struct sendlog *); /* commits first; NULL is allowed */

const uint8_t *sendlog_epoch(const struct sendlog *); /* 16 bytes, random, made with the log */
uint64_t sendlog_first(const struct sendlog *);       /* oldest sequence kept; == next if empty */
uint64_t sendlog_next(const struct sendlog *);        /* sequence the next event gets; from 1 */
uint64_t sendlog_committed(const struct sendlog *);   /* newest that may be sent */

/* Append the events of a batch, those it does not have already by the batch's position (dropped as
 * duplicates, counted in *duplicates, which may be NULL).  A spool stores the batch's position in the same
 * transaction.  0; -EAGAIN: full, room() will be told; -EMSGSIZE: can never fit into max_bytes.  A spool
 * holds a reference to the batch until it is committed.  In memory the log holds a reference to the batch
 * instead of a copy. */
int sendlog_append(struct sendlog *, uint32_t port, struct ss_batch *, uint64_t *duplicates);
/* Call fn for every position the spool has, for SS_POSITIONS.kept. */
void sendlog_positions(struct sendlog *,
		       void (*fn)(void *arg, uint32_t port, const char *source, const struct ss_position *),
		       void *arg);

/* Read records from seq on: fn gets them in order until it returns false, the limit is reached or there are
 * no more committed ones.  The next sequence to read: of the record fn refused, or behind the last.  A spool
 * gives newest records from memory and others from disk, then at most about 768 KiB a call: call again.  fn
 * must not call the log. */
uint64_t sendlog_read(struct sendlog *, uint64_t seq, uint32_t max_records,
		      bool (*fn)(void *arg, uint64_t seq, const struct ss_event *), void *arg);

/* Is this consumer known: are its records kept? */
bool sendlog_knows(struct sendlog *, const char *consumer);
/* Cursor of a consumer: everything up to it was acknowledged.  0 = nothing. */
uint64_t sendlog_cursor(struct sendlog *, const char *consumer);
/* Make a consumer known from now on (so its records are kept), and move its cursor forward.  -ENOSPC: 128 are
 * known. */
int sendlog_ack(struct sendlog *, const char *consumer, uint64_t seq);
/* Everything up to here was acknowledged by every known consumer (0 with none). */
uint64_t sendlog_all_acked(struct sendlog *);

uint64_t sendlog_bytes(const struct sendlog *);
uint64_t sendlog_oldest_ns(const struct sendlog *); /* wall time of the oldest record kept, 0 = empty */
uint64_t sendlog_corrupt(const struct sendlog *);   /* records skipped because of a wrong checksum */
