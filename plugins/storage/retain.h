/* SPDX-License-Identifier: MIT */
/*
 * retain - compresses closed files and removes old ones, in a thread of its own.  It only touches names that
 * the component's own template can make, and none that is locked by a writer.
 */
#pragma once
#include <stdint.h>
#include "compress.h"
#include "path.h"

enum retain_event { RETAIN_COMPRESSED, RETAIN_REMOVED, RETAIN_FAILED };

struct retain_conf {
	const struct path *path;
	uint64_t max_files, max_age_ns, max_bytes; /* 0 = no limit */
	enum compress_kind compress;
	/* Called in the thread: a file was compressed or removed, or err (positive) kept it from that. */
	void (*report)(void *arg, enum retain_event event, const char *rel, int err);
	void *arg;
};

struct retain;

/* Starts the thread, which looks at once.  0 or -errno. */
int retain_new(struct retain **, const struct retain_conf *);
/* Ends it; NULL is allowed. */
void retain_free(struct retain *);
/* Look again; without that it does so once a minute. */
void retain_wake(struct retain *);
