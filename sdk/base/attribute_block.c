/* SPDX-License-Identifier: MIT */
#include <semstreams/base/attribute_block.h>

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <semstreams/base/utf8.h>

enum { HEAD = SS_ATTRIBUTE_BLOCK_HEAD, END = SS_ATTRIBUTE_BLOCK_SET, RUN = SS_ATTRIBUTE_BLOCK_RUN };
#define KNOWN ((1u << SS_ATTR_COUNT) - 1)
#define FLAGS (SS_ATTR_PEER_VERIFIED | SS_ATTR_ORIGIN_VERIFIED)

static void put32(uint8_t *to, uint32_t v)
{
	v = htobe32(v);
	memcpy(to, &v, sizeof v);
}

static uint32_t get32(const uint8_t *from)
{
	uint32_t v;
	memcpy(&v, from, sizeof v);
	return be32toh(v);
}

/* ---- sets ---- */

size_t ss_attribute_set_size(const struct ss_attributes *set)
{
	size_t size = 0;

	for (uint32_t i = SS_ATTR_ORIGIN; i < SS_ATTR_COUNT; i++) {
		const struct ss_attribute a = ss_attribute_get(set, i);
		size += a.text ? 2 + (size_t)a.len : 0;
	}
	return size ? 2 + size : 0;
}

size_t ss_attribute_set_write(const struct ss_attributes *set, uint8_t out[SS_ATTRIBUTE_SET_MAX])
{
	size_t at = 2;
	uint8_t present = 0;

	for (uint32_t i = SS_ATTR_ORIGIN; i < SS_ATTR_COUNT; i++) {
		const struct ss_attribute a = ss_attribute_get(set, i);
		if (!a.text)
			continue;
		present |= (uint8_t)(1u << i);
		out[at++] = (uint8_t)(a.len >> 8);
		out[at++] = (uint8_t)a.len;
		memcpy(out + at, a.text, a.len);
		at += a.len;
	}
	out[0] = present ? (uint8_t)(set->flags & SS_ATTR_ORIGIN_VERIFIED) : 0;
	out[1] = present;
	return present ? at : 0;
}

bool ss_attribute_text_valid(const char *text, size_t len)
{
	uint32_t code;
	size_t n;

	for (size_t at = 0; at < len; at += n) {
		n = ss_utf8_next(text + at, len - at, &code);
		if (n == 0 || code < 0x20 || (code >= 0x7f && code < 0xa0))
			return false;
	}
	return true;
}

int ss_attribute_set_read(const uint8_t *set, size_t len, struct ss_attributes *out)
{
	struct ss_attributes values = {.struct_size = sizeof values};
	size_t at = 2;

	if (len < 2 || set[0] & ~FLAGS || set[1] & ~KNOWN || !set[1])
		return -EINVAL;
	values.flags = set[0];
	for (uint32_t i = 0; i < SS_ATTR_COUNT; i++) {
		if (!(set[1] & 1u << i))
			continue;
		const size_t n = len - at >= 2 ? (size_t)set[at] << 8 | set[at + 1] : 0;
		if (n == 0 || n > (i == SS_ATTR_PATH ? SS_ATTR_PATH_MAX : SS_ATTR_NAME_MAX) ||
		    n > len - at - 2)
			return -EINVAL;
		values.values[i] =
			(struct ss_attribute){.text = (const char *)set + at + 2, .len = (uint32_t)n};
		if (!ss_attribute_text_valid(values.values[i].text, n))
			return -EINVAL;
		at += 2 + n;
	}
	if (at != len)
		return -EINVAL;
	*out = values;
	return 0;
}

/* ---- writing ---- */

void ss_attribute_writer_clear(struct ss_attribute_writer *w)
{
	ss_strbuf_clear(&w->ends);
	ss_strbuf_clear(&w->runs);
	ss_strbuf_clear(&w->sets);
	if (w->n_sets)
		memset(w->recent, 0, sizeof w->recent);
	w->n_sets = w->n_runs = w->last = w->events = 0;
}

void ss_attribute_writer_done(struct ss_attribute_writer *w)
{
	ss_strbuf_done(&w->ends);
	ss_strbuf_done(&w->runs);
	ss_strbuf_done(&w->sets);
	*w = (struct ss_attribute_writer){0};
}

static const uint8_t *written_set(const struct ss_attribute_writer *w, uint32_t number, size_t *len)
{
	const struct ss_attribute_block so_far = {.ends = (const uint8_t *)w->ends.bytes,
						  .sets = (const uint8_t *)w->sets.bytes};

	return ss_attribute_block_set(&so_far, number, len);
}

static bool is_set(const struct ss_attribute_writer *w, uint32_t number, const uint8_t *set, size_t len)
{
	size_t n;
	const uint8_t *there = number ? written_set(w, number, &n) : NULL;

	return there && n == len && memcmp(there, set, len) == 0;
}

/* FNV-1a: only a place to look first. */
static uint8_t hash(const uint8_t *set, size_t len)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ set[i]) * 16777619u;
	return (uint8_t)(h >> 24 ^ h >> 8);
}

