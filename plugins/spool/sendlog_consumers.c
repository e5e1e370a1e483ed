/* SPDX-License-Identifier: MIT */
/* sendlog_consumers - who reads the log and how far each is, and by what name (epoch) they know it.  On the
 * component's loop. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "sendlog_impl.h"

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
	spool_lock(log);
	int rc = set_cursor(log, consumer, seq < log->committed ? seq : log->committed);
	spool_unlock(log);
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
		spool_save(log, true);
		return true;
	}
	return false;
}

void sendlog_look(struct sendlog *log, uint64_t elapsed_ns, bool (*here)(void *, const char *), void *arg)
{
	uint64_t now = log_wall_ns();
	struct log_cursor gone;
	bool any = false, one;

	spool_lock(log);
	for (uint32_t i = 0; i < log->n_cursors; i++) {
		struct log_cursor *c = &log->cursors[i];
		bool is_here = here(arg, c->name);
		c->away_ns = is_here ? 0 : c->away_ns + elapsed_ns;
		c->seen_ns = is_here ? now : c->seen_ns;
	}
	log->unseen_ns += elapsed_ns;
	if (log->unseen_ns >= SAVE_SEEN_NS && log->n_cursors) {
		log->unseen_ns = 0;
		spool_save(log, false);
	}
	spool_unlock(log);
	do {
		spool_lock(log);
		one = take_missing(log, &gone);
		spool_unlock(log);
		any |= one;
		if (one && log->events->forgotten)
			log->events->forgotten(log->arg, gone.name, gone.acked);
	} while (one);
	if (any)
		log_retain(log);
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
	spool_lock(log);
	int rc = log_new_epoch(log, 0);
	if (rc == 0)
		spool_save(log, true);
	spool_unlock(log);
	return rc;
}
