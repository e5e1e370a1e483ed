/* SPDX-License-Identifier: MIT */
/*
 * slow_fsync - a slow disk, for a program it is preloaded into: fsync() of a folder, and of a file where
 * SLOW_FSYNC_FILES is set, takes SLOW_FSYNC_MS milliseconds longer, so that whatever happens between two
 * steps that are both on disk can be seen.  conftest.py preloads it into everything where TEST_SLOW_FSYNC is
 * set.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int fsync(int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
	const char *text = getenv("SLOW_FSYNC_MS");
	long ms = text ? strtol(text, NULL, 10) : 0;
	struct stat st;
	if (ms > 0 && fstat(fd, &st) == 0 && (S_ISDIR(st.st_mode) || getenv("SLOW_FSYNC_FILES"))) {
		struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
		while (nanosleep(&left, &left))
			;
	}
	return real(fd);
}
