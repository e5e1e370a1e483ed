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
#include <sys/stat.h>
#include <unistd.h>
#include "link_proto.h"

#define MAGIC    "SSSTATE1"
#define FILE_MAX (UINT64_C(8) << 30)
#define HEADER   24 /* magic, length, checksum of what follows */

struct checkpoint {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	char *path, *folder, *temporary;
	struct text *job; /* under the lock; NULL: none */
	bool running, ended, quit;
	int rc;
	const char *why;
	void (*done)(void *arg);
	void *arg;
};

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

static int write_file(struct checkpoint *c, const struct text *t)
{
	struct text header = {0};
	int fd = open(c->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	c->why = "open";
	if (fd < 0)
		return -errno;
	text_bytes(&header, MAGIC, 8);
	text_u64(&header, t->len);
	text_u64(&header, link_crc32c(0, t->bytes, t->len));
	c->why = "write";
	int rc = header.failed ? -ENOMEM : write_all(fd, header.bytes, header.len);
	text_done(&header);
	if (rc == 0)
		rc = write_all(fd, t->bytes, t->len);
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	return rc;
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

static int run_job(struct checkpoint *c, const struct text *t)
{
	int rc = write_file(c, t);

	if (rc < 0) {
		unlink(c->temporary);
		return rc;
	}
	c->why = "rename";
	if (rename(c->temporary, c->path) < 0)
		return -errno;
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
	pthread_setname_np(c->thread, "check-point");
	c->running = true;
	return 0;
}

int checkpoint_new(const char *path, void (*done)(void *arg), void *arg, struct checkpoint **out)
{
	struct checkpoint *c = calloc(1, sizeof *c);
	char *copy = strdup(path);
	int rc = -ENOMEM;

	if (!c || !copy)
		goto out;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wanted, NULL);
	c->done = done;
	c->arg = arg;
	c->path = strdup(path);
	c->folder = strdup(dirname(copy));
	if (asprintf(&c->temporary, "%s.new", path) < 0)
		c->temporary = NULL;
	if (c->path && c->folder && c->temporary)
		rc = start(c);
out:
	free(copy);
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
	pthread_cond_destroy(&c->wanted);
	pthread_mutex_destroy(&c->lock);
	free(c->path);
	free(c->folder);
	free(c->temporary);
	free(c);
}

void checkpoint_write(struct checkpoint *c, struct text *t)
{
	pthread_mutex_lock(&c->lock);
	c->job = t;
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
	if (rc == 0 && link_crc32c(0, all, size) != sum)
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
