/* SPDX-License-Identifier: MIT */
/* Loops: posts keep their order, calls bring results, no wake-up is lost, work is done until there is none.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "core/flow/loop.h"

enum { THREADS = 4 };
#define SECOND   UINT64_C(1000000000)
#define PATIENCE (60 * SECOND)

static bool no_work(void *arg)
{
	(void)arg;
	return false;
}

static void start(struct loop *l, bool (*work)(void *arg), void *arg)
{
	assert_int_equal(loop_init(l, "test", work, arg), 0);
	assert_int_equal(loop_run(l), 0);
}

static void end(struct loop *l)
{
	loop_join(l);
	loop_done(l);
}

/* False after too long a time. */
static bool wait_for(sem_t *s)
{
	struct timespec until;
	int rc;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 60;
	do
		rc = sem_timedwait(s, &until);
	while (rc < 0 && errno == EINTR);
	return rc == 0;
}

static void signal_sem(void *arg)
{
	sem_post(arg);
}

static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

/* ---- posts ---- */

struct poster {
	struct loop *loop;
	struct numbered {
		struct poster *poster;
		unsigned number;
	} * posts;
	unsigned n, seen, wrong; /* the last two belong to the loop */
	pthread_t thread;
};

static void see(void *arg)
{
	struct numbered *p = arg;

	p->poster->wrong += p->number != p->poster->seen;
	p->poster->seen++;
}

static void *post_all(void *arg)
{
	struct poster *p = arg;

	for (unsigned i = 0; i < p->n; i++) {
		p->posts[i] = (struct numbered){p, i};
		if (loop_post(p->loop, see, &p->posts[i]) != 0)
			break;
	}
	return NULL;
}

static void posts_keep_their_order(void **state)
{
	(void)state;
	struct poster posters[THREADS];
	struct loop l;

	start(&l, no_work, NULL);
	for (int i = 0; i < THREADS; i++) {
		posters[i] = (struct poster){.loop = &l, .n = 20000};
		posters[i].posts = calloc(posters[i].n, sizeof *posters[i].posts);
		assert_non_null(posters[i].posts);
		assert_int_equal(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(posters[i].thread, NULL);
	/* behind them all */
	assert_int_equal(loop_call(&l, nothing, NULL, PATIENCE), 0);
	end(&l);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(posters[i].seen, posters[i].n);
		assert_int_equal(posters[i].wrong, 0);
		free(posters[i].posts);
	}
}

struct chain {
	struct loop *loop;
	unsigned left;
	sem_t finished;
};

static void post_again(void *arg)
{
	struct chain *c = arg;

	if (--c->left == 0)
		sem_post(&c->finished);
	else
		loop_post(c->loop, post_again, c);
}

static void posts_from_posts(void **state)
{
	(void)state;
	struct loop l;
	struct chain c = {.loop = &l, .left = 10000};

	sem_init(&c.finished, 0, 0);
	start(&l, no_work, NULL);
	assert_int_equal(loop_post(&l, post_again, &c), 0);
	assert_true(wait_for(&c.finished));
	end(&l);
	sem_destroy(&c.finished);
}

static void posts_before_the_start_wait_for_it(void **state)
{
	(void)state;
	struct loop l;
	sem_t ran;

	sem_init(&ran, 0, 0);
	assert_int_equal(loop_init(&l, "test", no_work, NULL), 0);
	assert_int_equal(loop_post(&l, signal_sem, &ran), 0);
	assert_int_equal(loop_run(&l), 0);
	assert_true(wait_for(&ran));
	end(&l);
	sem_destroy(&ran);
}

static void posts_before_join_are_run(void **state)
{
	(void)state;
	enum { N = 1000 };
	struct loop l;
	sem_t ran;
	int n;

	sem_init(&ran, 0, 0);
	start(&l, no_work, NULL);
	for (int i = 0; i < N; i++)
		assert_int_equal(loop_post(&l, signal_sem, &ran), 0);
	loop_join(&l);
	sem_getvalue(&ran, &n);
	assert_int_equal(n, N);
	/* nobody runs this one, and it is not leaked */
	assert_int_equal(loop_post(&l, signal_sem, &ran), 0);
	loop_done(&l);
	sem_getvalue(&ran, &n);
	assert_int_equal(n, N);
	sem_destroy(&ran);
}

/* ---- calls ---- */

static int twice(void *arg)
{
	return 2 * *(int *)arg;
}

static void *call_many(void *arg)
{
	uintptr_t wrong = 0;

	for (int i = 0; i < 2000; i++)
		wrong += loop_call(arg, twice, &i, PATIENCE) != 2 * i;
	return (void *)wrong;
}

static void calls_bring_results(void **state)
{
	(void)state;
	pthread_t threads[THREADS];
	struct loop l;
	int n = -21;

	start(&l, no_work, NULL);
	assert_int_equal(loop_call(&l, twice, &n, PATIENCE), -42);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, call_many, &l), 0);
	for (int i = 0; i < THREADS; i++) {
		void *wrong;
		pthread_join(threads[i], &wrong);
		assert_null(wrong);
	}
	end(&l);
}

