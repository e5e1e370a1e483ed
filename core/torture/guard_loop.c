/* SPDX-License-Identifier: MIT */
/* guard_loop - the loop of the guard: descriptors, timers and posts, in real time that is skipped where
 * nothing happens. */
#include <errno.h>
#include <ev.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>
#include "core/torture/allocation.h"
#include "core/torture/guard.h"
#include "core/torture/ledger.h"

struct post {
	struct post *next;
	void (*fn)(void *arg);
	void *arg;
	struct ss_token *token; /* fn NULL: its end is to be told */
};

void guard_post(struct guard *g, void (*fn)(void *arg), void *arg, struct ss_token *token)
{
	struct post *p = malloc(sizeof *p);
	const uint64_t one = 1;

	if (!p)
		abort();
	*p = (struct post){.fn = fn, .arg = arg, .token = token};
	pthread_mutex_lock(&g->post_lock);
	*g->last_post = p;
	g->last_post = &p->next;
	pthread_mutex_unlock(&g->post_lock);
	while (write(g->wake, &one, sizeof one) < 0 && errno == EINTR)
		;
}

void guard_run_posts(struct guard *g, bool call)
{
	uint64_t count;

	while (read(g->wake, &count, sizeof count) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&g->post_lock);
	struct post *list = g->posts;
	g->posts = NULL;
	g->last_post = &g->posts;
	pthread_mutex_unlock(&g->post_lock);
	for (struct post *p = list, *next; p; p = next) {
		next = p->next;
		if (call && p->fn) {
			guard_enter(g, "post");
			p->fn(p->arg);
			guard_leave(g);
		} else if (call) {
			guard_tell_acked(g, p->token);
		}
		g->callbacks++;
		free(p);
	}
}

static struct guard_watch *find_watch(struct guard *g, uint32_t id)
{
	for (uint32_t i = 0; id && i < GUARD_WATCHES; i++)
		if (g->watches[i].id == id)
			return &g->watches[i];
	return NULL;
}

static int32_t add_watch(struct guard *g, struct guard_watch watch, uint32_t *id)
{
	if (allocation_refused())
		return -ENOMEM;
	for (uint32_t i = 0; i < GUARD_WATCHES; i++) {
		if (g->watches[i].id)
			continue;
		watch.id = ++g->next_id;
		g->watches[i] = watch;
		*id = watch.id;
		return 0;
	}
	return -ENOMEM;
}

static int32_t loop_timer(void *self, uint64_t first_ns, uint64_t every_ns, void (*fn)(void *arg), void *arg,
			  uint32_t *id)
{
	struct guard *g = self;
	const struct guard_watch w = {
		.fd = -1, .due = g->now_ns + first_ns, .every = every_ns, .on_time = fn, .arg = arg};

	return guard_is_inst(g, "timer") ? add_watch(g, w, id) : -EINVAL;
}

static int32_t loop_fd(void *self, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events), void *arg,
		       uint32_t *id)
{
	const struct guard_watch w = {.fd = fd, .events = events, .on_fd = fn, .arg = arg};

	if (!guard_is_inst(self, "fd"))
		return -EINVAL;
	return fd < 0 ? -EBADF : add_watch(self, w, id);
}

static int32_t loop_change(void *self, uint32_t id, uint32_t events)
{
	struct guard_watch *w = guard_is_inst(self, "change") ? find_watch(self, id) : NULL;

	if (!w || w->fd < 0)
		return -ENOENT;
	w->events = events;
	return 0;
}

static void loop_cancel(void *self, uint32_t id)
{
	struct guard_watch *w = guard_is_inst(self, "cancel") ? find_watch(self, id) : NULL;

	if (w)
		*w = (struct guard_watch){0};
}

static int32_t loop_post(void *self, void (*fn)(void *arg), void *arg)
{
	guard_post(self, fn, arg, NULL);
	return 0;
}

static uint64_t loop_now(void *self)
{
	return ((struct guard *)self)->now_ns;
}

static void loop_set_max_delay(void *self, uint64_t ns)
{
	(void)ns;
	guard_is_inst(self, "set_max_delay");
}

const struct ss_loop guard_loop = {
	.struct_size = sizeof(struct ss_loop),
	.timer = loop_timer,
	.fd = loop_fd,
	.change = loop_change,
	.cancel = loop_cancel,
	.post = loop_post,
	.now = loop_now,
	.set_max_delay = loop_set_max_delay,
};

