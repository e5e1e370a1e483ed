/* SPDX-License-Identifier: MIT */
#include "core/torture/watched.h"

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

/* What valgrind writes as XML, a line for each element, from line to line. */
struct reader {
	char callback[LEDGER_CALLBACK];
	const char *file; /* the plugin's */
	bool is_leak, is_known, of_plugin;
	char what[160], function[80], where[160];
};

/* The text of the element that stands on the line; false: it is another one. */
static bool element(const char *line, const char *name, char *out, size_t size)
{
	const size_t n = strlen(name);
	const char *at = strchr(line, '<'), *end;

	if (!at || strncmp(at + 1, name, n) != 0 || at[n + 1] != '>')
		return false;
	at += n + 2;
	end = strchr(at, '<');
	snprintf(out, size, "%.*s", end ? (int)(end - at) : (int)strlen(at), at);
	return true;
}

static void finish_error(struct reader *r)
{
	if (r->is_known && r->of_plugin)
		ledger_add(r->is_leak ? RULE_VALGRIND_LEAK : RULE_VALGRIND_ERROR,
			   r->is_leak ? "destroy" : r->callback, "%s, in %s%s", r->what,
			   *r->function ? r->function : "a function without a name", r->where);
}

static void begin_error(struct reader *r)
{
	r->is_leak = r->is_known = r->of_plugin = false;
	r->what[0] = r->function[0] = r->where[0] = '\0';
}

/* The first frame in the plugin is where it happened. */
static void read_frame(struct reader *r, const char *line)
{
	char text[256];

	if (r->of_plugin && *r->where)
		return;
	if (element(line, "obj", text, sizeof text))
		r->of_plugin |= strcmp(text, r->file) == 0;
	else if (r->of_plugin && element(line, "fn", text, sizeof text))
		snprintf(r->function, sizeof r->function, "%.70s()", text);
	else if (r->of_plugin && element(line, "file", text, sizeof text))
		snprintf(r->where, sizeof r->where, ", %.100s", text);
	else if (strstr(line, "<frame>") && r->of_plugin)
		snprintf(r->where, sizeof r->where, " ");
}

static void read_line(struct reader *r, const char *line)
{
	const size_t used = strlen(r->where);
	char text[128];

	if (strncmp(line, MARK, strlen(MARK)) == 0)
		snprintf(r->callback, sizeof r->callback, "%s", line + strlen(MARK));
	else if (strstr(line, "<error>"))
		begin_error(r);
	else if (strstr(line, "</error>"))
		finish_error(r);
	else if (element(line, "kind", text, sizeof text)) {
		r->is_leak = strcmp(text, "Leak_DefinitelyLost") == 0;
		r->is_known = r->is_leak || strncmp(text, "Leak_", 5) != 0;
	} else if (!*r->what && (element(line, "what", r->what, sizeof r->what) ||
				 element(line, "text", r->what, sizeof r->what)))
		;
	else if (element(line, "line", text, sizeof text) && used > 1 && !strchr(r->where, ':'))
		snprintf(r->where + used, sizeof r->where - used, ":%s", text);
	else
		read_frame(r, line);
}

static int read_log(int fd, const char *file)
{
	struct reader r = {.file = file};
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
	snprintf(log_fd, sizeof log_fd, "--xml-fd=%d", log);
	snprintf(mark_fd, sizeof mark_fd, "--" WATCHED_OPTION "=%d", log);
	char *const own[] = {(char *)"valgrind",
			     (char *)"-q",
			     (char *)"--xml=yes",
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
	const int nowhere = open("/dev/null", O_WRONLY);
	dup2(nowhere, STDOUT_FILENO);
	dup2(nowhere, STDERR_FILENO);
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
