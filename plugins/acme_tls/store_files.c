/* SPDX-License-Identifier: MIT */
/*
 * store_files - files that are complete or absent: written beside, synced, renamed.  Names are taken relative
 * to an open folder and links in the last part are never followed for writing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "store_impl.h"

int store_fail(char *why, size_t why_size, int error, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(why, why_size, fmt, ap);
	va_end(ap);
	return error;
}

int store_fail_at(const struct store *s, const char *doing, const char *name, char *why, size_t why_size,
		  int error)
{
	switch (error) {
	case -EPERM:
		return store_fail(why, why_size, -EINVAL,
				  "%s/%s must not be open to anybody but its owner, who must be the user "
				  "this runs as: run "
				  "chmod 600 on it and, if others could read it, replace the key",
				  s->path, name);
	case -EINVAL:
		return store_fail(why, why_size, error, "%s/%s is not a text file", s->path, name);
	case -EFBIG:
		return store_fail(why, why_size, -EINVAL, "%s/%s is larger than %u KiB", s->path, name,
				  STORE_FILE_MAX >> 10);
	}
	return store_fail(why, why_size, error, "%s %s/%s: %s", doing, s->path, name, strerror(-error));
}

/* ---- reading ---- */

/* Whose folder it is may have files there, too: root looks after the storage of others. */
static bool is_ours(int dir, const struct stat *file)
{
	struct stat folder;
	return file->st_uid == geteuid() || file->st_uid == 0 ||
	       (fstat(dir, &folder) == 0 && folder.st_uid == file->st_uid);
}

static int read_whole(int dir, int fd, bool secret, char **text, size_t *len)
{
	struct stat st;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (secret && ((st.st_mode & 077) || !is_ours(dir, &st)))
		return -EPERM;
	if (st.st_size > (off_t)STORE_FILE_MAX)
		return -EFBIG;
	/* one more than it should have: a file that grows meanwhile is noticed */
	size_t room = (size_t)st.st_size + 1, have = 0;
	char *buf = malloc(room);
	if (!buf)
		return -ENOMEM;
	while (have < room) {
		ssize_t n = read(fd, buf + have, room - have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	if (have == room || memchr(buf, 0, have)) {
		explicit_bzero(buf, room);
		free(buf);
		return -EINVAL;
	}
	buf[have] = '\0';
	*text = buf;
	*len = have;
	return 0;
}

int store_read(int dir, const char *name, bool secret, char **text, size_t *len)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	int rc = read_whole(dir, fd, secret, text, len);
	close(fd);
	return rc;
}

/* ---- writing ---- */

int store_sync(int dir)
{
	/* some file systems cannot sync a folder and say so */
	return fsync(dir) && errno != EINVAL && errno != EROFS ? -errno : 0;
}

int store_remove(int dir, const char *name)
{
	return unlinkat(dir, name, 0) && errno != ENOENT ? -errno : 0;
}

void store_own(int dir, int fd)
{
	struct stat folder;
	/* where it cannot be done, as in a user namespace, nobody but root is there to mind */
	if (geteuid() == 0 && fstat(dir, &folder) == 0 && folder.st_uid != 0 &&
	    fchown(fd, folder.st_uid, folder.st_gid)) {
		/* as it is */
	}
}

static int write_all(int fd, const char *text)
{
	size_t len = strlen(text);
	while (len > 0) {
		ssize_t n = write(fd, text, len);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

int store_write_new(int dir, const char *name, const char *text, mode_t mode)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	store_own(dir, fd);
	int rc = write_all(fd, text);
	if (rc == 0 && fsync(fd))
		rc = -errno;
	if (close(fd) && rc == 0)
		rc = -errno;
	return rc;
}

/* The name beside, for what is not complete yet.  Whoever writes has the lock, so it is nobody else's. */
static int beside(const char *name, char *out, size_t size)
{
	return snprintf(out, size, ".%s.new", name) < (int)size ? 0 : -ENAMETOOLONG;
}

static int put(int dir, const char *new, const char *name, int rc)
{
	if (rc == 0 && renameat(dir, new, dir, name))
		rc = -errno;
	if (rc == 0)
		return store_sync(dir);
	unlinkat(dir, new, 0);
	return rc;
}

int store_write(int dir, const char *name, const char *text)
{
	char new[64];
	int rc = beside(name, new, sizeof new);
	if (rc == 0)
		rc = store_remove(dir, new);
	if (rc)
		return rc;
	return put(dir, new, name, store_write_new(dir, new, text, 0600));
}

int store_link(int dir, const char *target, const char *name)
{
	char new[64];
	int rc = beside(name, new, sizeof new);
	if (rc == 0)
		rc = store_remove(dir, new);
	if (rc)
		return rc;
	return put(dir, new, name, symlinkat(target, dir, new) ? -errno : 0);
}

/* ---- stamps ---- */

struct store_stamp store_stamp(const struct store *s, const char *name)
{
	struct stat st;
	if (fstatat(s->dir, name, &st, 0))
		return (struct store_stamp){0};
	return (struct store_stamp){.dev = st.st_dev,
				    .ino = st.st_ino,
				    .size = st.st_size,
				    .modified = st.st_mtim,
				    .changed = st.st_ctim};
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool store_same_stamp(const struct store_stamp *a, const struct store_stamp *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       same_time(a->modified, b->modified) && same_time(a->changed, b->changed);
}
