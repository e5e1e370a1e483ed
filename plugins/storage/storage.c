/* SPDX-License-Identifier: MIT */
/*
 * storage - a sink that appends events to files of JSON Lines.  This file: its options, its life and what the
 * host calls; append.c writes, durable.c acknowledges, retain.c looks after closed files.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>
#include "storage.h"

enum { KEPT_MAX = 65536, CHECK_S = 5 };
#define SECOND_NS UINT64_C(1000000000)

/* ---- what the host is told ---- */

static const char *const sync_choices[] = {"always", "interval", "relaxed", NULL};
static const char *const break_choices[] = {"space", "escape", NULL};
static const char *const reasons[] = {"empty", "too_long", "duplicate", NULL};

#define OPT(...) SS_OPT(struct storage_conf, __VA_ARGS__)
#define LIMIT    .min = 0, .max = INT64_MAX

static const struct ss_option options[] = {
	OPT(path, SS_OPT_STRING, NULL,
	    "file to append to; %Y %m %d %H (UTC, when it is written) and {component} may follow a fixed "
	    "directory",
	    .flags = SS_OPT_REQUIRED),
	OPT(mode, SS_OPT_STRING, "0640", "permissions of new files, octal"),
	OPT(sync, SS_OPT_ENUM, "always",
	    "when events count as stored: synced to disk in groups, synced each sync_interval, or (relaxed) "
	    "written",
	    .choices = sync_choices),
	OPT(sync_interval, SS_OPT_DURATION, "1s", "time between two syncs with \"sync\": \"interval\"",
	    .min = 1000000, .max = 3600 * INT64_C(1000000000)),
	OPT(rotate_size, SS_OPT_BYTES, "0",
	    "size from which on a file is closed and a new one begun; 0 = never", LIMIT),
	OPT(rotate_age, SS_OPT_DURATION, "0s",
	    "age from which on a file is closed and a new one begun; 0 = never", LIMIT),
	OPT(retain_files, SS_OPT_INT, "0", "number of closed files to keep, the oldest go; 0 = all", LIMIT),
	OPT(retain_age, SS_OPT_DURATION, "0s",
	    "time after its last line that a closed file is removed; 0 = never", LIMIT),
	OPT(retain_bytes, SS_OPT_BYTES, "0", "size of all closed files together, the oldest go; 0 = no limit",
	    LIMIT),
	OPT(compress, SS_OPT_ENUM, "none", "how closed files are compressed", .choices = compress_names),
	OPT(line_breaks, SS_OPT_ENUM, "space",
	    "what a line break inside an event becomes: a space, or a backslash and an n",
	    .choices = break_choices),
	OPT(max_line, SS_OPT_BYTES, "16MiB", "longest event that is stored, longer ones are dropped",
	    .min = 64, .max = 1 << 30),
	OPT(write_buffer, SS_OPT_BYTES, "256KiB",
	    "bytes that are gathered for one write while events keep coming", .min = 4096, .max = 64 << 20),
	OPT(max_pending, SS_OPT_BYTES, "64MiB",
	    "memory of events that wait for a write or sync before the stage takes in no more",
	    .min = 1 << 20, .max = INT64_C(1) << 40),
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
				 "Syncs to disk, each for all that was written before"),
	[METRIC_OPEN_ERRORS] = ERRORS("open"),
	[METRIC_WRITE_ERRORS] = ERRORS("write"),
	[METRIC_SYNC_ERRORS] = ERRORS("sync"),
	[METRIC_COMMIT_ERRORS] = ERRORS("commit"),
	[METRIC_ROTATE_ERRORS] = ERRORS("rotate"),
	[METRIC_RETAIN_ERRORS] = ERRORS("retain"),
	[METRIC_BLOCKED] = {.name = "semstreams_storage_blocked",
			    .help = "1 while files cannot be written and input waits",
			    .kind = SS_METRIC_GAUGE},
	[METRIC_REPAIRED] = COUNTER("semstreams_storage_repaired_total",
				    "Files whose last line was not finished when they were opened"),
	[METRIC_CUT] = COUNTER("semstreams_storage_cut_total",
			       "Files cut back at start to what was committed of them"),
	[METRIC_ROTATIONS] = COUNTER("semstreams_storage_rotations_total", "Files closed for a new one"),
	[METRIC_COMPRESSED] = COUNTER("semstreams_storage_compressed_total", "Closed files compressed"),
	[METRIC_REMOVED] = COUNTER("semstreams_storage_removed_total", "Closed files removed"),
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
	const char *tail = path_match(s->path.pattern, name);
	if (!tail || *tail)
		return 0;
	return ss_config_error(s->host, "/path", "%s is the name of this component's commit record", name);
}

