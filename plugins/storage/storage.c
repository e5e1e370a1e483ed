/* SPDX-License-Identifier: MIT */
/*
 * storage - a sink that appends events to files of JSON Lines: its options, its life and what the host calls.
 * writer.c writes, syncs and acknowledges; retain.c compresses and removes closed files.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>
#include "storage.h"

enum { KEPT_MAX = 65536, CHECK_FILE_S = 5, ROUTED_IOVS = 8192 };
#define SECOND_NS UINT64_C(1000000000)

/* ---- what the host is told ---- */

static const char *const sync_choices[] = {"always", "interval", "relaxed", NULL};
static const char *const break_choices[] = {"space", "escape", NULL};
static const char *const reasons[] = {"empty", "too_long", NULL};

#define OPT(...) SS_OPT(struct storage_conf, __VA_ARGS__)
#define LIMIT    .min = 0, .max = INT64_MAX

static const char *const formats[] = {"raw", "envelope", NULL};
static const struct ss_option options[] = {
	OPT(path, SS_OPT_STRING, NULL,
	    "file to append to; after a fixed directory, %Y %m %d %H (time of writing, UTC), {component}, "
	    "and "
	    "{peer}, {origin}, {input} and {address} of each event are replaced",
	    .flags = SS_OPT_REQUIRED | SS_OPT_WRITES),
	OPT(format, SS_OPT_ENUM, "raw",
	    "lines are events as they are (raw), or envelopes: JSON with any bytes, attributes and time",
	    .choices = formats),
	OPT(mode, SS_OPT_STRING, "0640", "permissions of new files, octal"),
	OPT(any_owner, SS_OPT_BOOL, "false",
	    "write also to files of other users, for file systems that show every file with one owner (CIFS, "
	    "NFS with squashed users)"),
	OPT(sync, SS_OPT_ENUM, "always",
	    "when events count as stored: after a sync shared by many (always), after a sync each "
	    "sync_interval "
	    "(interval), or after write() (relaxed)",
	    .choices = sync_choices),
	OPT(sync_interval, SS_OPT_DURATION, "1s", "time between two syncs when sync is interval",
	    .min = 1000000, .max = 3600 * INT64_C(1000000000), .flags = SS_OPT_LIVE),
	OPT(rotate_size, SS_OPT_BYTES, "0", "rotate when the file reaches this size; 0 = never", LIMIT,
	    .flags = SS_OPT_LIVE),
	OPT(rotate_age, SS_OPT_DURATION, "0s", "rotate when the file reaches this age; 0 = never", LIMIT,
	    .flags = SS_OPT_LIVE),
	OPT(retain_files, SS_OPT_INT, "0", "closed files to retain; older ones are removed; 0 = all", LIMIT,
	    .flags = SS_OPT_LIVE),
	OPT(retain_age, SS_OPT_DURATION, "0s",
	    "remove a closed file this long after its last line was written; 0 = never", LIMIT,
	    .flags = SS_OPT_LIVE),
	OPT(retain_bytes, SS_OPT_BYTES, "0",
	    "total size of closed files to retain; older ones are removed; 0 = no limit", LIMIT,
	    .flags = SS_OPT_LIVE),
	OPT(compress, SS_OPT_ENUM, "none", "compression of closed files", .choices = compress_names,
	    .flags = SS_OPT_LIVE),
	OPT(line_breaks, SS_OPT_ENUM, "space",
	    "replace a line break inside an event with a space, or with a backslash and an n",
	    .choices = break_choices),
	OPT(max_open_files, SS_OPT_INT, "256",
	    "files open at once where path names an attribute of events; for another one the one unused for "
	    "longest is closed",
	    .min = 1, .max = 1 << 20, .flags = SS_OPT_LIVE),
	OPT(max_files, SS_OPT_INT, "10000",
	    "files of one date there may be where path names an attribute of events; beyond, events that "
	    "would "
	    "begin another one go to the file named %other",
	    .min = 1, .max = INT64_C(1) << 40, .flags = SS_OPT_LIVE),
	OPT(max_peer_files, SS_OPT_INT, "0",
	    "how many of these may be of one verified peer, or of all that are not verified together; 0 = "
	    "half "
	    "of max_files",
	    .min = 0, .max = INT64_C(1) << 40, .flags = SS_OPT_LIVE),
	OPT(max_line, SS_OPT_BYTES, "16MiB", "longest event that is stored; longer events are dropped",
	    .min = 64, .max = 1 << 30),
	OPT(write_buffer, SS_OPT_BYTES, "256KiB", "bytes to collect for one write while events keep coming",
	    .min = 4096, .max = 64 << 20),
	OPT(max_pending, SS_OPT_BYTES, "64MiB",
	    "memory of events that wait for a write or a sync; when it is used up, input pauses",
	    .min = 1 << 20, .max = INT64_C(1) << 40, .flags = SS_OPT_LIVE),
};

