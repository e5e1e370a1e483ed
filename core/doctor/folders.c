/* SPDX-License-Identifier: MIT */
/* folders - see folders.h.  What is written has no name, so that nothing is left behind whatever happens. */
#include "core/doctor/folders.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <semstreams/plugin.h>
#include "core/admin/clock.h"
#include "core/config/claims.h"
#include "core/config/config.h"
#include "core/doctor/probes.h"

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
static void examine(struct probe *p)
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
	return what ? probes_add(probes, "storage", subject, examine, what, free) : -ENOMEM;
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

int folder_probes(const struct config *config, struct probes *probes)
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
