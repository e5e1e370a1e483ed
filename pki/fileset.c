/* SPDX-License-Identifier: MIT */
/*
 * fileset - see fileset.h.
 *
 * Two renames are two moments.  So the present files become links through one link, ".NAME.set", to a folder
 * that holds these very files (which changes nothing for who reads them); then that one link is pointed to a
 * folder with the new ones, in one moment; then the new files take the places of the links.  What a crash
 * leaves are links that work; the next write goes on from there.
 */
#include "fileset.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>

struct stage {
	char folder[PATH_MAX];             /* of the first file, absolute */
	char link[PATH_MAX];               /* ".NAME.set" in it */
	char old[PATH_MAX], new[PATH_MAX]; /* the folders that it points to */
};

struct ss_strbuf *fileset_add(struct fileset *set, const char *path, mode_t mode)
{
	set->v[set->n].path = path;
	set->v[set->n].mode = mode;
	set->v[set->n].content.secret = (mode & 0077) == 0;
	return &set->v[set->n++].content;
}

void fileset_done(struct fileset *set)
{
	for (size_t i = 0; i < set->n; i++)
		ss_strbuf_done(&set->v[i].content);
	set->n = 0;
}

int fileset_check(const struct fileset *set, bool replace, struct fault *f)
{
	struct stat st;

	for (size_t i = 0; i < set->n; i++) {
		const char *path = set->v[i].path;
		for (size_t k = 0; k < i; k++)
			if (strcmp(path, set->v[k].path) == 0)
				return refuse(f, "%s is named twice: each file needs a name of its own",
					      path);
		if (lstat(path, &st) == 0 && !replace)
			return refuse(f, "%s is there already: --force replaces it", path);
		if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
			return refuse(f, "%s is there already and no file", path);
	}
	return 0;
}

static int fail(struct fault *f, const char *what, const char *path)
{
	return errno == ENOMEM ? -ENOMEM : refuse(f, "%s cannot be %s: %s", path, what, strerror(errno));
}

/* Behind the last "/", or all of it. */
static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int sync_folder(const char *path, struct fault *f)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = fd < 0 ? -errno : ss_sync_folder(fd);

	if (fd >= 0)
		close(fd);
	return rc < 0 ? refuse(f, "%s cannot be synced: %s", path, strerror(-rc)) : 0;
}

/* The folder of a file, made where it is missing; absolute. */
static int make_folder(const char *path, char out[PATH_MAX], struct fault *f)
{
	char folder[PATH_MAX];
	size_t len = (size_t)(last_part(path) - path);

	if (len >= sizeof folder)
		return refuse(f, "%s: the name is too long", path);
	memcpy(folder, path, len);
	folder[len] = '\0';
	for (char *at = folder + 1; len && (at = strchr(at, '/')); at++) {
		*at = '\0';
		if (mkdir(folder, 0755) < 0 && errno != EEXIST)
			return fail(f, "made", folder);
		*at = '/';
	}
	return realpath(len ? folder : ".", out) ? 0 : fail(f, "found", folder);
}

#define JOIN(out, f, ...)                                                                                    \
	(snprintf(out, sizeof(out), __VA_ARGS__) < (int)sizeof(out) ? 0 : refuse(f, "a name is too long"))

static int open_stage(const struct fileset *set, struct stage *s, struct fault *f)
{
	const char *name = last_part(set->v[0].path);
	int rc = make_folder(set->v[0].path, s->folder, f);

	if (rc == 0)
		rc = JOIN(s->link, f, "%s/.%s.set", s->folder, name);
	if (rc == 0)
		rc = JOIN(s->old, f, "%s/.%s.old", s->folder, name);
	return rc ? rc : JOIN(s->new, f, "%s/.%s.new", s->folder, name);
}

/* Remove a folder with files of a set, which are named by their numbers there. */
static void remove_folder(const char *folder)
{
	char path[PATH_MAX + 32];

	for (int i = 0; i < FILESET_MAX; i++) {
		snprintf(path, sizeof path, "%s/%d", folder, i);
		unlink(path);
	}
	rmdir(folder);
}

/* Put a file, or a link to it, in the place of a name, in one moment. */
static int put(const char *path, const char *target, bool as_link, struct fault *f)
{
	char temporary[PATH_MAX + 32];
	size_t len = (size_t)(last_part(path) - path);

	snprintf(temporary, sizeof temporary, "%.*s.%s.link", (int)len, path, last_part(path));
	unlink(temporary);
	if ((as_link ? symlink(target, temporary) : linkat(AT_FDCWD, target, AT_FDCWD, temporary, 0)) < 0)
		return errno == EXDEV
			       ? refuse(f, "%s: the files of one certificate have to be on one file system",
					path)
			       : fail(f, "written", path);
	if (rename(temporary, path) < 0)
		return fail(f, "written", path);
	return 0;
}

