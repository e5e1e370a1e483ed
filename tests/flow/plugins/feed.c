/* SPDX-License-Identifier: MIT */
/* feed - a source for tests: each line of a file is an event, in order, as fast as they are taken; when they
 * were received is not known. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>

enum { BATCH_ROWS = 256, BATCHES = 8, LINE_MAX_BYTES = 4096 };

struct conf {
	const char *path;
};

struct feed {
	const struct ss_host *host;
	const struct conf *conf;
	struct ss_iface loop;
	FILE *file;
	uint32_t timer;
	unsigned long long sent;
};

static const struct ss_option options[] = {
	SS_OPT(struct conf, path, SS_OPT_STRING, NULL, "file of events", .flags = SS_OPT_REQUIRED),
};

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct feed *l = calloc(1, sizeof *l);
	int32_t rc = l ? host->query(host, SS_LOOP, sizeof(struct ss_loop), &l->loop) : -ENOMEM;
	if (rc < 0) {
		free(l);
		return rc;
	}
	l->host = host;
	l->conf = conf;
	*self = l;
	return 0;
}

static void halt(void *self)
{
	struct feed *l = self;
	((const struct ss_loop *)l->loop.vtbl)->cancel(l->loop.self, l->timer);
	l->timer = 0;
}

/* false: that was the last. */
static bool send_batch(struct feed *l)
{
	struct ss_batch *b = l->host->batch_new(l->host, NULL, BATCH_ROWS, BATCH_ROWS * LINE_MAX_BYTES);
	bool more = true;
	if (!b)
		return true;
	char *at = (char *)b->data;
	for (b->count = 0; b->count < BATCH_ROWS && more; b->count += more) {
		more = fgets(at, LINE_MAX_BYTES, l->file) != NULL;
		size_t len = more ? strcspn(at, "\n") : 0;
		b->events[b->count] = (struct ss_event){.data = (uint8_t *)at, .len = (uint32_t)len};
		at += len;
	}
	l->sent += b->count;
	if (b->count)
		l->host->emit(l->host, 0, b);
	l->host->batch_unref(b);
	return more;
}

static void on_timer(void *self)
{
	struct feed *l = self;
	for (int i = 0; i < BATCHES && l->timer; i++) {
		if (send_batch(l))
			continue;
		halt(l);
		ss_log(l->host, SS_LOG_INFO, "All lines are sent n=%llu", l->sent);
	}
}

static void go(void *self)
{
	struct feed *l = self;
	if (feof(l->file) ||
	    ((const struct ss_loop *)l->loop.vtbl)->timer(l->loop.self, 0, 20000, on_timer, l, &l->timer) ==
		    0)
		return;
	ss_log(l->host, SS_LOG_ERROR, "No timer");
}

static int32_t start(void *self)
{
	struct feed *l = self;
	l->file = fopen(l->conf->path, "re");
	if (!l->file)
		return -errno;
	go(l);
	return 0;
}

static void stop(void *self)
{
	struct feed *l = self;
	halt(l);
	if (l->file)
		fclose(l->file);
	l->file = NULL;
}

static int32_t drain(void *self)
{
	halt(self);
	return 0;
}

static const struct ss_component feed = {
	.struct_size = sizeof feed,
	.kind = SS_KIND_SOURCE,
	.type = "feed",
	.version = "1.0",
	.summary = "the lines of a file",
	.license = "MIT",
	.options = options,
	.option_size = sizeof *options,
	.n_options = sizeof options / sizeof *options,
	.conf_size = sizeof(struct conf),
	.create = create,
	.destroy = free,
	.start = start,
	.stop = stop,
	.pause = halt,
	.resume = go,
	.drain = drain,
};

SS_REGISTER(&feed);
