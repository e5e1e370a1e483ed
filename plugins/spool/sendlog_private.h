/* SPDX-License-Identifier: MIT */
/*
 * sendlog_private - what the parts of the log share: sendlog.c (interface, consumers), usage.c (how full it
 * is, what was lost), memory.c, and the spool on disk: spool.c (files, the loop's side), state.c (recovery),
 * writer.c (its thread).
 */
#pragma once
#include "sendlog.h"

#include <semstreams/base/attribute_block.h>
#include <semstreams/ext/loop.h>

enum {
	SENDLOG_NAME = 127,          /* bytes of a consumer's name */
	SENDLOG_PAST = 16,           /* earlier epochs that are known */
	SENDLOG_EVENT_OVERHEAD = 48, /* of an event in memory */
	SENDLOG_PENDING = 4 << 20,   /* bytes that may wait for the disk */
	SENDLOG_CACHE =
		8 << 20, /* bytes of newest frames kept in memory, so that a live consumer needs no disk */
	SENDLOG_READ = 512 << 10, /* bytes read from disk in one call, and the rest of a frame */
};

/* The events of a batch, under consecutive sequences. */
struct log_piece {
	struct log_piece *next;
	struct ss_batch *batch; /* a reference */
	uint32_t count;
	uint64_t first_seq;
	size_t payload;       /* bytes of the events */
	size_t attributes;    /* and of their attributes, at most */
	size_t memory;        /* bytes to account for */
	size_t snapshot_size; /* 0: none; else the events are committed together or not at all */
	uint8_t snapshot[];
};

/* A snapshot that the disk has. */
struct log_snapshot {
	uint8_t *bytes;
	size_t len, allocated;
};

struct log_cursor {
	char name[SENDLOG_NAME + 1];
	uint64_t acked;
	uint64_t seen_ns; /* wall time when it was seen last */
	uint64_t away_ns; /* how long it has been away */
	bool verified;    /* its name was shown in a certificate once */
};

/* An earlier epoch: its records up to last are here under the same sequences. */
struct log_past {
	uint8_t epoch[16];
	uint64_t last;
};

struct log_loss {
	uint64_t from, to;
	const char *reason;
};
struct log_losses {
	struct log_loss *list;
	uint32_t n, allocated;
};

/* See usage.c. */
struct log_usage {
	uint64_t used, limit; /* bytes */
	bool is_full, warned, stalled;
	uint64_t committing_ns;
	uint32_t checks;      /* in a row that say the opposite of is_full */
	uint64_t logged_ns;   /* when it was logged that it is full */
	bool logged_unwanted; /* that events go which nobody has asked for */
	struct {
		uint64_t n, from, to; /* n: not logged yet */
		const char *reason;
	} lost;
	uint64_t lost_logged_ns;
	char disk_error[128];            /* "" = none */
	char reason[288];                /* why it is full */
	char health[288], degraded[288]; /* as reported, "" = well */
	char filling[288], slow[96];
};

/* The attributes of the record that a reader is at: in bytes, or of an event in memory. */
struct log_hand {
	bool given, again;    /* there was a record before; they are its attributes */
	const uint8_t *frame; /* of a spool: where the record before was */
	const uint8_t *bytes;
	size_t len;
	const struct ss_attributes *set;
	/* the set that was encoded last: while records are read, all sets stay */
	const struct ss_attributes *encoded;
	size_t encoded_len;
	uint8_t code[SS_ATTRIBUTE_SET_MAX];
};

struct log_memory;
struct log_spool;

