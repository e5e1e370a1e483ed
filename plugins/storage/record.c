/* SPDX-License-Identifier: MIT */
/*
 * record - what is committed: the record beside the files, the ledger of many files, and what is cut off at
 * start because of them.
 *
 * While batches with positions come, each commit says up to where the files count, with a snapshot of the
 * positions of what lies before; at start the rest is cut off, as it was never acknowledged and comes again.
 * So a line is only appended to a file that the record knows, and a file is only left when all of it is
 * committed.  One file stands in the record itself.  Of many the record says which part of the ledger counts;
 * a file that is not in there is noted before the first line goes to it.  Without positions the record, if
 * there is one from before, is moved once to say that nothing is to be cut, and then left alone.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "storage.h"

/* ---- at start ---- */

/* The newest record cannot be read: what it committed may have been acknowledged, so the files stay whole. */
static void report_doubt(struct storage *s, const struct commit_found *found)
{
	s->host->metric_add(s->host, METRIC_COMMIT_ERRORS, 1);
	ss_log(s->host, SS_LOG_ERROR,
	       "The commit record is damaged, %s: nothing is truncated, and events that were stored since "
	       "may be "
	       "stored twice path=%s/.%s.commit",
	       found->n ? "an older copy of it counts" : "no copy of it can be read", s->path.prefix,
	       s->host->id);
}

static void report_ledger(struct storage *s, uint64_t generation)
{
	s->host->metric_add(s->host, METRIC_COMMIT_ERRORS, 1);
	ss_log(s->host, SS_LOG_ERROR,
	       "The list of files beside the commit record is damaged or gone: nothing is truncated, and "
	       "what "
	       "was not acknowledged may be stored twice path=%s/.%s.files.%llu",
	       s->path.prefix, s->host->id, (unsigned long long)generation);
}

/* What is committed is known, but not whose it is. */
static void report_positions(struct storage *s)
{
	s->host->metric_add(s->host, METRIC_COMMIT_ERRORS, 1);
	ss_log(s->host, SS_LOG_ERROR,
	       "The positions beside the commit record are damaged or gone: what senders send again may be "
	       "stored twice path=%s/.%s.positions",
	       s->path.prefix, s->host->id);
}

/* What was cut off: of how many files, and one of their names. */
struct cut {
	struct storage *s;
	uint64_t bytes, files;
	char rel[REL_MAX];
	char *why;
};

static int cut_file(struct cut *cut, const char *rel, uint64_t inode, uint64_t born_ns, uint64_t length)
{
	uint64_t by;
	int rc = segment_cut_closed(&cut->s->path, rel, inode, born_ns, length, &by, cut->why);

	if (rc == 0 && by) {
		cut->bytes += by;
		if (cut->files++ == 0)
			snprintf(cut->rel, sizeof cut->rel, "%s", rel);
	}
	/* moved away, whole: it is only left so */
	return rc == -ENOENT || rc == -ELOOP || rc == -ENOTDIR ? 0 : rc;
}

static int cut_listed(void *arg, const struct ledger_file *f)
{
	int rc = cut_file(arg, f->rel, f->inode, f->born_ns, f->length);

	return rc == -ERANGE ? 0 : rc; /* somebody else cut it: what he took is not to come again */
}

static void report_cut(const struct cut *cut)
{
	struct storage *s = cut->s;
	char more[32] = "";

	if (!cut->files)
		return;
	s->host->metric_add(s->host, METRIC_CUT, (int64_t)cut->files);
	if (cut->files > 1)
		snprintf(more, sizeof more, " files=%llu", (unsigned long long)cut->files);
	ss_log(s->host, SS_LOG_WARN,
	       "Truncated uncommitted data; sources will resend it bytes=%llu path=%s/%s%s",
	       (unsigned long long)cut->bytes, s->path.prefix, cut->rel, more);
}

/* Cut the files to what one of the records says of them; the newest that can be right counts. */
static int cut_files(struct storage *s, const struct commit_found *found, int *chosen, char why[WHY_MAX])
{
	struct cut cut = {.s = s, .why = why};
	int rc = 0;

	for (*chosen = 0; *chosen < found->n; (*chosen)++) {
		const struct commit_record *rec = &found->records[*chosen];
		rc = 0;
		if (rec->cuts == CUTS_FILE)
			rc = cut_file(&cut, rec->rel, rec->inode, rec->born_ns, rec->length);
		if (rec->cuts == CUTS_FILES)
			rc = ledger_read(&s->path, s->host->id, rec->inode, rec->length, cut_listed, &cut);
		/* shorter: the record was written, then the file had to be cut back and the crash came */
		if (rc != -ERANGE)
			break;
	}
	if (rc == -ERANGE) { /* somebody else cut it */
		*chosen = 0;
		rc = 0;
	}
	if (rc == -EBADMSG) {
		report_ledger(s, found->records[*chosen].inode);
		rc = 0;
	}
	if (rc == 0)
		report_cut(&cut);
	return rc;
}

