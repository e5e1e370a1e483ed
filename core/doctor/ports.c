/* SPDX-License-Identifier: MIT */
/* ports - see ports.h.  A free port is bound for a moment, and never listened on. */
#include "core/doctor/ports.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "core/config/claims.h"
#include "core/config/config.h"
#include "core/doctor/probes.h"

struct port {
	bool tcp;
	unsigned number;
	char address[INET6_ADDRSTRLEN + IF_NAMESIZE + 1]; /* "" = all of both families */
	char *owner, *config_file;                        /* whose it is to be; real path, or NULL */
};

static void port_free(void *arg)
{
	struct port *p = arg;

	free(p->owner);
	free(p->config_file);
	free(p);
}

/* ---- who has it ---- */

struct holder {
	unsigned long inode; /* of its socket; 0: nobody */
	long pid;            /* 0: not to be seen */
	char name[64];
	bool is_ours; /* it runs the configuration that is examined */
};

/* The socket in one of /proc/net's tables that listens (TCP), or is bound (UDP). */
static unsigned long find_inode(const char *table, const struct port *port)
{
	FILE *file = fopen(table, "re");
	unsigned long inode = 0;
	char line[512];

	while (file && !inode && fgets(line, sizeof line, file)) {
		unsigned number, state;
		unsigned long found;
		if (sscanf(line, " %*[0-9]: %*[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*s %*s %lu", &number, &state,
			   &found) == 3 &&
		    number == port->number && state == (port->tcp ? 0x0a : 0x07))
			inode = found;
	}
	if (file)
		fclose(file);
	return inode;
}

static bool has_socket(const char *pid, const char *wanted)
{
	char folder[64], target[64], path[PATH_MAX];
	bool found = false;
	struct dirent *entry;
	DIR *dir;

	snprintf(folder, sizeof folder, "/proc/%.20s/fd", pid);
	dir = opendir(folder);
	while (dir && !found && (entry = readdir(dir))) {
		snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
		ssize_t len = readlink(path, target, sizeof target - 1);
		target[len > 0 ? len : 0] = '\0';
		found = strcmp(target, wanted) == 0;
	}
	if (dir)
		closedir(dir);
	return found;
}

static size_t read_proc(const char *pid, const char *what, char *out, size_t size)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%.20s/%s", pid, what);
	FILE *file = fopen(path, "re");
	size_t n = file ? fread(out, 1, size - 1, file) : 0;

	if (file)
		fclose(file);
	out[n] = '\0';
	return n;
}

/* Does one of its arguments name the file, seen from its working directory? */
static bool runs_config(const char *pid, const char *config_file)
{
	char arguments[4096], path[PATH_MAX], real[PATH_MAX];
	size_t n = read_proc(pid, "cmdline", arguments, sizeof arguments);

	for (size_t at = 0; config_file && at < n; at += strlen(arguments + at) + 1) {
		const char *word = arguments + at;
		const char *equals = strncmp(word, "--config=", 9) == 0 ? word + 9 : word;
		int len = *equals == '/' ? snprintf(path, sizeof path, "%s", equals)
					 : snprintf(path, sizeof path, "/proc/%.20s/cwd/%s", pid, equals);
		if (len < (int)sizeof path && realpath(path, real) && strcmp(real, config_file) == 0)
			return true;
	}
	return false;
}

static void find_process(const struct port *port, struct holder *out)
{
	char wanted[64];
	struct dirent *entry;
	DIR *dir = opendir("/proc");

	snprintf(wanted, sizeof wanted, "socket:[%lu]", out->inode);
	while (dir && !out->pid && (entry = readdir(dir))) {
		if (!isdigit((unsigned char)entry->d_name[0]) || !has_socket(entry->d_name, wanted))
			continue;
		out->pid = atol(entry->d_name);
		read_proc(entry->d_name, "comm", out->name, sizeof out->name);
		out->name[strcspn(out->name, "\n")] = '\0';
		out->is_ours = runs_config(entry->d_name, port->config_file);
	}
	if (dir)
		closedir(dir);
}

static void find_holder(const struct port *port, struct holder *out)
{
	const char *const tables[] = {port->tcp ? "/proc/self/net/tcp" : "/proc/self/net/udp",
				      port->tcp ? "/proc/self/net/tcp6" : "/proc/self/net/udp6"};

	*out = (struct holder){0};
	for (size_t i = 0; i < 2 && !out->inode; i++)
		out->inode = find_inode(tables[i], port);
	if (out->inode)
		find_process(port, out);
}

/* ---- is it free ---- */

