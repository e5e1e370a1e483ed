/* SPDX-License-Identifier: MIT */
#include "core/flow/streams.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/strbuf.h>

struct streams {
	bool covers;
	uint32_t n, now;
	struct stream **index; /* open addressing, a power of two of them, at most half full */
	uint32_t slots;
	struct stream *last; /* batches of a stream come in a row; it is the end of by_use */
	TAILQ_HEAD(, stream) by_use;
	LIST_HEAD(, stream) changed;
	struct streams_limits limits;
};

struct streams *streams_new(bool covers)
{
	struct streams *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->covers = covers;
	TAILQ_INIT(&s->by_use);
	LIST_INIT(&s->changed);
	return s;
}

void streams_free(struct streams *s)
{
	struct stream *st, *next;

	if (!s)
		return;
	for (st = TAILQ_FIRST(&s->by_use); st; st = next) {
		next = TAILQ_NEXT(st, by_use);
		free(st);
	}
	free(s->index);
	free(s);
}

void streams_set_limits(struct streams *s, const struct streams_limits *limits)
{
	s->limits = *limits;
}

void streams_clock(struct streams *s, uint32_t now)
{
	s->now = now;
}

uint32_t streams_count(const struct streams *s)
{
	return s->n;
}

/* ---- the table ---- */

static uint32_t hash(uint32_t port, const char *source, const uint8_t id[STREAM_ID])
{
	uint32_t h = 2166136261u ^ port; /* FNV-1a */

	for (; *source; source++)
		h = (h ^ (uint8_t)*source) * 16777619u;
	for (int i = 0; i < STREAM_ID; i++)
		h = (h ^ id[i]) * 16777619u;
	return h * 2654435769u >> 7;
}

static bool is(const struct stream *st, uint32_t port, const char *source, const uint8_t id[STREAM_ID])
{
	return memcmp(st->id, id, sizeof st->id) == 0 && st->port == port && strcmp(st->source, source) == 0;
}

/* Where it is, or would be. */
static struct stream **slot_of(const struct streams *s, uint32_t h, uint32_t port, const char *source,
			       const uint8_t id[STREAM_ID])
{
	uint32_t i = h & (s->slots - 1);

	while (s->index[i] && (s->index[i]->hash != h || !is(s->index[i], port, source, id)))
		i = (i + 1) & (s->slots - 1);
	return &s->index[i];
}

static int grow(struct streams *s)
{
	uint32_t slots = s->slots ? 2 * s->slots : 16;
	struct stream **index = calloc(slots, sizeof(*index)), *st;

	if (!index)
		return -ENOMEM;
	free(s->index);
	s->index = index;
	s->slots = slots;
	TAILQ_FOREACH(st, &s->by_use, by_use)
	*slot_of(s, st->hash, st->port, st->source, st->id) = st;
	return 0;
}

/* Those behind it move up, so that no search ends at the hole. */
static void remove_slot(struct streams *s, const struct stream *st)
{
	const uint32_t mask = s->slots - 1;
	uint32_t hole = (uint32_t)(slot_of(s, st->hash, st->port, st->source, st->id) - s->index);

	for (uint32_t i = (hole + 1) & mask; s->index[i]; i = (i + 1) & mask) {
		if (((i - s->index[i]->hash) & mask) < ((i - hole) & mask))
			continue; /* its search begins behind the hole */
		s->index[hole] = s->index[i];
		hole = i;
	}
	s->index[hole] = NULL;
}

static void retire(struct streams *s, struct stream *st, enum stream_retired why)
{
	remove_slot(s, st);
	TAILQ_REMOVE(&s->by_use, st, by_use);
	stream_is_saved(st);
	if (s->last == st)
		s->last = NULL;
	s->n--;
	if (s->limits.retired)
		s->limits.retired(s->limits.arg, st, why);
	free(st);
}

void streams_forget(struct streams *s)
{
	struct stream *st;

	while (s->limits.forget && (st = TAILQ_FIRST(&s->by_use)) && s->now > st->used &&
	       s->now - st->used > s->limits.forget)
		retire(s, st, STREAM_RETIRED_AGE);
}

struct stream *streams_find(struct streams *s, uint32_t port, const char *source, const uint8_t id[STREAM_ID])
{
	if (s->last && is(s->last, port, source, id))
		return s->last;
	struct stream *st = s->n ? *slot_of(s, hash(port, source, id), port, source, id) : NULL;
	if (st) {
		TAILQ_REMOVE(&s->by_use, st, by_use);
		TAILQ_INSERT_TAIL(&s->by_use, st, by_use);
		s->last = st;
	}
	return st;
}

struct stream *streams_get(struct streams *s, uint32_t port, const char *source, const uint8_t id[STREAM_ID])
{
	struct stream *st = streams_find(s, port, source, id);

