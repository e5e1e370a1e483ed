/* SPDX-License-Identifier: MIT */
#include "segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>

enum { BLOCK = 65536 };

static int explain(char why[WHY_MAX], const char *what, int rc)
{
	snprintf(why, WHY_MAX, "%s: %s", what, strerror(-rc));
	return rc;
}

static int cut(int fd, off_t size)
{
	int rc;
	do
		rc = ftruncate(fd, size);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

/* ---- repair ---- */

/* Where the last line that is not finished begins: size if all are.  -EFBIG: further back than max_tail. */
static off_t find_tail(int fd, off_t size, uint64_t max_tail, uint8_t *block)
{
	off_t end = size;
	while (end > 0) {
		off_t at = end > BLOCK ? end - BLOCK : 0;
		ssize_t n = ss_pread_all(fd, block, (size_t)(end - at), at);
		if (n != end - at)
			return n < 0 ? n : -EIO;
		const uint8_t *nl = memrchr(block, '\n', (size_t)n);
		if (nl)
			return at + (nl - block) + 1;
		if ((uint64_t)(size - at) > max_tail)
			return -EFBIG;
		end = at;
	}
	return 0;
}

/* Append [from, to) of fd to name + ".torn", durably. */
static int save_tail(const struct segment *s, const struct path *p, off_t from, off_t to, uint8_t *block,
		     char why[WHY_MAX])
{
	char name[REL_MAX];
	bool created;
	snprintf(name, sizeof name, "%s.torn", path_base(s->rel));
	int fd = path_open_file(p, s->dirfd, name, 0600, &created, why);
	if (fd < 0) {
		char inner[WHY_MAX / 2];
		snprintf(inner, sizeof inner, "%.127s", why);
		snprintf(why, WHY_MAX, "its unfinished last line cannot be moved to a .torn file, which %s",
			 inner);
		return fd;
	}
	off_t old = lseek(fd, 0, SEEK_END);
	int rc = old < 0 ? -errno : 0;
	for (off_t at = from; rc == 0 && at < to;) {
		ssize_t n = ss_pread_all(s->fd, block, (size_t)(to - at < BLOCK ? to - at : BLOCK), at);
		rc = n > 0 ? ss_write_all(fd, block, (size_t)n) : n < 0 ? (int)n : -EIO;
		at += n > 0 ? n : 0;
	}
	if (rc == 0)
		rc = ss_write_all(fd, "\n", 1);
	if (rc == 0 && (fdatasync(fd) < 0 || fsync(s->dirfd) < 0))
		rc = -errno;
	if (rc < 0) {
		explain(why, "its unfinished last line cannot be moved to a .torn file", rc);
		if (old >= 0)
			(void)cut(fd, old); /* a retry will add it again */
	}
	close(fd);
	return rc;
}

static int repair(struct segment *s, const struct path *p, off_t size, uint64_t max_tail, uint64_t *torn,
		  char why[WHY_MAX])
{
	uint8_t *block = malloc(BLOCK);
	if (!block)
		return explain(why, "cannot be checked", -ENOMEM);
	off_t tail = find_tail(s->fd, size, max_tail, block);
	int rc = tail < 0 ? (int)tail : 0;
	if (rc == -EFBIG)
		snprintf(why, WHY_MAX,
			 "ends with more than %llu bytes without a line end, so semstreams did not write it: "
			 "move it "
			 "away",
			 (unsigned long long)max_tail);
	else if (rc < 0)
		explain(why, "cannot be read", rc);
	else if (tail < size)
		rc = save_tail(s, p, tail, size, block, why);
	free(block);
	if (rc < 0)
		return rc;
	if (tail < size) {
		rc = cut(s->fd, tail);
		if (rc == 0 && fdatasync(s->fd) < 0)
			rc = -errno;
		if (rc < 0)
			return explain(why, "its unfinished last line cannot be truncated", rc);
	}
	*torn = (uint64_t)(size - tail);
	s->size = s->synced = s->stored = (uint64_t)tail;
	return 0;
}

/* ---- life ---- */

/* 0: the file system does not know. */
static uint64_t birth_ns(int fd)
{
	struct statx st;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &st) == 0 && (st.stx_mask & STATX_BTIME) &&
	    st.stx_btime.tv_sec > 0)
		return (uint64_t)st.stx_btime.tv_sec * 1000000000U + st.stx_btime.tv_nsec;
	return 0;
}

