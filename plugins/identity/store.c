/* SPDX-License-Identifier: MIT */
/*
 * store - see store.h.  Called on the loop of whoever opened it; everything is local and short.  Names are
 * relative to the open folder, and links in the last part are never followed for writing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include "store.h"

#define ACCOUNT     "account.json"
#define ACCOUNT_KEY "account.key"
#define PENDING     "account.key.pending"
#define STATE       "state.json"
#define CHAIN       "certificate.pem"
#define KEY         "certificate.key"
#define CURRENT     "current"

#define FILE_MAX   (512u << 10) /* bytes of a file */
#define NUMBER_MAX 999999       /* of generations */
#define ROOM       (64u << 10) /* bytes of a certificate, its key and the state, with all that is around them */

static const char *const files[2] = {CHAIN, KEY}, *const targets[2] = {CURRENT "/" CHAIN, CURRENT "/" KEY};

/* What tells one content of a file from the next. */
struct stamp {
	int64_t v[7]; /* all 0: not there */
};

struct store {
	char *path;
	int dir, lock;        /* lock -1: not held */
	struct stamp pair[2]; /* when it was last loaded or saved here */
	struct stamp state;   /* when it was last asked about */
	char warning[320], why[768];
};

bool text_set(char **to, const char *from)
{
	char *copy = from ? strdup(from) : NULL;
	if (from && !copy)
		return false;
	free(*to);
	*to = copy;
	return true;
}

/* ---- messages ---- */

/* error, with the sentence in store_why() */
#define fail(s, error, ...) (snprintf((s)->why, sizeof((s)->why), __VA_ARGS__), (error))

/* With what the system says. */
static int fail_at(struct store *s, const char *doing, const char *name, int error)
{
	switch (error) {
	case -ENOMEM:
		return fail(s, error, "out of memory");
	case -EPERM:
		return fail(s, -EINVAL,
			    "%s/%s is open to group or others; run chmod 600 on it, and replace the key if "
			    "others may have read it",
			    s->path, name);
	case -EINVAL:
	case -EISDIR:
		return fail(s, -EINVAL, "%s/%s is not a text file", s->path, name);
	case -EAGAIN:
		return fail(s, -EINVAL, "%s/%s is being written to", s->path, name);
	case -EFBIG:
		return fail(s, -EINVAL, "%s/%s is larger than %u KiB", s->path, name, FILE_MAX >> 10);
	}
	return fail(s, error, "%s %s/%s: %s", doing, s->path, name, strerror(-error));
}

const char *store_why(const struct store *s)
{
	return s->why;
}

const char *store_warning(const struct store *s)
{
	return s->warning[0] ? s->warning : NULL;
}

/* ---- files that are complete or absent ---- */

/* The whole of a regular file as text, malloced, NUL behind its end and nowhere else.  0; -ENOENT; -EINVAL
 * (something else than a text file), -EPERM (secret, but open to others), -EFBIG, ...: see fail_at(). */
static int read_text(const struct store *s, const char *name, bool secret, char **text)
{
	struct stat st;
	size_t len;
	int rc = ss_file_read(s->dir, name, FILE_MAX, text, &len, &st);
	if (rc == 0 && secret && !ss_file_is_private(&st))
		rc = -EPERM;
	else if (rc == 0 && memchr(*text, 0, len))
		rc = -EINVAL;
	else
		return rc;
	explicit_bzero(*text, len);
	free(*text);
	*text = NULL;
	return rc;
}

/* What root makes in the folder of another user becomes that user's. */
static void own(int dir, int fd)
{
	struct stat folder;
	/* where it cannot be done, as in a user namespace, nobody but root is there to mind */
	if (geteuid() == 0 && fstat(dir, &folder) == 0 && folder.st_uid != 0 &&
	    fchown(fd, folder.st_uid, folder.st_gid)) {
		/* as it is */
	}
}

