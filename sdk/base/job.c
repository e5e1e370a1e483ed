/* SPDX-License-Identifier: MIT */
#include <semstreams/base/job.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int ss_thread_start(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *arg), void *arg)
{
	const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};
	sigset_t set, before;

	sigfillset(&set);
	for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
		sigdelset(&set, crashes[i]);
	pthread_sigmask(SIG_SETMASK, &set, &before);
	int rc = pthread_create(thread, attr, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -rc;
}

struct ss_job {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wanted, ended;
	void (*on_done)(void *arg);
	void *arg;
	char name[16]; /* as much as the kernel takes */
	bool busy;     /* of the owner's thread */
	/* locked */
	void (*run)(void *job);
	void *job;
	uint64_t started_ns;
	enum { JOB_NONE, JOB_RUNNING, JOB_ENDED } state;
	bool quit;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static void *run_jobs(void *arg)
{
	struct ss_job *j = arg;

	/* of itself, as the name of another thread is a file, which a sandbox has not */
	pthread_setname_np(pthread_self(), j->name);
	pthread_mutex_lock(&j->lock);
	for (;;) {
		while (!j->quit && j->state != JOB_RUNNING)
			pthread_cond_wait(&j->wanted, &j->lock);
		if (j->state != JOB_RUNNING)
			break;
		pthread_mutex_unlock(&j->lock);
		j->run(j->job);
		pthread_mutex_lock(&j->lock);
		j->state = JOB_ENDED;
		pthread_cond_signal(&j->ended);
		pthread_mutex_unlock(&j->lock);
		if (j->on_done)
			j->on_done(j->arg);
		pthread_mutex_lock(&j->lock);
	}
	pthread_mutex_unlock(&j->lock);
	return NULL;
}

static void destroy(struct ss_job *j)
{
	pthread_cond_destroy(&j->ended);
	pthread_cond_destroy(&j->wanted);
	pthread_mutex_destroy(&j->lock);
	free(j);
}

int ss_job_new(struct ss_job **out, const char *name, void (*on_done)(void *arg), void *arg)
{
	struct ss_job *j = calloc(1, sizeof *j);

	if (!j)
		return -ENOMEM;
	j->on_done = on_done;
	j->arg = arg;
	snprintf(j->name, sizeof j->name, "%s", name);
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->wanted, NULL);
	pthread_cond_init(&j->ended, NULL);
	int rc = ss_thread_start(&j->thread, NULL, run_jobs, j);
	if (rc) {
		destroy(j);
		return rc;
	}
	*out = j;
	return 0;
}

void ss_job_start(struct ss_job *j, void (*run)(void *job), void *job)
{
	j->busy = true;
	pthread_mutex_lock(&j->lock);
	j->run = run;
	j->job = job;
	j->started_ns = now_ns();
	j->state = JOB_RUNNING;
	pthread_cond_signal(&j->wanted);
	pthread_mutex_unlock(&j->lock);
}

bool ss_job_take(struct ss_job *j)
{
	pthread_mutex_lock(&j->lock);
	bool ended = j->state == JOB_ENDED;
	if (ended)
		j->state = JOB_NONE;
	pthread_mutex_unlock(&j->lock);
	if (ended)
		j->busy = false;
	return ended;
}

bool ss_job_wait(struct ss_job *j)
{
	pthread_mutex_lock(&j->lock);
	while (j->state == JOB_RUNNING)
		pthread_cond_wait(&j->ended, &j->lock);
	pthread_mutex_unlock(&j->lock);
	return ss_job_take(j);
}

bool ss_job_busy(const struct ss_job *j)
{
	return j->busy;
}

uint64_t ss_job_running_ns(struct ss_job *j)
{
	pthread_mutex_lock(&j->lock);
	uint64_t since = j->state == JOB_RUNNING ? j->started_ns : 0;
	pthread_mutex_unlock(&j->lock);
	if (!since)
		return 0;
	uint64_t now = now_ns();
	return now > since ? now - since : 1;
}

bool ss_job_free(struct ss_job *j)
{
	if (!j)
		return false;
	pthread_mutex_lock(&j->lock);
	j->quit = true;
	pthread_cond_signal(&j->wanted);
	pthread_mutex_unlock(&j->lock);
	pthread_join(j->thread, NULL);
	bool ended = j->busy;
	destroy(j);
	return ended;
}
