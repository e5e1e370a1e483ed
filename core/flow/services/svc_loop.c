/* SPDX-License-Identifier: MIT */
/*
 * svc_loop - the services "semstreams.loop/1" (timers, descriptors and posts of one component, on its loop)
 * and "semstreams.loop.libev/1" (the loop itself).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/loop-libev.h>
#include "core/flow/component.h"

/*
 * An id is slot and generation, so that a stale id hits nothing.  Slots are reused; a component's table only
 * grows to the most watches it ever had at once.
 */
enum { SLOT_BITS = 20, SLOT_MASK = (1 << SLOT_BITS) - 1 };

struct watch {
	union {
		ev_timer timer;
		ev_io io;
	};
	enum { WATCH_FREE, WATCH_TIMER, WATCH_FD } kind;
	uint32_t id;
	struct component *owner;
	double period_s; /* of a timer: the longer one of its first time and the others */
	void (*on_timer)(void *arg);
	void (*on_fd)(void *arg, uint32_t events);
	void *arg;
};

static struct watch *find(struct component *c, uint32_t id)
{
	uint32_t slot = (id & SLOT_MASK) - 1;

	if (id == 0 || slot >= c->n_watches || c->watches[slot]->id != id ||
	    c->watches[slot]->kind == WATCH_FREE)
		return NULL;
	return c->watches[slot];
}

static struct watch *take(struct component *c)
{
	for (size_t i = 0; i < c->n_watches; i++) {
		if (c->watches[i]->kind == WATCH_FREE)
			return c->watches[i];
	}
	if (c->n_watches >= SLOT_MASK - 1)
		return NULL;

	struct watch *w = calloc(1, sizeof *w);
	struct watch **table = realloc(c->watches, (c->n_watches + 1) * sizeof *table);
	if (table)
		c->watches = table;
	if (!table || !w) {
		free(w);
		return NULL;
	}
	w->owner = c;
	w->id = (uint32_t)c->n_watches + 1;
	c->watches[c->n_watches++] = w;
	return w;
}

static void release(struct watch *w)
{
	if (w->kind == WATCH_TIMER)
		ev_timer_stop(w->owner->loop->ev, &w->timer);
	else if (w->kind == WATCH_FD)
		ev_io_stop(w->owner->loop->ev, &w->io);
	w->kind = WATCH_FREE;
	w->id += 1u << SLOT_BITS;
}

static void fire_timer(struct ev_loop *ev, ev_timer *t, int events)
{
	(void)ev;
	(void)events;
	struct watch *w = t->data;
	void (*fn)(void *arg) = w->on_timer;

	struct component *c = w->owner;
	c->touched = true;
	if (t->repeat <= 0.)
		release(w); /* before the call, which may make a new one */
	call_enter(c->id, "timer");
	fn(w->arg);
	call_leave();
}

static void fire_fd(struct ev_loop *ev, ev_io *io, int events)
{
	(void)ev;
	struct watch *w = io->data;

	w->owner->touched = true;
	call_enter(w->owner->id, "fd");
	w->on_fd(w->arg, (events & EV_READ ? SS_FD_READ : 0u) | (events & EV_WRITE ? SS_FD_WRITE : 0u));
	call_leave();
}

static int32_t loop_timer(void *self, uint64_t first_ns, uint64_t every_ns, void (*fn)(void *arg), void *arg,
			  uint32_t *id)
{
	struct component *c = self;
	struct watch *w = take(c);

	if (!w)
		return -ENOMEM;
	w->kind = WATCH_TIMER;
	w->period_s = (double)(first_ns > every_ns ? first_ns : every_ns) / 1e9;
	w->on_timer = fn;
	w->arg = arg;
	ev_timer_init(&w->timer, fire_timer, (double)first_ns / 1e9, (double)every_ns / 1e9);
	w->timer.data = w;
	/* the loop's time may be old if it has not polled for long */
	ev_now_update(c->loop->ev);
	ev_timer_start(c->loop->ev, &w->timer);
	*id = w->id;
	return 0;
}

