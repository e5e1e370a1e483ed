/* SPDX-License-Identifier: MIT */
/* helper_disk - see helper_disk.h.  These take the place of the C library's functions. */
#include "helper_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct world world = {.room = -1, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

void world_reset(void)
{
	world.now = 0;
	world.room = -1;
	world.write_errno = ENOSPC;
	world.failing_syncs = 0;
	world.lost_from = 0;
	world.hold_syncs = false;
	world.one_owner = false;
}

void world_release(void)
{
	hold_syncs(false);
}

time_t time(time_t *out)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	time_t now = world.now ? world.now : ts.tv_sec;
	if (out)
		*out = now;
	return now;
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	ssize_t total = 0;
	for (int i = 0; i < n; i++)
		total += (ssize_t)iov[i].iov_len;
	world.writes++;
	if (world.room < 0 || total <= world.room) {
		world.room -= world.room < 0 ? 0 : total;
		return syscall(SYS_writev, fd, iov, n);
	}
	if (world.room == 0) {
		errno = world.write_errno;
		return -1;
	}
	size_t part = iov[0].iov_len < (size_t)world.room ? iov[0].iov_len : (size_t)world.room;
	world.room -= (long)part;
	return syscall(SYS_write, fd, iov[0].iov_base, part);
}

/* Zeros from there to the end. */
static void lose(int fd, off_t from)
{
	char path[64];
	struct stat st;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int out = open(path, O_WRONLY | O_CLOEXEC); /* fd itself only appends */
	if (out < 0 || fstat(out, &st) < 0)
		abort();
	for (; from < st.st_size; from++)
		if (pwrite(out, "", 1, from) != 1)
			abort();
	close(out);
}

int fdatasync(int fd)
{
	pthread_mutex_lock(&world.lock);
	world.syncs++;
	world.syncs_waiting++;
	pthread_cond_broadcast(&world.changed);
	while (world.hold_syncs)
		pthread_cond_wait(&world.changed, &world.lock);
	world.syncs_waiting--;
	int err = world.failing_syncs > 0 ? world.sync_errno : 0;
	world.failing_syncs -= err != 0;
	pthread_mutex_unlock(&world.lock);
	if (err) {
		lose(fd, world.lost_from);
		errno = err;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

int fchmod(int fd, mode_t mode)
{
	if (world.one_owner) {
		errno = EPERM;
		return -1;
	}
	return (int)syscall(SYS_fchmod, fd, mode);
}

int futimens(int fd, const struct timespec times[2])
{
	if (world.one_owner) {
		errno = EPERM;
		return -1;
	}
	return (int)syscall(SYS_utimensat, fd, NULL, times, 0);
}

void hold_syncs(bool hold)
{
	pthread_mutex_lock(&world.lock);
	world.hold_syncs = hold;
	pthread_cond_broadcast(&world.changed);
	pthread_mutex_unlock(&world.lock);
}

void await_held_sync(void)
{
	pthread_mutex_lock(&world.lock);
	while (!world.syncs_waiting)
		pthread_cond_wait(&world.changed, &world.lock);
	pthread_mutex_unlock(&world.lock);
}

int push_batch(struct fixture *f, struct ss_batch *b)
{
	return push_on(f, 0, b);
}

int push(struct fixture *f, const char *text)
{
	return push_batch(f, ss_test_host_batch(&f->host, &text, 1));
}

int push_long(struct fixture *f, char c, size_t n, size_t break_every)
{
	char *text = malloc(n + 1);
	memset(text, c, n);
	for (size_t i = break_every; break_every && i < n; i += break_every)
		text[i] = '\n';
	text[n] = '\0';
	int rc = push(f, text);
	free(text);
	return rc;
}
