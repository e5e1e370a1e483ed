/* SPDX-License-Identifier: MIT */
/* helper_crash - see helper_crash.h.  These take the place of the C library's functions. */
#include "helper_crash.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct world world = {.room = -1};

void world_reset(void)
{
	memset(&world, 0, sizeof world);
	world.room = -1;
}

void world_release(void)
{
	world.hold = 0;
}

time_t time(time_t *out)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += world.later;
	if (out)
		*out = ts.tv_sec;
	return ts.tv_sec;
}

static void step(void)
{
	if (++world.steps == world.die_at)
		kill(getpid(), SIGKILL);
}

enum what { DATA, RECORD, LEDGER };

static enum what what_is(int fd)
{
	char link[64], name[256];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, name, sizeof name - 1);
	name[n > 0 ? n : 0] = '\0';
	const char *base = strrchr(name, '/');
	if (!base || base[1] != '.')
		return DATA;
	return strstr(base, ".commit") ? RECORD : strstr(base, ".files.") ? LEDGER : DATA;
}

static bool take(_Atomic int *n)
{
	return *n > 0 && (*n)-- > 0;
}

int fdatasync(int fd)
{
	_Atomic int *const fails[] = {&world.fail_data, &world.fail_record, &world.fail_ledger};
	enum what what = what_is(fd);
	step();
	while (what == DATA && world.hold)
		poll(NULL, 0, 1);
	if (what != LEDGER)
		(*(what == RECORD ? &world.record_syncs : &world.data_syncs))++;
	if (take(fails[what])) {
		errno = EIO;
		return -1;
	}
	int rc = (int)syscall(SYS_fdatasync, fd);
	step();
	return rc;
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	step();
	struct stat st;
	if (world.room >= 0 && fstat(fd, &st) == 0 && at + (off_t)n > st.st_size) {
		errno = ENOSPC;
		return -1;
	}
	ssize_t rc = syscall(SYS_pwrite64, fd, p, n, at);
	step();
	return rc;
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	step();
	if (world.room == 0 || (world.fail_write && --world.fail_write <= 0)) {
		errno = ENOSPC;
		return -1;
	}
	ssize_t rc = syscall(SYS_writev, fd, iov, n);
	step();
	return rc;
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
	step();
	int rc = (int)syscall(SYS_renameat2, a, from, b, to, flags);
	step();
	return rc;
}

int ftruncate(int fd, off_t n)
{
	step();
	int rc = (int)syscall(SYS_ftruncate, fd, n);
	step();
	return rc;
}

int fsync(int fd)
{
	step();
	world.folder_syncs++;
	int rc = (int)syscall(SYS_fsync, fd);
	step();
	return rc;
}

struct ss_batch *batch(struct fixture *f, const char *source, uint8_t epoch, uint64_t first, uint32_t n)
{
	char texts[256][24];
	const char *text[256] = {0};
	need(n <= 256);
	for (uint32_t i = 0; i < n; i++) {
		snprintf(texts[i], sizeof texts[i], "%s%llu", source ? source : "plain",
			 (unsigned long long)(first + i));
		text[i] = texts[i];
	}
	struct ss_batch *b = ss_test_host_batch(&f->host, text, n);
	for (uint32_t i = 0; i < n; i++)
		b->events[i].seq = source ? first + i : 0;
	if (source) {
		const struct ss_position at = {.epoch = {epoch}, .seq = first + n - 1};
		ss_test_host_track(&f->host, b, source, &at);
	}
	return b;
}

int push(struct fixture *f, const char *source, uint64_t first, uint32_t n)
{
	return push_on(f, 0, batch(f, source, 1, first, n));
}

void crash_after(struct fixture *f, void (*scene)(struct fixture *))
{
	int status;
	fflush(NULL);
	pid_t pid = fork();
	need(pid >= 0);
	if (pid == 0) {
		alarm(600);
		scene(f);
		raise(SIGKILL);
	}
	need(waitpid(pid, &status, 0) == pid);
	need(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static int is_data(const struct dirent *e)
{
	return strncmp(e->d_name, "data", 4) == 0;
}

char *all_data(const struct fixture *f)
{
	struct dirent **names;
	char path[400], *buf = NULL;
	size_t size = 0;
	FILE *mem = open_memstream(&buf, &size);
	int n = scandir(f->dir, &names, is_data, alphasort);
	need(mem && n >= 0);
	for (int i = 0; i <= n; i++) {
		bool current = i < n && strcmp(names[i]->d_name, "data.jsonl") == 0;
		if (i < n && !current)
			snprintf(path, sizeof path, "%s/%s", f->dir, names[i]->d_name);
		else
			snprintf(path, sizeof path, "%s", f->path);
		char *text = current ? strdup("") : slurp(path, NULL);
		fputs(text, mem);
		free(text);
	}
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	fclose(mem);
	return buf;
}
