/* SPDX-License-Identifier: MIT */
/* memory - the log without a disk: references to batches, in a ring.  On the component's loop. */
#include <errno.h>
#include <stdlib.h>
#include <semstreams/base/ring.h>
#include "sendlog_private.h"

struct log_memory {
	struct ss_ring ring; /* of struct log_piece * */
	uint64_t bytes;
	struct log_losses losses;
	bool news; /* appended since the handler ran */
};

/* By its number in the ring. */
static struct log_piece *piece_at(const struct log_memory *m, uint64_t i)
{
	return *(struct log_piece **)ss_ring_at(&m->ring, i);
}

static struct log_piece *oldest(const struct log_memory *m)
{
	return ss_ring_count(&m->ring) ? piece_at(m, m->ring.head) : NULL;
}

static int memory_open(struct sendlog *log, char why[256])
{
	(void)why;
	log->memory = calloc(1, sizeof *log->memory);
	if (!log->memory)
		return -ENOMEM;
	log->memory->ring.value_size = sizeof(struct log_piece *);
	return 0;
}

/* Let go of the oldest piece. */
static void shift(struct sendlog *log)
{
	struct log_memory *m = log->memory;
	struct log_piece *p = oldest(m);

	ss_ring_shift(&m->ring);
	m->bytes -= p->memory;
	log_pieces_free(log, p);
}

static void memory_close(struct sendlog *log)
{
	struct log_memory *m = log->memory;

	while (oldest(m))
		shift(log);
	free(m->losses.list);
	ss_ring_done(&m->ring);
	free(m);
}

static uint64_t piece_end(const struct log_piece *p)
{
	return p->first_seq + p->count;
}

/* Everything before seq goes; a batch that is needed in part stays whole. */
static void release(struct sendlog *log, uint64_t seq)
{
	struct log_memory *m = log->memory;

	while (oldest(m) && piece_end(oldest(m)) <= seq)
		shift(log);
	if (seq > log->first)
		log->first = seq;
	if (log->wants_room)
		log_wake(log);
}

static void memory_retain(struct sendlog *log)
{
	struct log_memory *m = log->memory;
	uint64_t acked = sendlog_all_acked(log), limit = log->options.max_age_ns,
		 now = limit ? log_wall_ns() : 0;

	if (acked >= log->first)
		release(log, acked + 1);
	while (limit && oldest(m)) {
		const struct log_piece *p = oldest(m);
		uint64_t end = piece_end(p), at = p->batch->events[p->count - 1].time_ns;
		if (at + limit > now || log_add_loss(log, &m->losses, log->first, end - 1, "age") < 0)
			break;
		release(log, end);
		m->news = true;
		log_wake(log);
	}
}

static int memory_admit(struct sendlog *log, uint32_t fresh, size_t largest, size_t memory)
{
	struct log_memory *m = log->memory;

	(void)largest;
	if (!fresh)
		return 0;
	if (memory > log->options.max_bytes)
		return -EMSGSIZE;
	while (m->bytes + memory > log->options.max_bytes) {
		if (!log->options.drop_oldest)
			return -EAGAIN;
		uint64_t end = piece_end(oldest(m));
		int rc = log_add_loss(log, &m->losses, log->first, end - 1, "full");
		if (rc < 0)
			return rc;
		release(log, end);
		log_wake(log);
	}
	return 0;
}

static int memory_append(struct sendlog *log, struct log_piece *p)
{
	struct log_memory *m = log->memory;
	struct log_piece **place = ss_ring_push(&m->ring);

	if (!place)
		return -ENOMEM;
	*place = p;
	m->bytes += p->memory;
	log->committed = piece_end(p) - 1;
	if (!m->news)
		log_wake(log);
	m->news = true;
	return 0;
}

static void memory_handle(struct sendlog *log)
{
	struct log_memory *m = log->memory;
	bool room = log->wants_room && m->bytes <= log->options.max_bytes / 4 * 3;

	if (room)
		log->wants_room = false;
	log_report_losses(log, &m->losses);
	if (m->news) {
		m->news = false;
		log->events->committed(log->arg, log->committed);
	}
	if (room)
		log->events->room(log->arg);
}

/* The piece that holds seq, or the next one: its place. */
static uint64_t find(const struct log_memory *m, uint64_t seq)
{
	uint64_t low = m->ring.head, high = m->ring.tail;

	while (low < high) {
		uint64_t mid = (low + high) / 2;
		if (piece_end(piece_at(m, mid)) <= seq)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static uint64_t memory_read(struct sendlog *log, uint64_t seq, uint32_t max,
			    bool (*fn)(void *, uint64_t, const struct ss_event *), void *arg)
{
	struct log_memory *m = log->memory;

	for (uint64_t i = find(m, seq); i < m->ring.tail; i++) {
		const struct log_piece *p = piece_at(m, i);
		for (; max && seq < piece_end(p); seq++, max--) {
			struct ss_event e = p->batch->events[seq - p->first_seq];
			e.seq = seq;
			const struct ss_attributes *set = ss_attributes_of(p->batch, &e);
			log->hand.again = log->hand.given && set == log->hand.set;
			log->hand.given = true;
			log->hand.set = set;
			if (!fn(arg, seq, &e))
				return seq;
		}
		if (!max)
			break;
	}
	return seq;
}

static uint64_t memory_bytes(const struct sendlog *log)
{
	return log->memory->bytes;
}

static void memory_usage(const struct sendlog *log, uint64_t *used, uint64_t *limit, bool *full,
			 uint64_t *committing_ns)
{
	*committing_ns = 0;
	*used = log->memory->bytes;
	*limit = log->options.max_bytes;
	*full = log->wants_room;
}

static uint64_t memory_oldest(const struct sendlog *log)
{
	const struct log_piece *p = oldest(log->memory);

	if (!p)
		return 0;
	uint64_t skip = log->first > p->first_seq ? log->first - p->first_seq : 0;
	return p->batch->events[skip < p->count ? skip : 0].time_ns;
}

const struct log_store memory_store = {
	.name = "buffer",
	.open = memory_open,
	.close = memory_close,
	.admit = memory_admit,
	.append = memory_append,
	.retain = memory_retain,
	.handle = memory_handle,
	.read = memory_read,
	.bytes = memory_bytes,
	.oldest_ns = memory_oldest,
	.usage = memory_usage,
};
