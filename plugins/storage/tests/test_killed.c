/* SPDX-License-Identifier: MIT */
/* Tests of storage that is killed at any moment: each event of two resumable sources is in the files once. */
#include "helper_crash.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS = 2, WINDOW = 20000 };
#define EPOCH UINT64_C(1000000000000)
static const char *const sources[STREAMS] = {"a", "b"};

/* What the sources know, as their log on disk would: shared with the children. */
struct senders {
	_Atomic uint64_t acked[STREAMS];
	_Atomic uint64_t sent[STREAMS]; /* the highest ever */
	_Atomic uint64_t finish;        /* 0 = send for ever */
	_Atomic uint8_t epoch[STREAMS];
	_Atomic unsigned seed;
	_Atomic unsigned files; /* that events go to by turns, by their attributes; 0 = all to one */
};
static struct senders *senders;

/* Events carry their sequence; another epoch goes on with the numbers in the text, its sequences begin anew.
 */
static uint64_t base_of(uint8_t epoch)
{
	return (epoch - 1) * EPOCH;
}

static struct ss_batch *numbered(struct fixture *f, int i, uint64_t first, uint32_t n)
{
	uint8_t epoch = senders->epoch[i];
	struct ss_batch *b = batch(f, sources[i], epoch, base_of(epoch) + first, n);
	for (uint32_t k = 0; k < n; k++) {
		char peer[16];
		b->events[k].seq = first + k;
		snprintf(peer, sizeof peer, "p%llu",
			 (unsigned long long)(first + k) / 3 % (senders->files + 1));
		if (senders->files)
			set_peer(f, b, k, peer);
	}
	return b;
}

/* Where a source goes on: what it gets asked for must not be acknowledged already. */
static uint64_t go_on(struct fixture *f, int i)
{
	for (uint32_t k = 0; k < f->host.n_kept; k++) {
		if (f->host.kept[k].port != (uint32_t)i || strcmp(f->host.kept[k].source, sources[i]) != 0 ||
		    f->host.kept[k].position.epoch[0] != senders->epoch[i])
			continue;
		need(f->host.kept[k].position.seq >= senders->acked[i]);
		senders->acked[i] = f->host.kept[k].position.seq;
		return senders->acked[i] + 1;
	}
	need(senders->acked[i] == 0);
	return 1;
}

static void take_acks(struct fixture *f)
{
	for (uint32_t k = 0; k < f->host.n_finished; k++) {
		const struct ss_batch *b = f->host.finished[k].batch;
		const struct ss_event *last = &b->events[b->count - 1];
		int i = last->data[0] == 'b';
		need(f->host.finished[k].status == SS_DELIVERED);
		if (last->seq > senders->acked[i])
			senders->acked[i] = last->seq;
	}
	f->host.n_finished = 0;
}

/* All that is done is free. */
static void drain_all(struct fixture *f)
{
	drain(f);
	take_acks(f);
	for (int k = 0; k < f->n; k++)
		f->host.host.batch_unref(f->batches[k]);
	f->n = 0;
}

/* A sender has a window: however long a sync takes, no more than that is on its way. */
static void send_within_window(struct fixture *f, int i, uint64_t first, uint32_t n)
{
	uint64_t last = first + n - 1;
	if (last > senders->acked[i] + WINDOW || f->n > BATCHES - 2)
		drain_all(f);
	if (last > senders->sent[i])
		senders->sent[i] = last;
	need(push_on(f, (uint32_t)i, numbered(f, i, first, n)) != SS_BUSY);
}

/* Both sources send, again and again overlapping what was sent, until both have sent finish. */
static void scene_stream(struct fixture *f)
{
	uint64_t next[STREAMS];
	unsigned seed = senders->seed;
	start(f);
	for (int i = 0; i < STREAMS; i++)
		next[i] = go_on(f, i);
	uint64_t finish = senders->finish;
	while (!finish || next[0] <= finish || next[1] <= finish) {
		int i = rand_r(&seed) & 1;
		uint32_t n = 1 + (uint32_t)rand_r(&seed) % 40;
		uint64_t first = next[i];
		if (rand_r(&seed) % 4 == 0)
			first -= first > 10 ? (uint64_t)(rand_r(&seed) % 10) : 0;
		if (finish && first > finish)
			continue;
		if (finish && first + n - 1 > finish)
			n = (uint32_t)(finish - first + 1);
		send_within_window(f, i, first, n);
		if (first + n > next[i])
			next[i] = first + n;
		if (rand_r(&seed) % 3 == 0)
			ss_test_host_run(&f->host, 0);
		take_acks(f);
	}
	drain(f);
	take_acks(f);
}

