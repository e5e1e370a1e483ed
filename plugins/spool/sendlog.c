/* SPDX-License-Identifier: MIT */
/* sendlog - see sendlog.h: the interface, duplicates, and what is told to the owner.  On the component's
 * loop. */
#include "sendlog.h"

#include <errno.h>
#include <inttypes.h>
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

struct log_source *log_source_get(struct sendlog *log, uint32_t port, const char *id, size_t id_len)
{
	for (struct log_source *s = log->sources; s; s = s->next)
		if (s->port == port && strlen(s->id) == id_len && memcmp(s->id, id, id_len) == 0)
			return s;
	struct log_source *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->port = port;
	s->id = strndup(id, id_len);
	if (!s->id) {
		free(s);
		return NULL;
	}
	lock(log);
	s->next = log->sources;
	log->sources = s;
	unlock(log);
	return s;
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

uint64_t log_all_acked(const struct sendlog *log)
{
	uint64_t least = log->n_cursors ? UINT64_MAX : 0;

	for (uint32_t i = 0; i < log->n_cursors; i++)
		if (log->cursors[i].acked < least)
			least = log->cursors[i].acked;
	return least;
}

bool sendlog_knows(struct sendlog *log, const char *consumer)
{
	return find_cursor(log, consumer) != NULL;
}

uint64_t sendlog_cursor(struct sendlog *log, const char *consumer)
{
	const struct log_cursor *c = find_cursor(log, consumer);

	return c ? c->acked : 0;
}

static int set_cursor(struct sendlog *log, const char *consumer, uint64_t seq)
{
	struct log_cursor *c = find_cursor(log, consumer);

	if (!c) {
		if (log->n_cursors == SENDLOG_CONSUMERS)
			return -ENOSPC;
		c = &log->cursors[log->n_cursors++];
		*c = (struct log_cursor){.seen_ns = log_wall_ns()};
		memcpy(c->name, consumer, strlen(consumer));
	}
	if (seq > c->acked)
		c->acked = seq;
	return 0;
}

int sendlog_ack(struct sendlog *log, const char *consumer, uint64_t seq)
{
	if (strlen(consumer) > SENDLOG_NAME)
		return -ENAMETOOLONG;
	lock(log);
	int rc = set_cursor(log, consumer, seq < log->committed ? seq : log->committed);
	unlock(log);
	if (rc == 0)
		log_retain(log);
	return rc;
}

uint64_t sendlog_all_acked(struct sendlog *log)
{
	return log_all_acked(log);
}

/* ---- those who stay away ---- */

#define SAVE_SEEN_NS UINT64_C(60000000000) /* what the disk has of it is at most so old */

/* One that has been away for too long: out of the list; false: there is none. */
static bool take_missing(struct sendlog *log, struct log_cursor *out)
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

void sendlog_look(struct sendlog *log, uint64_t elapsed_ns, bool (*here)(void *, const char *), void *arg)
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
		one = take_missing(log, &gone);
		unlock(log);
		any |= one;
		if (one && log->events->forgotten)
			log->events->forgotten(log->arg, gone.name, gone.acked);
	} while (one);
	if (any)
		log_retain(log);
	usage_look(log);
}

/* ---- epochs ---- */

const uint8_t *sendlog_epoch(const struct sendlog *log)
{
	return log->epoch;
}

const char *sendlog_why_renewed(const struct sendlog *log)
{
	return log->why_renewed;
}

