/* SPDX-License-Identifier: MIT */
#include "retain.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif
#include <semstreams/sugar.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/job.h>

enum { LOOK_EVERY_S = 60, CLOCK_STEP_S = 60 };

struct closed_file {
	char *rel;
	uint64_t mtime_ns, size;
	bool compressed;
};

struct retain {
	const struct ss_host *host;
	const struct path *path;
	struct storage_conf conf; /* of the next look */
	struct ss_job *job;       /* NULL: there has been nothing to do */
	bool wanted;
	unsigned age_s; /* how long ago it last began to look */
	atomic_bool quit;
	/* the job's */
	struct storage_conf limits;
	struct closed_file *files;
	size_t n, room;
};

static void report_failure(const struct retain *r, const char *rel, int rc)
{
	r->host->metric_add(r->host, METRIC_RETAIN_ERRORS, 1);
	ss_log(r->host, SS_LOG_ERROR, "Cannot compress or remove a closed file path=%s/%s error=%s",
	       r->path->prefix, rel, strerror(-rc));
}

/* ---- finding ---- */

static const char *extension_of(const char *tail)
{
	for (int i = 0; path_extensions[i]; i++)
		if (strncmp(tail, path_extensions[i], strlen(path_extensions[i])) == 0)
			return path_extensions[i];
	return NULL;
}

struct form {
	bool stamped;
	bool compressed;
	bool leftover; /* compressing left it half done */
};

/* What stands behind the name of a file: nothing, or a stamp, an extension, or both. */
static bool read_form(const char *tail, struct form *form)
{
	size_t stamp = path_stamp_len(tail);
	const char *ext = extension_of(tail + stamp);
	tail += stamp + (ext ? strlen(ext) : 0);
	*form = (struct form){.stamped = stamp != 0,
			      .compressed = ext != NULL,
			      .leftover = ext && strcmp(tail, ".tmp") == 0};
	return form->leftover || *tail == '\0';
}

