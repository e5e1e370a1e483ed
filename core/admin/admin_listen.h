/* SPDX-License-Identifier: MIT */
/* admin_listen - the socket of an admin port: TCP, or a file of this machine.  Control thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/un.h>

struct admin_listener {
	int fd;            /* owned by whoever serves it */
	bool is_unix;      /* those who connect have credentials */
	bool loopback;     /* bound to an address that only this machine reaches */
	char host[256];    /* as configured */
	char numeric[80];  /* as bound, in brackets if v6 */
	char address[384]; /* whole, with the port */
	bool has_group;    /* a unix socket is also the group's */
	gid_t group;
	char path[sizeof((struct sockaddr_un *)0)->sun_path]; /* of a unix socket, else "" */
	dev_t dev;
	ino_t ino;
};

/*
 * Listen at "host:port", "[v6]:port" or "unix:/path".  The file of a unix socket has the mode 0600, with a
 * group (NULL: none) 0660 and is the group's; one that nobody listens on any more is replaced.  0, or -errno
 * with a text in why.
 */
int admin_listen(struct admin_listener *, const char *listen_at, const char *group, int backlog,
		 char why[256]);
/* Remove the file of a unix socket, if it still is the one that was made. */
void admin_unlisten(const struct admin_listener *);
