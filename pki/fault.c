/* SPDX-License-Identifier: MIT */
/* fault - see fault.h. */
#include "fault.h"

#include <stdarg.h>
#include <stdlib.h>

int refuse(struct fault *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->text, sizeof f->text, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

int failed(int rc, const struct fault *f)
{
	fprintf(stderr, "semstreams pki: %s\n", rc == -ENOMEM ? "out of memory" : f->text);
	return EXIT_FAILURE;
}