/* 0, or -errno of the attempt to bind it. */
static int try_bind(const struct port *port, int family)
{
	struct sockaddr_storage to = {.ss_family = (sa_family_t)family};
	struct sockaddr_in *v4 = (void *)&to;
	struct sockaddr_in6 *v6 = (void *)&to;
	char number[sizeof port->address];
	const int on = 1;

	snprintf(number, sizeof number, "%.*s", (int)strcspn(port->address, "%"), port->address);
	if (family == AF_INET) {
		v4->sin_port = htons((uint16_t)port->number);
		if (*number && inet_pton(AF_INET, number, &v4->sin_addr) != 1)
			return -EINVAL;
	} else {
		const char *zone = strchr(port->address, '%');
		v6->sin6_port = htons((uint16_t)port->number);
		v6->sin6_scope_id = zone ? if_nametoindex(zone + 1) : 0;
		if (*number && inet_pton(AF_INET6, number, &v6->sin6_addr) != 1)
			return -EINVAL;
	}
	int fd = socket(family, (port->tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (port->tcp) /* as a listener does: connections that have ended do not count */
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	int rc = bind(fd, (struct sockaddr *)&to, family == AF_INET ? sizeof *v4 : sizeof *v6) < 0 ? -errno
												   : 0;
	close(fd);
	return rc;
}

static void add_taken(struct probe *p, const struct port *port)
{
	const char *other = "end that program, or give one of the two another port";
	struct holder holder;

	find_holder(port, &holder);
	if (holder.is_ours)
		findings_add(&p->found, FINDING_OK, p->check, p->subject, NULL,
			     "in use by the host that runs this configuration, process %ld", holder.pid);
	else if (holder.pid)
		findings_add(&p->found, FINDING_PROBLEM, p->check, p->subject, other,
			     "\"%s\" needs it, and it is in use by %s, process %ld", port->owner, holder.name,
			     holder.pid);
	else
		findings_add(
			&p->found, FINDING_PROBLEM, p->check, p->subject,
			"run the doctor as root to see whose it is, and end that program or take another "
			"port",
			"\"%s\" needs it, and it is in use by another program", port->owner);
}

static void examine(struct probe *p)
{
	const struct port *port = p->what;
	const bool v6 = !*port->address || strchr(port->address, ':');
	int rc = try_bind(port, v6 ? AF_INET6 : AF_INET);

	if (!*port->address && (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL))
		rc = try_bind(port, AF_INET);
	if (rc == 0)
		findings_add(&p->found, FINDING_OK, p->check, p->subject, NULL, "free, for \"%s\"",
			     port->owner);
	else if (rc == -EADDRINUSE)
		add_taken(p, port);
	else if (rc == -EACCES)
		findings_add(&p->found, FINDING_PROBLEM, p->check, p->subject,
			     "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or a port above 1023",
			     "user id %u may not use a port below 1024", (unsigned)geteuid());
	else if (rc == -EADDRNOTAVAIL)
		findings_add(&p->found, FINDING_PROBLEM, p->check, p->subject,
			     "`ip address` lists the addresses that there are; leave \"bind\" out for all",
			     "this machine has no address %s", port->address);
	else
		findings_add(&p->found, FINDING_PROBLEM, p->check, p->subject,
			     "look at the options bind and port of that component", "cannot be used: %s",
			     strerror(-rc));
}

static int add_port(const struct config *config, struct probes *probes, const char *resource,
		    const char *owner)
{
	const char *colon = strrchr(resource, ':'), *address = resource + 4;
	struct port *port = calloc(1, sizeof *port);
	char subject[128];

	if (!port)
		return -ENOMEM;
	port->tcp = *resource == 't';
	port->number = (unsigned)strtoul(colon + 1, NULL, 10);
	snprintf(port->address, sizeof port->address, "%.*s", (int)(colon > address ? colon - address : 0),
		 address);
	port->owner = strdup(owner ? owner : "admin");
	port->config_file = realpath(config->doc->file, NULL);
	if (!port->owner) {
		port_free(port);
		return -ENOMEM;
	}
	snprintf(subject, sizeof subject, "%s port %u%s%s", port->tcp ? "TCP" : "UDP", port->number,
		 *port->address ? " of " : "", port->address);
	return probes_add(probes, "port", subject, examine, port, port_free);
}

int port_probes(const struct config *config, struct probes *probes)
{
	const char *resource, *owner;
	int rc = 0;

	for (size_t i = 0; rc == 0 && (resource = claims_at(config->claims, i, &owner)); i++)
		if (claims_is_port(resource))
			rc = add_port(config, probes, resource, owner);
	return rc;
}
