/* SPDX-License-Identifier: MIT */
/*
 * outbox - results on their way out.  With checkpoints each has a number of the aggregate's own stream; it
 * leaves when a checkpoint that holds it is durable, and stays until it is acknowledged downstream: after a
 * crash it is sent again under the same number, so components that have it drop it.  Without checkpoints it
 * leaves at once.  On the instance's loop.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/base/strbuf.h>

struct entry;

/* A batch that was emitted and is not acknowledged; its cookie is its number. */
struct flight {
	uint64_t last;
	size_t bytes;
	bool acked;
};

/* Only outbox.c changes it. */
struct outbox {
	const struct ss_host *host;
	bool numbered;
	bool failed; /* a batch failed downstream: nothing is emitted until outbox_again() */
	uint8_t epoch[16];
	uint64_t last; /* number of the newest, 0: none yet */
	struct entry *first, **end;
	struct entry *unsent; /* the first that has not been emitted */
	uint64_t n_unsent;
	size_t bytes; /* of memory, of all entries */

	struct flight *flights; /* a ring, room is a power of 2 */
	uint32_t n_flights, room;
	uint32_t n_open; /* not finished yet */
	uint64_t first_flight;
	size_t flight_bytes;

	struct ss_strbuf *save_to; /* NULL: no snapshot is being taken */
	struct entry *save_next;
	uint64_t save_last;
};

/* numbered: results stay until they are acknowledged. */
int outbox_new(const struct ss_host *, bool numbered, struct outbox **out);
void outbox_free(struct outbox *);

/* A result for an output port; false: out of memory. */
bool outbox_put(struct outbox *, uint32_t port, const char *bytes, size_t len);
uint64_t outbox_gone(const struct outbox *); /* all up to this number have been acknowledged */
/* Begin a new epoch: the results that are here belong to it, and nobody has any of them.  0, -EIO. */
int outbox_renew(struct outbox *);

/* Emit results up to number last, not more than some MiB ahead of the acknowledgements unless all is set;
 * without numbers, all results.  -ENOMEM: the rest is emitted next time. */
int outbox_emit(struct outbox *, uint64_t last, bool all);
/* The batch with this cookie was finished downstream. */
void outbox_acked(struct outbox *, uint64_t cookie, int32_t status);
/* After a failure, when no batch is under way: results without acknowledgement are emitted again. */
void outbox_again(struct outbox *);

/* Save the results as they are now, some bytes in each outbox_save_step() until it returns true; results that
 * are acknowledged meanwhile may be left out. */
void outbox_save_begin(struct outbox *, struct ss_strbuf *);
bool outbox_save_step(struct outbox *, size_t bytes);
/* Load into a new outbox; its results have not been emitted.  -EINVAL, -ENOMEM. */
int outbox_load(struct outbox *, struct ss_unpack *);
