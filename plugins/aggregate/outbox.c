/* SPDX-License-Identifier: MIT */
/* outbox - see outbox.h. */
#include "outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define BATCH_ROWS  256
#define BATCH_BYTES 65536

struct entry {
	struct entry *next;
	uint64_t seq;
	uint64_t batch; /* of the last of a batch: the number of its first */
	uint32_t port, len;
	bool acked;
	char bytes[];
};

/* The cookie of a batch is the number of its last row. */
struct outbox {
	const struct ss_host *host;
	bool numbered, failed; /* failed: something did not arrive; the rest waits for the next life */
	uint8_t epoch[16];
	uint64_t last;
	struct entry *first, **end;
	struct entry *unsent; /* the first that has not been emitted */
	uint64_t n_unsent;
	size_t bytes;
};

int outbox_new(const struct ss_host *host, bool numbered, struct outbox **out)
{
	struct outbox *o = calloc(1, sizeof *o);

	if (!o)
		return -ENOMEM;
	*o = (struct outbox){.host = host, .numbered = numbered};
	o->end = &o->first;
	if (getrandom(o->epoch, sizeof o->epoch, 0) != sizeof o->epoch) {
		free(o);
		return -EIO;
	}
	*out = o;
	return 0;
}

static void forget_first(struct outbox *o)
{
	struct entry *e = o->first;

	o->first = e->next;
	if (!o->first)
		o->end = &o->first;
	o->bytes -= sizeof *e + e->len;
	free(e);
}

void outbox_free(struct outbox *o)
{
	while (o && o->first)
		forget_first(o);
	free(o);
}

static bool append(struct outbox *o, uint64_t seq, uint32_t port, const char *bytes, size_t len)
{
	struct entry *e = len <= UINT32_MAX ? malloc(sizeof *e + len) : NULL;

	if (!e)
		return false;
	*e = (struct entry){.seq = seq, .port = port, .len = (uint32_t)len};
	memcpy(e->bytes, bytes, len);
	*o->end = e;
	o->end = &e->next;
	o->bytes += sizeof *e + len;
	if (!o->unsent)
		o->unsent = e;
	o->n_unsent++;
	return true;
}

bool outbox_put(struct outbox *o, uint32_t port, const char *bytes, size_t len)
{
	if (!append(o, o->last + 1, port, bytes, len))
		return false;
	o->last++;
	return true;
}

uint64_t outbox_last(const struct outbox *o)
{
	return o->last;
}

size_t outbox_bytes(const struct outbox *o)
{
	return o->bytes;
}

uint64_t outbox_waiting(const struct outbox *o)
{
	return o->n_unsent;
}

/* ---- out ---- */

/* What goes into the next batch: entries in a row for one port. */
static uint32_t gather(const struct outbox *o, uint64_t last, size_t *bytes)
{
	uint32_t rows = 0;

	*bytes = 0;
	for (const struct entry *e = o->unsent; e && rows < BATCH_ROWS; e = e->next, rows++) {
		if ((o->numbered && e->seq > last) || e->port != o->unsent->port ||
		    (rows && *bytes + e->len > BATCH_BYTES))
			break;
		*bytes += e->len;
	}
	return rows;
}

static int emit_batch(struct outbox *o, uint32_t rows, size_t bytes)
{
	struct ss_batch *b = o->host->batch_new(o->host, NULL, rows, bytes ? bytes : 1);
	struct timespec now;
	uint8_t *to;

	if (!b)
		return -ENOMEM;
	clock_gettime(CLOCK_REALTIME, &now);
	to = b->data;
	struct entry *e = o->unsent, *newest = e;
	for (b->count = 0; b->count < rows; b->count++, e = e->next) {
		newest = e;
		memcpy(to, e->bytes, e->len);
		b->events[b->count] = (struct ss_event){.data = to,
							.len = e->len,
							.time_ns = (uint64_t)now.tv_sec * 1000000000u +
								   (uint64_t)now.tv_nsec,
							.seq = o->numbered ? e->seq : 0};
		to += e->len;
	}
	struct ss_position position = {.seq = b->events[rows - 1].seq};
	memcpy(position.epoch, o->epoch, sizeof position.epoch);
	int rc = o->numbered ? o->host->track(o->host, b, position.seq, &position) : 0;
	if (rc == 0) {
		newest->batch = o->unsent->seq;
		o->host->emit(o->host, o->unsent->port, b);
		o->unsent = e;
		o->n_unsent -= rows;
	}
	o->host->batch_unref(b);
	return rc;
}

int outbox_emit(struct outbox *o, uint64_t last)
{
	size_t bytes;
	uint32_t rows;

	while (!o->failed && o->unsent && (rows = gather(o, last, &bytes))) {
		int rc = emit_batch(o, rows, bytes);
		if (rc < 0)
			return rc;
		while (!o->numbered && o->first != o->unsent)
			forget_first(o);
	}
	return 0;
}

void outbox_acked(struct outbox *o, uint64_t cookie, int32_t status)
{
	struct entry *last = o->first;

	if (status == SS_FAILED) {
		o->failed = true;
		return;
	}
	while (last && last->seq != cookie)
		last = last->next;
	for (struct entry *e = o->first; last && e != last->next; e = e->next)
		e->acked |= e->seq >= last->batch;
	while (o->first && o->first != o->unsent && o->first->acked)
		forget_first(o);
}

/* ---- check-points ---- */

void outbox_save(const struct outbox *o, struct text *out)
{
	uint64_t n = 0;

	for (const struct entry *e = o->first; e; e = e->next)
		n++;
	text_bytes(out, o->epoch, sizeof o->epoch);
	text_u64(out, o->last);
	text_u64(out, n);
	for (const struct entry *e = o->first; e; e = e->next) {
		text_u64(out, e->seq);
		text_u64(out, e->port);
		text_u64(out, e->len);
		text_bytes(out, e->bytes, e->len);
	}
}

int outbox_load(struct outbox *o, struct reading *r)
{
	const uint8_t *epoch = reading_bytes(r, sizeof o->epoch);

	o->last = reading_u64(r);
	for (uint64_t n = reading_u64(r); n && !r->failed; n--) {
		uint64_t seq = reading_u64(r), port = reading_u64(r), len = reading_u64(r);
		const uint8_t *bytes = reading_bytes(r, len);
		if (bytes && !append(o, seq, (uint32_t)port, (const char *)bytes, len))
			return -ENOMEM;
	}
	if (r->failed)
		return -EINVAL;
	memcpy(o->epoch, epoch, sizeof o->epoch);
	return 0;
}
