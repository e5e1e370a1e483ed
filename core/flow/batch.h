/* SPDX-License-Identifier: MIT */
/*
 * batch - reference-counted batches out of a pool, and the tokens they carry.  One pool per component
 * instance: taken from by its thread only, given back to by any.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <semstreams/plugin.h>
#include "core/flow/services/attributes.h"

struct pool;

struct batch {
	struct ss_batch pub; /* first: plugins see this */
	_Atomic uint32_t refs;
	uint32_t shelf; /* size class in the pool */
	struct pool *pool;
	struct batch *parent; /* we hold a reference */
	struct batch *next;   /* while in the pool */
	struct attribute_table attributes;
};

/* What a batch costs beyond its payload, per batch and per event. */
#define BATCH_OVERHEAD 128
#define EVENT_OVERHEAD sizeof(struct ss_event)

struct pool *pool_new(void);
/* Frees what is in the pool; every batch must have come back (pool_outstanding is 0).  NULL is allowed. */
void pool_free(struct pool *);
/* Batches taken and not yet given back; exact only while nobody takes or gives. */
uint64_t pool_outstanding(struct pool *);

/* [owner] Contract of ss_host.batch_new. */
struct ss_batch *batch_new(struct pool *, struct ss_batch *parent, uint32_t rows, size_t bytes);
/* [any] */
void batch_ref(struct ss_batch *);
void batch_unref(struct ss_batch *);
/* Sum of the events' lengths. */
size_t batch_payload(const struct ss_batch *);
/*
 * Before a batch goes into queues: sets its footprint.  A batch that keeps much more of its parent's memory
 * alive than it shows is replaced by a compact copy; the result is to be queued instead and carries a
 * reference of its own.
 */
struct ss_batch *batch_seal(struct pool *, struct ss_batch *);

/* Tokens: when the last holder is gone, done(arg, token) is called once, in that holder's thread. */
struct ss_token {
	_Atomic uint32_t refs;
	_Atomic int32_t status; /* worst so far */
	bool has_position;
	uint64_t cookie;
	struct ss_position position;
	const char *source;
	void (*done)(void *arg, struct ss_token *);
	void *arg;
	struct ss_token *next; /* for whoever done() hands it to */
};

struct ss_token *token_new(uint64_t cookie, const struct ss_position *position, const char *source,
			   void (*done)(void *arg, struct ss_token *), void *arg);
void token_ref(struct ss_token *);
void token_unref(struct ss_token *, int32_t status);
/* Worsen the status without letting go. */
void token_mark(struct ss_token *, int32_t status);
