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

enum { SENDLOG_CONSUMERS = 128, SENDLOG_CONSUMERS_MAX = 512 };

struct sendlog_options {
	const char *path;       /* a folder for the spool; NULL = memory */
	uint64_t max_bytes;     /* of payload and overhead, hard */
	uint64_t max_age_ns;    /* 0 = no limit */
	bool drop_oldest;       /* when full: else sendlog_append says -EAGAIN */
	bool relaxed;           /* spool: a batch counts as kept when written, not when synced */
	uint64_t forget_ns;     /* consumers that were away for so long are forgotten; 0 = never */
	uint32_t max_consumers; /* 1 to SENDLOG_CONSUMERS_MAX; 0 = SENDLOG_CONSUMERS */
};

/* Called on the loop, never from within sendlog_append or sendlog_ack; only lost(..., "corrupt") comes from
 * within sendlog_read.  They may call everything but sendlog_close.  sendlog_committed and sendlog_first
 * already have the new values. */
struct sendlog_events {
	void (*committed)(void *arg, uint64_t seq); /* all up to seq are durable (spool) and may be sent */
	void (*room)(void *arg);                    /* after -EAGAIN: try again */
	/* Records from..to went before every known consumer had acknowledged them (or any was known): reason
	 * "full", "age" or "corrupt".  Each record once, when it goes; it is logged already. */
	void (*lost)(void *arg, uint64_t from, uint64_t to, const char *reason);
	void (*disk_error)(void *arg, const char *why); /* the disk cannot be written to; NULL: over */
	/* Why the log takes in nothing (full, or a disk error), in words; NULL: it does again.  May be NULL.
	 */
	void (*health)(void *arg, const char *why);
	/* Why it works, but worse than it should: it fills up, or the disk is slow; NULL: it does not. */
	void (*degraded)(void *arg, const char *why);
	/* In the thread that commits, of a spool: a snapshot is about to be committed, which fails with it;
	 * and has been.  May be NULL. */
	int (*committing)(void *arg, const void *snapshot, size_t size);
	void (*snapshot_kept)(void *arg, const void *snapshot, size_t size);
	/* from within sendlog_check_consumers: its cursor is gone; may be NULL */
	void (*forgotten)(void *arg, const char *consumer, uint64_t acked);
};

/* 0, or -errno with why (a sentence) filled. */
int sendlog_open(const struct ss_host *, const struct sendlog_options *, const struct sendlog_events *,
		 void *arg, char why[256], struct sendlog **out);
/* Other options than it was opened with: max_consumers, and in memory max_bytes; the rest is not read.  What
 * is there stays, and less is taken in. */
void sendlog_limit(struct sendlog *, const struct sendlog_options *);
void sendlog_close(struct sendlog *); /* commits first; NULL is allowed */

/*
 * Identity: 16 random bytes, made with the log.  They are made anew, and sequences go on, when what a
 * consumer has may not be what is here under the same number: when a spool is opened after the machine
 * started anew, or as a copy of itself, or without its state; and by sendlog_renew.
 */
struct sendlog_view { /* what the log has for a consumer */
	uint8_t epoch[16];
	uint64_t first, next; /* oldest sequence kept; next to be committed; first == next: empty */
	uint64_t cursor;      /* everything up to it was acknowledged by this consumer; 0: nothing */
	/* Up to here records have the sequences they had in the epoch that the consumer names, if it is one
	 * of 16 earlier ones; 0: it is none. */
	uint64_t past;
	struct ss_position newest_past; /* the newest earlier epoch that has such a past; seq 0: none */
	bool known;                     /* records are kept for it, even if it acknowledged none */
};
/* epoch: that the consumer names, NULL: none. */
struct sendlog_view sendlog_view(const struct sendlog *, const char *consumer, const uint8_t *epoch);
/* A consumer has more than there is: the log was set back, nobody knows when.  The new epoch has no past. */
int sendlog_renew(struct sendlog *);
uint64_t sendlog_first(const struct sendlog *);     /* oldest sequence kept; == next if empty */
uint64_t sendlog_next(const struct sendlog *);      /* sequence the next event gets; from 1 */
uint64_t sendlog_committed(const struct sendlog *); /* newest that may be sent */

