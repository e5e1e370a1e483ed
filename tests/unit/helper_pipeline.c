/* SPDX-License-Identifier: MIT */
/* helper_pipeline - see helper_pipeline.h. */
#include "helper_pipeline.h"

#include <sched.h>
#include <time.h>
#include "core/flow/batch.h"
#include "semstreams/sugar.h"

/* ---- a source: emits total events in batches of the given size as fast as it may ---- */

static void feed_batch(void *self)
{
	struct feed *f = self;
	const struct ss_loop *loop = f->loop.vtbl;

	if (f->sent >= f->conf->total) {
		loop->cancel(f->loop.self, f->timer);
		return;
	}
	int64_t left = f->conf->total - f->sent;
	uint32_t n = (uint32_t)(left < f->conf->batch ? left : f->conf->batch);
	struct ss_batch *b = f->host->batch_new(f->host, NULL, n, (size_t)n * 8);
	for (uint32_t i = 0; i < n; i++) {
		memcpy(b->data + (size_t)i * 8, "payload", 8);
		b->events[i] = (struct ss_event){
			.data = b->data + (size_t)i * 8, .len = 8, .seq = (uint64_t)(f->sent + i + 1)};
	}
	b->count = n;
	f->sent += n;
	if (f->conf->track) {
		const struct ss_position at = {.seq = (uint64_t)f->sent};
		f->in_flight++;
		assert_int_equal(f->host->track(f->host, b, n, &at), 0);
	}
	if (f->conf->lose_each && f->sent / n % f->conf->lose_each == 0)
		f->host->drop(f->host, 0, n);
	else
		f->host->emit(f->host, 0, b);
	f->host->batch_unref(b);
}

static void feed_more(void *self)
{
	const struct feed *f = self;

	for (int64_t i = 0; i == 0 || i < f->conf->burst; i++)
		feed_batch(self);
}

static void feed_go(struct feed *f)
{
	const struct ss_loop *loop = f->loop.vtbl;

	assert_int_equal(loop->timer(f->loop.self, 0, 1, feed_more, f, &f->timer), 0);
}

static int32_t feed_create(const struct ss_host *host, const void *conf, void **self)
{
	struct feed *f = calloc(1, sizeof *f);

	f->host = host;
	f->conf = conf;
	assert_int_equal(host->query(host, SS_LOOP, sizeof(struct ss_loop), &f->loop), 0);
	assert_int_equal(host->query(host, SS_LOOP, 100000, &f->loop), -ENOTSUP);
	assert_int_equal(host->query(host, "no.such/1", 0, &f->loop), -ENOENT);
	*self = f;
	return 0;
}

static int32_t feed_start(void *self)
{
	feed_go(self);
	return 0;
}

static void feed_pause(void *self)
{
	struct feed *f = self;

	assert_false(f->paused);
	f->paused = true;
	f->pauses++;
	((const struct ss_loop *)f->loop.vtbl)->cancel(f->loop.self, f->timer);
}

static void feed_resume(void *self)
{
	struct feed *f = self;

	assert_true(f->paused);
	f->paused = false;
	feed_go(f);
}

static int32_t feed_drain(void *self)
{
	struct feed *f = self;

	((const struct ss_loop *)f->loop.vtbl)->cancel(f->loop.self, f->timer);
	return 0;
}

static void feed_acked(void *self, uint64_t cookie, int32_t status)
{
	struct feed *f = self;

	f->in_flight--;
	/* who waits for acked finds the others as they are to be */
	*(status == SS_DELIVERED ? &f->delivered : status == SS_DROPPED ? &f->dropped : &f->failed) += cookie;
	f->acked += cookie;
}

void nothing(void *self)
{
	(void)self;
}

int32_t nothing_0(void *self)
{
	(void)self;
	return 0;
}

void nothing_acked(void *self, uint64_t cookie, int32_t status)
{
	(void)self;
	(void)cookie;
	(void)status;
}

