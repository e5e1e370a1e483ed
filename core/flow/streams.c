/* SPDX-License-Identifier: MIT */
#include "core/flow/streams.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/strbuf.h>

struct streams {
	struct stream **all;
	uint32_t n, room;
	uint32_t *index; /* open addressing: number in all + 1, 0 = free; a power of two of them */
	uint32_t slots;
	uint32_t last; /* in all: batches of a stream come in a row */
};

struct streams *streams_new(void)
{
	return calloc(1, sizeof(struct streams));
}

void streams_free(struct streams *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < s->n; i++)
		free(s->all[i]);
	free(s->all);
	free(s->index);
	free(s);
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

static uint32_t *slot_of(const struct streams *s, uint32_t port, const char *source,
			 const uint8_t id[STREAM_ID])
{
	uint32_t i = hash(port, source, id) & (s->slots - 1);

	while (s->index[i] && !is(s->all[s->index[i] - 1], port, source, id))
		i = (i + 1) & (s->slots - 1);
	return &s->index[i];
}

struct stream *streams_find(struct streams *s, uint32_t port, const char *source, const uint8_t id[STREAM_ID])
{
	if (s->n == 0)
		return NULL;
	if (is(s->all[s->last], port, source, id))
		return s->all[s->last];
	uint32_t number = *slot_of(s, port, source, id);
	if (number)
		s->last = number - 1;
	return number ? s->all[number - 1] : NULL;
}

static int grow(struct streams *s)
{
	uint32_t room = s->room ? 2 * s->room : 8;
	struct stream **all = realloc(s->all, room * sizeof(*all));

	if (!all)
		return -ENOMEM;
	s->all = all;
	uint32_t *index = calloc(2 * (size_t)room, sizeof *index);
	if (!index)
		return -ENOMEM;
	free(s->index);
	s->index = index;
	s->slots = 2 * room;
	s->room = room;
	for (uint32_t i = 0; i < s->n; i++)
		*slot_of(s, all[i]->port, all[i]->source, all[i]->id) = i + 1;
	return 0;
}

struct stream *streams_get(struct streams *s, uint32_t port, const char *source, const uint8_t id[STREAM_ID])
{
	struct stream *st = streams_find(s, port, source, id);

	if (!st) {
		if (strlen(source) >= STREAM_SOURCE_MAX || (s->n == s->room && grow(s) < 0))
			return NULL;
		st = calloc(1, sizeof *st);
		if (!st)
			return NULL;
		st->port = port;
		memcpy(st->source, source, strlen(source) + 1);
		memcpy(st->id, id, sizeof st->id);
		s->all[s->n++] = st;
		*slot_of(s, port, source, id) = s->n;
		s->last = s->n - 1;
	}
	return st;
}

struct stream *streams_at(const struct streams *s, uint32_t i)
{
	return i < s->n ? s->all[i] : NULL;
}

/* ---- a batch ---- */

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

static void advance(struct ss_position *p, const struct ss_position *end)
{
	if (!same_epoch(p, end) || end->seq > p->seq)
		*p = *end;
}

struct ss_position stream_end(const struct ss_position *at, const struct ss_batch *b)
{
	struct ss_position end = *at;

	end.seq = last_seq(b);
	return end;
}

void stream_accept(struct stream *s, const struct ss_position *end)
{
	advance(&s->taken, end);
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
	if (s->taken.seq >= first)
		s->taken.seq = first - 1;
}

void stream_cover(struct stream *s, const struct ss_position *at, const struct ss_batch *b)
{
	struct ss_position end = stream_end(at, b);

	advance(&s->covered, &end);
}

/*
 * ---- snapshots: "SSP2", number of streams; for each: port, length of the source's id, the id, stream,
 * epoch, sequence.  "SSP1", of earlier programs, has no streams: they were one per source. ----
 */