static uint64_t wall_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

int segment_open(struct segment **out, const struct path *p, const char *rel, mode_t mode, uint64_t max_tail,
		 uint64_t *torn, char why[WHY_MAX])
{
	struct stat st;
	struct segment *s = malloc(sizeof *s);
	if (!s)
		return explain(why, "cannot be opened", -ENOMEM);
	*s = (struct segment){.fd = -1, .dirfd = -1, .cut_to = -1, .entry_dirty = true};
	*torn = 0;
	int rc = -ENOMEM;
	s->rel = strdup(rel);
	const char *slash = strcmp(p->prefix, "/") == 0 ? "" : "/";
	if (!s->rel || asprintf(&s->path, "%s%s%s", p->prefix, slash, rel) < 0) {
		s->path = NULL;
		explain(why, "cannot be opened", rc);
		goto out;
	}
	rc = s->dirfd = path_open_dir(p, rel, true, why);
	if (rc < 0)
		goto out;
	rc = s->fd = path_open_file(p, s->dirfd, path_base(rel), mode, &s->created, why);
	if (rc < 0)
		goto out;
	s->born_ns = birth_ns(s->fd);
	s->opened_ns = s->born_ns ? s->born_ns : wall_ns();
	rc = fstat(s->fd, &st) < 0 ? -errno : 0;
	if (rc < 0)
		explain(why, "cannot be examined", rc);
	else
		rc = repair(s, p, st.st_size, max_tail, torn, why);
	s->inode = rc < 0 ? 0 : st.st_ino;
out:
	if (rc < 0) {
		segment_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

static int cut_open(int fd, uint64_t inode, uint64_t born_ns, uint64_t length, uint64_t *by)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_ino != inode || birth_ns(fd) != born_ns)
		return -ENOENT;
	if ((uint64_t)st.st_size < length)
		return -ERANGE;
	*by = (uint64_t)st.st_size - length;
	if (*by == 0)
		return 0;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return -EWOULDBLOCK;
	int rc = cut(fd, (off_t)length);
	return rc == 0 && fdatasync(fd) < 0 ? -errno : rc;
}

static int cut_name(int dirfd, const char *name, uint64_t inode, uint64_t born_ns, uint64_t length,
		    uint64_t *by)
{
	int fd = path_open_at(dirfd, name, O_RDWR | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return fd;
	int rc = cut_open(fd, inode, born_ns, length, by);
	close(fd);
	return rc;
}

/* Under what name did somebody put the file?  One that begins as it did. */
static int find_moved(int dirfd, const char *base, uint64_t inode, char name[REL_MAX])
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	int rc = -ENOENT;
	if (!dir) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	for (const struct dirent *e; rc < 0 && (e = readdir(dir));) {
		if (e->d_ino != inode || strncmp(e->d_name, base, strlen(base)) != 0)
			continue;
		snprintf(name, REL_MAX, "%s", e->d_name);
		rc = 0;
	}
	closedir(dir);
	return rc;
}

int segment_cut_closed(const struct path *p, const char *rel, uint64_t inode, uint64_t born_ns,
		       uint64_t length, uint64_t *by, char why[WHY_MAX])
{
	*by = 0;
	int dirfd = path_open_dir(p, rel, false, why);
	if (dirfd < 0)
		return dirfd;
	char moved[REL_MAX];
	int rc = cut_name(dirfd, path_base(rel), inode, born_ns, length, by);
	if (rc == -ENOENT && find_moved(dirfd, path_base(rel), inode, moved) == 0)
		rc = cut_name(dirfd, moved, inode, born_ns, length, by);
	close(dirfd);
	if (rc == -EWOULDBLOCK)
		snprintf(why, WHY_MAX, "is in use by another component or process");
	else if (rc < 0)
		explain(why, "cannot be truncated to its committed length", rc);
	return rc;
}

void segment_free(struct segment *s)
{
	if (!s)
		return;
	if (s->fd >= 0) {
		if (s->cut_to >= 0)
			(void)cut(s->fd, s->cut_to); /* else the next start repairs it */
		close(s->fd);
	}
	if (s->dirfd >= 0)
		close(s->dirfd);
	free(s->rel);
	free(s->path);
	free(s);
}

/* ---- writing ---- */

