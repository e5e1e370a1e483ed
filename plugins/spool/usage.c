/* SPDX-License-Identifier: MIT */
/*
 * usage - how full the log is and which consumer keeps it so: what is logged and reported as health when it
 * fills up, and what was lost.  On the component's loop, about each second.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/units.h>
#include <semstreams/sugar.h>
#include "sendlog_private.h"

enum {
	WARN_PERCENT = 80,
	CALM_PERCENT = 70, /* below it the next rise is news again */
	CHECKS_AWAY = 2,   /* so long it is full before that is said, if nobody reads */
	CHECKS_SLOW = 30,  /* ... if the slowest consumer is there: it may catch up */
};
#define LOG_FULL_NS UINT64_C(600000000000) /* the same again after so long */
#define LOG_LOST_NS UINT64_C(10000000000)

/* The consumer that is furthest behind, NULL if none is; *n: how many are. */
static const struct log_cursor *slowest(const struct sendlog *log, uint64_t seq, uint32_t *n)
{
	const struct log_cursor *last = NULL;

	*n = 0;
	for (uint32_t i = 0; i < log->n_cursors; i++) {
		const struct log_cursor *c = &log->cursors[i];
		if (c->acked >= seq)
			continue;
		*n += 1;
		if (!last || c->acked < last->acked)
			last = c;
	}
	return last;
}

/* Who lacks records up to seq, as a clause. */
static void describe(const struct sendlog *log, uint64_t seq, char *out, size_t size)
{
	uint32_t n;
	const struct log_cursor *c = slowest(log, seq, &n);
	char more[48] = "", age[24];

	if (n > 1)
		snprintf(more, sizeof more, ", and %" PRIu32 " other consumer%s behind", n - 1,
			 n == 2 ? " is" : "s are");
	if (!log->n_cursors)
		snprintf(out, size, "no consumer has connected yet: %" PRIu64 " events",
			 seq + 1 - log->first);
	else if (!c)
		snprintf(out, size, "every consumer has all events");
	else if (c->away_ns)
		snprintf(out, size, "consumer '%s' has not been here for %s: %" PRIu64 " events%s", c->name,
			 ss_format_span((int64_t)c->away_ns, age, sizeof age), seq - c->acked, more);
	else
		snprintf(out, size, "consumer '%s' does not keep up: %" PRIu64 " events%s", c->name,
			 seq - c->acked, more);
}

/* What to write behind a line: where the log is and its limit. */
static void details(const struct sendlog *log, char *out, size_t size)
{
	char limit[32];

	ss_format_size((int64_t)log->options.max_bytes, limit, sizeof limit);
	if (log->spool)
		snprintf(out, size, "path=\"%s\" max_bytes=%s", log->options.path, limit);
	else
		snprintf(out, size, "buffer=%s", limit);
}

static void log_full(struct sendlog *log, const char *who)
{
	char where[300];

	details(log, where, sizeof where);
	ss_log(log->host, SS_LOG_ERROR,
	       "The %s is full and input stops: %s; connect the consumer, raise %s or set forget_after %s",
	       log->store->name, who, log->spool ? "max_bytes" : "buffer", where);
}

/* Tell of each reason once. */
static void report(const struct sendlog *log, const char *why, char reported[288],
		   void (*tell)(void *arg, const char *why))
{
	if (strcmp(reported, why) == 0)
		return;
	snprintf(reported, 288, "%s", why);
	if (tell)
		tell(log->arg, why[0] ? reported : NULL);
}

void usage_disk_error(struct sendlog *log, const char *why)
{
	snprintf(log->usage.disk_error, sizeof log->usage.disk_error, "%s", why ? why : "");
	usage_check(log);
}