#define COUNTER(metric, text)                                                                                \
	{                                                                                                    \
		.name = metric, .help = text, .kind = SS_METRIC_COUNTER                                      \
	}
#define ERRORS(op)                                                                                           \
	{                                                                                                    \
		.name = "semstreams_storage_errors_total", .help = "Failed operations on files",             \
		.label = "operation=\"" op "\"", .kind = SS_METRIC_COUNTER                                   \
	}

static const struct ss_metric metrics[] = {
	[METRIC_WRITTEN] = COUNTER("semstreams_storage_written_bytes_total", "Bytes written to files"),
	[METRIC_SYNCS] = COUNTER("semstreams_storage_syncs_total",
				 "Syncs to disk; each covers everything written before it"),
	[METRIC_OPEN_ERRORS] = ERRORS("open"),
	[METRIC_WRITE_ERRORS] = ERRORS("write"),
	[METRIC_SYNC_ERRORS] = ERRORS("sync"),
	[METRIC_COMMIT_ERRORS] = ERRORS("commit"),
	[METRIC_ROTATE_ERRORS] = ERRORS("rotate"),
	[METRIC_RETAIN_ERRORS] = ERRORS("retain"),
	[METRIC_BLOCKED] = {.name = "semstreams_storage_blocked",
			    .help = "1 while the files cannot be written and input is paused",
			    .kind = SS_METRIC_GAUGE},
	[METRIC_REPAIRED] = COUNTER("semstreams_storage_repaired_total",
				    "Files that ended in an unfinished line when they were opened"),
	[METRIC_CUT] =
		COUNTER("semstreams_storage_cut_total", "Files truncated at start to their committed length"),
	[METRIC_ROTATIONS] =
		COUNTER("semstreams_storage_rotations_total",
			"Files closed because of rotate_size, rotate_age or a new date in the path"),
	[METRIC_COMPRESSED] = COUNTER("semstreams_storage_compressed_total", "Closed files compressed"),
	[METRIC_REMOVED] = COUNTER("semstreams_storage_removed_total", "Closed files removed"),
	[METRIC_STALLS] = COUNTER("semstreams_storage_stalls_total", "Syncs that took longer than 5 seconds"),
	[METRIC_OLDEST_UNSYNCED] = {.name = "semstreams_storage_oldest_unsynced_seconds",
				    .help = "Age of the oldest event that is not durable yet, in seconds",
				    .kind = SS_METRIC_GAUGE},
	[METRIC_OPEN_FILES] = {.name = "semstreams_storage_open_files",
			       .help = "Files open where path names an attribute of events",
			       .kind = SS_METRIC_GAUGE},
	[METRIC_EVICTED] = COUNTER("semstreams_storage_evicted_total",
				   "Files closed for another one because of max_open_files"),
	[METRIC_OTHERS] =
		COUNTER("semstreams_storage_other_events_total",
			"Events stored in the file named %other because of max_files, max_peer_files, or "
			"because their own cannot be opened"),
};

/* ---- create ---- */