/* Beside the record. */
static int keep_positions(struct storage *s)
{
	char path[PATH_MAX];

	s->positions->checkpointer(s->positions_self, SS_COVER_GIVEN);
	if (snprintf(path, sizeof path, "%s/.%.200s.positions", s->path.prefix, s->host->id) >=
	    (int)sizeof path)
		return -ENAMETOOLONG;
	return s->positions->keep(s->positions_self, path);
}

/* From now on the record would be wrong. */
static int give_up_record(struct storage *s, char why[WHY_MAX])
{
	int rc = commit_remove(s->commit, s->host->id);

	commit_close(s->commit);
	s->commit = NULL;
	if (rc < 0)
		snprintf(why, WHY_MAX, "its commit record cannot be removed: %s", strerror(-rc));
	else
		ledger_sweep(&s->path, s->host->id, 0);
	return rc;
}

static int use_record(struct storage *s, const struct commit_found *found, char why[WHY_MAX])
{
	int chosen = 0, rc = 0;

	if (found->doubt)
		report_doubt(s, found);
	else
		rc = cut_files(s, found, &chosen, why);
	if (rc < 0)
		return rc;
	if (!s->positions)
		return give_up_record(s, why);
	/* a number that no copy of the record has, or may have had */
	for (int i = 0; i < found->n; i++)
		if (found->records[i].cuts == CUTS_FILES && found->records[i].inode >= s->ledger.generation)
			s->ledger.generation = found->records[i].inode + 1;
	if (found->n == 0)
		return 0;
	if (chosen == 1)
		ss_two_slot_use_other(&s->commit->slots);
	const struct commit_record *rec = &found->records[chosen];
	s->record_cuts = rec->cuts;
	ss_strbuf_clear(&s->committed);
	ss_strbuf_add(&s->committed, rec->snapshot, rec->snapshot_len);
	rc = s->committed.failed ? -ENOMEM
				 : s->positions->restore(s->positions_self, rec->snapshot, rec->snapshot_len);
	if (rc == -EBADMSG) {
		report_positions(s);
		ss_strbuf_done(&s->committed);
		rc = 0;
	}
	if (rc < 0)
		snprintf(why, WHY_MAX, "its commit record cannot be used: %s", strerror(-rc));
	return rc;
}

int record_resume(struct storage *s)
{
	struct commit_found found;
	char why[WHY_MAX] = "out of memory";

	int rc = s->positions ? keep_positions(s) : 0;
	if (rc < 0) {
		ss_log(s->host, SS_LOG_ERROR, "Cannot keep positions path=%s error=%s", s->path.prefix,
		       strerror(-rc));
		return rc;
	}
	rc = commit_open(&s->commit, &s->path, s->host->id, false, &found, why);
	if (rc == 0) {
		rc = use_record(s, &found, why);
		commit_found_done(&found);
	} else if (rc == -ENOENT) {
		rc = 0;
	}
	if (rc < 0)
		ss_log(s->host, SS_LOG_ERROR, "Cannot open path=%s/%s error=%s", s->path.prefix,
		       s->path.pattern, why);
	return rc;
}

void record_stop(struct storage *s)
{
	if (s->commit && s->record_whole && !s->syncing)
		(void)commit_write(s->commit, &s->record, true);
	commit_close(s->commit);
	s->commit = NULL;
	ledger_close(&s->ledger);
	ss_strbuf_done(&s->record);
	ss_strbuf_done(&s->snapshot);
	ss_strbuf_done(&s->committed);
	s->record_cuts = CUTS_NOTHING;
	s->record_whole = s->positioned = s->moving = s->recommit = s->record_doubt = false;
}

/* ---- while it runs ---- */

/* Have it say so: false, as it takes a sync, or the disk is in trouble. */
static bool move_record(struct storage *s, uint32_t cuts)
{
	if (!writer_settle(s))
		return false;
	if (!s->commit) {
		struct commit_found none;
		char why[WHY_MAX];
		int rc = commit_open(&s->commit, &s->path, s->host->id, true, &none, why);
		if (rc < 0) {
			writer_suspend(s, METRIC_OPEN_ERRORS, "open", NULL, why, -rc);
			return false;
		}
		commit_found_done(&none);
	}
	s->moving = true;
	s->moving_cuts = cuts;
	writer_sync(s);
	s->waiting = s->syncing;
	return false;
}

bool record_follows(struct storage *s)
{
	uint32_t cuts = !s->positioned ? CUTS_NOTHING : s->path.routed ? CUTS_FILES : CUTS_FILE;
	bool follows = s->record_cuts == cuts;

	if (cuts == CUTS_FILE)
		follows &= s->files.only->seg->recorded;
	if (cuts == CUTS_FILES)
		follows &= s->committed.len > 0;
	return follows || move_record(s, cuts);
}

