/* SPDX-License-Identifier: MIT */
/* A sink that keeps a batch until a timer, and is sound but for the one FAULT it is compiled with. */
#include <stdlib.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>

enum fault {
	NONE,
	DONE_TWICE,
	DONE_UNASKED,
	DONE_LATE,
	DROP_UNKNOWN,
	DROP_TOO_MANY,
	RETURN_UNKNOWN,
	DRAIN_UNKNOWN,
	DRAIN_HANG,
	BATCH_KEPT,
	BATCH_WRITTEN,
	BATCH_LEAK,
	TOKEN_LEAK,
	BUSY_LOST,
	BUSY_WITHOUT_INPUT_READY,
	CRASH,
	ALLOCATION_CRASH,
	ALLOCATION_LEAK,
	VALGRIND_ERROR,
	VALGRIND_LEAK,
};
#ifndef FAULT
#define FAULT NONE
#endif

#define WAIT_NS 1000000

struct instance {
	const struct ss_host *host;
	struct ss_iface loop;
	struct ss_batch *kept; /* NULL: none */
	struct ss_batch *last; /* with BATCH_KEPT and DONE_LATE: not ours any more */
	uint32_t timer;
	int is_busy, drains;
	char *notes;
	volatile unsigned sum;
};

static void finish(void *self)
{
	struct instance *s = self;
	const struct ss_host *h = s->host;
	struct ss_batch *b = s->kept;

	s->timer = 0;
	s->kept = NULL;
	if (b)
		h->done(h, b, SS_DELIVERED);
	if (b && FAULT == DONE_TWICE)
		h->done(h, b, SS_DELIVERED);
	if (s->is_busy && FAULT != BUSY_WITHOUT_INPUT_READY)
		h->input_ready(h);
	s->is_busy = 0;
	if (s->drains && FAULT != DRAIN_HANG)
		h->drained(h);
	s->drains = 0;
}

static int32_t wait_a_little(struct instance *s)
{
	const struct ss_loop *loop = s->loop.vtbl;

	return s->timer ? 0 : loop->timer(s->loop.self, WAIT_NS, 0, finish, s, &s->timer);
}

/* ---- callbacks ---- */

static void destroy(void *self)
{
	struct instance *s = self;

	free(s->notes);
	free(s);
}

/* Not with each life. */
static void lose_once(void)
{
	static void *volatile lost;
	static int done;

	if (!done++ && (lost = malloc(100)))
		memset(lost, 0, 100);
	lost = NULL;
}

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct instance *s = calloc(1, sizeof *s);

	(void)conf;
	if (!s)
		return -ENOMEM;
	s->host = host;
	s->notes = malloc(16);
	if (!s->notes && FAULT == ALLOCATION_LEAK)
		return -ENOMEM;
	if (s->notes && FAULT != VALGRIND_ERROR)
		s->notes[0] = '\0';
	if (!s->notes && FAULT == ALLOCATION_CRASH)
		abort();
	if (FAULT == VALGRIND_LEAK)
		lose_once();
	int32_t rc = s->notes ? host->query(host, SS_LOOP, sizeof(struct ss_loop), &s->loop) : -ENOMEM;
	if (rc < 0)
		destroy(s);
	else
		*self = s;
	return rc;
}

static int32_t refuse(struct instance *s, struct ss_batch *b)
{
	if (FAULT == BUSY_LOST)
		s->host->done(s->host, b, SS_DELIVERED);
	s->is_busy = 1;
	return SS_BUSY;
}

static int32_t keep(struct instance *s, struct ss_batch *b)
{
	int32_t rc = wait_a_little(s);

	if (rc == 0)
		s->kept = b;
	return rc < 0 ? rc : SS_KEPT;
}

/* What it does with the batch at hand, and must not. */
static void misuse(struct instance *s, struct ss_batch *b)
{
	const struct ss_host *h = s->host;

	if (FAULT == DROP_UNKNOWN)
		h->drop(h, 7, 1);
	if (FAULT == DROP_TOO_MANY)
		h->drop(h, 0, b->count + 1);
	if (FAULT == BATCH_WRITTEN && b->count)
		b->events[0].flags = 1;
	if (FAULT == BATCH_LEAK)
		h->batch_ref(b);
	if (FAULT == TOKEN_LEAK)
		h->token_ref(b->token);
	if (FAULT == BATCH_KEPT && s->last)
		s->sum += s->last->count;
	if (FAULT == DONE_LATE && s->last)
		h->done(h, s->last, SS_DELIVERED);
	s->last = b;
}

static int32_t process(void *self, uint32_t port, struct ss_batch *b)
{
	struct instance *s = self;

	(void)port;
	if (s->kept)
		return refuse(s, b);
	if (FAULT == CRASH && b->count > 100)
		abort();
	misuse(s, b);
	if (FAULT == DONE_UNASKED) {
		s->host->done(s->host, b, SS_DELIVERED);
		return SS_DONE;
	}
	if (FAULT == RETURN_UNKNOWN)
		return 77;
	if (FAULT == VALGRIND_ERROR && s->notes[3] == 'x')
		s->sum++;
	return FAULT == BATCH_KEPT || FAULT == DONE_LATE ? SS_DONE : keep(s, b);
}

static int32_t start(void *self)
{
	(void)self;
	return 0;
}

/* Also without a drain: the host fails what is still kept. */
static void stop(void *self)
{
	struct instance *s = self;

	((const struct ss_loop *)s->loop.vtbl)->cancel(s->loop.self, s->timer);
	s->timer = 0;
	s->kept = NULL;
}

static int32_t drain(void *self)
{
	struct instance *s = self;

	if (!s->kept)
		return FAULT == DRAIN_UNKNOWN ? SS_KEPT : 0;
	s->drains = 1;
	return SS_BUSY;
}

static const char *const reasons[] = {"unwanted", NULL};
static const struct ss_component component = {
	.struct_size = sizeof component,
	.kind = SS_KIND_SINK,
	.type = "faulty_sink",
	.version = "1.0",
	.summary = "keeps a batch until a timer",
	.license = "MIT",
	.reasons = reasons,
	.create = create,
	.destroy = destroy,
	.start = start,
	.stop = stop,
	.process = process,
	.drain = drain,
};
SS_REGISTER(&component);
