/* SPDX-License-Identifier: MIT */
/*
 * replay - a source for tests that can resume: numbered events without end, a window of them in flight.  What
 * has been acknowledged stands in a file and is never sent again, as if it were gone from a log.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>

enum { WINDOW = 64, BATCH_MAX = 50, EVENT_MAX = 96, BLOCK = 16, ORIGINS_MAX = 1000 };

struct conf {
	const char *acked;
	int64_t streams, origins;
};

struct replay {
	const struct ss_host *host;
	const struct conf *conf;
	struct ss_iface loop, positions, attributes;
	const struct ss_attributes *sets[ORIGINS_MAX];
	int fd;
	uint32_t timer;
	uint64_t next;
	/* tracked batches, oldest first: the number of the last event, 0 = acknowledged */
	uint64_t flight[WINDOW], last[WINDOW];
	uint64_t head, tail;
	unsigned seed;
	bool stopped;
};

static const struct ss_option options[] = {
	SS_OPT(struct conf, acked, SS_OPT_STRING, NULL, "file of the last number acknowledged",
	       .flags = SS_OPT_REQUIRED),
	SS_OPT(struct conf, streams, SS_OPT_INT, "1",
	       "so many streams, which take turns of 16 numbers; with more than one nothing is resumed",
	       .min = 1, .max = 1000000),
	SS_OPT(struct conf, origins, SS_OPT_INT, "0",
	       "so many origins the events come from, by turns; 0 = they have no attributes",
	       .max = ORIGINS_MAX),
};

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct replay *r = calloc(1, sizeof *r);
	int32_t rc = r ? host->query(host, SS_LOOP, sizeof(struct ss_loop), &r->loop) : -ENOMEM;
	if (rc == 0)
		rc = host->query(host, SS_POSITIONS, sizeof(struct ss_positions), &r->positions);
	if (rc == 0)
		rc = host->query(host, SS_ATTRIBUTES, sizeof(struct ss_attribute_service), &r->attributes);
	if (rc < 0) {
		free(r);
		return rc;
	}
	r->host = host;
	r->conf = conf;
	r->fd = -1;
	*self = r;
	return 0;
}

/* Which origin a number is of: a few in a row of each. */
static uint64_t origin_of(const struct replay *r, uint64_t n)
{
	return n / 3 % (uint64_t)r->conf->origins;
}

static int32_t make_sets(struct replay *r)
{
	const struct ss_attribute_service *service = r->attributes.vtbl;
	int32_t rc = 0;
	if (!service->wanted(r->attributes.self))
		return 0;
	for (int64_t i = 0; rc == 0 && i < r->conf->origins; i++) {
		char name[16];
		struct ss_attributes values = {.struct_size = sizeof values,
					       .flags = SS_ATTR_ORIGIN_VERIFIED};
		snprintf(name, sizeof name, "o%lld", (long long)i);
		values.values[SS_ATTR_ORIGIN] =
			(struct ss_attribute){.text = name, .len = (uint32_t)strlen(name)};
		rc = service->make(r->attributes.self, &values, &r->sets[i]);
	}
	return rc;
}

static void give_origins(struct replay *r, struct ss_batch *b, uint64_t first)
{
	const struct ss_attribute_service *service = r->attributes.vtbl;
	for (uint32_t i = 0; i < b->count && r->sets[0]; i++) {
		int32_t set = service->attach(r->attributes.self, b, r->sets[origin_of(r, first + i)]);
		b->events[i].attributes = set > 0 ? (uint16_t)set : 0;
	}
}

