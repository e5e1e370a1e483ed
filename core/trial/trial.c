/* SPDX-License-Identifier: MIT */
#include "core/trial/trial.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/strbuf.h>
#include "core/admin/log.h"
#include "core/cli/cli.h"
#include "core/flow/batch.h"
#include "core/flow/crash.h"
#include "core/trial/judge.h"
#include "core/trial/set_clock.h"
#include "core/trial/stage.h"

enum { PATIENCE_S = 60, MS = 1000000, LOG_SHOWN = 8192, FILE_MAX = 64 << 20 };

struct run {
	const struct script *script;
	const struct script_case *of;
	struct stage *stage;
	size_t *watches; /* by step */
	bool stopped;
	struct ss_strbuf *text;
};

/* ---- steps, in the process of the case ---- */

static void tell_place(struct run *r, const struct step *step)
{
	ss_strbuf_printf(r->text, "  %s:%u:%u: ", r->script->doc->file, step->node->place.line,
			 step->node->place.column);
}

static bool tell_why(struct run *r, const struct step *step)
{
	tell_place(r, step);
	ss_strbuf_printf(r->text, "%s\n", stage_why(r->stage));
	return false;
}

static bool send_all(struct run *r, const struct step *step)
{
	for (size_t i = 0; i < step->n_items; i++) {
		struct ss_message m = {.struct_size = sizeof m, .address = step->from, .peer = step->peer};
		char *bytes = script_bytes(step, i, &m.len);
		if (!bytes)
			return false;
		m.data = (const uint8_t *)bytes;
		int rc = stage_send(r->stage, step->target, &m);
		free(bytes);
		if (rc < 0)
			return tell_why(r, step);
	}
	return true;
}

static bool stop(struct run *r, const struct step *step)
{
	if (r->stopped)
		return true;
	r->stopped = true;
	return stage_end(r->stage) == 0 || tell_why(r, step);
}

/* All events at that point that no expectation has had yet. */
struct taken {
	struct seen *seen;
	size_t n;
	bool no_memory;
};

static void take(struct run *r, size_t watch, struct taken *t)
{
	const struct ss_batch *b;

	while ((b = stage_take(r->stage, watch))) {
		struct seen *grown = reallocarray(t->seen, t->n + b->count, sizeof *grown);
		t->no_memory |= !grown && b->count;
		if (!grown)
			return;
		t->seen = grown;
		for (uint32_t i = 0; i < b->count; i++)
			t->seen[t->n++] = (struct seen){.bytes = (const char *)b->events[i].data,
							.len = b->events[i].len,
							.attributes = ss_attributes_of(b, &b->events[i]),
							.time_ns = b->events[i].time_ns};
	}
}

static bool tell_difference(struct run *r, const struct step *step, const char *what,
			    struct ss_strbuf *difference)
{
	tell_place(r, step);
	ss_strbuf_printf(r->text, "%s %s\n", what, step->target);
	ss_strbuf_add(r->text, difference->bytes, difference->len);
	return false;
}

/* What other threads have to do with it, a checkpoint say, gets a second of real time. */
static bool expect(struct run *r, const struct step *step, size_t watch)
{
	const uint64_t until = set_clock_real() + 1000 * (uint64_t)MS;
	struct ss_strbuf difference = {0};
	struct taken t = {0};
	bool same = true;

	stage_settle(r->stage, 0);
	take(r, watch, &t);
	while (t.n < step->n_items && set_clock_real() < until) {
		stage_settle(r->stage, 5);
		take(r, watch, &t);
	}
	if (t.no_memory || !judge(step, t.seen, t.n, &difference))
		same = tell_difference(r, step, "events of", &difference);
	ss_strbuf_done(&difference);
	free(t.seen);
	return same;
}

static struct seen *lines_of(const char *bytes, size_t len, size_t *n)
{
	struct seen *lines = NULL;

	*n = 0;
	for (const char *at = bytes, *end = bytes + len; at < end;) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		struct seen *grown = reallocarray(lines, *n + 1, sizeof *lines);
		if (!grown)
			break;
		lines = grown;
		stop = stop ? stop : end;
		lines[(*n)++] = (struct seen){.bytes = at, .len = (size_t)(stop - at)};
		at = stop + 1;
	}
	return lines;
}

static bool compare_file(struct run *r, const struct step *step)
{
	struct ss_strbuf difference = {0};
	char *bytes = NULL;
	size_t len = 0, n;
	struct stat st;

	if (!stop(r, step))
		return false;
	int rc = ss_file_read(AT_FDCWD, step->target, FILE_MAX, &bytes, &len, &st);
	if (rc < 0 && rc != -ENOENT) {
		tell_place(r, step);
		ss_strbuf_printf(r->text, "cannot read file %s: %s\n", step->target, strerror(-rc));
		return false;
	}
	struct seen *lines = lines_of(bytes ? bytes : "", len, &n);
	bool same =
		judge(step, lines, n, &difference) || tell_difference(r, step, "lines of file", &difference);
	ss_strbuf_done(&difference);
	free(lines);
	free(bytes);
	return same;
}

static bool carry_out(struct run *r, size_t i)
{
	const struct step *step = &r->of->steps[i];

	if (r->stopped && (step->kind == STEP_SEND || step->kind == STEP_WAIT)) {
		tell_place(r, step);
		ss_strbuf_text(r->text, "the pipeline was stopped before, by \"stop\" or \"file\"\n");
		return false;
	}
	switch (step->kind) {
	case STEP_SEND:
		return send_all(r, step);
	case STEP_WAIT:
		return stage_advance(r->stage, step->ns) == 0 || tell_why(r, step);
	case STEP_EXPECT:
		return expect(r, step, r->watches[i]);
	case STEP_FILE:
		return compare_file(r, step);
	default:
		return stop(r, step);
	}
}