	if (st)
		return st;
	if (strlen(source) >= STREAM_SOURCE_MAX || (2 * (s->n + 1) > s->slots && grow(s) < 0))
		return NULL;
	st = calloc(1, sizeof *st);
	if (!st)
		return NULL;
	while (s->limits.max && s->n >= s->limits.max)
		retire(s, TAILQ_FIRST(&s->by_use), STREAM_RETIRED_LIMIT);
	*st = (struct stream){.port = port, .of = s, .hash = hash(port, source, id), .used = s->now};
	memcpy(st->source, source, strlen(source) + 1);
	memcpy(st->id, id, sizeof st->id);
	*slot_of(s, st->hash, port, source, id) = st;
	TAILQ_INSERT_TAIL(&s->by_use, st, by_use);
	s->last = st;
	s->n++;
	return st;
}

struct stream *streams_next(const struct streams *s, const struct stream *st)
{
	return st ? TAILQ_NEXT(st, by_use) : TAILQ_FIRST(&s->by_use);
}

struct streams *streams_copy(const struct streams *s)
{
	struct streams *copy = streams_new(s->covers);
	const struct stream *st;

	TAILQ_FOREACH(st, &s->by_use, by_use)
	{
		struct stream *to = copy ? streams_get(copy, st->port, st->source, st->id) : NULL;
		if (!to) {
			streams_free(copy);
			return NULL;
		}
		to->taken = st->taken;
	}
	return copy;
}

/* ---- a batch ---- */

static void note_change(struct stream *st)
{
	st->used = st->of->now;
	if (st->is_changed)
		return;
	st->is_changed = true;
	LIST_INSERT_HEAD(&st->of->changed, st, by_change);
}

static bool same_epoch(const struct ss_position *a, const struct ss_position *b)
{
	return memcmp(a->epoch, b->epoch, sizeof a->epoch) == 0;
}

/* Events without a sequence, 0, are at no place of the stream. */
static uint64_t first_seq(const struct ss_batch *b)
{
	for (uint32_t i = 0; i < b->count; i++)
		if (b->events[i].seq)
			return b->events[i].seq;
	return 0;
}

/* Not the position's: of what that covers, a part may still be to come in another batch. */
static uint64_t last_seq(const struct ss_batch *b)
{
	for (uint32_t i = b->count; i-- > 0;)
		if (b->events[i].seq)
			return b->events[i].seq;
	return 0;
}

int64_t stream_offer(struct stream *s, const struct ss_position *at, const struct ss_batch *b)
{
	int64_t fresh = 0;

	if (!same_epoch(&s->taken, at)) {
		s->taken = *at;
		s->taken.seq = s->seen = 0;
		s->broken = false;
		s->renewed = true;
		note_change(s);
	}
	if (s->broken && first_seq(b) > s->seen)
		return -ESTALE;
	s->broken = false;
	/* sequences grow: what begins above has nothing that is there */
	if (b->count && b->events[0].seq > s->taken.seq && b->events[b->count - 1].seq > s->taken.seq)
		fresh = b->count;
	for (uint32_t i = 0; fresh < b->count && i < b->count; i++)
		fresh += !stream_has(s, &b->events[i]);
	return fresh;
}

static void advance(struct stream *s, struct ss_position *p, const struct ss_position *end)
{
	const bool same = same_epoch(p, end);

	if (same && end->seq <= p->seq)
		return;
	*p = *end;
	s->renewed |= !same;
	note_change(s);
}

struct ss_position stream_end(const struct ss_position *at, const struct ss_batch *b)
{
	struct ss_position end = *at;

	end.seq = last_seq(b);
	return end;
}

void stream_accept(struct stream *s, const struct ss_position *end)
{
	advance(s, &s->taken, end);
	if (s->taken.seq > s->seen)
		s->seen = s->taken.seq;
}

void stream_fail(struct stream *s, const struct ss_position *at, const struct ss_batch *b)
{
	uint64_t first = first_seq(b), last = last_seq(b);

	if (first == 0 || !same_epoch(&s->taken, at))
		return;
	s->broken = true;
	s->seen = last > s->seen ? last : s->seen;
	if (s->taken.seq >= first) {
		s->taken.seq = first - 1;
		note_change(s);
	}
}

void stream_break(struct stream *s, const struct stream *before)
{
	if (!same_epoch(&s->taken, &before->taken)) {
		s->taken = before->taken;
		s->taken.seq = s->seen = 0;
		s->renewed = true;
		note_change(s);
	}
	s->broken = true;
	s->seen = before->seen > s->seen ? before->seen : s->seen;
}

void stream_cover(struct stream *s, const struct ss_position *at, const struct ss_batch *b)
{
	struct ss_position end = stream_end(at, b);

	advance(s, &s->covered, &end);
}