/* Is name a closed file's, by its form?  Without date fields a closed file carries a stamp. */
static bool is_closed_name(const struct path *p, const char *part, const char *name, struct form *form)
{
	for (size_t n = strlen(name); n > 0; n--)
		if (read_form(name + n, form) && path_matches(part, name, n, NULL))
			return form->stamped || p->dated;
	return false;
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
static int open_closed(const struct retain *r, int dirfd, const char *name)
{
	struct stat st;
	int fd = path_open_at(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return fd;
	int rc = 0;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	else if (!S_ISREG(st.st_mode) || !path_owner_ok(r->path, st.st_uid))
		rc = -EPERM;
	else if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		rc = -EWOULDBLOCK;
	if (rc < 0)
		close(fd);
	return rc < 0 ? rc : fd;
}

/* One of many files that are in use need not be open. */
static bool may_be_current(const struct path *p, const char *rel)
{
	time_t now = time(NULL);

	return path_matches_all(p->pattern, rel, now) ||
	       path_matches_all(p->pattern, rel, now - CLOCK_STEP_S);
}

static int look_at(struct retain *r, int dirfd, const char *part, const char *name, const char *rel)
{
	struct stat st;
	struct form form;
	if (!is_closed_name(r->path, part, name, &form) ||
	    fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
	    !path_owner_ok(r->path, st.st_uid))
		return 0;
	if (form.leftover) {
		unlinkat(dirfd, name, 0);
		return 0;
	}
	if (!form.stamped && !form.compressed) {
		if (r->path->routed && may_be_current(r->path, rel))
			return 0;
		int fd = open_closed(r, dirfd, name);
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
		bool below = path_matches(pattern, e->d_name, strlen(e->d_name), NULL);
		int sub = below ? path_open_at(dirfd, e->d_name, O_RDONLY | O_DIRECTORY, 0) : -1;
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
	int fd = path_open_dir(r->path, "", false, why);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	int rc = scan(r, fd, r->path->pattern, "");
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
	int dirfd = path_open_dir(r->path, rel, false, why);
	if (dirfd < 0)
		return dirfd;
	int fd = open_closed(r, dirfd, path_base(rel));
	int rc = fd;
	if (fd >= 0) {
		rc = unlinkat(dirfd, path_base(rel), 0) < 0 ? -errno : 0;
		close(fd);
	}
	close(dirfd);
	if (rc == 0)
		remove_empty_parents(r->path, rel);
	return rc;
}

static void drop_old(struct retain *r)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec, bytes = 0;
	const struct storage_conf *c = &r->limits;
	uint64_t max_age = (uint64_t)c->retain_age;
	size_t left = r->n;
	for (size_t i = 0; i < r->n; i++)
		bytes += r->files[i].size;
	for (size_t i = 0; i < r->n; i++) {
		const struct closed_file *f = &r->files[i];
		bool too_old = max_age && f->mtime_ns < now_ns && now_ns - f->mtime_ns > max_age;
		if (!too_old && !(c->retain_files && left > (uint64_t)c->retain_files) &&
		    !(c->retain_bytes && bytes > (uint64_t)c->retain_bytes))
			continue;
		int rc = remove_file(r, f->rel);
		if (rc < 0 && rc != -EWOULDBLOCK && rc != -ENOENT)
			report_failure(r, f->rel, rc);
		if (rc == 0) {
			r->host->metric_add(r->host, METRIC_REMOVED, 1);
			ss_log(r->host, SS_LOG_INFO, "Removed an old file path=%s/%s", r->path->prefix,
			       f->rel);
		}
		/* one that is being written to is no closed file */
		left--;
		bytes -= f->size;
	}
}

/* ---- compressing ---- */

enum { BLOCK = 128 * 1024 };
enum compress_kind {
	COMPRESS_NONE,
#ifdef HAVE_ZLIB
	COMPRESS_GZIP,
#endif
#ifdef HAVE_ZSTD
	COMPRESS_ZSTD,
#endif
};

/* What was built in. */
const char *const compress_names[] = {
	"none",
#ifdef HAVE_ZLIB
	"gzip",
#endif
#ifdef HAVE_ZSTD
	"zstd",
#endif
	NULL,
};

static const char *compress_extension(int64_t kind)
{
	const char *name = compress_names[kind];
	return strcmp(name, "gzip") == 0 ? ".gz" : strcmp(name, "zstd") == 0 ? ".zst" : "";
}

#if defined HAVE_ZLIB || defined HAVE_ZSTD
struct stream {
	int in, out;
	const atomic_bool *stop;
	uint8_t from[BLOCK], to[BLOCK];
};

/* The next block: its length, 0 at the end, or -errno. */
static ssize_t next_block(struct stream *s)
{
	ssize_t n;
	if (atomic_load(s->stop))
		return -ECANCELED;
	do
		n = read(s->in, s->from, sizeof s->from);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}
#endif

#ifdef HAVE_ZLIB
static int run_gzip(struct stream *s)
{
	enum { GZIP_FORMAT = 16 };
	z_stream z = {0};
	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, MAX_WBITS + GZIP_FORMAT, 8,
			 Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	int rc = 0, end = 0;
	while (rc == 0 && !end) {
		ssize_t n = next_block(s);
		if (n < 0) {
			rc = (int)n;
			break;
		}
		end = n == 0;
		z.next_in = s->from;
		z.avail_in = (uInt)n;
		do {
			z.next_out = s->to;
			z.avail_out = sizeof s->to;
			deflate(&z, end ? Z_FINISH : Z_NO_FLUSH);
			rc = ss_write_all(s->out, s->to, sizeof s->to - z.avail_out);
		} while (rc == 0 && z.avail_out == 0);
	}
	deflateEnd(&z);
	return rc;
}
#endif

#ifdef HAVE_ZSTD
static int run_zstd(struct stream *s)
{
	ZSTD_CCtx *z = ZSTD_createCCtx();
	if (!z)
		return -ENOMEM;
	ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
	int rc = 0, end = 0;
	while (rc == 0 && !end) {
		ssize_t n = next_block(s);
		if (n < 0) {
			rc = (int)n;
			break;
		}
		end = n == 0;
		ZSTD_inBuffer in = {.src = s->from, .size = (size_t)n};
		size_t left;
		do {
			ZSTD_outBuffer out = {.dst = s->to, .size = sizeof s->to};
			left = ZSTD_compressStream2(z, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
			rc = ZSTD_isError(left) ? -EIO : ss_write_all(s->out, s->to, out.pos);
		} while (rc == 0 && (end ? left > 0 : in.pos < in.size));
	}
	ZSTD_freeCCtx(z);
	return rc;
}
#endif

/* All of in, from its start, to out.  0 or -errno; -ECANCELED soon after *stop became true. */
static int compress_file(int64_t kind, int in, int out, const atomic_bool *stop)
{
	int rc = -EOPNOTSUPP;
#if defined HAVE_ZLIB || defined HAVE_ZSTD
	struct stream *s = malloc(sizeof *s);
	if (!s)
		return -ENOMEM;
	s->in = in;
	s->out = out;
	s->stop = stop;
#ifdef HAVE_ZLIB
	if (kind == COMPRESS_GZIP)
		rc = run_gzip(s);
#endif
#ifdef HAVE_ZSTD
	if (kind == COMPRESS_ZSTD)
		rc = run_zstd(s);
#endif
	free(s);
#else
	(void)kind;
	(void)in;
	(void)out;
	(void)stop;
#endif
	return rc;
}

static bool unchanged(int fd, const struct stat *before)
{
	struct stat st;
	return fstat(fd, &st) == 0 && st.st_size == before->st_size &&
	       memcmp(&st.st_mtim, &before->st_mtim, sizeof st.st_mtim) == 0;
}

/* Its mode and time; where files are shown as somebody else's, neither can be set. */
static int look_like(const struct retain *r, int out, const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};
	if ((fchmod(out, st->st_mode & 07777) < 0 || futimens(out, times) < 0) &&
	    !(errno == EPERM && r->path->any_owner))
		return -errno;
	return 0;
}

/* name's content to tmp, durable. */
static int write_compressed(struct retain *r, int in, int dirfd, const char *tmp)
{
	struct stat st;
	if (fstat(in, &st) < 0)
		return -errno;
	int out = path_open_at(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (out < 0)
		return out;
	int rc = compress_file(r->limits.compress, in, out, &r->quit);
	if (rc == 0)
		rc = look_like(r, out, &st);
	if (rc == 0 && fsync(out) < 0)
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
	const char *ext = compress_extension(r->limits.compress);
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
	int dirfd = path_open_dir(r->path, rel, false, why);
	if (dirfd < 0)
		return dirfd;
	int in = open_closed(r, dirfd, path_base(rel));
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
	unsigned n = 0;
	for (size_t i = 0; r->limits.compress != COMPRESS_NONE && i < r->n && !atomic_load(&r->quit); i++) {
		const char *rel = r->files[i].rel;
		if (r->files[i].compressed)
			continue;
		int rc = pack(r, rel);
		if (rc == 0) {
			r->host->metric_add(r->host, METRIC_COMPRESSED, 1);
			ss_log(r->host, SS_LOG_DEBUG, "Compressed a closed file path=%s/%s", r->path->prefix,
			       rel);
			n++;
		} else if (rc != -EWOULDBLOCK && rc != -ENOENT && rc != -ECANCELED) {
			report_failure(r, rel, rc);
		}
	}
	return n;
}

/* ---- the job ---- */

static void look(void *arg)
{
	struct retain *r = arg;
	setpriority(PRIO_PROCESS, 0, 10); /* of this thread only: behind whatever moves data */
	int rc = find_files(r);
	/* first smaller, then fewer: limits count what is there after compressing */
	if (rc == 0 && pack_all(r))
		rc = find_files(r);
	if (rc == 0 && !atomic_load(&r->quit))
		drop_old(r);
	if (rc < 0)
		report_failure(r, "", rc);
	clear_files(r);
}

static bool has_work(const struct storage_conf *c)
{
	return c->retain_files || c->retain_age || c->retain_bytes || c->compress != COMPRESS_NONE;
}

static int have_thread(struct retain *r)
{
	return r->job ? 0 : ss_job_new(&r->job, "storage-keep", NULL, NULL);
}

static void start(struct retain *r)
{
	if (r->job)
		(void)ss_job_take(r->job);
	if (!r->wanted || (r->job && ss_job_busy(r->job)))
		return;
	r->wanted = false;
	r->age_s = 0;
	if (!has_work(&r->conf))
		return;
	int rc = have_thread(r);
	if (rc < 0) {
		report_failure(r, "", rc);
		return;
	}
	r->limits = r->conf;
	ss_job_start(r->job, look, r);
}

void retain_wake(struct retain *r)
{
	if (!r)
		return;
	r->wanted = true;
	start(r);
}

void retain_tick(struct retain *r)
{
	if (!r)
		return;
	r->wanted |= ++r->age_s >= LOOK_EVERY_S;
	start(r);
}

int retain_new(struct retain **out, const struct ss_host *host, const struct storage_conf *conf,
	       const struct path *path)
{
	struct retain *r = calloc(1, sizeof *r);
	if (!r)
		return -ENOMEM;
	r->host = host;
	r->conf = *conf;
	r->path = path;
	int rc = has_work(conf) ? have_thread(r) : 0;
	if (rc < 0) {
		free(r);
		return rc;
	}
	retain_wake(r);
	*out = r;
	return 0;
}

void retain_reconfigure(struct retain *r, const struct storage_conf *conf)
{
	if (!r)
		return;
	r->conf = *conf;
	retain_wake(r);
}

void retain_free(struct retain *r)
{
	if (!r)
		return;
	atomic_store(&r->quit, true);
	(void)ss_job_free(r->job);
	clear_files(r);
	free(r->files);
	free(r);
}
