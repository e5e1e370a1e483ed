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
#include "plugins/acme_tls/store.h"
#include "tests/unit/tls/tls_certs.h"

static struct store_pair pairs[3]; /* all different */
static char folder[64];            /* is made anew for each test by fresh_folder() */

static inline char *pem_of(gnutls_datum_t d)
{
	char *text = strndup((const char *)d.data, d.size);
	gnutls_free(d.data);
	return text;
}

static inline int make_pairs(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		gnutls_datum_t d;
		struct cert c =
			cert_make(&(struct cert_spec){.cns = {{"a.test", 0}}, .dns = {{"a.test", 0}}}, NULL);
		CERT_OK(gnutls_x509_crt_export2(c.crt, GNUTLS_X509_FMT_PEM, &d));
		pairs[i].chain_pem = pem_of(d);
		CERT_OK(gnutls_x509_privkey_export2_pkcs8(c.key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN,
							  &d));
		pairs[i].key_pem = pem_of(d);
		cert_drop(&c);
	}
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
		store_pair_done(&pairs[i]);
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
	struct store_pair p;
	struct store *s = open_store();
	int rc = store_pair_load(s, &p, why, why_size), which = -1;
	store_free(s);
	if (rc)
		return rc == -ENOENT ? -1 : -2;
	for (int i = 0; i < 3; i++)
		if (strcmp(p.chain_pem, pairs[i].chain_pem) == 0 && strcmp(p.key_pem, pairs[i].key_pem) == 0)
			which = i;
	store_pair_done(&p);
	return which < 0 ? -2 : which;
}

static inline void put_file(const char *name, const char *text, mode_t mode)
{
	cert_write(in_folder(name), text, strlen(text), mode);
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
