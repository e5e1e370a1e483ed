/* SPDX-License-Identifier: MIT */
/* fault - why something was refused: one line that names the place and, where there is one, the remedy. */
#pragma once
#include <errno.h>
#include <stdio.h>

struct fault {
	char text[4096]; /* what is longer is cut */
};

/* Say why, and be -EINVAL. */
int refuse(struct fault *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Tell it on stderr, or that memory ran out, and be the exit code of failure. */
int failed(int rc, const struct fault *);