struct gate {
	sem_t open, passed;
};

static int pass(void *arg)
{
	struct gate *g = arg;
	bool opened = wait_for(&g->open);

	sem_post(&g->passed);
	return opened ? 7 : -1;
}

static void calls_give_up_in_time(void **state)
{
	(void)state;
	struct loop l;
	struct gate g;
	int n = 4;

	sem_init(&g.open, 0, 0);
	sem_init(&g.passed, 0, 0);
	start(&l, no_work, NULL);
	uint64_t before = clock_now();
	assert_int_equal(loop_call(&l, pass, &g, SECOND / 50), -ETIMEDOUT);
	assert_true(clock_now() - before >= SECOND / 50);
	/* neither does the next one come through, nor one without any time */
	assert_int_equal(loop_call(&l, twice, &n, SECOND / 50), -ETIMEDOUT);
	assert_int_equal(loop_call(&l, twice, &n, 0), -ETIMEDOUT);
	/* once it goes on, all of them are run, and the loop is as good as before */
	sem_post(&g.open);
	assert_true(wait_for(&g.passed));
	assert_int_equal(loop_call(&l, twice, &n, PATIENCE), 8);
	sem_post(&g.open);
	assert_int_equal(loop_call(&l, pass, &g, PATIENCE), 7);
	end(&l);
	sem_destroy(&g.open);
	sem_destroy(&g.passed);
}

/* ---- wake-ups ---- */

/* One thread each: asks, wakes the loop, waits for the answer of work(). */
struct asker {
	struct loop *loop;
	_Atomic unsigned asked;
	unsigned answered; /* the loop's */
	unsigned times;
	sem_t answer;
	bool lost;
	pthread_t thread;
};

static bool answer(void *arg)
{
	struct asker *askers = arg;

	for (int i = 0; i < THREADS; i++) {
		unsigned asked = atomic_load_explicit(&askers[i].asked, memory_order_acquire);
		while (askers[i].answered != asked) {
			askers[i].answered++;
			sem_post(&askers[i].answer);
		}
	}
	return false;
}

static void *ask(void *arg)
{
	struct asker *a = arg;

	for (int i = 0; (unsigned)i < a->times && !a->lost; i++) {
		atomic_fetch_add_explicit(&a->asked, 1, memory_order_release);
		loop_wake(a->loop);
		a->lost = !wait_for(&a->answer);
	}
	return NULL;
}

static void run_askers(struct asker *askers, int n, unsigned times)
{
	for (int i = 0; i < n; i++) {
		askers[i].times = times;
		assert_int_equal(pthread_create(&askers[i].thread, NULL, ask, &askers[i]), 0);
	}
	for (int i = 0; i < n; i++) {
		pthread_join(askers[i].thread, NULL);
		assert_false(askers[i].lost);
		assert_int_equal(askers[i].answered, askers[i].asked);
	}
}

static void no_wake_up_is_lost(void **state)
{
	(void)state;
	struct asker askers[THREADS] = {0};
	struct loop l;

	for (int i = 0; i < THREADS; i++) {
		sem_init(&askers[i].answer, 0, 0);
		askers[i].loop = &l;
	}
	start(&l, answer, askers);
	run_askers(askers, 1, 20000); /* alone: the loop falls asleep each time */
	run_askers(askers, THREADS, 20000);
	end(&l);
	for (int i = 0; i < THREADS; i++)
		sem_destroy(&askers[i].answer);
}

struct ticks {
	struct loop *loop;
	ev_timer timer;
	int left;
	sem_t finished;
};

static void on_tick(struct ev_loop *ev, ev_timer *t, int events)
{
	(void)events;
	struct ticks *ticks = t->data;

	if (--ticks->left)
		return;
	ev_timer_stop(ev, t);
	sem_post(&ticks->finished);
}

