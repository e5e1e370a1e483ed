/* SPDX-License-Identifier: MIT */
#include "syncer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

struct syncer {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	struct sync_job job;
	enum { SYNCER_IDLE, SYNCER_BUSY, SYNCER_DONE } state;
	bool quit;
	void (*on_done)(void *arg);
	void *arg;
};

static int write_record(const struct sync_record *rec)
{
	for (size_t done = 0; done < rec->len;) {
		ssize_t n = pwrite(rec->fd, rec->bytes + done, rec->len - done, rec->at + (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return fdatasync(rec->fd) < 0 ? -errno : 0;
}

static void run_job(struct sync_job *job)
{
	int result = 0;
	for (int i = 0; i < job->n; i++) {
		int rc = fdatasync(job->files[i].fd);
		if (rc == 0 && job->files[i].dirfd >= 0)
			rc = fsync(job->files[i].dirfd);
		if (rc < 0 && result == 0)
			result = -errno;
	}
	job->record_failed = false;
	/* the record tells of what is in the files: never before it is there */
	if (result == 0 && job->record.len) {
		result = write_record(&job->record);
		job->record_failed = result < 0;
	}
	job->result = result;
}

static void *run(void *arg)
{
	struct syncer *s = arg;
	pthread_mutex_lock(&s->lock);
	for (;;) {
		while (!s->quit && s->state != SYNCER_BUSY)
			pthread_cond_wait(&s->wanted, &s->lock);
		if (s->state != SYNCER_BUSY)
			break;
		pthread_mutex_unlock(&s->lock);
		run_job(&s->job); /* nobody else looks at it meanwhile */
		pthread_mutex_lock(&s->lock);
		s->state = SYNCER_DONE;
		pthread_mutex_unlock(&s->lock);
		s->on_done(s->arg);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

int syncer_new(struct syncer **out, void (*on_done)(void *arg), void *arg)
{
	struct syncer *s = calloc(1, sizeof *s);
	if (!s)
		return -ENOMEM;
	s->on_done = on_done;
	s->arg = arg;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->wanted, NULL);
	/* signals are the host's business */
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&s->thread, NULL, run, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc) {
		pthread_cond_destroy(&s->wanted);
		pthread_mutex_destroy(&s->lock);
		free(s);
		return -rc;
	}
	pthread_setname_np(s->thread, "storage-sync");
	*out = s;
	return 0;
}

bool syncer_free(struct syncer *s, struct sync_job *job)
{
	if (!s)
		return false;
	pthread_mutex_lock(&s->lock);
	s->quit = true;
	pthread_cond_signal(&s->wanted);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	bool done = syncer_take(s, job);
	pthread_cond_destroy(&s->wanted);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return done;
}

void syncer_start(struct syncer *s, const struct sync_job *job)
{
	pthread_mutex_lock(&s->lock);
	s->job = *job;
	s->state = SYNCER_BUSY;
	pthread_cond_signal(&s->wanted);
	pthread_mutex_unlock(&s->lock);
}

bool syncer_take(struct syncer *s, struct sync_job *job)
{
	pthread_mutex_lock(&s->lock);
	bool done = s->state == SYNCER_DONE;
	if (done) {
		*job = s->job;
		s->state = SYNCER_IDLE;
	}
	pthread_mutex_unlock(&s->lock);
	return done;
}
