/* SPDX-License-Identifier: MIT */
#include "plugins/nats_output/position.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "plugins/nats/headers.h"

static const uint8_t zero[16];

void positions_done(struct positions *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->places[i]);
	*p = (struct positions){0};
}

/* Room for one more. */
static bool make_room(struct positions *p)
{
	size_t oldest = POSITIONS_MAX;

	if (p->n < POSITIONS_MAX)
		return true;
	for (size_t i = 0; i < p->n; i++)
		if (!p->places[i]->holders &&
		    (oldest == POSITIONS_MAX || p->places[i]->used < p->places[oldest]->used))
			oldest = i;
	if (oldest == POSITIONS_MAX)
		return false;
	free(p->places[oldest]);
	p->places[oldest] = p->places[--p->n];
	p->forgotten++;
	return true;
}

struct place *positions_place(struct positions *p, uint32_t port, const char *source,
			      const uint8_t stream[16])
{
	char written[POSITION_SOURCE_MAX + 1];

	for (size_t i = 0; i < p->n; i++) {
		struct place *at = p->places[i];
		if (at->port == port && memcmp(at->stream, stream, 16) == 0 &&
		    strcmp(at->source, source) == 0) {
			at->used = ++p->clock;
			return at;
		}
	}
	if (!*source || !headers_encode(source, strlen(source), written, sizeof written) || !make_room(p))
		return NULL;
	struct place *made = calloc(1, sizeof *made);
	if (!made)
		return NULL;
	made->port = port;
	snprintf(made->source, sizeof made->source, "%s", source);
	memcpy(made->stream, stream, 16);
	made->used = ++p->clock;
	p->places[p->n++] = made;
	return made;
}

bool place_has(const struct place *at, const uint8_t epoch[16], uint64_t seq)
{
	return seq && seq <= at->sent.seq && memcmp(at->sent.epoch, epoch, 16) == 0;
}

void positions_rewind(struct positions *p)
{
	for (size_t i = 0; i < p->n; i++)
		p->places[i]->sent = p->places[i]->stored;
}

/* ---- texts ---- */

static void write_id(const uint8_t id[16], char out[33])
{
	if (memcmp(id, zero, 16) == 0) {
		snprintf(out, 33, "-");
		return;
	}
	for (int i = 0; i < 16; i++)
		snprintf(out + 2 * (size_t)i, 3, "%02x", id[i]);
}

static int digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_id(const char *text, uint8_t out[16])
{
	memset(out, 0, 16);
	if (strcmp(text, "-") == 0)
		return true;
	if (strlen(text) != 32)
		return false;
	for (size_t i = 0; i < 16; i++) {
		const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool read_number(const char *text, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)*text) || strlen(text) > 20)
		return false;
	*out = strtoull(text, &end, 10);
	return *end == '\0';
}

void position_write(const struct place *at, const uint8_t epoch[16], uint64_t seq,
		    char out[POSITION_TEXT_MAX])
{
	char source[POSITION_SOURCE_MAX + 1] = "", stream[33], of[33];

	(void)headers_encode(at->source, strlen(at->source), source,
			     sizeof source); /* it did when it was made */
	write_id(at->stream, stream);
	write_id(epoch, of);
	snprintf(out, POSITION_TEXT_MAX, "%" PRIu32 " %s %s %s %" PRIu64, at->port, source, stream, of, seq);
}

static int by_use(const void *a, const void *b)
{
	const struct place *const *x = a, *const *y = b;

	return (*x)->used < (*y)->used ? 1 : -((*x)->used > (*y)->used);
}

void positions_write(const struct positions *p, struct ss_strbuf *out)
{
	struct place *sorted[POSITIONS_MAX];
	char text[POSITION_TEXT_MAX];
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		if (p->places[i]->sent.seq)
			sorted[n++] = p->places[i];
	qsort(sorted, n, sizeof *sorted, by_use);
	ss_strbuf_clear(out);
	for (size_t i = 0; i < n && out->len + POSITION_TEXT_MAX < INDEX_TEXT_MAX; i++) {
		position_write(sorted[i], sorted[i]->sent.epoch, sorted[i]->sent.seq, text);
		if (out->len)
			ss_strbuf_char(out, ' ');
		ss_strbuf_text(out, text);
	}
	if (!out->len)
		ss_strbuf_char(out, '-');
}

/* ---- reading back ---- */

void positions_restore_begin(struct positions *p)
{
	p->round++;
}

static bool restore_one(struct positions *p, char *const words[5])
{
	char source[POSITION_SOURCE_MAX + 1];
	uint64_t port, seq;
	uint8_t stream[16];
	struct mark mark;

	if (!read_number(words[0], &port) || port > UINT32_MAX || !read_id(words[2], stream) ||
	    headers_decode(words[1], source, sizeof source) <= 0 || !read_id(words[3], mark.epoch) ||
	    !read_number(words[4], &seq))
		return false;
	mark.seq = seq;
	struct place *at = positions_place(p, (uint32_t)port, source, stream);
	if (at && at->round != p->round) {
		at->round = p->round;
		at->sent = at->stored = mark;
	}
	return true;
}

bool positions_restore(struct positions *p, const char *text)
{
	char *copy = strdup(text), *rest = copy, *words[5];
	bool ok = copy != NULL && strcmp(text, "-") != 0;

	while (ok && rest) {
		for (int i = 0; i < 5; i++)
			words[i] = strsep(&rest, " ");
		ok = words[4] && restore_one(p, words);
	}
	free(copy);
	return ok || strcmp(text, "-") == 0;
}