static int start_ticks(void *arg)
{
	struct ticks *t = arg;

	t->left = 200;
	ev_timer_init(&t->timer, on_tick, 0.005, 0.005);
	t->timer.data = t;
	ev_timer_start(t->loop->ev, &t->timer);
	return 0;
}

static int does_gather(void *arg)
{
	return ((const struct loop *)arg)->gathers;
}

/* A loop that may be late takes turns at a distance while it is asked all the time, and none is lost. */
static void patient_loops_gather(void **state)
{
	(void)state;
	struct asker askers[THREADS] = {0};
	struct loop l;
	struct ticks ticks = {.loop = &l};

	sem_init(&ticks.finished, 0, 0);
	for (int i = 0; i < THREADS; i++) {
		sem_init(&askers[i].answer, 0, 0);
		askers[i].loop = &l;
	}
	start(&l, answer, askers);
	run_askers(askers, 1, 1000);
	assert_false(loop_call(&l, does_gather, &l, PATIENCE));
	loop_gather(&l, 2000000);
	/* it takes 128 turns to see how it goes, and on a busy machine they may be too slow to be gathered */
	for (int tries = 0; tries < 100 && !loop_call(&l, does_gather, &l, PATIENCE); tries++)
		run_askers(askers, 1, 129);
	assert_true(loop_call(&l, does_gather, &l, PATIENCE));
	run_askers(askers, THREADS, 20);
	/* few turns: at once again */
	assert_int_equal(loop_call(&l, start_ticks, &ticks, PATIENCE), 0);
	assert_true(wait_for(&ticks.finished));
	assert_false(loop_call(&l, does_gather, &l, PATIENCE));
	end(&l);
	for (int i = 0; i < THREADS; i++)
		sem_destroy(&askers[i].answer);
	sem_destroy(&ticks.finished);
}

/* Two loops that throw one ball. */
struct player {
	struct loop loop;
	struct player *other;
	_Atomic bool ball;
	unsigned left;
	sem_t finished;
};

static bool play(void *arg)
{
	struct player *p = arg;

	if (!atomic_exchange_explicit(&p->ball, false, memory_order_acquire))
		return false;
	if (p->left-- == 0) {
		sem_post(&p->finished);
		return false;
	}
	atomic_store_explicit(&p->other->ball, true, memory_order_release);
	loop_wake(&p->other->loop);
	return false;
}

static void loops_wake_each_other(void **state)
{
	(void)state;
	struct player players[2] = {{.left = 50000}, {.left = 60000}};

	for (int i = 0; i < 2; i++) {
		players[i].other = &players[1 - i];
		sem_init(&players[i].finished, 0, 0);
		start(&players[i].loop, play, &players[i]);
	}
	atomic_store(&players[0].ball, true);
	loop_wake(&players[0].loop);
	assert_true(wait_for(&players[0].finished));
	/* the other may still be about to wake the one that has finished */
	for (int i = 0; i < 2; i++)
		loop_join(&players[i].loop);
	for (int i = 0; i < 2; i++)
		loop_done(&players[i].loop);
	sem_destroy(&players[0].finished);
	sem_destroy(&players[1].finished);
}

/* ---- work ---- */

struct work {
	struct loop *loop;
	unsigned left, calls;
	bool forever;
	ev_timer timer;
	unsigned at_start;
	sem_t finished;
};

static bool do_work(void *arg)
{
	struct work *w = arg;

	w->calls++;
	if (w->forever)
		return true;
	if (w->left == 0)
		return false;
	if (--w->left == 0)
		sem_post(&w->finished);
	return true;
}

static int give_work(void *arg)
{
	struct work *w = arg;

	w->left = 1000;
	return 0;
}

static int work_forever(void *arg)
{
	struct work *w = arg;

	w->forever = true;
	return 0;
}

static int work_no_more(void *arg)
{
	struct work *w = arg;

	w->forever = false;
	return (int)w->calls;
}

static void work_is_done_until_there_is_none(void **state)
{
	(void)state;
	struct work w = {0};
	struct loop l;

	sem_init(&w.finished, 0, 0);
	start(&l, do_work, &w);
	for (int round = 0; round < 50; round++) {
		assert_int_equal(loop_call(&l, give_work, &w, PATIENCE), 0);
		assert_true(wait_for(&w.finished));
	}
	end(&l);
	assert_true(w.calls > 50 * 1000);
	sem_destroy(&w.finished);
}