struct sendlog {
	const struct ss_host *host;
	const struct ss_loop *loop;
	void *loop_self;
	struct sendlog_options options;
	const struct sendlog_events *events;
	void *arg;
	uint8_t epoch[16];                  /* like past: written by the loop with the spool's lock held */
	struct log_past past[SENDLOG_PAST]; /* newest last */
	uint32_t n_past;
	const char *why_renewed;
	uint64_t first, next, committed;
	uint64_t corrupt;
	struct log_snapshot snapshot; /* as it was opened */
	struct log_cursor *cursors;   /* written by the loop with the spool's lock held */
	uint32_t n_cursors;
	uint64_t unseen_ns; /* how old what the disk has of seen_ns and away_ns is */
	int event_fd;       /* there is something to handle on the loop */
	uint32_t fd_id, timer_id;
	bool wants_room;              /* -EAGAIN was said */
	struct log_loss reported[64]; /* corruption reported, newest at reported[n_reported - 1 modulo] */
	uint32_t n_reported;
	uint64_t repaired_in; /* segment of the last warning, 0 = none */
	struct log_usage usage;
	struct log_hand hand;
	const struct log_store *store;
	struct log_memory *memory; /* one of the two */
	struct log_spool *spool;
};

/* ---- sendlog.c ---- */
void log_wake(struct sendlog *); /* any thread: run the handler on the loop */
void log_pieces_free(struct sendlog *, struct log_piece *);
/* Bytes that the attributes of a row take in a frame, at most; first: of the frame. */
size_t log_attributes_size(const struct ss_batch *, uint32_t row, bool first);
int log_snapshot_set(struct log_snapshot *, const void *bytes, size_t len);
uint64_t log_wall_ns(void);
void log_retain(struct sendlog *); /* let go of what everybody has, or is too old */

/* A new epoch; what is there up to last is as it was in the old one.  Spool: lock held or not running yet. */
int log_new_epoch(struct sendlog *, uint64_t last);

/* ---- usage.c ---- */
#define STALL_NS UINT64_C(5000000000) /* a commit that takes longer is news, and so is its end */
void usage_check(struct sendlog *);   /* each second */
void usage_woken(struct sendlog *);   /* by the writer: the disk may answer again */
/* Records from..to went without being read: a loss if a known consumer lacks them, or nobody is known. */
int log_add_loss(const struct sendlog *, struct log_losses *, uint64_t from, uint64_t to, const char *reason);
void log_corrupt(struct sendlog *, uint64_t from, uint64_t to); /* count and tell, once */
void log_warn_repaired(struct sendlog *, uint64_t ordinal);     /* warn of a disk that damages this segment */
void log_report_losses(struct sendlog *, struct log_losses *);  /* and empty it */
void usage_disk_error(struct sendlog *, const char *why); /* the disk cannot be written to; NULL: over */
void usage_close(struct sendlog *);

/* ---- memory.c, spool.c ---- */

/* Where records are kept.  On the loop. */
struct log_store {
	const char *name;
	int (*open)(struct sendlog *, char why[256]);
	void (*close)(struct sendlog *);
	/* Is there room for fresh records, the largest part of which must be in one place?  memory: with all
	 * overhead.  0; -EAGAIN; -EMSGSIZE: never.  Makes room by dropping if it may. */
	int (*admit)(struct sendlog *, uint32_t fresh, size_t largest, size_t memory);
	int (*append)(struct sendlog *, struct log_piece *); /* takes it over if it returns 0 */
	void (*retain)(struct sendlog *);                    /* let go of what everybody has, or is too old */
	void (*handle)(struct sendlog *);                    /* after log_wake() */
	uint64_t (*read)(struct sendlog *, uint64_t seq, uint32_t max,
			 bool (*fn)(void *, uint64_t, const struct ss_event *), void *arg);
	uint64_t (*bytes)(const struct sendlog *);
	uint64_t (*oldest_ns)(const struct sendlog *);
	/* committing_ns: for how long the commit under way has been so, 0 = none is */
	void (*usage)(const struct sendlog *, uint64_t *used, uint64_t *limit, bool *full,
		      uint64_t *committing_ns);
	/* NULL if it has no thread: around changes of epoch and cursors, and that they are to be written
	 * (locked) */
	void (*lock)(const struct sendlog *);
	void (*unlock)(const struct sendlog *);
	void (*save)(struct sendlog *, bool at_once);
};
extern const struct log_store memory_store, spool_store;
