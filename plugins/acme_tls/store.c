/* SPDX-License-Identifier: MIT */
/*
 * store - see store.h: the folder, its lock, its files, the ACME account and what renewal remembers.  Called
 * on the loop of whoever opened it; everything is local and short.  Names are relative to the open folder,
 * and links in the last part are never followed for writing.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include "key.h"
#include "store_impl.h"

#define ACCOUNT "account.json"
#define KEY     "account.key"
#define PENDING "account.key.pending"
#define STATE   "state.json"

/* ---- messages ---- */

int store_fail(char *why, size_t why_size, int error, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(why, why_size, fmt, ap);
	va_end(ap);
	return error;
}

int store_fail_at(const struct store *s, const char *doing, const char *name, char *why, size_t why_size,
		  int error)
{
	switch (error) {
	case -ENOMEM:
		return store_fail(why, why_size, error, "out of memory");
	case -EPERM:
		return store_fail(why, why_size, -EINVAL,
				  "%s/%s must be readable only by the user that semstreams runs as: run "
				  "chmod 600 and chown on it and, if others could read it, replace the key",
				  s->path, name);
	case -EINVAL:
		return store_fail(why, why_size, error, "%s/%s is not a text file", s->path, name);
	case -EFBIG:
		return store_fail(why, why_size, -EINVAL, "%s/%s is larger than %u KiB", s->path, name,
				  STORE_FILE_MAX >> 10);
	}
	return store_fail(why, why_size, error, "%s %s/%s: %s", doing, s->path, name, strerror(-error));
}

/* ---- reading ---- */

/* Whose folder it is may have files there, too: root looks after the storage of others. */
static bool is_ours(int dir, const struct stat *file)
{
	struct stat folder;
	return file->st_uid == geteuid() || file->st_uid == 0 ||
	       (fstat(dir, &folder) == 0 && folder.st_uid == file->st_uid);
}

static int read_whole(int dir, int fd, bool secret, char **text, size_t *len)
{
	struct stat st;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (secret && ((st.st_mode & 077) || !is_ours(dir, &st)))
		return -EPERM;
	if (st.st_size > (off_t)STORE_FILE_MAX)
		return -EFBIG;
	/* one more than it should have: a file that grows meanwhile is noticed */
	size_t room = (size_t)st.st_size + 1;
	char *buf = malloc(room);
	ssize_t have = buf ? ss_pread_all(fd, buf, room, 0) : -ENOMEM;
	int rc = have < 0 ? (int)have : (size_t)have == room || memchr(buf, 0, (size_t)have) ? -EINVAL : 0;
	if (rc) {
		free(buf);
		return rc;
	}
	buf[have] = '\0';
	*text = buf;
	*len = (size_t)have;
	return 0;
}

int store_read(int dir, const char *name, bool secret, char **text, size_t *len)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	int rc = read_whole(dir, fd, secret, text, len);
	close(fd);
	return rc;
}

/* ---- writing ---- */

void store_own(int dir, int fd)
{
	struct stat folder;
	/* where it cannot be done, as in a user namespace, nobody but root is there to mind */
	if (geteuid() == 0 && fstat(dir, &folder) == 0 && folder.st_uid != 0 &&
	    fchown(fd, folder.st_uid, folder.st_gid)) {
		/* as it is */
	}
}

int store_write(int dir, const char *name, const char *text, mode_t mode)
{
	struct ss_file_new f;
	int rc = ss_file_new_open(&f, dir, name, NULL, mode, 0);
	if (rc)
		return rc;
	store_own(dir, f.fd);
	rc = ss_write_all(f.fd, text, strlen(text));
	if (rc == 0)
		return ss_file_new_commit(&f, 0);
	ss_file_new_abort(&f);
	return rc;
}

/* Takes over root. */
static int write_json(const struct store *s, const char *name, json_t *root, char *why, size_t why_size)
{
	char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	json_decref(root);
	int rc = text ? store_write(s->dir, name, text, 0600) : -ENOMEM;
	key_text_free(text); /* it may hold a key */
	return rc ? store_fail_at(s, "cannot write", name, why, why_size, rc) : 0;
}

/* 0; -ENOENT; -errno with why. */
static int read_json(const struct store *s, const char *name, size_t flags, json_t **root, char *why,
		     size_t why_size)
{
	char *text = NULL;
	size_t len = 0;
	json_error_t error;
	int rc = store_read(s->dir, name, false, &text, &len);
	if (rc)
		return rc == -ENOENT ? rc : store_fail_at(s, "cannot read", name, why, why_size, rc);
	*root = json_loadb(text, len, flags, &error);
	key_text_free(text);
	if (json_is_object(*root))
		return 0;
	rc = store_fail(why, why_size, -EINVAL, "%s/%s is broken, line %d: %s", s->path, name, error.line,
			*root ? "not an object" : error.text);
	json_decref(*root);
	*root = NULL;
	return rc;
}

/* ---- stamps ---- */

