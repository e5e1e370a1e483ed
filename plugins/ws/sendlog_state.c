/* SPDX-License-Identifier: MIT */
/*
 * sendlog_state - a spool's folder, its lock, and the file `state`: two slots written in turn and in place,
 * so that cursors can be kept, and room be made, on a full disk.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "link_proto.h"
#include "sendlog_spool.h"

/* ---- folder ---- */

static int make_parents(const char *path)
{
	char part[4096];
	size_t len = strlen(path);

	if (len >= sizeof part)
		return -ENAMETOOLONG;
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

int spool_folder_open(const char *path, bool create, char why[256])
{
	struct stat st;
	int rc = create ? make_parents(path) : 0;
	int fd = rc < 0 ? rc : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		rc = rc < 0 ? rc : -errno;
		snprintf(why, 256, "cannot %s the spool folder \"%.150s\": %s",
			 create ? "make or open" : "open", path, strerror(-rc));
		return rc;
	}
	if (fstat(fd, &st) == 0 && !((st.st_uid != geteuid() && st.st_uid != 0) || st.st_mode & 022))
		return fd;
	close(fd);
	snprintf(why, 256,
		 "the spool folder \"%.120s\" must belong to the user this runs as and be writable by nobody "
		 "else; see chown, "
		 "chmod 700",
		 path);
	return -EPERM;
}

int spool_folder_lock(struct log_spool *s, const char *path, char why[256])
{
	char text[32] = "";
	int len;

	s->lock_fd = openat(s->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd < 0) {
		int rc = -errno;
		snprintf(why, 256, "cannot open \"%.150s/lock\": %s", path, strerror(-rc));
		return rc;
	}
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		int rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
		ssize_t n = pread(s->lock_fd, text, sizeof text - 1, 0);
		text[n > 0 ? strcspn(text, "\n") : 0] = '\0';
		snprintf(why, 256,
			 "the spool \"%.120s\" is in use by another process%s%s; give each its own path",
			 path, *text ? ", pid " : "", text);
		return rc;
	}
	/* who it is, for the message above; nothing depends on it */
	len = snprintf(text, sizeof text, "%ld\n", (long)getpid());
	if (ftruncate(s->lock_fd, 0) == 0 && pwrite(s->lock_fd, text, (size_t)len, 0) < 0)
		return 0;
	return 0;
}

/* ---- state: magic, crc, generation, next, seg_size, epoch, n, then per cursor u64 acked, u8 length, name
 * ---- */

static const char state_magic[8] = "SSSTATE1";
enum { STATE_HEADER = 56 };

static void put64(uint8_t *to, uint64_t v)
{
	v = htole64(v);
	memcpy(to, &v, sizeof v);
}

static uint64_t get64(const uint8_t *from)
{
	uint64_t v;
	memcpy(&v, from, sizeof v);
	return le64toh(v);
}

static uint32_t slot_crc(const uint8_t *slot)
{
	return link_crc32c(0, slot + 16, SPOOL_STATE_SLOT - 16);
}

int spool_state_write(int fd, const struct spool_state *st)
{
	uint8_t *slot = calloc(1, SPOOL_STATE_SLOT), *at = slot + STATE_HEADER + 8;
	size_t done = 0;

	if (!slot)
		return -ENOMEM;
	memcpy(slot, state_magic, sizeof state_magic);
	put64(slot + 16, st->generation);
	put64(slot + 24, st->next);
	put64(slot + 32, st->seg_size);
	memcpy(slot + 40, st->epoch, sizeof st->epoch);
	put64(slot + STATE_HEADER, st->n_cursors);
	for (uint32_t i = 0; i < st->n_cursors; i++) {
		const struct log_cursor *c = &st->cursors[i];
		size_t len = strlen(c->name);
		put64(at, c->acked);
		at[8] = (uint8_t)len;
		memcpy(at + 9, c->name, len);
		at += 9 + len;
	}
	put64(slot + 8, slot_crc(slot));
	while (done < SPOOL_STATE_SLOT) {
		off_t to = (off_t)(st->generation % 2 * SPOOL_STATE_SLOT + done);
		ssize_t n = pwrite(fd, slot + done, SPOOL_STATE_SLOT - done, to);
		if (n < 0 && errno != EINTR)
			break;
		done += n > 0 ? (size_t)n : 0;
	}
	free(slot);
	return done < SPOOL_STATE_SLOT || fdatasync(fd) < 0 ? -errno : 0;
}

static bool parse_slot(const uint8_t *slot, struct spool_state *st)
{
	const uint8_t *at = slot + STATE_HEADER + 8, *end = slot + SPOOL_STATE_SLOT;

	if (memcmp(slot, state_magic, sizeof state_magic) != 0 || get64(slot + 8) != slot_crc(slot))
		return false;
	uint64_t n = get64(slot + STATE_HEADER);
	if (n > SENDLOG_CONSUMERS || get64(slot + 16) < st->generation)
		return false;
	st->generation = get64(slot + 16);
	st->next = get64(slot + 24);
	st->seg_size = get64(slot + 32);
	memcpy(st->epoch, slot + 40, sizeof st->epoch);
	st->n_cursors = 0;
	for (uint64_t i = 0; i < n && end - at > 9 && at[8] <= SENDLOG_NAME && end - at >= 9 + at[8]; i++) {
		struct log_cursor *c = &st->cursors[st->n_cursors++];
		*c = (struct log_cursor){.acked = get64(at)};
		memcpy(c->name, at + 9, at[8]);
		at += 9 + at[8];
	}
	return true;
}

bool spool_state_read(int fd, struct spool_state *st)
{
	uint8_t *slots = calloc(2, SPOOL_STATE_SLOT);
	bool good = false;

	if (!slots)
		return false;
	ssize_t n = pread(fd, slots, 2 * SPOOL_STATE_SLOT, 0);
	for (int i = 0; n > 0 && i < 2; i++)
		good |= parse_slot(slots + i * SPOOL_STATE_SLOT, st);
	free(slots);
	return good;
}
