/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/job.h - a thread that runs one job at a time, so that a loop goes on while a disk or a long
 * computation works.  All functions are called by one thread, the owner's; only run() and on_done() run in
 * the job's. Signals are the host's and blocked there, as in ss_thread_start().  Tags and rules are those of
 * semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_JOB_H
#define SEMSTREAMS_BASE_JOB_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* [any] Start a thread of a plugin's own, as pthread_create() does, with all signals blocked but those of
 * crashes: the host names the plugin whose thread that was.  0 or -errno. */
int ss_thread_start(pthread_t *, const pthread_attr_t *, void *(*run)(void *arg), void *arg);

struct ss_job; /* opaque: the thread and its job */

/*
 * [inst] Start the thread, named name (at most 15 bytes).  After each job on_done(arg) is called in the job's
 * thread; it posts to the loop and does nothing else.  NULL: the owner looks by itself.  The caller owns
 * *out: ss_job_free().  0 or -errno.
 */
int ss_job_new(struct ss_job **out, const char *name, void (*on_done)(void *arg), void *arg);
/* [inst] Run run(job) in the thread.  There must be no job; what job points to is the thread's until
 * ss_job_take() or ss_job_wait() has returned true. */
void ss_job_start(struct ss_job *, void (*run)(void *job), void *job);
/* [inst] Has the job ended?  True once per job: then its memory is the owner's again and another one may
 * start. */
bool ss_job_take(struct ss_job *);
/* [inst] The same, waiting until the job has ended; false if there is none. */
bool ss_job_wait(struct ss_job *);
/* [inst] A job was started and not taken back. */
bool ss_job_busy(const struct ss_job *);
/* [inst] For how long the job has been running, in nanoseconds of CLOCK_MONOTONIC; 0 if none is running (then
 * it has ended, or there is none). */
uint64_t ss_job_running_ns(struct ss_job *);
/* [inst] Wait for the job and end the thread; NULL is allowed.  True if there was a job that was not taken
 * back. */
bool ss_job_free(struct ss_job *);

#ifdef __cplusplus
}
#endif
#endif