/* ---- semstreams.loop.libev/1 ---- */

static void *libev_loop(void *self)
{
	struct guard *g = self;

	if (!guard_is_inst(g, "ev_loop"))
		return NULL;
	if (!g->libev)
		g->libev = ev_loop_new(EVFLAG_NOENV);
	return g->libev;
}

static void libev_touched(void *self)
{
	guard_is_inst(self, "touched");
}

const struct ss_loop_libev guard_loop_libev = {
	.struct_size = sizeof guard_loop_libev,
	.ev_loop = libev_loop,
	.touched = libev_touched,
};

static void run_libev(struct guard *g)
{
	if (!g->libev)
		return;
	guard_enter(g, "libev");
	ev_run(g->libev, EVRUN_NOWAIT);
	guard_leave(g);
}

void guard_end_libev(struct guard *g)
{
	if (g->libev)
		ev_loop_destroy(g->libev);
}

/* ---- turning it ---- */

static struct guard_watch *next_timer(struct guard *g)
{
	struct guard_watch *best = NULL;

	for (uint32_t i = 0; i < GUARD_WATCHES; i++) {
		struct guard_watch *w = &g->watches[i];
		if (w->id && w->fd < 0 && (!best || w->due < best->due))
			best = w;
	}
	return best;
}

/* Run timers that are due, at most so many: one of 0 ns would never end. */
static void run_timers(struct guard *g)
{
	struct guard_watch *w;

	for (int n = 0; n < 64 && (w = next_timer(g)) && w->due <= g->now_ns; n++) {
		void (*fn)(void *) = w->on_time;
		void *arg = w->arg;
		if (w->every)
			w->due = g->now_ns + w->every;
		else
			*w = (struct guard_watch){0};
		guard_enter(g, "timer");
		fn(arg);
		guard_leave(g);
		g->callbacks++;
	}
}

static void run_fd(struct guard *g, uint32_t id, short ready)
{
	struct guard_watch *w = find_watch(g, id); /* an earlier callback may have ended it */
	uint32_t events = 0;

	if (!w || !ready)
		return;
	if (ready & ~(POLLIN | POLLOUT))
		events = SS_FD_READ | SS_FD_WRITE;
	if (ready & POLLIN)
		events |= SS_FD_READ;
	if (ready & POLLOUT)
		events |= SS_FD_WRITE;
	events &= w->events;
	if (!events)
		return;
	guard_enter(g, "descriptor");
	w->on_fd(w->arg, events);
	guard_leave(g);
	g->callbacks++;
}

static void run_idle(struct guard *g)
{
	if (!g->desc->idle || g->phase < GUARD_STARTED || g->phase > GUARD_DRAINING)
		return;
	guard_enter(g, "idle");
	g->desc->idle(g->self);
	guard_leave(g);
}

uint32_t guard_turn(struct guard *g, unsigned ms, bool jump)
{
	static struct pollfd fds[GUARD_WATCHES + 1];
	static uint32_t ids[GUARD_WATCHES + 1];
	const uint32_t before = g->callbacks;
	const uint64_t since = ledger_now();
	nfds_t n = 0;

	run_idle(g);
	for (uint32_t i = 0; i < GUARD_WATCHES; i++) {
		const struct guard_watch *w = &g->watches[i];
		if (!w->id || w->fd < 0 || !w->events)
			continue;
		ids[n] = w->id;
		fds[n++] = (struct pollfd){.fd = w->fd,
					   .events = (short)((w->events & SS_FD_READ ? POLLIN : 0) |
							     (w->events & SS_FD_WRITE ? POLLOUT : 0))};
	}
	fds[n] = (struct pollfd){.fd = g->wake, .events = POLLIN};
	int rc = poll(fds, n + 1, (int)ms);
	g->now_ns += ledger_now() - since;
	for (nfds_t i = 0; rc > 0 && i < n; i++)
		run_fd(g, ids[i], fds[i].revents);
	run_libev(g);
	guard_run_posts(g, true);
	const struct guard_watch *timer = next_timer(g);
	if (jump && rc == 0 && timer && timer->due > g->now_ns)
		g->now_ns = timer->due;
	run_timers(g);
	return g->callbacks - before;
}

void guard_run(struct guard *g, unsigned ms)
{
	const uint64_t until = ledger_now() + (uint64_t)ms * 1000000;

	do
		guard_turn(g, 1, true);
	while (ledger_now() < until);
	run_idle(g);
}
