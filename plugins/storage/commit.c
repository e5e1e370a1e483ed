/* SPDX-License-Identifier: MIT */
#include "commit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A slot holds some ten thousand positions; it is sparse until it has to. */
enum { SLOT = 1 << 20, BLOCK = 4096 };
static const char MAGIC[8] = "ssrec\0\0\2";

void commit_name(const char *id, char name[256])
{
	snprintf(name, 256, ".%.200s.commit", id);
}

void commit_encode(const struct commit_record *rec, struct ss_strbuf *out)
{
	ss_strbuf_clear(out);
	ss_strbuf_u32(out, rec->cuts);
	ss_strbuf_u64(out, rec->inode);
	ss_strbuf_u64(out, rec->born_ns);
	ss_strbuf_u64(out, rec->length);
	ss_strbuf_u32(out, (uint32_t)strlen(rec->rel));
	ss_strbuf_text(out, rec->rel);
}

bool commit_decode(const uint8_t *bytes, size_t size, struct commit_record *rec)
{
	struct ss_unpack u = {.at = bytes, .end = bytes + size};

	*rec = (struct commit_record){.cuts = ss_unpack_u32(&u)};
	rec->inode = ss_unpack_u64(&u);
	rec->born_ns = ss_unpack_u64(&u);
	rec->length = ss_unpack_u64(&u);
	uint32_t len = ss_unpack_u32(&u);
	const uint8_t *rel = ss_unpack_bytes(&u, len);
	if (!rel || len >= sizeof rec->rel || rec->cuts > CUTS_FILES)
		return false;
	memcpy(rec->rel, rel, len);
	rec->snapshot = u.at;
	rec->snapshot_len = (size_t)(u.end - u.at);
	return true;
}

static int fail(char why[WHY_MAX], const char *what, int rc)
{
	snprintf(why, WHY_MAX, "its commit record %s: %s", what, strerror(-rc));
	return rc;
}

static int read_slots(struct commit *c, struct commit_found *found)
{
	int rc = ss_two_slot_open(&c->slots, c->fd, MAGIC, SLOT, &found->slots);

	if (rc < 0)
		return rc;
	found->doubt = found->slots.doubt;
	for (int i = 0; i < found->slots.n; i++) {
		const struct ss_slot *slot = &found->slots.slots[i];
		if (commit_decode(slot->bytes, slot->len, &found->records[found->n]))
			found->n++;
		else
			found->doubt = true;
	}
	return 0;
}

int commit_open(struct commit **out, const struct path *p, const char *id, bool create,
		struct commit_found *found, char why[WHY_MAX])
{
	char name[256], inner[WHY_MAX] = "";
	struct stat st;
	bool created = false;

	*found = (struct commit_found){0};
	commit_name(id, name);
	struct commit *c = malloc(sizeof *c);
	if (!c)
		return fail(why, "cannot be opened", -ENOMEM);
	*c = (struct commit){.fd = -1, .dirfd = path_open_dir(p, name, create, inner)};
	int rc = c->dirfd;
	if (rc >= 0 && !create && fstatat(c->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		rc = -errno;
	if (rc >= 0)
		rc = c->fd = path_open_file(p, c->dirfd, name, 0600, &created, inner);
	if (rc < 0) {
		snprintf(why, WHY_MAX, "its commit record %.70s %.150s", name,
			 inner[0] ? inner : strerror(-rc));
		goto out;
	}
	c->entry_dirty = created;
	/* it is opened for appending, like the data files; a slot is written in its place */
	rc = fcntl(c->fd, F_SETFL, 0) < 0 ? -errno : read_slots(c, found);
	/* its blocks are taken now, so that a disk that fills up later does not stop commits */
	if (rc == 0 && created)
		rc = ss_two_slot_reserve(&c->slots, BLOCK - SS_SLOT_HEAD);
	if (rc < 0)
		fail(why, "cannot be used", rc);
	if (rc < 0 && created)
		unlinkat(c->dirfd, name, 0);
out:
	if (rc < 0) {
		commit_found_done(found);
		commit_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

void commit_found_done(struct commit_found *found)
{
	ss_two_slot_found_done(&found->slots);
	found->n = 0;
}

void commit_close(struct commit *c)
{
	if (!c)
		return;
	ss_two_slot_close(&c->slots);
	if (c->fd >= 0)
		close(c->fd);
	if (c->dirfd >= 0)
		close(c->dirfd);
	free(c);
}

int commit_remove(struct commit *c, const char *id)
{
	char name[256];

	commit_name(id, name);
	return unlinkat(c->dirfd, name, 0) < 0 || fsync(c->dirfd) < 0 ? -errno : 0;
}

int commit_write(struct commit *c, const struct ss_strbuf *record, bool both)
{
	if (record->failed)
		return -ENOMEM;
	return both ? ss_two_slot_write_both(&c->slots, record->bytes, record->len)
		    : ss_two_slot_write(&c->slots, record->bytes, record->len);
}