static const char *const feed_reasons[] = {"lost_on_purpose", NULL};
const struct ss_component feed = {
	.struct_size = sizeof feed,
	.kind = SS_KIND_SOURCE,
	.type = "feed",
	.conf_size = sizeof(struct feed_conf),
	.reasons = feed_reasons,
	.create = feed_create,
	.destroy = free,
	.start = feed_start,
	.stop = nothing,
	.pause = feed_pause,
	.resume = feed_resume,
	.drain = feed_drain,
	.acked = feed_acked,
};

/* ---- a processor: odd sequences to port 0, even ones to port 1, multiples of lose are dropped ---- */

struct sieve {
	const struct ss_host *host;
	const struct sieve_conf *conf;
};

static int32_t sieve_create(const struct ss_host *host, const void *conf, void **self)
{
	struct sieve *s = calloc(1, sizeof *s);

	*s = (struct sieve){.host = host, .conf = conf};
	*self = s;
	return 0;
}

static int32_t sieve_process(void *self, uint32_t port, struct ss_batch *in)
{
	struct sieve *s = self;
	uint32_t odd[1024], even[1024], n_odd = 0, n_even = 0;

	(void)port;
	for (uint32_t i = 0; i < in->count; i++) {
		uint64_t seq = in->events[i].seq;
		if (s->conf->lose && seq % (uint64_t)s->conf->lose == 0)
			s->host->drop(s->host, 0, 1);
		else if (seq % 2)
			odd[n_odd++] = i;
		else
			even[n_even++] = i;
	}
	ss_emit_rows(s->host, 0, in, odd, n_odd);
	if (s->conf->rest)
		ss_emit_rows(s->host, 1, in, even, n_even);
	if (s->conf->make) {
		struct ss_batch *b = s->host->batch_new(s->host, NULL, 1, 8);
		b->events[0] = (struct ss_event){.data = b->data, .len = 8};
		b->count = 1;
		s->host->emit(s->host, 0, b);
		s->host->batch_unref(b);
	}
	return SS_DONE;
}

static const char *const sieve_outputs[] = {"odd", "even", NULL};
static const char *const sieve_reasons[] = {"unlucky", NULL};
const struct ss_component sieve = {
	.struct_size = sizeof sieve,
	.kind = SS_KIND_PROCESSOR,
	.type = "sieve",
	.conf_size = sizeof(struct sieve_conf),
	.outputs = sieve_outputs,
	.reasons = sieve_reasons,
	.create = sieve_create,
	.destroy = free,
	.start = nothing_0,
	.stop = nothing,
	.process = sieve_process,
	.pause = nothing,
	.resume = nothing,
	.drain = nothing_0,
	.acked = nothing_acked,
};

/* ---- a sink that finishes at once, keeps batches for a while, refuses some, or fails ---- */

_Atomic bool gate;

static int32_t sink_create(const struct ss_host *host, const void *conf, void **self)
{
	struct sink *s = calloc(1, sizeof *s);

	s->host = host;
	s->conf = conf;
	s->in_order = true;
	host->query(host, SS_LOOP, sizeof(struct ss_loop), &s->loop);
	*self = s;
	return 0;
}

static void sink_release(struct sink *s)
{
	for (uint32_t i = 0; i < s->n_kept; i++)
		s->host->done(s->host, s->kept[i], SS_DELIVERED);
	s->n_kept = 0;
}

static void sink_on_timer(void *self)
{
	struct sink *s = self;

	s->timer = 0;
	sink_release(s);
	if (s->refusing) {
		s->refusing = false;
		s->host->input_ready(s->host);
	}
	if (s->draining)
		s->host->drained(s->host);
}

static void sink_arm(struct sink *s)
{
	const struct ss_loop *loop = s->loop.vtbl;

	if (!s->timer)
		assert_int_equal(loop->timer(s->loop.self, 200000, 0, sink_on_timer, s, &s->timer), 0);
}

