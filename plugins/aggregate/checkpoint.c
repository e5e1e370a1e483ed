/* SPDX-License-Identifier: MIT */
/* checkpoint - see checkpoint.h. */
#include "checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/base/crc32c.h>

#define MAGIC    "SSSTATE1"
#define FILE_MAX (UINT64_C(8) << 30)
#define HEADER   24 /* magic, length, checksum of what follows */

struct checkpoint {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wanted, is_ended;
	char *path, *folder, *temporary;
	/* Locked: the file as it is, and the next one; -1: there is none.  The writer's while it has a job.
	 */
	int fd, next_fd;
	const struct text *job; /* under the lock; NULL: none */
	bool running, ended, quit;
	int rc;
	const char *why;
	void (*done)(void *arg);
	void *arg;
};

/* ---- files nobody else has ---- */

static int open_locked(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
		close(fd);
		return rc;
	}
	return fd;
}

static int open_next(struct checkpoint *c)
{
	if (c->next_fd < 0)
		c->next_fd = open_locked(c->temporary, O_RDWR | O_CREAT | O_NOFOLLOW);
	return c->next_fd < 0 ? c->next_fd : 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* ---- writing ---- */

static int write_all(int fd, const void *bytes, size_t len)
{
	const char *p = bytes;

	while (len) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int write_header(int fd, const struct text parts[CHECKPOINT_PARTS])
{
	struct text header = {0};
	uint64_t len = 0;
	uint32_t sum = 0;

	for (int i = 0; i < CHECKPOINT_PARTS; i++) {
		len += parts[i].len;
		sum = ss_crc32c(sum, parts[i].bytes, parts[i].len);
	}
	text_bytes(&header, MAGIC, 8);
	text_u64(&header, len);
	text_u64(&header, sum);
	int rc = header.failed ? -ENOMEM : write_all(fd, header.bytes, header.len);
	text_done(&header);
	return rc;
}

static int write_file(struct checkpoint *c, const struct text parts[CHECKPOINT_PARTS])
{
	int rc = open_next(c);

	c->why = "open";
	if (rc < 0)
		return rc;
	c->why = "write";
	if (ftruncate(c->next_fd, 0) < 0 || lseek(c->next_fd, 0, SEEK_SET) < 0)
		return -errno;
	rc = write_header(c->next_fd, parts);
	for (int i = 0; i < CHECKPOINT_PARTS && rc == 0; i++)
		rc = write_all(c->next_fd, parts[i].bytes, parts[i].len);
	c->why = rc == 0 ? "sync" : c->why;
	return rc == 0 && fsync(c->next_fd) < 0 ? -errno : rc;
}

static int sync_folder(const char *folder)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	int rc = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

static int run_job(struct checkpoint *c, const struct text parts[CHECKPOINT_PARTS])
{
	int rc = write_file(c, parts);

	if (rc == 0) {
		c->why = "rename";
		rc = rename(c->temporary, c->path) < 0 ? -errno : 0;
	}
	if (rc < 0) { /* begun anew next time: its room is given back */
		if (c->next_fd >= 0)
			unlink(c->temporary);
		close_fd(&c->next_fd);
		return rc;
	}
	close_fd(&c->fd);
	c->fd = c->next_fd;
	c->next_fd = -1;
	c->why = "sync the folder of";
	return sync_folder(c->folder);
}

static void *run(void *arg)
{
	struct checkpoint *c = arg;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		while (!c->quit && !(c->job && !c->ended))
			pthread_cond_wait(&c->wanted, &c->lock);
		if (!c->job || c->ended)
			break;
		pthread_mutex_unlock(&c->lock);
		int rc = run_job(c, c->job); /* nobody else looks at it meanwhile */
		pthread_mutex_lock(&c->lock);
		c->rc = rc;
		c->ended = true;
		pthread_cond_signal(&c->is_ended);
		pthread_mutex_unlock(&c->lock);
		c->done(c->arg);
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* ---- its life ---- */

static int start(struct checkpoint *c)
{
	sigset_t all, old;

	sigfillset(&all); /* signals are the host's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&c->thread, NULL, run, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return -rc;
	pthread_setname_np(c->thread, "checkpoint");
	c->running = true;
	return 0;
}

/* The file, if there is one, and the next: then there can be files like that. */
static int claim(struct checkpoint *c)
{
	c->fd = open_locked(c->path, O_RDONLY);
	if (c->fd < 0 && c->fd != -ENOENT)
		return c->fd;
	return open_next(c);
}

int checkpoint_new(const char *path, void (*done)(void *arg), void *arg, struct checkpoint **out)
{
	struct checkpoint *c = calloc(1, sizeof *c);
	int rc = -ENOMEM;

	if (!c)
		return -ENOMEM;
	*c = (struct checkpoint){.fd = -1, .next_fd = -1, .done = done, .arg = arg};
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wanted, NULL);
	pthread_cond_init(&c->is_ended, NULL);
	char *copy = strdup(path);
	c->path = strdup(path);
	c->folder = copy ? strdup(dirname(copy)) : NULL;
	free(copy);
	if (asprintf(&c->temporary, "%s.new", path) < 0)
		c->temporary = NULL;
	if (c->path && c->folder && c->temporary)
		rc = claim(c);
	if (rc == 0)
		rc = start(c);
	if (rc < 0)
		checkpoint_free(c);
	else
		*out = c;
	return rc;
}

void checkpoint_free(struct checkpoint *c)
{
	if (!c)
		return;
	if (c->running) {
		pthread_mutex_lock(&c->lock);
		c->quit = true;
		pthread_cond_signal(&c->wanted);
		pthread_mutex_unlock(&c->lock);
		pthread_join(c->thread, NULL);
	}
	if (c->next_fd >= 0)
		unlink(c->temporary);
	close_fd(&c->next_fd);
	close_fd(&c->fd);
	pthread_cond_destroy(&c->is_ended);
	pthread_cond_destroy(&c->wanted);
	pthread_mutex_destroy(&c->lock);
	free(c->path);
	free(c->folder);
	free(c->temporary);
	free(c);
}

void checkpoint_write(struct checkpoint *c, const struct text parts[CHECKPOINT_PARTS])
{
	pthread_mutex_lock(&c->lock);
	c->job = parts;
	c->ended = false;
	pthread_cond_signal(&c->wanted);
	pthread_mutex_unlock(&c->lock);
}

bool checkpoint_taken(struct checkpoint *c, int *rc, const char **why)
{
	pthread_mutex_lock(&c->lock);
	bool ended = c->job && c->ended;
	if (ended) {
		*rc = c->rc;
		*why = c->why;
		c->job = NULL;
		c->ended = false;
	}
	pthread_mutex_unlock(&c->lock);
	return ended;
}

void checkpoint_wait(struct checkpoint *c)
{
	pthread_mutex_lock(&c->lock);
	while (c->job && !c->ended)
		pthread_cond_wait(&c->is_ended, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

/* ---- reading ---- */

static int read_all(int fd, uint8_t *to, size_t len)
{
	while (len) {
		ssize_t n = read(fd, to, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EINVAL;
		to += n;
		len -= (size_t)n;
	}
	return 0;
}

int checkpoint_read(const char *path, uint8_t **bytes, size_t *len)
{
	uint8_t header[HEADER];
	struct reading r = {.at = header + 8, .end = header + HEADER};
	struct stat st;
	uint8_t *all = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	int rc = fstat(fd, &st) < 0 ? -errno : 0;
	if (rc == 0 &&
	    (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < HEADER || (uint64_t)st.st_size > FILE_MAX))
		rc = -EINVAL;
	if (rc == 0)
		rc = read_all(fd, header, HEADER);
	uint64_t size = rc == 0 ? reading_u64(&r) : 0, sum = rc == 0 ? reading_u64(&r) : 0;
	if (rc == 0 && (memcmp(header, MAGIC, 8) != 0 || size != (uint64_t)st.st_size - HEADER))
		rc = -EINVAL;
	if (rc == 0 && !(all = malloc(size + 1)))
		rc = -ENOMEM;
	if (rc == 0)
		rc = read_all(fd, all, size);
	if (rc == 0 && ss_crc32c(0, all, size) != sum)
		rc = -EINVAL;
	close(fd);
	if (rc < 0) {
		free(all);
		return rc;
	}
	*bytes = all;
	*len = size;
	return 0;
}
