/* SPDX-License-Identifier: MIT */
/*
 * watch - the adapter between libnats and a component's loop: which socket, and what it waits for.  libnats
 * attaches in the thread that connects; from watch_begin() on all of it is the loop's.
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <nats/nats.h>
#include <semstreams/ext/loop.h>
#include <semstreams/plugin.h>

struct watch {
	struct ss_iface loop;
	void (*ready)(void *arg, uint32_t events);
	void *arg;
	int fd;             /* -1: not attached */
	atomic_uint events; /* wanted: SS_FD_... */
	uint32_t id;        /* of the loop's watch; 0: none */
	bool live;          /* it is the loop's */
	pthread_t owner;    /* the loop's thread; when it moves, all goes by a post */
};

/* natsOptions_SetEventLoop(), with the watch as loop. */
natsStatus watch_attach(void **watch, void *loop, natsConnection *, natsSock);
natsStatus watch_read(void *watch, bool add);
natsStatus watch_write(void *watch, bool add);
natsStatus watch_detach(void *watch);

/* On the loop, once the connection is made: false if out of memory. */
bool watch_begin(struct watch *);
/* On the loop, when the connection is closed. */
void watch_end(struct watch *);