int32_t sink_process(void *self, uint32_t port, struct ss_batch *b)
{
	struct sink *s = self;

	(void)port;
	assert_false(s->refusing);
	assert_false(s->draining);
	if (s->conf->manner == SINK_HANGS && !gate) {
		s->refusing = true;
		sink_arm(s);
		return SS_BUSY;
	}
	if (s->conf->manner == SINK_REFUSES && s->n_kept == SINK_MAX_KEPT / 2) {
		s->refusing = true;
		sink_arm(s);
		return SS_BUSY;
	}
	for (uint32_t i = 0; i < b->count; i++) {
		if (b->events[i].seq) {
			s->in_order &= b->events[i].seq > s->last;
			s->last = b->events[i].seq;
		}
	}
	s->events += b->count;
	if (s->conf->manner == SINK_FAILS && s->events % 3 == 0)
		return -EIO;
	if (s->conf->manner == SINK_KEEPS || s->conf->manner == SINK_REFUSES) {
		s->kept[s->n_kept++] = b;
		sink_arm(s);
		if (s->n_kept == SINK_MAX_KEPT)
			sink_release(s);
		return SS_KEPT;
	}
	return SS_DONE;
}

int32_t keep_for_ever(void *self, uint32_t port, struct ss_batch *b)
{
	(void)self;
	(void)port;
	(void)b;
	return SS_KEPT;
}

static int32_t sink_drain(void *self)
{
	struct sink *s = self;

	if (!s->n_kept)
		return 0;
	s->draining = true;
	sink_arm(s);
	return SS_BUSY;
}

static void sink_idle(void *self)
{
	struct sink *s = self;

	s->idles++;
}

const struct ss_component sink = {
	.struct_size = sizeof sink,
	.kind = SS_KIND_SINK,
	.type = "sink",
	.conf_size = sizeof(struct sink_conf),
	.create = sink_create,
	.destroy = free,
	.start = nothing_0,
	.stop = nothing,
	.process = sink_process,
	.pause = nothing,
	.resume = nothing,
	.drain = sink_drain,
	.acked = nothing_acked,
	.idle = sink_idle,
};

/* ---- building and running pipelines ---- */

void plan_init(struct plan *p)
{
	*p = (struct plan){.doc = {.file = (char *)"test"}};
	p->config.doc = &p->doc;
	p->config.components = p->components;
	diag_init(&p->diag);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
}

size_t add(struct plan *p, const char *id, const struct ss_component *desc, const void *conf,
	   const char *worker)
{
	size_t i = p->config.n_components++;

	p->components[i] = (struct config_component){.id = (char *)id,
						     .type = (char *)desc->type,
						     .desc = desc,
						     .conf = (void *)(uintptr_t)conf,
						     .node = &p->node,
						     .worker = (char *)worker,
						     .inputs = p->inputs[i]};
	return i;
}

void link_to(struct plan *p, size_t to, size_t from, uint32_t port, uint64_t events, enum overflow overflow)
{
	p->inputs[to][p->components[to].n_inputs++] =
		(struct config_input){.from = from,
				      .port = port,
				      .limits = {.events = events, .bytes = 1 << 20, .overflow = overflow}};
}

static void on_closed(void *arg)
{
	struct plan *p = arg;

	pthread_mutex_lock(&p->lock);
	pthread_cond_signal(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

void start(struct plan *p)
{
	assert_int_equal(pipeline_create(&p->config, &p->diag, &p->pipeline), 0);
	assert_int_equal(pipeline_start(p->pipeline), 0);
}

struct totals totals(const struct plan *p, size_t i)
{
	struct totals t;

	report_totals(p->pipeline->components[i], &t);
	assert_int_equal(t.in + t.created, t.out + t.filtered + t.dropped_all + t.held);
	return t;
}

void await_in(const struct plan *p, size_t i, uint64_t n)
{
	while (totals(p, i).in < n) {
		for (size_t k = 0; k < p->config.n_components; k++)
			totals(p, k);
		sched_yield();
	}
}

void drain(struct plan *p)
{
	pipeline_drain(p->pipeline, on_closed, p);
	pthread_mutex_lock(&p->lock);
	while (!pipeline_drained(p->pipeline))
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

void finish(struct plan *p)
{
	for (size_t i = 0; i < p->config.n_components; i++)
		totals(p, i);
	pipeline_free(p->pipeline);
	diag_done(&p->diag);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->changed);
}

void *self(const struct plan *p, size_t i)
{
	return p->pipeline->components[i]->self;
}