struct store_stamp store_stamp(const struct store *s, const char *name)
{
	struct stat st;
	if (fstatat(s->dir, name, &st, 0))
		return (struct store_stamp){{0}};
	return (struct store_stamp){{(int64_t)st.st_dev, (int64_t)st.st_ino, st.st_size, st.st_mtim.tv_sec,
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
static int make_folders(const char *path)
{
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	int rc = 0;
	for (char *p = copy + 1; rc == 0 && (p = strchr(p, '/')); *p++ = '/') {
		*p = '\0';
		if (mkdir(copy, 0755) && errno != EEXIST)
			rc = -errno;
	}
	free(copy);
	if (rc == 0 && mkdir(path, 0700) && errno != EEXIST)
		rc = -errno;
	return rc;
}

static int open_folder(struct store *s, char *why, size_t why_size)
{
	struct stat st;
	char user[64];
	int rc = make_folders(s->path);
	if (rc)
		return store_fail(why, why_size, rc, "storage_path %s cannot be created: %s", s->path,
				  strerror(-rc));
	s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir < 0 || fstat(s->dir, &st) || faccessat(s->dir, ".", R_OK | W_OK | X_OK, AT_EACCESS)) {
		rc = -errno;
		user_name(user, sizeof user);
		return store_fail(why, why_size, rc,
				  "storage_path %s is not writable by user %s: %s; give the folder to that "
				  "user, as in \"chown %s "
				  "%s\"",
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
	if (!s || !*path || !(s->path = strdup(path))) {
		free(s);
		return *path ? store_fail(why, why_size, -ENOMEM, "out of memory")
			     : store_fail(why, why_size, -EINVAL, "storage_path is empty");
	}
	for (size_t n = strlen(s->path); n > 1 && s->path[n - 1] == '/'; n--)
		s->path[n - 1] = '\0';
	s->dir = s->lock = -1;
	int rc = open_folder(s, why, why_size);
	if (rc) {
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

const char *store_path(const struct store *s)
{
	return s->path;
}

const char *store_warning(const struct store *s)
{
	return s->warning[0] ? s->warning : NULL;
}

/* ---- the lock ---- */

/* Open the folder anew if the one we know was deleted. */
static int still_there(struct store *s)
{
	struct stat st;
	char why[512];
	if (fstat(s->dir, &st) == 0 && st.st_nlink > 0)
		return 0;
	close(s->dir);
	s->dir = -1;
	return open_folder(s, why, sizeof why);
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
		store_own(s->dir, fd);
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

/* Absent, or not a text: *out stays. */
static int get_text(const json_t *object, const char *key, char **out)
{
	const json_t *value = json_object_get(object, key);
	if (!json_is_string(value))
		return 0;
	*out = strdup(json_string_value(value));
	return *out ? 0 : -ENOMEM;
}

static int parse_account(const json_t *root, struct store_account *out)
{
	const json_t *registration = json_object_get(root, "registration");
	const json_t *body = json_object_get(registration, "body");
	int rc = get_text(root, "email", &out->email);
	if (rc == 0)
		rc = get_text(root, "directory", &out->directory);
	if (rc == 0)
		rc = get_text(registration, "uri", &out->url);
	if (rc)
		return rc;
	out->body = json_is_object(body) ? json_dumps(body, JSON_COMPACT) : strdup("{}");
	return out->body ? 0 : -ENOMEM;
}

static int load_key(struct store *s, const char *name, char **out, char *why, size_t why_size)
{
	size_t len;
	int rc = store_read(s->dir, name, true, out, &len);
	return rc == 0 || rc == -ENOENT ? rc : store_fail_at(s, "cannot read", name, why, why_size, rc);
}

int store_account_load(struct store *s, struct store_account *out, char *why, size_t why_size)
{
	struct store_account a = {0};
	json_t *root = NULL;
	int rc = load_key(s, KEY, &a.key_pem, why, why_size);
	if (rc == 0) {
		rc = read_json(s, ACCOUNT, JSON_REJECT_DUPLICATES, &root, why, why_size);
		if (rc == 0 || rc == -ENOENT) /* without: a key whose registration was interrupted */
			rc = parse_account(root, &a);
		json_decref(root);
	}
	if (rc == 0) {
		rc = load_key(s, PENDING, &a.pending_key_pem, why, why_size);
		if (rc == -ENOENT)
			rc = 0;
	}
	/* the roll-over was completed, all but deleting its file */
	if (rc == 0 && a.pending_key_pem && strcmp(a.pending_key_pem, a.key_pem) == 0) {
		key_text_free(a.pending_key_pem);
		a.pending_key_pem = NULL;
	}
	if (rc) {
		store_account_done(&a);
		return rc == -ENOMEM ? store_fail_at(s, "", "", why, why_size, rc) : rc;
	}
	*out = a;
	return 0;
}

static json_t *account_json(const struct store_account *a)
{
	json_t *body = a->body ? json_loads(a->body, 0, NULL) : NULL;
	if (!json_is_object(body)) {
		json_decref(body);
		body = json_object();
	}
	return json_pack("{s:s?, s:{s:o, s:s?}, s:s?}", "email", a->email, "registration", "body", body,
			 "uri", a->url, "directory", a->directory);
}

static bool holds(struct store *s, const char *name, const char *key_pem)
{
	char *text = NULL;
	size_t len = 0;
	if (store_read(s->dir, name, false, &text, &len))
		return false;
	bool same = strcmp(text, key_pem) == 0;
	key_text_free(text);
	return same;
}

/*
 * At every moment the key belongs to the registration that is on disk, or the new one of a roll-over is
 * pending beside it: a key that has nothing to do with the registration is written after that is gone.
 */
static int save_keys(struct store *s, const struct store_account *a, const char **name)
{
	int rc = 0;
	*name = PENDING;
	if (a->pending_key_pem && !holds(s, PENDING, a->pending_key_pem))
		rc = store_write(s->dir, PENDING, a->pending_key_pem, 0600);
	*name = ACCOUNT;
	bool new_key = !holds(s, KEY, a->key_pem);
	if (rc == 0 && new_key && !holds(s, PENDING, a->key_pem))
		rc = store_remove(s->dir, ACCOUNT);
	*name = KEY;
	if (rc == 0 && new_key)
		rc = store_write(s->dir, KEY, a->key_pem, 0600);
	return rc;
}

int store_account_save(struct store *s, const struct store_account *a, char *why, size_t why_size)
{
	const char *name;
	int rc = save_keys(s, a, &name);
	if (rc)
		return store_fail_at(s, "cannot write", name, why, why_size, rc);
	rc = write_json(s, ACCOUNT, account_json(a), why, why_size);
	if (rc || a->pending_key_pem)
		return rc;
	rc = store_remove(s->dir, PENDING);
	return rc ? store_fail_at(s, "cannot remove", PENDING, why, why_size, rc) : 0;
}

void store_account_done(struct store_account *a)
{
	free(a->email);
	free(a->url);
	free(a->directory);
	free(a->body);
	key_text_free(a->key_pem);
	key_text_free(a->pending_key_pem);
	*a = (struct store_account){0};
}

/* ---- what renewal remembers; whatever is wrong in it counts as absent ---- */

static int64_t get_time(const json_t *root, const char *key)
{
	const json_t *v = json_object_get(root, key);
	return json_is_integer(v) && json_integer_value(v) > 0 ? (int64_t)json_integer_value(v) : 0;
}

static int parse_state(const json_t *root, struct store_state *out)
{
	const json_t *order = json_object_get(root, "order"), *ari = json_object_get(root, "ari");
	int64_t failures = get_time(root, "failures");
	int rc = get_text(order, "url", &out->order_url);
	if (rc == 0)
		rc = get_text(order, "key", &out->order_key_pem);
	if (rc == 0)
		rc = get_text(root, "last_error", &out->last_error);
	if (rc == 0)
		rc = get_text(root, "config", &out->config);
	if (rc == 0)
		rc = get_text(ari, "id", &out->ari_id);
	out->failures = failures > UINT32_MAX ? UINT32_MAX : (uint32_t)failures;
	out->next_try = get_time(root, "next_try");
	out->ca_try = get_time(root, "ca_try");
	out->last_success = get_time(root, "last_success");
	out->jitter = get_time(root, "jitter");
	out->revoked = json_is_true(json_object_get(root, "revoked"));
	out->ari_at = get_time(ari, "at");
	out->ari_start = get_time(ari, "start");
	out->ari_end = get_time(ari, "end");
	out->ari_check = get_time(ari, "check");
	return rc;
}

int store_state_load(struct store *s, struct store_state *out, char *why, size_t why_size)
{
	struct store_state state = {0};
	json_t *root = NULL;
	int rc = read_json(s, STATE, 0, &root, why, why_size);
	if (rc == -ENOENT)
		rc = 0;
	if (rc == 0 && parse_state(root, &state))
		rc = store_fail_at(s, "cannot read", STATE, why, why_size, -ENOMEM);
	json_decref(root);
	if (rc)
		store_state_done(&state);
	else
		*out = state;
	return rc;
}

int store_state_save(struct store *s, const struct store_state *state, char *why, size_t why_size)
{
	json_t *root = json_pack(
		"{s:{s:s?, s:s?}, s:I, s:I, s:I, s:s?, s:I, s:I, s:b, s:s?, s:{s:s?, s:I, s:I, s:I, s:I}}",
		"order", "url", state->order_url, "key", state->order_key_pem, "failures",
		(json_int_t)state->failures, "next_try", (json_int_t)state->next_try, "ca_try",
		(json_int_t)state->ca_try, "last_error", state->last_error, "last_success",
		(json_int_t)state->last_success, "jitter", (json_int_t)state->jitter, "revoked",
		(int)state->revoked, "config", state->config, "ari", "id", state->ari_id, "at",
		(json_int_t)state->ari_at, "start", (json_int_t)state->ari_start, "end",
		(json_int_t)state->ari_end, "check", (json_int_t)state->ari_check);
	return write_json(s, STATE, root, why, why_size);
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
	struct store_stamp before = s->state;
	s->state = store_stamp(s, STATE);
	return !store_same_stamp(&before, &s->state);
}