static int parse_mode(const struct ss_host *host, const char *text, mode_t *mode)
{
	char *end;
	unsigned long m = strtoul(text, &end, 8);
	if (*end || end == text || text[0] < '0' || text[0] > '7' || m > 0777 || (m & 0600) != 0600)
		return ss_config_error(
			host, "/mode",
			"expected octal permissions that let the owner read and write, such as \"0640\"");
	*mode = (mode_t)m;
	return 0;
}

/* The commit record lies in the same folder. */
static int check_record_name(const struct storage *s)
{
	char name[256];
	commit_name(s->host->id, name);
	if (!path_matches(s->path.pattern, name, strlen(name), NULL))
		return 0;
	return ss_config_error(s->host, "/path", "%s is the name of this component's commit record", name);
}

/* No two components write one file, or files of one pattern. */
static int claim_file(const struct storage *s)
{
	char *resource = NULL;
	int rc = 0;

	if (!SS_KNOWS(s->host, struct ss_host, claim))
		return 0;
	if (asprintf(&resource, "file:%s/%s", s->path.prefix, s->path.pattern) < 0)
		return -ENOMEM;
	rc = s->host->claim(s->host, "/path", resource) == -ENOMEM ? -ENOMEM : 0;
	free(resource);
	return rc;
}

/* Envelopes show what an event carries. */
static void want_attributes(const struct storage *s)
{
	struct ss_iface attributes;

	if (s->conf->format != FORMAT_ENVELOPE ||
	    s->host->query(s->host, SS_ATTRIBUTES, sizeof(struct ss_attribute_service), &attributes) < 0)
		return;
	((const struct ss_attribute_service *)attributes.vtbl)->want(attributes.self);
}

/* Of many files: which one, and how many at once. */
static int prepare_routes(struct storage *s)
{
	char resource[64], why[WHY_MAX];
	struct ss_iface attributes;

	if (!s->path.routed)
		return 0;
	if (route_parse(&s->route, s->path.pattern, why) < 0) {
		s->host->config_error(s->host, "/path", why);
		return -EINVAL;
	}
	int rc = s->host->query(s->host, SS_ATTRIBUTES, sizeof(struct ss_attribute_service), &attributes);
	if (rc < 0)
		return ss_config_error(s->host, "/path",
				       "names attributes of events, which this host does not have");
	((const struct ss_attribute_service *)attributes.vtbl)->want(attributes.self);
	if (!SS_KNOWS(s->host, struct ss_host, claim))
		return 0;
	/* each with its directory; and record, ledger, what compresses and removes */
	snprintf(resource, sizeof resource, "descriptors:%lld", 2 * (long long)s->conf->max_open_files + 16);
	rc = s->host->claim(s->host, "/max_open_files", resource);
	return rc == -ENOMEM ? rc : 0;
}

static void warn_of_no_closing(const struct storage *s)
{
	const struct storage_conf *c = s->conf;
	bool closes = s->path.dated || c->rotate_size || c->rotate_age;
	if (!closes && (c->retain_files || c->retain_age || c->retain_bytes || c->compress))
		ss_log(s->host, SS_LOG_WARN,
		       "compress and retain_... have no effect, because no file is ever closed; set "
		       "rotate_size or "
		       "rotate_age, or put a date in the path");
}

static void storage_destroy(void *self)
{
	struct storage *s = self;
	if (!s)
		return;
	files_done(s);
	path_done(&s->path);
	lines_done(&s->lines);
	ss_ring_done(&s->ring);
	free(s);
}