static void warn_of_no_closing(const struct storage *s)
{
	const struct storage_conf *c = s->conf;
	bool closes = s->path.dated || c->rotate_size || c->rotate_age;
	if (!closes && (c->retain_files || c->retain_age || c->retain_bytes || c->compress != COMPRESS_NONE))
		ss_log(s->host, SS_LOG_WARN,
		       "Nothing will be compressed or removed: no file is ever closed; set rotate_size or "
		       "rotate_age, or a "
		       "date in the path");
}

static void storage_destroy(void *self)
{
	struct storage *s = self;
	if (!s)
		return;
	path_done(&s->path);
	streams_done(&s->streams);
	lines_done(&s->lines);
	free(s->ring);
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
	int rc = path_parse(&s->path, c->path, host->id, why);
	if (rc == -EINVAL)
		host->config_error(host, "/path", why);
	if (rc == 0)
		rc = check_record_name(s);
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
				c->line_breaks == BREAKS_ESCAPE);
	if (rc < 0) {
		storage_destroy(s);
		return rc;
	}
	s->loop = loop.vtbl;
	s->loop_self = loop.self;
	s->room = 64;
	s->ring = malloc(s->room * sizeof *s->ring);
	if (!s->ring) {
		storage_destroy(s);
		return -ENOMEM;
	}
	warn_of_no_closing(s);
	*self = s;
	return 0;
}

/* ---- start, stop ---- */

/* In the syncer's thread. */
static void on_sync_done(void *arg)
{
	struct storage *s = arg;
	/* if there is no memory for it, the check timer takes the result */
	(void)s->loop->post(s->loop_self, storage_on_synced, s);
}

/* In the retaining thread. */
static void on_retained(void *arg, enum retain_event event, const char *rel, int err)
{
	const struct storage *s = arg;
	const struct ss_host *host = s->host;
	switch (event) {
	case RETAIN_COMPRESSED:
		host->metric_add(host, METRIC_COMPRESSED, 1);
		ss_log(host, SS_LOG_DEBUG, "Compressed a closed file path=%s/%s", s->path.prefix, rel);
		break;
	case RETAIN_REMOVED:
		host->metric_add(host, METRIC_REMOVED, 1);
		ss_log(host, SS_LOG_INFO, "Removed an old file path=%s/%s", s->path.prefix, rel);
		break;
	case RETAIN_FAILED:
		host->metric_add(host, METRIC_RETAIN_ERRORS, 1);
		ss_log(host, SS_LOG_ERROR, "Cannot compress or remove a closed file path=%s/%s error=%s",
		       s->path.prefix, rel, strerror(err));
		break;
	}
}

static void on_check(void *arg)
{
	struct storage *s = arg;
	storage_on_synced(s);
	if (s->down && !s->retry_timer && !s->syncing)
		storage_on_retry(s);
	storage_check_file(s);
	if (s->n_closing)
		storage_start_sync(s);
}

static void on_interval(void *arg)
{
	struct storage *s = arg;
	if (!s->down)
		storage_flush(s);
	storage_start_sync(s);
}

static int start_retain(struct storage *s)
{
	const struct storage_conf *c = s->conf;
	const struct retain_conf conf = {
		.path = &s->path,
		.max_files = (uint64_t)c->retain_files,
		.max_age_ns = (uint64_t)c->retain_age,
		.max_bytes = (uint64_t)c->retain_bytes,
		.compress = (enum compress_kind)c->compress,
		.report = on_retained,
		.arg = s,
	};
	if (!conf.max_files && !conf.max_age_ns && !conf.max_bytes && conf.compress == COMPRESS_NONE)
		return 0;
	return retain_new(&s->retain, &conf);
}

/* The first file.  A full disk is no reason not to start: it is waited for like later. */
static int open_first(struct storage *s)
{
	char why[WHY_MAX];
	int rc = storage_open(s, why);
	if (rc == -ENOSPC || rc == -EDQUOT) {
		storage_fail(s, METRIC_OPEN_ERRORS, "open", why, -rc);
		return 0;
	}
	if (rc < 0)
		ss_log(s->host, SS_LOG_ERROR, "Cannot open path=%s/%s error=%s", s->path.prefix,
		       s->path.pattern, why);
	return rc;
}

