/* SPDX-License-Identifier: MIT */
#include "commit.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * A slot: magic, length of all (with the checksum), number, cuts, inode, born, length of the file, its name,
 * the streams, CRC-32C.  Numbers are little-endian; strings have their length in front.
 */
enum { SLOT = 65536, BLOCK = 4096 };
static const char MAGIC[8] = "ssrec\0\0\1";

/* ---- slots ---- */

static uint32_t crc32c(const uint8_t *p, size_t n)
{
	uint32_t crc = ~0u;
	while (n--) {
		crc ^= *p++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

struct writer {
	uint8_t *at;
};

static void put_bytes(struct writer *w, const void *p, size_t n)
{
	memcpy(w->at, p, n);
	w->at += n;
}

static void put_u32(struct writer *w, uint32_t v)
{
	v = htole32(v);
	put_bytes(w, &v, sizeof v);
}

static void put_u64(struct writer *w, uint64_t v)
{
	v = htole64(v);
	put_bytes(w, &v, sizeof v);
}

static void put_text(struct writer *w, const char *text)
{
	put_u32(w, (uint32_t)strlen(text));
	put_bytes(w, text, strlen(text));
}

/* Reads nothing beyond end: then it fails for good. */
struct reader {
	const uint8_t *at, *end;
	bool failed;
};

static void get_bytes(struct reader *r, void *p, size_t n)
{
	if (r->failed || (size_t)(r->end - r->at) < n) {
		r->failed = true;
		memset(p, 0, n);
		return;
	}
	memcpy(p, r->at, n);
	r->at += n;
}

static uint32_t get_u32(struct reader *r)
{
	uint32_t v;
	get_bytes(r, &v, sizeof v);
	return le32toh(v);
}

static uint64_t get_u64(struct reader *r)
{
	uint64_t v;
	get_bytes(r, &v, sizeof v);
	return le64toh(v);
}

static void get_text(struct reader *r, char *text, size_t size)
{
	uint32_t n = get_u32(r);
	r->failed |= n >= size;
	get_bytes(r, text, r->failed ? 0 : n);
	text[r->failed ? 0 : n] = '\0';
}

static size_t encode(const struct commit_record *rec, uint64_t number, const struct streams *streams,
		     uint8_t slot[SLOT])
{
	struct writer w = {slot};
	uint32_t n = 0;
	for (int i = 0; i < streams->n; i++)
		n += streams->all[i].syncing.seq > 0;
	put_bytes(&w, MAGIC, sizeof MAGIC);
	put_u32(&w, 0);
	put_u64(&w, number);
	put_u32(&w, rec->cuts);
	put_u64(&w, rec->inode);
	put_u64(&w, rec->born_ns);
	put_u64(&w, rec->length);
	put_text(&w, rec->rel);
	put_u32(&w, n);
	for (int i = 0; i < streams->n; i++) {
		const struct stream *st = &streams->all[i];
		if (st->syncing.seq == 0)
			continue;
		put_u32(&w, st->port);
		put_text(&w, st->source);
		put_bytes(&w, st->syncing.epoch, sizeof st->syncing.epoch);
		put_u64(&w, st->syncing.seq);
	}
	uint32_t all = (uint32_t)(w.at - slot) + 4;
	struct writer len = {slot + sizeof MAGIC};
	put_u32(&len, all);
	put_u32(&w, crc32c(slot, all - 4));
	return all;
}

static int decode_stream(struct reader *r, struct streams *streams)
{
	char source[SOURCE_MAX];
	struct ss_position at;
	uint32_t port = get_u32(r);
	get_text(r, source, sizeof source);
	get_bytes(r, at.epoch, sizeof at.epoch);
	at.seq = get_u64(r);
	if (r->failed)
		return -EBADMSG;
	int i = streams_of(streams, port, source);
	if (i < 0)
		return i;
	streams->all[i].taken = streams->all[i].written = streams->all[i].safe = at;
	return 0;
}

/* 0, -EBADMSG, -ENOMEM; -ENODATA: it was never written. */
static int decode(const uint8_t *slot, size_t got, struct commit_record *rec)
{
	static const uint8_t nothing[sizeof MAGIC];
	struct reader r = {.at = slot, .end = slot + got};
	uint8_t magic[sizeof MAGIC];
	*rec = (struct commit_record){0};
	if (memcmp(slot, nothing, got < sizeof nothing ? got : sizeof nothing) == 0)
		return -ENODATA;
	get_bytes(&r, magic, sizeof magic);
	uint32_t all = get_u32(&r);
	if (memcmp(magic, MAGIC, sizeof magic) != 0 || r.failed || all > got || all < 16)
		return -EBADMSG;
	struct reader sum = {.at = slot + all - 4, .end = slot + all};
	if (get_u32(&sum) != crc32c(slot, all - 4))
		return -EBADMSG;
	r.end = slot + all - 4;
	rec->number = get_u64(&r);
	rec->cuts = get_u32(&r);
	rec->inode = get_u64(&r);
	rec->born_ns = get_u64(&r);
	rec->length = get_u64(&r);
	get_text(&r, rec->rel, sizeof rec->rel);
	int rc = r.failed ? -EBADMSG : 0;
	for (uint32_t n = get_u32(&r); rc == 0 && n; n--)
		rc = decode_stream(&r, &rec->streams);
	if (rc < 0)
		streams_done(&rec->streams);
	return rc;
}

/* ---- the file ---- */

void commit_name(const char *id, char name[256])
{
	snprintf(name, 256, ".%.200s.commit", id);
}

static int fail(char why[WHY_MAX], const char *what, int rc)
{
	snprintf(why, WHY_MAX, "its commit record %s: %s", what, strerror(-rc));
	return rc;
}

static int read_slot(int fd, off_t at, uint8_t slot[SLOT], size_t *got)
{
	*got = 0;
	while (*got < SLOT) {
		ssize_t n = pread(fd, slot + *got, SLOT - *got, at + (off_t)*got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		*got += (size_t)n;
	}
	return 0;
}

static int read_slots(struct commit *c, struct commit_record found[2], int *n, bool *damaged)
{
	uint8_t *slot = malloc(SLOT);
	int rc = slot ? 0 : -ENOMEM;
	*n = 0;
	*damaged = false;
	for (int i = 0; rc == 0 && i < 2; i++) {
		size_t got;
		rc = read_slot(c->fd, (off_t)i * SLOT, slot, &got);
		int what = rc == 0 ? decode(slot, got, &found[*n]) : rc;
		if (what == 0)
			found[(*n)++].slot = i;
		else if (what == -EBADMSG)
			*damaged = true;
		else if (what != -ENODATA)
			rc = what;
		if (what == 0 && found[*n - 1].number > c->number)
			c->number = found[*n - 1].number;
	}
	free(slot);
	if (rc == 0 && *n == 2 && found[0].number < found[1].number) {
		struct commit_record first = found[0];
		found[0] = found[1];
		found[1] = first;
	}
	if (rc < 0) {
		commit_forget(found, *n);
		*n = 0;
	}
	return rc;
}

/* Its blocks are taken now, so that a disk that fills up later does not stop commits. */
static int make_room(int fd)
{
	static const uint8_t zeros[BLOCK];
	for (int i = 0; i < 2; i++) {
		ssize_t n = pwrite(fd, zeros, BLOCK, (off_t)i * SLOT);
		if (n != BLOCK)
			return n < 0 ? -errno : -ENOSPC;
	}
	return 0;
}

int commit_open(struct commit **out, const struct path *p, const char *id, bool create,
		struct commit_record found[2], int *n, bool *damaged, char why[WHY_MAX])
{
	char name[256], inner[WHY_MAX] = "";
	struct stat st;
	bool created = false;
	commit_name(id, name);
	*n = 0;
	struct commit *c = malloc(sizeof *c);
	if (!c)
		return fail(why, "cannot be opened", -ENOMEM);
	*c = (struct commit){.fd = -1, .dirfd = path_open_dir(p, name, create, inner)};
	int rc = c->dirfd;
	if (rc >= 0 && !create && fstatat(c->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		rc = -errno;
	if (rc >= 0)
		rc = c->fd = path_open_file(c->dirfd, name, 0600, &created, inner);
	if (rc < 0) {
		snprintf(why, WHY_MAX, "its commit record %.70s %.150s", name,
			 inner[0] ? inner : strerror(-rc));
		goto out;
	}
	c->entry_dirty = created;
	c->bytes = malloc(SLOT);
	/* it is opened for appending, like the data files; a slot is written in its place */
	rc = !c->bytes ? -ENOMEM : fcntl(c->fd, F_SETFL, 0) < 0 ? -errno : 0;
	if (rc == 0 && created)
		rc = make_room(c->fd);
	if (rc == 0)
		rc = read_slots(c, found, n, damaged);
	if (rc < 0)
		fail(why, "cannot be used", rc);
	if (rc < 0 && created)
		unlinkat(c->dirfd, name, 0);
	if (rc == 0 && *n)
		commit_choose(c, &found[0]);
out:
	if (rc < 0) {
		commit_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

void commit_close(struct commit *c)
{
	if (!c)
		return;
	if (c->fd >= 0)
		close(c->fd);
	if (c->dirfd >= 0)
		close(c->dirfd);
	free(c->bytes);
	free(c);
}

void commit_forget(struct commit_record found[2], int n)
{
	for (int i = 0; i < n; i++)
		streams_done(&found[i].streams);
}

void commit_choose(struct commit *c, const struct commit_record *rec)
{
	c->slot = !rec->slot;
}

int commit_remove(struct commit *c, const char *id)
{
	char name[256];
	commit_name(id, name);
	return unlinkat(c->dirfd, name, 0) < 0 || fsync(c->dirfd) < 0 ? -errno : 0;
}

/* ---- writing ---- */

void commit_add_to_job(struct commit *c, const struct commit_record *rec, const struct streams *streams,
		       struct sync_job *job)
{
	/* a higher number also after a write that failed, which goes to the same slot again */
	c->number++;
	job->record = (struct sync_record){
		.fd = c->fd,
		.at = (off_t)c->slot * SLOT,
		.bytes = c->bytes,
		.len = encode(rec, c->number, streams, c->bytes),
	};
	if (c->entry_dirty) {
		job->files[job->n].fd = c->fd;
		job->files[job->n++].dirfd = c->dirfd;
	}
}

void commit_written(struct commit *c, bool ok)
{
	if (!ok)
		return;
	c->entry_dirty = false;
	c->slot = !c->slot;
}
