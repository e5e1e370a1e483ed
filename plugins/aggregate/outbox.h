/* SPDX-License-Identifier: MIT */
/*
 * outbox - results on their way out.  With checkpoints each has a number of the aggregate's own stream; it
 * leaves when a checkpoint that holds it is durable, and stays until whoever is behind has it, so that after
 * a crash it goes out again under the same number and those who have it can tell.  Without, it leaves at
 * once.  On the instance's loop.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/base/strbuf.h>

struct outbox;

/* numbered: results are kept until they are acknowledged. */
int outbox_new(const struct ss_host *, bool numbered, struct outbox **out);
void outbox_free(struct outbox *);

/* A result for an output port; false: out of memory. */
bool outbox_put(struct outbox *, uint32_t port, const char *bytes, size_t len);
uint64_t outbox_last(const struct outbox *); /* number of the newest, 0: none yet */
uint64_t outbox_gone(const struct outbox *); /* all up to this number have been acknowledged */
size_t outbox_bytes(const struct outbox *);
uint64_t outbox_waiting(const struct outbox *); /* results not emitted yet */
const uint8_t *outbox_epoch(const struct outbox *);
/* What is there is of another stream from now on, of which nobody has anything.  0, -EIO. */
int outbox_renew(struct outbox *);

/* Emit what is numbered up to last and has not been; not more than some MiB ahead of the acknowledgements,
 * unless all is set.  Without numbers: everything.  -ENOMEM: the rest goes next time. */
int outbox_emit(struct outbox *, uint64_t last, bool all);
/* What track() was told. */
void outbox_acked(struct outbox *, uint64_t cookie, int32_t status);
/* Somebody could not keep something: nothing is emitted any more, until outbox_again(). */
bool outbox_failed(const struct outbox *);
/* What has not been acknowledged is to be emitted again, if nothing is under way any more. */
void outbox_again(struct outbox *);

/* As it is now into text, together with outbox_save_step(), which adds some bytes at a time until it says
 * true; what is acknowledged meanwhile may be left out. */
void outbox_save_begin(struct outbox *, struct ss_strbuf *);
bool outbox_save_step(struct outbox *, size_t bytes);
/* In place of a new one's emptiness: what it holds has not been emitted.  -EINVAL, -ENOMEM. */
int outbox_load(struct outbox *, struct ss_unpack *);
