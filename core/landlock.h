/* SPDX-License-Identifier: MIT */
/* landlock - the kernel keeps this thread, its later threads and its children to some places of the file
 * system. */
#pragma once
#include <stdint.h>

enum landlock_use { LANDLOCK_READ, LANDLOCK_WRITE, LANDLOCK_RUN, LANDLOCK_DEVICE };

struct landlock {
	int fd; /* of the rules; -1: none */
	uint64_t handled;
};

/* -EOPNOTSUPP: the kernel has none, or one of before Linux 5.19, which forbids renames between folders. */
int landlock_open(struct landlock *);
/* A folder and all below it, or a file.  Reading is part of every use.  -ENOENT, -EACCES and so on. */
int landlock_allow(struct landlock *, const char *path, enum landlock_use);
/* From now on nothing else may be reached by its name; no_new_privs is set before.  What is open stays so. */
int landlock_enter(struct landlock *);
void landlock_done(struct landlock *);
