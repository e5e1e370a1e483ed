/* SPDX-License-Identifier: MIT */
#include "path.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>

const char *const path_extensions[] = {".gz", ".zst", NULL};

/* ---- templates ---- */

__attribute__((format(printf, 2, 3))) static int wrong(char why[WHY_MAX], const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(why, WHY_MAX, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* The id becomes part of a file name: nothing in it may lead elsewhere. */
static bool id_is_safe(const char *id)
{
	return id[0] && id[0] != '.' &&
	       id[strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")] == '\0';
}

static const char *const names[] = {"{component}", "{peer}", "{origin}", "{input}", "{address}", NULL};

static bool is_name(const char *text, size_t n)
{
	for (int i = 0; names[i]; i++)
		if (strlen(names[i]) == n && strncmp(names[i], text, n) == 0)
			return true;
	return false;
}

static int check_fields(const char *text, char why[WHY_MAX])
{
	for (const char *p = text; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return wrong(why, "contains a control character");
		if (*p == '%') {
			p++;
			if (!*p || !strchr("YmdH%", *p))
				return wrong(why, "%%%.1s is unknown; use %%Y, %%m, %%d, %%H or %%%%", p);
		} else if (*p == '{') {
			size_t n = strcspn(p, "}");
			if (!is_name(p, n + 1))
				return wrong(why,
					     "%.*s is unknown; use {component}, {peer}, {origin}, {input} or "
					     "{address}",
					     n < 40 ? (int)n + 1 : 40, p);
			p += n;
		} else if (*p == '}') {
			return wrong(why, "has a '}' without '{'");
		}
	}
	return 0;
}

/* Each part of the pattern must be a plain name that fits a directory entry. */
static int check_pattern(const char *pattern, char why[WHY_MAX])
{
	for (const char *p = pattern;; p++) {
		size_t n = strcspn(p, "/");
		if (n == 0)
			return wrong(why, p[0] ? "has an empty part below its fixed directory"
					       : "names a directory; add a file name, such as data.jsonl");
		if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return wrong(why, "must not contain '%.*s' there", (int)n, p);
		if (n > NAME_LEN_MAX)
			return wrong(why, "has a part longer than %d bytes", NAME_LEN_MAX);
		p += n;
		if (!*p)
			return 0;
	}
}

/* A copy of the pattern with {component} put in. */
static char *put_id(const char *pattern, const char *id)
{
	size_t id_len = strlen(id), size = 1;
	for (const char *p = pattern; *p; p++)
		size += *p == '{' ? id_len + 1 : 1;
	char *out = malloc(size), *to = out;
	if (!out)
		return NULL;
	while (*pattern) {
		if (strncmp(pattern, names[0], strlen(names[0])) == 0) {
			to = mempcpy(to, id, id_len);
			pattern += strlen(names[0]);
		} else {
			*to++ = *pattern++;
		}
	}
	*to = '\0';
	return out;
}

/* The fixed directory ends at the last '/' before the first field, or before the file's name. */
static const char *pattern_start(const char *text)
{
	size_t fixed = strcspn(text, "%{");
	const char *slash = memrchr(text, '/', fixed);
	return slash ? slash + 1 : text;
}

int path_parse(struct path *p, const char *text, const char *id, char why[WHY_MAX])
{
	*p = (struct path){0};
	int rc = check_fields(text, why);
	if (rc < 0)
		return rc;
	if (strstr(text, names[0]) && !id_is_safe(id))
		return wrong(why, "cannot contain {component}: the id may only have A-Z a-z 0-9 . _ - and no "
				  "leading dot");
	const char *start = pattern_start(text);
	size_t prefix_len = (size_t)(start - text);
	while (prefix_len > 1 && text[prefix_len - 1] == '/')
		prefix_len--;
	bool has_field = text[strcspn(text, "%{")] != '\0';
	if (has_field && (prefix_len == 0 || (prefix_len == 1 && text[0] == '/')))
		return wrong(why, "needs a fixed directory before its first field, such as /data/%s", start);
	rc = check_pattern(start, why);
	if (rc < 0)
		return rc;
	p->prefix = prefix_len ? strndup(text, prefix_len) : strdup(".");
	p->pattern = put_id(start, id);
	if (!p->prefix || !p->pattern) {
		path_done(p);
		return -ENOMEM;
	}
	for (const char *c = p->pattern; *c && !p->dated; c++)
		if (*c == '%' && *++c != '%')
			p->dated = true;
	p->routed = strchr(p->pattern, '{') != NULL;
	char rel[REL_MAX];
	rc = path_render(p->pattern, 0, rel);
	if (rc == 0)
		rc = check_pattern(rel, why); /* {component} may have made a part too long */
	else
		wrong(why, "is too long");
	if (rc < 0)
		path_done(p);
	return rc < 0 ? -EINVAL : 0;
}

void path_done(struct path *p)
{
	free(p->prefix);
	free(p->pattern);
	*p = (struct path){0};
}

int path_render(const char *pattern, time_t when, char rel[REL_MAX])
{
	struct tm tm;
	gmtime_r(&when, &tm);
	size_t n = strftime(rel, REL_MAX, pattern, &tm);
	return n ? 0 : -ENAMETOOLONG;
}

static bool digits(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isdigit((unsigned char)s[i]))
			return false;
	return true;
}

/* A date field, n digits, that says what it says at that time. */
static bool is_date(char field, const char *text, size_t n, const struct tm *at)
{
	char now[8];
	int value = !at            ? 0
		    : field == 'Y' ? at->tm_year + 1900
		    : field == 'm' ? at->tm_mon + 1
		    : field == 'd' ? at->tm_mday
				   : at->tm_hour;

	if (!digits(text, n))
		return false;
	snprintf(now, sizeof now, "%0*d", (int)n, value % 10000);
	return !at || strncmp(text, now, n) == 0;
}

/* The longest beginning of a name that a value can become (route.h). */
static size_t value_len(const char *name, size_t n)
{
	size_t len = 0;

	if (n == 0 || *name == '.' || *name == '-')
		return 0;
	while (len < n && (isalnum((unsigned char)name[len]) || strchr("._-@:+=,%~", name[len])))
		len++;
	return len;
}

bool path_matches(const char *part, const char *name, size_t n, const struct tm *at)
{
	const char *end = name + n;

	for (; *part && *part != '/'; part++) {
		if (*part == '{') {
			const char *rest = strchr(part, '}') + 1;
			for (size_t len = value_len(name, (size_t)(end - name)); len > 0; len--)
				if (path_matches(rest, name + len, (size_t)(end - name) - len, at))
					return true;
			return false;
		}
		if (*part == '%' && part[1] != '%') {
			size_t width = *++part == 'Y' ? 4 : 2;
			if ((size_t)(end - name) < width || !is_date(*part, name, width, at))
				return false;
			name += width;
			continue;
		}
		part += *part == '%';
		if (name == end || *name++ != *part)
			return false;
	}
	return name == end;
}

bool path_matches_all(const char *pattern, const char *rel, time_t when)
{
	struct tm tm;

	gmtime_r(&when, &tm);
	for (;;) {
		size_t part = strcspn(pattern, "/"), n = strcspn(rel, "/");
		if (!path_matches(pattern, rel, n, &tm) || !pattern[part] != !rel[n])
			return false;
		if (!rel[n])
			return true;
		pattern += part + 1;
		rel += n + 1;
	}
}

const char *path_base(const char *rel)
{
	const char *slash = strrchr(rel, '/');
	return slash ? slash + 1 : rel;
}

/* ---- opening ---- */

int path_open_at(int dirfd, const char *name, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_NOFOLLOW | O_CLOEXEC),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int fd;
	do
		fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof how);
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	/* without openat2 (old kernel, seccomp) the same holds as long as name is one plain part */
	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		fd = openat(dirfd, name, flags | O_NOFOLLOW | O_CLOEXEC, mode);
	return fd < 0 ? -errno : fd;
}

