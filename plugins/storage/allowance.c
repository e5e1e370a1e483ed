/* SPDX-License-Identifier: MIT */
#include "storage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/base/crc32c.h>

enum { OWNER_BUCKETS = 1024, REFUSED = 256, PRUNE_FIRST = 64 };
#define SECOND   UINT64_C(1000000000)
#define AGAIN_NS (10 * SECOND) /* files are counted, or tried, again after so long */

struct begun {
	uint32_t hash;
	char *pattern;
};

struct owner {
	LIST_ENTRY(owner) in_bucket;
	uint32_t hash;
	char *name;          /* "": those that no certificate vouches for */
	struct begun *files; /* that it began, or was the first to use since the start */
	size_t n, room;
	size_t prune_at; /* then those that are gone are looked for */
	uint64_t pruned_ns;
	bool full; /* that was reported */
};

int allowance_init(struct allowance *a)
{
	a->owners = calloc(OWNER_BUCKETS, sizeof *a->owners);
	a->refused = calloc(REFUSED, sizeof *a->refused);
	return a->owners && a->refused ? 0 : -ENOMEM;
}

static void free_owner(struct owner *o)
{
	for (size_t i = 0; i < o->n; i++)
		free(o->files[i].pattern);
	free(o->files);
	free(o->name);
	free(o);
}

void allowance_done(struct allowance *a)
{
	for (int i = 0; a->owners && i < OWNER_BUCKETS; i++) {
		struct owner *o, *next;
		for (o = LIST_FIRST(&a->owners[i]); o; o = next) {
			next = LIST_NEXT(o, in_bucket);
			free_owner(o);
		}
	}
	for (int i = 0; a->refused && i < REFUSED; i++)
		free(a->refused[i].pattern);
	free(a->owners);
	free(a->refused);
	*a = (struct allowance){0};
}

static bool exists(const struct storage *s, const char *pattern)
{
	char rel[REL_MAX], why[WHY_MAX];
	struct stat st;

	if (path_render(pattern, time(NULL), rel) < 0)
		return false;
	int dirfd = path_open_dir(&s->path, rel, false, why);
	if (dirfd < 0)
		return false;
	bool there = fstatat(dirfd, path_base(rel), &st, AT_SYMLINK_NOFOLLOW) == 0;
	close(dirfd);
	return there;
}

/* ---- of all ---- */

static uint64_t count_in(int dirfd, const char *pattern, const struct tm *now)
{
	const char *slash = strchr(pattern, '/');
	DIR *dir = fdopendir(dirfd);
	uint64_t n = 0;

	if (!dir) {
		close(dirfd);
		return 0;
	}
	for (const struct dirent *e; (e = readdir(dir));) {
		if (!path_matches(pattern, e->d_name, strlen(e->d_name), now) ||
		    strstr(e->d_name, ROUTE_OTHER))
			continue;
		int below = slash ? path_open_at(dirfd, e->d_name, O_RDONLY | O_DIRECTORY, 0) : -1;
		n += !slash ? 1 : below >= 0 ? count_in(below, slash + 1, now) : 0;
	}
	closedir(dir);
	return n;
}

/* Those of today's names, whoever made them. */
static void count_files(struct storage *s, uint64_t now_ns)
{
	char why[WHY_MAX];
	struct tm now;
	time_t t = time(NULL);
	int fd = path_open_dir(&s->path, "", false, why);

	s->allowance.counted_ns = now_ns;
	s->allowance.made = fd < 0 ? 0 : count_in(fd, s->path.pattern, gmtime_r(&t, &now));
}

static bool has_room(struct storage *s)
{
	struct allowance *a = &s->allowance;
	uint64_t now = s->loop->now(s->loop_self), most = (uint64_t)s->conf->max_files;

	if (!a->counted_ns || (a->made >= most && now - a->counted_ns > AGAIN_NS))
		count_files(s, now);
	a->full &= a->made >= most;
	return a->made < most;
}

