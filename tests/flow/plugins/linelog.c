/* SPDX-License-Identifier: MIT */
/*
 * linelog - a source for tests that can resume: the lines of a file, so many a second, a window of them in
 * flight. What has been acknowledged stands in a file and is never sent again, as if it were gone from a log.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>

enum { WINDOW = 256, BATCH_MAX = 50 };

struct conf {
	const char *path, *acked;
	int64_t rate;
};

struct linelog {
	const struct ss_host *host;
	const struct conf *conf;
	struct ss_iface loop, positions;
	const char *text, *at, *end;
	int fd;
	uint32_t timer;
	uint64_t next, began_ns, began_at; /* number of the line at at; when the source began, and where */
	/* tracked batches, oldest first: the number of the last event, 0 = acknowledged */
	uint64_t flight[WINDOW], last[WINDOW];
	uint64_t head, tail;
	unsigned seed;
	bool stopped;
};

static const struct ss_option options[] = {
	SS_OPT(struct conf, path, SS_OPT_STRING, NULL, "file of events, one a line",
	       .flags = SS_OPT_REQUIRED),
	SS_OPT(struct conf, acked, SS_OPT_STRING, NULL, "file of the last number acknowledged",
	       .flags = SS_OPT_REQUIRED),
	SS_OPT(struct conf, rate, SS_OPT_INT, "0", "lines a second; 0 = as many as are taken", .flags = 0),
};

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct linelog *l = calloc(1, sizeof *l);
	int32_t rc = l ? host->query(host, SS_LOOP, sizeof(struct ss_loop), &l->loop) : -ENOMEM;
	if (rc == 0)
		rc = host->query(host, SS_POSITIONS, sizeof(struct ss_positions), &l->positions);
	if (rc < 0) {
		free(l);
		return rc;
	}
	l->host = host;
	l->conf = conf;
	l->fd = -1;
	*self = l;
	return 0;
}

static uint64_t now(const struct linelog *l)
{
	return ((const struct ss_loop *)l->loop.vtbl)->now(l->loop.self);
}

static const char *line_end(const struct linelog *l, const char *at)
{
	const char *end = memchr(at, '\n', (size_t)(l->end - at));
	return end ? end : l->end;
}

static void send_batch(struct linelog *l, uint64_t most)
{
	const struct ss_host *h = l->host;
	uint32_t n = 1 + (uint32_t)rand_r(&l->seed) % BATCH_MAX;
	const char *at = l->at;
	uint32_t count = 0;
	for (; count < n && count < most && at < l->end; count++)
		at = line_end(l, at) + 1;
	size_t size = (size_t)(at - l->at);
	struct ss_batch *b = h->batch_new(h, NULL, count, size + 1);
	if (!b)
		return;
	memcpy(b->data, l->at, size < (size_t)(l->end - l->at) ? size : (size_t)(l->end - l->at));
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	for (uint32_t i = 0; i < count; i++) {
		const char *end = line_end(l, l->at);
		b->events[i] = (struct ss_event){.data = b->data + (l->at - (at - size)),
						 .len = (uint32_t)(end - l->at),
						 .time_ns = (uint64_t)ts.tv_sec * 1000000000u,
						 .seq = l->next++};
		l->at = end + 1;
	}
	b->count = count;
	const struct ss_position position = {.epoch = {43}, .seq = l->next - 1};
	if (h->track(h, b, l->tail, &position) == 0) {
		l->flight[l->tail % WINDOW] = l->last[l->tail % WINDOW] = position.seq;
		l->tail++;
		h->emit(h, 0, b);
	}
	h->batch_unref(b);
}

static void on_timer(void *self)
{
	struct linelog *l = self;
	while (!l->stopped && l->tail - l->head < WINDOW && l->at < l->end) {
		uint64_t due = UINT64_MAX;
		if (l->conf->rate)
			due = l->began_at + (now(l) - l->began_ns) * (uint64_t)l->conf->rate / 1000000000u;
		if (l->next >= due)
			break;
		send_batch(l, due - l->next);
	}
}

static void go(struct linelog *l)
{
	const struct ss_loop *loop = l->loop.vtbl;
	l->stopped = false;
	if (loop->timer(l->loop.self, 0, 1000000, on_timer, l, &l->timer) < 0)
		ss_log(l->host, SS_LOG_ERROR, "No timer");
}

static void halt(void *self)
{
	struct linelog *l = self;
	((const struct ss_loop *)l->loop.vtbl)->cancel(l->loop.self, l->timer);
	l->stopped = true;
}

static int32_t map(struct linelog *l)
{
	struct stat st;
	int fd = open(l->conf->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0)
		l->text = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (!l->text || l->text == MAP_FAILED)
		return -EIO;
	l->at = l->text;
	l->end = l->text + st.st_size;
	return 0;
}

static int32_t start(void *self)
{
	struct linelog *l = self;
	struct ss_position kept = {0};
	uint64_t acked = 0;
	int32_t rc = map(l);
	if (rc < 0)
		return rc;
	l->fd = open(l->conf->acked, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (l->fd < 0 || pread(l->fd, &acked, sizeof acked, 0) < 0)
		return -errno;
	rc = ((const struct ss_positions *)l->positions.vtbl)->resume(l->positions.self, kept.stream, &kept);
	uint64_t from = 1 + (rc == 0 && kept.seq > acked ? kept.seq : acked);
	for (l->next = 1; l->next < from && l->at < l->end; l->next++)
		l->at = line_end(l, l->at) + 1;
	l->began_at = l->next;
	l->began_ns = now(l);
	l->seed = (unsigned)l->next;
	ss_log(l->host, SS_LOG_INFO, "Sending lines from=%llu", (unsigned long long)l->next);
	go(l);
	return 0;
}

static void acked(void *self, uint64_t cookie, int32_t status)
{
	struct linelog *l = self;
	if (status != SS_DELIVERED)
		return;
	uint64_t upto = 0;
	l->flight[cookie % WINDOW] = 0;
	for (; l->head < l->tail && l->flight[l->head % WINDOW] == 0; l->head++)
		upto = l->last[l->head % WINDOW];
	if (upto && pwrite(l->fd, &upto, sizeof upto, 0) != sizeof upto)
		ss_log(l->host, SS_LOG_ERROR, "Cannot note what is acknowledged");
}

static void stop(void *self)
{
	struct linelog *l = self;
	halt(l);
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	if (l->end)
		munmap((void *)(uintptr_t)l->text, (size_t)(l->end - l->text));
	l->end = l->at = l->text = NULL;
}

static int32_t drain(void *self)
{
	halt(self);
	return 0;
}

static void resume(void *self)
{
	go(self);
}

static const struct ss_component linelog = {
	.struct_size = sizeof linelog,
	.kind = SS_KIND_SOURCE,
	.type = "linelog",
	.version = "1.0",
	.summary = "the lines of a file, which can be sent again",
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
	.resume = resume,
	.drain = drain,
	.acked = acked,
};

SS_REGISTER(&linelog);
