/* SPDX-License-Identifier: MIT */
/* notify - datagrams to the service manager, and how often it wants to hear from us.  Control thread. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "core/admin/notify.h"

int notify_send(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	if (!path || !*path)
		return 0;
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	if (path[0] != '/' && path[0] != '@')
		return -EAFNOSUPPORT;
	if (len >= sizeof to.sun_path)
		return -ENAMETOOLONG;
	memcpy(to.sun_path, path, len);
	if (path[0] == '@')
		to.sun_path[0] = '\0'; /* an abstract name: as long as it is, no terminator */

	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	socklen_t to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (path[0] == '/'));
	ssize_t n;
	do
		n = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to, to_len);
	while (n < 0 && errno == EINTR);
	int rc = n < 0 ? -errno : 0;
	close(fd);
	return rc;
}

/* A positive decimal number and nothing else, or 0. */
static uint64_t number(const char *text)
{
	if (!text || *text < '0' || *text > '9')
		return 0;
	char *end;
	errno = 0;
	unsigned long long n = strtoull(text, &end, 10);
	return errno || *end ? 0 : n;
}

uint64_t notify_watchdog_ns(void)
{
	const char *pid = getenv("WATCHDOG_PID");
	if (pid && number(pid) != (uint64_t)getpid())
		return 0;
	uint64_t us = number(getenv("WATCHDOG_USEC"));
	return us > UINT64_MAX / 500 ? 0 : us * 500;
}
