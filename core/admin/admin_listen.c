/* SPDX-License-Identifier: MIT */
/* admin_listen - see admin_listen.h. */
#include "core/admin/admin_listen.h"

#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int complain(char why[256], int error, const char *listen_at, const char *text)
{
	snprintf(why, 256, "%.160s: %s", listen_at, text);
	return error;
}

/* Does anybody answer there?  A socket file outlives the process that made it. */
static bool is_stale(const struct sockaddr_un *addr)
{
	struct stat st;
	if (lstat(addr->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	bool stale = connect(fd, (const struct sockaddr *)addr, sizeof *addr) < 0 && errno == ECONNREFUSED;
	close(fd);
	return stale;
}

static int bind_unix(int fd, const struct sockaddr_un *addr)
{
	if (bind(fd, (const struct sockaddr *)addr, sizeof *addr) == 0)
		return 0;
	int error = -errno;
	if (error != -EADDRINUSE || !is_stale(addr) || unlink(addr->sun_path) < 0)
		return error;
	return bind(fd, (const struct sockaddr *)addr, sizeof *addr) < 0 ? -errno : 0;
}

static int give_to_group(struct admin_listener *l, const char *group, const char *path)
{
	char *end;
	const struct group *g = getgrnam(group);
	const unsigned long number = strtoul(group, &end, 10);

	if (!g && (end == group || *end))
		return -ENOENT;
	l->group = g ? g->gr_gid : (gid_t)number;
	l->has_group = true;
	if (chown(path, (uid_t)-1, l->group) < 0 || chmod(path, 0660) < 0)
		return -errno;
	return 0;
}

/* The file is there from here on; whoever fails behind it removes it. */
static int open_unix(struct admin_listener *l, int fd, const struct sockaddr_un *addr, const char *group,
		     int backlog)
{
	struct stat st;

	fchmod(fd, 0600); /* before bind: the file never has a wider mode than it is to have */
	int rc = bind_unix(fd, addr);
	if (rc < 0)
		return rc;
	if (stat(addr->sun_path, &st) < 0)
		return -errno;
	strcpy(l->path, addr->sun_path);
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	rc = group ? give_to_group(l, group, addr->sun_path) : 0;
	if (rc == 0 && listen(fd, backlog) < 0)
		rc = -errno;
	if (rc < 0)
		admin_unlisten(l);
	return rc;
}

static int listen_unix(struct admin_listener *l, const char *listen_at, const char *group, int backlog,
		       char why[256])
{
	const char *path = listen_at + strlen("unix:");
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof addr.sun_path)
		return complain(why, -EINVAL, listen_at,
				n ? "path too long (107 bytes at most)" : "needs a path");
	memcpy(addr.sun_path, path, n);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return complain(why, -errno, listen_at, strerror(errno));
	int rc = open_unix(l, fd, &addr, group, backlog);
	if (rc < 0) {
		close(fd);
		if (group && l->path[0])
			snprintf(why, 256, "%.120s: cannot be given to the group \"%.40s\": %s", listen_at,
				 group, rc == -ENOENT ? "there is no such group" : strerror(-rc));
		else
			complain(why, rc, listen_at, strerror(-rc));
		return rc;
	}
	l->is_unix = true;
	snprintf(l->address, sizeof l->address, "%s", listen_at);
	return fd;
}

static bool is_loopback(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr) >> 24 == 127;
	const struct in6_addr *a6 = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(a6) || (IN6_IS_ADDR_V4MAPPED(a6) && a6->s6_addr[12] == 127);
}

/* A listening socket at one address, or -errno. */
static int listen_address(const struct addrinfo *ai, int backlog)
{
	int on = 1, fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, backlog) == 0)
		return fd;
	int error = -errno;
	close(fd);
	return error;
}

static void note_address(struct admin_listener *l, int fd)
{
	struct sockaddr_storage ss = {0};
	socklen_t n = sizeof ss;
	char host[64] = "", port[8] = "";
	getsockname(fd, (struct sockaddr *)&ss, &n);
	getnameinfo((struct sockaddr *)&ss, n, host, sizeof host, port, sizeof port,
		    NI_NUMERICHOST | NI_NUMERICSERV);
	l->loopback = is_loopback((struct sockaddr *)&ss);
	snprintf(l->numeric, sizeof l->numeric, ss.ss_family == AF_INET6 ? "[%s]" : "%s", host);
	snprintf(l->address, sizeof l->address, "%s:%s", l->numeric, port);
}

/* Take "host:port" or "[v6]:port" apart: l->host (with its brackets) and the port, or NULL. */
static const char *split_host(struct admin_listener *l, const char *listen_at)
{
	const char *colon = strrchr(listen_at, ':');
	size_t n = colon ? (size_t)(colon - listen_at) : 0;
	bool v6 = n > 2 && listen_at[0] == '[' && listen_at[n - 1] == ']';
	size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
	if (n == 0 || n >= sizeof l->host || digits == 0 || digits > 5 || colon[1 + digits] ||
	    atoi(colon + 1) > 65535)
		return NULL;
	if (!v6 && (memchr(listen_at, ':', n) || memchr(listen_at, '[', n) || memchr(listen_at, ']', n)))
		return NULL;
	memcpy(l->host, listen_at, n);
	return colon + 1;
}

static int listen_tcp(struct admin_listener *l, const char *listen_at, int backlog, char why[256])
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_PASSIVE}, *list;
	char name[sizeof l->host];
	const char *port = split_host(l, listen_at);
	if (!port)
		return complain(why, -EINVAL, listen_at,
				"expected \"host:port\", \"[v6]:port\" or \"unix:/path\", port 0 to 65535");
	strcpy(name, l->host);
	if (name[1] && name[strlen(name) - 1] == '.') /* /etc/hosts has none */
		name[strlen(name) - 1] = '\0';
	if (name[0] == '[') {
		name[strlen(name) - 1] = '\0';
		memmove(name, name + 1, strlen(name));
		hints.ai_family = AF_INET6;
		hints.ai_flags |= AI_NUMERICHOST;
	}
	int rc = getaddrinfo(name, port, &hints, &list);
	if (rc != 0)
		return complain(why, -EADDRNOTAVAIL, listen_at, gai_strerror(rc));
	int fd = -EADDRNOTAVAIL;
	for (struct addrinfo *ai = list; ai; ai = ai->ai_next) {
		fd = listen_address(ai, backlog);
		if (fd != -EADDRNOTAVAIL &&
		    fd != -EAFNOSUPPORT) /* a busy port is no reason to take another address */
			break;
	}
	freeaddrinfo(list);
	if (fd < 0)
		return complain(why, fd, listen_at, strerror(-fd));
	note_address(l, fd);
	return fd;
}

int admin_listen(struct admin_listener *l, const char *listen_at, const char *group, int backlog,
		 char why[256])
{
	*l = (struct admin_listener){.fd = -1};
	int fd = strncmp(listen_at, "unix:", 5) == 0 ? listen_unix(l, listen_at, group, backlog, why)
						     : listen_tcp(l, listen_at, backlog, why);
	if (fd < 0)
		return fd;
	l->fd = fd;
	return 0;
}

void admin_unlisten(const struct admin_listener *l)
{
	struct stat st;

	if (l->path[0] && stat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(l->path);
}
