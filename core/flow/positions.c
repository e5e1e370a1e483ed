/* SPDX-License-Identifier: MIT */
#include "core/flow/positions.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <semstreams/ext/positions.h>
#include "core/admin/log.h"
#include "core/flow/component.h"
#include "core/flow/stream_log.h"
#include "core/flow/streams.h"

struct positions {
	struct component *const *order;
	size_t n;
	pthread_mutex_t lock;
	uint8_t *ways; /* scratch, by index: how many ways lead there; 2 = more than one */
};

struct positions *positions_new(struct component *const *order, size_t n)
{
	struct positions *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	*p = (struct positions){.order = order, .n = n, .ways = malloc(n + 1)};
	if (!p->ways) {
		free(p);
		return NULL;
	}
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

int positions_reserve(struct positions *p, size_t n)
{
	pthread_mutex_lock(&p->lock);
	uint8_t *ways = realloc(p->ways, n + 1);
	if (ways)
		p->ways = ways;
	pthread_mutex_unlock(&p->lock);
	return ways ? 0 : -ENOMEM;
}

static void find_merging(const struct positions *p);

void positions_rewire(struct positions *p, struct component *const *order, size_t n)
{
	pthread_mutex_lock(&p->lock);
	p->order = order;
	p->n = n;
	find_merging(p);
	for (size_t i = 0; i < n; i++) {
		streams_free(order[i]->restored);
		order[i]->restored = NULL;
	}
	pthread_mutex_unlock(&p->lock);
}

static int inherit(struct streams *to, uint32_t port, const struct stream *st)
{
	struct stream *own = streams_get(to, port, st->source, st->id);

	if (own)
		stream_break(own, st);
	return own ? 0 : -ENOMEM;
}

void positions_hand_over(const struct component *old, struct component *to)
{
	int rc = 0;

	if (!old->checkpointer || !old->streams)
		return;
	to->inherited = streams_new(false);
	for (const struct stream *st = NULL; to->inherited && (st = streams_next(old->streams, st));) {
		const int port = st->broken ? component_port_of(to, old, st->port) : -1;
		if (port >= 0 && inherit(to->inherited, (uint32_t)port, st))
			rc = -ENOMEM;
	}
	if (rc || !to->inherited)
		log_printf(SS_LOG_ERROR, to->id, "Out of memory: events that failed may be missing");
}

void positions_inherit(struct component *c)
{
	const struct streams *from = c->inherited;
	int rc = 0;

	for (const struct stream *st = NULL; c->streams && from && (st = streams_next(from, st));)
		rc |= inherit(c->streams, st->port, st);
	if (rc)
		log_printf(SS_LOG_ERROR, c->id, "Out of memory: events that failed may be missing");
	streams_free(c->inherited);
	c->inherited = NULL;
}

void positions_free(struct positions *p)
{
	if (!p)
		return;
	pthread_mutex_destroy(&p->lock);
	free(p->ways);
	free(p);
}

/* ---- ways through the graph ---- */

static uint8_t ways_to(const struct positions *p, const struct component *c)
{
	return p->ways[c->index];
}

/* Ways of a source's stream that go on behind c: a processor that keeps what it is given goes on with a
 * stream of its own. */
static uint8_t ways_through(const struct positions *p, const struct component *c,
			    const struct component *source)
{
	return c != source && c->checkpointer ? 0 : ways_to(p, c);
}

static void count_ways(const struct positions *p, const struct component *source)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct component *c = p->order[i];
		unsigned n = c == source;
		for (size_t k = 0; n < 2 && k < c->n_inputs; k++)
			n += ways_through(p, c->inputs[k]->from, source);
		p->ways[c->index] = (uint8_t)(n < 2 ? n : 2);
	}
}

/* The most ways of a source's stream to one of the checkpointer's inputs. */
static uint8_t ways_in(const struct positions *p, const struct component *checkpointer,
		       const struct component *source)
{
	uint8_t most = 0;

	for (size_t k = 0; k < checkpointer->n_inputs; k++) {
		uint8_t n = ways_through(p, checkpointer->inputs[k]->from, source);
		most = n > most ? n : most;
	}
	return most;
}

/*
 * A stream that reaches one input of a checkpointer by several ways does not arrive in the order of its
 * sequences, so no position can say what is there: its source is not resumable.  A new checkpointer also ends
 * ways to those behind it.  They and what is between run already: only what is before the new one is looked
 * at.
 */
static void look_for_merging(const struct positions *p, const struct component *checkpointer)
{
	for (size_t i = 0; i < p->n; i++) {
		struct component *from = p->order[i];
		count_ways(p, from);
		if (from == checkpointer || ways_in(p, checkpointer, from) == 0)
			continue;
		from->merges = false;
		for (size_t k = 0; k < p->n; k++)
			if (p->order[k]->checkpointer && ways_in(p, p->order[k], from) > 1)
				from->merges = true;
	}
}

