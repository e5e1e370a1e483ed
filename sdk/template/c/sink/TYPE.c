/* SPDX-License-Identifier: MIT */
/* @TYPE@: a sink that appends each event to a file, as a line. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <semstreams/sugar.h>

/* What the configuration says.  Strings are const char *, everything else is int64_t. */
struct conf {
	const char *path;
};

/* From this table the host checks the configuration, fills struct conf, prints help and a JSON Schema. */
static const struct ss_option options[] = {
	SS_OPT(struct conf, path, SS_OPT_STRING, NULL, "The file to append to.",
	       .flags = SS_OPT_REQUIRED | SS_OPT_WRITES),
};

/* One instance: a pipeline may have several, so no globals.  No two threads are ever in it at once, so no
 * locks. */
struct instance {
	const struct ss_host *host;
	const struct conf *conf;
	int fd; /* -1: closed */
};

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct instance *s = malloc(sizeof *s);
	if (!s)
		return -ENOMEM;
	*s = (struct instance){.host = host, .conf = conf, .fd = -1};
	*self = s;
	return 0;
}

static int32_t start(void *self)
{
	struct instance *s = self;

	s->fd = open(s->conf->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	if (s->fd >= 0)
		return 0;
	int32_t rc = -errno;
	ss_log(s->host, SS_LOG_ERROR, "Cannot open the file path=\"%s\" error=\"%s\"", s->conf->path,
	       strerror(-rc));
	return rc;
}

static int32_t write_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

/* All lines of a batch in one write: the cost is per batch, not per event. */
static int32_t process(void *self, uint32_t port, struct ss_batch *in)
{
	(void)port; /* there is one input */
	struct instance *s = self;
	size_t size = 0, len = 0;

	for (uint32_t i = 0; i < in->count; i++)
		size += (size_t)in->events[i].len + 1;
	char *text = malloc(size ? size : 1);
	if (!text)
		return -ENOMEM; /* the host counts the batch as dropped, and tells the source */
	for (uint32_t i = 0; i < in->count; i++) {
		const struct ss_event *e = &in->events[i];
		if (e->len > 0)
			memcpy(text + len, e->data, e->len);
		len += e->len;
		text[len++] = '\n';
	}
	int32_t rc = write_all(s->fd, text, len);
	free(text);
	return rc < 0 ? rc : SS_DONE;
}

static void stop(void *self)
{
	struct instance *s = self;

	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

/* clang-format off */
static const struct ss_component component = {
	.struct_size = sizeof component, .kind = SS_KIND_SINK, .type = "@TYPE@",
	.version = "0.1.0", .summary = "Appends events to a file.", .license = "MIT",
	.options = options, .option_size = sizeof options[0], .n_options = sizeof options / sizeof options[0],
	.conf_size = sizeof(struct conf), .create = create, .destroy = free, .start = start, .stop = stop,
	.process = process,
	/* SS_OPT_WRITES has told the one path, and `semstreams test` may run it */
	.flags = SS_TELLS_PATHS | SS_FILES_ONLY,
};
/* clang-format on */
SS_REGISTER(&component);
