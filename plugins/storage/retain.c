/* SPDX-License-Identifier: MIT */
#include "retain.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_EVERY_S = 60 };

struct closed_file {
	char *rel;
	uint64_t mtime_ns, size;
	bool compressed;
};

struct retain {
	struct retain_conf conf;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	bool look;
	atomic_bool quit;
	/* of the thread */
	struct closed_file *files;
	size_t n, room;
};

/* ---- finding ---- */

static const char *extension_of(const char *tail)
{
	for (int i = 0; path_extensions[i]; i++)
		if (strncmp(tail, path_extensions[i], strlen(path_extensions[i])) == 0)
			return path_extensions[i];
	return NULL;
}

struct form {
	bool compressed;
	bool leftover;   /* compressing left it half done */
	bool maybe_open; /* without stamp or extension it may be the current file */
};

/* Is name a closed file's, by its form?  Without date fields a closed file carries a stamp. */
static bool is_closed_name(const struct path *p, const char *part, const char *name, struct form *form)
{
	const char *tail = path_match(part, name);
	if (!tail)
		return false;
	size_t stamp = path_stamp_len(tail);
	if (stamp == 0 && !p->dated)
		return false;
	tail += stamp;
	const char *ext = extension_of(tail);
	tail += ext ? strlen(ext) : 0;
	form->compressed = ext != NULL;
	form->leftover = ext && strcmp(tail, ".tmp") == 0;
	form->maybe_open = stamp == 0 && !ext;
	return form->leftover || *tail == '\0';
}

static int add_file(struct retain *r, const char *rel, const struct stat *st, bool compressed)
{
	if (r->n == r->room) {
		size_t room = r->room ? 2 * r->room : 64;
		struct closed_file *more = realloc(r->files, room * sizeof *more);
		if (!more)
			return -ENOMEM;
		r->files = more;
		r->room = room;
	}
	char *copy = strdup(rel);
	if (!copy)
		return -ENOMEM;
	r->files[r->n++] = (struct closed_file){
		.rel = copy,
		.mtime_ns = (uint64_t)st->st_mtim.tv_sec * 1000000000U + (uint64_t)st->st_mtim.tv_nsec,
		.size = (uint64_t)st->st_size,
		.compressed = compressed,
	};
	return 0;
}

static void clear_files(struct retain *r)
{
	for (size_t i = 0; i < r->n; i++)
		free(r->files[i].rel);
	r->n = 0;
}

/* A file only if nobody writes to it: its descriptor, locked by us, or -errno. */
static int open_closed(int dirfd, const char *name)
{
	struct stat st;
	int fd = path_open_at(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return fd;
	int rc = 0;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_uid != geteuid())
		rc = -EPERM;
	else if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		rc = -EWOULDBLOCK;
	if (rc < 0)
		close(fd);
	return rc < 0 ? rc : fd;
}

static int look_at(struct retain *r, int dirfd, const char *part, const char *name, const char *rel)
{
	struct stat st;
	struct form form;
	if (!is_closed_name(r->conf.path, part, name, &form) ||
	    fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
	    st.st_uid != geteuid())
		return 0;
	if (form.leftover) {
		unlinkat(dirfd, name, 0);
		return 0;
	}
	if (form.maybe_open) {
		int fd = open_closed(dirfd, name);
		if (fd < 0)
			return 0;
		close(fd);
	}
	return add_file(r, rel, &st, form.compressed);
}

/* All closed files below dirfd, which is taken over; pattern is the rest of the template from here. */
static int scan(struct retain *r, int dirfd, const char *pattern, const char *above)
{
	const char *slash = strchr(pattern, '/');
	int rc = 0;
	DIR *dir = fdopendir(dirfd);
	if (!dir) {
		rc = -errno;
		close(dirfd);
		return rc;
	}
	struct dirent *e;
	while (rc == 0 && !atomic_load(&r->quit) && (e = readdir(dir))) {
		char rel[REL_MAX];
		if (e->d_name[0] == '.' && (!e->d_name[1] || (e->d_name[1] == '.' && !e->d_name[2])))
			continue;
		if (snprintf(rel, sizeof rel, "%s%s%s", above, *above ? "/" : "", e->d_name) >=
		    (int)sizeof rel)
			continue;
		if (!slash) {
			rc = look_at(r, dirfd, pattern, e->d_name, rel);
			continue;
		}
		const char *rest = path_match(pattern, e->d_name);
		int sub = rest && !*rest ? path_open_at(dirfd, e->d_name, O_RDONLY | O_DIRECTORY, 0) : -1;
		if (sub >= 0)
			rc = scan(r, sub, slash + 1, rel);
	}
	closedir(dir);
	return rc;
}

