/* SPDX-License-Identifier: MIT */
/* machine - see machine.h. */
#include "core/doctor/machine.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>
#include <semstreams/plugin.h>
#include "core/admin/clock.h"
#include "core/config/claims.h"
#include "core/config/config.h"
#include "core/config/descriptors.h"
#include "core/doctor/probes.h"

/* ---- ports: who has one ---- */

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

/* ---- ports: is one free ---- */

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

static void examine_port(struct probe *p)
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
	return probes_add(probes, "port", subject, examine_port, port, port_free);
}

/* Add a probe for each port that is claimed.  0, -ENOMEM. */
static int port_probes(const struct config *config, struct probes *probes)
{
	const char *resource, *owner;
	int rc = 0;

	for (size_t i = 0; rc == 0 && (resource = claims_at(config->claims, i, &owner)); i++)
		if (claims_is_port(resource))
			rc = add_port(config, probes, resource, owner);
	return rc;
}

/* ---- folders: can one be written to, how long does a sync take, and how much room is left ---- */

/* SPDX-License-Identifier: MIT */
/* folders - can a folder be written to, how long does a sync take, and how much room is left? */

struct config;
struct probes;

#define SAMPLE    (64u << 10) /* bytes that are written */
#define SLOW_MS   1000        /* a sync that takes longer holds up durable events */
#define LITTLE    (64u << 20) /* bytes left that are few on any disk */
#define LEAST_PER 5           /* percent left that are few */

/* Write a sample and have it synced: ms that the sync took, or -errno. */
static long write_sample(struct probe *p, const char *folder)
{
	static const char sample[SAMPLE];
	int fd = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	long rc = 0;

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) { /* this file system has no such files */
		char path[PATH_MAX];
		snprintf(path, sizeof path, "%.*s/.semstreams-doctor-XXXXXX", PATH_MAX - 64, folder);
		fd = mkostemp(path, O_CLOEXEC);
		if (fd >= 0)
			unlink(path);
	}
	if (fd < 0)
		return -errno;
	p->doing = "writing to it";
	for (size_t done = 0; rc == 0 && done < sizeof sample;) {
		ssize_t n = write(fd, sample + done, sizeof sample - done);
		if (n < 0 && errno != EINTR)
			rc = -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	p->doing = "the sync of 64 KiB";
	uint64_t before = clock_now();
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	if (rc == 0)
		rc = (long)((clock_now() - before) / 1000000);
	close(fd);
	return rc;
}

static void add_failure(struct probe *p, const char *folder, int error)
{
	const char *remedy = "look at the disk, and at the kernel's log (dmesg)";
	struct stat st = {0};
	char text[PATH_MAX + 128];

	if (error == EACCES || error == EPERM) {
		stat(folder, &st);
		snprintf(text, sizeof text,
			 "install -d -o USER %s, with the user of the service, or chown; with systemd also "
			 "ReadWritePaths=",
			 folder);
		findings_add(&p->found, FINDING_PROBLEM, p->check, p->subject, text,
			     "user id %u may not write to %s, which belongs to user id %u and has mode %04o",
			     (unsigned)geteuid(), folder, (unsigned)st.st_uid, (unsigned)st.st_mode & 07777);
		return;
	}
	if (error == ENOSPC || error == EDQUOT)
		remedy = "remove what is not needed, set retain_... of storage, or give it a larger disk";
	else if (error == EROFS)
		remedy = "mount it read-write; with systemd, ReadWritePaths=";
	else if (error == ENOTDIR)
		remedy = "a file stands where a folder is needed: move it away";
	findings_add(&p->found, FINDING_PROBLEM, p->check, p->subject, remedy, "%s: %s",
		     error == ENOSPC ? "the disk is full" : "cannot be written to", strerror(error));
}

