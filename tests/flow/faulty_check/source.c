/* SPDX-License-Identifier: MIT */
/* A source that emits a row by a timer, and is sound but for the one FAULT it is compiled with. */
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/loop.h>

enum fault {
	NONE,
	CRASH,
	HANG,
	EXIT,
	CREATE_FAILED,
	START_FAILED,
	RESTART_FAILED,
	TRACK_MISUSED,
	BATCH_RELEASED_TWICE,
	BATCH_WRITTEN,
	EMIT_AFTER_STOP,
	EMIT_WRONG_THREAD,
	EMIT_OVER_CAPACITY,
	EMIT_FOREIGN_MEMORY,
	EMIT_NULL,
	EMIT_UNKNOWN_PORT,
	CYCLE_MEMORY,
	CYCLE_DESCRIPTORS,
	CYCLE_THREADS,
	STDOUT,
	SIGNAL_HANDLER,
	UMASK,
	WORKING_FOLDER,
	RETURN_UNKNOWN,
};
#ifndef FAULT
#define FAULT NONE
#endif

#define TEXT       "{\"reading\":1}"
#define EVERY_NS   1000000
#define ENDLESS_NS 3600 /* seconds */

struct instance {
	const struct ss_host *host;
	struct ss_iface loop;
	uint32_t timer; /* 0: none */
	uint64_t cookie;
};

/* ---- what can only be done wrong beside the loop ---- */

static pthread_mutex_t never = PTHREAD_MUTEX_INITIALIZER;

static void *wait_for_ever(void *arg)
{
	for (;;)
		sleep(ENDLESS_NS);
	return arg;
}

static void *emit_elsewhere(void *arg)
{
	struct instance *s = arg;

	s->host->emit(s->host, 0, NULL);
	return NULL;
}

static void run_in_thread(void *(*fn)(void *arg), void *arg, int waits)
{
	pthread_t thread;

	pthread_mutex_lock(&never);
	if (pthread_create(&thread, NULL, fn, arg) == 0) {
		if (waits)
			pthread_join(thread, NULL);
		else
			pthread_detach(thread);
	}
	pthread_mutex_unlock(&never);
}

/* ---- the loop ---- */

static struct ss_batch *make(struct instance *s)
{
	struct ss_batch *b = s->host->batch_new(s->host, NULL, 1, 64);

	if (!b)
		return NULL;
	memcpy(b->data, TEXT, sizeof TEXT - 1);
	b->events[0] = (struct ss_event){.data = b->data, .len = sizeof TEXT - 1};
	b->count = 1;
	return b;
}

static void spoil(struct ss_batch *b)
{
	static const uint8_t elsewhere[] = TEXT;

	if (FAULT == EMIT_OVER_CAPACITY)
		b->count = b->capacity + 1;
	if (FAULT == EMIT_FOREIGN_MEMORY)
		b->events[0].data = elsewhere;
	if (FAULT == EMIT_NULL)
		b->events[0].data = NULL;
}

static void emit_one(void *self)
{
	struct instance *s = self;
	const struct ss_host *h = s->host;
	struct ss_batch *b = make(s);

	if (!b)
		return;
	spoil(b);
	(void)h->track(h, b, ++s->cookie, NULL);
	if (FAULT == TRACK_MISUSED)
		(void)h->track(h, b, ++s->cookie, NULL);
	if (FAULT == EMIT_WRONG_THREAD)
		run_in_thread(emit_elsewhere, s, 1);
	h->emit(h, FAULT == EMIT_UNKNOWN_PORT ? 1 : 0, b);
	if (FAULT == BATCH_WRITTEN)
		b->data[0] = ' ';
	h->batch_unref(b);
	if (FAULT == BATCH_RELEASED_TWICE) {
		h->batch_unref(b); /* downstream's */
		h->batch_unref(b);
	}
}

static void end_timer(struct instance *s)
{
	((const struct ss_loop *)s->loop.vtbl)->cancel(s->loop.self, s->timer);
	s->timer = 0;
}

static int32_t begin_timer(struct instance *s)
{
	const struct ss_loop *loop = s->loop.vtbl;

	return s->timer ? 0 : loop->timer(s->loop.self, 0, EVERY_NS, emit_one, s, &s->timer);
}

/* ---- callbacks ---- */

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct instance *s = calloc(1, sizeof *s);

	(void)conf;
	if (!s)
		return -ENOMEM;
	s->host = host;
	int32_t rc =
		FAULT == CREATE_FAILED ? -EIO : host->query(host, SS_LOOP, sizeof(struct ss_loop), &s->loop);
	if (rc < 0) {
		free(s);
		return rc;
	}
	*self = s;
	return 0;
}

/* Leaves something behind with each life, or changes what is the process's. */
static void soil(void)
{
	static char *volatile last;

	if (FAULT == CYCLE_MEMORY)
		last = malloc(100);
	if (FAULT == CYCLE_DESCRIPTORS)
		(void)!open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (FAULT == CYCLE_THREADS)
		run_in_thread(wait_for_ever, NULL, 0);
	if (FAULT == STDOUT)
		puts("started");
	if (FAULT == SIGNAL_HANDLER)
		signal(SIGUSR1, SIG_DFL);
	if (FAULT == UMASK)
		umask(0077);
	if (FAULT == WORKING_FOLDER)
		(void)!chdir("/usr");
	(void)last;
}

static int32_t start(void *self)
{
	static int starts;

	if (FAULT == START_FAILED)
		return -EACCES;
	if (FAULT == RESTART_FAILED && starts++)
		return -EADDRINUSE;
	soil();
	int32_t rc = begin_timer(self);
	return rc == 0 && FAULT == RETURN_UNKNOWN ? 1 : rc;
}

static void stop(void *self)
{
	struct instance *s = self;

	end_timer(s);
	if (FAULT == EMIT_AFTER_STOP)
		emit_one(s);
}

static void pause_source(void *self)
{
	end_timer(self);
	if (FAULT == HANG)
		for (;;)
			pause();
}

static void resume(void *self)
{
	struct instance *s = self;

	if (FAULT == EXIT)
		exit(3);
	if (begin_timer(s) < 0)
		s->host->set_health(s->host, "out of memory for a timer");
}

static int32_t drain(void *self)
{
	end_timer(self);
	return 0;
}

static void acked(void *self, uint64_t cookie, int32_t status)
{
	const struct instance *s = self;

	(void)status;
	if (FAULT == CRASH && cookie == 3 && s->cookie >= cookie)
		abort();
}

static const struct ss_component component = {
	.struct_size = sizeof component,
	.kind = SS_KIND_SOURCE,
	.type = "faulty_source",
	.version = "1.0",
	.summary = "emits a row by a timer",
	.license = "MIT",
	.create = create,
	.destroy = free,
	.start = start,
	.stop = stop,
	.pause = pause_source,
	.resume = resume,
	.drain = drain,
	.acked = acked,
};
SS_REGISTER(&component);
