/* SPDX-License-Identifier: MIT */
/* sendlog - see sendlog.h: the interface, consumers, and what is reported to the owner.  On the component's
 * loop. */
#include "sendlog.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include "sendlog_private.h"

uint64_t log_wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void log_wake(struct sendlog *log)
{
	uint64_t one = 1;

	while (write(log->event_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* What a store without a thread needs not. */
static void lock(const struct sendlog *log)
{
	if (log->store->lock)
		log->store->lock(log);
}

static void unlock(const struct sendlog *log)
{
	if (log->store->unlock)
		log->store->unlock(log);
}

static void save(struct sendlog *log, bool at_once)
{
	if (log->store->save)
		log->store->save(log, at_once);
}

void log_pieces_free(struct sendlog *log, struct log_piece *p)
{
	while (p) {
		struct log_piece *next = p->next;
		log->host->batch_unref(p->batch);
		free(p);
		p = next;
	}
}

/* ---- consumers: how far each is, and by what name (epoch) they know the log ---- */

static struct log_cursor *find_cursor(const struct sendlog *log, const char *consumer)
{
	for (uint32_t i = 0; i < log->n_cursors; i++)
		if (strcmp(log->cursors[i].name, consumer) == 0)
			return &log->cursors[i];
	return NULL;
}

uint64_t sendlog_all_acked(const struct sendlog *log)
{
	uint64_t least = log->n_cursors ? UINT64_MAX : 0;

	for (uint32_t i = 0; i < log->n_cursors; i++)
		if (log->cursors[i].acked < least)
			least = log->cursors[i].acked;
	return least;
}

/* Lock held.  Names that no certificate said must not use up the room of those that one did. */
static bool has_room(const struct sendlog *log, bool verified, bool reserve)
{
	uint32_t unverified = 0, max = log->options.max_consumers;

	for (uint32_t i = 0; i < log->n_cursors; i++)
		unverified += !log->cursors[i].verified;
	if (log->n_cursors >= max)
		return false;
	return verified || (!reserve && unverified == log->n_cursors) || unverified < max / 2;
}

static int add_consumer(struct sendlog *log, const char *consumer, bool verified, bool reserve)
{
	struct log_cursor *c = find_cursor(log, consumer);

	if (c && c->verified && !verified)
		return -EACCES;
	if (!c) {
		if (!has_room(log, verified, reserve))
			return -ENOSPC;
		c = &log->cursors[log->n_cursors++];
		*c = (struct log_cursor){.seen_ns = log_wall_ns()};
		memcpy(c->name, consumer, strlen(consumer));
		save(log, verified);
	} else if (verified && !c->verified) {
		save(log, true);
	}
	c->verified |= verified;
	return 0;
}

int sendlog_add_consumer(struct sendlog *log, const char *consumer, bool verified, bool reserve)
{
	if (strlen(consumer) > SENDLOG_NAME)
		return -ENAMETOOLONG;
	lock(log);
	int rc = add_consumer(log, consumer, verified, reserve);
	unlock(log);
	return rc;
}

int sendlog_ack(struct sendlog *log, const char *consumer, uint64_t seq)
{
	lock(log);
	struct log_cursor *c = find_cursor(log, consumer);
	if (seq > log->committed)
		seq = log->committed;
	if (c && seq > c->acked)
		c->acked = seq;
	unlock(log);
	if (!c)
		return -ENOENT;
	log_retain(log);
	return 0;
}

/* ---- those who stay away ---- */

#define SAVE_SEEN_NS UINT64_C(60000000000) /* what the disk has of it is at most so old */

/* One that has been away for too long: out of the list; false: there is none. */
static bool take_expired(struct sendlog *log, struct log_cursor *out)
{
	uint64_t limit = log->options.forget_ns;

	for (uint32_t i = 0; limit && i < log->n_cursors; i++) {
		if (log->cursors[i].away_ns < limit)
			continue;
		*out = log->cursors[i];
		log->cursors[i] = log->cursors[--log->n_cursors];
		save(log, true);
		return true;
	}
	return false;
}

void sendlog_check_consumers(struct sendlog *log, uint64_t elapsed_ns, bool (*here)(void *, const char *),
			     void *arg)
{
	uint64_t now = log_wall_ns();
	struct log_cursor gone;
	bool any = false, one;

	lock(log);
	for (uint32_t i = 0; i < log->n_cursors; i++) {
		struct log_cursor *c = &log->cursors[i];
		bool is_here = here(arg, c->name);
		c->away_ns = is_here ? 0 : c->away_ns + elapsed_ns;
		c->seen_ns = is_here ? now : c->seen_ns;
	}
	log->unseen_ns += elapsed_ns;
	if (log->unseen_ns >= SAVE_SEEN_NS && log->n_cursors) {
		log->unseen_ns = 0;
		save(log, false);
	}
	unlock(log);
	do {
		lock(log);
		one = take_expired(log, &gone);
		unlock(log);
		any |= one;
		if (one && log->events->forgotten)
			log->events->forgotten(log->arg, gone.name, gone.acked);
	} while (one);
	if (any)
		log_retain(log);
	usage_check(log);
}

bool sendlog_consumer(const struct sendlog *log, uint32_t index, struct sendlog_consumer *out)
{
	if (index >= log->n_cursors)
		return false;
	const struct log_cursor *c = &log->cursors[index];
	*out = (struct sendlog_consumer){
		.name = c->name, .verified = c->verified, .acked = c->acked, .seen_ns = c->seen_ns};
	return true;
}

static const struct log_cursor *longest_away(const struct sendlog *log)
{
	const struct log_cursor *longest = NULL;

	for (uint32_t i = 0; i < log->n_cursors; i++)
		if (log->cursors[i].away_ns && (!longest || log->cursors[i].away_ns > longest->away_ns))
			longest = &log->cursors[i];
	return longest;
}

/* ---- epochs ---- */

static uint64_t past_of(const struct sendlog *log, const uint8_t *epoch)
{
	for (uint32_t i = 0; epoch && i < log->n_past; i++)
		if (memcmp(log->past[i].epoch, epoch, sizeof log->past[i].epoch) == 0)
			return log->past[i].last;
	return 0;
}

struct sendlog_view sendlog_view(const struct sendlog *log, const char *consumer, const uint8_t *epoch)
{
	const struct log_cursor *c = find_cursor(log, consumer);
	struct sendlog_view v = {.first = log->first,
				 .next = log->committed + 1,
				 .cursor = c ? c->acked : 0,
				 .past = past_of(log, epoch),
				 .known = c != NULL};

	memcpy(v.epoch, log->epoch, sizeof v.epoch);
	if (log->n_past) {
		const struct log_past *newest = &log->past[log->n_past - 1];
		memcpy(v.newest_past.epoch, newest->epoch, sizeof v.newest_past.epoch);
		v.newest_past.seq = newest->last;
	}
	return v;
}

int log_new_epoch(struct sendlog *log, uint64_t last)
{
	struct log_past old = {.last = last};
	uint8_t epoch[16];

	if (getentropy(epoch, sizeof epoch) < 0)
		return -errno;
	memcpy(old.epoch, log->epoch, sizeof old.epoch);
	memcpy(log->epoch, epoch, sizeof log->epoch);
	if (!last)
		return 0;
	if (log->n_past == SENDLOG_PAST)
		memmove(log->past, log->past + 1, --log->n_past * sizeof log->past[0]);
	log->past[log->n_past++] = old;
	return 0;
}

int sendlog_renew(struct sendlog *log)
{
	lock(log);
	int rc = log_new_epoch(log, 0);
	if (rc == 0)
		save(log, true);
	unlock(log);
	return rc;
}

/* ---- life ---- */

static void on_event(void *arg, uint32_t events)
{
	struct sendlog *log = arg;
	uint64_t n;

	(void)events;
	if (read(log->event_fd, &n, sizeof n) < 0)
		return;
	log->store->handle(log);
}

void log_retain(struct sendlog *log)
{
	log->store->retain(log);
}

static void on_age(void *arg)
{
	log_retain(arg);
}

/* Records are let go of at most this much too late. */
static uint64_t age_step(uint64_t max_age)
{
	uint64_t step = max_age / 64;

	return step < 50000000 ? 50000000 : step > 10000000000 ? 10000000000 : step;
}

static int watch(struct sendlog *log)
{
	uint64_t step = age_step(log->options.max_age_ns);
	int rc = log->loop->fd(log->loop_self, log->event_fd, SS_FD_READ, on_event, log, &log->fd_id);

	if (rc == 0 && log->options.max_age_ns)
		rc = log->loop->timer(log->loop_self, step, step, on_age, log, &log->timer_id);
	return rc;
}

int sendlog_open(const struct ss_host *host, const struct sendlog_options *options,
		 const struct sendlog_events *events, void *arg, char why[256], struct sendlog **out)
{
	struct ss_iface loop = {0};
	struct sendlog *log = calloc(1, sizeof *log);
	int rc = -ENOMEM;

	why[0] = '\0';
	if (!log)
		goto out;
	*log = (struct sendlog){.host = host,
				.options = *options,
				.events = events,
				.arg = arg,
				.first = 1,
				.next = 1,
				.store = options->path ? &spool_store : &memory_store};
	log->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!log->options.max_consumers)
		log->options.max_consumers = SENDLOG_CONSUMERS;
	log->cursors = calloc(SENDLOG_CONSUMERS_MAX, sizeof *log->cursors);
	if (!log->cursors)
		goto out;
	rc = log->event_fd < 0 ? -errno : host->query(host, SS_LOOP, sizeof *log->loop, &loop);
	if (rc < 0)
		goto out;
	log->loop = loop.vtbl;
	log->loop_self = loop.self;
	rc = getentropy(log->epoch, sizeof log->epoch) < 0 ? -errno : 0;
	if (rc == 0)
		rc = log->store->open(log, why);
	if (rc == 0)
		rc = watch(log);
out:
	if (rc < 0) {
		if (!why[0])
			snprintf(why, 256, "%s", strerror(-rc));
		sendlog_close(log);
		return rc;
	}
	*out = log;
	return 0;
}

void sendlog_limit(struct sendlog *log, const struct sendlog_options *options)
{
	lock(log);
	log->options.max_consumers = options->max_consumers ? options->max_consumers : SENDLOG_CONSUMERS;
	unlock(log);
	if (log->options.path)
		return;
	log->options.max_bytes = options->max_bytes;
	log_wake(log); /* there may be room now */
}

void sendlog_close(struct sendlog *log)
{
	if (!log)
		return;
	if (log->loop) {
		usage_close(log);
		log->loop->cancel(log->loop_self, log->timer_id);
		log->loop->cancel(log->loop_self, log->fd_id);
	}
	if (log->spool || log->memory)
		log->store->close(log);
	free(log->snapshot.bytes);
	if (log->event_fd >= 0)
		close(log->event_fd);
	free(log->cursors);
	free(log);
}

/* ---- appending ---- */

int log_snapshot_set(struct log_snapshot *s, const void *bytes, size_t len)
{
	if (len > s->allocated) {
		uint8_t *more = realloc(s->bytes, len);
		if (!more)
			return -ENOMEM;
		s->bytes = more;
		s->allocated = len;
	}
	if (len)
		memcpy(s->bytes, bytes, len);
	s->len = len;
	return 0;
}

static size_t memory_of(const struct ss_batch *b, size_t payload)
{
	size_t memory = payload + (size_t)b->count * SENDLOG_EVENT_OVERHEAD + sizeof(struct log_piece);

	return memory < b->footprint ? b->footprint : memory;
}

size_t log_attributes_size(const struct ss_batch *b, uint32_t row, bool first)
{
	const struct ss_event *e = &b->events[row];

	if (!b->n_attributes || (!first && e->attributes == e[-1].attributes))
		return 0;
	return SS_ATTRIBUTE_BLOCK_RUN + SS_ATTRIBUTE_BLOCK_SET +
	       ss_attribute_set_size(ss_attributes_of(b, e));
}

/* Of all rows, and the most that one event takes with its own. */
static size_t attributes_of_all(const struct ss_batch *b, size_t *largest)
{
	size_t sum = 0, own = 0, most = *largest;
	uint32_t set = UINT32_MAX; /* none has that number */

	for (uint32_t i = 0; b->n_attributes && i < b->count; i++) {
		const struct ss_event *e = &b->events[i];
		if (e->attributes != set) {
			set = e->attributes;
			own = log_attributes_size(b, i, true);
			sum += own;
		}
		most = e->len + own > most ? e->len + own : most;
	}
	*largest = most;
	return sum;
}

int sendlog_admit(struct sendlog *log, const struct ss_batch *b, bool together)
{
	size_t payload = 0, largest = 0;

	for (uint32_t i = 0; i < b->count; i++) {
		payload += b->events[i].len;
		largest = b->events[i].len > largest ? b->events[i].len : largest;
	}
	const size_t attributes = attributes_of_all(b, &largest);
	if (together)
		largest = payload + attributes + (size_t)b->count * 16;
	int rc = log->store->admit(log, b->count, largest, memory_of(b, payload));
	if (rc == -EAGAIN)
		log->wants_room = true;
	return rc;
}

int sendlog_append(struct sendlog *log, struct ss_batch *b, const void *snapshot, size_t size)
{
	struct log_piece *p = malloc(sizeof *p + size);
	size_t ignored = 0;

	if (!p)
		return -ENOMEM;
	*p = (struct log_piece){.batch = b, .count = b->count, .first_seq = log->next, .snapshot_size = size};
	if (size)
		memcpy(p->snapshot, snapshot, size);
	for (uint32_t i = 0; i < b->count; i++)
		p->payload += b->events[i].len;
	p->attributes = attributes_of_all(b, &ignored);
	p->memory = memory_of(b, p->payload);
	log->host->batch_ref(b);
	int rc = log->store->append(log, p);
	if (rc < 0) {
		log_pieces_free(log, p);
		return rc;
	}
	log->next += b->count;
	return 0;
}

const void *sendlog_snapshot(const struct sendlog *log, size_t *size)
{
	*size = log->snapshot.len;
	return log->snapshot.len ? log->snapshot.bytes : NULL;
}

/* ---- reading ---- */

uint64_t sendlog_read(struct sendlog *log, uint64_t seq, uint32_t max_records,
		      bool (*fn)(void *, uint64_t, const struct ss_event *), void *arg)
{
	if (seq < log->first)
		seq = log->first;
	log->hand.encoded = NULL;
	log->hand.frame = NULL;
	log->hand.given = log->hand.again = false;
	return log->store->read(log, seq, max_records, fn, arg);
}

const uint8_t *sendlog_attributes(struct sendlog *log, size_t *len, bool *again)
{
	struct log_hand *h = &log->hand;

	*len = h->len;
	*again = h->again;
	if (h->bytes || !h->set)
		return h->bytes;
	if (h->set != h->encoded) {
		h->encoded_len = ss_attribute_set_write(h->set, h->code);
		h->encoded = h->set;
	}
	*len = h->encoded_len;
	return h->code;
}

/* ---- figures ---- */

uint64_t sendlog_first(const struct sendlog *log)
{
	return log->first;
}

uint64_t sendlog_next(const struct sendlog *log)
{
	return log->next;
}

uint64_t sendlog_committed(const struct sendlog *log)
{
	return log->committed;
}

struct sendlog_figures sendlog_figures(const struct sendlog *log)
{
	const struct log_cursor *away = longest_away(log);

	return (struct sendlog_figures){
		.bytes = log->store->bytes(log),
		.used = log->usage.used,
		.limit = log->usage.limit,
		.committing_ns = log->usage.committing_ns,
		.oldest_ns = log->first > log->committed ? 0 : log->store->oldest_ns(log),
		.corrupt = log->corrupt,
		.away = away ? away->name : NULL,
		.away_ns = away ? away->away_ns : 0,
		.why_renewed = log->why_renewed,
	};
}
