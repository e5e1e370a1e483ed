/* SPDX-License-Identifier: MIT */
#include "storage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/base/crc32c.h>

enum { HOUR = 3600, CLOCK_STEP = 60, ROTATE_RETRY_S = 10, CLOSING_MAX = 14 };
#define SECOND UINT64_C(1000000000)

static bool can_retire(const struct storage *s, const struct file *f)
{
	return f->seg && s->files.n_closing < s->files.closing_max;
}

/* ---- the table ---- */

static struct file *add_file(struct storage *s, const char *pattern, uint32_t hash)
{
	struct files *fs = &s->files;
	struct file *f = calloc(1, sizeof *f);

	if (!f)
		return NULL;
	f->pattern = strdup(pattern);
	if (!f->pattern) {
		free(f);
		return NULL;
	}
	f->hash = hash;
	TAILQ_INSERT_TAIL(&fs->by_use, f, by_use);
	LIST_INSERT_HEAD(&fs->buckets[hash & fs->mask], f, in_bucket);
	return f;
}

static struct file *find_file(const struct files *fs, const char *pattern, uint32_t hash)
{
	struct file *f;

	LIST_FOREACH(f, &fs->buckets[hash & fs->mask], in_bucket)
	if (f->hash == hash && strcmp(f->pattern, pattern) == 0)
		break;
	return f;
}

static void close_segment(struct storage *s, struct segment *seg)
{
	if (!seg)
		return;
	ledger_forget(&s->ledger, seg);
	if (segment_is_asleep(seg))
		s->files.n_asleep--;
	else
		s->files.n_open--;
	segment_free(seg);
}

static void remove_file(struct storage *s, struct file *f)
{
	close_segment(s, f->seg);
	TAILQ_REMOVE(&s->files.by_use, f, by_use);
	LIST_REMOVE(f, in_bucket);
	free(f->pattern);
	free(f);
}

int files_init(struct storage *s)
{
	struct files *fs = &s->files;
	uint32_t buckets = 1, iovs = s->lines.room;

	TAILQ_INIT(&fs->by_use);
	fs->max_open = s->path.routed ? (uint32_t)s->conf->max_open_files : CLOSING_MAX + 1;
	fs->room = fs->max_open;
	fs->closing_max = s->path.routed ? (int)fs->max_open : CLOSING_MAX;
	while (s->path.routed && buckets < fs->max_open)
		buckets *= 2;
	fs->mask = buckets - 1;
	fs->buckets = calloc(buckets, sizeof *fs->buckets);
	fs->closing = calloc((size_t)fs->closing_max, sizeof(struct segment *));
	fs->runs = calloc(iovs, sizeof *fs->runs);
	fs->iov = s->path.routed ? calloc(iovs, sizeof *fs->iov) : NULL;
	s->sync.files = calloc(fs->max_open + 2, sizeof *s->sync.files);
	s->sync.folders = calloc(fs->max_open + 2, sizeof *s->sync.folders);
	if (!fs->buckets || !fs->closing || !fs->runs || (s->path.routed && !fs->iov) || !s->sync.files ||
	    !s->sync.folders)
		return -ENOMEM;
	if (s->path.routed)
		return allowance_init(&s->allowance);
	fs->only = add_file(s, s->path.pattern, 0);
	return fs->only ? 0 : -ENOMEM;
}

void files_done(struct storage *s)
{
	struct files *fs = &s->files;

	for (struct file *f; fs->buckets && (f = TAILQ_FIRST(&fs->by_use));)
		remove_file(s, f);
	free(fs->buckets);
	free(fs->closing);
	free(fs->targets);
	free(fs->runs);
	free(fs->iov);
	free(s->sync.files);
	free(s->sync.folders);
	free(fs->more.files);
	free(fs->more.folders);
	allowance_done(&s->allowance);
	*fs = (struct files){0};
}

void files_close(struct storage *s)
{
	struct files *fs = &s->files;
	struct file *f;

	files_forget_runs(s);
	for (int i = 0; i < fs->n_closing; i++)
		close_segment(s, fs->closing[i]);
	fs->n_closing = 0;
	TAILQ_FOREACH(f, &fs->by_use, by_use)
	{
		close_segment(s, f->seg);
		f->seg = NULL;
	}
}

/* ---- opening and leaving ---- */

