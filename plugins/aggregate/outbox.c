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
#define FLIGHT_MAX  (8u << 20) /* bytes emitted and not acknowledged */
#define PORTS_MAX   2

struct entry {
	struct entry *next;
	uint64_t seq;
	uint32_t port, len;
	char bytes[];
};

int outbox_renew(struct outbox *o)
{
	return getrandom(o->epoch, sizeof o->epoch, 0) == sizeof o->epoch ? 0 : -EIO;
}

int outbox_new(const struct ss_host *host, bool numbered, struct outbox **out)
{
	struct outbox *o = calloc(1, sizeof *o);

	if (!o)
		return -ENOMEM;
	*o = (struct outbox){.host = host, .numbered = numbered};
	o->end = &o->first;
	if (outbox_renew(o) < 0) {
		free(o);
		return -EIO;
	}
	*out = o;
	return 0;
}

static void forget_first(struct outbox *o)
{
	struct entry *e = o->first;

	if (o->save_next == e)
		o->save_next = e->next;
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
	if (o)
		free(o->flights);
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

uint64_t outbox_gone(const struct outbox *o)
{
	return o->first ? o->first->seq - 1 : o->last;
}

/* ---- out ---- */

static struct flight *flight_at(const struct outbox *o, uint64_t cookie)
{
	return &o->flights[cookie & (o->room - 1)];
}

static bool room_for_flight(struct outbox *o)
{
	uint32_t room = o->room ? 2 * o->room : 64;

	if (o->n_flights < o->room)
		return true;
	struct flight *flights = malloc(room * sizeof *flights);
	if (!flights)
		return false;
	for (uint64_t i = o->first_flight; i < o->first_flight + o->n_flights; i++)
		flights[i & (room - 1)] = *flight_at(o, i);
	free(o->flights);
	o->flights = flights;
	o->room = room;
	return true;
}

/* How many entries go into the next batch: consecutive ones for one port. */
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

/* Returns the entry after the last of the batch. */
static struct entry *fill(const struct outbox *o, struct ss_batch *b, uint32_t rows)
{
	struct entry *e = o->unsent;
	uint8_t *to = b->data;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	uint64_t time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	for (b->count = 0; b->count < rows; b->count++, e = e->next) {
		memcpy(to, e->bytes, e->len);
		b->events[b->count] = (struct ss_event){
			.data = to, .len = e->len, .time_ns = time_ns, .seq = o->numbered ? e->seq : 0};
		to += e->len;
	}
	return e;
}

static int track(struct outbox *o, struct ss_batch *b, size_t bytes)
{
	struct ss_position position = {.seq = b->events[b->count - 1].seq};
	uint64_t cookie = o->first_flight + o->n_flights;

	memcpy(position.epoch, o->epoch, sizeof position.epoch);
	int rc = room_for_flight(o) ? o->host->track(o->host, b, cookie, &position) : -ENOMEM;
	if (rc < 0)
		return rc;
	*flight_at(o, cookie) = (struct flight){.last = position.seq, .bytes = bytes};
	o->n_flights++;
	o->n_open++;
	o->flight_bytes += bytes;
	return 0;
}

static int emit_batch(struct outbox *o, uint32_t rows, size_t bytes)
{
	struct ss_batch *b = o->host->batch_new(o->host, NULL, rows, bytes ? bytes : 1);
	int rc = 0;

	if (!b)
		return -ENOMEM;
	struct entry *next = fill(o, b, rows);
	uint32_t port = o->unsent->port;
	if (o->numbered)
		rc = track(o, b, bytes);
	if (rc == 0) {
		o->unsent = next;
		o->n_unsent -= rows;
		o->host->emit(o->host, port, b);
	}
	o->host->batch_unref(b);
	return rc;
}

int outbox_emit(struct outbox *o, uint64_t last, bool all)
{
	size_t bytes;
	uint32_t rows;

	while (!o->failed && o->unsent && (all || o->flight_bytes < FLIGHT_MAX) &&
	       (rows = gather(o, last, &bytes))) {
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
	if (cookie - o->first_flight >= o->n_flights)
		return;
	o->n_open--;
	if (status == SS_FAILED)
		o->failed = true;
	else
		flight_at(o, cookie)->acked = true;
	while (o->n_flights && flight_at(o, o->first_flight)->acked) {
		const struct flight *f = flight_at(o, o->first_flight++);
		o->n_flights--;
		o->flight_bytes -= f->bytes;
		while (o->first && o->first->seq <= f->last)
			forget_first(o);
	}
}

void outbox_again(struct outbox *o)
{
	if (!o->failed || o->n_open)
		return;
	o->failed = false;
	o->first_flight += o->n_flights;
	o->n_flights = 0;
	o->flight_bytes = 0;
	for (const struct entry *e = o->first; e != o->unsent; e = e->next)
		o->n_unsent++;
	o->unsent = o->first;
}

/* ---- checkpoints ---- */

void outbox_save_begin(struct outbox *o, struct ss_strbuf *out)
{
	ss_strbuf_add(out, o->epoch, sizeof o->epoch);
	ss_strbuf_u64(out, o->last);
	o->save_to = out;
	o->save_next = o->first;
	o->save_last = o->last;
}

bool outbox_save_step(struct outbox *o, size_t bytes)
{
	struct ss_strbuf *out = o->save_to;

	if (!out)
		return true;
	size_t upto = out->len + bytes;
	for (; o->save_next && o->save_next->seq <= o->save_last; o->save_next = o->save_next->next) {
		const struct entry *e = o->save_next;
		if (out->len >= upto)
			return false;
		ss_strbuf_u64(out, e->seq);
		ss_strbuf_u64(out, e->port);
		ss_strbuf_u64(out, e->len);
		ss_strbuf_add(out, e->bytes, e->len);
	}
	ss_strbuf_u64(out, 0);
	o->save_to = NULL;
	o->save_next = NULL;
	return true;
}

int outbox_load(struct outbox *o, struct ss_unpack *r)
{
	const uint8_t *epoch = ss_unpack_bytes(r, sizeof o->epoch);
	uint64_t last = ss_unpack_u64(r), seq, before = 0;

	while ((seq = ss_unpack_u64(r))) {
		uint64_t port = ss_unpack_u64(r), len = ss_unpack_u64(r);
		const uint8_t *bytes = ss_unpack_bytes(r, len);
		if (!bytes || port >= PORTS_MAX || seq <= before || seq > last)
			return -EINVAL;
		if (!append(o, seq, (uint32_t)port, (const char *)bytes, len))
			return -ENOMEM;
		before = seq;
	}
	if (r->failed)
		return -EINVAL;
	o->last = last;
	memcpy(o->epoch, epoch, sizeof o->epoch);
	return 0;
}