/* Write it all; -errno, with the bytes that went out anyway in *done. */
static int write_vector(int fd, struct iovec *iov, unsigned n, size_t *done)
{
	unsigned at = 0;
	size_t skip = 0; /* bytes of iov[at] that are out */
	while (at < n) {
		struct iovec whole = iov[at];
		iov[at].iov_base = (char *)whole.iov_base + skip;
		iov[at].iov_len = whole.iov_len - skip;
		ssize_t put = writev(fd, iov + at, n - at < IOV_MAX ? (int)(n - at) : IOV_MAX);
		int err = errno;
		iov[at] = whole; /* the vector stays as it was, for another try */
		if (put < 0 && err == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -err : -EIO;
		*done += (size_t)put;
		skip += (size_t)put;
		while (at < n && skip >= iov[at].iov_len)
			skip -= iov[at++].iov_len;
	}
	return 0;
}

int segment_write(struct segment *s, struct iovec *iov, unsigned n, size_t total)
{
	if (s->cut_to >= 0) {
		int rc = cut(s->fd, s->cut_to);
		if (rc < 0)
			return rc;
		s->cut_to = -1;
	}
	size_t done = 0;
	int rc = write_vector(s->fd, iov, n, &done);
	if (rc == 0) {
		s->size += total;
		return 0;
	}
	/* never half a line that later ones would be glued to; what we just appended is the end of the file
	 */
	struct stat st;
	if (done && fstat(s->fd, &st) == 0 && st.st_size >= (off_t)done) {
		off_t whole = st.st_size - (off_t)done;
		if (cut(s->fd, whole) < 0)
			s->cut_to = whole;
	}
	return rc;
}

void segment_take_back(struct segment *s, size_t total)
{
	struct stat st;

	s->size -= total;
	/* others may have cut it meanwhile */
	if (fstat(s->fd, &st) == 0 && st.st_size >= (off_t)total && cut(s->fd, st.st_size - (off_t)total) < 0)
		s->cut_to = st.st_size - (off_t)total;
}

int segment_cut_unsynced(const struct path *p, struct segment *s)
{
	char why[WHY_MAX];
	uint64_t by;
	int rc = segment_is_asleep(s)
			 ? segment_cut_closed(p, s->rel, s->inode, s->born_ns, s->synced, &by, why)
			 : cut(s->fd, (off_t)s->synced);
	if (rc < 0)
		return rc;
	s->size = s->stored = s->synced;
	s->cut_to = -1;
	return 0;
}

int segment_wake(struct segment *s, const struct path *p, char why[WHY_MAX])
{
	struct stat st;
	bool created;

	int rc = s->dirfd = path_open_dir(p, s->rel, false, why);
	if (rc >= 0)
		rc = s->fd = path_open_file(p, s->dirfd, path_base(s->rel), 0600, &created, why);
	if (rc >= 0)
		rc = fstat(s->fd, &st) < 0 ? -errno : 0;
	if (rc == 0 && (st.st_ino != s->inode || birth_ns(s->fd) != s->born_ns))
		rc = -ESTALE;
	if (rc == -ESTALE && created)
		unlinkat(s->dirfd, path_base(s->rel), 0);
	if (rc == -ESTALE || rc == -ENOENT)
		rc = explain(why, "was moved away while it was written to", -ESTALE);
	if (rc < 0) {
		if (s->fd >= 0)
			close(s->fd);
		if (s->dirfd >= 0)
			close(s->dirfd);
		s->fd = s->dirfd = -1;
	}
	return rc;
}

int segment_stamp(struct segment *s, time_t when)
{
	char name[REL_MAX];
	int rc = path_stamp(s->dirfd, path_base(s->rel), when, name);
	if (rc == 0)
		s->entry_dirty = true;
	return rc;
}

bool segment_moved(const struct segment *s)
{
	struct stat a, b;
	if (fstat(s->fd, &a) < 0)
		return false;
	if (stat(s->path, &b) < 0)
		return errno == ENOENT || errno == ENOTDIR;
	return a.st_dev != b.st_dev || a.st_ino != b.st_ino;
}

bool segment_resized(struct segment *s)
{
	struct stat st;
	if (s->cut_to >= 0 || fstat(s->fd, &st) < 0 || (uint64_t)st.st_size == s->size)
		return false;
	s->size = (uint64_t)st.st_size;
	if (s->synced > s->size)
		s->synced = s->size;
	return true;
}
