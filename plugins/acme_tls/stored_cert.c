/* SPDX-License-Identifier: MIT */
/*
 * stored_cert - certificate and key, which change together: a folder per generation holds both, "current" is
 * a link to one of them, certificate.pem and certificate.key are links through it.  Exchanging "current" is
 * the one step that counts.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include "key.h"
#include "store_impl.h"

#define CHAIN   "certificate.pem"
#define KEY     "certificate.key"
#define CURRENT "current"
#define GEN_MAX 999999

static const char *const files[2] = {CHAIN, KEY};

struct gen_name {
	char text[16];
};

static struct gen_name gen_name(int n)
{
	struct gen_name name;
	snprintf(name.text, sizeof name.text, "gen-%06d", n);
	return name;
}

/* 0: not the name of a generation. */
static int gen_number(const char *name)
{
	int n = 0, used = 0;
	if (sscanf(name, "gen-%6d%n", &n, &used) != 1 || used != 10 || name[used] || n <= 0 || n > GEN_MAX)
		return 0;
	return strcmp(gen_name(n).text, name) == 0 ? n : 0;
}

/* The generation "current" stands for, 0: none. */
static int current_gen(const struct store *s)
{
	char target[32];
	ssize_t n = readlinkat(s->dir, CURRENT, target, sizeof target - 1);
	if (n < 0)
		return 0;
	target[n] = '\0';
	return gen_number(target);
}

/* ---- stamps ---- */

static void take_stamps(const struct store *s, struct store_stamp out[2])
{
	for (int i = 0; i < 2; i++)
		out[i] = store_stamp(s, files[i]);
}

bool stored_cert_changed(struct store *s)
{
	struct store_stamp now[2];
	take_stamps(s, now);
	return !store_same_stamp(&now[0], &s->pair[0]) || !store_same_stamp(&now[1], &s->pair[1]);
}

/* ---- reading ---- */

/* Takes over key_pem. */
static int parse_pair(const struct store *s, const char *chain_pem, char *key_pem, const char *const *names,
		      size_t n, struct stored_cert *out, char *why, size_t why_size)
{
	struct acme_key *key = NULL;
	struct chain_info again;
	char reason[256] = "";
	const char *file = KEY;
	out->key_pem = key_pem;
	int rc = key_load(key_pem, strlen(key_pem), &key, reason, sizeof reason);
	if (rc == 0) {
		file = CHAIN;
		rc = chain_read(chain_pem, strlen(chain_pem), key, NULL, 0, &out->chain, reason,
				sizeof reason);
	}
	if (rc == -EINVAL)
		store_fail(why, why_size, rc, "%s/%s: %s", s->path, file, reason);
	else if (rc)
		store_fail_at(s, "cannot read", file, why, why_size, rc);
	out->exists = rc == 0;
	if (rc == 0 && chain_read(out->chain.pem, strlen(out->chain.pem), key, names, n, &again, reason,
				  sizeof reason) == 0) {
		out->names_match = true;
		chain_done(&again);
	}
	key_free(key);
	return rc;
}

static int read_pair(struct store *s, const char *const *names, size_t n, struct stored_cert *out, char *why,
		     size_t why_size)
{
	char *chain = NULL, *key = NULL;
	size_t len;
	int rc = store_read(s->dir, CHAIN, false, &chain, &len);
	if (rc == -ENOENT)
		return rc;
	if (rc)
		return store_fail_at(s, "cannot read", CHAIN, why, why_size, rc);
	rc = store_read(s->dir, KEY, true, &key, &len);
	if (rc == -ENOENT)
		rc = store_fail(why, why_size, -EINVAL, "%s/" KEY " is missing", s->path);
	else if (rc)
		rc = store_fail_at(s, "cannot read", KEY, why, why_size, rc);
	else
		rc = parse_pair(s, chain, key, names, n, out, why, why_size);
	free(chain);
	return rc;
}