uint32_t ss_attribute_writer_find(const struct ss_attribute_writer *w, const uint8_t *set, size_t len)
{
	if (!len)
		return 0;
	if (is_set(w, w->last, set, len))
		return w->last;
	const uint32_t number = w->recent[hash(set, len)];
	return is_set(w, number, set, len) ? number : 0;
}

size_t ss_attribute_writer_cost(const struct ss_attribute_writer *w, const uint8_t *set, size_t len)
{
	const uint32_t number = ss_attribute_writer_find(w, set, len);
	const bool first = w->n_sets == 0; /* what came before is one run without a set */

	if (!len)
		return first || w->last == 0 ? 0 : RUN;
	if (number)
		return number == w->last ? 0 : RUN;
	return (first ? HEAD + RUN : 0) + RUN + END + len;
}

static void end_run(struct ss_attribute_writer *w)
{
	uint8_t run[RUN];

	if (!w->events)
		return;
	put32(run, w->events);
	put32(run + 4, w->last);
	ss_strbuf_add(&w->runs, run, sizeof run);
	w->n_runs++;
	w->events = 0;
}

int ss_attribute_writer_add(struct ss_attribute_writer *w, const uint8_t *set, size_t len)
{
	uint32_t number = ss_attribute_writer_find(w, set, len);
	uint8_t end[END];

	if (len && !number) {
		ss_strbuf_add(&w->sets, set, len);
		put32(end, (uint32_t)w->sets.len);
		ss_strbuf_add(&w->ends, end, sizeof end);
		if (w->sets.failed || w->ends.failed)
			return -ENOMEM;
		number = ++w->n_sets;
		w->recent[hash(set, len)] = number;
	}
	if (number != w->last)
		end_run(w);
	w->last = number;
	w->events++;
	return w->runs.failed ? -ENOMEM : 0;
}

void ss_attribute_writer_again(struct ss_attribute_writer *w)
{
	w->events++;
}

size_t ss_attribute_writer_size(const struct ss_attribute_writer *w)
{
	return w->n_sets ? HEAD + w->ends.len + w->runs.len + (w->events ? RUN : 0) + w->sets.len : 0;
}

void ss_attribute_writer_put(const struct ss_attribute_writer *w, uint8_t *to)
{
	put32(to, w->n_sets);
	put32(to + 4, w->n_runs + (w->events > 0));
	to += HEAD;
	memcpy(to, w->ends.bytes, w->ends.len);
	to += w->ends.len;
	if (w->runs.len)
		memcpy(to, w->runs.bytes, w->runs.len);
	to += w->runs.len;
	if (w->events) {
		put32(to, w->events);
		put32(to + 4, w->last);
		to += RUN;
	}
	memcpy(to, w->sets.bytes, w->sets.len);
}

/* ---- reading ---- */

const uint8_t *ss_attribute_block_set(const struct ss_attribute_block *b, uint32_t number, size_t *len)
{
	const uint32_t from = number > 1 ? get32(b->ends + (size_t)(number - 2) * END) : 0;

	*len = get32(b->ends + (size_t)(number - 1) * END) - from;
	return b->sets + from;
}

uint32_t ss_attribute_block_run(const struct ss_attribute_block *b, uint32_t run, uint32_t *set)
{
	*set = get32(b->runs + (size_t)run * RUN + 4);
	return get32(b->runs + (size_t)run * RUN);
}

static bool is_sound(const struct ss_attribute_block *b, size_t sets_len, uint64_t events)
{
	struct ss_attributes ignored;
	uint32_t end = 0, before, set;
	uint64_t n = 0;

	for (uint32_t i = 0; i < b->n_sets; i++) {
		before = end;
		end = get32(b->ends + (size_t)i * END);
		if (end < before || end > sets_len ||
		    ss_attribute_set_read(b->sets + before, end - before, &ignored) < 0)
			return false;
	}
	for (uint32_t i = 0; i < b->n_runs; i++) {
		const uint32_t run = ss_attribute_block_run(b, i, &set);
		n += run;
		if (run == 0 || set > b->n_sets)
			return false;
	}
	return end == sets_len && n == events;
}

void ss_attribute_block_open(const void *bytes, struct ss_attribute_block *out)
{
	const uint8_t *at = bytes;

	*out = (struct ss_attribute_block){.n_sets = get32(at), .n_runs = get32(at + 4), .ends = at + HEAD};
	out->runs = out->ends + (size_t)out->n_sets * END;
	out->sets = out->runs + (size_t)out->n_runs * RUN;
}

int ss_attribute_block_read(const void *bytes, size_t len, uint64_t events, struct ss_attribute_block *out)
{
	const uint8_t *at = bytes;
	struct ss_attribute_block b;

	if (len < HEAD)
		return -EINVAL;
	const uint32_t n_sets = get32(at), n_runs = get32(at + 4);
	const uint64_t fixed = HEAD + (uint64_t)n_sets * END + (uint64_t)n_runs * RUN;
	if (!n_sets || n_sets > UINT16_MAX || fixed > len)
		return -EINVAL;
	ss_attribute_block_open(bytes, &b);
	if (!is_sound(&b, len - (size_t)fixed, events))
		return -EINVAL;
	*out = b;
	return 0;
}