static void add_room(struct probe *p, const char *folder, long sync_ms)
{
	struct statvfs fs;

	p->doing = "asking how much room it has";
	if (statvfs(folder, &fs) < 0)
		return;
	const unsigned long long unit = fs.f_frsize ? fs.f_frsize : 1, left = fs.f_bavail * unit,
				 all = fs.f_blocks * unit;
	if (all && (left < LITTLE || left / LEAST_PER < all / 100))
		findings_add(&p->found, FINDING_WARNING, p->check, p->subject,
			     "remove what is not needed, or set retain_... of storage",
			     "only %llu of %llu MiB are left", left >> 20, all >> 20);
	else if (fs.f_files && fs.f_favail == 0)
		findings_add(&p->found, FINDING_PROBLEM, p->check, p->subject,
			     "remove files, or make a file system with more inodes",
			     "it takes no more files, though %llu MiB are left", left >> 20);
	if (sync_ms > SLOW_MS)
		findings_add(&p->found, FINDING_WARNING, p->check, p->subject,
			     "a faster disk, or \"sync\": \"relaxed\" where a power cut may cost events",
			     "a sync of 64 KiB takes %ld ms", sync_ms);
	else
		findings_add(&p->found, FINDING_OK, p->check, p->subject, NULL,
			     "can be written to, a sync of 64 KiB takes %ld ms, %llu MiB are left", sync_ms,
			     left >> 20);
}

/* The folder itself, or the nearest above it that is there: the others are made at start. */
static void examine_folder(struct probe *p)
{
	char folder[PATH_MAX];
	struct stat st;

	snprintf(folder, sizeof folder, "%s", (const char *)p->what);
	p->doing = "looking for it";
	while (stat(folder, &st) < 0 && errno == ENOENT) {
		char *slash = strrchr(folder, '/');
		if (!slash || slash == folder) {
			snprintf(folder, sizeof folder, "%s", slash ? "/" : ".");
			break;
		}
		*slash = '\0';
	}
	long rc = write_sample(p, folder);
	if (rc < 0)
		add_failure(p, folder, (int)-rc);
	else
		add_room(p, folder, rc);
}

/* The folder of a file or of a pattern; a folder that is there is meant itself. */
static int add_path(struct probes *probes, const char *path)
{
	const size_t fixed = strcspn(path, "%{*");
	char folder[PATH_MAX], subject[PATH_MAX + 16];
	struct stat st;

	if (fixed >= sizeof folder)
		return 0;
	snprintf(folder, sizeof folder, "%.*s", (int)fixed, path);
	if (path[fixed] || stat(folder, &st) < 0 || !S_ISDIR(st.st_mode)) {
		char *slash = strrchr(folder, '/');
		if (!slash)
			snprintf(folder, sizeof folder, ".");
		else
			slash[slash == folder] = '\0';
	}
	snprintf(subject, sizeof subject, "folder %s", folder);
	char *what = strdup(folder);
	return what ? probes_add(probes, "storage", subject, examine_folder, what, free) : -ENOMEM;
}

static int add_options(const struct config_component *c, struct probes *probes)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && c->desc && c->conf && i < c->desc->n_options; i++) {
		const struct ss_option *o = &c->desc->options[i];
		const char *path = NULL;
		if (o->type == SS_OPT_STRING && o->flags & SS_OPT_WRITES)
			memcpy(&path, (const char *)c->conf + o->offset, sizeof path);
		if (path && *path)
			rc = add_path(probes, path);
	}
	return rc;
}

/* Add a probe for each folder that components write to.  0, -ENOMEM. */
static int folder_probes(const struct config *config, struct probes *probes)
{
	const char *resource;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < config->n_components; i++)
		rc = add_options(&config->components[i], probes);
	for (size_t i = 0; rc == 0 && i < TLS_ROLES; i++)
		rc = add_options(&config->providers[i], probes);
	for (size_t i = 0; rc == 0 && (resource = claims_at(config->claims, i, NULL)); i++) {
		if (strncmp(resource, "file:", 5) == 0)
			rc = add_path(probes, resource + 5);
		else if (strncmp(resource, "writes:", 7) == 0)
			rc = add_path(probes, resource + 7);
	}
	if (rc == 0 && config->admin.socket)
		rc = add_path(probes, config->admin.socket);
	return rc;
}

static const char set_clock[] =
	"timedatectl set-ntp true, or chrony; in a container that of its machine counts";

/* ---- clock ---- */

