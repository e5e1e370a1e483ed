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

struct outbox;

/* numbered: results stay until they are acknowledged. */
int outbox_new(const struct ss_host *, bool numbered, struct outbox **out);
void outbox_free(struct outbox *);

/* A result for an output port; false: out of memory. */
bool outbox_put(struct outbox *, uint32_t port, const char *bytes, size_t len);
uint64_t outbox_last(const struct outbox *); /* number of the newest, 0: none yet */
uint64_t outbox_gone(const struct outbox *); /* all up to this number have been acknowledged */
size_t outbox_bytes(const struct outbox *);
uint64_t outbox_waiting(const struct outbox *); /* results not emitted yet */
const uint8_t *outbox_epoch(const struct outbox *);
/* Begin a new epoch: the results that are here belong to it, and nobody has any of them.  0, -EIO. */
int outbox_renew(struct outbox *);

/* Emit results up to number last, not more than some MiB ahead of the acknowledgements unless all is set;
 * without numbers, all results.  -ENOMEM: the rest is emitted next time. */
int outbox_emit(struct outbox *, uint64_t last, bool all);
/* The batch with this cookie was finished downstream. */
void outbox_acked(struct outbox *, uint64_t cookie, int32_t status);
/* A batch failed downstream: nothing is emitted until outbox_again(). */
bool outbox_failed(const struct outbox *);
/* After a failure, when no batch is under way: results without acknowledgement are emitted again. */
void outbox_again(struct outbox *);

/* Save the results as they are now, some bytes in each outbox_save_step() until it returns true; results that
 * are acknowledged meanwhile may be left out. */
void outbox_save_begin(struct outbox *, struct ss_strbuf *);
bool outbox_save_step(struct outbox *, size_t bytes);
/* Load into a new outbox; its results have not been emitted.  -EINVAL, -ENOMEM. */
int outbox_load(struct outbox *, struct ss_unpack *);
