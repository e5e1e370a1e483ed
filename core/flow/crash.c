/* SPDX-License-Identifier: MIT */
/* crash - see crash.h.  What runs in the signal handler is async-signal-safe: it formats by itself and calls
 * write(2) and prctl(2) only. */
#include "core/flow/crash.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
#include "core/flow/call.h"

static const struct {
	int number;
	const char *name;
} crashes[] = {
	{SIGSEGV, "SEGV"}, {SIGBUS, "BUS"},   {SIGILL, "ILL"},
	{SIGFPE, "FPE"},   {SIGABRT, "ABRT"}, {SIGSYS, "SYS"},
};
enum { CRASHES = sizeof crashes / sizeof *crashes };

static bool json;
static _Atomic bool watching;
static pid_t main_thread;
static _Thread_local char alternate[16384];

struct text {
	char buf[512];
	size_t n;
};

static void put(struct text *t, const char *s)
{
	while (*s && t->n < sizeof t->buf - 1)
		t->buf[t->n++] = *s++;
}

static void put_number(struct text *t, uint64_t value, unsigned digits)
{
	char buf[24];
	unsigned n = sizeof buf - 1;

	buf[n] = '\0';
	do {
		buf[--n] = (char)('0' + value % 10);
		value /= 10;
	} while (value || sizeof buf - 1 - n < digits);
	put(t, buf + n);
}

/* 2025-11-16T10:00:00.000Z, from days since 1970 by the civil calendar. */
static void put_time(struct text *t, uint64_t seconds, uint64_t ms)
{
	uint64_t days = seconds / 86400 + 719468, era = days / 146097, of_era = days % 146097;
	uint64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	uint64_t of_year = of_era - (365 * year + year / 4 - year / 100), shifted = (5 * of_year + 2) / 153;
	uint64_t month = shifted < 10 ? shifted + 3 : shifted - 9;

	put_number(t, year + era * 400 + (month <= 2), 4);
	put(t, "-");
	put_number(t, month, 2);
	put(t, "-");
	put_number(t, of_year - (153 * shifted + 2) / 5 + 1, 2);
	put(t, "T");
	put_number(t, seconds / 3600 % 24, 2);
	put(t, ":");
	put_number(t, seconds / 60 % 60, 2);
	put(t, ":");
	put_number(t, seconds % 60, 2);
	put(t, ".");
	put_number(t, ms, 3);
	put(t, "Z");
}

static void put_pair(struct text *t, const char *key, const char *value)
{
	put(t, json ? ",\"" : " ");
	put(t, key);
	put(t, json ? "\":\"" : "=");
	for (char c[2] = ""; *value; value++) {
		c[0] = (unsigned char)*value < ' ' || *value == '"' || *value == '\\' ? '?' : *value;
		put(t, c);
	}
	put(t, json ? "\"" : "");
}

static void last_words(const char *message, const char *signal_name)
{
	const char *component = atomic_load_explicit(&call_here.component, memory_order_relaxed);
	struct timespec now = {0};
	char thread[17] = "";
	struct text t = {.n = 0};

	clock_gettime(CLOCK_REALTIME, &now);
	prctl(PR_GET_NAME, thread);
	put(&t, json ? "{\"time\":\"" : "");
	put_time(&t, (uint64_t)now.tv_sec, (uint64_t)now.tv_nsec / 1000000);
	put(&t, json ? "\",\"level\":\"ERROR\",\"message\":\"" : " ERROR ");
	put(&t, message);
	put(&t, json ? "\"" : "");
	if (signal_name)
		put_pair(&t, "signal", signal_name);
	if (component)
		put_pair(&t, "callback", atomic_load_explicit(&call_here.callback, memory_order_relaxed));
	put_pair(&t, "thread", thread);
	if (component)
		put_pair(&t, "component", component);
	put(&t, json ? "}\n" : "\n");
	/* nobody is left to be told that this failed */
	ssize_t n = write(STDERR_FILENO, t.buf, t.n);
	(void)n;
}

/* The default action is back when this returns, and the signal comes again. */
static void on_crash(int number)
{
	int i = 0;

	while (i < CRASHES - 1 && crashes[i].number != number)
		i++;
	last_words("Crashed", crashes[i].name);
	raise(number);
}

/* exit() leaves threads and batches behind: that is no end that counts as a good one. */
static void on_exit_called(void)
{
	bool in_plugin = atomic_load_explicit(&call_here.component, memory_order_relaxed) != NULL;

	if (!atomic_load(&watching) || (!in_plugin && gettid() == main_thread))
		return;
	last_words("A plugin called exit()", NULL);
	_exit(EXIT_FAILURE);
}

void crash_watch(bool as_json)
{
	json = as_json;
	main_thread = gettid();
	atomic_store(&watching, true);
	crash_watch_thread();
	for (int i = 0; i < CRASHES; i++) {
		struct sigaction old,
			new = {.sa_handler = on_crash, .sa_flags = (int)(SA_RESETHAND | SA_ONSTACK)};
		if (sigaction(crashes[i].number, NULL, &old) == 0 && !(old.sa_flags & SA_SIGINFO) &&
		    old.sa_handler == SIG_DFL)
			sigaction(crashes[i].number, &new, NULL);
	}
	atexit(on_exit_called);
}

void crash_unwatch(void)
{
	atomic_store(&watching, false);
}

void crash_watch_thread(void)
{
	const stack_t own = {.ss_sp = alternate, .ss_size = sizeof alternate};
	stack_t old;

	if (sigaltstack(NULL, &old) == 0 && old.ss_flags & SS_DISABLE)
		sigaltstack(&own, NULL);
}

void crash_unblock(sigset_t *set)
{
	for (int i = 0; i < CRASHES; i++)
		sigdelset(set, crashes[i].number);
}
