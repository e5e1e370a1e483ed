/* SPDX-License-Identifier: MIT */
/*
 * power_cut - a disk that forgets, for a program it is preloaded into: what the program writes below
 * POWER_ROOT goes to its files at once, and what would undo it to the file POWER_TRACE, until a sync of that
 * file or folder is told there as well.  When the power is cut, link_faults.py undoes a part of what was not
 * synced. POWER_BOOT stands for the boot_id of the machine, POWER_SYNC_US is what a sync takes at most.
 *
 * Entries of the trace: struct entry, then len bytes.  Files are known by their inodes, names by the
 * folder's; what a rename or unlink removes stays as POWER_TRACE.<n>.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
	WRITE = 'W',
	RESIZE = 'T',
	SYNC = 'S',
	CREATE = 'C',
	RENAME = 'R',
	UNLINK = 'U',
	LINK = 'L',
	FDS = 4096
};

struct entry {
	uint32_t kind, len;
	uint64_t inode; /* of the file, or of the folder */
	uint64_t at;    /* WRITE: offset; RESIZE: new size; SYNC: where in the trace it began; RENAME, UNLINK:
			   number of    what was removed, 0 = nothing was */
	uint64_t n;     /* WRITE: bytes written */
	uint64_t size;  /* WRITE, RESIZE: of the file before */
}; /* payload: WRITE: what was there (may be shorter: the file was); RESIZE: what was cut off;
      names: one or two, each with a NUL */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int trace = -1;
static unsigned long removed;
static atomic_char tracked[FDS];

#define REAL(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

static void put(struct entry *e, const void *payload)
{
	struct iovec iov[2] = {{e, sizeof *e}, {(void *)payload, e->len}};

	if (REAL(writev, trace, iov, 2) != (ssize_t)(sizeof *e + e->len))
		_exit(99);
}

