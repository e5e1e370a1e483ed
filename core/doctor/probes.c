/* SPDX-License-Identifier: MIT */
/* probes - see probes.h.  The board is freed by whoever leaves it last, thread or caller. */
#include "core/doctor/probes.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "core/admin/clock.h"

#define GRACE_NS  UINT64_C(1000000000) /* so that a probe can say itself what took too long */
#define SECOND_NS UINT64_C(1000000000)
#define STACK     (512u << 10) /* bytes: resolvers want some */

struct probes {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct probe **all;
	size_t n, running;
	size_t users; /* under the lock, with the caller */
	uint64_t timeout_ns;
};

struct place {
	struct probes *board;
	struct probe *probe;
};

static void probe_free(struct probe *p)
{
	if (!p)
		return;
	if (p->what)
		p->free_what(p->what);
	findings_done(&p->found);
	free(p->subject);
	free(p);
}

/* The lock is held, and given up. */
static void leave(struct probes *b)
{
	const bool last = --b->users == 0;

	pthread_mutex_unlock(&b->lock);
	if (!last)
		return;
	for (size_t i = 0; i < b->n; i++)
		probe_free(b->all[i]);
	pthread_cond_destroy(&b->changed);
	pthread_mutex_destroy(&b->lock);
	free(b->all);
	free(b);
}

struct probes *probes_new(uint64_t timeout_ns)
{
	struct probes *b = calloc(1, sizeof *b);
	pthread_condattr_t attributes;

	if (!b)
		return NULL;
	b->users = 1;
	b->timeout_ns = timeout_ns;
	pthread_mutex_init(&b->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&b->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	return b;
}

static bool is_known(const struct probes *b, const char *check, const char *subject)
{
	for (size_t i = 0; i < b->n; i++)
		if (strcmp(b->all[i]->check, check) == 0 && strcmp(b->all[i]->subject, subject) == 0)
			return true;
	return false;
}

int probes_add(struct probes *b, const char *check, const char *subject, void (*run)(struct probe *),
	       void *what, void (*free_what)(void *))
{
	struct probe **grown, *p;

	if (is_known(b, check, subject)) {
		if (what)
			free_what(what);
		return 0;
	}
	p = calloc(1, sizeof *p);
	if (!p) {
		if (what)
			free_what(what);
		return -ENOMEM;
	}
	*p = (struct probe){
		.check = check, .subject = strdup(subject), .run = run, .what = what, .free_what = free_what};
	grown = p->subject ? reallocarray(b->all, b->n + 1, sizeof(struct probe *)) : NULL;
	if (!grown) {
		probe_free(p);
		return -ENOMEM;
	}
	b->all = grown;
	b->all[b->n++] = p;
	return 0;
}

static void *run_one(void *arg)
{
	struct place at = *(struct place *)arg;

	free(arg);
	at.probe->run(at.probe);
	pthread_mutex_lock(&at.board->lock);
	at.probe->ended = true;
	at.board->running--;
	pthread_cond_signal(&at.board->changed);
	leave(at.board);
	return NULL;
}

/* The lock is held.  0, -errno. */
static int start(struct probes *b, struct probe *p, const pthread_attr_t *attributes)
{
	struct place *at = malloc(sizeof *at);
	pthread_t thread;

	if (!at)
		return -ENOMEM;
	*at = (struct place){.board = b, .probe = p};
	int rc = pthread_create(&thread, attributes, run_one, at);
	if (rc) {
		free(at);
		return -rc;
	}
	b->running++;
	b->users++;
	return 0;
}

static void start_all(struct probes *b, uint64_t deadline_ns)
{
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK);
	for (size_t i = 0; i < b->n; i++) {
		struct probe *p = b->all[i];
		p->deadline_ns = deadline_ns;
		int rc = start(b, p, &attributes);
		p->ended = rc < 0;
		if (rc < 0)
			findings_add(&p->found, FINDING_PROBLEM, p->check, p->subject,
				     "raise the limit of threads (TasksMax of systemd, pids of a container)",
				     "not examined, as there is no thread for it: %s", strerror(-rc));
	}
	pthread_attr_destroy(&attributes);
}

void probes_run(struct probes *b, struct findings *to)
{
	if (!b)
		return;
	const uint64_t deadline_ns = clock_now() + b->timeout_ns, end = deadline_ns + GRACE_NS;
	const struct timespec until = {.tv_sec = (time_t)(end / SECOND_NS),
				       .tv_nsec = (long)(end % SECOND_NS)};
	int rc = 0;

	pthread_mutex_lock(&b->lock);
	start_all(b, deadline_ns);
	while (b->running && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&b->changed, &b->lock, &until);
	for (size_t i = 0; i < b->n; i++) {
		struct probe *p = b->all[i];
		const char *doing = atomic_load(&p->doing);
		if (p->ended)
			findings_move(to, &p->found);
		else
			findings_add(to, FINDING_PROBLEM, p->check, p->subject,
				     "look whether the disk, the name server or the network behind it works",
				     "%s takes longer than %llu ms", doing ? doing : "examining it",
				     (unsigned long long)(b->timeout_ns / 1000000));
	}
	leave(b);
}
