/* SPDX-License-Identifier: MIT */
#include "core/config/secret_file.h"

#include <stdio.h>
#include <sys/stat.h>
#include <semstreams/base/file_atomic.h>

bool secret_file_exposed(const char *path, char *text, size_t size)
{
	struct stat st;

	if (stat(path, &st) < 0 || ss_file_is_private(&st))
		return false;
	snprintf(text, size,
		 "\"%s\" holds a secret and is open to group or others (mode %04o); run chmod 600 %s, and "
		 "replace "
		 "the secret if others may have read it",
		 path, (unsigned)st.st_mode & 07777, path);
	return true;
}