/*
 * ---- snapshots: "SSP2", number of streams; for each: port, length of the source's id, the id, stream,
 * epoch, sequence, minute of its last use.  "SSP1", of earlier programs, has no streams, which were one per
 * source, and no minutes. ----
 */

static const char magic[4] = {'S', 'S', 'P', '2'};
static const char magic_1[4] = {'S', 'S', 'P', '1'};
enum { HEAD = 8, FIXED = 4 + 4 + STREAM_ID + 16 + 8 + 4 };

const struct ss_position *stream_position(const struct stream *st)
{
	return st->of->covers ? &st->covered : &st->taken;
}

struct stream *streams_changed(const struct streams *s)
{
	return LIST_FIRST(&s->changed);
}

void stream_is_saved(struct stream *st)
{
	if (st->is_changed)
		LIST_REMOVE(st, by_change);
	st->is_changed = st->renewed = false;
}

static uint8_t *put(uint8_t *p, const void *bytes, size_t len)
{
	memcpy(p, bytes, len);
	return p + len;
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	return put(p, &v, sizeof v);
}

static uint8_t *put_stream(uint8_t *p, const struct stream *st)
{
	const struct ss_position *at = stream_position(st);
	uint32_t len = (uint32_t)strlen(st->source);
	uint64_t seq = htole64(at->seq);

	p = put32(put32(p, st->port), len);
	p = put(p, st->source, len);
	p = put(p, st->id, sizeof st->id);
	p = put(p, at->epoch, sizeof at->epoch);
	p = put(p, &seq, sizeof seq);
	return put32(p, st->used);
}

int64_t streams_save(const struct streams *s, void *buf, size_t size)
{
	const struct stream *st;
	size_t need = HEAD;
	uint32_t n = 0;

	TAILQ_FOREACH(st, &s->by_use, by_use)
	{
		if (stream_position(st)->seq) {
			need += FIXED + strlen(st->source);
			n++;
		}
	}
	if (need > size)
		return (int64_t)need;
	uint8_t *p = put32(put(buf, magic, sizeof magic), n);
	TAILQ_FOREACH(st, &s->by_use, by_use)
	{
		if (stream_position(st)->seq)
			p = put_stream(p, st);
	}
	return (int64_t)need;
}

static bool read_stream(struct ss_unpack *u, bool first_form, struct stream_saved *out)
{
	*out = (struct stream_saved){.port = ss_unpack_u32(u)};
	uint32_t len = ss_unpack_u32(u);
	const uint8_t *source = len && len < STREAM_SOURCE_MAX ? ss_unpack_bytes(u, len) : NULL;
	const uint8_t *id = first_form ? NULL : ss_unpack_bytes(u, STREAM_ID);
	const uint8_t *epoch = ss_unpack_bytes(u, sizeof out->at.epoch);
	out->at.seq = ss_unpack_u64(u);
	out->used = first_form ? 0 : ss_unpack_u32(u);

	if (!source || u->failed || memchr(source, '\0', len))
		return false;
	memcpy(out->source, source, len);
	if (id)
		memcpy(out->at.stream, id, STREAM_ID);
	memcpy(out->at.epoch, epoch, sizeof out->at.epoch);
	return out->at.seq != 0;
}

int streams_put(struct streams *s, const struct stream_saved *saved, bool covered_only)
{
	struct stream *st = streams_get(s, saved->port, saved->source, saved->at.stream);

	if (!st)
		return -ENOMEM;
	st->covered = saved->at;
	st->used = saved->used ? saved->used : s->now;
	st->number = saved->number;
	if (!covered_only) {
		st->taken = saved->at;
		st->seen = saved->at.seq;
	}
	return 0;
}

int streams_load(struct streams *s, const void *snapshot, size_t size, bool covered_only)
{
	struct ss_unpack u = {.at = snapshot, .end = (const uint8_t *)snapshot + size};
	struct stream_saved saved;

	const uint8_t *kind = ss_unpack_bytes(&u, sizeof magic);
	const uint32_t n = ss_unpack_u32(&u);
	if (u.failed)
		return -EINVAL;
	const bool first_form = memcmp(kind, magic_1, sizeof magic_1) == 0;
	if (!first_form && memcmp(kind, magic, sizeof magic) != 0)
		return -EINVAL;
	struct ss_unpack first = u;
	for (uint32_t i = 0; i < n; i++) /* whole, before anything is changed */
		if (!read_stream(&u, first_form, &saved))
			return -EINVAL;
	if (u.at != u.end)
		return -EINVAL;
	streams_uncover(s);
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < n && read_stream(&first, first_form, &saved); i++)
		rc = streams_put(s, &saved, covered_only);
	return rc;
}

void streams_uncover(struct streams *s)
{
	struct stream *st;

	TAILQ_FOREACH(st, &s->by_use, by_use)
	{
		st->covered = (struct ss_position){0};
		st->renewed = true;
	}
}
