/* SPDX-License-Identifier: MIT */
/*
 * outbox - results on their way out.  With check-points each has a number of the aggregate's own stream; it
 * leaves when a check-point that holds it is durable, and stays until whoever is behind has it, so that after
 * a crash it goes out again under the same number and those who have it can tell.  Without, it leaves at
 * once.  On the instance's loop.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include "text.h"

struct outbox;

/* numbered: results are kept until they are acknowledged. */
int outbox_new(const struct ss_host *, bool numbered, struct outbox **out);
void outbox_free(struct outbox *);

/* A result for an output port; false: out of memory. */
bool outbox_put(struct outbox *, uint32_t port, const char *bytes, size_t len);
uint64_t outbox_last(const struct outbox *); /* number of the newest, 0: none yet */
/* Emit what is numbered up to last (all, if not numbered) and has not been.  -ENOMEM: the rest goes next
 * time. */
int outbox_emit(struct outbox *, uint64_t last);
/* What track() was told. */
void outbox_acked(struct outbox *, uint64_t cookie, int32_t status);
/* Bytes held; results not emitted yet. */
size_t outbox_bytes(const struct outbox *);
uint64_t outbox_waiting(const struct outbox *);

void outbox_save(const struct outbox *, struct text *);
/* In place of a new one's emptiness: what it holds has not been emitted.  -EINVAL, -ENOMEM. */
int outbox_load(struct outbox *, struct reading *);
