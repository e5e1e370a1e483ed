/* SPDX-License-Identifier: MIT */
#include "plugins/nats/watch.h"

static bool follow(struct watch *w)
{
	const struct ss_loop *loop = w->loop.vtbl;
	const uint32_t events = atomic_load(&w->events);

	if (!w->live)
		return true;
	if (w->fd < 0 || !events) { /* libnats closes the socket next */
		loop->cancel(w->loop.self, w->id);
		w->id = 0;
		return true;
	}
	if (w->id)
		return loop->change(w->loop.self, w->id, events) == 0;
	return loop->fd(w->loop.self, w->fd, events, w->ready, w->arg, &w->id) == 0;
}

static void on_posted(void *watch)
{
	(void)follow(watch); /* without memory the next deadline ends the connection */
}

/* A thread of libnats that flushes may ask for it, too. */
static natsStatus want(struct watch *w, uint32_t events, bool add)
{
	const struct ss_loop *loop = w->loop.vtbl;

	if (add)
		atomic_fetch_or(&w->events, events);
	else
		atomic_fetch_and(&w->events, ~events);
	if (w->live && !pthread_equal(w->owner, pthread_self()))
		return loop->post(w->loop.self, on_posted, w) == 0 ? NATS_OK : NATS_NO_MEMORY;
	return follow(w) ? NATS_OK : NATS_NO_MEMORY;
}

natsStatus watch_attach(void **watch, void *loop, natsConnection *nc, natsSock fd)
{
	struct watch *w = loop;

	(void)nc;
	w->fd = fd;
	w->events = SS_FD_READ;
	*watch = w;
	return NATS_OK;
}

natsStatus watch_read(void *watch, bool add)
{
	return want(watch, SS_FD_READ, add);
}

natsStatus watch_write(void *watch, bool add)
{
	return want(watch, SS_FD_WRITE, add);
}

natsStatus watch_detach(void *watch)
{
	struct watch *w = watch;

	w->fd = -1;
	w->events = 0;
	(void)follow(w);
	return NATS_OK;
}

bool watch_begin(struct watch *w)
{
	w->owner = pthread_self();
	w->live = true;
	return follow(w);
}

void watch_end(struct watch *w)
{
	(void)watch_detach(w);
	w->live = false;
}