/* dir is the folder or one in it.  Complete and on disk, or as it was before: 0, -errno. */
static int write_text(int dir, const char *name, const char *text, mode_t mode)
{
	struct ss_file_new f;
	int rc = ss_file_new_open(&f, dir, name, NULL, mode, 0);
	if (rc)
		return rc;
	own(dir, f.fd);
	rc = ss_write_all(f.fd, text, strlen(text));
	if (rc == 0)
		return ss_file_new_commit(&f, 0);
	ss_file_new_abort(&f);
	return rc;
}

/* 0 if it is gone or was not there. */
static int remove_file(const struct store *s, const char *name)
{
	return unlinkat(s->dir, name, 0) && errno != ENOENT ? -errno : 0;
}

/* Takes over root, whose texts are wiped. */
static int write_json(struct store *s, const char *name, json_t *root)
{
	char *text = key_json_text(root, JSON_INDENT(2));
	key_json_free(root);
	int rc = text ? write_text(s->dir, name, text, 0600) : -ENOMEM;
	key_text_free(text); /* it may hold a key */
	return rc ? fail_at(s, "cannot write", name, rc) : 0;
}

/* NULL: there is no such file.  0; -errno with why. */
static int read_json(struct store *s, const char *name, size_t flags, json_t **root)
{
	char *text = NULL;
	json_error_t error;
	*root = NULL;
	int rc = read_text(s, name, false, &text);
	if (rc)
		return rc == -ENOENT ? 0 : fail_at(s, "cannot read", name, rc);
	*root = json_loads(text, flags, &error);
	key_text_free(text);
	if (json_is_object(*root))
		return 0;
	rc = fail(s, -EINVAL, "%s/%s is broken, line %d: %s", s->path, name, error.line,
		  *root ? "not an object" : error.text);
	json_decref(*root);
	*root = NULL;
	return rc;
}

/* Of what the name stands for, links followed. */
static struct stamp stamp_of(const struct store *s, const char *name)
{
	struct stat st;
	if (fstatat(s->dir, name, &st, 0))
		return (struct stamp){{0}};
	return (struct stamp){{(int64_t)st.st_dev, (int64_t)st.st_ino, st.st_size, st.st_mtim.tv_sec,
			       st.st_mtim.tv_nsec, st.st_ctim.tv_sec, st.st_ctim.tv_nsec}};
}

/* ---- the folder ---- */

static void user_name(char *out, size_t size)
{
	struct passwd pw, *found = NULL;
	char buf[1024];
	if (getpwuid_r(geteuid(), &pw, buf, sizeof buf, &found) == 0 && found)
		snprintf(out, size, "%s", pw.pw_name);
	else
		snprintf(out, size, "%u", (unsigned)geteuid());
}

/* The folder and those above it; only the last is for us alone. */
static int make_folders(char *path)
{
	int rc = 0;
	for (char *p = path + 1; rc == 0 && (p = strchr(p, '/')); *p++ = '/') {
		*p = '\0';
		rc = mkdir(path, 0755) && errno != EEXIST ? -errno : 0;
	}
	return rc == 0 && mkdir(path, 0700) && errno != EEXIST ? -errno : rc;
}

static int open_folder(struct store *s)
{
	struct stat st;
	char user[64];
	int rc = make_folders(s->path);
	if (rc)
		return fail(s, rc, "storage_path %s cannot be created: %s", s->path, strerror(-rc));
	s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir < 0 || fstat(s->dir, &st) || faccessat(s->dir, ".", R_OK | W_OK | X_OK, AT_EACCESS)) {
		rc = -errno;
		user_name(user, sizeof user);
		return fail(
			s, rc,
			"storage_path %s is not writable by user %s: %s; give the folder to that user, as "
			"in \"chown %s %s\"",
			s->path, user, strerror(-rc), user, s->path);
	}
	s->warning[0] = '\0';
	if (st.st_mode & 022)
		snprintf(s->warning, sizeof s->warning,
			 "storage_path %s can be written by others (mode %04o): run \"chmod go-w\" on it",
			 s->path, (unsigned)st.st_mode & 07777);
	return 0;
}