static int oldest_first(const void *va, const void *vb)
{
	const struct closed_file *a = va, *b = vb;
	if (a->mtime_ns != b->mtime_ns)
		return a->mtime_ns < b->mtime_ns ? -1 : 1;
	return strcmp(a->rel, b->rel);
}

static int find_files(struct retain *r)
{
	char why[WHY_MAX];
	clear_files(r);
	int fd = path_open_dir(r->conf.path, "", false, why);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	int rc = scan(r, fd, r->conf.path->pattern, "");
	if (rc == 0 && r->n)
		qsort(r->files, r->n, sizeof *r->files, oldest_first);
	return rc;
}

/* ---- removing ---- */

/* Directories that only existed for their date go when they are empty. */
static void remove_empty_parents(const struct path *p, const char *rel)
{
	char dir[REL_MAX], why[WHY_MAX];
	snprintf(dir, sizeof dir, "%s", rel);
	char *slash;
	while (p->dated && (slash = strrchr(dir, '/'))) {
		*slash = '\0';
		int fd = path_open_dir(p, dir, false, why);
		if (fd < 0)
			return;
		int rc = unlinkat(fd, path_base(dir), AT_REMOVEDIR);
		close(fd);
		if (rc < 0)
			return;
	}
}

static int remove_file(struct retain *r, const char *rel)
{
	char why[WHY_MAX];
	int dirfd = path_open_dir(r->conf.path, rel, false, why);
	if (dirfd < 0)
		return dirfd;
	int fd = open_closed(dirfd, path_base(rel));
	int rc = fd;
	if (fd >= 0) {
		rc = unlinkat(dirfd, path_base(rel), 0) < 0 ? -errno : 0;
		close(fd);
	}
	close(dirfd);
	if (rc == 0)
		remove_empty_parents(r->conf.path, rel);
	return rc;
}

static void drop_old(struct retain *r)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec, bytes = 0;
	const struct retain_conf *c = &r->conf;
	size_t left = r->n;
	for (size_t i = 0; i < r->n; i++)
		bytes += r->files[i].size;
	for (size_t i = 0; i < r->n; i++) {
		const struct closed_file *f = &r->files[i];
		bool too_old = c->max_age_ns && f->mtime_ns < now_ns && now_ns - f->mtime_ns > c->max_age_ns;
		if (!too_old && !(c->max_files && left > c->max_files) &&
		    !(c->max_bytes && bytes > c->max_bytes))
			continue;
		int rc = remove_file(r, f->rel);
		if (rc < 0 && rc != -EWOULDBLOCK && rc != -ENOENT)
			c->report(c->arg, RETAIN_FAILED, f->rel, -rc);
		if (rc == 0)
			c->report(c->arg, RETAIN_REMOVED, f->rel, 0);
		/* one that is being written to is no closed file */
		left--;
		bytes -= f->size;
	}
}

/* ---- compressing ---- */

static bool unchanged(int fd, const struct stat *before)
{
	struct stat st;
	return fstat(fd, &st) == 0 && st.st_size == before->st_size &&
	       memcmp(&st.st_mtim, &before->st_mtim, sizeof st.st_mtim) == 0;
}

