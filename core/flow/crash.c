/* SPDX-License-Identifier: MIT */
/* crash - see crash.h.  What runs in the signal handler is async-signal-safe: it formats by itself and calls
 * system calls only. */
#include "core/flow/crash.h"

#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
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
static _Thread_local bool is_hosts; /* the thread */

/* Code of plugins.  What is there does not change, but for component[0]. */
enum { OBJECTS_MAX = 64 };
static struct object {
	uintptr_t begin, end;
	char file[128], component[64]; /* "": it has several */
} objects[OBJECTS_MAX];
static _Atomic unsigned n_objects;

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

static const struct object *find_object(uintptr_t address)
{
	const unsigned n = atomic_load_explicit(&n_objects, memory_order_acquire);

	for (unsigned i = 0; i < n; i++)
		if (address >= objects[i].begin && address < objects[i].end)
			return &objects[i];
	return NULL;
}

/* Whose thread this is: of the plugin whose code lies nearest on its stack, in what the signal saved of the
 * registers or as a return address.  NULL: of none.  The stack may end anywhere: a pipe takes only what can
 * be read. */
static const struct object *find_owner(void)
{
	enum { PAGE = 4096, PAGES = 256 };
	const char *at = __builtin_frame_address(0);
	const struct object *found = NULL;
	uintptr_t words[PAGE / sizeof(uintptr_t)];
	int ends[2];

	if (pipe(ends) < 0)
		return NULL;
	for (int page = 0; !found && page < PAGES; page++) {
		const size_t size = PAGE - (uintptr_t)at % PAGE;
		/* not write(): a sanitizer would look at what lies between variables, too */
		if (syscall(SYS_write, ends[1], at, size) != (long)size ||
		    read(ends[0], words, size) != (ssize_t)size)
			break;
		for (size_t i = 0; !found && i < size / sizeof *words; i++)
			found = find_object(words[i]);
		at += size;
	}
	close(ends[0]);
	close(ends[1]);
	return found;
}

static void put_owner(struct text *t)
{
	const struct object *o = is_hosts ? NULL : find_owner();

	if (!o)
		return;
	put_pair(t, "plugin", o->file);
	if (*o->component)
		put_pair(t, "component", o->component);
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
	else
		put_owner(&t);
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

struct search {
	uintptr_t code;
	struct object *out;
};

static int match(struct dl_phdr_info *info, size_t size, void *arg)
{
	const struct search *s = arg;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		const uintptr_t begin = info->dlpi_addr + segment->p_vaddr;
		if (segment->p_type != PT_LOAD || s->code < begin || s->code - begin >= segment->p_memsz)
			continue;
		const char *slash = strrchr(info->dlpi_name, '/');
		s->out->begin = begin;
		s->out->end = begin + segment->p_memsz;
		snprintf(s->out->file, sizeof s->out->file, "%s", slash ? slash + 1 : info->dlpi_name);
		return 1;
	}
	return 0;
}

void crash_know(const void *code, const char *component)
{
	const unsigned n = atomic_load(&n_objects);
	struct object *o = (struct object *)(uintptr_t)find_object((uintptr_t)code);
	struct search s = {(uintptr_t)code, &objects[n < OBJECTS_MAX ? n : 0]};

	if (o) {
		if (strncmp(o->component, component, sizeof o->component) != 0)
			o->component[0] = '\0';
		return;
	}
	if (n == OBJECTS_MAX || !dl_iterate_phdr(match, &s))
		return;
	snprintf(s.out->component, sizeof s.out->component, "%s", component);
	atomic_store_explicit(&n_objects, n + 1, memory_order_release);
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

	is_hosts = true;
	if (sigaltstack(NULL, &old) == 0 && old.ss_flags & SS_DISABLE)
		sigaltstack(&own, NULL);
}

void crash_unblock(sigset_t *set)
{
	for (int i = 0; i < CRASHES; i++)
		sigdelset(set, crashes[i].number);
}