static const char magic[4] = {'S', 'S', 'P', '2'};
static const char magic_1[4] = {'S', 'S', 'P', '1'};
enum { HEAD = 8, FIXED = 4 + 4 + STREAM_ID + 16 + 8 };

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

static uint8_t *put_stream(uint8_t *p, const struct stream *st, const struct ss_position *at)
{
	uint32_t len = (uint32_t)strlen(st->source);
	uint64_t seq = htole64(at->seq);

	p = put32(put32(p, st->port), len);
	p = put(p, st->source, len);
	p = put(p, st->id, sizeof st->id);
	p = put(p, at->epoch, sizeof at->epoch);
	return put(p, &seq, sizeof seq);
}

int64_t streams_save(const struct streams *s, bool covered, void *buf, size_t size)
{
	size_t need = HEAD;
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n; i++) {
		const struct stream *st = s->all[i];
		if ((covered ? st->covered : st->taken).seq) {
			need += FIXED + strlen(st->source);
			n++;
		}
	}
	if (need > size)
		return (int64_t)need;
	uint8_t *p = put32(put(buf, magic, sizeof magic), n);
	for (uint32_t i = 0; i < s->n; i++) {
		const struct stream *st = s->all[i];
		const struct ss_position *at = covered ? &st->covered : &st->taken;
		if (at->seq)
			p = put_stream(p, st, at);
	}
	return (int64_t)need;
}

/* One stream of a snapshot. */
struct saved {
	uint32_t port;
	char source[STREAM_SOURCE_MAX];
	struct ss_position at;
};

static bool read_stream(struct ss_unpack *u, bool has_id, struct saved *out)
{
	*out = (struct saved){.port = ss_unpack_u32(u)};
	uint32_t len = ss_unpack_u32(u);
	const uint8_t *source = len && len < STREAM_SOURCE_MAX ? ss_unpack_bytes(u, len) : NULL;
	const uint8_t *id = has_id ? ss_unpack_bytes(u, STREAM_ID) : out->at.stream;
	const uint8_t *epoch = ss_unpack_bytes(u, sizeof out->at.epoch);
	out->at.seq = ss_unpack_u64(u);

	if (!source || u->failed || memchr(source, '\0', len))
		return false;
	memcpy(out->source, source, len);
	memmove(out->at.stream, id, STREAM_ID);
	memcpy(out->at.epoch, epoch, sizeof out->at.epoch);
	return out->at.seq != 0;
}

static int load_stream(struct streams *s, const struct saved *saved, bool covered_only)
{
	struct stream *st = streams_get(s, saved->port, saved->source, saved->at.stream);

	if (!st)
		return -ENOMEM;
	st->covered = saved->at;
	if (!covered_only) {
		st->taken = saved->at;
		st->seen = saved->at.seq;
	}
	return 0;
}

int streams_load(struct streams *s, const void *snapshot, size_t size, bool covered_only)
{
	struct ss_unpack u = {.at = snapshot, .end = (const uint8_t *)snapshot + size};
	struct saved saved;

	const uint8_t *kind = ss_unpack_bytes(&u, sizeof magic);
	const bool has_id = kind && memcmp(kind, magic, sizeof magic) == 0;
	const uint32_t n = ss_unpack_u32(&u);
	if (u.failed || (!has_id && memcmp(kind, magic_1, sizeof magic_1) != 0))
		return -EINVAL;
	struct ss_unpack first = u;
	for (uint32_t i = 0; i < n; i++) /* whole, before anything is changed */
		if (!read_stream(&u, has_id, &saved))
			return -EINVAL;
	if (u.at != u.end)
		return -EINVAL;
	streams_uncover(s);
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < n && read_stream(&first, has_id, &saved); i++)
		rc = load_stream(s, &saved, covered_only);
	return rc;
}

void streams_uncover(struct streams *s)
{
	for (uint32_t i = 0; i < s->n; i++)
		s->all[i]->covered = (struct ss_position){0};
}