/* name's content to tmp, durable, with its mode and time. */
static int write_compressed(struct retain *r, int in, int dirfd, const char *tmp)
{
	struct stat st;
	if (fstat(in, &st) < 0)
		return -errno;
	int out = path_open_at(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (out < 0)
		return out;
	int rc = compress_file(r->conf.compress, in, out, &r->quit);
	const struct timespec times[2] = {st.st_atim, st.st_mtim};
	if (rc == 0 && (fchmod(out, st.st_mode & 07777) < 0 || futimens(out, times) < 0 || fsync(out) < 0))
		rc = -errno;
	if (rc == 0 && !unchanged(in, &st))
		rc = -EBUSY;
	close(out);
	return rc;
}

static int pack_open(struct retain *r, int in, int dirfd, const char *name)
{
	char full[REL_MAX], tmp[REL_MAX], stamped[REL_MAX];
	struct stat st, done;
	const char *ext = compress_extension(r->conf.compress);
	snprintf(full, sizeof full, "%s%s", name, ext);
	if (fstatat(dirfd, full, &done, AT_SYMLINK_NOFOLLOW) == 0) {
		if (fstat(in, &st) < 0)
			return -errno;
		/* of the same time: all was done but the last step */
		if (memcmp(&st.st_mtim, &done.st_mtim, sizeof st.st_mtim) == 0)
			return unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
		/* a dated name that was written to again after its first life */
		int rc = path_stamp(dirfd, name, st.st_mtim.tv_sec, stamped);
		if (rc < 0)
			return rc;
		name = stamped;
		snprintf(full, sizeof full, "%.*s%s", (int)(sizeof full - STAMP_MAX), name, ext);
	}
	snprintf(tmp, sizeof tmp, "%.*s.tmp", (int)(sizeof tmp - STAMP_MAX), full);
	int rc = write_compressed(r, in, dirfd, tmp);
	if (rc == 0 && renameat2(dirfd, tmp, dirfd, full, RENAME_NOREPLACE) < 0) {
		rc = -errno;
		if ((rc == -EINVAL || rc == -ENOSYS) && linkat(dirfd, tmp, dirfd, full, 0) == 0)
			rc = unlinkat(dirfd, tmp, 0) < 0 ? -errno : 0;
	}
	if (rc < 0) {
		unlinkat(dirfd, tmp, 0);
		return rc;
	}
	/* the new name must be on disk before the old one goes */
	if (fsync(dirfd) < 0 || unlinkat(dirfd, name, 0) < 0)
		return -errno;
	return 0;
}

static int pack(struct retain *r, const char *rel)
{
	char why[WHY_MAX];
	int dirfd = path_open_dir(r->conf.path, rel, false, why);
	if (dirfd < 0)
		return dirfd;
	int in = open_closed(dirfd, path_base(rel));
	int rc = in;
	if (in >= 0) {
		rc = pack_open(r, in, dirfd, path_base(rel));
		close(in);
	}
	close(dirfd);
	return rc;
}

/* How many it compressed. */
static unsigned pack_all(struct retain *r)
{
	const struct retain_conf *c = &r->conf;
	unsigned n = 0;
	for (size_t i = 0; c->compress != COMPRESS_NONE && i < r->n && !atomic_load(&r->quit); i++) {
		if (r->files[i].compressed)
			continue;
		int rc = pack(r, r->files[i].rel);
		if (rc == 0) {
			c->report(c->arg, RETAIN_COMPRESSED, r->files[i].rel, 0);
			n++;
		} else if (rc != -EWOULDBLOCK && rc != -ENOENT && rc != -ECANCELED) {
			c->report(c->arg, RETAIN_FAILED, r->files[i].rel, -rc);
		}
	}
	return n;
}

/* ---- the thread ---- */

static void look(struct retain *r)
{
	int rc = find_files(r);
	/* first smaller, then fewer: limits count what is there after compressing */
	if (rc == 0 && pack_all(r))
		rc = find_files(r);
	if (rc == 0 && !atomic_load(&r->quit))
		drop_old(r);
	if (rc < 0)
		r->conf.report(r->conf.arg, RETAIN_FAILED, "", -rc);
	clear_files(r);
}

static void wait_for_work(struct retain *r)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LOOK_EVERY_S;
	while (!r->look && !atomic_load(&r->quit))
		if (pthread_cond_timedwait(&r->wanted, &r->lock, &until) == ETIMEDOUT)
			break;
}

static void *run(void *arg)
{
	struct retain *r = arg;
	setpriority(PRIO_PROCESS, 0, 10); /* of this thread only: behind whatever moves data */
	pthread_mutex_lock(&r->lock);
	while (!atomic_load(&r->quit)) {
		r->look = false;
		pthread_mutex_unlock(&r->lock);
		look(r);
		pthread_mutex_lock(&r->lock);
		wait_for_work(r);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

int retain_new(struct retain **out, const struct retain_conf *conf)
{
	struct retain *r = calloc(1, sizeof *r);
	if (!r)
		return -ENOMEM;
	r->conf = *conf;
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->wanted, &attr);
	pthread_condattr_destroy(&attr);
	/* signals are the host's business */
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&r->thread, NULL, run, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc) {
		pthread_cond_destroy(&r->wanted);
		pthread_mutex_destroy(&r->lock);
		free(r);
		return -rc;
	}
	pthread_setname_np(r->thread, "storage-keep");
	*out = r;
	return 0;
}

void retain_free(struct retain *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	atomic_store(&r->quit, true);
	pthread_cond_signal(&r->wanted);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
	clear_files(r);
	free(r->files);
	pthread_cond_destroy(&r->wanted);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void retain_wake(struct retain *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->look = true;
	pthread_cond_signal(&r->wanted);
	pthread_mutex_unlock(&r->lock);
}
