/* SPDX-License-Identifier: MIT */
#include "core/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (UINT64_C(1) << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (UINT64_C(1) << 14)
#endif

#define READS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITES                                                                                               \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |    \
	 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |          \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |       \
	 LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER | LANDLOCK_ACCESS_FS_TRUNCATE)
/* All that can be said of a file that is no folder. */
#define OF_FILES                                                                                             \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_EXECUTE |         \
	 LANDLOCK_ACCESS_FS_TRUNCATE)

int landlock_open(struct landlock *l)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	*l = (struct landlock){.fd = -1};
	if (abi < 2)
		return -EOPNOTSUPP;
	l->handled = READS | WRITES | LANDLOCK_ACCESS_FS_EXECUTE;
	if (abi < 3)
		l->handled &= ~LANDLOCK_ACCESS_FS_TRUNCATE;
	const struct landlock_ruleset_attr attr = {.handled_access_fs = l->handled};
	l->fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
	return l->fd < 0 ? -errno : 0;
}

int landlock_allow(struct landlock *l, const char *path, enum landlock_use use)
{
	static const uint64_t of_use[] = {
		[LANDLOCK_READ] = READS,
		[LANDLOCK_WRITE] = READS | WRITES,
		[LANDLOCK_RUN] = READS | LANDLOCK_ACCESS_FS_EXECUTE,
		[LANDLOCK_DEVICE] = READS | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE,
	};
	struct landlock_path_beneath_attr rule = {.allowed_access = of_use[use] & l->handled};
	struct stat st;

	rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return -errno;
	int rc = fstat(rule.parent_fd, &st) < 0 ? -errno : 0;
	if (rc == 0 && !S_ISDIR(st.st_mode))
		rule.allowed_access &= OF_FILES;
	if (rc == 0 && syscall(SYS_landlock_add_rule, l->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		rc = -errno;
	close(rule.parent_fd);
	return rc;
}

int landlock_enter(struct landlock *l)
{
	return syscall(SYS_landlock_restrict_self, l->fd, 0) < 0 ? -errno : 0;
}

void landlock_done(struct landlock *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}
