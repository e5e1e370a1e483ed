/* SPDX-License-Identifier: MIT */
/* store_impl - what store.c and stored_cert.c share: the folder, and files in it that are complete or absent.
 */
#pragma once
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "store.h"

#define STORE_FILE_MAX (512u << 10) /* bytes of a file */

/* What tells one content of a file from the next. */
struct store_stamp {
	int64_t v[7]; /* all 0: not there */
};

struct store {
	char *path;
	int dir, lock;              /* lock -1: not held */
	struct store_stamp pair[2]; /* when it was last loaded or saved here */
	struct store_stamp state;   /* when it was last asked about */
	char warning[320];
};

/* Fill why in and return error. */
__attribute__((format(printf, 4, 5))) int store_fail(char *why, size_t why_size, int error, const char *fmt,
						     ...);
/* The same for a file in the folder, with what the system says; "out of memory" for -ENOMEM. */
int store_fail_at(const struct store *, const char *doing, const char *name, char *why, size_t why_size,
		  int error);

/*
 * The whole of a regular file as text, malloced, NUL behind its end and nowhere else.  dir is the folder or
 * one in it.  0, -ENOENT, -EINVAL (something else than a text file), -EPERM (secret, but open to others),
 * -EFBIG, ...
 */
int store_read(int dir, const char *name, bool secret, char **text, size_t *len);
/* Complete and on disk, or as it was before.  0, -errno. */
int store_write(int dir, const char *name, const char *text, mode_t mode);
/* 0 if it is gone or was not there. */
static inline int store_remove(int dir, const char *name)
{
	return unlinkat(dir, name, 0) && errno != ENOENT ? -errno : 0;
}
/* What root makes in the folder of another user becomes that user's. */
void store_own(int dir, int fd);

/* Of what the name stands for, links followed. */
struct store_stamp store_stamp(const struct store *, const char *name);
static inline bool store_same_stamp(const struct store_stamp *a, const struct store_stamp *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}
