/* SPDX-License-Identifier: MIT */
/*
 * udp_target - events as datagrams.  An event has arrived when the kernel took it, unless it learns that
 * nobody listens.
 */
#include "target.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct udp_target {
	struct target target; /* first */
	int fd;               /* connected */
};

static int refused(struct target *t, int rc)
{
	if (rc == -ECONNREFUSED)
		snprintf(t->why, sizeof t->why,
			 "nobody takes the events at that address and port: start the pipeline, or correct "
			 "--to");
	return rc;
}

static int udp_send(struct target *t, const void *event, size_t len)
{
	return send(((struct udp_target *)t)->fd, event, len, 0) < 0 ? refused(t, -errno) : 0;
}

static int udp_settle(struct target *t)
{
	int error = 0;
	socklen_t len = sizeof error;

	getsockopt(((struct udp_target *)t)->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return refused(t, -error);
}

static void udp_free(struct target *t)
{
	close(((struct udp_target *)t)->fd);
	free(t);
}

/* A connected socket; -1: none, errno says why. */
static int connect_to(const struct addrinfo *list)
{
	int fd = -1;

	for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
			close(fd);
			fd = -1;
		}
	}
	return fd;
}

/* "udp://HOST:PORT", "udp:HOST:PORT": HOST may be in brackets. */
int target_udp(const struct target_options *options, struct target **out)
{
	const char *at = options->url + (strncmp(options->url, "udp://", 6) == 0 ? 6 : 4);
	const char *colon = strrchr(at, ':');
	struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *list = NULL;
	char host[256];

	if (!colon || colon == at || (size_t)(colon - at) >= sizeof host) {
		fprintf(stderr, "semstreams replay: --to has no port: write udp://HOST:PORT, not '%s'\n",
			options->url);
		return -EINVAL;
	}
	snprintf(host, sizeof host, "%.*s", (int)(colon - at), at);
	char *name = host;
	if (*name == '[' && name[strlen(name) - 1] == ']') {
		name[strlen(name) - 1] = '\0';
		name++;
	}
	int rc = getaddrinfo(name, colon + 1, &hints, &list);
	if (rc) {
		fprintf(stderr, "semstreams replay: cannot find %s: %s; correct --to\n", at,
			gai_strerror(rc));
		return -EINVAL;
	}
	struct udp_target *t = calloc(1, sizeof *t);
	if (t)
		t->fd = connect_to(list);
	rc = !t ? -ENOMEM : t->fd < 0 ? -errno : 0;
	freeaddrinfo(list);
	if (rc) {
		fprintf(stderr, "semstreams replay: cannot send to %s: %s\n", at, strerror(-rc));
		free(t);
		return rc;
	}
	t->target.send = udp_send;
	t->target.settle = udp_settle;
	t->target.free = udp_free;
	*out = &t->target;
	return 0;
}