static int take_snapshot(struct storage *s)
{
	int64_t size = s->positions->snapshot(s->positions_self, NULL, 0);

	ss_strbuf_clear(&s->snapshot);
	char *room = size > 0 ? ss_strbuf_room(&s->snapshot, (size_t)size) : NULL;
	if (!room)
		return -ENOMEM;
	size = s->positions->snapshot(s->positions_self, room, (size_t)size);
	if (size < 0)
		return (int)size;
	s->snapshot.len = (size_t)size;
	ss_strbuf_add(&s->record, s->snapshot.bytes, s->snapshot.len);
	return 0;
}

static void list_segment(struct storage *s, struct segment *seg, bool all, bool is_new)
{
	bool grows = s->sync.kind == SYNC_COMMIT && seg->in_sync;

	if (is_new || (seg->number && all))
		ledger_add(&s->ledger, seg, grows ? seg->syncing : seg->synced);
	else if (seg->number && grows)
		ledger_set(&s->ledger, seg, seg->syncing);
}

/* The next frame of the ledger. */
static void list_files(struct storage *s)
{
	bool all = ledger_begin(&s->ledger);
	struct file *f;

	for (int i = 0; i < s->files.n_closing; i++)
		list_segment(s, s->files.closing[i], all, false);
	TAILQ_FOREACH(f, &s->files.by_use, by_use)
	{
		bool is_new =
			f->seg && s->sync.kind == SYNC_NOTE && !f->seg->number && f->pass == s->files.pass;
		if (f->seg)
			list_segment(s, f->seg, all, is_new);
	}
}

/* Every file that is in there may be appended to. */
static void mark_listed(struct storage *s)
{
	struct file *f;

	TAILQ_FOREACH(f, &s->files.by_use, by_use)
	if (f->seg && f->seg->number)
		f->seg->recorded = true;
}

static void encode(struct storage *s, uint32_t cuts)
{
	const struct file *only = s->files.only;
	struct commit_record rec = {.cuts = cuts};

	if (cuts == CUTS_FILE) {
		rec.inode = only->seg->inode;
		rec.born_ns = only->seg->born_ns;
		rec.length = only->seg->syncing;
		snprintf(rec.rel, sizeof rec.rel, "%s", only->seg->rel);
	} else if (cuts == CUTS_FILES) {
		list_files(s);
		rec.inode = ledger_frame_generation(&s->ledger);
		rec.length = ledger_frame_end(&s->ledger);
		s->sync.ledger = &s->ledger;
	}
	s->record_whole = false;
	commit_encode(&rec, &s->record);
}

static void add_committed(struct storage *s)
{
	ss_strbuf_add(&s->record, s->committed.bytes, s->committed.len);
	s->sync.commit = s->commit;
	s->sync.record = &s->record;
}

void record_begin(struct storage *s)
{
	uint32_t cuts = s->moving ? s->moving_cuts : s->record_cuts;
	const struct file *only = s->files.only;
	bool written =
		only ? only->seg && (s->moving || only->seg->recorded) : s->moving || cuts == CUTS_FILES;

	if (!written || s->sync.kind == SYNC_STORE)
		return;
	encode(s, cuts);
	if (s->sync.kind == SYNC_NOTE) {
		add_committed(s);
		return;
	}
	if (take_snapshot(s) < 0)
		s->record.failed = true; /* then the job fails */
	s->sync.commit = s->commit;
	s->sync.record = &s->record;
	s->sync.positions = s->positions;
	s->sync.positions_self = s->positions_self;
	s->sync.snapshot = &s->snapshot;
	if (s->commit->entry_dirty) {
		s->sync.files[s->sync.n].fd = s->commit->fd;
		s->sync.files[s->sync.n++].dirfd = s->commit->dirfd;
	}
}

void record_end(struct storage *s)
{
	bool ok = s->sync.result == 0;

	if (s->sync.ledger)
		ledger_end(&s->ledger, ok);
	if (!s->sync.commit)
		return;
	if (!ok) {
		s->record_doubt |= s->sync.record_failed;
		return;
	}
	s->commit->entry_dirty = false;
	s->record_whole = true;
	s->record_doubt = false;
	if (s->sync.snapshot) {
		struct ss_strbuf committed = s->snapshot;
		s->snapshot = s->committed;
		s->committed = committed;
	}
	if (s->moving) {
		s->moving = false;
		s->record_cuts = s->moving_cuts;
		if (s->files.only)
			s->files.only->seg->recorded = s->moving_cuts != CUTS_NOTHING;
		if (s->files.only && s->ledger.generation) { /* there were many once */
			ledger_sweep(&s->path, s->host->id, 0);
			s->ledger.generation = 0;
		}
	}
	if (s->sync.ledger)
		mark_listed(s);
}

int record_restore(struct storage *s)
{
	if (!s->record_doubt || !s->path.routed || s->record_cuts != CUTS_FILES)
		return 0;
	s->sync.kind = SYNC_NOTE;
	s->sync.ledger = NULL;
	encode(s, CUTS_FILES);
	add_committed(s);
	int rc = ledger_write(&s->ledger);
	if (rc == 0)
		rc = commit_write(s->commit, &s->record, false);
	ledger_end(&s->ledger, rc == 0);
	s->record_doubt = rc < 0;
	s->record_whole = rc == 0;
	return rc;
}
