/* SPDX-License-Identifier: MIT */
#include "ledger.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/base/crc32c.h>
#include <semstreams/base/file_atomic.h>

/* A frame: length of its entries, number of the ledger, checksum of both and the entries; then the entries.
 */
enum { HEAD = 4 + 8 + 4, ENTRY_ADD = 1, ENTRY_SET = 2, ENTRY_GONE = 3 };
enum { SIZE_MIN = 65536, ENTRY_SIZE = 128 }; /* bytes below which none is renewed; of a file at about */

/* `.out.files.7`, below the prefix. */
static void ledger_name(const char *id, uint64_t generation, char name[256])
{
	snprintf(name, 256, ".%.200s.files.%llu", id, (unsigned long long)generation);
}

void ledger_close(struct ledger *l)
{
	if (l->fd >= 0)
		close(l->fd);
	if (l->dirfd >= 0)
		close(l->dirfd);
	ss_strbuf_done(&l->frame);
	ss_strbuf_done(&l->gone);
	ledger_init(l, l->path, l->id);
}

/* ---- frames ---- */

bool ledger_begin(struct ledger *l)
{
	static const uint8_t head[HEAD];

	ss_strbuf_clear(&l->frame);
	ss_strbuf_add(&l->frame, head, HEAD);
	l->renewing = l->renew || l->gone.failed || l->end > SIZE_MIN + UINT64_C(4) * ENTRY_SIZE * l->files;
	if (l->renewing)
		l->numbers = l->files = 0;
	else
		ss_strbuf_add(&l->frame, l->gone.bytes, l->gone.len);
	ss_strbuf_clear(&l->gone);
	return l->renewing;
}

void ledger_add(struct ledger *l, struct segment *seg, uint64_t length)
{
	seg->number = ++l->numbers;
	l->files++;
	ss_strbuf_u32(&l->frame, ENTRY_ADD);
	ss_strbuf_u32(&l->frame, seg->number);
	ss_strbuf_u64(&l->frame, length);
	ss_strbuf_u64(&l->frame, seg->inode);
	ss_strbuf_u64(&l->frame, seg->born_ns);
	ss_strbuf_u32(&l->frame, (uint32_t)strlen(seg->rel));
	ss_strbuf_text(&l->frame, seg->rel);
}

void ledger_set(struct ledger *l, const struct segment *seg, uint64_t length)
{
	ss_strbuf_u32(&l->frame, ENTRY_SET);
	ss_strbuf_u32(&l->frame, seg->number);
	ss_strbuf_u64(&l->frame, length);
}

void ledger_forget(struct ledger *l, struct segment *seg)
{
	if (!seg->number)
		return;
	/* without memory it stays in there until the next ledger: all of it is committed, so nothing is cut
	 */
	ss_strbuf_u32(&l->gone, ENTRY_GONE);
	ss_strbuf_u32(&l->gone, seg->number);
	l->files--;
	seg->number = 0;
	seg->recorded = false;
}

static uint32_t checksum(const uint8_t *frame, size_t len)
{
	return ss_crc32c(ss_crc32c(0, frame, HEAD - 4), frame + HEAD, len - HEAD);
}

static void put_u32(uint8_t *to, uint32_t u)
{
	for (int i = 0; i < 4; i++)
		to[i] = (uint8_t)(u >> 8 * i);
}