static void send_batch(struct replay *r)
{
	const struct ss_host *h = r->host;
	const uint64_t block = (r->next - 1) / BLOCK, stream = block % (uint64_t)r->conf->streams;
	uint32_t n = 1 + (uint32_t)rand_r(&r->seed) % BATCH_MAX;
	if (r->conf->streams > 1 && r->next - 1 + n > (block + 1) * BLOCK)
		n = (uint32_t)((block + 1) * BLOCK - (r->next - 1));
	struct ss_batch *b = h->batch_new(h, NULL, n, (size_t)n * EVENT_MAX);
	if (!b)
		return;
	uint8_t *at = b->data;
	for (uint32_t i = 0; i < n; i++, r->next++) {
		int len = snprintf((char *)at, EVENT_MAX, "{\"from\":\"%s\",\"n\":%llu,\"keep\":%s", h->id,
				   (unsigned long long)r->next, r->next % 3 ? "true" : "false");
		if (r->conf->origins)
			len += snprintf((char *)at + len, EVENT_MAX - (size_t)len, ",\"origin\":\"o%llu\"",
					(unsigned long long)origin_of(r, r->next));
		at[len++] = '}';
		b->events[i] = (struct ss_event){.data = at, .len = (uint32_t)len, .seq = r->next};
		at += len;
	}
	b->count = n;
	give_origins(r, b, r->next - n);
	struct ss_position position = {.epoch = {42}, .seq = r->next - 1};
	memcpy(position.stream, &stream, sizeof stream);
	if (h->track(h, b, r->tail, &position) == 0) {
		r->flight[r->tail % WINDOW] = r->last[r->tail % WINDOW] = position.seq;
		r->tail++;
		h->emit(h, 0, b);
	}
	h->batch_unref(b);
}

static void on_timer(void *self)
{
	struct replay *r = self;
	while (!r->stopped && r->tail - r->head < WINDOW)
		send_batch(r);
}

static void go(struct replay *r)
{
	const struct ss_loop *loop = r->loop.vtbl;
	r->stopped = false;
	if (loop->timer(r->loop.self, 0, 100000, on_timer, r, &r->timer) < 0)
		ss_log(r->host, SS_LOG_ERROR, "No timer");
}

static void halt(void *self)
{
	struct replay *r = self;
	((const struct ss_loop *)r->loop.vtbl)->cancel(r->loop.self, r->timer);
	r->stopped = true;
}

static int32_t start(void *self)
{
	struct replay *r = self;
	struct ss_position kept = {0};
	uint64_t acked = 0;
	r->fd = open(r->conf->acked, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (r->fd < 0)
		return -errno;
	if (pread(r->fd, &acked, sizeof acked, 0) < 0)
		return -errno;
	int32_t rc = make_sets(r);
	if (rc < 0)
		return rc;
	rc = ((const struct ss_positions *)r->positions.vtbl)->resume(r->positions.self, kept.stream, &kept);
	if (r->conf->streams > 1)
		rc = -ENOENT;
	r->next = 1 + (rc == 0 && kept.seq > acked ? kept.seq : acked);
	r->seed = (unsigned)r->next;
	ss_log(r->host, SS_LOG_INFO, "Replaying from=%llu kept=%lld acked=%llu", (unsigned long long)r->next,
	       rc == 0 ? (long long)kept.seq : -1LL, (unsigned long long)acked);
	go(r);
	return 0;
}

static void acked(void *self, uint64_t cookie, int32_t status)
{
	struct replay *r = self;
	if (status != SS_DELIVERED)
		return;
	uint64_t upto = 0;
	r->flight[cookie % WINDOW] = 0;
	for (; r->head < r->tail && r->flight[r->head % WINDOW] == 0; r->head++)
		upto = r->last[r->head % WINDOW];
	if (upto && pwrite(r->fd, &upto, sizeof upto, 0) != sizeof upto)
		ss_log(r->host, SS_LOG_ERROR, "Cannot note what is acknowledged");
}

static void stop(void *self)
{
	struct replay *r = self;
	halt(r);
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	for (int64_t i = 0; i < r->conf->origins; i++) {
		((const struct ss_attribute_service *)r->attributes.vtbl)
			->unref(r->attributes.self, r->sets[i]);
		r->sets[i] = NULL;
	}
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

static const struct ss_component replay = {
	.struct_size = sizeof replay,
	.kind = SS_KIND_SOURCE,
	.type = "replay",
	.version = "1.0",
	.summary = "numbered events that can be sent again",
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

SS_REGISTER(&replay);
