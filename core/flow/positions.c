/* SPDX-License-Identifier: MIT */
#include "core/flow/positions.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/positions.h>
#include "core/flow/component.h"

/* What a checkpointer has of a stream through one of its inputs. */
struct kept {
	const struct component *checkpointer;
	uint32_t port;
	char source[CONFIG_MAX_ID + 1];
	struct ss_position position;
};

struct positions {
	const struct component *all;
	struct component *const *order;
	size_t n;
	pthread_mutex_t lock;
	uint8_t *ways; /* scratch, by index in all: how many ways lead there; 2 = more than one */
	struct kept *kept;
	size_t n_kept;
};

struct positions *positions_new(const struct component *all, struct component *const *order, size_t n)
{
	struct positions *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	*p = (struct positions){.all = all, .order = order, .n = n, .ways = malloc(n + 1)};
	if (!p->ways) {
		free(p);
		return NULL;
	}
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

void positions_free(struct positions *p)
{
	if (!p)
		return;
	pthread_mutex_destroy(&p->lock);
	free(p->ways);
	free(p->kept);
	free(p);
}

static struct kept *find(const struct positions *p, const struct component *checkpointer, uint32_t port,
			 const char *source)
{
	for (size_t i = 0; i < p->n_kept; i++) {
		struct kept *k = &p->kept[i];
		if (k->checkpointer == checkpointer && k->port == port && strcmp(k->source, source) == 0)
			return k;
	}
	return NULL;
}

/* ---- ways through the graph ---- */

static uint8_t ways_to(const struct positions *p, const struct component *c)
{
	return p->ways[c - p->all];
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
		p->ways[c - p->all] = (uint8_t)(n < 2 ? n : 2);
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

/* ---- the service ---- */

static void be_checkpointer(void *self)
{
	struct component *c = self;
	struct positions *p = c->positions;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	c->checkpointer = true;
	look_for_merging(p, c);
	pthread_mutex_unlock(&p->lock);
}

static int put(struct positions *p, const struct component *checkpointer, uint32_t port, const char *source,
	       const struct ss_position *position)
{
	struct kept *k = find(p, checkpointer, port, source);
	if (!k) {
		struct kept *grown = realloc(p->kept, (p->n_kept + 1) * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		p->kept = grown;
		k = &grown[p->n_kept++];
		*k = (struct kept){.checkpointer = checkpointer, .port = port};
		memcpy(k->source, source, strlen(source) + 1);
	}
	k->position = *position;
	return 0;
}

static int32_t kept(void *self, uint32_t port, const char *source, const struct ss_position *position)
{
	struct component *c = self;
	struct positions *p = c->positions;

	if (!p || !c->checkpointer || port >= c->n_inputs || strlen(source) > CONFIG_MAX_ID)
		return -EINVAL;
	pthread_mutex_lock(&p->lock);
	int rc = put(p, c, port, source, position);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

/* Lower *lowest to what the checkpointer has of the source; *any: there is one already. */
static int take_lowest(const struct positions *p, const struct component *checkpointer,
		       const struct component *source, struct ss_position *lowest, bool *any)
{
	for (size_t i = 0; i < checkpointer->n_inputs; i++) {
		if (ways_through(p, checkpointer->inputs[i]->from, source) == 0)
			continue;
		const struct kept *k = find(p, checkpointer, (uint32_t)i, source->id);
		if (!k || (*any && memcmp(k->position.epoch, lowest->epoch, sizeof lowest->epoch) != 0))
			return -ENOENT;
		if (!*any || k->position.seq < lowest->seq)
			*lowest = k->position;
		*any = true;
	}
	return 0;
}

static int32_t resume(void *self, struct ss_position *out)
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
			rc = take_lowest(p, p->order[i], c, &lowest, &any);
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
	.kept = kept,
	.resume = resume,
};