/* What a crash left as a link becomes a file again. */
static int settle(const struct fileset *set, const struct stage *s, struct fault *f)
{
	char target[PATH_MAX + 32];
	size_t n = strlen(s->link);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < set->n; i++) {
		ssize_t len = readlink(set->v[i].path, target, sizeof target - 1);
		if (len <= (ssize_t)n || memcmp(target, s->link, n) != 0 || target[n] != '/')
			continue;
		target[len] = '\0';
		rc = put(set->v[i].path, target, false, f);
	}
	return rc;
}

static int clear(const struct fileset *set, const struct stage *s, struct fault *f)
{
	int rc = settle(set, s, f);

	if (rc)
		return rc;
	unlink(s->link);
	remove_folder(s->old);
	remove_folder(s->new);
	return 0;
}

static int write_new(const struct fileset *set, const struct stage *s, struct fault *f)
{
	if (mkdir(s->new, 0700) < 0)
		return fail(f, "made", s->new);
	int fd = open(s->new, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	if (fd < 0)
		return fail(f, "opened", s->new);
	for (size_t i = 0; rc == 0 && i < set->n; i++) {
		const struct ss_strbuf *c = &set->v[i].content;
		char name[24];
		snprintf(name, sizeof name, "%zu", i);
		rc = ss_file_write(fd, name, c->bytes, c->len, set->v[i].mode);
		if (rc == 0 && fchmodat(fd, name, set->v[i].mode, 0) < 0)
			rc = -errno; /* whatever the umask is */
		if (rc < 0)
			rc = refuse(f, "%s cannot be written: %s", set->v[i].path, strerror(-rc));
	}
	/* nobody but us goes through it while a folder of keys is open to all */
	if (rc == 0 && fchmod(fd, 0755) < 0)
		rc = fail(f, "written", s->new);
	close(fd);
	return rc;
}

/* The present files, in a folder of their own and behind the link. */
static int link_old(const struct fileset *set, const struct stage *s, struct fault *f)
{
	char target[PATH_MAX + 32];
	int rc = 0;

	if (mkdir(s->old, 0755) < 0)
		return fail(f, "made", s->old);
	if (symlink(s->old, s->link) < 0)
		return fail(f, "made", s->link);
	for (size_t i = 0; rc == 0 && i < set->n; i++) {
		const char *path = set->v[i].path;
		snprintf(target, sizeof target, "%s/%zu", s->old, i);
		if (linkat(AT_FDCWD, path, AT_FDCWD, target, AT_SYMLINK_FOLLOW) < 0) {
			if (errno != ENOENT)
				rc = errno == EXDEV
					     ? refuse(f,
						      "%s: the files of one certificate have to be on one "
						      "file system",
						      path)
					     : fail(f, "replaced", path);
			continue;
		}
		snprintf(target, sizeof target, "%s/%zu", s->link, i);
		rc = put(path, target, true, f);
	}
	return rc ? rc : sync_folder(s->folder, f);
}

static int swap(const struct stage *s, struct fault *f)
{
	char temporary[PATH_MAX + 32];

	snprintf(temporary, sizeof temporary, "%s.link", s->link);
	unlink(temporary);
	if (symlink(s->new, temporary) < 0 || rename(temporary, s->link) < 0)
		return fail(f, "made", s->link);
	return sync_folder(s->folder, f);
}

static int put_all(const struct fileset *set, const struct stage *s, struct fault *f)
{
	char target[PATH_MAX + 32], folder[PATH_MAX];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < set->n; i++) {
		snprintf(target, sizeof target, "%s/%zu", s->new, i);
		rc = put(set->v[i].path, target, false, f);
		if (rc == 0)
			rc = make_folder(set->v[i].path, folder, f);
		if (rc == 0)
			rc = sync_folder(folder, f);
	}
	return rc;
}

int fileset_write(struct fileset *set, struct fault *f)
{
	struct stage s;
	struct stat st;
	char folder[PATH_MAX];
	bool any = false;
	int rc = open_stage(set, &s, f);

	for (size_t i = 0; rc == 0 && i < set->n; i++) {
		if (set->v[i].content.failed)
			return -ENOMEM;
		any = any || lstat(set->v[i].path, &st) == 0;
		rc = make_folder(set->v[i].path, folder, f);
	}
	if (rc == 0)
		rc = clear(set, &s, f);
	if (rc == 0)
		rc = write_new(set, &s, f);
	if (rc == 0 && any)
		rc = link_old(set, &s, f);
	if (rc == 0 && any)
		rc = swap(&s, f);
	if (rc == 0)
		rc = put_all(set, &s, f);
	struct fault ignored; /* the first one counts */
	int cleared = clear(set, &s, rc ? &ignored : f);
	return rc ? rc : cleared;
}
