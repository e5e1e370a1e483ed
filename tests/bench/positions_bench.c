/* SPDX-License-Identifier: MIT */
/*
 * positions_bench - what many streams cost: the start with their positions, a commit of which few moved, and
 * a batch, of the same stream as before and of another one, in CPU time.  Usage: positions_bench [STREAMS]
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "core/flow/stream_log.h"

enum { COMMITS = 1000, MOVED = 10, BATCHES = 5000000 };

static char path[] = "/tmp/positions_bench.XXXXXX";
static char base[64];

/* Of this process: others on the machine do not count. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "positions_bench: %s failed\n", what);
	exit(1);
}

static struct stream *get(struct streams *s, uint32_t i)
{
	uint8_t id[STREAM_ID] = {0};

	memcpy(id, &i, sizeof i);
	struct stream *st = streams_get(s, 0, "in", id);
	must(st != NULL, "memory");
	return st;
}

static void move(struct streams *s, uint32_t i, uint64_t seq)
{
	struct stream *st = get(s, i);
	struct ss_position at = {.epoch = {1}, .seq = seq};

	memcpy(at.stream, st->id, sizeof at.stream);
	stream_accept(st, &at);
}

static void commit(struct stream_log *l, struct streams *s, uint8_t snapshot[STREAM_LOG_SNAPSHOT],
		   int durable)
{
	must(stream_log_save(l, s, snapshot, STREAM_LOG_SNAPSHOT) == STREAM_LOG_SNAPSHOT, "saving");
	must(stream_log_sync(l, snapshot, STREAM_LOG_SNAPSHOT, durable) == 0, "writing");
	stream_log_committed(l, snapshot, STREAM_LOG_SNAPSHOT);
}

static long long bytes(unsigned number)
{
	char name[96];
	struct stat st;

	snprintf(name, sizeof name, "%s.%u", base, number);
	return stat(name, &st) == 0 ? (long long)st.st_size : 0;
}

static void commits(struct stream_log *l, struct streams *s, uint32_t n, uint8_t *snapshot)
{
	const long long before = bytes(1);
	const double start = now();

	for (uint64_t c = 0; c < COMMITS; c++) {
		for (uint32_t i = 0; i < MOVED; i++)
			move(s, (uint32_t)(c * MOVED + i) % n, c + 2);
		commit(l, s, snapshot, 0);
	}
	printf("commit, %d of %u moved: %.1f bytes, %.2f us without the sync\n", MOVED, n,
	       (double)(bytes(1) - before) / COMMITS, (now() - start) / COMMITS * 1e6);
}

static void restore(struct stream_log *l, uint32_t n, const uint8_t *snapshot)
{
	struct streams *s = streams_new(false);
	const double start = now();

	must(s && stream_log_load(l, s, snapshot, STREAM_LOG_SNAPSHOT, false) == 0, "loading");
	struct streams *copy = streams_copy(s);
	printf("restore of %u: %.2f ms\n", n, (now() - start) * 1e3);
	must(copy && streams_count(copy) == n, "restoring all");
	streams_free(copy);
	streams_free(s);
}

static void batches(struct streams *s, uint32_t n)
{
	uint64_t sum = 0;
	double start = now();

	for (uint32_t i = 0; i < BATCHES; i++)
		sum += get(s, 7)->seen;
	printf("batch of the same stream: %.1f ns\n", (now() - start) / BATCHES * 1e9);
	start = now();
	for (uint32_t i = 0; i < BATCHES; i++)
		sum += get(s, i % n)->seen;
	printf("batch of another stream: %.1f ns\n", (now() - start) / BATCHES * 1e9);
	must(sum != 0, "counting");
}

int main(int argc, char **argv)
{
	const uint32_t n = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 10000;
	uint8_t snapshot[STREAM_LOG_SNAPSHOT];

	must(n > STREAM_LOG_INLINE, "more than 32 streams");
	must(mkdtemp(path) != NULL, "mkdtemp");
	snprintf(base, sizeof base, "%s/positions", path);
	struct streams *s = streams_new(false);
	struct stream_log *l = stream_log_new(base);
	must(s && l, "memory");
	for (uint32_t i = 0; i < n; i++)
		move(s, i, 1);
	commit(l, s, snapshot, 1);
	printf("first commit of %u: %lld bytes\n", n, bytes(1));
	commits(l, s, n, snapshot);
	commit(l, s, snapshot, 1);
	restore(l, n, snapshot);
	batches(s, n);
	stream_log_free(l);
	streams_free(s);
	for (unsigned i = 1; i < 100; i++) {
		char name[96];
		snprintf(name, sizeof name, "%s.%u", base, i);
		unlink(name);
	}
	rmdir(path);
	return 0;
}