static int32_t storage_create(const struct ss_host *host, const void *conf, void **self)
{
	const struct storage_conf *c = conf;
	char why[WHY_MAX] = "";
	struct ss_iface loop;
	struct storage *s = calloc(1, sizeof *s);
	if (!s)
		return -ENOMEM;
	s->host = host;
	s->conf = c;
	ledger_init(&s->ledger, &s->path, host->id);
	int rc = path_parse(&s->path, c->path, host->id, why);
	if (rc == -EINVAL)
		host->config_error(host, "/path", why);
	if (rc == 0)
		rc = prepare_routes(s);
	want_attributes(s);
	if (rc == 0)
		rc = check_record_name(s);
	if (rc == 0)
		rc = claim_file(s);
	s->path.any_owner = c->any_owner != 0;
	int mode_rc = parse_mode(host, c->mode, &s->mode);
	if (rc == 0)
		rc = mode_rc;
	if (rc == 0)
		rc = host->query(host, SS_LOOP, sizeof *s->loop, &loop);
	struct ss_iface positions;
	if (c->sync != SYNC_RELAXED &&
	    host->query(host, SS_POSITIONS, sizeof *s->positions, &positions) == 0) {
		s->positions = positions.vtbl;
		s->positions_self = positions.self;
	}
	if (rc == 0)
		rc = lines_init(&s->lines, (size_t)c->write_buffer, (size_t)c->max_line,
				c->line_breaks == BREAKS_ESCAPE, s->path.routed ? ROUTED_IOVS : LINES_IOVS);
	if (rc == 0)
		rc = files_init(s);
	if (rc < 0) {
		storage_destroy(s);
		return rc;
	}
	s->loop = loop.vtbl;
	s->loop_self = loop.self;
	s->ring.value_size = sizeof(struct kept);
	warn_of_no_closing(s);
	*self = s;
	return 0;
}

/* ---- start, stop ---- */

/* Each second. */
static void on_check(void *arg)
{
	struct storage *s = arg;

	writer_on_synced(s);
	writer_check_stall(s);
	retain_tick(s->retain);
	if (++s->checks % CHECK_FILE_S)
		return;
	if (s->down && !s->retry_timer && !s->syncing)
		writer_on_retry(s);
	files_check(s);
	if (s->files.n_closing)
		writer_sync(s);
}

static void on_interval(void *arg)
{
	struct storage *s = arg;
	if (!s->down)
		writer_flush(s);
	writer_sync(s);
}

/* In the job's thread. */
static void on_sync_done(void *arg)
{
	struct storage *s = arg;

	/* without memory for the post, the check timer takes the result */
	(void)s->loop->post(s->loop_self, writer_on_synced, s);
}

static int32_t storage_start(void *self)
{
	struct storage *s = self;
	int rc = record_resume(s);
	if (rc == 0)
		rc = writer_open_first(s);
	if (rc == 0)
		rc = ss_job_new(&s->job, "storage-sync", on_sync_done, s);
	if (rc == 0)
		rc = retain_new(&s->retain, s->host, s->conf, &s->path);
	if (rc == 0)
		rc = s->loop->timer(s->loop_self, SECOND_NS, SECOND_NS, on_check, s, &s->check_timer);
	if (rc == 0 && s->conf->sync == SYNC_INTERVAL)
		rc = s->loop->timer(s->loop_self, (uint64_t)s->conf->sync_interval,
				    (uint64_t)s->conf->sync_interval, on_interval, s, &s->interval_timer);
	return rc;
}

static void storage_stop(void *self)
{
	struct storage *s = self;
	s->loop->cancel(s->loop_self, s->check_timer);
	s->loop->cancel(s->loop_self, s->interval_timer);
	s->check_timer = s->interval_timer = 0;
	writer_stop(s);
	retain_free(s->retain);
	s->retain = NULL;
}

/* ---- data ---- */

static uint64_t batch_memory(const struct ss_batch *b)
{
	return b->footprint ? b->footprint : b->size + (uint64_t)b->count * sizeof *b->events;
}

static bool has_room(struct storage *s, uint64_t bytes)
{
	uint64_t n = ss_ring_count(&s->ring);

	return n == 0 || (s->kept_bytes + bytes <= (uint64_t)s->conf->max_pending && n < KEPT_MAX);
}

/* Too much waits: move what can be moved, then see. */
static bool make_room(struct storage *s, uint64_t bytes)
{
	if (!has_room(s, bytes) && writer_flush(s))
		writer_sync(s);
	return !s->down && has_room(s, bytes);
}

