/* SPDX-License-Identifier: MIT */
/* loop - the loop of the test host: descriptors, timers and posts, run by the test. */
#include "test_host_impl.h"

#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

static uint64_t real_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

void test_loop_post(struct ss_test_host *h, struct post post)
{
	struct post *p = malloc(sizeof *p);
	require(p, "out of memory");
	*p = post;
	p->next = NULL;
	pthread_mutex_lock(&h->impl->lock);
	*h->impl->last = p;
	h->impl->last = &p->next;
	pthread_mutex_unlock(&h->impl->lock);
	uint64_t one = 1;
	require(write(h->impl->wake, &one, sizeof one) == sizeof one, "eventfd");
}

static struct watch *find_watch(struct ss_test_host *h, uint32_t id)
{
	for (int i = 0; id && i < MAX_WATCHES; i++)
		if (h->impl->watches[i].id == id)
			return &h->impl->watches[i];
	return NULL;
}

static int32_t add_watch(struct ss_test_host *h, struct watch watch, uint32_t *id)
{
	require_inst(h);
	for (int i = 0; i < MAX_WATCHES; i++) {
		if (h->impl->watches[i].id)
			continue;
		watch.id = ++h->impl->next_id;
		h->impl->watches[i] = watch;
		*id = watch.id;
		return 0;
	}
	return -ENOMEM;
}

static int32_t loop_timer(void *self, uint64_t first_ns, uint64_t every_ns, void (*fn)(void *arg), void *arg,
			  uint32_t *id)
{
	struct ss_test_host *h = self;
	struct watch w = {
		.fd = -1, .due = h->now_ns + first_ns, .every = every_ns, .on_time = fn, .arg = arg};
	return add_watch(h, w, id);
}

static int32_t loop_fd(void *self, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events), void *arg,
		       uint32_t *id)
{
	require(fd >= 0, "a watch on no descriptor");
	return add_watch(self, (struct watch){.fd = fd, .events = events, .on_fd = fn, .arg = arg}, id);
}

static int32_t loop_change(void *self, uint32_t id, uint32_t events)
{
	require_inst(self);
	struct watch *w = find_watch(self, id);
	if (!w || w->fd < 0)
		return -ENOENT;
	w->events = events;
	return 0;
}

static void loop_cancel(void *self, uint32_t id)
{
	require_inst(self);
	struct watch *w = find_watch(self, id);
	if (w)
		*w = (struct watch){0};
}

static int32_t loop_post(void *self, void (*fn)(void *arg), void *arg)
{
	test_loop_post(self, (struct post){.fn = fn, .arg = arg});
	return 0;
}

static uint64_t loop_now(void *self)
{
	return ((struct ss_test_host *)self)->now_ns;
}

const struct ss_loop test_loop = {
	.struct_size = sizeof(struct ss_loop),
	.timer = loop_timer,
	.fd = loop_fd,
	.change = loop_change,
	.cancel = loop_cancel,
	.post = loop_post,
	.now = loop_now,
};

/* The timer that is due first; NULL if there is none. */
static struct watch *next_timer(struct ss_test_host *h)
{
	struct watch *best = NULL;
	for (int i = 0; i < MAX_WATCHES; i++) {
		struct watch *w = &h->impl->watches[i];
		if (w->id && w->fd < 0 && (!best || w->due < best->due))
			best = w;
	}
	return best;
}

/* Run timers in order of time up to and including until, moving the clock along. */
static int run_timers(struct ss_test_host *h, uint64_t until)
{
	int n = 0;
	for (struct watch *w = next_timer(h); w && w->due <= until; w = next_timer(h), n++) {
		void (*fn)(void *) = w->on_time;
		void *arg = w->arg;
		if (w->due > h->now_ns)
			h->now_ns = w->due;
		if (w->every)
			w->due += w->every;
		else
			*w = (struct watch){0};
		fn(arg);
	}
	if (until > h->now_ns)
		h->now_ns = until;
	return n;
}

static struct post *take_posts(struct ss_test_host *h)
{
	uint64_t count;
	if (read(h->impl->wake, &count, sizeof count) < 0)
		require(errno == EAGAIN, "eventfd");
	pthread_mutex_lock(&h->impl->lock);
	struct post *list = h->impl->first;
	h->impl->first = NULL;
	h->impl->last = &h->impl->first;
	pthread_mutex_unlock(&h->impl->lock);
	return list;
}

int test_loop_run_posts(struct ss_test_host *h, bool call)
{
	int n = 0;
	for (struct post *p = take_posts(h), *next; p; p = next, n++) {
		next = p->next;
		if (call && p->fn)
			p->fn(p->arg);
		else if (call && h->impl->created && h->desc->acked)
			h->desc->acked(h->self, p->token->cookie, p->token->worst);
		free(p->token);
		free(p);
	}
	return n;
}

static int run_fds(struct ss_test_host *h, const struct pollfd *fds, const uint32_t *ids, nfds_t n_fds)
{
	int n = 0;
	for (nfds_t i = 0; i < n_fds; i++) {
		struct watch *w = find_watch(h, ids[i]); /* an earlier callback may have ended it */
		if (!w || !fds[i].revents)
			continue;
		uint32_t events = 0;
		if (fds[i].revents & ~(POLLIN | POLLOUT))
			events = SS_FD_READ | SS_FD_WRITE;
		if (fds[i].revents & POLLIN)
			events |= SS_FD_READ;
		if (fds[i].revents & POLLOUT)
			events |= SS_FD_WRITE;
		events &= w->events;
		if (events) {
			w->on_fd(w->arg, events);
			n++;
		}
	}
	return n;
}

static void run_idle(struct ss_test_host *h)
{
	if (h->impl->created && h->desc->idle)
		h->desc->idle(h->self);
}

int ss_test_host_run(struct ss_test_host *h, int timeout_ms)
{
	struct pollfd fds[MAX_WATCHES + 1];
	uint32_t ids[MAX_WATCHES + 1];
	nfds_t n_fds = 0;

	run_idle(h);
	for (int i = 0; i < MAX_WATCHES; i++) {
		const struct watch *w = &h->impl->watches[i];
		if (!w->id || w->fd < 0 || !w->events)
			continue;
		short want = (short)((w->events & SS_FD_READ ? POLLIN : 0) |
				     (w->events & SS_FD_WRITE ? POLLOUT : 0));
		ids[n_fds] = w->id;
		fds[n_fds++] = (struct pollfd){.fd = w->fd, .events = want};
	}
	fds[n_fds] = (struct pollfd){.fd = h->impl->wake, .events = POLLIN};

	uint64_t wait = (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000;
	const struct watch *timer = next_timer(h);
	if (timer && timer->due < h->now_ns + wait)
		wait = timer->due > h->now_ns ? timer->due - h->now_ns : 0;
	struct timespec ts = {.tv_sec = (time_t)(wait / 1000000000), .tv_nsec = (long)(wait % 1000000000)};
	uint64_t start = real_ns();
	int rc = ppoll(fds, n_fds + 1, &ts, NULL);
	require(rc >= 0 || errno == EINTR, "ppoll");
	uint64_t until = h->now_ns + (real_ns() - start);
	if (rc == 0 && until < h->now_ns + wait)
		until = h->now_ns + wait;

	int n = rc > 0 ? run_fds(h, fds, ids, n_fds) : 0;
	n += run_timers(h, until);
	n += test_loop_run_posts(h, true);
	run_idle(h);
	return n;
}

void ss_test_host_advance(struct ss_test_host *h, uint64_t ns)
{
	run_timers(h, h->now_ns + ns);
	test_loop_run_posts(h, true);
	run_idle(h);
}
