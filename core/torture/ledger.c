/* SPDX-License-Identifier: MIT */
#include "core/torture/ledger.h"

#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static struct ledger *shared;

uint64_t ledger_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct ledger *ledger_new(void)
{
	void *p = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	shared = p == MAP_FAILED ? NULL : p;
	return shared;
}

struct ledger *ledger(void)
{
	return shared;
}

static void copy(char *to, const char *from, size_t size)
{
	size_t n = 0;

	while (n + 1 < size && from[n]) {
		to[n] = from[n];
		n++;
	}
	to[n] = '\0';
}

/* What is wrong with a table has no callback: there each sentence counts. */
static bool is_told(const struct breach *b, enum rule rule, const char *callback, const char *what)
{
	return b->rule == rule && strcmp(b->callback, callback) == 0 && strcmp(b->type, shared->type) == 0 &&
	       (*callback || strncmp(b->what, what, LEDGER_TEXT - 1) == 0);
}

void ledger_add_plain(enum rule rule, const char *callback, const char *what)
{
	struct ledger *l = shared;
	const char *in = callback ? callback : atomic_load(&l->callback);
	uint32_t i = 0;

	in = in ? in : "";
	for (unsigned tries = 0; atomic_flag_test_and_set(&l->busy) && tries < 1000000; tries++)
		; /* who died with it does not give it back */
	while (i < l->n && !is_told(&l->breaches[i], rule, in, what))
		i++;
	if (i == l->n && i < LEDGER_BREACHES) {
		l->breaches[i].rule = rule;
		copy(l->breaches[i].type, l->type, sizeof l->type);
		copy(l->breaches[i].callback, in, LEDGER_CALLBACK);
		copy(l->breaches[i].what, what, LEDGER_TEXT);
		l->n++;
	}
	atomic_flag_clear(&l->busy);
}

void ledger_add(enum rule rule, const char *callback, const char *fmt, ...)
{
	char what[LEDGER_TEXT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	ledger_add_plain(rule, callback, what);
}