uint64_t sendlog_past(const struct sendlog *log, const uint8_t epoch[16])
{
	for (uint32_t i = 0; i < log->n_past; i++)
		if (memcmp(log->past[i].epoch, epoch, sizeof log->past[i].epoch) == 0)
			return log->past[i].last;
	return 0;
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

/* ---- what was lost ---- */

static int add_loss(struct log_losses *l, struct log_loss loss)
{
	struct log_loss *last = l->n ? &l->list[l->n - 1] : NULL;

	if (last && last->to + 1 == loss.from && strcmp(last->reason, loss.reason) == 0) {
		last->to = loss.to;
		return 0;
	}
	if (l->n == l->allocated) {
		uint32_t more = l->allocated ? l->allocated * 2 : 8;
		struct log_loss *list = realloc(l->list, more * sizeof *list);
		if (!list)
			return -ENOMEM;
		l->list = list;
		l->allocated = more;
	}
	l->list[l->n++] = loss;
	return 0;
}

int log_lose(const struct sendlog *log, struct log_losses *l, uint64_t from, uint64_t to, const char *reason)
{
	uint64_t acked = log_all_acked(log);

	if (from <= acked)
		from = acked + 1;
	return from > to ? 0 : add_loss(l, (struct log_loss){from, to, reason});
}

static void tell_lost(struct sendlog *log, uint64_t from, uint64_t to, const char *reason)
{
	usage_lost(log, from, to, reason);
	log->events->lost(log->arg, from, to, reason);
}

void log_tell(struct sendlog *log, struct log_losses *l)
{
	struct log_losses mine = *l;

	*l = (struct log_losses){0};
	for (uint32_t i = 0; i < mine.n; i++)
		tell_lost(log, mine.list[i].from, mine.list[i].to, mine.list[i].reason);
	free(mine.list);
}

void log_corrupt(struct sendlog *log, uint64_t from, uint64_t to)
{
	enum { TOLD = sizeof log->told / sizeof log->told[0] };
	uint32_t known = log->n_told < TOLD ? log->n_told : TOLD;

	for (uint32_t i = 0; i < known; i++) {
		const struct log_loss *t = &log->told[i];
		if (from >= t->from && from <= t->to)
			from = t->to + 1;
		if (to >= t->from && to <= t->to)
			to = t->from - 1;
	}
	if (from > to)
		return;
	struct log_loss *last = log->n_told ? &log->told[(log->n_told - 1) % TOLD] : NULL;
	if (last && last->to + 1 == from)
		last->to = to;
	else
		log->told[log->n_told++ % TOLD] = (struct log_loss){from, to, "corrupt"};
	log->corrupt += to - from + 1;
	tell_lost(log, from, to, "corrupt");
}

void log_mended(struct sendlog *log, uint64_t ordinal)
{
	if (log->mended_in == ordinal)
		return;
	log->mended_in = ordinal;
	ss_log(log->host, SS_LOG_WARN,
	       "The spool mended a damaged byte of its files, no event is lost by it: check the disk "
	       "segment=%016" PRIx64 ".seg",
	       ordinal);
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
	struct ss_iface loop;
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
	log->cursors = calloc(SENDLOG_CONSUMERS, sizeof *log->cursors);
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
	for (struct log_source *s = log->sources, *next; s; s = next) {
		next = s->next;
		free(s->id);
		free(s);
	}
	if (log->event_fd >= 0)
		close(log->event_fd);
	free(log->cursors);
	free(log);
}

/* ---- appending ---- */

/* What a batch brings. */
struct intake {
	struct log_source *source;
	struct ss_position position;
	uint64_t floor; /* events up to this sequence of the source are here already */
	uint32_t fresh;
	size_t payload, largest;
	bool split; /* its events have sequences, so that it can be kept in parts */
};

static bool is_fresh(const struct intake *in, const struct ss_event *e)
{
	return e->seq == 0 || e->seq > in->floor;
}

static int look(struct sendlog *log, uint32_t port, const struct ss_batch *b, struct intake *in)
{
	const char *id;

	*in = (struct intake){.split = true};
	if (log->host->position(b, &in->position, &id) == 0) {
		in->source = log_source_get(log, port, id, strlen(id));
		if (!in->source)
			return -ENOMEM;
		const struct ss_position *latest = &in->source->latest;
		if (in->source->has_latest &&
		    memcmp(latest->epoch, in->position.epoch, sizeof latest->epoch) == 0) {
			in->floor = latest->seq;
			if (in->position.seq < latest->seq)
				in->position.seq = latest->seq;
		}
	}
	for (uint32_t i = 0; i < b->count; i++) {
		const struct ss_event *e = &b->events[i];
		if (!is_fresh(in, e))
			continue;
		in->fresh++;
		in->payload += e->len;
		in->largest = e->len > in->largest ? e->len : in->largest;
		in->split = in->split && (e->seq || !in->source);
	}
	return 0;
}

static struct log_piece *piece_new(struct sendlog *log, struct ss_batch *b, const struct intake *in,
				   uint32_t row, uint64_t seq)
{
	struct log_piece *p = malloc(sizeof *p);

	if (!p)
		return NULL;
	*p = (struct log_piece){.row = row,
				.split = in->split,
				.first_seq = seq,
				.source = in->source,
				.position = in->position};
	for (; row < b->count && is_fresh(in, &b->events[row]); row++) {
		p->count++;
		p->payload += b->events[row].len;
	}
	p->memory = p->payload + (size_t)p->count * SENDLOG_EVENT_OVERHEAD + sizeof *p;
	if (p->count == b->count && p->memory < b->footprint)
		p->memory = b->footprint;
	if (p->count) {
		p->batch = b;
		log->host->batch_ref(b);
		if (b->events[row - 1].seq)
			p->position.seq = b->events[row - 1].seq;
	}
	return p;
}

/* The new rows of the batch, in runs; the position by itself if there are none. */
static struct log_piece *pieces_of(struct sendlog *log, struct ss_batch *b, const struct intake *in)
{
	struct log_piece *list = NULL, *last = NULL;
	uint64_t seq = log->next;

	for (uint32_t row = 0; row < b->count || !last; row += last->count) {
		while (row < b->count && !is_fresh(in, &b->events[row]))
			row++;
		if (row == b->count && last)
			break;
		struct log_piece *p = piece_new(log, b, in, row, seq);
		if (!p) {
			log_pieces_free(log, list);
			return NULL;
		}
		seq += p->count;
		if (last)
			last->next = p;
		else
			list = p;
		/* a part says how far it goes, if it can */
		if (last && last->source && !b->events[last->row + last->count - 1].seq)
			last->source = NULL;
		last = p;
		if (!p->count)
			break;
	}
	last->position = in->position;
	return list;
}

/* Does the batch say more about its source than is known? */
static bool advances(const struct intake *in)
{
	return in->source && (!in->source->has_latest ||
			      memcmp(&in->source->latest, &in->position, sizeof in->position) != 0);
}

static int admit(struct sendlog *log, const struct ss_batch *b, const struct intake *in)
{
	size_t memory = in->payload + (size_t)in->fresh * SENDLOG_EVENT_OVERHEAD + sizeof(struct log_piece);
	size_t largest = in->split ? in->largest : in->payload + (size_t)in->fresh * 16;
	int rc = log->store->admit(log, in->fresh, largest, memory < b->footprint ? b->footprint : memory);

	if (rc == -EAGAIN)
		log->wants_room = true;
	return rc;
}

int sendlog_append(struct sendlog *log, uint32_t port, struct ss_batch *b, uint64_t *duplicates)
{
	struct intake in;
	int rc = look(log, port, b, &in);

	if (rc < 0)
		return rc;
	if (!in.fresh && !advances(&in))
		goto out;
	rc = admit(log, b, &in);
	if (rc < 0)
		return rc;

	struct log_piece *list = pieces_of(log, b, &in);
	if (!list)
		return -ENOMEM;
	uint64_t next = log->next + in.fresh;
	rc = log->store->append(log, list);
	if (rc < 0) {
		log_pieces_free(log, list);
		return rc;
	}
	log->next = next;
	if (in.source) {
		in.source->latest = in.position;
		in.source->has_latest = true;
	}
out:
	if (duplicates)
		*duplicates = b->count - in.fresh;
	return 0;
}

void sendlog_positions(struct sendlog *log,
		       void (*fn)(void *, uint32_t, const char *, const struct ss_position *), void *arg)
{
	for (const struct log_source *s = log->sources; s; s = s->next)
		if (s->has_latest)
			fn(arg, s->port, s->id, &s->latest);
}

/* ---- reading ---- */

uint64_t sendlog_read(struct sendlog *log, uint64_t seq, uint32_t max_records,
		      bool (*fn)(void *, uint64_t, const struct ss_event *), void *arg)
{
	if (seq < log->first)
		seq = log->first;
	return log->store->read(log, seq, max_records, fn, arg);
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

uint64_t sendlog_bytes(const struct sendlog *log)
{
	return log->store->bytes(log);
}

uint64_t sendlog_used(const struct sendlog *log)
{
	return log->usage.used;
}

uint64_t sendlog_committing_ns(const struct sendlog *log)
{
	return log->usage.committing_ns;
}

uint64_t sendlog_limit(const struct sendlog *log)
{
	return log->usage.limit;
}

uint64_t sendlog_oldest_ns(const struct sendlog *log)
{
	if (log->first > log->committed)
		return 0;
	return log->store->oldest_ns(log);
}

uint64_t sendlog_corrupt(const struct sendlog *log)
{
	return log->corrupt;
}
