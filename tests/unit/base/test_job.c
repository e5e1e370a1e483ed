/* SPDX-License-Identifier: MIT */
/* job: one at a time, in another thread, taken back once; how long it has been running. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <semstreams/base/job.h>

/* A job that waits for a byte, and says when it began. */
struct work {
	int wait_for, began;
	pthread_t thread;
	bool signals_blocked;
	int runs;
};

static void run_work(void *arg)
{
	struct work *w = arg;
	sigset_t blocked;
	char byte = 'b';

	w->thread = pthread_self();
	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	w->signals_blocked = sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGHUP);
	w->runs++;
	(void)!write(w->began, &byte, 1);
	(void)!read(w->wait_for, &byte, 1);
}

static void on_done(void *arg)
{
	char byte = 'd';
	(void)!write(*(int *)arg, &byte, 1);
}

struct fixture {
	int go[2], began[2], done[2];
	struct work work;
	struct ss_job *job;
};

static void begin(struct fixture *f)
{
	assert_true(pipe(f->go) == 0 && pipe(f->began) == 0 && pipe(f->done) == 0);
	f->work = (struct work){.wait_for = f->go[0], .began = f->began[1]};
	assert_int_equal(ss_job_new(&f->job, "test-job", on_done, &f->done[1]), 0);
}

static void end(struct fixture *f)
{
	for (int i = 0; i < 2; i++) {
		close(f->go[i]);
		close(f->began[i]);
		close(f->done[i]);
	}
}

static void await(int fd)
{
	char byte;
	assert_int_equal(read(fd, &byte, 1), 1);
}

static void test_course(void **state)
{
	(void)state;
	struct fixture f;

	begin(&f);
	for (int i = 0; i < 50; i++) {
		assert_false(ss_job_busy(f.job));
		assert_false(ss_job_take(f.job));
		assert_false(ss_job_wait(f.job));
		assert_int_equal(ss_job_running_ns(f.job), 0);
		ss_job_start(f.job, run_work, &f.work);
		await(f.began[0]);
		assert_true(ss_job_busy(f.job));
		assert_false(ss_job_take(f.job));
		struct timespec before, now;
		clock_gettime(CLOCK_MONOTONIC, &before);
		uint64_t ran = ss_job_running_ns(f.job), then;
		assert_true(ran > 0);
		do { /* the time is that of the clock */
			clock_gettime(CLOCK_MONOTONIC, &now);
			then = ss_job_running_ns(f.job);
		} while (now.tv_sec == before.tv_sec && now.tv_nsec - before.tv_nsec < 100000);
		assert_true(then >= ran);
		(void)!write(f.go[1], "", 1);
		if (i % 2) {
			await(f.done[0]);
			assert_int_equal(ss_job_running_ns(f.job), 0);
			assert_true(ss_job_busy(f.job));
			assert_true(ss_job_take(f.job));
		} else {
			assert_true(ss_job_wait(f.job));
			await(f.done[0]);
		}
		assert_false(ss_job_take(f.job));
		assert_int_equal(f.work.runs, i + 1);
	}
	assert_false(pthread_equal(f.work.thread, pthread_self()));
	assert_true(f.work.signals_blocked);
	assert_false(ss_job_free(f.job));
	end(&f);
}

static void test_free_waits(void **state)
{
	(void)state;
	struct fixture f;

	begin(&f);
	ss_job_start(f.job, run_work, &f.work);
	(void)!write(f.go[1], "", 1);
	assert_true(ss_job_free(f.job));
	await(f.done[0]);
	assert_int_equal(f.work.runs, 1);
	end(&f);
	assert_false(ss_job_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_course),
		cmocka_unit_test(test_free_waits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