static int open_file(struct storage *s, struct file *f, char why[WHY_MAX])
{
	char rel[REL_MAX];
	uint64_t torn;
	time_t now = time(NULL);
	int rc = path_render(f->pattern, now, rel);
	if (rc < 0) {
		snprintf(why, WHY_MAX, "the name is too long");
		return rc;
	}
	rc = segment_open(&f->seg, &s->path, rel, s->mode, 2 * (uint64_t)s->conf->max_line + 1, &torn, why);
	if (rc < 0)
		return rc;
	s->files.n_open++;
	s->files.entry_dirty = true;
	allowance_opened(s, f);
	f->from = now - now % HOUR;
	f->until = f->from + HOUR;
	if (torn) {
		s->host->metric_add(s->host, METRIC_REPAIRED, 1);
		ss_log(s->host, SS_LOG_WARN,
		       "Moved an unfinished last line from the file to its .torn file "
		       "bytes=%llu path=%s",
		       (unsigned long long)torn, f->seg->path);
	}
	return 0;
}

int files_open_first(struct storage *s, char why[WHY_MAX])
{
	if (s->files.only)
		return open_file(s, s->files.only, why);
	int fd = path_open_dir(&s->path, "", true, why);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/* Neither the batch at hand nor a sync needs it. */
static bool is_idle(const struct files *fs, const struct file *f)
{
	return f->pass != fs->pass && !f->gathered && !(f->seg && (f->seg->in_sync || f->seg->entry_dirty));
}

void files_reap(struct storage *s)
{
	struct files *fs = &s->files;
	struct file *f, *next;
	int left = 0;

	for (int i = 0; i < fs->n_closing; i++) {
		struct segment *seg = fs->closing[i];
		if (seg->synced < seg->size || seg->entry_dirty) {
			fs->closing[left++] = seg;
			continue;
		}
		close_segment(s, seg);
		retain_wake(s->retain);
	}
	fs->n_closing = left;
	if (!fs->only)
		s->host->metric_set(s->host, METRIC_OPEN_FILES, fs->n_open);
	for (f = fs->n_asleep ? TAILQ_FIRST(&fs->by_use) : NULL; f; f = next) {
		next = TAILQ_NEXT(f, by_use);
		if (f->seg && segment_is_asleep(f->seg) && f->seg->synced == f->seg->size && is_idle(fs, f))
			remove_file(s, f);
	}
}

static void retire(struct storage *s, struct file *f)
{
	struct files *fs = &s->files;

	if (fs->n_closing == fs->closing_max)
		return;
	fs->closing[fs->n_closing++] = f->seg;
	f->seg = NULL;
	if (!s->syncing)
		files_reap(s);
}

/* The name depends on nothing finer than the hour.  A clock set back a little changes nothing. */
static bool hour_is_over(const struct file *f, time_t now)
{
	return now >= f->until || now < f->from - CLOCK_STEP;
}

/* After a failure it is not tried again at once. */
static bool may_rotate(const struct storage *s, const struct file *f)
{
	return s->loop->now(s->loop_self) >= f->no_rotate_before_ns;
}

/* Close the current file under a name that says when. */
static void rotate(struct storage *s, struct file *f)
{
	int rc = segment_stamp(f->seg, time(NULL));
	if (rc < 0) {
		/* better a file that is too long than one that is not written */
		f->no_rotate_before_ns = s->loop->now(s->loop_self) + ROTATE_RETRY_S * SECOND;
		s->host->metric_add(s->host, METRIC_ROTATE_ERRORS, 1);
		ss_log(s->host, SS_LOG_ERROR,
		       "Cannot rotate the file; writing to it continues path=%s error=%s", f->seg->path,
		       strerror(-rc));
		return;
	}
	s->host->metric_add(s->host, METRIC_ROTATIONS, 1);
	s->files.entry_dirty = true;
	allowance_renamed(s, f);
	retire(s, f);
}

/* The hour is over: is there another name now? */
static void change_name(struct storage *s, struct file *f, time_t now)
{
	char rel[REL_MAX];
	if (path_render(f->pattern, now, rel) == 0 && strcmp(rel, f->seg->rel) != 0) {
		s->host->metric_add(s->host, METRIC_ROTATIONS, 1);
		retire(s, f);
		return;
	}
	f->from = now - now % HOUR;
	f->until = f->from + HOUR;
}

/* True: it is the right one, as far as it is open; false: that takes a sync.  A batch is never torn over two
 * files by a rotation, so midway only a file that has nothing of it is left. */
static bool turn_over(struct storage *s, struct file *f, bool midway)
{
	if (!can_retire(s, f) || segment_is_asleep(f->seg))
		return true;
	time_t now = time(NULL);
	size_t more = s->files.only ? lines_bytes(&s->lines) : f->gathered;
	bool too_long = s->conf->rotate_size && f->seg->size + more >= (uint64_t)s->conf->rotate_size &&
			may_rotate(s, f);
	bool other_hour = hour_is_over(f, now);
	bool clean = !s->files.only && f->seg->synced == f->seg->size && !f->gathered;
	if (midway && !clean)
		return true;
	if ((too_long || other_hour) && !clean && !writer_settle(s))
		return false;
	if (other_hour)
		change_name(s, f, now);
	else if (too_long)
		rotate(s, f);
	return true;
}

/* What is to happen with an open file, seen from outside of a batch. */
enum finding { FINE, MOVED, OTHER_HOUR, TOO_OLD };

static enum finding look_at(struct storage *s, struct file *f, time_t now)
{
	uint64_t age_ns = (uint64_t)now * SECOND - f->seg->opened_ns;

	if (segment_moved(f->seg))
		return MOVED;
	if (hour_is_over(f, now))
		return OTHER_HOUR;
	return s->conf->rotate_age && (int64_t)age_ns >= s->conf->rotate_age && f->seg->size &&
			       may_rotate(s, f)
		       ? TOO_OLD
		       : FINE;
}

/* False: it takes a sync first. */
static bool check_file(struct storage *s, struct file *f, time_t now)
{
	enum finding found = look_at(s, f, now);

	if (found != FINE && !writer_settle(s))
		return false;
	if (found == MOVED) {
		ss_log(s->host, SS_LOG_INFO, "The file was moved or deleted; opening a new one path=%s",
		       f->seg->path);
		retire(s, f);
	} else if (found == OTHER_HOUR) {
		change_name(s, f, now);
	} else if (found == TOO_OLD) {
		rotate(s, f);
	} else if (segment_resized(f->seg)) {
		ss_log(s->host, SS_LOG_WARN,
		       "Another process changed the length of the file path=%s bytes=%llu", f->seg->path,
		       (unsigned long long)f->seg->size);
	}
	return true;
}

/* Close some of the files that were not used for longest, if all of them is safe; put to sleep, in the middle
 * of a batch, if it is stored.  False: there was none. */
static bool evict(struct storage *s, bool midway)
{
	struct files *fs = &s->files;
	struct file *f, *next;
	uint32_t before = fs->n_open, enough = fs->max_open / 8 + 1;

	if (before > fs->max_open)
		enough += before - fs->max_open;
	for (f = TAILQ_FIRST(&fs->by_use); f && before - fs->n_open < enough; f = next) {
		next = TAILQ_NEXT(f, by_use);
		if (!is_idle(fs, f))
			continue;
		if (!f->seg || f->seg->synced == f->seg->size) {
			s->host->metric_add(s->host, METRIC_EVICTED, f->seg != NULL);
			remove_file(s, f);
		} else if (midway && !segment_is_asleep(f->seg) && f->seg->stored == f->seg->size) {
			s->host->metric_add(s->host, METRIC_EVICTED, 1);
			segment_sleep(f->seg);
			fs->n_open--;
			fs->n_asleep++;
		}
	}
	return fs->n_open < before;
}

/* After max_open has become less: between two batches none is needed. */
static void close_surplus(struct storage *s)
{
	if (s->files.n_open <= s->files.max_open || s->next != s->ring.tail)
		return;
	s->files.pass++;
	evict(s, false);
}

void files_check(struct storage *s)
{
	struct file *f, *next;
	time_t now = time(NULL);

	s->check_due = false;
	if (s->path.routed)
		allowance_check(s);
	/* in the middle of a batch over many files nothing can be settled */
	if (s->down || !writer_flush(s) || (s->path.routed && s->written != s->boundary))
		return;
	for (f = TAILQ_FIRST(&s->files.by_use); f && !s->check_due; f = next) {
		next = TAILQ_NEXT(f, by_use);
		if (can_retire(s, f) && !segment_is_asleep(f->seg))
			s->check_due = !check_file(s, f, now);
	}
	close_surplus(s);
}

bool files_leave_moved(struct storage *s, bool only_ask)
{
	struct file *f;
	bool any = false;

	TAILQ_FOREACH(f, &s->files.by_use, by_use)
	{
		if (!f->seg || segment_is_asleep(f->seg) || !segment_moved(f->seg))
			continue;
		any = true;
		if (!only_ask)
			retire(s, f);
	}
	return any;
}

int files_cut_unsynced(struct storage *s)
{
	struct files *fs = &s->files;
	struct file *f;

	for (int i = 0; i < fs->n_closing; i++) {
		struct segment *seg = fs->closing[i];
		int rc = segment_cut_unsynced(&s->path, seg);
		if (rc < 0) {
			ss_log(s->host, SS_LOG_ERROR,
			       "A closed file cannot be truncated after a failed sync; some of its lines may "
			       "be stored twice path=%s error=%s",
			       seg->path, strerror(-rc));
			seg->size = seg->stored = seg->synced;
			seg->entry_dirty = false;
		}
	}
	TAILQ_FOREACH(f, &fs->by_use, by_use)
	{
		if (!f->seg)
			continue;
		bool moved = !segment_is_asleep(f->seg) && segment_moved(f->seg);
		int rc = segment_cut_unsynced(&s->path, f->seg);
		if (moved || rc == -ENOENT) {
			/* it goes to another file; if not, it is there twice */
			close_segment(s, f->seg);
			f->seg = NULL;
		} else if (rc < 0) {
			return rc;
		}
	}
	return 0;
}

/* ---- room ---- */

static bool has_room(struct storage *s, bool midway)
{
	const struct files *fs = &s->files;

	return fs->n_open < fs->max_open || (evict(s, midway) && fs->n_open < fs->max_open);
}

/* ---- other options ---- */

void files_take_room(struct storage *s)
{
	struct files *fs = &s->files;

	if (!fs->more.n)
		return;
	free(s->sync.files);
	free(s->sync.folders);
	s->sync.files = fs->more.files;
	s->sync.folders = fs->more.folders;
	fs->room = fs->max_open = fs->more.n;
	fs->more = (struct sync_room){0};
}

/* Files are found as fast when there are more. */
static void take_buckets(struct files *fs, struct files *fresh)
{
	const struct files old = *fs;
	struct file *f;

	fs->buckets = fresh->buckets;
	fs->mask = fresh->mask;
	fresh->buckets = old.buckets;
	fresh->mask = old.mask;
	TAILQ_FOREACH(f, &fs->by_use, by_use)
	{
		LIST_REMOVE(f, in_bucket);
		LIST_INSERT_HEAD(&fs->buckets[f->hash & fs->mask], f, in_bucket);
	}
}

static void take_closing(struct files *fs, struct files *fresh)
{
	struct segment **closing = fs->closing;

	if (fresh->closing_max <= fs->closing_max)
		return;
	memcpy(fresh->closing, closing, (size_t)fs->n_closing * sizeof(struct segment *));
	fs->closing = fresh->closing;
	fs->closing_max = fresh->closing_max;
	fresh->closing = closing;
}

void files_reconfigure(struct storage *s, struct storage *fresh)
{
	struct files *fs = &s->files, *other = &fresh->files;

	if (!s->path.routed)
		return;
	free(fs->more.files);
	free(fs->more.folders);
	fs->more = (struct sync_room){0};
	fs->max_open = other->max_open < fs->room ? other->max_open : fs->room;
	if (other->mask > fs->mask)
		take_buckets(fs, other);
	take_closing(fs, other);
	if (other->max_open > fs->room) {
		fs->more = (struct sync_room){other->max_open, fresh->sync.files, fresh->sync.folders};
		fresh->sync.files = NULL;
		fresh->sync.folders = NULL;
		if (!s->syncing)
			files_take_room(s);
	}
}

/* ---- which file ---- */

/* The file for a set of attributes, NULL: none; NULL: out of memory. */
static struct file *find_route(struct storage *s, const struct ss_attributes *attributes)
{
	char key[KEY_MAX];

	route_key(&s->route, attributes, key);
	uint32_t hash = ss_crc32c(0, key, strlen(key));
	struct file *f = find_file(&s->files, key, hash);
	struct owner *owner = NULL;
	bool other = !f && !allowance_grants(s, attributes, key, hash, &owner);
	if (other) {
		route_other(&s->route, key);
		hash = ss_crc32c(0, key, strlen(key));
		f = find_file(&s->files, key, hash);
	}
	if (!f) {
		f = add_file(s, key, hash);
		if (f) {
			f->other = other;
			f->owner = owner;
		}
	}
	return f;
}

static struct target *target_of(struct files *fs, const struct ss_batch *b, uint32_t row)
{
	return &fs->targets[ss_attributes_of(b, &b->events[row]) ? b->events[row].attributes : 0];
}

static struct file *file_of(struct storage *s, const struct ss_batch *b, uint32_t row)
{
	struct files *fs = &s->files;

	if (fs->only)
		return fs->only;
	const struct ss_attributes *set = ss_attributes_of(b, &b->events[row]);
	struct target *t = target_of(fs, b, row);
	if (t->pass != fs->pass) {
		t->file = find_route(s, set);
		t->pass = fs->pass;
	}
	return t->file;
}

/* Room for the batch's sets of attributes. */
static bool begin_pass(struct files *fs, const struct ss_batch *b)
{
	uint32_t n = 1 + (SS_KNOWS(b, struct ss_batch, n_attributes) ? b->n_attributes : 0);

	fs->pass++;
	if (n <= fs->n_targets)
		return true;
	struct target *more = realloc(fs->targets, n * sizeof *more);
	if (!more)
		return false;
	memset(more + fs->n_targets, 0, (n - fs->n_targets) * sizeof *more);
	fs->targets = more;
	fs->n_targets = n;
	return true;
}

enum readiness { READY, WAIT, NO_ROOM, REFUSED };

/* Have one of the files open for the part of a batch that begins at k->row. */
static enum readiness open_one(struct storage *s, struct file *f, const struct kept *k)
{
	char why[WHY_MAX];
	int rc = 0;

	if (!turn_over(s, f, k->row > 0))
		return WAIT;
	if (f->seg && !segment_is_asleep(f->seg))
		return READY;
	if (!has_room(s, k->row > 0))
		return NO_ROOM;
	if (!f->seg) {
		rc = open_file(s, f, why);
		if (rc == 0)
			return open_one(s, f, k); /* it may be full already */
		if (allowance_refuses(s, f, rc, why))
			return REFUSED;
	} else {
		rc = segment_wake(f->seg, &s->path, why);
		s->files.n_open += rc == 0;
		s->files.n_asleep -= rc == 0;
		/* what the batch has there already goes to another file, with all the rest of it */
		s->rewrite |= rc == -ESTALE;
	}
	if (rc < 0)
		writer_suspend(s, METRIC_OPEN_ERRORS, "open", f, why, -rc);
	return rc < 0 ? WAIT : READY;
}

/* No file can be closed yet: all of them are to be safe. */
static void make_room(struct storage *s, const struct kept *k)
{
	if (!writer_flush(s))
		return;
	if (k->row > 0)
		writer_begin(s, SYNC_STORE);
	else
		writer_sync(s);
	s->waiting = s->syncing;
}

/* Have the file of one row open; unknown: the record does not know it. */
static enum readiness prepare_row(struct storage *s, const struct kept *k, uint32_t row, bool *unknown)
{
	struct files *fs = &s->files;
	enum readiness is;
	struct file *f;

	do {
		f = file_of(s, k->batch, row);
		if (!f) {
			writer_suspend(s, METRIC_OPEN_ERRORS, "open", NULL, strerror(ENOMEM), ENOMEM);
			return WAIT;
		}
		if (f->pass == fs->pass)
			return READY;
		f->pass = fs->pass;
		TAILQ_REMOVE(&fs->by_use, f, by_use);
		TAILQ_INSERT_TAIL(&fs->by_use, f, by_use);
		is = open_one(s, f, k);
		if (is == REFUSED) { /* there is another one for its events */
			remove_file(s, f);
			target_of(fs, k->batch, row)->pass = 0;
		}
	} while (is == REFUSED);
	*unknown |= is == READY && !f->seg->recorded;
	return is;
}

static bool prepare_many(struct storage *s, struct kept *k)
{
	enum readiness is = READY;
	bool unknown = false;
	uint32_t row = k->row;

	if (!begin_pass(&s->files, k->batch)) {
		writer_suspend(s, METRIC_OPEN_ERRORS, "open", NULL, strerror(ENOMEM), ENOMEM);
		return false;
	}
	while (row < k->batch->count && (is = prepare_row(s, k, row, &unknown)) == READY)
		row++;
	if (is == WAIT)
		return false;
	if (row == k->row && row < k->batch->count) {
		make_room(s, k);
		return false;
	}
	if (unknown && s->record_cuts && !writer_begin(s, SYNC_NOTE))
		return false;
	k->ready = row;
	return true;
}

static bool prepare_only(struct storage *s, struct kept *k)
{
	struct file *f = s->files.only;
	char why[WHY_MAX];

	if (!turn_over(s, f, false))
		return false;
	int rc = f->seg ? 0 : open_file(s, f, why);
	if (rc < 0) {
		writer_suspend(s, METRIC_OPEN_ERRORS, "open", f, why, -rc);
		return false;
	}
	if (!record_follows(s))
		return false;
	k->ready = k->batch->count;
	return true;
}

bool files_prepare(struct storage *s, struct kept *k)
{
	if (s->check_due)
		files_check(s);
	if (s->check_due)
		return false;
	if (s->files.only)
		return prepare_only(s, k);
	return (k->row > 0 || record_follows(s)) && prepare_many(s, k);
}

/* ---- what is gathered ---- */

static void add_run(struct files *fs, struct file *f, uint32_t first, size_t bytes)
{
	if (fs->n_runs == 0 || fs->runs[fs->n_runs - 1].file != f) {
		uint32_t number = fs->n_runs++;
		fs->runs[number] = (struct run){.file = f, .first = first, .next = UINT32_MAX};
		if (f->gathered)
			fs->runs[f->last_run].next = number;
		else
			f->first_run = number;
		f->last_run = number;
	}
	f->gathered += bytes;
}

int64_t files_gather(struct storage *s, struct kept *k)
{
	struct files *fs = &s->files;
	const struct ss_batch *b = k->batch;
	uint32_t n = k->ready - k->row;

	if (n == 0)
		return 0;
	struct file *f = file_of(s, b, k->row);
	if (!fs->only) {
		for (n = 1; k->row + n < k->ready && file_of(s, b, k->row + n) == f; n++)
			;
		if (fs->n_runs && fs->runs[fs->n_runs - 1].file != f)
			lines_split(&s->lines);
	}
	uint32_t first = s->lines.n;
	size_t before = lines_bytes(&s->lines);
	int64_t took = lines_gather(&s->lines, (k->envelopes ? k->envelopes->rows : b->events) + k->row, n,
				    &k->dropped);
	if (lines_bytes(&s->lines) > before)
		add_run(fs, f, first, lines_bytes(&s->lines) - before);
	if (f->other && took > 0)
		k->others += (uint64_t)took;
	return took;
}

void files_forget_runs(struct storage *s)
{
	struct files *fs = &s->files;

	for (uint32_t i = 0; i < fs->n_runs; i++)
		fs->runs[i].file->gathered = 0;
	fs->n_runs = 0;
	lines_reset(&s->lines);
}

/* The iovecs of one file, side by side; how many. */
static unsigned collect(struct storage *s, const struct file *f, struct iovec **iov)
{
	struct files *fs = &s->files;
	unsigned n = 0;

	if (fs->runs[0].file == f && fs->runs[0].next == UINT32_MAX && fs->n_runs == 1) {
		*iov = s->lines.iov;
		return s->lines.n;
	}
	*iov = fs->iov;
	for (uint32_t i = f->first_run; i != UINT32_MAX; i = fs->runs[i].next) {
		uint32_t end = i + 1 < fs->n_runs ? fs->runs[i + 1].first : s->lines.n;
		memcpy(fs->iov + n, s->lines.iov + fs->runs[i].first,
		       (end - fs->runs[i].first) * sizeof *fs->iov);
		n += end - fs->runs[i].first;
	}
	return n;
}

int files_write(struct storage *s, struct file **failed, char why[WHY_MAX])
{
	struct files *fs = &s->files;
	struct iovec *iov;
	int rc = 0;
	uint32_t i;

	why[0] = '\0';
	for (i = 0; rc == 0 && i < fs->n_runs; i++) {
		struct file *f = fs->runs[i].file;
		*failed = f;
		if (f->first_run != i)
			continue;
		rc = f->seg ? 0 : open_file(s, f, why);
		if (rc < 0)
			break;
		unsigned n = collect(s, f, &iov);
		rc = segment_write(f->seg, iov, n, f->gathered);
		if (rc < 0)
			break;
	}
	if (rc < 0) /* all or nothing */
		while (i-- > 0)
			if (fs->runs[i].file->first_run == i)
				segment_take_back(fs->runs[i].file->seg, fs->runs[i].file->gathered);
	return rc;
}
