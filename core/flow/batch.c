/* SPDX-License-Identifier: MIT */
#include "core/flow/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * A pool has one shelf of free blocks per power of two.  Batches come back, from any thread, on a lock-free
 * stack that the owner takes whole when a shelf is empty; it never pops single entries, so there is no ABA.
 */
enum {
	SHELF_MIN_SHIFT = 9, /* 512 B */
	SHELVES = 13,        /* up to 2 MiB; larger blocks are not kept */
	SHELF_NONE = SHELVES,
	POOL_KEEP = 4 << 20, /* bytes of free blocks that are kept */
};

struct pool {
	struct batch *shelf[SHELVES];
	size_t kept; /* bytes on the shelves */
	uint64_t taken;
	_Atomic(struct batch *) returned;
	_Atomic uint64_t given_back;
};

static size_t shelf_size(uint32_t shelf)
{
	return (size_t)1 << (shelf + SHELF_MIN_SHIFT);
}

struct pool *pool_new(void)
{
	return calloc(1, sizeof(struct pool));
}

static void shelve(struct pool *pool, struct batch *b)
{
	if (b->shelf == SHELF_NONE || pool->kept + shelf_size(b->shelf) > POOL_KEEP) {
		free(b);
		return;
	}
	b->next = pool->shelf[b->shelf];
	pool->shelf[b->shelf] = b;
	pool->kept += shelf_size(b->shelf);
}

static void take_returned(struct pool *pool)
{
	struct batch *b = atomic_exchange_explicit(&pool->returned, NULL, memory_order_acquire);

	while (b) {
		struct batch *next = b->next;
		shelve(pool, b);
		b = next;
	}
}

void pool_free(struct pool *pool)
{
	if (!pool)
		return;
	take_returned(pool);
	for (int i = 0; i < SHELVES; i++) {
		while (pool->shelf[i]) {
			struct batch *b = pool->shelf[i];
			pool->shelf[i] = b->next;
			free(b);
		}
	}
	free(pool);
}

uint64_t pool_outstanding(struct pool *pool)
{
	return pool->taken - atomic_load(&pool->given_back);
}

static struct batch *pool_take(struct pool *pool, size_t bytes)
{
	uint32_t shelf = 0;

	while (shelf < SHELVES && shelf_size(shelf) < bytes)
		shelf++;
	if (shelf < SHELVES && !pool->shelf[shelf])
		take_returned(pool);

	struct batch *b = shelf < SHELVES ? pool->shelf[shelf] : NULL;
	if (b) {
		pool->shelf[shelf] = b->next;
		pool->kept -= shelf_size(shelf);
	} else {
		b = malloc(shelf < SHELVES ? shelf_size(shelf) : bytes);
		if (!b)
			return NULL;
	}
	b->shelf = shelf;
	pool->taken++;
	return b;
}

struct ss_batch *batch_new(struct pool *pool, struct ss_batch *parent, uint32_t rows, size_t bytes)
{
	size_t head = sizeof(struct batch) + rows * sizeof(struct ss_event);

	if (bytes > SIZE_MAX - head)
		return NULL;

	struct batch *b = pool_take(pool, head + bytes);
	if (!b)
		return NULL;

	/* a batch gets all of its block: the rest goes to data, or to rows if it has no data */
	size_t spare = (b->shelf < SHELVES ? shelf_size(b->shelf) : head + bytes) - sizeof(struct batch);
	struct ss_event *events = (struct ss_event *)(b + 1);

	b->pool = pool;
	b->parent = (struct batch *)parent;
	b->pub = (struct ss_batch){
		.struct_size = sizeof(struct ss_batch),
		.capacity = bytes ? rows : (uint32_t)(spare / sizeof(struct ss_event)),
		.events = events,
		.data = bytes ? (uint8_t *)(events + rows) : NULL,
		.size = bytes ? spare - rows * sizeof(struct ss_event) : 0,
	};
	b->attributes = (struct attribute_table){0};
	atomic_init(&b->refs, 1);
	if (parent) {
		batch_ref(parent);
		attributes_inherit(&b->pub, parent);
		b->pub.token = parent->token;
		token_ref(b->pub.token);
	}
	return &b->pub;
}

