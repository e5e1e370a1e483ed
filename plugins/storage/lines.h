/* SPDX-License-Identifier: MIT */
/*
 * lines - gathers events as lines for one large write: short ones are copied side by side, long ones stay
 * where they are.  Pure memory, no I/O; the batches must live until lines_reset.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <semstreams/plugin.h>

struct lines {
	uint8_t *buf;
	size_t fill; /* bytes in buf */
	size_t run;  /* where the run at the end of buf begins that is in no iovec yet */
	struct iovec *iov;
	unsigned n;     /* iovecs in use */
	unsigned room;  /* iovecs there are */
	size_t bytes;   /* in all, once lines_seal was called */
	uint8_t *spill; /* a long line that had to be rewritten */
	size_t target;  /* bytes after which it is full */
	size_t max_line;
	size_t outside; /* bytes in iovecs that are not in buf */
	bool escape;    /* a line break inside becomes \n in two characters, else a space */
	bool full;
};

/* What became of events that are no lines. */
struct lines_dropped {
	uint64_t empty, too_long;
};

enum { LINES_IOVS = 1024 }; /* as many as one writev takes */

/* With so many iovecs; 0 or -ENOMEM. */
int lines_init(struct lines *, size_t target, size_t max_line, bool escape, unsigned iovs);
void lines_done(struct lines *);

/* Take events in until all are in or it is full; returns how many it took, -ENOMEM if not even one. */
int64_t lines_gather(struct lines *, const struct ss_event *, uint32_t n, struct lines_dropped *);
/* What comes next gets an iovec of its own. */
void lines_split(struct lines *);
/* Complete iov[0..n) and bytes. */
void lines_seal(struct lines *);
/* Bytes gathered so far. */
static inline size_t lines_bytes(const struct lines *l)
{
	return l->fill + l->outside;
}
/* They are written. */
void lines_reset(struct lines *);