static int ev_events(uint32_t events)
{
	return (events & SS_FD_READ ? EV_READ : 0) | (events & SS_FD_WRITE ? EV_WRITE : 0);
}

static int32_t loop_fd(void *self, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events), void *arg,
		       uint32_t *id)
{
	struct component *c = self;

	if (fd < 0)
		return -EBADF;
	struct watch *w = take(c);
	if (!w)
		return -ENOMEM;
	w->kind = WATCH_FD;
	w->on_fd = fn;
	w->arg = arg;
	ev_io_init(&w->io, fire_fd, fd, ev_events(events));
	w->io.data = w;
	if (events)
		ev_io_start(c->loop->ev, &w->io);
	*id = w->id;
	return 0;
}

static int32_t loop_change(void *self, uint32_t id, uint32_t events)
{
	struct component *c = self;
	struct watch *w = find(c, id);

	if (!w || w->kind != WATCH_FD)
		return -ENOENT;
	ev_io_stop(c->loop->ev, &w->io);
	ev_io_set(&w->io, w->io.fd, ev_events(events));
	if (events)
		ev_io_start(c->loop->ev, &w->io);
	return 0;
}

static void loop_cancel(void *self, uint32_t id)
{
	struct watch *w = find(self, id);

	if (w)
		release(w);
}

static int32_t post(void *self, void (*fn)(void *arg), void *arg)
{
	return component_post(self, fn, arg);
}

static uint64_t loop_now(void *self)
{
	(void)self;
	return clock_now();
}

static void set_max_delay(void *self, uint64_t ns)
{
	struct component *c = self;

	c->has_max_delay = true;
	c->max_delay_ns = ns;
}

const struct ss_loop loop_service = {
	.struct_size = sizeof(struct ss_loop),
	.timer = loop_timer,
	.fd = loop_fd,
	.change = loop_change,
	.cancel = loop_cancel,
	.post = post,
	.now = loop_now,
	.set_max_delay = set_max_delay,
};

static void *libev_loop(void *self)
{
	struct component *c = self;

	return c->loop->ev;
}

/* A library's watcher ran; the loop looks for work before it sleeps anyway. */
static void libev_touched(void *self)
{
	struct component *c = self;

	c->touched = true;
}

const struct ss_loop_libev loop_libev_service = {
	.struct_size = sizeof(struct ss_loop_libev),
	.ev_loop = libev_loop,
	.touched = libev_touched,
};

static void move_watch(struct watch *w, struct ev_loop *from, struct ev_loop *to)
{
	if (w->kind == WATCH_TIMER) {
		ev_tstamp left = ev_timer_remaining(from, &w->timer);
		ev_timer_stop(from, &w->timer);
		ev_timer_set(&w->timer, left > 0. ? left : 0., w->timer.repeat);
		ev_timer_start(to, &w->timer);
	} else if (w->kind == WATCH_FD && ev_is_active(&w->io)) {
		ev_io_stop(from, &w->io);
		ev_io_start(to, &w->io);
	}
}

void loop_service_move(struct component *c, struct loop *to)
{
	struct ev_loop *from = c->loop->ev;

	ev_now_update(from);
	ev_now_update(to->ev);
	for (size_t i = 0; i < c->n_watches; i++)
		move_watch(c->watches[i], from, to->ev);
	atomic_store(&c->loop, to);
}

uint64_t loop_service_longest_ns(const struct component *c)
{
	double longest_s = 0.;

	for (size_t i = 0; i < c->n_watches; i++) {
		const struct watch *w = c->watches[i];
		if (w->kind == WATCH_TIMER && w->period_s > longest_s)
			longest_s = w->period_s;
	}
	return (uint64_t)(longest_s * 1e9);
}

void loop_service_clear(struct component *c)
{
	for (size_t i = 0; i < c->n_watches; i++) {
		release(c->watches[i]);
		free(c->watches[i]);
	}
	free(c->watches);
	c->watches = NULL;
	c->n_watches = 0;
}