/* The same for all, when the graph has become another one.  A stateless one that streams now reach by several
 * ways removes no duplicates any more. */
static void find_merging(const struct positions *p)
{
	for (size_t i = 0; i < p->n; i++) {
		bool merges = false;
		count_ways(p, p->order[i]);
		for (size_t k = 0; k < p->n; k++) {
			struct component *c = p->order[k];
			const bool several = c != p->order[i] && c->streams && ways_in(p, c, p->order[i]) > 1;
			merges |= several && c->checkpointer;
			if (several && !c->checkpointer) {
				streams_free(c->streams);
				c->streams = NULL;
				c->offered = NULL;
			}
		}
		p->order[i]->merges = merges;
	}
}

/* Does a stream reach one of its inputs by several ways?  Checkpointers upstream have not started yet, so
 * ways that end there count as well. */
static bool is_merging(const struct positions *p, const struct component *c)
{
	for (size_t i = 0; i < p->n; i++) {
		count_ways(p, p->order[i]);
		if (p->order[i] != c && ways_in(p, c, p->order[i]) > 1)
			return true;
	}
	return false;
}

/* ---- the service ---- */

/* In the component's thread. */
static void count_streams(struct component *c)
{
	atomic_store_explicit(&c->n_streams, streams_count(c->streams), memory_order_relaxed);
}

static void on_retired(void *arg, const struct stream *st, enum stream_retired why)
{
	struct component *c = arg;

	if (c->offered == st)
		c->offered = NULL;
	const uint64_t n = atomic_fetch_add_explicit(&c->retired[why], 1, memory_order_relaxed) + 1;
	if (why == STREAM_RETIRED_LIMIT && (n & (n - 1)) == 0) /* a flood is not to fill the log */
		log_printf(SS_LOG_WARN, c->id,
			   "No room for the position of another stream: the one unseen for longest is "
			   "forgotten, see positions.max_streams; if it comes back, events may come twice "
			   "streams=%u forgotten=%llu",
			   streams_count(c->streams), (unsigned long long)n);
}

static uint32_t minutes(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return (uint32_t)(now.tv_sec / 60);
}

static struct streams *new_streams(struct component *c)
{
	struct streams *s = streams_new(c->covers_given);
	const struct config *config = c->config;

	if (!s)
		return NULL;
	streams_set_limits(s, &(struct streams_limits){.max = config ? config->max_streams : 0,
						       .forget = config ? config->forget_streams_min : 0,
						       .retired = on_retired,
						       .arg = c});
	streams_clock(s, minutes());
	return s;
}

static void be_checkpointer(void *self, uint32_t cover)
{
	struct component *c = self;
	struct positions *p = c->positions;

	if (!p || c->streams)
		return;
	if (cover == SS_COVER_NOTHING) {
		pthread_mutex_lock(&p->lock);
		c->streams = is_merging(p, c) ? NULL : new_streams(c);
		pthread_mutex_unlock(&p->lock);
		return;
	}
	c->covers_given = cover == SS_COVER_GIVEN;
	c->streams = new_streams(c); /* without memory restore() and snapshot() say so */
	pthread_mutex_lock(&p->lock);
	c->checkpointer = true;
	look_for_merging(p, c);
	pthread_mutex_unlock(&p->lock);
}

static int32_t restore(void *self, const void *snapshot, size_t size)
{
	struct component *c = self;
	struct positions *p = c->positions;

	if (!c->streams)
		return c->checkpointer ? -ENOMEM : -EINVAL;
	int rc = stream_log_load(c->stream_log, c->streams, snapshot, size, false);
	struct streams *restored = rc == 0 ? streams_copy(c->streams) : NULL;
	if (rc == 0 && !restored)
		rc = -ENOMEM;
	count_streams(c);
	if (rc == 0) {
		pthread_mutex_lock(&p->lock);
		struct streams *old = c->restored;
		c->restored = restored;
		restored = old;
		pthread_mutex_unlock(&p->lock);
	}
	streams_free(restored);
	return rc;
}

/* Of a batch with a position; NULL: out of memory. */
static struct stream *stream_of(struct component *c, uint32_t port, const struct ss_batch *b)
{
	return streams_get(c->streams, port, b->token->source, b->token->position.stream);
}

static int32_t cover(void *self, uint32_t port, const struct ss_batch *b)
{
	struct component *c = self;

	if (!c->streams || !b->token || !b->token->has_position)
		return 0;
	struct stream *st = stream_of(c, port, b);
	if (!st)
		return -ENOMEM;
	stream_cover(st, &b->token->position, b);
	return 0;
}

static int32_t rewind_to(void *self, const void *snapshot, size_t size)
{
	struct component *c = self;

	if (!c->streams)
		return 0;
	if (snapshot)
		return stream_log_load(c->stream_log, c->streams, snapshot, size, true);
	streams_uncover(c->streams);
	stream_log_restart(c->stream_log);
	return 0;
}

