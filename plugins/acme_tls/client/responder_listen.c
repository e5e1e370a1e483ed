/* SPDX-License-Identifier: MIT */
/* responder_listen - binds the port of a challenge, and says what is in the way.  In the loop's thread. */
#include "responder_impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 64 };

/* "port 80", "port 80 of 10.0.0.1" */
static void write_place(const struct responder *r, char *out, size_t size)
{
	if (*r->o.address)
		snprintf(out, size, "port %u of %s", r->o.port, r->o.address);
	else
		snprintf(out, size, "port %u", r->o.port);
}

static void explain(const struct responder *r, int error, char *why, size_t why_size)
{
	unsigned ca_port = r->kind->ca_port;
	char place[160];

	write_place(r, place, sizeof place);
	if (error == EADDRINUSE)
		snprintf(why, why_size,
			 "%s is in use by another program: stop it (ss -ltnp shows which it is), or set "
			 "challenge_port "
			 "to a port that port %u is forwarded to",
			 place, ca_port);
	else if ((error == EACCES || error == EPERM) && r->o.port < 1024)
		snprintf(why, why_size,
			 "binding %s needs CAP_NET_BIND_SERVICE or root: give it (AmbientCapabilities= in a "
			 "systemd "
			 "unit), or set challenge_port to a port from 1024 up that port %u is forwarded to",
			 place, ca_port);
	else if (error == EADDRNOTAVAIL)
		snprintf(why, why_size,
			 "%s cannot be bound, as this machine has no such address (ip address lists them): "
			 "correct "
			 "challenge_address, or leave it out for all addresses",
			 place);
	else if (error == EAFNOSUPPORT)
		snprintf(why, why_size,
			 "%s cannot be bound, as this machine does not do this kind of address: correct "
			 "challenge_address, or leave it out for all addresses",
			 place);
	else
		snprintf(why, why_size, "%s cannot be bound: %s", place, strerror(error));
}

/* 0, -errno */
static int bind_to(const struct sockaddr *address, socklen_t len, int *out)
{
	int on = 1, off = 0, fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	/* connections of the last challenge may still be in TIME_WAIT */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (address->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	if (bind(fd, address, len) == 0 && listen(fd, BACKLOG) == 0) {
		*out = fd;
		return 0;
	}
	int rc = -errno;
	close(fd);
	return rc;
}

static int bind_all(uint16_t port, int *out)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
	int rc = bind_to((struct sockaddr *)&six, sizeof six, out);

	if (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL) /* no IPv6 here */
		rc = bind_to((struct sockaddr *)&four, sizeof four, out);
	return rc;
}

int responder_listen(const struct responder *r, char *why, size_t why_size)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				       .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
	struct addrinfo *found;
	int fd = -1, rc;

	if (*r->o.address) {
		char port[8];
		snprintf(port, sizeof port, "%u", r->o.port);
		if (getaddrinfo(r->o.address, port, &hints, &found)) {
			snprintf(why, why_size, "challenge_address \"%s\" is not an IPv4 or IPv6 address",
				 r->o.address);
			return -EINVAL;
		}
		rc = bind_to(found->ai_addr, found->ai_addrlen, &fd);
		freeaddrinfo(found);
	} else {
		rc = bind_all(r->o.port, &fd);
	}
	if (rc) {
		explain(r, -rc, why, why_size);
		return rc;
	}
	return fd;
}