/* Nothing that is here can have been written in the future. */
static void compare_file(struct probe *p, const char *file)
{
	const int64_t now = (int64_t)(clock_wall() / 1000000000u);
	struct stat st;

	if (file && stat(file, &st) == 0 && st.st_mtime > now + 60)
		findings_add(&p->found, FINDING_PROBLEM, p->check, p->subject, set_clock,
			     "it is behind: %s was last written %lld minutes from now", file,
			     (long long)(st.st_mtime - now) / 60);
}

static void examine_clock(struct probe *p)
{
	struct timex state = {0};
	const int rc = adjtimex(&state);

	compare_file(p, p->what);
	if (rc < 0)
		findings_add(&p->found, FINDING_WARNING, p->check, p->subject, NULL,
			     "the kernel does not say whether a time service keeps it right: %s",
			     strerror(errno));
	else if (rc == TIME_ERROR || state.status & STA_UNSYNC)
		findings_add(&p->found, FINDING_WARNING, p->check, p->subject, set_clock,
			     "no time service keeps it right");
	else
		findings_add(&p->found, FINDING_OK, p->check, p->subject, NULL,
			     "a time service keeps it right, within %ld ms", state.maxerror / 1000);
}

/* ---- keys ---- */

static void examine_key(struct probe *p)
{
	const char *file = p->what;
	char remedy[5000];
	struct stat st;

	snprintf(remedy, sizeof remedy, "chmod 600 %s", file);
	if (stat(file, &st) < 0)
		return; /* which was said of the configuration */
	if (st.st_mode & (S_IRWXO | S_IWGRP))
		findings_add(&p->found, FINDING_PROBLEM, p->check, p->subject, remedy,
			     "others may read or change it, as its mode is %04o",
			     (unsigned)st.st_mode & 07777);
	else if (st.st_mode & S_IRWXG)
		findings_add(&p->found, FINDING_WARNING, p->check, p->subject, remedy,
			     "its group may read it, as its mode is %04o", (unsigned)st.st_mode & 07777);
	else
		findings_add(&p->found, FINDING_OK, p->check, p->subject, NULL, "only its owner may read it");
}

static int add_key(struct probes *probes, const char *file)
{
	char subject[4200];
	char *what;

	if (!file)
		return 0;
	snprintf(subject, sizeof subject, "key %s", file);
	what = strdup(file);
	return what ? probes_add(probes, "key", subject, examine_key, what, free) : -ENOMEM;
}

/* ---- limits ---- */

struct limits {
	uint64_t wanted, left;
};

static void examine_limits(struct probe *p)
{
	const struct limits *l = p->what;

	if (l->wanted > l->left)
		findings_add(&p->found, FINDING_WARNING, p->check, p->subject,
			     "LimitNOFILE= of systemd, the ulimit nofile of a container",
			     "components may want %" PRIu64 ", and the limit leaves them %" PRIu64, l->wanted,
			     l->left);
	else
		findings_add(&p->found, FINDING_OK, p->check, p->subject, NULL,
			     "components may want %" PRIu64 ", and the limit leaves them %" PRIu64, l->wanted,
			     l->left);
}

static int add_limits(const struct config *config, struct probes *probes)
{
	struct limits *l = malloc(sizeof *l);

	if (!l)
		return -ENOMEM;
	*l = (struct limits){.wanted = claims_descriptors(config->claims, 0), .left = descriptors_left()};
	return probes_add(probes, "limits", "open files", examine_limits, l, free);
}

int machine_probes(const struct config *config, struct probes *probes)
{
	char *file = strdup(config->doc->file);
	int rc = file ? probes_add(probes, "clock", "of this machine", examine_clock, file, free) : -ENOMEM;

	if (rc == 0)
		rc = port_probes(config, probes);
	if (rc == 0)
		rc = folder_probes(config, probes);
	for (size_t i = 0; rc == 0 && i < TLS_ROLES; i++)
		rc = add_key(probes, config->tls.roles[i].key.path);
	if (rc == 0)
		rc = add_key(probes, config->admin.key_file);
	if (rc == 0)
		rc = add_limits(config, probes);
	return rc;
}