/* The folder of a name, as an inode; full gets the path.  0: it is none of ours. */
static uint64_t folder_of(int dirfd, const char *name, char full[PATH_MAX])
{
	const char *root = getenv("POWER_ROOT");
	char link[64], dir[PATH_MAX] = "";
	struct stat st;

	if (*name == '/') {
		snprintf(full, PATH_MAX, "%s", name);
	} else {
		snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
		ssize_t n = readlink(dirfd == AT_FDCWD ? "/proc/self/cwd" : link, dir, sizeof dir - 1);
		if (n < 0)
			return 0;
		dir[n] = '\0';
		if (snprintf(full, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
			return 0;
	}
	if (!root || trace < 0 || strncmp(full, root, strlen(root)) != 0)
		return 0;
	snprintf(dir, sizeof dir, "%s", full);
	*strrchr(dir, '/') = '\0';
	return stat(dir, &st) == 0 ? st.st_ino : 0;
}

__attribute__((constructor)) static void begin(void)
{
	char name[PATH_MAX];
	const char *path = getenv("POWER_TRACE");

	if (!path)
		return;
	trace = REAL(open, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (trace < 0)
		_exit(98);
	do
		snprintf(name, sizeof name, "%s.%lu", path, ++removed);
	while (access(name, F_OK) == 0);
}

/* Keep what full is before it goes; its number. */
static uint64_t keep(const char *full)
{
	char name[PATH_MAX];
	struct stat st;

	if (lstat(full, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	snprintf(name, sizeof name, "%s.%lu", getenv("POWER_TRACE"), removed);
	if (REAL(linkat, AT_FDCWD, full, AT_FDCWD, name, 0) < 0)
		_exit(97);
	return removed++;
}

/* ---- opening ---- */

typedef int opener(int dirfd, const char *name, int flags, mode_t mode, const void *more);

static int open_it(int dirfd, const char *name, int flags, mode_t mode, opener *how, const void *more)
{
	char full[PATH_MAX];
	struct stat st;

	if (strcmp(name, "/proc/sys/kernel/random/boot_id") == 0 && getenv("POWER_BOOT"))
		return REAL(openat, AT_FDCWD, getenv("POWER_BOOT"), flags, mode);
	uint64_t folder = folder_of(dirfd, name, full);
	if (!folder) {
		int fd = how(dirfd, name, flags, mode, more);
		if (fd >= 0 && fd < FDS)
			tracked[fd] = 0;
		return fd;
	}
	pthread_mutex_lock(&lock);
	bool new = flags &O_CREAT &&lstat(full, &st) < 0;
	if (flags & O_TRUNC && !new)
		_exit(96); /* nothing undoes it */
	if (new) {
		struct entry e = {.kind = CREATE, .inode = folder, .len = (uint32_t)strlen(full) + 1};
		put(&e, full);
	}
	int fd = how(dirfd, name, flags, mode, more), err = errno;
	if (fd >= 0 && fd < FDS)
		tracked[fd] = 1;
	pthread_mutex_unlock(&lock);
	errno = err;
	return fd;
}

static int by_openat(int dirfd, const char *name, int flags, mode_t mode, const void *more)
{
	(void)more;
	return REAL(openat, dirfd, name, flags, mode);
}

static int by_openat2(int dirfd, const char *name, int flags, mode_t mode, const void *more)
{
	(void)flags;
	(void)mode;
	return (int)REAL(syscall, SYS_openat2, dirfd, name, more, sizeof(struct open_how));
}

long syscall(long number, ...)
{
	long arg[6];
	va_list ap;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		arg[i] = va_arg(ap, long);
	va_end(ap);
	if (number != SYS_openat2)
		return REAL(syscall, number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	const struct open_how *how = (const struct open_how *)arg[2];
	return open_it((int)arg[0], (const char *)arg[1], (int)how->flags, (mode_t)how->mode, by_openat2,
		       how);
}

static mode_t mode_of(int flags, va_list ap)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

int openat(int dirfd, const char *name, int flags, ...)
{
	va_list ap;

	va_start(ap, flags);
	mode_t mode = mode_of(flags, ap);
	va_end(ap);
	return open_it(dirfd, name, flags, mode, by_openat, NULL);
}

int open(const char *name, int flags, ...)
{
	va_list ap;

	va_start(ap, flags);
	mode_t mode = mode_of(flags, ap);
	va_end(ap);
	return open_it(AT_FDCWD, name, flags, mode, by_openat, NULL);
}

int __open_2(const char *name, int flags)
{
	return open_it(AT_FDCWD, name, flags, 0, by_openat, NULL);
}

int __openat_2(int dirfd, const char *name, int flags)
{
	return open_it(dirfd, name, flags, 0, by_openat, NULL);
}

/* ---- writing ---- */

/* Is it a file of ours?  Then its size and inode. */
static bool is_ours(int fd, struct stat *st)
{
	return trace >= 0 && fd >= 0 && fd < FDS && tracked[fd] && fstat(fd, st) == 0 && S_ISREG(st->st_mode);
}

/* What is in [at, at + n) is about to be another; lock held. */
static void note_write(int fd, const struct stat *st, uint64_t at, uint64_t n)
{
	struct entry e = {
		.kind = WRITE, .inode = st->st_ino, .at = at, .n = n, .size = (uint64_t)st->st_size};
	char link[64];
	uint8_t *old = malloc(n + 1);

	/* it may be open for writing only */
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	int in = at < e.size ? REAL(open, link, O_RDONLY | O_CLOEXEC) : -1;
	while (in >= 0 && e.len < n) {
		ssize_t got = pread(in, old + e.len, n - e.len, (off_t)(at + e.len));
		if (got <= 0)
			break;
		e.len += (uint32_t)got;
	}
	if (in >= 0)
		close(in);
	put(&e, old);
	free(old);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
	struct stat st;

	if (!is_ours(fd, &st))
		return REAL(pwrite, fd, data, n, at);
	pthread_mutex_lock(&lock);
	fstat(fd, &st);
	note_write(fd, &st, (uint64_t)at, n);
	ssize_t rc = REAL(pwrite, fd, data, n, at);
	pthread_mutex_unlock(&lock);
	return rc;
}

static uint64_t place(int fd, const struct stat *st)
{
	return fcntl(fd, F_GETFL) & O_APPEND ? (uint64_t)st->st_size : (uint64_t)lseek(fd, 0, SEEK_CUR);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
	struct stat st;
	size_t n = 0;

	if (!is_ours(fd, &st))
		return REAL(writev, fd, iov, count);
	for (int i = 0; i < count; i++)
		n += iov[i].iov_len;
	pthread_mutex_lock(&lock);
	fstat(fd, &st);
	note_write(fd, &st, place(fd, &st), n);
	ssize_t rc = REAL(writev, fd, iov, count);
	pthread_mutex_unlock(&lock);
	return rc;
}

ssize_t write(int fd, const void *data, size_t n)
{
	struct iovec iov = {(void *)data, n};
	struct stat st;

	return is_ours(fd, &st) ? writev(fd, &iov, 1) : REAL(write, fd, data, n);
}

/* The file will be size bytes long; lock held. */
static void note_resize(int fd, uint64_t size)
{
	struct entry e = {.kind = RESIZE, .at = size};
	struct stat st;
	uint8_t *old = NULL;

	fstat(fd, &st);
	e.inode = st.st_ino;
	e.size = (uint64_t)st.st_size;
	if (size < e.size) {
		old = malloc(e.size - size);
		e.len = (uint32_t)(e.size - size);
		if (pread(fd, old, e.len, (off_t)size) != (ssize_t)e.len)
			_exit(95);
	}
	put(&e, old);
	free(old);
}

int ftruncate(int fd, off_t size)
{
	struct stat st;

	if (!is_ours(fd, &st))
		return REAL(ftruncate, fd, size);
	pthread_mutex_lock(&lock);
	note_resize(fd, (uint64_t)size);
	int rc = REAL(ftruncate, fd, size);
	pthread_mutex_unlock(&lock);
	return rc;
}

int posix_fallocate(int fd, off_t at, off_t n)
{
	struct stat st;

	if (!is_ours(fd, &st) || at + n <= st.st_size)
		return REAL(posix_fallocate, fd, at, n);
	pthread_mutex_lock(&lock);
	note_resize(fd, (uint64_t)(at + n));
	int rc = REAL(posix_fallocate, fd, at, n);
	pthread_mutex_unlock(&lock);
	return rc;
}

/* ---- names ---- */

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	char paths[2 * PATH_MAX], source[PATH_MAX];
	uint64_t folder = folder_of(to_dir, to, paths);

	if (!folder || !folder_of(from_dir, from, source))
		return REAL(renameat2, from_dir, from, to_dir, to, flags);
	pthread_mutex_lock(&lock);
	struct stat st;
	bool done = lstat(source, &st) == 0 && !(flags && lstat(paths, &st) == 0);
	struct entry e = {.kind = RENAME, .inode = folder};
	if (done) {
		size_t n = strlen(paths) + 1;
		strcpy(paths + n, source);
		e.len = (uint32_t)(n + strlen(source) + 1);
		e.at = keep(paths);
		put(&e, paths);
	}
	int rc = REAL(renameat2, from_dir, from, to_dir, to, flags);
	pthread_mutex_unlock(&lock);
	return rc;
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	return renameat2(from_dir, from, to_dir, to, 0);
}

int rename(const char *from, const char *to)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	char full[PATH_MAX];
	uint64_t folder = folder_of(to_dir, to, full);
	struct stat st;

	if (!folder || lstat(full, &st) == 0)
		return REAL(linkat, from_dir, from, to_dir, to, flags);
	pthread_mutex_lock(&lock);
	struct entry e = {.kind = LINK, .inode = folder, .len = (uint32_t)strlen(full) + 1};
	put(&e, full);
	int rc = REAL(linkat, from_dir, from, to_dir, to, flags);
	pthread_mutex_unlock(&lock);
	return rc;
}

int unlinkat(int dirfd, const char *name, int flags)
{
	char full[PATH_MAX];
	uint64_t folder = folder_of(dirfd, name, full);

	if (!folder)
		return REAL(unlinkat, dirfd, name, flags);
	pthread_mutex_lock(&lock);
	struct entry e = {.kind = UNLINK, .inode = folder, .len = (uint32_t)strlen(full) + 1};
	e.at = keep(full);
	if (e.at)
		put(&e, full);
	int rc = REAL(unlinkat, dirfd, name, flags);
	pthread_mutex_unlock(&lock);
	return rc;
}

int unlink(const char *name)
{
	return unlinkat(AT_FDCWD, name, 0);
}

/* ---- syncing ---- */

static int sync_it(int fd)
{
	const char *most = getenv("POWER_SYNC_US");
	struct entry e = {.kind = SYNC};
	struct timespec now;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -1;
	pthread_mutex_lock(&lock);
	e.at = (uint64_t)lseek(trace, 0, SEEK_END);
	pthread_mutex_unlock(&lock);
	clock_gettime(CLOCK_MONOTONIC, &now);
	long us = most ? atol(most) : 0;
	if (us > 0) {
		struct timespec t = {.tv_nsec = now.tv_nsec / 64 % us * 1000};
		nanosleep(&t, NULL); /* a disk takes its time, and that is when the power fails */
	}
	e.inode = st.st_ino;
	pthread_mutex_lock(&lock);
	put(&e, NULL);
	pthread_mutex_unlock(&lock);
	return 0;
}

int fdatasync(int fd)
{
	return trace >= 0 ? sync_it(fd) : REAL(fdatasync, fd);
}

int fsync(int fd)
{
	return trace >= 0 ? sync_it(fd) : REAL(fsync, fd);
}
