/* SPDX-License-Identifier: MIT */
/* log_tail - a ring of bytes, each line in one piece, and a ring of where they are. */
#include "core/admin/log_tail.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <semstreams/base/strbuf.h>

#define BYTES (64u << 10)
#define LINES 200u

struct place {
	size_t at, n;
};

static struct {
	pthread_mutex_t lock;
	char bytes[BYTES];
	struct place places[LINES]; /* of line number i at i % LINES */
	uint64_t first, end;        /* numbers of the lines that are kept; the first ever is 1 */
	size_t at;                  /* where the next one goes */
} tail = {.lock = PTHREAD_MUTEX_INITIALIZER, .first = 1, .end = 1};

/* Forget the lines that lie in these bytes; they are the oldest. */
static void make_room(size_t at, size_t n)
{
	while (tail.first < tail.end) {
		const struct place *p = &tail.places[tail.first % LINES];
		bool apart = p->at + p->n <= at || p->at >= at + n;
		if (apart && tail.end - tail.first < LINES)
			return;
		tail.first++;
	}
}

void log_tail_add(const char *line, size_t n)
{
	if (n == 0 || n > BYTES)
		return;
	pthread_mutex_lock(&tail.lock);
	if (tail.at + n > BYTES) {
		make_room(tail.at, BYTES - tail.at);
		tail.at = 0;
	}
	make_room(tail.at, n);
	memcpy(tail.bytes + tail.at, line, n);
	tail.places[tail.end % LINES] = (struct place){.at = tail.at, .n = n};
	tail.at += n;
	tail.end++;
	pthread_mutex_unlock(&tail.lock);
}

uint64_t log_tail_print(uint64_t after, size_t most, struct ss_strbuf *out)
{
	pthread_mutex_lock(&tail.lock);
	uint64_t from = after >= tail.end ? tail.end : after < tail.first ? tail.first : after + 1;
	if (from < tail.end && tail.end - from > most)
		from = tail.end - most;
	for (uint64_t i = from; i < tail.end; i++) {
		const struct place *p = &tail.places[i % LINES];
		ss_strbuf_printf(out, "%s{\"number\":%llu,", i > from ? ",\n" : "", (unsigned long long)i);
		ss_strbuf_add(out, tail.bytes + p->at + 1, p->n - 1);
	}
	const uint64_t newest = tail.end - 1;
	pthread_mutex_unlock(&tail.lock);
	return newest;
}
