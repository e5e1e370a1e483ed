/* SPDX-License-Identifier: MIT */
/* conf - the options of an instance as the host fills them in, and its metrics by index. */
#pragma once
#include <stdint.h>

enum { SYNC_ALWAYS, SYNC_INTERVAL, SYNC_RELAXED };
enum { FORMAT_RAW, FORMAT_ENVELOPE };
enum { BREAKS_SPACE, BREAKS_ESCAPE };
enum { REASON_EMPTY, REASON_TOO_LONG };
enum {
	METRIC_WRITTEN,
	METRIC_SYNCS,
	METRIC_OPEN_ERRORS,
	METRIC_WRITE_ERRORS,
	METRIC_SYNC_ERRORS,
	METRIC_COMMIT_ERRORS,
	METRIC_ROTATE_ERRORS,
	METRIC_RETAIN_ERRORS,
	METRIC_BLOCKED,
	METRIC_REPAIRED,
	METRIC_CUT,
	METRIC_ROTATIONS,
	METRIC_COMPRESSED,
	METRIC_REMOVED,
	METRIC_STALLS,
	METRIC_OLDEST_UNSYNCED,
	METRIC_OPEN_FILES,
	METRIC_EVICTED,
	METRIC_OTHERS,
};

struct storage_conf {
	const char *path, *mode;
	int64_t sync, sync_interval;
	int64_t rotate_size, rotate_age;
	int64_t retain_files, retain_age, retain_bytes;
	int64_t compress, line_breaks;
	int64_t max_line, write_buffer, max_pending;
	int64_t any_owner;
	int64_t format;
	int64_t max_open_files, max_files, max_peer_files;
};