static void endless_work_keeps_nobody_out(void **state)
{
	(void)state;
	struct work w = {0};
	struct loop l;

	sem_init(&w.finished, 0, 0);
	start(&l, do_work, &w);
	assert_int_equal(loop_call(&l, work_forever, &w, PATIENCE), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(loop_call(&l, nothing, NULL, PATIENCE), 0);
	assert_true(loop_call(&l, work_no_more, &w, PATIENCE) >= 100);
	assert_int_equal(loop_call(&l, work_forever, &w, PATIENCE), 0);
	end(&l); /* nor does it keep the loop from ending */
	sem_destroy(&w.finished);
}

static void on_timer(struct ev_loop *ev, ev_timer *t, int events)
{
	(void)ev;
	(void)events;
	struct work *w = t->data;

	sem_post(&w->finished);
}

static int start_timer(void *arg)
{
	struct work *w = arg;

	w->at_start = w->calls;
	ev_now_update(w->loop->ev);
	ev_timer_init(&w->timer, on_timer, 0.1, 0.);
	w->timer.data = w;
	ev_timer_start(w->loop->ev, &w->timer);
	return 0;
}

static void when_work_is_done_it_sleeps(void **state)
{
	(void)state;
	struct loop l;
	struct work w = {.loop = &l};

	sem_init(&w.finished, 0, 0);
	start(&l, do_work, &w);
	assert_int_equal(loop_call(&l, give_work, &w, PATIENCE), 0);
	assert_true(wait_for(&w.finished));
	assert_int_equal(loop_call(&l, start_timer, &w, PATIENCE), 0);
	assert_true(wait_for(&w.finished));
	int calls = loop_call(&l, work_no_more, &w, PATIENCE);
	assert_in_range(calls - (int)w.at_start, 1, 20);
	end(&l);
	sem_destroy(&w.finished);
}

/* ---- the thread ---- */

static int look_at_thread(void *arg)
{
	sigset_t blocked;
	char name[16];

	pthread_sigmask(SIG_BLOCK, NULL, &blocked);
	pthread_getname_np(pthread_self(), name, sizeof name);
	return sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGINT) &&
	       sigismember(&blocked, SIGHUP) && strcmp(name, arg) == 0;
}

static void threads_have_names_and_no_signals(void **state)
{
	(void)state;
	sigset_t before, after;
	char cut[] = "a name of more t";
	struct loop l;

	cut[15] = '\0';
	pthread_sigmask(SIG_BLOCK, NULL, &before);
	assert_int_equal(loop_init(&l, "a name of more than fits", no_work, NULL), 0);
	assert_int_equal(loop_run(&l), 0);
	pthread_sigmask(SIG_BLOCK, NULL, &after);
	assert_int_equal(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
	assert_int_equal(loop_call(&l, look_at_thread, cut, PATIENCE), 1);
	end(&l);
}

static void ends_in_any_state(void **state)
{
	(void)state;
	struct loop l;

	memset(&l, 0, sizeof l);
	loop_done(&l); /* never made */
	assert_int_equal(loop_init(&l, "test", no_work, NULL), 0);
	loop_join(&l); /* never ran */
	loop_done(&l);
	loop_done(&l);
	for (int i = 0; i < 200; i++) {
		start(&l, no_work, NULL);
		loop_join(&l);
		loop_join(&l);
		loop_done(&l);
	}
}

static void clocks_go_forward(void **state)
{
	(void)state;
	uint64_t before = clock_now(), wall = clock_wall();

	for (int i = 0; i < 1000; i++) {
		uint64_t now = clock_now();
		assert_true(now >= before);
		before = now;
	}
	assert_true(wall / SECOND >= (uint64_t)time(NULL) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(posts_keep_their_order),
		cmocka_unit_test(posts_from_posts),
		cmocka_unit_test(posts_before_the_start_wait_for_it),
		cmocka_unit_test(posts_before_join_are_run),
		cmocka_unit_test(calls_bring_results),
		cmocka_unit_test(calls_give_up_in_time),
		cmocka_unit_test(no_wake_up_is_lost),
		cmocka_unit_test(patient_loops_gather),
		cmocka_unit_test(loops_wake_each_other),
		cmocka_unit_test(work_is_done_until_there_is_none),
		cmocka_unit_test(endless_work_keeps_nobody_out),
		cmocka_unit_test(when_work_is_done_it_sleeps),
		cmocka_unit_test(threads_have_names_and_no_signals),
		cmocka_unit_test(ends_in_any_state),
		cmocka_unit_test(clocks_go_forward),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