void batch_ref(struct ss_batch *batch)
{
	atomic_fetch_add_explicit(&((struct batch *)batch)->refs, 1, memory_order_relaxed);
}

void batch_unref(struct ss_batch *batch)
{
	struct batch *b = (struct batch *)batch;

	while (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1) {
		struct batch *parent = b->parent;
		struct pool *pool = b->pool;

		token_unref(b->pub.token, SS_DELIVERED);
		attributes_done(&b->pub, &b->attributes);
		struct batch *top = atomic_load_explicit(&pool->returned, memory_order_relaxed);
		do {
			b->next = top;
		} while (!atomic_compare_exchange_weak_explicit(&pool->returned, &top, b,
								memory_order_release, memory_order_relaxed));
		atomic_fetch_add_explicit(&pool->given_back, 1, memory_order_release);
		b = parent;
	}
}

size_t batch_payload(const struct ss_batch *batch)
{
	size_t sum = 0;

	for (uint32_t i = 0; i < batch->count; i++)
		sum += batch->events[i].len;
	return sum;
}

static uint32_t clamp_u32(size_t n)
{
	return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static struct ss_batch *compact_copy(struct pool *pool, const struct ss_batch *batch, size_t payload)
{
	struct ss_batch *copy = batch_new(pool, NULL, batch->count, payload ? payload : 1);
	if (!copy)
		return NULL;

	uint8_t *p = copy->data;
	for (uint32_t i = 0; i < batch->count; i++) {
		copy->events[i] = batch->events[i];
		copy->events[i].data = p;
		memcpy(p, batch->events[i].data, batch->events[i].len);
		p += batch->events[i].len;
	}
	copy->count = batch->count;
	if (batch->n_attributes && attributes_copy(copy, &((struct batch *)copy)->attributes, batch) < 0) {
		batch_unref(copy);
		return NULL;
	}
	copy->token = batch->token;
	token_ref(copy->token);
	return copy;
}

struct ss_batch *batch_seal(struct pool *pool, struct ss_batch *batch)
{
	const struct batch *parent = ((struct batch *)batch)->parent;
	size_t payload = batch_payload(batch);
	size_t own = payload + batch->count * EVENT_OVERHEAD + BATCH_OVERHEAD +
		     ((struct batch *)batch)->attributes.bytes;

	/* sealed before: forwarded as it came, or emitted on two ports; others may be reading it already */
	if (!batch->footprint) {
		/* below an eighth, copying the little that is left beats pinning the rest: what the queues
		 * account for is then never less than an eighth of the memory they hold */
		if (parent && parent->pub.footprint / 8 > own) {
			struct ss_batch *copy = compact_copy(pool, batch, payload);
			if (copy) {
				copy->footprint = clamp_u32(own);
				return copy;
			}
		}
		batch->footprint = clamp_u32(own);
	}
	batch_ref(batch);
	return batch;
}

struct ss_token *token_new(uint64_t cookie, const struct ss_position *position, const char *source,
			   void (*done)(void *arg, struct ss_token *), void *arg)
{
	struct ss_token *t = malloc(sizeof *t);

	if (!t)
		return NULL;
	*t = (struct ss_token){.cookie = cookie, .source = source, .done = done, .arg = arg};
	if (position) {
		t->has_position = true;
		t->position = *position;
	}
	atomic_init(&t->refs, 1);
	atomic_init(&t->status, SS_DELIVERED);
	return t;
}

void token_ref(struct ss_token *t)
{
	if (t)
		atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
}

void token_mark(struct ss_token *t, int32_t status)
{
	if (!t || status == SS_DELIVERED)
		return;
	int32_t worst = atomic_load_explicit(&t->status, memory_order_relaxed);
	while (worst < status &&
	       !atomic_compare_exchange_weak_explicit(&t->status, &worst, status, memory_order_relaxed,
						      memory_order_relaxed))
		;
}

void token_unref(struct ss_token *t, int32_t status)
{
	if (!t)
		return;
	token_mark(t, status);
	if (atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) == 1)
		t->done(t->arg, t);
}
