/* SPDX-License-Identifier: MIT */
/* turn - a name among the abstract sockets, which goes with its holder and is apart for each network
 * namespace. */
#include "turn.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int turn_take(const char *address, uint16_t port)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int n = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "semstreams.acme.challenge.%s@%u",
			 address, port);
	if (n < 0 || n >= (int)sizeof name.sun_path - 1)
		return -ENAMETOOLONG;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
	if (bind(fd, (const struct sockaddr *)&name, len) == 0)
		return fd;
	int rc = errno == EADDRINUSE ? -EAGAIN : -errno;
	close(fd);
	return rc;
}