/* ---- of one peer ---- */

/* Whom files of these attributes are counted for; NULL: out of memory, then they are not. */
static struct owner *find_owner(struct allowance *a, const struct ss_attributes *attributes)
{
	struct ss_attribute peer = ss_attribute_get(attributes, SS_ATTR_PEER);
	bool verified = peer.text && attributes->flags & SS_ATTR_PEER_VERIFIED;
	size_t len = verified ? peer.len : 0;
	uint32_t hash = ss_crc32c(0, peer.text ? peer.text : "", len);
	struct owner_bucket *bucket = &a->owners[hash % OWNER_BUCKETS];
	struct owner *o;

	LIST_FOREACH(o, bucket, in_bucket)
	if (o->hash == hash && strlen(o->name) == len && (len == 0 || memcmp(o->name, peer.text, len) == 0))
		return o;
	o = calloc(1, sizeof *o);
	if (!o)
		return NULL;
	*o = (struct owner){.hash = hash, .prune_at = PRUNE_FIRST};
	o->name = strndup(len ? peer.text : "", len);
	if (!o->name) {
		free(o);
		return NULL;
	}
	LIST_INSERT_HEAD(bucket, o, in_bucket);
	return o;
}

/* Those that were removed, or are of another date, count no longer. */
static void prune(const struct storage *s, struct owner *o, uint64_t now)
{
	size_t left = 0;

	for (size_t i = 0; i < o->n; i++) {
		if (exists(s, o->files[i].pattern))
			o->files[left++] = o->files[i];
		else
			free(o->files[i].pattern);
	}
	o->n = left;
	o->prune_at = left < PRUNE_FIRST / 2 ? PRUNE_FIRST : 2 * left;
	o->pruned_ns = now;
}

static uint64_t share(const struct storage *s)
{
	uint64_t half = (uint64_t)s->conf->max_files / 2;

	return s->conf->max_peer_files ? (uint64_t)s->conf->max_peer_files : half ? half : 1;
}

static bool owner_has_room(struct storage *s, struct owner *o)
{
	uint64_t now = s->loop->now(s->loop_self);

	if (!o)
		return true;
	if (o->n >= share(s) && (!o->pruned_ns || now - o->pruned_ns > AGAIN_NS))
		prune(s, o, now);
	o->full &= o->n >= share(s);
	return o->n < share(s);
}

/* Without memory it is not counted. */
static void add_begun(struct storage *s, struct owner *o, const struct file *f)
{
	for (size_t i = 0; i < o->n; i++)
		if (o->files[i].hash == f->hash && strcmp(o->files[i].pattern, f->pattern) == 0)
			return;
	if (o->n >= o->prune_at)
		prune(s, o, s->loop->now(s->loop_self));
	if (o->n == o->room) {
		size_t room = o->room ? 2 * o->room : 4;
		struct begun *more = realloc(o->files, room * sizeof *more);
		if (!more)
			return;
		o->files = more;
		o->room = room;
	}
	char *pattern = strdup(f->pattern);
	if (pattern)
		o->files[o->n++] = (struct begun){.hash = f->hash, .pattern = pattern};
}

/* ---- what cannot be opened ---- */

/* Another file of the same folder may be none of these. */
static bool is_its_own(int rc)
{
	switch (rc) {
	case -EACCES:
	case -EPERM:
	case -EINVAL: /* not a regular file, or not ours */
	case -EISDIR:
	case -ENOTDIR:
	case -ELOOP:
	case -ENXIO:
	case -EFBIG:
	case -EWOULDBLOCK: /* locked, or replaced again and again */
	case -ETXTBSY:
	case -ENAMETOOLONG:
		return true;
	default:
		return false;
	}
}

static struct refused *place(struct allowance *a, uint32_t hash)
{
	return &a->refused[hash % REFUSED];
}

