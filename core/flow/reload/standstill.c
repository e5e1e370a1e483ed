/* SPDX-License-Identifier: MIT */
#include "core/flow/reload/standstill.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include "core/admin/log.h"
#include "core/flow/pipeline.h"

/* Owned by who asks and by each loop that was asked: one that comes late finds it ended. */
struct standstill {
	pthread_mutex_t lock;
	pthread_cond_t came, ended;
	size_t owners, waiting;
	uint64_t first_ns; /* when the first one came */
	bool end;
};

/* [lock], which it gives back. */
static void let_go(struct standstill *s)
{
	const size_t left = --s->owners;

	pthread_mutex_unlock(&s->lock);
	if (left)
		return;
	pthread_cond_destroy(&s->came);
	pthread_cond_destroy(&s->ended);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* In a loop. */
static void wait_here(void *arg)
{
	struct standstill *s = arg;

	pthread_mutex_lock(&s->lock);
	if (!s->end) {
		if (s->waiting++ == 0)
			s->first_ns = clock_now();
		pthread_cond_signal(&s->came);
	}
	while (!s->end)
		pthread_cond_wait(&s->ended, &s->lock);
	let_go(s);
}

static struct standstill *standstill_new(void)
{
	struct standstill *s = calloc(1, sizeof *s);
	pthread_condattr_t attr;

	if (!s)
		return NULL;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->came, &attr);
	pthread_cond_init(&s->ended, NULL);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&s->lock, NULL);
	s->owners = 1;
	return s;
}

/* Also one that nobody has moved to yet. */
static bool takes_part(const struct worker *w)
{
	return w->n == 0 || !w->members[0]->tls_roles;
}

/* 0 or -ENOMEM; those that were asked are counted in any case. */
static int ask_all(struct pipeline *p, struct standstill *s, size_t *asked)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < p->n_workers; i++) {
		if (!takes_part(p->workers[i]))
			continue;
		pthread_mutex_lock(&s->lock);
		s->owners++;
		pthread_mutex_unlock(&s->lock);
		rc = loop_post(&p->workers[i]->loop, wait_here, s);
		if (rc == 0) {
			++*asked;
			continue;
		}
		pthread_mutex_lock(&s->lock);
		s->owners--;
		pthread_mutex_unlock(&s->lock);
	}
	return rc;
}

static int await(struct standstill *s, size_t n, uint64_t timeout_ns)
{
	const uint64_t until_ns = clock_now() + timeout_ns;
	const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
				       .tv_nsec = (long)(until_ns % 1000000000u)};
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	while (s->waiting < n && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&s->came, &s->lock, &until);
	rc = s->waiting < n ? -ETIMEDOUT : 0;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static void name_culprits(const struct pipeline *p)
{
	for (size_t i = 0; i < p->n_workers; i++) {
		const struct culprit at = loop_culprit(&p->workers[i]->loop);
		if (takes_part(p->workers[i]) && at.component)
			log_printf(SS_LOG_WARN, at.component,
				   "Component does not return from a callback, the configuration cannot be "
				   "changed meanwhile callback=%s",
				   at.callback);
	}
}

int standstill_begin(struct pipeline *p, uint64_t timeout_ns, struct standstill **out)
{
	struct standstill *s = standstill_new();
	size_t asked = 0;

	if (!s)
		return -ENOMEM;
	int rc = ask_all(p, s, &asked);
	if (rc == 0)
		rc = await(s, asked, timeout_ns);
	if (rc == 0) {
		*out = s;
		return 0;
	}
	if (rc == -ETIMEDOUT)
		name_culprits(p);
	standstill_end(s);
	return rc;
}

uint64_t standstill_end(struct standstill *s)
{
	pthread_mutex_lock(&s->lock);
	const uint64_t ns = s->waiting ? clock_now() - s->first_ns : 0;
	s->end = true;
	pthread_cond_broadcast(&s->ended);
	let_go(s);
	return ns;
}
