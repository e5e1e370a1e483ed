/* SPDX-License-Identifier: MIT */
/* checkpoint - see checkpoint.h. */
#include "checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/base/crc32c.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/job.h>

#define MAGIC       "SSSTATE2" /* the last byte is the version of the format */
#define MAGIC_LEN   8
#define FIRST_MAGIC "SSSTATE1" /* its checksum did not cover the magic */
#define FILE_MAX    (UINT64_C(8) << 30)
#define HEADER      24 /* magic, length of the content, checksum of magic and content */

struct checkpoint {
	struct ss_job *job;
	char *path;
	int fd;  /* the file as it is, locked; -1: there is none */
	int dir; /* its folder while next is open, else -1 */
	struct ss_file_new
		next; /* the file to come, locked: kept open from the start until the first write */
	const struct ss_strbuf *parts; /* of the write under way */
	int (*prepare)(void *arg);     /* NULL: nothing is to be done */
	void (*finish)(void *arg);
	void *around_arg;
	int rc;
	const char *step;
};

/* ---- files nobody else has ---- */

static int open_locked(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
		close(fd);
		return rc;
	}
	return fd;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int open_next(struct checkpoint *c)
{
	char temporary[sizeof c->next.temporary];
	const char *name;

	if (c->next.fd >= 0)
		return 0;
	c->dir = ss_open_folder_of(c->path, &name);
	if (c->dir < 0)
		return c->dir;
	int n = snprintf(temporary, sizeof temporary, "%s.new", name);
	return n >= (int)sizeof temporary
		       ? -ENAMETOOLONG
		       : ss_file_new_open(&c->next, c->dir, name, temporary, 0600, SS_FILE_LOCK);
}

/* ---- writing, in the job's thread ---- */

static int write_header(const struct checkpoint *c)
{
	struct ss_strbuf header = {0};
	uint64_t len = 0;
	uint32_t sum = ss_crc32c(0, MAGIC, MAGIC_LEN);

	for (int i = 0; i < CHECKPOINT_PARTS; i++) {
		len += c->parts[i].len;
		sum = ss_crc32c(sum, c->parts[i].bytes, c->parts[i].len);
	}
	ss_strbuf_add(&header, MAGIC, MAGIC_LEN);
	ss_strbuf_u64(&header, len);
	ss_strbuf_u64(&header, sum);
	int rc = header.failed ? -ENOMEM : ss_write_all(c->next.fd, header.bytes, header.len);
	ss_strbuf_done(&header);
	return rc;
}

static int write_next(struct checkpoint *c)
{
	c->step = "write the positions beside";
	int rc = c->prepare ? c->prepare(c->around_arg) : 0;
	if (rc < 0)
		return rc;
	c->step = "open";
	rc = open_next(c);
	if (rc < 0)
		return rc;
	c->step = "write";
	rc = write_header(c);
	for (int i = 0; i < CHECKPOINT_PARTS && rc == 0; i++)
		rc = ss_write_all(c->next.fd, c->parts[i].bytes, c->parts[i].len);
	if (rc < 0) { /* gives its space back; the next write begins anew */
		ss_file_new_abort(&c->next);
		return rc;
	}
	rc = ss_file_new_commit(&c->next, SS_FILE_KEEP_OPEN);
	c->step = c->next.step;
	return rc;
}

static void run(void *arg)
{
	struct checkpoint *c = arg;

	c->rc = write_next(c);
	if (c->rc == 0 && c->finish)
		c->finish(c->around_arg);
	/* after an error the file may be the new one: then the lock is not on it any more */
	int fd = c->rc == 0 ? c->next.fd : open_locked(c->path);
	if (fd >= 0) {
		close_fd(&c->fd);
		c->fd = fd;
	}
	c->next.fd = -1;
	close_fd(&c->dir);
}

void checkpoint_around(struct checkpoint *c, int (*prepare)(void *arg), void (*finish)(void *arg), void *arg)
{
	c->prepare = prepare;
	c->finish = finish;
	c->around_arg = arg;
}

void checkpoint_write(struct checkpoint *c, const struct ss_strbuf parts[CHECKPOINT_PARTS])
{
	c->parts = parts;
	ss_job_start(c->job, run, c);
}

bool checkpoint_take(struct checkpoint *c, bool wait, int *rc, const char **step)
{
	if (!(wait ? ss_job_wait(c->job) : ss_job_take(c->job)))
		return false;
	*rc = c->rc;
	*step = c->step;
	return true;
}

uint64_t checkpoint_running_ns(const struct checkpoint *c)
{
	return ss_job_running_ns(c->job);
}

/* ---- life ---- */

/* The file, if there is one, and the next one: so a file can be made there, and nobody else makes it. */
static int claim(struct checkpoint *c)
{
	c->fd = open_locked(c->path);
	if (c->fd < 0 && c->fd != -ENOENT)
		return c->fd;
	return open_next(c);
}

int checkpoint_new(const char *path, void (*done)(void *arg), void *arg, struct checkpoint **out)
{
	struct checkpoint *c = calloc(1, sizeof *c);

	if (!c)
		return -ENOMEM;
	*c = (struct checkpoint){.fd = -1, .dir = -1, .next.fd = -1, .path = strdup(path)};
	int rc = c->path ? claim(c) : -ENOMEM;
	if (rc == 0)
		rc = ss_job_new(&c->job, "checkpoint", done, arg);
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
	(void)ss_job_free(c->job);
	ss_file_new_abort(&c->next);
	close_fd(&c->dir);
	close_fd(&c->fd);
	free(c->path);
	free(c);
}

/* ---- reading ---- */

/* The bytes of an open file, malloced. */
static int read_file(int fd, uint8_t **out, uint64_t *size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < HEADER || (uint64_t)st.st_size > FILE_MAX)
		return -EINVAL;
	*size = (uint64_t)st.st_size;
	*out = malloc(*size);
	if (!*out)
		return -ENOMEM;
	ssize_t n = ss_pread_all(fd, *out, *size, 0);
	return n < 0 ? (int)n : (uint64_t)n < *size ? -EINVAL : 0;
}

static int check(const uint8_t *file, uint64_t size)
{
	struct ss_unpack header = {.at = file + MAGIC_LEN, .end = file + HEADER};
	uint64_t len = ss_unpack_u64(&header), sum = ss_unpack_u64(&header);
	uint32_t magic_sum = ss_crc32c(0, file, MAGIC_LEN);

	if (memcmp(file, MAGIC, MAGIC_LEN - 1) != 0)
		return -EINVAL;
	if (memcmp(file, FIRST_MAGIC, MAGIC_LEN) == 0)
		return -EPROTONOSUPPORT;
	if (len != size - HEADER || ss_crc32c(magic_sum, file + HEADER, len) != sum)
		return -EINVAL;
	return memcmp(file, MAGIC, MAGIC_LEN) == 0 ? 0 : -EPROTONOSUPPORT;
}

int checkpoint_read(const char *path, uint8_t **bytes, size_t *len)
{
	uint8_t *file = NULL;
	uint64_t size = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	int rc = read_file(fd, &file, &size);
	close(fd);
	if (rc == 0)
		rc = check(file, size);
	if (rc < 0) {
		free(file);
		return rc;
	}
	*len = size - HEADER;
	memmove(file, file + HEADER, *len);
	*bytes = file;
	return 0;
}