/* Steps that look at one point share a watch, so that each has what came since the last. */
static bool place_watches(struct run *r)
{
	for (size_t i = 0; i < r->of->n_steps; i++) {
		const struct step *step = &r->of->steps[i];
		size_t k = 0;
		if (step->kind != STEP_EXPECT)
			continue;
		while (k < i && (r->of->steps[k].kind != STEP_EXPECT ||
				 strcmp(r->of->steps[k].target, step->target) != 0))
			k++;
		if (k < i)
			r->watches[i] = r->watches[k];
		else if (stage_watch(r->stage, step->target, &r->watches[i]) < 0)
			return tell_why(r, step);
	}
	return true;
}

static void tell_diag(struct ss_strbuf *text, const struct diag *diag)
{
	char *printed = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&printed, &len);

	if (!f)
		return;
	diag_print(diag, f);
	fclose(f);
	ss_strbuf_text(text, printed);
	free(printed);
}

/* Exit code: 0 passed, 1 failed, EXIT_CONFIG. */
static int run_case(struct run *r, struct config *config)
{
	struct diag diag;

	diag_init(&diag);
	if (stage_open(config, &diag, &r->stage) < 0) {
		tell_diag(r->text, &diag);
		return EXIT_CONFIG;
	}
	r->watches = calloc(r->of->n_steps + 1, sizeof *r->watches);
	if (!r->watches || !place_watches(r))
		return 1;
	if (stage_start(r->stage) < 0) {
		ss_strbuf_printf(r->text, "  %s\n", stage_why(r->stage));
		return 1;
	}
	for (size_t i = 0; i < r->of->n_steps; i++)
		if (!carry_out(r, i))
			return 1;
	return 0;
}

struct room {
	char folder[PATH_MAX];
	int text, log; /* what the case says: memory that outlives it */
};

/* Ends the process; what it holds goes with it. */
static _Noreturn void be_the_case(struct config *config, const struct script *script,
				  const struct script_case *of, const struct room *room)
{
	struct ss_strbuf text = {0};
	struct run r = {.script = script, .of = of, .text = &text};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	bool ready = dup2(room->log, STDERR_FILENO) >= 0 && chdir(room->folder) == 0;
	log_setup(config->log_level, false);
	crash_watch(false);
	set_clock_stop(of->at_ns);
	int code = ready ? run_case(&r, config) : 1;
	log_flush();
	ss_write_all(room->text, text.bytes, text.len);
	_exit(code);
}

/* ---- in the process that goes on ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static int open_room(struct room *room)
{
	const char *tmp = getenv("TMPDIR");

	*room = (struct room){.text = memfd_create("case", MFD_CLOEXEC),
			      .log = memfd_create("log", MFD_CLOEXEC)};
	snprintf(room->folder, sizeof room->folder, "%s/semstreams-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (room->text < 0 || room->log < 0 || !mkdtemp(room->folder))
		return -errno;
	return 0;
}

static void close_room(struct room *room)
{
	const int deep = 32;

	if (room->text >= 0)
		close(room->text);
	if (room->log >= 0)
		close(room->log);
	nftw(room->folder, remove_one, deep, FTW_DEPTH | FTW_PHYS);
}

static void add_file(struct ss_strbuf *to, int fd, const char *head)
{
	off_t size = lseek(fd, 0, SEEK_END);
	size_t shown = size > LOG_SHOWN && head ? LOG_SHOWN : (size_t)(size > 0 ? size : 0);
	char *at = shown ? ss_strbuf_room(to, shown + 64) : NULL;

	if (!at)
		return;
	if (head)
		ss_strbuf_text(to, head);
	at = ss_strbuf_room(to, shown);
	ssize_t n = at ? ss_pread_all(fd, at, shown, size - (off_t)shown) : 0;
	to->len += n > 0 ? (size_t)n : 0;
}

/* 0: it ended; -ETIMEDOUT. */
static int await(pid_t pid, int *status)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0), rc = 0;
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (fd >= 0 && poll(&p, 1, PATIENCE_S * 1000) == 0) {
		kill(pid, SIGKILL);
		rc = -ETIMEDOUT;
	}
	if (fd >= 0)
		close(fd);
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		;
	return rc;
}

static void tell_end(struct ss_strbuf *text, int rc, int status)
{
	if (rc < 0)
		ss_strbuf_printf(text, "  the case did not end within %d s\n", PATIENCE_S);
	else if (WIFSIGNALED(status))
		ss_strbuf_printf(text, "  the process of the case was ended by SIG%s\n",
				 sigabbrev_np(WTERMSIG(status)));
}

int trial_run(struct config *config, const struct script *script, const struct script_case *of,
	      struct trial_result *out)
{
	const uint64_t began = set_clock_real();
	struct ss_strbuf text = {0};
	struct room room;
	int status = 0;

	*out = (struct trial_result){0};
	int rc = open_room(&room);
	if (rc < 0)
		return rc;
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		be_the_case(config, script, of, &room);
	if (pid < 0) {
		rc = -errno;
	} else {
		rc = await(pid, &status);
		int code = rc == 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
		out->passed = code == 0;
		out->bad_config = code == EXIT_CONFIG;
		add_file(&text, room.text, NULL);
		tell_end(&text, rc, status);
		if (!out->passed && !out->bad_config)
			add_file(&text, room.log, "  log:\n");
		rc = 0;
	}
	close_room(&room);
	out->took_ns = set_clock_real() - began;
	out->text = ss_strbuf_take(&text);
	return rc;
}
