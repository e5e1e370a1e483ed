/* SPDX-License-Identifier: MIT */
/*
 * store - the folder, its lock and the ACME account.  Called on the loop of whoever opened it; what it does
 * is local and short.
 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "store_impl.h"

#define ACCOUNT "account.json"
#define KEY     "account.key"
#define PENDING "account.key.pending"

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
		return store_fail(why, why_size, rc, "storage_path %s cannot be made: %s", s->path,
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

static int copy_text(const json_t *value, char **out)
{
	if (!json_is_string(value))
		return 0;
	*out = strdup(json_string_value(value));
	return *out ? 0 : -ENOMEM;
}

static int parse_account(const json_t *root, struct store_account *out)
{
	const json_t *registration = json_object_get(root, "registration");
	const json_t *body = json_object_get(registration, "body");
	int rc = copy_text(json_object_get(root, "email"), &out->email);
	if (rc == 0)
		rc = copy_text(json_object_get(root, "directory"), &out->directory);
	if (rc == 0)
		rc = copy_text(json_object_get(registration, "uri"), &out->url);
	if (rc)
		return rc;
	out->body = json_is_object(body) ? json_dumps(body, JSON_COMPACT) : strdup("{}");
	return out->body ? 0 : -ENOMEM;
}

static int load_account_json(struct store *s, struct store_account *out, char *why, size_t why_size)
{
	char *text = NULL;
	size_t len = 0;
	json_error_t error;
	int rc = store_read(s->dir, ACCOUNT, false, &text, &len);
	if (rc == -ENOENT) { /* a key whose registration has not come to its end */
		out->body = strdup("{}");
		return out->body ? 0 : -ENOMEM;
	}
	if (rc)
		return store_fail_at(s, "cannot read", ACCOUNT, why, why_size, rc);
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	free(text);
	if (!json_is_object(root))
		rc = store_fail(why, why_size, -EINVAL, "%s/" ACCOUNT " is broken, line %d: %s", s->path,
				error.line, root ? "not an object" : error.text);
	else
		rc = parse_account(root, out);
	json_decref(root);
	return rc;
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
	int rc = load_key(s, KEY, &a.key_pem, why, why_size);
	if (rc == 0)
		rc = load_account_json(s, &a, why, why_size);
	if (rc == 0) {
		rc = load_key(s, PENDING, &a.pending_key_pem, why, why_size);
		if (rc == -ENOENT)
			rc = 0;
	}
	/* the roll-over was completed, all but deleting its file */
	if (rc == 0 && a.pending_key_pem && strcmp(a.pending_key_pem, a.key_pem) == 0) {
		free(a.pending_key_pem);
		a.pending_key_pem = NULL;
	}
	if (rc) {
		store_account_done(&a);
		return rc == -ENOMEM ? store_fail(why, why_size, rc, "out of memory") : rc;
	}
	*out = a;
	return 0;
}

static char *account_text(const struct store_account *a)
{
	json_t *body = a->body ? json_loads(a->body, 0, NULL) : NULL;
	if (!json_is_object(body)) {
		json_decref(body);
		body = json_object();
	}
	json_t *root = json_pack("{s:s?, s:{s:o, s:s?}, s:s?}", "email", a->email, "registration", "body",
				 body, "uri", a->url, "directory", a->directory);
	char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	json_decref(root);
	return text;
}

static bool holds(struct store *s, const char *name, const char *key_pem)
{
	char *text = NULL;
	size_t len = 0;
	if (store_read(s->dir, name, false, &text, &len))
		return false;
	bool same = strcmp(text, key_pem) == 0;
	explicit_bzero(text, len);
	free(text);
	return same;
}

/*
 * At every moment the key belongs to the registration that is on disk, or the new one of a roll-over is
 * pending beside it: a key that has nothing to do with the registration comes after that has gone.
 */
static int save_account(struct store *s, const struct store_account *a, const char *text, const char **name)
{
	int rc = 0;
	*name = PENDING;
	if (a->pending_key_pem && !holds(s, PENDING, a->pending_key_pem))
		rc = store_write(s->dir, PENDING, a->pending_key_pem);
	*name = ACCOUNT;
	bool new_key = !holds(s, KEY, a->key_pem);
	if (rc == 0 && new_key && !holds(s, PENDING, a->key_pem))
		rc = store_remove(s->dir, ACCOUNT);
	*name = KEY;
	if (rc == 0 && new_key)
		rc = store_write(s->dir, KEY, a->key_pem);
	*name = ACCOUNT;
	if (rc == 0)
		rc = store_write(s->dir, ACCOUNT, text);
	*name = PENDING;
	if (rc == 0 && !a->pending_key_pem)
		rc = store_remove(s->dir, PENDING);
	return rc;
}

int store_account_save(struct store *s, const struct store_account *a, char *why, size_t why_size)
{
	const char *name;
	char *text = account_text(a);
	if (!text)
		return store_fail(why, why_size, -ENOMEM, "out of memory");
	int rc = save_account(s, a, text, &name);
	free(text);
	return rc ? store_fail_at(s, "cannot write", name, why, why_size, rc) : 0;
}

static void free_secret(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
}

void store_account_done(struct store_account *a)
{
	free(a->email);
	free(a->url);
	free(a->directory);
	free(a->body);
	free_secret(a->key_pem);
	free_secret(a->pending_key_pem);
	*a = (struct store_account){0};
}