static int is_line_file(const struct dirent *e)
{
	return e->d_name[0] == 'p';
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

/* What many files have, as all_data() of one would be: in order within each, so sorted by number. */
static char *all_files(struct fixture *f)
{
	uint64_t *numbers[STREAMS];
	size_t n[STREAMS] = {0}, size;
	struct dirent **names;
	char *buf = NULL;
	FILE *mem = open_memstream(&buf, &size);
	int files = scandir(f->dir, &names, is_line_file, alphasort);
	need(mem && files >= 0);
	for (int i = 0; i < STREAMS;
	     i++) /* each number at most once, so there is room; no other is expected */
		need((numbers[i] = calloc(senders->sent[i] + 1, sizeof *numbers[i])));
	for (int k = 0; k < files; k++) {
		char path[400];
		uint64_t before[STREAMS] = {0};
		snprintf(path, sizeof path, "%s/%s", f->dir, names[k]->d_name);
		char *text = slurp(path, NULL);
		for (char *at = text; *at;) {
			int i = *at == 'b';
			uint64_t number = strtoull(at + 1, &at, 10);
			need(*at++ == '\n' && n[i] <= senders->sent[i] && number > before[i]);
			numbers[i][n[i]++] = before[i] = number;
		}
		free(text);
		free(names[k]);
	}
	free(names);
	for (int i = 0; i < STREAMS; i++) {
		qsort(numbers[i], n[i], sizeof *numbers[i], compare);
		for (size_t k = 0; k < n[i]; k++)
			fprintf(mem, "%s%llu\n", sources[i], (unsigned long long)numbers[i][k]);
		free(numbers[i]);
	}
	fclose(mem);
	return buf;
}

/* Each number of each source once, in order. */
static void assert_once(struct fixture *f, const uint64_t last[STREAMS])
{
	char *all = senders->files ? all_files(f) : all_data(f), *at = all;
	uint64_t seen[STREAMS] = {0};
	while (*at) {
		int i = *at == 'b';
		uint64_t n = strtoull(at + 1, &at, 10);
		need(*at++ == '\n');
		if (n / EPOCH != seen[i] / EPOCH)
			seen[i] = n / EPOCH * EPOCH;
		if (n != seen[i] + 1)
			fail_msg("%s%llu after %llu", sources[i], (unsigned long long)n,
				 (unsigned long long)seen[i]);
		seen[i] = n;
	}
	for (int i = 0; i < STREAMS; i++)
		assert_int_equal(seen[i], last[i]);
	free(all);
}

static void begin_streams(struct fixture *f)
{
	senders = mmap(NULL, sizeof *senders, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(senders != MAP_FAILED);
	for (int i = 0; i < STREAMS; i++)
		senders->epoch[i] = 1;
	f->conf.rotate_size = 20000;
}

static void end_streams(struct fixture *f)
{
	uint64_t last[STREAMS];
	/* beyond all that was sent, acknowledged or not */
	senders->finish = (senders->sent[0] > senders->sent[1] ? senders->sent[0] : senders->sent[1]) +
			  (senders->files ? 5000 : 100000);
	crash_after(f, scene_stream);
	for (int i = 0; i < STREAMS; i++)
		last[i] = base_of(senders->epoch[i]) + senders->finish;
	assert_once(f, last);
	munmap(senders, sizeof *senders);
}

/* Before and after each call that changes a file, from the first to one far into the stream. */
static void test_killed_at_each_step(void **state)
{
	struct fixture *f = *state;
	begin_streams(f);
	for (int at = 1; at < 150; at++) {
		senders->seed = (unsigned)at;
		world.die_at = at;
		crash_after(f, scene_stream);
	}
	world.die_at = 0;
	end_streams(f);
}

/* Within us microseconds. */
static void kill_at_random(struct fixture *f, unsigned *seed, long us)
{
	int status;
	senders->seed = (unsigned)rand_r(seed);
	us = rand_r(seed) % us;
	fflush(NULL);
	pid_t pid = fork();
	need(pid >= 0);
	if (pid == 0) {
		alarm(600);
		scene_stream(f);
		abort();
	}
	const struct timespec wait = {.tv_nsec = us * 1000};
	ppoll(NULL, 0, &wait, NULL);
	kill(pid, SIGKILL);
	need(waitpid(pid, &status, 0) == pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("the child ended by itself: %d", status);
}

static void test_killed_at_random(void **state)
{
	struct fixture *f = *state;
	unsigned seed = 1;
	begin_streams(f);
	/* a slow machine needs longer lives, and more of them, to have something that can be lost */
	for (int i = 0; i < 300 || senders->acked[0] <= 1000 || senders->acked[1] <= 1000; i++) {
		assert_true(i < 3000);
		kill_at_random(f, &seed, i < 300 ? 20000 : 100000 * (i / 300));
		/* one of the senders loses its log, and starts another with what was not acknowledged */
		if (i == 150) {
			senders->epoch[1] = 2;
			senders->acked[1] = senders->sent[1] = 0;
		}
	}
	end_streams(f);
}

/* The same with many files, of which not even those of one batch may be open at once. */
static void begin_files(struct fixture *f, unsigned files, int64_t open)
{
	static char path[160];
	begin_streams(f);
	senders->files = files;
	snprintf(path, sizeof path, "%s/{peer}.jsonl", f->dir);
	f->conf.path = path;
	f->conf.max_open_files = open;
}

static void test_many_killed_at_each_step(void **state)
{
	struct fixture *f = *state;
	begin_files(f, 9, 3);
	for (int at = 1; at < 200; at++) {
		senders->seed = (unsigned)at;
		world.die_at = at;
		crash_after(f, scene_stream);
	}
	world.die_at = 0;
	end_streams(f);
}

static void test_many_killed_at_random(void **state)
{
	struct fixture *f = *state;
	unsigned seed = 2;
	begin_files(f, 100, 60);
	for (int i = 0; i < 80 || senders->acked[0] <= 300 || senders->acked[1] <= 300; i++) {
		assert_true(i < 1000);
		kill_at_random(f, &seed, i < 80 ? 60000 : 600000 * (i / 80));
	}
	end_streams(f);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_killed_at_each_step),
		T(test_killed_at_random),
		T(test_many_killed_at_each_step),
		T(test_many_killed_at_random),
	};
	return cmocka_run_group_tests_name("killed", tests, NULL, NULL);
}
