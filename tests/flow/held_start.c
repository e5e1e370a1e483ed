/* SPDX-License-Identifier: MIT */
/*
 * held_start - a slow start, for a program it is preloaded into: the first dlopen() waits until the named
 * pipe HELD_START has been written to and closed.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void *dlopen(const char *name, int flags)
{
	void *(*real)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
	const char *pipe = getenv("HELD_START");
	char byte;
	if (pipe) {
		int fd = open(pipe, O_RDONLY | O_CLOEXEC);
		while (read(fd, &byte, 1) > 0)
			;
		close(fd);
		unsetenv("HELD_START");
	}
	return real(name, flags);
}
