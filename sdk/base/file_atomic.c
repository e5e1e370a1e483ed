/* SPDX-License-Identifier: MIT */
#include <semstreams/base/file_atomic.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- whole reads and writes ---- */

bool ss_file_is_private(const struct stat *st)
{
	bool given = st->st_uid == 0 && (st->st_mode & 077) == 040;

	return (st->st_mode & 077) == 0 || (given && (geteuid() != 0 || (st->st_mode & 0200) == 0));
}

int ss_write_all(int fd, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len) {
		ssize_t n = write(fd, at, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int ss_pwrite_all(int fd, const void *bytes, size_t len, off_t at)
{
	const char *from = bytes;

	while (len) {
		ssize_t n = pwrite(fd, from, len, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		from += n;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

ssize_t ss_pread_all(int fd, void *bytes, size_t len, off_t at)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(fd, (char *)bytes + got, len - got, at + (off_t)got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

/* ---- folders ---- */

static int read_all(int fd, size_t max, char **bytes, size_t *len, struct stat *st)
{
	if (fstat(fd, st))
		return -errno;
	if (!S_ISREG(st->st_mode))
		return S_ISDIR(st->st_mode) ? -EISDIR : -EINVAL;
	if (st->st_size < 0 || (uint64_t)st->st_size > max)
		return -EFBIG;
	/* one byte more than there should be tells a file that grew; size 0 may be a file of /proc */
	size_t room = st->st_size ? (size_t)st->st_size : max;
	char *buf = malloc(room + 1);
	ssize_t n = buf ? ss_pread_all(fd, buf, room + 1, 0) : -ENOMEM;
	if (n >= 0 && (size_t)n <= room) {
		buf[n] = '\0';
		*bytes = buf;
		*len = (size_t)n;
		return 0;
	}
	if (buf)
		explicit_bzero(buf, room + 1);
	free(buf);
	return n < 0 ? (int)n : st->st_size ? -EAGAIN : -EFBIG;
}

int ss_file_read(int dir, const char *name, size_t max, char **bytes, size_t *len, struct stat *st)
{
	struct stat ours;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	int rc = read_all(fd, max, bytes, len, st ? st : &ours);
	close(fd);
	return rc;
}

int ss_sync_folder(int dir)
{
	/* some file systems cannot sync a folder and say so */
	return fsync(dir) < 0 && errno != EINVAL && errno != EROFS ? -errno : 0;
}

int ss_open_folder_of(const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	char folder[PATH_MAX] = ".";

	*name = slash ? slash + 1 : path;
	if (slash) {
		size_t len = slash == path ? 1 : (size_t)(slash - path);
		if (len >= sizeof folder)
			return -ENAMETOOLONG;
		memcpy(folder, path, len);
		folder[len] = '\0';
	}
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int ss_rename_new(int from_dir, const char *from, int to_dir, const char *to)
{
	if (renameat2(from_dir, from, to_dir, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (linkat(from_dir, from, to_dir, to, 0) < 0)
		return -errno;
	return unlinkat(from_dir, from, 0) < 0 ? -errno : 0;
}

/* ---- new files ---- */

static int set_names(struct ss_file_new *f, int dir, const char *name, const char *temporary)
{
	int n, m;

	*f = (struct ss_file_new){.dir = dir, .fd = -1, .step = "open"};
	n = snprintf(f->name, sizeof f->name, "%s", name);
	m = temporary ? snprintf(f->temporary, sizeof f->temporary, "%s", temporary)
		      : snprintf(f->temporary, sizeof f->temporary, ".%s.new", name);
	return n >= (int)sizeof f->name || m >= (int)sizeof f->temporary ? -ENAMETOOLONG : 0;
}

static void close_file(struct ss_file_new *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

/* The file may be another process's: it is not removed, but locked and emptied. */
static int open_locked(struct ss_file_new *f, mode_t mode)
{
	f->fd = openat(f->dir, f->temporary, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, mode);
	if (f->fd < 0)
		return -errno;
	f->step = "lock";
	int rc = flock(f->fd, LOCK_EX | LOCK_NB) < 0 ? -errno : ftruncate(f->fd, 0) < 0 ? -errno : 0;
	if (rc < 0)
		close_file(f);
	return rc == -EWOULDBLOCK ? -EBUSY : rc;
}

int ss_file_new_open(struct ss_file_new *f, int dir, const char *name, const char *temporary, mode_t mode,
		     unsigned flags)
{
	int rc = set_names(f, dir, name, temporary);

	if (rc < 0)
		return rc;
	if (flags & SS_FILE_LOCK)
		return open_locked(f, mode);
	if (unlinkat(dir, f->temporary, 0) < 0 && errno != ENOENT)
		return -errno;
	f->fd = openat(dir, f->temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	return f->fd < 0 ? -errno : 0;
}

/* Give the temporary file or link its name. */
static int put(struct ss_file_new *f, unsigned flags)
{
	int rc;

	f->step = "rename";
	if (flags & SS_FILE_NEVER_REPLACE)
		rc = ss_rename_new(f->dir, f->temporary, f->dir, f->name);
	else
		rc = renameat(f->dir, f->temporary, f->dir, f->name) < 0 ? -errno : 0;
	if (rc < 0) {
		unlinkat(f->dir, f->temporary, 0);
		return rc;
	}
	f->step = "sync the folder of";
	return ss_sync_folder(f->dir);
}

int ss_file_new_commit(struct ss_file_new *f, unsigned flags)
{
	f->step = "sync";
	if (fsync(f->fd) < 0) {
		int rc = -errno;
		ss_file_new_abort(f);
		return rc;
	}
	int rc = put(f, flags);
	if (rc < 0 || !(flags & SS_FILE_KEEP_OPEN))
		close_file(f);
	return rc;
}

void ss_file_new_abort(struct ss_file_new *f)
{
	if (f->fd < 0)
		return;
	unlinkat(f->dir, f->temporary, 0);
	close_file(f);
}

int ss_file_write(int dir, const char *name, const void *bytes, size_t len, mode_t mode)
{
	struct ss_file_new f;
	int rc = ss_file_new_open(&f, dir, name, NULL, mode, 0);

	if (rc < 0)
		return rc;
	rc = ss_write_all(f.fd, bytes, len);
	if (rc == 0)
		return ss_file_new_commit(&f, 0);
	ss_file_new_abort(&f);
	return rc;
}

int ss_link_write(int dir, const char *target, const char *name)
{
	struct ss_file_new f;
	int rc = set_names(&f, dir, name, NULL);

	if (rc == 0 && unlinkat(dir, f.temporary, 0) < 0 && errno != ENOENT)
		rc = -errno;
	if (rc == 0 && symlinkat(target, dir, f.temporary) < 0)
		rc = -errno;
	return rc < 0 ? rc : put(&f, 0);
}