/* One directory down; follow: as the operator wrote it, links allowed. */
static int step_down(int dirfd, const char *name, bool follow, bool create)
{
	for (int made = 0;; made = 1) {
		int fd = follow ? openat(dirfd, name, O_PATH | O_DIRECTORY | O_CLOEXEC)
				: path_open_at(dirfd, name, O_PATH | O_DIRECTORY, 0);
		if (fd < 0 && follow)
			fd = -errno;
		if (fd != -ENOENT || !create || made)
			return fd;
		if (mkdirat(dirfd, name, 0750) < 0 && errno != EEXIST)
			return -errno;
		/* the new entry must outlive a power cut, like the lines below it */
		int sync = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (sync >= 0) {
			fsync(sync);
			close(sync);
		}
	}
}

/* Walk the directories of dirs, n bytes, from base; ends readable.  Takes over base. */
static int walk(int base, const char *dirs, size_t n, bool follow, bool create, char why[WHY_MAX])
{
	char name[256];
	int fd = base;
	for (size_t at = 0; at < n;) {
		size_t len = strcspn(dirs + at, "/");
		if (len > n - at)
			len = n - at;
		if (len >= sizeof name) {
			close(fd);
			wrong(why, "a directory name is too long");
			return -ENAMETOOLONG;
		}
		if (len) {
			memcpy(name, dirs + at, len);
			name[len] = '\0';
			int next = step_down(fd, name, follow, create);
			close(fd);
			if (next < 0) {
				wrong(why, "directory '%s': %s", name,
				      next == -ELOOP     ? "is a symbolic link"
				      : next == -ENOTDIR ? "is a symbolic link or not a directory"
							 : strerror(-next));
				return next;
			}
			fd = next;
		}
		at += len + 1;
	}
	int out = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = errno;
	close(fd);
	if (out < 0)
		wrong(why, "its directory cannot be read: %s", strerror(err));
	return out < 0 ? -err : out;
}

