/* SPDX-License-Identifier: MIT */
/*
 * fileset - files that belong together, a key and its certificate: replaced as one, whatever kills us.  One
 * process at a time for a set of files.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <semstreams/base/strbuf.h>
#include "fault.h"

enum { FILESET_MAX = 5 };

struct fileset {
	struct {
		const char *path; /* the caller's, as long as the set is used */
		mode_t mode;
		struct ss_strbuf content;
	} v[FILESET_MAX];
	size_t n;
};

/* Another file, to which the caller adds its content; the first ones appear first where none is yet. */
struct ss_strbuf *fileset_add(struct fileset *, const char *path, mode_t mode);
/* 0; -EINVAL: one is there already, and may not be replaced. */
int fileset_check(const struct fileset *, bool replace, struct fault *);
/*
 * Write them all.  Where files are replaced, there are the old ones or the new ones at each moment, never
 * some of both; folders are made.  0, -EINVAL with the fault, -ENOMEM.
 */
int fileset_write(struct fileset *, struct fault *);
void fileset_done(struct fileset *);
