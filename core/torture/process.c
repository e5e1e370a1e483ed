/* SPDX-License-Identifier: MIT */
/* process - what belongs to the whole process, and no plugin may change. */
#include <dirent.h>
#include <fcntl.h>
#include <locale.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/torture/guard.h"
#include "core/torture/ledger.h"

static struct {
	struct sigaction actions[NSIG];
	sigset_t mask;
	char locale[256], folder[PATH_MAX];
	mode_t umask;
	off_t written; /* to standard output and error */
} before;

static mode_t current_umask(void)
{
	mode_t m = umask(022);

	umask(m);
	return m;
}

static off_t size_of_output(void)
{
	struct stat out, err;

	return (fstat(STDOUT_FILENO, &out) == 0 ? out.st_size : 0) +
	       (fstat(STDERR_FILENO, &err) == 0 ? err.st_size : 0);
}

static void catch_output(void)
{
	int out = memfd_create("stdout", 0), err = memfd_create("stderr", 0);

	fflush(stdout);
	if (out >= 0)
		dup2(out, STDOUT_FILENO), close(out);
	if (err >= 0)
		dup2(err, STDERR_FILENO), close(err);
	setvbuf(stdout, NULL, _IONBF, 0);
}

void process_remember(void)
{
	const char *name = setlocale(LC_ALL, NULL);

	catch_output();
	for (int i = 1; i < NSIG; i++)
		sigaction(i, NULL, &before.actions[i]);
	sigprocmask(SIG_SETMASK, NULL, &before.mask);
	snprintf(before.locale, sizeof before.locale, "%s", name ? name : "");
	if (!getcwd(before.folder, sizeof before.folder))
		before.folder[0] = '\0';
	before.umask = current_umask();
	before.written = size_of_output();
}

static void examine_output(void)
{
	char text[64] = "";
	const off_t now = size_of_output();

	if (now <= before.written)
		return;
	ssize_t n = pread(STDOUT_FILENO, text, sizeof text - 1, 0);
	const char *where = n > 0 ? "output" : "error";
	if (n <= 0)
		n = pread(STDERR_FILENO, text, sizeof text - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || (unsigned char)*c > '~' || *c == '"' || *c == '\\')
			*c = ' ';
	ledger_add(RULE_STDOUT, NULL, "%lld bytes were written to standard %s: '%s'",
		   (long long)(now - before.written), where, text);
	before.written = now;
}

static void examine_signals(void)
{
	for (int i = 1; i < NSIG; i++) {
		struct sigaction now;
		if (sigaction(i, NULL, &now) < 0 || now.sa_handler == before.actions[i].sa_handler)
			continue;
		ledger_add(RULE_SIGNAL_HANDLER, NULL, "what %s%s does was changed",
			   i < SIGRTMIN ? "SIG" : "a real-time signal", i < SIGRTMIN ? sigabbrev_np(i) : "");
		before.actions[i] = now;
	}
}

static void examine_rest(void)
{
	const char *name = setlocale(LC_ALL, NULL);
	char folder[PATH_MAX] = "";
	sigset_t mask;
	const mode_t m = current_umask();

	if (name && strcmp(name, before.locale) != 0)
		ledger_add(RULE_LOCALE_OR_UMASK, NULL, "the locale was changed from %s to %s", before.locale,
			   name);
	if (m != before.umask)
		ledger_add(RULE_LOCALE_OR_UMASK, NULL, "the umask was changed from %04o to %04o",
			   before.umask, m);
	if (getcwd(folder, sizeof folder) && strcmp(folder, before.folder) != 0)
		ledger_add(RULE_LOCALE_OR_UMASK, NULL, "the working folder was changed to %.200s", folder);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int i = 1; i < NSIG; i++)
		if (sigismember(&mask, i) != sigismember(&before.mask, i))
			ledger_add(RULE_LOCALE_OR_UMASK, NULL,
				   "the signal mask of the loop's thread was changed");
	before.mask = mask;
	before.umask = m;
	snprintf(before.folder, sizeof before.folder, "%s", folder);
	snprintf(before.locale, sizeof before.locale, "%s", name ? name : "");
}

void process_examine(void)
{
	examine_output();
	examine_signals();
	examine_rest();
}

static unsigned count(const char *folder)
{
	DIR *d = opendir(folder);
	unsigned n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n > 2 ? n - 2 : 0;
}

unsigned process_descriptors(void)
{
	return count("/proc/self/fd");
}

unsigned process_threads(void)
{
	return count("/proc/self/task");
}