int stored_cert_load(struct store *s, const char *const *names, size_t n, struct stored_cert *out, char *why,
		     size_t why_size)
{
	const int tries = 5;
	struct store_stamp after[2];
	/* again if it was exchanged between the two files */
	for (int i = 0; i < tries; i++) {
		*out = (struct stored_cert){0};
		take_stamps(s, s->pair);
		int rc = read_pair(s, names, n, out, why, why_size);
		take_stamps(s, after);
		bool same =
			store_same_stamp(&s->pair[0], &after[0]) && store_same_stamp(&s->pair[1], &after[1]);
		if (same && rc == 0)
			return 0;
		stored_cert_done(out);
		if (same)
			return rc;
	}
	return store_fail(why, why_size, -EINVAL, "%s/" CHAIN " and " KEY " keep changing", s->path);
}

void stored_cert_done(struct stored_cert *cert)
{
	chain_done(&cert->chain);
	key_text_free(cert->key_pem);
	*cert = (struct stored_cert){0};
}

/* ---- generations ---- */

static DIR *open_dir(const struct store *s, const char *name)
{
	int fd = openat(s->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

/* With all that is in it; not an error if that cannot be done. */
static void remove_gen(const struct store *s, int n)
{
	struct gen_name name = gen_name(n);
	DIR *dir = open_dir(s, name.text);
	for (const struct dirent *e; dir && (e = readdir(dir));)
		unlinkat(dirfd(dir), e->d_name, 0);
	if (dir)
		closedir(dir);
	unlinkat(s->dir, name.text, AT_REMOVEDIR);
}

/* Call fn for each generation; the highest number. */
static int each_gen(const struct store *s, void (*fn)(const struct store *, int n, const int *keep),
		    const int *keep)
{
	int highest = 0;
	DIR *dir = open_dir(s, ".");
	if (!dir)
		return -errno;
	for (const struct dirent *e; (e = readdir(dir));) {
		int n = gen_number(e->d_name);
		if (n > 0 && fn)
			fn(s, n, keep);
		highest = n > highest ? n : highest;
	}
	closedir(dir);
	return highest;
}

static void sweep_one(const struct store *s, int n, const int *keep)
{
	if (n != keep[0] && n != keep[1])
		remove_gen(s, n);
}

/* A new folder with both files, all of it on disk. */
static int make_gen(const struct store *s, int n, const char *chain_pem, const char *key_pem)
{
	struct gen_name name = gen_name(n);
	/* certificates are for everybody who may look into storage_path */
	if (mkdirat(s->dir, name.text, 0755))
		return -errno;
	int rc = ss_sync_folder(s->dir);
	int dir = openat(s->dir, name.text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (rc == 0 && dir < 0)
		rc = -errno;
	if (rc == 0) {
		store_own(s->dir, dir);
		rc = store_write(dir, KEY, key_pem, 0600);
	}
	if (rc == 0)
		rc = store_write(dir, CHAIN, chain_pem, 0644);
	if (dir >= 0)
		close(dir);
	if (rc)
		remove_gen(s, n);
	return rc;
}

/* A number that no folder has: what a crash left behind may lie in the way. */
static int next_gen(const struct store *s)
{
	int highest = each_gen(s, NULL, NULL);
	if (highest < GEN_MAX)
		return highest < 0 ? highest : highest + 1;
	int n = 1;
	for (struct stat st; fstatat(s->dir, gen_name(n).text, &st, AT_SYMLINK_NOFOLLOW) == 0; n++)
		;
	return n;
}

static bool is_link_to(const struct store *s, const char *name, const char *target)
{
	char buf[64];
	ssize_t n = readlinkat(s->dir, name, buf, sizeof buf);
	return n >= 0 && (size_t)n == strlen(target) && memcmp(buf, target, (size_t)n) == 0;
}

/*
 * certificate.pem and certificate.key become links through "current".  The key first: without a
 * certificate.pem there is no pair, so what "current" may still point to from earlier times is not half taken
 * for one.
 */
static int make_links(const struct store *s)
{
	int rc = 0;
	if (!is_link_to(s, KEY, CURRENT "/" KEY))
		rc = ss_link_write(s->dir, CURRENT "/" KEY, KEY);
	if (rc == 0 && !is_link_to(s, CHAIN, CURRENT "/" CHAIN))
		rc = ss_link_write(s->dir, CURRENT "/" CHAIN, CHAIN);
	return rc;
}

/* ---- what an operator put there ---- */

/* A file of ours is older than "current", which was made after it. */
static bool is_operators(const struct store *s, const char *name)
{
	struct stat file, link;
	if (fstatat(s->dir, name, &file, AT_SYMLINK_NOFOLLOW))
		return false;
	if (S_ISREG(file.st_mode))
		return true;
	if (fstatat(s->dir, name, &file, 0) || fstatat(s->dir, CURRENT, &link, AT_SYMLINK_NOFOLLOW))
		return false;
	return S_ISREG(file.st_mode) &&
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

/*
 * Certificate and key that are about to be replaced and that somebody else wrote: both are kept in a folder
 * that nothing here ever deletes, as the key may be the only copy.  A file with a second name is kept
 * already.
 */
static int set_aside(struct store *s)
{
	char folder[32];
	struct stat st;
	bool keep = false;
	for (int i = 0; i < 2; i++)
		keep |= is_operators(s, files[i]) && fstatat(s->dir, files[i], &st, 0) == 0 &&
			st.st_nlink == 1;
	if (!keep)
		return 0;
	int n = 0, rc;
	do {
		snprintf(folder, sizeof folder, "replaced-%06d", ++n);
		rc = mkdirat(s->dir, folder, 0700) ? -errno : 0;
	} while (rc == -EEXIST && n < GEN_MAX);
	int dir = rc ? -1 : openat(s->dir, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return rc ? rc : -errno;
	store_own(s->dir, dir);
	for (int i = 0; rc == 0 && i < 2; i++)
		rc = keep_file(s, files[i], dir);
	if (rc == 0)
		rc = ss_sync_folder(dir);
	close(dir);
	snprintf(s->warning, sizeof s->warning,
		 "Certificate or key in storage was written by somebody else and is replaced; the files are "
		 "kept in "
		 "%.128s/%s",
		 s->path, folder);
	return rc;
}

/* ---- saving ---- */

static int make_current(struct store *s, const char *chain_pem, const char *key_pem, int *made)
{
	int n = next_gen(s);
	int rc = n < 0 ? n : make_gen(s, n, chain_pem, key_pem);
	if (rc)
		return rc;
	rc = set_aside(s);
	if (rc == 0)
		rc = ss_link_write(s->dir, gen_name(n).text, CURRENT);
	if (rc && current_gen(s) != n)
		remove_gen(s, n);
	*made = n;
	return rc;
}

/* Plain files that an operator put there become a generation first, so that they can be exchanged in one
 * step. */
static int adopt(struct store *s)
{
	struct stored_cert cert;
	char why[512];
	int made;
	if (is_link_to(s, KEY, CURRENT "/" KEY) && is_link_to(s, CHAIN, CURRENT "/" CHAIN))
		return 0;
	int rc = stored_cert_load(s, NULL, 0, &cert, why, sizeof why);
	if (rc == 0)
		rc = make_current(s, cert.chain.pem, cert.key_pem, &made);
	else if ((rc == -ENOENT || rc == -EINVAL) && (rc = set_aside(s)) == 0)
		rc = store_remove(s->dir,
				  CURRENT); /* nothing usable: what "current" means must not come up */
	stored_cert_done(&cert);
	return rc ? rc : make_links(s);
}

int stored_cert_save(struct store *s, const char *chain_pem, const char *key_pem, char *why, size_t why_size)
{
	int keep[2] = {0, 0};
	s->warning[0] = '\0';
	int rc = adopt(s);
	keep[1] = current_gen(s);
	if (rc == 0)
		rc = make_current(s, chain_pem, key_pem, &keep[0]);
	if (rc)
		return store_fail(why, why_size, rc, "cannot write the certificate to %s: %s", s->path,
				  strerror(-rc));
	take_stamps(s, s->pair);
	each_gen(s, sweep_one, keep);
	return 0;
}