static void check_full(struct sendlog *log, bool full, uint64_t now)
{
	struct log_usage *u = &log->usage;
	char who[256];
	uint32_t n;
	const struct log_cursor *c = slowest(log, log->committed, &n);

	u->checks = full == u->is_full ? 0 : u->checks + 1;
	if (u->checks >= (full && c && !c->away_ns ? CHECKS_SLOW : CHECKS_AWAY)) {
		u->checks = 0;
		u->is_full = full;
		u->logged_ns = 0;
		if (!full)
			ss_log(log->host, SS_LOG_INFO, "The %s has room again, input goes on",
			       log->store->name);
	}
	if (!u->is_full)
		return;
	describe(log, log->committed, who, sizeof who);
	if (!u->logged_ns || now - u->logged_ns >= LOG_FULL_NS) {
		u->logged_ns = now;
		log_full(log, who);
	}
	snprintf(u->reason, sizeof u->reason, "%s full: %s", log->store->name, who);
}

static void check_filling(struct sendlog *log, uint64_t used, uint64_t limit)
{
	struct log_usage *u = &log->usage;
	uint64_t percent = limit ? used * 100 / limit : 0;
	bool begun = u->filling[0], wanted = log->spool || log->n_cursors;
	char who[256], where[300];

	u->filling[0] = '\0';
	if (percent < CALM_PERCENT)
		u->warned = false;
	if (percent < (begun ? CALM_PERCENT : WARN_PERCENT) || u->is_full || !wanted)
		return;
	describe(log, log->committed, who, sizeof who);
	snprintf(u->filling, sizeof u->filling, "%s %" PRIu64 " %% full: %s", log->store->name, percent, who);
	if (u->warned)
		return;
	u->warned = true;
	details(log, where, sizeof where);
	ss_log(log->host, SS_LOG_WARN, "The %s is %" PRIu64 " %% full, at the limit %s: %s %s",
	       log->store->name, percent,
	       log->options.drop_oldest ? "the oldest events are dropped" : "input stops", who, where);
}

static void check_stalled(struct sendlog *log)
{
	struct log_usage *u = &log->usage;
	char age[24];

	bool stalled = u->committing_ns >= STALL_NS;
	if (stalled && !u->stalled)
		ss_log(log->host, SS_LOG_WARN,
		       "Writing the spool to disk takes longer than 5 s: nothing is acknowledged until the "
		       "disk answers path=\"%s\"",
		       log->options.path);
	if (!stalled && u->stalled)
		ss_log(log->host, SS_LOG_INFO, "The disk of the spool answers again path=\"%s\"",
		       log->options.path);
	u->stalled = stalled;
	u->slow[0] = '\0';
	if (stalled)
		snprintf(u->slow, sizeof u->slow, "writing the spool to disk has taken %s so far",
			 ss_format_span((int64_t)u->committing_ns, age, sizeof age));
}

/* ---- what was lost ---- */

static void log_lost(struct sendlog *log)
{
	struct log_usage *u = &log->usage;
	char who[256];

	if (!u->lost.n)
		return;
	if (!log->spool && !log->n_cursors) {
		/* nobody ever asked for them: once is enough */
		if (!u->logged_unwanted)
			ss_log(log->host, SS_LOG_INFO,
			       "No consumer has connected yet and the buffer is full: the oldest events are "
			       "dropped");
		u->logged_unwanted = true;
		u->lost.n = 0;
		return;
	}
	describe(log, u->lost.to, who, sizeof who);
	if (strcmp(u->lost.reason, "corrupt") == 0)
		ss_log(log->host, SS_LOG_ERROR,
		       "Events lost: damaged on disk, check the disk events=%" PRIu64 " from=%" PRIu64
		       " to=%" PRIu64 " reason=corrupt",
		       u->lost.n, u->lost.from, u->lost.to);
	else
		ss_log(log->host, SS_LOG_WARN,
		       "Events lost: %s before every consumer acknowledged them; %s events=%" PRIu64
		       " from=%" PRIu64 " to=%" PRIu64 " reason=%s",
		       strcmp(u->lost.reason, "age") == 0 ? "older than max_age" : "dropped to make room",
		       who, u->lost.n, u->lost.from, u->lost.to, u->lost.reason);
	u->lost.n = 0;
}