static int64_t snapshot(void *self, void *buf, size_t size)
{
	struct component *c = self;

	if (!c->streams)
		return c->checkpointer ? -ENOMEM : -EINVAL;
	if (!c->covers_given)
		positions_accepted(c);
	streams_clock(c->streams, minutes());
	const int64_t took = stream_log_save(c->stream_log, c->streams, buf, size);
	if (took >= 0 && (size_t)took <= size) {
		streams_forget(c->streams);
		count_streams(c);
	}
	return took;
}

static int32_t keep(void *self, const char *path)
{
	struct component *c = self;

	if (!c->checkpointer || c->stream_log)
		return 0;
	c->stream_log = stream_log_new(path);
	return c->stream_log ? 0 : -ENOMEM;
}

static int32_t sync_log(void *self, const void *snapshot, size_t size, int32_t durable)
{
	return stream_log_sync(((struct component *)self)->stream_log, snapshot, size, durable);
}

static void committed(void *self, const void *snapshot, size_t size)
{
	stream_log_committed(((struct component *)self)->stream_log, snapshot, size);
}

/* ---- what comes in ---- */

static int cut(struct component *c, struct stream *st, uint32_t fresh, struct ss_batch **batch)
{
	struct ss_batch *b = *batch, *part = batch_new(c->pool, b, fresh, 0);

	if (!part)
		return -ENOMEM;
	for (uint32_t i = 0; i < b->count; i++)
		if (!stream_has(st, &b->events[i]))
			part->events[part->count++] = b->events[i];
	part->footprint = b->footprint;
	batch_unref(b);
	*batch = part;
	return 0;
}

int positions_cut(struct component *c, uint32_t port, struct ss_batch **batch)
{
	struct ss_batch *b = *batch;

	if (!b->token || !b->token->has_position)
		return 0;
	struct stream *st = stream_of(c, port, b);
	if (!st)
		return -ENOMEM;
	int64_t fresh = stream_offer(st, &b->token->position, b);
	if (fresh < 0)
		return (int)fresh;
	int rc = fresh < b->count ? cut(c, st, (uint32_t)fresh, batch) : 0;
	if (rc == 0) {
		c->offered = st;
		c->offered_upto = stream_end(&(*batch)->token->position, *batch);
	}
	return rc;
}

void positions_accepted(struct component *c)
{
	if (c->offered)
		stream_accept(c->offered, &c->offered_upto);
	c->offered = NULL;
}

void positions_failed(struct component *c, const struct ss_batch *b)
{
	if (!c->streams || !b->token || !b->token->has_position)
		return;
	for (uint32_t port = 0; port < c->n_inputs; port++) {
		struct stream *st =
			streams_find(c->streams, port, b->token->source, b->token->position.stream);
		if (st)
			stream_fail(st, &b->token->position, b);
	}
}

/* ---- where sources go on ---- */

/* Lower *lowest to what the checkpointer had of a stream of the source; *any: there is one already. */
static int take_lowest(const struct positions *p, const struct component *checkpointer,
		       const struct component *source, const uint8_t stream[16], struct ss_position *lowest,
		       bool *any)
{
	for (size_t i = 0; i < checkpointer->n_inputs; i++) {
		if (ways_through(p, checkpointer->inputs[i]->from, source) == 0)
			continue;
		const struct stream *had =
			checkpointer->restored
				? streams_find(checkpointer->restored, (uint32_t)i, source->id, stream)
				: NULL;
		if (!had || (*any && memcmp(had->taken.epoch, lowest->epoch, sizeof lowest->epoch) != 0))
			return -ENOENT;
		if (!*any || had->taken.seq < lowest->seq)
			*lowest = had->taken;
		*any = true;
	}
	return 0;
}

static int32_t resume(void *self, const uint8_t stream[16], struct ss_position *out)
{
	struct component *c = self;
	struct positions *p = c->positions;
	struct ss_position lowest = {0};
	bool any = false;
	int rc = 0;

	if (!p || c->merges)
		return -ENOENT;
	pthread_mutex_lock(&p->lock);
	count_ways(p, c);
	for (size_t i = 0; rc == 0 && i < p->n; i++) {
		if (p->order[i]->checkpointer)
			rc = take_lowest(p, p->order[i], c, stream, &lowest, &any);
	}
	pthread_mutex_unlock(&p->lock);
	if (rc || !any)
		return -ENOENT;
	*out = lowest;
	return 0;
}

const struct ss_positions positions_service = {
	.struct_size = sizeof(struct ss_positions),
	.checkpointer = be_checkpointer,
	.restore = restore,
	.cover = cover,
	.rewind = rewind_to,
	.snapshot = snapshot,
	.resume = resume,
	.keep = keep,
	.sync = sync_log,
	.committed = committed,
};