/*
 * Is there room for a batch?  0; -EAGAIN: full, room() is called later; -EMSGSIZE: it can never fit into
 * max_bytes.  together: its events are to be committed together or not at all, as a snapshot wants it.
 */
int sendlog_admit(struct sendlog *, const struct ss_batch *, bool together);
/*
 * Append the events of a batch that was admitted.  A spool commits the snapshot, size bytes (0: none), in one
 * step with them; it replaces that of earlier batches.  A log holds a reference to the batch: a spool until
 * it is committed, in memory instead of a copy.  0, -ENOMEM.
 */
int sendlog_append(struct sendlog *, struct ss_batch *, const void *snapshot, size_t size);
/* The snapshot that a spool had when it was opened; NULL: none. */
const void *sendlog_snapshot(const struct sendlog *, size_t *size);

/* Read records from seq on: fn gets them in order until it returns false, the limit is reached or there are
 * no more committed ones.  The next sequence to read: of the record fn refused, or behind the last.  A spool
 * gives newest records from memory and others from disk, then at most about 768 KiB a call: call again.  fn
 * must not call the log. */
uint64_t sendlog_read(struct sendlog *, uint64_t seq, uint32_t max_records,
		      bool (*fn)(void *arg, uint64_t seq, const struct ss_event *), void *arg);

/* Within fn of sendlog_read: the attributes of the record at hand, as ss_attribute_set_write() has them;
 * valid until fn returns.  *len 0: it has none.  *again: they are those that the record before in this read
 * has; false says nothing. */
const uint8_t *sendlog_attributes(struct sendlog *, size_t *len, bool *again);

/*
 * Make a consumer known from now on, so that its records are kept.  verified: a certificate said its name. 0;
 * -EACCES: only its certificate may use the name, as it did before; -ENOSPC: max_consumers are known, or half
 * as many whose names no certificate said, if verified ones are among the consumers or reserve is set;
 * -ENAMETOOLONG.
 */
int sendlog_add_consumer(struct sendlog *, const char *consumer, bool verified, bool reserve);
/* Move the cursor of a known consumer forward.  -ENOENT: it is not known. */
int sendlog_ack(struct sendlog *, const char *consumer, uint64_t seq);
/* To be called each second or so: those of whom here() is true are seen now, for the others elapsed_ns more
 * have passed without them; time in which nobody calls does not count.  here must not call the log. */
void sendlog_check_consumers(struct sendlog *, uint64_t elapsed_ns,
			     bool (*here)(void *arg, const char *consumer), void *arg);
struct sendlog_consumer {
	const char *name; /* valid until the log is called again */
	bool verified;    /* a certificate said its name */
	uint64_t acked;   /* everything up to it */
	uint64_t seen_ns; /* wall clock, as of sendlog_check_consumers */
};
/* The consumer at an index from 0, in no order that lasts.  False: there are no more. */
bool sendlog_consumer(const struct sendlog *, uint32_t index, struct sendlog_consumer *);
/* Everything up to here was acknowledged by every known consumer (0 with none). */
uint64_t sendlog_all_acked(const struct sendlog *);

/* As sendlog_check_consumers found them: used, limit, committing_ns, away. */
struct sendlog_figures {
	uint64_t bytes;         /* of the events kept */
	uint64_t used, limit;   /* bytes in use, of a spool whole segments, and the most there can be */
	uint64_t committing_ns; /* for how long the disk has been working at a commit */
	uint64_t oldest_ns;     /* wall time of the oldest record kept, 0 = empty */
	uint64_t corrupt;       /* records skipped because of a wrong checksum */
	const char *away;       /* the consumer that has been away for longest; NULL: none is away */
	uint64_t away_ns;
	const char *why_renewed; /* the epoch, when the log was opened; NULL: it was not */
};
struct sendlog_figures sendlog_figures(const struct sendlog *);
