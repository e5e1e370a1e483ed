/* SPDX-License-Identifier: MIT */
/*
 * stall_sync - to be preloaded: a disk that does not answer.  fsync() and fdatasync() of a file, not of a
 * folder, wait while the file exists that STALL_WHILE names.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int stall(const char *call, int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, call);
	const struct timespec moment = {.tv_nsec = 10000000};
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		while (access(getenv("STALL_WHILE"), F_OK) == 0)
			nanosleep(&moment, NULL);
	return real(fd);
}

int fsync(int fd)
{
	return stall("fsync", fd);
}

int fdatasync(int fd)
{
	return stall("fdatasync", fd);
}
