/* SPDX-License-Identifier: MIT */
/*
 * once - what makes it exactly once: which events are there already, and the record that is committed with
 * the lines. Runs in the instance's loop.
 *
 * While batches with positions come, the record ends the current file: each sync commits its length and the
 * positions of what lies before it, and at start the rest is cut off, as it was never acknowledged and comes
 * again.  So a line is only appended to the file that the record names, and a file is only left when all of
 * it is committed; the record covers one file at a time.  Without positions the record, if there is one from
 * before, is moved once to say that nothing is to be cut, and then left alone.
 */
#include <stdlib.h>
#include <string.h>
#include "storage.h"

/* ---- at start ---- */

static void tell_positions(struct storage *s)
{
	for (int i = 0; s->positions && i < s->streams.n; i++) {
		const struct stream *st = &s->streams.all[i];
		/* of an input that is no more it wants to hear nothing */
		(void)s->positions->kept(s->positions_self, st->port, st->source, &st->safe);
	}
}

/* Cut the file to what one of the records says of it; the newest that can be right counts. */
static int cut_file(struct storage *s, struct commit_record found[2], int n, int *chosen, char why[WHY_MAX])
{
	uint64_t by = 0;
	int rc = 0;
	for (*chosen = 0; *chosen < n; (*chosen)++) {
		const struct commit_record *rec = &found[*chosen];
		rc = rec->cuts ? segment_cut_closed(&s->path, rec->rel, rec->inode, rec->born_ns, rec->length,
						    &by, why)
			       : 0;
		/* shorter: the record was written, then the file had to be cut back and the crash came */
		if (rc != -ERANGE)
			break;
	}
	if (rc == -ERANGE) { /* somebody else cut it: what he took is not to come again */
		*chosen = 0;
		rc = 0;
	}
	if (rc == -ENOENT || rc == -ELOOP || rc == -ENOTDIR) /* moved away, whole: it is only left so */
		rc = 0;
	if (rc == 0 && by) {
		s->host->metric_add(s->host, METRIC_CUT, 1);
		ss_log(s->host, SS_LOG_WARN,
		       "Cut off what was not committed when it ended: its sources send it again bytes=%llu "
		       "path=%s/%s",
		       (unsigned long long)by, s->path.prefix, found[*chosen].rel);
	}
	return rc;
}

static int use_record(struct storage *s, struct commit_record found[2], int n, char why[WHY_MAX])
{
	int chosen, rc = cut_file(s, found, n, &chosen, why);
	if (rc < 0)
		return rc;
	if (!s->positions) {
		/* from now on it would be wrong */
		rc = commit_remove(s->commit, s->host->id);
		commit_close(s->commit);
		s->commit = NULL;
		if (rc < 0)
			snprintf(why, WHY_MAX, "its commit record cannot be removed: %s", strerror(-rc));
		return rc;
	}
	if (n == 0)
		return 0;
	commit_choose(s->commit, &found[chosen]);
	s->record_cuts = found[chosen].cuts;
	streams_done(&s->streams);
	s->streams = found[chosen].streams;
	found[chosen].streams = (struct streams){0};
	tell_positions(s);
	return 0;
}

int storage_resume(struct storage *s)
{
	struct commit_record *found = malloc(2 * sizeof *found);
	char why[WHY_MAX] = "out of memory";
	bool damaged;
	int n = 0, rc = found ? 0 : -ENOMEM;
	if (s->positions)
		s->positions->checkpointer(s->positions_self, SS_COVER_ACCEPTED);
	if (rc == 0)
		rc = commit_open(&s->commit, &s->path, s->host->id, false, found, &n, &damaged, why);
	if (rc == 0) {
		if (damaged && n == 0)
			ss_log(s->host, SS_LOG_ERROR,
			       "The commit record is damaged: events that were not acknowledged may be "
			       "stored twice path=%s/.%s.commit",
			       s->path.prefix, s->host->id);
		rc = use_record(s, found, n, why);
		commit_forget(found, n);
	} else if (rc == -ENOENT) {
		rc = 0;
	}
	free(found);
	if (rc < 0)
		ss_log(s->host, SS_LOG_ERROR, "Cannot open path=%s/%s error=%s", s->path.prefix,
		       s->path.pattern, why);
	return rc;
}

