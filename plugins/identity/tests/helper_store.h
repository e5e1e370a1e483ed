/* SPDX-License-Identifier: MIT */
/* What the tests of store share: a folder of their own and pairs to put into it. */
#pragma once
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "helper_pair.h"
#include "plugins/identity/store.h"

static struct pair pairs[3]; /* all different */
static char folder[64];      /* is made anew for each test by fresh_folder() */

static inline int make_pairs(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++)
		make_pair("a.test", 1763200800, 1763373600, &pairs[i]);
	return 0;
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path) && errno != ENOENT;
}

static inline void remove_all(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline int drop_pairs(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++)
		drop_pair(&pairs[i]);
	if (folder[0])
		remove_all(folder);
	return 0;
}

static inline void fresh_folder(void)
{
	if (folder[0])
		remove_all(folder);
	strcpy(folder, "/tmp/store.XXXXXX");
	assert_non_null(mkdtemp(folder));
}

static inline const char *in_folder(const char *name)
{
	static char path[4][192];
	static unsigned i;
	i = (i + 1) % 4;
	snprintf(path[i], sizeof path[i], "%s/%s", folder, name);
	return path[i];
}

static inline struct store *open_store(void)
{
	struct store *s = NULL;
	char why[512] = "";
	if (store_open(folder, &s, why, sizeof why))
		fail_msg("%s", why);
	return s;
}

/* Which of pairs the folder has, as somebody else sees it; -1: none, -2: broken. */
static inline int pair_on_disk(char *why, size_t why_size)
{
	struct stored_cert p;
	struct store *s = open_store();
	int rc = stored_cert_load(s, NULL, 0, &p), which = -1;
	snprintf(why, why_size, "%s", store_why(s));
	store_free(s);
	if (rc)
		return rc == -ENOENT ? -1 : -2;
	for (int i = 0; i < 3; i++)
		if (strcmp(p.chain.pem, pairs[i].chain_pem) == 0 && strcmp(p.key_pem, pairs[i].key_pem) == 0)
			which = i;
	stored_cert_done(&p);
	return which < 0 ? -2 : which;
}

static inline void put_file(const char *name, const char *text, mode_t mode)
{
	FILE *to = fopen(in_folder(name), "we");
	assert_non_null(to);
	assert_int_equal(fchmod(fileno(to), mode), 0);
	assert_int_equal(fwrite(text, 1, strlen(text), to), strlen(text));
	assert_int_equal(fclose(to), 0);
}

static inline int count_entries(const char *prefix)
{
	int n = 0;
	DIR *dir = opendir(folder);
	for (const struct dirent *e; dir && (e = readdir(dir));)
		n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
	closedir(dir);
	return n;
}
