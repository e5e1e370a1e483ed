/* SPDX-License-Identifier: MIT */
#include "core/torture/watched.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/torture/guard.h"
#include "core/torture/ledger.h"

#define MARK "@callback "

enum { FRAMES = 200 };

static int marks = -1;

bool watched_open(const char *descriptor)
{
	marks = atoi(descriptor);
	return marks >= 0;
}

void watched_mark(const char *callback)
{
	if (marks >= 0)
		dprintf(marks, MARK "%s\n", callback);
}

/* What valgrind wrote, from line to line. */
struct reader {
	char callback[LEDGER_CALLBACK];
	const char *file; /* of the plugin, without folders */
	char what[160], where[128];
	enum rule rule;
	bool of_plugin; /* a frame of it is in the stack */
};

static void finish_error(struct reader *r)
{
	if (*r->what && r->of_plugin)
		ledger_add(r->rule, r->rule == RULE_VALGRIND_LEAK ? "destroy" : r->callback, "%s%s%s",
			   r->what, *r->where ? ", " : "", r->where);
	r->what[0] = r->where[0] = '\0';
	r->of_plugin = false;
}

/* "==12== text" */
static void read_line(struct reader *r, char *line)
{
	char *text = line;

	if (strncmp(line, MARK, strlen(MARK)) == 0) {
		finish_error(r);
		snprintf(r->callback, sizeof r->callback, "%s", line + strlen(MARK));
		return;
	}
	if (strncmp(line, "==", 2) != 0 || !(text = strstr(line + 2, "== ")))
		return;
	text += 3;
	const char *frame = text + strspn(text, " ");
	if (strncmp(frame, "at 0x", 5) == 0 || strncmp(frame, "by 0x", 5) == 0) {
		const char *name = strchr(frame, ':');
		const bool is_plugin = name && (strstr(name, r->file) || !strstr(name, "vg_"));
		r->of_plugin |= is_plugin;
		if (!*r->where && name && strchr(name, '('))
			snprintf(r->where, sizeof r->where, "in%.120s", name + 1);
		return;
	}
	if (*text == ' ' && *frame)
		return; /* about an address */
	finish_error(r);
	const bool is_leak = strstr(text, "definitely lost in loss record") != NULL;
	if (is_leak || strstr(text, "nvalid ") || strstr(text, "ninitialised") ||
	    strstr(text, "overlap in") || strstr(text, "Mismatched free") ||
	    strstr(text, "Jump to the invalid")) {
		r->rule = is_leak ? RULE_VALGRIND_LEAK : RULE_VALGRIND_ERROR;
		snprintf(r->what, sizeof r->what, "%.150s", text);
	}
}

static int read_log(int fd, const char *file)
{
	const char *slash = strrchr(file, '/');
	struct reader r = {.file = slash ? slash + 1 : file};
	FILE *f = fdopen(fd, "r");
	char *line = NULL;
	size_t size = 0;
	ssize_t n;

	if (!f) {
		close(fd);
		return -ENOMEM;
	}
	rewind(f);
	while ((n = getline(&line, &size, f)) > 0) {
		line[n - 1] = line[n - 1] == '\n' ? '\0' : line[n - 1];
		read_line(&r, line);
	}
	finish_error(&r);
	free(line);
	fclose(f);
	return 0;
}

/* In the child: the program again, under valgrind. */
_Noreturn static void exec_valgrind(char **argv, int log)
{
	char program[4096], log_fd[32], mark_fd[32];
	char *args[FRAMES];
	size_t n = 0;
	ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);

	program[len > 0 ? len : 0] = '\0';
	snprintf(log_fd, sizeof log_fd, "--log-fd=%d", log);
	snprintf(mark_fd, sizeof mark_fd, "--" WATCHED_OPTION "=%d", log);
	char *const own[] = {(char *)"valgrind",
			     (char *)"-q",
			     (char *)"--leak-check=full",
			     (char *)"--show-leak-kinds=definite",
			     log_fd,
			     program,
			     mark_fd};
	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
		args[n++] = own[i];
	for (size_t i = 1; argv[i] && n + 1 < FRAMES; i++)
		args[n++] = argv[i];
	args[n] = NULL;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execvp(args[0], args);
	_exit(127);
}

int watched_by_valgrind(char **argv, const char *file)
{
	int log = memfd_create("valgrind", 0), status = 0;
	const pid_t pid = log < 0 ? -1 : fork();

	if (pid < 0)
		return -errno;
	if (pid == 0)
		exec_valgrind(argv, log);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
		fputs("semstreams plugins check: there is no valgrind to run; install it, or leave out "
		      "--valgrind\n",
		      stderr);
		close(log);
		return -EINVAL;
	}
	return read_log(log, file);
}