void storage_forget(struct storage *s)
{
	commit_close(s->commit);
	s->commit = NULL;
	streams_done(&s->streams);
	s->positioned = s->record_cuts = s->moving = s->recommit = s->waiting = s->look = false;
}

/* ---- per batch ---- */

void storage_place(struct storage *s, uint32_t port, struct kept *k)
{
	const char *source;
	if (s->host->position(k->batch, &k->at, &source) < 0)
		return;
	/* not the position's: of what it covers, a part may still be to come in another batch */
	k->at.seq = 0;
	for (uint32_t i = 0; i < k->batch->count; i++)
		if (k->batch->events[i].seq > k->at.seq)
			k->at.seq = k->batch->events[i].seq;
	if (k->at.seq == 0)
		return;
	int i = streams_of(&s->streams, port, source);
	if (i < 0) {
		ss_log(s->host, SS_LOG_WARN,
		       "Cannot keep the position of a stream, events may be stored twice after a crash "
		       "source=%s error=%s",
		       source, strerror(-i));
		return;
	}
	struct stream *st = &s->streams.all[i];
	if (memcmp(st->taken.epoch, k->at.epoch, sizeof k->at.epoch) == 0)
		k->skip = st->taken.seq;
	if (k->at.seq > k->skip)
		st->taken = k->at;
	else
		k->at.seq = k->skip;
	k->stream = i;
	s->positioned = true;
}

static bool is_there(const struct ss_event *e, uint64_t skip)
{
	return e->seq && e->seq <= skip;
}

uint32_t storage_fresh_rows(struct kept *k)
{
	const struct ss_event *ev = k->batch->events;
	uint32_t count = k->batch->count, end;
	while (k->row < count && is_there(&ev[k->row], k->skip)) {
		k->row++;
		k->duplicates++;
	}
	for (end = k->row; end < count && !is_there(&ev[end], k->skip);)
		end++;
	return end - k->row;
}

/* ---- the record ---- */

bool storage_move_record(struct storage *s)
{
	if (!storage_settle(s))
		return false;
	if (!s->commit) {
		struct commit_record none[2];
		char why[WHY_MAX];
		bool damaged;
		int n, rc = commit_open(&s->commit, &s->path, s->host->id, true, none, &n, &damaged, why);
		if (rc < 0) {
			storage_fail(s, METRIC_OPEN_ERRORS, "open", why, -rc);
			return false;
		}
		commit_forget(none, n);
	}
	s->moving = true;
	s->moving_cuts = s->positioned;
	storage_start_sync(s);
	s->waiting = s->syncing;
	return false;
}

void storage_add_record(struct storage *s, struct sync_job *job)
{
	bool cuts = s->moving ? s->moving_cuts : s->record_cuts;
	if (!s->seg || !(s->moving || s->seg->recorded))
		return;
	struct commit_record rec = {.cuts = cuts};
	if (cuts) {
		rec.inode = s->seg->inode;
		rec.born_ns = s->seg->born_ns;
		rec.length = s->seg->syncing;
		snprintf(rec.rel, sizeof rec.rel, "%s", s->seg->rel);
	}
	streams_start_sync(&s->streams);
	commit_add_to_job(s->commit, &rec, &s->streams, job);
}

void storage_end_record(struct storage *s, const struct sync_job *job)
{
	if (!job->record.len)
		return;
	commit_written(s->commit, job->result == 0);
	if (job->result < 0)
		return;
	streams_end_sync(&s->streams);
	if (s->moving) {
		s->moving = false;
		s->record_cuts = s->moving_cuts;
		s->seg->recorded = s->moving_cuts;
	}
}