static int32_t storage_start(void *self)
{
	struct storage *s = self;
	int rc = storage_resume(s);
	if (rc == 0)
		rc = open_first(s);
	if (rc == 0)
		rc = syncer_new(&s->syncer, on_sync_done, s);
	if (rc == 0)
		rc = start_retain(s);
	if (rc == 0)
		rc = s->loop->timer(s->loop_self, CHECK_S * SECOND_NS, CHECK_S * SECOND_NS, on_check, s,
				    &s->check_timer);
	if (rc == 0 && s->conf->sync == SYNC_INTERVAL)
		rc = s->loop->timer(s->loop_self, (uint64_t)s->conf->sync_interval,
				    (uint64_t)s->conf->sync_interval, on_interval, s, &s->interval_timer);
	return rc;
}

static void storage_stop(void *self)
{
	struct storage *s = self;
	struct sync_job job;
	s->loop->cancel(s->loop_self, s->check_timer);
	s->loop->cancel(s->loop_self, s->interval_timer);
	bool synced = syncer_free(s->syncer, &job);
	s->syncer = NULL;
	if (synced)
		storage_end_sync(s, &job);
	s->loop->cancel(s->loop_self, s->retry_timer);
	s->loop->cancel(s->loop_self, s->commit_timer);
	s->check_timer = s->interval_timer = s->retry_timer = s->commit_timer = 0;
	/* what is not safe was not kept */
	while (s->head < s->tail)
		s->host->done(s->host, s->ring[s->head++ & (s->room - 1)].batch, SS_FAILED);
	s->flushed = s->next = s->head;
	s->kept_bytes = 0;
	lines_reset(&s->lines);
	for (int i = 0; i < s->n_closing; i++)
		segment_free(s->closing[i]);
	s->n_closing = 0;
	segment_free(s->seg);
	s->seg = NULL;
	storage_forget(s);
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
	if (s->head == s->tail)
		return true;
	return s->kept_bytes + bytes <= (uint64_t)s->conf->max_pending && s->tail - s->head < KEPT_MAX;
}

static int grow_ring(struct storage *s)
{
	if (s->tail - s->head < s->room)
		return 0;
	struct kept *ring = malloc(2 * s->room * sizeof *ring);
	if (!ring)
		return -ENOMEM;
	for (uint64_t i = s->head; i < s->tail; i++)
		ring[i & (2 * s->room - 1)] = s->ring[i & (s->room - 1)];
	free(s->ring);
	s->ring = ring;
	s->room *= 2;
	return 0;
}

/* Too much waits: move what can be moved, then see. */
static bool make_room(struct storage *s, uint64_t bytes)
{
	if (!has_room(s, bytes) && storage_flush(s))
		storage_start_sync(s);
	return !s->down && has_room(s, bytes) && grow_ring(s) == 0;
}

static int32_t storage_process(void *self, uint32_t port, struct ss_batch *batch)
{
	struct storage *s = self;
	uint64_t bytes = batch_memory(batch);
	if (s->down || !make_room(s, bytes)) {
		s->busy = true;
		return SS_BUSY;
	}
	struct kept *k = &s->ring[s->tail++ & (s->room - 1)];
	*k = (struct kept){.batch = batch, .bytes = bytes, .stream = -1};
	s->kept_bytes += bytes;
	if (batch->token && s->positions)
		storage_place(s, port, k);
	s->in_process = batch;
	storage_pump(s);
	bool done = s->in_process == NULL;
	s->in_process = NULL;
	if (s->conf->sync == SYNC_ALWAYS)
		storage_commit(s);
	return done ? SS_DONE : SS_KEPT;
}

static void storage_idle(void *self)
{
	struct storage *s = self;
	if (s->down)
		return;
	storage_flush(s);
	if (s->n_closing)
		storage_start_sync(s);
	else if (s->conf->sync == SYNC_ALWAYS)
		storage_commit(s);
	storage_tell_host(s);
}

static int32_t storage_drain(void *self)
{
	struct storage *s = self;
	if (!s->down && storage_pump(s))
		storage_flush(s);
	storage_start_sync(s);
	s->draining = !storage_is_drained(s);
	return s->draining ? SS_BUSY : 0;
}

static const struct ss_component storage = {
	.struct_size = sizeof storage,
	.kind = SS_KIND_SINK,
	.type = "storage",
	.version = "1.0",
	.summary = "events into files of JSON Lines",
	.license = "MIT",
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
};

SS_REGISTER(&storage);
