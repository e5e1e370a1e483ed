/* SPDX-License-Identifier: MIT */
/* @TYPE@: a source that reads a small file again and again, such as a sensor's under /sys, and emits each
 * time what stands there. */
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>

enum { READING_MAX = 4096 }; /* bytes; what is longer is cut off */

/* What the configuration says.  Strings are const char *, everything else is int64_t. */
struct conf {
	const char *path;
	int64_t interval; /* ns */
};

/* From this table the host checks the configuration, fills struct conf, prints help and a JSON Schema. */
static const struct ss_option options[] = {
	SS_OPT(struct conf, path, SS_OPT_STRING, NULL, "The file to read.",
	       .flags = SS_OPT_REQUIRED | SS_OPT_READS),
	SS_OPT(struct conf, interval, SS_OPT_DURATION, "1s", "Time between two readings.", .min = 1000000,
	       .max = INT64_C(86400000000000)),
};

/* One instance: a pipeline may have several, so no globals.  No two threads are ever in it at once, so no
 * locks. */
struct instance {
	const struct ss_host *host;
	const struct conf *conf;
	struct ss_iface loop;
	uint32_t timer; /* 0: none, as before start and while paused */
};

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct instance *s = malloc(sizeof *s);
	if (!s)
		return -ENOMEM;
	*s = (struct instance){.host = host, .conf = conf};
	int32_t rc = host->query(host, SS_LOOP, sizeof(struct ss_loop), &s->loop);
	if (rc < 0) {
		free(s);
		return rc;
	}
	*self = s;
	return 0;
}

/* How many bytes stand in the file, or -errno. */
static ssize_t read_file(const char *path, void *bytes, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, bytes, size);
	if (n < 0)
		n = -errno;
	close(fd);
	return n;
}

/* The timer. */
static void read_and_emit(void *self)
{
	struct instance *s = self;
	struct timespec now;
	/* One row, and memory of its own for the payload. */
	struct ss_batch *out = s->host->batch_new(s->host, NULL, 1, READING_MAX);
	if (!out)
		return; /* the next reading may find memory */

	ssize_t n = read_file(s->conf->path, out->data, READING_MAX);
	if (n < 0) {
		char why[256];
		snprintf(why, sizeof why, "cannot read %s: %s", s->conf->path, strerror((int)-n));
		s->host->set_degraded(s->host, why); /* shown, and no reason to end */
	} else {
		s->host->set_degraded(s->host, NULL);
		if (n > 0 && out->data[n - 1] == '\n')
			n--;
		clock_gettime(CLOCK_REALTIME, &now);
		out->events[out->count++] = (struct ss_event){.data = out->data,
							      .len = (uint32_t)n,
							      .time_ns = (uint64_t)now.tv_sec * 1000000000 +
									 (uint64_t)now.tv_nsec};
		s->host->emit(s->host, 0, out);
	}
	s->host->batch_unref(out);
}

/* Also resume: read at once, then every interval. */
static int32_t start(void *self)
{
	struct instance *s = self;
	const struct ss_loop *loop = s->loop.vtbl;

	if (s->timer)
		return 0;
	return loop->timer(s->loop.self, 0, (uint64_t)s->conf->interval, read_and_emit, s, &s->timer);
}

/* Also pause: a queue downstream is full, so nothing is read. */
static void stop(void *self)
{
	struct instance *s = self;

	((const struct ss_loop *)s->loop.vtbl)->cancel(s->loop.self, s->timer);
	s->timer = 0;
}

static void resume(void *self)
{
	struct instance *s = self;

	if (start(s) < 0)
		s->host->set_health(s->host, "out of memory for a timer");
}

/* The end: nothing is held, and nothing more may be emitted. */
static int32_t drain(void *self)
{
	stop(self);
	return 0;
}

/* clang-format off */
static const struct ss_component component = {
	.struct_size = sizeof component, .kind = SS_KIND_SOURCE, .type = "@TYPE@",
	.version = "0.1.0", .summary = "Reads a file again and again.", .license = "MIT",
	.options = options, .option_size = sizeof options[0], .n_options = sizeof options / sizeof options[0],
	.conf_size = sizeof(struct conf), .create = create, .destroy = free, .start = start, .stop = stop,
	.pause = stop, .resume = resume, .drain = drain,
	.flags = SS_TELLS_PATHS, /* SS_OPT_READS has told the one there is */
};
/* clang-format on */
SS_REGISTER(&component);