static bool is_refused(struct storage *s, const char *pattern, uint32_t hash)
{
	const struct refused *r = place(&s->allowance, hash);

	return r->pattern && s->loop->now(s->loop_self) < r->until_ns && strcmp(r->pattern, pattern) == 0;
}

bool allowance_refuses(struct storage *s, const struct file *f, int rc, const char why[WHY_MAX])
{
	struct allowance *a = &s->allowance;
	uint64_t now = s->loop->now(s->loop_self);
	char rel[REL_MAX] = "", text[WHY_MAX + REL_MAX];

	if (f->other || f->gathered || !a->refused || !is_its_own(rc))
		return false;
	struct refused *r = place(a, f->hash);
	char *pattern = strdup(f->pattern);
	if (!pattern)
		return false;
	free(r->pattern);
	*r = (struct refused){.pattern = pattern, .until_ns = now + AGAIN_NS};
	(void)path_render(f->pattern, time(NULL), rel);
	s->host->metric_add(s->host, METRIC_OPEN_ERRORS, 1);
	if (!a->told_ns || now - a->told_ns >= AGAIN_NS) {
		a->told_ns = now;
		ss_log(s->host, SS_LOG_ERROR,
		       "Cannot open the file; its events go to the file named %%other until it can be opened "
		       "path=%s/%s error=%s",
		       s->path.prefix, rel, why);
	}
	a->refused_ns = now;
	snprintf(text, sizeof text, "events go to %%other, cannot open %s/%s: %s", s->path.prefix, rel, why);
	s->host->set_degraded(s->host, text);
	return true;
}

void allowance_check(struct storage *s)
{
	struct allowance *a = &s->allowance;

	/* while it cannot be opened it is tried again and again, by events for it */
	if (!a->refused_ns || s->stalled || s->loop->now(s->loop_self) - a->refused_ns < 3 * AGAIN_NS)
		return;
	a->refused_ns = 0;
	s->host->set_degraded(s->host, NULL);
}

/* ---- both ---- */

static void report_full(struct storage *s)
{
	if (!s->allowance.full)
		ss_log(s->host, SS_LOG_WARN,
		       "There are as many files as max_files allows: events that would begin another one go "
		       "to the file named %%other path=%s/%s max_files=%llu",
		       s->path.prefix, s->path.pattern, (unsigned long long)s->conf->max_files);
	s->allowance.full = true;
}

static void report_owner(struct storage *s, struct owner *o)
{
	if (!o->full)
		ss_log(s->host, SS_LOG_WARN,
		       "A peer has begun as many files as max_peer_files allows: events of it that would "
		       "begin another one go to the file named %%other peer=%s path=%s/%s files=%llu",
		       o->name[0] ? o->name : "(unverified)", s->path.prefix, s->path.pattern,
		       (unsigned long long)share(s));
	o->full = true;
}

bool allowance_grants(struct storage *s, const struct ss_attributes *attributes, const char *pattern,
		      uint32_t hash, struct owner **owner)
{
	if (is_refused(s, pattern, hash))
		return false;
	struct owner *o = *owner = find_owner(&s->allowance, attributes);
	bool room = has_room(s), own = owner_has_room(s, o);
	if ((room && own) || exists(s, pattern))
		return true;
	if (!room)
		report_full(s);
	else
		report_owner(s, o);
	return false;
}

void allowance_opened(struct storage *s, const struct file *f)
{
	struct allowance *a = &s->allowance;

	if (f->other || !a->owners)
		return;
	a->made += f->seg->created;
	if (f->owner)
		add_begun(s, f->owner, f);
	struct refused *r = place(a, f->hash);
	if (!r->pattern || strcmp(r->pattern, f->pattern) != 0)
		return;
	ss_log(s->host, SS_LOG_INFO, "The file can be opened again path=%s", f->seg->path);
	free(r->pattern);
	r->pattern = NULL;
}

void allowance_renamed(struct storage *s, const struct file *f)
{
	s->allowance.made -= s->allowance.made > 0 && !f->other;
}