static bool is_positioned(const struct storage *s, const struct ss_batch *b)
{
	struct ss_position position;
	const char *source;

	return s->positions && b->count && (b->events[0].seq || b->events[b->count - 1].seq) &&
	       s->host->position(b, &position, &source) == 0;
}

static int32_t storage_process(void *self, uint32_t port, struct ss_batch *batch)
{
	struct storage *s = self;
	const bool wraps = s->conf->format == FORMAT_ENVELOPE;
	uint64_t bytes = batch_memory(batch);
	struct envelopes *envelopes = wraps ? envelopes_new(batch) : NULL;
	struct kept *k = NULL;

	bytes += envelopes ? envelopes->text.size : 0;
	if (!s->down && (envelopes || !wraps) && make_room(s, bytes))
		k = ss_ring_push(&s->ring);
	if (!k) {
		envelopes_free(envelopes);
		s->busy = true;
		return SS_BUSY;
	}
	*k = (struct kept){.batch = batch,
			   .envelopes = envelopes,
			   .bytes = bytes,
			   .since_ns = s->conf->sync == SYNC_RELAXED ? 0 : s->loop->now(s->loop_self),
			   .port = port,
			   .positioned = is_positioned(s, batch)};
	s->kept_bytes += bytes;
	s->positioned |= k->positioned;
	s->in_process = batch;
	writer_pump(s);
	bool done = s->in_process == NULL;
	s->in_process = NULL;
	if (s->conf->sync == SYNC_ALWAYS)
		writer_commit(s);
	return done ? SS_DONE : SS_KEPT;
}

static void storage_idle(void *self)
{
	struct storage *s = self;
	if (s->down)
		return;
	writer_flush(s);
	if (s->files.n_closing)
		writer_sync(s);
	else if (s->conf->sync == SYNC_ALWAYS)
		writer_commit(s);
	writer_notify_host(s);
}

static int32_t storage_drain(void *self)
{
	struct storage *s = self;
	if (!s->down && writer_pump(s))
		writer_flush(s);
	writer_sync(s);
	s->draining = !writer_is_drained(s);
	return s->draining ? SS_BUSY : 0;
}

static void set_interval(struct storage *s, int64_t ns)
{
	uint32_t timer;

	if (s->loop->timer(s->loop_self, (uint64_t)ns, (uint64_t)ns, on_interval, s, &timer) < 0)
		return; /* without memory the old time goes on */
	s->loop->cancel(s->loop_self, s->interval_timer);
	s->interval_timer = timer;
}

static void storage_reconfigure(void *self, void *fresh)
{
	struct storage *s = self, *other = fresh;
	const bool other_interval = s->conf->sync_interval != other->conf->sync_interval;

	s->conf = other->conf;
	if (s->conf->sync == SYNC_INTERVAL && other_interval)
		set_interval(s, s->conf->sync_interval);
	files_reconfigure(s, other);
	retain_reconfigure(s->retain, s->conf);
	files_check(s);
	if (s->files.n_closing)
		writer_sync(s);
	writer_notify_host(s);
}

static const struct ss_component storage = {
	.struct_size = sizeof storage,
	.kind = SS_KIND_SINK,
	.type = "storage",
	.version = "1.0",
	.summary = "Appends events to files of JSON Lines.",
	.license = "MIT",
	.flags = SS_TELLS_PATHS | SS_FILES_ONLY,
	.options = options,
	.option_size = sizeof *options,
	.n_options = sizeof options / sizeof *options,
	.metrics = metrics,
	.metric_size = sizeof *metrics,
	.n_metrics = sizeof metrics / sizeof *metrics,
	.reasons = reasons,
	.conf_size = sizeof(struct storage_conf),
	.create = storage_create,
	.destroy = storage_destroy,
	.start = storage_start,
	.stop = storage_stop,
	.process = storage_process,
	.drain = storage_drain,
	.idle = storage_idle,
	.reconfigure = storage_reconfigure,
};

SS_REGISTER(&storage);