int store_open(const char *path, struct store **out, char *why, size_t why_size)
{
	struct store *s = calloc(1, sizeof *s);
	if (!s || !(s->path = strdup(path))) {
		free(s);
		snprintf(why, why_size, "out of memory");
		return -ENOMEM;
	}
	s->dir = s->lock = -1;
	int rc = *path ? open_folder(s) : fail(s, -EINVAL, "storage_path is empty");
	if (rc) {
		snprintf(why, why_size, "%s", s->why);
		store_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void store_free(struct store *s)
{
	if (!s)
		return;
	store_unlock(s);
	if (s->dir >= 0)
		close(s->dir);
	free(s->path);
	free(s);
}

/* ---- the lock ---- */

/* Open the folder anew if the one we know was deleted. */
static int still_there(struct store *s)
{
	struct stat st;
	if (fstat(s->dir, &st) == 0 && st.st_nlink > 0)
		return 0;
	close(s->dir);
	s->dir = -1;
	return open_folder(s);
}

int store_lock(struct store *s)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct stat held, named;
	if (s->lock >= 0)
		return 0;
	int rc = still_there(s);
	/* again if somebody deleted the file just before: a lock on it would keep nobody away */
	for (int tries = 0; rc == 0 && tries < 3; tries++) {
		int fd = openat(s->dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd < 0)
			return -errno;
		own(s->dir, fd);
		if (fcntl(fd, F_OFD_SETLK, &whole)) {
			rc = errno == EACCES ? -EAGAIN : -errno;
			close(fd);
			return rc;
		}
		if (fstat(fd, &held) == 0 && fstatat(s->dir, "lock", &named, AT_SYMLINK_NOFOLLOW) == 0 &&
		    held.st_ino == named.st_ino && held.st_dev == named.st_dev) {
			s->lock = fd;
			return 0;
		}
		close(fd);
	}
	return rc ? rc : -EAGAIN;
}

void store_unlock(struct store *s)
{
	if (s->lock >= 0)
		close(s->lock);
	s->lock = -1;
}

/* ---- the account ---- */

/* NULL: absent, or not a text; or no memory, then *rc says so. */
static char *get_text(const json_t *object, const char *key, int *rc)
{
	const json_t *value = json_object_get(object, key);
	char *text = json_is_string(value) ? strdup(json_string_value(value)) : NULL;
	if (!text && json_is_string(value))
		*rc = -ENOMEM;
	return text;
}

static int read_key(struct store *s, const char *name, char **out)
{
	int rc = read_text(s, name, true, out);
	return rc == 0 || rc == -ENOENT ? rc : fail_at(s, "cannot read", name, rc);
}

/* account.json is missing where a registration was interrupted. */
static int read_registration(struct store *s, struct store_account *out)
{
	json_t *root;
	int rc = read_json(s, ACCOUNT, JSON_REJECT_DUPLICATES, &root);
	if (rc)
		return rc;
	const json_t *registration = json_object_get(root, "registration");
	json_t *body = json_object_get(registration, "body");
	out->email = get_text(root, "email", &rc);
	out->directory = get_text(root, "directory", &rc);
	out->url = get_text(registration, "uri", &rc);
	out->body = json_is_object(body) ? json_incref(body) : NULL;
	json_decref(root);
	return rc ? fail_at(s, "", "", rc) : 0;
}

int store_account_load(struct store *s, struct store_account *out)
{
	struct store_account a = {0};
	int rc = read_key(s, ACCOUNT_KEY, &a.key_pem);
	if (rc == 0)
		rc = read_registration(s, &a);
	if (rc == 0) {
		rc = read_key(s, PENDING, &a.pending_key_pem);
		rc = rc == -ENOENT ? 0 : rc;
	}
	/* the roll-over was completed, all but deleting its file */
	if (rc == 0 && a.pending_key_pem && strcmp(a.pending_key_pem, a.key_pem) == 0) {
		key_text_free(a.pending_key_pem);
		a.pending_key_pem = NULL;
	}
	if (rc)
		store_account_done(&a);
	else
		*out = a;
	return rc;
}

static bool holds(const struct store *s, const char *name, const char *key_pem)
{
	char *text = NULL;
	bool same = read_text(s, name, false, &text) == 0 && strcmp(text, key_pem) == 0;
	key_text_free(text);
	return same;
}

/*
 * At every moment the key belongs to the registration that is on disk, or the new one of a roll-over is
 * pending beside it: a key that has nothing to do with the registration is written after that is gone.
 */
int store_account_save(struct store *s, const struct store_account *a)
{
	bool new_key = !holds(s, ACCOUNT_KEY, a->key_pem);
	const char *name = PENDING;
	int rc = 0;
	if (a->pending_key_pem && !holds(s, PENDING, a->pending_key_pem))
		rc = write_text(s->dir, PENDING, a->pending_key_pem, 0600);
	if (rc == 0 && new_key && !holds(s, PENDING, a->key_pem))
		rc = remove_file(s, name = ACCOUNT);
	if (rc == 0 && new_key)
		rc = write_text(s->dir, name = ACCOUNT_KEY, a->key_pem, 0600);
	if (rc)
		return fail_at(s, "cannot write", name, rc);
	rc = write_json(s, ACCOUNT,
			json_pack("{s:s?, s:{s:o, s:s?}, s:s?}", "email", a->email, "registration", "body",
				  a->body ? json_deep_copy(a->body) : json_object(), "uri", a->url,
				  "directory", a->directory));
	if (rc || a->pending_key_pem)
		return rc;
	rc = remove_file(s, PENDING);
	return rc ? fail_at(s, "cannot remove", PENDING, rc) : 0;
}

void store_account_done(struct store_account *a)
{
	free(a->email);
	free(a->url);
	free(a->directory);
	json_decref(a->body);
	key_text_free(a->key_pem);
	key_text_free(a->pending_key_pem);
	*a = (struct store_account){0};
}

/* ---- what renewal remembers; whatever is wrong in it counts as absent ---- */

static int64_t get_time(const json_t *root, const char *key)
{
	int64_t value = json_integer_value(json_object_get(root, key)); /* 0: it is no integer */
	return value > 0 ? value : 0;
}

int store_state_load(struct store *s, struct store_state *out)
{
	json_t *root;
	int rc = read_json(s, STATE, 0, &root);
	const json_t *order = json_object_get(root, "order"), *ari = json_object_get(root, "ari");
	int64_t failures = get_time(root, "failures");
	*out = (struct store_state){
		.order_url = get_text(order, "url", &rc),
		.order_key_pem = get_text(order, "key", &rc),
		.failures = failures > UINT32_MAX ? UINT32_MAX : (uint32_t)failures,
		.next_try = get_time(root, "next_try"),
		.last_error = get_text(root, "last_error", &rc),
		.last_success = get_time(root, "last_success"),
		.ari_id = get_text(ari, "id", &rc),
		.ari_at = get_time(ari, "at"),
		.ari_start = get_time(ari, "start"),
		.ari_end = get_time(ari, "end"),
		.ari_check = get_time(ari, "check"),
		.jitter = get_time(root, "jitter"),
		.revoked = json_is_true(json_object_get(root, "revoked")),
		.ca_try = get_time(root, "ca_try"),
		.config = get_text(root, "config", &rc),
	};
	key_json_free(root);
	if (rc == -ENOMEM)
		fail_at(s, "cannot read", STATE, rc);
	if (rc)
		store_state_done(out);
	return rc;
}

int store_state_save(struct store *s, const struct store_state *state)
{
	return write_json(s, STATE,
			  json_pack("{s:{s:s?, s:s?}, s:I, s:I, s:I, s:s?, s:I, s:I, s:b, s:s?, s:{s:s?, "
				    "s:I, s:I, s:I, s:I}}",
				    "order", "url", state->order_url, "key", state->order_key_pem, "failures",
				    (json_int_t)state->failures, "next_try", (json_int_t)state->next_try,
				    "ca_try", (json_int_t)state->ca_try, "last_error", state->last_error,
				    "last_success", (json_int_t)state->last_success, "jitter",
				    (json_int_t)state->jitter, "revoked", (int)state->revoked, "config",
				    state->config, "ari", "id", state->ari_id, "at",
				    (json_int_t)state->ari_at, "start", (json_int_t)state->ari_start, "end",
				    (json_int_t)state->ari_end, "check", (json_int_t)state->ari_check));
}

void store_state_done(struct store_state *state)
{
	free(state->order_url);
	key_text_free(state->order_key_pem);
	free(state->last_error);
	free(state->config);
	free(state->ari_id);
	*state = (struct store_state){0};
}

bool store_state_changed(struct store *s)
{
	struct stamp before = s->state;
	s->state = stamp_of(s, STATE);
	return memcmp(&before, &s->state, sizeof before) != 0;
}

/* ---- reading the pair ---- */

static void take_stamps(const struct store *s, struct stamp out[2])
{
	for (int i = 0; i < 2; i++)
		out[i] = stamp_of(s, files[i]);
}

bool stored_cert_changed(struct store *s)
{
	struct stamp now[2];
	take_stamps(s, now);
	return memcmp(now, s->pair, sizeof now) != 0;
}

static int parse_pair(struct store *s, const char *chain_pem, const char *const *names, size_t n,
		      struct stored_cert *out)
{
	struct identity_key *key = NULL;
	char reason[256] = "";
	const char *file = KEY;
	size_t len = strlen(chain_pem);
	int rc = key_load(out->key_pem, strlen(out->key_pem), &key, reason, sizeof reason);
	if (rc == 0) {
		file = CHAIN;
		rc = chain_read(chain_pem, len, key, names, n, &out->chain, reason, sizeof reason);
		out->names_match = rc == 0;
		if (rc == -EINVAL && names)
			rc = chain_read(chain_pem, len, key, NULL, 0, &out->chain, reason, sizeof reason);
	}
	out->exists = rc == 0;
	key_free(key);
	if (rc == -EINVAL)
		return fail(s, rc, "%s/%s: %s", s->path, file, reason);
	return rc ? fail_at(s, "cannot read", file, rc) : 0;
}

static int read_pair(struct store *s, const char *const *names, size_t n, struct stored_cert *out)
{
	char *chain = NULL;
	int rc = read_text(s, CHAIN, false, &chain);
	if (rc)
		return rc == -ENOENT ? rc : fail_at(s, "cannot read", CHAIN, rc);
	rc = read_key(s, KEY, &out->key_pem);
	if (rc == -ENOENT)
		rc = fail(s, -EINVAL, "%s/" KEY " is missing", s->path);
	else if (rc == 0)
		rc = parse_pair(s, chain, names, n, out);
	free(chain);
	return rc;
}

int stored_cert_load(struct store *s, const char *const *names, size_t n, struct stored_cert *out)
{
	const int tries = 5;
	/* again if it was exchanged between the two files */
	for (int i = 0; i < tries; i++) {
		*out = (struct stored_cert){0};
		take_stamps(s, s->pair);
		int rc = read_pair(s, names, n, out);
		bool same = !stored_cert_changed(s);
		if (same && rc == 0)
			return 0;
		stored_cert_done(out);
		if (same)
			return rc;
	}
	return fail(s, -EINVAL, "%s/" CHAIN " and " KEY " keep changing", s->path);
}

void stored_cert_done(struct stored_cert *cert)
{
	chain_done(&cert->chain);
	key_text_free(cert->key_pem);
	*cert = (struct stored_cert){0};
}

/*
 * ---- generations: a folder for each holds certificate and key, which change together; "current" is a link
 * to one of them, certificate.pem and certificate.key are links through it.  Exchanging "current" is the one
 * step that counts.
 */

struct name {
	char text[24];
};

static struct name numbered(const char *kind, int n)
{
	struct name name;
	snprintf(name.text, sizeof name.text, "%s-%06d", kind, n);
	return name;
}

/* 0: not the name of a generation. */
static int gen_number(const char *name)
{
	int n = 0;
	if (sscanf(name, "gen-%6d", &n) != 1 || n <= 0 || n > NUMBER_MAX)
		return 0;
	return strcmp(numbered("gen", n).text, name) == 0 ? n : 0;
}

/* The generation "current" stands for, 0: none. */
static int current_gen(const struct store *s)
{
	char target[32] = "";
	return readlinkat(s->dir, CURRENT, target, sizeof target - 1) < 0 ? 0 : gen_number(target);
}

static DIR *list(const struct store *s, const char *folder)
{
	int fd = openat(s->dir, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

/* With all that is in it; not an error if that cannot be done. */
static void remove_gen(const struct store *s, int n)
{
	struct name name = numbered("gen", n);
	DIR *dir = list(s, name.text);
	for (const struct dirent *e; dir && (e = readdir(dir));)
		unlinkat(dirfd(dir), e->d_name, 0);
	if (dir)
		closedir(dir);
	unlinkat(s->dir, name.text, AT_REMOVEDIR);
}

/* All but two: the present one, and the one before it for whoever is just reading. */
static void sweep(const struct store *s, int present, int before)
{
	DIR *dir = list(s, ".");
	for (const struct dirent *e; dir && (e = readdir(dir));) {
		int n = gen_number(e->d_name);
		if (n > 0 && n != present && n != before)
			remove_gen(s, n);
	}
	if (dir)
		closedir(dir);
}

/* A folder with the first number behind *n that no other has: what a crash left may lie in the way.  Its
 * descriptor, -errno. */
static int make_numbered(const struct store *s, const char *kind, mode_t mode, int *n)
{
	struct name name;
	int rc = -EEXIST;
	for (int tries = 0; rc == -EEXIST && tries < NUMBER_MAX; tries++) {
		*n = *n % NUMBER_MAX + 1;
		name = numbered(kind, *n);
		rc = mkdirat(s->dir, name.text, mode) ? -errno : 0;
	}
	if (rc)
		return rc;
	rc = ss_sync_folder(s->dir);
	int dir = openat(s->dir, name.text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (rc == 0 && dir < 0)
		rc = -errno;
	if (rc == 0) {
		own(s->dir, dir);
		return dir;
	}
	if (dir >= 0)
		close(dir);
	unlinkat(s->dir, name.text, AT_REMOVEDIR);
	return rc;
}

static bool is_link_to(const struct store *s, const char *name, const char *target)
{
	char buf[64];
	ssize_t n = readlinkat(s->dir, name, buf, sizeof buf);
	return n >= 0 && (size_t)n == strlen(target) && memcmp(buf, target, (size_t)n) == 0;
}

/* ---- what an operator put there ---- */

/* A file of ours is older than "current", which was made after it.  One with a second name is kept already.
 */
static bool is_operators(const struct store *s, const char *name)
{
	struct stat itself, file, link;
	if (fstatat(s->dir, name, &itself, AT_SYMLINK_NOFOLLOW) || fstatat(s->dir, name, &file, 0) ||
	    !S_ISREG(file.st_mode) || file.st_nlink != 1)
		return false;
	if (S_ISREG(itself.st_mode))
		return true;
	return fstatat(s->dir, CURRENT, &link, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (file.st_mtim.tv_sec > link.st_mtim.tv_sec ||
		(file.st_mtim.tv_sec == link.st_mtim.tv_sec && file.st_mtim.tv_nsec > link.st_mtim.tv_nsec));
}

/* One more name for the file, in the folder kept; a plain file gets this name only where there are no hard
 * links. */
static int keep_file(const struct store *s, const char *name, int kept)
{
	struct stat st;
	if (linkat(s->dir, name, kept, name, AT_SYMLINK_FOLLOW) == 0 || errno == ENOENT)
		return 0;
	if (fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return 0;
	return renameat(s->dir, name, kept, name) ? -errno : 0;
}

/* Certificate and key that are about to be replaced and that somebody else wrote: both are kept in a folder
 * that nothing here ever deletes, as the key may be the only copy. */
static int set_aside(struct store *s)
{
	int n = 0, rc = 0;
	if (!is_operators(s, CHAIN) && !is_operators(s, KEY))
		return 0;
	int dir = make_numbered(s, "replaced", 0700, &n);
	if (dir < 0)
		return dir;
	for (int i = 0; rc == 0 && i < 2; i++)
		rc = keep_file(s, files[i], dir);
	if (rc == 0)
		rc = ss_sync_folder(dir);
	close(dir);
	snprintf(s->warning, sizeof s->warning,
		 "Certificate or key in storage was written by somebody else and is replaced; the files are "
		 "kept in %.128s/%s",
		 s->path, numbered("replaced", n).text);
	return rc;
}

/* ---- saving ---- */

/* A new generation with both files, all of it on disk, becomes the present one. */
static int make_current(struct store *s, const char *chain_pem, const char *key_pem)
{
	int n = current_gen(s);
	/* certificates are for everybody who may look into storage_path */
	int dir = make_numbered(s, "gen", 0755, &n);
	if (dir < 0)
		return dir;
	int rc = write_text(dir, KEY, key_pem, 0600);
	if (rc == 0)
		rc = write_text(dir, CHAIN, chain_pem, 0644);
	close(dir);
	if (rc == 0)
		rc = set_aside(s);
	if (rc == 0)
		rc = ss_link_write(s->dir, numbered("gen", n).text, CURRENT);
	if (rc && current_gen(s) != n)
		remove_gen(s, n);
	return rc;
}

/* Plain files that an operator put there become a generation first, so that they can be exchanged in one
 * step. */
static int adopt(struct store *s)
{
	struct stored_cert cert;
	if (is_link_to(s, KEY, targets[1]) && is_link_to(s, CHAIN, targets[0]))
		return 0;
	int rc = stored_cert_load(s, NULL, 0, &cert);
	if (rc == 0)
		rc = make_current(s, cert.chain.pem, cert.key_pem);
	else if ((rc == -ENOENT || rc == -EINVAL) && (rc = set_aside(s)) == 0)
		rc = remove_file(s, CURRENT); /* nothing usable: what "current" means must not come up */
	stored_cert_done(&cert);
	/* The key first: without a certificate.pem there is no pair, so what "current" may still point to
	 * from earlier times is not half taken for one. */
	for (int i = 1; rc == 0 && i >= 0; i--)
		if (!is_link_to(s, files[i], targets[i]))
			rc = ss_link_write(s->dir, targets[i], files[i]);
	return rc;
}

int store_has_room(struct store *s)
{
	/* where there is no such file it cannot be told */
	int fd = openat(s->dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	int rc = fd < 0 ? -errno : -posix_fallocate(fd, 0, ROOM);
	if (fd >= 0)
		close(fd);
	if (rc != -ENOSPC && rc != -EDQUOT && rc != -EROFS)
		return 0;
	return fail(s, rc, "there is no room for a certificate in %s: %s", s->path, strerror(-rc));
}

int stored_cert_save(struct store *s, const char *chain_pem, const char *key_pem)
{
	s->warning[0] = '\0';
	int rc = adopt(s), before = current_gen(s);
	if (rc == 0)
		rc = make_current(s, chain_pem, key_pem);
	if (rc)
		return fail(s, rc, "cannot write the certificate to %s: %s", s->path, strerror(-rc));
	take_stamps(s, s->pair);
	sweep(s, current_gen(s), before);
	return 0;
}
