/* SPDX-License-Identifier: MIT */
#include "core/config/rates.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
/* A member that said it has something to send and has not come back for so long keeps nobody waiting. */
#define STALE_NS (2 * SECOND)
/* For one that gives way: often enough to use what the others leave, too seldom to cost anything. */
#define YIELD_NS (SECOND / 50)

/*
 * A token bucket.  It may go below zero by what was sent last, so that a record of any size gets through;
 * then nothing is sent until the debt is paid.
 */
struct bucket {
	struct bucket *next;
	char *group; /* NULL: of one member */
	const char *owner;
	uint64_t rate, burst;
	int64_t level; /* bytes */
	uint64_t filled_ns;
	pthread_mutex_t lock; /* of all that follows */
	struct rate_member *members;
};

struct rate_member {
	struct bucket *bucket;
	struct rate_member *next;
	uint32_t priority;
	bool wants;                  /* has something to send */
	uint64_t since_ns, asked_ns; /* it has been waiting for its turn, and asked last */
};

struct rates {
	struct bucket *first;
};

struct rates *rates_new(void)
{
	return calloc(1, sizeof(struct rates));
}

static void bucket_free(struct bucket *b)
{
	for (struct rate_member *m = b->members, *next; m; m = next) {
		next = m->next;
		free(m);
	}
	pthread_mutex_destroy(&b->lock);
	free(b->group);
	free(b);
}

void rates_free(struct rates *r)
{
	if (!r)
		return;
	for (struct bucket *b = r->first, *next; b; b = next) {
		next = b->next;
		bucket_free(b);
	}
	free(r);
}

static struct bucket *find(const struct rates *r, const char *group)
{
	for (struct bucket *b = r->first; group && b; b = b->next)
		if (b->group && strcmp(b->group, group) == 0)
			return b;
	return NULL;
}

static struct bucket *bucket_new(struct rates *r, const struct rate_limit *limit, uint64_t burst)
{
	struct bucket *b = calloc(1, sizeof *b);

	if (!b)
		return NULL;
	*b = (struct bucket){.owner = limit->owner, .rate = limit->rate, .burst = burst, .next = r->first};
	if (limit->group && !(b->group = strdup(limit->group))) {
		free(b);
		return NULL;
	}
	pthread_mutex_init(&b->lock, NULL);
	r->first = b;
	return b;
}

int rates_join(struct rates *r, const struct rate_limit *limit, struct rate_member **out, const char **other)
{
	const uint64_t burst = limit->burst ? limit->burst : limit->rate / 10 + 1;
	struct bucket *b = find(r, limit->group);

	if (b && (b->rate != limit->rate || b->burst != burst)) {
		*other = b->owner;
		return -EEXIST;
	}
	struct rate_member *m = calloc(1, sizeof *m);
	if (m && !b)
		b = bucket_new(r, limit, burst);
	if (!m || !b) {
		free(m);
		return -ENOMEM;
	}
	m->bucket = b;
	m->priority = limit->priority;
	m->next = b->members;
	b->members = m;
	*out = m;
	return 0;
}

/* ---- asking ---- */

static void fill(struct bucket *b, uint64_t now_ns)
{
	if (!b->filled_ns)
		b->level = (int64_t)b->burst;
	else if (now_ns > b->filled_ns) {
		/* what a day brings fills any bucket: no overflow */
		uint64_t passed =
			now_ns - b->filled_ns < 86400 * SECOND ? now_ns - b->filled_ns : 86400 * SECOND;
		double gain = (double)passed * (double)b->rate / (double)SECOND;
		double level = (double)b->level + gain;
		if (level < (double)b->burst && gain < 1)
			return; /* not a byte yet: its time is not lost */
		b->level = level < (double)b->burst ? (int64_t)level : (int64_t)b->burst;
	}
	b->filled_ns = now_ns;
}

/* Is it the turn of another one? */
static bool gives_way(const struct rate_member *m, uint64_t now_ns)
{
	for (const struct rate_member *o = m->bucket->members; o; o = o->next) {
		if (o == m || !o->wants || now_ns - o->asked_ns > STALE_NS)
			continue;
		if (o->priority > m->priority || (o->priority == m->priority && o->since_ns < m->since_ns))
			return true;
	}
	return false;
}

void rate_succeed(struct rate_member *m, struct rate_member *before, uint64_t now_ns)
{
	struct bucket *b = m->bucket, *old = before->bucket;

	if (b == old || !old->filled_ns)
		return;
	fill(old, now_ns);
	fill(b, now_ns);
	const int64_t left = (int64_t)b->burst - ((int64_t)old->burst - old->level);
	if (left < b->level)
		b->level = left;
}

uint64_t rate_ask(struct rate_member *m, uint64_t now_ns, uint64_t *most)
{
	struct bucket *b = m->bucket;
	uint64_t wait = 0;

	pthread_mutex_lock(&b->lock);
	fill(b, now_ns);
	if (!m->wants)
		m->since_ns = now_ns;
	m->wants = true;
	m->asked_ns = now_ns;
	if (b->level <= 0)
		wait = (uint64_t)((double)(1 - b->level) * (double)SECOND / (double)b->rate) + 1;
	else if (gives_way(m, now_ns))
		wait = YIELD_NS;
	*most = b->burst;
	pthread_mutex_unlock(&b->lock);
	return wait;
}

void rate_spend(struct rate_member *m, uint64_t now_ns, uint64_t bytes)
{
	pthread_mutex_lock(&m->bucket->lock);
	m->bucket->level -= (int64_t)bytes;
	m->since_ns = now_ns; /* behind its equals */
	pthread_mutex_unlock(&m->bucket->lock);
}

void rate_rest(struct rate_member *m)
{
	pthread_mutex_lock(&m->bucket->lock);
	m->wants = false;
	pthread_mutex_unlock(&m->bucket->lock);
}
