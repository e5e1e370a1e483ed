/* SPDX-License-Identifier: MIT */
/* fault - see fault.h. */
#include "fault.h"

#include <stdarg.h>

int refuse(struct fault *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->text, sizeof f->text, fmt, ap);
	va_end(ap);
	return -EINVAL;
}