static int open_new(struct ledger *l)
{
	char name[256], why[WHY_MAX];

	if (l->dirfd < 0)
		l->dirfd = path_open_dir(l->path, "", true, why);
	if (l->dirfd < 0)
		return l->dirfd;
	if (l->fd >= 0)
		close(l->fd);
	ledger_name(l->id, l->generation + 1, name);
	unlinkat(l->dirfd, name, 0); /* of an attempt that failed */
	l->fd = path_open_at(l->dirfd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (l->fd < 0)
		return l->fd;
	/* taken now, so that a disk that fills up later does not stop commits; not every file system can */
	(void)fallocate(l->fd, FALLOC_FL_KEEP_SIZE, 0, SIZE_MIN + (off_t)l->frame.len);
	return 0;
}

int ledger_write(struct ledger *l)
{
	uint8_t *frame = (uint8_t *)l->frame.bytes;
	size_t len = l->frame.len;
	uint64_t generation = ledger_frame_generation(l);

	if (l->frame.failed)
		return -ENOMEM;
	int rc = l->renewing ? open_new(l) : 0;
	if (rc < 0)
		return rc;
	put_u32(frame, (uint32_t)(len - HEAD));
	put_u32(frame + 4, (uint32_t)generation);
	put_u32(frame + 8, (uint32_t)(generation >> 32));
	put_u32(frame + 12, checksum(frame, len));
	for (size_t at = 0; at < len;) {
		ssize_t n = pwrite(l->fd, frame + at, len - at, (off_t)((l->renewing ? 0 : l->end) + at));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += (size_t)n;
	}
	if (fdatasync(l->fd) < 0 || (l->renewing && fsync(l->dirfd) < 0))
		return -errno;
	return 0;
}

void ledger_end(struct ledger *l, bool counts)
{
	if (!counts) {
		/* the record may say that it counts, although nobody heard of it: it is not written over */
		l->generation += l->renewing;
		l->renew = true;
		return;
	}
	l->end = ledger_frame_end(l);
	l->generation = ledger_frame_generation(l);
	l->renew = false;
}

/* ---- reading ---- */

struct reader {
	struct ledger_file *files; /* by number, from 1 on; rel "" = gone */
	uint32_t n, room;
};

static struct ledger_file *file_at(struct reader *r, uint32_t number)
{
	return number > 0 && number <= r->n ? &r->files[number - 1] : NULL;
}

static int read_added(struct reader *r, uint32_t number, struct ss_unpack *u)
{
	if (number != r->n + 1)
		return -EBADMSG;
	if (r->n == r->room) {
		uint32_t room = r->room ? 2 * r->room : 64;
		struct ledger_file *more = realloc(r->files, room * sizeof *more);
		if (!more)
			return -ENOMEM;
		r->files = more;
		r->room = room;
	}
	struct ledger_file *f = &r->files[r->n];
	f->length = ss_unpack_u64(u);
	f->inode = ss_unpack_u64(u);
	f->born_ns = ss_unpack_u64(u);
	uint32_t len = ss_unpack_u32(u);
	const uint8_t *rel = ss_unpack_bytes(u, len);
	if (!rel || len == 0 || len >= sizeof f->rel || memchr(rel, '\0', len))
		return -EBADMSG;
	memcpy(f->rel, rel, len);
	f->rel[len] = '\0';
	r->n++;
	return 0;
}

static int read_frame(struct reader *r, struct ss_unpack *u)
{
	while (u->at < u->end) {
		uint32_t kind = ss_unpack_u32(u), number = ss_unpack_u32(u);
		struct ledger_file *f = file_at(r, number);
		if (kind == ENTRY_ADD) {
			int rc = read_added(r, number, u);
			if (rc < 0)
				return rc;
			continue;
		}
		if (!f || (kind != ENTRY_SET && kind != ENTRY_GONE))
			return -EBADMSG;
		if (kind == ENTRY_SET)
			f->length = ss_unpack_u64(u);
		else
			f->rel[0] = '\0';
	}
	return u->failed ? -EBADMSG : 0;
}

int ledger_decode(const uint8_t *bytes, size_t size, uint64_t generation,
		  int (*each)(void *arg, const struct ledger_file *), void *arg)
{
	struct ss_unpack all = {.at = bytes, .end = bytes + size};
	struct reader r = {0};
	int rc = 0;

	while (rc == 0 && all.at < all.end) {
		const uint8_t *frame = all.at;
		uint32_t len = ss_unpack_u32(&all);
		uint64_t number = ss_unpack_u64(&all);
		uint32_t sum = ss_unpack_u32(&all);
		const uint8_t *entries = ss_unpack_bytes(&all, len);
		if (!entries || number != generation || sum != checksum(frame, HEAD + (size_t)len)) {
			rc = -EBADMSG;
			break;
		}
		struct ss_unpack u = {.at = entries, .end = entries + len};
		rc = read_frame(&r, &u);
	}
	for (uint32_t i = 0; rc == 0 && i < r.n; i++)
		if (r.files[i].rel[0])
			rc = each(arg, &r.files[i]);
	free(r.files);
	return rc;
}

int ledger_read(const struct path *path, const char *id, uint64_t generation, uint64_t end,
		int (*each)(void *arg, const struct ledger_file *), void *arg)
{
	char name[256], why[WHY_MAX];

	ledger_name(id, generation, name);
	int dirfd = path_open_dir(path, "", false, why);
	if (dirfd < 0)
		return dirfd == -ENOENT ? -EBADMSG : dirfd;
	int fd = path_open_at(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	close(dirfd);
	if (fd < 0)
		return fd == -ENOENT ? -EBADMSG : fd;
	off_t size = lseek(fd, 0, SEEK_END);
	uint8_t *bytes = size < 0 || end > (uint64_t)size ? NULL : malloc(end + 1);
	int rc = size < 0 ? -errno : end > (uint64_t)size ? -EBADMSG : bytes ? 0 : -ENOMEM;
	if (rc == 0) {
		ssize_t n = ss_pread_all(fd, bytes, end, 0);
		rc = n < 0 ? (int)n : (uint64_t)n < end ? -EBADMSG : 0;
	}
	close(fd);
	if (rc == 0)
		rc = ledger_decode(bytes, end, generation, each, arg);
	free(bytes);
	return rc;
}

void ledger_sweep(const struct path *path, const char *id, uint64_t but)
{
	char begin[256], keep[256], why[WHY_MAX];
	int dirfd = path_open_dir(path, "", false, why);
	DIR *dir = dirfd < 0 ? NULL : fdopendir(dirfd);

	if (!dir) {
		if (dirfd >= 0)
			close(dirfd);
		return;
	}
	ledger_name(id, 0, begin);
	begin[strlen(begin) - 1] = '\0'; /* without its number */
	ledger_name(id, but, keep);
	for (const struct dirent *e; (e = readdir(dir));) {
		const char *number = e->d_name + strlen(begin);
		if (strncmp(e->d_name, begin, strlen(begin)) == 0 && strcmp(e->d_name, keep) != 0 &&
		    *number && number[strspn(number, "0123456789")] == '\0')
			unlinkat(dirfd, e->d_name, 0);
	}
	closedir(dir);
}
