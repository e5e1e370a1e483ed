/* SPDX-License-Identifier: MIT */
/* many_files - preloaded, gives the process the limit of open files that engines of containers set: a
 * billion. */
#include <stddef.h>
#include <sys/resource.h>

static struct rlimit files = {1000000000, 1000000000};

int getrlimit(__rlimit_resource_t resource, struct rlimit *limit)
{
	if (resource != RLIMIT_NOFILE)
		return prlimit(0, resource, NULL, limit);
	*limit = files;
	return 0;
}

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	if (resource != RLIMIT_NOFILE)
		return prlimit(0, resource, limit, NULL);
	files = *limit;
	return 0;
}
