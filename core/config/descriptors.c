/* SPDX-License-Identifier: MIT */
#include "core/config/descriptors.h"

#include <sys/resource.h>

uint64_t descriptors_set(uint64_t need)
{
	struct rlimit limit;

	need += DESCRIPTORS_OWN;
	if (need < DESCRIPTORS_USUAL)
		need = DESCRIPTORS_USUAL;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return need;
	const rlim_t before = limit.rlim_cur;
	limit.rlim_cur = need < limit.rlim_max ? need : limit.rlim_max;
	if (limit.rlim_cur == before || setrlimit(RLIMIT_NOFILE, &limit) == 0)
		return limit.rlim_cur;
	return before;
}

uint64_t descriptors_left(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_max == RLIM_INFINITY)
		return UINT64_MAX;
	return limit.rlim_max > DESCRIPTORS_OWN ? limit.rlim_max - DESCRIPTORS_OWN : 0;
}

/* A loop has two, a component usually one or two, libraries and the admin port the rest. */
uint64_t descriptors_least(size_t n_components)
{
	return 24 + 4 * (uint64_t)n_components;
}