int path_open_dir(const struct path *p, const char *rel, bool create, char why[WHY_MAX])
{
	int fd = open(p->prefix[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		int err = errno;
		wrong(why, "the working directory cannot be opened: %s", strerror(err));
		return -err;
	}
	fd = walk(fd, p->prefix, strlen(p->prefix), true, create, why);
	const char *base = path_base(rel);
	if (fd < 0 || base == rel)
		return fd;
	return walk(fd, rel, (size_t)(base - rel), false, create, why);
}

bool path_owner_ok(const struct path *p, uid_t owner)
{
	return p->any_owner || owner == geteuid();
}

static int check_file(const struct path *p, int fd, char why[WHY_MAX])
{
	struct stat st;
	if (fstat(fd, &st) < 0) {
		int err = errno;
		wrong(why, "%s", strerror(err));
		return -err;
	}
	if (!S_ISREG(st.st_mode))
		return wrong(why, "is not a regular file");
	if (st.st_nlink > 1)
		return wrong(why, "has %lu hard links; only a file with one name is written to",
			     (unsigned long)st.st_nlink);
	if (!path_owner_ok(p, st.st_uid))
		return wrong(why,
			     "belongs to user %u, not to the one running this (%u); change its owner, or set "
			     "any_owner where the file system shows every file with one owner",
			     (unsigned)st.st_uid, (unsigned)geteuid());
	return 0;
}

static int lock_file(int fd, char why[WHY_MAX])
{
	int rc;
	do
		rc = flock(fd, LOCK_EX | LOCK_NB);
	while (rc < 0 && errno == EINTR);
	if (rc == 0 || errno == ENOSYS || errno == EOPNOTSUPP || errno == ENOLCK)
		return 0; /* some network file systems have no locks: better to write than to refuse */
	int err = errno;
	if (err == EWOULDBLOCK)
		wrong(why, "is in use by another component or process");
	else
		wrong(why, "cannot be locked: %s", strerror(err));
	return -err;
}

/* Is fd still what name stands for, now that we hold the lock? */
static bool is_current(int dirfd, const char *name, int fd)
{
	struct stat a, b;
	return fstat(fd, &a) == 0 && fstatat(dirfd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int open_once(const struct path *p, int dirfd, const char *name, mode_t mode, bool *created,
		     char why[WHY_MAX])
{
	/* O_NONBLOCK: a FIFO or device in the way must not hang us; regular files ignore it */
	const int flags = O_RDWR | O_APPEND | O_NONBLOCK | O_NOCTTY;
	int fd = path_open_at(dirfd, name, flags | O_CREAT | O_EXCL, mode);
	*created = fd >= 0;
	if (fd == -EEXIST)
		fd = path_open_at(dirfd, name, flags, 0);
	if (fd < 0) {
		wrong(why, "%s",
		      fd == -ELOOP    ? "is a symbolic link"
		      : fd == -EISDIR ? "is a directory"
		      : fd == -ENXIO  ? "is not a regular file"
				      : strerror(-fd));
		return fd;
	}
	if (*created)
		(void)fchmod(fd, mode); /* the umask must not narrow a mode that was asked for */
	int rc = check_file(p, fd, why);
	if (rc == 0)
		rc = lock_file(fd, why);
	if (rc == 0 && !is_current(dirfd, name, fd)) {
		wrong(why, "is replaced by another process again and again");
		rc = -EAGAIN;
	}
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

int path_open_file(const struct path *p, int dirfd, const char *name, mode_t mode, bool *created,
		   char why[WHY_MAX])
{
	int fd = -EAGAIN;
	for (int tries = 0; tries < 8 && (fd == -EAGAIN || fd == -ENOENT); tries++)
		fd = open_once(p, dirfd, name, mode, created, why);
	return fd;
}

/* ---- names of closed files ---- */

size_t path_stamp_len(const char *tail)
{
	if (tail[0] != '.' || !digits(tail + 1, 8) || tail[9] != 'T' || !digits(tail + 10, 6) ||
	    tail[16] != 'Z')
		return 0;
	return tail[17] == '.' && digits(tail + 18, 3) ? 21 : 17;
}

static bool exists_compressed(int dirfd, const char *name)
{
	char full[REL_MAX];
	struct stat st;
	for (int i = 0; path_extensions[i]; i++) {
		snprintf(full, sizeof full, "%s%s", name, path_extensions[i]);
		if (fstatat(dirfd, full, &st, AT_SYMLINK_NOFOLLOW) == 0)
			return true;
	}
	return false;
}

int path_stamp(int dirfd, const char *name, time_t when, char out[REL_MAX])
{
	struct tm tm;
	char stamp[STAMP_MAX];
	gmtime_r(&when, &tm);
	strftime(stamp, sizeof stamp, ".%Y%m%dT%H%M%SZ", &tm);
	int rc = -EEXIST;
	for (int n = 0; n < 1000 && rc == -EEXIST; n++) {
		int len = n ? snprintf(out, REL_MAX, "%s%s.%03d", name, stamp, n)
			    : snprintf(out, REL_MAX, "%s%s", name, stamp);
		if (len >= REL_MAX)
			return -ENAMETOOLONG;
		rc = exists_compressed(dirfd, out) ? -EEXIST : ss_rename_new(dirfd, name, dirfd, out);
	}
	return rc;
}