static int add_loss(struct log_losses *l, struct log_loss loss)
{
	if (l->n) {
		struct log_loss *last = &l->list[l->n - 1];
		if (last->to + 1 == loss.from && strcmp(last->reason, loss.reason) == 0) {
			last->to = loss.to;
			return 0;
		}
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

int log_add_loss(const struct sendlog *log, struct log_losses *l, uint64_t from, uint64_t to,
		 const char *reason)
{
	uint64_t acked = sendlog_all_acked(log);

	if (from <= acked)
		from = acked + 1;
	return from > to ? 0 : add_loss(l, (struct log_loss){from, to, reason});
}

static void report_lost(struct sendlog *log, uint64_t from, uint64_t to, const char *reason)
{
	struct log_usage *u = &log->usage;
	uint64_t now = log->loop->now(log->loop_self);

	if (u->lost.n && (strcmp(u->lost.reason, reason) != 0 || from != u->lost.to + 1))
		log_lost(log);
	if (!u->lost.n)
		u->lost.from = from;
	u->lost.n += to - from + 1;
	u->lost.to = to;
	u->lost.reason = reason;
	if (!u->lost_logged_ns || now - u->lost_logged_ns >= LOG_LOST_NS) {
		u->lost_logged_ns = now;
		log_lost(log);
	}
	log->events->lost(log->arg, from, to, reason);
}

void log_report_losses(struct sendlog *log, struct log_losses *l)
{
	struct log_losses mine = *l;

	*l = (struct log_losses){0};
	for (uint32_t i = 0; i < mine.n; i++)
		report_lost(log, mine.list[i].from, mine.list[i].to, mine.list[i].reason);
	free(mine.list);
}

void log_corrupt(struct sendlog *log, uint64_t from, uint64_t to)
{
	enum { KNOWN_MAX = sizeof log->reported / sizeof log->reported[0] };
	uint32_t known = log->n_reported < KNOWN_MAX ? log->n_reported : KNOWN_MAX;

	for (uint32_t i = 0; i < known; i++) {
		const struct log_loss *t = &log->reported[i];
		if (from >= t->from && from <= t->to)
			from = t->to + 1;
		if (to >= t->from && to <= t->to)
			to = t->from - 1;
	}
	if (from > to)
		return;
	struct log_loss *last = log->n_reported ? &log->reported[(log->n_reported - 1) % KNOWN_MAX] : NULL;
	if (last && last->to + 1 == from)
		last->to = to;
	else
		log->reported[log->n_reported++ % KNOWN_MAX] = (struct log_loss){from, to, "corrupt"};
	log->corrupt += to - from + 1;
	report_lost(log, from, to, "corrupt");
}

void log_warn_repaired(struct sendlog *log, uint64_t ordinal)
{
	if (log->repaired_in == ordinal)
		return;
	log->repaired_in = ordinal;
	ss_log(log->host, SS_LOG_WARN,
	       "The spool repaired a damaged byte of its files, no event is lost by it: check the disk "
	       "segment=%016" PRIx64 ".seg",
	       ordinal);
}

/* ---- how full it is ---- */

void usage_check(struct sendlog *log)
{
	struct log_usage *u = &log->usage;
	uint64_t now = log->loop->now(log->loop_self), used, limit;
	bool full = false;

	log->store->usage(log, &used, &limit, &full, &u->committing_ns);
	u->used = used;
	u->limit = limit;
	check_full(log, full && !log->options.drop_oldest, now);
	check_filling(log, used, limit);
	if (u->lost.n && now - u->lost_logged_ns >= LOG_LOST_NS) {
		u->lost_logged_ns = now;
		log_lost(log);
	}
	check_stalled(log);
	report(log,
	       u->disk_error[0] ? u->disk_error
	       : u->is_full     ? u->reason
				: "",
	       u->health, log->events->health);
	report(log, u->stalled ? u->slow : u->filling, u->degraded, log->events->degraded);
}

void usage_woken(struct sendlog *log)
{
	if (log->usage.stalled)
		usage_check(log);
}

void usage_close(struct sendlog *log)
{
	char who[256];

	log_lost(log);
	if (!log->usage.is_full)
		return;
	describe(log, log->committed, who, sizeof who);
	ss_log(log->host, SS_LOG_ERROR,
	       "Stopped with a full %s, so events that waited for it could not be stored: %s; a source that "
	       "can resume "
	       "sends them again, events of any other source are lost",
	       log->store->name, who);
}
